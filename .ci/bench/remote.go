package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// remote is the least of a registry client: enough to fill a registry that we
// started and to read back what tools left in another. It is deliberately not
// freightliner's own.
type remote struct {
	host   string
	client *http.Client
}

func dial(host string) *remote {
	return &remote{host: host, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true}}}
}

// do sends a request and reads the whole answer, which must have the status.
func (r *remote) do(ctx context.Context, method, target string, header map[string]string, body io.Reader, status int) (http.Header, []byte, error) {
	if !strings.HasPrefix(target, "http") {
		target = "http://" + r.host + "/v2/" + target
	}
	request, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, nil, err
	}
	for key, value := range header {
		request.Header.Set(key, value)
	}
	response, err := r.client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	const most = 16 << 20
	answer, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	if err != nil {
		return nil, nil, err
	}
	if len(answer) > most {
		return nil, nil, fmt.Errorf("%s %s: more than %d bytes", method, target, most)
	}
	if response.StatusCode != status {
		return nil, nil, fmt.Errorf("%s %s: status %d: %.200q", method, target, response.StatusCode, answer)
	}
	return response.Header, answer, nil
}

// upload streams a blob that write makes. Its digest is known at the end.
func (r *remote) upload(ctx context.Context, repository string, write func(io.Writer) error) (digest string, size int64, err error) {
	header, _, err := r.do(ctx, http.MethodPost, repository+"/blobs/uploads/", nil, nil, http.StatusAccepted)
	if err != nil {
		return "", 0, err
	}
	pipe, end := io.Pipe()
	content := sha256.New()
	out := &counted{w: io.MultiWriter(content, end)}
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		end.CloseWithError(write(out))
	}()
	header, _, err = r.do(ctx, http.MethodPatch, header.Get("Location"), octets, pipe, http.StatusAccepted)
	pipe.CloseWithError(errors.New("the upload ended")) // lets go of a writer that nobody reads
	<-wrote
	if err != nil {
		return "", 0, err
	}
	digest = sum(content)
	_, _, err = r.do(ctx, http.MethodPut, withDigest(header.Get("Location"), digest), nil, nil, http.StatusCreated)
	return digest, out.n, err
}

var octets = map[string]string{"Content-Type": "application/octet-stream"}

func withDigest(location, digest string) string {
	separator := "?"
	if strings.Contains(location, "?") {
		separator = "&"
	}
	return location + separator + "digest=" + url.QueryEscape(digest)
}

// mount makes a blob of another repository present in this one.
func (r *remote) mount(ctx context.Context, repository, from, digest string) error {
	query := url.Values{"mount": {digest}, "from": {from}}
	_, _, err := r.do(ctx, http.MethodPost, repository+"/blobs/uploads/?"+query.Encode(), nil, nil, http.StatusCreated)
	return err
}

// put writes a manifest under a tag or its digest.
func (r *remote) put(ctx context.Context, repository, reference string, m *manifest) error {
	_, _, err := r.do(ctx, http.MethodPut, repository+"/manifests/"+reference, map[string]string{"Content-Type": m.MediaType}, bytes.NewReader(m.Raw), http.StatusCreated)
	return err
}

// tags lists the tags of a repository.
func (r *remote) tags(ctx context.Context, repository string) ([]string, error) {
	_, body, err := r.do(ctx, http.MethodGet, repository+"/tags/list?n=1000", nil, nil, http.StatusOK)
	if err != nil {
		return nil, err
	}
	var list struct {
		Tags []string `json:"tags"`
	}
	err = json.Unmarshal(body, &list)
	return list.Tags, err
}

// manifest reads a manifest's bytes and media type.
func (r *remote) manifest(ctx context.Context, repository, reference string) (raw []byte, mediaType string, err error) {
	accept := map[string]string{"Accept": strings.Join([]string{ociManifest, ociIndex, dockerManifest, dockerList}, ", ")}
	header, raw, err := r.do(ctx, http.MethodGet, repository+"/manifests/"+reference, accept, nil, http.StatusOK)
	if err != nil {
		return nil, "", err
	}
	return raw, header.Get("Content-Type"), nil
}

// blob checks that a blob is there: its size by HEAD, or every byte if deep.
func (r *remote) blob(ctx context.Context, repository string, b blob, deep bool) error {
	method := http.MethodHead
	if deep {
		method = http.MethodGet
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+r.host+"/v2/"+repository+"/blobs/"+b.Digest, nil)
	if err != nil {
		return err
	}
	response, err := r.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s blob %s of %s: status %d", method, b.Digest, repository, response.StatusCode)
	}
	if response.ContentLength != b.Size {
		return fmt.Errorf("blob %s of %s has %d bytes, not %d", b.Digest, repository, response.ContentLength, b.Size)
	}
	if !deep {
		return nil
	}
	content := sha256.New()
	if _, err := io.Copy(content, response.Body); err != nil {
		return err
	}
	if got := sum(content); got != b.Digest {
		return fmt.Errorf("blob %s of %s has the digest %s", b.Digest, repository, got)
	}
	return nil
}
