package registry

import (
	"mime"
	"strings"
)

// The manifest types we read (OCI image-spec media-types.md; Docker's "Image
// Manifest V 2, Schema 2").
const (
	ociIndex       = "application/vnd.oci.image.index.v1+json"
	ociManifest    = "application/vnd.oci.image.manifest.v1+json"
	ociArtifact    = "application/vnd.oci.artifact.manifest.v1+json" // withdrawn before OCI 1.1, still found
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerSchema1  = "application/vnd.docker.distribution.manifest.v1+json"
	dockerSigned1  = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// acceptManifests goes with every manifest GET and HEAD alike, so that both
// speak of the same bytes: a registry that converts would otherwise answer them
// with different digests. Schema 1 is asked for too, since a registry that has
// nothing else would convert or say "not found", and we want to say what it is.
var acceptManifests = strings.Join([]string{ociIndex, dockerList, ociManifest, dockerManifest, ociArtifact, dockerSigned1, dockerSchema1 + ";q=0.1"}, ", ")

// IsIndexType reports whether a manifest of this media type lists other manifests.
func IsIndexType(mediaType string) bool { return mediaType == ociIndex || mediaType == dockerList }

func isImageType(mediaType string) bool {
	return mediaType == ociManifest || mediaType == dockerManifest || mediaType == ociArtifact
}

func isSchema1(mediaType string) bool {
	return mediaType == dockerSchema1 || mediaType == dockerSigned1
}

// IsForeign reports whether blobs of this media type are not meant to be kept
// in registries (OCI "non-distributable", Docker "foreign" layers): the copy
// engine leaves them out unless the destination insists on having them.
func IsForeign(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.foreign.") ||
		strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.")
}

// baseType is a Content-Type without its parameters; empty for one that says
// nothing about the kind of document.
func baseType(contentType string) string {
	base, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		base, _, _ = strings.Cut(contentType, ";")
		base = strings.ToLower(strings.TrimSpace(base))
	}
	switch base {
	case "application/json", "text/plain", "application/octet-stream", "text/json", "binary/octet-stream":
		return ""
	}
	return base
}
