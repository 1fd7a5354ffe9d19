package registry

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"freightliner/providers"
)

const (
	maxSize     = 1 << 40 // bytes a descriptor may claim
	maxData     = 64 << 10
	maxJSON     = 64 // nesting
	maxChildren = 4096
	maxLayers   = 4096
)

// checkJSON refuses documents that two readers could understand differently
// (CVE-2021-41190 and its family): a key that is there twice, or in two
// spellings of upper and lower case, since Go's decoder takes the last of either;
// invalid UTF-8, which decoders replace silently; more than one value; deep
// nesting. Keys below "annotations" and "labels" are data, so there only exact
// repetition is refused.
func checkJSON(raw []byte) error {
	if !utf8.Valid(raw) {
		return errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := checkValue(d, 0, false); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return nil
}

func checkValue(d *json.Decoder, depth int, data bool) error {
	t, err := d.Token()
	if err != nil {
		return errors.New("not JSON")
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	if depth == maxJSON {
		return fmt.Errorf("nested deeper than %d", maxJSON)
	}
	seen := map[string]string{}
	for d.More() {
		below := false
		if open == '{' {
			t, err := d.Token()
			if err != nil {
				return errors.New("not JSON")
			}
			key := t.(string)
			if err := checkKey(seen, key, data); err != nil {
				return err
			}
			below = key == "annotations" || key == "labels" || key == "Labels"
		}
		if err := checkValue(d, depth+1, below); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return errors.New("not JSON")
	}
	return nil
}

// known are the keys that our decoding structs use. Go's decoder would take
// "Layers" for "layers", other readers would not.
var known = map[string]string{}

func init() {
	for _, key := range []string{"schemaVersion", "mediaType", "artifactType", "subject", "config", "layers", "blobs", "manifests",
		"annotations", "digest", "size", "data", "platform", "os", "architecture", "variant", "os.version", "urls", "fsLayers",
		"tags", "repositories", "token", "access_token", "expires_in"} {
		known[fold(key)] = key
	}
}

func checkKey(seen map[string]string, key string, data bool) error {
	id := key
	if !data {
		id = fold(key)
		if exact, ok := known[id]; ok && exact != key {
			return fmt.Errorf("key %q is another spelling of %q", providers.Printable(key, 60), exact)
		}
	}
	if other, twice := seen[id]; twice {
		return fmt.Errorf("key %q is there twice (%q)", providers.Printable(key, 60), providers.Printable(other, 60))
	}
	seen[id] = key
	return nil
}

// fold maps all keys that encoding/json would take for each other to one.
func fold(key string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for c := unicode.SimpleFold(r); c != r; c = unicode.SimpleFold(c) {
			least = min(least, c)
		}
		return least
	}, key)
}

// document is a manifest or an index as it is written.
type document struct {
	SchemaVersion json.RawMessage   `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Subject       *entry            `json:"subject"`
	Config        *entry            `json:"config"`
	Layers        *[]entry          `json:"layers"`
	Blobs         *[]entry          `json:"blobs"`
	Manifests     *[]entry          `json:"manifests"`
	FSLayers      json.RawMessage   `json:"fsLayers"`
	Annotations   map[string]string `json:"annotations"`
}

// entry is a descriptor as it is written.
type entry struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType"`
	Digest       string            `json:"digest"`
	Size         json.RawMessage   `json:"size"`
	Data         *string           `json:"data"`
	Platform     *platformEntry    `json:"platform"`
	Annotations  map[string]string `json:"annotations"`
}

type platformEntry struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
	OSVersion    string `json:"os.version"`
}

// parseManifest reads raw strictly. contentType is what the answer's header
// says: it counts only when the document does not name its own type, and a
// contradiction between the two is refused, as is a document that is an index
// and an image at once.
func parseManifest(raw []byte, contentType string) (*Manifest, error) {
	if err := checkJSON(raw); err != nil {
		return nil, err
	}
	var doc document
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, errors.New("not a manifest: " + providers.Printable(strings.TrimPrefix(err.Error(), "json: "), 200))
	}
	if string(doc.SchemaVersion) == "1" || doc.FSLayers != nil || isSchema1(doc.MediaType) {
		return nil, &providers.Error{Class: providers.Unsupported, Err: errors.New("a Docker schema 1 manifest"),
			Hint: "Schema 1 has been out of use since 2017; build or push the image again with a current tool."}
	}
	m := &Manifest{Raw: raw, Digest: providers.SHA256(raw), Annotations: doc.Annotations}
	var err error
	if m.MediaType, err = doc.kind(baseType(contentType)); err != nil {
		return nil, err
	}
	if string(doc.SchemaVersion) != "2" && m.MediaType != ociArtifact {
		return nil, fmt.Errorf("schemaVersion is %q, not 2", providers.Printable(string(doc.SchemaVersion), 20))
	}
	return m, doc.fill(m)
}

