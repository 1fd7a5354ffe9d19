package registry

import (
	"context"

	"freightliner/providers"
)

// Recall reads the image d of repo, where the caller has seen it, and takes note
// of what it refers to: a registry that holds an image holds its blobs. So most
// of the blobs of the next version of an image need no look, and no mount of
// what is there already. It reads at most limit manifests, and none where the
// registry meters reads (Docker Hub), since looks are free there.
//
// Without success nothing is known and nothing is lost, so the only error is
// that of ctx.
func (c *Client) Recall(ctx context.Context, repo providers.Repository, d providers.Digest, limit int) error {
	r, err := c.at("recall", repo, string(d))
	if err != nil || limit < 1 || r.metered() {
		return nil
	}
	root, err := c.getManifest(ctx, r, repo, string(d), pull)
	if err != nil {
		return ctx.Err()
	}
	if !root.IsIndex() {
		c.note(repo, root)
		return nil
	}
	var unread []providers.Descriptor
	for _, child := range once(root.Manifests) {
		// What is in memory may come from the source, and an index may be sparse:
		// then it says nothing about this repository.
		if !IsIndexType(child.MediaType) && c.cache.get(child.Digest) == nil {
			unread = append(unread, child)
		}
	}
	if len(unread)+1 > limit {
		return nil
	}
	for _, child := range unread {
		if m, err := c.child(ctx, repo, child); err == nil {
			c.note(repo, m)
		} else if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// note takes the image m to be in repo with all its blobs.
func (c *Client) note(repo providers.Repository, m *Manifest) {
	var blobs []providers.Descriptor
	for _, b := range m.Blobs() {
		if !IsForeign(b.MediaType) {
			c.known.addBlob(repo, b.Digest)
			blobs = append(blobs, b)
		}
	}
	c.known.committed(repo, blobs)
	c.known.addComplete(repo, m.Digest)
}

// metered reports whether the registry counts reads of manifests against a quota.
func (r *remote) metered() bool {
	r.counters.mu.Lock()
	defer r.counters.mu.Unlock()
	return r.counters.quota != nil
}
