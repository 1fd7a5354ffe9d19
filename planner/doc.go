// Package planner says what must happen so that the world matches the
// configuration.
//
//	config ─┐                         crossCheck: what only several blocks together show
//	state  ─┼─> observe ─> world ─┐
//	world ──┘  (the only I/O)     ├─> compare ─> Plan ─> Encode (saved plan)
//	config, state ────────────────┘  (pure)       │
//	                                              └─> executor.Apply
//
// The comparison has three sides: the configuration applied to the source (what
// should be), the state (what we made), and the destination (what is). That is
// how a plan tells our own change from a move upstream and from drift.
//
// It refuses to write anything, to decide anything at apply time, and to plan a
// delete that the state does not own or that an incomplete listing suggests.
//
// Start reading at [Plan], then compare.go.
package planner
