package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"freightliner/providers"
)

// transfer moves one blob from the source into an upload session.
//
//	small, or no resuming there:  GET ----------------> PUT
//	large:                        GET ----------------> PATCH 0-, PUT (empty)
//	large, nothing kept of a      GET --+-------------> PATCH 0-
//	PATCH that breaks off:              +-------------> PATCH 64 MiB-
//	                                    +- …  --------> PUT (empty)
//
// A source that breaks off is opened again by Range where it stopped, and the
// destination does not notice. A destination that breaks off is asked how much
// it has (or our own count is taken, by profile), and the source is read again
// from the last mark before that. What is confirmed goes to the ledger, so that
// a later run can do the same.
//
// Why this never makes a wrong blob: the digest is taken over the bytes from 0
// to the end in order, continued only from a state that was saved at the same
// offset, and the last byte goes out only when it is right. Bytes between a mark
// and the place where a session is taken up are read twice, sent the first time
// and hashed the second; for those, and always, the registry compares when the
// upload ends. If it disagrees about a session that was taken up, the upload
// starts again in a new one.
type transfer struct {
	*work
	d       providers.Descriptor
	flight  *flight
	session *session // nil when one is to be opened
	marks   *marks   // nil for blobs that start again
	way     way

	at       int64 // bytes in the session
	counted  int64 // bytes told as progress
	resumed  int64 // bytes that tries after a break began behind
	unsure   bool  // the session may have more or less than at
	odd      int   // times that the session was not where it said, in a row
	whole    bool  // all bytes were verified
	takenUp  bool  // the session was continued after a break
	recalled bool  // or comes from an earlier run
	learned  int

	source *feed // open while bytes are sent
	spool  *spooled
	failed error // what the source did, as far as it was seen
	tried  int64 // offset of the last body
	length int64 // and its length
	sent   int64 // offset up to which it was taken by the connection
	blame  *remote
}

const (
	maxOdd   = 1 // a second 416 starts again
	maxLearn = 12
)

// upload moves the bytes of d, as far as possible without sending any twice.
func (w *work) upload(ctx context.Context, d providers.Descriptor, f *flight, open *session) error {
	t := &transfer{work: w, d: d, flight: f, session: open}
	if d.Size >= w.client.sizes.large {
		t.marks = &marks{each: w.client.sizes.between(d.Size)}
		t.takeUp(ctx)
	}
	furthest := t.at
	err := persist(ctx, func() (*remote, bool, error) {
		err := t.try(ctx)
		further := t.at >= furthest+w.client.sizes.start
		furthest = max(furthest, t.at)
		return t.blame, further, err
	})
	t.spool.leave(err != nil)
	if err == nil {
		w.to.counters.resume(t.resumed)
		t.settle()
	}
	return err
}

// try sends what is missing, in another way when the registry refuses one.
func (t *transfer) try(ctx context.Context) error {
	for {
		t.blame = t.to
		if err := t.open(ctx); err != nil {
			return &spent{err}
		}
		var err error
		if t.way, err = t.to.way(t.d.Size, t.session.minChunk); err != nil {
			return t.to.failure(ctx, &call{op: "upload blob to", on: t.job.To.At(t.d.Digest)}, err)
		}
		if t.way.shape != UploadChunks && t.at > 0 {
			t.drop() // no longer in the shape that it was begun in
			continue
		}
		err = t.send(ctx)
		if err == nil || t.blame != t.to || t.learned == maxLearn || !t.to.learn(t.way, t.tried, t.length, err) {
			return err
		}
		if _, none := t.to.way(t.d.Size, 0); none != nil {
			return tooLargeBlob(err, t.d.Size)
		}
		t.learned++
		t.drop()
	}
}

func tooLargeBlob(err error, size int64) error {
	return amend(err, func(e *providers.Error) {
		e.Hint = fmt.Sprintf("The blob has %d bytes, and the registry, or a proxy before it, takes it in no form that we know.", size)
	})
}

// open makes sure that there is a session, and that at is what it has.
func (t *transfer) open(ctx context.Context) (err error) {
	if t.session != nil && t.unsure {
		t.ask(ctx)
	}
	if t.session != nil {
		t.confirm(t.at) // what was sent beyond it did not arrive
		return ctx.Err()
	}
	t.session, _, err = t.client.openUpload(ctx, t.to, t.job.To, t.d.Digest, "")
	return err
}

