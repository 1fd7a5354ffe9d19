package statefile

import (
	"time"

	"freightliner/providers"
)

// Kind says what a record is about.
type Kind string

const (
	KindTree      Kind = "tree"      // one tree block (or instance): its lifecycle rules and selection
	KindImage     Kind = "image"     // one image block (or instance) and its one destination tag
	KindRepo      Kind = "repo"      // one destination repository of a tree
	KindTag       Kind = "tag"       // one destination tag of a tree
	KindReferrers Kind = "referrers" // the referrers (signatures, SBOMs) of one subject that we copied
	KindSecret    Kind = "secret"    // one secret block (or instance): one secret in a store
)

// known reports whether this release writes records of kind k.
func (k Kind) known() bool {
	switch k {
	case KindTree, KindImage, KindRepo, KindTag, KindReferrers, KindSecret:
		return true
	}
	return false
}

// Record is what we know and own of one thing. Members that a kind does not
// use stay zero and are not written. Records are values; they are never
// changed in place. The strings of a record that came out of a [State] share
// the memory of the file it was read from and keep it alive.
type Record struct {
	// Address is the key, unique in a state:
	//
	//	tree.platform                            the block; tree.platform["eu"] with for_each
	//	tree.platform/team/api                   a repository, by its path below the destination prefix
	//	tree.platform/                           the repository that is the destination prefix itself
	//	tree.platform/team/api:1.2               a tag
	//	tree.platform/team/api@sha256:…          the referrers of a subject
	//	image.nginx, image.nginx@sha256:…        an image, the referrers of its subjects
	//	secret.db                                a secret
	Address string
	Kind    Kind

	Destination string           // repo: "host/path"; image: "host/path:tag"; tree: "host/prefix"; secret: the store, as "aws/eu-west-1"
	Digest      providers.Digest // tag, image: at the destination; referrers: digest over the sorted referrer digests, empty while they are owed
	Source      providers.Digest // tag, image: at the source, when it differs from Digest (a rewritten index)
	Selection   string           // tree: fingerprint of its filters; tag, image: platforms that made Digest out of Source; secret: fingerprint of the metadata
	OnRemove    string           // tree, image: "delete" when asked for; empty means forget
	Protect     bool             // tree, image: prevent_destroy
	Created     bool             // repo: freightliner created it

	// Of a secret, and nothing that a value can be guessed from: no value, no
	// length, no digest that is not keyed.
	Name        string // in its store
	Version     string // the version that we wrote or took over last
	At          string // when that version was made, RFC 3339 in UTC; empty where the store does not tell
	Inputs      string // what decided the value, without the value: "value version=3", "copy aws/eu-west-1:prod/db@8f…"
	Keys        string // the JSON keys that are ours, as a JSON array, with manage = "keys"
	Fingerprint string // keyed fingerprint of the value; empty without a key
	Window      string // how long a deletion can be taken back, in days; empty for the store's default

	// Unknown is the JSON text of the members that this release does not know,
	// as `"name":value,"name":value`, to be shown. A state that has such
	// members, or records of an unknown kind, can be read and not written:
	// see [ErrNewer]. It is empty for records made by this release.
	Unknown string
}

// Change is one record set or removed. Make one with [Put] or [Remove].
type Change struct {
	Address string
	Record  Record // zero when the record is removed
	Removed bool
}

// Put is the change that sets the record at r.Address to r.
func Put(r Record) Change { return Change{Address: r.Address, Record: r} }

// Remove is the change after which there is no record at address.
func Remove(address string) Change { return Change{Address: address, Removed: true} }

// RunInfo says whose journal it is: the members of a run line.
type RunInfo struct {
	Run  string           // id of the run, unique to it
	Plan providers.Digest // id of the plan it carries out; empty when there is none
	By   string           // who or what ran it, for people: "ci@runner-7", a URL
	Tool string           // version of freightliner, for people
}

// Intent is work that may have happened: it was announced before the call that
// can not be repeated blindly, and nothing was journalled after it. Whoever
// resumes looks at the world first.
type Intent struct {
	Address string
	Op      string // what was about to be done: "add_version"
	Token   string // the idempotency token the call carried; empty when the provider has none
}

// Holder says who has the lock, for the message of whoever has not.
type Holder struct {
	Host  string    `json:"host"`
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
	Run   string    `json:"run,omitempty"`
	By    string    `json:"by,omitempty"`
}

// Clock is the time as this package needs it.
type Clock interface {
	Now() time.Time
	// After sends the time once, when d has passed.
	After(d time.Duration) <-chan time.Time
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now is time.Now.
func (SystemClock) Now() time.Time { return time.Now() }

// After is time.After.
func (SystemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }
