package registrytest

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"freightliner/providers"
	"freightliner/providers/registry/embedded"
)

// rule is the personality at work: it refuses, changes or passes on one
// request of the distribution API whose name is valid and that may come in.
func (s *site) rule(w http.ResponseWriter, r *http.Request) {
	kind, name, reference := embedded.Endpoint(r.URL.Path)
	walking := kind == "tags" && s.Listing.Maps // what lies between the root and an image can be listed, too
	if name != "" && !walking && s.refuseName(w, name) {
		return
	}
	if s.refuseDigest(w, r, reference) || s.refuseUnknown(w, r, name) {
		return
	}
	switch kind {
	case "catalog":
		s.ruleCatalog(w, r)
	case "tags":
		s.ruleTags(w, r, name)
	case "manifest":
		s.ruleManifest(w, r, name, reference)
	case "blob":
		s.ruleBlob(w, r, name, reference)
	case "upload":
		s.ruleUpload(w, r, name, reference)
	default:
		s.open.ServeHTTP(w, r)
	}
}

func (s *site) refuseName(w http.ResponseWriter, name string) bool {
	segments := strings.Count(name, "/") + 1
	n := s.Names
	if segments >= n.Min && (n.Max == 0 || segments <= n.Max) && (n.Length == 0 || len(name) <= n.Length) &&
		(n.Grammar == nil || n.Grammar.MatchString(name)) {
		return false
	}
	n.Refusal.answer(w)
	return true
}

// refuseUnknown hides whether a repository exists from readers.
func (s *site) refuseUnknown(w http.ResponseWriter, r *http.Request, name string) bool {
	if !s.Unknown.set() || name == "" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	s.mu.Lock()
	known := s.repositories[name] != nil
	s.mu.Unlock()
	if !known {
		s.Unknown.answer(w)
	}
	return !known
}

// refuseDigest keeps digests of other algorithms out.
func (s *site) refuseDigest(w http.ResponseWriter, r *http.Request, reference string) bool {
	if !s.SHA256Only {
		return false
	}
	query := r.URL.Query()
	for _, given := range []string{reference, query.Get("digest"), query.Get("mount")} {
		if strings.HasPrefix(given, "sha512:") {
			Refusal{Status: http.StatusBadRequest, Code: "DIGEST_INVALID", Text: "only sha256 is known here"}.answer(w)
			return true
		}
	}
	return false
}

// refusePlace keeps pushes out of what was not created.
func (s *site) refusePlace(w http.ResponseWriter, name string) bool {
	if s.exists(name) && !s.stillUnseen("repository", s.placeName(name)) {
		return false
	}
	s.Create.Refusal.answer(w)
	return true
}

func (s *site) placeName(repository string) string {
	if s.Create.Place == nil {
		return repository
	}
	return s.Create.Place(repository)
}

// stillUnseen reports whether a lookup comes too early after the write.
func (s *site) stillUnseen(what, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key = what + " " + key
	if s.unseen[key] == 0 {
		return false
	}
	s.unseen[key]--
	return true
}

// wrote starts the lag after a write.
func (s *site) wrote(what, key string, lookups int) {
	if lookups > 0 {
		s.mu.Lock()
		s.unseen[what+" "+key] = lookups
		s.mu.Unlock()
	}
}

func (s *site) ruleManifest(w http.ResponseWriter, r *http.Request, name, reference string) {
	switch r.Method {
	case http.MethodPut:
		s.putManifest(w, r, name, reference)
	case http.MethodDelete:
		s.deleteManifest(w, r, name, reference)
	default:
		s.readManifest(w, r, name, reference)
	}
}

func (s *site) readManifest(w http.ResponseWriter, r *http.Request, name, reference string) {
	if s.Limits.Pulls && s.meter(w, r) {
		return
	}
	if s.stillUnseen("manifest", name+" "+reference) {
		manifestUnknown(name, reference).answer(w)
		return
	}
	s.mu.Lock()
	known := s.repositories[name]
	empty := known != nil && len(known.manifests) == 0 && len(known.blobs) == 0
	s.mu.Unlock()
	if empty { // created and never written to, which the embedded registry does not know
		manifestUnknown(name, reference).answer(w)
		return
	}
	s.open.ServeHTTP(w, r)
}

