package main

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestWorthAgain: only who may be the fastest peer somewhere is timed again.
func TestWorthAgain(t *testing.T) {
	took := func(workload string, d time.Duration) result {
		return result{workload: workload, outcome: outcome{wall: d}}
	}
	timed := map[string][]result{
		us:       {took("cold", 9*time.Second), took("again", time.Second)},
		"fast":   {took("cold", 10*time.Second), took("again", 9*time.Second)},
		"fresh":  {took("cold", 40*time.Second), took("again", 2*time.Second)},
		"slow":   {took("cold", 16*time.Second), took("again", 9*time.Second)},
		"broken": {{workload: "cold", outcome: outcome{err: errors.New("failed")}}},
	}
	b := &bench{tools: []tool{{name: us}, {name: "fast"}, {name: "fresh"}, {name: "slow"}, {name: "broken"}}}
	ch := chain{workloads: []workload{{name: "cold"}, {name: "again"}}}
	names := func(list []tool) (names []string) {
		for _, t := range list {
			names = append(names, t.name)
		}
		return names
	}
	if d := cmp.Diff([]string{us, "fast", "fresh"}, names(b.worthAgain(ch, timed))); d != "" {
		t.Error(d)
	}
	ch.wired = true
	if d := cmp.Diff([]string{us}, names(b.worthAgain(ch, timed))); d != "" {
		t.Error("where the bar is a number: ", d)
	}
}
