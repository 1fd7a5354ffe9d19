package embedded

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"freightliner/providers"
)

// session is one upload in progress. Its fields below turn are used only by
// the request that holds the turn.
type session struct {
	id      string
	name    string
	touched time.Time // guarded by sessions.mu

	turn  chan struct{} // holds one token while nobody writes
	draft Draft
	size  int64
	sum   hash.Hash // SHA-256 of the bytes so far
	ended bool
}

// sessions are the uploads in progress. They do not survive a restart: a
// client then gets BLOB_UPLOAD_UNKNOWN and starts the blob again.
type sessions struct {
	now  func() time.Time
	idle time.Duration
	max  int

	mu   sync.Mutex
	byID map[string]*session
}

func newSessions(o Options) *sessions {
	return &sessions{now: o.Now, idle: o.UploadIdle, max: o.MaxUploads, byID: map[string]*session{}}
}

// start opens a session in repository name.
func (s *sessions) start(store Store, name string) (*session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	if len(s.byID) >= s.max {
		return nil, failf(http.StatusTooManyRequests, "TOOMANYREQUESTS", "%d uploads are open already", s.max)
	}
	draft, err := store.Draft()
	if err != nil {
		return nil, err
	}
	var id [16]byte
	rand.Read(id[:])
	u := &session{
		id: hex.EncodeToString(id[:]), name: name, touched: s.now(),
		turn: make(chan struct{}, 1), draft: draft, sum: sha256.New(),
	}
	u.turn <- struct{}{}
	s.byID[u.id] = u
	return u, nil
}

// expire drops sessions nobody has used for too long. One whose turn is taken
// is being written to right now and stays. The caller holds the lock.
func (s *sessions) expire() {
	for id, u := range s.byID {
		if s.now().Sub(u.touched) < s.idle {
			continue
		}
		select {
		case <-u.turn:
			u.ended = true
			u.draft.Discard() // a leftover file is swept when the directory is opened again
			delete(s.byID, id)
			u.turn <- struct{}{}
		default:
		}
	}
}

