package kinds

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/providers/registry/gar"
	"freightliner/providers/registry/registrytest"
)

// chains are everything that the clouds of the fakes could want, with canaries
// for secrets; asked counts who was asked.
type chains struct {
	mu    sync.Mutex
	asked []string
	clock *stillClock
	entra *entra
}

func newChains(clock *stillClock) *chains {
	return &chains{clock: clock, entra: &entra{}}
}

func (c *chains) note(who string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, who)
}

func (c *chains) count(who string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, a := range c.asked {
		if a == who {
			n++
		}
	}
	return n
}

func (c *chains) outside() Outside {
	env := map[string]string{
		"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client", "AZURE_FEDERATED_TOKEN_FILE": "/var/run/token",
		"GITHUB_ACTIONS": "true", "GITHUB_TOKEN": registrytest.CanaryPassword, "GITHUB_ACTOR": registrytest.CanaryUser,
		"GITLAB_CI": "true", "CI_REGISTRY": "registry.gitlab.com", "CI_REGISTRY_USER": registrytest.CanaryUser, "CI_REGISTRY_PASSWORD": registrytest.CanaryPassword,
	}
	return Outside{
		Env: func(name string) string {
			if strings.Contains(name, "TOKEN") || strings.Contains(name, "PASSWORD") {
				c.note(name)
			}
			return env[name]
		},
		ReadFile: func(name string) ([]byte, error) {
			if name != "/var/run/token" {
				return nil, fs.ErrNotExist
			}
			return []byte("canary-assertion\n"), nil
		},
		Transport: c.entra,
		AWS: func(ctx context.Context, region string) (aws.Credentials, error) {
			c.note("aws " + region)
			return keys(ctx, region)
		},
		Google: func(context.Context) (string, time.Time, string, error) {
			c.note("google")
			return registrytest.CanaryPassword, c.clock.Now().Add(time.Hour), "a test", nil
		},
	}
}

// entra is the login of Azure.
type entra struct {
	mu     sync.Mutex
	asked  []string // "host path form"
	status int
	body   string
}

func (e *entra) RoundTrip(req *http.Request) (*http.Response, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	form, _ := url.ParseQuery(bodyOf(req))
	e.asked = append(e.asked, req.URL.Host+req.URL.Path+" "+form.Encode())
	if e.status != 0 {
		return reply(req, e.status, e.body), nil
	}
	return reply(req, http.StatusOK, `{"token_type":"Bearer","expires_in":3599,"access_token":"`+registrytest.CanaryPassword+`"}`), nil
}

// Without an auth block and without credential files, each cloud's own chain is
// asked and works.
func TestCloudChains(t *testing.T) {
	for kind, want := range map[string]string{
		"ecr":        "aws eu-west-1",
		"ecr-public": "aws us-east-1",
		"gar":        "google",
		"acr":        "",
		"ghcr":       "GITHUB_TOKEN",
		"gitlab":     "CI_REGISTRY_PASSWORD",
	} {
		t.Run(kind, func(t *testing.T) {
			s := siteOf(kind)
			w := newWorld(t, s, registrytest.WithLogin())
			w.registries()
			path := s.place + "app"
			w.CreateRepository(path)
			digest := registrytest.Push(t, w.Server.Host(), path, "v1", registrytest.Image(1, registrytest.Layer(1, 100)))
			chain := newChains(w.clock)
			c := w.client(chain.outside())
			m, err := c.Manifest(t.Context(), w.repo(path), "v1")
			if err != nil || m.Digest != digest {
				t.Fatalf("read a manifest: %v\n%s", err, w.log())
			}
			if want != "" && chain.count(want) == 0 {
				t.Errorf("asked %q, want %q", chain.asked, want)
			}
			for _, secret := range []string{"canary-aws-secret", "canary-assertion"} {
				if requests := w.Recorder.Mentions(secret); len(requests) > 0 {
					t.Errorf("the registry was sent %s: %v", secret, requests)
				}
			}
			if len(w.strays) > 0 {
				t.Errorf("requests went to %v", w.strays)
			}
		})
	}
}

