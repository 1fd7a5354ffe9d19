package executor_test

import (
	"context"
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
)

// TestRepositoriesAreCreated mirrors into a registry that refuses a push below a
// project that does not exist: with create_repositories the plan says what it
// makes, and the copies wait for it.
func TestRepositoriesAreCreated(t *testing.T) {
	b := newBench(t)
	b.destination = registrytest.Start(t, registrytest.As(registrytest.Harbor))
	b.tree.Destination = providers.Repository{Host: b.destination.Host(), Path: "mirror"}
	b.images = []config.Image{{
		Address: "image.one", Source: b.tree.Source.Join("app-0000"), SourceTag: "v1.0.0",
		Destination: providers.Repository{Host: b.destination.Host(), Path: "golden/app"}, DestinationTag: "1",
		Copy: b.tree.Copy, Lifecycle: b.tree.Lifecycle,
	}}
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 2, Prefix: "acme"})
	client := func() *registry.Client {
		c := registry.New(registry.Options{Kinds: kinds.All(kinds.Outside{}), Registries: []registry.Settings{
			{Host: b.source.Host(), PlainHTTP: true},
			{Host: b.destination.Host(), PlainHTTP: true, Kind: "harbor", CreateRepositories: true},
		}})
		t.Cleanup(c.Close)
		return c
	}
	plan := func() *planner.Plan { return b.plan(func(in *planner.Input) { in.Client = client() }) }
	p := plan()
	want := []string{
		"create-repository image.one/ config: it does not exist, and the registry does not make it on the first push",
		"create image.one config: new in the configuration",
		"create tree.p config: new in the configuration",
		"create-repository tree.p/app-0000 config: it does not exist, and the registry does not make it on the first push",
		"create tree.p/app-0000:v1.0.0 config: new in the configuration",
		"create tree.p/app-0000:v1.1.0 config: new in the configuration",
	}
	if diff := cmp.Diff(want, show(p)); diff != "" {
		t.Fatalf("plan (-want +got):\n%s", diff)
	}
	journal, state, release := b.begin(p)
	summary := executor.Apply(context.Background(), p, executor.Run{State: state, Journal: journal, Client: client()}, executor.Options{})
	release()
	expect(t, summary, "done 5 (already 0), failed 0, skipped 0, stale 0, not started 0")
	if again := plan(); !again.Empty() || len(again.Problems) > 0 {
		t.Fatalf("the next plan is not empty:\n%s", strings.Join(show(again), "\n"))
	}
}
