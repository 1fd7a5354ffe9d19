package registrytest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"freightliner/providers"
	"freightliner/providers/registry/embedded"
)

// site is a running registry with a personality. Requests take this way:
//
//	front ─ door (login) ─ rules ─ keep ─ endpoints of the embedded registry
//	  └ api                          ^
//	back door ───────────────────────┘
//
// keep writes down what the embedded registry does not remember: when
// something was pushed, what a manifest refers to, how a repository was made.
type site struct {
	Personality
	now     func() time.Time
	tokens  *embedded.Tokens // nil without a login by token
	locked  bool             // a login is asked for
	users   []embedded.User
	secret  string   // the owner's password
	storage *Storage // nil when blobs are read here

	inner http.Handler // the embedded endpoints
	open  http.Handler // keep over inner: the back door

	writing sync.Mutex // held while a manifest is written and written down

	mu           sync.Mutex
	repositories map[string]*repository
	places       map[string]*place
	sessions     map[string]*upload
	passwords    map[string]time.Time // given out by an API, with their end
	lag          Lag
	unseen       map[string]int // what was written, to the lookups that do not see it yet
	pulls        int
	pullLimit    int
	pullWindow   time.Duration
	mounts       bool // Mount.Off was lifted
}

// place is something that was created before a push: a repository at ECR, a
// project at Harbor.
type place struct {
	created  time.Time
	settings map[string]json.RawMessage // as they came with the request
	guard    Protection
}

// repository is what was written down about one repository.
type repository struct {
	id        int // counted from 1, in the order of their making
	created   time.Time
	manifests map[providers.Digest]*kept
	tags      map[string]*tagged
	blobs     map[providers.Digest]time.Time
}

type kept struct {
	digest    providers.Digest
	mediaType string
	size      int64 // of the manifest itself
	total     int64 // of config and layers
	artifact  string
	subject   providers.Digest
	pushed    time.Time
	blobs     []providers.Digest
	children  []child
}

type child struct {
	digest   providers.Digest
	platform map[string]string
}

type tagged struct {
	digest         providers.Digest
	created, moved time.Time
}

func newSite(p Personality, s settings) *site {
	now := s.Now
	if now == nil {
		now = time.Now
	}
	return &site{
		Personality: p, now: now, users: s.users, lag: s.lag, pullLimit: s.pullLimit, pullWindow: s.pullWindow,
		repositories: map[string]*repository{}, places: map[string]*place{}, sessions: map[string]*upload{},
		passwords: map[string]time.Time{}, unseen: map[string]int{},
	}
}

// within is the site between the embedded registry's door and its endpoints.
func (s *site) within(endpoints http.Handler) http.Handler {
	s.inner = endpoints
	s.open = http.HandlerFunc(s.keep)
	return http.HandlerFunc(s.rule)
}

// front is the site with its own interface, before the embedded registry.
func (s *site) front(registry http.Handler) http.Handler {
	var api http.Handler
	if s.api != nil {
		api = s.api(s)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if elsewhere := s.Upload.Elsewhere; elsewhere != "" && strings.HasPrefix(r.URL.Path, elsewhere) {
			r = r.Clone(r.Context())
			r.URL.Path = "/v2/" + strings.TrimPrefix(r.URL.Path, elsewhere)
			registry.ServeHTTP(w, r)
			return
		}
		if kind, _, _ := s.endpoint(r.URL.Path); kind == "other" && api != nil {
			api.ServeHTTP(w, r)
			return
		}
		registry.ServeHTTP(w, r)
	})
}

// endpoint is [embedded.Endpoint] with the site's own paths.
func (s *site) endpoint(at string) (kind, repository, reference string) {
	if at == s.tokenPath() {
		return "token", "", ""
	}
	if elsewhere := s.Upload.Elsewhere; elsewhere != "" && strings.HasPrefix(at, elsewhere) {
		at = "/v2/" + strings.TrimPrefix(at, elsewhere)
	}
	return embedded.Endpoint(at)
}

func (s *site) tokenPath() string { return cmp.Or(s.Login.Path, embedded.TokenPath) }

// capture lets next answer into memory. Only for answers that are small.
func capture(next http.Handler, r *http.Request) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	next.ServeHTTP(answer, r)
	return answer
}

// replay sends a captured answer.
func replay(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}

