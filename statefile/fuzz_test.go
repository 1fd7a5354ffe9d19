package statefile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freightliner/providers/fuzz"
	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// seeds are the golden files and a few things that are no state.
func seeds(f *testing.F) [][]byte {
	names, err := filepath.Glob("testdata/*.state")
	check(f, "glob", err)
	out := [][]byte{nil, []byte("\xef\xbb\xbf{}"), []byte("<<<<<<< HEAD\n")}
	for _, name := range names {
		data, err := os.ReadFile(name)
		check(f, "seed", err)
		out = append(out, data)
	}
	return out
}

// readsSafely holds for any bytes: no panic; an error has a kind; what opens
// has consistent views, and compacts to a canonical file of the same records
// whose id was known before.
func readsSafely(t *testing.T, data []byte) {
	d := statefiletest.New()
	d.Put(file, data, 0o600)
	s, err := Read(d, file)
	report, verifyErr := Verify(d, file)
	if verifyErr != nil || (report.Err == nil) != (err == nil) || (len(report.Findings) == 0) != (err == nil) {
		t.Fatalf("Read says %v, Verify %v with findings %v", err, report.Err, report.Findings)
	}
	if err != nil {
		var damage *Damage
		if !errors.As(err, &damage) || damage.Line < 1 || damage.Offset > int64(len(data)) {
			t.Fatalf("an error without a place: %v", err)
		}
		return
	}
	model := byAddress(s)
	if len(model) != s.Len() {
		t.Fatalf("Len() = %d, All() has %d", s.Len(), len(model))
	}
	last := ""
	for r := range s.All() {
		if got, ok := s.Lookup(r.Address); !ok || got != r || r.Address <= last {
			t.Fatalf("Lookup(%q) = %v %v, All() has %v behind %q", r.Address, got, ok, r, last)
		}
		last = r.Address
	}
	l := mustLock(t, d)
	_, err = Compact(t.Context(), l, file, testOptions())
	if errors.Is(err, ErrNewer) || errors.Is(err, ErrUndecided) {
		return
	}
	check(t, "compact", err)
	after := mustRead(t, d)
	if !after.Canonical() || after.ID() != s.ID() || !maps.Equal(model, byAddress(after)) {
		t.Fatalf("compaction changed the state: canonical %v, id %s and %s", after.Canonical(), s.ID(), after.ID())
	}
	if s.Canonical() && !bytes.Equal(data, d.Bytes(file)) {
		t.Fatal("compaction changed a canonical file")
	}
}

// FuzzRead reads any bytes as they are.
func FuzzRead(f *testing.F) {
	for _, data := range seeds(f) {
		f.Add(data)
	}
	fuzz.Run(f, readsSafely)
}

// FuzzJournal puts any lines behind a snapshot, with their checksums put right,
// so that the fuzzer gets past them to what they say.
func FuzzJournal(f *testing.F) {
	f.Add(journalText)
	f.Add(journalText + `{"j":"close","done":2,"failed":0,"~":"00000000"}`)
	f.Add(newerFiles["newer-journal-member.state"])
	fuzz.Run(f, func(t *testing.T, journal string) {
		var b strings.Builder
		b.WriteString(snapshotText)
		for line := range strings.Lines(journal) {
			line = strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(line, `{"j":`) && len(line) >= 22 {
				b.WriteString(line + "\n")
			}
		}
		readsSafely(t, []byte(reseal(b.String())))
	})
}

// FuzzRecord puts any members into a record with its checksums put right.
func FuzzRecord(f *testing.F) {
	f.Add(`"k":"tree","to":"x"`)
	f.Add(`"k":"tag","d":"` + string(digest(1)) + `","s":"` + string(digest(2)) + `","sel":"a","protect":true`)
	f.Add(`"k":"pod","colour":"blue","deep":{"a":[1,null]}`)
	fuzz.Run(f, func(t *testing.T, members string) {
		if strings.Contains(members, "\n") {
			return
		}
		text := snapshotText[:strings.Index(snapshotText, `{"end"`)] + `{"a":"tree.c",` + members + `,"p":"00000000","~":"00000000"}` + "\n" + `{"end":"00000000"}` + "\n"
		var key struct{ A string }
		if json.Unmarshal([]byte(`{"a":"",`+members+"}"), &key) != nil {
			return // reseal wants JSON with an address; other bytes are FuzzRead's to try
		}
		readsSafely(t, []byte(reseal(text)))
	})
}
