package config

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"freightliner/providers"
)

// declareRegistries makes every registry known by name. The blocks are read
// when they are first needed, since a host may depend on locals and the other
// way round.
func (l *loader) declareRegistries(blocks hcl.Blocks) {
	l.registries = map[string]*named{}
	for _, block := range blocks {
		name := block.Labels[0]
		if earlier := l.registries[name]; earlier != nil {
			l.found.errorAt(block.DefRange, fmt.Sprintf("second registry %q", name), fmt.Sprintf("The first is at %s.", rangeOf(earlier.at)), "")
			continue
		}
		if !l.goodName(block) {
			continue
		}
		s := l.scope(registryBlock, block, nil)
		l.registries[name] = &named{address: "registry." + name, at: block.DefRange, compute: func() (cty.Value, bool) {
			return l.registryHost(s)
		}}
		l.registryScopes = append(l.registryScopes, namedScope{name, s})
	}
}

type namedScope struct {
	name  string
	scope *scope
}

// registryHost is what registry.NAME gives to expressions. Only the host is
// read here, so that other arguments of the block may refer to other registries.
func (l *loader) registryHost(s *scope) (cty.Value, bool) {
	text, at, ok := s.text("host")
	if !ok {
		return cty.DynamicVal, false
	}
	if first, _, _ := strings.Cut(text, "/"); !looksLikeHost(first) {
		l.found.errorAt(at, "bad host", fmt.Sprintf("%q is no host: one has a dot or a port, or is localhost.", providers.Printable(first, 80)), "")
		return cty.DynamicVal, false
	}
	if _, err := parsePlace(text); err != nil {
		l.found.errorAt(at, "bad host", sentence(err.Error()), hintOf(err))
		return cty.DynamicVal, false
	}
	return cty.ObjectVal(map[string]cty.Value{"host": cty.StringVal(strings.TrimSuffix(text, "/"))}), true
}

func (l *loader) loadRegistries() {
	for _, name := range slices.Sorted(maps.Keys(l.registries)) {
		l.resolve(l.registries[name])
	}
	places := map[string]Registry{}
	for _, ns := range l.registryScopes {
		r, good := l.registry(ns.name, ns.scope)
		if !good {
			continue
		}
		key := providers.Repository{Host: r.Host, Path: r.Path}.String()
		if other, taken := places[key]; taken {
			l.found.errorAt(ns.scope.place("host"), fmt.Sprintf("two registry blocks for %s", key),
				fmt.Sprintf("registry.%s at %s has the same host and path, so it is open which settings apply.", other.Name, other.Range), "")
			continue
		}
		places[key] = r
		l.config.Registries = append(l.config.Registries, r)
	}
	slices.SortFunc(l.config.Registries, func(a, b Registry) int { return strings.Compare(a.Name, b.Name) })
}

func (l *loader) registry(name string, s *scope) (Registry, bool) {
	r := Registry{Name: name, Range: rangeOf(s.at)}
	r.PlainHTTP = s.boolean("plain_http", false)
	r.CreateRepositories = s.boolean("create_repositories", false)
	r.CAFile = s.path("ca_file")
	r.ClientCert = s.path("client_cert")
	r.ClientKey = s.path("client_key")
	if s.has("client_cert") != s.has("client_key") {
		l.found.errorAt(s.at, "client_cert and client_key go together", "A client certificate is used with its key.", "")
	}
	if n, ok := s.integer("concurrency", 1, 10_000); ok {
		r.Concurrency = int(n)
	}
	r.RequestsPerSecond, _ = s.positive("requests_per_second")
	r.MaxBandwidth = s.bandwidth("max_bandwidth")
	r.TokenHosts = s.hosts("token_hosts")
	r.UploadHosts = s.hosts("upload_hosts")
	if inner := s.inner("auth"); inner != nil {
		r.Auth = inner.auth()
	}
	host, ok := l.registries[name].value, l.registries[name].ok
	if !ok {
		s.oneOf("kind", Kinds, "")
		return r, false
	}
	place, err := parsePlace(host.GetAttr("host").AsString())
	if err != nil {
		return r, false // reported by registryHost
	}
	r.Host, r.Path = place.Host, place.Path
	r.Kind = s.oneOf("kind", Kinds, kindOf(r.Host))
	if inner := s.inner("repository_settings"); inner != nil {
		r.Created = inner.repositorySettings(r)
	}
	return r, true
}