// ask finds out how much the session has. Without a useful answer it is given up.
func (t *transfer) ask(ctx context.Context) {
	held, err := t.client.askUpload(ctx, t.to, t.job.To, t.d.Digest, t.session)
	if err == nil && t.sent-held > 2*t.client.sizes.keep {
		t.to.forgets()
	}
	if err != nil || held > t.d.Size || held < t.marks.before(t.at).at && held < t.at {
		if ctx.Err() == nil {
			t.drop()
		}
		return
	}
	t.confirm(held)
	t.unsure, t.takenUp = false, true
}

// confirm takes held as what the destination has.
func (t *transfer) confirm(held int64) {
	t.at = held
	t.step(Progress{Bytes: held - t.counted})
	t.counted = held
}

// drop gives the session up: the next try begins a new one.
func (t *transfer) drop() {
	t.session, t.unsure, t.whole, t.takenUp, t.recalled, t.odd, t.resumed = nil, false, false, false, false, 0, 0
	t.confirm(0)
	t.marks.restart()
	t.settle()
}

// send moves the bytes from at on, and ends the upload.
func (t *transfer) send(ctx context.Context) error {
	if t.whole && t.at == t.d.Size {
		release, err := hold(ctx, nil, t.to)
		if err != nil {
			return err
		}
		defer release()
		t.resumed += t.at
		return t.after(ctx, t.client.putBlob(ctx, t.to, t.job.To, t.d.Digest, t.session, nil, 0))
	}
	from := t.marks.before(t.at)
	t.marks.restart(from) // the later ones belong to bytes that are read again
	source, leave, err := t.read(ctx, t.d, from.at, t.spooling(from.at))
	if err != nil {
		t.blame = t.from
		return err
	}
	defer leave()
	v, err := newVerified(source, t.d, from, t.marks)
	if err != nil {
		t.drop()
		return t.again(err)
	}
	content, stop := io.Reader(v), func() {}
	if t.marks != nil {
		content, stop = readAhead(v, t.client.buffers)
	}
	t.source, t.failed = source, nil
	t.resumed += t.at
	err = t.pour(ctx, content, t.at-from.at)
	if err != nil {
		source.Close() // ends a Read of the goroutine that reads ahead
	}
	stop()
	t.whole = v.left == 0
	if t.failed != nil {
		return t.sourceFailed(ctx, t.failed)
	}
	return t.after(ctx, err)
}

// pour reads past what the destination has, and sends the rest.
func (t *transfer) pour(ctx context.Context, content io.Reader, past int64) error {
	if past > 0 {
		if _, err := io.CopyN(io.Discard, content, past); err != nil {
			t.failed = err
			return err
		}
	}
	if t.way.shape == UploadPut {
		delivered, err := t.body(content, t.d.Size, func(body io.Reader) error {
			return t.client.putBlob(ctx, t.to, t.job.To, t.d.Digest, t.session, body, t.d.Size)
		})
		if err == nil && delivered < t.d.Size {
			err = t.early()
		}
		return err
	}
	for t.at < t.d.Size {
		if err := t.patch(ctx, content); err != nil {
			return err
		}
	}
	return t.client.putBlob(ctx, t.to, t.job.To, t.d.Digest, t.session, nil, 0)
}

// patch sends the next chunk, or all in the shape that has only one.
func (t *transfer) patch(ctx context.Context, content io.Reader) error {
	ranged := t.way.shape == UploadChunks
	length := t.d.Size
	if ranged {
		length = min(t.way.chunk, t.d.Size-t.at)
	}
	var held int64
	delivered, err := t.body(content, length, func(body io.Reader) (err error) {
		held, err = t.client.patchBlob(ctx, t.to, t.job.To, t.d.Digest, t.session, body, t.at, length, ranged)
		return err
	})
	switch {
	case err != nil:
		return err
	case delivered < length:
		return t.early()
	case held >= 0 && held != t.at+length && t.to.profile.Resume == ResumeAsk:
		return t.adrift(held, length)
	}
	t.at += length
	t.odd = 0
	t.marks.confirmed(t.at)
	t.save()
	return nil
}

