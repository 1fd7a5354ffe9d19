package executor_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"freightliner/executor"
	"freightliner/planner"
	"freightliner/providers/secret"
	"freightliner/providers/secret/secrettest/awsfake"
)

// What comes between a plan and its apply, or between two applies: a killed
// process, another wish, a plan file that somebody else wrote.

// killedAfter applies a plan in a process that dies when the secret has the
// payload, before it can record that.
func (v *vault) killedAfter(p *planner.Plan, name, payload string) {
	v.Helper()
	dead := func() bool { got, _ := v.main.Payload(name); return got == payload }
	v.apply(p, dead)
	v.has(name, payload)
	if len(v.state().Intents()) != 1 {
		v.Fatalf("the process did not die between write and record: %v", v.state().Intents())
	}
}

// killedBefore applies a plan in a process that dies with the first call of op,
// which has no effect.
func (v *vault) killedBefore(p *planner.Plan, op string) {
	v.Helper()
	died := false
	v.main.Inject(func(c awsfake.Call) awsfake.Fault {
		died = died || c.Operation == op
		if died {
			return awsfake.Fault{Kind: awsfake.Cut}
		}
		return awsfake.Fault{}
	})
	v.apply(p, func() bool { return died })
	v.main.Inject(nil)
	if len(v.state().Intents()) != 1 {
		v.Fatalf("the process did not die between intent and %s: %v", op, v.state().Intents())
	}
}

