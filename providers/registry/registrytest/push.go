package registrytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"freightliner/providers"
)

// Push puts an artifact with everything below it into a repository and, unless
// tag is empty, tags it.
func Push(t testing.TB, host, repository, tag string, a *Artifact) providers.Digest {
	t.Helper()
	if err := behind(host).push(repository, tag, a); err != nil {
		t.Fatalf("registrytest: push %s/%s:%s: %v", host, repository, tag, err)
	}
	return a.Digest()
}

// PushReferrer puts an artifact with a subject. Where the registry does not
// answer that it keeps referrers, the fallback tag is kept instead, as the
// distribution-spec 1.1 asks of clients.
func PushReferrer(t testing.TB, host, repository string, a *Artifact) providers.Digest {
	t.Helper()
	if _, err := behind(host).pushReferrer(repository, a); err != nil {
		t.Fatalf("registrytest: push referrer of %s to %s/%s: %v", a.Subject, host, repository, err)
	}
	return a.Digest()
}

// Tag points a tag at a manifest that is in the repository already.
func Tag(t testing.TB, host, repository, tag string, a *Artifact) {
	t.Helper()
	if _, err := behind(host).putManifest(repository, tag, a); err != nil {
		t.Fatalf("registrytest: tag %s/%s:%s: %v", host, repository, tag, err)
	}
}

// Delete removes a manifest by tag or digest.
func Delete(t testing.TB, host, repository, reference string) {
	t.Helper()
	answer, err := behind(host).do(http.MethodDelete, repository+"/manifests/"+reference, nil, nil)
	if err == nil && answer.status != http.StatusAccepted {
		err = unexpected(answer)
	}
	if err != nil {
		t.Fatalf("registrytest: delete %s/%s %s: %v", host, repository, reference, err)
	}
}

func unexpected(answer reply) error {
	return fmt.Errorf("status %d: %s", answer.status, providers.Printable(string(answer.body), 300))
}

// push uploads what a needs, then the manifests from the leaves up.
func (r *remote) push(repository, tag string, a *Artifact) error {
	r.prepare(repository)
	for _, child := range a.Children {
		if err := r.push(repository, "", child); err != nil {
			return err
		}
	}
	for _, blob := range a.Blobs {
		if err := r.pushBlob(repository, blob); err != nil {
			return fmt.Errorf("blob %s: %w", blob.Digest(), err)
		}
	}
	reference := tag
	if tag == "" {
		reference = string(a.Digest())
	}
	_, err := r.putManifest(repository, reference, a)
	return err
}

// pushBlob makes a blob present, with a look before the upload.
func (r *remote) pushBlob(repository string, blob Blob) error {
	answer, err := r.do(http.MethodHead, repository+"/blobs/"+string(blob.Digest()), nil, nil)
	if err != nil || answer.status == http.StatusOK {
		return err
	}
	return r.upload(repository, blob, "")
}

// upload mounts the blob from another repository, when one is named and has
// it, or sends it.
func (r *remote) upload(repository string, blob Blob, from string) error {
	target := repository + "/blobs/uploads/"
	if from != "" {
		target += "?mount=" + string(blob.Digest()) + "&from=" + url.QueryEscape(from)
	}
	answer, err := r.do(http.MethodPost, target, nil, nil)
	if err != nil || answer.status == http.StatusCreated {
		return err
	}
	if answer.status != http.StatusAccepted {
		return unexpected(answer)
	}
	answer, err = r.do(http.MethodPut, withDigest(r.location(answer), blob.Digest()), octets, blob.Data)
	if err == nil && answer.status != http.StatusCreated {
		err = unexpected(answer)
	}
	return err
}

var octets = map[string]string{"Content-Type": "application/octet-stream"}

// withDigest adds the digest to an upload's address and keeps its query.
func withDigest(location string, d providers.Digest) string {
	separator := "?"
	if strings.Contains(location, "?") {
		separator = "&"
	}
	return location + separator + "digest=" + string(d)
}

func (r *remote) putManifest(repository, reference string, a *Artifact) (reply, error) {
	answer, err := r.do(http.MethodPut, repository+"/manifests/"+reference, map[string]string{"Content-Type": a.MediaType}, a.Raw)
	if err == nil && answer.status != http.StatusCreated {
		err = unexpected(answer)
	}
	return answer, err
}

// pushReferrer gives the fallback tag's manifest back when it had to keep one.
func (r *remote) pushReferrer(repository string, a *Artifact) (*Artifact, error) {
	r.prepare(repository)
	for _, blob := range a.Blobs {
		if err := r.pushBlob(repository, blob); err != nil {
			return nil, err
		}
	}
	answer, err := r.putManifest(repository, string(a.Digest()), a)
	if err != nil || answer.header.Get("OCI-Subject") != "" {
		return nil, err
	}
	tag := FallbackTag(a.Subject)
	entries, err := r.fallback(repository, tag)
	if err != nil {
		return nil, err
	}
	entry := a.descriptor()
	var body struct {
		ArtifactType string `json:"artifactType"`
	}
	if err := json.Unmarshal(a.Raw, &body); err != nil {
		return nil, err
	}
	entry["artifactType"] = body.ArtifactType
	if !slices.ContainsFunc(entries, func(e map[string]any) bool { return e["digest"] == string(a.Digest()) }) {
		entries = append(entries, entry)
	}
	list := &Artifact{MediaType: OCIIndex, Raw: marshal(map[string]any{"schemaVersion": 2, "mediaType": OCIIndex, "manifests": entries})}
	_, err = r.putManifest(repository, tag, list)
	return list, err
}

// fallback reads the entries under a fallback tag; none when there is no tag.
func (r *remote) fallback(repository, tag string) ([]map[string]any, error) {
	answer, err := r.do(http.MethodGet, repository+"/manifests/"+tag, acceptAll, nil)
	if err != nil || answer.status == http.StatusNotFound {
		return nil, err
	}
	if answer.status != http.StatusOK {
		return nil, unexpected(answer)
	}
	var body struct {
		Manifests []map[string]any `json:"manifests"`
	}
	err = json.Unmarshal(answer.body, &body)
	return body.Manifests, err
}

var acceptAll = map[string]string{"Accept": strings.Join([]string{OCIManifest, OCIIndex, DockerManifest, DockerList}, ", ")}
