package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"freightliner/config"
	"freightliner/planner"
	"freightliner/providers"
	"freightliner/statefile"
)

// Only a whole "yes" from a person lets an apply begin.
func TestAsk(t *testing.T) {
	tests := map[string]struct {
		terminal bool
		answer   string
		want     string // part of the error; empty for consent
	}{
		"yes":                    {true, "yes\n", ""},
		"yes on Windows":         {true, "yes\r\n", ""},
		"y":                      {true, "y\n", "apply cancelled; nothing was changed"},
		"yes with more":          {true, "yes please\n", "apply cancelled"},
		"YES":                    {true, "YES\n", "apply cancelled"},
		"nothing":                {true, "\n", "apply cancelled"},
		"end of input":           {true, "", "apply cancelled"},
		"yes without line break": {true, "yes", "apply cancelled"},
		"nobody there":           {false, "yes\n", "no terminal to ask on"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := testProgram()
			p.stdin, p.terminal.stdin = strings.NewReader(test.answer), test.terminal
			a := &application{session: &session{program: p, command: "apply", out: io.Discard}}
			err := a.ask(context.Background())
			switch {
			case test.want == "" && err != nil:
				t.Errorf("%q: %v", test.answer, err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%q: error %v, want %q", test.answer, err, test.want)
			case test.want != "" && codeOf(err) != exitError:
				t.Errorf("%q: exit %d, want %d", test.answer, codeOf(err), exitError)
			}
		})
	}
}

// An interrupt while the question stands is an answer too.
func TestAskInterrupted(t *testing.T) {
	p := testProgram()
	hands, _ := io.Pipe() // never answers
	signals := make(chan os.Signal, 1)
	p.stdin, p.terminal.stdin, p.signals = hands, true, signals
	signals <- os.Interrupt
	a := &application{session: &session{program: p, command: "apply", out: io.Discard}}
	if code := codeOf(a.ask(context.Background())); code != exitInterrupted {
		t.Errorf("exit %d, want %d", code, exitInterrupted)
	}
}

func TestExitCodes(t *testing.T) {
	tests := map[string]struct {
		err  error
		want int
	}{
		"done":          {nil, 0},
		"anything else": {errors.New("x"), 1},
		"locked":        {&providers.Error{Err: &statefile.LockedError{}}, 5},
		"damaged":       {&providers.Error{Err: statefile.ErrDamaged}, 6},
		"newer":         {&providers.Error{Err: statefile.ErrNewer}, 6},
		"no plain file": {&providers.Error{Err: statefile.ErrUnsafe}, 6},
		"interrupted":   {errInterrupted, 130},
		"a context":     {context.Canceled, 130},
		"a saved plan":  {planner.ErrDamaged, 1},
		"named":         {&exit{code: 7}, 7},
		"usage":         {&usageError{cmd: &cobra.Command{Use: "x"}, text: "y"}, 1},
	}
	for name, test := range tests {
		if got := codeOf(test.err); got != test.want {
			t.Errorf("%s: exit %d, want %d", name, got, test.want)
		}
		if got := testProgram().tell(test.err); got != test.want {
			t.Errorf("%s: told with exit %d, want %d", name, got, test.want)
		}
	}
}

func TestPlanExit(t *testing.T) {
	act := planner.Action{Kind: statefile.KindTag, Verb: planner.Create, Cause: planner.ByConfig}
	block := []planner.Block{{Address: "tree.a", Kind: statefile.KindTree}}
	unseen, held, guard := planner.Problem{}, planner.Problem{Blocked: true}, planner.Problem{Guard: true}
	tests := map[string]struct {
		actions  []planner.Action
		problems []planner.Problem
		want     int // with -detailed-exitcode
	}{
		"in sync":                  {nil, nil, 0},
		"changes":                  {[]planner.Action{act}, nil, 2},
		"changes, some held back":  {[]planner.Action{act}, []planner.Problem{held}, 2},
		"changes, some not seen":   {[]planner.Action{act}, []planner.Problem{unseen, held}, 3},
		"nothing seen at all":      {nil, []planner.Problem{unseen}, 1},
		"a guard goes before that": {[]planner.Action{act}, []planner.Problem{unseen, guard}, 7},
	}
	for name, test := range tests {
		plan := &planner.Plan{Blocks: block, Actions: test.actions, Problems: test.problems}
		if got := codeOf(planExit(plan, true)); got != test.want {
			t.Errorf("%s: exit %d, want %d", name, got, test.want)
		}
		want := test.want
		if want == exitChanges {
			want = exitDone
		}
		if got := codeOf(planExit(plan, false)); got != want {
			t.Errorf("%s, without -detailed-exitcode: exit %d, want %d", name, got, want)
		}
	}
}

