package kinds

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/providers/registry/embedded"
	"freightliner/providers/registry/registrytest"
)

// Every kind lists what is there: repositories below a prefix by whole segments,
// over several pages, and tags with their digests, without a HEAD.
func TestLists(t *testing.T) {
	for _, s := range sites {
		t.Run(s.personality.Kind, func(t *testing.T) {
			w := newWorld(t, s, registrytest.WithLogin(embedded.User{Name: "$oauthtoken", Password: registrytest.CanaryPassword}))
			w.registries()
			if s.personality.Kind == "quay" {
				w.user = "$oauthtoken" // a robot's password is not taken by the interface
			}
			image := registrytest.Image(1, registrytest.Layer(1, 100))
			other := registrytest.Image(2, registrytest.Layer(2, 100))
			want := []string{}
			for i := range 105 {
				want = append(want, fmt.Sprintf("%steam/app-%03d", s.place, i))
			}
			if s.personality.Kind == "dockerhub" { // two segments and no more
				for i := range want {
					want[i] = fmt.Sprintf("%sapp-%03d", s.place, i)
				}
			}
			slices.Sort(want)
			for _, path := range want {
				w.CreateRepository(path)
				registrytest.Push(t, w.Server.Host(), path, "v1", image)
			}
			tagged := want[7]
			registrytest.Push(t, w.Server.Host(), tagged, "other", other)
			digests := map[string]providers.Digest{"v1": image.Digest(), "other": other.Digest()}
			for i := range 130 {
				tag := fmt.Sprintf("t-%03d", i)
				registrytest.Tag(t, w.Server.Host(), tagged, tag, image)
				digests[tag] = image.Digest()
			}
			w.Recorder.Reset()

			prefix := s.place + "team"
			if s.personality.Kind == "dockerhub" {
				prefix = "acme"
			} else {
				w.CreateRepository(s.place + "team-b/app")
				registrytest.Push(t, w.Server.Host(), s.place+"team-b/app", "v1", image)
			}
			c := w.client(Outside{AWS: keys}, w.login)
			got, err := w.list(t, c, prefix)
			if err != nil {
				t.Fatalf("list repositories: %v\n%s", err, w.log())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("repositories (-want +got):\n%s\n%s", diff, w.log())
			}

			list, err := c.Tags(t.Context(), w.repo(tagged))
			if err != nil {
				t.Fatalf("list tags: %v\n%s", err, w.log())
			}
			if len(list.Tags) != len(digests) {
				t.Errorf("%d tags, want %d", len(list.Tags), len(digests))
			}
			if s.bulk {
				if diff := cmp.Diff(digests, list.Digests); diff != "" {
					t.Errorf("digests (-want +got):\n%s", diff)
				}
				if len(list.Pushed) != len(digests) {
					t.Errorf("%d push times, want %d", len(list.Pushed), len(digests))
				}
			}
			if n := w.Recorder.Count("HEAD manifest"); n != 0 {
				t.Errorf("%d HEAD requests, want none", n)
			}
			if missing, err := c.Tags(t.Context(), w.repo(s.place+"nothing")); err != nil || !missing.Missing {
				t.Errorf("a repository that is not there: %+v, %v; want Missing", missing, err)
			}
			if len(w.strays) > 0 {
				t.Errorf("requests to hosts that do not belong: %v", w.strays)
			}
		})
	}
}