// lookAlikes are hosts that are not the cloud's, however they look
// (Trivy, CVE-2024-35192).
var lookAlikes = []string{
	"123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example", "evil-123456789012.dkr.ecr.eu-west-1.amazonaws.com",
	"123456789012.dkr.ecr.eu-west-1.amazonaws.com.cn.evil.example", "123456789012.dkr.ecr.evil.example", "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
	"123456789012.dkr.ecr.eu-west-1.amazonaws.org", "123456789012.dkr.ecr.eu-west-1.amazonaws.com:5000", "123456789012.dkr.ecr.eu-west-1.x.amazonaws.com",
	"a.123456789012.dkr.ecr.eu-west-1.amazonaws.com", "123456789012.dkr-ecr.eu-west-1.on.aws.evil.example", "amazonaws.com",
	"public.ecr.aws.evil.example", "xpublic.ecr.aws", "evil.public.ecr.aws", "public.ecr.aws:8443",
	"gcr.io.evil.example", "evilgcr.io", "evil.gcr.io", "eu-gcr.io", "europe-docker.pkg.dev.evil.example", "docker.pkg.dev.evil.example",
	"evil.europe-docker.pkg.dev", "europe-npm.pkg.dev", "-docker.pkg.dev", "europe-docker.pkg.dev:8080", "pkg.dev",
	"acme.azurecr.io.evil.example", "acmeazurecr.io", "a.acme.azurecr.io", "acme.azurecr.com", "azurecr.io", "acme.azurecr.io:5000",
	"ghcr.io.evil.example", "evil-ghcr.io", "a.ghcr.io", "ghcr.io:8443", "docker.ghcr.io",
	"registry.gitlab.com.evil.example", "evil-registry.gitlab.com", "registry.gitlab.com:5050", "registry.gitlab.org",
	"docker.io.evil.example", "evil-docker.io", "registry-1.docker.io.evil.example", "quay.io.evil.example", "acme.jfrog.io.evil.example",
}

