package registrytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"freightliner/providers"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
)

// Traits are the differences between registries that are all right. Everything
// else in [Conformance] must be the same everywhere.
type Traits struct {
	// Referrers: there is a referrers API (distribution-spec 1.1). The
	// distribution registry has none, clients keep the fallback tag there.
	Referrers bool
	// SinglePost: a POST with the digest and the bytes stores a blob at once.
	// The spec lets a registry open a session instead, as distribution does.
	SinglePost bool
	// SHA512: blobs and manifests are kept under a sha512 digest. Distribution
	// checks it, but knows the content by its sha256 afterwards.
	SHA512 bool
	// StrictSession: a chunk must go to the Location of the chunk before. The
	// upload's state travels in the query there, and an old one is refused.
	StrictSession bool
}

// What the registries started here are like.
var (
	EmbeddedTraits     = Traits{Referrers: true, SinglePost: true, SHA512: true}
	DistributionTraits = Traits{StrictSession: true}
)

// Conformance tells one registry a story and checks what it answers to each
// sentence: uploads in every shape, mounts, manifests, paging, referrers,
// deletes, and the errors between. It writes below "conformance/" only, and
// expects nothing there.
func Conformance(t *testing.T, host string, traits Traits) {
	for _, chapter := range []struct {
		name string
		tell func(*story)
	}{
		{"nothing is there yet", tellNothing},
		{"blobs in one piece", tellWholeBlobs},
		{"blobs in chunks", tellChunks},
		{"uploads that fail", tellFailedUploads},
		{"reading blobs", tellBlobReads},
		{"mounts", tellMounts},
		{"manifests", tellManifests},
		{"manifests that are refused", tellRefusedManifests},
		{"tag lists", tellTags},
		{"the catalog", tellCatalog},
		{"referrers", tellReferrers},
		{"deletes", tellDeletes},
		{"difficult names", tellNames},
		{"many at once", tellMany},
	} {
		t.Run(chapter.name, func(t *testing.T) {
			chapter.tell(&story{T: t, remote: dial(host), traits: traits})
		})
	}
}

// story is a chapter being told.
type story struct {
	*testing.T
	remote *remote
	traits Traits
}

// ask sends a request and checks the status, and the error code if one is
// given: several with a bar between them where the spec leaves the choice.
func (s *story) ask(method, target string, header map[string]string, body []byte, status int, codes ...string) reply {
	s.Helper()
	answer, err := s.remote.do(method, target, header, body)
	if err != nil {
		s.Fatalf("%s %s: %v", method, target, err)
	}
	if answer.status != status {
		s.Fatalf("%s %s: status %d, want %d; body %s", method, target, answer.status, status, answer.body)
	}
	for _, code := range codes {
		if got := errorCode(answer); !slices.Contains(strings.Split(code, "|"), got) {
			s.Fatalf("%s %s: error code %q, want %s; body %s", method, target, got, code, answer.body)
		}
	}
	return answer
}

func errorCode(answer reply) string {
	var body struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if json.Unmarshal(answer.body, &body) != nil || len(body.Errors) == 0 {
		return ""
	}
	return body.Errors[0].Code
}

func (s *story) header(answer reply, name, want string) {
	s.Helper()
	if got := answer.header.Get(name); got != want {
		s.Errorf("header %s is %q, want %q", name, got, want)
	}
}

// begin opens an upload session and gives its address.
func (s *story) begin(repository string) string {
	s.Helper()
	return s.remote.location(s.ask(http.MethodPost, repository+"/blobs/uploads/", nil, nil, http.StatusAccepted))
}

// holds checks that the repository has the blob, byte for byte.
func (s *story) holds(repository string, data []byte) {
	s.Helper()
	d := providers.SHA256(data)
	answer := s.ask(http.MethodHead, repository+"/blobs/"+string(d), nil, nil, http.StatusOK)
	s.header(answer, "Docker-Content-Digest", string(d))
	s.header(answer, "Content-Length", strconv.Itoa(len(data)))
	answer = s.ask(http.MethodGet, repository+"/blobs/"+string(d), nil, nil, http.StatusOK)
	if !bytes.Equal(answer.body, data) {
		s.Errorf("blob %s: %d bytes read differ from %d written", d, len(answer.body), len(data))
	}
}

