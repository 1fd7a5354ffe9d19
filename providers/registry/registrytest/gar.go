package registrytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// garUploads is where uploads lie at Google: not below /v2/
// (containers/skopeo#1101 has such a Location in its log).
const garUploads = "/artifacts-uploads/"

// twoSegments is "project/repository" of "project/repository/image".
func twoSegments(name string) string { return strings.Join(leading(name, 2), "/") }

var notFoundRepository = Refusal{Status: http.StatusNotFound, Code: "NAME_UNKNOWN", Text: "Repository not found"}

// GAR is Google's Artifact Registry, <region>-docker.pkg.dev.
var GAR = Personality{
	Kind: "gar",
	Traits: Traits{
		Referrers: true, // docs.cloud.google.com/artifact-registry/docs/reference/docker-api: OCI 1.1
		Place:     func(repository string) string { return "acme/main/" + repository },
		// "Artifact Registry does not support Docker chunked uploads": the same
		// page. One stream of unknown length is what docker push sends, and it
		// works; it is no chunk.
		NoChunks: true, NoStatus: true,
		NoMount:      true, // mirroring.md 3.2: 202 in practice
		WholeTags:    true, // pkg/v1/google in go-containerregistry reads one answer
		NoCatalog:    true, // deepfence/ThreatMapper#1378: 200, empty, with good credentials
		NoBlobDelete: true,
		TagsFirst:    true, // genuinetools/reg#136, enix/kube-image-keeper#636
	},
	SHA256Only: true,
	Names:      NameRules{Min: 3, Refusal: Refusal{Status: http.StatusBadRequest, Code: "NAME_INVALID", Text: "the name needs a project, a repository and an image"}},
	Create:     CreateRules{Place: twoSegments, Refusal: notFoundRepository},
	Upload: UploadRules{
		Elsewhere: garUploads, Patches: 1, NoRange: true, NoStatus: true,
		// What exactly is answered is not written down anywhere we know of.
		Chunked: Refusal{Status: http.StatusBadRequest, Code: "BLOB_UPLOAD_INVALID", Text: "chunked uploads are not supported"},
	},
	Mount: MountRules{Never: true},
	Manifest: ManifestRules{
		// docs.cloud.google.com/artifact-registry/docs/repositories/create-repos:
		// with immutable tags, a tag can not move. The words are ours.
		Immutable: Refusal{Status: http.StatusBadRequest, Code: "FAILED_PRECONDITION", Text: "cannot update tag {tag}: the repository has immutable tags"},
	},
	Delete: DeleteRules{
		Blob:   unsupportedDelete,
		Tagged: Refusal{Status: http.StatusBadRequest, Code: "GOOGLE_MANIFEST_DANGLING_TAG", Text: "Manifest is still referenced by a tag"},
	},
	// The whole list in one answer, and incomplete above 10,000 (mirroring.md 3.1).
	Listing: ListingRules{Empty: true, Whole: true, Cut: 10_000, Maps: true},
	// An access token is the password, and is exchanged for a bearer token
	// (docs.cloud.google.com/artifact-registry/docs/docker/authentication).
	Login: LoginRules{Path: "/v2/token", Service: "europe-docker.pkg.dev", User: "oauth2accesstoken", Life: time.Hour},
	api:   garAPI,
}

var garRepositories = regexp.MustCompile(`^/v1/projects/([^/]+)/locations/([^/]+)/repositories(?:/([^/]+)(/dockerImages)?)?$`)

// garAPI is artifactregistry.googleapis.com, version 1, as far as repositories
// are made and images are listed there
// (docs.cloud.google.com/artifact-registry/docs/reference/rest).
func garAPI(s *site) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		match := garRepositories.FindStringSubmatch(r.URL.Path)
		switch {
		case match == nil:
			googleError(w, http.StatusNotFound, "NOT_FOUND", "not found")
		case s.locked && !s.isPassword(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")):
			googleError(w, http.StatusUnauthorized, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
		case r.Method == http.MethodPost && match[3] == "":
			s.garCreate(w, r, match[1], match[2])
		case r.Method == http.MethodGet && match[3] == "":
			s.garList(w, r, match[1], match[2])
		case r.Method == http.MethodGet && match[4] != "":
			s.garImages(w, r, match[1], match[2], match[3])
		case r.Method == http.MethodGet:
			s.mu.Lock()
			defer s.mu.Unlock()
			if at := s.places[match[1]+"/"+match[3]]; at != nil {
				writeJSON(w, http.StatusOK, garRepository(at, match[1], match[2], match[3]))
				return
			}
			googleError(w, http.StatusNotFound, "NOT_FOUND", "Requested entity was not found.")
		default:
			googleError(w, http.StatusMethodNotAllowed, "INVALID_ARGUMENT", "method not allowed")
		}
	})
}

