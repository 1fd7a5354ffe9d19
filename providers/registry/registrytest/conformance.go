package registrytest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"freightliner/providers"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
)

// Traits are the differences between registries that are all right. Everything
// else in [Conformance] must be the same everywhere. The zero value of a field
// is what the embedded registry does, the first three apart.
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

	// Place turns the story's names of repositories into some that the registry
	// takes; nil where it takes any.
	Place func(repository string) string

	// PlainNames: no two separators in a row, as in "a__b" or "a--b".
	PlainNames bool

	// Denied: reading from a repository that is not there is 403, not 404.
	Denied bool

	NoStream    bool // a body of unknown length is refused with 411
	NoChunks    bool // a PATCH with a Content-Range is refused
	MinChunk    int  // bytes a chunk must have, the last apart
	PatchStatus int  // of an accepted PATCH; 0 for 202
	StuckRange  bool // the Range header stays at the first chunk
	NoStatus    bool // a session can not be asked where it stands
	NoCancel    bool // a session can not be given up

	NoMount      bool // every mount opens a session
	MountCommits bool // a mount works only after a manifest of the source refers to the blob
	MountUnknown int  // answer to a mount from an unknown repository; 0 for 202

	TagsTogether bool // the tags in the query of a PUT by digest are set
	TagsRefused  int  // status of such a request; 0 for stored without them

	Sparse  bool   // an index is taken although children are missing
	Missing string // error codes for a manifest whose parts are missing; empty for the spec's

	PageRefused bool // a tag list with n above the maximum is an error, not cut
	WholeTags   bool // tag lists come in one piece, whatever n and last say
	OwnPaging   bool // only the Link header knows the next page; last means nothing
	Unordered   bool // tags come in an order of the registry's own

	Catalog    int  // status of every request for the catalog; 0 for served
	NoCatalog  bool // the catalog is empty whatever there is
	FlatOrder  bool // the catalog is in bytewise order, not by segments
	CatalogCut bool // n above the maximum is cut, not refused

	NoBlobDelete bool // DELETE of a blob is 405
	NoTagDelete  int  // status of a DELETE by tag; 0 for allowed
	NoDelete     int  // status of a DELETE by digest; 0 for allowed
	TagsFirst    bool // a DELETE by digest is refused while tags point there
}

// What the registries started here are like.
var (
	EmbeddedTraits     = Traits{Referrers: true, SinglePost: true, SHA512: true}
	DistributionTraits = Traits{StrictSession: true}
)

// at is where the story's repository lies here. It exists when the registry
// wants repositories made before a push.
func (s *story) at(repository string) string {
	repository = s.place(repository)
	s.remote.prepare(repository)
	return repository
}

func (s *story) place(repository string) string {
	if s.traits.Place == nil {
		return repository
	}
	return s.traits.Place(repository)
}

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
		{"several tags at once", tellSeveralTags},
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
	none := s.place("conformance/none")
	missing := string(providers.SHA256([]byte("missing")))
	status, codes := s.nowhere(), "NAME_UNKNOWN|DENIED"
	s.ask(http.MethodGet, none+"/tags/list", nil, nil, status, codes)
	s.ask(http.MethodGet, none+"/manifests/latest", acceptAll, nil, status, codes+"|MANIFEST_UNKNOWN")
	s.ask(http.MethodHead, none+"/manifests/latest", acceptAll, nil, status)
	s.ask(http.MethodGet, none+"/manifests/"+missing, acceptAll, nil, status, codes+"|MANIFEST_UNKNOWN")
	s.ask(http.MethodGet, none+"/blobs/"+missing, nil, nil, status, codes+"|BLOB_UNKNOWN")
	s.ask(http.MethodHead, none+"/blobs/"+missing, nil, nil, status)
}

// nowhere is the status of a read from a repository that is not there.
func (s *story) nowhere() int {
	if s.traits.Denied {
		return http.StatusForbidden
	}
	return http.StatusNotFound
}

