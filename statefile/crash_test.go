package statefile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// step is one thing a run does: changes to be journalled, or an intent.
type step struct {
	changes []Change
	intent  string
	fail    string
}

// workload is a run over a small state with everything a journal can hold.
func workload() []step {
	return []step{
		{changes: []Change{Put(tag("a:1", 11))}},
		{changes: []Change{Put(tag("a:3", 12)), Remove("tree.platform/a:2")}},
		{intent: "secret.db"},
		{changes: []Change{Put(Record{Address: "secret.db", Kind: KindImage, Digest: digest(13)})}},
		{fail: "tree.platform/a:9"},
		{changes: []Change{Put(tag("a:1", 14)), Put(tag("z:1", 15))}},
	}
}

// models are the states that the workload goes through, from start on.
func models(start map[string]Record) []map[string]Record {
	out := []map[string]Record{start}
	for _, s := range workload() {
		last := out[len(out)-1]
		// The changes of one step are single lines, and a crash may come between.
		for _, c := range s.changes {
			last = apply(last, c)
			out = append(out, last)
		}
	}
	return out
}

// drive runs the workload and reports which models were acknowledged.
func drive(j *Journal, acknowledged func(model int, durable bool)) error {
	model := 0
	for _, s := range workload() {
		var err error
		switch {
		case s.intent != "":
			err = j.Intent(s.intent, "add_version", "token-1")
		case s.fail != "":
			err = j.Fail(s.fail, providers.Denied)
		default:
			err = j.Done(s.changes...)
		}
		if err != nil {
			return err
		}
		model += len(s.changes)
		acknowledged(model, s.intent != "")
	}
	return nil
}

func startRecords() []Record {
	return []Record{
		{Address: "tree.platform", Kind: KindTree, Destination: "mirror.example/acme"},
		tag("a:1", 1), tag("a:2", 2), tag("b:1", 3),
	}
}

// TestCrashAnywhere cuts the power after every single file operation of a run,
// from creation to compaction, and looks at every disk this may leave: each
// opens without complaint, shows a state that the run went through, not older
// than the last one acknowledged as durable, and can be finished.
func TestCrashAnywhere(t *testing.T) {
	for _, start := range [][]Record{nil, startRecords()} {
		t.Run(fmt.Sprintf("%d records", len(start)), func(t *testing.T) {
			d := statefiletest.New()
			if start != nil {
				d = diskWith(t, start...)
			}
			model := models(byAddress(mustRead(t, d)))
			var floor atomic.Int64
			cases := 0
			d.After(func(op statefiletest.Op) {
				least := int(floor.Load())
				for crashed := range d.Crashes(128) {
					cases++
					if what := survives(crashed, model[least:], start == nil && least == 0); what != "" {
						// Not Fatal: this may be the journal's own goroutine.
						t.Errorf("crash after %v leaves %v: %s\n%s", op, crashed, what, crashed.Bytes(file))
						return
					}
				}
			})
			l := mustLock(t, d)
			j, _, err := Begin(context.Background(), l, file, RunInfo{Run: "r"}, testOptions())
			check(t, "begin", err)
			check(t, "run", drive(j, func(model int, durable bool) {
				if durable {
					floor.Store(int64(model))
				}
			}))
			check(t, "close", j.Close())
			floor.Store(int64(len(model) - 1))
			check(t, "release", l.Release())
			if !mustRead(t, d).Canonical() {
				t.Fatal("the run did not compact")
			}
			t.Logf("%d crash states", cases)
			if cases < 500 {
				t.Fatalf("only %d crash states were looked at", cases)
			}
		})
	}
}

// survives says what is wrong with a disk after a crash.
func survives(d *statefiletest.Disk, allowed []map[string]Record, mayMiss bool) string {
	s, err := Read(d, file)
	if err != nil {
		return err.Error()
	}
	if !s.Exists() && !mayMiss {
		return "the state is gone"
	}
	got := byAddress(s)
	if !oneOf(got, allowed) {
		return fmt.Sprintf("a state that never was: %v", got)
	}
	if s.Torn() > 0 && s.Canonical() {
		return "torn and canonical at once"
	}
	intents := s.Intents()
	l, err := AcquireLock(context.Background(), d, file, Holder{PID: 1}, LockOptions{Clock: &clock{}})
	if err != nil {
		return err.Error()
	}
	j, _, err := Begin(context.Background(), l, file, RunInfo{Run: "next"}, testOptions())
	if err != nil {
		return err.Error()
	}
	next := Put(tag("next", 1))
	if err := errors.Join(j.Done(next), settle(j, intents), j.Close(), l.Release()); err != nil {
		return "the next run: " + err.Error()
	}
	s, err = Read(d, file)
	if err != nil {
		return "after the next run: " + err.Error()
	}
	if diff := cmp.Diff(apply(got, next), byAddress(s)); diff != "" {
		return "after the next run (-want +got):\n" + diff
	}
	if !s.Canonical() {
		return "the next run did not compact"
	}
	for _, name := range d.Files() {
		if strings.Contains(name, ".tmp-") {
			return "a temporary file is left: " + name
		}
	}
	return ""
}

// settle closes intents as a resumed run does that found nothing had happened.
func settle(j *Journal, intents []Intent) error {
	for _, i := range intents {
		if err := j.Fail(i.Address, providers.NotFound); err != nil {
			return err
		}
	}
	return nil
}