func TestApproves(t *testing.T) {
	id := sha("plan")
	tests := map[string]struct {
		given      string
		want, fail bool
	}{
		"whole":           {string(id), true, false},
		"whole, no name":  {id.Hex(), true, false},
		"short":           {id.Short(), true, false},
		"upper case":      {strings.ToUpper(id.Short()), true, false},
		"eight digits":    {id.Hex()[:8], true, false},
		"seven digits":    {id.Hex()[:7], false, true},
		"another":         {sha("other").Short(), false, false},
		"nothing":         {"", false, true},
		"no hex":          {"sha256:zzzzzzzzzz", false, true},
		"longer than all": {id.Hex() + "00", false, true},
	}
	for name, test := range tests {
		got, err := approves(test.given, id)
		if got != test.want || (err != nil) != test.fail {
			t.Errorf("%s: approves(%q) = %v, %v", name, test.given, got, err)
		}
	}
}

func TestParseLimit(t *testing.T) {
	for in, want := range map[string]config.Limit{
		"": {}, "0": {Set: true}, "5": {Set: true, Number: 5}, "10%": {Set: true, Number: 10, Percent: true},
	} {
		if got, err := parseLimit(in); err != nil || got != want {
			t.Errorf("parseLimit(%q) = %+v, %v, want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"-1", "101%", "ten", "%", "5 %", "1e3"} {
		if got, err := parseLimit(in); err == nil {
			t.Errorf("parseLimit(%q) = %+v, want an error", in, got)
		}
	}
}

// -parallelism of plan reaches every host that the plan looks at.
func TestLimited(t *testing.T) {
	cfg := &config.Config{
		Registries: []config.Registry{{Host: "a", Concurrency: 8}, {Host: "b", Path: "team", Concurrency: 2}, {Host: "c"}},
		Trees:      []config.Tree{{Source: providers.Repository{Host: "a"}, Destination: providers.Repository{Host: "b"}}},
		Images:     []config.Image{{Source: providers.Repository{Host: "d"}, Destination: providers.Repository{Host: "c"}}},
	}
	got := map[string]int{}
	for _, r := range limited(cfg, 4) {
		got[r.Host+"/"+r.Path] = r.Concurrency
	}
	want := map[string]int{"a/": 4, "b/team": 2, "c/": 4, "b/": 4, "d/": 4}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests at once (-want +got):\n%s", diff)
	}
	if cfg.Registries[0].Concurrency != 8 {
		t.Error("the configuration was changed")
	}
}

func TestCovers(t *testing.T) {
	for _, test := range []struct {
		top, address string
		want         bool
	}{
		{"tree.a", "tree.a", true}, {"tree.a", "tree.a/api", true}, {"tree.a", `tree.a["eu"]/api:1`, true},
		{"tree.a/api", "tree.a/api:1", true}, {"tree.a/api", "tree.a/api@sha256:0", true}, {"tree.a/", "tree.a/api", true},
		{"tree.a", "tree.ab", false}, {"tree.a/api", "tree.a/api-b:1", false}, {"tree.a/api", "tree.a", false},
	} {
		if got := covers(test.top, test.address); got != test.want {
			t.Errorf("covers(%q, %q) = %v", test.top, test.address, got)
		}
	}
}

// Whatever breaks inside, people see one line and not a stack trace.
func TestLastResort(t *testing.T) {
	var told bytes.Buffer
	p := testProgram()
	p.stderr = &lockedWriter{w: &told}
	p.stdout = nil // any write to it panics
	if code := p.run([]string{"version"}); code != exitError {
		t.Errorf("exit %d, want %d", code, exitError)
	}
	text := told.String()
	if strings.Count(text, "\n") != 1 || strings.Contains(text, "goroutine") || !strings.Contains(text, "Please report this") {
		t.Errorf("told %q", text)
	}
}

// A writer that is full fails the command: nobody must take half an output for all of it.
func TestFullOutput(t *testing.T) {
	p := testProgram()
	var told bytes.Buffer
	p.stdout, p.stderr = &lockedWriter{w: fullWriter{}}, &lockedWriter{w: &told}
	if code := p.run([]string{"version"}); code != exitError {
		t.Errorf("exit %d, want %d", code, exitError)
	}
	if !strings.Contains(told.String(), "write standard output: no space left on device") {
		t.Errorf("told %q", told.String())
	}
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// A draft appears whole or not at all, and never in the place of a file that it
// did not replace.
func TestDraft(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("f", []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	failing := errors.New("half-way")
	err := writeFile("f", private, true, func(w io.Writer) error {
		io.WriteString(w, strings.Repeat("new", 1<<16))
		return failing
	})
	if !errors.Is(err, failing) {
		t.Errorf("error %v, want %v", err, failing)
	}
	wantOnly(t, "f", "old")
	if err := writeFile("f", private, true, func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err }); err != nil {
		t.Fatal(err)
	}
	wantOnly(t, "f", "new")
	info, err := os.Stat("f")
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the file has the mode %v, %v", info.Mode(), err)
	}
	d, err := newDraft("g", public, false)
	if err != nil {
		t.Fatal(err)
	}
	d.drop()
	d.drop()
	if err := d.commit(); err != nil {
		t.Error(err)
	}
	wantOnly(t, "f", "new")
	if err := writeFile(filepath.Join("no", "f"), public, false, func(io.Writer) error { return nil }); err == nil || err.Error() != "write no"+string(filepath.Separator)+"f: no such file or directory" && !strings.Contains(err.Error(), "cannot find") {
		t.Errorf("error %v", err)
	}
}

// wantOnly fails the test unless the working directory holds one file with this text.
func wantOnly(t *testing.T, name, want string) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil || len(entries) != 1 || entries[0].Name() != name {
		t.Fatalf("the directory holds %v, %v", entries, err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != want {
		t.Fatalf("%s holds %q, %v, want %q", name, got, err, want)
	}
}

// The first signal stops new work and ends the context later; the second ends
// it at once; after each the process ends in time even if the work does not.
func TestSignals(t *testing.T) {
	p := testProgram()
	signals, ended := make(chan os.Signal, 2), make(chan int, 4)
	clock := newHandClock()
	p.signals, p.clock, p.exitNow = signals, clock, func(code int) { ended <- code }
	var said []string
	i := p.watchSignals(context.Background(), func(line string) { said = append(said, line) })
	signals <- os.Interrupt
	<-i.stop
	clock.waiting(t, parkTime, leaveTime)
	if i.ctx.Err() != nil {
		t.Error("the first signal ended the context at once")
	}
	clock.pass(parkTime)
	<-i.ctx.Done()
	signals <- syscall.SIGTERM
	clock.waiting(t, leaveTime, hardTime)
	if !i.second.Load() {
		t.Error("the second signal is not noted")
	}
	clock.pass(hardTime)
	if code := <-ended; code != exitInterrupted {
		t.Errorf("ended with %d, want %d", code, exitInterrupted)
	}
	i.end()
	if len(said) != 2 || !strings.Contains(said[0], "at most 4s") {
		t.Errorf("said %q", said)
	}
}

// -max-duration and the first signal both stop new work, whichever comes first.
func TestStopAfter(t *testing.T) {
	for _, by := range []string{"time", "signal", "neither"} {
		t.Run(by, func(t *testing.T) {
			clock := newHandClock()
			p := testProgram()
			p.clock = clock
			a := &application{session: &session{program: p}, flags: &applyFlags{maxDuration: parkTime}}
			signals := &interrupts{ctx: context.Background(), stop: make(chan struct{})}
			var said []string
			stop, end := a.stopAfter(signals, func(line string) { said = append(said, line) })
			clock.waiting(t, parkTime)
			select {
			case <-stop:
				t.Error("stopped at once")
			default:
			}
			switch by {
			case "time":
				clock.pass(parkTime)
				<-stop
			case "signal":
				close(signals.stop)
				<-stop
			}
			end()
			if want := by == "time"; (len(said) == 1) != want {
				t.Errorf("said %q", said)
			}
		})
	}
}

// handClock lets the test say when a wait is over.
type handClock struct {
	wallClock
	asked chan time.Duration
	over  map[time.Duration]chan struct{}
}

func newHandClock() *handClock {
	c := &handClock{asked: make(chan time.Duration, 8), over: map[time.Duration]chan struct{}{}}
	for _, d := range []time.Duration{parkTime, leaveTime, hardTime} {
		c.over[d] = make(chan struct{})
	}
	return c
}

func (c *handClock) Wait(ctx context.Context, d time.Duration) error {
	c.asked <- d
	select {
	case <-c.over[d]:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *handClock) pass(d time.Duration) { close(c.over[d]) }

// waiting returns when somebody has begun to wait for the last of the times.
func (c *handClock) waiting(t *testing.T, times ...time.Duration) {
	t.Helper()
	for {
		select {
		case d := <-c.asked:
			if d == times[len(times)-1] {
				return
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("nobody waits for %v", times)
		}
	}
}
