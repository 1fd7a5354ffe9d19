package registrytest

import (
	"net/http"
	"regexp"
	"time"

	"freightliner/providers/registry/embedded"
)

// Personality is how one kind of registry differs from the specification and
// from the embedded registry: data, and one hook for an interface of its own.
// It is a value; a test that needs smaller limits copies one and changes it:
//
//	small := registrytest.ECR
//	small.Upload.MinChunk = 1 << 10
//	server := registrytest.Start(t, registrytest.As(small))
//
// The zero value of every field is what the embedded registry does.
type Personality struct {
	Kind   string // as in a registry block: "ecr", "acr", …
	Traits Traits // what [Conformance] is to expect

	Names    NameRules
	Create   CreateRules
	Upload   UploadRules
	Mount    MountRules
	Manifest ManifestRules
	Delete   DeleteRules
	Listing  ListingRules
	Login    LoginRules
	Limits   LimitRules

	// NoReferrers: there is no referrers API, clients keep the fallback tag.
	NoReferrers bool
	// Unknown answers a read from a repository that is not there; zero for 404.
	Unknown Refusal
	// SHA256Only: a digest of another algorithm is refused.
	SHA256Only bool

	// api is the registry's own interface beside the distribution's; nil for none.
	api func(*site) http.Handler
}

// Personalities are all that there are, for tests over every kind.
var Personalities = []Personality{Generic, ECR, ECRPublic, GAR, ACR, GHCR, DockerHub, Harbor, Quay, GitLab, Artifactory}

// Refusal is an answer that says no. The zero value refuses nothing.
type Refusal struct {
	Status int // 0 with Drop
	Code   string
	Drop   bool // close the connection without an answer
	Text   string
}

// NameRules narrow what a repository may be called.
type NameRules struct {
	Min, Max int // path segments; 0 for any number
	Length   int // most bytes; 0 for 255
	Grammar  *regexp.Regexp
	Refusal  Refusal
}

// CreateRules say what must exist before a push.
type CreateRules struct {
	// Place gives the part of a repository's name that must have been created:
	// the repository itself, a project, a group. Nil when a push creates all.
	Place func(repository string) string
	// Refusal answers a push to a place that is not there.
	Refusal Refusal
	// Limit is how many places there may be; 0 for any number.
	Limit int
}

// UploadRules bound the shapes of an upload.
type UploadRules struct {
	MaxPut      int64   // largest body of a PUT or POST; 0 for any
	MaxPatch    int64   // largest body of a PATCH with a Content-Range; 0 for any
	OverPut     Refusal // answer to a larger PUT
	OverPatch   Refusal // answer to a larger PATCH
	MinChunk    int64   // smallest chunk but the last, in bytes; checked when the upload ends
	Patches     int     // most PATCH requests of an upload; 0 for any
	NoRange     bool    // a PATCH with a Content-Range is refused with Chunked
	Chunked     Refusal // answer to more Patches, or to ranges with NoRange
	MaxParts    int     // most PATCH requests altogether, answered with 400; 0 for any
	NeedsLength bool    // a body in chunked transfer encoding is refused with 411
	PlainRange  bool    // "bytes " before a Content-Range is refused with 416
	PatchStatus int     // of an accepted PATCH; 0 for 202
	StuckRange  bool    // the Range header stays at the end of the first chunk
	SinglePost  bool    // a POST with digest and bytes stores the blob; otherwise it opens a session
	NoStatus    bool    // a GET of the session is 404: nothing can be resumed
	NoCancel    bool    // a DELETE of the session is 405

	// Life is how long a session lives, used or not; 0 for an hour after its
	// last request.
	Life time.Duration

	// State: the Location carries the upload's state in its query, and only the
	// newest one is taken.
	State bool
	// Absolute: the Location is a whole address, not a path.
	Absolute bool
	// Elsewhere is the path below which uploads lie, when not below /v2/.
	Elsewhere string
}

// MountRules say when a blob of another repository can be mounted.
type MountRules struct {
	Never     bool    // always opens a session
	Committed bool    // only blobs that a manifest of the source refers to
	Within    int     // only between repositories with so many equal leading segments
	Unknown   Refusal // answer to an unknown source repository; zero opens a session
	NoPlace   Refusal // answer to a source whose place (project) is unknown; zero opens a session
	Off       bool    // Never, until [Server.AllowMounts]
}

