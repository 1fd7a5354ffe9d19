package planner

import (
	"freightliner/config"
	"freightliner/providers"
	"freightliner/statefile"
)

// world is what observing found. It is read-only once observe has returned.
type world struct {
	units    []unit
	trees    map[int]*treeWorld   // by index into units
	image    map[int]*imageWorld  // by index into units
	secrets  map[int]*secretWorld // by index into units
	mistakes config.Diagnostics   // what a store would refuse, found before it is asked
	gone     []goneWorld          // blocks that the configuration no longer has, sorted

	contents map[providers.Digest]*content // of what has to be copied, by digest at the destination
	blobs    map[providers.Digest]int64    // size of every blob named by contents
	present  map[blobAt]bool               // blobs seen at a destination registry
}

// blobAt is a blob at one registry host.
type blobAt struct {
	host   string
	digest providers.Digest
}

// content is what one image consists of.
type content struct {
	manifests int
	blobs     []providers.Digest // each once
	children  []providers.Digest // manifests below the root: subjects of their own referrers
}

type treeWorld struct {
	repos    []repoWorld // sorted by rel
	err      error       // the source could not be listed
	complete bool        // the source's repositories were listed to the end
	empty    bool        // the listing ended without a single repository
}

type repoWorld struct {
	rel      string
	err      error // the repository could not be observed
	selected bool  // the configuration selects it; else only the state knows it
	empty    bool  // the source was listed and has no tag at all
	fresh    bool  // the destination repository does not exist
	create   bool  // and it has to be made before the first push
	tags     []tagWorld
	departed []tagWorld // recorded, no longer selected; only tag and dest are set
}

type tagWorld struct {
	tag      string
	source   providers.Digest // at the source
	want     providers.Digest // what the destination should have
	dest     providers.Digest // what it has; empty: absent
	err      error
	fixed    bool      // the registry keeps dest there: the tag is immutable
	nearby   bool      // want is in the destination repository under another tag
	feeder   bool      // source was taken from what an earlier block will write
	attached *attached // nil: nothing is attached to it, or nobody asked
}

// attached are the signatures, SBOMs and other referrers of one image at the
// source.
type attached struct {
	root     []Referrer // of the image itself, sorted
	children []Referrer // of the images of an index, sorted; only while the index is new here
	present  bool       // the destination has them all
}

type imageWorld struct {
	tagWorld
	fresh  bool
	create bool // the destination repository has to be made before the first push
}

// goneWorld is a block that only the state still knows.
type goneWorld struct {
	address string
	record  statefile.Record // of the block
	found   bool             // the block has a record
	members []goneMember     // what is recorded below it and takes part, sorted by address
	left    int              // records below it that take no part
	secret  *secretWorld     // kind secret, where a delete is considered
	store   string           // and the name of its store
}

type goneMember struct {
	record statefile.Record
	to     providers.Repository
	tag    string
	dest   providers.Digest // observed where a delete is considered
	err    error
}
