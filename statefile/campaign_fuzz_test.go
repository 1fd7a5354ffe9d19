package statefile_test

import (
	"bytes"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freightliner/providers"
	"freightliner/providers/fuzz"
	. "freightliner/statefile"
)

// The targets here are made to be fast, for campaigns of many millions: no
// disk, small inputs. Those in fuzz_test.go do a whole run with what opens.
// `make fuzz` runs each for FUZZTIME.

var castagnoliTable = crc32.MakeTable(crc32.Castagnoli)

// consistent holds for any bytes, and is quick about it: an error has a kind and
// a place; what opens, written anew, is a canonical file of the same state, and
// of the same bytes if it was canonical.
func consistent(t *testing.T, data []byte) {
	s, err := Parse(data)
	if err != nil {
		if !kind(err) {
			t.Fatalf("an error without a kind or a place: %v", err)
		}
		return
	}
	n, last := 0, ""
	for r := range s.All() {
		if r.Address <= last {
			t.Fatalf("%q behind %q", r.Address, last)
		}
		last = r.Address
		n++
	}
	if n != s.Len() {
		t.Fatalf("Len() = %d, All() has %d", s.Len(), n)
	}
	var b bytes.Buffer
	if s.WriteCanonical(&b) != nil {
		return // from a newer release: shown and not written
	}
	again, err := Parse(b.Bytes())
	if err != nil || !again.Canonical() || again.ID() != s.ID() || again.Len() != n {
		t.Fatalf("written anew it is another state: %v\n%s", err, b.Bytes())
	}
	if s.Canonical() && !bytes.Equal(b.Bytes(), data) {
		t.Fatalf("two files for the same facts:\n%s\n%s", data, b.Bytes())
	}
}

// FuzzDecode reads any bytes.
func FuzzDecode(f *testing.F) {
	names, err := filepath.Glob("testdata/*.state")
	check(f, "glob", err)
	for _, name := range names {
		data, err := os.ReadFile(name)
		check(f, "seed", err)
		f.Add(data)
	}
	f.Add([]byte(reseal(snapshotText)))
	fuzz.Run(f, func(t *testing.T, data []byte) {
		if len(data) <= 4096 {
			consistent(t, data)
		}
	})
}

// FuzzDecodeSealed puts any lines between header and end line, each with the
// checksum that it asks for, so that the fuzzer gets past them.
func FuzzDecodeSealed(f *testing.F) {
	for line := range strings.Lines(reseal(snapshotText)) {
		if strings.HasPrefix(line, `{"a":`) {
			f.Add([]byte(line[:len(line)-17]))
		}
	}
	f.Add([]byte(`{"a":"tree.c","k":"pod","colour":"blue","deep":{"a":[1,null]},"p":"00000000"`))
	header, _, _ := strings.Cut(reseal(snapshotText), "\n")
	fuzz.Run(f, func(t *testing.T, lines []byte) {
		if len(lines) > 2048 {
			return
		}
		data := append(make([]byte, 0, len(lines)+512), header+"\n"...)
		for line := range bytes.Lines(lines) {
			line = bytes.TrimSuffix(line, []byte("\n"))
			data = seal(append(data, line...), crc32.Checksum(line, castagnoliTable))
		}
		consistent(t, append(data, `{"end":"00000000"}`+"\n"...))
		consistent(t, append(data[:len(data):len(data)], `{"end":"c5b37de8"}`+"\n"...))
	})
}

