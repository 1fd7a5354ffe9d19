package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// argument is one argument of a block. What may be written, what is suggested
// after a slip, and what Reference prints all come from here.
type argument struct {
	name     string
	kind     string // for people: "text", "list of text", …
	fallback string // for people: the default; empty for none
	doc      string
	required bool
}

// blockType is one type of block.
type blockType struct {
	name   string
	labels []string
	doc    string
	many   bool // may be written more than once in its parent
	any    bool // any argument names are allowed
	args   []argument
	blocks []*blockType
}

var schema = &blockType{blocks: []*blockType{settingsBlock, variableBlock, localsBlock, registryBlock, treeBlock, imageBlock, storeBlock, secretBlock}}

var settingsBlock = &blockType{
	name: "freightliner",
	doc:  "Settings of the configuration as a whole. It may be written once.",
	args: []argument{
		{name: "required_version", kind: "text", doc: "Versions of freightliner that may read this configuration, as constraints like `>= 0.1.0, < 2`. It may not refer to anything."},
	},
	blocks: []*blockType{
		{name: "state", doc: "Where the state is kept.", args: []argument{
			{name: "path", kind: "text", fallback: "`" + DefaultState + "`", doc: "The state file, relative to the configuration directory."},
		}},
		{name: "defaults", doc: "Settings that flags override.", args: []argument{
			{name: "parallelism", kind: "number", fallback: "chosen by apply", doc: "Actions under way at once, 1 to 10000. Each pair of registries has its share of them."},
			{name: "retry", kind: "number", fallback: "chosen by apply", doc: "Further tries of a failed action, 0 to 100."},
			{name: "max_deletes", kind: "number or percentage", fallback: "`\"10%\"`", doc: "Most deletes in one tree in one plan: a number, or a share of its managed tags."},
		}},
	},
}

var variableBlock = &blockType{
	name: "variable", labels: []string{"name"}, many: true,
	doc: "A value from outside: `-var name=value`, `-var-file`, or the environment variable `FREIGHTLINER_VAR_name`; the first of these that is set wins.",
	args: []argument{
		{name: "type", kind: "type", fallback: "`any`", doc: "A type like `string`, `list(string)` or `object({ name = string, size = optional(number, 1) })`."},
		{name: "default", kind: "value", doc: "The value when none is given. It may not refer to anything. Without a default a value must be given."},
		{name: "description", kind: "text", doc: "What it is for."},
		{name: "sensitive", kind: "bool", fallback: "`false`", doc: "Never shown, and refused wherever it would be: only `auth`, and `value` and `json` of a secret, take it."},
		{name: "ephemeral", kind: "bool", fallback: "`false`", doc: "Kept in memory only: accepted only by arguments that are written and never read back, like a password."},
		{name: "nullable", kind: "bool", fallback: "`true`", doc: "Whether the value may be `null`."},
	},
	blocks: []*blockType{
		{name: "validation", many: true, doc: "A condition that the value must meet. It may refer to this variable only.", args: []argument{
			{name: "condition", kind: "bool", required: true, doc: "True when the value is good."},
			{name: "error_message", kind: "text", required: true, doc: "What to say when it is not."},
		}},
	},
}

var localsBlock = &blockType{
	name: "locals", many: true, any: true,
	doc: "Named values, in any order: `name = expression`, used as `local.name`.",
}

