package config

import (
	"time"

	"freightliner/providers"
)

// Config is one directory's configuration, checked and evaluated: every
// expression has a value, every for_each is expanded, every reference is
// parsed. Slices are sorted by address (registries by name), so equal inputs
// give equal values.
type Config struct {
	Dir        string // as given to Load
	State      string // path of the state file, relative to Dir unless absolute
	Defaults   Defaults
	Registries []Registry
	Trees      []Tree
	Images     []Image
	Stores     []SecretStore // sorted by name
	Secrets    []SecretBlock

	// Sources are the files that were read, by name, for excerpts.
	Sources map[string][]byte
}

// Defaults are the settings of freightliner { defaults { … } }; flags override them.
type Defaults struct {
	Parallelism int   // actions under way at once; 0 when not set
	Retries     int   // further tries of a failed action; -1 when not set
	MaxDeletes  Limit // ceiling on deletes of one tree in one plan
}

// Limit is an absolute number or a share of a whole. The zero value is "not set".
type Limit struct {
	Set     bool
	Number  int
	Percent bool // Number is a percentage, 0 to 100
}

// Of is the limit for a whole of n: a percentage rounds up, so that 10 % of
// three tags allows one.
func (l Limit) Of(n int) int {
	if !l.Percent {
		return l.Number
	}
	return (n*l.Number + 99) / 100
}

// Registry is a registry block: how to talk to one host, or to the part of it
// below a path. The longest matching Host and Path wins.
type Registry struct {
	Name               string
	Host               string // host[:port], lower case
	Path               string // the settings apply below this path; empty for the whole host
	Kind               string // one of Kinds; inferred from the host when not written
	PlainHTTP          bool
	CAFile             string // paths are relative to Config.Dir
	ClientCert         string
	ClientKey          string
	CreateRepositories bool
	Created            RepositorySettings
	Concurrency        int     // most requests at once; 0 when not set
	RequestsPerSecond  float64 // 0 when not set
	MaxBandwidth       int64   // bytes per second; 0 when not set
	TokenHosts         []string
	UploadHosts        []string
	Auth               *Auth // nil: the credential files, then the cloud's own chain
	Range              Range
}

// RepositorySettings are those of repositories that freightliner creates, as far
// as the kind of the registry has them. The zero value is the registry's own choice.
type RepositorySettings struct {
	ScanOnPush    bool
	ImmutableTags bool
	KMSKey        string // empty for the registry's own encryption
	Labels        map[string]string
}

// Kinds are the registry kinds that a registry block may name.
var Kinds = []string{"generic", "ecr", "ecr-public", "gar", "acr", "ghcr", "dockerhub", "harbor", "quay", "gitlab", "artifactory"}

// Auth is a registry's auth block: exactly one method. Secret values are held
// by closures, so that printing, comparing or encoding an Auth can not show one.
type Auth struct {
	Username         string
	Password         Secret
	Token            Secret
	CredentialHelper string
	Anonymous        bool
	StoreSecret      *StoreSecret
}

// StoreSecret names a credential kept in a secret store.
type StoreSecret struct{ Store, Name, Key string }

// Secret is a value that can be used but not seen: call it to get the value.
// A nil Secret is "not set".
type Secret func() string

// Tree is one tree block, or one instance of it: a source prefix mirrored to a
// destination prefix.
type Tree struct {
	Address      string // tree.platform or tree.platform["eu"]
	Source       providers.Repository
	Destination  providers.Repository
	Repositories RepositoryFilter
	Tags         TagFilter
	Copy         CopyOptions
	Prune        string // "none" or "managed"
	MaxDeletes   Limit
	Lifecycle    Lifecycle
	DependsOn    []string // block addresses without instance keys, sorted
	Range        Range
}

// RepositoryFilter selects repositories by their path below the source prefix.
type RepositoryFilter struct {
	Include, Exclude []string // globs: * stays in a segment, ** crosses
	Names            []string // an explicit list: nothing is enumerated at the source
}

