package executor_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/config"
	"freightliner/executor"
	"freightliner/planner"
	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
	"freightliner/statefile"
)

// addresses are what the state has.
func (b *bench) addresses() []string {
	var all []string
	for record := range b.state().All() {
		all = append(all, record.Address)
	}
	return all
}

func (b *bench) expectPlan(p *planner.Plan, want ...string) {
	b.t.Helper()
	if diff := cmp.Diff(want, show(p)); diff != "" {
		b.t.Errorf("plan (-want +got):\n%s", diff)
	}
}

// TestExcludedRepositoryIsNotMirroredAnyMore excludes a repository that the
// state knows: what is there stays, or goes with prune, and nothing new comes.
func TestExcludedRepositoryIsNotMirroredAnyMore(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 2, Tags: 1, Prefix: "acme"})
	b.apply(b.plan())
	registrytest.Push(t, b.source.Host(), "acme/app-0001", "v9", registrytest.Image(9))
	registrytest.Push(t, b.source.Host(), "acme/app-0001", "v1.0.0", registrytest.Image(10))
	b.tree.Repositories.Exclude = []string{"app-0001"}
	b.tree.Prune = "none"
	p := b.plan()
	b.expectPlan(p, "update tree.p config: what it selects changed")
	if p.Blocks[0].Left != 1 {
		t.Errorf("left: %d", p.Blocks[0].Left)
	}
	b.apply(p)
	b.tree.Prune = "managed"
	p = b.plan()
	b.expectPlan(p, "delete tree.p/app-0001:v1.0.0 config: no longer selected")
	b.apply(p)
	b.synced()
}

// TestRenamedBlockDeletesNothing gives a block another name: the tags change
// hands.
func TestRenamedBlockDeletesNothing(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 2, Prefix: "acme"})
	b.tree.Lifecycle.OnRemove = "delete"
	b.apply(b.plan())
	before := registrytest.Inventory(t, b.destination.Host())
	b.tree.Address = "tree.q"
	p := b.plan()
	b.expectPlan(p,
		"create tree.q config: new in the configuration",
		"adopt tree.q/app-0000:v1.0.0 config: identical content is there already",
		"adopt tree.q/app-0000:v1.1.0 config: identical content is there already",
		"forget tree.p/app-0000:v1.0.0 config: removed from the configuration, and tree.q writes it now",
		"forget tree.p/app-0000:v1.1.0 config: removed from the configuration, and tree.q writes it now",
		"forget tree.p config: removed from the configuration",
	)
	b.apply(p)
	registrytest.Equal(t, registrytest.Inventory(t, b.destination.Host()), before)
	b.synced()
}

// TestTagThatGoesToAnotherBlockStays has an image take over a tag that its tree
// selects no more.
func TestTagThatGoesToAnotherBlockStays(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 2, Prefix: "acme"})
	b.apply(b.plan())
	b.tree.Tags.Exclude = []string{"v1.0.0"}
	b.images = []config.Image{{
		Address: "image.one", Source: b.tree.Source.Join("app-0000"), SourceTag: "v1.0.0",
		Destination: b.tree.Destination.Join("app-0000"), DestinationTag: "v1.0.0", Copy: b.tree.Copy,
	}}
	p := b.plan()
	b.expectPlan(p,
		"adopt image.one config: identical content is there already",
		"update tree.p config: what it selects changed",
		"forget tree.p/app-0000:v1.0.0 config: no longer selected, and image.one writes it now",
	)
	b.apply(p)
	b.synced()

	// And where the other block is left out of the plan, nobody knows.
	b.images = nil
	b.tree.Tags.Exclude = nil
	b.apply(b.plan())
	other := b.tree
	other.Address, other.Source.Path = "tree.q", "elsewhere"
	b.tree.Tags.Exclude = []string{"v1.0.0"}
	p = b.plan(func(in *planner.Input) {
		in.Config.Trees = append(in.Config.Trees, other)
		in.Targets = []string{"tree.p"}
	})
	if slices.ContainsFunc(p.Actions, func(a planner.Action) bool { return a.Verb == planner.Delete }) {
		t.Errorf("plan: %v", show(p))
	}
}

// TestSignaturesOfAnIndexsImagesAreNotForgotten breaks the copy of signatures
// after their index is there: the next run brings them.
func TestSignaturesOfAnIndexsImagesAreNotForgotten(t *testing.T) {
	index := registrytest.Index(1)
	child := index.Children[0]
	signature := registrytest.SignatureTag(child.Digest())
	for name, broken := range map[string]func(b *bench){
		"the signature failed": func(b *bench) {
			b.destination.Faults.Add(registrytest.Fault{Method: "PUT", Path: `sig$`, Times: -1, Status: 403})
			b.apply(b.plan())
			b.destination.Faults.Clear()
		},
		"the run ended before the record": func(b *bench) {
			registrytest.Push(b.t, b.destination.Host(), "mirror/app", "v1", index)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			registrytest.Push(t, b.source.Host(), "acme/app", "v1", index)
			registrytest.Push(t, b.source.Host(), "acme/app", signature, registrytest.Signature(child, 1))
			broken(b)
			summary := b.apply(b.plan())
			if summary.Failed > 0 || registrytest.Inventory(t, b.destination.Host())["mirror/app"][signature] == "" {
				t.Errorf("%s: the signature is missing", outcomes(summary))
			}
			b.synced()
			if diff := cmp.Diff([]string{"tree.p", "tree.p/app:v1"}, b.addresses()); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
		})
	}
}

