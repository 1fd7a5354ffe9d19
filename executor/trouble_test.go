package executor_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/config"
	"freightliner/executor"
	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/providers/registry/kinds"
	"freightliner/providers/registry/registrytest"
)

// TestFullRepositoryStopsAlone uses up a quota in the middle of a run: the
// repository that met it is left, the others go on, and the registry's words are
// in the failure.
func TestFullRepositoryStopsAlone(t *testing.T) {
	for kind, refusal := range map[string]registrytest.Fault{
		"harbor": {Status: http.StatusForbidden, Body: `{"errors":[{"code":"DENIED","message":"adding 2.1 MiB of storage resource, which when updated to current usage of 8.3 MiB will exceed the configured upper limit of 10.0 MiB."}]}`},
		"quay":   {Status: http.StatusForbidden, Body: `{"errors":[{"code":"DENIED","message":"Quota has been exceeded on namespace"}]}`},
		"":       {Status: http.StatusInsufficientStorage, Body: `{"errors":[{"code":"UNKNOWN","message":"no room, said the disk"}]}`},
	} {
		t.Run("kind "+kind, func(t *testing.T) {
			b := newBench(t)
			b.options = func(o *registry.Options) { o.Kinds, o.Registries[1].Kind = kinds.All(kinds.Outside{}), kind }
			registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 3, Tags: 4, Prefix: "acme"})
			p := b.plan()
			refusal.Method, refusal.Path, refusal.Nth, refusal.Times = http.MethodPut, "^/v2/mirror/app-0001/manifests/", 2, -1
			b.destination.Faults.Add(refusal)
			summary := b.apply(p, func(o *executor.Options) { o.Parallelism = 1 })
			expect(t, summary, "done 9 (already 0), failed 1, skipped 2, stale 0, not started 0")
			refused := b.destination.Recorder.Where(func(r registrytest.Request) bool { return r.Status == refusal.Status })
			if len(refused) != 1 {
				t.Errorf("refused %d times: %v", len(refused), refused)
			}
			failed := errors.Join(summary.Errors...)
			for _, words := range []string{"quota", "MiB", "namespace", "disk"} {
				if strings.Contains(refusal.Body, words) && !strings.Contains(failed.Error(), words) {
					t.Errorf("%q is not in %v", words, failed)
				}
			}
			i := slices.IndexFunc(b.events, func(e executor.Event) bool { return e.Type == executor.Skipped })
			if i < 0 || !strings.HasPrefix(b.events[i].Because, "tree.p/app-0001:") {
				t.Errorf("nothing says why two were skipped: %+v", b.events)
			}
			b.destination.Faults.Clear()
			expect(t, b.apply(b.plan()), "done 3 (already 0), failed 0, skipped 0, stale 0, not started 0")
			b.synced()
		})
	}
}

// TestUnsupportedDeleteIsReportedOnce prunes at a registry that deletes nothing:
// one request for each tag, a failure that says so, and no further round.
func TestUnsupportedDeleteIsReportedOnce(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 3, Prefix: "acme"})
	b.apply(b.plan())
	registrytest.Delete(t, b.source.Host(), "acme/app-0000", "v1.1.0")
	b.destination.Faults.Add(registrytest.Fault{Method: http.MethodDelete, Times: -1, Status: http.StatusMethodNotAllowed})
	for range 2 { // the next run tries again, and no more than that
		b.destination.Recorder.Reset()
		summary := b.apply(b.plan())
		expect(t, summary, "done 0 (already 0), failed 1, skipped 0, stale 0, not started 0")
		if n := len(b.destination.Recorder.Writes()); n != 1 {
			t.Errorf("%d deletes sent, want 1", n)
		}
		if err := errors.Join(summary.Errors...); providers.ClassOf(err) != providers.Unsupported {
			t.Errorf("%v of class %s, want unsupported", err, providers.ClassOf(err))
		} else if hint := providers.HintOf(summary.Errors[slices.IndexFunc(summary.Errors, func(e error) bool { return e != nil })]); !strings.Contains(hint, "does not delete") {
			t.Errorf("hint %q", hint)
		}
	}
	if slices.ContainsFunc(b.events, func(e executor.Event) bool { return e.Type == executor.Retrying }) {
		t.Error("it was tried again")
	}
}

// TestLongPauseIsNotWaitedFor meets a rate limit of hours at the source of a tree:
// what comes from elsewhere is done, the rest says when it can be.
func TestLongPauseIsNotWaitedFor(t *testing.T) {
	b := newBench(t)
	b.clock = instant{}
	other := registrytest.Start(t)
	registrytest.Push(t, other.Host(), "tools/cli", "1", registrytest.Image(77))
	b.options = func(o *registry.Options) {
		o.Registries = append(o.Registries, registry.Settings{Host: other.Host(), PlainHTTP: true})
	}
	b.images = []config.Image{{
		Address: "image.cli", Source: providers.Repository{Host: other.Host(), Path: "tools/cli"}, SourceTag: "1",
		Destination: providers.Repository{Host: b.destination.Host(), Path: "tools/cli"}, DestinationTag: "1",
		Copy: b.tree.Copy, Lifecycle: b.tree.Lifecycle,
	}}
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 2, Tags: 2, Prefix: "acme"})
	p := b.plan()
	b.source.Faults.Add(registrytest.Throttled("blob", -1, "21600"))
	b.source.Recorder.Reset()
	summary := b.apply(p)
	expect(t, summary, "done 1 (already 0), failed 4, skipped 0, stale 0, not started 0")
	for i, err := range summary.Errors {
		if err == nil {
			continue
		}
		if hint := providers.HintOf(err); providers.ClassOf(err) != providers.Throttled || !strings.Contains(hint, "1970-01-01 06:00:00 UTC") {
			t.Errorf("%s: %v (hint %q), want throttled until six", p.Actions[i].Address, err, hint)
		}
	}
	if slices.ContainsFunc(b.events, func(e executor.Event) bool { return e.Type == executor.Retrying }) {
		t.Error("a run waits for a limit of hours")
	}
	if n := b.source.Recorder.Count("GET blob"); n == 0 || n > 8 {
		t.Errorf("%d blobs asked for at a registry that said to wait, want what ran side by side at most", n)
	}
}

// TestLostManifestIsFoundByTheNextPlan has a registry say 201 to a manifest and
// keep nothing. The next plan looks, says so, and the next apply mends it.
func TestLostManifestIsFoundByTheNextPlan(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 2, Prefix: "acme"})
	p := b.plan()
	b.destination.Faults.Add(registrytest.Fault{Method: http.MethodPut, Path: "/manifests/v1.1.0", Status: http.StatusCreated})
	expect(t, b.apply(p), "done 2 (already 0), failed 0, skipped 0, stale 0, not started 0")
	p = b.plan()
	if diff := cmp.Diff([]string{"create tree.p/app-0000:v1.1.0 drift: deleted at the destination"}, show(p)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	expect(t, b.apply(p), "done 1 (already 0), failed 0, skipped 0, stale 0, not started 0")
	b.synced()
	registrytest.VerifyTree(t, b.destination.Host())
}
