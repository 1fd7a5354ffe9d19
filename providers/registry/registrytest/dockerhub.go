package registrytest

import (
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// DockerHub is docker.io: registry-1.docker.io with tokens of auth.docker.io
// and the web interface of hub.docker.com, here all on one address.
var DockerHub = Personality{
	Kind: "dockerhub",
	Traits: Traits{
		// The story's deeper names do not exist there: namespace and repository.
		Place: func(repository string) string {
			namespace, rest, _ := strings.Cut(repository, "/")
			return namespace + "/" + strings.ReplaceAll(rest, "/", "-")
		},
		StrictSession: true,
		MountUnknown:  http.StatusBadRequest,       // google/go-containerregistry#1741, #1679
		Catalog:       http.StatusUnauthorized,     // no token has the scope, whoever asks
		NoTagDelete:   http.StatusMethodNotAllowed, // docker/hub-feedback#1759, #2360
		NoDelete:      http.StatusMethodNotAllowed,
		NoBlobDelete:  true,
		// Contested (soci-snapshotter#1828 against docker/roadmap#724): the fake
		// takes the side that is harder for clients.
		Referrers: false,
	},
	NoReferrers: true,
	SHA256Only:  true,
	Names:       NameRules{Min: 2, Max: 2, Length: 255, Refusal: Refusal{Status: http.StatusBadRequest, Code: "NAME_INVALID", Text: "a repository is namespace/name"}},
	Upload:      UploadRules{State: true, Absolute: true},
	Mount: MountRules{
		Within:  1, // within the account
		Unknown: Refusal{Status: http.StatusBadRequest, Code: "NAME_INVALID", Text: "the repository to mount from is not known"},
	},
	Manifest: ManifestRules{
		// docs.docker.com/docker-hub/repos/manage/hub-images/immutable-tags; the
		// answer's words are ours.
		Immutable: Refusal{Status: http.StatusForbidden, Code: "DENIED", Text: "tag {tag} of {name} is immutable"},
	},
	Delete:  DeleteRules{Tag: unsupportedDelete, Digest: unsupportedDelete, Blob: unsupportedDelete},
	Listing: ListingRules{Catalog: Refusal{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Text: "authentication required"}, Page: 100, Max: 1000, Full: true},
	Login:   LoginRules{Service: "registry.docker.io", Field: "both", Life: 300 * time.Second},
	Limits:  LimitRules{Pulls: true},
	api:     hubAPI,
}

var (
	hubRepositories = regexp.MustCompile(`^/v2/(?:namespaces/([^/]+)/repositories|repositories/([^/]+))/?$`)
	hubTags         = regexp.MustCompile(`^/v2/(?:namespaces/([^/]+)/repositories/([^/]+)/tags|repositories/([^/]+)/([^/]+)/tags)(?:/([^/]+))?/?$`)
)

// hubAPI is hub.docker.com (docs.docker.com/reference/api/hub/latest).
func hubAPI(s *site) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// It has a limit of its own, apart from pulls (goharbor/harbor#17746).
		w.Header().Set("X-Ratelimit-Limit", "180")
		w.Header().Set("X-Ratelimit-Remaining", "179")
		switch r.URL.Path {
		case "/v2/users/login", "/v2/users/login/", "/v2/auth/token":
			s.hubLogin(w, r)
			return
		}
		if s.locked && !s.hubKnows(r) {
			hubMessage(w, http.StatusUnauthorized, "unauthorized")
			return
		}
		if match := hubRepositories.FindStringSubmatch(r.URL.Path); match != nil && r.Method == http.MethodGet {
			s.hubRepositories(w, r, match[1]+match[2])
			return
		}
		match := hubTags.FindStringSubmatch(r.URL.Path)
		if match == nil {
			hubMessage(w, http.StatusNotFound, "object not found")
			return
		}
		name, tag := match[1]+match[3]+"/"+match[2]+match[4], match[5]
		s.mu.Lock()
		known := s.repositories[name]
		s.mu.Unlock()
		switch {
		case known == nil:
			hubMessage(w, http.StatusNotFound, "object not found")
		case r.Method == http.MethodDelete && tag != "": // the way to delete: docker/hub-feedback#1759
			if s.ask(http.MethodDelete, "/v2/"+name+"/manifests/"+tag).Code != http.StatusAccepted {
				hubMessage(w, http.StatusNotFound, "object not found")
				return
			}
			w.WriteHeader(http.StatusNoContent)
		case r.Method == http.MethodGet:
			s.hubTags(w, r, known, tag)
		default:
			hubMessage(w, http.StatusMethodNotAllowed, "method not allowed")
		}
	})
}

