package registry

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"freightliner/providers"
)

// shown is a credential as a test may see it.
func shown(c Credential) string {
	value := func(f func() string) string {
		if f == nil {
			return ""
		}
		return f()
	}
	return strings.Join([]string{c.Username, value(c.Password), value(c.Identity), value(c.Bearer)}, "|")
}

func TestDockerConfigKeychain(t *testing.T) {
	helper := func(answers map[string]string) RunHelper {
		return func(_ context.Context, name, server string) ([]byte, error) {
			if a, ok := answers[name+" "+server]; ok {
				return []byte(a), nil
			}
			return nil, errNoCredentials
		}
	}
	for _, tt := range []struct {
		name   string
		files  map[string]string
		helper RunHelper
		repo   string
		want   string
		fails  string // part of the error
	}{
		{name: "user and password", files: map[string]string{"d": `{"auths":{"reg.example":{"auth":"dTpwOnc="}}}`}, repo: "reg.example/a", want: "u|p:w||"},
		{name: "old URL key", files: map[string]string{"d": `{"auths":{"https://reg.example/v1/":{"auth":"dTpw"}}}`}, repo: "reg.example/a", want: "u|p||"},
		{name: "Docker Hub", files: map[string]string{"d": `{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}`}, repo: "docker.io/library/nginx", want: "u|p||"},
		{name: "identity token", files: map[string]string{"d": `{"auths":{"r":{"auth":"dTo=","identitytoken":"it"}}}`}, repo: "r/a", want: "u||it|"},
		{name: "registry token", files: map[string]string{"d": `{"auths":{"r":{"registrytoken":"rt"}}}`}, repo: "r/a", want: "|||rt"},
		{name: "another port", files: map[string]string{"d": `{"auths":{"r:5000":{"auth":"dTpw"}}}`}, repo: "r/a", want: "|||"},
		{name: "a longer name", files: map[string]string{"d": `{"auths":{"reg.example":{"auth":"dTpw"}}}`}, repo: "reg.example.evil/a", want: "|||"},
		{name: "Podman's path keys", files: map[string]string{"p": `{"auths":{"r":{"auth":"dTpw"},"r/team":{"auth":"dDp0"}}}`}, repo: "r/team/x", want: "t|t||"},
		{name: "a path key is no prefix of a name", files: map[string]string{"p": `{"auths":{"r":{"auth":"dTpw"},"r/team":{"auth":"dDp0"}}}`}, repo: "r/team-b", want: "u|p||"},
		{name: "the second file", files: map[string]string{"d": `{"auths":{}}`, "p": `{"auths":{"r":{"auth":"dTpw"}}}`}, repo: "r/a", want: "u|p||"},
		{name: "nothing", files: nil, repo: "r/a", want: "|||"},
		{name: "helper for the host", files: map[string]string{"d": `{"credHelpers":{"r":"ecr-login"},"auths":{"r":{"auth":"dTpw"}}}`},
			helper: helper(map[string]string{"ecr-login r": `{"Username":"AWS","Secret":"s"}`}), repo: "r/a", want: "AWS|s||"},
		{name: "store", files: map[string]string{"d": `{"credsStore":"desktop","auths":{"https://index.docker.io/v1/":{}}}`},
			helper: helper(map[string]string{"desktop https://index.docker.io/v1/": `{"Username":"<token>","Secret":"s"}`}), repo: "docker.io/a", want: "||s|"},
		{name: "store that knows nothing", files: map[string]string{"d": `{"credsStore":"desktop"}`}, helper: helper(nil), repo: "r/a", want: "|||"},
		{name: "evil helper name", files: map[string]string{"d": `{"credHelpers":{"r":"../../tmp/x"}}`}, helper: helper(nil), repo: "r/a", fails: "can not be a program name"},
		{name: "helpers off", files: map[string]string{"d": `{"credsStore":"pass"}`}, repo: "r/a", fails: "switched off"},
		{name: "odd answer", files: map[string]string{"d": `{"credsStore":"pass"}`}, helper: helper(map[string]string{"pass r": `secret-canary not JSON`}), repo: "r/a", fails: "not a user name and a secret"},
		{name: "huge answer", files: map[string]string{"d": `{"credsStore":"pass"}`}, helper: helper(map[string]string{"pass r": strings.Repeat(" ", helperCap+1)}), repo: "r/a", fails: "more than the limit"},
		{name: "broken file", files: map[string]string{"d": `{"auths":{"r":{"auth":"secret-canary`}, repo: "r/a", fails: "not the JSON"},
		{name: "broken auth", files: map[string]string{"d": `{"auths":{"r":{"auth":"secret-canary"}}}`}, repo: "r/a", fails: "not base64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			find := DockerConfigKeychain(KeychainOptions{Files: []string{"d", "p"}, Helper: tt.helper,
				Read: func(path string) ([]byte, error) {
					if text, ok := tt.files[path]; ok {
						return []byte(text), nil
					}
					return nil, fs.ErrNotExist
				}})
			host, path, _ := strings.Cut(tt.repo, "/")
			c, err := find(t.Context(), providers.Repository{Host: host, Path: path})
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) || strings.Contains(err.Error(), "secret-canary") || providers.ClassOf(err) != providers.Denied {
					t.Errorf("error %v, want denied with %q and no secret", err, tt.fails)
				}
				return
			}
			if got := shown(c); err != nil || got != tt.want {
				t.Errorf("credential %s, %v; want %s", got, err, tt.want)
			}
		})
	}
}

func TestHelperThatIsMissing(t *testing.T) {
	_, err := ExecHelper([]string{"PATH=.:relative:" + t.TempDir()})(t.Context(), "nowhere", "r")
	if err == nil || !strings.Contains(err.Error(), "PATH") {
		t.Errorf("error %v, want one about PATH", err)
	}
}

func TestHelperThatHangs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	run := func(ctx context.Context, _, _ string) ([]byte, error) {
		cancel() // as the 10 s would
		<-ctx.Done()
		return nil, ctx.Err()
	}
	file := credentialFile{name: "f", Store: "slow"}
	_, _, err := file.find(ctx, providers.Repository{Host: "r"}, run)
	var e *providers.Error
	if !errors.As(err, &e) || e.Class != providers.Denied {
		t.Errorf("error %v, want denied", err)
	}
}
