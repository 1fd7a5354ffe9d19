package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"freightliner/providers"
)

// storeArguments says which arguments of a secret_store belong to which kind;
// those that are not here belong to all.
var storeArguments = map[string][]string{
	"region": {"aws"}, "profile": {"aws"}, "role_arn": {"aws"}, "project": {"gcp"}, "location": {"gcp"},
	"endpoint": {"aws", "gcp"}, "kms_key": {"aws", "gcp"}, "path": {"file"}, "recipients": {"file"}, "identity_file": {"file"},
}

// declareStores makes every secret store known by name. secret_store.NAME is
// its name, so that a reference to a store that does not exist is found here.
func (l *loader) declareStores(blocks hcl.Blocks) {
	l.stores = map[string]*namedStore{}
	for _, block := range blocks {
		name := block.Labels[0]
		if earlier := l.stores[name]; earlier != nil {
			l.found.errorAt(block.DefRange, fmt.Sprintf("second secret_store %q", name), fmt.Sprintf("The first is at %s.", rangeOf(earlier.scope.at)), "")
			continue
		}
		if l.goodName(block) {
			l.stores[name] = &namedStore{scope: l.scope(storeBlock, block, nil)}
		}
	}
}

type namedStore struct {
	scope *scope
	kind  string
}

func (l *loader) loadStores() {
	places := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(l.stores)) {
		s := l.stores[name].scope
		store := l.store(name, s)
		l.stores[name].kind = store.Kind
		l.config.Stores = append(l.config.Stores, store)
		place := strings.Join([]string{store.Kind, store.Region, store.Project, store.Location, store.Endpoint, store.Path, store.Profile, store.RoleARN}, "\x00")
		if other, taken := places[place]; taken {
			l.found.errorAt(s.at, "two secret_store blocks for one store", fmt.Sprintf("secret_store.%s at %s leads to the same place.", other, rangeOf(l.stores[other].scope.at)), "")
			continue
		}
		places[place] = name
	}
}

func (l *loader) store(name string, s *scope) SecretStore {
	r := SecretStore{Name: name, Range: rangeOf(s.at)}
	r.Kind = s.oneOf("kind", StoreKinds, "file")
	for argument, kinds := range storeArguments {
		if s.has(argument) && !slices.Contains(kinds, r.Kind) {
			l.found.errorAt(s.place(argument), fmt.Sprintf("%s does not go with kind %q", argument, r.Kind), fmt.Sprintf("It belongs to kind %s.", strings.Join(kinds, " and ")), "")
		}
	}
	for argument, to := range map[string]*string{
		"region": &r.Region, "profile": &r.Profile, "role_arn": &r.RoleARN, "kms_key": &r.KMSKey, "project": &r.Project,
		"location": &r.Location, "endpoint": &r.Endpoint, "path": &r.Path, "identity_file": &r.IdentityFile,
	} {
		text, at, ok := s.text(argument)
		if ok && (text == "" || providers.Printable(text, 1000) != text) {
			l.found.errorAt(at, argument+" is not usable", "It must be text that is not empty and can be seen.", "")
			continue
		}
		*to = text
	}
	r.Recipients, _, _ = s.texts("recipients")
	r.Verify = s.oneOf("verify", verifyModes, "live")
	if key, ok := s.secretText("fingerprint_key", true); ok {
		r.FingerprintKey = func() string { return key }
	}
	switch {
	case r.Kind == "aws" && !s.has("region"):
		l.found.errorAt(s.at, "missing argument region", "A store of kind aws is one region; the plan must not depend on the machine's settings.", "")
	case r.Kind == "gcp" && !s.has("project"):
		l.found.errorAt(s.at, "missing argument project", "A store of kind gcp is one project; the plan must not depend on the machine's settings.", "")
	case r.Kind == "file" && r.Path == "":
		r.Path = DefaultSecrets
	}
	return r
}

// storeName reads an argument that names a store.
func (s *scope) storeName(name string) (string, bool) {
	text, at, ok := s.text(name)
	if !ok {
		return "", false
	}
	return text, s.l.knownStore(text, at)
}