func oneOf(got map[string]Record, allowed []map[string]Record) bool {
	for _, m := range allowed {
		if maps.Equal(got, m) {
			return true
		}
	}
	return false
}

// faultStarts are the disks that a run with a fault begins on: a canonical
// state, none at all, and what a crash leaves: a torn tail behind a journal,
// a leftover temporary file, a second name; and a wide mode.
func faultStarts(t *testing.T) map[string]func() *statefiletest.Disk {
	torn := killed(t, diskWith(t, startRecords()...), func(j *Journal) {
		check(t, "done", j.Done(Put(tag("b:2", 4))))
	})
	torn.Edit(file, func(b []byte) []byte { return append(b, `{"j":"do`...) })
	crashed := torn.Bytes(file)
	return map[string]func() *statefiletest.Disk{
		"canonical": func() *statefiletest.Disk { return diskWith(t, startRecords()...) },
		"missing":   statefiletest.New,
		"crashed": func() *statefiletest.Disk {
			d := diskWith(t)
			d.Put(file, crashed, 0o644)
			d.Put("."+file+".tmp-0123456789abcdef", []byte("x"), 0o600)
			_ = d.Remove(".freightliner/" + file + ".bak")
			check(t, "link", d.Link(file, ".freightliner/"+file+".bak"))
			return d.Clone()
		},
	}
}

// TestEverySingleFault fails each file operation of a run, once and for ever,
// with each errno: the run says so, the state is an old or a new one and never
// a broken one, and whatever was acknowledged is in some file or was printed.
func TestEverySingleFault(t *testing.T) {
	cases := 0
	for name, start := range faultStarts(t) {
		for i, errno := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.EDQUOT, syscall.EMFILE, syscall.EACCES, syscall.EINTR} {
			for _, always := range []bool{false, true} {
				for _, short := range []bool{false, true} {
					if short && i > 0 {
						continue // only a write knows the difference
					}
					clean := false
					for at := 1; !clean; at++ {
						cases++
						clean = faultyRun(t, name, start(), statefiletest.Fault{At: at, Err: errno, Always: always, Short: short})
					}
				}
			}
		}
	}
	t.Logf("%d cases", cases)
	if cases < 2000 {
		t.Fatalf("only %d faults were tried", cases)
	}
}

// faultyRun does one run with one fault and reports whether the fault was
// never reached.
func faultyRun(t *testing.T, name string, d *statefiletest.Disk, fault statefiletest.Fault) (clean bool) {
	begin := mustRead(t, d)
	model := models(byAddress(begin))
	before := d.Bytes(file)
	elsewhere := statefiletest.New()
	var printed bytes.Buffer
	opts := testOptions()
	opts.LastResort = &printed
	opts.Emergency = &Place{FS: elsewhere, Path: "emergency.state"}

	ops := d.Ops()
	d.Fail(&fault)
	reached, closed, err := 0, false, error(nil)
	l, err := AcquireLock(context.Background(), d, file, Holder{PID: 1}, LockOptions{Clock: &clock{}})
	if err == nil {
		var j *Journal
		j, _, err = Begin(context.Background(), l, file, RunInfo{Run: "r"}, opts)
		if err == nil {
			runErr := drive(j, func(model int, _ bool) { reached = model })
			err = j.Close()
			closed = true
			if runErr != nil && err == nil {
				t.Fatalf("%s, %+v: the run failed with %v and Close said nothing", name, fault, runErr)
			}
		}
	}
	made := d.Ops() - ops
	d.Fail(nil)
	describe := func() string {
		var b strings.Builder
		for _, op := range d.Trace()[ops:] {
			fmt.Fprintln(&b, op)
		}
		return b.String()
	}
	if !closed && begin.Exists() && begin.Canonical() && !bytes.Equal(before, d.Bytes(file)) {
		t.Fatalf("%s, %+v: the run did not begin and changed the state\n%s", name, fault, describe())
	}
	s, readErr := Read(d, file)
	if readErr != nil {
		t.Fatalf("%s, %+v: the state does not open: %v\n%s", name, fault, readErr, describe())
	}
	if !oneOf(byAddress(s), model) || begin.Exists() && !s.Exists() {
		t.Fatalf("%s, %+v: a state that never was: %v\n%s", name, fault, byAddress(s), describe())
	}
	if !closed && err == nil {
		t.Fatalf("%s, %+v: the run did not begin and did not say so\n%s", name, fault, describe())
	}
	if err == nil && !maps.Equal(byAddress(s), model[len(model)-1]) {
		t.Fatalf("%s, %+v: success, and the state is not the last one\n%s", name, fault, describe())
	}
	if !kept(t, model[reached:], d, elsewhere, &printed) {
		t.Fatalf("%s, %+v: acknowledged work is nowhere; the run said: %v\n%s", name, fault, err, describe())
	}
	return made < fault.At
}

// kept reports whether one of the models can be read from any place that a
// state may have been saved to.
func kept(t *testing.T, allowed []map[string]Record, d, elsewhere *statefiletest.Disk, printed *bytes.Buffer) bool {
	try := func(fsys FS, name string) bool {
		s, err := Read(fsys, name)
		return err == nil && oneOf(byAddress(s), allowed)
	}
	for _, name := range d.Files() {
		if (name == file || strings.HasPrefix(name, file+".saved-")) && try(d, name) {
			return true
		}
	}
	if try(elsewhere, "emergency.state") {
		return true
	}
	paper := statefiletest.New()
	paper.Put("printed", printed.Bytes(), 0o600)
	return try(paper, "printed")
}
