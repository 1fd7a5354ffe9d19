// Package secret is the edge towards secret stores: what a store can do, and
// how payloads are handled on the way.
//
//	planner, executor, cmd
//	        |
//	     Client        audit line first, limits, merging of JSON keys
//	        |
//	      Store        the seam: one small interface, the same words for all
//	     /  |  \
//	  aws  gcp  file   one room per kind, below this folder
//
// A payload travels only as a [Value], whose bytes sit behind a closure: it can
// not be printed, encoded or compared by accident. Whoever gets a Value zeroes
// it with [Value.Zero] as soon as it was used.
//
// The package refuses to keep payloads, to log, to read flags or the
// environment, and to say "absent" when it was denied an answer.
//
// Start reading at [Store], then [Client].
package secret
