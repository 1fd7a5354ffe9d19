package statefile

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
)

// fault is the first thing wrong in a stretch of a file: where, and what. Its
// line number is counted only when somebody has to be told.
type fault struct {
	offset int
	what   string
}

// snapshot is where the lines of a checked snapshot lie in the file's bytes.
type snapshot struct {
	buf     []byte
	lineage string
	records []uint32 // offset of each record's line, in the order of the file
	end     int      // offset behind the end line
	last    uint32   // link of the last key
	newer   *fault   // the first record that may be shown and not written over
}

// chunkSize is how much of a snapshot one worker checks at a time: large
// against the cost of a goroutine, small against a big file.
const chunkSize = 1 << 20

// parseSnapshot checks every byte of the snapshot at the beginning of buf:
// framing, checksums, order, key chain, end line, and that every record
// decodes. Chunks are checked side by side and then joined, so that the time
// is that of the memory and not of one core.
func parseSnapshot(buf []byte) (snapshot, *Damage) {
	s := snapshot{buf: buf}
	var length int
	var bad *Damage
	s.lineage, length, bad = parseHeader(buf)
	if bad != nil {
		return s, notConflict(buf, bad)
	}
	endAt, endLength := findEnd(buf, length)
	chunks := split(buf, length, endAt)
	verifyAll(buf, chunks)

	total := 0
	for i := range chunks {
		total += len(chunks[i].records)
	}
	s.records = make([]uint32, 0, total)
	previous, first := "", true
	for i := range chunks {
		c := &chunks[i]
		if len(c.records) > 0 && !first {
			if what := follows(c.firstKey, c.firstPrev, previous); what != "" {
				return s, s.damage(fault{c.start, what})
			}
		} else if len(c.records) > 0 && c.firstPrev != 0 {
			return s, s.damage(fault{c.start, chainBroken(c.firstPrev, 0)})
		}
		if c.bad != nil {
			return s, s.damage(*c.bad)
		}
		if s.newer == nil {
			s.newer = c.newer
		}
		if len(c.records) > 0 {
			previous, first = c.lastKey, false
			s.last = link(previous)
		}
		s.records = append(s.records, c.records...)
	}
	if endLength == 0 {
		return s, s.damage(fault{endAt, "the end line is missing"})
	}
	last, _ := parseEnd(buf[endAt : endAt+endLength-1])
	if last != s.last {
		return s, s.damage(fault{endAt, fmt.Sprintf("the end line says %08x, the last key gives %08x: records before it are missing or changed", last, s.last)})
	}
	s.end = endAt + endLength
	return s, nil
}

// findEnd looks for the end line behind the header. Without one the length is
// 0 and the offset that of the end of the file.
func findEnd(buf []byte, from int) (at, length int) {
	const size = len(endOpen) + 8 + len("\"}\n")
	// A canonical file stops with it: no need to search a hundred megabytes.
	if tail := len(buf) - size; tail >= from && buf[tail-1] == '\n' {
		if _, ok := parseEnd(buf[tail : len(buf)-1]); ok && buf[len(buf)-1] == '\n' {
			return tail, size
		}
	}
	// A line feed can not stand inside a record, so this finds a line's start.
	at = bytes.Index(buf[from-1:], []byte("\n"+endOpen))
	if at < 0 {
		return len(buf), 0
	}
	at += from
	if len(buf)-at < size || buf[at+size-1] != '\n' {
		return len(buf), 0
	}
	if _, ok := parseEnd(buf[at : at+size-1]); !ok {
		return len(buf), 0
	}
	return at, size
}

// chunk is a stretch of whole lines and what checking them found.
type chunk struct {
	start, stop       int
	records           []uint32
	firstKey, lastKey string
	firstPrev         uint32
	bad, newer        *fault
}

// split cuts buf[from:to] behind line feeds into chunks of about chunkSize.
func split(buf []byte, from, to int) []chunk {
	var chunks []chunk
	for from < to {
		stop := min(from+chunkSize, to)
		if feed := bytes.IndexByte(buf[stop-1:to], '\n'); feed >= 0 {
			stop += feed
		} else {
			stop = to
		}
		chunks = append(chunks, chunk{start: from, stop: stop})
		from = stop
	}
	return chunks
}

func verifyAll(buf []byte, chunks []chunk) {
	workers := min(runtime.GOMAXPROCS(0), len(chunks))
	if workers <= 1 {
		for i := range chunks {
			chunks[i].verify(buf)
		}
		return
	}
	next := make(chan *chunk, len(chunks))
	for i := range chunks {
		next <- &chunks[i]
	}
	close(next)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for c := range next {
				c.verify(buf)
			}
		})
	}
	wg.Wait()
}

// verify checks the chunk's lines, but for what its first line says about the
// line before it. It stops at the first fault.
func (c *chunk) verify(buf []byte) {
	c.records = make([]uint32, 0, (c.stop-c.start)/128)
	var r Record // decoded into for every line, and thrown away
	for at := c.start; at < c.stop; {
		feed := bytes.IndexByte(buf[at:c.stop], '\n')
		if feed < 0 {
			c.bad = &fault{at, "the line has no end"}
			return
		}
		key, prev, v, what := parseRecord(buf[at:at+feed], &r)
		if what == "" && len(c.records) > 0 {
			what = follows(key, prev, c.lastKey)
		}
		if what != "" {
			c.bad = &fault{at, what}
			return
		}
		if v == readable && c.newer == nil {
			c.newer = &fault{at, "the record has a kind or members that this release does not know"}
		}
		if len(c.records) == 0 {
			c.firstKey, c.firstPrev = key, prev
		}
		c.lastKey = key
		c.records = append(c.records, uint32(at))
		at += feed + 1
	}
}

