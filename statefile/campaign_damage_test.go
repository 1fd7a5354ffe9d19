package statefile_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freightliner/providers"
	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// victim is a state of 64 kB with a journal of 16 kB, as a killed run leaves
// it, and everything that is needed to judge what opens after it was damaged.
type victim struct {
	data    []byte
	journal int                      // where it begins
	earlier map[int]providers.Digest // the ids of the states that whole lines up to an offset stand for
	marks   map[string]int           // the sync marks of its lines
	durable int                      // the last of them: no byte before it can be missing
}

var victimState = sync.OnceValue(func() *victim {
	model := map[string]Record{}
	for n := 0; len(model) < 390; n++ {
		r := tag(fmt.Sprintf("team-%d/service-%02d:v1.%d.0", n%3, n%17, n), n)
		if n%9 == 0 {
			r.Source, r.Selection = digest(-n), "linux/amd64"
		}
		model[r.Address] = r
	}
	d := statefiletest.New()
	d.Put(file, mustBuild(model), 0o600)
	l, err := AcquireLock(context.Background(), d, file, Holder{PID: 1}, LockOptions{})
	must(err)
	j, s, err := Begin(context.Background(), l, file, RunInfo{Run: "killed", By: "ci@runner-7", Tool: "0.1.0"}, testOptions())
	must(err)
	v := &victim{marks: map[string]int{}, journal: len(d.Bytes(file)), earlier: map[int]providers.Digest{len(d.Bytes(file)): s.ID()}}
	for n := 0; len(d.Bytes(file)) < v.journal+16<<10; n++ {
		switch {
		case n%10 == 5: // a sync, and so a new mark
			must(j.Intent(fmt.Sprintf("secret.%d", n), "add_version", "token"))
		case n%10 == 6:
			must(j.Fail(fmt.Sprintf("secret.%d", n-1), providers.Denied))
		case n%7 == 3:
			must(j.Done(Remove(tag(fmt.Sprintf("team-%d/service-%02d:v1.%d.0", n%3, n%17, n), n).Address)))
		default:
			must(j.Done(Put(tag(fmt.Sprintf("team-0/new:v%d", n), n)), Put(tag(fmt.Sprintf("team-1/service-03:v1.%d.0", n), -n))))
		}
	}
	v.data = d.Bytes(file)
	must(j.Abandon())
	for at := v.journal; at < len(v.data); at++ {
		if v.data[at] == '\n' {
			s, err := Parse(bytes.Clone(v.data[:at+1]))
			must(err)
			v.earlier[at+1] = s.ID()
		}
	}
	for line := range bytes.Lines(v.data[v.journal:]) {
		var mark int
		if at := bytes.Index(line, []byte(`,"sync":`)); at >= 0 {
			_, err := fmt.Sscanf(string(line[at+len(`,"sync":`):]), "%d", &mark)
			must(err)
		}
		v.marks[string(line)] = mark
		v.durable = max(v.durable, mark)
	}
	return v
})

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// judge reads damaged bytes. Either they are refused, by a kind of damage that
// names its line; or what opens is proven harmless:
//
//   - the bytes that count are, to the byte, whole lines that the run wrote,
//     and the state is exactly the one that these lines stood for;
//   - no line that survived says that what is cut off was durable. Unless the
//     damage took such lines with it (gone: the file cut short, its end zeroed),
//     what is cut lies behind the last sync mark of all, so it was never reported
//     as durable; if it did, the bytes are to the last one those that a crash at
//     that earlier moment would have left, and no reader could tell.
func (v *victim) judge(broken []byte, gone bool) (opened bool, wrong string) {
	s, err := Parse(broken)
	if err != nil {
		if !kind(err) {
			return false, fmt.Sprintf("refused without a kind and a place: %v", err)
		}
		return false, ""
	}
	from := len(broken) - s.Torn()
	want, whole := v.earlier[from]
	switch {
	case !whole || from > len(v.data) || !bytes.Equal(broken[:from], v.data[:from]):
		return true, fmt.Sprintf("opens, and its first %d bytes are no lines that were written", from)
	case s.ID() != want:
		return true, fmt.Sprintf("opens with %d torn bytes and is not the state of its lines", s.Torn())
	case from < v.durable && !gone:
		return true, fmt.Sprintf("%d bytes were durable, all behind %d are cut", v.durable, from)
	}
	for line := range bytes.Lines(broken[from:]) {
		if v.marks[string(line)] > from {
			return true, fmt.Sprintf("all behind %d is cut, and a line that is still there says that %d bytes were durable", from, v.marks[string(line)])
		}
	}
	return true, ""
}

