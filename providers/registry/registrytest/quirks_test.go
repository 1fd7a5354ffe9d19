package registrytest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"freightliner/providers"
	"freightliner/providers/registry/embedded"

	"github.com/google/go-cmp/cmp"
)

// peculiar is a server with a personality, asked at its front door.
type peculiar struct {
	story
	server *Server
}

func meet(t *testing.T, p Personality, options ...Option) *peculiar {
	t.Helper()
	server := Start(t, append(options, As(p))...)
	return &peculiar{story{T: t, remote: dial(server.Host())}, server}
}

// api asks the registry's own interface and reads the answer.
func (p *peculiar) api(method, path string, header map[string]string, body any, status int) (map[string]any, http.Header) {
	p.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		p.Fatal(err)
	}
	answer, err := p.remote.do(method, p.server.URL()+path, header, raw)
	if err != nil {
		p.Fatal(err)
	}
	if answer.status != status {
		p.Fatalf("%s %s: status %d, want %d; body %s", method, path, answer.status, status, answer.body)
	}
	read := map[string]any{}
	if bytes.HasPrefix(answer.body, []byte("[")) {
		answer.body = []byte(`{"list":` + string(answer.body) + `}`)
	}
	if len(answer.body) > 0 {
		if err := json.Unmarshal(answer.body, &read); err != nil {
			p.Fatalf("%s %s: %v in %s", method, path, err, answer.body)
		}
	}
	return read, answer.header
}

// aws calls an operation, signed or not.
func (p *peculiar) aws(target string, body map[string]any, status int) map[string]any {
	p.Helper()
	answer, _ := p.api(http.MethodPost, "/", map[string]string{
		"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1",
		"Authorization": "AWS4-HMAC-SHA256 Credential=x",
	}, body, status)
	return answer
}

const ecrTarget = "AmazonEC2ContainerRegistry_V20150921."

// upload opens a session and gives its address.
func (p *peculiar) upload(repository string) string {
	p.Helper()
	p.remote.prepare(repository)
	return p.begin(repository)
}

func (p *peculiar) patch(location string, first int, data []byte, status int, codes ...string) reply {
	p.Helper()
	return p.ask(http.MethodPatch, location, chunk(first, first+len(data)), data, status, codes...)
}

func (p *peculiar) mount(to, from string, b Blob, status int) {
	p.Helper()
	p.remote.prepare(to)
	p.ask(http.MethodPost, to+"/blobs/uploads/?mount="+string(b.Digest())+"&from="+from, nil, nil, status)
}

