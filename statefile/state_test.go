package statefile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"freightliner/providers"
	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

func TestEveryKindAndMemberSurvives(t *testing.T) {
	d := diskWith(t, sample()...)
	s := mustRead(t, d)
	want := sample()
	slices.SortFunc(want, func(a, b Record) int { return strings.Compare(a.Address, b.Address) })
	if diff := cmp.Diff(want, records(s)); diff != "" {
		t.Errorf("All (-want +got):\n%s", diff)
	}
	for _, r := range want {
		got, ok := s.Lookup(r.Address)
		if diff := cmp.Diff(r, got); !ok || diff != "" {
			t.Errorf("Lookup(%q): found %v (-want +got):\n%s", r.Address, ok, diff)
		}
	}
	if _, ok := s.Lookup("tree.platform/team"); ok {
		t.Error("Lookup found a record for a prefix")
	}
	if s.Len() != len(want) || !s.Canonical() || s.Torn() != 0 || len(s.Lineage()) != 32 {
		t.Errorf("Len %d, Canonical %v, Torn %d, Lineage %q", s.Len(), s.Canonical(), s.Torn(), s.Lineage())
	}
	if want := providers.SHA256(d.Bytes(file)); s.ID() != want {
		t.Errorf("the id of a canonical file is %s, want the digest of its bytes %s", s.ID(), want)
	}
}

func TestUnderIsBytePrefix(t *testing.T) {
	d := killed(t, diskWith(t, sample()...), func(j *Journal) {
		check(t, "done", j.Done(Put(tag("team/api:1.25", 9)), Remove("tree.platform/team/api:1.3")))
	})
	s := mustRead(t, d)
	var got []string
	for r := range s.Under("tree.platform/team/api:") {
		got = append(got, r.Address)
	}
	want := []string{"tree.platform/team/api:1.2", "tree.platform/team/api:1.25"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Under (-want +got):\n%s", diff)
	}
	if got := collect(s.Under("zzz")); len(got) != 0 {
		t.Errorf("Under a prefix of nothing gives %v", got)
	}
}

// TestMissingFileIsTheEmptyState and reading it leaves no trace.
func TestMissingFileIsTheEmptyState(t *testing.T) {
	d := statefiletest.New()
	s := mustRead(t, d)
	if s.Exists() || s.Len() != 0 || s.ID() != "" || s.Lineage() != "" || !s.Canonical() || len(records(s)) != 0 {
		t.Errorf("exists %v, %d records, id %q", s.Exists(), s.Len(), s.ID())
	}
	if _, ok := s.Lookup("x"); ok || len(d.Files()) != 0 {
		t.Errorf("found %v, files %v", ok, d.Files())
	}
}

// TestIDIsThatOfTheCompactedFile: a plan made on a state with a journal fits
// the state after compaction.
func TestIDIsThatOfTheCompactedFile(t *testing.T) {
	d := killed(t, diskWith(t, sample()...), func(j *Journal) {
		check(t, "done", j.Done(Put(tag("new", 1)), Remove("image.nginx")))
	})
	before := mustRead(t, d)
	l := mustLock(t, d)
	_, err := Compact(context.Background(), l, file, testOptions())
	check(t, "compact", err)
	after := mustRead(t, d)
	if before.Canonical() || !after.Canonical() || before.ID() != after.ID() || before.ID() != providers.SHA256(d.Bytes(file)) {
		t.Errorf("id %s before, %s after, file %s", before.ID(), after.ID(), providers.SHA256(d.Bytes(file)))
	}
	if diff := cmp.Diff(records(before), records(after)); diff != "" {
		t.Errorf("records (-before +after):\n%s", diff)
	}
}

