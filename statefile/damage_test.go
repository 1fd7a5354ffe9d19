package statefile_test

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// damaged is the killed golden state, and the states that its valid prefixes
// stand for.
func damaged(t *testing.T) (data []byte, prefixes map[int]map[string]Record, durable int) {
	t.Helper()
	data, err := os.ReadFile("testdata/v1-killed.state")
	check(t, "golden", err)
	prefixes = map[int]map[string]Record{}
	end := bytes.Index(data, []byte(`{"j":`))
	for at := end; at <= len(data); at++ {
		if data[at-1] == '\n' {
			prefixes[at] = byAddress(readBytes(t, data[:at]))
		}
	}
	if len(prefixes) != 7 {
		t.Fatalf("the golden file has %d journal lines, want 6", len(prefixes)-1)
	}
	// The last sync mark: everything before it was durable.
	mark := bytes.LastIndex(data, []byte(`"sync":`))
	for _, c := range data[mark+len(`"sync":`):] {
		if c < '0' || c > '9' {
			break
		}
		durable = 10*durable + int(c-'0')
	}
	return data, prefixes, durable
}

func readBytes(t *testing.T, data []byte) *State {
	t.Helper()
	d := statefiletest.New()
	d.Put(file, data, 0o600)
	return mustRead(t, d)
}

// TestEveryTruncation: a state cut at any offset is refused, or is what the
// state was at an earlier line, with the rest named as torn.
func TestEveryTruncation(t *testing.T) {
	data, prefixes, _ := damaged(t)
	d := statefiletest.New()
	opened := 0
	for cut := range data {
		d.Put(file, data[:cut], 0o600)
		s, err := Read(d, file)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("cut at %d: %v, want ErrDamaged", cut, err)
			}
			continue
		}
		opened++
		want, ok := prefixes[cut-s.Torn()]
		if !ok || !maps.Equal(want, byAddress(s)) || bytes.IndexByte(data[cut-s.Torn():cut], '\n') >= 0 {
			t.Fatalf("cut at %d: opens with %d torn bytes and is no earlier state", cut, s.Torn())
		}
	}
	if opened == 0 || opened > len(data)/2 {
		t.Fatalf("%d of %d cuts open", opened, len(data))
	}
}

// TestEveryBitFlip: a state with any one bit flipped is refused, or the flip
// hit the line feed of the last line, which then is torn.
func TestEveryBitFlip(t *testing.T) {
	data, prefixes, durable := damaged(t)
	d := statefiletest.New()
	opened := 0
	for at := range data {
		for bit := range 8 {
			broken := bytes.Clone(data)
			broken[at] ^= 1 << bit
			d.Put(file, broken, 0o600)
			s, err := Read(d, file)
			if err != nil {
				if !errors.Is(err, ErrDamaged) {
					t.Fatalf("bit %d of byte %d (%q): %v, want ErrDamaged", bit, at, data[at], err)
				}
				continue
			}
			opened++
			from := len(data) - s.Torn()
			if at < from || from < durable || !maps.Equal(prefixes[from], byAddress(s)) {
				t.Fatalf("bit %d of byte %d (%q) is flipped: opens with %d torn bytes", bit, at, data[at], s.Torn())
			}
		}
	}
	if opened > 20 {
		t.Fatalf("%d flips open, only those of the last line feed should", opened)
	}
}

// TestEveryLineDroppedDoubledOrMoved, in snapshot and journal alike, is refused,
// but for lines missing at the very end of the journal, which is an earlier state.
func TestEveryLineDroppedDoubledOrMoved(t *testing.T) {
	data, prefixes, _ := damaged(t)
	all := strings.SplitAfter(strings.TrimSuffix(string(data), "\n"), "\n")
	all[len(all)-1] += "\n"
	d := statefiletest.New()
	try := func(what string, at int, lines ...[]string) {
		var b strings.Builder
		for _, part := range lines {
			b.WriteString(strings.Join(part, ""))
		}
		if b.String() == string(data) {
			return
		}
		d.Put(file, []byte(b.String()), 0o600)
		s, err := Read(d, file)
		if err == nil && (s.Torn() > 0 || !maps.Equal(prefixes[b.Len()], byAddress(s)) || !strings.HasPrefix(string(data), b.String())) {
			t.Errorf("line %d %s: opens with %d torn bytes:\n%s", at+1, what, s.Torn(), b.String())
		}
	}
	for i := range all {
		try("dropped", i, all[:i], all[i+1:])
		try("doubled", i, all[:i+1], all[i:])
		for k := range all {
			if k > i {
				try("moved", i, all[:i], all[i+1:k+1], all[i:i+1], all[k+1:])
				try("swapped", i, all[:i], all[k:k+1], all[i+1:k], all[i:i+1], all[k+1:])
			}
		}
	}
}

// TestRandomEdits: a few bytes overwritten, inserted or taken out anywhere.
// What opens is the state at an earlier line, with the rest named as torn.
func TestRandomEdits(t *testing.T) {
	data, prefixes, durable := damaged(t)
	d := statefiletest.New()
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 4000 {
		broken := bytes.Clone(data)
		for range 1 + r.IntN(3) {
			at, n := r.IntN(len(broken)), 1+r.IntN(8)
			bytesIn := make([]byte, n)
			for k := range bytesIn {
				bytesIn[k] = "\x00\n\"{}x0"[r.IntN(7)]
			}
			broken = slices.Replace(broken, at, min(len(broken), at+r.IntN(9)), bytesIn...)
		}
		d.Put(file, broken, 0o600)
		s, err := Read(d, file)
		if errors.Is(err, ErrDamaged) {
			continue
		}
		if err != nil {
			t.Fatalf("edit %d: %v, want ErrDamaged\n%q", i, err, broken)
		}
		from := len(broken) - s.Torn()
		if from < durable || from > len(data) || !bytes.Equal(broken[:from], data[:from]) || !maps.Equal(prefixes[from], byAddress(s)) {
			t.Fatalf("edit %d opens with %d torn bytes:\n%q", i, s.Torn(), broken)
		}
	}
}
