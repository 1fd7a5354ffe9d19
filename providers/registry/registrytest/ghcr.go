package registrytest

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// GHCR is GitHub's Container Registry, ghcr.io.
var GHCR = Personality{
	Kind: "ghcr",
	Traits: Traits{
		NoStatus:     true,                        // mirroring.md 6.3: nothing can be resumed
		Catalog:      http.StatusNotFound,         // oras-project/oras-go#621: none; the status is not written down
		NoTagDelete:  http.StatusMethodNotAllowed, // containers/skopeo#1880
		NoDelete:     http.StatusMethodNotAllowed,
		NoBlobDelete: true,
		// No referrers API was announced; clients keep the fallback tag.
		Referrers: false,
	},
	NoReferrers: true,
	SHA256Only:  true,
	Names:       NameRules{Min: 2, Refusal: Refusal{Status: http.StatusBadRequest, Code: "NAME_INVALID", Text: "the name needs an owner"}},
	Upload: UploadRules{
		// ocx-sh/ocx#237 has the words. Without a Content-Range any size goes.
		MaxPatch:  4 << 20,
		OverPatch: Refusal{Status: http.StatusRequestedRangeNotSatisfiable, Code: "REQUESTED_RANGE_NOT_SATISFIABLE", Text: "the request body is too large and exceeds the maximum permissible limit of 4.00MiB"},
		NoStatus:  true,
		// docs.github.com, working with the container registry: 10 GB a layer, ten
		// minutes an upload.
		Life: 10 * time.Minute,
	},
	Mount:   MountRules{Within: 1},
	Delete:  DeleteRules{Tag: unsupportedDelete, Digest: unsupportedDelete, Blob: unsupportedDelete},
	Listing: ListingRules{Catalog: Refusal{Status: http.StatusNotFound, Code: "NOT_FOUND", Text: "not found"}, Page: 100, Max: 1000, Full: true},
	Login:   LoginRules{Service: "ghcr.io", NoExpiry: true, Life: 5 * time.Minute},
	api:     ghcrAPI,
}

var (
	ghPackages = regexp.MustCompile(`^/(orgs|users)/([^/]+)/packages$`)
	ghVersions = regexp.MustCompile(`^/(orgs|users)/([^/]+)/packages/container/([^/]+)(/versions(?:/([0-9]+))?)?$`)
)

// ghcrAPI is api.github.com as far as packages go
// (docs.github.com/rest/packages/packages).
func ghcrAPI(s *site) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Ratelimit-Limit", "5000")
		w.Header().Set("X-Ratelimit-Remaining", "4999")
		if !s.knows(r) {
			writeJSON(w, http.StatusUnauthorized, map[string]string{"message": "Requires authentication", "status": "401"})
			return
		}
		at := r.URL.EscapedPath() // a slash in a package's name comes as %2F
		if match := ghPackages.FindStringSubmatch(at); match != nil && r.Method == http.MethodGet {
			s.ghPackages(w, r, match[2])
			return
		}
		match := ghVersions.FindStringSubmatch(at)
		if match == nil {
			githubNotFound(w, "Not Found")
			return
		}
		name, err := url.PathUnescape(match[3])
		s.mu.Lock()
		known := s.repositories[match[2]+"/"+name]
		s.mu.Unlock()
		switch {
		case err != nil || known == nil:
			githubNotFound(w, "Package not found.")
		case match[4] == "" && r.Method == http.MethodGet:
			s.mu.Lock()
			defer s.mu.Unlock()
			writeJSON(w, http.StatusOK, ghPackage(r, match[2], name, known))
		case match[5] == "" && r.Method == http.MethodGet:
			s.ghVersions(w, r, match[2], name, known)
		case match[5] != "" && r.Method == http.MethodDelete:
			s.ghDelete(w, match[2]+"/"+name, known, match[5])
		default:
			githubNotFound(w, "Not Found")
		}
	})
}

func githubNotFound(w http.ResponseWriter, message string) {
	writeJSON(w, http.StatusNotFound, map[string]string{"message": message, "status": "404"})
}

func (s *site) ghPackages(w http.ResponseWriter, r *http.Request, owner string) {
	if r.URL.Query().Get("package_type") != "container" {
		writeJSON(w, http.StatusUnprocessableEntity, map[string]string{"message": "package_type is missing or not known", "status": "422"})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	packages := []any{}
	for _, full := range numbered(w, r, s.names(owner+"/"), 30, 100) {
		packages = append(packages, ghPackage(r, owner, strings.TrimPrefix(full, owner+"/"), s.repositories[full]))
	}
	writeJSON(w, http.StatusOK, packages)
}

// ghPackage describes a repository. The caller holds mu.
func ghPackage(r *http.Request, owner, name string, known *repository) map[string]any {
	return map[string]any{
		"id": known.id, "name": name, "package_type": "container", "version_count": len(known.manifests), "visibility": "private",
		"owner": map[string]any{"login": owner}, "url": origin(r) + "/orgs/" + owner + "/packages/container/" + url.PathEscape(name),
		"created_at": known.created.UTC().Format(time.RFC3339), "updated_at": known.updated().UTC().Format(time.RFC3339),
	}
}

// ghVersions lists manifests, the newest first, each under its digest.
func (s *site) ghVersions(w http.ResponseWriter, r *http.Request, owner, name string, known *repository) {
	s.mu.Lock()
	defer s.mu.Unlock()
	versions := []any{}
	for _, m := range numbered(w, r, newestFirst(known), 30, 100) {
		versions = append(versions, map[string]any{
			"id": ghID(known, m), "name": m.digest, "url": fmt.Sprintf("%s/orgs/%s/packages/container/%s/versions/%d", origin(r), owner, url.PathEscape(name), ghID(known, m)),
			"created_at": m.pushed.UTC().Format(time.RFC3339), "updated_at": m.pushed.UTC().Format(time.RFC3339),
			"metadata": map[string]any{"package_type": "container", "container": map[string]any{"tags": known.named(m.digest)}},
		})
	}
	writeJSON(w, http.StatusOK, versions)
}

// ghID numbers a version by its digest, so that it keeps its number.
func ghID(known *repository, m *kept) uint64 {
	id, err := strconv.ParseUint(m.digest.Hex()[:8], 16, 64)
	if err != nil {
		panic(err) // a digest is hex
	}
	return id + uint64(known.id)
}

func newestFirst(known *repository) []*kept {
	images := known.inOrder()
	slices.SortStableFunc(images, func(a, b *kept) int { return b.pushed.Compare(a.pushed) })
	return images
}

// ghDelete deletes one version with its tags: the only way to delete at all.
func (s *site) ghDelete(w http.ResponseWriter, name string, known *repository, id string) {
	s.mu.Lock()
	images := known.inOrder()
	at := slices.IndexFunc(images, func(m *kept) bool { return strconv.FormatUint(ghID(known, m), 10) == id })
	s.mu.Unlock()
	if at < 0 || s.ask(http.MethodDelete, "/v2/"+name+"/manifests/"+string(images[at].digest)).Code != http.StatusAccepted {
		githubNotFound(w, "Package not found.")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