// adrift is a chunk that was taken without an error, after which the registry
// has another number of bytes than were sent. It is asked, and the transfer goes
// on from there; when it happens again at once, its counting can not be relied
// on, and chunks are not for it.
func (t *transfer) adrift(held, length int64) error {
	err := t.again(fmt.Errorf("the registry has %d bytes after %d were sent", held, t.at+length))
	if t.odd++; t.odd > maxOdd {
		t.to.refuse(UploadChunks)
		t.drop()
	}
	return err
}

// body lets send have the next length bytes of content, counts those that were
// taken, and makes sure that nobody reads any more when it returns.
func (t *transfer) body(content io.Reader, length int64, send func(io.Reader) error) (delivered int64, err error) {
	t.tried, t.length, t.sent = t.at, length, t.at
	place := t.place() // now: an answer that comes early moves the session
	kept := t.at
	b := &stoppable{Reader: io.LimitReader(content, length), moved: func(n int) {
		delivered += int64(n)
		t.sent += int64(n)
		if keep := t.client.sizes.keep; t.at+delivered >= kept+2*keep {
			kept += keep
			t.keep(place, kept)
		}
		t.counted += int64(n)
		t.flight.moved.Add(int64(n))
		t.step(Progress{Bytes: int64(n)})
	}}
	if err = send(b); err != nil {
		// The transport may still be inside Read: what it meets from here on is our
		// doing, not the source's.
		b.over.Store(true)
		t.source.Close()
	}
	t.failed = b.stop()
	return delivered, err
}

func (t *transfer) early() error {
	return &providers.Error{Class: providers.Invalid, Op: "upload blob to", On: t.job.To.At(t.d.Digest), Err: errors.New("the registry said done before it had everything")}
}

// again is a failure that passes with the next try.
func (t *transfer) again(err error) error {
	t.unsure = true
	return &providers.Error{Class: providers.Transient, Op: "upload blob to", On: t.job.To.At(t.d.Digest), Err: err}
}

// sourceFailed is the end of a try whose source broke off, or lied.
func (t *transfer) sourceFailed(ctx context.Context, err error) error {
	t.blame = t.from
	failure := t.from.failure(ctx, &call{op: "read blob", on: t.job.From.At(t.d.Digest)}, err)
	wrong := providers.ClassOf(failure) == providers.Conflict
	ours := t.recalled || wrong && t.spool.lied()
	if !ours { // else it may be our own memory that is wrong
		t.from.suspect(failure)
	}
	switch {
	case wrong && ours:
		// The state or the bytes that an earlier try left may be what is wrong.
		t.drop()
		return t.again(failure)
	case t.mayTakeUp() && !wrong:
		t.unsure = t.to.profile.Resume == ResumeAsk
	default:
		t.drop()
	}
	return failure
}

// after judges how sending ended, when the source was not to blame.
func (t *transfer) after(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if t.counted == t.d.Size && t.arrived(ctx, err) {
		return nil
	}
	status := statusOf(err)
	wrong := status == http.StatusRequestedRangeNotSatisfiable
	if wrong {
		t.odd++
	}
	class := providers.ClassOf(err)
	switch {
	case class == providers.Canceled:
		return err
	case t.takenUp && hasCode(err, "DIGEST_INVALID", "SIZE_INVALID", "BLOB_UPLOAD_INVALID"):
		t.drop()
		return t.again(err)
	case !t.mayTakeUp(), t.odd > maxOdd, !wrong && !class.Retryable(), wrong && t.to.profile.Resume == ResumeLedger:
		t.drop()
	default:
		t.unsure = t.to.profile.Resume == ResumeAsk
	}
	return restart(err)
}

// mayTakeUp reports whether the session can be continued after a break.
func (t *transfer) mayTakeUp() bool {
	return t.session != nil && t.marks != nil && t.way.shape == UploadChunks && t.to.profile.Resume != ResumeNever
}

// arrived looks whether an upload is there although its end failed: the answer
// to the last byte may be lost, or come late as a 5xx of a proxy.
func (t *transfer) arrived(ctx context.Context, failure error) bool {
	if providers.ClassOf(failure) != providers.Transient || ctx.Err() != nil {
		return false
	}
	there, err := t.client.headBlob(ctx, t.to, t.job.To, t.d.Digest, pullPush)
	return err == nil && there
}

