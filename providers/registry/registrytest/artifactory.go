package registrytest

import (
	"net/http"
	"regexp"
	"strings"
	"time"
)

// Artifactory is JFrog's registry, with the repository key as first segment.
var Artifactory = Personality{
	Kind: "artifactory",
	Traits: Traits{
		Denied:     true, // mirroring.md 3.1: 403 where others say 404
		FlatOrder:  true,
		CatalogCut: true,
	},
	NoReferrers: true,
	SHA256Only:  true,
	Names:       NameRules{Min: 2, Refusal: Refusal{Status: http.StatusNotFound, Code: "NAME_UNKNOWN", Text: "the name needs a repository key"}},
	Create:      CreateRules{Place: firstSegment, Refusal: Refusal{Status: http.StatusForbidden, Code: "DENIED", Text: "The client does not have permission to push to the repository."}},
	// PATCH and PUT; releases before 6 refused a whole PUT (containerd/containerd#3533).
	Upload:  UploadRules{Absolute: true},
	Unknown: Refusal{Status: http.StatusForbidden, Code: "DENIED", Text: "The client does not have permission for repository or it does not exist."},
	Listing: ListingRules{Page: 100, Max: 1000, Full: true},
	Login:   LoginRules{Path: "/artifactory/api/docker/null/v2/token", Service: "artifactory", Field: "both", Life: time.Hour},
	api:     artifactoryAPI,
}

var artifactoryCatalog = regexp.MustCompile(`^/artifactory/api/docker/([^/]+)/v2/_catalog$`)

// artifactoryAPI has one catalog per repository key, without the key in the
// names (jfrog.com/help, Artifactory REST API, "List Docker Repositories").
func artifactoryAPI(s *site) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		match := artifactoryCatalog.FindStringSubmatch(r.URL.Path)
		if !s.knows(r) || match == nil || r.Method != http.MethodGet {
			status := http.StatusNotFound
			if match != nil {
				status = http.StatusUnauthorized
			}
			writeJSON(w, status, map[string]any{"errors": []map[string]any{{"status": status, "message": http.StatusText(status)}}})
			return
		}
		s.mu.Lock()
		var names []string
		for _, full := range s.names(match[1] + "/") {
			names = append(names, strings.TrimPrefix(full, match[1]+"/"))
		}
		s.mu.Unlock()
		if page, ok := s.page(w, r, names, s.Listing.Page); ok {
			writeJSON(w, http.StatusOK, map[string]any{"repositories": s.list(page)})
		}
	})
}
