package config

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the expected part of testdata/*.txtar")

// TestCases runs every testdata/*.txtar: the files of a directory, and what
// Load makes of them. The comment may hold lines "-var n=v", "-var-file F",
// "-env n=v" and "-version V"; files below vars/ are variable files. The file
// "want" holds the diagnostics and, if there is no error, the configuration.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d cases, error %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { runCase(t, file) })
	}
}

func runCase(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	want := -1
	for i, f := range archive.Files {
		if f.Name == "want" {
			want = i
			continue
		}
		fsys[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	if want < 0 {
		t.Fatal("the case has no file want")
	}
	vars, options := caseInput(string(archive.Comment))
	options.ReadFile = func(path string) ([]byte, error) { return fsys.ReadFile(path) }
	got := outcome(Load(fsys, ".", vars, options))
	if again := outcome(Load(fsys, ".", vars, options)); again != got {
		t.Errorf("a second Load differs (-first +second):\n%s", cmp.Diff(got, again))
	}
	if strings.Contains(got, "canary") {
		t.Errorf("the value of a sensitive variable is shown:\n%s", got)
	}
	if *update {
		archive.Files[want].Data = []byte(got)
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(archive.Files[want].Data), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func caseInput(comment string) (Variables, Options) {
	vars := Variables{Flags: map[string]string{}, Environment: map[string]string{}}
	options := Options{Version: "0.3.1"}
	for line := range strings.Lines(comment) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, value, _ := strings.Cut(rest, "=")
		switch word {
		case "-var":
			vars.Flags[name] = value
		case "-env":
			vars.Environment[name] = value
		case "-var-file":
			vars.Files = append(vars.Files, rest)
		case "-version":
			options.Version = rest
		}
	}
	return vars, options
}

// outcome is all that Load gives, as text.
func outcome(c *Config, diags Diagnostics) string {
	var b strings.Builder
	if len(diags) > 0 {
		fmt.Fprintln(&b, diags.Error())
	}
	if c == nil {
		return b.String()
	}
	fmt.Fprintf(&b, "state %s\n", c.State)
	fmt.Fprintf(&b, "defaults parallelism=%d retries=%d max_deletes=%s\n", c.Defaults.Parallelism, c.Defaults.Retries, showLimit(c.Defaults.MaxDeletes))
	for _, r := range c.Registries {
		showRegistry(&b, r)
	}
	for _, t := range c.Trees {
		fmt.Fprintf(&b, "%s (%s)\n  %s -> %s\n", t.Address, t.Range, t.Source, t.Destination)
		show(&b, "repositories include", t.Repositories.Include, "exclude", t.Repositories.Exclude, "names", t.Repositories.Names)
		show(&b, "tags include", t.Tags.Include, "exclude", t.Tags.Exclude, "match", t.Tags.Match, "semver", t.Tags.Semver, "newest", t.Tags.Newest)
		showCopy(&b, t.Copy)
		fmt.Fprintf(&b, "  prune %s, max_deletes %s, prevent_destroy %t, on_remove %s\n", t.Prune, showLimit(t.MaxDeletes), t.Lifecycle.PreventDestroy, t.Lifecycle.OnRemove)
		show(&b, "depends_on", t.DependsOn)
	}
	for _, m := range c.Images {
		fmt.Fprintf(&b, "%s (%s)\n  %s tag=%q digest=%q -> %s\n", m.Address, m.Range, m.Source, m.SourceTag, m.SourceDigest, m.Destination.Tag(m.DestinationTag))
		showCopy(&b, m.Copy)
		fmt.Fprintf(&b, "  prevent_destroy %t, on_remove %s\n", m.Lifecycle.PreventDestroy, m.Lifecycle.OnRemove)
		show(&b, "depends_on", m.DependsOn)
	}
	for _, r := range c.Stores {
		fmt.Fprintf(&b, "secret_store %s (%s)\n  kind=%s verify=%s\n", r.Name, r.Range, r.Kind, r.Verify)
		show(&b, "region", r.Region, "profile", r.Profile, "role_arn", r.RoleARN, "project", r.Project, "location", r.Location,
			"endpoint", r.Endpoint, "kms_key", r.KMSKey, "path", r.Path, "recipients", r.Recipients, "identity_file", r.IdentityFile, "fingerprint_key", r.FingerprintKey != nil)
	}
	for _, r := range c.Secrets {
		fmt.Fprintf(&b, "%s (%s)\n  %s:%s manage=%s\n", r.Address, r.Range, r.Store, r.Name, r.Manage)
		show(&b, "value", r.Value != nil, "json", r.JSON != nil, "version", r.Version, "adopt", r.Adopt, "labels", shownLabels(r.Labels), "replicas", r.Replicas, "recovery", r.RecoveryDays)
		if r.Description != nil {
			show(&b, "description", *r.Description)
		}
		if r.KMSKey != nil {
			show(&b, "kms_key", *r.KMSKey)
		}
		if r.Generate != nil {
			fmt.Fprintf(&b, "  generate %+v\n", *r.Generate)
		}
		if r.Copy != nil {
			fmt.Fprintf(&b, "  copy %+v\n", *r.Copy)
		}
		fmt.Fprintf(&b, "  prevent_destroy %t, on_remove %s\n", r.Lifecycle.PreventDestroy, r.Lifecycle.OnRemove)
		show(&b, "depends_on", r.DependsOn)
	}
	return b.String()
}

func showRegistry(b *strings.Builder, r Registry) {
	fmt.Fprintf(b, "registry %s (%s)\n  host=%s path=%q kind=%s\n", r.Name, r.Range, r.Host, r.Path, r.Kind)
	show(b, "plain_http", r.PlainHTTP, "create_repositories", r.CreateRepositories)
	show(b, "created: scan_on_push", r.Created.ScanOnPush, "immutable_tags", r.Created.ImmutableTags, "kms_key", r.Created.KMSKey, "labels", shownLabels(r.Created.Labels))
	show(b, "ca_file", r.CAFile, "client_cert", r.ClientCert, "client_key", r.ClientKey)
	show(b, "concurrency", r.Concurrency, "requests_per_second", r.RequestsPerSecond, "max_bandwidth", r.MaxBandwidth)
	show(b, "token_hosts", r.TokenHosts, "upload_hosts", r.UploadHosts)
	if r.Auth == nil {
		return
	}
	show(b, "auth username", r.Auth.Username, "password", r.Auth.Password != nil, "token", r.Auth.Token != nil,
		"helper", r.Auth.CredentialHelper, "anonymous", r.Auth.Anonymous)
	if r.Auth.StoreSecret != nil {
		show(b, "auth secret", fmt.Sprintf("%+v", *r.Auth.StoreSecret))
	}
}

func showCopy(b *strings.Builder, o CopyOptions) {
	show(b, "platforms", o.Platforms)
	fmt.Fprintf(b, "  referrers %t, overwrite %s\n", o.Referrers, o.Overwrite)
}

// show prints the names and values of what is set, on one line.
func show(b *strings.Builder, pairs ...any) {
	var set []string
	for i := 0; i < len(pairs); i += 2 {
		text := fmt.Sprint(pairs[i+1])
		if text != "" && text != "0" && text != "[]" && text != "false" {
			set = append(set, fmt.Sprintf("%s %v", pairs[i], text))
		}
	}
	if len(set) > 0 {
		fmt.Fprintf(b, "  %s\n", strings.Join(set, ", "))
	}
}

func showLimit(l Limit) string {
	if l.Percent {
		return fmt.Sprintf("%d%%", l.Number)
	}
	return fmt.Sprint(l.Number)
}

// load is Load of one native file, for tests of one thing.
func load(t *testing.T, src string, flags map[string]string) (*Config, Diagnostics) {
	t.Helper()
	return Load(fstest.MapFS{"main.hcl": {Data: []byte(src)}}, ".", Variables{Flags: flags}, Options{Version: "0.3.1"})
}

func TestAuthValuesAreUsable(t *testing.T) {
	c, diags := load(t, `
variable "password" { ephemeral = true }
registry "a" {
  host = "ghcr.io"
  auth {
    username = "robot"
    password = var.password
  }
}
registry "b" {
  host = "quay.io"
  auth { token = "t-${sha256("x")}" }
}`, map[string]string{"password": "hunter2-hunter2"})
	if diags.HasErrors() {
		t.Fatal(diags.Error())
	}
	if got := c.Registries[0].Auth.Password(); got != "hunter2-hunter2" {
		t.Errorf("password = %q", got)
	}
	if got := c.Registries[1].Auth.Token(); !strings.HasPrefix(got, "t-2d711642") {
		t.Errorf("token = %q", got)
	}
	if text := fmt.Sprintf("%v %+v %#v", c, c.Registries, c.Registries[0].Auth); strings.Contains(text, "hunter2") {
		t.Errorf("the password is printed: %s", text)
	}
}

func TestReferenceNamesEverything(t *testing.T) {
	text := Reference()
	for _, block := range schema.blocks {
		for _, name := range append(block.names(), block.name) {
			if !strings.Contains(text, "`"+name) && !strings.Contains(text, " / "+name+"`") {
				t.Errorf("the reference does not name %s of %s", name, block.name)
			}
		}
	}
	if !bytes.Equal([]byte(text), []byte(Reference())) {
		t.Error("the reference differs from call to call")
	}
}

func TestSourcesAreKept(t *testing.T) {
	src := `locals { a = 1 }`
	c, diags := load(t, src, nil)
	if diags.HasErrors() {
		t.Fatal(diags.Error())
	}
	if got := string(c.Sources["main.hcl"]); got != src {
		t.Errorf("source = %q", got)
	}
}

// TestLinksDoNotLeadOut uses a real directory, as cmd does.
func TestLinksDoNotLeadOut(t *testing.T) {
	outside, inside := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "secret"), "the-outside-secret")
	write(t, filepath.Join(outside, "more.hcl"), `locals { a = 1 }`)
	for _, link := range [][2]string{{filepath.Join(outside, "secret"), "link"}, {outside, "dir"}, {filepath.Join(outside, "more.hcl"), "more.hcl"}} {
		if err := os.Symlink(link[0], filepath.Join(inside, link[1])); err != nil {
			t.Fatalf("symlink: %v", err)
		}
	}
	write(t, filepath.Join(inside, "main.hcl"), `
locals {
  a = file("link")
  b = file("dir/secret")
  c = file("../secret")
  d = file("`+filepath.ToSlash(filepath.Join(outside, "secret"))+`")
  e = file("missing")
  f = file(".")
}`)
	root, err := os.OpenRoot(inside)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	c, diags := Load(root.FS(), inside, Variables{}, Options{})
	if c != nil || strings.Contains(diags.Error(), "the-outside-secret") {
		t.Errorf("the link was followed:\n%s", diags.Error())
	}
	if len(diags) != 7 {
		t.Errorf("%d diagnostics, want 7 (six calls and one linked file):\n%s", len(diags), diags.Error())
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSecretValuesAreUsable(t *testing.T) {
	c, diags := load(t, `
variable "password" { ephemeral = true }
secret_store "s" {}
secret "text" {
  store = secret_store.s
  name  = "text"
  value = "user:${var.password}"
}
secret "json" {
  store = secret_store.s
  name  = "json"
  json  = { z = 1.50, password = var.password, a = ["<", null, true] }
}
secret "empty" {
  store = secret_store.s
  name  = "empty"
  value = substr(var.password, 0, 0)
}
`, map[string]string{"password": "p\"w"})
	if len(diags) > 0 {
		t.Fatal(diags.Error())
	}
	for i, want := range []string{"", `{"a":["<",null,true],"password":"p\"w","z":1.5}`, "user:p\"w"} {
		s := c.Secrets[i]
		use := s.Value
		if s.JSON != nil {
			use = s.JSON
		}
		if got := use(); got != want {
			t.Errorf("%s = %s, want %s", s.Address, got, want)
		}
	}
	if shown := fmt.Sprintf("%v %+v", c.Secrets, c.Secrets); strings.Contains(shown, `p"w`) {
		t.Error("the value can be printed")
	}
}

// shownLabels tells what is not managed from what is to be empty.
func shownLabels(m map[string]string) string {
	if m == nil {
		return ""
	}
	return fmt.Sprint(m)
}

// TestHiddenTexts: what is watched for in all output are the texts that are
// said to be sensitive, not a user's name that stands in the file.
func TestHiddenTexts(t *testing.T) {
	text := `
variable "password" { ephemeral = true }
variable "pin" {
  sensitive = true
  type      = number
}
secret_store "main" {}
secret "db" {
  store = secret_store.main
  name  = "db"
  json = {
    user   = "postgres"
    port   = 600000
    login  = { password = var.password, host = "localhost" }
    url    = "postgres://app:${var.password}@localhost"
    pins   = [var.pin, 1234567]
    absent = null
  }
}
`
	cfg, diags := load(t, text, map[string]string{"password": "s3cret-word", "pin": "987654"})
	if diags.HasErrors() {
		t.Fatal(diags.Error())
	}
	got := cfg.Secrets[0].JSONHidden()
	slices.Sort(got)
	if want := []string{"987654", "postgres://app:s3cret-word@localhost", "s3cret-word"}; !slices.Equal(got, want) {
		t.Errorf("hidden are %q, want %q", got, want)
	}
}