func (l *loader) knownStore(name string, at hcl.Range) bool {
	if l.stores[name] != nil {
		return true
	}
	if !l.incomplete {
		l.found.errorAt(at, "unknown secret store "+providers.Printable(name, 80), "It is the name of a secret_store block, written as secret_store.NAME.",
			l.found.didYouMean(name, "secret_store.", l.known("secret_store")))
	}
	return false
}

// secret reads one secret or one instance of it.
func (l *loader) secret(address string, s *scope, depends []string) {
	r := SecretBlock{Address: address, DependsOn: depends, Range: rangeOf(s.at)}
	r.Store, _ = s.storeName("store")
	r.Name = s.visible("name", 512)
	r.Manage = s.oneOf("manage", manageModes, "value")
	r.Version = s.visible("version", 200)
	r.Adopt = s.boolean("adopt", false)
	if text, _, ok := s.text("description"); ok {
		r.Description = &text
	}
	r.Labels = s.labels("labels")
	if key := s.visible("kms_key", 2048); key != "" {
		r.KMSKey = &key
	}
	r.Replicas = s.replicas()
	if n, ok := s.integer("recovery_window_days", 1, 3650); ok {
		r.RecoveryDays = int(n)
		if store := l.stores[r.Store]; store != nil && store.kind == "aws" && (n < 7 || n > 30) {
			l.found.errorAt(s.place("recovery_window_days"), "recovery_window_days out of range", "AWS Secrets Manager keeps a deleted secret for 7 to 30 days.", "")
		}
	}
	s.source(&r)
	r.Lifecycle = s.secretLifecycle()
	l.config.Secrets = append(l.config.Secrets, r)
}

// secretLifecycle is as for trees, but protected unless the configuration says
// otherwise: what a secret had is lost for good when its store has no undo.
func (s *scope) secretLifecycle() Lifecycle {
	c := s.lifecycle()
	if inner := s.inner("lifecycle"); inner == nil || !inner.has("prevent_destroy") {
		c.PreventDestroy = true
	}
	if inner := s.inner("lifecycle"); inner != nil && c.OnRemove == "delete" && c.PreventDestroy {
		s.l.found.errorAt(inner.place("on_remove"), "on_remove = \"delete\" on a protected secret", "A secret is protected unless its lifecycle block says prevent_destroy = false, so it would never be deleted.", "add prevent_destroy = false")
	}
	return c
}

// source reads where the value comes from: exactly one of four ways.
func (s *scope) source(r *SecretBlock) {
	var ways []string
	for _, name := range []string{"value", "json"} {
		if s.has(name) {
			ways = append(ways, name)
			s.l.found.hidden = append(s.l.found.hidden, s.place(name))
			s.warnLiteral(name)
		}
	}
	if s.has("value") {
		if text, ok := s.payload("value"); ok {
			r.Value = func() string { return text }
		}
	}
	if s.has("json") {
		if text, hidden, ok := s.jsonPayload(); ok {
			r.JSON = func() string { return text }
			r.JSONHidden = func() []string { return hidden }
		}
	}
	if inner := s.inner("generate"); inner != nil {
		ways = append(ways, "generate")
		r.Generate = inner.generate()
	}
	if inner := s.inner("copy"); inner != nil {
		ways = append(ways, "copy")
		r.Copy = inner.copySource(r)
	}
	hint := "the ways are value, json, generate { … } and copy { … }"
	switch {
	case r.Manage == "metadata" && len(ways) > 0:
		s.l.found.errorAt(s.at, "manage = \"metadata\" takes no value", fmt.Sprintf("It has %s.", strings.Join(ways, " and ")), "")
	case r.Manage != "metadata" && len(ways) != 1:
		detail := "It has none."
		if len(ways) > 1 {
			detail = fmt.Sprintf("It has %s.", strings.Join(ways, " and "))
		}
		s.l.found.errorAt(s.at, "a secret needs exactly one source of its value", detail, hint)
	case r.Manage == "keys" && ways[0] != "json":
		s.l.found.errorAt(s.at, "manage = \"keys\" goes with json", "Only a JSON object has keys.", "")
	}
}

