package registry

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

// The next version of what a repository holds: one read of the version before
// takes the place of the looks for what both have. Counts are those of recalling
// and copying together.
func TestRecall(t *testing.T) {
	base, more := registrytest.Layer(1, 4000), registrytest.Layer(2, 3000)
	oldImage, newImage := registrytest.Image(3, base, more), registrytest.Image(4, base, more, registrytest.Layer(5, 1000))
	oldIndex, newIndex := registrytest.Index(6, base, more), registrytest.Index(7, base, more)
	for _, tt := range []struct {
		name      string
		old, next *registrytest.Artifact
		limit     int
		metered   bool
		want      map[string]int
	}{{
		name: "an image", old: oldImage, next: newImage, limit: 4,
		// Looks: the new layer and the config.
		want: map[string]int{"GET manifest": 1, "HEAD blob": 2, "POST upload": 2, "PUT upload": 2, "PUT manifest": 1},
	}, {
		name: "an image, nothing may be read", old: oldImage, next: newImage, limit: 0,
		want: map[string]int{"HEAD blob": 4, "POST upload": 2, "PUT upload": 2, "PUT manifest": 1},
	}, {
		name: "an index", old: oldIndex, next: newIndex, limit: 5,
		want: map[string]int{"GET manifest": 5, "HEAD manifest": 4, "HEAD blob": 8, "POST upload": 8, "PUT upload": 8, "PUT manifest": 5},
	}, {
		name: "an index of more images than may be read", old: oldIndex, next: newIndex, limit: 4,
		want: map[string]int{"GET manifest": 1, "HEAD manifest": 4, "HEAD blob": 10, "POST upload": 8, "PUT upload": 8, "PUT manifest": 5},
	}, {
		name: "a registry that meters reads", old: oldImage, next: newImage, limit: 4,
		metered: true,
		want:    map[string]int{"HEAD blob": 4, "POST upload": 2, "PUT upload": 2, "PUT manifest": 1},
	}} {
		t.Run(tt.name, func(t *testing.T) {
			source, dest := registrytest.Start(t), registrytest.Start(t)
			registrytest.Push(t, source.Host(), "a", "1", tt.next)
			registrytest.Push(t, dest.Host(), "b", "1", tt.old)
			c := plainClient(t, source.Host(), dest.Host())
			to := repo(dest.Host(), "b")
			dest.Recorder.Reset()
			if tt.metered {
				r, err := c.remoteFor(to)
				if err != nil {
					t.Fatal(err)
				}
				r.counters.left(Quota{Limit: 100, Remaining: 90}) // as the look at the tag tells
			}
			if err := c.Recall(t.Context(), to, tt.old.Digest(), tt.limit); err != nil {
				t.Fatal(err)
			}
			mustCopy(t, NewCopier(c), Job{From: repo(source.Host(), "a"), To: to, Root: tt.next.Digest(), Tags: []string{"1"}})
			if diff := cmp.Diff(tt.want, dest.Recorder.Counts()); diff != "" {
				t.Errorf("requests to the destination (-want +got):\n%s", diff)
			}
			registrytest.VerifyTree(t, dest.Host())
		})
	}
}

// A child that is in memory was read at the source: an index at the destination
// that lists it may be sparse, and what the child needs is looked for.
func TestRecallOfASparseIndex(t *testing.T) {
	source, dest := registrytest.Start(t), registrytest.Start(t)
	index := registrytest.Index(1, registrytest.Layer(2, 4000))
	registrytest.Push(t, source.Host(), "a", "1", index)
	registrytest.Push(t, dest.Host(), "b", "1", index)
	c := plainClient(t, source.Host(), dest.Host())
	if _, err := c.Contents(t.Context(), repo(source.Host(), "a"), index.Digest(), nil); err != nil {
		t.Fatal(err)
	}
	to := repo(dest.Host(), "b")
	if err := c.Recall(t.Context(), to, index.Digest(), 10); err != nil {
		t.Fatal(err)
	}
	for _, child := range index.Children {
		if c.known.complete(to, child.Digest()) {
			t.Errorf("%s counts as there, and nobody looked", child.Digest().Short())
		}
	}
}

// What is recalled and lost meanwhile is sent when the manifest is refused.
func TestRecalledAndLost(t *testing.T) {
	base := registrytest.Layer(1, 4000)
	oldImage, newImage := registrytest.Image(2, base), registrytest.Image(3, base)
	source, dest := registrytest.Start(t), registrytest.Start(t)
	registrytest.Push(t, source.Host(), "a", "1", newImage)
	c := plainClient(t, source.Host(), dest.Host())
	to := repo(dest.Host(), "b")
	// As if it had been read there before a garbage collection.
	old, err := parseManifest(oldImage.Raw, oldImage.MediaType)
	if err != nil {
		t.Fatal(err)
	}
	old.Digest = providers.SHA256(oldImage.Raw)
	c.note(to, old)
	mustCopy(t, NewCopier(c), Job{From: repo(source.Host(), "a"), To: to, Root: newImage.Digest(), Tags: []string{"1"}})
	registrytest.VerifyTree(t, dest.Host())
}

// A tag that is going to be read costs one request where reads are free. Where they
// are counted, two tags of one manifest cost one read.
func TestResolve(t *testing.T) {
	for _, tt := range []struct {
		name    string
		metered bool
		want    map[string]int
	}{
		{"reads are free", false, map[string]int{"GET manifest": 2}},
		{"reads are counted", true, map[string]int{"HEAD manifest": 2, "GET manifest": 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			source := registrytest.Start(t)
			image, from := registrytest.Image(1), repo(source.Host(), "a")
			registrytest.Push(t, source.Host(), "a", "1", image)
			registrytest.Push(t, source.Host(), "a", "latest", image)
			c := plainClient(t, source.Host())
			source.Recorder.Reset()
			if tt.metered {
				r, err := c.remoteFor(from)
				if err != nil {
					t.Fatal(err)
				}
				r.counters.left(Quota{Limit: 100, Remaining: 90})
			}
			for _, tag := range []string{"1", "latest"} {
				d, err := c.Resolve(t.Context(), from, tag)
				if err != nil || d != image.Digest() {
					t.Fatalf("%s is %s, %v; want %s", tag, d, err, image.Digest())
				}
				if _, err := c.Manifest(t.Context(), from, string(d)); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(tt.want, source.Recorder.Counts()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}
