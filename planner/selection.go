package planner

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/bmatcuk/doublestar/v4"

	"freightliner/config"
	"freightliner/providers"
)

// selectsRepository reports whether the repository at the path rel below the
// source prefix belongs to the tree.
func selectsRepository(f config.RepositoryFilter, rel string) bool {
	if len(f.Include) > 0 && !matchesGlob(f.Include, rel) {
		return false
	}
	return !matchesGlob(f.Exclude, rel)
}

// matchesGlob relies on config having checked the globs: an unreadable one
// matches nothing.
func matchesGlob(globs []string, name string) bool {
	for _, glob := range globs {
		if ok, _ := doublestar.Match(glob, name); ok {
			return true
		}
	}
	return false
}

// tagSelector is a TagFilter made ready for use.
type tagSelector struct {
	filter config.TagFilter
	match  *regexp.Regexp
	semver *semver.Constraints
}

func newTagSelector(f config.TagFilter) (tagSelector, error) {
	s := tagSelector{filter: f}
	var err error
	if f.Match != "" {
		if s.match, err = regexp.Compile(f.Match); err != nil {
			return s, fmt.Errorf("match: %w", err)
		}
	}
	if f.Semver != "" {
		if s.semver, err = semver.NewConstraint(f.Semver); err != nil {
			return s, fmt.Errorf("semver: %w", err)
		}
	}
	return s, nil
}

// referrerTag matches tags that carry referrers rather than images: the
// distribution-spec's fallback tag (sha256-<hex>) and cosign's
// (sha256-<hex>.sig, .att, .sbom), of longer digests the first 64 digits. They
// follow their subjects and are never selected as tags of their own.
var referrerTag = providers.Pattern(`^sha(256|512)-[0-9a-f]{64}(\.[A-Za-z0-9._-]*)?$`)

// pick returns the tags that are selected, sorted.
func (s tagSelector) pick(tags []string) []string {
	var picked []string
	for _, tag := range tags {
		if !referrerTag().MatchString(tag) && s.keeps(tag) {
			picked = append(picked, tag)
		}
	}
	if s.filter.Newest > 0 {
		picked = newest(picked, s.filter.Newest)
	}
	slices.Sort(picked)
	return slices.Compact(picked)
}

func (s tagSelector) keeps(tag string) bool {
	switch {
	case len(s.filter.Include) > 0 && !matchesGlob(s.filter.Include, tag):
		return false
	case matchesGlob(s.filter.Exclude, tag):
		return false
	case s.match != nil && !s.match.MatchString(tag):
		return false
	case s.semver == nil:
		return true
	}
	version, err := semver.NewVersion(tag)
	return err == nil && s.semver.Check(version)
}

// newest keeps the n highest versions. Tags that are no version are never
// among them; equal versions ("1.2" and "1.2.0") are told apart by their text,
// so that the choice does not depend on the order of a listing.
func newest(tags []string, n int) []string {
	type versioned struct {
		tag     string
		version *semver.Version
	}
	var all []versioned
	for _, tag := range tags {
		if version, err := semver.NewVersion(tag); err == nil {
			all = append(all, versioned{tag, version})
		}
	}
	slices.SortFunc(all, func(a, b versioned) int {
		if c := b.version.Compare(a.version); c != 0 {
			return c
		}
		return strings.Compare(b.tag, a.tag)
	})
	kept := make([]string, 0, min(n, len(all)))
	for _, v := range all[:min(n, len(all))] {
		kept = append(kept, v.tag)
	}
	return kept
}

// selection is the fingerprint of what a tree selects. When it is what the
// state remembers, a tag that was not there before is news from the source;
// otherwise it is our own doing.
func selection(t config.Tree) string {
	b, err := json.Marshal(struct {
		Source       string
		Repositories config.RepositoryFilter
		Tags         config.TagFilter
		Platforms    string
	}{t.Source.String(), t.Repositories, t.Tags, platforms(t.Copy)})
	if err != nil {
		panic(err) // strings and numbers only: cannot fail
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// platforms is the platform selection as the state records it; empty for all.
func platforms(c config.CopyOptions) string {
	names := make([]string, len(c.Platforms))
	for i, p := range c.Platforms {
		names[i] = p.String()
	}
	return strings.Join(names, ",")
}

// fingerprint names a set of referrers by content, whatever their order.
func fingerprint(referrers []Referrer) providers.Digest {
	if len(referrers) == 0 {
		return ""
	}
	lines := make([]string, len(referrers))
	for i, r := range referrers {
		lines[i] = string(r.Digest) + " " + string(r.Subject) + " " + r.Tag
	}
	slices.Sort(lines)
	return providers.SHA256([]byte(strings.Join(slices.Compact(lines), "\n")))
}
