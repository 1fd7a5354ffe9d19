package kinds

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/providers/registry/registrytest"
)

// Where something must exist before a push it is made, once; what exists is no
// error; where nothing can be made, the error says who can.
func TestCreate(t *testing.T) {
	for _, tt := range []struct {
		kind, path string
		class      providers.Class
		text, hint string
	}{
		{kind: "ecr", path: "acme/app"},
		{kind: "ecr-public", path: registrytest.PublicAlias + "/app"},
		{kind: "harbor", path: "acme/app"},
		{kind: "gar", path: "acme/main/team/app"},
		{kind: "gar", path: "acme", class: providers.Unsupported, text: "LOCATION-docker.pkg.dev/PROJECT/REPOSITORY", hint: "gcloud"},
		{kind: "artifactory", path: "docker-local/app", class: providers.Unsupported, text: "artifactory", hint: "by hand"},
	} {
		t.Run(tt.kind+" "+tt.path, func(t *testing.T) {
			s := siteOf(tt.kind)
			w := newWorld(t, s, registrytest.WithLogin())
			w.registries()
			c := w.client(Outside{AWS: keys}, w.login)
			if must, err := c.MustCreate(w.repo(tt.path)); err != nil || !must {
				t.Errorf("must create: %t, %v; want true", must, err)
			}
			err := c.CreateRepository(t.Context(), w.repo(tt.path))
			if tt.text == "" {
				again := w.client(Outside{AWS: keys}, w.login).CreateRepository(t.Context(), w.repo(tt.path))
				if err != nil || again != nil {
					t.Fatalf("create: %v, again: %v\n%s", err, again, w.log())
				}
				before := w.Recorder.Total()
				if err := c.CreateRepository(t.Context(), w.repo(tt.path)); err != nil || w.Recorder.Total() != before {
					t.Errorf("made in this run: %v and %d requests, want none", err, w.Recorder.Total()-before)
				}
				registrytest.Push(t, w.Server.Host(), tt.path, "v1", registrytest.Image(1, registrytest.Layer(1, 100)))
				return
			}
			if providers.ClassOf(err) != tt.class || !strings.Contains(err.Error(), tt.text) || !strings.Contains(providers.HintOf(err), tt.hint) {
				t.Errorf("%v (%s, hint %q); want %s, %q, hint %q", err, providers.ClassOf(err), providers.HintOf(err), tt.class, tt.text, tt.hint)
			}
			if n := len(w.Recorder.Writes()); n != 0 {
				t.Errorf("%d writes, want none", n)
			}
		})
	}
}

// What the registry block sets is asked for when a repository is made, in the words
// of each kind.
func TestCreateWithSettings(t *testing.T) {
	all := registry.RepositorySettings{ScanOnPush: true, ImmutableTags: true, KMSKey: "alias/registry", Labels: map[string]string{"team": "platform", "cost": "42"}}
	for _, tt := range []struct {
		kind, path string
		settings   registry.RepositorySettings
		want       string
	}{
		{"ecr", "acme/app", registry.RepositorySettings{}, `{"registryId":"123456789012","repositoryName":"acme/app"}`},
		{"ecr", "acme/app", all, `{"registryId":"123456789012","repositoryName":"acme/app","imageTagMutability":"IMMUTABLE","imageScanningConfiguration":{"scanOnPush":true},` +
			`"encryptionConfiguration":{"encryptionType":"KMS","kmsKey":"alias/registry"},"tags":[{"Key":"cost","Value":"42"},{"Key":"team","Value":"platform"}]}`},
		{"ecr-public", registrytest.PublicAlias + "/app", all, `{"repositoryName":"app","tags":[{"Key":"cost","Value":"42"},{"Key":"team","Value":"platform"}]}`},
		{"gar", "acme/main/app", registry.RepositorySettings{}, `{"format":"DOCKER"}`},
		{"gar", "acme/main/app", all, `{"format":"DOCKER","kmsKeyName":"alias/registry","labels":{"cost":"42","team":"platform"},"dockerConfig":{"immutableTags":true}}`},
		{"harbor", "acme/app", registry.RepositorySettings{}, `{"metadata":{"public":"false"},"project_name":"acme"}`},
		{"harbor", "acme/app", all, `{"metadata":{"auto_scan":"true","public":"false"},"project_name":"acme"}`},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			w := newWorld(t, siteOf(tt.kind), registrytest.WithLogin())
			w.registries()
			registries, asked := w.answer, ""
			w.answer = func(req *http.Request) *http.Response {
				if strings.HasSuffix(req.Header.Get("X-Amz-Target"), ".CreateRepository") || strings.HasSuffix(req.URL.Path, "/projects") || req.Method == http.MethodPost && strings.HasSuffix(req.URL.Path, "/repositories") {
					asked = bodyOf(req)
				}
				return registries(req)
			}
			c := w.client(Outside{AWS: keys}, w.login, func(o *registry.Options) { o.Registries[0].Created = tt.settings })
			if err := c.CreateRepository(t.Context(), w.repo(tt.path)); err != nil || asked != tt.want {
				t.Errorf("%v; asked\n     %s\nwant %s", err, asked, tt.want)
			}
			immutable, err := c.Immutable(t.Context(), w.repo(tt.path), "v1")
			if want := (tt.kind == "ecr" || tt.kind == "gar") && tt.settings.ImmutableTags; err != nil || immutable != want {
				t.Errorf("tags there are immutable: %t, %v; want %t", immutable, err, want)
			}
		})
	}
}

