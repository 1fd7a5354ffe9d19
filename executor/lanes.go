package executor

import (
	"cmp"
	"container/heap"
	"strings"

	"freightliner/planner"
	"freightliner/providers"
)

// lanes say which action starts next. A lane is the work between one pair of
// registries: what the trouble of one of them can hold up.
//
//	ready actions ──> lane ghcr.io -> prod   ──┐
//	              ──> lane quay.io -> prod   ──┼──> at most "parallelism" under way
//	              ──> lane ghcr.io -> backup ──┘
//
// Every lane has a share: parallelism divided by the lanes that are not at their
// end, and at least one. A lane below its share may always start an action,
// also when all of parallelism is under way, so that a registry that stalls can
// take what is free but never what is another's: its actions may hold every
// place, and those of the other lanes start beside them. What is under way
// stays below twice the parallelism, or one for each lane where there are more
// lanes. A single pair of registries has all of it and never more.
type lanes struct {
	plan        *planner.Plan
	parallelism int

	all     []lane
	of      []int32 // lane by action
	running int
	open    int // lanes that are not at their end
}

// lane is the actions of one pair of registries.
type lane struct {
	ready   readyQueue
	later   []int32 // failed for a passing reason: tried again when the lane is idle
	running int
	left    int  // actions that did not come to an end
	round   int  // of further tries
	resting bool // in the pause before a round
	over    func()
}

// pair are the hosts that an action talks to; for a secret it is its store. Where the action does not say
// (it deletes, forgets or records), they are its block's.
type pair struct{ from, to string }

// newLanes sorts the plan's actions into lanes. expect is told of each pair of
// registries that content goes between; what it returns is called when the last
// of its actions has ended.
func newLanes(plan *planner.Plan, parallelism int, expect func(from, to providers.Repository) (over func())) *lanes {
	ls := &lanes{plan: plan, parallelism: parallelism, of: make([]int32, len(plan.Actions))}
	blocks := make([]pair, len(plan.Blocks))
	for i := range plan.Blocks {
		blocks[i].from, _, _ = strings.Cut(plan.Blocks[i].Source, "/")
		blocks[i].to, _, _ = strings.Cut(plan.Blocks[i].Destination, "/")
	}
	known := map[pair]int32{}
	for i := range plan.Actions {
		a := &plan.Actions[i]
		p := pair{cmp.Or(a.From.Host, blocks[a.Block].from), cmp.Or(a.To.Host, blocks[a.Block].to)}
		if a.Secret != nil {
			p = pair{to: a.Secret.Place}
		}
		n, ok := known[p]
		if !ok {
			n = int32(len(ls.all))
			known[p] = n
			ls.all = append(ls.all, lane{ready: readyQueue{plan: plan}})
		}
		ls.of[i] = n
		l := &ls.all[n]
		l.left++
		if l.over == nil && a.From.Host != "" && a.To.Host != "" {
			l.over = expect(a.From, a.To)
		}
	}
	ls.open = len(ls.all)
	return ls
}

func (ls *lanes) lane(action int) *lane { return &ls.all[ls.of[action]] }

// push makes an action ready.
func (ls *lanes) push(action int) { heap.Push(&ls.lane(action).ready, int32(action)) }

// pop takes the action that starts next; ok is false when none may start.
func (ls *lanes) pop() (action int, ok bool) {
	share := max(1, ls.parallelism/max(1, ls.open))
	var best *lane
	for i := range ls.all {
		l := &ls.all[i]
		if l.ready.Len() == 0 || ls.running >= ls.parallelism && l.running >= share {
			continue
		}
		if best == nil || l.before(best) {
			best = l
		}
	}
	if best == nil {
		return 0, false
	}
	best.running++
	ls.running++
	return int(heap.Pop(&best.ready).(int32)), true
}

// before reports whether l starts an action before m: deletes come last, then
// the lane with less under way goes first.
func (l *lane) before(m *lane) bool {
	a, b := l.ready.items[0], m.ready.items[0]
	switch {
	case l.ready.deletes(a) != m.ready.deletes(b):
		return m.ready.deletes(b)
	case l.running != m.running:
		return l.running < m.running
	}
	return l.ready.precedes(a, b)
}

// ran takes note that an action is no longer under way.
func (ls *lanes) ran(action int) {
	ls.running--
	ls.lane(action).running--
}

// ended takes note that an action came to its end.
func (ls *lanes) ended(action int) {
	l := ls.lane(action)
	if l.left--; l.left > 0 {
		return
	}
	ls.open--
	if l.over != nil {
		l.over()
	}
}

// idle reports whether nothing of the lane runs or could.
func (l *lane) idle() bool { return l.running == 0 && l.ready.Len() == 0 && !l.resting }

// readyQueue orders the actions of a lane that may start: deletes last, then the
// most bytes first, so that long transfers do not form the tail and blobs that
// others mount move early, then the plan's order.
type readyQueue struct {
	plan  *planner.Plan
	items []int32
}

func (q *readyQueue) Len() int           { return len(q.items) }
func (q *readyQueue) Swap(i, j int)      { q.items[i], q.items[j] = q.items[j], q.items[i] }
func (q *readyQueue) Push(x any)         { q.items = append(q.items, x.(int32)) }
func (q *readyQueue) Less(i, j int) bool { return q.precedes(q.items[i], q.items[j]) }

func (q *readyQueue) precedes(i, j int32) bool {
	if q.deletes(i) != q.deletes(j) {
		return q.deletes(j)
	}
	if a, b := q.plan.Actions[i].Bytes, q.plan.Actions[j].Bytes; a != b {
		return a > b
	}
	return i < j
}

func (q *readyQueue) deletes(i int32) bool { return q.plan.Actions[i].Verb == planner.Delete }

func (q *readyQueue) Pop() any {
	last := q.items[len(q.items)-1]
	q.items = q.items[:len(q.items)-1]
	return last
}
