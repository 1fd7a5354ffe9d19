package main

import (
	"context"
	"fmt"
	"io"
	"math/rand"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const layerSize = 256 << 10 // bytes

// fill gives the source its repositories and returns the index that acme/api:1.1
// will move to later.
func fill(host string) (v1.ImageIndex, error) {
	r := rand.New(rand.NewSource(1))
	base, err := layer(r)
	if err != nil {
		return nil, err
	}
	var moved v1.ImageIndex
	for _, repo := range []struct {
		name string
		tags []string
	}{
		{"acme/api", []string{"1.0", "1.1", "latest"}},
		{"acme/web", []string{"1.9", "2.0"}},
		{"acme/tools/cli", []string{"v3"}},
	} {
		for _, tag := range repo.tags {
			index, err := multiArch(r, base)
			if err != nil {
				return nil, err
			}
			if err := move(host, repo.name+":"+tag, index); err != nil {
				return nil, err
			}
			if repo.name == "acme/tools/cli" {
				if err := attach(r, host, repo.name, index); err != nil {
					return nil, err
				}
			}
		}
	}
	moved, err = multiArch(r, base)
	return moved, err
}

func layer(r *rand.Rand) (v1.Layer, error) {
	return random.Layer(layerSize, types.OCILayer, random.WithSource(r))
}

// multiArch is an index of two images that share the base layer.
func multiArch(r *rand.Rand, base v1.Layer) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		own, err := layer(r)
		if err != nil {
			return nil, err
		}
		image, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), base, own)
		if err != nil {
			return nil, err
		}
		image, err = mutate.ConfigFile(image, &v1.ConfigFile{OS: "linux", Architecture: arch, RootFS: v1.RootFS{Type: "layers"}})
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return index, nil
}

// attach adds a signature, by a tag of its own as cosign does, and an SBOM, as
// an artifact with a subject.
func attach(r *rand.Rand, host, repo string, index v1.ImageIndex) error {
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	subject, err := partial(index)
	if err != nil {
		return err
	}
	signature, err := artifact(r, "application/vnd.dev.cosign.simplesigning.v1+json")
	if err != nil {
		return err
	}
	if err := write(host, fmt.Sprintf("%s:sha256-%s.sig", repo, digest.Hex), signature); err != nil {
		return err
	}
	sbom, err := artifact(r, "application/spdx+json")
	if err != nil {
		return err
	}
	attached, ok := mutate.Subject(sbom, subject).(v1.Image)
	if !ok {
		return fmt.Errorf("an image with a subject is no image")
	}
	id, err := attached.Digest()
	if err != nil {
		return err
	}
	return write(host, repo+"@"+id.String(), attached)
}

func partial(index v1.ImageIndex) (v1.Descriptor, error) {
	digest, err := index.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	size, err := index.Size()
	return v1.Descriptor{MediaType: types.OCIImageIndex, Digest: digest, Size: size}, err
}

func artifact(r *rand.Rand, mediaType types.MediaType) (v1.Image, error) {
	content, err := random.Layer(2<<10, mediaType, random.WithSource(r))
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), content)
}

func write(host, reference string, image v1.Image) error {
	ref, err := name.ParseReference(host+"/"+reference, name.Insecure)
	if err != nil {
		return err
	}
	return remote.Write(ref, image)
}

// move points a tag at an index, and uploads the index first.
func move(host, reference string, index v1.ImageIndex) error {
	ref, err := name.ParseReference(host+"/"+reference, name.Insecure)
	if err != nil {
		return err
	}
	return remote.WriteIndex(ref, index)
}

// remove deletes a tag at the destination.
func (d *demo) remove(reference string) error {
	ref, err := name.ParseReference(d.destination+"/"+reference, name.Insecure)
	if err != nil {
		return err
	}
	return remote.Delete(ref, remote.WithAuth(d.robot))
}

// pull reads an image at the destination by the digest that its source has, and
// every byte of it; go-containerregistry checks each digest while it reads.
func (d *demo) pull(reference, source string) error {
	ctx, cancel := context.WithTimeout(d.ctx, 30*time.Second)
	defer cancel()
	tag, err := name.ParseReference(d.source+"/"+source, name.Insecure)
	if err != nil {
		return err
	}
	want, err := remote.Head(tag, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	there, err := name.ParseReference(d.destination+"/"+reference, name.Insecure)
	if err != nil {
		return err
	}
	byDigest := there.Context().Digest(want.Digest.String())
	index, err := remote.Index(byDigest, remote.WithContext(ctx), remote.WithAuth(d.robot))
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	layers, bytes := 0, int64(0)
	for _, child := range manifest.Manifests {
		image, err := index.Image(child.Digest)
		if err != nil {
			return err
		}
		n, size, err := readAll(image)
		if err != nil {
			return err
		}
		layers, bytes = layers+n, bytes+size
	}
	fmt.Printf("pulled %s: %d platforms, %d layers, %d bytes, every digest right\n", byDigest, len(manifest.Manifests), layers, bytes)
	return nil
}

func readAll(image v1.Image) (layers int, bytes int64, err error) {
	all, err := image.Layers()
	if err != nil {
		return 0, 0, err
	}
	for _, l := range all {
		content, err := l.Compressed()
		if err != nil {
			return 0, 0, err
		}
		n, err := io.Copy(io.Discard, content)
		if cerr := content.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return 0, 0, err
		}
		layers, bytes = layers+1, bytes+n
	}
	return layers, bytes, nil
}
