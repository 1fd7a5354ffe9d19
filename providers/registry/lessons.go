package registry

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"freightliner/providers"
)

// Lessons are what the answers 405, 413 and 416 of a registry, and what it kept of
// uploads that broke off, taught us about it, beyond the profile of its kind:
// proxies in front of it have limits that nobody announces.
type Lessons struct {
	Refused  []Upload  `json:"refused,omitempty"`   // shapes that it does not take
	MaxBody  int64     `json:"max_body,omitempty"`  // bytes of the largest body tried after a refusal; 0 for any
	MaxChunk int64     `json:"max_chunk,omitempty"` // the same for a PATCH with Content-Range
	Forgets  bool      `json:"forgets,omitempty"`   // nothing is kept of a PATCH that broke off: a proxy collects it first
	Until    time.Time `json:"until"`               // nothing holds after this: proxies are reconfigured
}

// Learned keeps lessons from one run to the next. What it gives is checked
// before it is used, and is only ever a reason to try another shape first.
type Learned interface {
	// Lessons are those of a host[:port]; the zero value for none.
	Lessons(host string) Lessons
	// Learn keeps l. A failure to do so costs the next run a request.
	Learn(host string, l Lessons) error
}

// lessonLife is how long a lesson is believed.
const lessonLife = 7 * 24 * time.Hour

// sizes of uploads, in bytes.
type sizes struct {
	large int64 // where taking up an upload in the middle begins to be worth it
	// chunk is the chunk that we choose where nothing is kept of one that broke off,
	// longest where what arrived is kept. Registries sync at the end of each chunk,
	// and meanwhile nothing moves, so the fewer the faster.
	chunk, longest int64
	// keep is how often the ledger is written within a chunk, and how far it stays
	// behind what went out: further than what is in flight.
	keep int64
	// mark is the least distance of marks: how much is read again from the source at
	// most when a transfer is taken up in the middle.
	mark int64
	// start is what a source must have given before it is opened again where it
	// broke off; one that broke off earlier simply starts again.
	start int64
	// least is the smallest chunk tried after 413; range416 what a registry that
	// refuses a range at offset 0 is known to take (GHCR, ocx-sh/ocx #237).
	least, range416 int64
}

var usualSizes = sizes{large: 64 << 20, chunk: 64 << 20, longest: 1 << 40, keep: 32 << 20, mark: 4 << 20, start: 1 << 20, least: 1 << 20, range416: 4 << 20}

// between is the distance of marks in a blob of size bytes: of 1,024 at most, each
// of about 200 bytes, since a chunk may be the whole blob and confirms none of them
// before its end.
func (s sizes) between(size int64) int64 {
	each := s.mark
	for size/each > 1024 {
		each *= 2
	}
	return each
}

// lessons are the Lessons of one remote under way.
type lessons struct {
	mu  sync.Mutex
	now Lessons
}

// recall takes up what earlier runs learned.
func (r *remote) recall() {
	if r.client.learned == nil {
		return
	}
	l := r.client.learned.Lessons(r.settings.Host)
	if l.Until.After(r.client.clock.Now()) && l.MaxBody >= 0 && l.MaxChunk >= 0 {
		r.lessons.now = l
	}
}

// way is how a blob is sent.
type way struct {
	shape Upload
	chunk int64 // of UploadChunks
}

// way chooses the first shape that the profile and the lessons let through.
// Large blobs go in chunks where a session can be taken up again, so that the
// registry has confirmed offsets when something breaks.
func (r *remote) way(size, minChunk int64) (way, error) {
	r.lessons.mu.Lock()
	defer r.lessons.mu.Unlock()
	p, l := &r.profile, &r.lessons.now
	shapes := p.Uploads
	if len(shapes) == 0 {
		shapes = []Upload{UploadPut, UploadChunks, UploadPatch}
	}
	if size >= r.client.sizes.large && p.Resume != ResumeNever && slices.Contains(shapes, UploadChunks) {
		shapes = append([]Upload{UploadChunks}, shapes...)
	}
	for _, shape := range shapes {
		chunk := r.chunk(size, minChunk)
		switch {
		case slices.Contains(l.Refused, shape):
		case shape == UploadChunks && chunk > 0,
			shape == UploadPut && size <= least(p.MaxPut, l.MaxBody),
			shape == UploadPatch && size <= least(l.MaxBody):
			return way{shape, chunk}, nil
		}
	}
	return way{}, &providers.Error{Class: providers.Unsupported, Err: fmt.Errorf("no form of upload that %s takes fits %d bytes", r.settings.Host, size)}
}

