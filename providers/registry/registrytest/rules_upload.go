package registrytest

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"freightliner/providers"
)

// upload is what was written down about one session.
type upload struct {
	size    int64 // bytes received; the state that a Location carries
	patches int   // accepted
	first   int64 // bytes of the first accepted PATCH
	started time.Time
	small   bool // the last chunk was below the smallest
	broken  bool // a chunk followed a small one
}

// ruleUpload lets through what the personality's shapes allow.
func (s *site) ruleUpload(w http.ResponseWriter, r *http.Request, name, id string) {
	switch r.Method {
	case http.MethodPost:
		s.startUpload(w, r, name)
	case http.MethodPatch:
		s.patchUpload(w, r, id)
	case http.MethodPut:
		s.finishUpload(w, r, name, id)
	case http.MethodDelete:
		if s.Upload.NoCancel {
			Refusal{Status: http.StatusMethodNotAllowed, Code: "UNSUPPORTED", Text: "an upload can not be given up"}.answer(w)
			return
		}
		s.forget(id)
		s.open.ServeHTTP(w, r)
	default:
		s.uploadStatus(w, r, id)
	}
}

// startUpload opens a session, or mounts, or takes a whole blob.
func (s *site) startUpload(w http.ResponseWriter, r *http.Request, name string) {
	if s.refusePlace(w, name) {
		return
	}
	query := r.URL.Query()
	if query.Get("mount") != "" && query.Get("from") != "" {
		refusal, allowed := s.mayMount(name, query.Get("from"), query.Get("mount"))
		if refusal.set() {
			refusal.answer(w)
			return
		}
		if !allowed {
			query.Del("mount")
			query.Del("from")
		}
	}
	if query.Get("digest") != "" {
		if !s.Upload.SinglePost {
			query.Del("digest") // the bytes are not looked at; the client sends them again
		} else if s.refuseWhole(w, r) {
			return
		}
	}
	r = r.Clone(r.Context())
	r.URL.RawQuery = query.Encode()
	answer := capture(s.open, r)
	switch answer.Code {
	case http.StatusAccepted:
		id := answer.Header().Get("Docker-Upload-UUID")
		s.mu.Lock()
		s.sessions[id] = &upload{started: s.now()}
		s.mu.Unlock()
		s.readdress(r, answer, id)
	case http.StatusCreated:
		s.wrote("blob", name+" "+answer.Header().Get("Docker-Content-Digest"), s.lag.Blobs)
	}
	replay(w, answer)
}

// mayMount decides whether a mount is tried. A mount that is not allowed opens
// a session, as the specification has it, unless there is a refusal.
func (s *site) mayMount(name, from, mount string) (Refusal, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	source := s.repositories[from]
	if s.Mount.NoPlace.set() && s.placeOf(from) == nil {
		return s.Mount.NoPlace, false
	}
	if source == nil && s.Mount.Unknown.set() {
		return s.Mount.Unknown, false
	}
	if s.Mount.Never || s.Mount.Off && !s.mounts || source == nil {
		return Refusal{}, false
	}
	if n := s.Mount.Within; n > 0 && !slices.Equal(leading(name, n), leading(from, n)) {
		return Refusal{}, false
	}
	d := providers.Digest(mount)
	if s.unseen["blob "+from+" "+mount] > 0 {
		s.unseen["blob "+from+" "+mount]--
		return Refusal{}, false
	}
	return Refusal{}, !s.Mount.Committed || slices.ContainsFunc(source.inOrder(), func(m *kept) bool { return slices.Contains(m.blobs, d) })
}

// leading are the first n segments of a name, or all.
func leading(name string, n int) []string {
	segments := strings.Split(name, "/")
	return segments[:min(n, len(segments))]
}

// refuseWhole checks a body that is the whole blob, or the rest of it.
func (s *site) refuseWhole(w http.ResponseWriter, r *http.Request) bool {
	if s.Upload.NeedsLength && r.ContentLength < 0 {
		Refusal{Status: http.StatusLengthRequired, Code: "SIZE_INVALID", Text: "a Content-Length is needed"}.answer(w)
		return true
	}
	if limit := s.Upload.MaxPut; limit > 0 && r.ContentLength > limit {
		s.Upload.OverPut.answer(w)
		return true
	}
	return false
}

