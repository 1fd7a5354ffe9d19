package registry

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"

	"freightliner/providers"
)

// HasBlob asks whether the blob d is in repo, by one HEAD, or by none when this
// run knows it is. The answer serves a [Copier] of this Client as well.
func (c *Client) HasBlob(ctx context.Context, repo providers.Repository, d providers.Digest) (bool, error) {
	r, err := c.at("look up blob", repo, string(d))
	if err != nil {
		return false, err
	}
	if c.known.hasBlob(repo, d) {
		return true, nil
	}
	return c.headBlob(ctx, r, repo, d, pull)
}

func (c *Client) headBlob(ctx context.Context, r *remote, repo providers.Repository, d providers.Digest, actions string) (bool, error) {
	request := &call{op: "look up blob", on: repo.At(d), method: http.MethodHead, endpoint: "blob",
		url: r.url(repo.Path+"/blobs/"+string(d), nil), scopes: []string{scope(repo.Path, actions)},
		header: http.Header{"Accept-Encoding": {"identity"}}, ok: []int{http.StatusOK}}
	err := r.exchange(ctx, request, func(resp *http.Response) error { return sameDigest(resp, d) })
	switch {
	case err == nil:
		c.known.addBlob(repo, d)
		return true, nil
	case providers.ClassOf(err) == providers.NotFound:
		return false, nil
	}
	return false, err
}

// session is an upload that a registry has opened.
type session struct {
	url     *url.URL
	foreign bool
}

// openUpload starts an upload of d to repo. With from, the registry is asked to
// mount the blob of that repository instead: mounted then says that it did, and
// otherwise the session that it opened in the same answer is used, so a refused
// mount costs nothing.
func (c *Client) openUpload(ctx context.Context, r *remote, repo providers.Repository, d providers.Digest, from string) (s *session, mounted bool, err error) {
	request := &call{op: "open upload to", on: repo.At(d), method: http.MethodPost, endpoint: "upload",
		url: r.url(repo.Path+"/blobs/uploads/", nil), scopes: []string{scope(repo.Path, pullPush)},
		ok: []int{http.StatusAccepted}}
	if from != "" {
		request.op, request.endpoint = "mount blob into", "mount"
		request.url = r.url(repo.Path+"/blobs/uploads/", url.Values{"mount": {string(d)}, "from": {from}})
		request.scopes = append(request.scopes, scope(from, pull))
		request.ok = append(request.ok, http.StatusCreated)
	}
	err = r.exchange(ctx, request, func(resp *http.Response) error {
		if _, err := readBody(resp, maxError); err != nil {
			return err
		}
		if mounted = resp.StatusCode == http.StatusCreated; mounted {
			return sameDigest(resp, d)
		}
		u, foreign, err := r.resolve(request.url, resp.Header.Get("Location"), r.settings.UploadHosts)
		if err != nil {
			e := &providers.Error{Class: providers.Invalid, Err: fmt.Errorf("the upload's location: %w", err)}
			if errors.Is(err, errElsewhere) {
				e.Hint = "If uploads to that host are right, name it in upload_hosts in the registry block of " + r.settings.Host + "."
			}
			return e
		}
		s = &session{url: u, foreign: foreign}
		return nil
	})
	return s, mounted, err
}

// putBlob sends d in one piece. The caller holds a slot of the gate.
func (c *Client) putBlob(ctx context.Context, r *remote, repo providers.Repository, d providers.Descriptor, s *session, content io.Reader) error {
	at := *s.url
	// What is there stays as it is: some registries sign it.
	if at.RawQuery != "" {
		at.RawQuery += "&"
	}
	at.RawQuery += "digest=" + url.QueryEscape(string(d.Digest))
	request := &call{op: "upload blob to", on: repo.At(d.Digest), method: http.MethodPut, endpoint: "upload",
		url: &at, scopes: []string{scope(repo.Path, pullPush)}, foreign: s.foreign, bulk: true, held: true,
		header: http.Header{"Content-Type": {"application/octet-stream"}},
		stream: content, length: d.Size,
		ok: []int{http.StatusCreated, http.StatusOK, http.StatusNoContent}}
	resp, err := r.open(ctx, request)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := readBody(resp, maxError); err != nil {
		return r.failure(ctx, request, err)
	}
	if err := sameDigest(resp, d.Digest); err != nil {
		return r.failure(ctx, request, err)
	}
	return nil
}

