package embedded

import (
	"encoding/base32"
	"strings"

	"freightliner/providers"
)

// endpoint is what a path of the API talks about.
type endpoint uint8

const (
	nowhere      endpoint = iota
	base                  // /v2/
	catalog               // /v2/_catalog
	tagList               // /v2/<name>/tags/list
	manifest              // /v2/<name>/manifests/<tag or digest>
	blob                  // /v2/<name>/blobs/<digest>
	uploads               // /v2/<name>/blobs/uploads/
	upload                // /v2/<name>/blobs/uploads/<id>
	referrerList          // /v2/<name>/referrers/<digest>
)

// address is a parsed path. Name is checked; ref is still as it came.
type address struct {
	endpoint endpoint
	name     string
	ref      string
}

// The grammars of the distribution-spec 1.1, section "Pulling manifests". A
// name is limited to 255 bytes, as clients limit host and name together.
var (
	nameGrammar = providers.Pattern(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagGrammar  = providers.Pattern(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

const nameLimit = 255

// parseAddress reads a decoded URL path from its end, since a repository may
// itself be called "blobs", "manifests", "tags" or "library/blobs/uploads". A
// path that is none of the API's is nowhere; a name that breaks the grammar
// is returned as it is, for the caller to refuse with [validName].
func parseAddress(path string) address {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return address{}
	}
	switch rest {
	case "":
		return address{endpoint: base}
	case "_catalog":
		return address{endpoint: catalog}
	}
	if name, ok := strings.CutSuffix(rest, "/blobs/uploads/"); ok {
		return address{endpoint: uploads, name: name}
	}
	head, ref := cutLast(rest)
	name, kind := cutLast(head)
	switch {
	case name == "" || ref == "":
		return address{}
	case kind == "manifests":
		return address{endpoint: manifest, name: name, ref: ref}
	case kind == "referrers":
		return address{endpoint: referrerList, name: name, ref: ref}
	case kind == "tags" && ref == "list":
		return address{endpoint: tagList, name: name}
	case kind == "blobs" && ref == "uploads":
		return address{endpoint: uploads, name: name}
	case kind == "blobs":
		return address{endpoint: blob, name: name, ref: ref}
	case kind == "uploads" && strings.HasSuffix(name, "/blobs"):
		return address{endpoint: upload, name: strings.TrimSuffix(name, "/blobs"), ref: ref}
	}
	return address{}
}

// cutLast cuts s at its last slash; head is empty when there is none.
func cutLast(s string) (head, last string) {
	at := strings.LastIndexByte(s, '/')
	if at < 0 {
		return "", s
	}
	return s[:at], s[at+1:]
}

func validName(name string) bool {
	return len(name) <= nameLimit && nameGrammar().MatchString(name)
}

// contentKey is where the bytes with digest d lie.
func contentKey(d providers.Digest) string {
	return "content/" + d.Algorithm() + "/" + d.Hex()[:2] + "/" + d.Hex()
}

// repositoryKey is the folder of a repository. A segment of a name never
// starts with an underscore, so it never meets the folders below.
func repositoryKey(name string) string { return "repositories/" + name }

func blobKey(name string, d providers.Digest) string {
	return repositoryKey(name) + "/_blobs/" + d.Algorithm() + "/" + d.Hex()
}

func manifestsKey(name string) string { return repositoryKey(name) + "/_manifests" }

func manifestKey(name string, d providers.Digest) string {
	return manifestsKey(name) + "/" + d.Algorithm() + "/" + d.Hex()
}

func tagsKey(name string) string { return repositoryKey(name) + "/_tags" }

func tagKey(name, tag string) string { return tagsKey(name) + "/" + tagFile(tag) }

func referrersKey(name string, subject providers.Digest) string {
	return repositoryKey(name) + "/_referrers/" + subject.Algorithm() + "/" + subject.Hex()
}

func referrerKey(name string, subject, d providers.Digest) string {
	return referrersKey(name, subject) + "/" + d.Algorithm() + "-" + d.Hex()
}

// lower is base32 in an alphabet that survives file systems without case.
var lower = base32.HexEncoding.WithPadding(base32.NoPadding)

// tagFile is the file name of a tag: "=v1.27=" for a tag without capitals,
// "%" and base32 for others. Some file systems ignore case, drop a trailing
// dot, or keep "con" and "nul" for themselves; these names are safe there, and
// at most 206 bytes long.
func tagFile(tag string) string {
	if strings.ToLower(tag) == tag {
		return "=" + tag + "="
	}
	return "%" + strings.ToLower(lower.EncodeToString([]byte(tag)))
}

// tagOf is the tag whose file name is file; false for a file that is no tag.
func tagOf(file string) (string, bool) {
	if tag, ok := strings.CutPrefix(file, "="); ok {
		tag, ok = strings.CutSuffix(tag, "=")
		return tag, ok && tagGrammar().MatchString(tag)
	}
	encoded, ok := strings.CutPrefix(file, "%")
	if !ok {
		return "", false
	}
	tag, err := lower.DecodeString(strings.ToUpper(encoded))
	return string(tag), err == nil && tagGrammar().Match(tag)
}

// Endpoint tells what a decoded URL path of the API is about: kind is "base",
// "catalog", "tags", "manifest", "blob", "upload", "referrers" or "token", and
// "other" for a path that is none of these. Request counters use these words.
func Endpoint(path string) (kind, repository, reference string) {
	if path == TokenPath {
		return "token", "", ""
	}
	at := parseAddress(path)
	return endpointWords[at.endpoint], at.name, at.ref
}

var endpointWords = [...]string{
	nowhere: "other", base: "base", catalog: "catalog", tagList: "tags", manifest: "manifest",
	blob: "blob", uploads: "upload", upload: "upload", referrerList: "referrers",
}
