package registrytest

import (
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"time"

	"freightliner/providers"
)

// ACR is Azure's Container Registry, <name>.azurecr.io.
var ACR = Personality{
	Kind: "acr",
	Traits: Traits{
		Referrers:     true, // learn.microsoft.com/azure/container-registry/container-registry-manage-artifact
		NoStream:      true, // mirroring.md 3.2: chunked transfer encoding refused
		StrictSession: true, // the offset is part of _state (Azure/acr#866 shows one)
		FlatOrder:     true, // REST reference, Repository - Get List: values lexically after "last"
		CatalogCut:    true,
		// REST reference, Manifests - Delete: "can only be deleted by digest"; tags
		// have an address of their own below /acr/v1/.
		NoTagDelete: http.StatusMethodNotAllowed,
	},
	SHA256Only: true,
	Upload: UploadRules{
		// goharbor/harbor#21640, #23015: about 20 MB; others report more.
		MaxPut: 20 << 20, OverPut: Refusal{Status: http.StatusRequestEntityTooLarge, Code: "SIZE_INVALID", Text: "413 Request Entity Too Large - AzureContainerRegistry"},
		NeedsLength: true,
		PlainRange:  true, // dotnet/sdk-container-builds#258
		State:       true,
	},
	Manifest: ManifestRules{
		// A lock (learn.microsoft.com/azure/container-registry/container-registry-image-lock)
		// answers in these words: Azure/azure-sdk-for-net#22827. It stops every
		// write to the tag, the same digest included.
		Immutable: Refusal{Status: http.StatusMethodNotAllowed, Code: "REGISTRY_DISALLOWED_OPERATION", Text: "The operation is disallowed on this registry, repository or image."},
		SameToo:   true,
	},
	Delete:  DeleteRules{Tag: unsupportedDelete},
	Listing: ListingRules{Page: 100, Max: 1000}, // regclient/regclient#404
	// A directory token is exchanged for a refresh token, that one for access
	// tokens of about 75 minutes (Azure/acr, docs/AAD-OAuth.md).
	Login: LoginRules{Path: "/oauth2/token", Service: "freightliner.azurecr.io", Field: "access_token", NoExpiry: true, Life: 75 * time.Minute},
	api:   acrAPI,
}

// ACRTokenUser is the user name that goes with a refresh token as password.
const ACRTokenUser = "00000000-0000-0000-0000-000000000000"

var acrPath = regexp.MustCompile(`^/acr/v1/(.+?)(?:/(_tags|_manifests)(?:/([^/]+))?)?$`)

// acrAPI is the registry's own interface, on its own address (REST reference,
// container registry, data plane).
func acrAPI(s *site) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/oauth2/exchange" {
			s.acrExchange(w, r)
			return
		}
		match := acrPath.FindStringSubmatch(r.URL.Path)
		if match == nil {
			Refusal{Status: http.StatusNotFound, Code: "NOT_FOUND", Text: "not found"}.answer(w)
			return
		}
		name, kind, reference := match[1], match[2], match[3]
		if name == "_catalog" {
			if s.acrMay(w, r, "registry", "catalog", "*") {
				s.acrCatalog(w, r)
			}
			return
		}
		right := "metadata_read" // not part of "pull"
		switch r.Method {
		case http.MethodPatch:
			right = "metadata_write"
		case http.MethodDelete:
			right = "delete"
		}
		if !s.acrMay(w, r, "repository", name, right) {
			return
		}
		s.mu.Lock()
		known := s.repositories[name]
		s.mu.Unlock()
		switch {
		case known == nil:
			notFoundRepository.answer(w)
		case kind == "_tags" && reference != "" && r.Method == http.MethodDelete:
			s.acrUntag(w, name, reference)
		case kind == "_tags" && reference != "" && r.Method == http.MethodPatch:
			s.acrLock(w, r, name, reference)
		case r.Method != http.MethodGet:
			unsupportedDelete.answer(w)
		case kind == "_tags":
			s.acrTags(w, r, name, known, reference)
		case kind == "_manifests":
			s.acrManifests(w, r, name, known)
		default:
			s.mu.Lock()
			defer s.mu.Unlock()
			writeJSON(w, http.StatusOK, map[string]any{
				"registry": r.Host, "imageName": name, "createdTime": acrTime(known.created), "lastUpdateTime": acrTime(known.updated()),
				"manifestCount": len(known.manifests), "tagCount": len(known.tags), "changeableAttributes": acrAttributes(true),
			})
		}
	})
}

// acrExchange turns a directory token, which is [CanaryPassword] here, into a
// refresh token.
func (s *site) acrExchange(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if r.Method != http.MethodPost || r.ParseForm() != nil {
		Refusal{Status: http.StatusBadRequest, Code: "UNSUPPORTED", Text: "the exchange takes a form"}.answer(w)
		return
	}
	switch r.PostForm.Get("grant_type") {
	case "access_token", "access_token_refresh_token":
	default:
		Refusal{Status: http.StatusBadRequest, Code: "UNSUPPORTED", Text: "grant_type is not supported"}.answer(w)
		return
	}
	if s.tokens == nil || r.PostForm.Get("service") != s.Login.Service || !s.isPassword(r.PostForm.Get("access_token")) {
		Refusal{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Text: "authentication required, visit https://aka.ms/acr/authorization for more information."}.answer(w)
		return
	}
	refresh := s.tokens.Refresh(s.user())
	s.mu.Lock()
	s.passwords[refresh] = s.now().Add(3 * time.Hour) // about the life of one
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]string{"refresh_token": refresh})
}

