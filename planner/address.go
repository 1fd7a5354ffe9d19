package planner

import (
	"regexp"
	"slices"
	"strings"

	"freightliner/providers"
	"freightliner/statefile"
)

// Addresses (see statefile.Record) are built here and nowhere else.

func repoAddress(block, rel string) string                    { return block + "/" + rel }
func tagAddress(block, rel, tag string) string                { return block + "/" + rel + ":" + tag }
func subjectAddress(parent string, d providers.Digest) string { return parent + "@" + string(d) }

// BlockOf is the address of the block that address belongs to:
// `tree.p["eu"]` for `tree.p["eu"]/api:1`.
func BlockOf(address string) string {
	end := strings.IndexByte(address, '.') + 1
	for end < len(address) && !strings.ContainsRune(`[/:@`, rune(address[end])) {
		end++
	}
	if !strings.HasPrefix(address[end:], `["`) {
		return address[:end]
	}
	for i := end + 2; i < len(address); i++ {
		switch address[i] {
		case '\\':
			i++
		case '"':
			if i+1 < len(address) && address[i+1] == ']' {
				return address[:i+2]
			}
		}
	}
	return address[:end]
}

// splitTag takes the path below the block and the tag out of a tag's address.
// A tag has no slash and no colon, so the last colon is the one.
func splitTag(block, address string) (rel, tag string) {
	rest := strings.TrimPrefix(address[len(block):], "/")
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return rest, ""
	}
	return rest[:i], rest[i+1:]
}

// filter decides by -target and -exclude which addresses take part.
type filter struct {
	targets, exclude []*regexp.Regexp
	blocks           []*regexp.Regexp // what the targets say of blocks
	repositories     []*regexp.Regexp // what they say of repositories
	pulled           map[string]bool  // blocks that a target needs: they take part as a whole
}

// Wants says which addresses -target and -exclude leave: globs over addresses, a
// glob that names a block, a path or a repository covers all below it. No target
// means everything.
func Wants(targets, exclude []string) func(address string) bool {
	return newFilter(targets, exclude).wants
}

func newFilter(targets, exclude []string) filter {
	f := filter{targets: compileGlobs(targets), exclude: compileGlobs(exclude)}
	for _, target := range targets {
		f.blocks = append(f.blocks, compileGlob(firstSegment(target)))
		f.repositories = append(f.repositories, compileGlob(withoutTag(target)))
	}
	return f
}

// pull adds the blocks that targeted blocks read from or depend on, as -target
// does in Terraform: what is applied is never ahead of what it stands on.
func (f filter) pull(units []unit) filter {
	f.pulled = map[string]bool{}
	if len(f.targets) == 0 {
		return f
	}
	for i := len(units) - 1; i >= 0; i-- { // what a block needs comes before it
		if !f.touches(units[i].address) {
			continue
		}
		for _, need := range slices.Concat(units[i].feeders, units[i].after) {
			f.pulled[units[need].address] = true
		}
	}
	return f
}

// touches reports whether anything of the block may take part.
func (f filter) touches(block string) bool {
	switch {
	case matchAny(f.exclude, block):
		return false
	case len(f.targets) == 0 || f.pulled[block]:
		return true
	}
	return matchAny(f.blocks, block)
}

// touchesRepository is touches for one repository of a tree.
func (f filter) touchesRepository(address string) bool {
	switch {
	case matchAny(f.exclude, address):
		return false
	case f.wants(address):
		return true
	}
	return matchAny(f.repositories, address)
}

// firstSegment is the part of an address glob that speaks of the block.
func firstSegment(glob string) string {
	if block := BlockOf(glob); block != "" {
		return block
	}
	return glob
}

// withoutTag is the part of an address glob that speaks of the repository. A
// glob that crosses segments may match anything that begins like it.
func withoutTag(glob string) string {
	if i := strings.Index(glob, "**"); i >= 0 {
		return glob[:i] + "**"
	}
	if i := strings.LastIndexAny(glob, ":@"); i > strings.LastIndexByte(glob, '/') {
		return glob[:i]
	}
	return glob
}

func compileGlobs(globs []string) []*regexp.Regexp {
	out := make([]*regexp.Regexp, len(globs))
	for i, glob := range globs {
		out[i] = compileGlob(glob)
	}
	return out
}

// compileGlob reads an address glob: * stays within a path segment, ** crosses
// segments, ? is one character; everything else, brackets included, is itself.
// A glob that names a block, a path or a repository covers all below it, as a
// module address does in Terraform.
func compileGlob(glob string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`^`)
	for i := 0; i < len(glob); i++ {
		switch {
		case strings.HasPrefix(glob[i:], "**"):
			b.WriteString(`.*`)
			i++
		case glob[i] == '*':
			b.WriteString(`[^/]*`)
		case glob[i] == '?':
			b.WriteString(`[^/]`)
		default:
			b.WriteString(regexp.QuoteMeta(glob[i : i+1]))
		}
	}
	b.WriteString(`($|[\[/:@])`)
	return regexp.MustCompile(b.String())
}

// wants reports whether the thing at address takes part.
func (f filter) wants(address string) bool {
	if len(f.targets) > 0 && !matchAny(f.targets, address) && !(len(f.pulled) > 0 && f.pulled[BlockOf(address)]) {
		return false
	}
	return !matchAny(f.exclude, address)
}

// all reports whether nothing is left out at all.
func (f filter) all() bool { return len(f.targets) == 0 && len(f.exclude) == 0 }

func matchAny(globs []*regexp.Regexp, address string) bool {
	for _, glob := range globs {
		if glob.MatchString(address) {
			return true
		}
	}
	return false
}

// repositoryOf reads "host/path" as the state records it.
func repositoryOf(s string) providers.Repository {
	host, path, _ := strings.Cut(s, "/")
	return providers.Repository{Host: host, Path: path}
}

// splitReference reads "host/path:tag" as the state records it.
func splitReference(s string) (providers.Repository, string) {
	i := strings.LastIndexByte(s, ':')
	if i < strings.LastIndexByte(s, '/') {
		return repositoryOf(s), ""
	}
	return repositoryOf(s[:i]), s[i+1:]
}

// Place is where the state says that a tag is: r is the tag's record, block
// that of the block it belongs to. The tag is empty where r is about no tag.
func Place(block, r statefile.Record) (repo providers.Repository, tag string) {
	switch r.Kind {
	case statefile.KindTag:
		rel, tag := splitTag(BlockOf(r.Address), r.Address)
		return repositoryOf(block.Destination).Join(rel), tag
	case statefile.KindImage:
		return splitReference(r.Destination)
	}
	return providers.Repository{}, ""
}
