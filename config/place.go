package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/distribution/reference"

	"freightliner/providers"
)

// hubAliases are the names under which Docker Hub is known. Docker and all its
// peers treat them as one registry (distribution/reference, "splitDockerDomain",
// and go-containerregistry, "index.docker.io").
var hubAliases = map[string]string{
	"index.docker.io":         "docker.io",
	"registry-1.docker.io":    "docker.io",
	"registry.docker.io":      "docker.io",
	"registry.hub.docker.com": "docker.io",
}

// The grammar of names and tags is that of the OCI distribution-spec, "Pulling
// manifests": lower-case components with single separators, and tags of at most
// 128 characters.
var (
	componentGrammar = providers.Pattern(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*$`)
	tagGrammar       = providers.Pattern(`^[a-zA-Z0-9_][a-zA-Z0-9._-]*$`)
)

const maxTag = 128

// mistake is an error with a way out.
type mistake struct{ text, hint string }

func (m *mistake) Error() string { return m.text }

func mistakef(hint, format string, args ...any) error {
	return &mistake{text: fmt.Sprintf(format, args...), hint: hint}
}

// hintOf is the hint of a mistake; empty for other errors.
func hintOf(err error) string {
	var m *mistake
	if errors.As(err, &m) {
		return m.hint
	}
	return ""
}

// parseHost reads "host" or "host:port", IPv6 addresses in brackets. The result
// is lower case, with the aliases of Docker Hub resolved.
func parseHost(s string) (string, error) {
	if s == "" {
		return "", mistakef("", "the host is empty")
	}
	if strings.Contains(s, "://") {
		return "", mistakef("leave the scheme away; https is used, and plain_http = true in the registry block for http", "a host has no scheme")
	}
	if strings.Contains(s, "@") {
		return "", mistakef("credentials belong in the auth block of the registry", "a host has no user name")
	}
	host := strings.ToLower(s)
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		port, err := strconv.ParseUint(host[i+1:], 10, 16)
		if err != nil || port == 0 {
			return "", mistakef("", "the port %q is not a number from 1 to 65535", providers.Printable(host[i+1:], 40))
		}
	}
	if len(host) > 255 {
		return "", mistakef("", "a host has at most 255 characters, this has %d", len(host))
	}
	if _, err := reference.WithName(host + "/x"); err != nil {
		if strings.Count(host, ":") > 1 && !strings.HasPrefix(host, "[") {
			return "", mistakef("write an IPv6 address in brackets, like [::1]:5000", "%q is not host or host:port", providers.Printable(s, 80))
		}
		return "", mistakef("", "%q is not host or host:port", providers.Printable(s, 80))
	}
	if hub, ok := hubAliases[host]; ok {
		return hub, nil
	}
	return host, nil
}

// looksLikeHost tells the host of a reference from the first part of a path, by
// Docker's rule.
func looksLikeHost(s string) bool {
	return strings.ContainsAny(s, ".:") || s == "localhost" || strings.HasPrefix(s, "[")
}

// parsePath checks a repository name; which rule is broken is said.
func parsePath(s string) error {
	if len(s) > 255 {
		return mistakef("", "a repository name has at most 255 characters, this has %d", len(s))
	}
	for part := range strings.SplitSeq(s, "/") {
		switch {
		case part == "":
			return mistakef("", "a repository name has no empty part: %q", providers.Printable(s, 120))
		case part != strings.ToLower(part):
			return mistakef(fmt.Sprintf("did you mean `%s`?", strings.ToLower(s)), "a repository name is lower case: %q", providers.Printable(s, 120))
		case !componentGrammar().MatchString(part):
			return mistakef("", "a part of a repository name is letters a-z and digits, joined by one of . _ __ or dashes: %q", providers.Printable(part, 120))
		}
	}
	return nil
}

// parsePlace reads "host[:port][/path]", the ends of a tree and the host of a
// registry block.
func parsePlace(s string) (providers.Repository, error) {
	if strings.Contains(s, "://") {
		return providers.Repository{}, mistakef("leave the scheme away", "%q has a scheme", providers.Printable(s, 120))
	}
	first, path, slash := strings.Cut(s, "/")
	if !looksLikeHost(first) {
		return providers.Repository{}, noHost(s)
	}
	host, err := parseHost(first)
	if err != nil {
		return providers.Repository{}, err
	}
	path = strings.TrimSuffix(path, "/")
	if !slash || path == "" {
		return providers.Repository{Host: host}, nil
	}
	last := path[strings.LastIndexByte(path, '/')+1:]
	if strings.ContainsAny(last, ":@") {
		return providers.Repository{}, mistakef("use an image block for one tag, or tags { include = [\"…\"] }", "%q names a tag or digest, but this is a prefix of repositories", providers.Printable(s, 120))
	}
	if err := parsePath(path); err != nil {
		return providers.Repository{}, err
	}
	return providers.Repository{Host: host, Path: path}, nil
}

func noHost(s string) error {
	hint := ""
	if name := strings.ToLower(s); name != "" && len(name) < 100 && componentGrammar().MatchString(strings.SplitN(name, ":", 2)[0]) {
		hint = fmt.Sprintf("did you mean `docker.io/library/%s`?", name)
	} else if name != "" && len(name) < 100 && !strings.ContainsAny(name, "@ ") {
		hint = fmt.Sprintf("did you mean `docker.io/%s`?", name)
	}
	return mistakef(hint, "%q names no host", providers.Printable(s, 120))
}

// parseImage reads "host/path:tag", "host/path@digest" or both.
func parseImage(s string) (r providers.Repository, tag string, digest providers.Digest, err error) {
	name, sum, pinned := strings.Cut(s, "@")
	if pinned {
		if digest, err = providers.ParseDigest(sum); err != nil {
			return r, "", "", err
		}
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') && strings.Contains(name, "/") {
		tag = name[i+1:]
		name = name[:i]
		if err := parseTag(tag); err != nil {
			return r, "", "", err
		}
	}
	first, _, _ := strings.Cut(name, "/")
	if !looksLikeHost(first) || !strings.Contains(name, "/") && !strings.HasPrefix(first, "[") && !hasHostDot(first) {
		return r, "", "", noHost(s)
	}
	if r, err = parsePlace(name); err != nil {
		return r, "", "", err
	}
	if r.Path == "" {
		return r, "", "", mistakef("", "%q names a host but no repository", providers.Printable(s, 120))
	}
	if r.Host == "docker.io" && !strings.Contains(r.Path, "/") {
		r.Path = "library/" + r.Path
	}
	return r, tag, digest, nil
}

// hasHostDot tells "ghcr.io" from "nginx:1.27", which has its dot behind the colon.
func hasHostDot(s string) bool {
	name, _, _ := strings.Cut(s, ":")
	return strings.Contains(name, ".") || name == "localhost"
}

func parseTag(tag string) error {
	switch {
	case tag == "":
		return mistakef("", "the tag is empty")
	case len(tag) > maxTag:
		return mistakef("", "a tag has at most %d characters, this has %d", maxTag, len(tag))
	case !tagGrammar().MatchString(tag):
		return mistakef("", "a tag is letters, digits, and _ . - (the last two not at the start): %q", providers.Printable(tag, 140))
	}
	return nil
}

// kindRules tell the kind of a registry from its host. A rule matches a whole
// host, or, with a leading dot, every host below that domain.
var kindRules = []struct{ host, kind string }{
	{"public.ecr.aws", "ecr-public"},
	{".pkg.dev", "gar"},
	{"gcr.io", "gar"},
	{".gcr.io", "gar"},
	{".azurecr.io", "acr"},
	{"ghcr.io", "ghcr"},
	{"docker.io", "dockerhub"},
	{"quay.io", "quay"},
	{"registry.gitlab.com", "gitlab"},
	{".jfrog.io", "artifactory"},
}

// ecrHost is a private ECR registry: account.dkr.ecr.region.amazonaws.com, also
// the FIPS endpoints and the partition in China.
var ecrHost = providers.Pattern(`^[0-9]{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?$`)

// kindOf infers the kind of registry from host[:port]. The cloud's credentials
// are offered by kind, so the match is exact on the parsed host: neither
// "ghcr.io.example.com" nor "evil-ghcr.io" is GitHub.
func kindOf(host string) string {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		if host[i+1:] != "443" {
			return "generic"
		}
		host = host[:i]
	}
	if ecrHost().MatchString(host) {
		return "ecr"
	}
	for _, rule := range kindRules {
		if host == rule.host || rule.host[0] == '.' && strings.HasSuffix(host, rule.host) {
			return rule.kind
		}
	}
	return "generic"
}
