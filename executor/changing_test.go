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
	"freightliner/planner"
	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/providers/registry/kinds"
	"freightliner/providers/registry/registrytest"
	"freightliner/statefile"
)

// kinds of problems of a plan, with their addresses.
func problems(p *planner.Plan) []string {
	var out []string
	for _, q := range p.Problems {
		kind := "failed"
		if q.Blocked {
			kind = "blocked"
		}
		out = append(out, kind+" "+q.Address+" "+q.Class.String())
	}
	return out
}

// TestListingsThatAreNotToBeTrusted has the listings of a source go wrong in every
// way after all of it was mirrored with prune = "managed". Nothing is deleted,
// what can still be seen is mirrored, and the problem is there for the exit code.
func TestListingsThatAreNotToBeTrusted(t *testing.T) {
	nothing := `{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}`
	for _, c := range []struct {
		name   string
		faults []registrytest.Fault
		want   []string
	}{
		{"the catalog breaks off on its second page", []registrytest.Fault{
			{Kind: "catalog", Status: 200, Body: `{"repositories":["acme/app-0000"]}`, Header: http.Header{"Link": {`</v2/_catalog?last=acme/app-0000>; rel="next"`}}},
			{Kind: "catalog", Status: 503, Times: -1},
		}, []string{"failed tree.p transient"}},
		{"the catalog is empty, as with wrong rights", []registrytest.Fault{
			{Kind: "catalog", Status: 200, Body: `{"repositories":[]}`, Times: -1},
		}, []string{"blocked tree.p not_found"}},
		{"the catalog is denied", []registrytest.Fault{
			{Kind: "catalog", Status: 403, Times: -1},
		}, []string{"failed tree.p denied"}},
		{"a repository lost all its tags", []registrytest.Fault{
			{Kind: "tags", Path: "app-0001", Status: 404, Body: nothing, Times: -1},
		}, []string{"blocked tree.p/app-0001:v1.0.0 conflict", "blocked tree.p/app-0001:v1.1.0 conflict"}},
		{"a repository says null", []registrytest.Fault{
			{Kind: "tags", Path: "app-0001", Status: 200, Body: `{"tags":null}`, Times: -1},
		}, []string{"blocked tree.p/app-0001:v1.0.0 conflict", "blocked tree.p/app-0001:v1.1.0 conflict"}},
		{"the tags of a repository break off", []registrytest.Fault{
			{Kind: "tags", Path: "app-0001", Status: 200, Body: `{"tags":["v1.0.0"]}`, Header: http.Header{"Link": {`</v2/acme/app-0001/tags/list?last=v1.0.0>; rel="next"`}}},
			{Kind: "tags", Path: "app-0001", Status: 500, Times: -1},
		}, []string{"failed tree.p/app-0001 transient"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.clock = instant{}
			registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 3, Tags: 2, Prefix: "acme"})
			b.apply(b.plan())
			before := registrytest.Inventory(t, b.destination.Host())
			b.source.Faults.Add(c.faults...)
			p := b.plan()
			if diff := cmp.Diff(c.want, problems(p)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if i := slices.IndexFunc(p.Actions, func(a planner.Action) bool { return a.Verb == planner.Delete || a.Verb == planner.Forget }); i >= 0 {
				t.Errorf("the plan has %s", show(p)[i])
			}
			b.apply(p)
			registrytest.Equal(t, registrytest.Inventory(t, b.destination.Host()), before)
			b.source.Faults.Clear()
			b.synced()
		})
	}
}

// TestRepositoryWithoutTags has a catalog name a repository whose tags are all
// gone: it is empty, not an error, and the others are mirrored.
func TestRepositoryWithoutTags(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 2, Tags: 1, Prefix: "acme"})
	b.source.Faults.Add(registrytest.Fault{Kind: "tags", Path: "app-0000", Status: 404, Body: `{"errors":[{"code":"NAME_UNKNOWN"}]}`, Times: -1})
	p := b.plan()
	if len(p.Problems) != 0 {
		t.Errorf("problems: %v", show(p))
	}
	expect(t, b.apply(p), "done 1 (already 0), failed 0, skipped 0, stale 0, not started 0")
	b.synced()
}

// TestNamesTooLongForTheDestination fails what can not be called so in the plan,
// not in the apply, and plans the rest.
func TestNamesTooLongForTheDestination(t *testing.T) {
	b := newBench(t)
	long := "acme/" + strings.Repeat("n", 245)
	registrytest.Push(t, b.source.Host(), long, "1", registrytest.Image(1))
	registrytest.Push(t, b.source.Host(), "acme/app", strings.Repeat("t", 128), registrytest.Image(2))
	b.tree.Destination.Path = "mirror-of-acme"
	p := b.plan()
	if len(p.Problems) != 1 || p.Problems[0].Class != providers.Invalid || !strings.Contains(p.Problems[0].Summary, "260 characters, 255 are allowed") {
		t.Errorf("problems: %+v", p.Problems)
	}
	expect(t, b.apply(p), "done 1 (already 0), failed 0, skipped 0, stale 0, not started 0")
}

