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
// it has made, fallback tags included. What the first repository has is mounted
// in the others, so that a thousand small repositories take a few seconds.
func Fill(t testing.TB, host string, tree Tree) Listing {
	t.Helper()
	listing, err := behind(host).fill(tree)
	if err != nil {
		t.Fatalf("registrytest: fill %s: %v", host, err)
	}
	return listing
}

func (r *remote) fill(tree Tree) (Listing, error) {
	fillers := make([]*filler, tree.Repositories)
	for i := range fillers {
		fillers[i] = &filler{remote: r, tree: tree, number: i, have: map[providers.Digest]bool{}, tags: map[string]providers.Digest{}}
	}
	var group errgroup.Group
	group.SetLimit(8)
	for i, f := range fillers {
		if i == 0 { // the others mount from it
			if err := f.fill(); err != nil {
				return nil, err
			}
			continue
		}
		f.first = fillers[0]
		group.Go(f.fill)
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	listing := Listing{}
	for _, f := range fillers {
		listing[tree.repository(f.number)] = f.tags
	}
	return listing, nil
}

func (tree Tree) repository(i int) string {
	return strings.TrimPrefix(fmt.Sprintf("%s/app-%04d", tree.Prefix, i), "/")
}

// image is the artifact behind tag number tag of repository number i.
func (tree Tree) image(i, tag int) *Artifact {
	seed := tree.Seed*1_000_003 + uint64(i)*1009 + uint64(tag) + 1
	layers := []Blob{Layer(tree.Seed, cmp.Or(tree.BaseSize, 1024))}
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
	case tree.LayerSize > 0:
		return Image(seed, layers...)
	}
	return Annotated(Image(tree.Seed, layers...), fmt.Sprint(seed))
}

// filler fills one repository.
type filler struct {
	remote *remote
	tree   Tree
	number int
	first  *filler                   // finished; nil for the first itself
	have   map[providers.Digest]bool // blobs that are there
	tags   map[string]providers.Digest
}

func (f *filler) repository() string { return f.tree.repository(f.number) }

func (f *filler) fill() error {
	f.remote.prepare(f.repository())
	for n := range f.tree.Tags {
		tag := fmt.Sprintf("v1.%d.0", n)
		if err := f.image(tag, f.tree.image(f.number, n)); err != nil {
			return fmt.Errorf("%s:%s: %w", f.repository(), tag, err)
		}
	}
	return nil
}

// image pushes an image with what belongs to it.
func (f *filler) image(tag string, a *Artifact) error {
	if err := f.tag(tag, a); err != nil {
		return err
	}
	if f.tree.Signed {
		if err := f.tag(SignatureTag(a.Digest()), Signature(a, f.tree.Seed)); err != nil {
			return err
		}
	}
	if !f.tree.SBOMs {
		return nil
	}
	list, err := f.remote.pushReferrer(f.repository(), SBOM(a, f.tree.Seed))
	if list != nil {
		f.tags[FallbackTag(a.Digest())] = list.Digest()
	}
	return err
}

func (f *filler) tag(tag string, a *Artifact) error {
	f.tags[tag] = a.Digest()
	return f.put(tag, a)
}

// put pushes what is below a, then a itself.
func (f *filler) put(reference string, a *Artifact) error {
	for _, child := range a.Children {
		if err := f.put(string(child.Digest()), child); err != nil {
			return err
		}
	}
	for _, blob := range a.Blobs {
		if err := f.blob(blob); err != nil {
			return err
		}
	}
	_, err := f.remote.putManifest(f.repository(), reference, a)
	return err
}

func (f *filler) blob(b Blob) error {
	d := b.Digest()
	if f.have[d] {
		return nil
	}
	f.have[d] = true
	from := ""
	if f.first != nil && f.first.have[d] {
		from = f.first.repository()
	}
	return f.remote.upload(f.repository(), b, from)
}
