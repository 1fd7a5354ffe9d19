package statefile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// TestCampaignMerges makes two random branches of a random state, merges them
// by `git merge-file`, plain and union, and by record, and compares: what git
// calls clean is the merge by record, or the file is refused; everything else is
// a conflict. What the merge by record writes is valid and canonical, whatever
// the branches were.
func TestCampaignMerges(t *testing.T) {
	started := time.Now()
	var clean, conflicts, refused, union, equal, journals atomic.Int64
	root := t.TempDir()
	seeded(t, sized(120, 10_000), func(seed uint64) error {
		r := rand.New(rand.NewPCG(seed, 13))
		dense := r.IntN(2) == 0
		base := randomState(r, dense)
		ours, oursModel := branch(r, base, dense, "ours")
		theirs, theirsModel := branch(r, base, dense, "theirs")
		if bytes.Contains(ours, []byte(`{"j":`)) || bytes.Contains(theirs, []byte(`{"j":`)) {
			journals.Add(1)
		}
		want, conflict := merged(base, oursModel, theirsModel)
		byRecord, err := mergeByRecord(mustBuild(base), ours, theirs, want, conflict)
		if err != nil {
			return err
		}
		if !conflict {
			equal.Add(1)
		}
		dir := filepath.Join(root, fmt.Sprint(seed))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		defer os.RemoveAll(dir) // the temporary directory goes anyway
		names := []string{filepath.Join(dir, "ours"), filepath.Join(dir, "base"), filepath.Join(dir, "theirs")}
		for i, data := range [][]byte{ours, mustBuild(base), theirs} {
			if err := os.WriteFile(names[i], data, 0o600); err != nil {
				return err
			}
		}
		text, gitConflict, err := mergeFile(names)
		if err != nil {
			return err
		}
		s, readErr := Parse(text)
		switch {
		case gitConflict:
			conflicts.Add(1)
			if !errors.Is(readErr, ErrConflictMarkers) {
				return fmt.Errorf("git reports a conflict, reading says %v", readErr)
			}
		case readErr != nil:
			refused.Add(1)
			if !kind(readErr) {
				return fmt.Errorf("a clean merge is refused without a kind: %v", readErr)
			}
		case conflict || s.Torn() > 0 || !maps.Equal(want, byAddress(s)):
			return fmt.Errorf("git merges cleanly to something else than by record (conflict by record: %v, torn %d)\n%s", conflict, s.Torn(), text)
		default:
			clean.Add(1)
			if s.Canonical() && !bytes.Equal(text, byRecord) {
				return fmt.Errorf("the text merge and the merge by record are the same state in different bytes:\n%s\n%s", text, byRecord)
			}
		}
		text, _, err = mergeFile(names, "--union")
		if err != nil {
			return err
		}
		if s, err := Parse(text); err == nil {
			union.Add(1)
			if conflict || s.Torn() > 0 || !maps.Equal(want, byAddress(s)) {
				return fmt.Errorf("a union merge is accepted and is something else (conflict by record: %v, torn %d)\n%s", conflict, s.Torn(), text)
			}
		}
		return nil
	})
	told(t, started, clean.Load()+conflicts.Load()+refused.Load(),
		"by text %d clean and right, %d conflicts, %d clean and refused; by union %d accepted and right, the rest refused; by record %d clean; %d with a journal; 0 silent errors",
		clean.Load(), conflicts.Load(), refused.Load(), union.Load(), equal.Load(), journals.Load())
	if !*campaignOnly && (clean.Load() == 0 || conflicts.Load() == 0) {
		t.Errorf("too one-sided to show anything")
	}
}

// mergeByRecord merges as the merge driver does and gives the bytes that it
// would hand to git; nil in a conflict.
func mergeByRecord(base, ours, theirs []byte, want map[string]Record, conflict bool) ([]byte, error) {
	var states [3]*State
	for i, data := range [][]byte{base, ours, theirs} {
		s, err := Parse(data)
		if err != nil {
			return nil, err
		}
		states[i] = s
	}
	out, conflicts, err := Merge(states[0], states[1], states[2], nil)
	if err != nil {
		return nil, err
	}
	if conflict != (len(conflicts) > 0) || conflict != (out == nil) {
		return nil, fmt.Errorf("the model says conflict %v, Merge has %v", conflict, conflicts)
	}
	// What -resolve=live does: every conflict is decided, here for theirs.
	resolved, left, err := Merge(states[0], states[1], states[2], func(c Conflict) (*Record, bool) { return c.Theirs, true })
	if err != nil || len(left) > 0 {
		return nil, fmt.Errorf("resolved: %v, %v left", err, left)
	}
	if _, err := written(resolved); err != nil || out == nil {
		return nil, err
	}
	data, err := written(out)
	if err != nil {
		return nil, err
	}
	if got, _ := Parse(data); !maps.Equal(want, byAddress(got)) {
		return nil, fmt.Errorf("Merge gives %v, the model %v", byAddress(got), want)
	}
	return data, nil
}

// written is the state as the merge driver writes it, checked.
func written(s *State) ([]byte, error) {
	var b bytes.Buffer
	if err := s.WriteCanonical(&b); err != nil {
		return nil, err
	}
	again, err := Parse(b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("the merge wrote an invalid file: %w\n%s", err, b.Bytes())
	}
	if !again.Canonical() || again.ID() != s.ID() {
		return nil, fmt.Errorf("the merge wrote a file that is not the merged state:\n%s", b.Bytes())
	}
	return b.Bytes(), nil
}

// mergeFile merges the three files by text. Git ends with the number of
// conflicts, at most 127.
func mergeFile(names []string, args ...string) (text []byte, conflict bool, err error) {
	text, err = exec.Command("git", slices.Concat([]string{"merge-file", "-p"}, args, names)...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 && exit.ExitCode() <= 127 {
		return text, true, nil
	}
	return text, false, err
}

// randomState has records of all kinds in realistic repositories; dense ones
// are few and close together.
func randomState(r *rand.Rand, dense bool) map[string]Record {
	model := map[string]Record{}
	repositories, tags := 3+r.IntN(12), 1+r.IntN(20)
	if dense {
		repositories, tags = 1+r.IntN(2), 1+r.IntN(15)
	}
	put := func(rec Record) { model[rec.Address] = rec }
	put(Record{Address: "tree.platform", Kind: KindTree, Destination: "mirror.example/acme", Selection: "5b7f"})
	for i := range repositories {
		put(Record{Address: fmt.Sprintf("tree.platform/team/app-%02d", i), Kind: KindRepo, Destination: fmt.Sprintf("mirror.example/acme/team/app-%02d", i), Created: i%3 == 0})
		for n := range tags {
			if r.IntN(5) > 0 {
				put(randomTag(r, i, n))
			}
		}
	}
	return model
}

func randomTag(r *rand.Rand, repository, n int) Record {
	rec := Record{Address: fmt.Sprintf("tree.platform/team/app-%02d:v1.%d.0", repository, n), Kind: KindTag, Digest: digest(r.IntN(50))}
	if r.IntN(4) == 0 {
		rec.Source, rec.Selection = digest(100+r.IntN(50)), []string{"linux/amd64", "linux/arm64", `odd "\` + "\x01"}[r.IntN(3)]
	}
	return rec
}

// branch is base with random changes, canonical or, now and then, with the
// journal of a killed run.
func branch(r *rand.Rand, base map[string]Record, dense bool, run string) ([]byte, map[string]Record) {
	var changes []Change
	keys := slices.Sorted(maps.Keys(base))
	count, from := r.IntN(12), r.IntN(len(keys))
	for range count {
		address := keys[r.IntN(len(keys))]
		if dense {
			address = keys[min(len(keys)-1, from+r.IntN(5))]
		}
		rec := base[address]
		switch r.IntN(6) {
		case 0:
			changes = append(changes, Remove(address))
		case 1, 2: // a new tag, which may be the other branch's too
			changes = append(changes, Put(randomTag(r, r.IntN(3), 20+r.IntN(6))))
		case 3: // another member of the record's body
			rec.Selection = []string{"", "linux/amd64", "linux/s390x"}[r.IntN(3)]
			changes = append(changes, Put(rec))
		default:
			if rec.Kind == KindTag {
				rec.Digest = digest(200 + r.IntN(4))
			} else {
				rec.Destination = fmt.Sprintf("mirror-%d.example/acme", r.IntN(3))
			}
			changes = append(changes, Put(rec))
		}
	}
	model := apply(base, changes...)
	if r.IntN(8) > 0 || len(changes) == 0 {
		return mustBuild(model), model
	}
	d := statefiletest.New()
	d.Put(file, mustBuild(base), 0o600)
	l, err := AcquireLock(context.Background(), d, file, Holder{PID: 1}, LockOptions{})
	must(err)
	j, _, err := Begin(context.Background(), l, file, RunInfo{Run: run}, testOptions())
	must(err)
	for _, c := range changes {
		must(j.Done(c))
	}
	must(j.Abandon())
	return d.Bytes(file), model
}
