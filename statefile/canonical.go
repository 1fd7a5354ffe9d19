package statefile

import (
	"bufio"
	"io"
	"iter"
	"sync"
)

// writeBuffer is how many bytes of a snapshot go out in one write.
const writeBuffer = 64 << 10

// writers are used again: a merge of small states makes many, and clearing such
// a buffer takes longer than writing them.
var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, writeBuffer) }}

// writeCanonical writes the snapshot that stands for s, without a journal, and
// returns how many records it has.
func (s *State) writeCanonical(w io.Writer) (int, error) {
	return writeSnapshot(w, s.snap.lineage, s.merged(""))
}

// writeSnapshot writes header, records and end line. A record's line depends
// on the record and on the address before it alone, so the bytes are those
// that any other way to the same facts would have given.
func writeSnapshot(w io.Writer, lineage string, records iter.Seq2[string, entry]) (int, error) {
	out := writers.Get().(*bufio.Writer)
	out.Reset(w)
	defer func() {
		out.Reset(nil)
		writers.Put(out)
	}()
	line := appendHeader(nil, lineage)
	if _, err := out.Write(line); err != nil {
		return 0, err
	}
	var last uint32
	count := 0
	for address, e := range records {
		line = appendRecord(line[:0], e, last)
		if _, err := out.Write(line); err != nil {
			return count, err
		}
		last = link(address)
		count++
	}
	if _, err := out.Write(appendEnd(line[:0], last)); err != nil {
		return count, err
	}
	return count, out.Flush()
}
