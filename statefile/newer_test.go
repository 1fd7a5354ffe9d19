package statefile_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// newerFiles are what releases after this one might write.
var newerFiles = map[string]string{
	"newer-version.state": `{"freightliner":"state","v":2,"written":"otherwise","~":"00000000"}
all of this is something else
`,
	"newer-feature.state": `{"freightliner":"state","v":1,"lineage":"l","features":["signed"],"~":"00000000"}
{"end":"00000000"}
`,
	"newer-member.state": `{"freightliner":"state","v":1,"lineage":"l","features":[],"~":"00000000"}
{"a":"tree.a","k":"tree","to":"x/a","p":"00000000","~":"00000000"}
{"a":"tree.b","k":"tree","colour":"blue","to":"x/b","protect":true,"deep":{"a":[1,null]},"p":"00000000","~":"00000000"}
{"end":"00000000"}
`,
	"newer-kind.state": `{"freightliner":"state","v":1,"lineage":"l","features":[],"~":"00000000"}
{"a":"pod.a","k":"pod","to":"x/a","p":"00000000","~":"00000000"}
{"a":"tree.b","k":"tree","p":"00000000","~":"00000000"}
{"end":"00000000"}
`,
	"newer-journal.state": `{"freightliner":"state","v":1,"lineage":"l","features":[],"~":"00000000"}
{"end":"00000000"}
{"j":"run","run":"r","base":"BASE","by":"","tool":"","~":"00000000"}
{"j":"vote","n":1,"a":"tree.b","~":"00000000"}
`,
	"newer-journal-member.state": `{"freightliner":"state","v":1,"lineage":"l","features":[],"~":"00000000"}
{"a":"tree.a","k":"tree","to":"x/a","p":"00000000","~":"00000000"}
{"end":"00000000"}
{"j":"run","run":"r","base":"BASE","by":"","tool":"","~":"00000000"}
{"j":"done","n":1,"a":"tree.b","r":{"k":"tree","colour":"blue"},"~":"00000000"}
`,
}

// TestNewerGolden writes the files of newer releases under -update, and holds
// them otherwise.
func TestNewerGolden(t *testing.T) {
	for name, text := range newerFiles {
		path := filepath.Join("testdata", name)
		if *update {
			check(t, "update", os.WriteFile(path, []byte(reseal(text)), 0o600))
		}
		got, err := os.ReadFile(path)
		check(t, "golden", err)
		if string(got) != reseal(text) {
			t.Errorf("%s is not what newerFiles says:\n%s", path, got)
		}
	}
}

// TestNothingReplacesANewerState: a file that a newer release wrote stays, also
// when what is to come in its place has nothing of what we do not understand.
func TestNothingReplacesANewerState(t *testing.T) {
	for name, text := range newerFiles {
		d := statefiletest.New()
		d.Put(file, []byte(reseal(text)), 0o600)
		was, err := FileDigest(d, file)
		check(t, "digest", err)
		ours, err := Build("l", func(func(Record) bool) {}, nil)
		check(t, "build", err)
		l := mustLock(t, d)
		if _, err := Replace(t.Context(), l, file, was, ours, testOptions()); !errors.Is(err, ErrNewer) {
			t.Errorf("%s: %v, want ErrNewer", name, err)
		}
		if string(d.Bytes(file)) != reseal(text) {
			t.Errorf("%s was replaced", name)
		}
		if s, err := Read(d, file); err == nil && !errors.Is(s.Writable(), ErrNewer) {
			t.Errorf("%s: Writable says %v", name, s.Writable())
		}
		check(t, "release", l.Release())
	}
}
