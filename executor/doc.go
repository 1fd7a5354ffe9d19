// Package executor makes a plan true.
//
//	plan.Actions ──> lanes, one a pair of registries ──> copy, delete, record
//	     ^  needs      ^                 │                      │
//	     └── dependents┴── done / failed / skipped              │
//	                                         journal <──────────┘ (after the effect)
//
// It walks the plan's actions in parallel: an action starts when everything it
// needs has succeeded, and one that fails skips only what needs it. Before an
// effect it checks the action's preconditions; after it, and never before, the
// journal says that it is done. So a run that is killed at any moment has at
// most repeated work to do, and no wrong record.
//
// It decides nothing: what is copied, over what, and what is deleted was
// settled by the planner. An action whose preconditions no longer hold is stale
// and is left undone.
//
// A registry that is down, slow or throttling costs the others nothing: lanes.go
// says how what is under way is shared out.
//
// Start reading at [Apply], then act.go.
package executor