// settable are the kinds that can create a repository with a setting.
var settable = map[string][]string{
	"scan_on_push":   {"ecr", "harbor"},
	"immutable_tags": {"ecr", "gar"},
	"kms_key":        {"ecr", "gar"},
	"labels":         {"ecr", "ecr-public", "gar"},
}

// repositorySettings reads what is created with. What the kind does not have is
// refused here, not at the first repository that is created.
func (s *scope) repositorySettings(r Registry) RepositorySettings {
	found := RepositorySettings{
		ScanOnPush: s.boolean("scan_on_push", false), ImmutableTags: s.boolean("immutable_tags", false), Labels: s.resourceLabels("labels", r.Kind),
	}
	if text, at, ok := s.text("kms_key"); ok {
		if found.KMSKey = text; text == "" || len(text) > 2048 {
			s.l.found.errorAt(at, "kms_key must name a key", "It is text of at most 2048 characters.", "")
		}
	}
	if !r.CreateRepositories {
		s.l.found.errorAt(s.at, "repository_settings without create_repositories", "They are for repositories that are created.", "add `create_repositories = true`")
	}
	for _, name := range slices.Sorted(maps.Keys(settable)) {
		if s.has(name) && !slices.Contains(settable[name], r.Kind) {
			s.l.found.errorAt(s.place(name), fmt.Sprintf("registries of the kind %s have no %s", r.Kind, name),
				fmt.Sprintf("It is for the kind %s.", strings.Join(settable[name], " or ")), "")
		}
	}
	return found
}

// resourceLabels reads labels and holds them to the rules of the cloud.
func (s *scope) resourceLabels(name, kind string) map[string]string {
	labels, at, rules := s.labels(name), s.place(name), awsLabels
	if kind == "gar" {
		rules = gcpLabels
	}
	if len(labels) > rules.most {
		s.l.found.errorAt(at, "too many labels", fmt.Sprintf("A repository has %d at most, these are %d.", rules.most, len(labels)), "")
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if !rules.name().MatchString(key) || strings.HasPrefix(strings.ToLower(key), "aws:") || !rules.value().MatchString(labels[key]) {
			s.l.found.errorAt(at, fmt.Sprintf("bad label %q", providers.Printable(key, 60)), rules.words, "")
		}
	}
	return labels
}

// labelRules are what a cloud takes as labels of a resource.
type labelRules struct {
	most        int
	name, value func() *regexp.Regexp
	words       string
}

var (
	// docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-using-tags.html, "Tag restrictions"
	awsLabels = labelRules{50, providers.Pattern(`^.{1,128}$`), providers.Pattern(`^.{0,256}$`),
		"A name has 1 to 128 characters and does not begin with aws:, a value has at most 256."}
	// docs.cloud.google.com/resource-manager/docs/labels-overview, "Requirements for labels"
	gcpLabels = labelRules{64, providers.Pattern(`^[a-z][a-z0-9_-]{0,62}$`), providers.Pattern(`^[a-z0-9_-]{0,63}$`),
		"A name begins with a letter and a name or value has at most 63 of a-z, 0-9, _ and -."}
)

func (s *scope) path(name string) string {
	text, at, ok := s.text(name)
	if ok && (text == "" || strings.ContainsRune(text, 0)) {
		s.l.found.errorAt(at, name+" is not a path", "It must name a file.", "")
	}
	return text
}

func (s *scope) hosts(name string) []string {
	list, at, _ := s.texts(name)
	var hosts []string
	for _, text := range list {
		host, err := parseHost(text)
		if err != nil {
			s.l.found.errorAt(at, "bad host in "+name, sentence(err.Error()), hintOf(err))
			continue
		}
		hosts = append(hosts, host)
	}
	return hosts
}

var sizeGrammar = providers.Pattern(`^([0-9]{1,15}(?:\.[0-9]{1,6})?) ?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?$`)

