package statefile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// verbs counts the operations of one kind on the state file since from.
func verbs(d *statefiletest.Disk, from int, verb string) (n int) {
	for _, op := range d.Trace()[from:] {
		if op.Verb == verb && op.Path == file {
			n++
		}
	}
	return n
}

// TestSyncPolicy: the first batch is synced, so that marks mean something; then
// an intent, 100 ms after the first unsynced byte, and 1 MiB are.
func TestSyncPolicy(t *testing.T) {
	d := diskWith(t)
	c := &clock{asked: make(chan struct{}, 100)}
	opts := testOptions()
	opts.Clock = c
	synced := make(chan struct{}, 100)
	d.After(func(op statefiletest.Op) {
		if op.Verb == "sync" && op.Path == file {
			synced <- struct{}{}
		}
	})
	j, _, l := open(t, d, "r", opts)
	check(t, "first", j.Done(Put(tag("a", 1))))
	<-synced
	from := d.Ops()
	check(t, "second", j.Done(Put(tag("b", 1))))
	<-c.asked
	check(t, "third", j.Done(Put(tag("c", 1))))
	if writes, syncs := verbs(d, from, "write"), verbs(d, from, "sync"); writes != 2 || syncs != 0 {
		t.Errorf("%d writes and %d syncs before the time is up, want 2 and 0", writes, syncs)
	}
	c.advance(99 * time.Millisecond)
	if syncs := verbs(d, from, "sync"); syncs != 0 {
		t.Errorf("%d syncs after 99 ms, want none", syncs)
	}
	c.advance(time.Millisecond)
	<-synced

	check(t, "intent", j.Intent("x", "op", ""))
	if syncs := verbs(d, from, "sync"); syncs != 2 {
		t.Errorf("%d syncs when Intent has returned, want the second", syncs)
	}
	<-synced
	long := Record{Address: "tree.long", Kind: KindTree, Destination: strings.Repeat("x", 400_000)}
	for range 3 {
		check(t, "long", j.Done(Put(long)))
	}
	<-synced
	check(t, "settle", j.Done(Put(Record{Address: "x", Kind: KindTree})))
	check(t, "close", j.Close())
	check(t, "release", l.Release())
}

// TestOneWritePerBatch: what many callers hand in while a write is under way
// goes out together, and each of them is answered.
func TestOneWritePerBatch(t *testing.T) {
	d := diskWith(t)
	const callers = 50
	blocked, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	j, _, l := open(t, d, "r", testOptions())
	d.After(func(op statefiletest.Op) {
		if op.Verb == "write" && op.Path == file {
			once.Do(func() { close(blocked); <-goOn })
		}
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := j.Done(Put(tag("first", 1))); err != nil {
			t.Error(err)
		}
	})
	<-blocked
	from := d.Ops()
	for i := range callers {
		wg.Go(func() {
			if err := j.Done(Put(tag(fmt.Sprint(i), i)), Remove("tree.platform/first")); err != nil {
				t.Error(err)
			}
		})
	}
	for j.Queued() < callers {
		runtime.Gosched() // the callers are on their way into the queue
	}
	close(goOn)
	wg.Wait()
	if writes := verbs(d, from, "write"); writes != 1 {
		t.Errorf("%d writes for %d waiting callers, want 1", writes, callers)
	}
	check(t, "close", j.Close())
	check(t, "release", l.Release())
	if got := mustRead(t, d).Len(); got != callers {
		t.Errorf("%d records, want %d", got, callers)
	}
}

// TestKilledRunIsContinued: what a killed run finished is there, the run is
// named, and the next run appends behind it and compacts both.
func TestKilledRunIsContinued(t *testing.T) {
	d := killed(t, diskWith(t, sample()...), func(j *Journal) {
		check(t, "done", j.Done(Put(tag("one", 1))))
	})
	s := mustRead(t, d)
	if run, ok := s.Interrupted(); !ok || run.Run != "killed" || run.By != "ci@runner-7" {
		t.Errorf("Interrupted() = %v, %v", run, ok)
	}
	d = killed(t, d, func(j *Journal) { check(t, "done", j.Done(Put(tag("two", 2)))) })
	if n := strings.Count(string(d.Bytes(file)), `{"j":"run"`); n != 2 {
		t.Errorf("%d run lines, want 2", n)
	}
	// A third run with nothing to do folds both away.
	j, s, l := open(t, d, "third", testOptions())
	check(t, "close", j.Close())
	check(t, "release", l.Release())
	want := apply(byAddress(s), Put(tag("one", 1)), Put(tag("two", 2)))
	after := mustRead(t, d)
	if diff := cmp.Diff(want, byAddress(after)); diff != "" || !after.Canonical() {
		t.Errorf("canonical %v (-want +got):\n%s", after.Canonical(), diff)
	}
	if bak := d.Bytes(".freightliner/" + file + ".bak"); !bytes.Contains(bak, []byte(`"run":"killed"`)) {
		t.Errorf("the backup is not the file before:\n%s", bak)
	}
}

