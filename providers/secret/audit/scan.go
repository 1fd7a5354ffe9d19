package audit

import (
	"bufio"
	"errors"
	"io"
)

// scanner goes through the lines of a file, and tells the end that a crash
// tore from damage in the middle.
//
// A batch of lines is written at once and acknowledged when it was synced. So
// a crash can only harm the last batch: it may be short, and blocks of it may
// be zeros. A damaged line that is followed by a line of a later batch was
// acknowledged once, and somebody changed it since.
type scanner struct {
	last line  // the last whole line; Seq 0 for none
	end  int64 // offset behind it
	at   int64 // offset behind all that was read
	bad  []badLine
	seen int // lines, whole or not
}

// badLine is a line that can not be read, or was changed.
type badLine struct {
	number int // in this file, from 1
	line   line
	err    error
}

// errLong is a line that no log of ours has.
var errLong = errors.New("it is longer than any line of this log")

// read goes on to the end of r. each gets every whole line in its place, with
// the damaged ones before it; nil for none. It is called when it is clear that
// they are not a torn end.
func (s *scanner) read(r io.Reader, each func(l line, number int, before []badLine)) error {
	buffered := bufio.NewReaderSize(r, maxLine+1)
	for {
		text, err := buffered.ReadSlice('\n')
		if len(text) == 0 && err == io.EOF {
			return nil
		}
		if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		s.seen++
		s.at += int64(len(text))
		if errors.Is(err, bufio.ErrBufferFull) {
			n, skipErr := skipLine(buffered)
			s.at += n
			if skipErr != nil && skipErr != io.EOF {
				return skipErr
			}
			s.bad = append(s.bad, badLine{number: s.seen, err: errLong})
			continue
		}
		if err == io.EOF { // no line break: torn, or cut off
			s.bad = append(s.bad, badLine{number: s.seen, err: errLine})
			return nil
		}
		l, lineErr := decode(text[:len(text)-1])
		if lineErr != nil {
			s.bad = append(s.bad, badLine{s.seen, l, lineErr})
			continue
		}
		if len(s.bad) > 0 && l.Batch <= s.last.Seq+1 && l.Seq > s.last.Seq {
			// Whole, but of the batch whose start is damaged: what it was
			// chained to is gone, so it goes with it, unless a later batch follows.
			s.bad = append(s.bad, badLine{s.seen, l, nil})
			continue
		}
		if each != nil {
			each(l, s.seen, s.bad)
		}
		s.bad = nil
		s.last, s.end = l, s.at
	}
}

func skipLine(r *bufio.Reader) (n int64, err error) {
	for {
		text, err := r.ReadSlice('\n')
		n += int64(len(text))
		if !errors.Is(err, bufio.ErrBufferFull) {
			return n, err
		}
	}
}

// torn reports whether the end is damaged.
func (s *scanner) torn() bool { return len(s.bad) > 0 }
