package executor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freightliner/config"
	"freightliner/executor"
	"freightliner/planner"
	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/providers/registry/registrytest"
	"freightliner/statefile"
)

// bench is two registries, a tree between them, and a state.
type bench struct {
	t                   *testing.T
	source, destination *registrytest.Server
	tree                config.Tree
	images              []config.Image
	fsys                statefile.FS
	clock               registry.Clock // nil for the machine's
	options             func(*registry.Options)
	events              []executor.Event
	mu                  sync.Mutex
}

func newBench(t *testing.T, options ...registrytest.Option) *bench {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	b := &bench{t: t, source: registrytest.Start(t, options...), destination: registrytest.Start(t, options...), fsys: statefile.OS(root)}
	b.tree = config.Tree{
		Address:     "tree.p",
		Source:      providers.Repository{Host: b.source.Host(), Path: "acme"},
		Destination: providers.Repository{Host: b.destination.Host(), Path: "mirror"},
		Copy:        config.CopyOptions{Referrers: true, Overwrite: "always"},
		Prune:       "managed", MaxDeletes: config.Limit{Set: true, Number: 100, Percent: true},
		Lifecycle: config.Lifecycle{OnRemove: "forget"},
	}
	return b
}

// instant is a clock whose waits are over at once: for retries without pauses.
// Followers of another action's upload do not wait either, so it is no clock
// for tests that count bytes.
type instant struct{}

func (instant) Now() time.Time                                  { return time.Unix(0, 0) }
func (instant) Wait(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func (b *bench) client() *registry.Client {
	o := registry.Options{Clock: b.clock, Registries: []registry.Settings{
		{Host: b.source.Host(), PlainHTTP: true}, {Host: b.destination.Host(), PlainHTTP: true},
	}}
	if b.options != nil {
		b.options(&o)
	}
	c := registry.New(o)
	b.t.Cleanup(c.Close)
	return c
}

func (b *bench) config() *config.Config {
	cfg := &config.Config{Images: b.images}
	if b.tree.Address != "" {
		cfg.Trees = []config.Tree{b.tree}
	}
	return cfg
}

func (b *bench) state() *statefile.State {
	b.t.Helper()
	state, err := statefile.Read(b.fsys, "test.state")
	if err != nil {
		b.t.Fatal(err)
	}
	return state
}

func (b *bench) plan(change ...func(*planner.Input)) *planner.Plan {
	b.t.Helper()
	in := planner.Input{Config: b.config(), State: b.state(), Client: b.client()}
	for _, c := range change {
		c(&in)
	}
	p, diags, err := planner.New(context.Background(), in)
	if err != nil || len(diags) > 0 {
		b.t.Fatal(err, diags)
	}
	return p
}

func (b *bench) apply(p *planner.Plan, change ...func(*executor.Options)) *executor.Summary {
	b.t.Helper()
	journal, state, release := b.begin(p)
	b.events = nil
	opts := executor.Options{Clock: b.clock, Parallelism: 4, Events: func(e executor.Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, e)
	}}
	for _, c := range change {
		c(&opts)
	}
	summary := executor.Apply(context.Background(), p, executor.Run{State: state, Journal: journal, Client: b.client()}, opts)
	release()
	return summary
}