// A look-alike that asks who we are gets nothing: no chain is asked for it, even
// when its registry block says that it is of the kind.
func TestLookAlikesGetNothing(t *testing.T) {
	for _, host := range lookAlikes {
		for _, kind := range []string{"", "ecr", "ecr-public", "gar", "acr", "ghcr", "gitlab", "dockerhub"} {
			clock := &stillClock{now: time.Unix(1e9, 0)}
			chain := newChains(clock)
			var sent []string
			c := registry.New(registry.Options{
				Kinds: All(chain.outside()), Clock: clock, Rand: func() float64 { return 0 },
				Registries: []registry.Settings{{Host: host, Kind: kind}},
				Transport: func(registry.Settings) (http.RoundTripper, error) {
					return roundTrip(func(req *http.Request) (*http.Response, error) {
						sent = append(sent, req.URL.Host+" "+strings.Join(req.Header["Authorization"], ",")+" "+bodyOf(req))
						resp := reply(req, http.StatusUnauthorized, `{}`)
						resp.Header.Set("Www-Authenticate", `Basic realm="x"`)
						return resp, nil
					}), nil
				},
			})
			repo := providers.Repository{Host: host, Path: "acme/app"}
			_, err := c.Manifest(t.Context(), repo, "v1")
			if providers.ClassOf(err) != providers.Denied {
				t.Errorf("%s as %q: %v, want Denied", host, kind, err)
			}
			_, _ = c.Tags(t.Context(), repo)
			for range c.Repositories(t.Context(), host, "acme") {
			}
			if len(chain.asked) > 0 || len(chain.entra.asked) > 0 {
				t.Errorf("%s as %q: the chains %q %q were asked", host, kind, chain.asked, chain.entra.asked)
			}
			for _, request := range sent {
				if !strings.HasPrefix(request, host+"  ") {
					t.Errorf("%s as %q: sent %q", host, kind, request)
				}
			}
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// The most specific wins: the auth block, then the files, then the chain.
func TestOrderOfCredentials(t *testing.T) {
	s := siteOf("ghcr")
	block := func(context.Context, providers.Repository) (registry.Credential, error) {
		return registry.Credential{Username: registrytest.CanaryUser, Password: func() string { return registrytest.CanaryPassword }, Origin: "block"}, nil
	}
	anonymous := func(context.Context, providers.Repository) (registry.Credential, error) {
		return registry.Credential{}, nil
	}
	wrong := func(context.Context, providers.Repository) (registry.Credential, error) {
		return registry.Credential{Username: "wrong", Password: func() string { return "wrong" }, Origin: "wrong"}, nil
	}
	for _, tt := range []struct {
		name         string
		block, files registry.CredentialFunc
		chain, works bool
	}{
		{"chain", nil, nil, true, true},
		{"files before chain", nil, block, false, true},
		{"files that do not know it", nil, anonymous, true, true},
		{"wrong files are not passed over", nil, wrong, false, false},
		{"block before files", block, wrong, false, true},
		{"anonymous by block", anonymous, block, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, s, registrytest.WithLogin())
			registrytest.Push(t, w.Server.Host(), "acme/app", "v1", registrytest.Image(1, registrytest.Layer(1, 100)))
			chain := newChains(w.clock)
			c := w.client(chain.outside(), func(o *registry.Options) {
				o.Registries[0].Credential, o.Keychain = tt.block, tt.files
			})
			_, err := c.Manifest(t.Context(), w.repo("acme/app"), "v1")
			if works := err == nil; works != tt.works {
				t.Errorf("works %t (%v), want %t", works, err, tt.works)
			}
			if asked := chain.count("GITHUB_TOKEN") > 0; asked != tt.chain {
				t.Errorf("the chain was asked: %t, want %t", asked, tt.chain)
			}
		})
	}
}

// ECR's password of twelve hours is renewed ahead of its end, once for all
// workers, and a failure to renew is no harm while it still works (mirroring.md,
// case 87).
func TestPasswordsAreRenewed(t *testing.T) {
	s := siteOf("ecr")
	w := newWorld(t, s)
	image := registrytest.Image(1, registrytest.Layer(1, 100))
	w.CreateRepository("acme/app")
	registrytest.Push(t, w.Server.Host(), "acme/app", "v1", image)
	var mu sync.Mutex
	given, failing, used := 0, false, map[string]int{}
	w.answer = func(req *http.Request) *http.Response {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case strings.HasSuffix(req.Header.Get("X-Amz-Target"), ".GetAuthorizationToken") && failing:
			return reply(req, http.StatusInternalServerError, `{"__type":"ServerException"}`)
		case strings.HasSuffix(req.Header.Get("X-Amz-Target"), ".GetAuthorizationToken"):
			given++
			token := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "AWS:password-%d", given))
			return reply(req, http.StatusOK, fmt.Sprintf(`{"authorizationData":[{"authorizationToken":%q,"expiresAt":%d.5}]}`, token, w.clock.Now().Add(12*time.Hour).Unix()))
		case req.Header.Get("Authorization") == "":
			resp := reply(req, http.StatusUnauthorized, "")
			resp.Header.Set("Www-Authenticate", `Basic realm="https://123456789012.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com"`)
			return resp
		}
		_, password, _ := req.BasicAuth()
		used[password]++
		return nil
	}
	c := w.client(Outside{AWS: keys})
	read := func(workers int) {
		t.Helper()
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				if _, err := c.Head(context.Background(), w.repo("acme/app"), "v1"); err != nil {
					t.Errorf("head: %v", err)
				}
			})
		}
		all.Wait()
	}
	read(1)
	w.clock.advance(9 * time.Hour)
	read(5)
	if given != 1 {
		t.Fatalf("%d passwords after nine hours, want 1", given)
	}
	w.clock.advance(time.Hour) // more than 80 % of its life
	failing = true
	read(1)
	failing = false
	w.clock.advance(100 * time.Minute) // and of what was left then
	read(50)
	if given != 2 || used["password-2"] != 50 || used["password-1"] != 7 {
		t.Errorf("%d passwords given, used %v; want the second for 50 requests", given, used)
	}
}