func (p *peculiar) retag(repository, tag string, a *Artifact, status int, codes ...string) {
	p.Helper()
	p.ask(http.MethodPut, repository+"/manifests/"+tag, map[string]string{"Content-Type": a.MediaType}, a.Raw, status, codes...)
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// column is one field of every entry of a list.
func column(list any, field string) []any {
	values := []any{}
	entries, _ := list.([]any)
	for _, entry := range entries {
		values = append(values, entry.(map[string]any)[field])
	}
	return values
}

var at2026 = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// fixed is a clock that a test moves.
type fixed struct{ now time.Time }

func (f *fixed) option() Option {
	return WithOptions(func(o *embedded.Options) { o.Now = func() time.Time { return f.now } })
}

// The quirks of section 3 of the reference, one by one.
func TestQuirks(t *testing.T) {
	image, other := Image(1), Image(2)
	for _, test := range []struct {
		name string
		tell func(t *testing.T)
	}{
		{"ecr closes the connection on a push to a missing repository", func(t *testing.T) {
			p := meet(t, ECR)
			if answer, err := p.remote.do(http.MethodPost, "none/blobs/uploads/", nil, nil); err == nil {
				t.Errorf("the push was answered: %d %s", answer.status, answer.body)
			}
			p.ask(http.MethodGet, "none/tags/list", nil, nil, http.StatusNotFound, "NAME_UNKNOWN")
			p.server.CreateRepository("none")
			p.lists(p.ask(http.MethodGet, "none/tags/list", nil, nil, http.StatusOK), "tags", []string{})
			p.ask(http.MethodPost, "none/blobs/uploads/", nil, nil, http.StatusAccepted)
		}},
		{"ecr wants chunks of 5 MiB, answers 201 and shows the first one for ever", func(t *testing.T) {
			p := meet(t, ECR)
			data := Layer(1, 10<<20+100).Data
			one, two := data[:5<<20], data[5<<20:10<<20]
			answer := p.patch(p.upload("app"), 0, one, http.StatusCreated)
			answer = p.patch(p.remote.location(answer), len(one), two, http.StatusCreated)
			p.header(answer, "Range", "0-5242879")
			status := p.ask(http.MethodGet, p.remote.location(answer), nil, nil, http.StatusNoContent)
			p.header(status, "Range", "0-5242879")
			p.patch(p.remote.location(status), 0, one, http.StatusRequestedRangeNotSatisfiable)
			p.ask(http.MethodPut, withDigest(p.remote.location(status), providers.SHA256(data)), octets, data[10<<20:], http.StatusCreated)

			small := p.patch(p.upload("app"), 0, data[:5<<20-1], http.StatusCreated)
			p.ask(http.MethodPut, withDigest(p.remote.location(small), providers.SHA256(data)), octets, data[5<<20-1:], http.StatusBadRequest, "BLOB_UPLOAD_INVALID")
		}},
		{"ecr mounts when the account wants it, and only committed blobs", func(t *testing.T) {
			p := meet(t, ECR)
			Push(t, p.server.Host(), "app", "v1", image)
			p.mount("copy", "app", image.Blobs[0], http.StatusAccepted)
			p.server.AllowMounts()
			p.mount("copy", "app", image.Blobs[0], http.StatusCreated)
			loose := Layer(9, 100)
			if err := p.remote.upload("app", loose, ""); err != nil {
				t.Fatal(err)
			}
			p.mount("copy", "app", loose, http.StatusAccepted)
		}},
		{"ecr refuses the same digest under an immutable tag, too", func(t *testing.T) {
			p := meet(t, ECR)
			p.aws(ecrTarget+"CreateRepository", map[string]any{"repositoryName": "app", "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
				"imageTagMutabilityExclusionFilters": []exclusion{{"dev-*", "WILDCARD"}}}, http.StatusOK)
			for _, tag := range []string{"v1", "dev-1"} {
				Push(t, p.server.Host(), "app", tag, image)
			}
			p.blobs("app", other)
			p.retag("app", "v1", image, http.StatusBadRequest, "TAG_INVALID")
			p.retag("app", "v1", other, http.StatusBadRequest, "TAG_INVALID")
			p.retag("app", "dev-1", other, http.StatusCreated)
			p.retag("app", string(other.Digest()), other, http.StatusCreated)
			p.aws(ecrTarget+"PutImageTagMutability", map[string]any{"repositoryName": "app", "imageTagMutability": "MUTABLE_WITH_EXCLUSION",
				"imageTagMutabilityExclusionFilters": []exclusion{{"dev-*", "WILDCARD"}}}, http.StatusOK)
			p.retag("app", "v1", other, http.StatusCreated)
			p.retag("app", "dev-1", image, http.StatusBadRequest, "TAG_INVALID")
		}},
		{"ecr pages by tokens, in no order, 1000 at most", func(t *testing.T) {
			p := meet(t, ECR)
			var want []string
			for i := range 150 {
				tag := fmt.Sprintf("t%03d", i)
				want = append(want, tag)
				if i == 0 {
					Push(t, p.server.Host(), "app", tag, image)
					continue
				}
				Tag(t, p.server.Host(), "app", tag, image)
			}
			answer := p.ask(http.MethodGet, "app/tags/list", nil, nil, http.StatusOK)
			if link := answer.header.Get("Link"); !strings.HasPrefix(link, "<"+p.server.URL()+"/v2/app/tags/list?") {
				t.Errorf("Link %q is no whole address", link)
			}
			got, err := p.remote.pages("app/tags/list", "tags")
			if err != nil || slices.IsSorted(got) {
				t.Errorf("error %v; sorted %v", err, slices.IsSorted(got))
			}
			slices.Sort(got)
			same(t, got, want)
			p.ask(http.MethodGet, "app/tags/list?n=1001", nil, nil, http.StatusBadRequest, "UNSUPPORTED")
			p.ask(http.MethodGet, "app/tags/list?n=10&last=t005", nil, nil, http.StatusBadRequest)
		}},
		{"ecr's interface lists, creates, deletes and gives passwords", func(t *testing.T) {
			clock := &fixed{at2026}
			p := meet(t, ECR, WithLogin(), clock.option())
			p.aws(ecrTarget+"CreateRepository", map[string]any{"repositoryName": "team/app", "imageScanningConfiguration": map[string]bool{"scanOnPush": true}}, http.StatusOK)
			same(t, p.aws(ecrTarget+"CreateRepository", map[string]any{"repositoryName": "team/app"}, http.StatusBadRequest)["__type"], any("RepositoryAlreadyExistsException"))
			same(t, p.aws(ecrTarget+"CreateRepository", map[string]any{"repositoryName": "team//app"}, http.StatusBadRequest)["__type"], any("InvalidParameterException"))
			Push(t, p.server.Host(), "team/app", "v1", image)
			Push(t, p.server.Host(), "team/app", "v2", other)
			Tag(t, p.server.Host(), "team/app", "v1.0", image)

			repositories := p.aws(ecrTarget+"DescribeRepositories", nil, http.StatusOK)["repositories"]
			same(t, column(repositories, "repositoryUri"), []any{p.server.Host() + "/team/app"})
			same(t, column(repositories, "imageScanningConfiguration"), []any{map[string]any{"scanOnPush": true}})
			same(t, p.aws(ecrTarget+"DescribeRepositories", map[string]any{"repositoryNames": []string{"none"}}, http.StatusBadRequest)["__type"], any("RepositoryNotFoundException"))

			var tags []any
			call := map[string]any{"repositoryName": "team/app", "maxResults": 1}
			for range 2 {
				page := p.aws(ecrTarget+"DescribeImages", call, http.StatusOK)
				tags = append(tags, column(page["imageDetails"], "imageTags")...)
				same(t, column(page["imageDetails"], "imagePushedAt"), []any{float64(at2026.Unix())})
				call["nextToken"] = page["nextToken"]
			}
			if call["nextToken"] != nil {
				t.Error("there is a third page")
			}
			slices.SortFunc(tags, func(a, b any) int { return len(b.([]any)) - len(a.([]any)) })
			same(t, tags, []any{[]any{"v1", "v1.0"}, []any{"v2"}})
			same(t, p.aws(ecrTarget+"DescribeImages", map[string]any{"repositoryName": "team/app", "nextToken": "v1"}, http.StatusBadRequest)["__type"], any("InvalidParameterException"))
			same(t, len(p.aws(ecrTarget+"ListImages", map[string]any{"repositoryName": "team/app"}, http.StatusOK)["imageIds"].([]any)), 3)

			layers := p.aws(ecrTarget+"BatchCheckLayerAvailability", map[string]any{"repositoryName": "team/app",
				"layerDigests": []providers.Digest{image.Blobs[0].Digest(), providers.SHA256([]byte("no"))}}, http.StatusOK)["layers"]
			same(t, column(layers, "layerAvailability"), []any{"AVAILABLE", "UNAVAILABLE"})

			// An image goes with its last tag.
			p.aws(ecrTarget+"BatchDeleteImage", map[string]any{"repositoryName": "team/app", "imageIds": []imageID{{Tag: "v2"}}}, http.StatusOK)
			p.ask(http.MethodHead, "team/app/manifests/"+string(other.Digest()), acceptAll, nil, http.StatusNotFound)
			p.ask(http.MethodHead, "team/app/manifests/"+string(image.Digest()), acceptAll, nil, http.StatusOK)

			data := p.aws(ecrTarget+"GetAuthorizationToken", nil, http.StatusOK)["authorizationData"].([]any)[0].(map[string]any)
			same(t, data["expiresAt"], any(float64(at2026.Add(12*time.Hour).Unix())))
			login := map[string]string{"Authorization": "Basic " + data["authorizationToken"].(string)}
			nobody := &remote{host: p.server.Host(), peer: peer{client: http.DefaultClient}, tokens: map[string]string{}}
			for _, step := range []struct {
				later time.Duration
				want  int
			}{{0, http.StatusOK}, {12*time.Hour - time.Second, http.StatusOK}, {12 * time.Hour, http.StatusUnauthorized}} {
				clock.now = at2026.Add(step.later)
				answer, err := nobody.do(http.MethodGet, "", login, nil)
				if err != nil || answer.status != step.want {
					t.Errorf("after %v: status %d, error %v; want %d", step.later, answer.status, err, step.want)
				}
			}
			p.api(http.MethodPost, "/", map[string]string{"X-Amz-Target": ecrTarget + "DescribeRepositories"}, nil, http.StatusBadRequest)
		}},
		{"ecr has a limit of repositories", func(t *testing.T) {
			few := ECR
			few.Create.Limit = 1
			p := meet(t, few)
			p.aws(ecrTarget+"CreateRepository", map[string]any{"repositoryName": "a1"}, http.StatusOK)
			same(t, p.aws(ecrTarget+"CreateRepository", map[string]any{"repositoryName": "a2"}, http.StatusBadRequest)["__type"], any("LimitExceededException"))
			same(t, ECR.Create.Limit, 10_000)
		}},
		{"ecr-public has names without the alias, and tags with digests", func(t *testing.T) {
			p := meet(t, ECRPublic, WithLogin())
			const target = "SpencerFrontendService."
			p.aws(target+"CreateRepository", map[string]any{"repositoryName": "app", "catalogData": map[string]string{"description": "x"}}, http.StatusOK)
			Push(t, p.server.Host(), PublicAlias+"/app", "v1", image)
			same(t, column(p.aws(target+"DescribeRepositories", nil, http.StatusOK)["repositories"], "repositoryName"), []any{"app"})
			tags := p.aws(target+"DescribeImageTags", map[string]any{"repositoryName": "app"}, http.StatusOK)["imageTagDetails"]
			same(t, column(tags, "imageTag"), []any{"v1"})
			same(t, column(tags, "imageDetail")[0].(map[string]any)["imageDigest"], any(string(image.Digest())))
			if _, ok := p.aws(target+"GetAuthorizationToken", nil, http.StatusOK)["authorizationData"].(map[string]any); !ok {
				t.Error("authorizationData is no object")
			}
			p.aws(ecrTarget+"DescribeRepositories", nil, http.StatusBadRequest)
		}},
		{"gar takes no chunks and keeps uploads elsewhere", func(t *testing.T) {
			p := meet(t, GAR)
			data := Layer(3, 1000).Data
			begun := p.upload("acme/main/app")
			if !strings.HasPrefix(begun, p.server.URL()+garUploads) {
				t.Errorf("the upload lies at %s", begun)
			}
			p.patch(begun, 0, data[:500], http.StatusBadRequest, "BLOB_UPLOAD_INVALID")
			answer := p.ask(http.MethodPatch, begun, octets, data[:500], http.StatusAccepted)
			p.ask(http.MethodPatch, p.remote.location(answer), octets, data[500:], http.StatusBadRequest, "BLOB_UPLOAD_INVALID")
			p.ask(http.MethodPut, withDigest(p.upload("acme/main/app"), providers.SHA256(data)), octets, data, http.StatusCreated)
		}},
		{"gar lists tags with manifests and children, and cuts without a word", func(t *testing.T) {
			few := GAR
			few.Listing.Cut = 2
			p := meet(t, few)
			for _, tag := range []string{"a", "b", "c"} {
				Push(t, p.server.Host(), "acme/main/app", tag, image)
			}
			Push(t, p.server.Host(), "acme/main/app/deep", "v1", other)
			p.server.Backdate(t, "acme/main/app", "a", at2026)
			answer, _ := p.api(http.MethodGet, "/v2/acme/main/app/tags/list", nil, nil, http.StatusOK)
			same(t, answer["tags"], any([]any{"a", "b"}))
			same(t, answer["child"], any([]any{"deep"}))
			entry := answer["manifest"].(map[string]any)[string(image.Digest())].(map[string]any)
			same(t, entry["tag"], any([]any{"a", "b", "c"}))
			same(t, entry["timeUploadedMs"], any(fmt.Sprint(at2026.UnixMilli())))
			above, _ := p.api(http.MethodGet, "/v2/acme/main/tags/list", nil, nil, http.StatusOK)
			same(t, above["child"], any([]any{"app"}))
			same(t, GAR.Listing.Cut, 10_000)
		}},
		{"gar wants a repository, made by its interface", func(t *testing.T) {
			p := meet(t, GAR)
			p.ask(http.MethodPost, "acme/team/app/blobs/uploads/", nil, nil, http.StatusNotFound, "NAME_UNKNOWN")
			p.ask(http.MethodPost, "acme/app/blobs/uploads/", nil, nil, http.StatusBadRequest, "NAME_INVALID")
			made := map[string]any{"format": "DOCKER", "dockerConfig": map[string]bool{"immutableTags": true}}
			p.api(http.MethodPost, "/v1/projects/acme/locations/europe/repositories?repositoryId=team", nil, made, http.StatusOK)
			p.api(http.MethodPost, "/v1/projects/acme/locations/europe/repositories?repositoryId=team", nil, made, http.StatusConflict)
			Push(t, p.server.Host(), "acme/team/app", "v1", image)
			p.blobs("acme/team/app", other)
			p.retag("acme/team/app", "v1", image, http.StatusCreated)
			p.retag("acme/team/app", "v1", other, http.StatusBadRequest, "FAILED_PRECONDITION")
			images, _ := p.api(http.MethodGet, "/v1/projects/acme/locations/europe/repositories/team/dockerImages?pageSize=10", nil, nil, http.StatusOK)
			same(t, column(images["dockerImages"], "tags"), []any{[]any{"v1"}})
			p.ask(http.MethodDelete, "acme/team/app/manifests/"+string(image.Digest()), nil, nil, http.StatusBadRequest, "GOOGLE_MANIFEST_DANGLING_TAG")
		}},
		{"acr caps a PUT, wants lengths and plain ranges", func(t *testing.T) {
			p := meet(t, ACR)
			big := bytes.Repeat([]byte{1}, 20<<20+1)
			p.ask(http.MethodPut, withDigest(p.upload("app"), providers.SHA256(big)), octets, big, http.StatusRequestEntityTooLarge)
			location := p.remote.location(p.patch(p.upload("app"), 0, big[:20<<20], http.StatusAccepted))
			location = p.remote.location(p.patch(location, 20<<20, big[20<<20:], http.StatusAccepted))
			p.ask(http.MethodPut, withDigest(location, providers.SHA256(big)), nil, nil, http.StatusCreated)
			p.ask(http.MethodPatch, p.upload("app"), map[string]string{"Content-Range": "bytes 0-9/*"}, big[:10], http.StatusRequestedRangeNotSatisfiable)
			p.ask(http.MethodPatch, p.upload("app"), map[string]string{"Transfer-Encoding": "chunked"}, big[:10], http.StatusLengthRequired)
		}},
		{"acr lists tags with digests and times, for a right of its own", func(t *testing.T) {
			p := meet(t, ACR, WithLogin(), (&fixed{at2026}).option())
			Push(t, p.server.Host(), "app", "v1", image)
			Push(t, p.server.Host(), "app", "v2", other)
			exchange := url.Values{"grant_type": {"access_token"}, "service": {ACR.Login.Service}, "access_token": {CanaryPassword}}
			refresh := p.form("/oauth2/exchange", exchange, http.StatusOK)["refresh_token"].(string)
			exchange.Set("access_token", "wrong-directory-token")
			p.form("/oauth2/exchange", exchange, http.StatusUnauthorized)
			token := func(scope string) map[string]string {
				answer := p.form("/oauth2/token", url.Values{"grant_type": {"refresh_token"}, "service": {ACR.Login.Service}, "scope": {scope}, "refresh_token": {refresh}}, http.StatusOK)
				if answer["expires_in"] != nil || answer["token"] != nil {
					t.Errorf("only access_token is given there, this is %v", answer)
				}
				return map[string]string{"Authorization": "Bearer " + answer["access_token"].(string)}
			}
			// Asked without the harness's login, which would help itself.
			p.remote.peer.login = false
			p.api(http.MethodGet, "/acr/v1/app/_tags", token("repository:app:pull"), nil, http.StatusUnauthorized)
			tags, header := p.api(http.MethodGet, "/acr/v1/app/_tags?n=1", token("repository:app:metadata_read"), nil, http.StatusOK)
			same(t, column(tags["tags"], "digest"), []any{string(image.Digest())})
			same(t, column(tags["tags"], "lastUpdateTime"), []any{"2026-03-04T05:06:07.0000000Z"})
			same(t, header.Get("Link"), `</acr/v1/app/_tags?last=v1&n=1>; rel="next"`)
			manifests, _ := p.api(http.MethodGet, "/acr/v1/app/_manifests", token("repository:app:metadata_read"), nil, http.StatusOK)
			same(t, len(manifests["manifests"].([]any)), 2)
			catalog, _ := p.api(http.MethodGet, "/acr/v1/_catalog", token("registry:catalog:*"), nil, http.StatusOK)
			same(t, catalog["repositories"], any([]any{"app"}))

			lock, write := token("repository:app:metadata_write"), map[string]bool{"writeEnabled": false}
			p.api(http.MethodPatch, "/acr/v1/app/_tags/v1", lock, write, http.StatusOK)
			p.remote.peer.login = true
			p.retag("app", "v1", other, http.StatusMethodNotAllowed, "REGISTRY_DISALLOWED_OPERATION")
			p.retag("app", "v2", image, http.StatusCreated)
		}},
		{"ghcr caps a ranged PATCH at 4 MiB, and an upload at ten minutes", func(t *testing.T) {
			clock := &fixed{at2026}
			p := meet(t, GHCR, clock.option())
			big := bytes.Repeat([]byte{1}, 4<<20+1)
			p.patch(p.upload("acme/app"), 0, big, http.StatusRequestedRangeNotSatisfiable)
			p.patch(p.upload("acme/app"), 0, big[1:], http.StatusAccepted)
			location := p.remote.location(p.ask(http.MethodPatch, p.upload("acme/app"), octets, big, http.StatusAccepted))
			p.ask(http.MethodGet, location, nil, nil, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
			clock.now = clock.now.Add(10 * time.Minute)
			p.ask(http.MethodPut, withDigest(location, providers.SHA256(big)), nil, nil, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
			Push(t, p.server.Host(), "acme/app", "v1", image)
			p.mount("acme/copy", "acme/app", image.Blobs[0], http.StatusCreated)
			p.mount("other/copy", "acme/app", image.Blobs[0], http.StatusAccepted)
		}},
		{"ghcr's packages have versions with tags", func(t *testing.T) {
			p := meet(t, GHCR, WithLogin())
			Push(t, p.server.Host(), "acme/tools/app", "v1", image)
			Push(t, p.server.Host(), "acme/tools/app", "v2", other)
			p.server.Backdate(t, "acme/tools/app", "v1", at2026)
			p.server.Backdate(t, "acme/tools/app", "v2", at2026.Add(time.Hour))
			auth := map[string]string{"Authorization": "Bearer " + CanaryPassword}
			packages, _ := p.api(http.MethodGet, "/orgs/acme/packages?package_type=container", auth, nil, http.StatusOK)
			same(t, column(packages["list"], "name"), []any{"tools/app"})
			versions, header := p.api(http.MethodGet, "/orgs/acme/packages/container/tools%2Fapp/versions?per_page=1", auth, nil, http.StatusOK)
			same(t, column(versions["list"], "name"), []any{string(other.Digest())})
			same(t, column(versions["list"], "metadata"), []any{map[string]any{"package_type": "container", "container": map[string]any{"tags": []any{"v2"}}}})
			if link := header.Get("Link"); !strings.Contains(link, `page=2&per_page=1>; rel="next"`) {
				t.Errorf("Link %q", link)
			}
			p.remote.peer.login = false
			p.api(http.MethodGet, "/orgs/acme/packages?package_type=container", nil, nil, http.StatusUnauthorized)
		}},
		{"docker hub counts pulls, and looks are free", func(t *testing.T) {
			p := meet(t, DockerHub, WithPullLimit(2, 6*time.Hour))
			Push(t, p.server.Host(), "acme/app", "v1", image)
			for _, step := range []struct {
				method, remaining string
				status            int
			}{
				{http.MethodHead, "2;w=21600", 200}, {http.MethodGet, "1;w=21600", 200}, {http.MethodHead, "1;w=21600", 200},
				{http.MethodGet, "0;w=21600", 200}, {http.MethodHead, "0;w=21600", 200}, {http.MethodGet, "0;w=21600", 429},
			} {
				answer := p.ask(step.method, "acme/app/manifests/v1", acceptAll, nil, step.status)
				p.header(answer, "Ratelimit-Remaining", step.remaining)
				p.header(answer, "Ratelimit-Limit", "2;w=21600")
			}
			same(t, p.server.Pulls(), 2)
			VerifyTree(t, p.server.Host()) // by the back door: nothing is counted
			same(t, p.server.Pulls(), 2)
		}},
		{"docker hub refuses mounts from the unknown and names of three parts", func(t *testing.T) {
			p := meet(t, DockerHub)
			Push(t, p.server.Host(), "acme/app", "v1", image)
			p.mount("acme/copy", "acme/none", image.Blobs[0], http.StatusBadRequest)
			p.mount("other/copy", "acme/app", image.Blobs[0], http.StatusAccepted)
			p.ask(http.MethodPost, "acme/tools/app/blobs/uploads/", nil, nil, http.StatusBadRequest, "NAME_INVALID")
		}},
		{"docker hub's web interface", func(t *testing.T) {
			p := meet(t, DockerHub, WithLogin())
			for i := range 12 {
				Push(t, p.server.Host(), fmt.Sprintf("acme/app%02d", i), "v1", image)
			}
			Push(t, p.server.Host(), "acme/app00", "multi", Index(3))
			p.server.Backdate(t, "acme/app00", "v1", at2026)
			login, _ := p.api(http.MethodPost, "/v2/users/login", nil, map[string]string{"username": CanaryUser, "password": CanaryPassword}, http.StatusOK)
			p.remote.peer.login = false
			p.api(http.MethodPost, "/v2/auth/token", nil, map[string]string{"identifier": CanaryUser, "secret": "wrong"}, http.StatusUnauthorized)
			auth := map[string]string{"Authorization": "Bearer " + login["token"].(string)}
			p.api(http.MethodGet, "/v2/namespaces/acme/repositories", nil, nil, http.StatusUnauthorized)
			first, _ := p.api(http.MethodGet, "/v2/namespaces/acme/repositories", auth, nil, http.StatusOK)
			same(t, len(first["results"].([]any)), 10)
			same(t, first["next"], any(p.server.URL()+"/v2/namespaces/acme/repositories?page=2"))
			all, _ := p.api(http.MethodGet, "/v2/repositories/acme/?page_size=1000", auth, nil, http.StatusOK)
			same(t, []any{all["next"], all["count"]}, []any{nil, 12.0})
			tags, _ := p.api(http.MethodGet, "/v2/repositories/acme/app00/tags?page_size=100", auth, nil, http.StatusOK)
			same(t, column(tags["results"], "name"), []any{"multi", "v1"})
			same(t, column(tags["results"], "digest")[1], any(string(image.Digest())))
			same(t, column(tags["results"], "last_updated")[1], any("2026-03-04T05:06:07Z"))
			p.api(http.MethodDelete, "/v2/repositories/acme/app00/tags/v1/", auth, nil, http.StatusNoContent)
		}},
		{"harbor wants a project, pages of ten, and no deletes by tag", func(t *testing.T) {
			p := meet(t, Harbor, WithLogin())
			p.ask(http.MethodPost, "team/app/blobs/uploads/", nil, nil, http.StatusNotFound, "NOT_FOUND")
			p.api(http.MethodPost, "/api/v2.0/projects", nil, map[string]string{"project_name": "team"}, http.StatusCreated)
			p.api(http.MethodPost, "/api/v2.0/projects", nil, map[string]string{"project_name": "team"}, http.StatusConflict)
			Push(t, p.server.Host(), "team/deep/app", "v1", image)
			Tag(t, p.server.Host(), "team/deep/app", "v2", image)
			PushReferrer(t, p.server.Host(), "team/deep/app", SBOM(image, 1))
			for i := range 11 {
				Push(t, p.server.Host(), fmt.Sprintf("team/x%02d", i), "v1", image)
			}
			repositories, header := p.api(http.MethodGet, "/api/v2.0/projects/team/repositories", nil, nil, http.StatusOK)
			same(t, []any{len(repositories["list"].([]any)), header.Get("X-Total-Count"), header.Get("Link")},
				[]any{10, "12", `</api/v2.0/projects/team/repositories?page=2>; rel="next"`})
			p.api(http.MethodGet, "/api/v2.0/projects/team/repositories?page_size=101", nil, nil, http.StatusUnprocessableEntity)
			artifacts, _ := p.api(http.MethodGet, "/api/v2.0/projects/team/repositories/deep%252Fapp/artifacts?with_accessory=true", nil, nil, http.StatusOK)
			same(t, column(artifacts["list"], "digest"), []any{string(image.Digest())})
			same(t, column(column(artifacts["list"], "tags")[0], "name"), []any{"v1", "v2"})
			same(t, column(column(artifacts["list"], "accessories")[0], "digest"), []any{string(SBOM(image, 1).Digest())})
			p.ask(http.MethodDelete, "team/deep/app/manifests/v1", nil, nil, http.StatusBadRequest, "UNSUPPORTED")
			p.mount("team/copy", "team/none", image.Blobs[0], http.StatusAccepted)
			p.remote.peer.login = false
			p.api(http.MethodGet, "/api/v2.0/projects", nil, nil, http.StatusUnauthorized)
		}},
		{"harbor refuses mounts from an unknown project, and moves of immutable tags", func(t *testing.T) {
			p := meet(t, Harbor)
			Push(t, p.server.Host(), "team/app", "v1", image)
			p.mount("team/copy", "none/app", image.Blobs[0], http.StatusUnauthorized)
			p.server.Protect("team/app", Protection{On: true, Only: []string{"v*"}})
			p.blobs("team/app", other)
			p.retag("team/app", "v1", other, http.StatusPreconditionFailed, "PRECONDITION")
			p.retag("team/app", "v1", image, http.StatusCreated)
			p.retag("team/app", "latest", other, http.StatusCreated)
			p.api(http.MethodDelete, "/api/v2.0/projects/team/repositories/app/artifacts/v1/tags/v1", nil, nil, http.StatusPreconditionFailed)
			p.api(http.MethodDelete, "/api/v2.0/projects/team/repositories/app/artifacts/latest/tags/latest", nil, nil, http.StatusOK)
		}},
		{"quay refuses an index without its children", func(t *testing.T) {
			p := meet(t, Quay)
			list := IndexOf(image)
			p.retag("acme/app", "v1", list, http.StatusBadRequest, "MANIFEST_INVALID")
			Push(t, p.server.Host(), "acme/app", "v1", list)
		}},
		{"quay pages by an opaque next_page", func(t *testing.T) {
			p := meet(t, Quay, WithLogin())
			for i := range 101 {
				Push(t, p.server.Host(), fmt.Sprintf("acme/app%03d", i), "v1", image)
			}
			for i := range 51 {
				Tag(t, p.server.Host(), "acme/app000", fmt.Sprintf("t%02d", i), image)
			}
			auth := map[string]string{"Authorization": "Bearer " + CanaryPassword}
			first, _ := p.api(http.MethodGet, "/api/v1/repository?namespace=acme", auth, nil, http.StatusOK)
			same(t, len(first["repositories"].([]any)), 100)
			rest, _ := p.api(http.MethodGet, "/api/v1/repository?namespace=acme&next_page="+url.QueryEscape(first["next_page"].(string)), auth, nil, http.StatusOK)
			same(t, column(rest["repositories"], "name"), []any{"app100"})
			p.api(http.MethodGet, "/api/v1/repository?namespace=acme&next_page=2", auth, nil, http.StatusBadRequest)
			p.api(http.MethodGet, "/api/v1/repository", auth, nil, http.StatusBadRequest)
			tags, _ := p.api(http.MethodGet, "/api/v1/repository/acme/app000/tag/?limit=100", auth, nil, http.StatusOK)
			same(t, []any{len(tags["tags"].([]any)), tags["has_additional"]}, []any{52, false})
			same(t, column(tags["tags"], "manifest_digest")[0], any(string(image.Digest())))
			short := p.ask(http.MethodGet, "acme/app000/tags/list", nil, nil, http.StatusOK)
			if link := short.header.Get("Link"); !strings.Contains(link, "n=50&next_page=") {
				t.Errorf("Link %q", link)
			}
		}},
		{"gitlab wants a project, and tells digests tag by tag", func(t *testing.T) {
			p := meet(t, GitLab, WithLogin())
			p.ask(http.MethodPost, "team/none/app/blobs/uploads/", nil, nil, http.StatusForbidden, "DENIED")
			Push(t, p.server.Host(), "team/shop/app", "v1", image)
			Push(t, p.server.Host(), "team/shop", "v1", image)
			auth := map[string]string{"JOB-TOKEN": CanaryPassword}
			repositories, header := p.api(http.MethodGet, "/api/v4/projects/team%2Fshop/registry/repositories?tags_count=true&per_page=1", auth, nil, http.StatusOK)
			same(t, []any{column(repositories["list"], "path"), header.Get("X-Total"), header.Get("X-Next-Page")}, []any{[]any{"team/shop"}, "2", "2"})
			id := column(repositories["list"], "id")[0]
			tags, _ := p.api(http.MethodGet, fmt.Sprintf("/api/v4/projects/team%%2Fshop/registry/repositories/%v/tags", id), auth, nil, http.StatusOK)
			same(t, column(tags["list"], "digest"), []any{nil})
			tag, _ := p.api(http.MethodGet, fmt.Sprintf("/api/v4/projects/team%%2Fshop/registry/repositories/%v/tags/v1", id), auth, nil, http.StatusOK)
			same(t, tag["digest"], any(string(image.Digest())))
			group, _ := p.api(http.MethodGet, "/api/v4/groups/team/registry/repositories", auth, nil, http.StatusOK)
			same(t, column(group["list"], "path"), []any{"team/shop", "team/shop/app"})
		}},
		{"artifactory says 403 for what is missing, and has a catalog per key", func(t *testing.T) {
			p := meet(t, Artifactory)
			p.ask(http.MethodGet, "docker-local/none/tags/list", nil, nil, http.StatusForbidden, "DENIED")
			p.ask(http.MethodPost, "docker-local/app/blobs/uploads/", nil, nil, http.StatusForbidden, "DENIED")
			Push(t, p.server.Host(), "docker-local/app", "v1", image)
			catalog, _ := p.api(http.MethodGet, "/artifactory/api/docker/docker-local/v2/_catalog", nil, nil, http.StatusOK)
			same(t, catalog["repositories"], any([]any{"app"}))
		}},
		{"replicas lag behind", func(t *testing.T) {
			p := meet(t, ACR, WithLag(Lag{Blobs: 2, Manifests: 1}))
			p.remote.prepare("app")
			for _, b := range image.Blobs {
				if err := p.remote.upload("app", b, ""); err != nil {
					t.Fatal(err)
				}
			}
			head := "app/blobs/" + string(image.Blobs[0].Digest())
			p.ask(http.MethodHead, head, nil, nil, http.StatusNotFound)
			p.retag("app", "v1", image, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
			for range 2 * len(image.Blobs) { // each refusal lets one more lookup pass
				answer, err := p.remote.putManifest("app", "v1", image)
				if err == nil {
					p.header(answer, "Docker-Content-Digest", string(image.Digest()))
					break
				}
			}
			p.ask(http.MethodHead, "app/manifests/v1", acceptAll, nil, http.StatusNotFound)
			p.ask(http.MethodHead, "app/manifests/v1", acceptAll, nil, http.StatusOK)
			p.ask(http.MethodHead, head, nil, nil, http.StatusOK)
		}},
		{"a created repository is not seen at once", func(t *testing.T) {
			p := meet(t, ECR, WithLag(Lag{Repositories: 1}))
			p.aws(ecrTarget+"CreateRepository", map[string]any{"repositoryName": "app"}, http.StatusOK)
			p.ask(http.MethodGet, "app/tags/list", nil, nil, http.StatusNotFound, "NAME_UNKNOWN")
			p.ask(http.MethodGet, "app/tags/list", nil, nil, http.StatusOK)
		}},
		{"garbage collection takes a mounted blob before its manifest comes", func(t *testing.T) {
			p := meet(t, Generic)
			Push(t, p.server.Host(), "app", "v1", image)
			for _, b := range image.Blobs {
				p.mount("copy", "app", b, http.StatusCreated)
			}
			same(t, p.server.CollectGarbage(), len(image.Blobs))
			p.retag("copy", "v1", image, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
			VerifyTree(t, p.server.Host())
		}},
		{"tokens live as long as the registry gives them", func(t *testing.T) {
			for kind, want := range map[*Personality]float64{&DockerHub: 300, &GitLab: 300, &GAR: 3600, &Harbor: 1800} {
				p := meet(t, *kind, WithLogin())
				user := p.server.site.user()
				basic := map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+CanaryPassword))}
				answer, _ := p.api(http.MethodGet, p.server.site.tokenPath()+"?service=x", basic, nil, http.StatusOK)
				same(t, answer["expires_in"], any(want))
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.tell(t)
		})
	}
}

// form posts a form and reads the answer.
func (p *peculiar) form(path string, values url.Values, status int) map[string]any {
	p.Helper()
	response, err := http.PostForm(p.server.URL()+path, values)
	if err != nil {
		p.Fatal(err)
	}
	defer response.Body.Close()
	read := map[string]any{}
	if err := json.NewDecoder(response.Body).Decode(&read); err != nil || response.StatusCode != status {
		p.Fatalf("POST %s: status %d, want %d; error %v", path, response.StatusCode, status, err)
	}
	return read
}
