package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"freightliner/config"
	"freightliner/planner"
	"freightliner/providers"
	"freightliner/providers/secret"
)

// TestTheNetKeepsPlainWords: addresses and counts stay readable although a JSON
// secret has the same words in it; what is said to be sensitive does not.
func TestTheNetKeepsPlainWords(t *testing.T) {
	cfg, diags := config.Load(os.DirFS(writeConfig(t, `
variable "password" { ephemeral = true }
secret_store "main" {}
secret "postgres" {
  store = secret_store.main
  name  = "prod/postgres"
  json  = { user = "postgres", port = 600000, password = var.password }
}
secret "whole" {
  store = secret_store.main
  name  = "whole"
  value = jsonencode({ port = 700000, password = "in-${var.password}" })
}
`)), ".", config.Variables{Flags: map[string]string{"password": "s3cret-word"}}, config.Options{Version: "0.1.0"})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	s := &session{program: &program{filter: &secret.Filter{}}}
	if _, err := s.openVault(cfg); err != nil {
		t.Fatal(err)
	}
	const plain = `{"address":"secret.postgres","name":"prod/postgres","bytes":600000,"left":700000}`
	if got := string(s.filter.Clean([]byte(plain))); got != plain {
		t.Errorf("%s became %s", plain, got)
	}
	for _, leak := range []string{"s3cret-word", "in-s3cret-word", "czNjcmV0LXdvcm", `{"password":"s3cret-word","port":600000,"user":"postgres"}`} {
		if got := string(s.filter.Clean([]byte(leak))); strings.Contains(got, leak) {
			t.Errorf("%s got through", leak)
		}
	}
}

// TestInitSaysWhereTheIdentityIs: in full, since that file is what must not be lost.
func TestInitSaysWhereTheIdentityIs(t *testing.T) {
	program, err := exec.LookPath("freightliner") // TestMain put it there
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	cmd := exec.Command(program, "secret", "init", "-recovery=false")
	cmd.Dir = writeConfig(t, "secret_store \"main\" {}\n")
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME=", "LOCALAPPDATA="+home)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, rest, found := strings.Cut(string(out), "Made your identity in ")
	name, _, _ := strings.Cut(rest, ": without it")
	if _, err := os.Stat(name); !found || err != nil || !filepath.IsAbs(name) {
		t.Errorf("the identity is not where it says: %v\n%s", err, out)
	}
}

// TestSavedPlansDoNotMoveCredentials: what decides who sees a credential is the
// configuration's, not the plan file's.
func TestSavedPlansDoNotMoveCredentials(t *testing.T) {
	cfg, diags := config.Load(os.DirFS(writeConfig(t, `
registry "r" {
  host = "registry.acme.example"
  auth {
    username = "app"
    password = "s3cret-word"
  }
}
`)), ".", config.Variables{}, config.Options{Version: "0.1.0"})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	spoilt := cfg.Registries[0]
	spoilt.Auth, spoilt.PlainHTTP, spoilt.CAFile = nil, true, "theirs.pem"
	spoilt.TokenHosts, spoilt.UploadHosts = []string{"evil.example"}, []string{"evil.example"}
	a := &application{file: "plan", config: cfg, plan: &planner.Plan{Registries: []planner.Registry{{Config: spoilt, Auth: true}}}}
	got, err := a.registries()
	if err != nil {
		t.Fatal(err)
	}
	if r := got[0]; r.Auth == nil || r.PlainHTTP || r.CAFile != "" || len(r.TokenHosts)+len(r.UploadHosts) > 0 {
		t.Errorf("the plan file decides: %+v", r)
	}
}

// TestAStoredCredentialIsAskedForOnce: also when there is none.
func TestAStoredCredentialIsAskedForOnce(t *testing.T) {
	log := &askedLog{}
	s := &session{program: &program{filter: &secret.Filter{}}}
	s.vault = &vault{client: secret.NewClient(secret.Options{Audit: log})}
	s.vault.client.Add("main", func(context.Context) (secret.Store, error) { return empty{}, nil })
	credential := s.storedCredential(config.Registry{Name: "r", Auth: &config.Auth{StoreSecret: &config.StoreSecret{Store: "main", Name: "login"}}})
	for range 3 {
		if _, err := credential(t.Context(), providers.Repository{}); providers.ClassOf(err) != providers.NotFound {
			t.Fatal(err)
		}
	}
	if log.intents != 1 {
		t.Errorf("asked %d times", log.intents)
	}
}

// empty is a store that has nothing.
type empty struct{ secret.Store }

func (empty) Place() string { return "empty" }

func (empty) Read(_ context.Context, refs []secret.Ref, got func(secret.Reading)) error {
	for _, ref := range refs {
		got(secret.Reading{Ref: ref, Err: &providers.Error{Class: providers.NotFound, Op: "read secret", On: ref.Name}})
	}
	return nil
}

// askedLog is an audit log that counts.
type askedLog struct{ intents int }

func (c *askedLog) Intend(context.Context, ...secret.Entry) error {
	c.intents++
	return nil
}

func (*askedLog) Outcome(context.Context, ...secret.Entry) error { return nil }

// TestStuckDriftIsAnAlarm: what drifted and is left alone is drift all the same.
func TestStuckDriftIsAnAlarm(t *testing.T) {
	program, err := exec.LookPath("freightliner") // TestMain put it there
	if err != nil {
		t.Fatal(err)
	}
	home, dir := t.TempDir(), writeConfig(t, `
secret_store "main" { verify = "blind" }
secret "made" {
  store = secret_store.main
  name  = "made"
  generate {}
}
`)
	run := func(want int, args ...string) string {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME=", "XDG_STATE_HOME=", "CI=", "LOCALAPPDATA="+home)
		out, _ := cmd.CombinedOutput() // the exit code is what counts
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Fatalf("%s: exit code %d, want %d\n%s", strings.Join(args, " "), got, want, out)
		}
		return string(out)
	}
	run(0, "apply", "-auto-approve")
	run(0, "drift")
	config := filepath.Join(dir, "main.hcl")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	open := strings.Replace(string(text), "generate {}", "generate {}\n  lifecycle { prevent_destroy = false }", 1)
	if err := os.WriteFile(config, []byte(open), 0o600); err != nil {
		t.Fatal(err)
	}
	run(0, "apply", "-auto-approve")
	run(0, "secret", "delete", "-auto-approve", "made")
	if out := run(2, "drift"); !strings.Contains(out, "Drift that apply would not put right: 1 secret is left alone") || !strings.Contains(out, "waits for its deletion") {
		t.Errorf("drift says:\n%s", out)
	}
}