func manifestUnknown(name, reference string) Refusal {
	return Refusal{Status: http.StatusNotFound, Code: "MANIFEST_UNKNOWN", Text: name + " has no manifest " + reference}
}

// meter counts a pull and says how many are left; true when none was. A HEAD
// tells the numbers and costs nothing (docs.docker.com/docker-hub/usage/pulls).
func (s *site) meter(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	over := s.pullLimit > 0 && s.pulls >= s.pullLimit
	if r.Method == http.MethodGet && !over {
		s.pulls++
	}
	if s.pullLimit > 0 {
		window := fmt.Sprintf(";w=%d", int(s.pullWindow.Seconds()))
		w.Header().Set("Ratelimit-Limit", fmt.Sprint(s.pullLimit)+window)
		w.Header().Set("Ratelimit-Remaining", fmt.Sprint(s.pullLimit-s.pulls)+window)
	}
	if r.Method != http.MethodGet || !over {
		return false
	}
	Refusal{Status: http.StatusTooManyRequests, Code: "TOOMANYREQUESTS", Text: "You have reached your pull rate limit."}.answer(w)
	return true
}

func (s *site) putManifest(w http.ResponseWriter, r *http.Request, name, reference string) {
	if s.refusePlace(w, name) {
		return
	}
	limit := cmp.Or(s.Manifest.MaxSize, embedded.ManifestLimit)
	raw, err := io.ReadAll(io.LimitReader(r.Body, int64(limit)+1))
	if err != nil {
		Refusal{Status: http.StatusBadRequest, Code: "MANIFEST_INVALID", Text: "the body ended early"}.answer(w)
		return
	}
	if len(raw) > limit {
		Refusal{Status: http.StatusRequestEntityTooLarge, Code: "MANIFEST_INVALID", Text: fmt.Sprintf("a manifest has at most %d bytes", limit)}.answer(w)
		return
	}
	d := providers.SHA256(raw)
	tags := s.several(r, reference)
	if s.refuseMove(w, name, reference, d) || s.refuseTags(w, name, tags, d) {
		return
	}
	m := describe(d, r.Header.Get("Content-Type"), raw)
	if missing := s.lagging(name, m); missing != "" {
		Refusal{Status: http.StatusBadRequest, Code: "MANIFEST_BLOB_UNKNOWN", Text: "blob unknown to registry: " + missing}.answer(w)
		return
	}
	r.Body = io.NopCloser(strings.NewReader(string(raw)))
	answer := capture(s.open, r)
	if answer.Code == http.StatusBadRequest && s.Manifest.Missing.set() && strings.Contains(answer.Body.String(), "MANIFEST_BLOB_UNKNOWN") {
		s.Manifest.Missing.answer(w)
		return
	}
	if answer.Code == http.StatusCreated {
		s.wrote("manifest", name+" "+reference, s.lag.Manifests)
		s.wrote("manifest", name+" "+string(d), s.lag.Manifests)
		s.tagAll(answer.Header(), r, name, tags, raw, d)
	}
	replay(w, answer)
}

// several are the tags in the query of a PUT by digest, where they are looked at.
func (s *site) several(r *http.Request, reference string) []string {
	if !strings.Contains(reference, ":") || !s.Manifest.Tags.Together && !s.Manifest.Tags.Refusal.set() {
		return nil
	}
	return r.URL.Query()["tag"]
}

func (s *site) refuseTags(w http.ResponseWriter, name string, tags []string, d providers.Digest) bool {
	rules := s.Manifest.Tags
	switch {
	case len(tags) > 0 && rules.Refusal.set():
		rules.Refusal.answer(w)
		return true
	case rules.Most > 0 && len(tags) > rules.Most:
		Refusal{Status: http.StatusRequestURITooLong, Code: "MANIFEST_INVALID", Text: fmt.Sprintf("at most %d tags at once", rules.Most)}.answer(w)
		return true
	}
	return !rules.Skips && slices.ContainsFunc(tags, func(tag string) bool { return s.refuseMove(w, name, tag, d) })
}

