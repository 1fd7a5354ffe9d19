package registry

// Profile is how one kind of registry differs from the distribution-spec, as
// data. The zero value of every field is what the specification says; each kind
// fills in its own in providers/registry/<kind>/profile.go, with the source.
type Profile struct {
	// Listing.

	Page     int     // entries to ask for in a page; more is an error in places. 0 for 1000
	LinkEnds bool    // no Link header ends a listing for sure, and "last" is not understood
	PageCap  int64   // bytes of the longest page that is read; 0 for 8 MiB
	Catalog  Catalog // what the registry's _catalog is worth

	// Names have so many parts between slashes, at least and at most; 0 for any.
	// Others can not exist there, so they fail before anything is sent.
	MinParts, MaxParts int

	// Writing.

	Uploads   []Upload // shapes that work, the best first; nil for any
	MaxPut    int64    // bytes of the largest body of a PUT; 0 for any
	MinChunk  int64    // bytes of the smallest chunk but the last; 0 for any
	MaxChunk  int64    // bytes of the largest chunk; 0 for any
	MaxChunks int      // of one upload; 0 for any
	Resume    Resume   // what is left of an upload that broke off
	Mount     Mount
	Tags      Tags
	Look      Look
	Create    Create // what must be there before the first push
	// Full are words of a refusal that say that a quota is used up, for registries
	// that do so by a status which means something else; see [ErrFull].
	Full []string
	Top  int // parts of a name that CreateTop means; 0 for 1
	// CreatesPerSecond bounds how fast repositories are made; 0 for 5.
	CreatesPerSecond float64

	// Reading.

	Referrers Referrers
	Rates     Rates
}

// Catalog says whether a registry's _catalog names every repository that the
// credential may read.
type Catalog uint8

const (
	CatalogWhole Catalog = iota // it does, or it fails
	CatalogNone                 // there is none, or it may leave something out without a word
)

// Upload is a shape of a blob upload.
type Upload uint8

const (
	UploadPut    Upload = iota + 1 // POST, then one PUT with everything and its Content-Length
	UploadChunks                   // POST, PATCHes with Content-Range, empty PUT
	UploadPatch                    // POST, one PATCH without Content-Range, empty PUT
)

// Resume says where an upload that broke off can be taken up again.
type Resume uint8

const (
	ResumeAsk    Resume = iota // at the offset that the session tells
	ResumeLedger               // at our own count of acknowledged chunks: the session tells a wrong one
	ResumeNever                // from the start, in a new session
)

// Mount says when a blob of another repository can be mounted.
type Mount uint8

const (
	MountAny       Mount = iota // as soon as the blob is there
	MountCommitted              // only a blob that a manifest of its repository refers to
)

// Tags says whether several tags of one manifest can be written by one request
// (distribution-spec, "Pushing Manifests", since #600 of 2026).
type Tags uint8

const (
	TagsProbe  Tags = iota // the first request with several finds out
	TagsSingly             // they can not: one request for each
)

// Look says how a blob may be looked for that is sent when it is not there.
type Look uint8

const (
	// LookHead is a HEAD of it. Harbor keeps what was asked for this way from its
	// garbage collection, and hides what is being collected (goharbor/harbor
	// src/server/middleware/blob/head_blob.go). At ECR mounts have conditions, so
	// that their refusal does not mean that a blob is missing. What a mount does
	// beside linking is not published for the others.
	LookHead Look = iota
	// LookMount is a mount of it from its own repository, which opens the upload
	// when it is not there. When it is, distribution looks at the link and writes it
	// again (registry/storage/linkedblobstore.go: 3.1 beside it and renamed; 2.8 on
	// a file system in place, as it does with a tag at each push); GitLab does
	// nothing (its registry/handlers/blobupload.go, dbMountBlob); zot looks
	// (pkg/api/routes.go, CreateBlobUpload).
	LookMount
)

// Create says what must exist before a push.
type Create uint8

const (
	CreateOnPush     Create = iota // nothing: the first push makes the repository
	CreateRepository               // the repository itself
	CreateTop                      // what its first segments name: a project, a namespace
)

// Referrers says where a registry keeps what points at a subject.
type Referrers uint8

const (
	ReferrersProbe Referrers = iota // one request finds out
	ReferrersAPI                    // it has the referrers API
	ReferrersTags                   // it has not: the fallback tag of the specification
)

// Rates are published ceilings, in requests per second; 0 for none.
type Rates struct {
	Listings float64 // catalogs, tag lists, referrers
	Looks    float64 // HEAD of anything
	Reads    float64 // GET of manifests
	Pulls    float64 // GET of blobs
	Opens    float64 // upload sessions and mounts
	Pushes   float64 // requests that carry blob data
	Writes   float64 // PUT of manifests
	Deletes  float64
}

// profile is a Profile with the defaults filled in.
type profile struct {
	Profile
	page        int
	pageCap     int64
	linkEnds    bool
	commitFirst bool
	// rates are published limits, in requests per second.
	rates map[action]float64
}

func (p Profile) filled() profile {
	f := profile{Profile: p, page: p.Page, pageCap: p.PageCap, linkEnds: p.LinkEnds, commitFirst: p.Mount == MountCommitted}
	f.rates = map[action]float64{listings: p.Rates.Listings, looks: p.Rates.Looks, reads: p.Rates.Reads, pulls: p.Rates.Pulls,
		opens: p.Rates.Opens, pushes: p.Rates.Pushes, writes: p.Rates.Writes, deletes: p.Rates.Deletes}
	if f.page == 0 {
		f.page = 1000 // distribution: more than 1000 is an error, not a clamp
	}
	if f.pageCap == 0 {
		f.pageCap = maxPage
	}
	if f.CreatesPerSecond == 0 {
		f.CreatesPerSecond = 5
	}
	return f
}
