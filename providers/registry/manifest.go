package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"freightliner/providers"
)

// Head asks which manifest ref (a tag or a digest) is in repo: its digest, size
// and media type, by one HEAD, which registries do not meter as a pull. A
// registry that does not name the digest costs a GET instead.
//
// Errors: NotFound; Denied; Invalid when the answer names another digest than
// the one asked for; the classes of every call.
func (c *Client) Head(ctx context.Context, repo providers.Repository, ref string) (providers.Descriptor, error) {
	r, err := c.at("look up", repo, ref)
	if err != nil {
		return providers.Descriptor{}, err
	}
	return c.head(ctx, r, repo, ref, pull)
}

func (c *Client) head(ctx context.Context, r *remote, repo providers.Repository, ref, actions string) (d providers.Descriptor, err error) {
	request := &call{op: "look up", on: address(repo, ref), method: http.MethodHead, endpoint: "manifest",
		url: r.url(repo.Path+"/manifests/"+ref, nil), scopes: []string{scope(repo.Path, actions)},
		header: http.Header{"Accept": {acceptManifests}, "Accept-Encoding": {"identity"}},
		ok:     []int{http.StatusOK}}
	silent := false
	err = r.exchange(ctx, request, func(resp *http.Response) error {
		d, silent, err = readHead(resp, ref)
		return err
	})
	if silent || providers.ClassOf(err) == providers.Unsupported {
		m, err := c.getManifest(ctx, r, repo, ref, actions)
		if err != nil {
			return providers.Descriptor{}, err
		}
		d = describe(m)
	} else if err != nil {
		return providers.Descriptor{}, err
	}
	if !IsIndexType(d.MediaType) {
		// A registry takes an image manifest only when its blobs are there. An index
		// may be sparse, so its presence says nothing about its children.
		c.known.addComplete(repo, d.Digest)
	}
	return d, nil
}

// readHead takes the descriptor out of the headers; silent is set when they do
// not say enough.
func readHead(resp *http.Response, ref string) (d providers.Descriptor, silent bool, err error) {
	d.MediaType = baseType(resp.Header.Get("Content-Type"))
	if isSchema1(d.MediaType) {
		return d, false, &providers.Error{Class: providers.Unsupported, Err: errors.New("a Docker schema 1 manifest")}
	}
	d.Size = resp.ContentLength
	if text := resp.Header.Get("Docker-Content-Digest"); text != "" {
		if d.Digest, err = providers.ParseDigest(text); err != nil {
			return d, false, invalid("the answer's digest: %w", err)
		}
	}
	if strings.Contains(ref, ":") {
		if d.Digest != "" && string(d.Digest) != ref {
			return d, false, invalid("asked for %s, the answer is about %s", ref, d.Digest)
		}
		d.Digest = providers.Digest(ref)
	}
	if d.Size > maxManifest {
		return d, false, invalid("a manifest of %d bytes: %w of %d", d.Size, errMore, maxManifest)
	}
	return d, d.Digest == "" || d.Size < 0 || d.MediaType == "", nil
}

func describe(m *Manifest) providers.Descriptor {
	return providers.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Raw)), ArtifactType: m.ArtifactType, Annotations: m.Annotations}
}

// Manifest reads the manifest or index ref (a tag or a digest) of repo, with
// its digest verified. A digest that was read before in this run comes from
// memory. The result is shared: do not change it.
//
// Errors: NotFound; Conflict when the bytes are not those of the digest;
// Invalid for what is no well-formed manifest of at most 4 MiB; Unsupported for
// Docker schema 1.
func (c *Client) Manifest(ctx context.Context, repo providers.Repository, ref string) (*Manifest, error) {
	r, err := c.at("read manifest", repo, ref)
	if err != nil {
		return nil, err
	}
	return c.getManifest(ctx, r, repo, ref, pull)
}

