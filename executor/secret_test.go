package executor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"freightliner/config"
	"freightliner/executor"
	"freightliner/planner"
	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/providers/secret"
	"freightliner/providers/secret/aws"
	"freightliner/providers/secret/gcp"
	"freightliner/providers/secret/secrettest/awsfake"
	"freightliner/providers/secret/secrettest/gcpfake"
	"freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// vault is a configuration with secrets, two accounts of a fake, and a state.
type vault struct {
	testing.TB
	hcl  string
	vars map[string]string
	main *awsfake.Fake   // secret_store.main
	gcp  *gcpfake.Server // in place of main; nil for none
	far  *awsfake.Fake   // secret_store.far
	fsys statefile.FS
	book book
}

const stores = `
variable "v" {
  ephemeral = true
  default   = ""
}
variable "key" {
  sensitive = true
  default   = null
}
secret_store "main" {
  kind   = "aws"
  region = "eu-west-1"
  VERIFY
}
secret_store "far" {
  kind   = "aws"
  region = "us-east-1"
}
`

func newVault(t testing.TB, hcl string) *vault {
	v := &vault{TB: t, hcl: hcl, vars: map[string]string{"v": "first"}, main: awsfake.New("eu-west-1"), far: awsfake.New("us-east-1"), fsys: statefiletest.New()}
	v.main.Rates, v.far.Rates = false, false
	return v
}

// book is an audit log that only remembers.
type book struct{ lines []string }

func (b *book) Intend(_ context.Context, entries ...secret.Entry) error {
	return b.note("intent", entries)
}
func (b *book) Outcome(_ context.Context, entries ...secret.Entry) error {
	return b.note("outcome", entries)
}
func (b *book) note(phase string, entries []secret.Entry) error {
	for _, e := range entries {
		b.lines = append(b.lines, fmt.Sprintf("%s %s %s %s %s", phase, e.Operation, e.Reason, e.Name, e.Class()))
	}
	return nil
}

func (v *vault) config() *config.Config {
	v.Helper()
	vars := config.Variables{Flags: v.vars}
	text := stores
	if v.gcp != nil {
		text = strings.Replace(text, "kind   = \"aws\"\n  region = \"eu-west-1\"", "kind    = \"gcp\"\n  project = \"acme\"", 1)
	}
	if !strings.Contains(v.hcl, "blind") {
		text = strings.Replace(text, "  VERIFY\n", "", 1)
	} else if strings.Contains(v.hcl, "fingerprints") {
		text = strings.Replace(text, "VERIFY", "verify = \"blind\"\n  fingerprint_key = var.key", 1)
	} else {
		text = strings.Replace(text, "VERIFY", `verify = "blind"`, 1)
	}
	var fsys fs.FS = fstest.MapFS{"main.hcl": {Data: []byte(text + v.hcl)}}
	cfg, diags := config.Load(fsys, ".", vars, config.Options{})
	if diags.HasErrors() {
		v.Fatal(diags.Error())
	}
	return cfg
}

// client is a new process's client.
func (v *vault) client() *secret.Client {
	c := secret.NewClient(secret.Options{Audit: &v.book})
	for name, f := range map[string]*awsfake.Fake{"main": v.main, "far": v.far} {
		c.Add(name, func(ctx context.Context) (secret.Store, error) {
			return aws.New(ctx, aws.Options{Region: f.Region, Keys: f.Keys(), HTTP: f.Client(), Clock: f.Clock})
		})
	}
	if v.gcp != nil {
		c.Add("main", func(ctx context.Context) (secret.Store, error) {
			return gcp.New(ctx, gcp.Options{Project: "acme", Endpoint: "127.0.0.1:1", Dial: v.gcp.Dial, Clock: v.gcp.Clock()})
		})
	}
	return c
}

func (v *vault) keys(cfg *config.Config) map[string]*secret.FingerprintKey {
	keys := map[string]*secret.FingerprintKey{}
	for _, s := range cfg.Stores {
		if s.FingerprintKey != nil {
			key, err := secret.NewFingerprintKey(secret.NewValue([]byte(s.FingerprintKey())))
			if err != nil {
				v.Fatal(err)
			}
			keys[s.Name] = key
		}
	}
	return keys
}

func (v *vault) state() *statefile.State {
	v.Helper()
	s, err := statefile.Read(v.fsys, "test.state")
	if err != nil {
		v.Fatal(err)
	}
	return s
}