// TestTagThatGoesWhileItIsListed: the plan has what could be seen, says what could
// not, and the next one finds the rest.
func TestTagThatGoesWhileItIsListed(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 2, Prefix: "acme"})
	gate := registrytest.NewGate(t)
	b.source.Faults.Add(registrytest.Fault{Method: "GET", Path: "v1.0.0$", Gate: gate})
	planned := make(chan *planner.Plan, 1)
	in := planner.Input{Config: b.config(), State: b.state(), Client: b.client()}
	go func() {
		p, _, err := planner.New(t.Context(), in)
		if err != nil {
			t.Error(err)
		}
		planned <- p
	}()
	<-gate.Reached() // the tags are listed
	registrytest.Delete(t, b.source.Host(), "acme/app-0000", "v1.0.0")
	registrytest.Push(t, b.source.Host(), "acme/app-0000", "new", registrytest.Image(9))
	gate.Open()
	p := <-planned
	if diff := cmp.Diff([]string{"failed tree.p/app-0000:v1.0.0 not_found"}, problems(p)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	expect(t, b.apply(p), "done 1 (already 0), failed 0, skipped 0, stale 0, not started 0")
	p = b.plan()
	if diff := cmp.Diff([]string{"create tree.p/app-0000:new upstream: new at the source"}, show(p)); diff != "" {
		t.Errorf("the next plan (-want +got):\n%s", diff)
	}
	b.apply(p)
	b.synced()
}

// TestSourceMovesBetweenPlanAndApply: what was planned is copied as long as the
// source still has it, whatever its tag says by now. Where it has gone, the item is
// stale, and the others are copied.
func TestSourceMovesBetweenPlanAndApply(t *testing.T) {
	for _, saved := range []bool{false, true} {
		b := newBench(t)
		listing := registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 3, Prefix: "acme"})["acme/app-0000"]
		p := b.plan()
		p.Saved = saved
		registrytest.Push(t, b.source.Host(), "acme/app-0000", "v1.0.0", registrytest.Image(9))
		registrytest.Delete(t, b.source.Host(), "acme/app-0000", string(listing["v1.1.0"]))
		summary := b.apply(p)
		expect(t, summary, "done 2 (already 0), failed 0, skipped 0, stale 1, not started 0")
		want := map[string]providers.Digest{"v1.0.0": listing["v1.0.0"], "v1.2.0": listing["v1.2.0"]}
		if diff := cmp.Diff(want, registrytest.Inventory(t, b.destination.Host())["mirror/app-0000"]); diff != "" {
			t.Errorf("saved %t: destination (-want +got):\n%s", saved, diff)
		}
		err := errors.Join(summary.Errors...)
		if err == nil || !strings.Contains(err.Error(), string(listing["v1.1.0"])) {
			t.Errorf("saved %t: the error does not name the digest: %v", saved, err)
		}
		b.apply(b.plan())
		b.synced()
	}
}

// TestWrittenButNotRecorded ends a run between the manifest and the journal. The
// next one sees by the digest that the tag is right, records it, and sends nothing.
func TestWrittenButNotRecorded(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 2, Prefix: "acme"})
	p := b.plan()
	_, state, release := b.begin(p)
	summary := executor.Apply(t.Context(), p, executor.Run{State: state, Journal: forgetful{}, Client: b.client()}, executor.Options{})
	release()
	if summary.Done != 2 || len(registrytest.Inventory(t, b.destination.Host())["mirror/app-0000"]) != 2 {
		t.Fatalf("the first run: %s", outcomes(summary))
	}
	b.destination.Recorder.Reset()
	next := b.plan()
	want := []string{
		"create tree.p config: new in the configuration",
		"adopt tree.p/app-0000:v1.0.0 config: identical content is there already",
		"adopt tree.p/app-0000:v1.1.0 config: identical content is there already",
	}
	if diff := cmp.Diff(want, show(next)); diff != "" {
		t.Errorf("the next plan (-want +got):\n%s", diff)
	}
	b.apply(next)
	if writes := b.destination.Recorder.Writes(); len(writes) != 0 {
		t.Errorf("sent again: %v", writes)
	}
	b.synced()
}

// forgetful is a journal whose file never reached the disk.
type forgetful struct{}

func (forgetful) Done(...statefile.Change) error      { return nil }
func (forgetful) Fail(string, providers.Class) error  { return nil }
func (forgetful) Intent(string, string, string) error { return nil }

