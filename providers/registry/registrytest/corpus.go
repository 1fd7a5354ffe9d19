package registrytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"freightliner/providers"
)

// Media types of the corpus.
const (
	OCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	OCIIndex       = "application/vnd.oci.image.index.v1+json"
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"

	ociConfig    = "application/vnd.oci.image.config.v1+json"
	ociLayer     = "application/vnd.oci.image.layer.v1.tar+gzip"
	dockerConfig = "application/vnd.docker.container.image.v1+json"
	dockerLayer  = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	emptyConfig  = "application/vnd.oci.empty.v1+json"
)

// Blob is content with a media type.
type Blob struct {
	MediaType   string
	Data        []byte
	Annotations map[string]string
}

// Digest is the blob's digest.
func (b Blob) Digest() providers.Digest { return providers.SHA256(b.Data) }

func (b Blob) descriptor() map[string]any {
	d := map[string]any{"mediaType": b.MediaType, "digest": b.Digest(), "size": len(b.Data)}
	if b.Annotations != nil {
		d["annotations"] = b.Annotations
	}
	return d
}

// Artifact is a manifest or index with everything below it. The same
// arguments give the same bytes on every machine.
type Artifact struct {
	MediaType string
	Raw       []byte
	Blobs     []Blob      // config first, then layers; none in an index
	Children  []*Artifact // of an index
	Subject   providers.Digest

	platform    string // of a child, as "os/arch"
	annotations map[string]string
}

// Digest is the digest of the manifest.
func (a *Artifact) Digest() providers.Digest { return providers.SHA256(a.Raw) }

func (a *Artifact) descriptor() map[string]any {
	d := map[string]any{"mediaType": a.MediaType, "digest": a.Digest(), "size": len(a.Raw)}
	if a.platform != "" {
		os, architecture, _ := strings.Cut(a.platform, "/")
		d["platform"] = map[string]string{"os": os, "architecture": architecture}
	}
	if a.annotations != nil {
		d["annotations"] = a.annotations
	}
	return d
}

// Layer is a gzip tar with one file of size bytes, incompressible and made
// from seed. Gzip stores it uncompressed, so the bytes do not depend on the
// version of the compressor.
func Layer(seed uint64, size int) Blob {
	data := make([]byte, size)
	source(seed, "layer").Read(data)
	var tarred, zipped bytes.Buffer
	tw := tar.NewWriter(&tarred)
	must(tw.WriteHeader(&tar.Header{Name: fmt.Sprintf("data/%d", seed), Mode: 0o644, Size: int64(size), Format: tar.FormatPAX}))
	mustWrite(tw, data)
	must(tw.Close())
	zw, err := gzip.NewWriterLevel(&zipped, gzip.NoCompression)
	must(err)
	mustWrite(zw, tarred.Bytes())
	must(zw.Close())
	return Blob{MediaType: ociLayer, Data: zipped.Bytes()}
}

// Image is an OCI image for linux/amd64. Without layers it gets one of its own.
func Image(seed uint64, layers ...Blob) *Artifact { return image(seed, "linux/amd64", false, layers) }

// DockerImage is the same as a Docker schema 2 image.
func DockerImage(seed uint64, layers ...Blob) *Artifact {
	return image(seed, "linux/amd64", true, layers)
}

// Annotated is an OCI image with the blobs of a and another digest: the
// cheapest way to many images.
func Annotated(a *Artifact, revision string) *Artifact {
	b := manifest(OCIManifest, a.Blobs[0], a.Blobs[1:], map[string]any{
		"annotations": map[string]string{"org.opencontainers.image.revision": revision},
	})
	b.platform = a.platform
	return b
}

// Index is an OCI index of linux/amd64 and linux/arm64 images on the given
// layers, each with one layer of its own and an attestation, as buildx makes it.
func Index(seed uint64, layers ...Blob) *Artifact {
	var children []*Artifact
	for i, platform := range []string{"linux/amd64", "linux/arm64"} {
		child := image(seed, platform, false, append(layers[:len(layers):len(layers)], Layer(seed*100+uint64(i), 256)))
		children = append(children, child, attestation(seed, child))
	}
	// buildx puts the attestations behind the images.
	return index(OCIIndex, children[0], children[2], children[1], children[3])
}

// DockerIndex is a Docker manifest list of two Docker images.
func DockerIndex(seed uint64, layers ...Blob) *Artifact {
	return index(DockerList, image(seed, "linux/amd64", true, layers), image(seed, "linux/arm64", true, layers))
}

// IndexOf is an OCI index of the given manifests.
func IndexOf(children ...*Artifact) *Artifact { return index(OCIIndex, children...) }