func (s *site) patchUpload(w http.ResponseWriter, r *http.Request, id string) {
	u, ok := s.resume(w, r, id)
	if !ok {
		return
	}
	rules := s.Upload
	ranged := r.Header.Get("Content-Range") != ""
	switch {
	case rules.NeedsLength && r.ContentLength < 0:
		Refusal{Status: http.StatusLengthRequired, Code: "SIZE_INVALID", Text: "a Content-Length is needed"}.answer(w)
		return
	case rules.PlainRange && strings.HasPrefix(r.Header.Get("Content-Range"), "bytes"):
		Refusal{Status: http.StatusRequestedRangeNotSatisfiable, Code: "RANGE_INVALID", Text: "the Content-Range header format is invalid"}.answer(w)
		return
	case rules.NoRange && ranged, rules.Patches > 0 && u.patches >= rules.Patches:
		rules.Chunked.answer(w)
		return
	case rules.MaxPatch > 0 && ranged && r.ContentLength > rules.MaxPatch:
		rules.OverPatch.answer(w)
		return
	case rules.MaxParts > 0 && u.patches >= rules.MaxParts:
		Refusal{Status: http.StatusBadRequest, Code: "BLOB_UPLOAD_INVALID", Text: "an upload has too many parts"}.answer(w)
		return
	}
	counted := &counter{ReadCloser: r.Body}
	r.Body = counted
	answer := capture(s.open, r)
	s.mu.Lock()
	u.size += counted.n
	s.mu.Unlock()
	if answer.Code == http.StatusAccepted {
		s.mu.Lock()
		u.broken = u.broken || u.small
		u.small = ranged && counted.n < rules.MinChunk
		if u.patches == 0 {
			u.first = counted.n
		}
		u.patches++
		s.mu.Unlock()
		s.readdress(r, answer, id)
		s.stick(answer, u)
		answer.Code = cmp.Or(rules.PatchStatus, http.StatusAccepted)
	}
	replay(w, answer)
}

type counter struct {
	io.ReadCloser
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	return n, err
}

func (s *site) finishUpload(w http.ResponseWriter, r *http.Request, name, id string) {
	u, ok := s.resume(w, r, id)
	if !ok || s.refuseWhole(w, r) {
		return
	}
	s.mu.Lock()
	tooSmall := u.broken || u.small && r.ContentLength != 0
	s.mu.Unlock()
	if tooSmall {
		Refusal{Status: http.StatusBadRequest, Code: "BLOB_UPLOAD_INVALID", Text: fmt.Sprintf("Layer parts must be at least %d bytes in size", s.Upload.MinChunk)}.answer(w)
		return
	}
	answer := capture(s.open, r)
	if answer.Code == http.StatusCreated {
		s.forget(id)
		s.wrote("blob", name+" "+r.URL.Query().Get("digest"), s.lag.Blobs)
	}
	replay(w, answer)
}

func (s *site) uploadStatus(w http.ResponseWriter, r *http.Request, id string) {
	if s.Upload.NoStatus {
		uploadUnknown.answer(w)
		return
	}
	s.mu.Lock()
	u := s.sessions[id]
	s.mu.Unlock()
	answer := capture(s.open, r)
	if answer.Code == http.StatusNoContent && u != nil {
		s.readdress(r, answer, id)
		s.stick(answer, u)
	}
	replay(w, answer)
}

var uploadUnknown = Refusal{Status: http.StatusNotFound, Code: "BLOB_UPLOAD_UNKNOWN", Text: "blob upload unknown to registry"}

// resume finds the session and checks the state that the address carries.
func (s *site) resume(w http.ResponseWriter, r *http.Request, id string) (*upload, bool) {
	s.mu.Lock()
	u := s.sessions[id]
	if life := s.Upload.Life; u != nil && life > 0 && s.now().Sub(u.started) >= life {
		delete(s.sessions, id)
		u = nil
	}
	var state string
	if u != nil {
		state = strconv.FormatInt(u.size, 10)
	}
	s.mu.Unlock()
	if u == nil {
		uploadUnknown.answer(w)
		return nil, false
	}
	if !s.Upload.State {
		return u, true
	}
	switch given := r.URL.Query().Get("_state"); given {
	case state:
		return u, true
	case "":
		Refusal{Status: http.StatusBadRequest, Code: "BLOB_UPLOAD_INVALID", Text: "the upload's state is missing from the address"}.answer(w)
	default:
		Refusal{Status: http.StatusRequestedRangeNotSatisfiable, Code: "RANGE_INVALID", Text: "upload resumed at wrong offset"}.answer(w)
	}
	return nil, false
}

func (s *site) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, id)
}

// readdress gives the Location its shape, with a fresh state.
func (s *site) readdress(r *http.Request, answer *httptest.ResponseRecorder, id string) {
	location := answer.Header().Get("Location")
	if s.Upload.Elsewhere != "" {
		location = path.Join("/", s.Upload.Elsewhere, strings.TrimPrefix(location, "/v2/"))
	}
	if s.Upload.State {
		s.mu.Lock()
		state := strconv.FormatInt(s.sessions[id].size, 10)
		location += "?" + url.Values{"_nouploadcache": {"false"}, "_state": {state}}.Encode()
		s.mu.Unlock()
	}
	if s.Upload.Absolute {
		location = origin(r) + location
	}
	answer.Header().Set("Location", location)
}

// origin is the address the client talked to, without a path.
func origin(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// stick keeps the Range header at the first chunk, where that is the habit.
func (s *site) stick(answer *httptest.ResponseRecorder, u *upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Upload.StuckRange && u.patches > 1 {
		answer.Header().Set("Range", fmt.Sprintf("0-%d", max(0, u.first-1)))
	}
}
