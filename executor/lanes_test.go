package executor

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"freightliner/planner"
	"freightliner/providers"
	"freightliner/statefile"
)

// lanesOf has n ready actions from each source to one destination.
func lanesOf(parallelism, n int, sources ...string) *lanes {
	plan := &planner.Plan{Blocks: []planner.Block{{Source: "block.example/a", Destination: "to/m"}}}
	for i := range n {
		for _, from := range sources {
			plan.Actions = append(plan.Actions, planner.Action{
				Kind: statefile.KindTag, Verb: planner.Create, Bytes: int64(i),
				From: providers.Repository{Host: from, Path: "a"}, To: providers.Repository{Host: "to", Path: "m"},
			})
		}
	}
	return newLanes(plan, parallelism, func(_, _ providers.Repository) func() { return func() {} })
}

// started takes what may start now, as source hosts.
func (ls *lanes) started() (from []string) {
	for i, ok := ls.pop(); ok; i, ok = ls.pop() {
		from = append(from, ls.plan.Actions[i].From.Host)
	}
	slices.Sort(from)
	return from
}

func (ls *lanes) pushAll(from string) {
	for i := range ls.plan.Actions {
		if ls.plan.Actions[i].From.Host == from {
			ls.push(i)
		}
	}
}

func TestOnePairHasAllOfTheParallelism(t *testing.T) {
	ls := lanesOf(16, 100, "a")
	ls.pushAll("a")
	if n := len(ls.started()); n != 16 {
		t.Errorf("%d actions start, want 16", n)
	}
	for range 50 {
		ls.ran(0)
		ls.ended(0)
		if n := len(ls.started()); n != 1 {
			t.Fatalf("%d actions start when one has ended, want 1", n)
		}
	}
}

// What stalls has taken all there is before anything else is ready.
func TestAStalledPairLeavesTheOthersTheirShare(t *testing.T) {
	ls := lanesOf(16, 100, "stalled", "a", "b", "c")
	ls.pushAll("stalled")
	if n := len(ls.started()); n != 16 {
		t.Fatalf("%d actions of the stalled pair start, want 16", n)
	}
	for _, other := range []string{"a", "b", "c"} {
		ls.pushAll(other)
		if got := ls.started(); len(got) != 4 || got[0] != other {
			t.Errorf("%v start, want four of %s", got, other)
		}
	}
	if ls.running >= 2*16 {
		t.Errorf("%d actions are under way, want less than twice the parallelism", ls.running)
	}
}

// Each of more pairs than there are places has one, and nothing waits for a
// pair that does not move.
func TestMorePairsThanPlaces(t *testing.T) {
	var hosts []string
	for i := range 20 {
		hosts = append(hosts, fmt.Sprintf("%02d", i))
	}
	ls := lanesOf(16, 3, hosts...)
	for i := range ls.plan.Actions {
		ls.push(i)
	}
	ended := 0
	for running := map[int]bool{}; ; {
		for i, ok := ls.pop(); ok; i, ok = ls.pop() {
			running[i] = true
		}
		before := ended
		for i := range running {
			if ls.plan.Actions[i].From.Host >= "06" { // the first six do not move
				delete(running, i)
				ls.ran(i)
				ls.ended(i)
				ended++
			}
		}
		if ended == before {
			break
		}
	}
	if ended != 14*3 {
		t.Errorf("%d actions of the healthy pairs ended, want all 42", ended)
	}
}

// Deletes come last, across pairs too, and the larger transfers first.
func TestOrderOfReadyActions(t *testing.T) {
	ls := lanesOf(1, 3, "a")
	ls.plan.Actions[2].Verb = planner.Delete
	for i := range ls.plan.Actions {
		ls.push(i)
	}
	var got []int
	for {
		i, ok := ls.pop()
		if !ok {
			break
		}
		got = append(got, i)
		ls.ran(i)
	}
	if want := []int{1, 0, 2}; !slices.Equal(got, want) {
		t.Errorf("actions start in the order %v, want %v", got, want)
	}
}

// BenchmarkMillionActions makes a million actions in a thousand repositories
// ready, and takes and ends each. It reports the memory beside the plan.
func BenchmarkMillionActions(b *testing.B) {
	plan := &planner.Plan{Blocks: make([]planner.Block, 20)}
	for i := range 1_000_000 {
		a := planner.Action{Kind: statefile.KindTag, Verb: planner.Create, Block: i % 20, From: providers.Repository{Host: fmt.Sprint("from", i%20)}, To: providers.Repository{Host: "to"}}
		if i%1000 >= 20 {
			a.Needs = []int{i - i%1000 + i%20}
		}
		plan.Actions = append(plan.Actions, a)
	}
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		g, ls := newGraph(plan), newLanes(plan, 16, func(_, _ providers.Repository) func() { return func() {} })
		g.roots(ls.push)
		n := 0
		for i, ok := ls.pop(); ok; i, ok = ls.pop() {
			n++
			ls.ran(i)
			ls.ended(i)
			g.met(i, ls.push)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if n != len(plan.Actions) {
			b.Fatalf("%d actions were taken", n)
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/action")
		runtime.KeepAlive(g)
		runtime.KeepAlive(ls)
	}
}