// restart makes the end of a session (404, or 416 for one that lost its offset)
// a reason to begin anew.
func restart(err error) error {
	var e *providers.Error
	status := statusOf(err)
	if status != http.StatusNotFound && status != http.StatusRequestedRangeNotSatisfiable || hasCode(err, "NAME_UNKNOWN") || !errors.As(err, &e) {
		return err
	}
	anew := *e
	anew.Class = providers.Transient
	return &anew
}

// save writes down what the registry has confirmed, for a later run.
func (t *transfer) save() {
	if t.at < t.d.Size {
		t.record(t.place(), t.at, t.marks.before(t.at))
	}
}

// keep writes down the last mark before offset, which is so far behind what went
// out that the registry very likely has it. The next run asks.
func (t *transfer) keep(place string, offset int64) {
	if m := t.marks.before(offset); m.at > t.at && t.to.profile.Resume == ResumeAsk {
		t.record(place, m.at, m)
	}
}

// place is the path of the session at the registry's own origin; empty for one
// on another host, which is not kept. Its query may be signed and is left out.
func (t *transfer) place() string {
	if t.session.foreign {
		return ""
	}
	return t.session.url.EscapedPath()
}

func (t *transfer) record(place string, offset int64, m mark) {
	if t.client.ledger == nil || !t.mayTakeUp() || place == "" || m.at == 0 {
		return
	}
	err := t.client.ledger.Save(Unfinished{
		Host: t.to.settings.Host, Repository: t.job.To.Path, Digest: t.d.Digest, Size: t.d.Size,
		Location: place, Offset: offset, HashedAt: m.at, Hash: m.state,
		Source: t.job.From.String(), Saved: t.client.clock.Now(),
	})
	if err != nil {
		t.client.forgetful.Do(func() {
			t.client.log.Warn("unfinished uploads can not be kept: a later run starts them again", "error", err.Error())
		})
	}
}

// settle forgets what a later run would take up.
func (t *transfer) settle() {
	if t.client.ledger != nil && t.d.Size >= t.client.sizes.large {
		t.client.ledger.Remove(t.to.settings.Host, t.job.To.Path, t.d.Digest)
	}
}

// takeUp continues the session of an earlier run, if it left one that is still
// there and has at least what was hashed. Anything else starts again.
func (t *transfer) takeUp(ctx context.Context) {
	if t.client.ledger == nil || t.to.profile.Resume == ResumeNever {
		return
	}
	u, ok := t.client.ledger.Load(t.to.settings.Host, t.job.To.Path, t.d.Digest)
	if !ok {
		return
	}
	s := &session{}
	_, stateErr := newVerified(nil, t.d, mark{u.HashedAt, u.Hash}, nil)
	switch {
	case u.Host != t.to.settings.Host || u.Repository != t.job.To.Path || u.Digest != t.d.Digest || u.Size != t.d.Size,
		u.HashedAt <= 0 || u.HashedAt > u.Offset || u.Offset >= t.d.Size || stateErr != nil,
		t.client.clock.Now().Sub(u.Saved) > unfinishedLife,
		s.move(t.to, t.to.url("", nil), u.Location) != nil || s.foreign:
		t.settle()
		return
	}
	held := u.Offset
	if t.to.profile.Resume == ResumeAsk {
		var err error
		held, err = t.client.askUpload(ctx, t.to, t.job.To, t.d.Digest, s)
		if err == nil && held < u.HashedAt {
			t.to.forgets()
		}
		if err != nil || held < u.HashedAt || held > t.d.Size {
			if ctx.Err() == nil {
				t.settle()
			}
			return
		}
	}
	t.session, t.at, t.counted, t.takenUp, t.recalled = s, held, held, true, true
	t.marks.restart(mark{u.HashedAt, u.Hash})
	t.way = way{shape: UploadChunks}
	t.step(Progress{Skipped: held})
	t.client.log.Debug("taking up an upload of an earlier run", "at", t.job.To.At(t.d.Digest), "offset", held)
}

