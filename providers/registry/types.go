package registry

import (
	"context"
	"time"

	"freightliner/providers"
)

// Settings say how to talk to one registry host, or to the part of it below a
// path. The longest matching Host and Path applies to a repository.
type Settings struct {
	Host              string // host[:port], lower case
	Path              string
	Kind              string // see config.Kinds; empty for the kind that serves Host
	PlainHTTP         bool
	RootCAs           []byte // PEM, trusted besides the system's
	Certificate       []byte // PEM client certificate and key; nil for none
	CertificateKey    []byte
	Concurrency       int     // most requests at once; 0 for the default
	RequestsPerSecond float64 // ceiling; 0 for none
	MaxBandwidth      int64   // bytes per second in both directions together; 0 for none
	TokenHosts        []string
	UploadHosts       []string
	Credential        CredentialFunc // from the auth block; nil for the Client's keychain
	// CreateRepositories allows [Client.CreateRepository].
	CreateRepositories bool
	Created            RepositorySettings // of what it makes
}

// RepositorySettings are those of a repository that is created. A kind takes the
// ones that it has; the zero value is the registry's own choice.
type RepositorySettings struct {
	ScanOnPush    bool
	ImmutableTags bool
	KMSKey        string // empty for the registry's own encryption
	Labels        map[string]string
}

// Credential is what authenticates at one host: a user name and password, or a
// token, or nothing (anonymous). The values are closures so that printing or
// comparing a Credential can not show them.
type Credential struct {
	Username string
	Password func() string // nil for none
	Identity func() string // OAuth2 refresh token ("identitytoken" in Docker's config); nil for none
	Bearer   func() string // ready-made bearer token; nil for none
	Origin   string        // where it was found, for messages: "auth block", "~/.docker/config.json"
	// Expires is when it ends; zero for never. Another is asked for when 80 % of
	// its life is over.
	Expires time.Time
}

// CredentialFunc finds the credential for a repository; the zero Credential is
// anonymous. Called at most once per registry while its answer works.
type CredentialFunc func(ctx context.Context, repo providers.Repository) (Credential, error)

// Clock is time, handed in so that tests can hold it still.
type Clock interface {
	Now() time.Time
	// Wait returns after d, or with ctx's error when that ends first.
	Wait(ctx context.Context, d time.Duration) error
}

// TagList is the answer to a tag listing.
type TagList struct {
	Tags []string // sorted, unique, each a valid tag
	// Digests are given by registries that list them in bulk; nil otherwise.
	Digests map[string]providers.Digest
	// Pushed and Sizes (bytes, compressed, as the registry counts) are given by
	// some of these, for some tags; nil otherwise.
	Pushed map[string]time.Time
	Sizes  map[string]int64
	// Missing: the repository does not exist (NAME_UNKNOWN), as opposed to having no tags.
	Missing bool

	// Unsure is set by a kind whose pages may have lost a name while the list
	// changed: the names are then the registry's own, and this list only adds what
	// it knows about them. Never set in what [Client.Tags] gives.
	Unsure bool

	doubtful []string // tags listed with two digests, while the list is made
}

// Manifest is a manifest or index as raw bytes, verified against its digest.
type Manifest struct {
	MediaType string
	Digest    providers.Digest
	Raw       []byte

	ArtifactType string
	Subject      *providers.Descriptor  // what this is a referrer of; nil for none
	Config       *providers.Descriptor  // nil in an index
	Layers       []providers.Descriptor // blobs, in order; foreign layers included
	Manifests    []providers.Descriptor // children of an index
	Annotations  map[string]string
}

// IsIndex reports whether m lists other manifests.
func (m *Manifest) IsIndex() bool { return IsIndexType(m.MediaType) }

// Blobs are the config and the layers of m, each digest once, in manifest
// order. Foreign layers ([IsForeign]) are among them.
func (m *Manifest) Blobs() []providers.Descriptor {
	var blobs []providers.Descriptor
	seen := map[providers.Digest]bool{}
	add := func(d providers.Descriptor) {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			blobs = append(blobs, d)
		}
	}
	if m.Config != nil {
		add(*m.Config)
	}
	for _, layer := range m.Layers {
		add(layer)
	}
	return blobs
}

