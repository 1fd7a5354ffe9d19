package registry

import (
	"context"
	"fmt"

	"freightliner/providers"
)

// Limits of one image. They are far above what is found in the field, and
// bound what a hostile index can make us do.
const (
	maxDepth     = 8
	maxManifests = 10_000 // below one root
	maxBlobs     = 100_000
)

// Contents walks the image d of repo, narrowed to platforms when there are any,
// and lists what is below it without moving a blob. The manifests read stay in
// memory for the copy that follows.
//
// Errors: those of [Client.Manifest] and [Select]; Invalid for a tree that is
// nested deeper than 8 or larger than any image.
func (c *Client) Contents(ctx context.Context, repo providers.Repository, d providers.Digest, platforms []providers.Platform) (*Contents, error) {
	root, err := c.Manifest(ctx, repo, string(d))
	if err != nil {
		return nil, err
	}
	if root, err = Select(root, platforms); err != nil {
		return nil, err
	}
	w := walk{client: c, repo: repo, contents: &Contents{Root: root}, seen: map[providers.Digest]bool{root.Digest: true}}
	w.contents.Manifests = append(w.contents.Manifests, describe(root))
	return w.contents, w.below(ctx, root, 1)
}

type walk struct {
	client   *Client
	repo     providers.Repository
	contents *Contents
	seen     map[providers.Digest]bool
}

func (w *walk) below(ctx context.Context, m *Manifest, depth int) error {
	if err := checkShape(w.repo, m, depth, len(w.contents.Manifests), len(w.contents.Blobs)); err != nil {
		return err
	}
	for _, b := range m.Blobs() {
		if !w.seen[b.Digest] && !IsForeign(b.MediaType) {
			w.seen[b.Digest] = true
			w.contents.Blobs = append(w.contents.Blobs, b)
		}
	}
	for _, child := range m.Manifests {
		if w.seen[child.Digest] {
			continue
		}
		w.seen[child.Digest] = true
		w.contents.Manifests = append(w.contents.Manifests, child)
		c, err := w.client.child(ctx, w.repo, child)
		if err != nil {
			return err
		}
		if err := w.below(ctx, c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// checkShape holds the limits of a tree of manifests.
func checkShape(repo providers.Repository, m *Manifest, depth, manifests, blobs int) error {
	var err error
	switch {
	case depth > maxDepth:
		err = fmt.Errorf("indexes are nested deeper than %d", maxDepth)
	case manifests+len(m.Manifests) > maxManifests:
		err = fmt.Errorf("more than %d manifests in one image", maxManifests)
	case blobs+len(m.Layers) > maxBlobs:
		err = fmt.Errorf("more than %d blobs in one image", maxBlobs)
	default:
		return nil
	}
	return &providers.Error{Class: providers.Invalid, Op: "walk image", On: repo.At(m.Digest), Err: err}
}

// child reads a child of an index and compares it with what the index says.
func (c *Client) child(ctx context.Context, repo providers.Repository, d providers.Descriptor) (*Manifest, error) {
	m, err := c.Manifest(ctx, repo, string(d.Digest))
	if err != nil {
		return nil, amend(err, func(e *providers.Error) {
			if e.Class == providers.NotFound {
				e.Hint = "The index lists a manifest that its repository does not hold; platforms = [...] can leave it out."
			}
		})
	}
	bad := func(format string, args ...any) error {
		return &providers.Error{Class: providers.Invalid, Op: "read manifest", On: repo.At(d.Digest), Err: fmt.Errorf(format, args...)}
	}
	if int64(len(m.Raw)) != d.Size {
		return nil, bad("it has %d bytes, the index says %d", len(m.Raw), d.Size)
	}
	if d.MediaType != "" && d.MediaType != m.MediaType {
		return nil, bad("it is %s, the index says %s", m.MediaType, d.MediaType)
	}
	return m, nil
}
