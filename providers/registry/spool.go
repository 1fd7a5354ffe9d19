package registry

import (
	"io"

	"freightliner/providers"
)

// Spool keeps the beginnings of large blobs whose upload can not be taken up in
// the middle. When such an upload breaks off everything is sent again, but what
// is in the spool is not read from the source again:
//
//	source, by Range from where the spool ends
//	     |
//	     +--> spool
//	     v      | what it had when the try began, first
//	     +<-----+
//	     v
//	verified (digest of all bytes, from 0) --> destination
//
// Nothing in it is trusted. The digest is taken over all bytes wherever they come
// from, and the last byte goes out only when it is right: a wrong byte in the
// spool costs a try, after which the entry is dropped and the source is read from
// the start.
type Spool interface {
	// Take gives the entry of a blob of size bytes to one caller at a time, with what
	// is kept of it, and holds room for the rest. nil without an error: somebody else
	// has it, or there is no room. Safe for concurrent use.
	Take(d providers.Digest, size int64) (SpoolEntry, error)
}

// SpoolEntry is the beginning of a blob. It is used by one goroutine at a time.
// After an error it can only be released.
type SpoolEntry interface {
	// Rewind goes to the first byte, and says how many there are.
	Rewind() (held int64, err error)
	// Read gives the bytes that are there; io.EOF behind them.
	io.Reader
	// Write adds bytes, once all that are there were read.
	io.Writer
	// Release ends the use. What is not kept is removed.
	Release(keep bool) error
}

// spooled is the part of the spool in one upload, over all its tries; nil is none.
type spooled struct {
	client *Client
	from   *remote
	entry  SpoolEntry // nil when there is none, or no more
	left   int64      // bytes of the entry that this try has not read
	used   bool       // this try has bytes of the entry
}

// spooling prepares the entry for a try that begins at offset. Uploads that can
// be taken up in the middle, or begin there, need none.
func (t *transfer) spooling(offset int64) *spooled {
	if t.client.spool == nil || t.marks == nil || offset > 0 || t.mayTakeUp() {
		return nil
	}
	if t.spool == nil {
		t.spool = &spooled{client: t.client, from: t.from}
		entry, err := t.client.spool.Take(t.d.Digest, t.d.Size)
		if err != nil {
			t.spool.trouble(err)
		}
		t.spool.entry = entry
	}
	s := t.spool
	s.left, s.used = 0, false
	if s.entry == nil {
		return nil
	}
	held, err := s.entry.Rewind()
	if err != nil {
		s.trouble(err)
		return nil
	}
	s.left = held
	return s
}

// read gives bytes of the entry; 0 when it is the source's turn. An entry that
// can not be read is dropped, and the source goes on right there.
func (s *spooled) read(p []byte) int {
	if s == nil || s.left == 0 {
		return 0
	}
	n, err := s.entry.Read(p[:min(int64(len(p)), s.left)])
	if n == 0 {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		s.trouble(err)
		return 0
	}
	s.left -= int64(n)
	s.used = true
	s.from.counters.spool(int64(n))
	return n
}

// add keeps what the source gave. Without room the blob goes on as if there were
// no spool.
func (s *spooled) add(p []byte) {
	if s == nil || s.entry == nil || len(p) == 0 {
		return
	}
	if _, err := s.entry.Write(p); err != nil {
		s.trouble(err)
	}
}

// waits reports whether bytes of the entry come before any of the source.
func (s *spooled) waits() bool { return s != nil && s.left > 0 }

// lied reports whether wrong content may be the spool's doing, and drops the
// entry: what is in it is wrong, whoever made it so.
func (s *spooled) lied() bool {
	if s == nil {
		return false
	}
	s.leave(false)
	used := s.used
	s.used = false
	return used
}

// leave gives the entry back, for a later upload when it is kept.
func (s *spooled) leave(keep bool) {
	if s == nil || s.entry == nil {
		return
	}
	if err := s.entry.Release(keep); err != nil {
		s.client.unspooled(err)
	}
	s.entry, s.left = nil, 0
}

func (s *spooled) trouble(err error) {
	s.client.unspooled(err)
	s.leave(false)
}

// unspooled tells, once, that blobs go without the spool.
func (c *Client) unspooled(err error) {
	c.spoolless.Do(func() { c.log.Warn("the spool can not be used: blobs go without it", "error", err.Error()) })
}
