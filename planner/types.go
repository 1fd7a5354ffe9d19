package planner

import (
	"freightliner/config"
	"freightliner/providers"
	"freightliner/statefile"
)

// Plan is everything an apply does, as data: nothing is decided later. Equal
// configuration, state and world give an equal Plan.
type Plan struct {
	State   providers.Digest // id of the state it was made against; empty when there was none
	Destroy bool             // made by destroy: everything recorded goes

	Registries []Registry // all that are configured or touched, sorted by host and path
	Blocks     []Block    // sorted by address
	Actions    []Action   // sorted so that every action comes after those it needs
	Problems   []Problem  // what could not be observed, or is held back; the rest is planned without it

	// Saved is set on a plan that was read from a file: time has passed, so the
	// executor looks at each destination again before it acts.
	Saved bool
}

// Registry is how a saved plan remembers a registry: its settings without
// anything secret. A registry with an auth block is looked up in the
// configuration again when the plan is applied.
type Registry struct {
	Config  config.Registry // Auth is nil in a plan
	Auth    bool            // an auth block exists
	Touched bool            // an action reads from or writes to the host
}

// Block is one tree, image or secret block, or one instance of it.
type Block struct {
	Address     string
	Kind        statefile.Kind // KindTree, KindImage or KindSecret
	Source      string         // as people write it: "ghcr.io/acme", "docker.io/library/nginx:1.27"; empty when the block is gone
	Destination string
	Copy        config.CopyOptions
	OnRemove    string // recorded in the state; "" or "delete"
	Protect     bool
	Selection   string // fingerprint of the filters
	After       []int  // indices of blocks that must be finished first (depends_on)

	Unchanged int // destination tags that are as they should be
	Left      int // recorded tags that left the source and are kept (prune = "none")
}

// Verb is what an action does.
type Verb string

const (
	CreateRepository Verb = "create-repository" // make the destination repository, or record where it is
	Create           Verb = "create"            // copy to a tag that does not exist
	Update           Verb = "update"            // copy over a tag that has other content, or record changed rules of a block
	Retag            Verb = "retag"             // point a tag at content that is in the repository already
	Adopt            Verb = "adopt"             // record identical content that is there already; no write
	Delete           Verb = "delete"            // delete the tag at the destination
	Forget           Verb = "forget"            // drop the record; the destination is left alone
)

// Verbs in the order in which summaries name them.
var Verbs = []Verb{Delete, CreateRepository, Create, Update, Retag, Adopt, Forget}

// Cause answers who changed what: our configuration, the source, or somebody
// at the destination behind our back.
type Cause string

const (
	ByConfig   Cause = "config"
	ByUpstream Cause = "upstream"
	ByDrift    Cause = "drift"
)

// Causes in the order in which summaries name them.
var Causes = []Cause{ByConfig, ByUpstream, ByDrift}

// Action is one step. Its preconditions are Prior (what the state says),
// Observed (what the destination had) and Pin (what the source had); it goes
// stale alone, never with the whole plan.
type Action struct {
	Address string // see statefile.Record
	Kind    statefile.Kind
	Verb    Verb
	Cause   Cause
	Reason  string // a short phrase: "moved at the source"
	Block   int    // index into Plan.Blocks

	From     providers.Repository // source; zero for actions that copy nothing
	FromTag  string               // where Pin was found; empty for a source named by digest
	To       providers.Repository // destination; for a tree's own record zero
	ToTag    string
	Pin      providers.Digest // digest at the source
	Want     providers.Digest // digest at the destination afterwards; differs from Pin for a rewritten index
	Observed providers.Digest // digest at the destination when planned; empty: absent
	Prior    providers.Digest // digest in the state's record; empty: no record

	Fresh     bool          // the destination repository did not exist
	Referrers []Referrer    // kind referrers: what is copied, pinned
	Secret    *SecretChange // kind secret

	Bytes    int64 // blob bytes to move; a blob counts once per destination registry, at its first action
	Present  int64 // blob bytes that are at the destination already, or come by mount
	Requests int   // estimated, in both directions

	Needs []int // indices of earlier actions that must have succeeded
}

// Referrer is one signature, attestation, SBOM or other artifact that refers
// to a subject.
type Referrer struct {
	Digest  providers.Digest
	Subject providers.Digest
	Tag     string // set where it is attached by a tag of its own (cosign's sha256-….sig)
}

// Problem is something that the plan can not or must not do.
type Problem struct {
	Address string
	Class   providers.Class
	Summary string // lower case, what and where
	Hint    string
	Blocked bool // a rule holds it back (overwrite, immutable); otherwise it could not be observed
	Guard   bool // a guard refuses the whole plan: apply exits 7
	Drift   bool `json:",omitempty"` // somebody changed a secret of ours in a way that apply does not put right
	Range   config.Range
}

// Counts are actions by cause and verb. Actions on block records are not counted.
type Counts map[Cause]map[Verb]int

// Totals is the summary of a plan.
type Totals struct {
	Counts     Counts
	Verbs      map[Verb]int
	Unchanged  int
	Secrets    int // of Unchanged: secrets
	Left       int
	Bytes      int64 // to move, after dedupe and mounts
	Present    int64 // there already, or mounted
	Requests   int   // estimated
	Registries []string
	Failed     int // problems that could not be observed
	Blocked    int
}
