package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"freightliner/config"
	"freightliner/executor"
	"freightliner/planner"
	"freightliner/providers"
)

// stillClock stands at one moment until it is told to move.
type stillClock struct {
	wallClock
	at time.Time
}

func (c *stillClock) Now() time.Time { return c.at }

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// streamed runs do on a session with one stream and gives what it wrote.
func streamed(t *testing.T, do func(s *session, clock *stillClock)) string {
	t.Helper()
	var b bytes.Buffer
	clock := &stillClock{at: epoch}
	p := testProgram()
	p.clock, p.log = clock, nullLog()
	// Ticks are given by hand: progress events come only from calls.
	p.tick = func(time.Duration) (<-chan time.Time, func()) { return nil, func() {} }
	s := &session{program: p, command: "apply", json: true, out: &bytes.Buffer{}}
	s.streams = []*eventStream{newEventStream(&b, clock.Now, "0.1.0", "apply")}
	do(s, clock)
	if err := s.streams[0].finish(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Every event, with every member, as the golden file and the schema have it.
func TestEvents(t *testing.T) {
	got := streamed(t, func(s *session, clock *stillClock) {
		e, plan := s.streams[0], samplePlan()
		s.stats = sampleCounters
		e.diagnostics(config.Diagnostics{{Summary: "unknown block", Detail: "Really.", Hint: "Did you mean tree?", Excerpt: "treee {}", Range: config.Range{File: "a.hcl", StartLine: 1, StartColumn: 1, EndLine: 1, EndColumn: 6}}})
		e.observed(planner.Observed{Repositories: 2, Tags: 30, Manifests: 4, Secrets: 3, Failed: 1})
		e.plan(plan, nil)
		w := s.watchApply(plan)
		w.event(executor.Event{Type: executor.Started, Action: 3})
		clock.at = clock.at.Add(2 * time.Second)
		w.event(executor.Event{Type: executor.Moved, Action: 3, Bytes: 1000, Present: 50})
		w.event(executor.Event{Type: executor.Retrying, Action: 3, Err: errors.New("again"), Wait: time.Second, Attempt: 1})
		w.event(executor.Event{Type: executor.Finished, Action: 3, Note: "the source tag moved since the plan"})
		w.event(executor.Event{Type: executor.Started, Action: 5})
		w.event(executor.Event{Type: executor.Failed, Action: 5, Err: &providers.Error{Class: providers.Denied, Op: "put manifest", On: "mirror.prod/acme/web:latest", Err: errors.New(hostile), Hint: "Log in."}})
		w.event(executor.Event{Type: executor.Skipped, Action: 6, Because: "tree.platform/web:latest"})
		w.event(executor.Event{Type: executor.Started, Action: 7})
		w.event(executor.Event{Type: executor.Finished, Action: 7, Already: true})
		w.stop()
		e.send(event{Type: typeCheckpoint, Message: "state saved", Checkpoint: &checkpointEvent{State: "freightliner.state", Records: 2, Bytes: 512, Compacted: true, ID: sha("s")}})
		sum := summaryOf(&executor.Summary{Done: 2, Already: 1, Failed: 1, Skipped: 1, Bytes: 1000, Present: 50, Duration: 2 * time.Second}, exitPartial)
		sum.Registries = s.wireReports()
		e.summary(sum)
	})
	golden(t, "events.jsonl", []byte(got))
	seen := map[string]bool{}
	for i, line := range strings.Split(strings.TrimSuffix(got, "\n"), "\n") {
		if problems := loadSchema().check([]byte(line)); problems != nil {
			t.Errorf("line %d: %v\n%s", i+1, problems, line)
		}
		for name := range loadSchema().Defs {
			if strings.Contains(line, `,"`+name+`":{`) {
				seen[name] = true
			}
		}
	}
	for name := range loadSchema().Defs {
		if !seen[name] {
			t.Errorf("no event shows %s", name)
		}
	}
	safeText(t, got)
}

// The numbers of a tally are those of the events, and the line says them.
func TestProgressLine(t *testing.T) {
	clock := &stillClock{at: epoch}
	tally := newTally(samplePlan(), clock.Now)
	tally.add(executor.Event{Type: executor.Started, Action: 3})
	tally.add(executor.Event{Type: executor.Moved, Action: 3, Bytes: 1_055_100_761})
	clock.at = epoch.Add(10 * time.Second)
	want := "applied 0 of 9; 1.1 GB of 4.2 GB moved, 105.5 MB/s, about 30s left"
	if got := progressLine(tally.progress()); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	tally.add(executor.Event{Type: executor.Finished, Action: 3})
	tally.add(executor.Event{Type: executor.Failed, Action: 5, Err: errors.New("x")})
	tally.add(executor.Event{Type: executor.Skipped, Action: 6})
	tally.add(executor.Event{Type: executor.Finished, Action: 1}) // a block's own record does not count
	want = "applied 1 of 9, 1 failed, 1 skipped; 1.1 GB of 4.2 GB moved, 105.5 MB/s, about 30s left"
	if got := progressLine(tally.progress()); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Without a terminal there is a line at each tick of ten seconds, for observing
// and for applying, and none in between.
func TestProgressTicks(t *testing.T) {
	var out bytes.Buffer
	p := testProgram()
	p.log = nullLog()
	ticks := make(chan time.Time)
	var periods []time.Duration
	p.tick = func(d time.Duration) (<-chan time.Time, func()) {
		periods = append(periods, d)
		return ticks, func() {}
	}
	s := &session{program: p, out: &lockedWriter{w: &out}}
	report, stop := s.watchObserving()
	report(planner.Observed{Repositories: 3, Tags: 1200, Manifests: 7})
	ticks <- epoch
	stop()
	w := s.watchApply(samplePlan())
	w.event(executor.Event{Type: executor.Started, Action: 0})
	ticks <- epoch
	w.stop()
	want := "observing: 3 repositories, 1,200 tags, 7 manifests\napplied 0 of 9; 0 B of 4.2 GB moved\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	for _, d := range periods {
		if d != quiet {
			t.Errorf("a line every %v, want %v", d, quiet)
		}
	}
}

// On a terminal the same apply is drawn with bars, and nothing is left running.
func TestBars(t *testing.T) {
	var out bytes.Buffer
	p := testProgram()
	p.log, p.terminal.stdout, p.stdout = nullLog(), true, &lockedWriter{w: &out}
	s := &session{program: p, out: p.stdout}
	w := s.watchApply(samplePlan())
	for i := range samplePlan().Actions {
		w.event(executor.Event{Type: executor.Started, Action: i})
		w.event(executor.Event{Type: executor.Moved, Action: i, Bytes: 1 << 40})
	}
	w.event(executor.Event{Type: executor.Failed, Action: 3, Err: errors.New(hostile)})
	for i := range samplePlan().Actions {
		if i != 3 {
			w.event(executor.Event{Type: executor.Finished, Action: i})
		}
	}
	w.stop()
	w.event(executor.Event{Type: executor.Finished, Action: 0}) // too late, and harmless
	if !strings.Contains(out.String(), "tree.platform/api:1.3: create failed: ") {
		t.Errorf("the failure is not told above the bars:\n%q", out.String())
	}
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, "forged") && strings.HasPrefix(strings.TrimSpace(line), "::") {
			t.Errorf("a CI command got through: %q", line)
		}
	}
}
