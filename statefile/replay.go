package statefile

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"

	"freightliner/providers"
)

// The journal is what stands behind the end line:
//
//	{"j":"run","run":"…","plan":"sha256:…","base":"sha256:…","by":"…","tool":"…","~":"…"}
//	{"j":"intent","sync":4096,"n":1,"a":"…","op":"…","idem":"…","~":"…"}
//	{"j":"done","n":2,"a":"…","r":{"k":"tag",…},"~":"…"}
//	{"j":"done","n":3,"a":"…","r":null,"~":"…"}
//	{"j":"fail","n":4,"a":"…","class":"denied","~":"…"}
//	{"j":"close","sync":5120,"done":2,"failed":1,"~":"…"}
//
// A line's checksum covers the eight digits of the line before it, then its
// own bytes; the first line's covers the digits of the end line. So lines can
// not be taken out, put in or moved. "sync" is a byte offset: everything in
// front of it was known to be durable when the line was written.
const journalOpen = `{"j":"`

// journalLine is one decoded line. Which members have a meaning depends on kind.
type journalLine struct {
	kind   string
	sync   int64
	n      int64
	run    RunInfo
	base   providers.Digest
	key    string // JSON text of the address
	addr   string
	op     string
	token  string
	class  string
	rest   string // of the record; empty for a removal
	newer  bool   // the record can be shown and not written
	done   int64
	failed int64
}

// chained is the checksum of a journal line's body behind a line whose
// checksum was previous.
func chained(previous uint32, body []byte) uint32 {
	var digits [8]byte
	return crc32.Update(checksum(appendHex(digits[:0], previous)), castagnoli, body)
}

// parseJournalLine reads the body of a line whose checksum holds. What it does
// not accept was written by a release that knows more.
func parseJournalLine(body []byte) (l journalLine, ok bool) {
	c := cursor{rest: text(body)}
	c.skip(`{"j":`)
	l.kind = c.quoted()
	if c.try(`,"sync":`) {
		l.sync = c.number()
		c.bad = c.bad || l.sync == 0
	}
	switch l.kind {
	case "run":
		c.skip(`,"run":`)
		l.run.Run = c.quoted()
		if c.try(`,"plan":`) {
			l.run.Plan = providers.Digest(c.quoted())
			c.bad = c.bad || !isDigest(string(l.run.Plan))
		}
		c.skip(`,"base":`)
		l.base = providers.Digest(c.quoted())
		c.skip(`,"by":`)
		l.run.By = c.quoted()
		c.skip(`,"tool":`)
		l.run.Tool = c.quoted()
		return l, c.end() && l.run.Run != "" && isDigest(string(l.base))
	case "close":
		c.skip(`,"done":`)
		l.done = c.number()
		c.skip(`,"failed":`)
		l.failed = c.number()
		return l, c.end()
	}
	c.skip(`,"n":`)
	l.n = c.number()
	c.skip(`,"a":`)
	before := c.rest
	l.addr = c.quoted()
	l.key = before[:len(before)-len(c.rest)]
	switch l.kind {
	case "intent":
		c.skip(`,"op":`)
		l.op = c.quoted()
		if c.try(`,"idem":`) {
			l.token = c.quoted()
			c.bad = c.bad || l.token == ""
		}
	case "fail":
		c.skip(`,"class":`)
		l.class = c.quoted()
	case "done":
		c.skip(`,"r":`)
		if c.try("null") {
			break
		}
		c.skip("{")
		l.rest = strings.TrimSuffix(c.rest, "}")
		if c.bad || len(l.rest) == len(c.rest) {
			return l, false
		}
		c.rest = ""
		var r Record
		switch decode(l.rest, &r) {
		case unreadable:
			return l, false
		case readable:
			l.newer = true
		}
	default:
		return l, false
	}
	return l, c.end() && l.addr != "" && len(l.addr) <= maxAddress
}

// settles reports whether a failure of this class says that the announced work
// did not happen. After the others nobody knows, so the intent stays open.
func settles(class string) bool {
	switch class {
	case providers.NotFound.String(), providers.Conflict.String(), providers.Denied.String(),
		providers.Throttled.String(), providers.Invalid.String(), providers.Unsupported.String():
		return true
	}
	return false
}

// replay is what the journal adds to the snapshot.
type replay struct {
	changes map[string]entry // by address; an entry without rest is a removal
	intents map[string]Intent
	run     RunInfo // of the last run line
	open    bool    // the last run has no close line
	lines   int     // valid lines
	n       int64   // of the last line of the run
	done    int64   // done lines of the run
	failed  int64
	chain   uint32 // checksum of the last valid line
	mark    int64  // the highest sync mark
	end     int    // offset behind the last valid line
	torn    int    // bytes behind end that a crash left, to be cut
	newer   *fault
}