// TestOpenIntentsSurviveClose: the snapshot has no place for an intent, so the
// journal stays until somebody has looked.
func TestOpenIntentsSurviveClose(t *testing.T) {
	for class, stays := range map[providers.Class]bool{
		providers.Unknown: true, providers.Transient: true, providers.Canceled: true,
		providers.Denied: false, providers.NotFound: false, providers.Throttled: false,
		providers.Conflict: false, providers.Invalid: false, providers.Unsupported: false,
	} {
		d := diskWith(t, sample()...)
		j, _, l := open(t, d, "r", testOptions())
		check(t, "intent", j.Intent("secret.db", "add_version", "token"))
		check(t, "fail", j.Fail("secret.db", class))
		check(t, "close", j.Close())
		s := mustRead(t, d)
		var want []Intent
		if stays {
			want = []Intent{{Address: "secret.db", Op: "add_version", Token: "token"}}
		}
		if diff := cmp.Diff(want, s.Intents(), cmp.Comparer(func(a, b []Intent) bool { return fmt.Sprint(a) == fmt.Sprint(b) })); diff != "" || s.Canonical() == stays {
			t.Errorf("%v: canonical %v, intents (-want +got):\n%s", class, s.Canonical(), diff)
		}
		_, err := Compact(t.Context(), l, file, testOptions())
		if errors.Is(err, ErrUndecided) != stays {
			t.Errorf("%v: Compact says %v", class, err)
		}
		check(t, "release", l.Release())
	}
}

// TestReplacedUnderARun: whatever somebody does to the file under a running
// apply, theirs stays as it is, ours is saved beside it, and Close says so.
func TestReplacedUnderARun(t *testing.T) {
	for name, meddle := range map[string]func(*statefiletest.Disk){
		"git checkout":    func(d *statefiletest.Disk) { d.Put(file, d.Bytes(file), 0o644) },
		"edit in place":   func(d *statefiletest.Disk) { d.Edit(file, func(b []byte) []byte { b[50] ^= 1; return b }) },
		"append":          func(d *statefiletest.Disk) { d.Edit(file, func(b []byte) []byte { return append(b, '\n') }) },
		"truncate":        func(d *statefiletest.Disk) { d.Edit(file, func(b []byte) []byte { return b[:100] }) },
		"edit of journal": func(d *statefiletest.Disk) { d.Edit(file, func(b []byte) []byte { b[len(b)-30] ^= 1; return b }) },
		"remove":          func(d *statefiletest.Disk) { _ = d.Remove(file) },
		"link":            func(d *statefiletest.Disk) { d.Place(file, fs.ModeSymlink|0o777) },
	} {
		t.Run(name, func(t *testing.T) {
			d := diskWith(t, sample()...)
			j, s, l := open(t, d, "r", testOptions())
			check(t, "done", j.Done(Put(tag("new", 1))))
			meddle(d)
			theirs := d.Bytes(file)
			// In place, the close line still lands behind their edit.
			err := j.Close()
			if !errors.Is(err, ErrReplaced) || providers.ClassOf(err) != providers.Conflict {
				t.Fatalf("Close says %v, want ErrReplaced", err)
			}
			if !bytes.HasPrefix(d.Bytes(file), theirs) {
				t.Error("their file was changed")
			}
			saved := ""
			for _, f := range d.Files() {
				if strings.HasPrefix(f, file+".saved-") {
					saved = f
				}
			}
			if saved == "" || !strings.Contains(err.Error(), saved) {
				t.Fatalf("the error does not say where ours is: %v, files %v", err, d.Files())
			}
			ours, readErr := Read(d, saved)
			check(t, "read ours", readErr)
			if diff := cmp.Diff(apply(byAddress(s), Put(tag("new", 1))), byAddress(ours)); diff != "" {
				t.Errorf("what was saved (-want +got):\n%s", diff)
			}
			check(t, "release", l.Release())
		})
	}
}

