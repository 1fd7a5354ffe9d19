package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The minimum of a corpus that can be counted on fingers: two repositories on
// one base layer, one of them with two names for one image, the other with an
// index of two images.
func TestLeast(t *testing.T) {
	base, a, b, c := blob{Digest: "base", Size: 100}, blob{Digest: "a", Size: 10}, blob{Digest: "b", Size: 1}, blob{Digest: "c", Size: 1000}
	config := blob{Digest: "config", Size: 5}
	one := imageManifest(false, config, []blob{base, a})
	two, three := imageManifest(false, config, []blob{base, b}), imageManifest(true, config, []blob{base})
	index := indexOf(false, child{manifest: two}, child{manifest: three})
	next := imageManifest(false, config, []blob{base, c})

	first := &corpus{Repositories: []repository{
		{Name: "x", Tags: []tag{{"1", one}, {"latest", one}}},
		{Name: "y", Tags: []tag{{"1", index}}},
	}}
	// x:latest moves to a new image; y:1 moves to a child that y has already.
	second := &corpus{Repositories: []repository{
		{Name: "x", Tags: []tag{{"1", one}, {"latest", next}}},
		{Name: "y", Tags: []tag{{"1", two}}},
	}}
	for _, tt := range []struct {
		name          string
		before, after *corpus
		want          minimum
	}{
		// Source: catalog, 2 lists, 3 tags, 2 further manifests, 4 blobs. Destination: 2
		// lists, 2×4 for blobs, mounts of base and config into the second
		// repository, 4 manifests, 1 further tag.
		{"cold", &corpus{}, first, minimum{source: 12, destination: 17, blobs: 4, bytes: 116}},
		{"nothing to do", first, first, minimum{source: 6, destination: 3}},
		// Source: as above, and one manifest with one blob. Destination: 3 HEADs,
		// POST and PUT, 1 manifest, 1 tag.
		{"moved", first, second, minimum{source: 8, destination: 7, blobs: 1, bytes: 1000}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, least(tt.before, tt.after), cmp.AllowUnexported(minimum{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestEndpoint(t *testing.T) {
	for target, want := range map[string]string{
		"/v2/":                                  "GET ping",
		"/v2/_catalog?n=1000":                   "GET catalog",
		"/v2/a/b/tags/list":                     "GET tags",
		"/v2/a/b/manifests/1.0":                 "GET manifest",
		"/v2/a/b/referrers/sha256:00":           "GET referrers",
		"/v2/a/b/blobs/sha256:00":               "GET blob",
		"/v2/a/b/blobs/uploads/":                "GET upload",
		"/v2/a/b/blobs/uploads/1?digest=x":      "GET upload",
		"/v2/a/b/blobs/uploads/?mount=x&from=y": "GET mount",
		"/elsewhere":                            "GET other",
	} {
		if got := endpoint(httptest.NewRequest(http.MethodGet, target, nil)); got != want {
			t.Errorf("endpoint(%s) = %q, want %q", target, got, want)
		}
	}
}
