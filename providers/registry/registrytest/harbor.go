package registrytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"freightliner/providers"
)

// firstSegment is the project, or the repository key, of a repository.
func firstSegment(name string) string { return leading(name, 1)[0] }

// Harbor is the registry of the Harbor project, version 2.
var Harbor = Personality{
	Kind: "harbor",
	Traits: Traits{
		Referrers:     true, // since 2.8
		StrictSession: true, // distribution underneath
		// goharbor/harbor#6784, #22194: only a system admin may list everything.
		Catalog: http.StatusUnauthorized,
		// src/server/registry/manifest.go, deleteManifest: by digest only, and
		// UNSUPPORTED is a 400 in src/lib/http/error.go.
		NoTagDelete: http.StatusBadRequest,
	},
	SHA256Only: true,
	Names:      NameRules{Min: 2, Refusal: Refusal{Status: http.StatusBadRequest, Code: "BAD_REQUEST", Text: "the name needs a project"}},
	Create:     CreateRules{Place: firstSegment, Refusal: Refusal{Status: http.StatusNotFound, Code: "NOT_FOUND", Text: "project not found"}},
	Upload:     UploadRules{State: true},
	Mount: MountRules{
		// goharbor/harbor#17097, #22078: a source in an unknown project.
		NoPlace: Refusal{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Text: "unauthorized to access repository"},
	},
	Manifest: ManifestRules{
		// PRECONDITION is 412 in src/lib/http/error.go; rules hold for a project.
		Immutable: Refusal{Status: http.StatusPreconditionFailed, Code: "PRECONDITION", Text: "Failed to process request due to '{name}:{tag}' configured as immutable."},
	},
	Delete:  DeleteRules{Tag: Refusal{Status: http.StatusBadRequest, Code: "UNSUPPORTED", Text: "unsupported digest"}},
	Listing: ListingRules{Catalog: Refusal{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Text: "unauthorized to list catalog"}, Page: 100, Max: 1000, Full: true},
	Login:   LoginRules{Path: "/service/token", Service: "harbor-registry", Field: "both", Life: 30 * time.Minute},
	api:     harborAPI,
}

var harborPath = regexp.MustCompile(`^/api/v2\.0/projects(?:/([^/]+)(?:/repositories(?:/([^/]+)(?:/artifacts(?:/([^/]+)(?:/tags(?:/([^/]+))?)?)?)?)?)?)?$`)

// harborAPI is /api/v2.0 (goharbor/harbor, api/v2.0/swagger.yaml).
func harborAPI(s *site) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.knows(r) {
			Refusal{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Text: "unauthorized"}.answer(w)
			return
		}
		at := r.URL.EscapedPath()
		match := harborPath.FindStringSubmatch(at)
		if match == nil {
			harborNotFound(w, "path "+at)
			return
		}
		project, repository, reference, tag := match[1], match[2], match[3], match[4]
		switch {
		case project == "" && r.Method == http.MethodPost:
			s.harborCreate(w, r)
		case project == "" && r.Method == http.MethodGet:
			s.harborProjects(w, r)
		case !s.hasPlace(project):
			harborNotFound(w, "project "+project)
		case repository != "":
			s.harborRepository(w, r, project, repository, reference, tag, strings.Contains(at, "/artifacts"))
		case strings.HasSuffix(at, "/repositories") && r.Method == http.MethodGet:
			s.harborRepositories(w, r, project)
		case r.Method == http.MethodGet || r.Method == http.MethodHead:
			s.mu.Lock()
			defer s.mu.Unlock()
			writeJSON(w, http.StatusOK, s.harborProject(project))
		default:
			harborNotFound(w, "method "+r.Method)
		}
	})
}

func harborNotFound(w http.ResponseWriter, what string) {
	Refusal{Status: http.StatusNotFound, Code: "NOT_FOUND", Text: what + " not found"}.answer(w)
}

func (s *site) hasPlace(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.places[name] != nil
}

