package embedded

import (
	"net/http"
	"time"

	"freightliner/providers"
)

func (g *registry) serveBlob(w http.ResponseWriter, r *http.Request, at address) error {
	d, err := parseDigest(at.ref)
	if err != nil {
		return err
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return g.readBlob(w, r, at.name, d)
	case http.MethodDelete:
		return g.deleteBlob(w, at.name, d)
	}
	return notAllowed(w, "GET, HEAD, DELETE")
}

// readBlob leaves ranges, conditions and HEAD to net/http, which follows
// RFC 9110 in all of them. A blob never changes, so its digest is its ETag.
func (g *registry) readBlob(w http.ResponseWriter, r *http.Request, name string, d providers.Digest) error {
	linked, err := has(g.store, blobKey(name, d))
	if err != nil {
		return err
	}
	if !linked {
		return g.unknown(name, blobUnknown(name, d))
	}
	content, err := g.store.Open(contentKey(d))
	if err != nil {
		return err
	}
	defer content.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", string(d))
	w.Header().Set("Etag", `"`+string(d)+`"`)
	http.ServeContent(w, r, "", time.Time{}, content)
	return nil
}

// deleteBlob unlinks the blob from this repository only: other repositories
// that mounted it keep reading it.
func (g *registry) deleteBlob(w http.ResponseWriter, name string, d providers.Digest) error {
	if g.options.NoDelete {
		return unsupported("this registry deletes nothing")
	}
	g.deleting.Lock()
	defer g.deleting.Unlock()
	err := g.store.Remove(blobKey(name, d))
	if isAbsent(err) {
		return g.unknown(name, blobUnknown(name, d))
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Length", "0")
	w.Header().Set("Docker-Content-Digest", string(d))
	w.WriteHeader(http.StatusAccepted)
	return nil
}