func googleError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, map[string]any{"error": map[string]any{"code": status, "status": code, "message": message}})
}

func garRepository(at *place, project, location, name string) map[string]any {
	return map[string]any{
		"name": "projects/" + project + "/locations/" + location + "/repositories/" + name, "format": "DOCKER",
		"createTime": at.created.UTC().Format(time.RFC3339Nano), "dockerConfig": map[string]bool{"immutableTags": at.guard.On},
	}
}

// garCreate answers with an operation that is done already.
func (s *site) garCreate(w http.ResponseWriter, r *http.Request, project, location string) {
	var given struct {
		Format       string
		DockerConfig struct{ ImmutableTags bool }
	}
	name := r.URL.Query().Get("repositoryId")
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&given); err != nil || given.Format != "DOCKER" || name == "" {
		googleError(w, http.StatusBadRequest, "INVALID_ARGUMENT", "a repository needs an id and the format DOCKER")
		return
	}
	made, why := s.create(project+"/"+name, nil)
	if why != "" {
		googleError(w, http.StatusConflict, "ALREADY_EXISTS", "the repository already exists")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	made.guard.On = given.DockerConfig.ImmutableTags
	writeJSON(w, http.StatusOK, map[string]any{
		"name": "projects/" + project + "/locations/" + location + "/operations/1", "done": true,
		"response": garRepository(made, project, location, name),
	})
}

func (s *site) garList(w http.ResponseWriter, r *http.Request, project, location string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for at := range s.places {
		if name, ok := strings.CutPrefix(at, project+"/"); ok {
			names = append(names, name)
		}
	}
	page, next, ok := googlePage(w, r, sorted(names))
	if !ok {
		return
	}
	found := []any{}
	for _, name := range page {
		found = append(found, garRepository(s.places[project+"/"+name], project, location, name))
	}
	writeJSON(w, http.StatusOK, map[string]any{"repositories": found, "nextPageToken": next})
}

// garImages lists every image of a repository, one entry per digest.
func (s *site) garImages(w http.ResponseWriter, r *http.Request, project, location, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.places[project+"/"+name] == nil {
		googleError(w, http.StatusNotFound, "NOT_FOUND", "Requested entity was not found.")
		return
	}
	entries := map[string]map[string]any{}
	var keys []string
	for _, full := range s.names(project + "/" + name + "/") {
		known, image := s.repositories[full], strings.TrimPrefix(full, project+"/"+name+"/")
		for _, m := range known.inOrder() {
			key := image + "@" + string(m.digest)
			keys = append(keys, key)
			entries[key] = map[string]any{
				"name": "projects/" + project + "/locations/" + location + "/repositories/" + name + "/dockerImages/" + key,
				"uri":  r.Host + "/" + full + "@" + string(m.digest), "tags": known.named(m.digest),
				"imageSizeBytes": strconv.FormatInt(known.size(m), 10), "mediaType": m.mediaType,
				"uploadTime": m.pushed.UTC().Format(time.RFC3339Nano), "updateTime": m.pushed.UTC().Format(time.RFC3339Nano),
			}
		}
	}
	page, next, ok := googlePage(w, r, sorted(keys))
	if !ok {
		return
	}
	images := []any{}
	for _, key := range page {
		images = append(images, entries[key])
	}
	writeJSON(w, http.StatusOK, map[string]any{"dockerImages": images, "nextPageToken": next})
}

// googlePage is a page of 100, of pageSize, or of at most 1,000, and the token
// that asks for the next.
func googlePage(w http.ResponseWriter, r *http.Request, entries []string) (page []string, next string, ok bool) {
	size, first := 100, 0
	if given := r.URL.Query().Get("pageSize"); given != "" {
		n, err := strconv.Atoi(given)
		if err != nil || n < 0 {
			googleError(w, http.StatusBadRequest, "INVALID_ARGUMENT", "pageSize is a number")
			return nil, "", false
		}
		size = min(max(n, 1), 1000)
	}
	if token := r.URL.Query().Get("pageToken"); token != "" {
		n, err := fmt.Sscanf(token, "page-%d", &first)
		if n != 1 || err != nil || first > len(entries) {
			googleError(w, http.StatusBadRequest, "INVALID_ARGUMENT", "page token is invalid")
			return nil, "", false
		}
	}
	entries = entries[first:]
	if len(entries) > size {
		return entries[:size], fmt.Sprintf("page-%d", first+size), true
	}
	return entries, "", true
}