// getBlob opens d for reading. The caller holds a slot of the gate, verifies
// what it reads, and closes the reader.
func (c *Client) getBlob(ctx context.Context, r *remote, repo providers.Repository, d providers.Descriptor) (io.ReadCloser, error) {
	request := &call{op: "read blob", on: repo.At(d.Digest), method: http.MethodGet, endpoint: "blob",
		url: r.url(repo.Path+"/blobs/"+string(d.Digest), nil), scopes: []string{scope(repo.Path, pull)}, bulk: true, held: true,
		header: http.Header{"Accept-Encoding": {"identity"}}, ok: []int{http.StatusOK}}
	resp, err := r.open(ctx, request)
	if err != nil {
		return nil, err
	}
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		resp.Body.Close()
		return nil, r.failure(ctx, request, invalid("content encoding %s where none was asked for", providers.Printable(coding, 40)))
	}
	if resp.ContentLength >= 0 && resp.ContentLength != d.Size {
		resp.Body.Close()
		return nil, r.failure(ctx, request, &providers.Error{Class: providers.Conflict,
			Err: fmt.Errorf("the registry sends %d bytes, the manifest says %d", resp.ContentLength, d.Size)})
	}
	return resp.Body, nil
}

// verified passes a blob on while it is hashed, and keeps its last byte back
// until length and digest are right. Whoever reads it with a Content-Length can
// not complete the transfer of wrong bytes: the last one never comes. The
// destination compares the digest too; this does not rely on it.
type verified struct {
	source io.Reader
	want   providers.Descriptor
	hash   hash.Hash
	left   int64 // bytes not passed on
	err    error // what the source did wrong, for the caller to see past the transport
	moved  func(n int)
}

func newVerified(source io.Reader, want providers.Descriptor, moved func(n int)) *verified {
	return &verified{source: source, want: want, hash: want.Digest.Hash(), left: want.Size, moved: moved}
}

func (v *verified) Read(p []byte) (int, error) {
	switch {
	case v.err != nil:
		return 0, v.err
	case v.left == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	case v.left == 1:
		return v.last(p)
	}
	n, err := v.source.Read(p[:min(int64(len(p)), v.left-1)])
	v.hash.Write(p[:n])
	v.left -= int64(n)
	if err != nil {
		v.err = v.broken(err)
		if n == 0 {
			return 0, v.err
		}
	}
	if n > 0 {
		v.moved(n)
	}
	return n, nil
}

// last reads the last byte, makes sure that the source ends there, and lets it
// go only when everything is right.
func (v *verified) last(p []byte) (int, error) {
	var end [2]byte
	n, err := io.ReadFull(v.source, end[:])
	switch {
	case n == 2:
		v.err = &providers.Error{Class: providers.Conflict, Err: fmt.Errorf("more than the %d bytes that the manifest says", v.want.Size)}
		return 0, v.err
	case n == 0 || !errors.Is(err, io.ErrUnexpectedEOF):
		v.err = v.broken(err)
		return 0, v.err
	}
	v.hash.Write(end[:1])
	if got := providers.FromSum(v.hash.Sum(nil)); got != v.want.Digest {
		v.err = &providers.Error{Class: providers.Conflict, Err: fmt.Errorf("the bytes received have the digest %s", got)}
		return 0, v.err
	}
	v.left = 0
	p[0] = end[0]
	v.moved(1)
	return 1, nil
}

// broken is a source that ended before its time.
func (v *verified) broken(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return &providers.Error{Class: providers.Transient, Err: fmt.Errorf("broke off after %d of %d bytes: %w", v.want.Size-v.left, v.want.Size, err)}
}
