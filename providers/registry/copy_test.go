package registry

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

// quick is a clock whose waits are over at once; what it was asked to wait is
// kept.
type quick struct {
	mu     sync.Mutex
	now    time.Time
	waited []time.Duration
	after  func() // runs after each wait; nil for nothing
}

func newQuick() *quick { return &quick{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (q *quick) Now() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.now
}

func (q *quick) Wait(ctx context.Context, d time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if d >= followLimit {
		// Followers watch each other for long: those waits end with the test's
		// context, or with what they wait for.
		q.mu.Unlock()
		<-ctx.Done()
		q.mu.Lock()
		return ctx.Err()
	}
	q.now = q.now.Add(d)
	q.waited = append(q.waited, d)
	if q.after != nil {
		q.after()
	}
	return ctx.Err()
}

func (q *quick) waits() []time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]time.Duration(nil), q.waited...)
}

// plainClient talks plain HTTP to the given hosts, with a quick clock and no jitter.
func plainClient(t testing.TB, hosts ...string) *Client {
	t.Helper()
	var o Options
	for _, h := range hosts {
		o.Registries = append(o.Registries, Settings{Host: h, PlainHTTP: true})
	}
	return clientOf(t, o)
}

func clientOf(t testing.TB, o Options) *Client {
	t.Helper()
	if o.Clock == nil {
		o.Clock = newQuick()
	}
	if o.Rand == nil {
		o.Rand = func() float64 { return 1 }
	}
	c := New(o)
	t.Cleanup(c.Close)
	return c
}

func repo(host, path string) providers.Repository {
	return providers.Repository{Host: host, Path: path}
}

func mustCopy(t *testing.T, c *Copier, job Job) Result {
	t.Helper()
	result, err := c.Copy(t.Context(), job)
	if err != nil {
		t.Fatalf("copy %s to %s: %v", job.From.At(job.Root), job.To, err)
	}
	return result
}

