package secret

import (
	"context"
	"iter"
	"time"
)

// Store is one place that keeps secrets: one account and region, one project,
// one directory. All methods are safe for concurrent use. Errors are
// [providers.Error] with a class; beyond the classes' own meaning:
//
//   - NotFound is said only when the store said so about exactly this secret.
//     A refusal, a throttled call, an answer that can not be decoded and a list
//     that lacks a name are never NotFound: whoever takes a refusal for absence
//     writes a new version of a secret that is there (k8s-config-connector#711).
//   - Conflict is said when the world is not what the call expects; nothing has
//     been made current then.
//   - No error, hint or field ever holds a payload or anything derived from one.
//
// A store paces itself: it keeps below its known rates, shares one budget per
// quota group among all callers, and repeats what is safe to repeat until the
// context ends or its own patience does (then Throttled or Transient).
type Store interface {
	// Place is the store's identity as people and the state write it, such as
	// "aws/eu-west-1", "gcp/acme-prod", "file/secrets". It does not change
	// while the configuration of the store does not.
	Place() string

	// Limits are the store's rules as data, for checks before anything is done.
	Limits() Limits

	// List gives the metadata of all secrets whose names begin with prefix, in
	// any order, from as few calls as the API allows, secrets that wait for
	// their deletion included. An error ends the list, which is then incomplete
	// and proves nothing about what it lacks. Fresh secrets may be missing.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]

	// Describe is the metadata of one secret. A secret that waits for its
	// deletion is described, with Info.Deletion set.
	Describe(ctx context.Context, name string) (Info, error)

	// Read reads payloads with as few calls as the API allows and gives each to
	// got, once, in any order, from any goroutine but never two at once. got
	// owns the Value and zeroes it. The error is ctx's; everything else is in
	// the readings.
	Read(ctx context.Context, refs []Ref, got func(Reading)) error

	// Write makes exactly one new version and makes it current, if the current
	// one is w.Expect. It may be called again with the same Token after a
	// failure, a lost answer or a crash: however often it is called, at most one
	// version comes of it, and the call after which it exists returns it.
	//
	// Conflict: the current version is not w.Expect, the secret waits for its
	// deletion, or w.Create is nil and there is no such secret. A version that
	// could not be made current is withdrawn as far as the store can.
	Write(ctx context.Context, w Write) (Version, error)

	// Settle finds out what became of a Write of which nobody saw the end (the
	// process died). made is false when it made nothing and never will as long
	// as nobody repeats it. It only looks, except that it finishes or withdraws
	// what the write left half done. w.Value may be missing: then it goes by the
	// token alone. An error means that it could not be found out.
	Settle(ctx context.Context, w Write) (v Version, made bool, err error)

	// Update makes the metadata of a secret what m says; it makes no version.
	// What m leaves unset (see [Metadata]) stays as it is. expect is
	// Info.Metadata.Etag as it was planned against; empty asks for no check.
	Update(ctx context.Context, name string, m Metadata, expect string) error

	// Delete deletes a secret, as softly as the store can. expect is the current
	// version that the caller has seen; if it is another one, Conflict.
	Delete(ctx context.Context, name string, d Deletion) (Deleted, error)

	// Restore takes a deletion back that has not become final.
	Restore(ctx context.Context, name string) error

	// History lists the versions of a secret, newest first.
	History(ctx context.Context, name string) ([]Version, error)
}

// Principal is an optional power of a [Store].
type Principal interface {
	// Principal is who the store takes us for (an ARN, a service account's
	// address), for audit lines and errors; it is asked for at most once.
	Principal(ctx context.Context) (string, error)
}

// Limits are the rules of a kind of store.
type Limits struct {
	Payload int // most bytes of a payload
	// CheckName says in words what is wrong with a name; nil for a good one.
	CheckName func(name string) error
	// CheckMetadata says what is wrong with what a configuration wants; nil
	// when the store can do it.
	CheckMetadata func(m Metadata) error
	// WriteEvery is how often one secret may sensibly be written for long; more
	// often fills a quota. Zero for no bound.
	WriteEvery time.Duration
	// Undelete is true when a deletion can be taken back for a while.
	Undelete bool
}

