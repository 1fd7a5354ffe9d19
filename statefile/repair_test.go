package statefile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// TestRepairKeepsWhatIsWhole: per damage, which records are kept and which
// lines are named as dropped.
func TestRepairKeepsWhatIsWhole(t *testing.T) {
	snapshot, whole := reseal(snapshotText), reseal(snapshotText+journalText)
	l := strings.SplitAfter(whole, "\n")
	journal := whole[len(snapshot):]
	for name, c := range map[string]struct {
		text, keeps string
		drops       []int
	}{
		"nothing wrong":     {snapshot, "tree.a tree.b", nil},
		"a journal":         {whole, "tree.b tree.c", []int{0}}, // line 0: the open intent
		"bad record":        {strings.Replace(snapshot, "x/a", "x/q", 1), "tree.b", []int{2}},
		"lost record":       {l[0] + l[2] + l[3], "tree.b", nil},
		"moved records":     {l[0] + l[2] + l[1] + l[3], "tree.a tree.b", nil},
		"truncated":         {snapshot[:len(l[0])+len(l[1])+20], "tree.a", []int{3}},
		"no line feed":      {strings.TrimSuffix(l[0]+l[1], "\n"), "tree.a", nil},
		"no header":         {strings.Join(l[1:4], ""), "tree.a tree.b", []int{1}},
		"broken header":     {strings.Replace(snapshot, `"l"`, `"m"`, 1), "tree.a tree.b", []int{1}},
		"empty":             {"", "", []int{1}},
		"CRLF and a mark":   {"\xef\xbb\xbf" + strings.ReplaceAll(whole, "\n", "\r\n"), "tree.b tree.c", []int{0}},
		"bad journal line":  {strings.Replace(whole, "x/c", "x/q", 1), "tree.b", []int{6, 0}},
		"journal line lost": {strings.Join(l[:5], "") + l[6] + l[7], "tree.b", []int{6}},
		"foreign journal":   {reseal(strings.Replace(snapshotText, "x/a", "x/z", 1)) + journal, "tree.b tree.c", []int{0}},
		"conflict":          {l[0] + "<<<<<<< ours\n" + l[1] + "=======\n" + reseal(strings.Replace(snapshotText, "x/a", "x/z", 1))[len(l[0]):len(l[0])+len(l[1])] + ">>>>>>> theirs\n" + l[2] + l[3], "tree.a tree.b", []int{2, 4, 5, 6}},
		"no state at all":   {"terraform {\n}\n", "", []int{1, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			d := statefiletest.New()
			d.Put(file, []byte(c.text), 0o600)
			before, err := FileDigest(d, file)
			check(t, "digest", err)
			s, dropped, err := Repair(d, file, &counter{})
			check(t, "repair", err)
			var lines []int
			for _, drop := range dropped {
				lines = append(lines, drop.Line)
			}
			if got := strings.Join(addresses(s), " "); got != c.keeps {
				t.Errorf("keeps %q, want %q", got, c.keeps)
			}
			if diff := cmp.Diff(c.drops, lines); diff != "" {
				t.Errorf("drops %v\nlines (-want +got):\n%s", dropped, diff)
			}
			if string(d.Bytes(file)) != c.text {
				t.Error("Repair wrote to the file")
			}
			l := mustLock(t, d)
			_, err = Replace(t.Context(), l, file, before, s, testOptions())
			check(t, "replace", err)
			after := mustRead(t, d)
			if after.ID() != s.ID() || !after.Canonical() || after.Lineage() == "" {
				t.Errorf("after Replace: id %s, want %s, lineage %q", after.ID(), s.ID(), after.Lineage())
			}
			if bak := d.Bytes(".freightliner/" + file + ".bak"); string(bak) != c.text {
				t.Errorf("the backup is %q", bak)
			}
			_, err = Replace(t.Context(), l, file, before, s, testOptions())
			if !errors.Is(err, ErrReplaced) && after.ID() != before {
				t.Errorf("a second Replace of what is not there any more: %v", err)
			}
		})
	}
	if _, _, err := Repair(statefiletest.New(), file, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, _, err := Repair(diskOf(t, "newer-version.state"), file, nil); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer file: %v", err)
	}
}

