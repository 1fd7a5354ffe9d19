package executor

import "freightliner/planner"

// graph is who waits for whom, as arrays of numbers: a plan may have a million
// actions. Actions are nodes 0 to n-1; behind them comes one barrier for each
// block, which is passed when the block is finished. A barrier keeps the edges
// between two blocks at their sum instead of their product.
type graph struct {
	actions int
	waiting []int32 // needs that are not met yet, by node
	first   []int32 // where the dependents of a node begin in to
	to      []int32
}

func newGraph(plan *planner.Plan) *graph {
	nodes := len(plan.Actions) + len(plan.Blocks)
	g := &graph{actions: len(plan.Actions), waiting: make([]int32, nodes), first: make([]int32, nodes+1)}
	edges(plan, func(from, to int) {
		g.first[from+1]++
		g.waiting[to]++
	})
	for node := range nodes {
		g.first[node+1] += g.first[node]
	}
	g.to = make([]int32, g.first[nodes])
	next := append([]int32(nil), g.first[:nodes]...)
	edges(plan, func(from, to int) {
		g.to[next[from]] = int32(to)
		next[from]++
	})
	return g
}

// edges calls edge for each pair of nodes of which the second waits for the first.
func edges(plan *planner.Plan, edge func(from, to int)) {
	n := len(plan.Actions)
	waited := make([]bool, len(plan.Blocks))
	for _, b := range plan.Blocks {
		for _, before := range b.After {
			waited[before] = true
		}
	}
	for i := range plan.Actions {
		a := &plan.Actions[i]
		for _, need := range a.Needs {
			edge(need, i)
		}
		if waited[a.Block] {
			edge(i, n+a.Block)
		}
		for _, before := range plan.Blocks[a.Block].After {
			edge(n+before, i)
		}
	}
	// A barrier of a block that has nothing to do still waits for the blocks
	// before it, so that an order holds through it.
	for b := range plan.Blocks {
		if !waited[b] {
			continue
		}
		for _, before := range plan.Blocks[b].After {
			edge(n+before, n+b)
		}
	}
}

// dependents are the nodes that wait for node.
func (g *graph) dependents(node int) []int32 { return g.to[g.first[node]:g.first[node+1]] }

// roots calls ready for each action that waits for nothing.
func (g *graph) roots(ready func(action int)) {
	// They are collected before any is released: releasing lowers the counters of
	// others, which would otherwise be taken for roots a second time.
	var roots []int
	for node, n := range g.waiting {
		if n == 0 {
			roots = append(roots, node)
		}
	}
	for _, node := range roots {
		g.release(node, ready)
	}
}

// release hands a node whose needs are met to ready; a barrier passes straight on.
func (g *graph) release(node int, ready func(action int)) {
	if node < g.actions {
		ready(node)
		return
	}
	g.met(node, ready)
}

// met takes note that node has succeeded.
func (g *graph) met(node int, ready func(action int)) {
	for _, next := range g.dependents(node) {
		g.waiting[next]--
		if g.waiting[next] == 0 {
			g.release(int(next), ready)
		}
	}
}

// lost calls skip for each action that needs node, directly or not, and can not
// start any more. skip returns false for one that it knew, whose dependents it
// knows as well.
func (g *graph) lost(node int, skip func(action int) bool) {
	for _, next := range g.dependents(node) {
		if int(next) < g.actions {
			if !skip(int(next)) {
				continue
			}
		} else if g.waiting[next] < 0 {
			continue // a barrier that was skipped already
		} else {
			g.waiting[next] = -1 << 30
		}
		g.lost(int(next), skip)
	}
}