var registryBlock = &blockType{
	name: "registry", labels: []string{"name"}, many: true,
	doc: "How to talk to a registry. `registry.NAME.host` is its host as written, path included.",
	args: []argument{
		{name: "host", kind: "text", required: true, doc: "`host[:port][/path]`. With a path, the settings apply below it; the longest match wins."},
		{name: "kind", kind: "text", fallback: "inferred from the host", doc: "One of " + quoteList(Kinds) + "."},
		{name: "plain_http", kind: "bool", fallback: "`false`", doc: "Use http instead of https. Never chosen by itself, not even for localhost."},
		{name: "ca_file", kind: "text", doc: "PEM certificates to trust besides the system's. Paths are relative to the configuration directory."},
		{name: "client_cert", kind: "text", doc: "PEM client certificate; needs `client_key`."},
		{name: "client_key", kind: "text", doc: "PEM key of the client certificate."},
		{name: "create_repositories", kind: "bool", fallback: "`false`", doc: "Create repositories that the registry does not create by itself on push."},
		{name: "concurrency", kind: "number", fallback: "adaptive", doc: "Most requests at once, 1 to 10000. The number in use adapts below it."},
		{name: "requests_per_second", kind: "number", fallback: "no limit", doc: "Most requests per second; may be a fraction."},
		{name: "max_bandwidth", kind: "number or text", fallback: "no limit", doc: "Most bytes per second: a number, or text like `\"50MiB\"`."},
		{name: "token_hosts", kind: "list of text", doc: "Further hosts that may be asked for tokens with this registry's credentials."},
		{name: "upload_hosts", kind: "list of text", doc: "Further hosts that uploads may be sent to."},
	},
	blocks: []*blockType{
		{name: "repository_settings", doc: "Settings of the repositories that `create_repositories` makes; those that exist keep theirs. Which kinds have a setting is said with it, and it is refused for others.", args: []argument{
			{name: "scan_on_push", kind: "bool", fallback: "`false`", doc: "Scan what is pushed (`ecr`, `harbor`)."},
			{name: "immutable_tags", kind: "bool", fallback: "`false`", doc: "Tags can not be moved (`ecr`, `gar`). A tag that moves at the source is then blocked in the plan."},
			{name: "kms_key", kind: "text", fallback: "the registry's own encryption", doc: "The KMS key that encrypts the repository: ARN, id or alias (`ecr`), or resource name (`gar`)."},
			{name: "labels", kind: "map of text", doc: "Tags (`ecr`, `ecr-public`) or labels (`gar`) of the repository as a resource."},
		}},
		{name: "auth", doc: "Credentials, by exactly one method. Without it: Docker's and Podman's credential files, then the cloud's own chain.", args: []argument{
			{name: "username", kind: "text", doc: "User name; needs `password`. May be sensitive."},
			{name: "password", kind: "text", doc: "Password; needs `username`. May be sensitive or ephemeral."},
			{name: "token", kind: "text", doc: "A bearer token. May be sensitive or ephemeral."},
			{name: "credential_helper", kind: "text", doc: "The NAME of a program `docker-credential-NAME`."},
			{name: "secret", kind: "object", doc: "`{ store, name, key }` of a value in a secret store; `key` is optional."},
			{name: "anonymous", kind: "bool", doc: "`true`: send no credentials."},
		}},
	},
}

var copyArguments = []argument{
	{name: "platforms", kind: "list of text", fallback: "all, digests preserved", doc: "Platforms to copy, as `os/arch` or `os/arch/variant`."},
	{name: "referrers", kind: "bool", fallback: "`true`", doc: "Signatures, attestations and SBOMs follow."},
	{name: "overwrite", kind: "text", fallback: "`\"always\"`", doc: "What to do with a tag that is at the destination already: " + quoteList(overwrites) + "."},
	{name: "for_each", kind: "map or set of text", doc: "One instance for each element; `each.key` and `each.value` are its own."},
	{name: "depends_on", kind: "list of blocks", doc: "Blocks that must be done before, like `[tree.base]`."},
}

var lifecycleArguments = []argument{
	{name: "prevent_destroy", kind: "bool", fallback: "`false`", doc: "Refuse to delete what this block manages, also after the block is gone."},
	{name: "on_remove", kind: "text", fallback: "`\"forget\"`", doc: "What happens when the block goes away: " + quoteList(removals) + "."},
}

var (
	prunes     = []string{"none", "managed"}
	overwrites = []string{"always", "managed", "never"}
	removals   = []string{"forget", "delete"}
)

var treeBlock = &blockType{
	name: "tree", labels: []string{"name"}, many: true,
	doc: "A prefix of repositories that is mirrored to another prefix.",
	args: append([]argument{
		{name: "source", kind: "text", required: true, doc: "`host[:port][/path]`; without a path the whole registry."},
		{name: "destination", kind: "text", required: true, doc: "`host[:port][/path]`."},
		{name: "prune", kind: "text", fallback: "`\"none\"`", doc: "What happens to tags that left the source: " + quoteList(prunes) + " (delete those that we manage)."},
	}, copyArguments...),
	blocks: []*blockType{
		{name: "repositories", doc: "Which repositories below the source. Everything when it is not written.", args: []argument{
			{name: "include", kind: "list of text", fallback: "`[\"**\"]`", doc: "Globs over the path below the source: `*` stays in one segment, `**` crosses segments."},
			{name: "exclude", kind: "list of text", doc: "Globs of what to leave out."},
			{name: "names", kind: "list of text", doc: "An explicit list instead of globs: nothing is listed at the source."},
		}},
		{name: "tags", doc: "Which tags. All conditions must hold.", args: []argument{
			{name: "include", kind: "list of text", fallback: "`[\"*\"]`", doc: "Globs; `*` is any run of characters."},
			{name: "exclude", kind: "list of text", doc: "Globs of what to leave out."},
			{name: "match", kind: "text", doc: "A regular expression (RE2), not anchored."},
			{name: "semver", kind: "text", doc: "Version constraints like `>= 1.20.0, < 2`. Tags that are no version never match."},
			{name: "newest", kind: "number", fallback: "all", doc: "Keep the N highest versions of what is left, per repository."},
		}},
		{name: "lifecycle", doc: "Protection and removal.", args: append(slices.Clone(lifecycleArguments),
			argument{name: "max_deletes", kind: "number or percentage", fallback: "that of `defaults`", doc: "Most deletes in one plan: a number, or a share of the managed tags."})},
	},
}

