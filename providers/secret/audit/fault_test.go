package audit

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"freightliner/providers/secret"
	"freightliner/statefile/statefiletest"
)

// acknowledged runs a short story and says which intents were acknowledged.
// Each has several lines, so that a batch can be torn in the middle.
func acknowledged(t *testing.T, l *Log) (names []string) {
	for i := range 4 {
		var entries []secret.Entry
		for k := range 3 {
			entries = append(entries, entry(fmt.Sprintf("s%d-%d", i, k)))
		}
		if l.Intend(t.Context(), entries...) == nil {
			for _, e := range entries {
				names = append(names, e.Name)
			}
		}
	}
	return names
}

// survives opens the log as the next process does: all that was acknowledged
// is there, nothing looks tampered with, and it can be appended to.
func survives(t *testing.T, where string, d *statefiletest.Disk, names []string, head Head) {
	t.Helper()
	heads := []Head{head}
	if head.Seq == 0 {
		heads = nil
	}
	r, err := Verify(t.Context(), d, "prod", heads...)
	if err != nil || !r.OK() {
		t.Fatalf("%s: %v %v\n%s", where, r.Problems, err, d.Bytes(file))
	}
	l := opened(d, newClock())
	if err := l.Intend(t.Context(), entry("after")); err != nil {
		t.Fatalf("%s: the next process: %v", where, err)
	}
	if r = verified(t, d, append(heads, l.Head())...); r.Torn {
		t.Fatalf("%s: torn still", where)
	}
	text := string(d.Bytes(file))
	for _, name := range append(names, "after") {
		if strings.Count(text, `"name":"`+name+`"`) != 1 {
			t.Fatalf("%s: %s is lost or doubled\n%s", where, name, text)
		}
	}
}

// TestEveryFault makes each file operation fail, once and for ever, with each
// of several errors, writes also half-way.
func TestEveryFault(t *testing.T) {
	clean := statefiletest.New()
	if n := len(acknowledged(t, opened(clean, newClock()))); n != 12 {
		t.Fatalf("%d lines without a fault", n)
	}
	cases := 0
	for _, errno := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.EMFILE, syscall.EACCES} {
		for at := 1; at <= clean.Ops(); at++ {
			for _, f := range []statefiletest.Fault{{At: at, Err: errno}, {At: at, Err: errno, Always: true}, {At: at, Err: errno, Short: true}, {At: at, Err: errno, Short: true, Always: true}} {
				d := statefiletest.New()
				d.Fail(&f)
				l := opened(d, newClock())
				names := acknowledged(t, l)
				d.Fail(nil)
				where := fmt.Sprintf("%v at %d, always %v, short %v", errno, f.At, f.Always, f.Short)
				if len(names) == 12 && f.Always && at < clean.Ops() { // the last one frees the lock
					t.Fatalf("%s: nothing failed", where)
				}
				head := l.Head()
				// The process lives on: its own next line is accepted.
				if err := l.Intend(t.Context(), entry("same-process")); err != nil {
					t.Fatalf("%s: the same process: %v", where, err)
				}
				survives(t, where, d, append(names, "same-process"), head)
				cases++
			}
		}
	}
	t.Logf("%d cases", cases)
}

// TestEveryCrash takes the power after each operation; the disk keeps any part
// of what it had not been told to sync.
func TestEveryCrash(t *testing.T) {
	disks, points := 0, 0
	d := statefiletest.New()
	l := opened(d, newClock())
	var names []string
	var head Head
	d.After(func(op statefiletest.Op) {
		points++
		for crashed := range d.Crashes(64) {
			survives(t, op.String(), crashed, names, head)
			disks++
		}
	})
	for i := range 4 {
		var entries []secret.Entry
		for k := range 3 {
			entries = append(entries, entry(fmt.Sprintf("s%d-%d", i, k)))
		}
		check(t, "intend", l.Intend(t.Context(), entries...))
		for _, e := range entries {
			names = append(names, e.Name)
		}
		head = l.Head()
	}
	t.Logf("%d points, %d disks", points, disks)
}

// TestTornEndOfAnOldMonth: what a crash tore in one month is no tampering in
// the next.
func TestTornEndOfAnOldMonth(t *testing.T) {
	d, c := statefiletest.New(), newClock()
	head := filled(t, d, 2).Head()
	d.Edit(file, func(b []byte) []byte { return append(b, `{"seq":5,"batch":5,"ti`...) })
	c.set(c.Now().AddDate(0, 1, 0))
	l := opened(d, c)
	check(t, "intend", l.Intend(t.Context(), entry("april")))
	if r := verified(t, d, head, l.Head()); r.Torn || len(r.Files) != 2 {
		t.Errorf("%+v", r)
	}
	// The same tear is no excuse when lines are missing.
	text := d.Bytes(file)
	cut := strings.LastIndex(strings.TrimSuffix(string(text[:len(text)-22]), "\n"), "\n") + 1
	d.Put(file, append(text[:cut:cut], `{"seq":4,"batch":4,"ti`...), 0o600)
	if r, err := Verify(t.Context(), d, "prod"); err != nil || r.OK() {
		t.Errorf("%+v %v", r, err)
	}
}