// TestCampaignTruncation cuts the state at every offset.
func TestCampaignTruncation(t *testing.T) {
	v, started := victimState(), time.Now()
	if v.journal < 64<<10 || len(v.data)-v.journal < 16<<10 || v.durable <= v.journal {
		t.Fatalf("%d bytes of snapshot, %d of journal, %d durable", v.journal, len(v.data)-v.journal, v.durable)
	}
	step := sized(37, 1)
	var opened atomic.Int64
	n := len(v.data) / step
	inParallel(t, n, func() []byte { return bytes.Clone(v.data) }, func(buf []byte, i int) {
		cut := i * step
		ok, wrong := v.judge(buf[:cut:cut], true)
		if wrong != "" {
			t.Errorf("cut at %d: %s", cut, wrong)
		}
		if ok {
			opened.Add(1)
			if bytes.IndexByte(buf[cut-tornAt(buf[:cut]):cut], '\n') >= 0 {
				t.Errorf("cut at %d: a whole line is called torn", cut)
			}
		}
	})
	if opened.Load() == 0 || opened.Load() > int64((len(v.data)-v.journal)/step+2) {
		t.Errorf("%d cuts open; those inside the journal, of %d bytes, should", opened.Load(), len(v.data)-v.journal)
	}
	told(t, started, int64(n), "%d refused, %d an earlier state of the run", int64(n)-opened.Load(), opened.Load())
}

// tornAt is how many bytes stand behind the last line feed.
func tornAt(b []byte) int { return len(b) - bytes.LastIndexByte(b, '\n') - 1 }

// TestCampaignBitFlips flips every bit.
func TestCampaignBitFlips(t *testing.T) {
	v, started := victimState(), time.Now()
	step := sized(101, 1) // odd, so that all bits of a byte have their turn
	n := len(v.data) * 8 / step
	var opened atomic.Int64
	inParallel(t, n, func() []byte { return bytes.Clone(v.data) }, func(buf []byte, i int) {
		at, bit := i*step/8, i*step%8
		buf[at] ^= 1 << bit
		ok, wrong := v.judge(buf, false)
		buf[at] ^= 1 << bit
		if wrong != "" {
			t.Errorf("bit %d of byte %d (%q) is flipped: %s", bit, at, buf[at], wrong)
		}
		if ok {
			opened.Add(1)
		}
	})
	// Only a flip in the last line feed leaves what a crash could have left; or
	// one that makes a zero byte in the last lines, and there is no such byte.
	if opened.Load() > 8 {
		t.Errorf("%d flips open, only those of the last line feed can", opened.Load())
	}
	told(t, started, int64(n), "%d refused, %d a torn last line", int64(n)-opened.Load(), opened.Load())
}

// TestCampaignEdits makes random edits of many bytes: written over, put in,
// taken out, zeroed in blocks, whole lines dropped, doubled, swapped, and bytes
// from elsewhere in the file.
func TestCampaignEdits(t *testing.T) {
	v, started := victimState(), time.Now()
	var opened, same, refused atomic.Int64
	n := sized(1500, 100_000)
	seeded(t, n, func(seed uint64) error {
		r := rand.New(rand.NewPCG(seed, 11))
		broken, what := slices.Clone(v.data), []string(nil)
		gone := false
		for range 1 + r.IntN(3) {
			edit := edits[r.IntN(len(edits))]
			broken = edit.do(r, broken)
			what = append(what, edit.name)
			gone = gone || edit.gone
		}
		if bytes.Equal(broken, v.data) {
			same.Add(1)
			return nil
		}
		ok, wrong := v.judge(broken, gone)
		if ok {
			opened.Add(1)
		} else {
			refused.Add(1)
		}
		if wrong != "" {
			return fmt.Errorf("%s: %s", strings.Join(what, ", "), wrong)
		}
		return nil
	})
	if refused.Load() == 0 && !*campaignOnly {
		t.Error("nothing is refused")
	}
	told(t, started, refused.Load()+opened.Load()+same.Load(), "%d refused, %d a harmless torn tail, %d without effect", refused.Load(), opened.Load(), same.Load())
}

