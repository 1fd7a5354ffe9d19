package kinds

import (
	"testing"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

// A tag goes alone: another tag on the same content keeps it, whatever a DELETE of
// the distribution API would take along; and where nothing takes a tag alone,
// nothing is asked for (mirroring.md, case 28).
func TestSharedDigestSurvivesItsTag(t *testing.T) {
	for _, s := range sites {
		t.Run(s.personality.Kind, func(t *testing.T) {
			w := newWorld(t, s, registrytest.WithLogin())
			w.registries()
			path, image := s.place+"app", registrytest.Image(1, registrytest.Layer(1, 100))
			w.CreateRepository(path)
			registrytest.Push(t, w.Server.Host(), path, "old", image)
			registrytest.Tag(t, w.Server.Host(), path, "kept", image)
			w.Recorder.Reset()
			c := w.client(Outside{AWS: keys}, w.login)

			err := c.Delete(t.Context(), w.repo(path), "old")
			want := map[string]providers.Digest{"kept": image.Digest()}
			if s.personality.Kind == "ghcr" { // only whole versions
				want["old"] = image.Digest()
				if providers.ClassOf(err) != providers.Unsupported || providers.HintOf(err) == "" || w.Recorder.Total() != 0 {
					t.Errorf("%v (hint %q) after %d requests; want a refusal and none", err, providers.HintOf(err), w.Recorder.Total())
				}
			} else if err != nil {
				t.Fatalf("%v\n%s", err, w.log())
			} else if err := c.Delete(t.Context(), w.repo(path), "old"); providers.ClassOf(err) != providers.NotFound {
				t.Errorf("again: %v, want not found\n%s", err, w.log())
			}
			registrytest.Equal(t, registrytest.Inventory(t, w.Server.Host()), registrytest.Listing{path: want})
			if len(w.strays) > 0 {
				t.Errorf("requests to hosts that do not belong: %v", w.strays)
			}
		})
	}
}