// TestSameFactsSameBytes: however a state came about, its bytes are the same.
func TestSameFactsSameBytes(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		name := rapid.StringMatching(`[a-c]{1,2}(["\\:é\x01][a-c])?`)
		d := statefiletest.New()
		model := map[string]Record{}
		for range rapid.IntRange(1, 4).Draw(r, "runs") {
			l := mustLock(t, d)
			j, _, err := Begin(context.Background(), l, file, RunInfo{Run: "r"}, Options{Clock: &clock{}, Rand: zeros{}})
			check(t, "begin", err)
			for range rapid.IntRange(0, 6).Draw(r, "changes") {
				c := Put(tag(name.Draw(r, "name"), rapid.IntRange(0, 3).Draw(r, "version")))
				if rapid.Bool().Draw(r, "remove") {
					c = Remove(c.Address)
				}
				check(t, "done", j.Done(c))
				model = apply(model, c)
			}
			check(t, "close", j.Close())
			check(t, "release", l.Release())
		}
		s := mustRead(t, d)
		if !s.Canonical() || s.Len() != len(model) || !maps.Equal(byAddress(s), model) {
			r.Fatalf("canonical %v, %d records, want %d (-want +got):\n%s", s.Canonical(), s.Len(), len(model), cmp.Diff(model, byAddress(s)))
		}
		direct := statefiletest.New()
		l := mustLock(t, direct)
		j, _, err := Begin(context.Background(), l, file, RunInfo{Run: "r"}, Options{Clock: &clock{}, Rand: zeros{}})
		check(t, "begin", err)
		for _, record := range model {
			check(t, "done", j.Done(Put(record)))
		}
		check(t, "close", j.Close())
		if diff := cmp.Diff(string(direct.Bytes(file)), string(d.Bytes(file))); diff != "" {
			r.Fatalf("two ways to the same facts differ:\n%s", diff)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestNoopChangesNoByte, not even the file's identity.
func TestNoopChangesNoByte(t *testing.T) {
	d := diskWith(t, sample()...)
	before, info := d.Bytes(file), mustStat(t, d)
	ops := d.Ops()
	j, _, l := open(t, d, "noop", testOptions())
	check(t, "close", j.Close())
	check(t, "release", l.Release())
	if !bytes.Equal(before, d.Bytes(file)) || mustStat(t, d) != info {
		t.Errorf("a run without changes changed the file: %v", d.Trace()[ops:])
	}
}

func mustStat(t *testing.T, fsys FS) Info {
	t.Helper()
	info, err := fsys.Lstat(file)
	check(t, "stat", err)
	return info
}

// TestRefusedRecords: what could not be read back is not written, and the
// journal goes on.
func TestRefusedRecords(t *testing.T) {
	d := diskWith(t)
	j, _, l := open(t, d, "r", testOptions())
	for _, c := range []Change{
		Put(Record{Kind: KindTag, Digest: digest(1)}),
		Put(Record{Address: "a\xff", Kind: KindTag}),
		Put(Record{Address: "a", Kind: "pod"}),
		Put(Record{Address: "a", Kind: KindTag, Digest: "sha256:short"}),
		Put(Record{Address: "a", Kind: KindTree, Destination: "\xff"}),
		Put(Record{Address: "a", Kind: KindTag, Unknown: `"x":1`}),
		Put(Record{Address: strings.Repeat("a", 1<<20), Kind: KindTag}),
		{Address: "a", Record: Record{Address: "b", Kind: KindTag}},
		{Removed: true},
	} {
		if err := j.Done(c); err == nil {
			t.Errorf("Done(%v) succeeded", c)
		}
	}
	for _, err := range []error{j.Intent("", "op", ""), j.Intent("a", "", ""), j.Intent("a", "op", "\xff"), j.Fail("", providers.Denied)} {
		if err == nil {
			t.Error("an intent or failure without address, operation or with a bad token was journalled")
		}
	}
	check(t, "a good one", j.Done(Put(tag("a", 1))))
	check(t, "close", j.Close())
	check(t, "release", l.Release())
	if got := mustRead(t, d).Len(); got != 1 {
		t.Errorf("%d records, want 1", got)
	}
	for _, err := range []error{j.Done(Put(tag("b", 1))), j.Intent("a", "b", ""), j.Fail("a", providers.Denied)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v, want ErrClosed", err)
		}
	}
}

func TestRunsAreChecked(t *testing.T) {
	d := diskWith(t)
	l := mustLock(t, d)
	for _, run := range []RunInfo{{}, {Run: "\xff"}, {Run: "r", Plan: "7"}, {Run: "r", By: strings.Repeat("x", 1<<20)}} {
		if _, _, err := Begin(context.Background(), l, file, run, testOptions()); err == nil {
			t.Errorf("Begin(%.60v) succeeded", fmt.Sprint(run))
		}
	}
	check(t, "release", l.Release())
	if _, _, err := Begin(context.Background(), l, file, RunInfo{Run: "r"}, testOptions()); err == nil {
		t.Error("Begin succeeded with a lock that was given back")
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := Begin(canceled, mustLock(t, d), file, RunInfo{Run: "r"}, testOptions()); !errors.Is(err, context.Canceled) {
		t.Errorf("Begin under an ended context: %v", err)
	}
}
