package registrytest

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// GitLab is GitLab's container registry, registry.gitlab.com or self-managed.
var GitLab = Personality{
	Kind: "gitlab",
	Traits: Traits{
		StrictSession: true, // distribution is where it comes from
		// The scope of the catalog is given to administrators only
		// (docs.gitlab.com/administration/packages/container_registry).
		Catalog: http.StatusUnauthorized,
	},
	NoReferrers: true,
	SHA256Only:  true,
	Names:       NameRules{Min: 2, Refusal: Refusal{Status: http.StatusBadRequest, Code: "NAME_INVALID", Text: "the name needs a namespace and a project"}},
	// A push goes into a project that exists: namespace/project.
	Create:  CreateRules{Place: twoSegments, Refusal: Refusal{Status: http.StatusForbidden, Code: "DENIED", Text: "requested access to the resource is denied"}},
	Upload:  UploadRules{State: true, Absolute: true},
	Listing: ListingRules{Catalog: Refusal{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Text: "authentication required"}, Page: 100, Max: 1000, Full: true},
	// Five minutes unless configured otherwise; 15 on the hosted service.
	Login: LoginRules{Path: "/jwt/auth", Service: "container_registry", Life: 300 * time.Second},
	api:   gitlabAPI,
}

var gitlabPath = regexp.MustCompile(`^/api/v4/(projects|groups)/([^/]+)/registry/repositories(?:/([0-9]+)(/tags(?:/([^/]+))?)?)?$`)

// gitlabAPI is /api/v4 (docs.gitlab.com/api/container_registry).
func gitlabAPI(s *site) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		job, private := r.Header.Get("JOB-TOKEN"), r.Header.Get("PRIVATE-TOKEN")
		if s.locked && !s.isPassword(job) && !s.isPassword(private) && !s.isPassword(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")) {
			writeJSON(w, http.StatusUnauthorized, map[string]string{"message": "401 Unauthorized"})
			return
		}
		match := gitlabPath.FindStringSubmatch(r.URL.EscapedPath())
		if match == nil {
			gitlabNotFound(w, "404 Not Found")
			return
		}
		owner, err := url.PathUnescape(match[2])
		if err != nil || match[1] == "projects" && !s.hasPlace(owner) {
			gitlabNotFound(w, "404 Project Not Found")
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if match[3] == "" {
			s.gitlabRepositories(w, r, match[1] == "projects", owner)
			return
		}
		full, known := s.byID(match[3])
		switch tag := match[5]; {
		case known == nil || s.Create.Place(full) != owner || match[4] == "":
			gitlabNotFound(w, "404 Not Found")
		case tag == "" && r.Method == http.MethodGet:
			tags := []any{}
			for _, name := range numbered(w, r, slices.Sorted(maps.Keys(known.tags)), 20, 100) {
				tags = append(tags, map[string]any{"name": name, "path": full + ":" + name, "location": r.Host + "/" + full + ":" + name})
			}
			s.gitlabTotals(w, r, len(known.tags))
			writeJSON(w, http.StatusOK, tags)
		case known.tags[tag] == nil:
			gitlabNotFound(w, "404 Tag Not Found")
		case r.Method == http.MethodGet: // digests come one tag at a time
			t := known.tags[tag]
			m := known.manifests[t.digest]
			writeJSON(w, http.StatusOK, map[string]any{
				"name": tag, "path": full + ":" + tag, "location": r.Host + "/" + full + ":" + tag, "digest": t.digest,
				"created_at": t.created.UTC().Format(time.RFC3339Nano), "total_size": known.size(m),
			})
		default:
			gitlabNotFound(w, "404 Not Found")
		}
	})
}

func gitlabNotFound(w http.ResponseWriter, message string) {
	writeJSON(w, http.StatusNotFound, map[string]string{"message": message})
}

// byID finds a repository by its number. The caller holds mu.
func (s *site) byID(id string) (string, *repository) {
	for name, known := range s.repositories {
		if strconv.Itoa(known.id) == id {
			return name, known
		}
	}
	return "", nil
}

// gitlabTotals says how much there is (docs.gitlab.com/api/rest, pagination).
func (s *site) gitlabTotals(w http.ResponseWriter, r *http.Request, total int) {
	page, size := pageOf(r, 20, 100)
	w.Header().Set("X-Total", strconv.Itoa(total))
	w.Header().Set("X-Per-Page", strconv.Itoa(size))
	w.Header().Set("X-Page", strconv.Itoa(page))
	w.Header().Set("X-Next-Page", "")
	if page*size < total {
		w.Header().Set("X-Next-Page", strconv.Itoa(page+1))
	}
}

// gitlabRepositories lists those of a project, or of all projects of a group.
// The caller holds mu.
func (s *site) gitlabRepositories(w http.ResponseWriter, r *http.Request, project bool, owner string) {
	var names []string
	for _, full := range s.names(owner) {
		if project && s.Create.Place(full) == owner || !project && strings.HasPrefix(full, owner+"/") {
			names = append(names, full)
		}
	}
	found := []any{}
	for _, full := range numbered(w, r, names, 20, 100) {
		known := s.repositories[full]
		entry := map[string]any{
			"id": known.id, "name": strings.TrimPrefix(strings.TrimPrefix(full, s.Create.Place(full)), "/"), "path": full,
			"location": r.Host + "/" + full, "created_at": known.created.UTC().Format(time.RFC3339Nano),
		}
		if r.URL.Query().Get("tags_count") == "true" {
			entry["tags_count"] = len(known.tags)
		}
		found = append(found, entry)
	}
	s.gitlabTotals(w, r, len(names))
	writeJSON(w, http.StatusOK, found)
}
