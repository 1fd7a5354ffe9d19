package registrytest

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"freightliner/providers"

	"golang.org/x/sync/errgroup"
)

// Tree says what [Fill] makes. The zero value of every field but the first two
// is fine; the same Tree always gives the same bytes.
type Tree struct {
	Repositories int // named <Prefix>/app-0000, <Prefix>/app-0001, …
	Tags         int // per repository: v1.0.0, v1.1.0, …

	Prefix    string // empty for no prefix
	Seed      uint64
	BaseSize  int  // bytes of the layer that all images share; 0 for 1 KiB
	LayerSize int  // bytes of a layer that every image has to itself; 0 for none
	Indexes   bool // multi-arch with attestations, in place of plain images
	Docker    bool // Docker media types
	Signed    bool // a cosign signature per image, under its tag
	SBOMs     bool // an OCI referrer per image
}

// Fill pushes a tree, several repositories at a time, and gives back the tags
// it has made, fallback tags included. Layers are uploaded once and mounted,
// so a thousand small repositories take a few seconds.
func Fill(t testing.TB, host string, tree Tree) Listing {
	t.Helper()
	r := dial(host)
	base := Layer(tree.Seed, cmp.Or(tree.BaseSize, 1024))
	made := make([]map[string]providers.Digest, tree.Repositories)
	fill := func(i int, from string) error {
		tags, err := r.fill(tree, i, base, from)
		made[i] = tags
		return err
	}
	var err error
	if tree.Repositories > 0 {
		err = fill(0, "") // the others mount from it
	}
	var group errgroup.Group
	group.SetLimit(8)
	for i := 1; i < tree.Repositories && err == nil; i++ {
		group.Go(func() error { return fill(i, tree.repository(0)) })
	}
	if waited := group.Wait(); err == nil {
		err = waited
	}
	if err != nil {
		t.Fatalf("registrytest: fill %s: %v", host, err)
	}
	listing := Listing{}
	for i, tags := range made {
		listing[tree.repository(i)] = tags
	}
	return listing
}

func (tree Tree) repository(i int) string {
	return strings.TrimPrefix(fmt.Sprintf("%s/app-%04d", tree.Prefix, i), "/")
}

// image is the artifact behind tag number tag of repository number i.
func (tree Tree) image(i, tag int, base Blob) *Artifact {
	seed := tree.Seed*1_000_003 + uint64(i)*1009 + uint64(tag) + 1
	layers := []Blob{base}
	if tree.LayerSize > 0 {
		layers = append(layers, Layer(seed, tree.LayerSize))
	}
	switch {
	case tree.Indexes && tree.Docker:
		return DockerIndex(seed, layers...)
	case tree.Indexes:
		return Index(seed, layers...)
	case tree.Docker:
		return DockerImage(seed, layers...)
	}
	return Image(seed, layers...)
}

// fill pushes one repository.
func (r *remote) fill(tree Tree, i int, base Blob, from string) (map[string]providers.Digest, error) {
	repository := tree.repository(i)
	tags := map[string]providers.Digest{}
	if err := r.upload(repository, base, from); err != nil {
		return nil, fmt.Errorf("%s: %w", repository, err)
	}
	have := map[providers.Digest]bool{base.Digest(): true}
	for n := range tree.Tags {
		a := tree.image(i, n, base)
		tag := fmt.Sprintf("v1.%d.0", n)
		if err := r.fillImage(tree, repository, tag, a, have, tags); err != nil {
			return nil, fmt.Errorf("%s:%s: %w", repository, tag, err)
		}
	}
	return tags, nil
}

func (r *remote) fillImage(tree Tree, repository, tag string, a *Artifact, have map[providers.Digest]bool, tags map[string]providers.Digest) error {
	if err := r.pushNew(repository, tag, a, have); err != nil {
		return err
	}
	tags[tag] = a.Digest()
	if tree.Signed {
		signature := Signature(a, tree.Seed)
		if err := r.pushNew(repository, SignatureTag(a.Digest()), signature, have); err != nil {
			return err
		}
		tags[SignatureTag(a.Digest())] = signature.Digest()
	}
	if !tree.SBOMs {
		return nil
	}
	list, err := r.pushReferrer(repository, SBOM(a, tree.Seed))
	if list != nil {
		tags[FallbackTag(a.Digest())] = list.Digest()
	}
	return err
}

// pushNew is push for a repository whose blobs we know.
func (r *remote) pushNew(repository, tag string, a *Artifact, have map[providers.Digest]bool) error {
	for _, child := range a.Children {
		if err := r.pushNew(repository, string(child.Digest()), child, have); err != nil {
			return err
		}
	}
	for _, blob := range a.Blobs {
		if d := blob.Digest(); !have[d] {
			if err := r.upload(repository, blob, ""); err != nil {
				return err
			}
			have[d] = true
		}
	}
	_, err := r.putManifest(repository, tag, a)
	return err
}