// take finds a session and waits for its turn, since a client may come back
// before we noticed that its last connection broke. Give it back with done.
func (s *sessions) take(ctx context.Context, name, id string) (*session, error) {
	s.mu.Lock()
	s.expire()
	u := s.byID[id]
	if u == nil || u.name != name {
		s.mu.Unlock()
		return nil, uploadUnknown(name)
	}
	u.touched = s.now()
	s.mu.Unlock()

	select {
	case <-u.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if u.ended {
		u.turn <- struct{}{}
		return nil, uploadUnknown(name)
	}
	return u, nil
}

// done gives the turn back, and forgets the session when it ended.
func (s *sessions) done(u *session) {
	s.mu.Lock()
	u.touched = s.now()
	if u.ended {
		delete(s.byID, u.id)
	}
	s.mu.Unlock()
	u.turn <- struct{}{}
}

// discard ends the session and forgets its bytes.
func (u *session) discard() error {
	u.ended = true
	return u.draft.Discard()
}

// serveUploads starts an upload: POST alone, with a mount, or with the whole
// blob (distribution-spec 1.1, "Pushing blobs").
func (g *registry) serveUploads(w http.ResponseWriter, r *http.Request, name string) error {
	if r.Method != http.MethodPost {
		return notAllowed(w, "POST")
	}
	query := r.URL.Query()
	if mount, from := query.Get("mount"), query.Get("from"); mount != "" && from != "" {
		mounted, err := g.mount(w, name, mount, from)
		if mounted || err != nil {
			return err
		}
	}
	if want := query.Get("digest"); want != "" {
		return g.uploadAtOnce(w, r, name, want)
	}
	u, err := g.sessions.start(g.store, name)
	if err != nil {
		return err
	}
	progress(w, u, http.StatusAccepted)
	return nil
}

// mount links a blob of another repository. Anything that stands in its way
// means false: the spec wants an upload session then, not an error.
func (g *registry) mount(w http.ResponseWriter, name, mount, from string) (bool, error) {
	d, err := providers.ParseDigest(mount)
	if err != nil || !validName(from) {
		return false, nil
	}
	// A blob that is being deleted from "from" must not be linked after it is gone.
	g.deleting.RLock()
	defer g.deleting.RUnlock()
	linked, err := has(g.store, blobKey(from, d))
	if err != nil || !linked {
		return false, err
	}
	if err := g.store.Write(blobKey(name, d), nil); err != nil {
		return false, err
	}
	created(w, name, d)
	return true, nil
}

// uploadAtOnce is a single POST with the digest and the whole blob.
func (g *registry) uploadAtOnce(w http.ResponseWriter, r *http.Request, name, want string) error {
	d, err := parseDigest(want)
	if err != nil {
		return err
	}
	u, err := g.sessions.start(g.store, name)
	if err != nil {
		return err
	}
	<-u.turn
	defer g.sessions.done(u)
	if err := g.receive(w, r, u); err != nil {
		return errors.Join(err, u.discard())
	}
	return g.commit(w, u, d)
}

func (g *registry) serveUpload(w http.ResponseWriter, r *http.Request, at address) error {
	u, err := g.sessions.take(r.Context(), at.name, at.ref)
	if err != nil {
		return err
	}
	defer g.sessions.done(u)
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		progress(w, u, http.StatusNoContent)
		return nil
	case http.MethodPatch:
		return g.patch(w, r, u)
	case http.MethodPut:
		return g.finish(w, r, u)
	case http.MethodDelete:
		if err := u.discard(); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return notAllowed(w, "GET, HEAD, PATCH, PUT, DELETE")
}

// patch appends a chunk, or a stream of unknown length.
func (g *registry) patch(w http.ResponseWriter, r *http.Request, u *session) error {
	if err := u.expects(r); err != nil {
		return err
	}
	if err := g.receive(w, r, u); err != nil {
		return err
	}
	progress(w, u, http.StatusAccepted)
	return nil
}

// finish closes the upload; the request may bring the last bytes, or all.
func (g *registry) finish(w http.ResponseWriter, r *http.Request, u *session) error {
	d, err := parseDigest(r.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	if err := u.expects(r); err != nil {
		return err
	}
	if err := g.receive(w, r, u); err != nil {
		return err
	}
	return g.commit(w, u, d)
}

var contentRange = providers.Pattern(`^(?:bytes[ =])?([0-9]{1,15})-([0-9]{1,15})(?:/(?:[0-9]+|\*))?$`)

// expects checks Content-Range, when there is one, against what we have.
func (u *session) expects(r *http.Request) error {
	given := r.Header.Get("Content-Range")
	if given == "" {
		return nil
	}
	match := contentRange().FindStringSubmatch(given)
	if match == nil {
		return failf(http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID", "Content-Range is <first>-<last>")
	}
	first, _ := strconv.ParseInt(match[1], 10, 64)
	last, _ := strconv.ParseInt(match[2], 10, 64)
	if first != u.size || last < first {
		return failf(http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID", "this upload has %d bytes; the next chunk starts there", u.size)
	}
	if r.ContentLength >= 0 && r.ContentLength != last-first+1 {
		return failf(http.StatusBadRequest, "SIZE_INVALID", "Content-Range names %d bytes, Content-Length %d", last-first+1, r.ContentLength)
	}
	return nil
}

// bodyIdle is how long a body may pause before its connection is given up.
const bodyIdle = 2 * time.Minute

// receive appends the request's body to the session. Bytes that arrived before
// a connection broke stay, and the status request tells how many they are.
func (g *registry) receive(w http.ResponseWriter, r *http.Request, u *session) error {
	control := http.NewResponseController(w)
	buffer := make([]byte, 64<<10)
	for {
		control.SetReadDeadline(time.Now().Add(bodyIdle)) // a writer without deadlines is a test's own
		n, err := r.Body.Read(buffer)
		if u.size+int64(n) > g.options.MaxBlob {
			return errors.Join(failf(http.StatusRequestEntityTooLarge, "SIZE_INVALID", "a blob has at most %d bytes here", g.options.MaxBlob), u.discard())
		}
		if _, failed := u.draft.Write(buffer[:n]); failed != nil {
			// How much was kept is not known, so nobody may go on from here.
			return errors.Join(failed, u.discard())
		}
		u.sum.Write(buffer[:n])
		u.size += int64(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return failf(http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "the body ended early, after %d bytes of the blob", u.size)
		}
	}
}

// commit makes the bytes a blob of the repository, if they have digest d. A
// wrong digest ends the session, as on the distribution registry: more bytes
// can not make it right.
func (g *registry) commit(w http.ResponseWriter, u *session, d providers.Digest) error {
	got, err := u.digest(d.Algorithm())
	if err != nil {
		return errors.Join(err, u.discard())
	}
	if got != d {
		return errors.Join(digestInvalid(fmt.Errorf("the %d bytes have digest %s, not %s", u.size, got, d)), u.discard())
	}
	u.ended = true
	// Content before link: a link never leads to bytes that are not there.
	if err := u.draft.Keep(contentKey(d)); err != nil {
		return err
	}
	if err := g.store.Write(blobKey(u.name, d), nil); err != nil {
		return err
	}
	created(w, u.name, d)
	return nil
}

// digest is the digest of the session's bytes. SHA-256 was computed on the
// way; the rare other algorithm reads the draft again.
func (u *session) digest(algorithm string) (providers.Digest, error) {
	if algorithm == "sha256" {
		return providers.FromSum(u.sum.Sum(nil)), nil
	}
	content, err := u.draft.Open()
	if err != nil {
		return "", err
	}
	defer content.Close()
	sum := providers.Digest(algorithm + ":").Hash()
	if _, err := io.Copy(sum, content); err != nil {
		return "", err
	}
	return providers.FromSum(sum.Sum(nil)), nil
}

// progress answers where an upload stands. The range of an empty upload reads
// "0-0", like that of one byte: the header has no better word.
func progress(w http.ResponseWriter, u *session, status int) {
	w.Header().Set("Location", "/v2/"+u.name+"/blobs/uploads/"+u.id)
	w.Header().Set("Docker-Upload-UUID", u.id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, u.size-1)))
	if status != http.StatusNoContent {
		w.Header().Set("Content-Length", "0")
	}
	w.WriteHeader(status)
}

func created(w http.ResponseWriter, name string, d providers.Digest) {
	w.Header().Set("Location", "/v2/"+name+"/blobs/"+string(d))
	w.Header().Set("Docker-Content-Digest", string(d))
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}