// Where the first push makes the repository there is nothing to do.
func TestCreateOnPush(t *testing.T) {
	for _, kind := range []string{"generic", "acr", "ghcr", "dockerhub", "quay", "gitlab"} {
		w := newWorld(t, siteOf(kind))
		c := w.client(Outside{})
		must, err := c.MustCreate(w.repo("acme/app"))
		if err != nil || must {
			t.Errorf("%s: must create %t, %v", kind, must, err)
		}
		if err := c.CreateRepository(t.Context(), w.repo("acme/app")); err != nil || w.Recorder.Total() != 0 {
			t.Errorf("%s: %v, %d requests", kind, err, w.Recorder.Total())
		}
	}
}

// Nothing is created that the registry block does not allow.
func TestCreateIsAskedFor(t *testing.T) {
	w := newWorld(t, siteOf("ecr"))
	c := w.client(Outside{AWS: keys}, func(o *registry.Options) { o.Registries[0].CreateRepositories = false })
	err := c.CreateRepository(t.Context(), w.repo("acme/app"))
	if providers.ClassOf(err) != providers.Unsupported || !strings.Contains(providers.HintOf(err), "create_repositories = true") || w.Recorder.Total() != 0 {
		t.Errorf("%v (hint %q), %d requests; want a refusal and none", err, providers.HintOf(err), w.Recorder.Total())
	}
}

// Creations keep to the rate of the kind, whatever else goes on (mirroring.md,
// case 96).
func TestCreationsArePaced(t *testing.T) {
	w := newWorld(t, siteOf("ecr"))
	c := w.client(Outside{AWS: keys})
	before := w.clock.Now()
	const n = 26
	for i := range n {
		if err := c.CreateRepository(t.Context(), w.repo("acme/app-"+string(rune('a'+i)))); err != nil {
			t.Fatal(err)
		}
	}
	if took, least := w.clock.Now().Sub(before), (n-2)*time.Second/5; took < least {
		t.Errorf("%d creations took %s, want at least %s", n, took, least)
	}
}

// The account's quota stops the repository with the registry's words
// (mirroring.md, case 99).
func TestCreateQuota(t *testing.T) {
	w := newWorld(t, siteOf("ecr"))
	w.answer = func(req *http.Request) *http.Response {
		return reply(req, http.StatusBadRequest, `{"__type":"LimitExceededException","message":"The maximum number of repositories per registry is 10000"}`)
	}
	err := w.client(Outside{AWS: keys}).CreateRepository(t.Context(), w.repo("acme/app"))
	if err == nil || providers.ClassOf(err).Retryable() || !strings.Contains(err.Error(), "10000") || !strings.Contains(providers.HintOf(err), "eu-west-1") {
		t.Errorf("%v (hint %q)", err, providers.HintOf(err))
	}
}