// TestFailedWriteIsFinal: after a failed write or sync every call says so, the
// work still reported is kept in a file written anew, and Close is no success.
func TestFailedWriteIsFinal(t *testing.T) {
	for _, verb := range []string{"write", "sync"} {
		d := diskWith(t, sample()...)
		j, s, l := open(t, d, "r", testOptions())
		check(t, "first", j.Done(Put(tag("one", 1))))
		check(t, "intent", j.Intent("open", "op", ""))
		inode := mustStat(t, d).ID
		d.Fail(&statefiletest.Fault{At: 1, Verb: verb, Err: syscall.EIO, Short: true})
		err := j.Intent("refused", "op", "")
		if !errors.Is(err, ErrNotDurable) || !errors.Is(err, syscall.EIO) {
			t.Fatalf("%s: Intent says %v", verb, err)
		}
		for _, err := range []error{j.Done(Put(tag("two", 2))), j.Intent("refused too", "op", ""), j.Fail("x", providers.Denied)} {
			if !errors.Is(err, ErrNotDurable) {
				t.Errorf("%s: a later call says %v", verb, err)
			}
		}
		if mustStat(t, d).ID == inode {
			t.Errorf("%s: the journal goes on in the file that failed", verb)
		}
		if err := j.Close(); !errors.Is(err, ErrNotDurable) || !strings.Contains(err.Error(), "saved in "+file) {
			t.Errorf("%s: Close says %v", verb, err)
		}
		after := mustRead(t, d)
		if diff := cmp.Diff(apply(byAddress(s), Put(tag("one", 1)), Put(tag("two", 2))), byAddress(after)); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", verb, diff)
		}
		if got := after.Intents(); len(got) != 1 || got[0].Address != "open" {
			t.Errorf("%s: intents %v, want the one that was acknowledged", verb, got)
		}
		check(t, "release", l.Release())
	}
}

// TestFullDisk: everything that writes to the disk fails. The emergency path
// takes it all; without one the last resort does.
func TestFullDisk(t *testing.T) {
	for _, emergency := range []bool{true, false} {
		d, elsewhere := diskWith(t, sample()...), statefiletest.New()
		var printed bytes.Buffer
		opts := testOptions()
		opts.LastResort = &printed
		if emergency {
			opts.Emergency = &Place{FS: elsewhere, Path: "e.state"}
		}
		j, s, l := open(t, d, "r", opts)
		check(t, "first", j.Done(Put(tag("one", 1))))
		d.Fail(&statefiletest.Fault{At: 1, Verb: "write", Err: syscall.ENOSPC, Always: true})
		if err := j.Done(Put(tag("two", 2))); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("Done says %v", err)
		}
		if err := j.Done(Put(tag("three", 3))); !errors.Is(err, ErrNotDurable) {
			t.Fatalf("Done says %v", err)
		}
		err := j.Close()
		d.Fail(nil)
		check(t, "release", l.Release())
		where := elsewhere
		if !emergency {
			where.Put("e.state", printed.Bytes(), 0o600)
		} else if printed.Len() > 0 || !strings.Contains(err.Error(), "e.state") {
			t.Errorf("printed %d bytes; %v", printed.Len(), err)
		}
		if !errors.Is(err, ErrNotDurable) {
			t.Errorf("Close says %v", err)
		}
		got, readErr := Read(where, "e.state")
		check(t, "read what was saved", readErr)
		want := apply(byAddress(s), Put(tag("one", 1)), Put(tag("two", 2)), Put(tag("three", 3)))
		if diff := cmp.Diff(want, byAddress(got)); diff != "" {
			t.Errorf("emergency %v (-want +got):\n%s", emergency, diff)
		}
		if old := mustRead(t, d); old.Len() != s.Len()+1 {
			t.Errorf("the state itself has %d records, want %d", old.Len(), s.Len()+1)
		}
		for _, name := range d.Files() {
			if strings.Contains(name, ".tmp-") || strings.Contains(name, ".saved-") {
				t.Errorf("the full disk has a useless file %s", name)
			}
		}
	}
}

// TestAbandonIsQuick: no close line, no compaction, one sync; and the state is
// whole.
func TestAbandonIsQuick(t *testing.T) {
	d := diskWith(t, sample()...)
	j, s, l := open(t, d, "r", testOptions())
	check(t, "first", j.Done(Put(tag("one", 1))))
	check(t, "second", j.Done(Put(tag("two", 1))))
	from := d.Ops()
	check(t, "abandon", j.Abandon())
	check(t, "close after abandon", j.Close())
	var got []string
	for _, op := range d.Trace()[from:] {
		got = append(got, op.Verb)
	}
	// The first batch's own sync may still be under way when Abandon begins.
	if text := strings.Join(got, " "); text != "sync close" && text != "sync sync close" {
		t.Errorf("Abandon does %q", text)
	}
	check(t, "release", l.Release())
	if after := mustRead(t, d); after.Len() != s.Len()+2 || after.Canonical() {
		t.Errorf("%d records, canonical %v", after.Len(), after.Canonical())
	}
}