// read opens the content of d from offset on, holding a slot at both
// registries. What the spool has of it goes first, and the source is opened when
// it is its turn. Content that its digest tells (nothing, and the empty JSON object
// of OCI artifacts) needs no request.
func (w *work) read(ctx context.Context, d providers.Descriptor, offset int64, spool *spooled) (f *feed, leave func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	f = &feed{work: w, d: d, ctx: ctx, cancel: cancel, at: offset, opened: offset, spool: spool}
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	for _, known := range []string{"", "{}"} {
		if d.Digest.Of([]byte(known)) != d.Digest {
			continue
		}
		if d.Size != int64(len(known)) {
			return nil, nil, &providers.Error{Class: providers.Conflict, Op: "read blob", On: w.job.From.At(d.Digest),
				Err: fmt.Errorf("the manifest says %d bytes, its digest is that of %d", d.Size, len(known))}
		}
		f.content = io.NopCloser(bytes.NewReader([]byte(known)))
		release, err := hold(ctx, nil, w.to)
		return f, func() { f.Close(); release() }, err
	}
	if d.Size == 0 {
		return nil, nil, &providers.Error{Class: providers.Conflict, Op: "read blob", On: w.job.From.At(d.Digest),
			Err: errors.New("the manifest says 0 bytes, its digest is not that of nothing")}
	}
	for _, r := range []*remote{w.from, w.to} {
		if err := r.rest(ctx, &call{op: "copy blob to", on: w.job.To.At(d.Digest)}); err != nil {
			return nil, nil, err
		}
	}
	release, err := hold(ctx, w.from, w.to)
	if err != nil {
		return nil, nil, err
	}
	if spool.waits() {
		return f, func() { f.Close(); release() }, nil
	}
	if f.content, err = w.client.getBlob(ctx, w.from, w.job.From, d, offset, 0); err != nil {
		release()
		return nil, nil, err
	}
	return f, func() { f.Close(); release() }, nil
}

// feed is the content of a blob that opens itself again when it breaks off
// after a good start.
type feed struct {
	*work
	d      providers.Descriptor
	ctx    context.Context
	cancel context.CancelFunc

	at     int64 // next byte
	opened int64 // where content was opened
	given  int64 // bytes that came out of the spool
	spool  *spooled

	mu      sync.Mutex
	content io.ReadCloser // nil until the spool has given what it has
}

func (f *feed) Read(p []byte) (int, error) {
	if n := f.spool.read(p); n > 0 {
		f.at += int64(n)
		f.given = f.at
		return n, nil
	}
	if f.content == nil {
		if f.at == f.d.Size {
			return 0, io.EOF
		}
		if err := f.open(); err != nil {
			return 0, err
		}
	}
	for {
		n, err := f.content.Read(p)
		f.spool.add(p[:min(int64(n), f.d.Size-f.at)])
		f.at += int64(n)
		if n > 0 {
			return n, nil
		}
		if err == nil || f.at >= f.d.Size || f.at < f.opened+f.client.sizes.start || f.ctx.Err() != nil {
			return 0, err
		}
		if again := f.reopen(err); again != nil {
			return 0, err
		}
	}
}

// reopen goes on where content broke off. The slot is still held.
func (f *feed) reopen(cause error) error {
	r := f.from
	if !r.budget.spend() {
		return cause
	}
	f.client.log.Debug("reading on", "from", f.job.From.At(f.d.Digest), "offset", f.at, "error", cause.Error())
	if err := f.client.clock.Wait(f.ctx, r.backoff(1, cause)); err != nil {
		return err
	}
	r.counters.retry()
	return f.open()
}

// open opens the source at the next byte.
func (f *feed) open() error {
	return f.from.again(f.ctx, func() error {
		content, err := f.client.getBlob(f.ctx, f.from, f.job.From, f.d, f.at, f.given)
		if err != nil {
			return err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.content != nil {
			f.content.Close()
		}
		f.content, f.opened = content, f.at
		return nil
	})
}

// Close ends a Read under way.
func (f *feed) Close() error {
	f.cancel()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.content == nil {
		return nil
	}
	return f.content.Close()
}

// stoppable is a body that can be taken away from a transport that still reads
// it: after stop nobody is inside Read, and nobody gets in.
type stoppable struct {
	io.Reader
	moved func(n int)
	over  atomic.Bool // the outcome is known

	mu      sync.Mutex
	stopped bool
	failed  error // what Reader did wrong while it mattered
}

func (s *stoppable) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return 0, errors.New("the upload is over")
	}
	n, err := s.Reader.Read(p)
	if n > 0 {
		s.moved(n)
	}
	if err != nil && err != io.EOF && !s.over.Load() {
		s.failed = err
	}
	return n, err
}

// stop gives the error of the source, if that is what ended the body.
func (s *stoppable) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	return s.failed
}
