package providers

import (
	"cmp"
	"fmt"
	"strings"
)

// Repository is one repository on one registry host.
type Repository struct {
	Host string // host[:port], lower case, as the user names it ("docker.io", not its API host)
	Path string // the name, as in the distribution-spec's <name>: "library/nginx"
}

// String is "host/path".
func (r Repository) String() string {
	if r.Path == "" {
		return r.Host
	}
	return r.Host + "/" + r.Path
}

// Tag is "host/path:tag".
func (r Repository) Tag(tag string) string { return r.String() + ":" + tag }

// At is "host/path@digest".
func (r Repository) At(d Digest) string { return r.String() + "@" + string(d) }

// Under reports whether r is base or lies below it, by whole path segments:
// "team" does not contain "team-b".
func (r Repository) Under(base Repository) bool {
	return r.Host == base.Host &&
		(base.Path == "" || r.Path == base.Path || strings.HasPrefix(r.Path, base.Path+"/"))
}

// Join is the repository at the relative path rel below r; an empty rel is r.
func (r Repository) Join(rel string) Repository {
	switch {
	case rel == "":
		return r
	case r.Path == "":
		return Repository{Host: r.Host, Path: rel}
	}
	return Repository{Host: r.Host, Path: r.Path + "/" + rel}
}

// Rel is the path of r relative to base; r must be [Repository.Under] base.
func (r Repository) Rel(base Repository) string {
	return strings.TrimPrefix(strings.TrimPrefix(r.Path, base.Path), "/")
}

// Descriptor points at content (OCI image-spec, descriptor.md).
type Descriptor struct {
	MediaType    string
	Digest       Digest
	Size         int64 // bytes, 0 to 1 TiB
	ArtifactType string
	Platform     *Platform // nil when the descriptor has none
	Annotations  map[string]string
}

// Platform says where an image runs, in the words of the OCI image-index.
// Variant and OSVersion are empty when not given.
type Platform struct {
	OS           string
	Architecture string
	Variant      string
	OSVersion    string
}

// ParsePlatform reads "os/arch[/variant]", as in "linux/arm64" or
// "linux/arm/v7".
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return Platform{}, fmt.Errorf("platform %q: want os/arch or os/arch/variant", s)
	}
	for _, part := range parts {
		if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789_-.") != "" {
			return Platform{}, fmt.Errorf("platform %q: want lower-case os/arch or os/arch/variant, like linux/amd64", s)
		}
	}
	p := Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// String is "os/arch[/variant]".
func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// Matches reports whether an image built for p satisfies the selection want.
// Names are compared as containerd normalises them (containerd/platforms,
// database.go): arm64 is arm64/v8, arm is arm/v7, amd64 is amd64/v1, x86_64 is
// amd64. A selection without a variant takes every variant, and every OSVersion:
// which of them a machine will want is not for a mirror to guess.
func (p Platform) Matches(want Platform) bool {
	p, want = p.normal(), want.normal()
	if p.OS != want.OS || p.Architecture != want.Architecture {
		return false
	}
	return want.Variant == "" || cmp.Or(p.Variant, usual[p.Architecture]) == cmp.Or(want.Variant, usual[p.Architecture])
}

// usual are the variants that go without saying.
var usual = map[string]string{"amd64": "v1", "arm64": "v8", "arm": "v7"}

// normal is p in one spelling.
func (p Platform) normal() Platform {
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "i386":
		p.Architecture, p.Variant = "386", ""
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	if usual[p.Architecture] != "" && p.Variant != "" && p.Variant[0] != 'v' {
		p.Variant = "v" + p.Variant
	}
	return p
}
