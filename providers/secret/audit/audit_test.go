package audit

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/statefile/statefiletest"
)

const file = "prod.2026-03.jsonl"

// TestLines holds the format to the byte.
func TestLines(t *testing.T) {
	d := statefiletest.New()
	l := filled(t, d, 2)
	want := `{"seq":1,"batch":1,"opens":true,"time":"2026-03-01T12:00:01Z","run":"run-1","host":"runner-7","version":"0.2.0","actor":"Ann <ann@example.org>","job":"https://ci.example.org/job/7","workspace":"prod","action":"write","phase":"intent","reason":"apply","address":"secret.s0","store":"file/secrets","principal":"ann","name":"s0","before":"1-aa","token":"token-s0","prev":"0000000000000000000000000000000000000000000000000000000000000000","hash":"HASH"}
{"seq":2,"batch":2,"time":"2026-03-01T12:00:04Z","run":"run-1","host":"runner-7","version":"0.2.0","actor":"Ann <ann@example.org>","job":"https://ci.example.org/job/7","workspace":"prod","action":"write","phase":"outcome","reason":"apply","address":"secret.s0","store":"file/secrets","principal":"ann","name":"s0","before":"1-aa","after":"2-bb","token":"token-s0","prev":"HASH","hash":"HASH"}
{"seq":3,"batch":3,"time":"2026-03-01T12:00:07Z","run":"run-1","host":"runner-7","version":"0.2.0","actor":"Ann <ann@example.org>","job":"https://ci.example.org/job/7","workspace":"prod","action":"write","phase":"intent","reason":"apply","address":"secret.s1","store":"file/secrets","principal":"ann","name":"s1","before":"1-aa","token":"token-s1","prev":"HASH","hash":"HASH"}
{"seq":4,"batch":4,"time":"2026-03-01T12:00:10Z","run":"run-1","host":"runner-7","version":"0.2.0","actor":"Ann <ann@example.org>","job":"https://ci.example.org/job/7","workspace":"prod","action":"write","phase":"outcome","reason":"apply","address":"secret.s1","store":"file/secrets","principal":"ann","name":"s1","before":"1-aa","token":"token-s1","class":"denied","prev":"HASH","hash":"HASH"}
`
	got := string(d.Bytes(file))
	prev := genesis
	for i, text := range strings.SplitAfter(strings.TrimSuffix(got, "\n"), "\n") {
		body, _, _ := strings.Cut(text, `,"hash"`)
		hash := sum(prev, []byte(body)) // computed here from the documented rule
		want = strings.Replace(want, `"hash":"HASH"`, `"hash":"`+hash+`"`, 1)
		want = strings.Replace(want, `"prev":"HASH"`, `"prev":"`+hash+`"`, 1)
		if i == 3 && l.Head() != (Head{4, hash}) {
			t.Errorf("head %v", l.Head())
		}
		prev = hash
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	r := verified(t, d, l.Head())
	if r.Lines != 4 || r.First.Seq != 1 || r.Last != l.Head() || r.Torn {
		t.Errorf("%+v", r)
	}
	if h, err := ParseHead(l.Head().String()); err != nil || h != l.Head() {
		t.Errorf("%v %v", h, err)
	}
	if info, err := d.Lstat(file); err != nil || info.Mode.Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode, err)
	}
}

// TestOneSyncForABatch: entries that come together are synced together.
func TestOneSyncForABatch(t *testing.T) {
	d := statefiletest.New()
	l := filled(t, d, 1)
	var entries []secret.Entry
	for i := range 20 {
		entries = append(entries, entry(fmt.Sprint(i)))
	}
	before := len(d.Trace())
	check(t, "intend", l.Intend(t.Context(), entries...))
	count := map[string]int{}
	for _, op := range d.Trace()[before:] {
		count[op.Verb]++
	}
	if count["sync"] != 1 || count["write"] != 1 {
		t.Errorf("%v", count)
	}
	if r := verified(t, d, l.Head()); r.Lines != 22 {
		t.Errorf("%d lines", r.Lines)
	}
}

