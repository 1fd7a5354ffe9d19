// Command bench compares freightliner with crane, regsync, oras and skopeo on
// one machine: two real distribution registries, a corpus made of this
// machine's files, the same work for every tool, in turns.
//
//	corpus ──fill──> source registry ──[counting proxy]──┐
//	   |                                                 tool ──> wall, CPU, memory
//	   |             destination registry <──[proxy]─────┘
//	   |                      |
//	   └── minimum            └── verify: every tag, manifest and blob
//	          \________________________/
//	                     |
//	                Markdown tables
//
// Timed runs have no proxy in the way, except where the distance to the
// destination is what is measured (wire.go). Requests and bytes are counted in a
// run of their own (count.go), so that counting costs nobody time.
//
// It refuses to report a run whose destination is not what the source was: such
// a run is marked as failed, with the first difference. It does not pick the
// best run of anybody; it prints medians and the range.
//
// Memory and the registries' CPU time are read from /proc, and are "–" on
// systems without it.
//
// Start reading at workload.go, then tools.go.
package main