// begin locks and opens the state for a run; release compacts and lets go.
func (b *bench) begin(p *planner.Plan) (journal *statefile.Journal, state *statefile.State, release func()) {
	b.t.Helper()
	ctx := context.Background()
	lock, err := statefile.AcquireLock(ctx, b.fsys, "test.state", statefile.Holder{}, statefile.LockOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	journal, state, err = statefile.Begin(ctx, lock, "test.state", statefile.RunInfo{Run: "test", Plan: p.ID()}, statefile.Options{})
	if err != nil {
		b.t.Fatal(err)
	}
	return journal, state, func() {
		if err := journal.Close(); err != nil {
			b.t.Fatal(err)
		}
		if err := lock.Release(); err != nil {
			b.t.Fatal(err)
		}
	}
}

// synced fails unless a plan finds nothing to do.
func (b *bench) synced() {
	b.t.Helper()
	p := b.plan()
	if !p.Empty() || len(p.Problems) > 0 {
		b.t.Fatalf("the next plan is not empty:\n%s", strings.Join(show(p), "\n"))
	}
}

func show(p *planner.Plan) []string {
	var out []string
	for _, a := range p.Actions {
		out = append(out, fmt.Sprintf("%s %s %s: %s", a.Verb, a.Address, a.Cause, a.Reason))
	}
	for _, q := range p.Problems {
		out = append(out, fmt.Sprintf("problem %s: %s", q.Address, q.Summary))
	}
	return out
}

// outcomes is a summary as one line.
func outcomes(s *executor.Summary) string {
	return fmt.Sprintf("done %d (already %d), failed %d, skipped %d, stale %d, not started %d",
		s.Done, s.Already, s.Failed, s.Skipped, s.Stale, s.NotStarted)
}

func expect(t *testing.T, s *executor.Summary, want string) {
	t.Helper()
	if got := outcomes(s); got != want {
		t.Errorf("outcome:\n got %s\nwant %s\nerrors: %v", got, want, errors.Join(s.Errors...))
	}
	if s.JournalErr != nil {
		t.Errorf("journal: %v", s.JournalErr)
	}
}

func TestApplyThenPlanIsEmpty(t *testing.T) {
	for name, options := range map[string][]registrytest.Option{
		"with the referrers API":    nil,
		"without the referrers API": {registrytest.WithoutReferrers()},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, options...)
			registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 4, Tags: 3, Prefix: "acme", Indexes: true, Signed: true, SBOMs: true})
			summary := b.apply(b.plan())
			if summary.Failed+summary.Skipped+summary.Stale+summary.NotStarted > 0 || summary.Done == 0 {
				t.Fatalf("%s: %v", outcomes(summary), errors.Join(summary.Errors...))
			}
			b.synced()
			source := registrytest.Inventory(t, b.source.Host()).Under("acme")
			destination := registrytest.Inventory(t, b.destination.Host()).Under("mirror")
			// The list under a fallback tag is merged, so its bytes are the
			// destination's own; what it lists is checked by synced.
			registrytest.Equal(t, destination.WithoutFallback(), source.WithoutFallback())
			registrytest.VerifyTree(t, b.destination.Host())
		})
	}
}

func TestEachBlobMovesOnce(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 3, Tags: 2, Prefix: "acme", LayerSize: 2048})
	p := b.plan()
	b.destination.Recorder.Reset()
	summary := b.apply(p)
	if want := p.Totals().Bytes; summary.Bytes != want {
		t.Errorf("moved %d bytes, the plan said %d", summary.Bytes, want)
	}
	in, _ := b.destination.Recorder.Bytes()
	if in < summary.Bytes || in > summary.Bytes+64<<10 {
		t.Errorf("the destination received %d bytes for %d bytes of blobs", in, summary.Bytes)
	}
}

func TestTagMovedAndTagDeleted(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 2, Tags: 2, Prefix: "acme"})
	b.apply(b.plan())
	registrytest.Push(t, b.source.Host(), "acme/app-0000", "v1.0.0", registrytest.Image(99, registrytest.Layer(99, 512)))
	registrytest.Delete(t, b.destination.Host(), "mirror/app-0001", "v1.1.0")
	p := b.plan()
	want := []string{
		"update tree.p/app-0000:v1.0.0 upstream: moved at the source",
		"create tree.p/app-0001:v1.1.0 drift: deleted at the destination",
	}
	if diff := cmp.Diff(want, show(p)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	expect(t, b.apply(p), "done 2 (already 0), failed 0, skipped 0, stale 0, not started 0")
	b.synced()
}

func TestPruneDeletesOnlyOurs(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 3, Prefix: "acme"})
	registrytest.Push(t, b.destination.Host(), "mirror/app-0000", "foreign", registrytest.Image(7))
	b.apply(b.plan())
	registrytest.Delete(t, b.source.Host(), "acme/app-0000", "v1.1.0")
	p := b.plan()
	if diff := cmp.Diff([]string{"delete tree.p/app-0000:v1.1.0 upstream: left the source"}, show(p)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	expect(t, b.apply(p), "done 1 (already 0), failed 0, skipped 0, stale 0, not started 0")
	b.synced()
	tags := registrytest.Inventory(t, b.destination.Host())["mirror/app-0000"]
	if _, kept := tags["foreign"]; !kept || len(tags) != 3 {
		t.Errorf("tags left at the destination: %v", tags)
	}
}

