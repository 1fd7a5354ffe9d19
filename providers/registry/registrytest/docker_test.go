package registrytest

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	ggcr "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// go-containerregistry, a client nobody here wrote, pushes to and pulls from
// the registries, with a login that it reads from our Docker configuration.
func TestAnotherClient(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "docker")
	t.Setenv("DOCKER_CONFIG", dir)
	for what, start := range map[string]func() string{
		"embedded with basic authentication": func() string { return Start(t, WithBasicAuth()).Host() },
		"embedded with tokens":               func() string { return Start(t, WithTokens(time.Minute)).Host() },
		"distribution with basic":            func() string { return Distribution(t, WithBasicAuth()).Host() },
		"distribution with tokens":           func() string { return Distribution(t, WithTokens(time.Minute)).Host() },
	} {
		t.Run(what, func(t *testing.T) {
			host := start()
			WriteDockerConfig(t, dir, host, CanaryUser, CanaryPassword)
			login := ggcr.WithAuthFromKeychain(authn.DefaultKeychain)

			ref, err := name.NewTag(host + "/other/client:v1")
			if err != nil {
				t.Fatal(err)
			}
			pushed, err := random.Image(2000, 3)
			if err != nil {
				t.Fatal(err)
			}
			if err := ggcr.Write(ref, pushed, login); err != nil {
				t.Fatal(err)
			}
			index, err := random.Index(500, 1, 3)
			if err != nil {
				t.Fatal(err)
			}
			if err := ggcr.WriteIndex(ref.Tag("index"), index, login); err != nil {
				t.Fatal(err)
			}
			pulled, err := ggcr.Image(ref, login)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(pulled); err != nil {
				t.Error(err)
			}
			VerifyTree(t, host)

			// And it can read what our corpus is made of.
			d := Push(t, host, "ours", "v1", Index(1))
			ours, err := ggcr.Index(ref.Registry.Repo("ours").Digest(string(d)), login)
			if err != nil {
				t.Fatal(err)
			}
			children, err := ours.IndexManifest()
			if err != nil {
				t.Fatal(err)
			}
			// The attestations behind the two images are no images to it.
			for _, child := range children.Manifests[:2] {
				image, err := ours.Image(child.Digest)
				if err != nil {
					t.Fatal(err)
				}
				if err := validate.Image(image); err != nil {
					t.Errorf("%s: %v", child.Platform, err)
				}
			}
		})
	}
}

func TestDockerConfigIsPrivate(t *testing.T) {
	file := WriteDockerConfig(t, t.TempDir(), "example.com", CanaryUser, CanaryPassword)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 && os.PathSeparator == '/' {
		t.Errorf("mode %v, want 0600", mode)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), Canaries()[1]) {
		t.Errorf("the configuration has no login: %s", text)
	}
}

func TestWrongPasswordIsRefused(t *testing.T) {
	for what, host := range map[string]string{
		"embedded":     Start(t, WithBasicAuth()).Host(),
		"distribution": Distribution(t, WithBasicAuth()).Host(),
	} {
		request, err := http.NewRequest(http.MethodGet, "http://"+host+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth(CanaryUser, "wrong")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: status %d", what, response.StatusCode)
		}
	}
}
