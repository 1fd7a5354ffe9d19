package kinds

import (
	"strings"
	"testing"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

// A name that can not exist at a registry of the kind fails while planning, before
// anything is sent; the longest that can is asked for.
func TestNamesOfAKind(t *testing.T) {
	for _, tt := range []struct{ kind, path, text string }{
		{"dockerhub", "nginx", "exactly 2 parts, this has 1"},
		{"dockerhub", "acme/team/app", "exactly 2 parts, this has 3"},
		{"dockerhub", "acme/app", ""},
		{"harbor", "app", "at least 2 parts, this has 1"},
		{"harbor", "acme/team/app", ""},
		{"ghcr", "app", "at least 2 parts, this has 1"},
		{"ecr-public", "app", "at least 2 parts, this has 1"},
		{"generic", "app", ""},
		{"generic", strings.Repeat("n", 255), ""},
		{"generic", strings.Repeat("n", 256), "256 characters, 255 are allowed"},
		{"generic", "Acme/app", "lower-case"},
		{"generic", "acme/\u00e4pp", "lower-case"},
		{"generic", "acme//app", "separated by /"},
	} {
		t.Run(tt.kind+" "+tt.path, func(t *testing.T) {
			w := newWorld(t, siteOf(tt.kind), registrytest.WithLogin())
			_, err := w.client(Outside{}, w.login).Tags(t.Context(), w.repo(tt.path))
			if tt.text == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if providers.ClassOf(err) != providers.Invalid || !strings.Contains(err.Error(), tt.text) || w.Recorder.Total() != 0 {
				t.Errorf("%v of class %s after %d requests; want invalid with %q and none", err, providers.ClassOf(err), w.Recorder.Total(), tt.text)
			}
		})
	}
}
