package statefile_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// edit makes a branch: random clustered changes to a state, compacted or, now
// and then, left with the journal of a killed run.
func edit(t *testing.T, r *rand.Rand, base []byte, run string) (data []byte, model map[string]Record) {
	t.Helper()
	d := statefiletest.New()
	d.Put(file, base, 0o600)
	j, s, _ := open(t, d, run, testOptions())
	model = byAddress(s)
	from := r.IntN(20)
	for range r.IntN(7) {
		c := Put(tag(fmt.Sprintf("a:%02d", from+r.IntN(6)), r.IntN(3)))
		if r.IntN(3) == 0 {
			c = Remove(c.Address)
		}
		check(t, "done", j.Done(c))
		model = apply(model, c)
	}
	if r.IntN(8) == 0 {
		check(t, "abandon", j.Abandon())
	} else {
		check(t, "close", j.Close())
	}
	return d.Bytes(file), model
}

// merged is the merge by record: per address the side that changed wins, and
// two different changes are a conflict.
func merged(base, ours, theirs map[string]Record) (out map[string]Record, conflict bool) {
	out = map[string]Record{}
	keys := maps.Clone(base)
	maps.Copy(keys, ours)
	maps.Copy(keys, theirs)
	for address := range keys {
		b, inBase := base[address]
		o, inOurs := ours[address]
		th, inTheirs := theirs[address]
		switch {
		case inOurs == inTheirs && o == th, inTheirs == inBase && th == b:
			if inOurs {
				out[address] = o
			}
		case inOurs == inBase && o == b:
			if inTheirs {
				out[address] = th
			}
		default:
			conflict = true
		}
	}
	return out, conflict
}

// TestTextMergesAreSafe merges random branches as a git host does, by text
// alone. A merge that git calls clean is the merge by record, or the file is
// refused; the same for git's union merge, which never conflicts.
func TestTextMergesAreSafe(t *testing.T) {
	dir := t.TempDir()
	names := []string{filepath.Join(dir, "ours"), filepath.Join(dir, "base"), filepath.Join(dir, "theirs")}
	clean, conflicts, refusedClean, unions := 0, 0, 0, 0
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 7))
		var start []Record
		for n := range 30 {
			if r.IntN(4) > 0 {
				start = append(start, tag(fmt.Sprintf("a:%02d", n), 0))
			}
		}
		base := diskWith(t, start...).Bytes(file)
		ours, oursModel := edit(t, r, base, "ours")
		theirs, theirsModel := edit(t, r, base, "theirs")
		want, conflict := merged(byAddress(readBytes(t, base)), oursModel, theirsModel)
		for i, data := range [][]byte{ours, base, theirs} {
			check(t, "write", os.WriteFile(names[i], data, 0o600))
		}
		d := statefiletest.New()

		text, err := exec.Command("git", append([]string{"merge-file", "-p"}, names...)...).Output()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() < 0 || exit.ExitCode() > 127) {
			t.Fatalf("git merge-file: %v", err)
		}
		d.Put(file, text, 0o600)
		s, readErr := Read(d, file)
		switch {
		case err != nil:
			conflicts++
			if !errors.Is(readErr, ErrConflictMarkers) {
				t.Fatalf("seed %d: git reports a conflict, Read says %v\n%s", seed, readErr, text)
			}
		case readErr != nil:
			refusedClean++
			if string(ours) == string(base) || string(theirs) == string(base) {
				t.Fatalf("seed %d: only one side changed, and the merge is refused: %v\n%s", seed, readErr, text)
			}
		default:
			clean++
			if conflict || s.Torn() > 0 || !maps.Equal(want, byAddress(s)) {
				t.Fatalf("seed %d: git merges cleanly to something else (conflict by record: %v, torn %d, -want +got):\n%s", seed, conflict, s.Torn(), cmp.Diff(want, byAddress(s)))
			}
		}

		text, err = exec.Command("git", append([]string{"merge-file", "-p", "--union"}, names...)...).Output()
		check(t, "union merge", err)
		d.Put(file, text, 0o600)
		if s, err := Read(d, file); err == nil {
			unions++
			if conflict || s.Torn() > 0 || !maps.Equal(want, byAddress(s)) {
				t.Fatalf("seed %d: a union merge is accepted and is something else (torn %d, -want +got):\n%s\n%s", seed, s.Torn(), cmp.Diff(want, byAddress(s)), text)
			}
		}
	}
	t.Logf("%d clean and right, %d conflicts, %d clean and refused, %d union merges right", clean, conflicts, refusedClean, unions)
	if clean < 15 || conflicts < 15 {
		t.Fatalf("too one-sided to show anything: %d clean, %d conflicts", clean, conflicts)
	}
}
