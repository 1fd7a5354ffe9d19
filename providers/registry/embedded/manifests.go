package embedded

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"freightliner/providers"
)

// Media types a manifest may have here (OCI image-spec 1.1, media-types.md;
// Docker's image manifest version 2, schema 2).
const (
	ociManifest    = "application/vnd.oci.image.manifest.v1+json"
	ociIndex       = "application/vnd.oci.image.index.v1+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// stored is what lies under a manifest's key; its bytes are content.
type stored struct {
	MediaType string           `json:"mediaType"`
	Size      int64            `json:"size"`
	Subject   providers.Digest `json:"subject,omitempty"`
}

// descriptor is the part of a content descriptor that the registry looks at.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// content is the part of a manifest or index that the registry looks at.
type content struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *descriptor       `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Manifests     []descriptor      `json:"manifests"`
	Subject       *descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

func (g *registry) serveManifest(w http.ResponseWriter, r *http.Request, at address) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return g.readManifest(w, r, at)
	case http.MethodPut:
		return g.putManifest(w, r, at)
	case http.MethodDelete:
		return g.deleteManifest(w, at)
	}
	return notAllowed(w, "GET, HEAD, PUT, DELETE")
}

// resolve finds the manifest that at names by tag or by digest.
func (g *registry) resolve(at address) (providers.Digest, stored, error) {
	missing := manifestUnknown(at.name, at.ref)
	d, err := g.target(at)
	if isAbsent(err) {
		return "", stored{}, g.unknown(at.name, missing)
	}
	if err != nil {
		return "", stored{}, err
	}
	record, err := g.record(at.name, d)
	if isAbsent(err) {
		return "", stored{}, g.unknown(at.name, missing)
	}
	return d, record, err
}

// target is the digest that a reference stands for.
func (g *registry) target(at address) (providers.Digest, error) {
	if strings.Contains(at.ref, ":") {
		return parseDigest(at.ref)
	}
	if !tagGrammar().MatchString(at.ref) {
		return "", failf(http.StatusBadRequest, "TAG_INVALID", "a tag is up to 128 letters, digits and . _ -")
	}
	value, err := read(g.store, tagKey(at.name, at.ref))
	if err != nil {
		return "", err
	}
	return providers.ParseDigest(string(value))
}

func (g *registry) record(name string, d providers.Digest) (stored, error) {
	value, err := read(g.store, manifestKey(name, d))
	if err != nil {
		return stored{}, err
	}
	var record stored
	return record, json.Unmarshal(value, &record)
}

func (g *registry) readManifest(w http.ResponseWriter, r *http.Request, at address) error {
	d, record, err := g.resolve(at)
	if err != nil {
		return err
	}
	if !accepts(r, record.MediaType) {
		return failf(http.StatusNotFound, "MANIFEST_UNKNOWN", "the manifest is a %s, which the Accept header leaves out", record.MediaType)
	}
	w.Header().Set("Docker-Content-Digest", string(d))
	w.Header().Set("Etag", `"`+string(d)+`"`)
	if given := r.Header.Get("If-None-Match"); given == `"`+string(d)+`"` || given == string(d) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", record.MediaType)
		w.Header().Set("Content-Length", strconv.FormatInt(record.Size, 10))
		w.WriteHeader(http.StatusOK)
		return nil
	}
	raw, err := read(g.store, contentKey(d))
	if err != nil {
		return err
	}
	answer(w, r, http.StatusOK, record.MediaType, raw)
	return nil
}

// accepts reports whether the client takes mediaType. No Accept header means
// anything. A manifest is never converted for a client that can not read it:
// its digest would not be the one that was asked for.
func accepts(r *http.Request, mediaType string) bool {
	given := strings.Join(r.Header.Values("Accept"), ",")
	if given == "" {
		return true
	}
	for part := range strings.SplitSeq(given, ",") {
		part, _, _ = strings.Cut(part, ";")
		switch strings.TrimSpace(part) {
		case mediaType, "*/*", "application/*":
			return true
		}
	}
	return false
}

func (g *registry) putManifest(w http.ResponseWriter, r *http.Request, at address) error {
	raw, err := io.ReadAll(io.LimitReader(r.Body, ManifestLimit+1))
	if err != nil {
		return failf(http.StatusBadRequest, "MANIFEST_INVALID", "the body ended early")
	}
	if len(raw) > ManifestLimit {
		return failf(http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", "a manifest has at most %d bytes", ManifestLimit)
	}
	d, err := manifestDigest(at, raw)
	if err != nil {
		return err
	}
	mediaType, parsed, err := parseManifest(r.Header.Get("Content-Type"), raw)
	if err != nil {
		return err
	}

	g.deleting.RLock()
	defer g.deleting.RUnlock()
	if err := g.checkReferences(at.name, parsed); err != nil {
		return err
	}
	subject, err := g.storeManifest(at.name, d, mediaType, parsed, raw)
	if err != nil {
		return err
	}
	// The tag comes last: it never points at a manifest that is not there.
	if !strings.Contains(at.ref, ":") {
		if err := g.store.Write(tagKey(at.name, at.ref), []byte(d)); err != nil {
			return err
		}
	}
	if subject != "" && !g.options.NoReferrers {
		w.Header().Set("OCI-Subject", string(subject))
	}
	w.Header().Set("Location", "/v2/"+at.name+"/manifests/"+string(d))
	w.Header().Set("Docker-Content-Digest", string(d))
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
	return nil
}

// manifestDigest is the digest a manifest gets: the one it is put under, when
// that is true, otherwise its SHA-256.
func manifestDigest(at address, raw []byte) (providers.Digest, error) {
	if !strings.Contains(at.ref, ":") {
		if !tagGrammar().MatchString(at.ref) {
			return "", failf(http.StatusBadRequest, "TAG_INVALID", "a tag is up to 128 letters, digits and . _ -")
		}
		return providers.SHA256(raw), nil
	}
	d, err := parseDigest(at.ref)
	if err != nil {
		return "", err
	}
	if got := d.Of(raw); got != d {
		return "", failf(http.StatusBadRequest, "DIGEST_INVALID", "the manifest has digest %s", got)
	}
	return d, nil
}

// parseManifest checks that raw is what its Content-Type says.
func parseManifest(contentType string, raw []byte) (string, content, error) {
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "", content{}, failf(http.StatusBadRequest, "MANIFEST_INVALID", "the Content-Type must be the manifest's media type")
	}
	invalid := func(why string) error {
		return failf(http.StatusBadRequest, "MANIFEST_INVALID", "%s", why)
	}
	var parsed content
	if err := json.Unmarshal(raw, &parsed); err != nil {
		return "", content{}, invalid("the body is no manifest in JSON")
	}
	if parsed.SchemaVersion != 2 {
		return "", content{}, invalid("schemaVersion must be 2")
	}
	if parsed.MediaType != "" && parsed.MediaType != mediaType {
		return "", content{}, invalid("mediaType in the body differs from the Content-Type")
	}
	switch mediaType {
	case ociManifest, dockerManifest:
		if parsed.Config == nil || parsed.Manifests != nil {
			return "", content{}, invalid("an image manifest has a config and no manifests")
		}
	case ociIndex, dockerList:
		if parsed.Config != nil || parsed.Layers != nil {
			return "", content{}, invalid("an index has neither config nor layers")
		}
	default:
		return "", content{}, invalid("media type not known here")
	}
	if mediaType == dockerManifest || mediaType == dockerList {
		if parsed.MediaType == "" {
			return "", content{}, invalid("a Docker manifest names its mediaType")
		}
	}
	return mediaType, parsed, nil
}

// checkReferences makes sure that everything a manifest needs is in its
// repository. Foreign layers live elsewhere by design, and a subject may come
// later (distribution-spec 1.1, "Pushing Manifests with Subject").
func (g *registry) checkReferences(name string, m content) error {
	blobs := m.Layers
	if m.Config != nil {
		blobs = append([]descriptor{*m.Config}, blobs...)
	}
	for _, b := range blobs {
		if err := g.checkReference(b, name, blobKey, len(b.URLs) > 0 || strings.Contains(b.MediaType, "nondistributable") || strings.Contains(b.MediaType, ".foreign.")); err != nil {
			return err
		}
	}
	for _, child := range m.Manifests {
		if err := g.checkReference(child, name, manifestKey, g.options.SparseIndexes); err != nil {
			return err
		}
	}
	return nil
}

func (g *registry) checkReference(to descriptor, name string, key func(string, providers.Digest) string, elsewhere bool) error {
	d, err := parseDigest(to.Digest)
	if err != nil {
		return err
	}
	if elsewhere {
		return nil
	}
	there, err := has(g.store, key(name, d))
	if err != nil {
		return err
	}
	if !there {
		return failf(http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "%s has no %s", name, d)
	}
	return nil
}

// storeManifest writes the manifest and, when it has a subject, its entry
// among the subject's referrers. It gives the subject back.
func (g *registry) storeManifest(name string, d providers.Digest, mediaType string, m content, raw []byte) (providers.Digest, error) {
	record := stored{MediaType: mediaType, Size: int64(len(raw))}
	if m.Subject != nil {
		subject, err := parseDigest(m.Subject.Digest)
		if err != nil {
			return "", err
		}
		record.Subject = subject
	}
	if there, err := has(g.store, contentKey(d)); err != nil {
		return "", err
	} else if !there {
		if err := g.store.Write(contentKey(d), raw); err != nil {
			return "", err
		}
	}
	if record.Subject != "" {
		entry := descriptor{MediaType: mediaType, Digest: string(d), Size: record.Size, ArtifactType: m.ArtifactType, Annotations: m.Annotations}
		if entry.ArtifactType == "" && m.Config != nil {
			entry.ArtifactType = m.Config.MediaType
		}
		if err := g.store.Write(referrerKey(name, record.Subject, d), mustJSON(entry)); err != nil {
			return "", err
		}
	}
	return record.Subject, g.store.Write(manifestKey(name, d), mustJSON(record))
}

// deleteManifest takes a tag away, or a manifest with every tag that points at
// it (distribution-spec 1.1, "Content Management"). Tags go first, so that
// none dangles if we are stopped between the two.
func (g *registry) deleteManifest(w http.ResponseWriter, at address) error {
	if g.options.NoDelete {
		return unsupported("this registry deletes nothing")
	}
	g.deleting.Lock()
	defer g.deleting.Unlock()
	d, record, err := g.resolve(at)
	if err != nil {
		return err
	}
	if strings.Contains(at.ref, ":") {
		err = g.removeManifest(at.name, d, record)
	} else {
		err = g.store.Remove(tagKey(at.name, at.ref))
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (g *registry) removeManifest(name string, d providers.Digest, record stored) error {
	tags, err := g.tags(name)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		value, err := read(g.store, tagKey(name, tag))
		if err != nil {
			return err
		}
		if string(value) != string(d) {
			continue
		}
		if err := g.store.Remove(tagKey(name, tag)); err != nil {
			return err
		}
	}
	if record.Subject != "" {
		if err := g.store.Remove(referrerKey(name, record.Subject, d)); err != nil && !isAbsent(err) {
			return err
		}
	}
	return g.store.Remove(manifestKey(name, d))
}