// warnLiteral warns of a value that is written out: it is in git for ever.
func (s *scope) warnLiteral(name string) {
	attr := s.content.Attributes[name]
	if attr == nil || len(attr.Expr.Variables()) > 0 {
		return
	}
	s.l.found.warningAt(s.place(name), "the value of a secret is written in the configuration", "Whoever can read the configuration can read it, for ever if it is in git.", "pass it in as an ephemeral variable, or let it be generated")
}

// payload reads text that may be sensitive and ephemeral, and may be empty.
func (s *scope) payload(name string) (string, bool) {
	v, ok := s.evaluate(name)
	if !ok {
		return "", false
	}
	bare, _ := v.UnmarkDeep()
	if !bare.IsWhollyKnown() {
		return "", false
	}
	text, err := convert.Convert(bare, cty.String)
	if err != nil || text.IsNull() {
		s.l.found.errorAt(s.place(name), name+" must be text", "", "for an object, write json = { … }")
		return "", false
	}
	return text.AsString(), true
}

// jsonPayload is the canonical JSON of the object in json: sorted keys, no
// white space (encoding of cty), so that equal values give equal bytes. hidden
// are its texts and numbers that come from sensitive or ephemeral values: the
// others, such as a user's name, stand in the configuration for all to see.
func (s *scope) jsonPayload() (payload string, hidden []string, ok bool) {
	v, ok := s.evaluate("json")
	if !ok {
		return "", nil, false
	}
	bare, marked := v.UnmarkDeepWithPaths()
	if !bare.IsWhollyKnown() {
		return "", nil, false
	}
	if ty := bare.Type(); bare.IsNull() || !ty.IsObjectType() && !ty.IsMapType() {
		s.l.found.errorAt(s.place("json"), "json must be an object", "", "write something like json = { user = \"app\", password = var.password }")
		return "", nil, false
	}
	var text []byte
	var err error
	reason := s.l.meter.guarded(func() {
		s.l.meter.refuseHugeNumbers(bare)
		text, err = ctyjson.Marshal(bare, bare.Type())
	})
	if reason != "" {
		s.l.exhausted(s.place("json"), reason)
		return "", nil, false
	}
	if err != nil { // the text may quote the value
		s.l.found.errorAt(s.place("json"), "json can not be written as JSON", "", "")
		return "", nil, false
	}
	for _, m := range marked {
		if part, err := m.Path.Apply(bare); err == nil {
			hidden = appendTexts(hidden, part)
		}
	}
	return plainJSON(text), hidden, true
}

// appendTexts adds the texts and numbers in v, at any depth.
func appendTexts(texts []string, v cty.Value) []string {
	_ = cty.Walk(v, func(_ cty.Path, part cty.Value) (bool, error) {
		if ty := part.Type(); !part.IsNull() && (ty == cty.String || ty == cty.Number) {
			if text, err := convert.Convert(part, cty.String); err == nil {
				texts = append(texts, text.AsString())
			}
		}
		return true, nil
	})
	return texts
}