func TestStaleActionsAreLeftAlone(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 2, Prefix: "acme"})
	b.apply(b.plan())
	registrytest.Push(t, b.source.Host(), "acme/app-0000", "v1.0.0", registrytest.Image(99))
	registrytest.Push(t, b.source.Host(), "acme/app-0000", "v1.1.0", registrytest.Image(98))
	p := b.plan()
	mine := registrytest.Push(t, b.destination.Host(), "mirror/app-0000", "v1.0.0", registrytest.Image(1234))
	summary := b.apply(p)
	expect(t, summary, "done 1 (already 0), failed 0, skipped 0, stale 1, not started 0")
	if got := registrytest.Inventory(t, b.destination.Host())["mirror/app-0000"]["v1.0.0"]; got != mine {
		t.Errorf("somebody else's content was overwritten with %s", got)
	}
	var stale error
	for _, err := range summary.Errors {
		if err != nil {
			stale = err
		}
	}
	if providers.ClassOf(stale) != providers.Conflict || !strings.Contains(stale.Error(), "the plan saw") {
		t.Errorf("error: %v", stale)
	}
}

func TestSavedPlanResumes(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 2, Tags: 3, Prefix: "acme"})
	p := b.plan()
	p.Saved = true
	stop := make(chan struct{})
	var once sync.Once
	first := b.apply(p, func(o *executor.Options) {
		o.Parallelism, o.Stop = 1, stop
		events := o.Events
		o.Events = func(e executor.Event) {
			events(e)
			if e.Type == executor.Finished && p.Actions[e.Action].Kind == statefile.KindTag {
				once.Do(func() { close(stop) })
			}
		}
	})
	if first.Done == 0 || first.NotStarted == 0 || !first.Interrupted {
		t.Fatalf("the first apply was not cut short: %s", outcomes(first))
	}
	// What is done is in the state: applying the same plan again asks the
	// registries for nothing of it.
	done := first.Done
	second := b.apply(p)
	expect(t, second, fmt.Sprintf("done 6 (already %d), failed 0, skipped 0, stale 0, not started 0", done))
	b.synced()
}

func TestOneBrokenRepositoryAmongMany(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 5, Tags: 1, Prefix: "acme"})
	b.destination.Faults.Add(registrytest.Fault{Method: "POST", Path: `^/v2/mirror/app-0002/`, Times: -1, Status: 403, Body: `{"errors":[{"code":"DENIED","message":"no push here"}]}`})
	summary := b.apply(b.plan())
	expect(t, summary, "done 4 (already 0), failed 1, skipped 0, stale 0, not started 0")
	b.destination.Faults.Clear()
	p := b.plan()
	if diff := cmp.Diff([]string{"create tree.p/app-0002:v1.0.0 upstream: new at the source"}, show(p)); diff != "" {
		t.Errorf("the next plan has the rest (-want +got):\n%s", diff)
	}
	b.apply(p)
	b.synced()
}

func TestUnreadableRepositoryIsAProblemOfThePlan(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 3, Tags: 1, Prefix: "acme"})
	b.source.Faults.Add(registrytest.Fault{Method: "GET", Path: `^/v2/acme/app-0001/tags`, Times: -1, Status: 403, Body: `{}`})
	p := b.plan()
	if len(p.Problems) != 1 || p.Problems[0].Address != "tree.p/app-0001" || p.Problems[0].Class != providers.Denied {
		t.Fatalf("problems: %+v", p.Problems)
	}
	expect(t, b.apply(p), "done 2 (already 0), failed 0, skipped 0, stale 0, not started 0")
}

func TestReferrersWaitForTheirImage(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 1, Prefix: "acme", Signed: true})
	b.destination.Faults.Add(registrytest.Fault{Method: "PUT", Path: `^/v2/mirror/app-0000/manifests/`, Times: -1, Status: 400, Body: `{"errors":[{"code":"MANIFEST_INVALID","message":"no"}]}`})
	summary := b.apply(b.plan())
	expect(t, summary, "done 0 (already 0), failed 1, skipped 1, stale 0, not started 0")
	i := slices.IndexFunc(b.events, func(e executor.Event) bool { return e.Type == executor.Skipped })
	if i < 0 || b.events[i].Because != "tree.p/app-0000:v1.0.0" {
		t.Errorf("nothing says why: %+v", b.events)
	}
}

