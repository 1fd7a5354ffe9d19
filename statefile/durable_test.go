package statefile_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"strings"
	"syscall"
	"testing"

	"freightliner/providers"
	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// These tests are each about one sync that a run could do without and still
// pass most others, since what it protects is lost only in a later step.

// TestPowerCutInTheRunAfter cuts the power all through a run that follows
// another. Without the sync of the directory, the file that the first run put
// in its place would lose its name, and with it what the second made durable.
func TestPowerCutInTheRunAfter(t *testing.T) {
	d := diskWith(t, startRecords()...)
	want := byAddress(mustRead(t, d))
	secret := Record{Address: "secret.db", Kind: KindImage, Digest: digest(13)}
	j, _, l := open(t, d, "second", testOptions())
	check(t, "done", j.Done(Put(secret)))
	check(t, "intent", j.Intent("secret.other", "add_version", ""))
	want[secret.Address] = secret
	cases := 0
	for crashed := range d.Crashes(64) {
		cases++
		s := mustRead(t, crashed)
		if !maps.Equal(byAddress(s), want) || len(s.Intents()) != 1 {
			t.Fatalf("a durable intent, and what stood before it, are gone: %v, intents %v", byAddress(s), s.Intents())
		}
	}
	check(t, "fail", j.Fail("secret.other", providers.NotFound))
	check(t, "close", j.Close())
	check(t, "release", l.Release())
	for crashed := range d.Crashes(64) {
		cases++
		if s := mustRead(t, crashed); !maps.Equal(byAddress(s), want) || !s.Canonical() {
			t.Fatalf("after Close: canonical %v, %v", s.Canonical(), byAddress(s))
		}
	}
	t.Logf("%d crash states", cases)
}

// TestPowerCutBehindATornTail cuts the power after each operation of a run that
// begins by cutting a torn tail. Without the sync of that cut, the old bytes
// could come back behind new ones.
func TestPowerCutBehindATornTail(t *testing.T) {
	d := killed(t, diskWith(t, startRecords()...), func(j *Journal) {
		check(t, "done", j.Done(Put(tag("b:2", 4))))
		for n := range 8 {
			check(t, "done", j.Done(Put(tag("c:2", n))))
		}
	})
	d.Edit(file, func(b []byte) []byte {
		// The sector with the middle of the second done line was never written.
		second := bytes.Index(b, []byte(`"n":2,`))
		clear(b[second+30 : second+60])
		return b
	})
	if torn := mustRead(t, d).Torn(); torn < 800 {
		t.Fatalf("the tail has %d bytes, fewer than the next run writes over it", torn)
	}
	before := byAddress(mustRead(t, d))
	allowed := []map[string]Record{before, apply(before, Put(tag("c:2", 5)))}
	cases := 0
	d.After(func(op statefiletest.Op) {
		for crashed := range d.Crashes(32) {
			cases++
			if what := survives(crashed, allowed, false); what != "" {
				t.Errorf("crash after %v: %s\n%s", op, what, crashed.Bytes(file))
				return
			}
		}
	})
	j, _, l := open(t, d, "next", testOptions())
	check(t, "done", j.Done(Put(tag("c:2", 5))))
	check(t, "close", j.Close())
	check(t, "release", l.Release())
	if cases < 50 {
		t.Errorf("only %d crash states", cases)
	}
}

// TestACloseIsDurable: when Close has returned without an error, a power cut
// does not make an interrupted run out of it, compacted or not.
func TestACloseIsDurable(t *testing.T) {
	for _, class := range []providers.Class{providers.Denied, providers.Transient} {
		d := diskWith(t, startRecords()...)
		j, _, l := open(t, d, "r", testOptions())
		check(t, "intent", j.Intent("secret.db", "add_version", ""))
		check(t, "fail", j.Fail("secret.db", class))
		check(t, "close", j.Close())
		check(t, "release", l.Release())
		for crashed := range d.Crashes(32) {
			s := mustRead(t, crashed)
			if run, open := s.Interrupted(); open {
				t.Errorf("failed as %v: run %q, which closed, counts as interrupted", class, run.Run)
			}
			if want := class == providers.Transient; (len(s.Intents()) == 1) != want {
				t.Errorf("failed as %v: intents %v", class, s.Intents())
			}
		}
	}
}