var imageBlock = &blockType{
	name: "image", labels: []string{"name"}, many: true,
	doc: "One image that is copied to one tag.",
	args: append([]argument{
		{name: "source", kind: "text", required: true, doc: "`host/path:tag` or `host/path@digest`; a digest wins over a tag."},
		{name: "destination", kind: "text", required: true, doc: "`host/path:tag`."},
	}, copyArguments...),
	blocks: []*blockType{
		{name: "lifecycle", doc: "Protection and removal.", args: lifecycleArguments},
	},
}

var (
	verifyModes = []string{"live", "blind"}
	manageModes = []string{"value", "keys", "metadata"}
)

var storeBlock = &blockType{
	name: "secret_store", labels: []string{"name"}, many: true,
	doc: "A place that keeps secrets. `secret_store.NAME` refers to it.",
	args: []argument{
		{name: "kind", kind: "text", fallback: "`\"file\"`", doc: "One of " + quoteList(StoreKinds) + ": AWS Secrets Manager, GCP Secret Manager, or age-encrypted files beside the configuration."},
		{name: "region", kind: "text", doc: "aws: the region; required there."},
		{name: "profile", kind: "text", doc: "aws: a profile of the AWS configuration files."},
		{name: "role_arn", kind: "text", doc: "aws: a role to assume."},
		{name: "project", kind: "text", doc: "gcp: the project; required there."},
		{name: "location", kind: "text", fallback: "global", doc: "gcp: the location of regional secrets."},
		{name: "endpoint", kind: "text", fallback: "the cloud's own", doc: "aws, gcp: another address of the API."},
		{name: "kms_key", kind: "text", doc: "aws, gcp: the key for new secrets that name none."},
		{name: "path", kind: "text", fallback: "`\"" + DefaultSecrets + "\"`", doc: "file: the directory, relative to the configuration directory."},
		{name: "recipients", kind: "list of text", doc: "file: age recipients who become members when the store is made."},
		{name: "identity_file", kind: "text", doc: "file: a file with an age identity, readable by its owner only."},
		{name: "verify", kind: "text", fallback: "`\"live\"`", doc: "`live`: plan reads the values and compares them in memory. `blind`: no right to read values is needed; version ids and the `version` of a secret decide."},
		{name: "fingerprint_key", kind: "text", doc: "A key of at least 16 bytes for keyed fingerprints in the state, with which a blind store sees that a value of the configuration changed. Sensitive or ephemeral; never kept."},
	},
}