func TestPassingTroubleIsTriedAgainLast(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 2, Tags: 1, Prefix: "acme"})
	b.clock = instant{}
	// More failures than one request's own retries get over.
	b.destination.Faults.Add(registrytest.Fault{Method: "PUT", Path: `^/v2/mirror/app-0000/manifests/`, Times: 6, Status: 503})
	summary := b.apply(b.plan())
	expect(t, summary, "done 2 (already 0), failed 0, skipped 0, stale 0, not started 0")
	if !slices.ContainsFunc(b.events, func(e executor.Event) bool { return e.Type == executor.Retrying }) {
		t.Error("nothing was tried again: the fault did not reach the executor")
	}
	b.synced()
}

func TestMaxFailuresStops(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 6, Tags: 1, Prefix: "acme"})
	b.destination.Faults.Add(registrytest.Fault{Method: "POST", Path: `uploads`, Times: -1, Status: 403})
	summary := b.apply(b.plan(), func(o *executor.Options) { o.MaxFailures, o.Parallelism = 2, 1 })
	expect(t, summary, "done 0 (already 0), failed 2, skipped 0, stale 0, not started 4")
}

// brokenJournal fails after so many changes.
type brokenJournal struct {
	mu   sync.Mutex
	left int
}

func (j *brokenJournal) Done(changes ...statefile.Change) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.left--; j.left < 0 {
		return errors.New("no space left on device")
	}
	return nil
}
func (j *brokenJournal) Fail(string, providers.Class) error  { return nil }
func (j *brokenJournal) Intent(string, string, string) error { return nil }

func TestNoEffectAfterTheJournalFailed(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 6, Tags: 1, Prefix: "acme"})
	p := b.plan()
	summary := executor.Apply(context.Background(), p, executor.Run{State: b.state(), Journal: &brokenJournal{left: 2}, Client: b.client()},
		executor.Options{Parallelism: 1})
	if summary.JournalErr == nil || summary.Done != 1 {
		t.Errorf("%s, journal error %v", outcomes(summary), summary.JournalErr)
	}
	if tags := registrytest.Inventory(t, b.destination.Host()).Tags(); tags != 2 { // the recorded one, and the one whose record failed
		t.Errorf("%d tags were written", tags)
	}
}

func TestDestinationMoves(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 2, Prefix: "acme"})
	b.apply(b.plan())
	b.tree.Destination.Path = "elsewhere"
	b.apply(b.plan())
	b.synced()
	all := registrytest.Inventory(t, b.destination.Host())
	registrytest.Equal(t, all.Under("elsewhere"), all.Under("mirror")) // the old copies are left alone
}

func TestChainIsAppliedInOnePlan(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 2, Tags: 2, Prefix: "acme"})
	b.images = []config.Image{{
		Address: "image.copy", Source: b.tree.Destination.Join("app-0001"), SourceTag: "v1.0.0",
		Destination: providers.Repository{Host: b.destination.Host(), Path: "golden/app"}, DestinationTag: "stable",
		Copy: b.tree.Copy, Lifecycle: b.tree.Lifecycle,
	}}
	expect(t, b.apply(b.plan()), "done 5 (already 0), failed 0, skipped 0, stale 0, not started 0")
	b.synced()
}

func TestSelectedPlatformsStaySettled(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 2, Prefix: "acme", Indexes: true})
	b.tree.Copy.Platforms = []providers.Platform{{OS: "linux", Architecture: "arm64"}}
	summary := b.apply(b.plan())
	if summary.Failed > 0 {
		t.Fatal(errors.Join(summary.Errors...))
	}
	b.synced()
	registrytest.VerifyTree(t, b.destination.Host())
}

