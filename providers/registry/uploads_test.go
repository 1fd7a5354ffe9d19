package registry_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/providers/registry/kinds"
	"freightliner/providers/registry/registrytest"
)

// Every kind takes a small and a large blob in the shapes of its profile,
// without a refusal, and gets over an upload that breaks off.
func TestUploadsOfEveryKind(t *testing.T) {
	layer := registrytest.Layer(1, 12<<20)
	image := registrytest.Image(2, layer)
	source := registrytest.Start(t)
	registrytest.Push(t, source.Host(), "a", "1", image)
	for _, p := range registrytest.Personalities {
		for _, cut := range []bool{false, true} {
			name := p.Kind
			if cut {
				name += ", cut"
			}
			t.Run(name, func(t *testing.T) {
				p := p
				p.Create = registrytest.CreateRules{} // not what this is about
				dest := registrytest.Start(t, registrytest.As(p))
				if cut {
					dest.Faults.Add(registrytest.Fault{Method: "PATCH", Kind: "upload", Nth: 2, CutRequest: 1 << 20},
						registrytest.Fault{Method: "PUT", Kind: "upload", Nth: 1, Drop: true})
				}
				c := registry.New(registry.Options{Kinds: kinds.All(kinds.Outside{}), Clock: quickly{}, Registries: []registry.Settings{
					{Host: source.Host(), PlainHTTP: true}, {Host: dest.Host(), PlainHTTP: true, Kind: p.Kind}}})
				t.Cleanup(c.Close)
				registry.ShrinkUploads(c, 4<<20, 1<<20)
				job := registry.Job{From: providers.Repository{Host: source.Host(), Path: "a"}, To: providers.Repository{Host: dest.Host(), Path: "acme/app"},
					Root: image.Digest(), Tags: []string{"1"}, Fresh: true}
				if p.Names.Min > 2 {
					job.To.Path = "acme/project/app"
				}
				if _, err := registry.NewCopier(c).Copy(t.Context(), job); err != nil {
					t.Fatal(err)
				}
				registrytest.VerifyTree(t, dest.Host())
				refused := dest.Recorder.Where(func(r registrytest.Request) bool { return r.Kind == "upload" && r.Status >= 400 })
				if !cut && len(refused) > 0 {
					t.Errorf("refused: %v", refused)
				}
			})
		}
	}
}

// Only kinds of which it is known what that does are asked for a blob by a mount;
// whatever the kind, what the next version shares with the one before is not sent.
func TestLooksOfEveryKind(t *testing.T) {
	base := registrytest.Layer(1, 3000)
	before, next := registrytest.Image(2, base), registrytest.Image(3, base, registrytest.Layer(4, 2000))
	source := registrytest.Start(t)
	registrytest.Push(t, source.Host(), "a", "1", next)
	byMount := []string{"generic", "gitlab"}
	for _, p := range registrytest.Personalities {
		t.Run(p.Kind, func(t *testing.T) {
			p.Create = registrytest.CreateRules{} // not what this is about
			dest := registrytest.Start(t, registrytest.As(p))
			c := registry.New(registry.Options{Kinds: kinds.All(kinds.Outside{}), Clock: quickly{}, Registries: []registry.Settings{
				{Host: source.Host(), PlainHTTP: true}, {Host: dest.Host(), PlainHTTP: true, Kind: p.Kind}}})
			t.Cleanup(c.Close)
			to := providers.Repository{Host: dest.Host(), Path: "acme/app"}
			if p.Names.Min > 2 {
				to.Path = "acme/project/app"
			}
			registrytest.Push(t, dest.Host(), to.Path, "1", before)
			if err := c.Recall(t.Context(), to, before.Digest(), 4); err != nil {
				t.Fatal(err)
			}
			dest.Recorder.Reset()
			job := registry.Job{From: providers.Repository{Host: source.Host(), Path: "a"}, To: to, Root: next.Digest(), Tags: []string{"1"}}
			result, err := registry.NewCopier(c).Copy(t.Context(), job)
			if err != nil {
				t.Fatal(err)
			}
			registrytest.VerifyTree(t, dest.Host())
			if result.Skipped != int64(len(base.Data)) {
				t.Errorf("%d bytes were there, want those of the shared layer, %d", result.Skipped, len(base.Data))
			}
			want := map[string]int{"HEAD blob": 2, "POST upload": 2, "PUT manifest": 1}
			if slices.Contains(byMount, p.Kind) {
				want = map[string]int{"POST upload": 3, "PUT manifest": 1} // one finds out how it answers
			}
			got := dest.Recorder.Counts()
			delete(got, "PUT upload")
			delete(got, "PATCH upload")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// quickly is a clock whose waits are over at once.
type quickly struct{ registry.SystemClock }

func (quickly) Wait(ctx context.Context, _ time.Duration) error { return ctx.Err() }
