// Package providers holds the nouns that every part of freightliner shares:
// digests, descriptors, repositories, platforms, and the classes of failure.
//
//	config ──┐
//	planner ─┼──> providers (this package: words, no I/O)
//	executor ┘        ^
//	                  │
//	          providers/registry, providers/secret (the edge: all I/O)
//
// It refuses to do input or output, to know HCL, and to know any registry by
// name. Start reading at [Digest] and [Class].
package providers