func tellWholeBlobs(s *story) {
	repository := s.at("conformance/whole")
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
	repository := s.at("conformance/chunks")
	data := Layer(201, 900).Data
	d := providers.SHA256(data)

	// One stream of unknown length, then an empty PUT.
	patched := cmp.Or(s.traits.PatchStatus, http.StatusAccepted)
	stream := map[string]string{"Content-Type": "application/octet-stream", "Transfer-Encoding": "chunked"}
	if s.traits.NoStream {
		s.ask(http.MethodPatch, s.begin(repository), stream, data, http.StatusLengthRequired)
	} else {
		answer := s.ask(http.MethodPatch, s.begin(repository), stream, data, patched)
		s.header(answer, "Range", fmt.Sprintf("0-%d", len(data)-1))
		s.created(s.ask(http.MethodPut, withDigest(s.remote.location(answer), d), nil, nil, http.StatusCreated), d)
		s.holds(repository, data)
	}

	// Two chunks with ranges, a question in between, and the rest in the PUT.
	data = Layer(202, max(900, 3*s.traits.MinChunk)).Data
	d = providers.SHA256(data)
	a, b := len(data)/3, 2*(len(data)/3)
	begun := s.begin(repository)
	if s.traits.NoChunks {
		answer, err := s.remote.do(http.MethodPatch, begun, chunk(0, a), data[:a])
		if err != nil || answer.status < 400 || answer.status > 499 {
			s.Errorf("a chunk with a range: status %d, error %v; want it refused", answer.status, err)
		}
		s.ask(http.MethodPut, withDigest(s.begin(repository), d), octets, data, http.StatusCreated)
		s.holds(repository, data)
		return
	}
	answer := s.ask(http.MethodPatch, begun, chunk(0, a), data[:a], patched)
	s.header(answer, "Range", fmt.Sprintf("0-%d", a-1))
	next := s.remote.location(answer)
	if s.traits.NoStatus {
		s.ask(http.MethodGet, next, nil, nil, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	} else {
		status := s.ask(http.MethodGet, next, nil, nil, http.StatusNoContent)
		s.header(status, "Range", fmt.Sprintf("0-%d", a-1))
		next = s.remote.location(status)
	}
	if s.traits.StrictSession {
		s.ask(http.MethodPatch, begun, chunk(a, b), data[a:b], http.StatusRequestedRangeNotSatisfiable)
	}
	s.ask(http.MethodPatch, next, chunk(b, len(data)), data[b:], http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID")
	answer = s.ask(http.MethodPatch, next, chunk(a, b), data[a:b], patched)
	if s.traits.StuckRange {
		s.header(answer, "Range", fmt.Sprintf("0-%d", a-1))
	} else {
		s.header(answer, "Range", fmt.Sprintf("0-%d", b-1))
	}
	s.ask(http.MethodPut, withDigest(s.remote.location(answer), d), chunk(b, len(data)), data[b:], http.StatusCreated)
	s.holds(repository, data)
}

// chunk is the header of the bytes from first to before end.
func chunk(first, end int) map[string]string {
	return map[string]string{"Content-Type": "application/octet-stream", "Content-Range": fmt.Sprintf("%d-%d", first, end-1)}
}

func tellFailedUploads(s *story) {
	repository := s.at("conformance/failed")
	data := Layer(301, 400).Data
	wrong := providers.SHA256([]byte("something else"))

	// What becomes of the session then is nobody's promise: the embedded registry
	// ends it, distribution tries to and keeps it on a file system.
	s.ask(http.MethodPut, withDigest(s.begin(repository), wrong), octets, data, http.StatusBadRequest, "DIGEST_INVALID")
	s.ask(http.MethodGet, repository+"/blobs/"+string(wrong), nil, nil, s.nowhere())
	s.ask(http.MethodGet, repository+"/blobs/"+string(providers.SHA256(data)), nil, nil, s.nowhere())

	begun := s.begin(repository)
	s.ask(http.MethodPut, begun, octets, nil, http.StatusBadRequest, "DIGEST_INVALID")
	s.ask(http.MethodPut, withDigest(begun, "sha256:nonsense"), octets, nil, http.StatusBadRequest, "DIGEST_INVALID")
	// A digest that was missing or malformed costs nothing: the session goes on.
	s.ask(http.MethodPut, withDigest(begun, providers.SHA256(data)), octets, data, http.StatusCreated)
	s.holds(repository, data)

	begun = s.begin(repository)
	if s.traits.NoCancel {
		s.ask(http.MethodDelete, begun, nil, nil, http.StatusMethodNotAllowed, "UNSUPPORTED")
		return
	}
	s.ask(http.MethodDelete, begun, nil, nil, http.StatusNoContent)
	s.ask(http.MethodGet, begun, nil, nil, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	s.ask(http.MethodPatch, begun, octets, data, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
}

func tellBlobReads(s *story) {
	repository := s.at("conformance/reads")
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
	from, to, third := s.at("conformance/mount/from"), s.at("conformance/mount/to"), s.at("conformance/mount/third")
	data := Layer(501, 500).Data
	d := providers.SHA256(data)
	s.ask(http.MethodPut, withDigest(s.begin(from), d), octets, data, http.StatusCreated)

	mount := to + "/blobs/uploads/?mount=" + string(d) + "&from=" + from
	if s.traits.NoMount || s.traits.MountCommits {
		s.ask(http.MethodPost, mount, nil, nil, http.StatusAccepted)
	}
	if s.traits.MountCommits {
		image := Image(501, Layer(501, 500))
		s.blobs(from, image)
		s.put(from, "v1", image)
	}
	if s.traits.NoMount {
		s.ask(http.MethodPut, withDigest(s.begin(to), d), octets, data, http.StatusCreated)
	} else {
		s.created(s.ask(http.MethodPost, mount, nil, nil, http.StatusCreated), d)
	}
	s.holds(to, data)

	// What can not be mounted opens an upload, and that one works.
	other := Layer(502, 500).Data
	unknown := "?mount=" + string(d) + "&from=" + s.place("conformance/nowhere")
	queries := []string{"?mount=" + string(providers.SHA256(other)) + "&from=" + from, "?mount=" + string(providers.SHA256(other))}
	if s.traits.MountUnknown != 0 {
		s.ask(http.MethodPost, third+"/blobs/uploads/"+unknown, nil, nil, s.traits.MountUnknown)
	} else {
		queries = append(queries, unknown)
	}
	for _, query := range queries {
		location := s.remote.location(s.ask(http.MethodPost, third+"/blobs/uploads/"+query, nil, nil, http.StatusAccepted))
		s.ask(http.MethodPut, withDigest(location, providers.SHA256(other)), octets, other, http.StatusCreated)
	}
	s.holds(third, other)

	if s.traits.NoBlobDelete {
		s.ask(http.MethodDelete, from+"/blobs/"+string(d), nil, nil, http.StatusMethodNotAllowed, "UNSUPPORTED")
		return
	}
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
	repository := s.at("conformance/manifests")
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
	repository := s.at("conformance/refused")
	a := Image(701)
	target := repository + "/manifests/v1"
	as := func(mediaType string) map[string]string { return map[string]string{"Content-Type": mediaType} }

	missing := cmp.Or(s.traits.Missing, "MANIFEST_BLOB_UNKNOWN|MANIFEST_UNKNOWN")
	s.ask(http.MethodPut, target, as(a.MediaType), a.Raw, http.StatusBadRequest, missing)
	s.blobs(repository, a)
	list := IndexOf(a)
	if s.traits.Sparse {
		s.put(repository, "sparse", list)
	} else {
		s.ask(http.MethodPut, target, as(list.MediaType), list.Raw, http.StatusBadRequest, missing)
	}
	s.ask(http.MethodPut, repository+"/manifests/"+string(providers.SHA256([]byte("other"))), as(a.MediaType), a.Raw, http.StatusBadRequest, "DIGEST_INVALID")
	s.ask(http.MethodPut, target, as(a.MediaType), []byte("{not JSON"), http.StatusBadRequest, "MANIFEST_INVALID")
	s.ask(http.MethodPut, target, as(OCIIndex), a.Raw, http.StatusBadRequest, "MANIFEST_INVALID")
	s.ask(http.MethodPut, target, as("text/plain"), a.Raw, http.StatusBadRequest, "MANIFEST_INVALID")
	s.ask(http.MethodGet, target, acceptAll, nil, http.StatusNotFound)
	s.put(repository, "v1", a)
}

// tellSeveralTags puts a manifest by its digest, with tags in the query. A
// registry that does not know this stores the manifest alone, and is told by the
// header that is missing (distribution-spec #600).
func tellSeveralTags(s *story) {
	repository := s.at("conformance/several")
	a, b := Image(751), Image(752)
	s.blobs(repository, a)
	s.blobs(repository, b)
	s.put(repository, "one", b)
	s.put(repository, "two", b)
	target := repository + "/manifests/" + string(a.Digest()) + "?tag=two&tag=three"
	header := map[string]string{"Content-Type": a.MediaType}
	if s.traits.TagsRefused != 0 {
		s.ask(http.MethodPut, target, header, a.Raw, s.traits.TagsRefused)
		s.ask(http.MethodGet, repository+"/manifests/"+string(a.Digest()), acceptAll, nil, http.StatusNotFound, "MANIFEST_UNKNOWN")
		return
	}
	answer := s.ask(http.MethodPut, target, header, a.Raw, http.StatusCreated)
	s.created(answer, a.Digest())
	leads := map[string]*Artifact{"one": b, "two": b, string(a.Digest()): a}
	var named []string
	if s.traits.TagsTogether {
		leads["two"], leads["three"] = a, a
		named = []string{"two", "three"}
	} else {
		s.ask(http.MethodGet, repository+"/manifests/three", acceptAll, nil, http.StatusNotFound, "MANIFEST_UNKNOWN")
	}
	var got []string
	for _, value := range answer.header.Values("OCI-Tag") {
		got = append(got, strings.Split(value, ", ")...)
	}
	if diff := gocmp.Diff(named, got); diff != "" {
		s.Errorf("tags that the answer names (-want +got):\n%s", diff)
	}
	for reference, want := range leads {
		s.header(s.ask(http.MethodHead, repository+"/manifests/"+reference, acceptAll, nil, http.StatusOK), "Docker-Content-Digest", string(want.Digest()))
	}
}

func tellTags(s *story) {
	repository := s.at("conformance/tags")
	a := Image(801)
	s.blobs(repository, a)
	want := []string{"Latest", "v1", "v1.0", "v1.0.0", "v1.0.1", "v10", "v2", strings.Repeat("x", 128)}
	for _, tag := range []string{"v2", "v10", "Latest", "v1.0.1", "v1", strings.Repeat("x", 128), "v1.0.0", "v1.0"} {
		s.put(repository, tag, a)
	}
	whole := s.ask(http.MethodGet, repository+"/tags/list", nil, nil, http.StatusOK)
	s.lists(whole, "tags", want)
	s.header(whole, "Link", "")
	if s.traits.WholeTags {
		s.lists(s.ask(http.MethodGet, repository+"/tags/list?n=2&last=v1.0", nil, nil, http.StatusOK), "tags", want)
		return
	}
	s.lists(s.ask(http.MethodGet, repository+"/tags/list?n=0", nil, nil, http.StatusOK), "tags", []string{})
	if !s.traits.OwnPaging {
		s.lists(s.ask(http.MethodGet, repository+"/tags/list?n=2&last=v1.0", nil, nil, http.StatusOK), "tags", []string{"v1.0.0", "v1.0.1"})
	}
	for _, n := range []int{1, 3, 8, 100} {
		s.pagesGive(repository+"/tags/list?n="+strconv.Itoa(n), "tags", want)
	}
	s.ask(http.MethodGet, repository+"/tags/list?n=-1", nil, nil, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID")
	s.ask(http.MethodGet, repository+"/tags/list?n=many", nil, nil, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID")
	if s.traits.PageRefused {
		s.ask(http.MethodGet, repository+"/tags/list?n=100000", nil, nil, http.StatusBadRequest)
		return
	}
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
	if got == nil { // null is an empty list, too
		got = []string{}
	}
	if s.traits.Unordered {
		slices.Sort(got)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
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
		return field == "repositories" && !strings.HasPrefix(entry, s.place("conformance/catalog"))
	})
	if s.traits.Unordered {
		slices.Sort(got)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		s.Errorf("%s (-want +got):\n%s", target, diff)
	}
}

func tellCatalog(s *story) {
	if s.traits.Catalog != 0 {
		s.ask(http.MethodGet, "_catalog", nil, nil, s.traits.Catalog)
		return
	}
	// By segments: a folder before its neighbours with a longer name.
	want := []string{"conformance/catalog", "conformance/catalog/a", "conformance/catalog/a/b", "conformance/catalog/a-b", "conformance/catalog/b", "conformance/catalog-2"}
	a := Image(901)
	for i, repository := range want {
		want[i] = s.at(repository)
		s.blobs(want[i], a)
		s.put(want[i], "v1", a)
	}
	if s.traits.NoCatalog {
		s.lists(s.ask(http.MethodGet, "_catalog?n=100", nil, nil, http.StatusOK), "repositories", []string{})
		return
	}
	middle := 1
	if s.traits.FlatOrder || s.traits.Unordered {
		slices.Sort(want)
		middle = 2
	}
	for _, n := range []int{1, 2, 5, 100} {
		s.pagesGive("_catalog?n="+strconv.Itoa(n), "repositories", want)
	}
	s.pagesGive("_catalog", "repositories", want)
	if !s.traits.OwnPaging {
		s.lists(s.ask(http.MethodGet, "_catalog?n=2&last="+want[middle], nil, nil, http.StatusOK), "repositories", want[middle+1:middle+3])
	}
	s.lists(s.ask(http.MethodGet, "_catalog?n=0", nil, nil, http.StatusOK), "repositories", []string{})
	s.ask(http.MethodGet, "_catalog?n=-1", nil, nil, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID")
	if s.traits.CatalogCut {
		s.ask(http.MethodGet, "_catalog?n=1001", nil, nil, http.StatusOK)
	} else {
		s.ask(http.MethodGet, "_catalog?n=1001", nil, nil, http.StatusBadRequest)
	}
}

func tellReferrers(s *story) {
	repository := s.at("conformance/referrers")
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

	if s.traits.NoDelete != 0 {
		return
	}
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
	if diff := gocmp.Diff(expected, index.Manifests); diff != "" {
		s.Errorf("%s (-want +got):\n%s", target, diff)
	}
	return answer
}

func tellDeletes(s *story) {
	repository := s.at("conformance/deletes")
	a, b := Image(1101), Image(1102)
	s.blobs(repository, a)
	s.blobs(repository, b)
	for _, tag := range []string{"a1", "a2", "a3"} {
		s.put(repository, tag, a)
	}
	s.put(repository, "b1", b)

	tag := func(name string) string { return repository + "/manifests/" + name }
	digest := tag(string(a.Digest()))
	left := []string{"a2", "a3", "b1"}
	if s.traits.NoTagDelete != 0 {
		s.ask(http.MethodDelete, tag("a1"), nil, nil, s.traits.NoTagDelete)
		left = append([]string{"a1"}, left...)
	} else {
		// One tag goes, its manifest and the other tags stay.
		s.ask(http.MethodDelete, tag("a1"), nil, nil, http.StatusAccepted)
		s.ask(http.MethodGet, tag("a1"), acceptAll, nil, http.StatusNotFound, "MANIFEST_UNKNOWN")
		s.ask(http.MethodDelete, tag("a1"), nil, nil, http.StatusNotFound, "MANIFEST_UNKNOWN")
	}
	s.ask(http.MethodGet, tag("a2"), acceptAll, nil, http.StatusOK)
	s.lists(s.ask(http.MethodGet, repository+"/tags/list", nil, nil, http.StatusOK), "tags", left)
	if s.traits.NoDelete != 0 {
		s.ask(http.MethodDelete, digest, nil, nil, s.traits.NoDelete)
		s.ask(http.MethodGet, digest, acceptAll, nil, http.StatusOK)
		return
	}
	if s.traits.TagsFirst {
		s.ask(http.MethodDelete, digest, nil, nil, http.StatusBadRequest)
		for _, name := range []string{"a2", "a3"} {
			s.ask(http.MethodDelete, tag(name), nil, nil, http.StatusAccepted)
		}
	}

	// The manifest goes with every tag that pointed at it.
	s.ask(http.MethodDelete, digest, nil, nil, http.StatusAccepted)
	s.ask(http.MethodGet, digest, acceptAll, nil, http.StatusNotFound, "MANIFEST_UNKNOWN")
	s.ask(http.MethodGet, tag("a2"), acceptAll, nil, http.StatusNotFound, "MANIFEST_UNKNOWN")
	s.lists(s.ask(http.MethodGet, repository+"/tags/list", nil, nil, http.StatusOK), "tags", []string{"b1"})
	s.ask(http.MethodDelete, digest, nil, nil, http.StatusNotFound, "MANIFEST_UNKNOWN")

	// It can come back. (Where blobs went with it, they are sent again.)
	s.blobs(repository, a)
	s.put(repository, "a1", a)
	s.ask(http.MethodGet, tag("a1"), acceptAll, nil, http.StatusOK)

	// A repository without tags is empty, not unknown.
	if s.traits.NoTagDelete == 0 {
		s.ask(http.MethodDelete, tag("a1"), nil, nil, http.StatusAccepted)
		s.ask(http.MethodDelete, tag("b1"), nil, nil, http.StatusAccepted)
	} else {
		s.ask(http.MethodDelete, digest, nil, nil, http.StatusAccepted)
		s.ask(http.MethodDelete, tag(string(b.Digest())), nil, nil, http.StatusAccepted)
	}
	s.lists(s.ask(http.MethodGet, repository+"/tags/list", nil, nil, http.StatusOK), "tags", []string{})

	blob := repository + "/blobs/" + string(b.Blobs[1].Digest())
	if s.traits.NoBlobDelete {
		s.ask(http.MethodDelete, blob, nil, nil, http.StatusMethodNotAllowed, "UNSUPPORTED")
		return
	}
	s.ask(http.MethodDelete, blob, nil, nil, http.StatusAccepted)
	s.ask(http.MethodHead, blob, nil, nil, http.StatusNotFound)
	s.ask(http.MethodDelete, blob, nil, nil, http.StatusNotFound, "BLOB_UNKNOWN")
}

func tellNames(s *story) {
	for _, repository := range []string{
		"conformance/blobs", "conformance/manifests/tags", "conformance/tags/list", "conformance/blobs/uploads", "conformance/referrers/x",
		"conformance/a__b/c--d.e_f", "conformance/" + strings.Repeat("n", 120),
	} {
		if s.traits.PlainNames && (strings.Contains(repository, "__") || strings.Contains(repository, "--")) {
			s.ask(http.MethodPost, s.place(repository)+"/blobs/uploads/", nil, nil, http.StatusBadRequest, "NAME_INVALID")
			continue
		}
		repository = s.at(repository)
		a := Image(1201)
		s.blobs(repository, a)
		for _, tag := range []string{"list", "uploads", "blobs", "_x", "v1."} {
			s.put(repository, tag, a)
			s.ask(http.MethodGet, repository+"/manifests/"+tag, acceptAll, nil, http.StatusOK)
		}
		s.lists(s.ask(http.MethodGet, repository+"/tags/list", nil, nil, http.StatusOK), "tags", []string{"_x", "blobs", "list", "uploads", "v1."})
		s.holds(repository, a.Blobs[1].Data)
	}
	fine := s.place("conformance/x")
	for _, target := range []string{
		"conformance/UPPER/tags/list", "conformance/a..b/tags/list", "conformance/-a/tags/list", "conformance/_uploads/tags/list",
		fine + "/manifests/" + strings.Repeat("x", 129), fine + "/manifests/.hidden",
		fine + "/blobs/sha256:ABC", fine + "/manifests/sha256:abc",
	} {
		answer, err := s.remote.do(http.MethodGet, target, acceptAll, nil)
		if err != nil || answer.status != http.StatusBadRequest && answer.status != http.StatusNotFound && answer.status != s.nowhere() {
			s.Errorf("GET %s: status %d, error %v; want 400 or %d", target, answer.status, err, s.nowhere())
		}
	}
}

// tellMany writes one blob and one tag from many sides.
func tellMany(s *story) {
	repository := s.at("conformance/many")
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