// TestPowerCutAfterTheFirstIntent: the intent of the very first run is durable,
// and so is the file that it created.
func TestPowerCutAfterTheFirstIntent(t *testing.T) {
	d := statefiletest.New()
	l := mustLock(t, d)
	j, _, err := Begin(context.Background(), l, file, RunInfo{Run: "first"}, testOptions())
	check(t, "begin", err)
	check(t, "intent", j.Intent("secret.db", "add_version", ""))
	for crashed := range d.Crashes(32) {
		if s := mustRead(t, crashed); len(s.Intents()) != 1 {
			t.Errorf("the file exists %v, its intents are %v", s.Exists(), s.Intents())
		}
	}
	check(t, "abandon", j.Abandon())
	check(t, "release", l.Release())
}

// TestPowerCutAfterARescue: what Close says is in another file is there after a
// power cut, also when that file is one that the run continued in.
func TestPowerCutAfterARescue(t *testing.T) {
	for name, trouble := range map[string]func(*statefiletest.Disk){
		"the file was replaced": func(d *statefiletest.Disk) { d.Put(file, mustBuild(nil), 0o600) },
		"the disk gives errors": func(d *statefiletest.Disk) {
			d.Put(file, mustBuild(nil), 0o600) // so that it can not go there
			d.Fail(&statefiletest.Fault{At: 1, Verb: "write", Err: syscall.EIO})
		},
	} {
		d := diskWith(t, startRecords()...)
		want := byAddress(mustRead(t, d))
		j, _, l := open(t, d, "r", testOptions())
		check(t, "done", j.Done(Put(tag("c:1", 5))))
		trouble(d)
		_ = j.Done(Put(tag("c:2", 6)))
		want = apply(want, Put(tag("c:1", 5)), Put(tag("c:2", 6)))
		if err := j.Close(); err == nil || !strings.Contains(err.Error(), ".saved-") {
			t.Errorf("%s: %v", name, err)
		}
		check(t, "release", l.Release())
		for crashed := range d.Crashes(64) {
			found := false
			for _, saved := range crashed.Files() {
				if strings.Contains(saved, ".saved-") {
					s, err := Read(crashed, saved)
					found = err == nil && maps.Equal(byAddress(s), want)
				}
			}
			if !found {
				t.Errorf("%s: after a power cut no file has what the run did: %v", name, crashed.Files())
				break
			}
		}
	}
}

// TestSwappedBeforeItIsPutRight: what Begin puts right is the file that it read.
// One that came to its name since is not cut, and keeps its mode.
func TestSwappedBeforeItIsPutRight(t *testing.T) {
	d := killed(t, diskWith(t, startRecords()...), func(j *Journal) {
		check(t, "done", j.Done(Put(tag("b:2", 4))))
	})
	d.Edit(file, func(b []byte) []byte { return append(b, `{"j":"do`...) })
	theirs := append(d.Bytes(file), "and what they wrote"...)
	l := mustLock(t, d)
	d.After(func(op statefiletest.Op) {
		if op.Verb == "close" && op.Path == file {
			d.After(nil)
			d.Put(file, theirs, 0o640)
		}
	})
	_, _, err := Begin(t.Context(), l, file, RunInfo{Run: "r"}, testOptions())
	if !errors.Is(err, ErrReplaced) {
		t.Errorf("begin: %v, want ErrReplaced", err)
	}
	info, err := d.Lstat(file)
	check(t, "lstat", err)
	if string(d.Bytes(file)) != string(theirs) || info.Mode.Perm() != 0o640 {
		t.Errorf("their file was changed: mode %v\n%s", info.Mode, d.Bytes(file))
	}
	check(t, "release", l.Release())
}