// TestStateForgetsReferrersWithTheirImage moves a signed tag, takes the
// signature away, and deletes the tag.
func TestStateForgetsReferrersWithTheirImage(t *testing.T) {
	b := newBench(t)
	records := func(want ...string) {
		t.Helper()
		b.apply(b.plan())
		if diff := cmp.Diff(append([]string{"tree.p"}, want...), b.addresses()); diff != "" {
			t.Errorf("state (-want +got):\n%s", diff)
		}
		b.synced()
	}
	host := b.source.Host()
	one, two := registrytest.Image(1), registrytest.Image(2)
	registrytest.Push(t, host, "acme/app", "other", registrytest.Image(3))
	registrytest.Push(t, host, "acme/app", "v1", one)
	registrytest.Push(t, host, "acme/app", registrytest.SignatureTag(one.Digest()), registrytest.Signature(one, 1))
	records("tree.p/app:other", "tree.p/app:v1", "tree.p/app@"+string(one.Digest()))
	registrytest.Push(t, host, "acme/app", "v1", two)
	registrytest.Push(t, host, "acme/app", registrytest.SignatureTag(two.Digest()), registrytest.Signature(two, 1))
	records("tree.p/app:other", "tree.p/app:v1", "tree.p/app@"+string(two.Digest()))
	registrytest.Push(t, host, "acme/app", registrytest.SignatureTag(two.Digest()), registrytest.Signature(two, 2)) // signed again
	b.expectPlan(b.plan(), "update tree.p/app@"+string(two.Digest())+" upstream: attached at the source")
	records("tree.p/app:other", "tree.p/app:v1", "tree.p/app@"+string(two.Digest()))
	registrytest.Delete(t, host, "acme/app", registrytest.SignatureTag(two.Digest()))
	records("tree.p/app:other", "tree.p/app:v1")
	registrytest.Push(t, host, "acme/app", registrytest.SignatureTag(two.Digest()), registrytest.Signature(two, 1))
	records("tree.p/app:other", "tree.p/app:v1", "tree.p/app@"+string(two.Digest()))
	registrytest.Delete(t, host, "acme/app", "v1")
	records("tree.p/app:other")
}

func TestSignedImageGoesToAnotherPlace(t *testing.T) {
	b := newBench(t)
	one := registrytest.Image(1)
	registrytest.Push(t, b.source.Host(), "acme/app", "v1", one)
	registrytest.Push(t, b.source.Host(), "acme/app", registrytest.SignatureTag(one.Digest()), registrytest.Signature(one, 1))
	b.images = []config.Image{{
		Address: "image.one", Source: b.tree.Source.Join("app"), SourceTag: "v1",
		Destination: providers.Repository{Host: b.destination.Host(), Path: "a/app"}, DestinationTag: "v1", Copy: b.tree.Copy,
	}}
	b.tree.Address = ""
	for _, saved := range []bool{false, true} {
		b.apply(b.plan())
		b.synced()
		b.images[0].Destination.Path += "-next"
		p := b.plan()
		p.Saved = saved
		b.apply(p)
		b.synced()
	}
}

func TestSignedChainIsAppliedInOnePlan(t *testing.T) {
	b := newBench(t)
	index := registrytest.Index(1)
	for _, a := range []*registrytest.Artifact{index, index.Children[0]} {
		registrytest.Push(t, b.source.Host(), "acme/app", "v1", index)
		registrytest.Push(t, b.source.Host(), "acme/app", registrytest.SignatureTag(a.Digest()), registrytest.Signature(a, 1))
	}
	b.images = []config.Image{{
		Address: "image.copy", Source: b.tree.Destination.Join("app"), SourceTag: "v1",
		Destination: providers.Repository{Host: b.destination.Host(), Path: "golden/app"}, DestinationTag: "stable", Copy: b.tree.Copy,
	}}
	b.apply(b.plan())
	b.synced()
	if got := len(registrytest.Inventory(t, b.destination.Host())["golden/app"]); got != 3 {
		t.Errorf("%d tags at the end of the chain, want the image and two signatures", got)
	}
}