// plainJSON writes JSON without the escapes for HTML that cty writes.
func plainJSON(text []byte) string {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if d.Decode(&v) != nil || e.Encode(v) != nil {
		return string(text) // it is JSON all the same
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (s *scope) generate() *Generate {
	g := &Generate{Length: 32, Charset: "lower+upper+digits"}
	if n, ok := s.integer("length", 8, 4096); ok {
		g.Length = int(n)
	}
	if text, at, ok := s.text("charset"); ok {
		if err := checkCharset(text); err != nil {
			s.l.found.errorAt(at, "bad charset", sentence(err.Error()), "write something like \"lower+upper+digits+symbols\", \"hex\" or \"base64url\"")
		}
		g.Charset = text
	}
	g.RotateAfter = s.span("rotate_after", time.Hour)
	return g
}

// charsets are the names of character classes; those of the second list stand
// alone.
var (
	charsets      = []string{"lower", "upper", "digits", "symbols"}
	fixedCharsets = []string{"hex", "base64url"}
)

func checkCharset(text string) error {
	if slices.Contains(fixedCharsets, text) {
		return nil
	}
	names := strings.Split(text, "+")
	for i, name := range names {
		switch {
		case slices.Contains(fixedCharsets, name):
			return fmt.Errorf("%s stands alone", name)
		case !slices.Contains(charsets, name):
			return fmt.Errorf("there is no class %q", providers.Printable(name, 40))
		case slices.Contains(names[:i], name):
			return fmt.Errorf("%s is named twice", name)
		}
	}
	return nil
}

func (s *scope) copySource(r *SecretBlock) *CopySecret {
	c := &CopySecret{}
	c.Store, _ = s.storeName("store")
	c.Name = s.visible("name", 512)
	c.Version = s.visible("version", 200)
	if c.Store == r.Store && c.Name == r.Name && c.Name != "" {
		s.l.found.errorAt(s.at, "a secret is copied onto itself", "", "")
	}
	return c
}

// visible reads text that ends in plans and state: not empty, of bounded
// length, without characters that can not be seen. Empty where it is absent.
func (s *scope) visible(name string, limit int) string {
	text, at, ok := s.text(name)
	if ok && (text == "" || len(text) > limit || providers.Printable(text, 4*limit) != text) {
		s.l.found.errorAt(at, name+" is not usable", fmt.Sprintf("It must be text of 1 to %d characters that can be seen.", limit), "")
		return ""
	}
	return text
}

var spanGrammar = providers.Pattern(`^([0-9]{1,6})(d|h)$`)

// span reads days or hours.
func (s *scope) span(name string, least time.Duration) time.Duration {
	text, at, ok := s.text(name)
	if !ok {
		return 0
	}
	match := spanGrammar().FindStringSubmatch(text)
	if match != nil {
		n, _ := strconv.Atoi(match[1])
		unit := time.Hour
		if match[2] == "d" {
			unit = 24 * time.Hour
		}
		if d := time.Duration(n) * unit; d >= least && n < 100_000 {
			return d
		}
	}
	s.l.found.errorAt(at, name+" is no span of time", `It must be days like "90d" or hours like "36h".`, "")
	return 0
}

// labels reads a map of text; nil where it is absent, empty where it is {}.
func (s *scope) labels(name string) map[string]string {
	v, at, ok := s.value(name, cty.Map(cty.String), "a map of text")
	if !ok {
		return nil
	}
	out := map[string]string{}
	for it := v.ElementIterator(); it.Next(); {
		key, value := it.Element()
		if value.IsNull() {
			s.l.found.errorAt(at, name+" must be a map of text", "One of its values is null.", "")
			return nil
		}
		out[key.AsString()] = value.AsString()
	}
	return out
}

// replicas reads regions, as a list or as a map to their KMS keys.
func (s *scope) replicas() []Replica {
	if !s.has("replicas") {
		return nil
	}
	v, ok := s.evaluate("replicas")
	at := s.place("replicas")
	if !ok || !s.l.open(v, at, "replicas") || v.IsNull() {
		return nil
	}
	out := []Replica{}
	if ty := v.Type(); ty.IsObjectType() || ty.IsMapType() {
		for region, key := range s.labels("replicas") {
			out = append(out, Replica{Region: region, KMSKey: key})
		}
	} else {
		list, _, _ := s.texts("replicas")
		for _, region := range list {
			out = append(out, Replica{Region: region})
		}
	}
	slices.SortFunc(out, func(a, b Replica) int { return strings.Compare(a.Region, b.Region) })
	for i, r := range out {
		if r.Region == "" || i > 0 && out[i-1].Region == r.Region {
			s.l.found.errorAt(at, "replicas names regions, each once", "", "")
		}
	}
	return out
}

// onePlacePerSecret refuses two blocks for one secret: they would undo each
// other's work for ever.
func (l *loader) onePlacePerSecret() {
	type place struct{ store, name string }
	first := map[place]*SecretBlock{}
	for i := range l.config.Secrets {
		s := &l.config.Secrets[i]
		at := place{s.Store, s.Name}
		if other := first[at]; other != nil && s.Name != "" && s.Store != "" {
			l.found.add(Diagnostic{
				Summary: fmt.Sprintf("two blocks for the secret %s", providers.Printable(s.Name, 200)), Range: s.Range,
				Detail: fmt.Sprintf("%s and %s both write it in secret_store.%s.", providers.Printable(other.Address, 200), providers.Printable(s.Address, 200), s.Store),
			})
			continue
		}
		first[at] = s
	}
}