// Info is what a store tells of a secret without its payload.
type Info struct {
	Name    string
	ID      string // ARN, resource name, path: what the store calls it
	Version string // current version; empty: it exists and has no value
	// VersionUnknown is true in an entry of List whose Version, Changed, Trouble
	// and labels the store's list does not tell (GCP); Version is empty then.
	// Read and Describe tell.
	VersionUnknown bool
	Changed        time.Time // when the current version was made; zero when not told
	Labels         []string  // staging labels or aliases on the current version that are not the store's own

	// Trouble says in words why the current version can not be read although
	// it exists: "disabled", "destroyed"; empty when it can.
	Trouble string
	// Deletion is when a pending deletion becomes final; zero when none is.
	Deletion time.Time
	// Owner is the address of the block that last wrote it with freightliner;
	// empty when it is not ours.
	Owner string
	// ManagedBy is a service that owns the secret and writes its values itself
	// (AWS OwningService, managed rotation); empty for none.
	ManagedBy string
	// Rotates is true when the store rotates it by itself.
	Rotates bool
	// LastRead is the day of the last read of a payload, where the store tells.
	LastRead time.Time

	Metadata Metadata
}

// Metadata is what a configuration says about a secret besides its payload.
// Nil and empty members mean "not managed"; to remove something, set it to its
// empty, non-nil form.
type Metadata struct {
	Description *string
	Labels      map[string]string // tags (AWS), labels (GCP); those of freightliner itself are not among them
	KMSKey      *string
	Replicas    []Replica // AWS: further regions; GCP: set when made, for ever
	Owner       string    // the block's address, kept as a tag or annotation; empty: as it is

	// Etag names this state of the metadata, where the store has such; only set
	// in an Info.
	Etag string
}

// Replica is a further region that holds a copy.
type Replica struct {
	Region string
	KMSKey string
	Status string // only in an Info: "in sync", "in progress", "failed: …"
}

// Ref names a payload to be read.
type Ref struct {
	Name    string
	Version string // a version id; empty: the current one
}

// Reading is the answer to one Ref.
type Reading struct {
	Ref     Ref
	Value   Value // not set when Err is
	Version Version
	Err     error
}

// Version is one version of a secret.
type Version struct {
	ID      string
	Created time.Time    // zero when the store does not tell
	State   VersionState // of the version as seen now
	Labels  []string     // staging labels (AWS), aliases (GCP)
}

// VersionState is what can be done with a version.
type VersionState string

const (
	Current   VersionState = "current"   // what readers get
	Previous  VersionState = "previous"  // still readable
	Pending   VersionState = "pending"   // written, not yet current
	Disabled  VersionState = "disabled"  // kept, not readable until enabled
	Destroyed VersionState = "destroyed" // its payload is gone
	// Deprecated is readable by its id for now and may vanish any time: it was
	// replaced long ago, or withdrawn before it became current (AWS: no label).
	Deprecated VersionState = "deprecated"
)

// Write is one intended change of a payload.
type Write struct {
	Name   string
	Value  Value
	Expect string // version id that must be current; empty: there must be no current version
	// Token tells this intended change from every other: 32 to 64 characters of
	// [A-Za-z0-9-], never used for another payload, recorded durably before the
	// first call, so that a crash can be looked into.
	Token string
	// Create, when set, makes the secret with this metadata if there is none.
	// Expect must be empty then; a secret that exists without a value gets one.
	Create *Metadata
	Owner  string // as Metadata.Owner, for a secret that exists
}

// Deletion says how to delete.
type Deletion struct {
	Expect string // current version that the caller has seen; empty: it has no value
	// Window is how long the deletion can be taken back; zero is the store's
	// default. Stores without such ignore it.
	Window time.Duration
	// Force deletes at once and for ever.
	Force bool
}

// Deleted is how a deletion ended.
type Deleted struct {
	Final time.Time // when it becomes final; zero: it is
}