// keep passes a request on and writes down what it changed, before the answer
// goes out.
func (s *site) keep(w http.ResponseWriter, r *http.Request) {
	kind, name, reference := embedded.Endpoint(r.URL.Path)
	switch {
	case kind == "manifest" && (r.Method == http.MethodPut || r.Method == http.MethodDelete):
		s.keepManifest(w, r, name, reference)
	case kind == "upload" && (r.Method == http.MethodPut || r.Method == http.MethodPost):
		answer := capture(s.inner, r)
		if d, err := providers.ParseDigest(answer.Header().Get("Docker-Content-Digest")); err == nil && answer.Code == http.StatusCreated {
			s.mu.Lock()
			s.repository(name).blobs[d] = s.now()
			s.mu.Unlock()
		}
		replay(w, answer)
	case kind == "blob" && r.Method == http.MethodDelete:
		answer := capture(s.inner, r)
		if answer.Code == http.StatusAccepted {
			s.mu.Lock()
			delete(s.repository(name).blobs, providers.Digest(reference))
			s.mu.Unlock()
		}
		replay(w, answer)
	default:
		s.inner.ServeHTTP(w, r)
	}
}

func (s *site) keepManifest(w http.ResponseWriter, r *http.Request, name, reference string) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, embedded.ManifestLimit+1))
	if err != nil {
		Refusal{Status: http.StatusBadRequest, Code: "MANIFEST_INVALID", Text: "the body ended early"}.answer(w)
		return
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(strings.NewReader(string(raw)))

	s.writing.Lock() // so that of two writers of one tag, the later is also written down later
	defer s.writing.Unlock()
	answer := capture(s.inner, r)
	s.mu.Lock()
	switch {
	case r.Method == http.MethodPut && answer.Code == http.StatusCreated:
		d := providers.Digest(answer.Header().Get("Docker-Content-Digest"))
		s.repository(name).put(reference, describe(d, r.Header.Get("Content-Type"), raw), s.now())
	case r.Method == http.MethodDelete && answer.Code == http.StatusAccepted:
		s.repository(name).remove(reference)
	}
	s.mu.Unlock()
	replay(w, answer)
}

// repository finds or makes the record of a repository. The caller holds mu.
func (s *site) repository(name string) *repository {
	known := s.repositories[name]
	if known == nil {
		known = &repository{
			id: len(s.repositories) + 1, created: s.now(),
			manifests: map[providers.Digest]*kept{}, tags: map[string]*tagged{}, blobs: map[providers.Digest]time.Time{},
		}
		s.repositories[name] = known
	}
	return known
}

// describe reads what a manifest refers to. It was accepted already.
func describe(d providers.Digest, mediaType string, raw []byte) *kept {
	var m struct {
		ArtifactType string `json:"artifactType"`
		Subject      struct {
			Digest providers.Digest `json:"digest"`
		} `json:"subject"`
		Config *struct {
			MediaType string           `json:"mediaType"`
			Digest    providers.Digest `json:"digest"`
			Size      int64            `json:"size"`
		} `json:"config"`
		Layers []struct {
			Digest providers.Digest `json:"digest"`
			Size   int64            `json:"size"`
		} `json:"layers"`
		Manifests []struct {
			Digest   providers.Digest  `json:"digest"`
			Platform map[string]string `json:"platform"`
		} `json:"manifests"`
	}
	json.Unmarshal(raw, &m)
	k := &kept{digest: d, mediaType: mediaType, size: int64(len(raw)), artifact: m.ArtifactType, subject: m.Subject.Digest}
	if m.Config != nil {
		k.blobs, k.total = append(k.blobs, m.Config.Digest), m.Config.Size
		k.artifact = cmp.Or(k.artifact, m.Config.MediaType)
	}
	for _, layer := range m.Layers {
		k.blobs, k.total = append(k.blobs, layer.Digest), k.total+layer.Size
	}
	for _, below := range m.Manifests {
		k.children = append(k.children, child{below.Digest, below.Platform})
	}
	return k
}

func (r *repository) put(reference string, m *kept, now time.Time) {
	m.pushed = now
	if before := r.manifests[m.digest]; before != nil {
		m.pushed = before.pushed
	}
	r.manifests[m.digest] = m
	if strings.Contains(reference, ":") {
		return
	}
	before := r.tags[reference]
	switch {
	case before == nil:
		r.tags[reference] = &tagged{m.digest, now, now}
	case before.digest != m.digest:
		before.digest, before.moved = m.digest, now
	}
}