// Counters are what really went over the wire to one registry, and to the hosts
// that it sends us to for tokens and content.
//
// Resumed counts at a source what was left out when a blob was read on by Range,
// and at a destination what an upload that was taken up had already; there it
// counts when the blob is complete, since a session can still be lost until then.
// A blob that breaks off twice counts twice.
type Counters struct {
	Requests      map[string]int64 // by method and endpoint: "GET manifest", "POST upload"; each try is one
	BytesReceived int64            // bodies, at the socket
	BytesSent     int64            // the same; what a try sent that failed is in it
	Retries       int64            // requests and transfers that were tried again
	Throttled     int64            // answers that ask for fewer requests: 429, or a quota that is spent
	Mismatched    int64            // bodies that were not what their digest says; none was written anywhere
	Resumed       int64            // blob bytes that were not moved again after a break
	Mounted       int64            // blob bytes made present in a repository by a mount
	Present       int64            // blob bytes that were in a repository already
	Spooled       int64            // blob bytes that came out of the spool, not again from this registry; none is in Resumed
	Quota         *Quota
}

// Quota is what a registry said last about its limit on manifest reads
// ("ratelimit-limit" and "ratelimit-remaining", as Docker Hub sends them).
type Quota struct {
	Limit     int           // requests in a window; 0 when not told
	Remaining int           // requests left
	Window    time.Duration // 0 when not told
}

// Job is one image, index or artifact to be made present at a destination.
type Job struct {
	From, To providers.Repository
	Root     providers.Digest     // pinned at the source
	Select   []providers.Platform // empty for all; otherwise the index is rewritten
	Want     providers.Digest     // digest expected at the destination; equals Root without Select
	Tags     []string             // to be set at the destination, after everything else; empty for by-digest
	Fresh    bool                 // To is known to be new: no HEAD before uploads
	Progress func(Progress)       // called often, from many goroutines, must not block; nil for none
}

// Progress is a step of one Job, as a difference to the last call. Bytes goes
// back (is negative) when a transfer broke off and its bytes are sent again.
type Progress struct {
	Bytes   int64 // blob bytes that reached the destination
	Mounted int64 // blob bytes made present by a mount
	Skipped int64 // blob bytes found there already
	Blobs   int   // blobs finished
}

// Result is what one Job did.
type Result struct {
	Digest providers.Digest // of the root at the destination
	Progress
	Manifests int // manifests written
}

// Contents is everything below one manifest, found by walking it. Every digest
// is there once, in the order in which a walk from the root meets it.
type Contents struct {
	Root      *Manifest              // after the selection
	Manifests []providers.Descriptor // the root first; children of indexes at any depth
	Blobs     []providers.Descriptor // configs and layers; foreign layers are left out
}

// Bytes is the sum of the sizes of all blobs.
func (c *Contents) Bytes() int64 {
	var n int64
	for _, b := range c.Blobs {
		n += b.Size
	}
	return n
}

// Referrer is an artifact attached to a subject: a signature, an attestation,
// an SBOM.
type Referrer struct {
	providers.Descriptor
	Subject providers.Digest
	// Tag is set when the attachment is made by a tag in cosign's scheme
	// ("sha256-<hex>.sig"); empty for a manifest that names its subject itself.
	Tag string
}

// ReferrersJob asks for the referrers of some subjects to be made present
// beside the subjects' copies.
type ReferrersJob struct {
	From, To providers.Repository
	Subjects []providers.Digest // manifests present in both repositories
	// Pinned, when not empty, is exactly what is copied, in the order in which
	// ReferrerSet gave it, whatever is attached to Subjects by now.
	Pinned []Referrer
	// FromTags and ToTags are listings of the two repositories, when the caller
	// has them: fallback tags that are not listed then cost no request.
	FromTags, ToTags *TagList
	Fresh            bool           // To is known to be new
	Progress         func(Progress) // as in Job
}