// TestMergeByRecord against the model of the text-merge test, over random
// branches; its result is always a valid file.
func TestMergeByRecord(t *testing.T) {
	conflicted := 0
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 9))
		var start []Record
		for n := range 12 {
			start = append(start, tag(fmt.Sprintf("a:%02d", n), 0))
		}
		base := diskWith(t, start...).Bytes(file)
		ours, oursModel := edit(t, r, base, "ours")
		theirs, theirsModel := edit(t, r, base, "theirs")
		b, o, th := readBytes(t, base), readBytes(t, ours), readBytes(t, theirs)
		want, conflict := merged(byAddress(b), oursModel, theirsModel)
		s, conflicts, err := Merge(b, o, th, nil)
		check(t, "merge", err)
		if (len(conflicts) > 0) != conflict || (s == nil) != conflict {
			t.Fatalf("seed %d: conflicts %v, want some: %v", seed, conflicts, conflict)
		}
		if !conflict {
			if !maps.Equal(want, byAddress(s)) {
				t.Fatalf("seed %d (-want +got):\n%s", seed, cmp.Diff(want, byAddress(s)))
			}
			continue
		}
		conflicted++
		s, conflicts, err = Merge(b, o, th, func(c Conflict) (*Record, bool) { return c.Theirs, true })
		check(t, "merge", err)
		for address, record := range theirsModel {
			if had, ok := byAddress(b)[address]; (!ok || had != record) && byAddress(s)[address] != record {
				t.Fatalf("seed %d: %s is not as theirs has it", seed, address)
			}
		}
		var out bytes.Buffer
		check(t, "write", s.WriteCanonical(&out))
		if again := readBytes(t, out.Bytes()); again.ID() != s.ID() || len(conflicts) > 0 {
			t.Fatalf("seed %d: what was written is not what was merged; conflicts %v", seed, conflicts)
		}
	}
	if conflicted < 15 || conflicted > 450 {
		t.Fatalf("%d of 500 merges conflict, too one-sided to show anything", conflicted)
	}
}

func TestMergeSaysWhatConflicts(t *testing.T) {
	build := func(lineage string, records ...Record) *State {
		s, err := Build(lineage, slices.Values(records), &counter{})
		check(t, "build", err)
		return s
	}
	one, two, three := tag("a:1", 1), tag("a:1", 2), tag("a:1", 3)
	base, ours, theirs := build("l", one), build("l", two), build("l")
	_, conflicts, err := Merge(base, ours, theirs, nil)
	check(t, "merge", err)
	want := []Conflict{{Address: one.Address, Base: &one, Ours: &two}}
	if diff := cmp.Diff(want, conflicts); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if got, want := conflicts[0].String(), "tree.platform/a:1: ours changed it ("+two.Digest.Short()+"), theirs removed it"; got != want {
		t.Errorf("the conflict reads %q, want %q", got, want)
	}
	missing := mustRead(t, statefiletest.New())
	_, conflicts, err = Merge(missing, build("l", two), build("l", three), nil)
	if err != nil || len(conflicts) != 1 || !strings.Contains(conflicts[0].String(), "ours added it") {
		t.Errorf("without a base: %v %v", conflicts, err)
	}
	_, _, err = Merge(base, ours, build("other"), nil)
	if !errors.Is(err, ErrLineage) {
		t.Errorf("another lineage: %v", err)
	}
	open := killed(t, diskWith(t), func(j *Journal) { check(t, "intent", j.Intent("x", "op", "")) })
	undecided := mustRead(t, open)
	if _, _, err := Merge(missing, undecided, undecided, nil); !errors.Is(err, ErrUndecided) {
		t.Errorf("open intents: %v", err)
	}
	if _, _, err := Merge(base, ours, theirs, func(Conflict) (*Record, bool) { r := tag("b", 1); return &r, true }); err == nil {
		t.Error("a conflict was resolved by the record of another address")
	}
	s, _, err := Merge(base, ours, theirs, func(Conflict) (*Record, bool) { return nil, true })
	if err != nil || s.Len() != 0 {
		t.Errorf("resolved by removal: %v, %v", s, err)
	}
	var diffs []string
	for d := range Diff(base, build("l", two, tag("b", 1))) {
		diffs = append(diffs, fmt.Sprintf("%s %v %v", d.Address, d.Old != nil, d.New != nil))
	}
	if diff := cmp.Diff([]string{"tree.platform/a:1 true true", "tree.platform/b false true"}, diffs); diff != "" {
		t.Errorf("Diff (-want +got):\n%s", diff)
	}
	if _, err := Build("l", slices.Values([]Record{one, two}), nil); err == nil {
		t.Error("two records at one address were built into a state")
	}
}