func TestDestroy(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 2, Tags: 2, Prefix: "acme"})
	registrytest.Push(t, b.destination.Host(), "mirror/app-0000", "foreign", registrytest.Image(7))
	b.apply(b.plan())
	p := b.plan(func(in *planner.Input) { in.Destroy = true })
	expect(t, b.apply(p), "done 4 (already 0), failed 0, skipped 0, stale 0, not started 0")
	if n := b.state().Len(); n != 0 {
		t.Errorf("%d records are left", n)
	}
	if tags := registrytest.Inventory(t, b.destination.Host()).Tags(); tags != 1 {
		t.Errorf("%d tags are left, want the foreign one", tags)
	}
}

func TestPlanBytesDoNotDependOnOrder(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 8, Tags: 3, Prefix: "acme", Indexes: true, Signed: true, SBOMs: true, LayerSize: 100})
	want := b.plan().ID()
	for range 5 {
		if got := b.plan().ID(); got != want {
			t.Fatalf("the same plan has two ids: %s and %s", want, got)
		}
	}
}

func TestSavedPlanRepairsDrift(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 2, Prefix: "acme", Signed: true})
	b.apply(b.plan())
	registrytest.Delete(t, b.destination.Host(), "mirror/app-0000", "v1.0.0")
	registrytest.Push(t, b.destination.Host(), "mirror/app-0000", "v1.1.0", registrytest.Image(99))
	p := b.plan()
	p.Saved = true
	expect(t, b.apply(p), "done 3 (already 0), failed 0, skipped 0, stale 0, not started 0") // and a signature that goes with its image
	b.synced()
}

func TestSavedPlanMovesTheDestination(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 2, Prefix: "acme", Signed: true})
	b.apply(b.plan())
	b.tree.Destination.Path = "elsewhere"
	p := b.plan()
	p.Saved = true
	b.apply(p)
	b.synced()
}

// TestOldPlanDeletesNothingItDoesNotOwn applies a plan with a delete after the
// state has changed under it.
func TestOldPlanDeletesNothingItDoesNotOwn(t *testing.T) {
	for name, c := range map[string]struct {
		change func(b *bench)
		want   string
	}{
		"protected since": {func(b *bench) {
			b.tree.Lifecycle.PreventDestroy = true
			b.tree.Prune = "none"
			b.apply(b.plan())
		}, "is protected (prevent_destroy)"},
		"forgotten since": {func(b *bench) { b.record(statefile.Remove("tree.p/app-0000:v1.1.0")) }, ""},
		"recorded anew since": {func(b *bench) {
			b.record(statefile.Put(statefile.Record{Address: "tree.p/app-0000:v1.1.0", Kind: statefile.KindTag, Digest: providers.SHA256([]byte("x"))}))
		}, "in the state"},
		"the block went elsewhere since": {func(b *bench) {
			r, _ := b.state().Lookup("tree.p")
			r.Destination = b.destination.Host() + "/other"
			b.record(statefile.Put(r))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 3, Prefix: "acme"})
			b.apply(b.plan())
			registrytest.Delete(t, b.source.Host(), "acme/app-0000", "v1.1.0")
			p := b.plan()
			if len(p.Actions) != 1 || p.Actions[0].Verb != planner.Delete {
				t.Fatalf("plan: %v", show(p))
			}
			p.Saved = true
			c.change(b)
			summary := b.apply(p)
			if _, there := registrytest.Inventory(t, b.destination.Host())["mirror/app-0000"]["v1.1.0"]; !there {
				t.Error("the tag was deleted")
			}
			if err := errors.Join(summary.Errors...); c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s: %v, want %q", outcomes(summary), err, c.want)
			}
		})
	}
}

// TestForgedPlanDeletesNothingForeign has a plan file point at a tag that the
// state does not name.
func TestForgedPlanDeletesNothingForeign(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 3, Prefix: "acme"})
	b.apply(b.plan())
	foreign := registrytest.Push(t, b.destination.Host(), "foreign/app", "v1", registrytest.Image(7))
	registrytest.Delete(t, b.source.Host(), "acme/app-0000", "v1.1.0")
	p := b.plan()
	p.Saved = true
	a := &p.Actions[0]
	a.To, a.ToTag = providers.Repository{Host: b.destination.Host(), Path: "foreign/app"}, "v1"
	a.Prior, a.Observed = foreign, foreign
	expect(t, b.apply(p), "done 0 (already 0), failed 0, skipped 0, stale 1, not started 0")
	if got := registrytest.Inventory(t, b.destination.Host())["foreign/app"]["v1"]; got != foreign {
		t.Errorf("the foreign tag has %q", got)
	}
}