// Requests of the usual situations. A change here is a change of what users pay
// for: judge it as one.
func TestCopyRequests(t *testing.T) {
	base := registrytest.Layer(1, 4000)
	one := registrytest.Image(2, base, registrytest.Layer(3, 3000))
	two := registrytest.Image(4, base, registrytest.Layer(5, 3000))
	index := registrytest.Index(6, base)
	twice := registrytest.Image(7, base, base)
	empty := registrytest.Image(8, registrytest.Blob{MediaType: "application/vnd.oci.image.layer.v1.tar"}, base)
	type step struct {
		from, to string
		artifact *registrytest.Artifact
		tags     []string
		fresh    bool
	}
	for _, tt := range []struct {
		name         string
		there        map[string]*registrytest.Artifact // at the destination, by repository
		steps        []step
		source, dest map[string]int
	}{{
		name:   "a fresh repository",
		steps:  []step{{"a", "m/a", one, []string{"1"}, true}},
		source: map[string]int{"GET manifest": 1, "GET blob": 3},
		dest:   map[string]int{"POST upload": 3, "PUT upload": 3, "PUT manifest": 1},
	}, {
		name:   "two tags of one digest",
		steps:  []step{{"a", "m/a", one, []string{"1", "latest"}, true}},
		source: map[string]int{"GET manifest": 1, "GET blob": 3},
		dest:   map[string]int{"POST upload": 3, "PUT upload": 3, "PUT manifest": 2},
	}, {
		name:   "a repository that has another image",
		there:  map[string]*registrytest.Artifact{"m/a": two},
		steps:  []step{{"a", "m/a", one, []string{"1"}, false}},
		source: map[string]int{"GET manifest": 1, "GET blob": 2},
		dest:   map[string]int{"HEAD blob": 3, "POST upload": 2, "PUT upload": 2, "PUT manifest": 1},
	}, {
		name: "the same again by digest, nothing to do",
		steps: []step{
			{"a", "m/a", one, nil, true},
			{"a", "m/a", one, nil, false},
		},
		source: map[string]int{"GET manifest": 1, "GET blob": 3},
		dest:   map[string]int{"POST upload": 3, "PUT upload": 3, "PUT manifest": 1},
	}, {
		name:   "there by digest, not known",
		there:  map[string]*registrytest.Artifact{"m/a": one},
		steps:  []step{{"a", "m/a", one, nil, false}},
		source: map[string]int{"GET manifest": 1},
		dest:   map[string]int{"HEAD manifest": 1},
	}, {
		name: "a shared layer in a second repository",
		steps: []step{
			{"a", "m/a", one, []string{"1"}, true},
			{"b", "m/b", two, []string{"1"}, true},
		},
		source: map[string]int{"GET manifest": 2, "GET blob": 5},
		dest:   map[string]int{"POST upload": 6, "PUT upload": 5, "PUT manifest": 2},
	}, {
		name: "the same image in a second repository",
		steps: []step{
			{"a", "m/a", one, []string{"1"}, true},
			{"a", "m/b", one, []string{"1"}, true},
		},
		source: map[string]int{"GET manifest": 1, "GET blob": 3},
		dest:   map[string]int{"POST upload": 6, "PUT upload": 3, "PUT manifest": 2},
	}, {
		name:   "many platforms",
		steps:  []step{{"i", "m/i", index, []string{"1"}, true}},
		source: map[string]int{"GET manifest": 5, "GET blob": 9},
		dest:   map[string]int{"POST upload": 9, "PUT upload": 9, "PUT manifest": 5},
	}, {
		name:   "many platforms that are there, under a new tag",
		there:  map[string]*registrytest.Artifact{"m/i": index},
		steps:  []step{{"i", "m/i", index, []string{"2"}, false}},
		source: map[string]int{"GET manifest": 1},
		dest:   map[string]int{"HEAD manifest": 4, "PUT manifest": 1},
	}, {
		name:   "a layer that is there twice",
		steps:  []step{{"t", "m/t", twice, []string{"1"}, true}},
		source: map[string]int{"GET manifest": 1, "GET blob": 2},
		dest:   map[string]int{"POST upload": 2, "PUT upload": 2, "PUT manifest": 1},
	}, {
		name:   "a layer without a byte",
		steps:  []step{{"e", "m/e", empty, []string{"1"}, true}},
		source: map[string]int{"GET manifest": 1, "GET blob": 2}, // nothing is read of nothing
		dest:   map[string]int{"POST upload": 3, "PUT upload": 3, "PUT manifest": 1},
	}} {
		t.Run(tt.name, func(t *testing.T) {
			source, dest := registrytest.Start(t), registrytest.Start(t)
			for name, a := range map[string]*registrytest.Artifact{"a": one, "b": two, "i": index, "t": twice, "e": empty} {
				registrytest.Push(t, source.Host(), name, "1", a)
			}
			for name, a := range tt.there {
				registrytest.Push(t, dest.Host(), name, "old", a)
			}
			source.Recorder.Reset()
			dest.Recorder.Reset()
			client := plainClient(t, source.Host(), dest.Host())
			copier := NewCopier(client)
			var told Progress
			for _, s := range tt.steps {
				told = told.plus(mustCopy(t, copier, Job{From: repo(source.Host(), s.from), To: repo(dest.Host(), s.to), Root: s.artifact.Digest(), Tags: s.tags, Fresh: s.fresh}).Progress)
			}
			if c := client.Stats()[dest.Host()]; c.Mounted != told.Mounted || c.Present != told.Skipped {
				t.Errorf("the destination's counters have %d bytes mounted and %d present, the results %d and %d", c.Mounted, c.Present, told.Mounted, told.Skipped)
			}
			if diff := cmp.Diff(tt.source, source.Recorder.Counts()); diff != "" {
				t.Errorf("requests to the source (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.dest, dest.Recorder.Counts()); diff != "" {
				t.Errorf("requests to the destination (-want +got):\n%s", diff)
			}
			registrytest.VerifyTree(t, dest.Host())
		})
	}
}

func TestSameRegistryMovesNoBytes(t *testing.T) {
	s := registrytest.Start(t)
	index := registrytest.Index(1, registrytest.Layer(2, 5000))
	registrytest.Push(t, s.Host(), "a", "1", index)
	s.Recorder.Reset()
	result := mustCopy(t, NewCopier(plainClient(t, s.Host())), Job{From: repo(s.Host(), "a"), To: repo(s.Host(), "b"), Root: index.Digest(), Tags: []string{"1"}})
	want := map[string]int{"GET manifest": 5, "HEAD manifest": 4, "POST upload": 9, "PUT manifest": 5}
	if diff := cmp.Diff(want, s.Recorder.Counts()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if result.Bytes != 0 || result.Mounted == 0 || result.Blobs != 9 {
		t.Errorf("result %+v: want only mounted bytes of 9 blobs", result)
	}
	registrytest.VerifyTree(t, s.Host())
}

// Forty repositories that share one layer, all at once: it moves once.
func TestSharedBlobMovesOnce(t *testing.T) {
	source, dest := registrytest.Start(t), registrytest.Start(t)
	base := registrytest.Layer(1, 200_000)
	images := map[string]*registrytest.Artifact{}
	for i := range 40 {
		name := string(rune('a'+i%26)) + string(rune('a'+i/26))
		images[name] = registrytest.Image(uint64(100+i), base, registrytest.Layer(uint64(500+i), 200))
		registrytest.Push(t, source.Host(), name, "1", images[name])
	}
	source.Recorder.Reset()
	copier := NewCopier(plainClient(t, source.Host(), dest.Host()))
	group, ctx := errgroup.WithContext(t.Context())
	for name, a := range images {
		group.Go(func() error {
			_, err := copier.Copy(ctx, Job{From: repo(source.Host(), name), To: repo(dest.Host(), "m/"+name), Root: a.Digest(), Tags: []string{"1"}, Fresh: true})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	moved := source.Recorder.Where(func(r registrytest.Request) bool { return r.Reference == string(base.Digest()) })
	if len(moved) != 1 {
		t.Errorf("the shared layer was read %d times, want once", len(moved))
	}
	mounts := dest.Recorder.Where(func(r registrytest.Request) bool { return r.Method == "POST" && r.Status == 201 })
	if len(mounts) != 39 {
		t.Errorf("%d mounts, want 39", len(mounts))
	}
	registrytest.VerifyTree(t, dest.Host())
}

// Wrong bytes never get a digest at the destination, whatever is wrong with
// them, and the tag is not written.
func TestWrongBytesAreNeverCommitted(t *testing.T) {
	image := registrytest.Image(1, registrytest.Layer(2, 50_000))
	layer := image.Blobs[1]
	for _, tt := range []struct {
		name  string
		fault registrytest.Fault
		class providers.Class
	}{
		{"another byte in the middle", registrytest.Fault{Flip: 20_000}, providers.Conflict},
		{"another last byte", registrytest.Fault{Flip: int64(len(layer.Data))}, providers.Conflict},
		{"cut off every time", registrytest.Fault{CutResponse: 30_000}, providers.Transient},
		{"too short from the start", registrytest.Fault{Status: 200, Body: "short"}, providers.Conflict},
		{"too long from the start", registrytest.Fault{Status: 200, Body: string(layer.Data) + "x"}, providers.Conflict},
		{"gone", registrytest.Fault{Status: 404}, providers.NotFound},
		{"a length that is not the body's", registrytest.Fault{Header: http.Header{"Content-Length": {"49999"}}}, providers.Conflict},
		{"compressed on the way, unasked", registrytest.Fault{Header: http.Header{"Content-Encoding": {"gzip"}}}, providers.Invalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			source, dest := registrytest.Start(t), registrytest.Start(t)
			registrytest.Push(t, source.Host(), "a", "1", image)
			tt.fault.Method, tt.fault.Times = http.MethodGet, -1
			tt.fault.Path = "/blobs/" + string(layer.Digest())
			source.Faults.Add(tt.fault)
			source.Recorder.Reset()
			_, err := NewCopier(plainClient(t, source.Host(), dest.Host())).Copy(t.Context(),
				Job{From: repo(source.Host(), "a"), To: repo(dest.Host(), "b"), Root: image.Digest(), Tags: []string{"1"}, Fresh: true})
			if providers.ClassOf(err) != tt.class {
				t.Errorf("error %v of class %s, want %s", err, providers.ClassOf(err), tt.class)
			}
			stored := dest.Recorder.Where(func(r registrytest.Request) bool {
				return r.Status == 201 && r.Method == "PUT" && (r.Kind == "manifest" || r.In == int64(len(layer.Data)))
			})
			if len(stored) != 0 {
				t.Errorf("the destination took %v", stored)
			}
			for _, r := range source.Recorder.Where(func(r registrytest.Request) bool { return r.Kind == "blob" }) {
				if got := r.Header.Get("Accept-Encoding"); got != "identity" {
					t.Errorf("%s: accepts encoding %q, want identity", r, got)
				}
			}
		})
	}
}

// Failures that pass: the copy is complete in the end, and the right bytes were
// counted.
func TestCopyGetsOverFailures(t *testing.T) {
	for _, tt := range []struct {
		name         string
		source, dest []registrytest.Fault
	}{
		{"body cut once", []registrytest.Fault{{Method: "GET", Kind: "blob", CutResponse: 1000}}, nil},
		{"source 503", []registrytest.Fault{{Kind: "blob", Status: 503, Times: 2}}, nil},
		{"source 429", []registrytest.Fault{{Kind: "manifest", Status: 429, Header: http.Header{"Retry-After": {"3"}}}}, nil},
		{"source drops", []registrytest.Fault{{Kind: "manifest", Drop: true}}, nil},
		{"upload opens late", nil, []registrytest.Fault{{Method: "POST", Kind: "upload", Status: 502, Times: 2}}},
		{"upload breaks off", nil, []registrytest.Fault{{Method: "PUT", Kind: "upload", CutRequest: 500}}},
		{"stored, answer lost", nil, []registrytest.Fault{{Method: "PUT", Kind: "upload", Late: true, Drop: true}}},
		{"stored, answered 500", nil, []registrytest.Fault{{Method: "PUT", Kind: "upload", Late: true, Status: 500}}},
		{"stored, answered 204", nil, []registrytest.Fault{{Method: "PUT", Kind: "upload", Late: true, Status: 204, Times: -1}}},
		{"stored, answered 200", nil, []registrytest.Fault{{Method: "PUT", Kind: "upload", Late: true, Status: 200, Times: -1}}},
		{"session gone", nil, []registrytest.Fault{{Method: "PUT", Kind: "upload", Status: 404, Body: `{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}`}}},
		{"manifest stored, answered 500, refused again", nil, []registrytest.Fault{
			{Method: "PUT", Path: "/manifests/1$", Late: true, Status: 500},
			{Method: "PUT", Path: "/manifests/1$", Nth: 2, Status: 400, Body: `{"errors":[{"code":"TAG_INVALID","message":"the repository is immutable"}]}`}}},
		{"manifest 500", nil, []registrytest.Fault{{Method: "PUT", Kind: "manifest", Status: 500}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			source, dest := registrytest.Start(t), registrytest.Start(t)
			index := registrytest.Index(1, registrytest.Layer(2, 20_000))
			registrytest.Push(t, source.Host(), "a", "1", index)
			source.Faults.Add(tt.source...)
			dest.Faults.Add(tt.dest...)
			c := plainClient(t, source.Host(), dest.Host())
			contents, err := plainClient(t, source.Host()).Contents(t.Context(), repo(source.Host(), "a"), index.Digest(), nil)
			if err != nil {
				t.Fatal(err)
			}
			result := mustCopy(t, NewCopier(c), Job{From: repo(source.Host(), "a"), To: repo(dest.Host(), "b"), Root: index.Digest(), Tags: []string{"1"}, Fresh: true})
			want := Result{Digest: index.Digest(), Progress: Progress{Bytes: contents.Bytes(), Blobs: len(contents.Blobs)}, Manifests: 5}
			if diff := cmp.Diff(want, result); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			registrytest.VerifyTree(t, dest.Host())
		})
	}
}

// What we believe to be there may have been collected: the manifest is refused,
// we look again, and send it.
func TestLostBlobsAreSentAgain(t *testing.T) {
	source, dest := registrytest.Start(t), registrytest.Start(t)
	index := registrytest.Index(1, registrytest.Layer(2, 2000))
	registrytest.Push(t, source.Host(), "a", "1", index)
	c := plainClient(t, source.Host(), dest.Host())
	contents, err := c.Contents(t.Context(), repo(source.Host(), "a"), index.Digest(), nil)
	if err != nil {
		t.Fatal(err)
	}
	to := repo(dest.Host(), "b")
	for _, b := range contents.Blobs {
		c.known.addBlob(to, b.Digest) // wrong, as after a garbage collection
	}
	c.known.addComplete(to, index.Children[0].Digest())
	mustCopy(t, NewCopier(c), Job{From: repo(source.Host(), "a"), To: to, Root: index.Digest(), Tags: []string{"1"}})
	registrytest.VerifyTree(t, dest.Host())
}

func TestRefusedMounts(t *testing.T) {
	for _, status := range []int{202, 400, 401, 403, 404, 405} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			source, dest := registrytest.Start(t), registrytest.Start(t)
			image := registrytest.Image(1, registrytest.Layer(2, 2000))
			registrytest.Push(t, source.Host(), "a", "1", image)
			c := plainClient(t, source.Host(), dest.Host())
			copier := NewCopier(c)
			job := Job{From: repo(source.Host(), "a"), To: repo(dest.Host(), "x"), Root: image.Digest(), Tags: []string{"1"}, Fresh: true}
			mustCopy(t, copier, job)
			if status == 202 {
				// A mount from a repository that has it not is what a registry answers 202 to.
				for _, b := range image.Blobs {
					c.known.forgetBlob(repo(dest.Host(), "x"), b.Digest())
					c.known.addBlob(repo(dest.Host(), "nowhere"), b.Digest())
				}
			} else {
				dest.Faults.Add(registrytest.Fault{Method: "POST", Path: "mount=", Status: status, Times: -1})
			}
			dest.Recorder.Reset()
			job.To.Path = "y"
			result := mustCopy(t, copier, job)
			if result.Mounted != 0 || result.Blobs != 2 {
				t.Errorf("result %+v: nothing was mounted", result)
			}
			if n := dest.Recorder.Count("PUT upload"); n != 2 {
				t.Errorf("%d uploads, want 2", n)
			}
			if n := dest.Recorder.Count("POST upload"); status == 202 && n != 2 {
				t.Errorf("%d sessions opened, want the 2 of the refused mounts", n)
			}
			registrytest.VerifyTree(t, dest.Host())
		})
	}
}

func TestForeignDigestIsAHardError(t *testing.T) {
	source, dest := registrytest.Start(t), registrytest.Start(t)
	image := registrytest.Image(1)
	registrytest.Push(t, source.Host(), "a", "1", image)
	dest.Faults.Add(registrytest.Fault{Method: "PUT", Kind: "manifest", Times: -1,
		Header: http.Header{"Docker-Content-Digest": {string(providers.SHA256([]byte("another")))}}})
	_, err := NewCopier(plainClient(t, source.Host(), dest.Host())).Copy(t.Context(),
		Job{From: repo(source.Host(), "a"), To: repo(dest.Host(), "b"), Root: image.Digest(), Tags: []string{"1"}, Fresh: true})
	if providers.ClassOf(err) != providers.Invalid {
		t.Errorf("error %v, want class invalid", err)
	}
	if n := dest.Recorder.Count("PUT manifest"); n != 1 {
		t.Errorf("%d tries, want 1", n)
	}
}

func TestSelectedPlatforms(t *testing.T) {
	source, dest := registrytest.Start(t), registrytest.Start(t)
	index := registrytest.Index(1, registrytest.Layer(2, 2000))
	registrytest.Push(t, source.Host(), "a", "1", index)
	arm := []providers.Platform{{OS: "linux", Architecture: "arm64"}}
	c := plainClient(t, source.Host(), dest.Host())
	contents, err := c.Contents(t.Context(), repo(source.Host(), "a"), index.Digest(), arm)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(contents.Root.Manifests); n != 2 {
		t.Fatalf("%d children, want the arm64 image and its attestation", n)
	}
	job := Job{From: repo(source.Host(), "a"), To: repo(dest.Host(), "b"), Root: index.Digest(), Select: arm, Want: contents.Root.Digest, Tags: []string{"1"}, Fresh: true}
	if result := mustCopy(t, NewCopier(c), job); result.Digest != contents.Root.Digest {
		t.Errorf("copied %s, planned %s", result.Digest, contents.Root.Digest)
	}
	registrytest.VerifyTree(t, dest.Host())
	job.Want = index.Digest()
	if _, err := NewCopier(c).Copy(t.Context(), job); providers.ClassOf(err) != providers.Conflict {
		t.Errorf("error %v for a selection that the plan did not expect, want class conflict", err)
	}
}

func TestCopyReferrers(t *testing.T) {
	for _, tt := range []struct {
		name         string
		source, dest []registrytest.Option
	}{
		{"API to API", nil, nil},
		{"API to tags", nil, []registrytest.Option{registrytest.WithoutReferrers()}},
		{"tags to API", []registrytest.Option{registrytest.WithoutReferrers()}, nil},
		{"tags to tags", []registrytest.Option{registrytest.WithoutReferrers()}, []registrytest.Option{registrytest.WithoutReferrers()}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			source, dest := registrytest.Start(t, tt.source...), registrytest.Start(t, tt.dest...)
			image := registrytest.Image(1)
			sbom := registrytest.SBOM(image, 2)
			ofSBOM := registrytest.SBOM(sbom, 3)
			signature := registrytest.Signature(image, 4)
			registrytest.Push(t, source.Host(), "a", "1", image)
			registrytest.PushReferrer(t, source.Host(), "a", sbom)
			registrytest.PushReferrer(t, source.Host(), "a", ofSBOM)
			registrytest.Push(t, source.Host(), "a", registrytest.SignatureTag(image.Digest()), signature)
			other := registrytest.SBOM(image, 9) // of somebody else, at the destination

			c := plainClient(t, source.Host(), dest.Host())
			copier := NewCopier(c)
			from, to := repo(source.Host(), "a"), repo(dest.Host(), "b")
			mustCopy(t, copier, Job{From: from, To: to, Root: image.Digest(), Tags: []string{"1"}, Fresh: true})
			registrytest.PushReferrer(t, dest.Host(), "b", other)

			tags, err := c.Tags(t.Context(), from)
			if err != nil {
				t.Fatal(err)
			}
			job := ReferrersJob{From: from, To: to, Subjects: []providers.Digest{image.Digest()}, FromTags: &tags}
			if _, err := copier.CopyReferrers(t.Context(), job); err != nil {
				t.Fatal(err)
			}
			set, err := c.ReferrerSet(t.Context(), to, job.Subjects, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := map[providers.Digest]string{}
			for _, r := range set {
				got[r.Digest] = string(r.Subject) + " " + r.Tag
			}
			want := map[providers.Digest]string{
				sbom.Digest():      string(image.Digest()) + " ",
				other.Digest():     string(image.Digest()) + " ",
				ofSBOM.Digest():    string(sbom.Digest()) + " ",
				signature.Digest(): string(image.Digest()) + " " + registrytest.SignatureTag(image.Digest()),
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("referrers at the destination (-want +got):\n%s", diff)
			}
			registrytest.VerifyTree(t, dest.Host())

			dest.Recorder.Reset()
			again, err := copier.CopyReferrers(t.Context(), job)
			if err != nil || again.Bytes != 0 {
				t.Errorf("again: %+v, %v; want nothing to move", again, err)
			}
			if n := dest.Recorder.Count("PUT upload"); n != 0 {
				t.Errorf("again: %d uploads, want none", n)
			}
		})
	}
}

func TestAbsentFallbackTagsCostNothing(t *testing.T) {
	s := registrytest.Start(t, registrytest.WithoutReferrers())
	image := registrytest.Image(1)
	registrytest.Push(t, s.Host(), "a", "1", image)
	c := plainClient(t, s.Host())
	tags := &TagList{Tags: []string{"1"}}
	s.Recorder.Reset()
	for range 3 {
		if set, err := c.ReferrerSet(t.Context(), repo(s.Host(), "a"), []providers.Digest{image.Digest()}, tags); err != nil || len(set) != 0 {
			t.Fatalf("referrers %v, %v", set, err)
		}
	}
	if diff := cmp.Diff(map[string]int{"GET referrers": 1}, s.Recorder.Counts()); diff != "" {
		t.Errorf("requests: the API is asked for once per registry (-want +got):\n%s", diff)
	}
}

// The same trees between real distribution registries, with tokens.
func TestCopyBetweenRealRegistries(t *testing.T) {
	source := registrytest.Distribution(t, registrytest.WithRecorder())
	dest := registrytest.Distribution(t, registrytest.WithRecorder())
	listing := registrytest.Fill(t, source.Host(), registrytest.Tree{Repositories: 6, Tags: 3, Prefix: "acme", LayerSize: 3000, Indexes: true, Signed: true, SBOMs: true})
	source.Recorder.Reset()
	c := plainClient(t, source.Host(), dest.Host())
	copier := NewCopier(c)
	ctx := t.Context()
	group, within := errgroup.WithContext(ctx)
	for name, err := range c.Repositories(ctx, source.Host(), "acme") {
		if err != nil {
			t.Fatal(err)
		}
		group.Go(func() error {
			from, to := repo(source.Host(), name), repo(dest.Host(), "mirror/"+name)
			tags, err := c.Tags(within, from)
			if err != nil {
				return err
			}
			var subjects []providers.Digest
			for _, tag := range tags.Tags {
				if _, _, attached := ParseReferrerTag(tag); attached {
					continue
				}
				d, err := c.Head(within, from, tag)
				if err != nil {
					return err
				}
				if _, err := copier.Copy(within, Job{From: from, To: to, Root: d.Digest, Tags: []string{tag}, Fresh: true}); err != nil {
					return err
				}
				subjects = append(subjects, d.Digest)
			}
			_, err = copier.CopyReferrers(within, ReferrersJob{From: from, To: to, Subjects: subjects, FromTags: &tags, Fresh: true})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	registrytest.VerifyTree(t, dest.Host())
	registrytest.Equal(t, registrytest.Inventory(t, dest.Host()).Under("mirror").WithoutFallback(), listing.WithoutFallback())
	base := c.Stats()[source.Host()]
	if base.Requests["GET blob"] == 0 || base.Retries != 0 {
		t.Errorf("counters of the source %+v: want blobs read and no retry", base)
	}
	seen := map[string]bool{}
	for _, r := range source.Recorder.Where(func(r registrytest.Request) bool { return r.Method == "GET" && r.Kind == "blob" }) {
		if seen[r.Reference] {
			t.Errorf("blob %s was read twice", r.Reference)
		}
		seen[r.Reference] = true
	}
}

func TestOneTokenForAllWorkers(t *testing.T) {
	s := registrytest.Start(t, registrytest.WithTokens(time.Minute))
	image := registrytest.Image(1)
	dest := registrytest.Start(t)
	registrytest.Push(t, dest.Host(), "seed", "1", image)
	c := clientOf(t, Options{Clock: SystemClock{},
		Registries: []Settings{{Host: s.Host(), PlainHTTP: true, Credential: canary}, {Host: dest.Host(), PlainHTTP: true}}})
	copier := NewCopier(c)
	mustCopy(t, copier, Job{From: repo(dest.Host(), "seed"), To: repo(s.Host(), "a"), Root: image.Digest(), Tags: []string{"1"}, Fresh: true})
	s.Recorder.Reset()
	fresh := clientOf(t, Options{Clock: SystemClock{}, Registries: []Settings{{Host: s.Host(), PlainHTTP: true, Credential: canary}}})
	group, ctx := errgroup.WithContext(t.Context())
	for range 30 {
		group.Go(func() error {
			_, err := fresh.Head(ctx, repo(s.Host(), "a"), "1")
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"HEAD manifest": 31, "GET token": 1}
	if diff := cmp.Diff(want, s.Recorder.Counts()); diff != "" {
		t.Errorf("requests of 30 workers: one 401, one token (-want +got):\n%s", diff)
	}
}

func canary(context.Context, providers.Repository) (Credential, error) {
	return Credential{Username: registrytest.CanaryUser, Password: func() string { return registrytest.CanaryPassword }, Origin: "the test"}, nil
}