// Where the kind's own interface is not to be had, the registry's own answers
// serve if they tell everything; if not, the listing fails with a way out, and
// gives nothing.
func TestDeniedFallsBack(t *testing.T) {
	for _, s := range sites {
		if s.personality.Kind == "generic" {
			continue
		}
		for _, refusal := range []struct {
			name   string
			status int
			body   string
		}{
			{"403", http.StatusForbidden, `{"message":"no","__type":"AccessDeniedException"}`},
			{"404", http.StatusNotFound, `{"message":"no"}`},
			{"405", http.StatusMethodNotAllowed, ``},
		} {
			t.Run(s.personality.Kind+" "+refusal.name, func(t *testing.T) {
				w := newWorld(t, s, registrytest.WithLogin())
				w.deny(func(int) (int, string) { return refusal.status, refusal.body })
				path := s.place + "app"
				w.CreateRepository(path)
				digest := registrytest.Push(t, w.Server.Host(), path, "v1", registrytest.Image(1, registrytest.Layer(1, 100)))
				c := w.client(Outside{AWS: keys}, w.login)

				names, err := w.list(t, c, strings.TrimSuffix(s.place, "/"))
				switch {
				case s.catalog:
					if err != nil || !slices.Equal(names, []string{path}) {
						t.Errorf("repositories: %q, %v; want those of the catalog\n%s", names, err, w.log())
					}
				case err == nil || len(names) > 0 || providers.HintOf(err) == "":
					t.Errorf("repositories: %q, %v (hint %q); want an error with a hint, and no names", names, err, providers.HintOf(err))
				}
				list, err := c.Tags(t.Context(), w.repo(path))
				if err != nil || !slices.Equal(list.Tags, []string{"v1"}) {
					t.Errorf("tags: %+v, %v; want v1\n%s", list, err, w.log())
				}
				if d, ok := list.Digests["v1"]; ok && d != digest {
					t.Errorf("digest %s, want %s", d, digest)
				}
			})
		}
	}
}

// deny answers requests to a kind's own interface in place of the fake; answer
// gets their number, and gives 0 to let one through.
func (w *world) deny(answer func(n int) (status int, body string)) {
	n := 0
	w.answer = func(req *http.Request) *http.Response {
		path := req.URL.Path
		own := req.Header.Get("X-Amz-Target") != "" || strings.HasPrefix(path, "/acr/v1/") || strings.HasPrefix(path, "/api/") ||
			req.URL.Host == "api.github.com" || req.URL.Host == "artifactregistry.googleapis.com" || req.URL.Host == "hub.docker.com" || strings.HasPrefix(path, "/artifactory/api/docker/") && strings.HasSuffix(path, "_catalog")
		if !own {
			return nil
		}
		n++
		if status, body := answer(n); status != 0 {
			return reply(req, status, body)
		}
		return nil
	}
}

// A listing that breaks after its first page is an error, never the part that was
// read, and never silently another listing.
func TestPartIsAnError(t *testing.T) {
	const name = "app-of-the-first-page"
	first := map[string]struct {
		body   string // of the first page, which says that there is more
		header http.Header
	}{
		"ecr":         {body: `{"repositories":[{"repositoryName":"acme/` + name + `"}],"nextToken":"more"}`},
		"ghcr":        {body: `[{"name":"` + name + `"}]`, header: http.Header{"Link": {`<https://api.github.com/orgs/acme/packages?page=2>; rel="next"`}}},
		"dockerhub":   {body: `{"count":2,"next":"https://hub.docker.com/more","results":[{"name":"` + name + `"}]}`},
		"harbor":      {body: `[{"name":"acme/` + name + `"}]`, header: http.Header{"X-Total-Count": {"200"}}},
		"quay":        {body: `{"repositories":[{"namespace":"acme","name":"` + name + `"}],"next_page":"more"}`},
		"gitlab":      {body: `[{"path":"acme/app/` + name + `"}]`, header: http.Header{"X-Next-Page": {"2"}, "X-Total": {"2"}}},
		"artifactory": {body: `{"repositories":["` + name + `"]}`},
		"gar":         {body: `{"dockerImages":[{"uri":"europe-docker.pkg.dev/acme/main/` + name + `@sha256:1"}],"nextPageToken":"more"}`},
		"acr":         {body: `{"tags":[{"name":"v0"}]}`, header: http.Header{"Link": {`</acr/v1/acme/app/_tags?last=v0>; rel="next"`}}},
	}
	for kind, page := range first {
		t.Run(kind, func(t *testing.T) {
			s := siteOf(kind)
			w := newWorld(t, s)
			w.CreateRepository(s.place + "app")
			registrytest.Push(t, w.Server.Host(), s.place+"app", "v1", registrytest.Image(1, registrytest.Layer(1, 100)))
			told := false
			w.deny(func(int) (int, string) {
				return http.StatusForbidden, `{"message":"no longer","__type":"AccessDeniedException"}`
			})
			refuse := w.answer
			w.answer = func(req *http.Request) *http.Response {
				resp := refuse(req)
				if resp == nil || told || strings.HasSuffix(req.URL.Path, "/auth/token") {
					return resp
				}
				told = true
				resp = reply(req, http.StatusOK, page.body)
				for k, v := range page.header {
					resp.Header[k] = v
				}
				return resp
			}
			c := w.client(Outside{AWS: keys}, func(o *registry.Options) {
				if kind == "ghcr" || kind == "gar" {
					w.login(o)
				}
			})
			var names []string
			var err error
			if kind == "acr" { // its catalog is the registry's own
				var list registry.TagList
				list, err = c.Tags(t.Context(), w.repo(s.place+"app"))
				names = list.Tags
			} else {
				names, err = w.list(t, c, strings.TrimSuffix(s.place, "/"))
			}
			if !told || providers.ClassOf(err) != providers.Denied || len(names) > 0 {
				t.Errorf("%q, %v; want the refusal and no names\n%s", names, err, w.log())
			}
		})
	}
}

