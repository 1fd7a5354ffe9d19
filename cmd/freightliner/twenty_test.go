package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freightliner/providers/registry/registrytest"
)

// twenty is one source, twenty destinations that each get all of it, and the
// program. Six of the destinations can be put in trouble.
type twenty struct {
	*mirror
	destinations []*registrytest.Server
	held         *registrytest.Gate // where what asks the stalled one stands
	tags         int                // at each
}

const (
	down, stalled, throttling, failing, resetting, expiring = 0, 1, 2, 3, 4, 5

	inTrouble = 6
	hosts     = 20
)

// newTwenty fills the source and writes the configuration. A token of the
// destination whose tokens expire lives for so long.
func newTwenty(t testing.TB, tree registrytest.Tree, life time.Duration) *twenty {
	t.Helper()
	w := &twenty{mirror: &mirror{t: t, dir: t.TempDir(), home: t.TempDir()}, tags: tree.Repositories * tree.Tags}
	source := registrytest.Start(t)
	tree.Prefix = "acme"
	registrytest.Fill(t, source.Host(), tree)
	var text strings.Builder
	// Without further tries of an action the test is over sooner.
	fmt.Fprintf(&text, "freightliner {\n  defaults {\n    retry = 0\n  }\n}\nregistry \"source\" {\n  host = %q\n  plain_http = true\n}\n", source.Host())
	for i := range hosts {
		var o []registrytest.Option
		auth := ""
		if i == expiring {
			o = append(o, registrytest.WithTokens(life))
			auth = fmt.Sprintf("  auth {\n    username = %q\n    password = %q\n  }\n", registrytest.CanaryUser, registrytest.CanaryPassword)
		}
		d := registrytest.Start(t, o...)
		w.destinations = append(w.destinations, d)
		fmt.Fprintf(&text, "registry \"d%02d\" {\n  host = %q\n  plain_http = true\n%s}\ntree \"d%02d\" {\n  source = \"%s/acme\"\n  destination = \"%s/mirror\"\n}\n",
			i, d.Host(), auth, i, source.Host(), d.Host())
	}
	if err := os.WriteFile(filepath.Join(w.dir, "main.hcl"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// disturb puts the six in trouble.
func (w *twenty) disturb() {
	w.held = registrytest.NewGate(w.t)
	w.destinations[down].Stop()
	w.destinations[stalled].Faults.Add(registrytest.Fault{Times: -1, Gate: w.held, Status: 500})
	w.destinations[throttling].Faults.Add(registrytest.Fault{Nth: 5, Times: 3, Status: 429, Header: http.Header{"Retry-After": {"1"}}})
	for n := 1; n < 2000; n++ {
		if n%10 < 3 {
			w.destinations[failing].Faults.Add(registrytest.Fault{Nth: n, Status: 502})
		}
		if n%4 == 0 {
			w.destinations[resetting].Faults.Add(registrytest.Fault{Nth: n, Drop: true})
		}
	}
}

// calm ends all trouble.
func (w *twenty) calm() {
	w.held.Open()
	w.destinations[down].Restart(w.t)
	for _, d := range w.destinations {
		d.Faults.Clear()
	}
}

// liveRun is a run of the program whose events are read while it runs.
type liveRun struct {
	t      testing.TB
	cmd    *exec.Cmd
	events *bufio.Scanner
	errors *strings.Builder
}

func (w *twenty) stream(args ...string) *liveRun {
	w.t.Helper()
	cmd, _ := w.command(args...)
	s := &liveRun{t: w.t, cmd: cmd, errors: &strings.Builder{}}
	cmd.Stdout, cmd.Stderr = nil, s.errors
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	s.events = bufio.NewScanner(out)
	s.events.Buffer(nil, 16<<20)
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if cmd.ProcessState == nil { // the test failed half-way
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return s
}

// liveEvent is what these tests read of an event.
type liveEvent struct {
	Timestamp time.Time `json:"@timestamp"`
	Type      string
	Observed  *observedEvent
	Change    *jsonChange
	Action    *actionEvent
}

// next is the next event; ok is false at the end of the stream.
func (s *liveRun) next() (e liveEvent, ok bool) {
	s.t.Helper()
	if !s.events.Scan() {
		return e, false
	}
	if err := json.Unmarshal(s.events.Bytes(), &e); err != nil {
		s.t.Fatalf("%v in %s", err, s.events.Bytes())
	}
	return e, true
}

// until reads events up to the one that is enough.
func (s *liveRun) until(what string, enough func(liveEvent) bool) {
	s.t.Helper()
	for e, ok := s.next(); ok; e, ok = s.next() {
		if enough(e) {
			return
		}
	}
	_ = s.cmd.Wait() // the exit code is what counts
	s.t.Fatalf("the program ended before %s, with exit code %d\n%s", what, s.cmd.ProcessState.ExitCode(), s.errors)
}

// exits reads the rest of the events and waits for the exit code.
func (s *liveRun) exits(want int) (rest []liveEvent) {
	s.t.Helper()
	for e, ok := s.next(); ok; e, ok = s.next() {
		rest = append(rest, e)
	}
	_ = s.cmd.Wait() // the exit code is what counts
	if got := s.cmd.ProcessState.ExitCode(); got != want {
		s.t.Fatalf("exit code %d, want %d\n%s", got, want, s.errors)
	}
	return rest
}

// tag is which destination a tag's action is about; false for another action.
func (e liveEvent) tag() (destination int, ok bool) {
	if e.Action == nil || !strings.Contains(e.Action.Address, ":") || strings.Contains(e.Action.Address, "@") {
		return 0, false
	}
	_, err := fmt.Sscanf(e.Action.Address, "tree.d%d/", &destination)
	return destination, err == nil
}

// apply runs a saved plan and reads events until the healthy destinations have
// all their tags. It gives how long that took from the first action on, and what
// was told of the others until then.
func (w *twenty) apply(healthyFrom int) (run *liveRun, took time.Duration, others []liveEvent) {
	w.t.Helper()
	run = w.stream("apply", "-json", "plan")
	var first time.Time
	left := (hosts - healthyFrom) * w.tags
	run.until("the healthy registries had all tags", func(e liveEvent) bool {
		if e.Type == typeStart && first.IsZero() {
			first = e.Timestamp
		}
		d, ok := e.tag()
		switch {
		case ok && d < healthyFrom:
			others = append(others, e)
		case ok && e.Type == typeErrored:
			w.t.Errorf("%s at a healthy registry: %s", e.Action.Address, e.Action.Error)
		case ok && e.Type == typeComplete:
			took = e.Timestamp.Sub(first)
			left--
		}
		return left == 0
	})
	return run, took, others
}

// TestTwentyRegistries applies a plan for twenty registries of which six fell
// into trouble since. The stalled one is held by a gate until the healthy ones
// have everything; nothing of theirs waits for it, although it has more actions
// than there are places. What failed is told one by one, and the next apply
// completes it.
func TestTwentyRegistries(t *testing.T) {
	w := newTwenty(t, registrytest.Tree{Repositories: 4, Tags: 6, LayerSize: 2 << 10}, 2*time.Second)
	w.run(0, "plan", "-out", "plan")
	w.disturb()
	run, _, events := w.apply(inTrouble)
	select {
	case <-w.held.Reached():
	default:
		t.Error("nobody asked the registry that stalls: the test shows nothing")
	}
	w.held.Open()
	events = append(events, run.exits(exitPartial)...)
	ends := map[int]map[string]string{} // by destination and address: how it ended
	for _, e := range events {
		d, ok := e.tag()
		if !ok || e.Type == typeStart {
			continue
		}
		if ends[d] == nil {
			ends[d] = map[string]string{}
		}
		if before := ends[d][e.Action.Address]; before != "" {
			t.Errorf("%s ended twice: %s, then %s", e.Action.Address, before, e.Type)
		}
		ends[d][e.Action.Address] = e.Type
		if e.Type == typeErrored && (e.Action.Because == "" && (e.Action.Error == "" || e.Action.Class == "")) {
			t.Errorf("%s failed without a reason", e.Action.Address)
		}
	}
	for d := range inTrouble {
		ended := map[string]int{}
		for _, how := range ends[d] {
			ended[how]++
		}
		t.Logf("registry %d: %v", d, ended)
		if len(ends[d]) != w.tags {
			t.Errorf("registry %d: the end of %d tags was told, want %d", d, len(ends[d]), w.tags)
		}
		switch d {
		case down, stalled:
			if ended[typeErrored] != w.tags {
				t.Errorf("registry %d can not be written to, yet: %v", d, ended)
			}
		case throttling, expiring:
			if ended[typeComplete] != w.tags {
				t.Errorf("registry %d gets through within the run, yet: %v", d, ended)
			}
		}
	}
	w.calm()
	w.run(0, "apply", "-auto-approve")
	w.run(0, "plan", "-detailed-exitcode")
	for _, d := range w.destinations {
		if report := registrytest.VerifyTree(t, d.Host()); report.Tags != w.tags {
			t.Errorf("%s has %d tags, want %d", d.Host(), report.Tags, w.tags)
		}
	}
}

// TestPlanOfTwentyRegistries plans while one registry is down and another
// stalls: all others are looked at to the end meanwhile, and planned.
func TestPlanOfTwentyRegistries(t *testing.T) {
	w := newTwenty(t, registrytest.Tree{Repositories: 4, Tags: 6, LayerSize: 2 << 10}, 2*time.Second)
	w.disturb()
	run := w.stream("plan", "-json", "-out", "plan")
	run.until("the healthy registries were looked at", func(e liveEvent) bool {
		return e.Observed != nil && e.Observed.Tags >= (hosts-inTrouble)*w.tags
	})
	<-w.held.Reached()
	w.held.Open()
	planned := map[int]int{}
	for _, e := range run.exits(exitPartial) {
		var d int
		if e.Change == nil || e.Change.Kind != "tag" {
			continue
		}
		if _, err := fmt.Sscanf(e.Change.Address, "tree.d%d/", &d); err != nil {
			t.Fatal(err)
		}
		planned[d]++
	}
	for d := range hosts {
		if want := w.tags; d >= inTrouble && planned[d] != want || (d == down || d == stalled) && planned[d] != 0 {
			t.Errorf("registry %d: %d tags are planned, want %d", d, planned[d], want)
		}
	}
}

// BenchmarkTwentyRegistries reports how long the fourteen healthy registries
// take beside six in trouble, against twenty healthy ones: the shortest of
// several rounds of each, since the machine has other things to do. Issue 4 asks
// for at most 1.2.
func BenchmarkTwentyRegistries(b *testing.B) {
	const rounds = 5
	tree := registrytest.Tree{Repositories: 10, Tags: 5, LayerSize: 32 << 10}
	for b.Loop() {
		var alone, beside time.Duration
		for range rounds {
			for _, disturbed := range []bool{false, true} {
				w := newTwenty(b, tree, time.Minute)
				w.run(0, "plan", "-out", "plan")
				shortest := &alone
				if disturbed {
					w.disturb()
					shortest = &beside
				}
				run, took, _ := w.apply(inTrouble)
				if *shortest == 0 || took < *shortest {
					*shortest = took
				}
				if disturbed {
					w.held.Open()
					run.exits(exitPartial)
				} else {
					run.exits(exitDone)
				}
			}
		}
		b.ReportMetric(alone.Seconds(), "s-undisturbed")
		b.ReportMetric(beside.Seconds(), "s-disturbed")
		b.ReportMetric(beside.Seconds()/alone.Seconds(), "ratio")
	}
}