// TestAppendedDuringCompaction: what somebody appends to the file once the close
// line is written leaves all bytes that we know as they were; only its size tells.
func TestAppendedDuringCompaction(t *testing.T) {
	d := diskWith(t, startRecords()...)
	want := apply(byAddress(mustRead(t, d)), Put(tag("c:1", 5)))
	j, _, l := open(t, d, "r", testOptions())
	check(t, "done", j.Done(Put(tag("c:1", 5))))
	var theirs []byte
	d.After(func(op statefiletest.Op) {
		if op.Verb == "link" { // the backup: the new file is complete, and not in its place
			d.After(nil)
			d.Edit(file, func(b []byte) []byte { return append(b, "theirs\n"...) })
			theirs = d.Bytes(file)
		}
	})
	if err := j.Close(); !errors.Is(err, ErrReplaced) {
		t.Errorf("close: %v, want ErrReplaced", err)
	}
	if theirs == nil || !bytes.Equal(theirs, d.Bytes(file)) {
		t.Errorf("their file was changed:\n%s", d.Bytes(file))
	}
	saved := false
	for _, name := range d.Files() {
		if strings.Contains(name, ".saved-") {
			s, err := Read(d, name)
			check(t, "read ours", err)
			saved = maps.Equal(byAddress(s), want)
		}
	}
	if !saved {
		t.Errorf("what the run did is in no file: %v", d.Files())
	}
	check(t, "release", l.Release())
}

// TestARescueKeepsIntentsDurable: a snapshot has no place for intents, so the run
// announces them again in the file that it goes on in, before it goes on.
func TestARescueKeepsIntentsDurable(t *testing.T) {
	d := diskWith(t, startRecords()...)
	j, _, l := open(t, d, "r", testOptions())
	check(t, "intent", j.Intent("secret.db", "add_version", "token"))
	d.Fail(&statefiletest.Fault{At: 1, Verb: "write", Err: syscall.EIO})
	if err := j.Done(Put(tag("c:1", 5))); !errors.Is(err, ErrNotDurable) {
		t.Fatalf("done: %v, want ErrNotDurable", err)
	}
	for crashed := range d.Crashes(64) {
		if s := mustRead(t, crashed); len(s.Intents()) != 1 || s.Intents()[0].Token != "token" {
			t.Errorf("intents %v\n%s", s.Intents(), crashed.Bytes(file))
			break
		}
	}
	if err := j.Close(); !errors.Is(err, ErrNotDurable) {
		t.Errorf("close: %v, want ErrNotDurable", err)
	}
	check(t, "release", l.Release())
}

// TestReplaceLooks: a file that is another than the one that the new state was
// made from stays, and so does one where there was none.
func TestReplaceLooks(t *testing.T) {
	d := diskWith(t, startRecords()...)
	ours, err := Build(mustRead(t, d).Lineage(), func(func(Record) bool) {}, nil)
	check(t, "build", err)
	theirs := d.Bytes(file)
	l := mustLock(t, d)
	for _, was := range []providers.Digest{"", digest(1)} {
		if _, err := Replace(t.Context(), l, file, was, ours, testOptions()); !errors.Is(err, ErrReplaced) {
			t.Errorf("made from %q: %v, want ErrReplaced", was, err)
		}
		if !bytes.Equal(d.Bytes(file), theirs) {
			t.Fatalf("made from %q: their file was replaced", was)
		}
	}
	was, err := FileDigest(d, file)
	check(t, "digest", err)
	_, err = Replace(t.Context(), l, file, was, ours, testOptions())
	check(t, "replace", err)
	if s := mustRead(t, d); s.Len() != 0 {
		t.Errorf("%d records after the replacement by a state without", s.Len())
	}
	check(t, "release", l.Release())
}

// TestAFailedCloseIsSaid: some file systems report a lost write only there.
func TestAFailedCloseIsSaid(t *testing.T) {
	d := diskWith(t, startRecords()...)
	want := apply(byAddress(mustRead(t, d)), Put(tag("c:1", 5)))
	j, _, l := open(t, d, "r", testOptions())
	check(t, "done", j.Done(Put(tag("c:1", 5))))
	d.Fail(&statefiletest.Fault{At: 1, Verb: "close", Err: syscall.EIO})
	if err := j.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("close: %v, want EIO", err)
	}
	if s := mustRead(t, d); !maps.Equal(byAddress(s), want) {
		t.Errorf("the state is %v", byAddress(s))
	}
	check(t, "release", l.Release())
}