// What we have just created may be unknown for a moment: that is waited for, with
// a bound, and only for what we created (mirroring.md, case 97).
func TestCreatedIsNotThereYet(t *testing.T) {
	unknown := `{"errors":[{"code":"NAME_UNKNOWN","message":"not yet"}]}`
	for _, tt := range []struct {
		name    string
		create  bool
		misses  int
		found   bool
		lookups int
	}{
		{"seen at last", true, 2, true, 3},
		{"never seen", true, 1000, false, 4},
		{"not ours", false, 1000, false, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, siteOf("ecr-public"))
			path := registrytest.PublicAlias + "/app"
			lookups := 0
			w.registries()
			registries := w.answer
			w.answer = func(req *http.Request) *http.Response {
				if req.Method != http.MethodGet {
					return registries(req)
				}
				if lookups++; lookups > tt.misses {
					return reply(req, http.StatusOK, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
				}
				return reply(req, http.StatusNotFound, unknown)
			}
			c := w.client(Outside{AWS: keys})
			if tt.create {
				if err := c.CreateRepository(t.Context(), w.repo(path)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := c.Manifest(t.Context(), w.repo(path), "v1")
			var e *providers.Error
			unknownYet := errors.As(err, &e)
			if tt.found != !unknownYet || lookups != tt.lookups {
				t.Errorf("%v after %d lookups; want found %t after %d", err, lookups, tt.found, tt.lookups)
			}
		})
	}
}

// Google answers before it is done: that is waited for, with a bound. Two top
// repositories of one project are two creations.
func TestCreateAtGoogle(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers []string // the last one for ever
		class   providers.Class
		text    string
	}{
		{"done at once", []string{`{"done":true}`}, providers.Unknown, ""},
		{"done at the third look", []string{`{"name":"projects/acme/locations/europe/operations/op-1"}`, `{"name":"projects/acme/locations/europe/operations/op-1"}`,
			`{"name":"projects/acme/locations/europe/operations/op-1","done":true,"response":{}}`}, providers.Unknown, ""},
		{"never done", []string{`{"name":"projects/acme/locations/europe/operations/op-1"}`}, providers.Transient, "after 1m0s"},
		{"failed", []string{`{"name":"projects/acme/locations/europe/operations/op-1","done":true,"error":{"message":"key not found"}}`}, providers.Invalid, "key not found"},
		{"led elsewhere", []string{`{"name":"projects/other/locations/europe/operations/../../x"}`}, providers.Transient, "not there yet"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, siteOf("gar"))
			n := 0
			w.answer = func(req *http.Request) *http.Response {
				if n > 0 && !strings.HasSuffix(req.URL.Path, "/operations/op-1") {
					t.Errorf("asked for %s", req.URL)
				}
				n++
				return reply(req, http.StatusOK, tt.answers[min(n, len(tt.answers))-1])
			}
			err := w.client(Outside{}, w.login).CreateRepository(t.Context(), w.repo("acme/main/app"))
			if providers.ClassOf(err) != tt.class || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v of class %s, want %s with %q\n%s", err, providers.ClassOf(err), tt.class, tt.text, w.log())
			}
		})
	}
	w := newWorld(t, siteOf("gar"), registrytest.WithLogin())
	c := w.client(Outside{}, w.login)
	for _, path := range []string{"acme/one/app", "acme/two/app"} {
		if err := c.CreateRepository(t.Context(), w.repo(path)); err != nil {
			t.Fatal(err)
		}
		registrytest.Push(t, w.Server.Host(), path, "v1", registrytest.Image(1, registrytest.Layer(1, 100)))
	}
	if n := w.Recorder.Total(); n != 2 {
		t.Errorf("%d requests, want one for each\n%s", n, w.log())
	}
	denied := w.client(Outside{}, func(o *registry.Options) {
		o.Keychain = func(context.Context, providers.Repository) (registry.Credential, error) {
			return registry.Credential{Username: "_json_key", Password: func() string { return "{}" }, Origin: "the test"}, nil
		}
	}).CreateRepository(t.Context(), w.repo("acme/three/app"))
	if providers.ClassOf(denied) != providers.Denied || !strings.Contains(providers.HintOf(denied), "gcloud artifacts repositories create three --project=acme --location=europe") {
		t.Errorf("with a key file: %v (hint %q)", denied, providers.HintOf(denied))
	}
}