// Resolve is the digest of a tag whose manifest the caller is going to read: one
// GET tells both, and leaves the manifest in memory. Where such reads are counted
// against a quota it is a HEAD, since tags may share a manifest that is in memory
// already.
//
// Errors: as for [Client.Manifest].
func (c *Client) Resolve(ctx context.Context, repo providers.Repository, tag string) (providers.Digest, error) {
	r, err := c.at("read manifest", repo, tag)
	if err != nil {
		return "", err
	}
	if r.metered() {
		d, err := c.head(ctx, r, repo, tag, pull)
		return d.Digest, err
	}
	m, err := c.getManifest(ctx, r, repo, tag, pull)
	if err != nil {
		return "", err
	}
	return m.Digest, nil
}

func (c *Client) getManifest(ctx context.Context, r *remote, repo providers.Repository, ref, actions string) (*Manifest, error) {
	if digest := providers.Digest(ref); strings.Contains(ref, ":") {
		if m := c.cache.get(digest); m != nil {
			return m, nil
		}
		done, err := c.cache.await(ctx, digest)
		if err != nil {
			return nil, err
		}
		if done != nil {
			defer done()
		}
		if m := c.cache.get(digest); m != nil {
			return m, nil
		}
	}
	request := &call{op: "read manifest", on: address(repo, ref), method: http.MethodGet, endpoint: "manifest",
		url: r.url(repo.Path+"/manifests/"+ref, nil), scopes: []string{scope(repo.Path, actions)},
		header: http.Header{"Accept": {acceptManifests}, "Accept-Encoding": {acceptEncodings}},
		ok:     []int{http.StatusOK}}
	var m *Manifest
	err := r.exchange(ctx, request, func(resp *http.Response) (err error) {
		m, err = readManifest(resp, ref)
		return err
	})
	if err != nil {
		r.suspect(err)
		return nil, err
	}
	c.cache.put(m)
	return m, nil
}

// readManifest reads and verifies a manifest answer.
func readManifest(resp *http.Response, ref string) (*Manifest, error) {
	raw, err := readBody(resp, maxManifest)
	if err != nil {
		return nil, err // cut short: Transient; too long: Invalid
	}
	digest := providers.SHA256(raw)
	named := resp.Header.Get("Docker-Content-Digest")
	if strings.Contains(ref, ":") {
		named = ref
	}
	if named != "" {
		want, err := providers.ParseDigest(named)
		if err != nil {
			return nil, invalid("the answer's digest: %w", err)
		}
		if digest = want.Of(raw); digest != want {
			return nil, &providers.Error{Class: providers.Conflict, Err: fmt.Errorf("%w: the bytes received have the digest %s, not %s", errMismatch, digest, want)}
		}
	}
	m, err := parseManifest(raw, resp.Header.Get("Content-Type"))
	if err != nil {
		var e *providers.Error
		if errors.As(err, &e) {
			return nil, err
		}
		return nil, invalid("%w", err)
	}
	m.Digest = digest
	return m, nil
}

// PutManifest writes m under ref (a tag, or m's own digest). The registry's
// answer must name the digest of m; any other is Invalid, and then nothing is
// known about what ref points to. Everything m refers to must be there before.
func (c *Client) PutManifest(ctx context.Context, repo providers.Repository, ref string, m *Manifest) error {
	r, err := c.at("write manifest", repo, ref)
	if err != nil {
		return err
	}
	if strings.Contains(ref, ":") && ref != string(m.Digest) {
		return &providers.Error{Class: providers.Invalid, Op: "write manifest", On: address(repo, ref), Err: fmt.Errorf("its digest is %s", m.Digest)}
	}
	if m.Digest.Of(m.Raw) != m.Digest {
		return &providers.Error{Class: providers.Conflict, Op: "write manifest", On: address(repo, ref), Err: errors.New("its bytes do not match its digest")}
	}
	if !strings.Contains(ref, ":") && r.profile.Tags != TagsSingly {
		err = r.putTag(ctx, repo, ref, m)
	} else {
		err = r.putManifest(ctx, repo, ref, m)
	}
	if err != nil {
		return tooLarge(err, len(m.Raw))
	}
	return nil
}

// putManifest writes m under one reference.
func (r *remote) putManifest(ctx context.Context, repo providers.Repository, ref string, m *Manifest) error {
	return r.exchange(ctx, manifestPut(r, repo, ref, m), func(resp *http.Response) error { return r.tookManifest(resp, m) })
}