// FuzzReplay puts any lines behind a snapshot, chained as a journal is.
func FuzzReplay(f *testing.F) {
	snapshot := reseal(snapshotText)
	base := providers.SHA256([]byte(snapshot))
	chain := snapshot[len(snapshot)-11 : len(snapshot)-3]
	run := `{"j":"run","run":"1","base":"` + string(base) + `","by":"","tool":""`
	for _, lines := range []string{
		`{"j":"done","n":1,"a":"tree.a","r":null` + "\n" + `{"j":"close","sync":400,"done":1,"failed":0`,
		`{"j":"done","n":1,"a":"tree.z","r":{"k":"tag","d":"` + string(digest(1)) + `"}`,
		`{"j":"intent","n":1,"a":"secret.a","op":"add","idem":"t"` + "\n" + `{"j":"fail","n":2,"a":"secret.a","class":"denied"`,
		`{"j":"close","done":0,"failed":0` + "\n" + run,
		"\x00\x00\x00",
	} {
		f.Add([]byte(lines), byte(0))
		f.Add([]byte(lines), byte(20))
	}
	fuzz.Run(f, func(t *testing.T, lines []byte, cut byte) {
		if len(lines) > 2048 {
			return
		}
		data, previous := append(make([]byte, 0, 4096), snapshot...), []byte(chain)
		add := func(line []byte) {
			sum := crc32.Update(crc32.Checksum(previous, castagnoliTable), castagnoliTable, line)
			data = seal(append(data, line...), sum)
			previous = data[len(data)-11 : len(data)-3]
		}
		add([]byte(run))
		for line := range bytes.Lines(lines) {
			add(bytes.TrimSuffix(line, []byte("\n")))
		}
		consistent(t, data[:len(data)-min(int(cut), len(data)-len(snapshot))])
	})
}

// seal closes a line with this checksum.
func seal(b []byte, sum uint32) []byte {
	b = append(b, `,"~":"`...)
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[sum>>shift&15])
	}
	return append(b, "\"}\n"...)
}

// FuzzMerge makes two branches of a state by the input's bytes, two a change,
// and compares Merge with the rule that it follows.
func FuzzMerge(f *testing.F) {
	base := map[string]Record{}
	for n := range 6 {
		r := tag(string(rune('a'+n))+":1", n)
		base[r.Address] = r
	}
	baseState, err := Parse(mustBuild(base))
	check(f, "base", err)
	digests := [4]providers.Digest{digest(1), digest(2), digest(3), digest(4)}
	f.Add([]byte{}, []byte{})
	f.Add([]byte{0, 1, 3, 9}, []byte{0, 1, 4, 12})
	f.Add([]byte{7, 2, 1, 0}, []byte{1, 5, 7, 2, 8, 3})
	fuzz.Run(f, func(t *testing.T, ours, theirs []byte) {
		if len(ours)+len(theirs) > 64 {
			return
		}
		change := func(program []byte) (*State, map[string]Record) {
			model := maps.Clone(base)
			for i := 0; i+1 < len(program); i += 2 {
				r := Record{Address: "tree.platform/" + string(rune('a'+program[i]%12)) + ":1", Kind: KindTag, Digest: digests[program[i+1]>>2&3]}
				switch program[i+1] & 3 {
				case 0:
					delete(model, r.Address)
					continue
				case 1:
					r.Source, r.Selection = digests[program[i+1]>>4&3], string(rune('a'+program[i+1]>>6))
				case 2:
					r.Protect = true
				}
				model[r.Address] = r
			}
			s, err := Build(baseState.Lineage(), maps.Values(model), nil)
			check(t, "build", err)
			return s, model
		}
		oursState, oursModel := change(ours)
		theirsState, theirsModel := change(theirs)
		want, conflict := merged(base, oursModel, theirsModel)
		out, conflicts, err := Merge(baseState, oursState, theirsState, nil)
		check(t, "merge", err)
		if conflict != (len(conflicts) > 0) || conflict != (out == nil) {
			t.Fatalf("the rule says conflict %v, Merge %v", conflict, conflicts)
		}
		if out != nil && !maps.Equal(want, byAddress(out)) {
			t.Fatalf("Merge gives %v, the rule %v", byAddress(out), want)
		}
		back, conflicts, err := Merge(baseState, theirsState, oursState, nil)
		if err != nil || (back == nil) != (out == nil) || len(conflicts) > 0 != conflict || out != nil && back.ID() != out.ID() {
			t.Fatalf("the sides exchanged: %v, %v", conflicts, err)
		}
		if out == nil {
			return
		}
		var b bytes.Buffer
		check(t, "write", out.WriteCanonical(&b))
		if again, err := Parse(b.Bytes()); err != nil || !again.Canonical() || again.ID() != out.ID() {
			t.Fatalf("the merge is written as another state, or none: %v\n%s", err, b.Bytes())
		}
	})
}