// parseJournal reads the lines behind the snapshot. The first line that does
// not hold either begins a torn tail, which is what lost writes look like, or
// is damage.
func parseJournal(s *snapshot, base providers.Digest) (replay, *Damage) {
	r := replay{changes: map[string]entry{}, intents: map[string]Intent{}, chain: s.last, end: s.end}
	for r.end < len(s.buf) {
		line := lineAt(s.buf, r.end)
		if r.end+len(line) == len(s.buf) || len(line) >= maxLine {
			return r, r.tail(s.buf, "the line has no end")
		}
		body, sum, ok := cutSum(line)
		if !ok || !bytes.HasPrefix(line, []byte(journalOpen)) {
			return r, r.tail(s.buf, "this is not a line of a journal")
		}
		if want := chained(r.chain, body); want != sum {
			return r, r.tail(s.buf, fmt.Sprintf("the line's checksum is %08x, its bytes and the line before give %08x", sum, want))
		}
		l, ok := parseJournalLine(body)
		if !ok {
			return r, place(s.buf, ErrNewer, fault{r.end, "the journal has a line that this release does not know"})
		}
		if l.kind == "run" && l.base != base {
			return r, place(s.buf, ErrForeignJournal, fault{r.end, fmt.Sprintf("the run extends %s, the snapshot is %s", l.base, base)})
		}
		if what := r.apply(l); what != "" {
			return r, place(s.buf, ErrDamaged, fault{r.end, what})
		}
		if l.newer && r.newer == nil {
			r.newer = &fault{r.end, "the record has a kind or members that this release does not know"}
		}
		r.lines++
		r.chain = sum
		r.end += len(line) + 1
	}
	return r, nil
}

// apply carries out one line, or says why it can not stand where it stands.
func (r *replay) apply(l journalLine) string {
	if l.sync > int64(r.end) {
		return fmt.Sprintf("the line says that %d bytes were durable before it, which is behind itself", l.sync)
	}
	r.mark = max(r.mark, l.sync)
	if l.kind == "run" {
		r.run, r.open, r.n, r.done, r.failed = l.run, true, 0, 0, 0
		return ""
	}
	if !r.open {
		return "the line belongs to no run"
	}
	if l.kind == "close" {
		if l.done != r.done || l.failed != r.failed {
			return fmt.Sprintf("the run closes with %d done and %d failed, it has %d and %d", l.done, l.failed, r.done, r.failed)
		}
		r.open = false
		return ""
	}
	r.n++
	if l.n != r.n {
		return fmt.Sprintf("the line has number %d, it is number %d of the run", l.n, r.n)
	}
	switch l.kind {
	case "intent":
		r.intents[l.addr] = Intent{Address: l.addr, Op: l.op, Token: l.token}
	case "done":
		r.done++
		r.changes[l.addr] = entry{key: l.key, rest: l.rest}
		delete(r.intents, l.addr)
	case "fail":
		r.failed++
		if settles(l.class) {
			delete(r.intents, l.addr)
		}
	}
	return ""
}

// tail judges what stands behind the last valid line. Cutting it must not lose
// anything that was acknowledged as durable, nor hide a bad merge or an edit.
// So it is cut only if it is what a crash leaves of appended bytes that never
// reached the disk:
//
//   - the bad line has no end, or has zero bytes where a block was not written;
//   - no line behind it says that the bytes here were durable, and
//   - every line behind it is a whole, chained journal line or has zero bytes
//     as well: blocks reach the disk in any order, but they do not change.
//
// A line that is whole, has no zero byte and still does not hold was changed
// or put there by somebody; it is refused wherever it stands.
func (r *replay) tail(buf []byte, what string) *Damage {
	bad := r.end
	refuse := func(offset int, what string) *Damage {
		d := place(buf, ErrDamaged, fault{offset, what})
		if bytes.HasSuffix(lineAt(buf, offset), []byte("\r")) {
			d.Kind, d.What = ErrConverted, "the line ends with a carriage return"
		}
		return notConflict(buf, d)
	}
	previous, known := r.chain, false // checksum of the line before, if that line can be believed
	for at := bad; at < len(buf); {
		line := lineAt(buf, at)
		whole := at+len(line) < len(buf)
		switch {
		case bytes.IndexByte(line, 0) >= 0:
			known = false
		case !whole:
			if !likeJournal(line) {
				return refuse(at, "this is not a line of a journal")
			}
		case at == bad:
			return refuse(at, what)
		default:
			body, sum, ok := cutSum(line)
			if !ok || !bytes.HasPrefix(line, []byte(journalOpen)) {
				return refuse(at, "this is not a line of a journal, behind a line that was lost")
			}
			if known && chained(previous, body) != sum {
				return refuse(at, "the line's checksum does not hold, behind a line that was lost")
			}
			if l, ok := parseJournalLine(body); ok && l.sync > int64(bad) {
				return refuse(bad, fmt.Sprintf("%s, and line at byte %d says it was durable", what, at))
			}
			previous, known = sum, true
		}
		at += len(line) + 1
	}
	r.torn = len(buf) - bad
	return nil
}

// likeJournal reports whether the file's last bytes, without a line feed, may
// be the beginning of a journal line, or bytes of which the beginning was cut
// by a zero block before them.
func likeJournal(line []byte) bool {
	return bytes.HasPrefix(line, []byte(journalOpen)) || strings.HasPrefix(journalOpen, text(line))
}

// keys are the addresses that the journal changed, sorted.
func (r *replay) keys() []string { return slices.Sorted(maps.Keys(r.changes)) }
