package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// The prefixes of the repositories on both sides.
const (
	sourcePrefix      = "acme"
	destinationPrefix = "mirror"
)

// Media types of the corpus.
const (
	ociManifest    = "application/vnd.oci.image.manifest.v1+json"
	ociIndex       = "application/vnd.oci.image.index.v1+json"
	ociConfig      = "application/vnd.oci.image.config.v1+json"
	ociLayer       = "application/vnd.oci.image.layer.v1.tar+gzip"
	inTotoLayer    = "application/vnd.in-toto+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// corpus is what the source registry holds below sourcePrefix. It is kept
// beside the registry's storage, so that what is expected at the destination is
// what was made, not what the source says today.
type corpus struct {
	Repositories []repository
}

type repository struct {
	Name string // without the prefix
	Tags []tag
}

type tag struct {
	Name string
	Root *manifest
}

// manifest is an image with its blobs, or an index with its children.
type manifest struct {
	MediaType string
	Raw       []byte
	Blobs     []blob      // config first
	Children  []*manifest // before the index in every order
}

type blob struct {
	MediaType string
	Digest    string
	Size      int64
	DiffID    string // of what is in it before gzip
}

func (m *manifest) digest() string { return digestOf(m.Raw) }

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// walk calls visit for everything below m and then for m.
func (m *manifest) walk(visit func(*manifest)) {
	for _, child := range m.Children {
		child.walk(visit)
	}
	visit(m)
}

// tags is the number of tags.
func (c *corpus) tags() int {
	n := 0
	for _, r := range c.Repositories {
		n += len(r.Tags)
	}
	return n
}

// descriptor is a reference to m or b in a manifest.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

func (b blob) descriptor() descriptor {
	return descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: b.Size}
}

func (m *manifest) descriptor() descriptor {
	return descriptor{MediaType: m.MediaType, Digest: m.digest(), Size: int64(len(m.Raw))}
}

// imageManifest puts config and layers together, as OCI or as Docker.
func imageManifest(docker bool, config blob, layers []blob) *manifest {
	mediaType := ociManifest
	layers = append([]blob(nil), layers...)
	if docker {
		mediaType, config.MediaType = dockerManifest, dockerConfig
		for i := range layers {
			layers[i].MediaType = dockerLayer
		}
	}
	body := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}{2, mediaType, config.descriptor(), nil}
	for _, layer := range layers {
		body.Layers = append(body.Layers, layer.descriptor())
	}
	return &manifest{MediaType: mediaType, Raw: marshal(body), Blobs: append([]blob{config}, layers...)}
}

// child is a manifest in an index.
type child struct {
	*manifest
	platform platform
	of       *manifest // for an attestation: the image it speaks about
}

// indexOf lists children. Attestations carry the annotations that buildx gives them.
func indexOf(docker bool, children ...child) *manifest {
	mediaType := ociIndex
	if docker {
		mediaType = dockerList
	}
	body := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}{2, mediaType, nil}
	index := &manifest{MediaType: mediaType}
	for _, c := range children {
		d := c.descriptor()
		d.Platform = &c.platform
		if c.of != nil {
			d.Annotations = map[string]string{
				"vnd.docker.reference.type":   "attestation-manifest",
				"vnd.docker.reference.digest": c.of.digest(),
			}
		}
		body.Manifests = append(body.Manifests, d)
		index.Children = append(index.Children, c.manifest)
	}
	index.Raw = marshal(body)
	return index
}

// imageConfig is a config as builders write it, as far as registries and
// copying tools look.
func imageConfig(name, architecture string, layers []blob) []byte {
	var diffIDs []string
	var history []map[string]string
	for i, layer := range layers {
		diffIDs = append(diffIDs, layer.DiffID)
		history = append(history, map[string]string{"created": "1970-01-01T00:00:00Z", "created_by": fmt.Sprintf("layer %d", i)})
	}
	return marshal(map[string]any{
		"created": "1970-01-01T00:00:00Z", "os": "linux", "architecture": architecture,
		"config":  map[string]any{"Env": []string{"PATH=/usr/bin:/bin", "IMAGE=" + name}, "Entrypoint": []string{"/bin/app"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": diffIDs},
		"history": history,
	})
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only a mistake in this file
	}
	return b
}