// record changes the state behind everybody's back.
func (b *bench) record(changes ...statefile.Change) {
	b.t.Helper()
	ctx := context.Background()
	lock, err := statefile.AcquireLock(ctx, b.fsys, "test.state", statefile.Holder{}, statefile.LockOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	journal, _, err := statefile.Begin(ctx, lock, "test.state", statefile.RunInfo{Run: "test"}, statefile.Options{})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := errors.Join(journal.Done(changes...), journal.Close(), lock.Release()); err != nil {
		b.t.Fatal(err)
	}
}

// TestTroubleThatOutlastsTheRunIsAFailure stops a run while an action waits for
// another try: it was tried and it failed.
func TestTroubleThatOutlastsTheRunIsAFailure(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 2, Tags: 1, Prefix: "acme"})
	b.clock = instant{}
	b.destination.Faults.Add(registrytest.Fault{Method: "PUT", Path: `^/v2/mirror/app-0000/manifests/`, Times: -1, Status: 503})
	stop := make(chan struct{})
	summary := b.apply(b.plan(), func(o *executor.Options) {
		o.Parallelism, o.Stop = 1, stop
		events, started := o.Events, 0
		o.Events = func(e executor.Event) {
			events(e)
			if e.Type == executor.Started {
				started++
			}
			if started == 3 { // the tree's record, the first tag; the second begins
				started++
				close(stop)
			}
		}
	})
	if summary.Outcomes[1] != executor.FailedOutcome || summary.Errors[1] == nil {
		t.Errorf("%s; the tag that was tried: outcome %d, error %v", outcomes(summary), summary.Outcomes[1], summary.Errors[1])
	}
}

func TestNothingStartsAfterStop(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 2, Tags: 1, Prefix: "acme"})
	p := b.plan()
	stop := make(chan struct{})
	close(stop)
	summary := b.apply(p, func(o *executor.Options) { o.Stop = stop })
	if len(b.events) > 0 || !summary.Interrupted {
		t.Errorf("interrupted %t, events %+v", summary.Interrupted, b.events)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	summary = executor.Apply(ctx, p, executor.Run{State: b.state(), Journal: &brokenJournal{}, Client: b.client()}, executor.Options{})
	if summary.JournalErr != nil || !summary.Interrupted {
		t.Errorf("interrupted %t, journal %v: something was done", summary.Interrupted, summary.JournalErr)
	}
}

// stopped is a clock that stands still: whoever waits on it waits for ever.
type stopped struct{ waits chan<- time.Duration }

func (stopped) Now() time.Time { return time.Unix(0, 0) }
func (s stopped) Wait(ctx context.Context, d time.Duration) error {
	s.waits <- d
	<-ctx.Done()
	return ctx.Err()
}

// TestStopEndsThePause stops a run that waits before a further round.
func TestStopEndsThePause(t *testing.T) {
	b := newBench(t)
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 1, Prefix: "acme", Signed: true})
	p := b.plan()
	b.clock = instant{}
	client := b.client()
	b.destination.Faults.Add(registrytest.Fault{Method: "PUT", Path: `manifests/v`, Times: -1, Status: 503})
	waits, stop, done := make(chan time.Duration), make(chan struct{}), make(chan *executor.Summary)
	go func() {
		done <- executor.Apply(context.Background(), p, executor.Run{State: b.state(), Journal: &brokenJournal{left: 100}, Client: client},
			executor.Options{Clock: stopped{waits}, Stop: stop})
	}()
	if d := <-waits; d <= 0 {
		t.Errorf("a pause of %v", d)
	}
	close(stop)
	expect(t, <-done, "done 0 (already 0), failed 1, skipped 1, stale 0, not started 0")
}

