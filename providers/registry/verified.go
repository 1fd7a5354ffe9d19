package registry

import (
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"sync"

	"freightliner/providers"
)

// verified passes a blob on while it is hashed, and keeps its last byte back
// until length and digest are right. Whoever reads it with a Content-Length can
// not complete the transfer of wrong bytes: the last one never comes. The
// destination compares the digest too; this does not rely on it.
type verified struct {
	source io.Reader
	want   providers.Descriptor
	hash   hash.Hash
	left   int64 // bytes not passed on
	err    error // what the source did wrong, for the caller to see past the transport
	marks  *marks
}

// newVerified begins at the mark from, where source begins too.
func newVerified(source io.Reader, want providers.Descriptor, from mark, marks *marks) (*verified, error) {
	v := &verified{source: source, want: want, hash: want.Digest.Hash(), left: want.Size - from.at, marks: marks}
	if from.at == 0 {
		return v, nil
	}
	saved, ok := v.hash.(encoding.BinaryUnmarshaler)
	if !ok {
		return nil, errors.New("this digest can not be taken up in the middle")
	}
	return v, saved.UnmarshalBinary(from.state)
}

func (v *verified) Read(p []byte) (int, error) {
	switch {
	case v.err != nil:
		return 0, v.err
	case v.left == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	case v.left == 1:
		return v.last(p)
	}
	n, err := v.source.Read(p[:min(int64(len(p)), v.left-1, v.marks.room(v.want.Size-v.left))])
	v.hash.Write(p[:n])
	v.left -= int64(n)
	v.marks.add(v.want.Size-v.left, v.hash)
	if err != nil {
		v.err = v.broken(err)
		if n == 0 {
			return 0, v.err
		}
	}
	return n, nil
}

// last reads the last byte, makes sure that the source ends there, and lets it
// go only when everything is right.
func (v *verified) last(p []byte) (int, error) {
	var end [2]byte
	n, err := io.ReadFull(v.source, end[:])
	switch {
	case n == 2:
		v.err = &providers.Error{Class: providers.Conflict, Err: fmt.Errorf("more than the %d bytes that the manifest says", v.want.Size)}
		return 0, v.err
	case n == 0 || !errors.Is(err, io.ErrUnexpectedEOF):
		v.err = v.broken(err)
		return 0, v.err
	}
	v.hash.Write(end[:1])
	if got := providers.FromSum(v.hash.Sum(nil)); got != v.want.Digest {
		v.err = &providers.Error{Class: providers.Conflict, Err: fmt.Errorf("%w: the bytes received have the digest %s", errMismatch, got)}
		return 0, v.err
	}
	v.left = 0
	p[0] = end[0]
	return 1, nil
}

// errMismatch is wrapped by every error about content that is not what its digest
// says: damage on the way, or somebody's doing. It is counted by registry.
var errMismatch = errors.New("content does not match its digest")

// broken is a source that ended before its time. One that could not be opened
// says itself what it is.
func (v *verified) broken(err error) error {
	var known *providers.Error
	if errors.As(err, &known) {
		return err
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return &providers.Error{Class: providers.Transient, Err: fmt.Errorf("broke off after %d of %d bytes: %w", v.want.Size-v.left, v.want.Size, err)}
}

// mark is the state of a digest after the first at bytes.
type mark struct {
	at    int64
	state []byte // encoding.BinaryMarshaler
}

// marks are the places from which a large blob can be taken up again. They hold
// a few entries, whatever the size of the blob: those before what the
// destination has confirmed are dropped.
type marks struct {
	each int64 // distance, in bytes
	mu   sync.Mutex
	list []mark // ascending; the first is at or before what is confirmed
}

// room is how far a read at offset may go without passing a mark.
func (m *marks) room(offset int64) int64 {
	if m == nil {
		return math.MaxInt64
	}
	return m.each - offset%m.each
}

func (m *marks) add(at int64, h hash.Hash) {
	if m == nil || at%m.each != 0 {
		return
	}
	saved, ok := h.(encoding.BinaryMarshaler)
	if !ok {
		return
	}
	state, err := saved.MarshalBinary()
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.list); n == 0 || m.list[n-1].at < at {
		m.list = append(m.list, mark{at, state})
	}
}

// before is the last mark at or before offset; the beginning when there is none.
func (m *marks) before(offset int64) mark {
	var best mark
	if m == nil {
		return best
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.list {
		if one.at <= offset {
			best = one
		}
	}
	return best
}

// confirmed drops what lies before the last mark at or before offset.
func (m *marks) confirmed(offset int64) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.list) > 1 && m.list[1].at <= offset {
		m.list = m.list[1:]
	}
}

// restart forgets all but what is given.
func (m *marks) restart(from ...mark) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = from
}