func (v *vault) plan(change ...func(*planner.Input)) *planner.Plan {
	v.Helper()
	cfg := v.config()
	in := planner.Input{
		Config: cfg, State: v.state(), Client: registry.New(registry.Options{}), Secrets: v.client(),
		FingerprintKeys: v.keys(cfg), Now: v.main.Clock.Now(),
	}
	defer in.Client.Close()
	for _, c := range change {
		c(&in)
	}
	p, diags, err := planner.New(context.Background(), in)
	if err != nil || len(diags) > 0 {
		v.Fatal(err, diags.Error())
	}
	return p
}

// apply runs a plan. A dead process leaves its journal open.
func (v *vault) apply(p *planner.Plan, dead func() bool) *executor.Summary {
	v.Helper()
	ctx := context.Background()
	lock, err := statefile.AcquireLock(ctx, v.fsys, "test.state", statefile.Holder{}, statefile.LockOptions{})
	if err != nil {
		v.Fatal(err)
	}
	defer lock.Release()
	journal, state, err := statefile.Begin(ctx, lock, "test.state", statefile.RunInfo{Run: "test", Plan: p.ID()}, statefile.Options{})
	if err != nil {
		v.Fatal(err)
	}
	cfg := v.config()
	client := registry.New(registry.Options{})
	defer client.Close()
	run := executor.Run{
		State: state, Journal: &mortal{journal, dead}, Client: client, Secrets: v.client(), FingerprintKeys: v.keys(cfg),
		Agrees: planner.SecretAgreement(cfg),
		Value: func(address string) (secret.Value, error) {
			for _, s := range cfg.Secrets {
				switch {
				case s.Address != address:
				case s.Value != nil:
					return secret.NewValue([]byte(s.Value())), nil
				case s.JSON != nil:
					return secret.NewValue([]byte(s.JSON())), nil
				}
			}
			return secret.Value{}, errors.New("no such block")
		},
	}
	summary := executor.Apply(ctx, p, run, executor.Options{Clock: hurried{v.main.Clock}, Parallelism: 1})
	if dead != nil && dead() {
		if err := journal.Abandon(); err != nil {
			v.Fatal(err)
		}
	} else if err := journal.Close(); err != nil {
		v.Fatal(err)
	}
	return summary
}

// hurried is the fake's clock without the waits.
type hurried struct{ *awsfake.Clock }

