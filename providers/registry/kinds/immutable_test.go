package kinds

import (
	"net/http"
	"testing"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

// Kinds that can be asked tell which tags nobody can move. Where they do not tell,
// the plan goes on, and the registry has the last word (mirroring.md, case 26).
func TestImmutableTags(t *testing.T) {
	for _, tt := range []struct {
		kind    string
		protect registrytest.Protection
		refuse  int // the answer in place of the fake's
		want    map[string]bool
	}{
		{kind: "generic", protect: registrytest.Protection{On: true}, want: map[string]bool{"v1": false}},
		{kind: "ecr", want: map[string]bool{"v1": false}},
		{kind: "ecr", protect: registrytest.Protection{On: true}, want: map[string]bool{"v1": true, "latest": true}},
		{kind: "ecr", protect: registrytest.Protection{On: true, Except: []string{"late*"}}, want: map[string]bool{"v1": true, "latest": false}},
		{kind: "ecr", protect: registrytest.Protection{On: true, Only: []string{"v*"}}, want: map[string]bool{"v1": true, "latest": false}},
		{kind: "ecr", protect: registrytest.Protection{On: true}, refuse: http.StatusForbidden, want: map[string]bool{"v1": false}},
		{kind: "acr", protect: registrytest.Protection{On: true, Only: []string{"v1"}}, want: map[string]bool{"v1": true, "latest": false}},
		{kind: "harbor", want: map[string]bool{"v1": false}},
		{kind: "harbor", protect: registrytest.Protection{On: true, Only: []string{"v*"}}, want: map[string]bool{"v1": true, "latest": false}},
		{kind: "gar", want: map[string]bool{"v1": false}},
		{kind: "gar", protect: registrytest.Protection{On: true}, want: map[string]bool{"v1": true}},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			s := siteOf(tt.kind)
			w := newWorld(t, s, registrytest.WithLogin())
			path, image := s.place+"app", registrytest.Image(1, registrytest.Layer(1, 100))
			w.CreateRepository(path)
			registrytest.Push(t, w.Server.Host(), path, "v1", image)
			registrytest.Tag(t, w.Server.Host(), path, "latest", image)
			if tt.protect.On {
				w.Protect(path, tt.protect)
			}
			if tt.refuse != 0 {
				w.deny(func(int) (int, string) { return tt.refuse, `{}` })
			}
			c := w.client(Outside{AWS: keys}, w.login)
			for tag, want := range tt.want {
				got, err := c.Immutable(t.Context(), w.repo(path), tag)
				if err != nil || got != want {
					t.Errorf("%s: immutable %t, %v; want %t\n%s", tag, got, err, want, w.log())
				}
			}
			if len(w.strays) > 0 {
				t.Errorf("requests to hosts that do not belong: %v", w.strays)
			}
		})
	}
	w := newWorld(t, siteOf("ecr"))
	if _, err := w.client(Outside{AWS: keys}).Immutable(t.Context(), w.repo("acme/app"), "-no-tag"); providers.ClassOf(err) != providers.Invalid {
		t.Errorf("%v, want invalid", err)
	}
}