// TestSeveralProcesses append to one file from many goroutines each.
func TestSeveralProcesses(t *testing.T) {
	d := statefiletest.New()
	const processes, workers, each = 3, 4, 10
	var all sync.WaitGroup
	logs := make([]*Log, processes)
	for p := range processes {
		logs[p] = opened(d, newClock())
		for w := range workers {
			all.Go(func() {
				for i := range each {
					if err := logs[p].Intend(context.Background(), entry(fmt.Sprintf("p%d-w%d-%d", p, w, i))); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	all.Wait()
	heads := []Head{logs[0].Head(), logs[1].Head(), logs[2].Head()}
	if r := verified(t, d, heads...); r.Lines != processes*workers*each {
		t.Errorf("%d lines", r.Lines)
	}
	text := string(d.Bytes(file))
	for p := range processes {
		for w := range workers {
			for i := range each {
				if n := strings.Count(text, fmt.Sprintf(`"name":"p%d-w%d-%d"`, p, w, i)); n != 1 {
					t.Fatalf("p%d-w%d-%d is there %d times", p, w, i, n)
				}
			}
		}
	}
}

// TestMonths: a new month has a new file, whose chain carries on; a clock that
// goes back does not.
func TestMonths(t *testing.T) {
	d, c := statefiletest.New(), newClock()
	l := opened(d, c)
	var heads []Head
	for _, now := range []string{"2026-03-30", "2026-04-01", "2026-04-02", "2026-03-31", "2026-07-01"} {
		at, err := time.Parse(time.DateOnly, now)
		check(t, "time", err)
		c.set(at)
		check(t, "intend", l.Intend(t.Context(), entry(now)))
		heads = append(heads, l.Head())
		l = opened(d, c)
	}
	r := verified(t, d, heads...)
	if diff := cmp.Diff([]string{"prod.2026-03.jsonl", "prod.2026-04.jsonl", "prod.2026-07.jsonl"}, r.Files); diff != "" {
		t.Error(diff)
	}
	if n := bytes.Count(d.Bytes("prod.2026-04.jsonl"), []byte("\n")); n != 3 {
		t.Errorf("April has %d lines", n)
	}
	// Without its oldest file a log can still be checked from where it begins.
	check(t, "remove", d.Remove("prod.2026-03.jsonl"))
	r = verified(t, d, heads...)
	if r.First.Seq != 2 || len(r.Unchecked) != 1 || r.Unchecked[0] != heads[0] {
		t.Errorf("%+v", r)
	}
	// Without one in the middle it can not.
	check(t, "remove", d.Remove("prod.2026-04.jsonl"))
	if r, err := Verify(t.Context(), d, "prod", heads...); err != nil || r.OK() && len(r.Unchecked) == 0 {
		t.Errorf("%+v %v", r, err)
	}
}

// TestEveryEditIsFound changes each byte of a log, removes, repeats and swaps
// each line, and cuts the log at each byte.
func TestEveryEditIsFound(t *testing.T) {
	d := statefiletest.New()
	head := filled(t, d, 2).Head()
	good := d.Bytes(file)
	lines := bytes.SplitAfter(bytes.TrimSuffix(good, []byte("\n")), []byte("\n"))
	lines[len(lines)-1] = append(slices.Clone(lines[len(lines)-1]), '\n')

	found := func(what string, text []byte, heads ...Head) Report {
		t.Helper()
		d.Put(file, text, 0o600)
		r, err := Verify(t.Context(), d, "prod", heads...)
		check(t, what, err)
		return r
	}
	for i := range good {
		for _, flip := range []byte{0x01, 0x20} {
			text := slices.Clone(good)
			text[i] ^= flip
			if r := found("edit", text, head); r.OK() {
				t.Fatalf("byte %d ^ %#x: nothing found", i, flip)
			}
			// Without a head all but the last line (with the line break before it) are safe still.
			if r := found("edit", text); r.OK() && (!r.Torn || i < len(good)-len(lines[len(lines)-1])-1) {
				t.Fatalf("byte %d ^ %#x: nothing found without a head", i, flip)
			}
		}
	}
	for cut := range good {
		r := found("cut", good[:cut], head)
		if r.OK() {
			t.Fatalf("cut at %d: nothing found", cut)
		}
		if whole := cut == 0 || good[cut-1] == '\n'; r.Torn == whole {
			t.Fatalf("cut at %d: torn %v", cut, r.Torn)
		}
	}
	for i := range lines {
		without := bytes.Join(append(slices.Clone(lines[:i]), lines[i+1:]...), nil)
		if found("remove", without, head).OK() {
			t.Errorf("line %d removed: nothing found", i+1)
		}
		if i > 0 && i < len(lines)-1 && found("remove", without).OK() {
			t.Errorf("line %d removed: nothing found without a head", i+1)
		}
		twice := bytes.Join(append(slices.Clone(lines[:i+1]), lines[i:]...), nil)
		if found("repeat", twice).OK() {
			t.Errorf("line %d repeated: nothing found", i+1)
		}
		if i > 0 {
			swapped := slices.Clone(lines)
			swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
			if found("swap", bytes.Join(swapped, nil), head).OK() {
				t.Errorf("lines %d and %d swapped: nothing found", i, i+1)
			}
		}
	}
	// A chain made anew from the third line on fits itself, and not the head.
	d.Put(file, bytes.Join(lines[:2], nil), 0o600)
	forged := opened(d, newClock())
	for range 6 {
		check(t, "forge", forged.Intend(t.Context(), entry("harmless")))
	}
	if r := found("forged", d.Bytes(file)); !r.OK() {
		t.Fatalf("a chain that fits: %v", r.Problems)
	}
	if r := found("forged", d.Bytes(file), head); r.OK() {
		t.Error("the head did not show the forgery")
	}
}

// TestWhatIsNotALogOfOurs is refused before anything is done.
func TestWhatIsNotALogOfOurs(t *testing.T) {
	for what, place := range map[string]func(*statefiletest.Disk){
		"link":               func(d *statefiletest.Disk) { d.Place(file, fs.ModeSymlink|0o777) },
		"FIFO":               func(d *statefiletest.Disk) { d.Place(file, fs.ModeNamedPipe|0o600) },
		"somebody else's":    func(d *statefiletest.Disk) { d.Put(file, nil, 0o600); d.GiveAway(file) },
		"readable by others": func(d *statefiletest.Disk) { d.Put(file, nil, 0o644) },
		"linked lock":        func(d *statefiletest.Disk) { d.Place("prod.lock", fs.ModeSymlink|0o777) },
	} {
		d := statefiletest.New()
		place(d)
		err := opened(d, newClock()).Intend(t.Context(), entry("x"))
		if providers.ClassOf(err) != providers.Denied {
			t.Errorf("%s: %v", what, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := statefiletest.New()
	l := opened(d, newClock())
	if err := l.Intend(ctx, entry("x")); providers.ClassOf(err) != providers.Canceled || len(d.Files()) != 0 {
		t.Errorf("%v %v", err, d.Files())
	}
	// What was done is recorded even when nobody waits any more.
	if err := l.Outcome(ctx, entry("x")); err != nil {
		t.Error(err)
	}
}

func TestFileNames(t *testing.T) {
	seen := map[string]string{}
	for _, workspace := range []string{"prod", "Prod", "a/b", "a-b", "a.b", "", "..", "../x", "con", "über", strings.Repeat("x", 300), strings.Repeat("x", 301), "prod.2026-03"} {
		name := fileName(workspace, "2026-03")
		if other, twice := seen[name]; twice {
			t.Errorf("%q and %q share %s", workspace, other, name)
		}
		seen[name] = workspace
		if len(name) > 120 || strings.ContainsAny(name, "/\\: ") || strings.HasPrefix(name, "..") {
			t.Errorf("%q gives %s", workspace, name)
		}
		if month, ok := monthOf(workspace, name); !ok || month != "2026-03" {
			t.Errorf("%q: %q %v", workspace, month, ok)
		}
		for other := range seen {
			if _, ok := monthOf(workspace, other); ok && other != name {
				t.Errorf("%s is taken for a file of %q", other, workspace)
			}
		}
	}
}

// TestDocumentedLog: the example in docs/secrets.md is a log that holds.
func TestDocumentedLog(t *testing.T) {
	page, err := os.ReadFile("../../../docs/secrets.md")
	check(t, "page", err)
	var text []byte
	for line := range bytes.Lines(page) {
		if bytes.HasPrefix(line, []byte(`{"seq":`)) {
			text = append(text, line...)
		}
	}
	d := statefiletest.New()
	d.Put(file, text, 0o600)
	if r := verified(t, d); r.Lines != 2 || r.Torn {
		t.Errorf("%+v", r)
	}
}
