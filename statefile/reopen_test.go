package statefile_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// base is a snapshot of two records, and journal lines behind it: run, done,
// then, behind a sync mark, intent and done.
const snapshotText = `{"freightliner":"state","v":1,"lineage":"l","features":[],"~":"00000000"}
{"a":"tree.a","k":"tree","to":"x/a","p":"00000000","~":"00000000"}
{"a":"tree.b","k":"tree","to":"x/b","p":"00000000","~":"00000000"}
{"end":"00000000"}
`

const journalText = `{"j":"run","run":"r","base":"BASE","by":"me","tool":"t","~":"00000000"}
{"j":"done","sync":366,"n":1,"a":"tree.c","r":{"k":"tree","to":"x/c"},"~":"00000000"}
{"j":"intent","sync":452,"n":2,"a":"tree.d","op":"put","idem":"7","~":"00000000"}
{"j":"done","n":3,"a":"tree.a","r":null,"~":"00000000"}
`

func lines(text string) []string { return strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n") }

// TestReopening is the table "found, meaning, action" of docs/state-format.md,
// row by row: what is used is used, what is refused stays untouched and names
// line, kind and way out.
func TestReopening(t *testing.T) {
	snapshot, whole := reseal(snapshotText), reseal(snapshotText+journalText)
	l := lines(whole)
	for i := range l {
		if !strings.HasSuffix(l[i], "\n") {
			l[i] += "\n"
		}
	}
	journal := whole[len(snapshot):]
	offset := func(line int) int64 { return int64(len(strings.Join(l[:line-1], ""))) }
	closed := reseal(snapshotText + journalText + `{"j":"close","sync":590,"done":2,"failed":0,"~":"00000000"}` + "\n")

	type want struct {
		kind error // nil: it opens
		line int
		says string
		torn int
		have string // addresses, when it opens
	}
	all := "tree.b tree.c"
	for name, c := range map[string]struct {
		text string
		want want
	}{
		"canonical":                  {snapshot, want{have: "tree.a tree.b"}},
		"journal without close":      {whole, want{have: all}},
		"journal with close":         {closed, want{have: all}},
		"torn: last line cut":        {whole[:len(whole)-10], want{torn: len(l[7]) - 10, have: "tree.a tree.b tree.c"}},
		"torn: line feed missing":    {whole[:len(whole)-1], want{torn: len(l[7]) - 1, have: "tree.a tree.b tree.c"}},
		"torn: one byte":             {snapshot + "{", want{torn: 1, have: "tree.a tree.b"}},
		"torn: zeros at the end":     {whole + strings.Repeat("\x00", 512), want{torn: 512, have: all}},
		"torn: zeros in the last":    {whole[:len(whole)-20] + strings.Repeat("\x00", 19) + "\n", want{torn: len(l[7]), have: "tree.a tree.b tree.c"}},
		"torn: valid behind zeros":   {strings.Join(l[:6], "") + strings.Repeat("\x00", len(l[6])) + l[7], want{torn: len(l[6]) + len(l[7]), have: "tree.a tree.b tree.c"}},
		"journal cut at a line end":  {strings.Join(l[:6], ""), want{have: "tree.a tree.b tree.c"}},
		"zeros before a sync mark":   {strings.Join(l[:5], "") + strings.Repeat("\x00", len(l[5])-1) + "\n" + l[6] + l[7], want{kind: ErrDamaged, line: 6, says: "durable"}},
		"flip before a sync mark":    {strings.Replace(whole, `"x/c"`, `"x/e"`, 1), want{kind: ErrDamaged, line: 6, says: "checksum"}},
		"flip in the last line":      {strings.Replace(whole, `"r":null`, `"r":nulk`, 1), want{kind: ErrDamaged, line: 8, says: "checksum"}},
		"flip in the run line":       {strings.Replace(whole, `"by":"me"`, `"by":"we"`, 1), want{kind: ErrDamaged, line: 5, says: "checksum"}},
		"journal line missing":       {strings.Join(l[:5], "") + l[6] + l[7], want{kind: ErrDamaged, line: 6, says: "checksum"}},
		"journal lines swapped":      {strings.Join(l[:6], "") + l[7] + l[6], want{kind: ErrDamaged, line: 7, says: "checksum"}},
		"journal line twice":         {whole + l[7], want{kind: ErrDamaged, line: 9, says: "checksum"}},
		"two journals, union merge":  {whole + journal, want{kind: ErrDamaged, line: 9, says: "checksum"}},
		"two snapshots, union merge": {snapshot + l[2] + l[3], want{kind: ErrDamaged, line: 4, says: "an end line, and more records behind it"}},
		"text behind the end":        {snapshot + "hello\n", want{kind: ErrDamaged, line: 5, says: "not a line of a journal"}},
		"text without line feed":     {snapshot + "hello", want{kind: ErrDamaged, line: 5, says: "not a line of a journal"}},
		"foreign journal":            {reseal(strings.Replace(snapshotText, "x/a", "x/z", 1)) + journal, want{kind: ErrForeignJournal, line: 5, says: "extends"}},
		"journal without run":        {reseal(snapshotText + strings.Join(lines(journalText)[1:2], "")), want{kind: ErrDamaged, line: 5, says: "behind itself"}},
		"no run":                     {reseal(snapshotText + `{"j":"done","n":1,"a":"tree.a","r":null,"~":"00000000"}` + "\n"), want{kind: ErrDamaged, line: 5, says: "belongs to no run"}},
		"line behind close":          {reseal(closed + `{"j":"done","n":4,"a":"tree.a","r":null,"~":"00000000"}` + "\n"), want{kind: ErrDamaged, line: 10, says: "belongs to no run"}},
		"wrong number":               {reseal(snapshotText + strings.Replace(journalText, `"n":3`, `"n":4`, 1)), want{kind: ErrDamaged, line: 8, says: "number 3"}},
		"wrong count at close":       {reseal(strings.Replace(closed, `"done":2`, `"done":3`, 1)), want{kind: ErrDamaged, line: 9, says: "closes with 3"}},
		"mark behind itself":         {reseal(strings.Replace(whole, `"sync":452`, `"sync":999`, 1)), want{kind: ErrDamaged, line: 7, says: "behind itself"}},
		"empty":                      {"", want{kind: ErrTruncated, line: 1, says: "empty"}},
		"half a header":              {whole[:20], want{kind: ErrTruncated, line: 1, says: "header"}},
		"no end line":                {strings.Join(l[:3], ""), want{kind: ErrTruncated, line: 4, says: "end line"}},
		"cut inside a record":        {whole[:offset(3)+9], want{kind: ErrTruncated, line: 3, says: "no end"}},
		"cut inside the end line":    {snapshot[:len(snapshot)-1], want{kind: ErrTruncated, line: 4, says: "no end"}},
		"flip in a record":           {strings.Replace(whole, "x/b", "x/q", 1), want{kind: ErrDamaged, line: 3, says: "checksum"}},
		"flip in the header":         {strings.Replace(whole, `"lineage":"l"`, `"lineage":"m"`, 1), want{kind: ErrDamaged, line: 1, says: "checksum"}},
		"flip in the version":        {strings.Replace(whole, `"v":1`, `"v":3`, 1), want{kind: ErrDamaged, line: 1, says: "checksum"}},
		"version zero":               {reseal(strings.Replace(snapshotText, `"v":1`, `"v":0`, 1)), want{kind: ErrDamaged, line: 1, says: "version"}},
		"flip in the end line":       {strings.Replace(snapshot, `{"end":"`, `{"end":"0`, 1), want{kind: ErrDamaged, line: 4, says: "end line"}},
		"record missing":             {l[0] + l[2] + l[3], want{kind: ErrDamaged, line: 2, says: "missing, repeated or moved"}},
		"last record missing":        {l[0] + l[1] + l[3], want{kind: ErrDamaged, line: 3, says: "missing or changed"}},
		"record twice":               {l[0] + l[1] + l[1] + l[2] + l[3], want{kind: ErrDamaged, line: 3, says: "already"}},
		"records swapped":            {l[0] + l[2] + l[1] + l[3], want{kind: ErrDamaged, line: 2, says: "missing, repeated or moved"}},
		"records unsorted, resealed": {reseal(l[0] + l[2] + l[1] + l[3]), want{kind: ErrDamaged, line: 3, says: "sorts before"}},
		"member out of order":        {reseal(strings.Replace(snapshotText, `"k":"tree","to":"x/a"`, `"to":"x/a","k":"tree"`, 1)), want{kind: ErrDamaged, line: 2, says: "members"}},
		"member twice":               {reseal(strings.Replace(snapshotText, `"to":"x/a"`, `"to":"x/a","to":"x/a"`, 1)), want{kind: ErrDamaged, line: 2, says: "members"}},
		"member with zero value":     {reseal(strings.Replace(snapshotText, `"to":"x/a"`, `"to":""`, 1)), want{kind: ErrDamaged, line: 2, says: "members"}},
		"unknown member twice":       {reseal(strings.Replace(snapshotText, `"to":"x/a"`, `"u":1,"u":2`, 1)), want{kind: ErrDamaged, line: 2, says: "members"}},
		"spaces":                     {reseal(strings.Replace(snapshotText, `"to":"x/a"`, `"to": "x/a"`, 1)), want{kind: ErrDamaged, line: 2, says: "members"}},
		"another escape":             {reseal(strings.Replace(snapshotText, `tree.b`, `tree.\u0062`, 1)), want{kind: ErrDamaged, line: 3, says: "address"}},
		"empty address":              {reseal(strings.Replace(snapshotText, `"tree.a"`, `""`, 1)), want{kind: ErrDamaged, line: 2, says: "address"}},
		"conflict markers":           {l[0] + "<<<<<<< HEAD\n" + l[1] + "=======\n" + l[2] + ">>>>>>> side\n" + l[3], want{kind: ErrConflictMarkers, line: 2, says: "conflict marker"}},
		"conflict in the journal":    {snapshot + "<<<<<<< HEAD\n" + journal + "=======\n" + journal + ">>>>>>> side\n", want{kind: ErrConflictMarkers, line: 5, says: "conflict marker"}},
		"conflict cut off":           {snapshot + "<<<<<<< HEAD", want{kind: ErrConflictMarkers, line: 5, says: "conflict marker"}},
		"CRLF":                       {strings.ReplaceAll(whole, "\n", "\r\n"), want{kind: ErrConverted, line: 1, says: "carriage return"}},
		"CRLF in one record":         {strings.Replace(whole, "}\n{\"a\":\"tree.b\"", "}\r\n{\"a\":\"tree.b\"", 1), want{kind: ErrConverted, line: 2, says: "carriage return"}},
		"CRLF in the journal":        {snapshot + strings.ReplaceAll(journal, "\n", "\r\n"), want{kind: ErrConverted, line: 5, says: "carriage return"}},
		"UTF-8 byte order mark":      {"\xef\xbb\xbf" + whole, want{kind: ErrConverted, line: 1, says: "byte order mark"}},
		"UTF-16":                     {"\xff\xfe{\x00", want{kind: ErrConverted, line: 1, says: "UTF-16"}},
		"something else":             {"terraform {\n}\n", want{kind: ErrDamaged, line: 1, says: "not the header"}},
		"binary without a line feed": {strings.Repeat("\x7fELF", 1<<18), want{kind: ErrDamaged, line: 1, says: "not the header"}},
		"a huge line":                {l[0] + strings.Repeat("x", 1<<20) + "\n" + l[3], want{kind: ErrDamaged, line: 2, says: "too long"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := statefiletest.New()
			d.Put(file, []byte(c.text), 0o600)
			s, err := Read(d, file)
			if c.want.kind == nil {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				opens(t, d, s, c.want.torn, c.want.have)
				return
			}
			refused(t, d, err, c.want.kind, c.want.line, c.want.says)
			var damage *Damage
			errors.As(err, &damage)
			if want := int64(len(strings.Join(strings.SplitAfter(c.text, "\n")[:c.want.line-1], ""))); damage.Offset != want {
				t.Errorf("offset %d, want %d", damage.Offset, want)
			}
		})
	}
}

func opens(t *testing.T, d *statefiletest.Disk, s *State, torn int, have string) {
	t.Helper()
	if got := strings.Join(addresses(s), " "); got != have || s.Torn() != torn {
		t.Errorf("opens with %q and %d torn bytes, want %q and %d", got, s.Torn(), have, torn)
	}
	report, err := Verify(d, file)
	if err != nil || report.Err != nil || len(report.Findings) > 0 || report.State == nil {
		t.Errorf("Verify: %v, %+v", err, report)
	}
	if said := strings.Contains(strings.Join(report.Notes, "\n"), "half written"); said != (torn > 0) {
		t.Errorf("Verify notes %q with %d torn bytes", report.Notes, torn)
	}
	before := byAddress(s)
	j, _, l := open(t, d, "next", testOptions())
	if said := strings.Contains(strings.Join(j.Notes(), "\n"), fmt.Sprintf("cut %d bytes", torn)); said != (torn > 0) {
		t.Errorf("Begin notes %q, %d bytes are torn", j.Notes(), torn)
	}
	check(t, "settle", settle(j, s.Intents()))
	check(t, "close", j.Close())
	check(t, "release", l.Release())
	after := mustRead(t, d)
	if diff := cmp.Diff(before, byAddress(after)); diff != "" || !after.Canonical() {
		t.Errorf("after compaction (canonical %v, -want +got):\n%s", after.Canonical(), diff)
	}
}

func refused(t *testing.T, d *statefiletest.Disk, err, kind error, line int, says string) {
	t.Helper()
	var damage *Damage
	if !errors.As(err, &damage) {
		t.Fatalf("Read says %v, want damage of kind %v", err, kind)
	}
	if damage.Kind != kind || damage.Line != line || !strings.Contains(damage.What, says) {
		t.Errorf("Read says %q, want kind %q, line %d and %q", damage, kind, line, says)
	}
	if !errors.Is(err, kind) || !errors.Is(err, ErrDamaged) || errors.Is(err, ErrNewer) || providers.HintOf(err) == "" || providers.ClassOf(err) == providers.Unknown {
		t.Errorf("the error's kind, class %v or hint %q is missing: %v", providers.ClassOf(err), providers.HintOf(err), err)
	}
	before := d.Bytes(file)
	if _, _, err := Begin(t.Context(), mustLock(t, d), file, RunInfo{Run: "r"}, testOptions()); !errors.Is(err, kind) {
		t.Errorf("Begin says %v, want %v", err, kind)
	}
	if !bytes.Equal(before, d.Bytes(file)) {
		t.Error("Begin changed a file that it refused")
	}
	report, err := Verify(d, file)
	if err != nil || !errors.Is(report.Err, kind) || report.State != nil {
		t.Fatalf("Verify: %v, %+v", err, report)
	}
	for _, f := range report.Findings {
		if f.Line == line {
			return
		}
	}
	t.Errorf("Verify does not list line %d: %v", line, report.Findings)
}

func addresses(s *State) []string {
	var out []string
	for r := range s.All() {
		out = append(out, r.Address)
	}
	return out
}

// TestVerifyNamesEveryBadLine where Read stops at the first.
func TestVerifyNamesEveryBadLine(t *testing.T) {
	text := reseal(snapshotText + journalText)
	text = strings.Replace(text, "x/a", "x/1", 1)
	text = strings.Replace(text, "x/c", "x/3", 1)
	text = strings.Replace(text, `"r":null`, `"r":nulk`, 1)
	d := statefiletest.New()
	d.Put(file, []byte(text), 0o644)
	report, err := Verify(d, file)
	check(t, "verify", err)
	var got []int
	for _, f := range report.Findings {
		got = append(got, f.Line)
	}
	if diff := cmp.Diff([]int{2, 6, 8}, got); diff != "" || report.Records != 1 || report.Journal != 4 || report.Lines != 8 {
		t.Errorf("%+v\nlines (-want +got):\n%s", report, diff)
	}
	if len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "-rw-r--r--") {
		t.Errorf("notes %q, want the wide mode", report.Notes)
	}
	flood := statefiletest.New()
	flood.Put(file, []byte(strings.Repeat("x\n", 3*MaxFindings)), 0o600)
	if report, err := Verify(flood, file); err != nil || len(report.Findings) != MaxFindings || !report.Truncated {
		t.Errorf("%v: %d findings, truncated %v", err, len(report.Findings), report.Truncated)
	}
}
