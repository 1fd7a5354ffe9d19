package statefile

import "freightliner/providers"

// Kind says what a record is about.
type Kind string

const (
	KindTree      Kind = "tree"      // one tree block (or instance): its lifecycle rules and selection
	KindImage     Kind = "image"     // one image block (or instance) and its one destination tag
	KindRepo      Kind = "repo"      // one destination repository of a tree
	KindTag       Kind = "tag"       // one destination tag of a tree
	KindReferrers Kind = "referrers" // the referrers (signatures, SBOMs) of one subject that we copied
)

// Record is what we know and own of one thing. Members that a kind does not
// use stay zero and are not written. Records are values; they are never
// changed in place.
type Record struct {
	// Address is the key, unique in a state:
	//
	//	tree.platform                            the block; tree.platform["eu"] with for_each
	//	tree.platform/team/api                   a repository, by its path below the destination prefix
	//	tree.platform/                           the repository that is the destination prefix itself
	//	tree.platform/team/api:1.2               a tag
	//	tree.platform/team/api@sha256:…          the referrers of a subject
	//	image.nginx, image.nginx@sha256:…        an image, the referrers of its subjects
	Address string
	Kind    Kind

	Destination string           // repo: "host/path"; image: "host/path:tag"; tree: "host/prefix"
	Digest      providers.Digest // tag, image: at the destination; referrers: digest over the sorted referrer digests
	Source      providers.Digest // tag, image: at the source, when it differs from Digest (a rewritten index)
	Selection   string           // tree: fingerprint of its filters; tag, image: platforms that made Digest out of Source
	OnRemove    string           // tree, image: "delete" when asked for; empty means forget
	Protect     bool             // tree, image: prevent_destroy
	Created     bool             // repo: freightliner created it
}
