package statefile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// goldenRun makes the states of testdata: the journal of a run that was killed,
// the same run closed, and what compaction makes of it.
func goldenRun(t *testing.T) (killedBytes, closedBytes, canonical []byte) {
	t.Helper()
	d := diskWith(t, sample()...)
	l := mustLock(t, d)
	run := RunInfo{Run: "run-2", Plan: digest(99), By: "ci@runner-7", Tool: "0.1.0"}
	j, _, err := Begin(t.Context(), l, file, run, testOptions())
	check(t, "begin", err)
	check(t, "done", j.Done(Put(tag("team/api:1.2", 41)), Put(tag("team/api:1.4", 42))))
	check(t, "intent", j.Intent("image.nginx", "put_tag", "token-1"))
	check(t, "remove", j.Done(Remove("tree.platform/team/api:1.3")))
	check(t, "fail", j.Fail("tree.platform/team/api:1.5", providers.Throttled))
	killedBytes = d.Bytes(file)
	check(t, "settle", j.Done(Put(sample()[0])))
	d.After(func(op statefiletest.Op) {
		if op.Verb == "close" && op.Path == file && closedBytes == nil {
			closedBytes = d.Bytes(file)
		}
	})
	check(t, "close", j.Close())
	return killedBytes, closedBytes, d.Bytes(file)
}

// TestGolden holds the bytes of version 1 for ever.
func TestGolden(t *testing.T) {
	killedBytes, closedBytes, canonical := goldenRun(t)
	for name, got := range map[string][]byte{
		"v1.state": canonical, "v1-killed.state": killedBytes, "v1-closed.state": closedBytes,
	} {
		path := filepath.Join("testdata", name)
		if *update {
			check(t, "update", os.WriteFile(path, got, 0o600))
		}
		want, err := os.ReadFile(path)
		check(t, "golden", err)
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
		if diff := cmp.Diff(string(want), reseal(string(want))); diff != "" {
			t.Errorf("%s: a writer made from docs/state-format.md gives other checksums:\n%s", path, diff)
		}
		for line := range bytes.Lines(got) {
			if !json.Valid(line) || !bytes.HasSuffix(line, []byte("\n")) {
				t.Errorf("%s: not a JSON line: %q", path, line)
			}
		}
	}
}

func TestGoldenFilesRead(t *testing.T) {
	var all []string
	for _, name := range []string{"v1.state", "v1-killed.state", "v1-closed.state"} {
		s := mustRead(t, diskOf(t, name))
		run, interrupted := s.Interrupted()
		all = append(all, fmt.Sprintf("%s: %d records, canonical %v, torn %d, interrupted %v %s %s, intents %v",
			name, s.Len(), s.Canonical(), s.Torn(), interrupted, run.Run, run.Plan.Short(), s.Intents()))
	}
	want := []string{
		"v1.state: 11 records, canonical true, torn 0, interrupted false  , intents []",
		"v1-killed.state: 11 records, canonical false, torn 0, interrupted true run-2 " + digest(99).Short() + ", intents [{image.nginx put_tag token-1}]",
		"v1-closed.state: 11 records, canonical false, torn 0, interrupted false run-2 " + digest(99).Short() + ", intents []",
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func diskOf(t *testing.T, name string) *statefiletest.Disk {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	check(t, "golden", err)
	d := statefiletest.New()
	d.Put(file, data, 0o600)
	return d
}

// TestNewerFiles: what a newer release may write is told apart from damage.
// A newer version or feature can not be read; new kinds and members can be
// shown and not be written.
func TestNewerFiles(t *testing.T) {
	for _, c := range []struct{ name, says string }{
		{"newer-version.state", "it has format version 2, this release reads version 1"},
		{"newer-feature.state", `it needs features that this release does not have: "signed"`},
		{"newer-journal.state", "the journal has a line that this release does not know"},
	} {
		d := diskOf(t, c.name)
		_, err := Read(d, file)
		if !errors.Is(err, ErrNewer) || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.says) || providers.HintOf(err) == "" {
			t.Errorf("%s: %v, want ErrNewer with a hint and %q", c.name, err, c.says)
		}
		if providers.ClassOf(err) != providers.Unsupported {
			t.Errorf("%s: class %v", c.name, providers.ClassOf(err))
		}
	}
	for _, name := range []string{"newer-member.state", "newer-kind.state", "newer-journal-member.state"} {
		d := diskOf(t, name)
		s := mustRead(t, d)
		if s.Len() != 2 {
			t.Errorf("%s: %d records, want 2", name, s.Len())
		}
		before := d.Bytes(file)
		_, _, err := Begin(t.Context(), mustLock(t, d), file, RunInfo{Run: "r"}, testOptions())
		if !errors.Is(err, ErrNewer) || !bytes.Equal(before, d.Bytes(file)) {
			t.Errorf("%s: Begin says %v, want ErrNewer and the file untouched", name, err)
		}
	}
	s := mustRead(t, diskOf(t, "newer-member.state"))
	got, _ := s.Lookup("tree.b")
	want := Record{Address: "tree.b", Kind: KindTree, Destination: "x/b", Protect: true, Unknown: `"colour":"blue","deep":{"a":[1,null]}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a record with unknown members (-want +got):\n%s", diff)
	}
}