// TestThePlansReadsServeTheApply holds the requests of a plan and an apply that
// share a client, as in one run of the program: nothing is asked for twice.
func TestThePlansReadsServeTheApply(t *testing.T) {
	b := newBench(t)
	old := registrytest.Image(1, registrytest.Layer(1, 600))
	registrytest.Push(t, b.source.Host(), "acme/app", "v1", old)
	b.apply(b.plan())
	fresh := registrytest.Image(2, registrytest.Layer(1, 600), registrytest.Layer(2, 700))
	registrytest.Push(t, b.source.Host(), "acme/app", "v2", fresh)
	registrytest.Push(t, b.source.Host(), "acme/app", "latest", fresh)
	b.source.Recorder.Reset()
	b.destination.Recorder.Reset()

	client := b.client()
	p := b.plan(func(in *planner.Input) { in.Client = client })
	summary := executor.Apply(context.Background(), p, executor.Run{State: b.state(), Journal: &brokenJournal{left: 100}, Client: client}, executor.Options{})
	expect(t, summary, "done 2 (already 0), failed 0, skipped 0, stale 0, not started 0")
	heads := len(b.source.Recorder.Where(func(r registrytest.Request) bool { return r.Method == "HEAD" && r.Kind == "manifest" }))
	if n := b.source.Recorder.Count("GET manifest"); n != 2 || heads != 1 {
		t.Errorf("two new tags were read by %d requests, and beside the one that was there %d were looked at", n, heads-1)
	}
	looks := map[string]int{}
	for _, r := range b.destination.Recorder.Where(func(r registrytest.Request) bool { return r.Method == "HEAD" && strings.Contains(r.Path, "/blobs/") }) {
		looks[r.Path]++
	}
	if len(looks) == 0 {
		t.Error("no blob was looked for: the test does not test what it says")
	}
	for path, n := range looks {
		if n > 1 {
			t.Errorf("%s was looked for %d times", path, n)
		}
	}
}

// Of what a plan does not look for, as the signatures of images that move, an
// apply asks by the requests that open the uploads, once it is known that the
// registry answers that: a saved plan's apply begins without knowing anything.
func TestLooksOfAnApply(t *testing.T) {
	for _, saved := range []bool{false, true} {
		t.Run(fmt.Sprint("saved ", saved), func(t *testing.T) {
			b := newBench(t)
			b.options = func(o *registry.Options) {
				o.Kinds = []registry.Kind{{Name: "generic", Profile: registry.Profile{Look: registry.LookMount}}}
			}
			base := registrytest.Layer(1, 500)
			push := func(seed uint64) (images []*registrytest.Artifact) {
				for i := range uint64(6) {
					image := registrytest.Image(seed+i, base, registrytest.Layer(seed+100+i, 200))
					registrytest.Push(t, b.source.Host(), "acme/app", fmt.Sprint("v", i), image)
					images = append(images, image)
				}
				return images
			}
			push(1000)
			b.apply(b.plan())
			for i, image := range push(2000) {
				registrytest.PushReferrer(t, b.source.Host(), "acme/app", registrytest.SBOM(image, uint64(i)))
			}
			client := b.client()
			p := b.plan(func(in *planner.Input) { in.Client = client })
			if p.Saved = saved; saved {
				client = b.client()
			}
			b.destination.Recorder.Reset()
			summary := executor.Apply(context.Background(), p, executor.Run{State: b.state(), Journal: &brokenJournal{left: 1000}, Client: client}, executor.Options{Parallelism: 1})
			expect(t, summary, "done 12 (already 0), failed 0, skipped 0, stale 0, not started 0")
			// Six configs and layers, six SBOMs and their common config; with a saved plan
			// the shared layer, which it finds there. One request finds out.
			missing := 6*2 + 6 + 1
			if n := b.destination.Recorder.Count("PUT upload"); n != missing {
				t.Errorf("%d uploads, want %d", n, missing)
			}
			looks, opened := b.destination.Recorder.Count("HEAD blob"), b.destination.Recorder.Count("POST upload")
			if !saved && (looks != 0 || opened != missing+1) {
				t.Errorf("%d HEADs of blobs and %d POSTs, want none and %d", looks, opened, missing+1)
			}
			// Until one is known to be there, the blobs of the first image are looked for by HEAD.
			if saved && looks > 3 {
				t.Errorf("%d HEADs of blobs, want at most 3", looks)
			}
			registrytest.VerifyTree(t, b.destination.Host())
		})
	}
}