// Pages cut by number lose an entry when one before it goes away while they are
// read. The totals tell, the list is read again, and when it never stands still
// the registry's own list, which is cut by name, has the names.
func TestMovingList(t *testing.T) {
	for kind, page := range map[string]struct{ short, total, whole string }{
		"dockerhub": {short: `{"count":2,"next":null,"results":[{"name":"v1"}]}`, whole: `{"count":2,"next":null,"results":[{"name":"v1"},{"name":"v2"}]}`},
		"harbor":    {short: `[{"digest":"a","tags":[{"name":"v1"}]}]`, total: "2", whole: `[{"digest":"a","tags":[{"name":"v1"}]},{"digest":"b","tags":[{"name":"v2"}]}]`},
	} {
		for _, settles := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s settles %t", kind, settles), func(t *testing.T) {
				s := siteOf(kind)
				w := newWorld(t, s)
				n := 0
				w.answer = func(req *http.Request) *http.Response {
					if strings.HasSuffix(req.URL.Path, "/tags/list") {
						return reply(req, http.StatusOK, `{"tags":["v1","v2"]}`)
					}
					n++
					body := page.short
					if settles && n > 1 {
						body = page.whole
					}
					resp := reply(req, http.StatusOK, body)
					if page.total != "" {
						resp.Header.Set("X-Total-Count", page.total)
					}
					return resp
				}
				list, err := w.client(Outside{}).Tags(t.Context(), w.repo("acme/app"))
				if err != nil || !slices.Equal(list.Tags, []string{"v1", "v2"}) || n != 2 {
					t.Errorf("%q, %v after %d reads; want both tags after 2", list.Tags, err, n)
				}
			})
		}
	}
}

// Repositories that never stand still are an error: nothing else has their names.
func TestMovingRepositories(t *testing.T) {
	w := newWorld(t, siteOf("dockerhub"))
	w.answer = func(req *http.Request) *http.Response {
		return reply(req, http.StatusOK, `{"count":2,"next":null,"results":[{"name":"app"}]}`)
	}
	names, err := w.list(t, w.client(Outside{}), "acme")
	if !errors.Is(err, registry.ErrMoved) || providers.ClassOf(err) != providers.Transient || len(names) > 0 {
		t.Errorf("%q, %v; want ErrMoved", names, err)
	}
}

// An interface that is down does not hold up what the registry itself can tell,
// and costs its tries once.
func TestInterfaceDown(t *testing.T) {
	w := newWorld(t, siteOf("ghcr"), registrytest.WithLogin())
	tries := 0
	w.deny(func(int) (int, string) { tries++; return http.StatusBadGateway, "" })
	for i := range 3 {
		path := fmt.Sprintf("acme/app-%d", i)
		registrytest.Push(t, w.Server.Host(), path, "v1", registrytest.Image(1, registrytest.Layer(1, 100)))
	}
	c := w.client(Outside{}, w.login)
	for i := range 3 {
		if list, err := c.Tags(t.Context(), w.repo(fmt.Sprintf("acme/app-%d", i))); err != nil || !slices.Equal(list.Tags, []string{"v1"}) {
			t.Errorf("%q, %v", list.Tags, err)
		}
	}
	if tries > 4 {
		t.Errorf("%d tries, want at most 4", tries)
	}
}