// reread is a plan as it comes back from its file.
func reread(t testing.TB, p *planner.Plan) *planner.Plan {
	t.Helper()
	var b bytes.Buffer
	if err := planner.Encode(&b, p); err != nil {
		t.Fatal(err)
	}
	again, err := planner.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func (v *vault) wantOutcome(s *executor.Summary, want string) {
	v.Helper()
	if got := outcomes(s); got != want {
		v.Fatalf("%s, want %s: %v", got, want, s.Errors)
	}
}

const (
	oneDone    = "done 1 (already 0), failed 0, skipped 0, stale 0, not started 0"
	oneAlready = "done 1 (already 1), failed 0, skipped 0, stale 0, not started 0"
	oneStale   = "done 0 (already 0), failed 0, skipped 0, stale 1, not started 0"
	oneFailed  = "done 0 (already 0), failed 1, skipped 0, stale 0, not started 0"
)

const oneText = `
secret "text" {
  store  = secret_store.main
  name   = "text"
  value  = var.v
  labels = { team = "a" }
}
`

// TestSavedPlanRepairsMetadata: the record is the same before and after, so it
// can not tell that the repair was done.
func TestSavedPlanRepairsMetadata(t *testing.T) {
	for _, newWorld := range []func(*testing.T, string) *vault{func(t *testing.T, hcl string) *vault { return newVault(t, hcl) }, newProject} {
		v := newWorld(t, oneText)
		v.want("create secret.text config: new in the configuration")
		v.hcl = strings.Replace(oneText, `"a"`, `"b"`, 1)
		p := reread(t, v.plan())
		v.wantOutcome(v.apply(p, nil), oneDone)
		v.wantOutcome(v.apply(p, nil), oneAlready)
		if left := show(v.plan()); len(left) > 0 {
			t.Fatalf("still to do: %v", left)
		}
	}
	v := newVault(t, oneText)
	v.want("create secret.text config: new in the configuration")
	v.main.Retag("text", "team", "b")
	p := reread(t, v.plan())
	v.wantOutcome(v.apply(p, nil), oneDone)
	if left := show(v.plan()); len(left) > 0 {
		t.Fatalf("still to do: %v", left)
	}
	v.wantOutcome(v.apply(p, nil), oneAlready)
}

const chain = `
secret "a" {
  store = secret_store.main
  name  = "a"
  value = var.v
}
secret "b" {
  store = secret_store.main
  name  = "b"
  copy {
    store = secret_store.main
    name  = "a"
  }
}
secret "c" {
  store = secret_store.main
  name  = "c"
  copy {
    store = secret_store.main
    name  = "b"
  }
}
`

// TestSecretChain: what is copied is what the same plan writes.
func TestSecretChain(t *testing.T) {
	for _, newWorld := range []func(*testing.T, string) *vault{func(t *testing.T, hcl string) *vault { return newVault(t, hcl) }, newProject} {
		v := newWorld(t, chain)
		v.want("create secret.a config: new in the configuration", "create secret.b config: new in the configuration", "create secret.c config: new in the configuration")
		v.vars["v"] = "second"
		v.want("update secret.a config: the value changed", "update secret.b config: its source is going to be written", "update secret.c config: its source is going to be written")
	}
	v := newVault(t, chain[:strings.Index(chain, `secret "b"`)])
	v.want("create secret.a config: new in the configuration")
	v.hcl, v.vars["v"] = chain, "second"
	p := reread(t, v.plan())
	s := v.apply(p, nil)
	v.wantOutcome(s, "done 3 (already 0), failed 0, skipped 0, stale 0, not started 0")
	v.has("c", "second")
	v.wantOutcome(v.apply(p, nil), "done 3 (already 3), failed 0, skipped 0, stale 0, not started 0")
	v.made("c", 1)
	if left := show(v.plan()); len(left) > 0 {
		t.Fatalf("still to do: %v", left)
	}

	// A source that nobody is going to write is missing, and is said to be.
	v = newVault(t, chain)
	v.main.Bare("a")
	want := []string{
		"problem secret.a: secret aws/eu-west-1:a is left alone: it exists and freightliner did not make it",
		"problem secret.b: copy from main:a: it has no value",
	}
	if got := show(v.plan()); len(got) != 3 || !slices.Equal(got[:2], want) {
		t.Errorf("plan:\n%s", strings.Join(got, "\n"))
	}
}

// TestInterruptedWriteOfAnotherWish: what a killed run wrote is not taken for
// what is wanted since, also where nobody may read it.
func TestInterruptedWriteOfAnotherWish(t *testing.T) {
	t.Run("copy", func(t *testing.T) {
		v := newVault(t, strings.Replace(chain[strings.Index(chain, `secret "b"`):strings.Index(chain, `secret "c"`)], "store = secret_store.main\n    name  = \"a\"", "store = secret_store.far\n    name  = \"a\"", 1))
		v.far.Foreign("a", "first")
		v.want("create secret.b config: new in the configuration")
		v.far.Foreign("a", "second")
		v.killedAfter(v.plan(), "b", "second")
		v.far.Foreign("a", "third")
		v.wantOutcome(v.apply(v.plan(), nil), oneDone)
		v.has("b", "third")
		v.made("b", 3)
		if left := show(v.plan()); len(left) > 0 {
			t.Fatalf("still to do: %v", left)
		}
	})
	const blind = `
# blind
secret "text" {
  store   = secret_store.main
  name    = "text"
  value   = var.v
  version = VERSION
}
`
	at := func(n int) string { return strings.Replace(blind, "VERSION", fmt.Sprint(n), 1) }
	t.Run("unreadable value", func(t *testing.T) {
		v := newVault(t, at(1))
		v.main.Deny("GetSecretValue", "text")
		v.want("create secret.text config: new in the configuration")
		v.hcl, v.vars["v"] = at(2), "second"
		v.killedAfter(v.plan(), "text", "second")
		v.hcl, v.vars["v"] = at(3), "third"
		v.wantOutcome(v.apply(v.plan(), nil), oneDone)
		v.has("text", "third")
		v.made("text", 3)
		if left := show(v.plan()); len(left) > 0 {
			t.Fatalf("still to do: %v", left)
		}
	})
	t.Run("same wish", func(t *testing.T) {
		v := newVault(t, at(1))
		v.main.Deny("GetSecretValue", "text")
		v.want("create secret.text config: new in the configuration")
		v.hcl, v.vars["v"] = at(2), "second"
		v.killedAfter(v.plan(), "text", "second")
		v.wantOutcome(v.apply(v.plan(), nil), oneDone)
		v.made("text", 2)
		if left := show(v.plan()); len(left) > 0 {
			t.Fatalf("still to do: %v", left)
		}
	})
	t.Run("fingerprint", func(t *testing.T) {
		v := newVault(t, "# blind with fingerprints\n"+at(1))
		v.vars["key"] = "a key of sixteen"
		v.want("create secret.text config: new in the configuration")
		v.vars["v"] = "second"
		v.killedAfter(v.plan(), "text", "second")
		p := v.plan()
		if got := show(p); len(got) != 1 || got[0] != "update secret.text config: an interrupted run was about to write it" {
			t.Fatalf("plan: %v", got)
		}
		v.wantOutcome(v.apply(p, nil), oneDone)
		v.made("text", 2)
		if left := show(v.plan()); len(left) > 0 {
			t.Fatalf("still to do: %v", left)
		}
		// Nothing was written, and then somebody else came: theirs stays.
		v.vars["v"] = "third"
		v.killedBefore(v.plan(), "PutSecretValue")
		v.main.Foreign("text", "theirs")
		v.wantOutcome(v.apply(v.plan(), nil), oneStale)
		v.has("text", "theirs")
		// An interrupted run is no way around what the plan binds.
		v = newVault(t, v.hcl)
		v.vars["key"] = "a key of sixteen"
		v.want("create secret.text config: new in the configuration")
		v.vars["v"] = "second"
		v.killedBefore(v.plan(), "PutSecretValue")
		p = v.plan()
		v.vars["v"] = "smuggled"
		v.wantOutcome(v.apply(p, nil), oneStale)
		v.has("text", "first")
	})
}

// TestSettlingThatFails: an intent stays open until it was looked into.
func TestSettlingThatFails(t *testing.T) {
	v := newVault(t, oneText)
	v.want("create secret.text config: new in the configuration")
	v.vars["v"] = "second"
	v.killedAfter(v.plan(), "text", "second")
	p := v.plan()
	v.main.Deny("DescribeSecret", "text")
	v.wantOutcome(v.apply(p, nil), oneFailed)
	if len(v.state().Intents()) != 1 {
		t.Fatal("the intent was closed although nobody could look")
	}
	v.main.Allow()
	v.wantOutcome(v.apply(v.plan(), nil), oneDone)
	if len(v.state().Intents()) != 0 {
		t.Error("the intent is still open")
	}
	v.made("text", 2)

	// A saved plan without anything to do but to settle does that.
	v.vars["v"] = "third"
	v.killedBefore(v.plan(), "PutSecretValue")
	v.vars["v"] = "second"
	p = reread(t, v.plan())
	v.wantOutcome(v.apply(p, nil), oneAlready)
	if left := show(v.plan()); len(left) > 0 || len(v.state().Intents()) != 0 {
		t.Errorf("still to do: %v %v", left, v.state().Intents())
	}
}

// TestInterruptedWriteOfAGoneBlock: the state is not left undecided for ever,
// and what a killed run wrote is ours to delete.
func TestInterruptedWriteOfAGoneBlock(t *testing.T) {
	v := newVault(t, oneText)
	v.killedBefore(v.plan(), "CreateSecret")
	v.hcl = ""
	p := reread(t, v.plan())
	if got := show(p); len(got) != 1 || got[0] != "forget secret.text config: an interrupted run was about to make it, and its block is gone; what there is of it is left alone" {
		t.Fatalf("plan: %v", got)
	}
	v.wantOutcome(v.apply(p, nil), oneDone)
	if left := v.state().Intents(); len(left) > 0 {
		t.Fatalf("open: %v", left)
	}

	v = newVault(t, oneText)
	v.killedBefore(v.plan(), "CreateSecret")
	v.hcl = strings.Replace(oneText, `"text"`+"\n  value", `"other"`+"\n  value", 1)
	v.want("create secret.text config: new in the configuration")
	if _, there := v.main.Payload("text"); there || len(v.state().Intents()) > 0 {
		t.Error("what an interrupted run was about to write under another name was written, or is open")
	}

	v = newVault(t, oneText+"# VERIFY")
	v.hcl = strings.Replace(oneText, "labels", "lifecycle {\n prevent_destroy = false\n on_remove = \"delete\"\n}\n  labels", 1)
	v.want("create secret.text config: new in the configuration")
	v.vars["v"] = "second"
	v.killedAfter(v.plan(), "text", "second")
	v.hcl = ""
	v.want("delete secret.text config: removed from the configuration")
}

// TestHostileSecretPlans: a plan file says which versions to replace and to
// copy, and nothing else about a value.
func TestHostileSecretPlans(t *testing.T) {
	const hcl = oneText + `
secret "copied" {
  store = secret_store.main
  name  = "copied"
  copy {
    store = secret_store.far
    name  = "origin"
  }
}
secret "made" {
  store = secret_store.main
  name  = "made"
  generate { length = 24 }
}
secret "keys" {
  store  = secret_store.main
  name   = "keys"
  json   = { mine = var.v }
  manage = "keys"
}
`
	find := func(p *planner.Plan, address string) (*planner.Action, *planner.Block) {
		i := slices.IndexFunc(p.Actions, func(a planner.Action) bool { return a.Address == address })
		return &p.Actions[i], &p.Blocks[p.Actions[i].Block]
	}
	for name, spoil := range map[string]func(p *planner.Plan){
		"another name": func(p *planner.Plan) { a, _ := find(p, "secret.text"); a.Secret.Name = "public" },
		"another store": func(p *planner.Plan) {
			a, _ := find(p, "secret.text")
			a.Secret.Store, a.Secret.Place = "far", "aws/us-east-1"
		},
		"another source": func(p *planner.Plan) { a, _ := find(p, "secret.copied"); a.Secret.From.Name = "root" },
		"another way":    func(p *planner.Plan) { a, _ := find(p, "secret.made"); a.Secret.Way, a.Secret.Recipe = "value", nil },
		"a weaker recipe": func(p *planner.Plan) {
			a, _ := find(p, "secret.made")
			a.Secret.Recipe = &secret.Recipe{Length: 8, Charset: "hex"}
		},
		"other labels":       func(p *planner.Plan) { a, _ := find(p, "secret.text"); a.Secret.Metadata.Labels["team"] = "x" },
		"other keys":         func(p *planner.Plan) { a, _ := find(p, "secret.keys"); a.Secret.Keys = `["mine","theirs"]` },
		"keys that go":       func(p *planner.Plan) { a, _ := find(p, "secret.keys"); a.Secret.Drop = `["theirs"]` },
		"without protection": func(p *planner.Plan) { _, b := find(p, "secret.text"); b.Protect = false },
		"a block that is not there": func(p *planner.Plan) {
			a, b := find(p, "secret.text")
			a.Address, b.Address = "secret.other", "secret.other"
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, hcl)
			v.far.Foreign("origin", "from afar")
			v.far.Foreign("root", "the crown")
			p := v.plan()
			spoil(p)
			if s := v.apply(reread(t, p), nil); s.Stale != 1 || s.Done != 3 {
				t.Errorf("%s: %v", outcomes(s), s.Errors)
			}
		})
	}
	t.Run("adoption", func(t *testing.T) {
		v := newVault(t, oneText)
		p := v.plan()
		id := v.main.Foreign("text", "theirs")
		a, _ := find(p, "secret.text")
		a.Verb, a.Secret.Expect, a.Secret.Found = planner.Update, id, true
		v.wantOutcome(v.apply(reread(t, p), nil), oneStale)
		v.has("text", "theirs")
	})
	t.Run("delete", func(t *testing.T) {
		v := newVault(t, strings.Replace(oneText, "labels", "lifecycle { prevent_destroy = false }\n  labels", 1))
		v.want("create secret.text config: new in the configuration")
		destroy := func(in *planner.Input) { in.Destroy = true }
		p := reread(t, v.plan(destroy))
		p.Destroy = false
		v.wantOutcome(v.apply(p, nil), oneStale)
		v.hcl = "" // the block is gone, and on_remove says forget
		v.wantOutcome(v.apply(p, nil), oneStale)
		v.has("text", "first")
		p.Destroy = true
		v.wantOutcome(v.apply(p, nil), oneDone)
	})
}