var byteUnits = map[string]float64{
	"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

// ParseSize reads a number of bytes, at least one, with or without a unit:
// "50000000", "50MB", "1.5 GiB".
func ParseSize(text string) (bytes int64, ok bool) {
	match := sizeGrammar().FindStringSubmatch(text)
	if match == nil {
		return 0, false
	}
	n, err := strconv.ParseFloat(match[1], 64)
	n *= byteUnits[match[2]]
	return int64(n), err == nil && n >= 1 && n < math.MaxInt64/2
}

// bandwidth reads bytes per second, as a number or with a unit.
func (s *scope) bandwidth(name string) int64 {
	text, at, ok := s.text(name)
	if !ok {
		return 0
	}
	if n, ok := ParseSize(strings.TrimSuffix(text, "/s")); ok {
		return n
	}
	s.l.found.errorAt(at, name+" is no bandwidth", `It must be bytes per second: a number like 50000000, or text like "50MB" or "50MiB".`, "")
	return 0
}

// helperGrammar keeps a helper's name to what can be a part of a program's
// name: docker-credential-NAME is looked up in PATH, and a slash would lead
// anywhere.
var helperGrammar = providers.Pattern(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}$`)

// auth reads an auth block: exactly one method.
func (s *scope) auth() *Auth {
	a := &Auth{}
	var methods []string
	if s.has("username") || s.has("password") {
		methods = append(methods, "username and password")
		a.Username, _ = s.secretText("username", false)
		if password, ok := s.secretText("password", true); ok {
			a.Password = func() string { return password }
		}
		if s.has("username") != s.has("password") {
			s.l.found.errorAt(s.at, "username and password go together", "", "a token without a user name is written as token")
		}
	}
	if s.has("token") {
		methods = append(methods, "token")
		if token, ok := s.secretText("token", true); ok {
			a.Token = func() string { return token }
		}
	}
	if s.has("credential_helper") {
		methods = append(methods, "credential_helper")
		text, at, ok := s.text("credential_helper")
		if ok && !helperGrammar().MatchString(text) {
			s.l.found.errorAt(at, "bad credential_helper", "It is the NAME of a program docker-credential-NAME: letters, digits, and _ . - inside.", "")
		}
		a.CredentialHelper = text
	}
	if s.has("secret") {
		methods = append(methods, "secret")
		a.StoreSecret = s.storeSecret()
	}
	if s.has("anonymous") {
		methods = append(methods, "anonymous")
		if a.Anonymous = s.boolean("anonymous", true); !a.Anonymous {
			s.l.found.errorAt(s.place("anonymous"), "anonymous can only be true", "", "remove the auth block to use the credential files and the cloud's own chain")
		}
	}
	if len(methods) != 1 {
		detail := "It has none."
		if len(methods) > 1 {
			detail = fmt.Sprintf("It has %s.", strings.Join(methods, "; "))
		}
		s.l.found.errorAt(s.at, "auth needs exactly one method", detail, "the methods are username with password, token, credential_helper, secret, anonymous")
	}
	return a
}

// secretText reads an argument that may be sensitive and, when it is never read
// back, ephemeral. It is the only place where marks are taken off a value that
// leaves the package, and the value leaves inside a Secret or as a user name.
func (s *scope) secretText(name string, ephemeral bool) (string, bool) {
	v, ok := s.evaluate(name)
	if !ok {
		return "", false
	}
	bare, marks := v.UnmarkDeep()
	at := s.place(name)
	if has(marks, ephemeralMark) && !ephemeral {
		s.l.open(v, at, name)
		return "", false
	}
	if !bare.IsWhollyKnown() {
		return "", false
	}
	text, err := convert.Convert(bare, cty.String)
	if err != nil || text.IsNull() || text.AsString() == "" {
		s.l.found.errorAt(at, name+" must be text that is not empty", "", "")
		return "", false
	}
	return text.AsString(), true
}

func (s *scope) storeSecret() *StoreSecret {
	v, at, ok := s.value("secret", cty.Map(cty.String), "an object { store, name, key } of text")
	if !ok {
		return nil
	}
	secret := &StoreSecret{}
	fields := map[string]*string{"store": &secret.Store, "name": &secret.Name, "key": &secret.Key}
	for it := v.ElementIterator(); it.Next(); {
		key, value := it.Element()
		field := fields[key.AsString()]
		if field == nil {
			s.l.found.errorAt(at, "unknown key "+providers.Printable(key.AsString(), 60)+" in secret", "", s.l.found.didYouMean(key.AsString(), "", []string{"store", "name", "key"}))
			continue
		}
		if !value.IsNull() {
			*field = value.AsString()
		}
	}
	if secret.Store == "" || secret.Name == "" {
		s.l.found.errorAt(at, "secret needs store and name", "", "")
	} else {
		s.l.knownStore(secret.Store, at)
	}
	return secret
}
