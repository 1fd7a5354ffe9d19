package kinds

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/providers/registry/registrytest"
)

// site is one kind with the hosts it really has, all of them served by one fake
// of that kind.
type site struct {
	personality registrytest.Personality
	host        string   // of the registry
	others      []string // hosts that belong to it
	place       string   // where repositories may be
	catalog     bool     // the registry's own catalog, or tree, tells everything
	bulk        bool     // tags come with digests
}

var sites = []site{
	{personality: registrytest.Generic, host: "registry.example.com", place: "acme/", catalog: true},
	{personality: registrytest.ECR, host: "123456789012.dkr.ecr.eu-west-1.amazonaws.com", others: []string{"api.ecr.eu-west-1.amazonaws.com"}, place: "acme/", catalog: true, bulk: true},
	{personality: registrytest.ECRPublic, host: "public.ecr.aws", others: []string{"api.ecr-public.us-east-1.amazonaws.com"}, place: registrytest.PublicAlias + "/", bulk: true},
	{personality: registrytest.GAR, host: "europe-docker.pkg.dev", others: []string{"artifactregistry.googleapis.com"}, place: "acme/main/", catalog: true, bulk: true},
	{personality: registrytest.ACR, host: "freightliner.azurecr.io", others: []string{"login.microsoftonline.com"}, place: "acme/", catalog: true, bulk: true},
	{personality: registrytest.GHCR, host: "ghcr.io", others: []string{"api.github.com"}, place: "acme/", bulk: true},
	{personality: registrytest.DockerHub, host: "docker.io", others: []string{"registry-1.docker.io", "auth.docker.io", "hub.docker.com"}, place: "acme/", bulk: true},
	{personality: registrytest.Harbor, host: "harbor.example.com", place: "acme/", bulk: true},
	{personality: registrytest.Quay, host: "quay.io", place: "acme/", catalog: true, bulk: true},
	{personality: registrytest.GitLab, host: "registry.gitlab.com", others: []string{"gitlab.com"}, place: "acme/app/"},
	{personality: registrytest.Artifactory, host: "acme.jfrog.io", place: "docker-local/"},
}

func siteOf(kind string) site {
	i := slices.IndexFunc(sites, func(s site) bool { return s.personality.Kind == kind })
	return sites[i]
}

// world leads all hosts of a site to one fake, and everything else to nowhere,
// and writes down what it is sent.
type world struct {
	site
	*registrytest.Server
	clock *stillClock
	user  string // of login; empty for the fake's own

	mu     sync.Mutex
	strays []string                           // requests to hosts that do not belong
	asked  []string                           // "host method path" of all
	answer func(*http.Request) *http.Response // goes first; nil to go on

}

func newWorld(t *testing.T, s site, options ...registrytest.Option) *world {
	t.Helper()
	clock := &stillClock{now: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)}
	server := registrytest.Start(t, append([]registrytest.Option{registrytest.As(s.personality)}, options...)...)
	return &world{site: s, Server: server, clock: clock}
}

func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	host := req.URL.Host
	w.asked = append(w.asked, host+" "+req.Method+" "+req.URL.RequestURI())
	answer := w.answer
	if host != w.host && !slices.Contains(w.others, host) {
		w.strays = append(w.strays, host)
		w.mu.Unlock()
		return nil, errors.New("no such host: " + host)
	}
	w.mu.Unlock()
	if answer != nil {
		if resp := answer(req); resp != nil {
			return resp, nil
		}
	}
	there := req.Clone(req.Context())
	there.URL.Scheme, there.URL.Host = "http", w.Server.Host()
	there.Host = host
	return http.DefaultTransport.RoundTrip(there)
}

func (w *world) log() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.asked, "\n")
}

// reply is an answer made up by a test.
func reply(req *http.Request, status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req}
}

// client has the kinds with everything that the options give them.
func (w *world) client(o Outside, change ...func(*registry.Options)) *registry.Client {
	options := registry.Options{
		Kinds:      All(o),
		Registries: []registry.Settings{{Host: w.host, Kind: w.personality.Kind, CreateRepositories: true}},
		Transport:  func(registry.Settings) (http.RoundTripper, error) { return w, nil },
		Clock:      w.clock,
		Rand:       func() float64 { return 0 },
	}
	for _, c := range change {
		c(&options)
	}
	return registry.New(options)
}

// login gives the fake's own user name and password, as docker login would.
func (w *world) login(o *registry.Options) {
	user := cmp.Or(w.user, w.personality.Login.User, registrytest.CanaryUser)
	o.Keychain = func(context.Context, providers.Repository) (registry.Credential, error) {
		return registry.Credential{Username: user, Password: func() string { return registrytest.CanaryPassword }, Origin: "the test"}, nil
	}
}

// asBearer gives a token that needs no user name.
func (w *world) asBearer(o *registry.Options) {
	o.Keychain = func(context.Context, providers.Repository) (registry.Credential, error) {
		return registry.Credential{Bearer: func() string { return registrytest.CanaryPassword }, Origin: "the test"}, nil
	}
}

// keys are AWS keys that the fakes take.
func keys(context.Context, string) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "canary-aws-secret", SessionToken: "canary-aws-session"}, nil
}

func environment(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

// stillClock moves only when somebody waits.
type stillClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *stillClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *stillClock) Wait(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return ctx.Err()
}

func (c *stillClock) advance(d time.Duration) { _ = c.Wait(context.Background(), d) }

func (w *world) repo(path string) providers.Repository {
	return providers.Repository{Host: w.host, Path: path}
}

func (w *world) list(t *testing.T, c *registry.Client, prefix string) ([]string, error) {
	t.Helper()
	var names []string
	for name, err := range c.Repositories(t.Context(), w.host, prefix) {
		if err != nil {
			return names, err
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// registries answers what the fake of ECR Public does not have: which aliases
// are ours (AmazonECRPublic/latest/APIReference/API_DescribeRegistries.html).
func (w *world) registries() {
	w.answer = func(req *http.Request) *http.Response {
		if req.Header.Get("X-Amz-Target") != "SpencerFrontendService.DescribeRegistries" {
			return nil
		}
		return reply(req, http.StatusOK, `{"registries":[{"registryId":"123456789012","aliases":[{"name":"`+registrytest.PublicAlias+`","status":"ACTIVE"}]}]}`)
	}
}

func bodyOf(req *http.Request) string {
	if req.Body == nil {
		return ""
	}
	b, _ := io.ReadAll(req.Body)
	req.Body = io.NopCloser(bytes.NewReader(b))
	return string(b)
}