// acrMay asks for a right on metadata: by token, or with a user name.
func (s *site) acrMay(w http.ResponseWriter, r *http.Request, kind, name, action string) bool {
	if !s.locked || s.tokens != nil && s.tokens.Allows(r, kind, name, action) {
		return true
	}
	if user, password, given := r.BasicAuth(); given {
		if _, ok := s.enter(user, password); ok {
			return true
		}
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="`+origin(r)+s.tokenPath()+`",service="`+s.Login.Service+`",scope="`+kind+":"+name+":"+action+`"`)
	Refusal{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Text: "authentication required, visit https://aka.ms/acr/authorization for more information."}.answer(w)
	return false
}

func acrTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

func acrAttributes(write bool) map[string]bool {
	return map[string]bool{"deleteEnabled": write, "writeEnabled": write, "readEnabled": true, "listEnabled": true}
}

func (s *site) acrCatalog(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	names := s.names("")
	s.mu.Unlock()
	if page, ok := s.page(w, r, names, 100); ok {
		writeJSON(w, http.StatusOK, map[string]any{"repositories": page})
	}
}

// acrTags lists tags with digests and times: all, those of a digest, or one.
func (s *site) acrTags(w http.ResponseWriter, r *http.Request, name string, known *repository, one string) {
	s.mu.Lock()
	guard := s.guard(name)
	tags := maps.Clone(known.tags)
	entry := func(tag string) map[string]any {
		t := tags[tag]
		return map[string]any{
			"name": tag, "digest": t.digest, "createdTime": acrTime(t.created), "lastUpdateTime": acrTime(t.moved),
			"signed": false, "changeableAttributes": acrAttributes(!guard.covers(tag)),
		}
	}
	defer s.mu.Unlock()
	body := map[string]any{"registry": r.Host, "imageName": name}
	if one != "" {
		if tags[one] == nil {
			Refusal{Status: http.StatusNotFound, Code: "TAG_UNKNOWN", Text: "the specified tag does not exist"}.answer(w)
			return
		}
		body["tag"] = entry(one)
		writeJSON(w, http.StatusOK, body)
		return
	}
	if d := providers.Digest(r.URL.Query().Get("digest")); d != "" {
		maps.DeleteFunc(tags, func(_ string, t *tagged) bool { return t.digest != d })
	}
	page, ok := s.page(w, r, slices.Sorted(maps.Keys(tags)), 100)
	if !ok {
		return
	}
	entries := []any{}
	for _, tag := range page {
		entries = append(entries, entry(tag))
	}
	body["tags"] = entries
	writeJSON(w, http.StatusOK, body)
}

func (s *site) acrManifests(w http.ResponseWriter, r *http.Request, name string, known *repository) {
	s.mu.Lock()
	defer s.mu.Unlock()
	byDigest := map[string]*kept{}
	for _, m := range known.manifests {
		byDigest[string(m.digest)] = m
	}
	page, ok := s.page(w, r, slices.Sorted(maps.Keys(byDigest)), 100)
	if !ok {
		return
	}
	entries := []any{}
	for _, d := range page {
		m := byDigest[d]
		entries = append(entries, map[string]any{
			"digest": d, "imageSize": known.size(m), "mediaType": m.mediaType, "tags": known.named(m.digest),
			"createdTime": acrTime(m.pushed), "lastUpdateTime": acrTime(m.pushed), "changeableAttributes": acrAttributes(true),
		})
	}
	writeJSON(w, http.StatusOK, map[string]any{"registry": r.Host, "imageName": name, "manifests": entries})
}

func (s *site) acrUntag(w http.ResponseWriter, name, tag string) {
	s.mu.Lock()
	locked := s.guard(name).covers(tag)
	s.mu.Unlock()
	if locked { // Azure/acr-cli#70
		s.Manifest.Immutable.answer(w)
		return
	}
	if status := s.ask(http.MethodDelete, "/v2/"+name+"/manifests/"+tag).Code; status != http.StatusAccepted {
		Refusal{Status: http.StatusNotFound, Code: "TAG_UNKNOWN", Text: "the specified tag does not exist"}.answer(w)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// acrLock locks or unlocks one tag: {"writeEnabled": false}.
func (s *site) acrLock(w http.ResponseWriter, r *http.Request, name, tag string) {
	var given struct {
		Write *bool `json:"writeEnabled"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&given); err != nil || given.Write == nil {
		Refusal{Status: http.StatusBadRequest, Code: "UNSUPPORTED", Text: "only writeEnabled can be set here"}.answer(w)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.places[name]
	if at == nil {
		at = &place{created: s.now()}
		s.places[name] = at
	}
	only := slices.DeleteFunc(slices.Clone(at.guard.Only), func(locked string) bool { return locked == tag })
	if !*given.Write {
		only = append(only, tag)
	}
	at.guard = Protection{On: len(only) > 0, Only: only}
	writeJSON(w, http.StatusOK, map[string]any{"registry": r.Host, "imageName": name})
}