// chunk is the length of a chunk; 0 when the bounds leave none. The caller
// holds the lock.
func (r *remote) chunk(size, minChunk int64) int64 {
	p, l := &r.profile, &r.lessons.now
	low := max(p.MinChunk, minChunk, 1)
	if p.MaxChunks > 0 {
		low = max(low, (size+int64(p.MaxChunks)-1)/int64(p.MaxChunks))
	}
	high := least(p.MaxChunk, l.MaxBody, l.MaxChunk)
	if low > high && size > high {
		return 0
	}
	usual := r.client.sizes.chunk
	if p.Resume == ResumeAsk && !l.Forgets {
		usual = max(usual, r.client.sizes.longest) // what a broken one left can be asked for
	}
	return min(max(usual, low), high)
}

// least is the smallest bound; 0 is none.
func least(bounds ...int64) int64 {
	n := int64(1) << 60
	for _, b := range bounds {
		if b > 0 {
			n = min(n, b)
		}
	}
	return n
}

// learn takes the lesson of an upload that failed with err while a body of
// length bytes went to offset. It reports whether there is another way now.
func (r *remote) learn(w way, offset, length int64, err error) bool {
	status := statusOf(err)
	r.lessons.mu.Lock()
	l := &r.lessons.now
	before := *l
	switch {
	case status == http.StatusRequestEntityTooLarge && length/2 >= r.client.sizes.least:
		l.MaxBody = min(cmp.Or(l.MaxBody, length/2), length/2)
	case status == http.StatusMethodNotAllowed, status == http.StatusNotImplemented, hasCode(err, "UNSUPPORTED"):
		l.Refused = l.refuse(w.shape)
	case status == http.StatusRequestedRangeNotSatisfiable && w.shape == UploadChunks && offset == 0 && length > r.client.sizes.range416:
		l.MaxChunk = r.client.sizes.range416
	case status == http.StatusRequestedRangeNotSatisfiable && w.shape == UploadChunks && offset == 0:
		l.Refused = l.refuse(w.shape)
	}
	changed := l.MaxBody != before.MaxBody || l.MaxChunk != before.MaxChunk || len(l.Refused) != len(before.Refused)
	if !changed {
		r.lessons.mu.Unlock()
		// Another transfer may have learned the same since w was chosen.
		return r.changed(w, length)
	}
	r.learned(err.Error())
	return true
}

// forgets takes the lesson of a chunk that broke off and left nothing.
func (r *remote) forgets() {
	r.lessons.mu.Lock()
	if r.lessons.now.Forgets {
		r.lessons.mu.Unlock()
		return
	}
	r.lessons.now.Forgets = true
	r.learned("what arrived of a chunk was not kept")
}

// learned keeps the lessons as they are now. The caller holds the lock, which is
// given back.
func (r *remote) learned(from string) {
	r.lessons.now.Until = r.client.clock.Now().Add(lessonLife)
	now := r.lessons.now
	r.lessons.mu.Unlock()
	r.client.log.Debug("learned about uploads", "registry", r.settings.Host, "refused", now.Refused, "max_body", now.MaxBody, "max_chunk", now.MaxChunk,
		"forgets", now.Forgets, "from", from)
	if r.client.learned == nil {
		return
	}
	if err := r.client.learned.Learn(r.settings.Host, now); err != nil {
		r.client.log.Debug("a lesson is not kept", "error", err.Error())
	}
}

// changed reports whether a body of length in the shape of w would not be sent
// now any more.
func (r *remote) changed(w way, length int64) bool {
	r.lessons.mu.Lock()
	defer r.lessons.mu.Unlock()
	l := &r.lessons.now
	return slices.Contains(l.Refused, w.shape) || l.MaxBody > 0 && length > l.MaxBody || w.shape == UploadChunks && l.MaxChunk > 0 && length > l.MaxChunk
}

// refuse takes a shape as one that this registry does not do right, for the
// rest of the run.
func (r *remote) refuse(shape Upload) {
	r.lessons.mu.Lock()
	defer r.lessons.mu.Unlock()
	r.lessons.now.Refused = r.lessons.now.refuse(shape)
}

func (l *Lessons) refuse(shape Upload) []Upload {
	if slices.Contains(l.Refused, shape) {
		return l.Refused
	}
	return append(slices.Clone(l.Refused), shape)
}

// String is the shape's name, as in logs and in what is kept.
func (u Upload) String() string {
	switch u {
	case UploadPut:
		return "put"
	case UploadChunks:
		return "chunks"
	case UploadPatch:
		return "patch"
	}
	return "unknown"
}

// MarshalText writes the name.
func (u Upload) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText reads the name.
func (u *Upload) UnmarshalText(text []byte) error {
	for _, known := range []Upload{UploadPut, UploadChunks, UploadPatch} {
		if known.String() == string(text) {
			*u = known
			return nil
		}
	}
	return errors.New("no such form of upload")
}