func (r *repository) remove(reference string) {
	if !strings.Contains(reference, ":") {
		delete(r.tags, reference)
		return
	}
	d := providers.Digest(reference)
	delete(r.manifests, d)
	maps.DeleteFunc(r.tags, func(_ string, t *tagged) bool { return t.digest == d })
}

// named are the tags that point at d, sorted.
func (r *repository) named(d providers.Digest) []string {
	names := []string{}
	for tag, t := range r.tags {
		if t.digest == d {
			names = append(names, tag)
		}
	}
	slices.Sort(names)
	return names
}

// updated is the last time a tag or manifest was written.
func (r *repository) updated() time.Time {
	last := r.created
	for _, t := range r.tags {
		if t.moved.After(last) {
			last = t.moved
		}
	}
	for _, m := range r.manifests {
		if m.pushed.After(last) {
			last = m.pushed
		}
	}
	return last
}

// size is what pulling m moves, children of an index included.
func (r *repository) size(m *kept) int64 {
	total := m.total
	for _, c := range m.children {
		if below := r.manifests[c.digest]; below != nil {
			total += r.size(below)
		}
	}
	return total
}

// inOrder are the manifests by digest.
func (r *repository) inOrder() []*kept {
	return slices.SortedFunc(maps.Values(r.manifests), func(a, b *kept) int { return strings.Compare(string(a.digest), string(b.digest)) })
}

// names are the repositories below a prefix that ends in "/" or is empty.
// The caller holds mu.
func (s *site) names(prefix string) []string {
	var found []string
	for name := range s.repositories {
		if strings.HasPrefix(name, prefix) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

// placeOf is what must exist before a push to the repository; nil for nothing
// or when it is missing. The caller holds mu.
func (s *site) placeOf(repository string) *place {
	if s.Create.Place == nil {
		return s.places[repository]
	}
	return s.places[s.Create.Place(repository)]
}

// exists reports whether a push to the repository may go on.
func (s *site) exists(repository string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Create.Place == nil || s.placeOf(repository) != nil
}

// create makes a place, or says why not: "exists", "limit".
func (s *site) create(name string, settings map[string]json.RawMessage) (*place, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.places[name] != nil {
		return s.places[name], "exists"
	}
	if s.Create.Limit > 0 && len(s.places) >= s.Create.Limit {
		return nil, "limit"
	}
	made := &place{created: s.now(), settings: settings}
	s.places[name] = made
	if s.Create.Place != nil && s.Create.Place(name) == name {
		s.repository(name) // the place is the repository itself
	}
	if s.lag.Repositories > 0 {
		s.unseen["repository "+name] = s.lag.Repositories
	}
	return made, ""
}

// Protection says which tags may not be moved: those that match Only (all when
// empty) and not Except. "*" stands for any run of characters.
type Protection struct {
	On           bool
	Only, Except []string
}

func (p Protection) covers(tag string) bool {
	matches := func(pattern string) bool {
		ok, err := path.Match(pattern, tag)
		return ok && err == nil
	}
	return p.On && (len(p.Only) == 0 || slices.ContainsFunc(p.Only, matches)) && !slices.ContainsFunc(p.Except, matches)
}

// answer refuses a request in the API's words. The caller has written nothing.
func (f Refusal) answer(w http.ResponseWriter) {
	if f.Drop {
		panic(http.ErrAbortHandler)
	}
	writeJSON(w, f.Status, map[string]any{"errors": []map[string]string{{"code": f.Code, "message": f.Text}}})
}

func (f Refusal) set() bool { return f.Status != 0 || f.Drop }

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("registrytest: answer: %v", err)) // only values of our own types come here
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

// backDoor runs requests without a network, past rules, login and recorder.
type backDoor struct{ handler http.Handler }

// RoundTrip implements [http.RoundTripper].
func (b backDoor) RoundTrip(r *http.Request) (*http.Response, error) {
	request := r.Clone(r.Context())
	if request.Body == nil {
		request.Body = http.NoBody
	}
	return capture(b.handler, request).Result(), nil
}
