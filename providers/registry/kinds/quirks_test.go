package kinds

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/providers/registry/registrytest"
)

// AWS is asked page by page, in the region and account of the host, with a
// signature for exactly that and nothing of the keys' secrets.
func TestAWSRequests(t *testing.T) {
	for _, tt := range []struct {
		host, api, scope, target string
	}{
		{"123456789012.dkr.ecr.eu-west-1.amazonaws.com", "api.ecr.eu-west-1.amazonaws.com", "/eu-west-1/ecr/aws4_request", "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories"},
		{"123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "ecr-fips.us-gov-west-1.amazonaws.com", "/us-gov-west-1/ecr/aws4_request", "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories"},
		{"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "api.ecr.cn-north-1.amazonaws.com.cn", "/cn-north-1/ecr/aws4_request", "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories"},
		{"123456789012.dkr-ecr.eu-west-1.on.aws", "ecr.eu-west-1.api.aws", "/eu-west-1/ecr/aws4_request", "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories"},
	} {
		t.Run(tt.host, func(t *testing.T) {
			w := newWorld(t, site{personality: registrytest.ECR, host: tt.host, others: []string{tt.api}})
			var bodies []string
			w.answer = func(req *http.Request) *http.Response {
				bodies = append(bodies, bodyOf(req))
				authorization := req.Header.Get("Authorization")
				if req.URL.Host != tt.api || req.Header.Get("X-Amz-Target") != tt.target || req.Method != http.MethodPost ||
					!strings.Contains(authorization, "Credential=AKIDEXAMPLE/20261123"+tt.scope) || req.Header.Get("X-Amz-Security-Token") != "canary-aws-session" ||
					strings.Contains(fmt.Sprint(req.Header), "canary-aws-secret") {
					t.Errorf("%s %s %v", req.Method, req.URL, req.Header)
				}
				if len(bodies) == 1 {
					return reply(req, http.StatusOK, `{"repositories":[{"repositoryName":"acme/a"},{"repositoryName":"acme-b/x"}],"nextToken":"to=2"}`)
				}
				return reply(req, http.StatusOK, `{"repositories":[{"repositoryName":"acme/c"},{"repositoryName":"acme/a"}]}`)
			}
			names, err := w.list(t, w.client(Outside{AWS: keys}), "acme")
			if err != nil || !slices.Equal(names, []string{"acme/a", "acme/c"}) {
				t.Errorf("%q, %v", names, err)
			}
			want := []string{`{"registryId":"123456789012","maxResults":1000}`, `{"registryId":"123456789012","maxResults":1000,"nextToken":"to=2"}`}
			if diff := cmp.Diff(want, bodies); diff != "" {
				t.Errorf("questions (-want +got):\n%s", diff)
			}
		})
	}
}

// AWS says everything with 400, so the exception decides about trying again.
func TestAWSThrottling(t *testing.T) {
	w := newWorld(t, siteOf("ecr"))
	n := 0
	w.answer = func(req *http.Request) *http.Response {
		if n++; n < 3 {
			return reply(req, http.StatusInternalServerError, `{"__type":"ServerException"}`)
		}
		return reply(req, http.StatusOK, `{"imageDetails":[{"imageDigest":"`+string(providers.SHA256([]byte("a")))+`","imageTags":["v1"],"imageSizeInBytes":7,"imagePushedAt":1.7E9}]}`)
	}
	list, err := w.client(Outside{AWS: keys}).Tags(t.Context(), w.repo("acme/app"))
	if err != nil || n != 3 || list.Sizes["v1"] != 7 || list.Pushed["v1"].Unix() != 1700000000 {
		t.Errorf("%+v, %v after %d tries", list, err, n)
	}
}

// The interface of ECR Public knows only registries of one's own: those of others
// keep their own tag lists, and their repositories have to be named.
func TestForeignPublicRegistry(t *testing.T) {
	w := newWorld(t, siteOf("ecr-public"), registrytest.WithLogin())
	w.registries()
	w.CreateRepository("nginx/app")
	registrytest.Push(t, w.Server.Host(), "nginx/app", "v1", registrytest.Image(1, registrytest.Layer(1, 100)))
	c := w.client(Outside{AWS: keys}, w.login)
	for range 2 {
		if list, err := c.Tags(t.Context(), w.repo("nginx/app")); err != nil || !slices.Equal(list.Tags, []string{"v1"}) || list.Digests != nil {
			t.Errorf("%+v, %v; want v1 from the registry", list, err)
		}
	}
	names, err := w.list(t, c, "nginx")
	if err == nil || len(names) > 0 || !strings.Contains(providers.HintOf(err), "names") {
		t.Errorf("%q, %v (hint %q)", names, err, providers.HintOf(err))
	}
	if n := strings.Count(w.log(), "api.ecr-public"); n != 1 {
		t.Errorf("AWS was asked %d times, want 1", n)
	}
}

// An answer of Google's that is as long as an answer can be may be a part
// (mirroring.md 3.1), and nothing falls back to one.
func TestGoogleCutsLists(t *testing.T) {
	for _, entries := range []int{9_999, 10_000} {
		w := newWorld(t, siteOf("gar"))
		w.answer = func(req *http.Request) *http.Response {
			var b strings.Builder
			for i := range entries {
				fmt.Fprintf(&b, `,"%s":{"imageSizeBytes":"5","tag":["t%d"],"timeUploadedMs":"1700000000123"}`, providers.SHA256(fmt.Append(nil, i)), i)
			}
			return reply(req, http.StatusOK, `{"manifest":{`+b.String()[1:]+`},"tags":[]}`)
		}
		list, err := w.client(Outside{}).Tags(t.Context(), w.repo("acme/main/app"))
		if entries == 9_999 && (err != nil || len(list.Tags) != entries || list.Sizes["t1"] != 5 || list.Pushed["t1"].UnixMilli() != 1700000000123) {
			t.Errorf("%d entries: %d tags, %v", entries, len(list.Tags), err)
		}
		if entries == 10_000 && (providers.ClassOf(err) != providers.Invalid || len(list.Tags) != 0) {
			t.Errorf("%d entries: %d tags, %v; want Invalid", entries, len(list.Tags), err)
		}
	}
}

// At gcr.io, and with a key file in place of an access token, the tree is walked.
func TestGoogleWalk(t *testing.T) {
	tree := map[string]string{
		"acme":          `{"child":["main","empty"],"manifest":{},"tags":[]}`,
		"acme/main":     `{"child":["app","lib"],"manifest":{}}`,
		"acme/main/app": `{"child":["deep"],"manifest":{"` + string(providers.SHA256(nil)) + `":{"tag":["v1"]}}}`,
	}
	leaf := `{"manifest":{"` + string(providers.SHA256(nil)) + `":{"tag":["v1"]}},"tags":["v1"]}`
	w := newWorld(t, site{personality: registrytest.GAR, host: "eu.gcr.io"})
	w.answer = func(req *http.Request) *http.Response {
		path, ok := strings.CutSuffix(strings.TrimPrefix(req.URL.Path, "/v2/"), "/tags/list")
		switch {
		case !ok:
			return reply(req, http.StatusNotFound, `{}`)
		case strings.HasSuffix(path, "empty"):
			return reply(req, http.StatusOK, `{"child":[],"manifest":{},"tags":[]}`)
		case tree[path] != "":
			return reply(req, http.StatusOK, tree[path])
		}
		return reply(req, http.StatusOK, leaf)
	}
	names, err := w.list(t, w.client(Outside{}), "acme")
	if want := []string{"acme/main/app", "acme/main/app/deep", "acme/main/lib"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%q, %v; want %q", names, err, want)
	}
}

// A robot's password is not taken by Quay's interface, which would then tell only
// what is public: the catalog is asked, never that part.
func TestQuayRobots(t *testing.T) {
	w := newWorld(t, siteOf("quay"), registrytest.WithLogin())
	registrytest.Push(t, w.Server.Host(), "acme/private", "v1", registrytest.Image(1, registrytest.Layer(1, 100)))
	asked := 0
	w.answer = func(req *http.Request) *http.Response {
		if req.URL.Path != "/api/v1/repository" {
			return nil
		}
		asked++
		return reply(req, http.StatusOK, `{"repositories":[{"namespace":"acme","name":"public"}]}`)
	}
	names, err := w.list(t, w.client(Outside{}, w.login), "acme")
	if err != nil || !slices.Equal(names, []string{"acme/private"}) || asked != 0 {
		t.Errorf("%q, %v, the interface was asked %d times; want the catalog alone", names, err, asked)
	}
}

// One's own GitLab is where the registry block says that tokens come from. A job's
// token has a header of its own, and a prefix inside a project leads to it.
func TestOwnGitLab(t *testing.T) {
	s := site{personality: registrytest.GitLab, host: "registry.example.com", others: []string{"git.example.com"}}
	w := newWorld(t, s)
	var asked []string
	w.answer = func(req *http.Request) *http.Response {
		asked = append(asked, fmt.Sprintf("%s%s %s%s", req.URL.Host, req.URL.EscapedPath(), req.Header.Get("Job-Token"), req.Header.Get("Private-Token")))
		if strings.Contains(req.URL.EscapedPath(), "/projects/group%2Fproject/") {
			resp := reply(req, http.StatusOK, `[{"path":"group/project/images/app"},{"path":"group/project/other"}]`)
			resp.Header.Set("X-Total", "2")
			return resp
		}
		return reply(req, http.StatusNotFound, `{"message":"404 Not Found"}`)
	}
	named := func(o *registry.Options) { o.Registries[0].TokenHosts = []string{"git.example.com"} }
	w.user = "gitlab-ci-token"
	names, err := w.list(t, w.client(Outside{}, w.login, named), "group/project/images")
	if err != nil || !slices.Equal(names, []string{"group/project/images/app"}) {
		t.Errorf("%q, %v", names, err)
	}
	want := []string{
		"git.example.com/api/v4/groups/group%2Fproject%2Fimages/registry/repositories " + registrytest.CanaryPassword,
		"git.example.com/api/v4/projects/group%2Fproject%2Fimages/registry/repositories " + registrytest.CanaryPassword,
		"git.example.com/api/v4/projects/group%2Fproject/registry/repositories " + registrytest.CanaryPassword,
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	if _, err := w.list(t, w.client(Outside{}, w.login), "group"); !strings.Contains(providers.HintOf(err), "token_hosts") {
		t.Errorf("without token_hosts: %v (hint %q)", err, providers.HintOf(err))
	}
}

// The whole of a Harbor is its projects; a nested name is escaped twice.
func TestHarborNames(t *testing.T) {
	w := newWorld(t, siteOf("harbor"), registrytest.WithLogin())
	image := registrytest.Image(1, registrytest.Layer(1, 100))
	want := []string{"acme/deep/er/app", "zeta/app"}
	for _, path := range want {
		w.CreateRepository(path)
		registrytest.Push(t, w.Server.Host(), path, "v1", image)
	}
	c := w.client(Outside{}, w.login)
	names, err := w.list(t, c, "")
	if err != nil || !slices.Equal(names, want) {
		t.Errorf("%q, %v; want %q", names, err, want)
	}
	list, err := c.Tags(t.Context(), w.repo(want[0]))
	if err != nil || list.Digests["v1"] != image.Digest() {
		t.Errorf("%+v, %v\n%s", list, err, w.log())
	}
	if !strings.Contains(w.log(), "/repositories/deep%252Fer%252Fapp/artifacts") {
		t.Errorf("asked\n%s", w.log())
	}
}

// All that a kind lists has passed the grammar: a name that can not be one makes
// the listing invalid, since leaving it out would make it look complete.
func TestNamesFromTheWire(t *testing.T) {
	for _, name := range []string{"../up", "acme/UPPER", "acme/\u202eevil", "acme/a?b=c", strings.Repeat("a", 300)} {
		w := newWorld(t, siteOf("harbor"))
		w.answer = func(req *http.Request) *http.Response {
			resp := reply(req, http.StatusOK, fmt.Sprintf(`[{"name":%q,"digest":"x","tags":[{"name":%q}]}]`, "acme/"+name, name))
			resp.Header.Set("X-Total-Count", "1")
			return resp
		}
		c := w.client(Outside{})
		if names, err := w.list(t, c, "acme"); providers.ClassOf(err) != providers.Invalid || len(names) > 0 {
			t.Errorf("%q: repositories %q, %v; want Invalid", name, names, err)
		}
		if list, err := c.Tags(t.Context(), w.repo("acme/app")); providers.ClassOf(err) != providers.Invalid || len(list.Tags) > 0 {
			t.Errorf("%q: tags %q, %v; want Invalid", name, list.Tags, err)
		}
	}
}

// What a kind falls back from is said, for those who look.
func TestFallbackIsLogged(t *testing.T) {
	w := newWorld(t, siteOf("ecr"))
	w.deny(func(int) (int, string) {
		return http.StatusBadRequest, `{"__type":"AccessDeniedException","message":"not you"}`
	})
	w.CreateRepository("acme/app")
	registrytest.Push(t, w.Server.Host(), "acme/app", "v1", registrytest.Image(1, registrytest.Layer(1, 100)))
	var out bytes.Buffer
	c := w.client(Outside{AWS: keys}, func(o *registry.Options) { o.Log = hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Debug}) })
	for range 3 {
		if _, err := c.Tags(t.Context(), w.repo("acme/app")); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(out.String(), "AccessDeniedException"); n != 1 {
		t.Errorf("said %d times, want once:\n%s", n, out.String())
	}
}
