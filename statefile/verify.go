package statefile

import (
	"bytes"
	"context"
	"errors"
	"io/fs"

	"freightliner/providers"
)

// Compact folds the journal of the state at path into its snapshot, and cuts a
// torn tail. A canonical file keeps its bytes. Errors are those of [Begin] and
// [Journal.Close], and [ErrUndecided] while intents are open. The notes say
// what was put right.
func Compact(ctx context.Context, lock *Lock, path string, opts Options) (notes []string, err error) {
	j, s, err := Begin(ctx, lock, path, RunInfo{Run: "compact"}, opts)
	if err != nil {
		return nil, err
	}
	err = j.Close()
	if err == nil && len(s.Intents()) > 0 {
		err = failed("compact state", path, ErrUndecided)
	}
	return j.Notes(), err
}

// Report is what [Verify] found.
type Report struct {
	State     *State   // nil when the file can not be used
	Err       error    // why not, as [Read] would say it
	Lines     int      // in the file
	Records   int      // lines of the snapshot that are whole records
	Journal   int      // lines behind the end line
	Findings  []Damage // every line that does not hold, in the order of the file
	Notes     []string // what is no damage but not as it should be
	Truncated bool     // the findings were cut at MaxFindings
}

// MaxFindings bounds a report: a file that is all wrong needs no million lines
// to say so.
const MaxFindings = 1000

// Verify reads the state at path and reports every line that does not hold,
// where [Read] stops at the first. It changes nothing. The error is that of
// the file system; what is wrong with the state is in the report.
func Verify(fsys FS, path string) (Report, error) {
	var r Report
	buf, info, err := readFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		r.State = empty()
		return r, nil
	}
	if err != nil {
		return r, failed("verify state", path, err)
	}
	r.Lines = bytes.Count(buf, []byte("\n"))
	if info.Mode.Perm()&0o077 != 0 {
		r.Notes = append(r.Notes, "other users may read it: mode "+info.Mode.Perm().String())
	}
	s, bad := parse(buf)
	if bad == nil {
		s.file = info
		r.State = s
		r.Records, r.Journal = len(s.snap.records), s.replay.lines
		r.describe(s)
		return r, nil
	}
	r.Err = failed("verify state", path, bad)
	r.walk(buf, bad)
	return r, nil
}

// describe notes what a valid file has that a committed one should not.
func (r *Report) describe(s *State) {
	if s.replay.lines > 0 {
		r.Notes = append(r.Notes, "it has a journal: 'freightliner state compact' folds it into the snapshot")
	}
	if run, open := s.Interrupted(); open {
		r.Notes = append(r.Notes, "run "+providers.Printable(run.Run, 200)+" was cut off")
	}
	if len(s.replay.intents) > 0 {
		r.Notes = append(r.Notes, "it has intents that nobody looked at: the next apply does")
	}
	if s.replay.torn > 0 {
		r.Notes = append(r.Notes, "a crash left half written bytes at its end: the next apply cuts them")
	}
	if err := s.writable(); err != nil {
		r.Notes = append(r.Notes, "this release can show it and not write it: "+err.Error())
	}
}

// walk checks a damaged file line by line. Each line is judged against the
// last whole one before it, so that one bad line is one or two findings and
// not a flood.
func (r *Report) walk(buf []byte, first *Damage) {
	w := walker{report: r}
	for at, n := 0, 1; at < len(buf); n++ {
		line := lineAt(buf, at)
		whole := at+len(line) < len(buf)
		w.line(line, whole, n, int64(at))
		at += len(line) + 1
	}
	for _, f := range r.Findings {
		if f.Line == first.Line {
			return
		}
	}
	if len(r.Findings) < MaxFindings {
		r.Findings = append(r.Findings, *first)
	}
}

type walker struct {
	report   *Report
	ended    bool // the end line is behind us
	previous string
	chain    uint32
	trusted  bool // previous, or chain, is that of the line before
}

func (w *walker) find(n int, at int64, what string) {
	if len(w.report.Findings) == MaxFindings {
		w.report.Truncated = true
		return
	}
	w.report.Findings = append(w.report.Findings, Damage{Kind: ErrDamaged, Line: n, Offset: at, What: what})
}

func (w *walker) line(line []byte, whole bool, n int, at int64) {
	switch {
	case isMarker(line):
		w.find(n, at, "a merge left a conflict marker here")
		w.trusted = false
	case bytes.HasSuffix(line, []byte("\r")):
		w.find(n, at, "the line ends with a carriage return")
		w.trusted = false
	case !whole:
		w.find(n, at, "the line has no end")
	case n == 1:
		if _, _, bad := parseHeader(append(bytes.Clone(line), '\n')); bad != nil {
			w.find(n, at, bad.What)
		}
		w.trusted = true
	case bytes.HasPrefix(line, []byte(endOpen)):
		w.end(line, n, at)
	case bytes.HasPrefix(line, []byte(journalOpen)):
		w.journal(line, n, at)
	default:
		w.record(line, n, at)
	}
}

func (w *walker) record(line []byte, n int, at int64) {
	address, prev, _, what := parseRecord(line, new(Record))
	if what != "" {
		w.find(n, at, what)
		w.trusted = false
		return
	}
	w.report.Records++
	switch {
	case w.ended:
		w.find(n, at, "a record stands behind the end line")
	case address <= w.previous:
		w.find(n, at, "the address does not sort behind those before it")
	case w.trusted && prev != link(w.previous):
		w.find(n, at, chainBroken(prev, link(w.previous)))
	}
	w.previous, w.trusted = address, true
}

func (w *walker) end(line []byte, n int, at int64) {
	last, ok := parseEnd(line)
	switch {
	case !ok:
		w.find(n, at, "the end line is not as freightliner writes it")
	case w.ended:
		w.find(n, at, "a second end line")
	case w.trusted && last != link(w.previous):
		w.find(n, at, "the end line does not fit the key before it")
	}
	w.ended, w.chain, w.trusted = true, last, ok
}

func (w *walker) journal(line []byte, n int, at int64) {
	w.report.Journal++
	body, sum, ok := cutSum(line)
	switch {
	case !w.ended:
		w.find(n, at, "a journal line stands in front of the end line")
	case !ok:
		w.find(n, at, "the line does not end with a checksum")
	case w.trusted && chained(w.chain, body) != sum:
		w.find(n, at, "the line's checksum does not hold, or lines before it are missing or moved")
	default:
		if _, known := parseJournalLine(body); !known {
			w.find(n, at, "this release does not know such a journal line")
		}
	}
	w.chain, w.trusted = sum, ok
}
