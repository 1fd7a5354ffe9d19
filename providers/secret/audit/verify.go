package audit

import (
	"context"
	"fmt"
	"slices"

	"freightliner/providers"
	"freightliner/providers/disk"
)

// Report is what [Verify] found.
type Report struct {
	Files []string
	Lines int
	First Head // of the oldest line that is there; its Seq is 1 unless older files are kept elsewhere
	Last  Head
	// Problems are lines that were changed, dropped, moved or added. None means
	// that the log is as it was written, as far as the heads reach.
	Problems []Problem
	// Torn says that the last file ends in the middle of a batch, as after a
	// crash. Nothing in it was acknowledged; the next append cuts it off.
	Torn bool
	// Unchecked are heads older than the first line.
	Unchecked []Head
}

// OK reports whether nothing is wrong.
func (r Report) OK() bool { return len(r.Problems) == 0 }

// Problem is one place where the log is not as it was written.
type Problem struct {
	File string // empty for what concerns all
	Line int    // from 1; 0 for what concerns the file
	What string
}

// String is "prod.2026-03.jsonl:12: …".
func (p Problem) String() string {
	switch {
	case p.File == "":
		return p.What
	case p.Line == 0:
		return p.File + ": " + p.What
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.What)
}

// Verify reads the whole log of a workspace in fsys. heads are ends that were
// kept elsewhere: each must still be in it. The error means that it could not
// be read; a workspace without a log is not an error.
func Verify(ctx context.Context, fsys disk.FS, workspace string, heads ...Head) (Report, error) {
	failed := func(err error) error {
		return &providers.Error{Class: providers.ClassOf(err), Op: "verify audit log", On: workspace, Err: err}
	}
	all, err := months(fsys, workspace)
	if err != nil {
		return Report{}, failed(err)
	}
	v := &verifier{workspace: workspace, want: map[int64][]string{}, seen: map[Head]bool{}}
	for _, h := range heads {
		v.want[h.Seq] = append(v.want[h.Seq], h.Hash)
	}
	for _, month := range all {
		if err := ctx.Err(); err != nil {
			return Report{}, failed(err)
		}
		v.file = fileName(workspace, month)
		v.Files, v.fresh = append(v.Files, v.file), true
		s, err := scanFile(fsys, v.file, v.line)
		if err != nil {
			return Report{}, failed(fmt.Errorf("%s: %w", v.file, err))
		}
		v.Lines += s.seen
		if s.torn() {
			v.end, v.endFile = s.bad, v.file
		}
	}
	v.Torn = len(v.end) > 0
	v.heads(heads)
	return v.Report, nil
}

type verifier struct {
	Report
	workspace string
	file      string
	fresh     bool // no line of it was seen yet
	last      line
	end       []badLine // the end of an earlier file that looks torn
	endFile   string
	want      map[int64][]string
	seen      map[Head]bool
}

func (v *verifier) problem(number int, format string, args ...any) {
	v.Problems = append(v.Problems, Problem{v.file, number, fmt.Sprintf(format, args...)})
}

func (v *verifier) damaged(bad []badLine) {
	for _, b := range bad {
		if b.err != nil {
			v.problem(b.number, "%v", b.err)
		} else {
			v.problem(b.number, "line %d of the log follows one that can not be read", b.line.Seq)
		}
	}
}

// line looks whether l follows the one before it.
func (v *verifier) line(l line, number int, before []badLine) {
	// A file whose end a crash tore is not touched any more once the month is
	// over. If the next line follows the last whole one, nothing is missing.
	if follows := l.Seq == v.last.Seq+1 && (l.Prev == v.last.Hash || l.Seq == 1); !follows {
		now := v.file
		v.file = v.endFile
		v.damaged(v.end)
		v.file = now
	}
	v.end = nil
	v.damaged(before)
	if v.fresh && len(before) == 0 && !l.Opens {
		v.problem(number, "it is not the first line of this file: those before it were removed")
	}
	v.fresh = false
	switch {
	case l.Workspace != v.workspace:
		v.problem(number, "it belongs to the workspace %s", providers.Printable(l.Workspace, 100))
	case v.last.Seq == 0 && l.Seq == 1 && l.Prev != genesis:
		v.problem(number, "it says to be the first, and that there was one before it")
	case v.last.Seq == 0:
	case len(before) > 0: // told already
	case l.Seq <= v.last.Seq:
		v.problem(number, "line %d of the log comes after line %d: it was repeated, moved or put in", l.Seq, v.last.Seq)
	case l.Seq > v.last.Seq+1:
		v.problem(number, "line %d of the log comes after line %d: lines in between were removed", l.Seq, v.last.Seq)
	case l.Prev != v.last.Hash:
		v.problem(number, "it follows another line %d than the one before it: that was replaced", v.last.Seq)
	}
	if v.last.Seq == 0 {
		v.First = Head{l.Seq, l.Hash}
	}
	if slices.Contains(v.want[l.Seq], l.Hash) {
		v.seen[Head{l.Seq, l.Hash}] = true
	}
	v.last, v.Last = l, Head{l.Seq, l.Hash}
}

// heads looks for those that nobody saw.
func (v *verifier) heads(heads []Head) {
	v.file = ""
	for _, h := range heads {
		switch {
		case v.seen[h]:
		case v.First.Seq > 1 && h.Seq < v.First.Seq:
			v.Unchecked = append(v.Unchecked, h)
		case h.Seq > v.Last.Seq:
			v.problem(0, "it once had a line %d and ends with line %d: the end was cut off", h.Seq, v.Last.Seq)
		default:
			v.problem(0, "its line %d is another one than it once was", h.Seq)
		}
	}
}