// TestReplaceNeedsTheLock and makes a file where there was none.
func TestReplaceNeedsTheLock(t *testing.T) {
	s, err := Build("", slices.Values(sample()), &counter{})
	check(t, "build", err)
	d := statefiletest.New()
	if _, err := Replace(t.Context(), nil, file, "", s, testOptions()); err == nil {
		t.Error("Replace without a lock")
	}
	l := mustLock(t, d)
	_, err = Replace(t.Context(), l, file, "", s, testOptions())
	check(t, "replace", err)
	if diff := cmp.Diff(byAddress(s), byAddress(mustRead(t, d))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDefaultsOfTheMachine: without a random source and clock, lineages differ
// and lines still become durable by themselves.
func TestDefaultsOfTheMachine(t *testing.T) {
	one, err := Build("", slices.Values(sample()), nil)
	check(t, "build", err)
	two, err := Build("", slices.Values(sample()), nil)
	check(t, "build", err)
	if one.Lineage() == two.Lineage() || len(one.Lineage()) != 32 {
		t.Errorf("two new states have lineages %q and %q", one.Lineage(), two.Lineage())
	}
	d := diskWith(t)
	synced := make(chan struct{}, 10)
	d.After(func(op statefiletest.Op) {
		if op.Verb == "sync" && op.Path == file {
			synced <- struct{}{}
		}
	})
	j, _, l := open(t, d, "r", Options{})
	check(t, "first", j.Done(Put(tag("a", 1))))
	<-synced
	check(t, "second", j.Done(Put(tag("b", 1))))
	<-synced // after 100 ms of real time
	check(t, "close", j.Close())
	check(t, "release", l.Release())
}

// TestNowhereToGo: when no file takes the state and nobody can print it, Close
// says exactly that, and the old state is whole.
func TestNowhereToGo(t *testing.T) {
	for _, lastResort := range []io.Writer{nil, brokenPrinter{}} {
		d := diskWith(t, sample()...)
		opts := testOptions()
		opts.LastResort = lastResort
		j, s, l := open(t, d, "r", opts)
		d.Fail(&statefiletest.Fault{At: 1, Verb: "write", Err: syscall.ENOSPC, Always: true})
		if err := j.Done(Put(tag("a", 1))); !errors.Is(err, ErrNotDurable) {
			t.Errorf("Done says %v", err)
		}
		err := j.Close()
		want := "no file could take the state"
		if lastResort != nil {
			want = "print the state: out of paper"
		}
		if !errors.Is(err, ErrNotDurable) || !strings.Contains(err.Error(), want) {
			t.Errorf("Close says %v, want %q in it", err, want)
		}
		d.Fail(nil)
		check(t, "release", l.Release())
		if after := mustRead(t, d); after.ID() != s.ID() {
			t.Error("the old state is not whole")
		}
	}
}

type brokenPrinter struct{}

func (brokenPrinter) Write([]byte) (int, error) { return 0, errors.New("out of paper") }
