package statefile_test

import (
	"bytes"
	"hash/crc32"
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
	header, rest, _ := strings.Cut(snapshotText, "\n")
	first, _, _ := strings.Cut(rest, "\n")
	snapshot := reseal(header + "\n" + first + "\n" + `{"end":"00000000"}` + "\n")
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
	type model [8]Record // by the letter of the address; without a kind there is none
	record := func(n int) Record {
		return Record{Address: "tree." + string(rune('a'+n)), Kind: KindTree, Destination: "x"}
	}
	base := model{record(0), record(1), record(2), record(3)}
	stateOf := func(t testing.TB, m *model) *State {
		s, err := Build("0", func(yield func(Record) bool) {
			for _, r := range m {
				if r.Kind != "" && !yield(r) {
					return
				}
			}
		}, nil)
		check(t, "build", err)
		return s
	}
	type branch struct {
		model model
		state *State
	}
	// A mutation often changes one side only: what the other stands for is known.
	branches := map[string]branch{}
	follow := func(t testing.TB, program []byte) branch {
		b, ok := branches[string(program)]
		if ok {
			return b
		}
		b.model = base
		for i := 0; i+1 < len(program); i += 2 {
			n, how := int(program[i]%8), program[i+1]
			r := record(n)
			switch how & 3 {
			case 0:
				r = Record{}
			case 1:
				r = Record{Address: r.Address, Kind: KindTag, Digest: digest(int(how >> 2 & 3)), Selection: string(rune('a' + how>>6))}
			case 2:
				r.Protect = true
			case 3:
				r.Destination = string(rune('a' + how>>2))
			}
			b.model[n] = r
		}
		b.state = stateOf(t, &b.model)
		if len(branches) == 10_000 {
			clear(branches)
		}
		branches[string(program)] = b
		return b
	}
	baseState := stateOf(f, &base)
	f.Add([]byte{}, []byte{})
	f.Add([]byte{0, 1, 3, 9}, []byte{0, 1, 4, 12})
	f.Add([]byte{7, 2, 1, 0}, []byte{1, 5, 7, 2, 0, 3})
	fuzz.Run(f, func(t *testing.T, oursDone, theirsDone []byte) {
		if len(oursDone)+len(theirsDone) > 64 {
			return
		}
		ours, theirs := follow(t, oursDone), follow(t, theirsDone)
		var want model
		conflict := false
		for i, b := range base {
			switch o, th := ours.model[i], theirs.model[i]; {
			case o == th || th == b:
				want[i] = o
			case o == b:
				want[i] = th
			default:
				conflict = true
			}
		}
		out, conflicts, err := Merge(baseState, ours.state, theirs.state, nil)
		check(t, "merge", err)
		if conflict != (len(conflicts) > 0) || conflict != (out == nil) {
			t.Fatalf("the rule says conflict %v, Merge %v", conflict, conflicts)
		}
		if out != nil {
			var got model
			for r := range out.All() {
				got[r.Address[len("tree.")]-'a'] = r
			}
			if got != want {
				t.Fatalf("Merge gives %v, the rule %v", got, want)
			}
		}
		if out != nil && len(oursDone)%4 < 2 { // every other time the one, else the other
			var b bytes.Buffer
			check(t, "write", out.WriteCanonical(&b))
			if again, err := Parse(b.Bytes()); err != nil || !again.Canonical() || again.ID() != out.ID() {
				t.Fatalf("the merge is written as another state, or none: %v\n%s", err, b.Bytes())
			}
			return
		}
		back, conflicts, err := Merge(baseState, theirs.state, ours.state, nil)
		if err != nil || (back == nil) != (out == nil) || len(conflicts) > 0 != conflict || out != nil && back.ID() != out.ID() {
			t.Fatalf("the sides exchanged: %v, %v", conflicts, err)
		}
	})
}