// edits are what can happen to bytes.
var edits = []struct {
	name string
	gone bool // lines with sync marks may be gone from the end
	do   func(*rand.Rand, []byte) []byte
}{
	{"bytes written over", false, func(r *rand.Rand, b []byte) []byte {
		for at, n := somewhere(r, b), 1+r.IntN(16); n > 0 && at < len(b); at, n = at+1, n-1 {
			b[at] = anyByte(r)
		}
		return b
	}},
	{"bytes put in", false, func(r *rand.Rand, b []byte) []byte {
		in := make([]byte, 1+r.IntN(40))
		for i := range in {
			in[i] = anyByte(r)
		}
		return slices.Insert(b, somewhere(r, b), in...)
	}},
	{"bytes taken out", true, func(r *rand.Rand, b []byte) []byte {
		at := somewhere(r, b)
		return slices.Delete(b, at, min(len(b), at+1+r.IntN(400)))
	}},
	{"a block of zeros", true, func(r *rand.Rand, b []byte) []byte {
		at := somewhere(r, b) &^ 511
		clear(b[at:min(len(b), at+512*(1+r.IntN(3)))])
		return b
	}},
	{"the end cut off", true, func(r *rand.Rand, b []byte) []byte { return b[:somewhere(r, b)] }},
	{"zeros at the end", false, func(r *rand.Rand, b []byte) []byte { return append(b, make([]byte, 1+r.IntN(1000))...) }},
	{"bytes from elsewhere", false, func(r *rand.Rand, b []byte) []byte {
		from, to := somewhere(r, b), somewhere(r, b)
		copy(b[to:], slices.Clone(b[from:min(len(b), from+1+r.IntN(300))]))
		return b
	}},
	{"a line dropped", true, func(r *rand.Rand, b []byte) []byte {
		from, to := lineAround(b, somewhere(r, b))
		return slices.Delete(b, from, to)
	}},
	{"a line doubled", false, func(r *rand.Rand, b []byte) []byte {
		from, to := lineAround(b, somewhere(r, b))
		return slices.Insert(b, to, slices.Clone(b[from:to])...)
	}},
	{"two lines swapped", false, func(r *rand.Rand, b []byte) []byte {
		from, middle := lineAround(b, somewhere(r, b))
		if middle == len(b) {
			return b
		}
		_, to := lineAround(b, middle)
		return slices.Concat(b[:from], b[middle:to], b[from:middle], b[to:])
	}},
	{"one digit of a checksum", false, func(r *rand.Rand, b []byte) []byte {
		_, to := lineAround(b, somewhere(r, b))
		if to > 12 {
			b[to-4-r.IntN(8)] = "0123456789abcdef"[r.IntN(16)]
		}
		return b
	}},
}

// somewhere is an offset, in half of the cases in the last fifth, which the
// journal is.
func somewhere(r *rand.Rand, b []byte) int {
	if len(b) < 10 {
		return 0
	}
	if r.IntN(2) == 0 {
		return len(b) - 1 - r.IntN(len(b)/5)
	}
	return r.IntN(len(b))
}

func anyByte(r *rand.Rand) byte {
	if r.IntN(2) == 0 {
		return "\x00\n\r\"{}:,0fa~"[r.IntN(12)]
	}
	return byte(r.Uint32())
}

// lineAround is where the line at an offset begins and ends, line feed included.
func lineAround(b []byte, at int) (from, to int) {
	from = bytes.LastIndexByte(b[:at], '\n') + 1
	if feed := bytes.IndexByte(b[at:], '\n'); feed >= 0 {
		return from, at + feed + 1
	}
	return from, len(b)
}
