package embedded

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"freightliner/providers"
)

// serveReferrers lists what has the given digest as its subject
// (distribution-spec 1.1, "Listing Referrers"). A digest nobody refers to is
// an empty index, not an error, even when it is unknown itself.
func (g *registry) serveReferrers(w http.ResponseWriter, r *http.Request, at address) error {
	if g.options.NoReferrers {
		return failf(http.StatusNotFound, "NAME_UNKNOWN", "this is no path of the distribution API")
	}
	if !reads(r) {
		return notAllowed(w, "GET, HEAD")
	}
	subject, err := parseDigest(at.ref)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	found, err := g.referrers(at.name, subject, query.Get("artifactType"), query.Get("last"))
	if err != nil {
		return err
	}
	if size := g.options.ReferrersPage; size > 0 && len(found) > size {
		found = found[:size]
		next := url.Values{"last": {referrerFile(found[size-1])}}
		if kind := query.Get("artifactType"); kind != "" {
			next.Set("artifactType", kind)
		}
		w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.EscapedPath(), next.Encode()))
	}
	if query.Get("artifactType") != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	answer(w, r, http.StatusOK, ociIndex, mustJSON(map[string]any{
		"schemaVersion": 2,
		"mediaType":     ociIndex,
		"manifests":     found,
	}))
	return nil
}

// referrers are the descriptors of kind (any when empty) whose file sorts
// behind last; never nil.
func (g *registry) referrers(name string, subject providers.Digest, kind, last string) ([]descriptor, error) {
	files, err := g.store.List(referrersKey(name, subject))
	if err != nil {
		return nil, err
	}
	found := []descriptor{}
	for _, file := range files {
		if file <= last {
			continue
		}
		value, err := read(g.store, referrersKey(name, subject)+"/"+file)
		if isAbsent(err) {
			continue // deleted since we listed it
		}
		if err != nil {
			return nil, err
		}
		var entry descriptor
		if err := json.Unmarshal(value, &entry); err != nil {
			return nil, err
		}
		if kind == "" || entry.ArtifactType == kind {
			found = append(found, entry)
		}
	}
	return found, nil
}

func referrerFile(d descriptor) string {
	digest := providers.Digest(d.Digest)
	return digest.Algorithm() + "-" + digest.Hex()
}