// created checks what a 201 for content says.
func (s *story) created(answer reply, d providers.Digest) {
	s.Helper()
	s.header(answer, "Docker-Content-Digest", string(d))
	if !strings.HasSuffix(answer.header.Get("Location"), string(d)) {
		s.Errorf("location %q does not lead to %s", answer.header.Get("Location"), d)
	}
}

func tellNothing(s *story) {
	s.ask(http.MethodGet, "", nil, nil, http.StatusOK)
	s.ask(http.MethodGet, "conformance/none/tags/list", nil, nil, http.StatusNotFound, "NAME_UNKNOWN")
	s.ask(http.MethodGet, "conformance/none/manifests/latest", acceptAll, nil, http.StatusNotFound, "NAME_UNKNOWN|MANIFEST_UNKNOWN")
	s.ask(http.MethodHead, "conformance/none/manifests/latest", acceptAll, nil, http.StatusNotFound)
	missing := string(providers.SHA256([]byte("missing")))
	s.ask(http.MethodGet, "conformance/none/manifests/"+missing, acceptAll, nil, http.StatusNotFound, "NAME_UNKNOWN|MANIFEST_UNKNOWN")
	s.ask(http.MethodGet, "conformance/none/blobs/"+missing, nil, nil, http.StatusNotFound, "NAME_UNKNOWN|BLOB_UNKNOWN")
	s.ask(http.MethodHead, "conformance/none/blobs/"+missing, nil, nil, http.StatusNotFound)
}

func tellWholeBlobs(s *story) {
	const repository = "conformance/whole"
	post := Layer(101, 700).Data
	answer := s.ask(http.MethodPut, withDigest(s.begin(repository), providers.SHA256(post)), octets, post, http.StatusCreated)
	s.created(answer, providers.SHA256(post))
	s.holds(repository, post)

	// The same bytes again are no error.
	s.ask(http.MethodPut, withDigest(s.begin(repository), providers.SHA256(post)), octets, post, http.StatusCreated)
	s.holds(repository, post)

	empty := []byte{}
	s.ask(http.MethodPut, withDigest(s.begin(repository), providers.SHA256(empty)), octets, empty, http.StatusCreated)
	s.holds(repository, empty)

	single := Layer(102, 700).Data
	target := repository + "/blobs/uploads/?digest=" + string(providers.SHA256(single))
	if s.traits.SinglePost {
		s.created(s.ask(http.MethodPost, target, octets, single, http.StatusCreated), providers.SHA256(single))
	} else {
		location := s.remote.location(s.ask(http.MethodPost, target, octets, single, http.StatusAccepted))
		s.ask(http.MethodPut, withDigest(location, providers.SHA256(single)), octets, single, http.StatusCreated)
	}
	s.holds(repository, single)

	if s.traits.SHA512 {
		long := providers.Digest("sha512:").Of(single)
		s.created(s.ask(http.MethodPut, withDigest(s.begin(repository), long), octets, single, http.StatusCreated), long)
		answer := s.ask(http.MethodGet, repository+"/blobs/"+string(long), nil, nil, http.StatusOK)
		if !bytes.Equal(answer.body, single) {
			s.Errorf("the blob %s came back changed", long)
		}
	}
}