// ManifestRules say what a manifest must be like and when it may be replaced.
type ManifestRules struct {
	MaxSize int // bytes; 0 for 4 MiB
	// Sparse: an index is taken although children are missing.
	Sparse bool
	// Missing answers a manifest whose blobs or children are not there; zero for
	// 400 MANIFEST_BLOB_UNKNOWN.
	Missing Refusal
	// Immutable answers a PUT of another digest under a tag of an immutable
	// repository ([Server.Protect]).
	Immutable Refusal
	// SameToo: the same digest under the same tag is refused as well.
	SameToo bool
	Tags    TagRules
}

// TagRules say what becomes of the tags in the query of a PUT by digest
// (distribution-spec #600). The zero value does not look at them.
type TagRules struct {
	Refusal  Refusal // answers every request that has some
	Together bool    // they are set, and each is named in OCI-Tag
	Listed   bool    // in one header, with commas; otherwise each has its own
	Most     int     // more are answered with 414; 0 for any number
	// Skips: a tag that may not be moved is left out, and not named. Otherwise
	// nothing is stored then, and the request refused.
	Skips bool
}

// DeleteRules say what a DELETE does.
type DeleteRules struct {
	Tag     Refusal // answer to a DELETE by tag; zero allows it
	Digest  Refusal // answer to a DELETE by digest; zero allows it
	Blob    Refusal // answer to a DELETE of a blob; zero allows it
	LastTag bool    // a manifest goes with its last tag
	Tagged  Refusal // answer to a DELETE by digest while tags point there; zero allows it
}

// ListingRules shape the catalog and the tag lists of the distribution API.
// With a Page, the personality pages itself; otherwise the embedded registry.
type ListingRules struct {
	Catalog Refusal // answer to any request for the catalog; zero serves it
	Empty   bool    // the catalog is 200 and empty, whatever there is

	Page     int     // entries without n
	Max      int     // most entries
	OverMax  Refusal // answer to more than Max; zero cuts it to Max
	Unsorted bool    // entries come in an order that has nothing to do with their names
	Whole    bool    // all tags in one answer, n and last are ignored
	Cut      int     // most tags of a Whole answer, the rest is missing without a word; 0 for all
	Token    bool    // the next page is named by an opaque token, "last" is not understood
	Param    string
	Absolute bool // the Link header carries a whole address
	NilTags  bool // an empty list is null
	Full     bool // without n, a tag list is given whole

	Maps bool // tags/list carries "manifest" and "child" maps (Google)
}

// LoginRules say how clients authenticate with [WithLogin].
type LoginRules struct {
	Basic    bool          // otherwise bearer tokens
	Path     string        // of the token endpoint; empty for /token
	Service  string        // audience
	Field    string        // see [embedded.TokenOptions]
	NoExpiry bool          // the token's answer does not say when it ends
	Life     time.Duration // of a token, or of a password given by an API
	User     string        // the user name; empty for [CanaryUser]
	Password bool          // passwords are given out by an API, and end after Life
}

// LimitRules are published limits.
type LimitRules struct {
	// Pulls: GETs of manifests count, HEADs do not, and headers tell the rest
	// ([WithPullLimit]).
	Pulls bool
}

// As makes [Start] behave like a kind of registry. Functions of this package
// that fill and read back ([Push], [Fill], [Inventory], …) go in by a back door
// then: rules, logins and the recorder are not in their way.
func As(p Personality) Option { return func(s *settings) { s.personality = &p } }

// WithLogin asks for credentials the way the personality does: [CanaryUser]
// (or its own user name) and [CanaryPassword], tokens with its own life. The
// users given may come in too.
func WithLogin(users ...embedded.User) Option {
	return func(s *settings) { s.login, s.users = true, users }
}

// WithPullLimit answers the pull after so many with 429, where the personality
// counts pulls. Window is what the rate-limit headers call the period.
func WithPullLimit(pulls int, window time.Duration) Option {
	return func(s *settings) { s.pullLimit, s.pullWindow = pulls, window }
}

// Lag makes what was just written unknown to the first requests that look for
// it, as replicas do (Azure/acr #588): so many for each blob, manifest, and
// repository.
type Lag struct {
	Blobs, Manifests, Repositories int
}

// WithLag starts with a lag between write and read.
func WithLag(lag Lag) Option { return func(s *settings) { s.lag = lag } }
