package registry

import (
	"context"
	"net/http"

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
		c.known.missing(repo, d)
		return false, nil
	}
	return false, err
}