// harborPage is a page of 10, of page_size, or of at most 100; the number of
// all in X-Total-Count, and neighbours in Link (goharbor/harbor#17787). More
// than 100 is an error.
func harborPage[T any](w http.ResponseWriter, r *http.Request, entries []T) ([]T, bool) {
	if n, err := strconv.Atoi(r.URL.Query().Get("page_size")); err == nil && (n > 100 || n < 1) {
		Refusal{Status: http.StatusUnprocessableEntity, Code: "UNPROCESSABLE_ENTITY", Text: "page_size in query should be less than or equal to 100"}.answer(w)
		return nil, false
	}
	page, size := pageOf(r, 10, 100)
	w.Header().Set("X-Total-Count", strconv.Itoa(len(entries)))
	var links []string
	if page > 1 {
		links = append(links, fmt.Sprintf(`<%s>; rel="prev"`, pageLink(r, page-1)))
	}
	if page*size < len(entries) {
		links = append(links, fmt.Sprintf(`<%s>; rel="next"`, pageLink(r, page+1)))
	}
	if len(links) > 0 {
		w.Header().Set("Link", strings.Join(links, " , "))
	}
	return cut(entries, page, size), true
}

func (s *site) harborCreate(w http.ResponseWriter, r *http.Request) {
	var given struct {
		Name string `json:"project_name"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&given); err != nil || given.Name == "" {
		Refusal{Status: http.StatusBadRequest, Code: "BAD_REQUEST", Text: "project_name is missing"}.answer(w)
		return
	}
	if _, why := s.create(given.Name, nil); why != "" {
		Refusal{Status: http.StatusConflict, Code: "CONFLICT", Text: "The project named " + given.Name + " already exists"}.answer(w)
		return
	}
	w.Header().Set("Location", "/api/v2.0/projects/"+given.Name)
	w.WriteHeader(http.StatusCreated)
}

// harborProject describes a project. The caller holds mu.
func (s *site) harborProject(name string) map[string]any {
	return map[string]any{
		"name": name, "creation_time": s.places[name].created.UTC().Format(time.RFC3339Nano),
		"repo_count": len(s.names(name + "/")), "metadata": map[string]string{"public": "false"},
	}
}

func (s *site) harborProjects(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.places {
		names = append(names, name)
	}
	page, ok := harborPage(w, r, sorted(names))
	if !ok {
		return
	}
	projects := []any{}
	for _, name := range page {
		projects = append(projects, s.harborProject(name))
	}
	writeJSON(w, http.StatusOK, projects)
}

func (s *site) harborRepositories(w http.ResponseWriter, r *http.Request, project string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	page, ok := harborPage(w, r, s.names(project+"/"))
	if !ok {
		return
	}
	repositories := []any{}
	for _, full := range page {
		repositories = append(repositories, harborRepository(full, s.repositories[full]))
	}
	writeJSON(w, http.StatusOK, repositories)
}

func harborRepository(full string, known *repository) map[string]any {
	return map[string]any{
		"id": known.id, "name": full, "artifact_count": len(known.manifests),
		"creation_time": known.created.UTC().Format(time.RFC3339Nano), "update_time": known.updated().UTC().Format(time.RFC3339Nano),
	}
}

// harborRepository answers below one repository. A slash in its name comes
// encoded twice: "a%252Fb".
func (s *site) harborRepository(w http.ResponseWriter, r *http.Request, project, encoded, reference, tag string, artifacts bool) {
	once, err := url.PathUnescape(encoded)
	name, err2 := url.PathUnescape(once)
	full := project + "/" + name
	s.mu.Lock()
	known := s.repositories[full]
	s.mu.Unlock()
	reference, err3 := url.PathUnescape(reference)
	switch {
	case err != nil || err2 != nil || err3 != nil || known == nil:
		harborNotFound(w, "repository "+full)
	case !artifacts && r.Method == http.MethodGet:
		s.mu.Lock()
		defer s.mu.Unlock()
		writeJSON(w, http.StatusOK, harborRepository(full, known))
	case artifacts && reference == "" && r.Method == http.MethodGet:
		s.harborArtifacts(w, r, full, known)
	case reference != "" && strings.HasSuffix(r.URL.EscapedPath(), "/tags") && r.Method == http.MethodGet:
		s.harborTags(w, r, full, known, reference)
	case tag != "" && r.Method == http.MethodDelete:
		s.harborUntag(w, full, known, reference, tag)
	default:
		harborNotFound(w, "method "+r.Method)
	}
}

// harborArtifacts lists manifests, the newest first, with their tags. What an
// index lists and what refers to another manifest is no entry of its own.
func (s *site) harborArtifacts(w http.ResponseWriter, r *http.Request, full string, known *repository) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var top []*kept
	for _, m := range newestFirst(known) {
		if m.subject == "" && (len(known.named(m.digest)) > 0 || !known.isChild(m)) {
			top = append(top, m)
		}
	}
	page, ok := harborPage(w, r, top)
	if !ok {
		return
	}
	entries := []any{}
	for _, m := range page {
		tags := []any{}
		for _, tag := range known.named(m.digest) {
			tags = append(tags, map[string]any{"name": tag, "push_time": known.tags[tag].moved.UTC().Format(time.RFC3339Nano), "immutable": s.guard(full).covers(tag)})
		}
		entry := map[string]any{
			"digest": m.digest, "size": known.size(m) + m.size, "type": "IMAGE", "manifest_media_type": m.mediaType, "media_type": m.artifact,
			"repository_name": full, "push_time": m.pushed.UTC().Format(time.RFC3339Nano), "tags": tags, "accessories": harborAccessories(known, m),
		}
		if r.URL.Query().Get("with_tag") == "false" || len(tags) == 0 {
			entry["tags"] = nil
		}
		if r.URL.Query().Get("with_accessory") != "true" {
			entry["accessories"] = nil
		}
		entries = append(entries, entry)
	}
	writeJSON(w, http.StatusOK, entries)
}

// harborTags lists the tags of the artifact that a tag or digest names.
func (s *site) harborTags(w http.ResponseWriter, r *http.Request, full string, known *repository, reference string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := providers.Digest(reference)
	if t := known.tags[reference]; t != nil {
		d = t.digest
	}
	if known.manifests[d] == nil {
		harborNotFound(w, "artifact "+reference)
		return
	}
	page, ok := harborPage(w, r, known.named(d))
	if !ok {
		return
	}
	tags := []any{}
	for _, tag := range page {
		entry := map[string]any{"name": tag, "push_time": known.tags[tag].moved.UTC().Format(time.RFC3339Nano), "immutable": false}
		if r.URL.Query().Get("with_immutable_status") == "true" {
			entry["immutable"] = s.guard(full).covers(tag)
		}
		tags = append(tags, entry)
	}
	writeJSON(w, http.StatusOK, tags)
}

func harborAccessories(known *repository, subject *kept) []any {
	found := []any{}
	for _, m := range known.inOrder() {
		if m.subject == subject.digest {
			found = append(found, map[string]any{"digest": m.digest, "size": m.size, "subject_artifact_digest": subject.digest, "type": "subject.accessory"})
		}
	}
	return found
}

func (r *repository) isChild(m *kept) bool {
	for _, index := range r.manifests {
		if slices.ContainsFunc(index.children, func(c child) bool { return c.digest == m.digest }) {
			return true
		}
	}
	return false
}

func (s *site) harborUntag(w http.ResponseWriter, full string, known *repository, reference, tag string) {
	s.mu.Lock()
	t, locked := known.tags[tag], s.guard(full).covers(tag)
	belongs := t != nil && (reference == tag || string(t.digest) == reference || known.tags[reference] != nil && known.tags[reference].digest == t.digest)
	s.mu.Unlock()
	switch {
	case !belongs:
		harborNotFound(w, "tag "+tag)
	case locked:
		Refusal{Status: http.StatusPreconditionFailed, Code: "PRECONDITION", Text: "the tag is configured as immutable, cannot be deleted"}.answer(w)
	default:
		s.ask(http.MethodDelete, "/v2/"+full+"/manifests/"+tag)
	}
}