func tellChunks(s *story) {
	const repository = "conformance/chunks"
	data := Layer(201, 900).Data
	d := providers.SHA256(data)
	a, b := len(data)/3, 2*len(data)/3

	// One stream of unknown length, then an empty PUT.
	answer := s.ask(http.MethodPatch, s.begin(repository), map[string]string{"Content-Type": "application/octet-stream", "Transfer-Encoding": "chunked"}, data, http.StatusAccepted)
	s.header(answer, "Range", fmt.Sprintf("0-%d", len(data)-1))
	s.created(s.ask(http.MethodPut, withDigest(s.remote.location(answer), d), nil, nil, http.StatusCreated), d)
	s.holds(repository, data)

	// Two chunks with ranges, a question in between, and the rest in the PUT.
	data = Layer(202, 900).Data
	d = providers.SHA256(data)
	begun := s.begin(repository)
	answer = s.ask(http.MethodPatch, begun, chunk(0, a), data[:a], http.StatusAccepted)
	s.header(answer, "Range", fmt.Sprintf("0-%d", a-1))
	status := s.ask(http.MethodGet, s.remote.location(answer), nil, nil, http.StatusNoContent)
	s.header(status, "Range", fmt.Sprintf("0-%d", a-1))
	if s.traits.StrictSession {
		s.ask(http.MethodPatch, begun, chunk(a, b), data[a:b], http.StatusRequestedRangeNotSatisfiable)
	}
	next := s.remote.location(status)
	s.ask(http.MethodPatch, next, chunk(b, len(data)), data[b:], http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID")
	answer = s.ask(http.MethodPatch, next, chunk(a, b), data[a:b], http.StatusAccepted)
	s.header(answer, "Range", fmt.Sprintf("0-%d", b-1))
	s.ask(http.MethodPut, withDigest(s.remote.location(answer), d), chunk(b, len(data)), data[b:], http.StatusCreated)
	s.holds(repository, data)
}

// chunk is the header of the bytes from first to before end.
func chunk(first, end int) map[string]string {
	return map[string]string{"Content-Type": "application/octet-stream", "Content-Range": fmt.Sprintf("%d-%d", first, end-1)}
}

func tellFailedUploads(s *story) {
	const repository = "conformance/failed"
	data := Layer(301, 400).Data
	wrong := providers.SHA256([]byte("something else"))

	// What becomes of the session then is nobody's promise: the embedded registry
	// ends it, distribution tries to and keeps it on a file system.
	s.ask(http.MethodPut, withDigest(s.begin(repository), wrong), octets, data, http.StatusBadRequest, "DIGEST_INVALID")
	s.ask(http.MethodGet, repository+"/blobs/"+string(wrong), nil, nil, http.StatusNotFound)
	s.ask(http.MethodGet, repository+"/blobs/"+string(providers.SHA256(data)), nil, nil, http.StatusNotFound)

	begun := s.begin(repository)
	s.ask(http.MethodPut, begun, octets, nil, http.StatusBadRequest, "DIGEST_INVALID")
	s.ask(http.MethodPut, withDigest(begun, "sha256:nonsense"), octets, nil, http.StatusBadRequest, "DIGEST_INVALID")
	// A digest that was missing or malformed costs nothing: the session goes on.
	s.ask(http.MethodPut, withDigest(begun, providers.SHA256(data)), octets, data, http.StatusCreated)
	s.holds(repository, data)

	begun = s.begin(repository)
	s.ask(http.MethodDelete, begun, nil, nil, http.StatusNoContent)
	s.ask(http.MethodGet, begun, nil, nil, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	s.ask(http.MethodPatch, begun, octets, data, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
}

func tellBlobReads(s *story) {
	const repository = "conformance/reads"
	data := Layer(401, 1000).Data
	target := repository + "/blobs/" + string(providers.SHA256(data))
	s.ask(http.MethodPut, withDigest(s.begin(repository), providers.SHA256(data)), octets, data, http.StatusCreated)

	for _, part := range []struct {
		ask        string
		first, end int
	}{
		{"bytes=0-0", 0, 1}, {"bytes=100-199", 100, 200}, {"bytes=1000-", 1000, len(data)}, {"bytes=-10", len(data) - 10, len(data)},
	} {
		answer := s.ask(http.MethodGet, target, map[string]string{"Range": part.ask}, nil, http.StatusPartialContent)
		s.header(answer, "Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.first, part.end-1, len(data)))
		if !bytes.Equal(answer.body, data[part.first:part.end]) {
			s.Errorf("range %s: other bytes", part.ask)
		}
	}
	s.ask(http.MethodGet, target, map[string]string{"Range": fmt.Sprintf("bytes=%d-", len(data))}, nil, http.StatusRequestedRangeNotSatisfiable)
}

func tellMounts(s *story) {
	const from, to = "conformance/mount/from", "conformance/mount/to"
	data := Layer(501, 500).Data
	d := providers.SHA256(data)
	s.ask(http.MethodPut, withDigest(s.begin(from), d), octets, data, http.StatusCreated)

	s.created(s.ask(http.MethodPost, to+"/blobs/uploads/?mount="+string(d)+"&from="+from, nil, nil, http.StatusCreated), d)
	s.holds(to, data)

	// What can not be mounted opens an upload, and that one works.
	other := Layer(502, 500).Data
	for _, query := range []string{
		"?mount=" + string(providers.SHA256(other)) + "&from=" + from,
		"?mount=" + string(d) + "&from=conformance/mount/nowhere",
		"?mount=" + string(providers.SHA256(other)),
	} {
		location := s.remote.location(s.ask(http.MethodPost, "conformance/mount/third/blobs/uploads/"+query, nil, nil, http.StatusAccepted))
		s.ask(http.MethodPut, withDigest(location, providers.SHA256(other)), octets, other, http.StatusCreated)
	}
	s.holds("conformance/mount/third", other)

	s.ask(http.MethodDelete, from+"/blobs/"+string(d), nil, nil, http.StatusAccepted)
	s.ask(http.MethodGet, from+"/blobs/"+string(d), nil, nil, http.StatusNotFound, "BLOB_UNKNOWN")
	s.holds(to, data)
}

// put writes a manifest and gives its digest.
func (s *story) put(repository, reference string, a *Artifact) {
	s.Helper()
	answer := s.ask(http.MethodPut, repository+"/manifests/"+reference, map[string]string{"Content-Type": a.MediaType}, a.Raw, http.StatusCreated)
	s.created(answer, a.Digest())
}

// blobs uploads what a needs.
func (s *story) blobs(repository string, a *Artifact) {
	s.Helper()
	for _, child := range a.Children {
		s.blobs(repository, child)
	}
	for _, blob := range a.Blobs {
		if err := s.remote.pushBlob(repository, blob); err != nil {
			s.Fatal(err)
		}
	}
}

func tellManifests(s *story) {
	const repository = "conformance/manifests"
	for tag, a := range map[string]*Artifact{"oci": Image(601), "docker": DockerImage(602), "index": Index(603), "list": DockerIndex(604)} {
		s.blobs(repository, a)
		for _, child := range a.Children {
			s.put(repository, string(child.Digest()), child)
		}
		s.put(repository, string(a.Digest()), a)
		s.ask(http.MethodGet, repository+"/manifests/"+tag, acceptAll, nil, http.StatusNotFound, "MANIFEST_UNKNOWN")
		s.put(repository, tag, a)
		for _, reference := range []string{tag, string(a.Digest())} {
			answer := s.ask(http.MethodHead, repository+"/manifests/"+reference, acceptAll, nil, http.StatusOK)
			s.header(answer, "Docker-Content-Digest", string(a.Digest()))
			s.header(answer, "Content-Type", a.MediaType)
			s.header(answer, "Content-Length", strconv.Itoa(len(a.Raw)))
			answer = s.ask(http.MethodGet, repository+"/manifests/"+reference, acceptAll, nil, http.StatusOK)
			s.header(answer, "Docker-Content-Digest", string(a.Digest()))
			s.header(answer, "Content-Type", a.MediaType)
			if !bytes.Equal(answer.body, a.Raw) {
				s.Errorf("%s: the manifest came back changed", tag)
			}
		}
	}
	// A tag moves, the manifest it pointed at stays.
	s.put(repository, "oci", DockerImage(602))
	answer := s.ask(http.MethodHead, repository+"/manifests/oci", acceptAll, nil, http.StatusOK)
	s.header(answer, "Docker-Content-Digest", string(DockerImage(602).Digest()))
	s.ask(http.MethodGet, repository+"/manifests/"+string(Image(601).Digest()), acceptAll, nil, http.StatusOK)

	// A client that can not read OCI manifests gets none, rather than something
	// else. (Distribution serves an OCI index to anybody.)
	s.put(repository, "oci", Image(601))
	s.ask(http.MethodGet, repository+"/manifests/oci", map[string]string{"Accept": DockerManifest}, nil, http.StatusNotFound, "MANIFEST_UNKNOWN")
}

func tellRefusedManifests(s *story) {
	const repository = "conformance/refused"
	a := Image(701)
	target := repository + "/manifests/v1"
	as := func(mediaType string) map[string]string { return map[string]string{"Content-Type": mediaType} }

	s.ask(http.MethodPut, target, as(a.MediaType), a.Raw, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
	s.blobs(repository, a)
	list := IndexOf(a)
	s.ask(http.MethodPut, target, as(list.MediaType), list.Raw, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN|MANIFEST_UNKNOWN")
	s.ask(http.MethodPut, repository+"/manifests/"+string(providers.SHA256([]byte("other"))), as(a.MediaType), a.Raw, http.StatusBadRequest, "DIGEST_INVALID")
	s.ask(http.MethodPut, target, as(a.MediaType), []byte("{not JSON"), http.StatusBadRequest, "MANIFEST_INVALID")
	s.ask(http.MethodPut, target, as(OCIIndex), a.Raw, http.StatusBadRequest, "MANIFEST_INVALID")
	s.ask(http.MethodPut, target, as("text/plain"), a.Raw, http.StatusBadRequest, "MANIFEST_INVALID")
	s.ask(http.MethodGet, target, acceptAll, nil, http.StatusNotFound)
	s.put(repository, "v1", a)
}

func tellTags(s *story) {
	const repository = "conformance/tags"
	a := Image(801)
	s.blobs(repository, a)
	want := []string{"Latest", "v1", "v1.0", "v1.0.0", "v1.0.1", "v10", "v2", strings.Repeat("x", 128)}
	for _, tag := range []string{"v2", "v10", "Latest", "v1.0.1", "v1", strings.Repeat("x", 128), "v1.0.0", "v1.0"} {
		s.put(repository, tag, a)
	}
	whole := s.ask(http.MethodGet, repository+"/tags/list", nil, nil, http.StatusOK)
	s.lists(whole, "tags", want)
	s.header(whole, "Link", "")
	s.lists(s.ask(http.MethodGet, repository+"/tags/list?n=0", nil, nil, http.StatusOK), "tags", []string{})
	s.lists(s.ask(http.MethodGet, repository+"/tags/list?n=2&last=v1.0", nil, nil, http.StatusOK), "tags", []string{"v1.0.0", "v1.0.1"})
	for _, n := range []int{1, 3, 8, 100} {
		s.pagesGive(repository+"/tags/list?n="+strconv.Itoa(n), "tags", want)
	}
	s.ask(http.MethodGet, repository+"/tags/list?n=-1", nil, nil, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID")
	s.ask(http.MethodGet, repository+"/tags/list?n=many", nil, nil, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID")
	// More than a page may hold is cut, not refused.
	s.ask(http.MethodGet, repository+"/tags/list?n=100000", nil, nil, http.StatusOK)
}

func (s *story) lists(answer reply, field string, want []string) {
	s.Helper()
	body := map[string]json.RawMessage{}
	var got []string
	if err := json.Unmarshal(answer.body, &body); err != nil {
		s.Fatal(err)
	}
	if err := json.Unmarshal(body[field], &got); err != nil {
		s.Fatalf("%s in %s: %v", field, answer.body, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("%s (-want +got):\n%s", field, diff)
	}
}

func (s *story) pagesGive(target, field string, want []string) {
	s.Helper()
	got, err := s.remote.pages(target, field)
	if err != nil {
		s.Fatal(err)
	}
	got = slices.DeleteFunc(got, func(entry string) bool {
		return field == "repositories" && !strings.HasPrefix(entry, "conformance/catalog")
	})
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("%s (-want +got):\n%s", target, diff)
	}
}

func tellCatalog(s *story) {
	// By segments: a folder before its neighbours with a longer name.
	want := []string{"conformance/catalog", "conformance/catalog/a", "conformance/catalog/a/b", "conformance/catalog/a-b", "conformance/catalog/b", "conformance/catalog-2"}
	a := Image(901)
	for _, repository := range want {
		s.blobs(repository, a)
		s.put(repository, "v1", a)
	}
	for _, n := range []int{1, 2, 5, 1000} {
		s.pagesGive("_catalog?n="+strconv.Itoa(n), "repositories", want)
	}
	s.pagesGive("_catalog", "repositories", want)
	s.lists(s.ask(http.MethodGet, "_catalog?n=2&last=conformance/catalog/a", nil, nil, http.StatusOK), "repositories", want[2:4])
	s.lists(s.ask(http.MethodGet, "_catalog?n=0", nil, nil, http.StatusOK), "repositories", []string{})
	s.ask(http.MethodGet, "_catalog?n=1001", nil, nil, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID")
	s.ask(http.MethodGet, "_catalog?n=-1", nil, nil, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID")
}

func tellReferrers(s *story) {
	const repository = "conformance/referrers"
	subject := Image(1001)
	first, second := SBOM(subject, 1), SBOM(subject, 2)
	s.blobs(repository, first)

	// The referrer may come before its subject.
	answer := s.ask(http.MethodPut, repository+"/manifests/"+string(first.Digest()), map[string]string{"Content-Type": first.MediaType}, first.Raw, http.StatusCreated)
	target := repository + "/referrers/" + string(subject.Digest())
	if !s.traits.Referrers {
		s.header(answer, "OCI-Subject", "")
		s.ask(http.MethodGet, target, nil, nil, http.StatusNotFound)
		return
	}
	s.header(answer, "OCI-Subject", string(subject.Digest()))
	s.blobs(repository, subject)
	s.put(repository, "v1", subject)
	s.refersTo(target, first)
	s.blobs(repository, second)
	s.put(repository, string(second.Digest()), second)
	s.refersTo(target, first, second)

	filtered := s.refersTo(target+"?artifactType=application%2Fspdx%2Bjson", first, second)
	s.header(filtered, "OCI-Filters-Applied", "artifactType")
	s.refersTo(target + "?artifactType=application%2Fother")
	s.refersTo(repository + "/referrers/" + string(providers.SHA256([]byte("unknown"))))
	s.ask(http.MethodGet, repository+"/referrers/v1", nil, nil, http.StatusBadRequest, "DIGEST_INVALID")

	s.ask(http.MethodDelete, repository+"/manifests/"+string(first.Digest()), nil, nil, http.StatusAccepted)
	s.refersTo(target, second)
}

// refersTo checks an answer of the referrers API.
func (s *story) refersTo(target string, want ...*Artifact) reply {
	s.Helper()
	answer := s.ask(http.MethodGet, target, nil, nil, http.StatusOK)
	s.header(answer, "Content-Type", OCIIndex)
	type entry struct {
		MediaType, Digest, ArtifactType string
		Size                            int
	}
	var index struct{ Manifests []entry }
	if err := json.Unmarshal(answer.body, &index); err != nil {
		s.Fatal(err)
	}
	expected := []entry{}
	for _, a := range want {
		expected = append(expected, entry{a.MediaType, string(a.Digest()), "application/spdx+json", len(a.Raw)})
	}
	slices.SortFunc(expected, func(a, b entry) int { return strings.Compare(a.Digest, b.Digest) })
	slices.SortFunc(index.Manifests, func(a, b entry) int { return strings.Compare(a.Digest, b.Digest) })
	if diff := cmp.Diff(expected, index.Manifests); diff != "" {
		s.Errorf("%s (-want +got):\n%s", target, diff)
	}
	return answer
}

func tellDeletes(s *story) {
	const repository = "conformance/deletes"
	a, b := Image(1101), Image(1102)
	s.blobs(repository, a)
	s.blobs(repository, b)
	for _, tag := range []string{"a1", "a2", "a3"} {
		s.put(repository, tag, a)
	}
	s.put(repository, "b1", b)

	// One tag goes, its manifest and the other tags stay.
	s.ask(http.MethodDelete, repository+"/manifests/a1", nil, nil, http.StatusAccepted)
	s.ask(http.MethodGet, repository+"/manifests/a1", acceptAll, nil, http.StatusNotFound, "MANIFEST_UNKNOWN")
	s.ask(http.MethodDelete, repository+"/manifests/a1", nil, nil, http.StatusNotFound, "MANIFEST_UNKNOWN")
	s.ask(http.MethodGet, repository+"/manifests/a2", acceptAll, nil, http.StatusOK)

	// The manifest goes with every tag that pointed at it.
	s.ask(http.MethodDelete, repository+"/manifests/"+string(a.Digest()), nil, nil, http.StatusAccepted)
	s.ask(http.MethodGet, repository+"/manifests/"+string(a.Digest()), acceptAll, nil, http.StatusNotFound, "MANIFEST_UNKNOWN")
	s.ask(http.MethodGet, repository+"/manifests/a2", acceptAll, nil, http.StatusNotFound, "MANIFEST_UNKNOWN")
	s.lists(s.ask(http.MethodGet, repository+"/tags/list", nil, nil, http.StatusOK), "tags", []string{"b1"})
	s.ask(http.MethodDelete, repository+"/manifests/"+string(a.Digest()), nil, nil, http.StatusNotFound, "MANIFEST_UNKNOWN")

	// It can come back.
	s.put(repository, "a1", a)
	s.ask(http.MethodGet, repository+"/manifests/a1", acceptAll, nil, http.StatusOK)

	// A repository without tags is empty, not unknown.
	s.ask(http.MethodDelete, repository+"/manifests/a1", nil, nil, http.StatusAccepted)
	s.ask(http.MethodDelete, repository+"/manifests/b1", nil, nil, http.StatusAccepted)
	s.lists(s.ask(http.MethodGet, repository+"/tags/list", nil, nil, http.StatusOK), "tags", []string{})

	blob := repository + "/blobs/" + string(b.Blobs[1].Digest())
	s.ask(http.MethodDelete, blob, nil, nil, http.StatusAccepted)
	s.ask(http.MethodHead, blob, nil, nil, http.StatusNotFound)
	s.ask(http.MethodDelete, blob, nil, nil, http.StatusNotFound, "BLOB_UNKNOWN")
}

func tellNames(s *story) {
	for _, repository := range []string{
		"conformance/blobs", "conformance/manifests/tags", "conformance/tags/list", "conformance/blobs/uploads", "conformance/referrers/x",
		"conformance/a__b/c--d.e_f", "conformance/" + strings.Repeat("n", 120),
	} {
		a := Image(1201)
		s.blobs(repository, a)
		for _, tag := range []string{"list", "uploads", "blobs", "_x", "v1."} {
			s.put(repository, tag, a)
			s.ask(http.MethodGet, repository+"/manifests/"+tag, acceptAll, nil, http.StatusOK)
		}
		s.lists(s.ask(http.MethodGet, repository+"/tags/list", nil, nil, http.StatusOK), "tags", []string{"_x", "blobs", "list", "uploads", "v1."})
		s.holds(repository, a.Blobs[1].Data)
	}
	for _, target := range []string{
		"conformance/UPPER/tags/list", "conformance/a..b/tags/list", "conformance/-a/tags/list", "conformance/_uploads/tags/list",
		"conformance/x/manifests/" + strings.Repeat("x", 129), "conformance/x/manifests/.hidden",
		"conformance/x/blobs/sha256:ABC", "conformance/x/manifests/sha256:abc",
	} {
		answer, err := s.remote.do(http.MethodGet, target, acceptAll, nil)
		if err != nil || answer.status != http.StatusBadRequest && answer.status != http.StatusNotFound {
			s.Errorf("GET %s: status %d, error %v; want 400 or 404", target, answer.status, err)
		}
	}
}

// tellMany writes one blob and one tag from many sides.
func tellMany(s *story) {
	const repository = "conformance/many"
	a, b := Image(1301), Image(1302, Image(1301).Blobs[1])
	var group errgroup.Group
	for i := range 16 {
		group.Go(func() error {
			for _, blob := range append(a.Blobs, b.Blobs...) {
				if err := s.remote.upload(repository, blob, ""); err != nil {
					return err
				}
			}
			one := a
			if i%2 == 1 {
				one = b
			}
			_, err := s.remote.putManifest(repository, "v1", one)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		s.Fatal(err)
	}
	answer := s.ask(http.MethodGet, repository+"/manifests/v1", acceptAll, nil, http.StatusOK)
	if got := string(answer.body); got != string(a.Raw) && got != string(b.Raw) {
		s.Errorf("the tag points at neither of the two manifests: %s", got)
	}
}