// parseRecord checks a record's line on its own: everything but its place.
// The address shares the line's memory where it can. The record is only scratch
// space here: decoding it is the check.
func parseRecord(line []byte, scratch *Record) (address string, prev uint32, v verdict, what string) {
	e, prev, what := splitRecord(line)
	if what != "" {
		return "", 0, unreadable, what
	}
	c := cursor{rest: e.key}
	address = c.quoted()
	if !c.end() || address == "" || len(address) > maxAddress {
		return "", 0, unreadable, "the address is not as freightliner writes it"
	}
	*scratch = Record{}
	if v = decode(e.rest, scratch); v == unreadable {
		return "", 0, unreadable, "the members are not as freightliner writes them"
	}
	return address, prev, v, ""
}

// splitRecord finds the parts of a record's line and checks its checksum.
func splitRecord(line []byte) (e entry, prev uint32, what string) {
	if len(line) >= maxLine {
		return e, 0, "the line is too long"
	}
	if bytes.HasPrefix(line, []byte(endOpen)) {
		return e, 0, "this is an end line, and more records behind it, or one that freightliner did not write"
	}
	body, sum, ok := cutSum(line)
	if !ok {
		return e, 0, "the line does not end with a checksum"
	}
	if want := checksum(body); want != sum {
		return e, 0, fmt.Sprintf("the line's checksum is %08x, its bytes give %08x", sum, want)
	}
	at := len(body) - prevLength
	if at < len(recordOpen) || string(body[:len(recordOpen)]) != recordOpen || string(body[at:at+len(prevOpen)]) != prevOpen || body[len(body)-1] != '"' {
		return e, 0, "this is not a record"
	}
	prev, ok = parseHex(body[at+len(prevOpen) : len(body)-1])
	if !ok {
		return e, 0, "the link to the key before is not as freightliner writes it"
	}
	members := text(body[len(recordOpen):at])
	c := cursor{rest: members}
	inner, _ := c.raw()
	if c.bad || !strings.HasPrefix(c.rest, ",") {
		return e, 0, "the address is not as freightliner writes it"
	}
	return entry{key: members[:len(inner)+2], rest: c.rest[1:]}, prev, ""
}

// follows says what is wrong with a record at address, whose link says prev,
// behind a record at previous; empty when nothing is.
func follows(address string, prev uint32, previous string) string {
	if address == previous {
		return "the address was there already, one line before"
	}
	if address < previous {
		return "the address sorts before that of the line before"
	}
	if want := link(previous); prev != want {
		return chainBroken(prev, want)
	}
	return ""
}

func chainBroken(prev, want uint32) string {
	return fmt.Sprintf("the link to the key before is %08x, that key gives %08x: lines are missing, repeated or moved", prev, want)
}

// line is the line that begins at offset, without its line feed.
func lineAt(buf []byte, offset int) []byte {
	line := buf[offset:]
	if feed := bytes.IndexByte(line, '\n'); feed >= 0 {
		line = line[:feed]
	}
	return line
}

// damage explains a fault in the snapshot: the same broken line means
// different things, and has different ways out.
func (s *snapshot) damage(f fault) *Damage {
	d := place(s.buf, ErrDamaged, f)
	line := lineAt(s.buf, f.offset)
	_, endLength := findEnd(s.buf, bytes.IndexByte(s.buf, '\n')+1)
	atEnd := f.offset+len(line)+1 > len(s.buf)
	switch {
	case bytes.HasSuffix(line, []byte("\r")):
		d.Kind, d.What = ErrConverted, "the line ends with a carriage return"
	case endLength == 0 && atEnd:
		d.Kind = ErrTruncated
	}
	return notConflict(s.buf, d)
}

// place counts the line of a fault.
func place(buf []byte, kind error, f fault) *Damage {
	return &Damage{
		Kind:   kind,
		Line:   bytes.Count(buf[:f.offset], []byte("\n")) + 1,
		Offset: int64(f.offset),
		What:   f.what,
	}
}

// notConflict gives bad back, unless the file has conflict markers: then they
// are what is wrong, wherever the reading failed first.
func notConflict(buf []byte, bad *Damage) *Damage {
	for at := 0; at < len(buf); {
		line := lineAt(buf, at)
		if isMarker(line) {
			return place(buf, ErrConflictMarkers, fault{at, "a merge left a conflict marker here"})
		}
		at += len(line) + 1
	}
	return bad
}

// isMarker reports a line that git's merge writes around a conflict.
func isMarker(line []byte) bool {
	for _, mark := range [...]string{"<<<<<<<", "|||||||", "=======", ">>>>>>>"} {
		if bytes.HasPrefix(line, []byte(mark)) {
			return true
		}
	}
	return false
}