var secretBlock = &blockType{
	name: "secret", labels: []string{"name"}, many: true,
	doc: "A secret that must exist in a store. Its value comes from exactly one of `value`, `json`, `generate` and `copy`, and is in no plan, state or log.",
	args: []argument{
		{name: "store", kind: "store", required: true, doc: "Where it is kept, as `secret_store.NAME`."},
		{name: "name", kind: "text", required: true, doc: "Its name in the store."},
		{name: "value", kind: "text", doc: "The value. May be sensitive or ephemeral."},
		{name: "json", kind: "object", doc: "The value as a JSON object. Its members may be sensitive or ephemeral."},
		{name: "manage", kind: "text", fallback: "`\"value\"`", doc: "What belongs to us: the whole `value`; with `json` only the `keys` that it names; or only the `metadata`."},
		{name: "version", kind: "text or number", doc: "Says that the value changed when it changes itself, where values are not compared; makes a generated value anew."},
		{name: "adopt", kind: "bool", fallback: "`false`", doc: "Take over a secret that exists and is not ours."},
		{name: "description", kind: "text", doc: "What it is for. Like all that follows it is left alone where it is not written."},
		{name: "labels", kind: "map of text", doc: "Tags (AWS) or labels (GCP): exactly these."},
		{name: "replicas", kind: "list of text, or map to KMS keys", doc: "Further regions: exactly these."},
		{name: "kms_key", kind: "text", doc: "The key that encrypts it."},
		{name: "recovery_window_days", kind: "number", fallback: "the store's", doc: "How long a deletion can be taken back; AWS takes 7 to 30."},
		{name: "for_each", kind: "map or set of text", doc: "One instance for each element; `each.key` and `each.value` are its own."},
		{name: "depends_on", kind: "list of blocks", doc: "Blocks that must be done before, like `[secret.base]`."},
	},
	blocks: []*blockType{
		{name: "generate", doc: "Make the value, once: a value that is there is kept.", args: []argument{
			{name: "length", kind: "number", fallback: "`32`", doc: "Characters, 8 to 4096."},
			{name: "charset", kind: "text", fallback: "`\"lower+upper+digits\"`", doc: "Classes joined by `+`: `lower`, `upper`, `digits`, `symbols`, without characters that look alike and at least one of each; or `hex` or `base64url`, whole."},
			{name: "rotate_after", kind: "text", fallback: "never", doc: "Make a new value when the current one is older, such as `\"90d\"`."},
		}},
		{name: "copy", doc: "Copy the value of a secret in a store. A new version there is a new version here.", args: []argument{
			{name: "store", kind: "store", required: true, doc: "The store to copy from."},
			{name: "name", kind: "text", required: true, doc: "The secret's name there."},
			{name: "version", kind: "text", fallback: "the current one", doc: "A version id, to stay with it."},
		}},
		{name: "lifecycle", doc: "Protection and removal.", args: []argument{
			{name: "prevent_destroy", kind: "bool", fallback: "`true`", doc: "Refuse to delete the secret, also after the block is gone."},
			{name: "on_remove", kind: "text", fallback: "`\"forget\"`", doc: "What happens when the block goes away: " + quoteList(removals) + "."},
		}},
	},
}

func quoteList(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = "`" + word + "`"
	}
	return strings.Join(quoted, ", ")
}

// names are all names that may be written in the block, for suggestions.
func (b *blockType) names() []string {
	var names []string
	for _, a := range b.args {
		names = append(names, a.name)
	}
	for _, inner := range b.blocks {
		names = append(names, inner.name)
	}
	return names
}

// body is the schema in the words of the parser.
func (b *blockType) body() *hcl.BodySchema {
	s := &hcl.BodySchema{}
	for _, a := range b.args {
		s.Attributes = append(s.Attributes, hcl.AttributeSchema{Name: a.name})
	}
	for _, inner := range b.blocks {
		s.Blocks = append(s.Blocks, hcl.BlockHeaderSchema{Type: inner.name, LabelNames: inner.labels})
	}
	if b == treeBlock || b == imageBlock {
		s.Blocks = append(s.Blocks, hcl.BlockHeaderSchema{Type: "compression"}) // refused with an explanation
	}
	return s
}

func (b *blockType) block(name string) *blockType {
	for _, inner := range b.blocks {
		if inner.name == name {
			return inner
		}
	}
	return nil
}

func (b *blockType) takes(name string) bool {
	return slices.ContainsFunc(b.args, func(a argument) bool { return a.name == name })
}

func (b *blockType) required(name string) bool {
	return slices.ContainsFunc(b.args, func(a argument) bool { return a.name == name && a.required })
}

// Reference is the documentation of every block and argument in Markdown, made
// from the same tables that configurations are checked against.
func Reference() string {
	var b strings.Builder
	for _, inner := range schema.blocks {
		inner.reference(&b, "", 2)
	}
	b.WriteString("## Functions\n\n")
	names := functionNames()
	fmt.Fprintf(&b, "%s.\n\nThey work as in Terraform. None reads the environment, the clock or the network; `file` reads only inside the configuration directory.\n", quoteList(names))
	return b.String()
}

func (b *blockType) reference(out *strings.Builder, parents string, level int) {
	title := parents + b.name
	for _, label := range b.labels {
		title += fmt.Sprintf(" %q", strings.ToUpper(label))
	}
	fmt.Fprintf(out, "%s `%s`\n\n%s\n\n", strings.Repeat("#", level), title, b.doc)
	if len(b.args) > 0 {
		out.WriteString("| argument | type | default | what it is |\n| --- | --- | --- | --- |\n")
		for _, a := range b.args {
			fallback := a.fallback
			if a.required {
				fallback = "required"
			}
			fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", a.name, a.kind, fallback, strings.ReplaceAll(a.doc, "|", `\|`))
		}
		out.WriteString("\n")
	}
	for _, inner := range b.blocks {
		inner.reference(out, b.name+" / ", min(level+1, 4))
	}
}

func functionNames() []string {
	names := make([]string, 0, len(library))
	for name := range library {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