// TestDigestWinsOverTag: of "tag@digest" the digest is what is copied, wherever the
// tag points, and the destination gets the tag that was asked for and no other.
func TestDigestWinsOverTag(t *testing.T) {
	b := newBench(t)
	pinned := registrytest.Push(t, b.source.Host(), "acme/app", "1", registrytest.Image(1))
	registrytest.Push(t, b.source.Host(), "acme/app", "1", registrytest.Image(2))
	b.tree.Address = ""
	for i, tag := range []string{"1", ""} {
		b.images = append(b.images, config.Image{
			Address: []string{"image.both", "image.digest"}[i], Source: b.tree.Source.Join("app"), SourceTag: tag, SourceDigest: pinned,
			Destination: b.tree.Destination.Join("app"), DestinationTag: []string{"both", "digest"}[i], Copy: b.tree.Copy, Lifecycle: b.tree.Lifecycle,
		})
	}
	expect(t, b.apply(b.plan()), "done 2 (already 0), failed 0, skipped 0, stale 0, not started 0")
	want := map[string]providers.Digest{"both": pinned, "digest": pinned}
	if diff := cmp.Diff(want, registrytest.Inventory(t, b.destination.Host())["mirror/app"]); diff != "" {
		t.Errorf("destination (-want +got):\n%s", diff)
	}
	b.synced()
}

// TestImmutableTagsAtTheDestination: what is the same stays in sync without a
// write. What moved at the source is blocked in the plan, and nothing is sent.
func TestImmutableTagsAtTheDestination(t *testing.T) {
	b := newBench(t)
	b.destination = registrytest.Start(t, registrytest.As(registrytest.Harbor))
	b.tree.Destination = providers.Repository{Host: b.destination.Host(), Path: "mirror"}
	b.options = func(o *registry.Options) { o.Kinds, o.Registries[1].Kind = kinds.All(kinds.Outside{}), "harbor" }
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 2, Prefix: "acme"})
	b.destination.Protect("mirror/app-0000", registrytest.Protection{On: true, Only: []string{"v*"}})
	b.apply(b.plan())
	b.synced()
	registrytest.Push(t, b.source.Host(), "acme/app-0000", "v1.0.0", registrytest.Image(9))
	registrytest.Push(t, b.source.Host(), "acme/app-0000", "latest", registrytest.Image(9))
	b.destination.Recorder.Reset()
	p := b.plan()
	want := []string{"create tree.p/app-0000:latest upstream: new at the source"}
	for i, q := range p.Problems {
		if !q.Blocked || q.Address != "tree.p/app-0000:v1.0.0" || !strings.Contains(q.Summary, "the tag is immutable there") {
			t.Errorf("problem %d: %+v", i, q)
		}
		want = append(want, "problem tree.p/app-0000:v1.0.0: "+q.Summary)
	}
	if diff := cmp.Diff(want, show(p)); diff != "" || len(p.Problems) != 1 {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	expect(t, b.apply(p), "done 1 (already 0), failed 0, skipped 0, stale 0, not started 0")
	for _, w := range b.destination.Recorder.Writes() {
		if w.Reference == "v1.0.0" {
			t.Errorf("sent %v", w)
		}
	}
}

// TestDestinationThatIsNotListed: where the state has every tag, the destination is
// not listed, and its trouble is told as if it were: once for a repository that can
// not be read, and as a new repository where it is gone.
func TestDestinationThatIsNotListed(t *testing.T) {
	b := newBench(t)
	b.clock = instant{}
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 3, Prefix: "acme"})
	b.apply(b.plan())
	b.destination.Recorder.Reset()
	b.plan()
	if diff := cmp.Diff(map[string]int{"HEAD manifest": 3}, b.destination.Recorder.Counts()); diff != "" {
		t.Errorf("requests when all is right (-want +got):\n%s", diff)
	}
	denied := registrytest.Fault{Path: "app-0000", Status: 403, Times: -1}
	b.destination.Faults.Add(denied)
	if diff := cmp.Diff([]string{"failed tree.p/app-0000 denied"}, problems(b.plan())); diff != "" {
		t.Errorf("problems of a repository that is denied (-want +got):\n%s", diff)
	}
	b.destination.Faults.Clear()
	b.destination.Faults.Add(registrytest.Fault{Method: "HEAD", Path: "app-0000", Status: 404, Times: -1},
		registrytest.Fault{Kind: "tags", Path: "app-0000", Status: 404, Body: `{"errors":[{"code":"NAME_UNKNOWN"}]}`, Times: -1})
	p := b.plan()
	for _, a := range p.Actions {
		if a.Verb == planner.Create && a.ToTag != "" && (!a.Fresh || a.Cause != planner.ByDrift) {
			t.Errorf("%s of a repository that is gone: fresh %t, cause %s", a.Address, a.Fresh, a.Cause)
		}
	}
	if len(p.Actions) < 3 || len(p.Problems) != 0 {
		t.Errorf("the plan of a repository that is gone: %v %v", show(p), p.Problems)
	}
}