// TestSecretChangesHands: a block that goes away with on_remove = "delete" does
// not take along what another block has now.
func TestSecretChangesHands(t *testing.T) {
	const removable = `
secret "NAME" {
  store = secret_store.main
  name  = "text"
  value = var.v
  adopt = true
  lifecycle {
    prevent_destroy = false
    on_remove       = "delete"
  }
}
`
	v := newVault(t, strings.Replace(removable, "NAME", "old", 1))
	v.want("create secret.old config: new in the configuration")
	v.hcl = strings.Replace(removable, "NAME", "new", 1)
	v.want("update secret.new config: its owner tag names another owner or none", "forget secret.old config: removed from the configuration, and secret.new has it now")
	v.has("text", "first")

	// Not looked at, it may be the same: it stays.
	v.hcl = strings.Replace(removable, "NAME", "third", 1)
	p := v.plan(func(in *planner.Input) { in.Targets = []string{"secret.new"} })
	if got := show(p); len(got) != 1 || got[0] != "problem secret.new: secret aws/eu-west-1:text is kept: secret.third may be the same, and was not looked at" {
		t.Errorf("plan: %v", got)
	}
}

// TestSecretTroubleIsNamed: what drifted is said as what it is.
func TestSecretTroubleIsNamed(t *testing.T) {
	v := newVault(t, oneText)
	v.want("create secret.text config: new in the configuration")
	first := v.main.Made("text")[0]
	v.main.Clock.Advance(time.Hour)
	v.vars["v"] = "second"
	v.want("update secret.text config: the value changed")
	v.main.Rollback("text", first)
	v.want(fmt.Sprintf("update secret.text drift: the value differs; an older version was made current again (version %s of 2026-01-01 00:00 UTC)", first))
	v.has("text", "second")

	v.main.Rotate("text")
	v.want("problem secret.text: secret aws/eu-west-1:text is left alone: its store rotates it by itself, which would be undone with each apply")

	v = newVault(t, strings.Replace(oneText, "labels", `replicas = ["us-west-2"]`+"\n  labels", 1))
	v.main.FailReplicas("us-west-2", "no such key")
	v.apply(v.plan(), nil)
	if got := show(v.plan()); len(got) != 1 || !strings.HasPrefix(got[0], "update secret.text drift: the replica in us-west-2 failed") {
		t.Errorf("plan: %v", got)
	}
}

