package executor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"freightliner/providers/secret/secrettest/gcpfake"
)

// newProject is a vault whose main store is a project of GCP.
func newProject(t *testing.T, hcl string) *vault {
	v := newVault(t, hcl)
	v.gcp = gcpfake.New(gcpfake.Options{Project: "acme", NoQuotas: true})
	t.Cleanup(v.gcp.Close)
	return v
}

const threeWays = `
secret "text" {
  store = secret_store.main
  name  = "text"
  value = "user:${var.v}"
  labels = { team = "a" }
}
secret "made" {
  store = secret_store.main
  name  = "made"
  generate { length = 24 }
}
secret "copied" {
  store = secret_store.main
  name  = "copied"
  copy {
    store = secret_store.far
    name  = "origin"
  }
}
`

// twenty are enough for the planner to list instead of asking for each.
func twenty() string {
	var hcl strings.Builder
	for i := range 20 {
		fmt.Fprintf(&hcl, "secret \"s%02d\" {\n  store = secret_store.main\n  name  = \"s%02d\"\n  value = var.v\n  adopt = true\n}\n", i, i)
	}
	return hcl.String()
}

// TestProjectInSync: a list without versions and one reading for each value are
// all that a plan in sync asks.
func TestProjectInSync(t *testing.T) {
	v := newProject(t, twenty())
	expect(t, v.apply(v.plan(), nil), "done 20 (already 0), failed 0, skipped 0, stale 0, not started 0")
	v.gcp.ResetCalls()
	v.want()
	if d := cmp.Diff(map[string]int{"ListSecrets": 1, "AccessSecretVersion": 20}, v.gcp.Calls()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestProjectTrouble: what the list does not tell is asked for when a reading
// fails, so that a disabled newest version, or none, is drift and no failure.
func TestProjectTrouble(t *testing.T) {
	v := newProject(t, twenty())
	// Somebody has made one of them already, and given it no value.
	sec := &pb.Secret{Replication: &pb.Replication{Replication: &pb.Replication_Automatic_{Automatic: &pb.Replication_Automatic{}}}}
	if _, err := v.gcp.CreateSecret(context.Background(), &pb.CreateSecretRequest{Parent: "projects/acme", SecretId: "s07", Secret: sec}); err != nil {
		t.Fatal(err)
	}
	p := v.plan()
	if got := show(p); len(got) != 20 || !strings.HasPrefix(got[7], "update secret.s07 drift: it exists and has no value") {
		t.Fatal(got)
	}
	expect(t, v.apply(p, nil), "done 20 (already 0), failed 0, skipped 0, stale 0, not started 0")
	v.want()
	if _, err := v.gcp.DisableSecretVersion(context.Background(), &pb.DisableSecretVersionRequest{Name: "projects/acme/secrets/s03/versions/1"}); err != nil {
		t.Fatal(err)
	}
	v.want("update secret.s03 drift: its current version is disabled")
	if got := v.gcp.Made("s03"); len(got) != 2 || got[1].Payload != "first" {
		t.Errorf("%+v", got)
	}
	// A right that is missing stays a failure of this one secret.
	v.gcp.Deny("secretmanager.versions.access", "s05")
	if p := v.plan(); len(p.Actions) != 0 || len(p.Problems) != 1 {
		t.Errorf("denied: %v", show(p))
	}
}

// TestProjectKillPoints breaks every call of two applies over a project, each in
// several ways; the next run makes what is left, and no version twice.
func TestProjectKillPoints(t *testing.T) {
	points := 0
	for round, kind := range []gcpfake.Kind{gcpfake.Refuse, gcpfake.Lost, gcpfake.Late, gcpfake.Refuse, gcpfake.Lost, gcpfake.Late} {
		for n := 1; ; n++ {
			v := newProject(t, threeWays)
			v.far.Foreign("origin", "from afar")
			versions := 1
			if round >= 3 { // the second change of each
				v.apply(v.plan(), nil)
				v.vars["v"] = "second"
				v.far.Foreign("origin", "newer")
				versions = 2
			}
			p := v.plan()
			var calls atomic.Int64
			v.gcp.Script(func(gcpfake.Call) gcpfake.Fault {
				switch at := calls.Add(1); {
				case at < int64(n):
					return gcpfake.Fault{}
				case at == int64(n):
					return gcpfake.Fault{Kind: kind, Delay: 10e9}
				}
				return gcpfake.Fault{Kind: gcpfake.Refuse, Code: codes.Unavailable}
			})
			v.apply(p, func() bool { return calls.Load() >= int64(n) })
			reached := calls.Load() >= int64(n)
			v.gcp.Script(nil)
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
			v.gcp.Land()
			for name, want := range map[string]int{"text": versions, "made": 1, "copied": versions} {
				if got := v.gcp.Made(name); len(got) != want {
					t.Fatalf("round %d (%v), call %d: %d versions of %s were made, want %d", round, kind, n, len(got), name, want)
				}
			}
		}
	}
	t.Logf("%d points", points)
	if points < 60 {
		t.Errorf("only %d points were reached", points)
	}
}