// Failures say what was tried, for which host, and what is missing; a cloud that
// refuses is asked once, not once for each repository.
func TestRefusalsSayWhy(t *testing.T) {
	google := func(err error) Outside {
		return Outside{Google: func(context.Context) (string, time.Time, string, error) { return "", time.Time{}, "", err }}
	}
	for _, tt := range []struct {
		name, kind string
		outside    func() Outside
		answer     func(*http.Request) *http.Response
		want, hint []string
		asks       int
	}{
		{"no keys", "ecr", func() Outside {
			return Outside{AWS: func(context.Context, string) (aws.Credentials, error) {
				return aws.Credentials{}, errors.New("no EC2 IMDS role found")
			}}
		}, nil, []string{"123456789012.dkr.ecr.eu-west-1.amazonaws.com", "no EC2 IMDS role found"}, []string{"AWS_PROFILE"}, 0},
		{"no right", "ecr", func() Outside { return Outside{AWS: keys} }, func(req *http.Request) *http.Response {
			if req.Header.Get("X-Amz-Target") == "" {
				return nil
			}
			return reply(req, http.StatusBadRequest, `{"__type":"AccessDeniedException","message":"User: arn:aws:iam::1:user/x is not authorized"}`)
		}, []string{"AccessDeniedException", "is not authorized"}, []string{"ecr:GetAuthorizationToken"}, 1},
		{"google has nothing", "gar", func() Outside { return google(gar.ErrNone) }, nil, []string{"europe-docker.pkg.dev"}, []string{"GOOGLE_APPLICATION_CREDENTIALS", "metadata"}, 0},
		{"google refuses", "gar", func() Outside { return google(errors.New("oauth2.googleapis.com answers HTTP 400 invalid_grant")) }, nil,
			[]string{"invalid_grant"}, []string{"gcloud auth application-default login"}, 0},
		{"azure has nothing", "acr", func() Outside { return Outside{Env: environment(nil), Transport: &entra{}} }, nil,
			[]string{"freightliner.azurecr.io"}, []string{"AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_SECRET"}, 0},
		{"azure says no", "acr", func() Outside {
			return Outside{Env: environment(map[string]string{"AZURE_TENANT_ID": "ten", "AZURE_CLIENT_ID": "app-1", "AZURE_CLIENT_SECRET": "canary-client-secret"}),
				Transport: &entra{status: 401, body: `{"error":"invalid_client","error_description":"canary-client-secret is wrong","error_codes":[7000215]}`}}
		}, nil, []string{"login.microsoftonline.com", "invalid_client", "7000215"}, []string{"app-1", "ten"}, 0},
		{"exchange says no", "acr", func() Outside { return newChains(nil).outside() }, func(req *http.Request) *http.Response {
			if req.URL.Path != "/oauth2/exchange" {
				return nil
			}
			return reply(req, http.StatusUnauthorized, `{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}`)
		}, []string{"UNAUTHORIZED"}, []string{"AcrPull"}, 1},
		{"no keys for the public one", "ecr-public", func() Outside {
			return Outside{AWS: func(context.Context, string) (aws.Credentials, error) {
				return aws.Credentials{}, errors.New("no EC2 IMDS role found")
			}}
		}, nil, []string{"public.ecr.aws", "no access with repository:"}, []string{"the AWS SDK chain: no EC2 IMDS role found"}, 0},
		{"no right at the public one", "ecr-public", func() Outside { return Outside{AWS: keys} }, func(req *http.Request) *http.Response {
			if req.Header.Get("X-Amz-Target") == "" {
				return nil
			}
			return reply(req, http.StatusBadRequest, `{"__type":"AccessDeniedException","message":"is not authorized"}`)
		}, []string{"public.ecr.aws", "AccessDeniedException"}, []string{"ecr-public:GetAuthorizationToken"}, 1},
		{"the token file of azure is gone", "acr", func() Outside {
			outside := newChains(nil).outside()
			outside.ReadFile = func(string) ([]byte, error) { return nil, fs.ErrNotExist }
			return outside
		}, nil, []string{"freightliner.azurecr.io", "workload identity"}, []string{"AZURE_FEDERATED_TOKEN_FILE"}, 0},
		{"azure is not told whose", "acr", func() Outside {
			return Outside{Env: environment(map[string]string{"AZURE_CLIENT_SECRET": "canary-client-secret"}), Transport: &entra{}}
		}, nil, []string{"freightliner.azurecr.io", "whose"}, []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID"}, 0},
		{"no job", "gitlab", func() Outside { return Outside{Env: environment(nil)} }, nil, []string{"registry.gitlab.com"}, []string{"CI_REGISTRY"}, 0},
		{"a job of another registry", "gitlab", func() Outside {
			return Outside{Env: environment(map[string]string{"GITLAB_CI": "true", "CI_REGISTRY": "registry.example.com", "CI_REGISTRY_USER": "canary", "CI_REGISTRY_PASSWORD": "canary"})}
		}, nil, []string{"registry.gitlab.com"}, []string{"CI_REGISTRY"}, 0},
		{"no workflow", "ghcr", func() Outside { return Outside{Env: environment(map[string]string{"GITHUB_TOKEN": "canary"})} }, nil, []string{"ghcr.io"}, []string{"GITHUB_TOKEN"}, 0},
		{"other server", "ghcr", func() Outside {
			return Outside{Env: environment(map[string]string{"GITHUB_TOKEN": "canary", "GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": "https://git.example.com"})}
		}, nil, []string{"ghcr.io"}, []string{"github.com"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := siteOf(tt.kind)
			w := newWorld(t, s, registrytest.WithLogin())
			asks := 0
			if tt.answer != nil {
				w.answer = func(req *http.Request) *http.Response {
					resp := tt.answer(req)
					if resp != nil {
						asks++
					}
					return resp
				}
			}
			c := w.client(tt.outside())
			var err error
			for i := range 5 {
				_, err = c.Head(t.Context(), w.repo(fmt.Sprintf("%sapp-%d", s.place, i)), "v1")
			}
			if providers.ClassOf(err) != providers.Denied {
				t.Fatalf("%v, want Denied", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q has no %q", err, want)
				}
			}
			for _, want := range tt.hint {
				if !strings.Contains(providers.HintOf(err), want) {
					t.Errorf("hint %q has no %q", providers.HintOf(err), want)
				}
			}
			if strings.Contains(err.Error()+providers.HintOf(err), "canary") {
				t.Errorf("the error shows a secret: %v", err)
			}
			if asks != tt.asks {
				t.Errorf("asked %d times, want %d", asks, tt.asks)
			}
			if requests := w.Recorder.Mentions("canary"); len(requests) > 0 {
				t.Errorf("sent a secret: %v", requests)
			}
		})
	}
}

// The login of Azure is that of the registry's cloud, with the assertion of
// workload identity before the secret.
func TestAzureLogin(t *testing.T) {
	for _, tt := range []struct {
		host, env, want string
		has             string
	}{
		{"freightliner.azurecr.io", "", "login.microsoftonline.com/tenant/oauth2/v2.0/token", "client_assertion=canary-assertion"},
		{"freightliner.azurecr.us", "", "login.microsoftonline.us/tenant/oauth2/v2.0/token", "client_assertion=canary-assertion"},
		{"freightliner.azurecr.cn", "", "login.partner.microsoftonline.cn/tenant/oauth2/v2.0/token", "client_assertion=canary-assertion"},
		{"freightliner.azurecr.io", "https://login.stack.example/", "login.stack.example/tenant/oauth2/v2.0/token", "client_assertion=canary-assertion"},
		{"freightliner.azurecr.io", "", "login.microsoftonline.com/tenant/oauth2/v2.0/token", "client_secret=canary-client-secret"},
	} {
		w := newWorld(t, site{personality: registrytest.ACR, host: tt.host}, registrytest.WithLogin())
		chain := newChains(w.clock)
		outside := chain.outside()
		env := outside.Env
		outside.Env = func(name string) string {
			switch byFile := strings.HasPrefix(tt.has, "client_assertion"); {
			case name == "AZURE_AUTHORITY_HOST":
				return tt.env
			case name == "AZURE_FEDERATED_TOKEN_FILE" && !byFile:
				return ""
			case name == "AZURE_CLIENT_SECRET":
				return "canary-client-secret" // goes second
			}
			return env(name)
		}
		_, _ = w.client(outside).Head(t.Context(), w.repo("acme/app"), "v1")
		if len(chain.entra.asked) == 0 || !strings.HasPrefix(chain.entra.asked[0], tt.want+" ") || !strings.Contains(chain.entra.asked[0], tt.has) {
			t.Errorf("%s: asked %q, want %s with %s", tt.host, chain.entra.asked, tt.want, tt.has)
		}
	}
}

// metadata is what answers at a machine's own address.
type metadata struct {
	mu      sync.Mutex
	asked   []string // address and headers
	answers []answered
}

type answered struct {
	status int // 0: nobody is there
	body   string
}

func (m *metadata) RoundTrip(req *http.Request) (*http.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, req.Method+" "+req.URL.String()+" "+req.Header.Get("Metadata")+" "+req.Header.Get("X-Identity-Header"))
	next := m.answers[min(len(m.asked), len(m.answers))-1]
	if next.status == 0 {
		return nil, errors.New("dial tcp: i/o timeout")
	}
	return reply(req, next.status, next.body), nil
}