// tagAll sets the tags of a manifest that was stored, and names them.
func (s *site) tagAll(h http.Header, r *http.Request, name string, tags []string, raw []byte, d providers.Digest) {
	var set []string
	for _, tag := range tags {
		if s.keeps(name, tag, d) {
			continue
		}
		one := r.Clone(r.Context())
		one.URL.Path, one.URL.RawQuery = "/v2/"+name+"/manifests/"+tag, ""
		one.Body = io.NopCloser(strings.NewReader(string(raw)))
		if answer := capture(s.open, one); answer.Code == http.StatusCreated {
			s.wrote("manifest", name+" "+tag, s.lag.Manifests)
			set = append(set, tag)
		}
	}
	if s.Manifest.Tags.Listed && len(set) > 0 {
		set = []string{strings.Join(set, ", ")}
	}
	for _, value := range set {
		h.Add("OCI-Tag", value)
	}
}

// refuseMove protects the tags of an immutable repository.
func (s *site) refuseMove(w http.ResponseWriter, name, tag string, d providers.Digest) bool {
	if !s.keeps(name, tag, d) {
		return false
	}
	refusal := s.Manifest.Immutable
	refusal.Text = strings.NewReplacer("{tag}", tag, "{name}", name).Replace(refusal.Text)
	refusal.answer(w)
	return true
}

// keeps reports whether a tag may not be written with d.
func (s *site) keeps(name, tag string, d providers.Digest) bool {
	if strings.Contains(tag, ":") {
		return false
	}
	s.mu.Lock()
	var before *tagged
	if known := s.repositories[name]; known != nil {
		before = known.tags[tag]
	}
	protected := s.guard(name).covers(tag)
	s.mu.Unlock()
	return protected && before != nil && (before.digest != d || s.Manifest.SameToo)
}

// guard is the protection that holds for a repository: its own, or that of its
// place. The caller holds mu.
func (s *site) guard(name string) Protection {
	if own := s.places[name]; own != nil && own.guard.On {
		return own.guard
	}
	if at := s.placeOf(name); at != nil {
		return at.guard
	}
	return Protection{}
}

// lagging is a blob the replica that takes the manifest has not seen yet.
func (s *site) lagging(name string, m *kept) string {
	for _, blob := range m.blobs {
		if s.stillUnseen("blob", name+" "+string(blob)) {
			return string(blob)
		}
	}
	return ""
}

func (s *site) deleteManifest(w http.ResponseWriter, r *http.Request, name, reference string) {
	byTag := !strings.Contains(reference, ":")
	switch {
	case byTag && s.Delete.Tag.set():
		s.Delete.Tag.answer(w)
		return
	case !byTag && s.Delete.Digest.set():
		s.Delete.Digest.answer(w)
		return
	}
	s.mu.Lock()
	var points []string
	if known := s.repositories[name]; known != nil {
		points = known.named(providers.Digest(reference))
	}
	s.mu.Unlock()
	if !byTag && len(points) > 0 && s.Delete.Tagged.set() {
		s.Delete.Tagged.answer(w)
		return
	}
	if byTag && s.Delete.LastTag {
		if s.takeAway(name, reference) == http.StatusAccepted {
			w.WriteHeader(http.StatusAccepted)
			return
		}
	}
	s.open.ServeHTTP(w, r)
}

func (s *site) ruleBlob(w http.ResponseWriter, r *http.Request, name, reference string) {
	if r.Method == http.MethodDelete && s.Delete.Blob.set() {
		s.Delete.Blob.answer(w)
		return
	}
	if s.stillUnseen("blob", name+" "+reference) {
		Refusal{Status: http.StatusNotFound, Code: "BLOB_UNKNOWN", Text: name + " has no blob " + reference}.answer(w)
		return
	}
	if s.storage != nil && r.Method == http.MethodGet {
		s.lead(w, r, name, reference)
		return
	}
	s.open.ServeHTTP(w, r)
}

// lead sends a reader to the storage, if the blob is there.
func (s *site) lead(w http.ResponseWriter, r *http.Request, name, reference string) {
	at := "/v2/" + name + "/blobs/" + reference
	if answer := s.ask(http.MethodHead, at); answer.Code != http.StatusOK {
		s.open.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Location", s.storage.address(at))
	w.Header().Set("Docker-Content-Digest", reference)
	w.WriteHeader(http.StatusTemporaryRedirect)
}