// TestAnotherStoreInThePlace: generated values are not made anew when all that
// the state knows is missing at once.
func TestAnotherStoreInThePlace(t *testing.T) {
	const two = `
secret "one" {
  store = secret_store.main
  name  = "one"
  generate {}
}
secret "two" {
  store = secret_store.main
  name  = "two"
  value = var.v
}
`
	v := newVault(t, two)
	v.want("create secret.one config: new in the configuration", "create secret.two config: new in the configuration")
	v.main = awsfake.New("eu-west-1")
	v.main.Rates = false
	const why = "is left alone: it is gone from the store, and so is all else that the state knows there, generated values among it, which can not be made again"
	v.want("problem secret.one: secret aws/eu-west-1:one "+why, "problem secret.two: secret aws/eu-west-1:two "+why)
	v.main = awsfake.New("eu-west-1")
	v.main.Rates = false
	v.main.Foreign("two", "first") // it is the store after all
	v.hcl = strings.Replace(two, "value = var.v", "value = var.v\n  adopt = true", 1)
	v.want("create secret.one drift: it is gone from the store; its value is lost and a new one is made",
		"update secret.two config: its owner tag names another owner or none")
}

// TestListsLagBehind: what was changed a moment ago is not drift.
func TestListsLagBehind(t *testing.T) {
	many := func(label, version string) string {
		return fmt.Sprintf(`
secret "made" {
  for_each = toset([for n in range(20) : format("s%%02d", n)])
  store    = secret_store.main
  name     = each.key
  labels   = { team = "%s" }
  version  = "%s"
  generate {}
}
`, label, version)
	}
	v := newVault(t, many("a", "1"))
	v.apply(v.plan(), nil)
	for _, change := range [][2]string{{"b", "1"}, {"b", "2"}, {"c", "2"}} {
		v.hcl = many(change[0], change[1])
		v.main.Lag = 1
		p := v.plan()
		if len(p.Actions) != 20 {
			t.Fatalf("%v: %v", change, show(p))
		}
		if s := v.apply(p, nil); s.Done != 20 {
			t.Fatalf("%s: %v", outcomes(s), s.Errors)
		}
		if left := show(v.plan()); len(left) > 0 {
			t.Fatalf("%v: still to do: %v", change, left)
		}
	}
}