func hubMessage(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]any{"message": message, "errinfo": map[string]string{}})
}

// hubLogin gives a web token for a name and a password, in either form.
func (s *site) hubLogin(w http.ResponseWriter, r *http.Request) {
	var given struct{ Username, Password, Identifier, Secret string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&given); err != nil || r.Method != http.MethodPost {
		hubMessage(w, http.StatusBadRequest, "the login takes JSON")
		return
	}
	if _, ok := s.enter(given.Username+given.Identifier, given.Password+given.Secret); !ok {
		hubMessage(w, http.StatusUnauthorized, "Incorrect authentication credentials")
		return
	}
	token, _ := s.give()
	writeJSON(w, http.StatusOK, map[string]string{"token": token, "access_token": token})
}

// hubKnows wants a token of hubLogin; a password is none.
func (s *site) hubKnows(r *http.Request) bool {
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now().Before(s.passwords[token])
}

// hubPage is the frame around a page: 10 entries, 100 at most, next and
// previous as whole addresses or null.
func hubPage[T any](r *http.Request, entries []T, describe func(T) any) map[string]any {
	page, size := pageOf(r, 10, 100)
	body := map[string]any{"count": len(entries), "next": nil, "previous": nil}
	if page*size < len(entries) {
		body["next"] = origin(r) + pageLink(r, page+1)
	}
	if page > 1 {
		body["previous"] = origin(r) + pageLink(r, page-1)
	}
	results := []any{}
	for _, entry := range cut(entries, page, size) {
		results = append(results, describe(entry))
	}
	body["results"] = results
	return body
}

func (s *site) hubRepositories(w http.ResponseWriter, r *http.Request, namespace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	writeJSON(w, http.StatusOK, hubPage(r, s.names(namespace+"/"), func(full string) any {
		known := s.repositories[full]
		return map[string]any{
			"name": strings.TrimPrefix(full, namespace+"/"), "namespace": namespace, "repository_type": "image", "status": 1,
			"is_private": false, "last_updated": known.updated().UTC().Format(time.RFC3339Nano), "date_registered": known.created.UTC().Format(time.RFC3339Nano),
		}
	}))
}

// hubTags lists tags, the newest first, or shows one.
func (s *site) hubTags(w http.ResponseWriter, r *http.Request, known *repository, one string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one != "" {
		if known.tags[one] == nil {
			hubMessage(w, http.StatusNotFound, "object not found")
			return
		}
		writeJSON(w, http.StatusOK, hubTag(known, one))
		return
	}
	names := slices.Sorted(maps.Keys(known.tags))
	slices.SortStableFunc(names, func(a, b string) int { return known.tags[b].moved.Compare(known.tags[a].moved) })
	writeJSON(w, http.StatusOK, hubPage(r, names, func(tag string) any { return hubTag(known, tag) }))
}

func hubTag(known *repository, tag string) map[string]any {
	t := known.tags[tag]
	m := known.manifests[t.digest]
	pushed := t.moved.UTC().Format(time.RFC3339Nano)
	images := []any{}
	for _, c := range m.children {
		if below := known.manifests[c.digest]; below != nil {
			images = append(images, map[string]any{
				"digest": c.digest, "os": c.platform["os"], "architecture": c.platform["architecture"], "variant": c.platform["variant"],
				"size": known.size(below), "status": "active", "last_pushed": pushed,
			})
		}
	}
	if len(m.children) == 0 {
		images = append(images, map[string]any{"digest": m.digest, "os": "linux", "architecture": "amd64", "size": known.size(m), "status": "active", "last_pushed": pushed})
	}
	return map[string]any{
		"name": tag, "digest": t.digest, "full_size": known.size(m), "media_type": m.mediaType, "content_type": "image",
		"last_updated": pushed, "tag_last_pushed": pushed, "tag_status": "active", "images": images,
	}
}