// Signature is a cosign signature of subject, to be pushed under
// [SignatureTag]: cosign's tag scheme, without a subject field.
func Signature(subject *Artifact, seed uint64) *Artifact {
	payload := Blob{
		MediaType: "application/vnd.dev.cosign.simplesigning.v1+json",
		Data: marshal(map[string]any{
			"critical": map[string]any{
				"identity": map[string]string{"docker-reference": ""},
				"image":    map[string]any{"docker-manifest-digest": subject.Digest()},
				"type":     "cosign container image signature",
			},
			"optional": nil,
		}),
		Annotations: map[string]string{"dev.cosignproject.cosign/signature": fmt.Sprintf("%x", source(seed, "signature").Uint64())},
	}
	return manifest(OCIManifest, Blob{MediaType: ociConfig, Data: marshal(map[string]any{"architecture": "", "os": "", "rootfs": map[string]any{"type": "layers", "diff_ids": []string{}}})}, []Blob{payload}, nil)
}

// SignatureTag is the tag cosign keeps the signatures of d under.
func SignatureTag(d providers.Digest) string { return d.Algorithm() + "-" + d.Hex() + ".sig" }

// FallbackTag is the tag that lists the referrers of d where a registry has no
// referrers API (distribution-spec 1.1, "Referrers Tag Schema").
func FallbackTag(d providers.Digest) string {
	hex := d.Hex()
	return d.Algorithm() + "-" + hex[:min(64, len(hex))]
}

// SBOM is an OCI referrer of subject; see [PushReferrer].
func SBOM(subject *Artifact, seed uint64) *Artifact {
	document := Blob{MediaType: "application/spdx+json", Data: marshal(map[string]any{"spdxVersion": "SPDX-2.3", "name": fmt.Sprintf("sbom-%d", seed)})}
	a := manifest(OCIManifest, Blob{MediaType: emptyConfig, Data: []byte("{}")}, []Blob{document}, map[string]any{
		"artifactType": "application/spdx+json",
		"subject":      map[string]any{"mediaType": subject.MediaType, "digest": subject.Digest(), "size": len(subject.Raw)},
	})
	a.Subject = subject.Digest()
	return a
}

func image(seed uint64, platform string, docker bool, layers []Blob) *Artifact {
	if len(layers) == 0 {
		layers = []Blob{Layer(seed, 512)}
	}
	os, architecture, _ := strings.Cut(platform, "/")
	diffIDs := make([]providers.Digest, len(layers))
	for i, layer := range layers {
		diffIDs[i] = diffID(layer)
	}
	config := Blob{MediaType: ociConfig, Data: marshal(map[string]any{
		"os": os, "architecture": architecture,
		"config": map[string]any{"Env": []string{fmt.Sprintf("SEED=%d", seed)}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})}
	mediaType := OCIManifest
	if docker {
		mediaType, config.MediaType = DockerManifest, dockerConfig
		layers = append([]Blob(nil), layers...)
		for i := range layers {
			layers[i].MediaType = dockerLayer
		}
	}
	a := manifest(mediaType, config, layers, nil)
	a.platform = platform
	return a
}

// attestation is what buildx adds per image: a manifest for no platform that
// names its image in an annotation.
func attestation(seed uint64, of *Artifact) *Artifact {
	statement := Blob{
		MediaType:   "application/vnd.in-toto+json",
		Data:        marshal(map[string]any{"_type": "https://in-toto.io/Statement/v0.1", "seed": seed, "digest": of.Digest()}),
		Annotations: map[string]string{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"},
	}
	a := image(seed, "unknown/unknown", false, []Blob{statement})
	a.annotations = map[string]string{
		"vnd.docker.reference.type":   "attestation-manifest",
		"vnd.docker.reference.digest": string(of.Digest()),
	}
	return a
}

func manifest(mediaType string, config Blob, layers []Blob, more map[string]any) *Artifact {
	descriptors := make([]map[string]any, len(layers))
	for i, layer := range layers {
		descriptors[i] = layer.descriptor()
	}
	body := map[string]any{
		"schemaVersion": 2, "mediaType": mediaType,
		"config": config.descriptor(), "layers": descriptors,
	}
	for key, value := range more {
		body[key] = value
	}
	return &Artifact{MediaType: mediaType, Raw: marshal(body), Blobs: append([]Blob{config}, layers...)}
}

func index(mediaType string, children ...*Artifact) *Artifact {
	descriptors := make([]map[string]any, len(children))
	for i, child := range children {
		descriptors[i] = child.descriptor()
	}
	return &Artifact{
		MediaType: mediaType,
		Raw:       marshal(map[string]any{"schemaVersion": 2, "mediaType": mediaType, "manifests": descriptors}),
		Children:  children,
	}
}

// diffID is the digest of a layer's content before gzip.
func diffID(layer Blob) providers.Digest {
	zipped, err := gzip.NewReader(bytes.NewReader(layer.Data))
	if err != nil {
		return layer.Digest() // not compressed
	}
	data, err := io.ReadAll(zipped)
	must(err)
	return providers.SHA256(data)
}

// source is bytes from a seed. ChaCha8 is specified, so every Go gives the same.
func source(seed uint64, use string) *rand.ChaCha8 {
	return rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "%s %d", use, seed)))
}

func marshal(v any) []byte {
	body, err := json.Marshal(v)
	must(err)
	return body
}

// must is for what only a mistake in this file can break.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func mustWrite(w io.Writer, b []byte) {
	_, err := w.Write(b)
	must(err)
}
