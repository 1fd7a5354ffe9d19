package registrytest

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Quay is quay.io and Red Hat Quay.
var Quay = Personality{
	Kind: "quay",
	Traits: Traits{
		Referrers:  true, // endpoints/v2/referrers.py
		OwnPaging:  true, // deitch/docker_registry2#56: next_page, and no "last"
		FlatOrder:  true,
		CatalogCut: true,
		// endpoints/v2/manifest.py: what can not be written is MANIFEST_INVALID,
		// missing children of an index too.
		Missing:      "MANIFEST_INVALID",
		NoBlobDelete: true, // endpoints/v2/blob.py: DELETE is unsupported
	},
	SHA256Only: true,
	Names:      NameRules{Min: 2, Refusal: Refusal{Status: http.StatusBadRequest, Code: "NAME_INVALID", Text: "invalid repository name"}},
	Manifest: ManifestRules{
		Missing: Refusal{Status: http.StatusBadRequest, Code: "MANIFEST_INVALID", Text: "manifest invalid"},
		// Immutable tags of Red Hat Quay; the words are ours.
		Immutable: Refusal{Status: http.StatusConflict, Code: "TAG_IMMUTABLE", Text: "tag {tag} is immutable"},
	},
	Delete:  DeleteRules{Blob: unsupportedDelete},
	Listing: ListingRules{Page: 50, Max: 100, Token: true, Param: "next_page"},
	Login:   LoginRules{Path: "/v2/auth", Service: "quay.io", NoExpiry: true, Life: time.Hour},
	api:     quayAPI,
}

var quayTags = regexp.MustCompile(`^/api/v1/repository/([^/]+/.+?)/tag/([^/]*)$`)

// quayAPI is /api/v1 (docs.redhat.com, Red Hat Quay API guide).
func quayAPI(s *site) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.locked && !s.isPassword(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")) {
			quayError(w, http.StatusUnauthorized, "invalid_token", "Requires authentication")
			return
		}
		if r.URL.Path == "/api/v1/repository" {
			switch r.Method {
			case http.MethodGet:
				s.quayRepositories(w, r)
			case http.MethodPost:
				s.quayCreate(w, r)
			default:
				quayError(w, http.StatusMethodNotAllowed, "invalid_request", "method not allowed")
			}
			return
		}
		match := quayTags.FindStringSubmatch(r.URL.Path)
		s.mu.Lock()
		var known *repository
		if match != nil {
			known = s.repositories[match[1]]
		}
		s.mu.Unlock()
		switch {
		case known == nil:
			quayError(w, http.StatusNotFound, "not_found", "Not Found")
		case match[2] == "" && r.Method == http.MethodGet:
			s.quayTags(w, r, known)
		case match[2] != "" && r.Method == http.MethodDelete && s.ask(http.MethodDelete, "/v2/"+match[1]+"/manifests/"+match[2]).Code == http.StatusAccepted:
			w.WriteHeader(http.StatusNoContent)
		default:
			quayError(w, http.StatusNotFound, "not_found", "Not Found")
		}
	})
}

func quayError(w http.ResponseWriter, status int, kind, detail string) {
	writeJSON(w, status, map[string]any{"status": status, "error_type": kind, "error_message": detail, "detail": detail, "title": kind})
}

// quayRepositories lists a namespace, 100 at a time; next_page is opaque.
func (s *site) quayRepositories(w http.ResponseWriter, r *http.Request) {
	namespace := r.URL.Query().Get("namespace")
	if namespace == "" {
		quayError(w, http.StatusBadRequest, "invalid_request", "at least one of namespace, starred, public, last_modified or popularity is needed")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	names := s.names(namespace + "/")
	first := 0
	if token := r.URL.Query().Get("next_page"); token != "" {
		plain, err := base64.URLEncoding.DecodeString(token)
		at, ok := strings.CutPrefix(string(plain), "page:"+namespace+":")
		n, failed := strconv.Atoi(at)
		if err != nil || !ok || failed != nil || n > len(names) {
			quayError(w, http.StatusBadRequest, "invalid_request", "next_page is invalid")
			return
		}
		first = n
	}
	body := map[string]any{}
	page := names[first:]
	if len(page) > 100 {
		page = page[:100]
		body["next_page"] = base64.URLEncoding.EncodeToString([]byte("page:" + namespace + ":" + strconv.Itoa(first+100)))
	}
	found := []any{}
	for _, full := range page {
		entry := map[string]any{"namespace": namespace, "name": strings.TrimPrefix(full, namespace+"/"), "description": nil, "is_public": false, "kind": "image", "state": "NORMAL"}
		if r.URL.Query().Get("last_modified") == "true" {
			entry["last_modified"] = s.repositories[full].updated().Unix()
		}
		found = append(found, entry)
	}
	body["repositories"] = found
	writeJSON(w, http.StatusOK, body)
}

func (s *site) quayCreate(w http.ResponseWriter, r *http.Request) {
	var given struct{ Namespace, Repository, Visibility string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&given); err != nil || given.Namespace == "" || given.Repository == "" || given.Visibility == "" {
		quayError(w, http.StatusBadRequest, "invalid_request", "namespace, repository and visibility are needed")
		return
	}
	full := given.Namespace + "/" + given.Repository
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.repositories[full] != nil {
		quayError(w, http.StatusBadRequest, "invalid_request", "Repository already exists")
		return
	}
	s.repository(full)
	writeJSON(w, http.StatusCreated, map[string]string{"namespace": given.Namespace, "name": given.Repository, "kind": "image"})
}

// quayTags lists tags: 50, of limit, or of at most 100; has_additional tells
// whether there is a next page.
func (s *site) quayTags(w http.ResponseWriter, r *http.Request, known *repository) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Sorted(maps.Keys(known.tags))
	if one := r.URL.Query().Get("specificTag"); one != "" {
		names = slices.DeleteFunc(names, func(name string) bool { return name != one })
	}
	page, size := pageOf(r, 50, 100)
	tags := []any{}
	for _, name := range cut(names, page, size) {
		t := known.tags[name]
		m := known.manifests[t.digest]
		tags = append(tags, map[string]any{
			"name": name, "manifest_digest": t.digest, "is_manifest_list": len(m.children) > 0, "size": known.size(m), "reversion": false,
			"start_ts": t.moved.Unix(), "last_modified": t.moved.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0000"),
		})
	}
	writeJSON(w, http.StatusOK, map[string]any{"tags": tags, "page": page, "has_additional": page*size < len(names)})
}