func (hurried) Wait(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// mortal is a journal that records nothing once its process is dead.
type mortal struct {
	*statefile.Journal
	dead func() bool
}

var errDead = errors.New("the process is dead")

func (m *mortal) Done(changes ...statefile.Change) error {
	if m.dead != nil && m.dead() {
		return errDead
	}
	return m.Journal.Done(changes...)
}

func (m *mortal) Fail(address string, class providers.Class) error {
	if m.dead != nil && m.dead() {
		return errDead
	}
	return m.Journal.Fail(address, class)
}

func (m *mortal) Intent(address, op, token string) error {
	if m.dead != nil && m.dead() {
		return errDead
	}
	return m.Journal.Intent(address, op, token)
}

// want plans, compares with what is expected, applies and plans again: empty.
func (v *vault) want(lines ...string) {
	v.Helper()
	p := v.plan()
	if got := show(p); !slices.Equal(got, lines) {
		v.Fatalf("plan:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
	if len(p.Actions) == 0 {
		return
	}
	s := v.apply(p, nil)
	if s.Failed+s.Stale+s.Skipped+s.NotStarted > 0 {
		v.Fatalf("%s: %v", outcomes(s), errors.Join(s.Errors...))
	}
	var left []string
	for _, line := range show(v.plan()) {
		if !slices.Contains(lines, line) || !strings.HasPrefix(line, "problem") {
			left = append(left, line)
		}
	}
	if len(left) > 0 {
		v.Fatalf("the next plan is not empty:\n%s", strings.Join(left, "\n"))
	}
}

// has compares a payload in the main account.
func (v *vault) has(name, want string) {
	v.Helper()
	if got, ok := v.main.Payload(name); !ok || got != want {
		v.Fatalf("%s holds %q (%v), want %q", name, got, ok, want)
	}
}

func (v *vault) made(name string, want int) {
	v.Helper()
	if got := v.main.Made(name); len(got) != want {
		v.Fatalf("%d versions of %s were made, want %d", len(got), name, want)
	}
}

const fourWays = `
secret "text" {
  store = secret_store.main
  name  = "prod/text"
  value = "user:${var.v}"
  labels = { team = "a" }
}
secret "json" {
  store       = secret_store.main
  name        = "prod/json"
  json        = { user = "app", password = var.v }
  description = "the database"
}
secret "made" {
  store = secret_store.main
  name  = "prod/made"
  generate { length = 24 }
}
secret "copied" {
  store = secret_store.main
  name  = "prod/copied"
  copy {
    store = secret_store.far
    name  = "origin"
  }
}
`

func TestSecretsAreMadeOnce(t *testing.T) {
	v := newVault(t, fourWays)
	v.far.Foreign("origin", "from afar")
	v.want("create secret.copied config: new in the configuration", "create secret.json config: new in the configuration",
		"create secret.made config: new in the configuration", "create secret.text config: new in the configuration")
	v.has("prod/text", "user:first")
	v.has("prod/json", `{"password":"first","user":"app"}`)
	v.has("prod/copied", "from afar")
	made, _ := v.main.Payload("prod/made")
	if len(made) != 24 {
		t.Errorf("generated %d characters", len(made))
	}
	v.vars["v"] = "second"
	v.far.Foreign("origin", "newer")
	v.want("update secret.copied upstream: the source has a new version", "update secret.json config: the value changed", "update secret.text config: the value changed")
	v.has("prod/json", `{"password":"second","user":"app"}`)
	v.has("prod/copied", "newer")
	v.has("prod/made", made)
	for _, name := range []string{"prod/text", "prod/json", "prod/copied"} {
		v.made(name, 2)
	}
	v.made("prod/made", 1)
	text := statefileText(t, v)
	for _, needle := range []string{"first", "second", "afar", "newer", made} {
		if strings.Contains(text, needle) || strings.Contains(strings.Join(v.book.lines, "\n"), needle) {
			t.Errorf("state or audit log have %q", needle)
		}
	}
}

func statefileText(t *testing.T, v *vault) string {
	f, err := v.fsys.OpenFile("test.state", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestSecretDrift: what somebody else did, with values compared and not.
func TestSecretDrift(t *testing.T) {
	v := newVault(t, fourWays)
	v.far.Foreign("origin", "from afar")
	s := v.apply(v.plan(), nil)
	expect(t, s, "done 4 (already 0), failed 0, skipped 0, stale 0, not started 0")
	made, _ := v.main.Payload("prod/made")

	id := v.main.Foreign("prod/text", "theirs")
	v.want(fmt.Sprintf("update secret.text drift: the value differs; written by somebody else (version %s of 2026-01-01 00:00 UTC)", id))
	v.has("prod/text", "user:first")

	id = v.main.Foreign("prod/text", "user:first")
	v.want(fmt.Sprintf("adopt secret.text drift: written again with the same value (version %s of 2026-01-01 00:00 UTC)", id))

	id = v.main.Foreign("prod/made", "rotated by hand")
	v.want(fmt.Sprintf("adopt secret.made drift: written by somebody else (version %s of 2026-01-01 00:00 UTC); a generated value is made once, so it is kept", id))
	v.has("prod/made", "rotated by hand")
	if made == "" {
		t.Error("nothing was generated")
	}

	v.main.Retag("prod/text", "team", "b")
	v.want("update secret.text drift: the labels changed in the store")
	v.made("prod/text", 2) // of ours: metadata makes no version
}

func TestSecretsWithoutTheRightToRead(t *testing.T) {
	const hcl = `
# blind
secret "text" {
  store   = secret_store.main
  name    = "text"
  value   = var.v
  version = VERSION
}
`
	at := func(n int) string { return strings.Replace(hcl, "VERSION", fmt.Sprint(n), 1) }
	v := newVault(t, at(1))
	v.main.Deny("GetSecretValue", "text")
	v.want("create secret.text config: new in the configuration")
	v.vars["v"] = "second"
	v.want() // nobody can see it without reading
	v.hcl = at(2)
	v.want("update secret.text config: its version changed in the configuration")
	v.has("text", "second")
	id := v.main.Foreign("text", "theirs")
	v.want(fmt.Sprintf("problem secret.text: secret aws/eu-west-1:text is left alone: written by somebody else (version %s of 2026-01-01 00:00 UTC), and values are not compared here (verify = \"blind\")", id))
	v.has("text", "theirs")
	v.hcl = at(3)
	v.want("update secret.text config: its version changed in the configuration")
	v.has("text", "second")
	v.made("text", 3)
	if n := v.main.Calls()["GetSecretValue"] + v.main.Calls()["BatchGetSecretValue"]; n != 0 {
		t.Errorf("%d reads of values", n)
	}

	// With a key, a changed wish is seen without a read.
	v.hcl = "# blind with fingerprints\n" + at(3)
	v.vars["key"] = "a key of sixteen"
	v.hcl = strings.Replace(v.hcl, "version = 3", "version = 4", 1)
	v.want("update secret.text config: its version changed in the configuration")
	v.vars["v"] = "third"
	v.want("update secret.text config: the value changed")
	v.has("text", "third")

	// A saved plan binds the value that was planned.
	v.vars["v"] = "fourth"
	p := v.plan()
	v.vars["v"] = "smuggled"
	s := v.apply(p, nil)
	expect(t, s, "done 0 (already 0), failed 0, skipped 0, stale 1, not started 0")
	v.has("text", "third")
}

func TestForeignSecretsAreLeftAlone(t *testing.T) {
	const hcl = `
secret "text" {
  store = secret_store.main
  name  = "text"
  value = var.v
  ADOPT
}
`
	v := newVault(t, strings.Replace(hcl, "ADOPT", "", 1))
	v.main.Foreign("text", "theirs")
	v.want("problem secret.text: secret aws/eu-west-1:text is left alone: it exists and freightliner did not make it")
	v.hcl = strings.Replace(hcl, "ADOPT", "adopt = true", 1)
	v.want("update secret.text config: replaces a value that freightliner did not write; its owner tag names another owner or none")
	v.has("text", "first")

	// The state is lost: the owner tag says that it is ours.
	v.fsys = statefiletest.New()
	v.hcl = strings.Replace(hcl, "ADOPT", "", 1)
	v.want("adopt secret.text config: it is there already")
	v.made("text", 1)
}

func TestSecretKeys(t *testing.T) {
	const hcl = `
secret "db" {
  store  = secret_store.main
  name   = "db"
  json   = JSON
  manage = "keys"
  adopt  = true
}
`
	with := func(json string) string { return strings.Replace(hcl, "JSON", json, 1) }
	v := newVault(t, with(`{ password = var.v, user = "app" }`))
	v.main.Foreign("db", `{"port": 5432, "password": "old"}`)
	v.want("update secret.db config: replaces a value that freightliner did not write; its owner tag names another owner or none")
	v.has("db", `{"password":"first","port":5432,"user":"app"}`)
	id := v.main.Foreign("db", `{"port":5433,"user":"app","password":"first"}`) // their key is theirs
	v.want(fmt.Sprintf("adopt secret.db drift: written again with the same value (version %s of 2026-01-01 00:00 UTC)", id))
	v.hcl = with(`{ password = var.v }`) // what was ours and is not wanted any more goes
	v.want("update secret.db config: the value changed")
	v.has("db", `{"password":"first","port":5433}`)
}

func TestSecretRotation(t *testing.T) {
	const hcl = `
secret "made" {
  store = secret_store.main
  name  = "made"
  generate {
    rotate_after = "30d"
  }
  VERSION
}
`
	v := newVault(t, strings.Replace(hcl, "VERSION", "", 1))
	v.want("create secret.made config: new in the configuration")
	v.main.Clock.Advance(29 * 24 * time.Hour)
	v.want()
	v.main.Clock.Advance(24 * time.Hour)
	v.want("update secret.made config: it is older than rotate_after")
	v.made("made", 2)
	v.hcl = strings.Replace(hcl, "VERSION", `version = "leaked"`, 1)
	v.want("update secret.made config: its version changed in the configuration")
	v.hcl = strings.Replace(v.hcl, "generate {", "generate {\n length = 40\n", 1)
	v.want("adopt secret.made config: its recipe changed; the value is kept until its version changes or rotate_after is over")
	v.made("made", 3)
}

func TestSecretsThatGo(t *testing.T) {
	const hcl = `
secret "text" {
  store = secret_store.main
  name  = "text"
  value = var.v
  recovery_window_days = 9
  lifecycle {
    prevent_destroy = PROTECT
    on_remove       = "ON_REMOVE"
  }
}
`
	with := func(protect, remove string) string {
		return strings.NewReplacer("PROTECT", protect, "ON_REMOVE", remove).Replace(hcl)
	}
	v := newVault(t, with("true", "forget"))
	v.want("create secret.text config: new in the configuration")
	destroy := func(in *planner.Input) { in.Destroy = true }
	if got := show(v.plan(destroy)); len(got) != 1 || !strings.Contains(got[0], "protected") {
		t.Fatalf("destroy of a protected secret: %v", got)
	}
	v.hcl = ""
	v.want("forget secret.text config: removed from the configuration")
	v.has("text", "first")

	v.hcl = with("false", "delete")
	v.want("adopt secret.text config: it is there already")
	v.hcl = ""
	id := v.main.Foreign("text", "theirs")
	v.want(fmt.Sprintf("problem secret.text: secret aws/eu-west-1:text is kept: it was written by somebody else (version %s)", id))
	v.hcl = with("false", "delete")
	v.want(fmt.Sprintf("update secret.text drift: the value differs; written by somebody else (version %s of 2026-01-01 00:00 UTC)", id))
	v.hcl = ""
	v.want("delete secret.text config: removed from the configuration")
	v.hcl = with("false", "delete")
	v.want("problem secret.text: secret aws/eu-west-1:text is left alone: it waits for its deletion on 2026-01-10")
}

func TestDeniedIsNotAbsent(t *testing.T) {
	v := newVault(t, `
secret "text" {
  store = secret_store.main
  name  = "text"
  value = var.v
}
`)
	v.want("create secret.text config: new in the configuration")
	for _, action := range []string{"DescribeSecret", "GetSecretValue"} {
		v.main.Deny(action, "text")
		p := v.plan()
		if len(p.Actions) != 0 || len(p.Problems) != 1 || p.Problems[0].Blocked {
			t.Errorf("%s denied: %v", action, show(p))
		}
		v.main.Allow()
	}
	v.made("text", 1)
}

func TestSecretMistakesPointAtTheConfiguration(t *testing.T) {
	v := newVault(t, `
secret "long" {
  store = secret_store.main
  name  = "with space"
  value = join("", [for i in range(700) : "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789${var.v}"])
}
`)
	cfg := v.config()
	_, diags, err := planner.New(t.Context(), planner.Input{Config: cfg, State: v.state(), Client: registry.New(registry.Options{}), Secrets: v.client()})
	if err != nil || len(diags) != 2 || diags[0].Range.StartLine == 0 {
		t.Fatalf("%v %v", err, diags)
	}
}

// TestSecretKillPoints kills the process at every call of a run, before and
// after its effect, and looks at what the next run makes of it: as many
// versions as changes were intended, always.
func TestSecretKillPoints(t *testing.T) {
	rounds := 12
	points := 0
	for round := range rounds {
		kinds := []awsfake.Kind{awsfake.Cut, awsfake.Lost, awsfake.Timeout, awsfake.LostTimeout, awsfake.Twice, awsfake.Broken}
		for n := 1; ; n++ {
			v := newVault(t, fourWays)
			v.far.Foreign("origin", "from afar")
			versions := 1
			if round%2 == 1 { // the second change of each
				v.apply(v.plan(), nil)
				v.vars["v"] = "second"
				v.far.Foreign("origin", "newer")
				versions = 2
			}
			p := v.plan()
			var calls atomic.Int64
			var died atomic.Bool
			v.main.Inject(func(awsfake.Call) awsfake.Fault {
				switch at := calls.Add(1); {
				case at < int64(n):
					return awsfake.Fault{}
				case at == int64(n):
					kind := kinds[round/2]
					died.Store(kind != awsfake.Twice)
					return awsfake.Fault{Kind: kind}
				case died.Load():
					return awsfake.Fault{Kind: awsfake.Cut}
				}
				return awsfake.Fault{}
			})
			v.apply(p, died.Load)
			reached := calls.Load() >= int64(n)
			v.main.Inject(nil)
			if !reached {
				break
			}
			points++
			for range 2 {
				if p := v.plan(); !p.Empty() {
					if s := v.apply(p, nil); s.Failed+s.Stale+s.Skipped > 0 {
						t.Fatalf("round %d, call %d: the next run: %s %v", round, n, outcomes(s), errors.Join(s.Errors...))
					}
				}
			}
			if left := show(v.plan()); len(left) > 0 {
				t.Fatalf("round %d, call %d: still to do: %v", round, n, left)
			}
			for _, name := range []string{"prod/text", "prod/json", "prod/made", "prod/copied"} {
				want := versions
				if name == "prod/made" {
					want = 1
				}
				if got := v.main.Made(name); len(got) != want {
					t.Fatalf("round %d (%v), call %d: %d versions of %s were made, want %d", round, kinds[round/2], n, len(got), name, want)
				}
			}
		}
	}
	t.Logf("%d points", points)
	if points < 100 {
		t.Errorf("only %d points were reached", points)
	}
}