// A page that leads back to one that was read ends the listing with an error, and
// so does one that leads to another host.
func TestListingsEnd(t *testing.T) {
	for name, tt := range map[string]struct {
		kind, body, link string
	}{
		"same token":   {kind: "ecr", body: `{"repositories":[],"nextToken":"again"}`},
		"same link":    {kind: "ghcr", body: `[]`, link: `</orgs/acme/packages?package_type=container&per_page=100>; rel="next"`},
		"foreign link": {kind: "ghcr", body: `[]`, link: `<https://evil.example/orgs/acme/packages>; rel="next"`},
		"to plain":     {kind: "ghcr", body: `[]`, link: `<http://evil.example/orgs/acme/packages>; rel="next"`},
		"same page":    {kind: "quay", body: `{"repositories":[],"next_page":"again"}`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, siteOf(tt.kind))
			w.answer = func(req *http.Request) *http.Response {
				resp := reply(req, http.StatusOK, tt.body)
				if tt.link != "" {
					resp.Header.Set("Link", tt.link)
				}
				return resp
			}
			names, err := w.list(t, w.client(Outside{AWS: keys}, w.asBearer), "acme")
			if providers.ClassOf(err) != providers.Invalid || len(names) > 0 {
				t.Errorf("%q, %v; want Invalid", names, err)
			}
			if len(w.strays) > 0 {
				t.Errorf("requests went to %v", w.strays)
			}
		})
	}
}

// A registry that says 403 for what is not there is asked in its own words. What is
// missing is made by the push, or the key above it is asked for; what is there and
// may not be seen stays denied.
func TestDeniedMayMeanMissing(t *testing.T) {
	for _, tt := range []struct {
		name, path string
		storage    int // the answer about the folder; 0 for the fake's
		missing    bool
		class      providers.Class // of the listing
	}{
		{name: "missing", path: "docker-local/new", missing: true},
		{name: "hidden", path: "docker-local/new", storage: http.StatusOK, class: providers.Denied},
		{name: "not to be known", path: "docker-local/new", storage: http.StatusForbidden, class: providers.Denied},
		{name: "no such key", path: "no-such-key/new", missing: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, siteOf("artifactory"), registrytest.WithLogin())
			w.CreateRepository("docker-local/app")
			image := registrytest.Image(1, registrytest.Layer(1, 100))
			registrytest.Push(t, w.Server.Host(), "docker-local/app", "v1", image)
			w.answer = func(req *http.Request) *http.Response {
				if tt.storage != 0 && strings.HasPrefix(req.URL.Path, "/artifactory/api/storage/") {
					return reply(req, tt.storage, `{}`)
				}
				return nil
			}
			c := w.client(Outside{}, w.login)
			list, err := c.Tags(t.Context(), w.repo(tt.path))
			if list.Missing != tt.missing || providers.ClassOf(err) != tt.class {
				t.Fatalf("missing %t, %v; want %t and %s\n%s", list.Missing, err, tt.missing, tt.class, w.log())
			}
			if !tt.missing {
				return
			}
			_, err = registry.NewCopier(c).Copy(t.Context(), registry.Job{From: w.repo("docker-local/app"), To: w.repo(tt.path), Root: image.Digest(), Tags: []string{"v1"}, Fresh: true})
			if strings.HasPrefix(tt.path, "docker-local/") {
				if err != nil {
					t.Errorf("push: %v\n%s", err, w.log())
				}
				return
			}
			made := c.CreateRepository(t.Context(), w.repo(tt.path))
			if providers.ClassOf(err) != providers.Denied || providers.HintOf(err) == "" || providers.ClassOf(made) != providers.Unsupported || !strings.Contains(providers.HintOf(made), "by hand") {
				t.Errorf("push: %v (hint %q); create: %v (hint %q)", err, providers.HintOf(err), made, providers.HintOf(made))
			}
		})
	}
}