// Managed identity is the last that Azure's chain tries. Where there is none the
// registry is asked as anybody, and the refusal says what was tried.
func TestAzureManagedIdentity(t *testing.T) {
	const machine = "GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01"
	const resource = "&resource=https%3A%2F%2Fcontainerregistry.azure.net true "
	given := answered{200, `{"access_token":"` + registrytest.CanaryPassword + `","expires_in":"3599","resource":"https://containerregistry.azure.net"}`}
	app := map[string]string{"IDENTITY_ENDPOINT": "http://127.0.0.1:41741/msi/token", "IDENTITY_HEADER": "canary-header"}
	for _, tt := range []struct {
		name    string
		env     map[string]string
		answers []answered
		want    []string // what is asked
		hint    string   // of the refusal; empty when it works
	}{
		{"a machine", nil, []answered{given}, []string{machine + resource}, ""},
		{"one of its identities", map[string]string{"AZURE_CLIENT_ID": "app-1"}, []answered{given}, []string{machine + "&client_id=app-1" + resource}, ""},
		{"an app", app, []answered{given}, []string{"GET http://127.0.0.1:41741/msi/token?api-version=2019-08-01" + resource + "canary-header"}, ""},
		{"busy for a moment", nil, []answered{{429, ``}, {410, ``}, given}, []string{machine + resource, machine + resource, machine + resource}, ""},
		{"nobody there", nil, []answered{{}}, []string{machine + resource}, "169.254.169.254 does not answer as Azure does"},
		{"another cloud", nil, []answered{{404, `<html>`}}, []string{machine + resource}, "HTTP 404"},
		{"another's words", nil, []answered{{200, `<html>`}}, []string{machine + resource}, "does not answer as Azure does"},
		{"no identity", nil, []answered{{400, `{"error":"invalid_request","error_description":"Identity not found canary"}`}}, []string{machine + resource}, "invalid_request: no identity is assigned"},
		{"an app whose endpoint is gone", app, []answered{{}}, nil, "IDENTITY_ENDPOINT"},
		{"an app without an address", map[string]string{"IDENTITY_ENDPOINT": "msi", "IDENTITY_HEADER": "canary-header"}, []answered{given}, []string{}, "IDENTITY_ENDPOINT"},
		{"an answer without an end", nil, []answered{{200, strings.Repeat(" ", 65<<10)}}, []string{machine + resource}, "does not answer as Azure does"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, siteOf("acr"), registrytest.WithLogin())
			registrytest.Push(t, w.Server.Host(), "acme/app", "v1", registrytest.Image(1, registrytest.Layer(1, 100)))
			there := &metadata{answers: tt.answers}
			c := w.client(Outside{Env: environment(tt.env), Transport: &entra{}, Metadata: there})
			var err error
			for i := range 3 {
				_, err = c.Head(t.Context(), w.repo("acme/app"), "v1")
				if i == 0 && tt.want != nil && !slices.Equal(there.asked, tt.want) {
					t.Errorf("asked %q, want %q", there.asked, tt.want)
				}
			}
			if tt.hint == "" {
				if err != nil {
					t.Errorf("%v\n%s", err, w.log())
				}
			} else if said := fmt.Sprint(err, " ", providers.HintOf(err)); err == nil || !strings.Contains(said, tt.hint) || !strings.Contains(said, w.host) || strings.Contains(said, "canary") {
				t.Errorf("%v (hint %q), want %q and the host, and no secret", err, providers.HintOf(err), tt.hint)
			}
			if tt.want != nil && len(there.asked) != len(tt.want) {
				t.Errorf("asked %d times for one registry, want %d", len(there.asked), len(tt.want))
			}
			if requests := w.Recorder.Mentions("canary-header"); len(requests) > 0 {
				t.Errorf("the registry was sent the app's secret: %v", requests)
			}
		})
	}
	// What the environment names goes first, and then the machine is not asked.
	w := newWorld(t, siteOf("acr"), registrytest.WithLogin())
	outside := newChains(w.clock).outside()
	there := &metadata{answers: []answered{given}}
	outside.Metadata = there
	if _, err := w.client(outside).Tags(t.Context(), w.repo("acme/app")); err != nil || len(there.asked) != 0 {
		t.Errorf("with workload identity: %v, the metadata service was asked %q", err, there.asked)
	}
}

