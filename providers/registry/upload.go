package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"freightliner/providers"
)

// session is an upload that a registry has opened.
type session struct {
	url      *url.URL // where its next request goes: the newest Location
	foreign  bool     // on another, allowed host
	minChunk int64    // OCI-Chunk-Min-Length (distribution-spec 1.1); 0 when not told
}

// move takes the Location of an answer, when it has one.
func (s *session) move(r *remote, base *url.URL, location string) error {
	u, foreign, err := r.resolve(base, location, r.settings.UploadHosts)
	if err != nil {
		e := &providers.Error{Class: providers.Invalid, Err: fmt.Errorf("the upload's location: %w", err)}
		if errors.Is(err, errElsewhere) {
			e.Hint = "If uploads to that host are right, name it in upload_hosts in the registry block of " + r.settings.Host + "."
		}
		return e
	}
	s.url, s.foreign = u, foreign
	return nil
}

// openUpload starts an upload of d to repo. With from, the registry is asked to
// mount the blob of that repository instead: mounted then says that it did, and
// otherwise the session that it opened in the same answer is used, so a refused
// mount costs nothing. Mounting from repo itself asks whether the blob is there.
func (c *Client) openUpload(ctx context.Context, r *remote, repo providers.Repository, d providers.Digest, from string) (s *session, mounted bool, err error) {
	request := &call{op: "open upload to", on: repo.At(d), method: http.MethodPost, endpoint: "upload",
		url: r.url(repo.Path+"/blobs/uploads/", nil), scopes: []string{scope(repo.Path, pullPush)},
		ok: []int{http.StatusAccepted}}
	if from != "" {
		request.url = r.url(repo.Path+"/blobs/uploads/", url.Values{"mount": {string(d)}, "from": {from}})
		request.ok = append(request.ok, http.StatusCreated)
	}
	if from != "" && from != repo.Path {
		request.op, request.endpoint = "mount blob into", "mount"
		request.scopes = append(request.scopes, scope(from, pull))
	}
	err = r.exchange(ctx, request, func(resp *http.Response) error {
		if _, err := readBody(resp, maxError); err != nil {
			return err
		}
		if mounted = resp.StatusCode == http.StatusCreated; mounted {
			return sameDigest(resp, d)
		}
		s = &session{}
		if n, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil && n > 0 {
			s.minChunk = n
		}
		return s.move(r, request.url, resp.Header.Get("Location"))
	})
	return s, mounted, err
}

// putBlob ends the upload of d with content, the last length bytes of it. The
// caller holds a slot of the gate.
func (c *Client) putBlob(ctx context.Context, r *remote, repo providers.Repository, d providers.Digest, s *session, content io.Reader, length int64) error {
	at := *s.url
	// What is there stays as it is: some registries sign it.
	if at.RawQuery != "" {
		at.RawQuery += "&"
	}
	at.RawQuery += "digest=" + url.QueryEscape(string(d))
	request := &call{op: "upload blob to", on: repo.At(d), method: http.MethodPut, endpoint: "upload",
		url: &at, scopes: []string{scope(repo.Path, pullPush)}, foreign: s.foreign, bulk: true, held: true,
		ok: []int{http.StatusCreated, http.StatusOK, http.StatusNoContent}}
	if length > 0 {
		request.header = http.Header{"Content-Type": {"application/octet-stream"}}
		request.stream, request.length = content, length
	}
	resp, err := r.open(ctx, request)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := readBody(resp, maxError); err != nil {
		return r.failure(ctx, request, err)
	}
	if err := sameDigest(resp, d); err != nil {
		return r.failure(ctx, request, err)
	}
	return nil
}

// patchBlob sends length bytes of d that begin at offset; ranged says so in a
// Content-Range, which is written without the unit since Azure refuses it with
// (dotnet/sdk-container-builds #258) and the specification shows it without.
// held is how many bytes of the blob the registry says it has; -1 when it does
// not say. The caller holds a slot of the gate.
func (c *Client) patchBlob(ctx context.Context, r *remote, repo providers.Repository, d providers.Digest, s *session, content io.Reader, offset, length int64, ranged bool) (held int64, err error) {
	request := &call{op: "upload blob to", on: repo.At(d), method: http.MethodPatch, endpoint: "upload",
		url: s.url, scopes: []string{scope(repo.Path, pullPush)}, foreign: s.foreign, bulk: true, held: true,
		header: http.Header{"Content-Type": {"application/octet-stream"}},
		stream: content, length: length,
		ok: []int{http.StatusAccepted, http.StatusCreated, http.StatusOK, http.StatusNoContent}}
	if ranged {
		request.header.Set("Content-Range", fmt.Sprintf("%d-%d", offset, offset+length-1))
	}
	resp, err := r.open(ctx, request)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := readBody(resp, maxError); err != nil {
		return 0, r.failure(ctx, request, err)
	}
	if location := resp.Header.Get("Location"); location != "" {
		if err := s.move(r, request.url, location); err != nil {
			return 0, r.failure(ctx, request, err)
		}
	}
	if held, ok := rangeHeld(resp.Header.Get("Range")); ok {
		return held, nil
	}
	return -1, nil
}