func manifestPut(r *remote, repo providers.Repository, ref string, m *Manifest) *call {
	return &call{op: "write manifest", on: address(repo, ref), method: http.MethodPut, endpoint: "manifest",
		url: r.url(repo.Path+"/manifests/"+ref, nil), scopes: []string{scope(repo.Path, pullPush)},
		header: http.Header{"Content-Type": {m.MediaType}}, body: m.Raw,
		ok: []int{http.StatusCreated, http.StatusOK, http.StatusAccepted, http.StatusNoContent}}
}

// tookManifest reads the answer to a PUT of m.
func (r *remote) tookManifest(resp *http.Response, m *Manifest) error {
	if _, err := readBody(resp, maxError); err != nil {
		return err
	}
	if err := sameDigest(resp, m.Digest); err != nil {
		return err
	}
	if m.Subject != nil {
		r.learnSubject(resp.Header.Get("OCI-Subject") != "")
	}
	return nil
}

// sameDigest compares the digest that an answer to a write names.
func sameDigest(resp *http.Response, want providers.Digest) error {
	text := resp.Header.Get("Docker-Content-Digest")
	if text == "" {
		return nil
	}
	got, err := providers.ParseDigest(text)
	if err != nil {
		return invalid("the answer's digest: %w", err)
	}
	if got.Algorithm() == want.Algorithm() && got != want {
		return invalid("the registry stored it as %s, not as %s", got, want)
	}
	return nil
}

func tooLarge(err error, size int) error {
	return amend(err, func(e *providers.Error) {
		if statusOf(err) == http.StatusRequestEntityTooLarge {
			e.Hint = fmt.Sprintf("The manifest has %d bytes, more than the registry takes.", size)
		}
	})
}

// Immutable reports whether the registry keeps tag, which is there, from being
// moved to other content, as far as its kind can tell: false also where it can
// not. It costs a request, so it is for tags that are about to be moved.
func (c *Client) Immutable(ctx context.Context, repo providers.Repository, tag string) (bool, error) {
	r, err := c.at("look up", repo, tag)
	if err != nil || r.kind.Immutable == nil {
		return false, err
	}
	immutable, err := r.kind.Immutable(ctx, &API{remote: r}, repo.Path, tag)
	if err != nil {
		c.log.Debug("it is not known whether the tag is immutable", "tag", repo.Tag(tag), "error", err.Error())
	}
	return immutable && err == nil, ctx.Err()
}

// Delete removes ref (a tag or a digest) from repo. With a tag the tag alone
// goes, by the interface of the kind where a DELETE would take more; a digest goes
// with all its tags.
//
// Errors: NotFound when there is nothing to delete, also after a try whose
// outcome stayed unknown; Unsupported when the registry does not delete.
func (c *Client) Delete(ctx context.Context, repo providers.Repository, ref string) error {
	r, err := c.at("delete", repo, ref)
	if err != nil {
		return err
	}
	// What is known about the repository may be wrong from here on.
	c.known.forget(repo)
	if r.kind.Untag != nil && !strings.Contains(ref, ":") {
		return r.kind.Untag(ctx, &API{remote: r}, repo.Path, ref)
	}
	request := &call{op: "delete", on: address(repo, ref), method: http.MethodDelete, endpoint: "manifest",
		url: r.url(repo.Path+"/manifests/"+ref, nil), scopes: []string{scope(repo.Path, "delete"), scope(repo.Path, pull)},
		ok: []int{http.StatusAccepted, http.StatusOK, http.StatusNoContent}}
	err = r.exchange(ctx, request, func(resp *http.Response) error {
		_, err := readBody(resp, maxError)
		return err
	})
	return amend(err, func(e *providers.Error) {
		if statusOf(err) == http.StatusMethodNotAllowed || hasCode(err, "UNSUPPORTED") {
			e.Class = providers.Unsupported
			e.Hint = repo.Host + " does not delete over this API, or deleting is switched off there."
		}
	})
}