// TestDestroyWithExceptionsKeepsTheBlock destroys all but one repository: the
// block's record still says where that one is.
func TestDestroyWithExceptionsKeepsTheBlock(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 2, Tags: 1, Prefix: "acme", Signed: true})
	b.apply(b.plan())
	b.apply(b.plan(func(in *planner.Input) { in.Destroy, in.Exclude = true, []string{"tree.p/app-0001"} }))
	if got := b.addresses(); len(got) != 3 || got[0] != "tree.p" {
		t.Errorf("state: %v", got)
	}
	b.destination.Faults.Add(registrytest.Fault{Method: "HEAD", Path: `app-0001`, Times: -1, Status: 403})
	b.apply(b.plan(func(in *planner.Input) { in.Destroy = true }))
	if got := b.addresses(); len(got) != 2 || got[0] != "tree.p" {
		t.Errorf("state after a destroy that could not look: %v", got)
	}
	b.destination.Faults.Clear()
	b.apply(b.plan(func(in *planner.Input) { in.Destroy = true }))
	if got := b.addresses(); len(got) != 0 {
		t.Errorf("state at the end: %v", got)
	}
}

// TestBytesDoNotDependOnWhoLooksFirst has a blob in one of many repositories
// that want it.
func TestBytesDoNotDependOnWhoLooksFirst(t *testing.T) {
	b := newBench(t)
	layer := registrytest.Layer(5, 4096)
	for i := range 8 {
		name := fmt.Sprintf("app-%d", i)
		registrytest.Push(t, b.source.Host(), "acme/"+name, "v1", registrytest.Image(uint64(i), layer))
		registrytest.Push(t, b.destination.Host(), "mirror/"+name, "other", registrytest.Image(uint64(100+i)))
	}
	registrytest.Push(t, b.destination.Host(), "mirror/app-5", "more", registrytest.Image(200, layer))
	want := b.plan()
	for range 20 {
		if got := b.plan(); got.ID() != want.ID() {
			t.Fatalf("two plans: %d and %d bytes to move", want.Totals().Bytes, got.Totals().Bytes)
		}
	}
}

func TestKeptTagGetsNoSignatureOfAnother(t *testing.T) {
	b := newBench(t)
	b.tree.Copy.Overwrite = "never"
	one := registrytest.Image(1)
	registrytest.Push(t, b.source.Host(), "acme/app", "v1", one)
	registrytest.Push(t, b.source.Host(), "acme/app", registrytest.SignatureTag(one.Digest()), registrytest.Signature(one, 1))
	registrytest.Push(t, b.destination.Host(), "mirror/app", "v1", registrytest.Image(2))
	for _, a := range b.plan().Actions {
		if a.Kind == statefile.KindReferrers {
			t.Errorf("%s %s", a.Verb, a.Address)
		}
	}
}

func TestTargetBringsWhatItNeeds(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 2, Tags: 1, Prefix: "acme"})
	b.images = []config.Image{{
		Address: "image.copy", Source: b.tree.Destination.Join("app-0001"), SourceTag: "v1.0.0",
		Destination: providers.Repository{Host: b.destination.Host(), Path: "golden/app"}, DestinationTag: "stable", Copy: b.tree.Copy,
	}}
	p := b.plan(func(in *planner.Input) { in.Targets = []string{"image.copy"} })
	if len(p.Actions) != 4 || len(p.Problems) > 0 {
		t.Errorf("plan: %v", show(p))
	}
	p = b.plan(func(in *planner.Input) { in.Targets = []string{"tree.p/app-0000:*"} })
	b.expectPlan(p, "create tree.p config: new in the configuration", "create tree.p/app-0000:v1.0.0 config: new in the configuration")
	p = b.plan(func(in *planner.Input) { in.Targets, in.Exclude = []string{"tree.p/**"}, []string{"tree.p"} })
	b.expectPlan(p)
}

// TestFeederThatKeepsATagDoesNotDeleteItDownstream holds back a delete in the
// first tree of a chain: the second must not go ahead alone.
func TestFeederThatKeepsATagDoesNotDeleteItDownstream(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 1, Prefix: "acme"})
	second := b.tree
	second.Address, second.Source = "tree.q", b.tree.Destination
	second.Destination = providers.Repository{Host: b.destination.Host(), Path: "second"}
	both := func(in *planner.Input) { in.Config.Trees = append(in.Config.Trees, second) }
	expect(t, b.apply(b.plan(both)), "done 2 (already 0), failed 0, skipped 0, stale 0, not started 0")
	registrytest.Delete(t, b.source.Host(), "acme/app-0000", "v1.0.0")
	for _, a := range b.plan(both).Actions {
		t.Errorf("%s %s: %s", a.Verb, a.Address, a.Reason)
	}
	// A delete that does happen happens first where it is read.
	registrytest.Push(t, b.source.Host(), "acme/app-0000", "v2", registrytest.Image(2))
	p := b.plan(both)
	b.destination.Faults.Add(registrytest.Fault{Method: "DELETE", Path: `^/v2/mirror/`, Times: -1, Status: 403})
	b.apply(p, func(o *executor.Options) { o.Parallelism = 1 })
	if registrytest.Inventory(t, b.destination.Host())["second/app-0000"]["v1.0.0"] == "" {
		t.Error("the second tree deleted a tag that the first still has")
	}
}