// What one kind is told about a host is told to no other: the web interface of
// Docker Hub gets the password of Docker Hub once, and a token from then on.
func TestHubLogin(t *testing.T) {
	w := newWorld(t, siteOf("dockerhub"), registrytest.WithLogin())
	for i := range 3 {
		registrytest.Push(t, w.Server.Host(), fmt.Sprintf("acme/app-%d", i), "v1", registrytest.Image(1, registrytest.Layer(1, 100)))
	}
	logins := 0
	w.answer = func(req *http.Request) *http.Response {
		if strings.HasSuffix(req.URL.Path, "/v2/auth/token") {
			logins++
			if req.URL.Host != "hub.docker.com" || !strings.Contains(bodyOf(req), registrytest.CanaryPassword) {
				t.Errorf("login at %s with %s", req.URL, bodyOf(req))
			}
		} else if req.URL.Host == "hub.docker.com" && strings.Contains(req.Header.Get("Authorization"), "Basic") {
			t.Errorf("a password at %s", req.URL)
		}
		return nil
	}
	c := w.client(Outside{}, w.login)
	for i := range 3 {
		if list, err := c.Tags(t.Context(), w.repo(fmt.Sprintf("acme/app-%d", i))); err != nil || !slices.Equal(list.Tags, []string{"v1"}) {
			t.Errorf("tags: %q, %v", list.Tags, err)
		}
	}
	if logins != 1 {
		t.Errorf("%d logins, want 1", logins)
	}
	w.clock.advance(10 * time.Minute)
	if _, err := c.Tags(t.Context(), w.repo("acme/app-0")); err != nil || logins != 2 {
		t.Errorf("%d logins after ten minutes, want 2; %v", logins, err)
	}
}