// kind is the media type that the document, the header and the structure agree on.
func (doc *document) kind(header string) (string, error) {
	index, image := doc.Manifests != nil, doc.Config != nil || doc.Layers != nil
	artifact := doc.Blobs != nil && !image
	mediaType := doc.MediaType
	switch {
	case mediaType != "" && header != "" && header != mediaType:
		return "", fmt.Errorf("the manifest says it is %s, the header says %s", providers.Printable(mediaType, 100), providers.Printable(header, 100))
	case mediaType == "":
		mediaType = header
	}
	if mediaType == "" {
		switch {
		case index:
			mediaType = ociIndex
		case image:
			mediaType = ociManifest
		default:
			return "", errors.New("neither a manifest nor an index")
		}
	}
	switch {
	case index && (image || artifact):
		return "", errors.New("manifests and layers in one document")
	case IsIndexType(mediaType):
		if !index {
			return "", fmt.Errorf("%s without manifests", mediaType)
		}
	case mediaType == ociArtifact:
		if index || image {
			return "", errors.New("an artifact manifest with a config, layers or manifests")
		}
	case isImageType(mediaType):
		if index || doc.Config == nil || doc.Layers == nil {
			return "", fmt.Errorf("%s without config and layers", mediaType)
		}
	default:
		return "", &providers.Error{Class: providers.Unsupported, Err: fmt.Errorf("manifest type %s is not known", providers.Printable(mediaType, 120))}
	}
	return mediaType, nil
}

// fill takes the descriptors over.
func (doc *document) fill(m *Manifest) (err error) {
	m.ArtifactType = doc.ArtifactType
	if doc.Subject != nil {
		if m.Subject, err = doc.Subject.descriptor(); err != nil {
			return fmt.Errorf("subject: %w", err)
		}
	}
	if doc.Config != nil {
		if m.Config, err = doc.Config.descriptor(); err != nil {
			return fmt.Errorf("config: %w", err)
		}
	}
	layers := doc.Layers
	if m.MediaType == ociArtifact {
		layers = doc.Blobs
	}
	if m.Layers, err = descriptors("layer", layers, maxLayers); err != nil {
		return err
	}
	m.Manifests, err = descriptors("manifest", doc.Manifests, maxChildren)
	return err
}

func descriptors(what string, entries *[]entry, most int) ([]providers.Descriptor, error) {
	if entries == nil {
		return nil, nil
	}
	if len(*entries) > most {
		return nil, fmt.Errorf("%d %ss, %d are allowed", len(*entries), what, most)
	}
	list := make([]providers.Descriptor, 0, len(*entries))
	for i := range *entries {
		d, err := (*entries)[i].descriptor()
		if err != nil {
			return nil, fmt.Errorf("%s %d: %w", what, i+1, err)
		}
		list = append(list, *d)
	}
	return list, nil
}

// descriptor checks one descriptor. Sizes are whole numbers from 0 to 1 TiB,
// written as such; embedded data must be what size and digest say.
func (e *entry) descriptor() (*providers.Descriptor, error) {
	digest, err := providers.ParseDigest(e.Digest)
	if err != nil {
		return nil, err
	}
	size, err := strconv.ParseInt(string(e.Size), 10, 64)
	if err != nil || size < 0 || size > maxSize || e.Size[0] == '-' || e.Size[0] == '+' {
		return nil, fmt.Errorf("size %s: want 0 to %d bytes", providers.Printable(string(e.Size), 40), int64(maxSize))
	}
	if strings.ContainsFunc(e.MediaType, func(c rune) bool { return c <= ' ' || c >= 0x7f }) || len(e.MediaType) > 255 {
		return nil, fmt.Errorf("media type %s: not one", providers.Printable(e.MediaType, 80))
	}
	if e.Data != nil {
		if err := checkData(*e.Data, digest, size); err != nil {
			return nil, err
		}
	}
	d := &providers.Descriptor{MediaType: e.MediaType, Digest: digest, Size: size, ArtifactType: e.ArtifactType, Annotations: e.Annotations}
	if p := e.Platform; p != nil {
		d.Platform = &providers.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion}
	}
	return d, nil
}

// checkData verifies content that is embedded in a descriptor (OCI
// descriptor.md, "data").
func checkData(text string, digest providers.Digest, size int64) error {
	data, err := base64.StdEncoding.DecodeString(text)
	switch {
	case err != nil:
		return errors.New("data is not base64")
	case len(data) > maxData:
		return fmt.Errorf("data has %d bytes, %d are allowed", len(data), maxData)
	case int64(len(data)) != size || digest.Of(data) != digest:
		return fmt.Errorf("data does not match digest and size of %s", digest)
	}
	return nil
}
