package registry

import (
	"fmt"
	"strings"

	"freightliner/providers"
)

// Names from the wire end in URLs, messages and state, so they pass the
// grammar of the distribution-spec ("Pulling manifests") first.
var (
	repositoryGrammar = providers.Pattern(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagGrammar        = providers.Pattern(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// CheckRepository reports why path can not be a repository name: the grammar
// of the distribution-spec, at most 255 bytes.
func CheckRepository(path string) error {
	if len(path) > 255 {
		return fmt.Errorf("repository name %s: %d characters, 255 are allowed", providers.Printable(path, 60), len(path))
	}
	if !repositoryGrammar().MatchString(path) {
		return fmt.Errorf("repository name %q: want lower-case letters, digits and single . _ - between them, in segments separated by /", providers.Printable(path, 80))
	}
	return nil
}

// checkParts reports why path can not be a repository at r, beyond the grammar.
func (r *remote) checkParts(path string) error {
	least, most, n := r.profile.MinParts, r.profile.MaxParts, strings.Count(path, "/")+1
	if n >= least && (most == 0 || n <= most) {
		return nil
	}
	want := fmt.Sprintf("at least %d", least)
	if least == most {
		want = fmt.Sprintf("exactly %d", least)
	}
	return fmt.Errorf("repository name %q: registries of the kind %s have names of %s parts, this has %d", providers.Printable(path, 80), r.kind.Name, want, n)
}

// CheckTag reports why tag can not be a tag: the grammar of the
// distribution-spec, 1 to 128 characters.
func CheckTag(tag string) error {
	if !tagGrammar().MatchString(tag) {
		return fmt.Errorf("tag %q: want 1 to 128 letters, digits, . _ -, not starting with . or -", providers.Printable(tag, 80))
	}
	return nil
}

// checkReference accepts a tag or a digest.
func checkReference(ref string) error {
	if strings.Contains(ref, ":") {
		_, err := providers.ParseDigest(ref)
		return err
	}
	return CheckTag(ref)
}

// address is how people write ref in repo: "host/path:tag" or "host/path@digest".
func address(repo providers.Repository, ref string) string {
	if strings.Contains(ref, ":") {
		return repo.String() + "@" + ref
	}
	return repo.Tag(ref)
}

// below reports whether path is prefix or lies below it, by whole segments.
func below(path, prefix string) bool {
	return prefix == "" || path == prefix || strings.HasPrefix(path, prefix+"/")
}