// askUpload asks how many bytes the session holds. "0-0", which is also what
// distribution says of an empty session, counts as none.
func (c *Client) askUpload(ctx context.Context, r *remote, repo providers.Repository, d providers.Digest, s *session) (held int64, err error) {
	request := &call{op: "ask for the upload to", on: repo.At(d), method: http.MethodGet, endpoint: "upload",
		url: s.url, scopes: []string{scope(repo.Path, pullPush)}, foreign: s.foreign,
		ok: []int{http.StatusNoContent, http.StatusAccepted, http.StatusOK}}
	err = r.exchange(ctx, request, func(resp *http.Response) error {
		if _, err := readBody(resp, maxError); err != nil {
			return err
		}
		held, _ = rangeHeld(resp.Header.Get("Range"))
		if held == 1 {
			held = 0
		}
		if location := resp.Header.Get("Location"); location != "" {
			return s.move(r, request.url, location)
		}
		return nil
	})
	return held, err
}

// rangeHeld reads the Range of an upload: "0-41" and "bytes=0-41" are 42 bytes.
func rangeHeld(text string) (n int64, ok bool) {
	text = strings.TrimPrefix(strings.TrimSpace(text), "bytes=")
	last, ok := strings.CutPrefix(text, "0-")
	if !ok || len(last) == 0 || last[0] < '0' || last[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(last, 10, 64)
	if err != nil || n >= 1<<60 {
		return 0, false
	}
	return n + 1, true
}

// getBlob opens d for reading from offset on; spooled of the bytes before it came
// out of the spool. The caller holds a slot of the gate, verifies what it reads,
// and closes the reader.
func (c *Client) getBlob(ctx context.Context, r *remote, repo providers.Repository, d providers.Descriptor, offset, spooled int64) (io.ReadCloser, error) {
	request := &call{op: "read blob", on: repo.At(d.Digest), method: http.MethodGet, endpoint: "blob",
		url: r.url(repo.Path+"/blobs/"+string(d.Digest), nil), scopes: []string{scope(repo.Path, pull)}, bulk: true, held: true,
		header: http.Header{"Accept-Encoding": {"identity"}}, ok: []int{http.StatusOK}}
	if offset > 0 {
		request.header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		request.ok = append(request.ok, http.StatusPartialContent)
	}
	resp, err := r.open(ctx, request)
	if offset > 0 && statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
		request.header.Del("Range")
		resp, err = r.open(ctx, request)
	}
	if err != nil {
		return nil, err
	}
	if err := c.checkBlob(resp, d, offset); err != nil {
		resp.Body.Close()
		return nil, r.failure(ctx, request, err)
	}
	if resp.StatusCode == http.StatusPartialContent {
		r.counters.resume(offset - spooled)
		return resp.Body, nil
	}
	if offset == 0 {
		return resp.Body, nil
	}
	// The whole blob where a part was asked for: the part that we have is read
	// past. It is hashed already, so nothing depends on these bytes.
	if _, err := io.CopyN(io.Discard, resp.Body, offset); err != nil {
		resp.Body.Close()
		return nil, r.failure(ctx, request, err)
	}
	return resp.Body, nil
}

// checkBlob makes sure that an answer is the part of d that was asked for.
func (c *Client) checkBlob(resp *http.Response, d providers.Descriptor, offset int64) error {
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return invalid("content encoding %s where none was asked for", providers.Printable(coding, 40))
	}
	length := d.Size
	if resp.StatusCode == http.StatusPartialContent {
		length -= offset
		given := resp.Header.Get("Content-Range")
		want := fmt.Sprintf("bytes %d-%d/", offset, d.Size-1)
		if given != want+strconv.FormatInt(d.Size, 10) && given != want+"*" {
			return &providers.Error{Class: providers.Conflict,
				Err: fmt.Errorf("the registry sends the range %s, not %s%d", providers.Printable(given, 60), want, d.Size)}
		}
	}
	if resp.ContentLength >= 0 && resp.ContentLength != length {
		return &providers.Error{Class: providers.Conflict,
			Err: fmt.Errorf("the registry sends %d bytes, the manifest says %d", resp.ContentLength, length)}
	}
	return nil
}