// TagFilter selects tags; all that is set must hold.
type TagFilter struct {
	Include, Exclude []string // globs
	Match            string   // RE2, unanchored
	Semver           string   // constraint list; tags that are no version never match
	Newest           int      // the N highest versions of what is left; 0 when not set
}

// CopyOptions is what trees and images share.
type CopyOptions struct {
	Platforms []providers.Platform // empty: all, digests preserved
	Referrers bool
	Overwrite string // "always", "managed" or "never"
}

// Lifecycle is a lifecycle block.
type Lifecycle struct {
	PreventDestroy bool
	OnRemove       string // "forget" or "delete"
}

// Image is one image block, or one instance of it: one reference to one tag.
type Image struct {
	Address        string
	Source         providers.Repository
	SourceTag      string           // empty when the source names only a digest
	SourceDigest   providers.Digest // set when the source is pinned by digest; it wins over the tag
	Destination    providers.Repository
	DestinationTag string
	Copy           CopyOptions
	Lifecycle      Lifecycle
	DependsOn      []string
	Range          Range
}

// SecretStore is a secret_store block: one place that keeps secrets.
type SecretStore struct {
	Name                     string
	Kind                     string // one of StoreKinds
	Region, Profile, RoleARN string // aws
	Project, Location        string // gcp
	Endpoint                 string // aws, gcp; empty for the cloud's own
	KMSKey                   string // aws, gcp; for secrets that name none
	Path                     string // file: a directory, relative to Config.Dir unless absolute
	Recipients               []string
	IdentityFile             string
	Verify                   string // "live": values are read and compared; "blind": they are not
	FingerprintKey           Secret // nil: no fingerprints
	Range                    Range
}

// StoreKinds are the kinds that a secret_store block may name.
var StoreKinds = []string{"aws", "gcp", "file"}

// DefaultSecrets is the directory of a file store when none is written.
const DefaultSecrets = "secrets"

// SecretBlock is one secret block, or one instance of it. Exactly one of Value,
// JSON, Generate and Copy is set, none where only metadata is managed.
type SecretBlock struct {
	Address      string
	Store        string // name of a SecretStore
	Name         string // of the secret in the store
	Value        Secret
	JSON         Secret          // a JSON object in canonical form
	JSONHidden   func() []string // texts in JSON that come from sensitive or ephemeral values; nil for none
	Generate     *Generate
	Copy         *CopySecret
	Manage       string // "value", "keys" or "metadata"
	Version      string // says "the value changed" when it changes; empty when not written
	Adopt        bool
	Description  *string           // nil: not managed
	Labels       map[string]string // nil: not managed
	Replicas     []Replica         // nil: not managed; sorted by region
	KMSKey       *string           // nil: not managed
	RecoveryDays int               // 0: the store's default
	Lifecycle    Lifecycle         // PreventDestroy unless the block says otherwise
	DependsOn    []string
	Range        Range
}

// Generate says how a value is made: Length characters (8 to 4096) of the
// classes in Charset; once, unless RotateAfter (0: never) has passed.
type Generate struct {
	Length      int
	Charset     string
	RotateAfter time.Duration
}

// CopySecret names the secret that a value is copied from; an empty Version is
// the current one.
type CopySecret struct{ Store, Name, Version string }

// Replica is a further region; an empty KMSKey is the cloud's default.
type Replica struct{ Region, KMSKey string }

// Variables are values from outside the configuration.
type Variables struct {
	Flags       map[string]string // -var n=v, strongest
	Files       []string          // -var-file paths, later ones stronger
	Environment map[string]string // FREIGHTLINER_VAR_n, by n, weakest
}

// Range is a place in a file. Lines and columns count from 1, columns in
// characters; the zero Range is "no place".
type Range struct {
	File                                       string
	StartLine, StartColumn, EndLine, EndColumn int
}

// Diagnostic is one mistake or warning.
type Diagnostic struct {
	Warning bool
	Summary string // one line, no full stop
	Detail  string // whole sentences
	Hint    string // the way out: "did you mean …?"; may be empty
	Range   Range
	Excerpt string // the source line that Range starts on, without its line break
}

// Diagnostics are all mistakes of a configuration, in file and line order.
type Diagnostics []Diagnostic
