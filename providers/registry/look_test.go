package registry

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

// sight is a source with images, and a destination whose one repository has the
// first of them.
type sight struct {
	source, dest string
	recorder     *registrytest.Recorder
	faults       *registrytest.Faults
	client       *Client
	to           providers.Repository
	first        *registrytest.Artifact
}

var lookByMounts = Kind{Name: "test", Profile: Profile{Look: LookMount}}

func newSight(t *testing.T, s registrytest.Option, first *registrytest.Artifact) *sight {
	t.Helper()
	var options []registrytest.Option
	if s != nil {
		options = append(options, s)
	}
	source, dest := registrytest.Start(t), registrytest.Start(t, options...)
	return sightOf(t, source.Host(), dest.Host(), dest.Recorder, dest.Faults, first)
}

func sightOf(t *testing.T, source, dest string, recorder *registrytest.Recorder, faults *registrytest.Faults, first *registrytest.Artifact) *sight {
	t.Helper()
	registrytest.Push(t, dest, "b", "old", first)
	recorder.Reset()
	c := clientOf(t, Options{Kinds: []Kind{lookByMounts}, Registries: []Settings{
		{Host: source, PlainHTTP: true}, {Host: dest, PlainHTTP: true, Kind: "test", Credential: canary}}})
	return &sight{source: source, dest: dest, recorder: recorder, faults: faults, client: c, to: repo(dest, "b"), first: first}
}

// recall reads the version before, as a plan does.
func (s *sight) recall(t *testing.T) {
	t.Helper()
	if err := s.client.Recall(t.Context(), s.to, s.first.Digest(), 10); err != nil {
		t.Fatal(err)
	}
}

func (s *sight) job(t *testing.T, name string, a *registrytest.Artifact) Job {
	t.Helper()
	registrytest.Push(t, s.source, name, "1", a)
	return Job{From: repo(s.source, name), To: s.to, Root: a.Digest(), Tags: []string{name}}
}

// copy copies a and gives its result and the requests to the destination.
func (s *sight) copy(t *testing.T, name string, a *registrytest.Artifact) (Result, map[string]int) {
	t.Helper()
	job := s.job(t, name, a)
	s.recorder.Reset()
	result := mustCopy(t, NewCopier(s.client), job)
	counts := s.recorder.Counts()
	registrytest.VerifyTree(t, s.dest)
	return result, counts
}

func (s *sight) way(t *testing.T) lookWay {
	t.Helper()
	r, err := s.client.remoteFor(s.to)
	if err != nil {
		t.Fatal(err)
	}
	r.looking.mu.Lock()
	defer r.looking.mu.Unlock()
	return r.looking.way
}

// mountless is a registry that answers each mount by a session.
func mountless() registrytest.Option {
	p := registrytest.Generic
	p.Mount.Never = true
	return registrytest.As(p)
}

// Requests for the next two versions of an image, each with a layer that the
// repository has and nobody knows of, one that is new, and a config. One request
// finds out how the registry answers; then each blob is looked for by the request
// that opens its upload. Where that is not to be had, nothing is sent twice.
func TestLookByMount(t *testing.T) {
	base, hidden := registrytest.Layer(1, 4000), registrytest.Layer(2, 3000)
	next := []*registrytest.Artifact{
		registrytest.Image(3, base, hidden, registrytest.Layer(4, 1000)),
		registrytest.Image(5, base, registrytest.Layer(6, 2000), registrytest.Layer(7, 1000)),
	}
	byMount := []map[string]int{
		// The question, and three looks, of which one finds the layer.
		{"POST upload": 4, "PUT upload": 2, "PUT manifest": 1},
		{"POST upload": 3, "PUT upload": 3, "PUT manifest": 1},
	}
	byHead := []map[string]int{
		{"POST upload": 3, "HEAD blob": 3, "PUT upload": 2, "PUT manifest": 1},
		{"POST upload": 3, "HEAD blob": 3, "PUT upload": 3, "PUT manifest": 1},
	}
	refused := func(status int) []registrytest.Fault {
		return []registrytest.Fault{{Path: "mount=", Status: status, Times: -1}}
	}
	for _, tt := range []struct {
		name   string
		as     registrytest.Option
		faults []registrytest.Fault
		want   []map[string]int
		way    lookWay
	}{
		{"a registry that mounts", nil, nil, byMount, lookByMount},
		{"one that never does", mountless(), nil, byHead, lookByHead},
		{"400", nil, refused(400), byHead, lookByHead},
		{"403", nil, refused(403), byHead, lookByHead},
		{"404", nil, refused(404), byHead, lookByHead},
		{"405", nil, refused(405), byHead, lookByHead},
		{"501", nil, refused(501), byHead, lookByHead},
		{"201 for another blob", nil, []registrytest.Fault{{Path: "mount=", Times: -1, Header: http.Header{"Docker-Content-Digest": {digestA}}}}, byHead, lookByHead},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSight(t, tt.as, registrytest.Image(2, base))
			registrytest.Push(t, s.dest, "b", "other", registrytest.Image(9, hidden))
			s.faults.Add(tt.faults...)
			s.recall(t)
			var told Progress
			for i, image := range next {
				result, counts := s.copy(t, fmt.Sprint("v", i), image)
				told = told.plus(result.Progress)
				if diff := cmp.Diff(tt.want[i], counts); diff != "" {
					t.Errorf("requests for version %d (-want +got):\n%s", i, diff)
				}
			}
			sent := 0
			for _, b := range []registrytest.Blob{next[0].Blobs[0], next[0].Blobs[3], next[1].Blobs[0], next[1].Blobs[2], next[1].Blobs[3]} {
				sent += len(b.Data)
			}
			there := int64(2*len(base.Data) + len(hidden.Data))
			if want := (Progress{Bytes: int64(sent), Skipped: there, Blobs: 8}); told != want {
				t.Errorf("told %+v, want %+v", told, want)
			}
			if c := s.client.Stats()[s.dest]; c.Present != there || c.Mounted != 0 {
				t.Errorf("counters: %d bytes present, %d mounted; want %d and none", c.Present, c.Mounted, there)
			}
			if got := s.way(t); got != tt.way {
				t.Errorf("looks by %d, want %d", got, tt.way)
			}
		})
	}
}

// Without a blob that is known to be there, nobody can tell what a 202 means.
func TestNothingIsKnownToBeThere(t *testing.T) {
	base := registrytest.Layer(1, 4000)
	s := newSight(t, nil, registrytest.Image(2, base))
	gate := registrytest.NewGate(t)
	s.faults.Add(registrytest.Fault{Method: http.MethodHead, Kind: "blob", Times: -1, Gate: gate})
	job := s.job(t, "v", registrytest.Image(3, base, registrytest.Layer(4, 100)))
	if _, err := s.client.Head(t.Context(), s.to, "old"); err != nil { // the first request goes alone
		t.Fatal(err)
	}
	s.recorder.Reset()
	done := make(chan error, 1)
	go func() {
		_, err := NewCopier(s.client).Copy(t.Context(), job)
		done <- err
	}()
	<-gate.Reached()
	for s.recorder.Count("HEAD blob") < 3 && t.Context().Err() == nil {
		runtime.Gosched()
	}
	gate.Open()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"HEAD blob": 3, "POST upload": 2, "PUT upload": 2, "PUT manifest": 1}
	if diff := cmp.Diff(want, s.recorder.Counts()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if _, counts := s.copy(t, "w", registrytest.Image(5, base)); counts["HEAD blob"] != 0 || counts["POST upload"] != 2 {
		t.Errorf("the next: %v, want the question and the look of the config", counts)
	}
}

// One refusal later, after looks that went well, ends them.
func TestLookByMountEnds(t *testing.T) {
	base := registrytest.Layer(1, 4000)
	s := newSight(t, nil, registrytest.Image(2, base))
	s.recall(t)
	s.copy(t, "v", registrytest.Image(3, base))
	s.faults.Add(registrytest.Fault{Path: "mount=", Status: http.StatusForbidden, Times: -1})
	_, counts := s.copy(t, "w", registrytest.Image(4, base))
	if want := map[string]int{"POST upload": 2, "HEAD blob": 1, "PUT upload": 1, "PUT manifest": 1}; !cmp.Equal(want, counts) {
		t.Errorf("requests %v, want %v", counts, want)
	}
	_, counts = s.copy(t, "x", registrytest.Image(5, base))
	if want := map[string]int{"POST upload": 1, "HEAD blob": 1, "PUT upload": 1, "PUT manifest": 1}; !cmp.Equal(want, counts) {
		t.Errorf("requests afterwards %v, want %v", counts, want)
	}
}

// A registry that says 201 whatever it has is found out by the manifest: what is
// missing is sent, and it is not asked so again.
func TestLookByMountLies(t *testing.T) {
	base := registrytest.Layer(1, 4000)
	s := newSight(t, nil, registrytest.Image(2, base))
	s.faults.Add(registrytest.Fault{Path: "mount=", Status: http.StatusCreated, Times: -1})
	s.recall(t)
	image := registrytest.Image(3, base, registrytest.Layer(4, 1000))
	_, counts := s.copy(t, "v", image)
	if counts["PUT manifest"] != 2 || counts["PUT upload"] != 2 {
		t.Errorf("requests %v, want two manifests, and two uploads after the first", counts)
	}
	if got := s.way(t); got != lookByHead {
		t.Errorf("looks by %d, want HEAD", got)
	}
	if _, counts = s.copy(t, "w", registrytest.Image(5, base)); counts["PUT manifest"] != 1 || counts["HEAD blob"] != 1 {
		t.Errorf("the next: %v, want one manifest, and one look", counts)
	}
}

// Trouble is not taken for an answer: it is tried again, and what fails fails.
func TestLookByMountInTrouble(t *testing.T) {
	base := registrytest.Layer(1, 4000)
	for _, tt := range []struct {
		name  string
		fault registrytest.Fault
		fails providers.Class
		way   lookWay
	}{
		{"a moment", registrytest.Fault{Status: 503}, 0, lookByMount},
		{"a pause", registrytest.Fault{Status: 429, Header: http.Header{"Retry-After": {"1"}}}, 0, lookByMount},
		{"a broken connection", registrytest.Fault{Drop: true}, 0, lookByMount},
		{"a broken look", registrytest.Fault{Nth: 2, Drop: true}, 0, lookByMount},
		{"500 for every mount", registrytest.Fault{Status: 500, Times: -1}, 0, lookByHead},
		{"500 for every look", registrytest.Fault{Nth: 2, Status: 500, Times: -1}, 0, lookByHead},
		{"503 for every look", registrytest.Fault{Nth: 2, Status: 503, Times: -1}, providers.Transient, lookByMount},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSight(t, nil, registrytest.Image(2, base))
			s.recall(t)
			tt.fault.Path = "mount="
			s.faults.Add(tt.fault)
			_, err := NewCopier(s.client).Copy(t.Context(), s.job(t, "v", registrytest.Image(3, base)))
			if class := providers.ClassOf(err); err != nil != (tt.fails != 0) || err != nil && class != tt.fails {
				t.Errorf("error %v of class %s, want %s", err, class, tt.fails)
			}
			if got := s.way(t); got != tt.way {
				t.Errorf("looks by %d, want %d", got, tt.way)
			}
			if err == nil {
				registrytest.VerifyTree(t, s.dest)
			}
		})
	}
}

// Many jobs at once ask once, and wait for the answer.
func TestManyLookByMount(t *testing.T) {
	base := registrytest.Layer(1, 4000)
	s := newSight(t, nil, registrytest.Image(2, base))
	s.recall(t)
	gate := registrytest.NewGate(t)
	s.faults.Add(registrytest.Fault{Path: "mount=", Gate: gate})
	var jobs []Job
	for i := range 8 {
		jobs = append(jobs, s.job(t, fmt.Sprint("v", i), registrytest.Image(uint64(10+i), base, registrytest.Layer(uint64(30+i), 500))))
	}
	s.recorder.Reset()
	copier := NewCopier(s.client)
	errs := make([]error, len(jobs))
	var all sync.WaitGroup
	for i, job := range jobs {
		all.Go(func() { _, errs[i] = copier.Copy(t.Context(), job) })
	}
	<-gate.Reached()
	gate.Open()
	all.Wait()
	noErrors(t, errs)
	want := map[string]int{"POST upload": 1 + 16, "PUT upload": 16, "PUT manifest": 8}
	if diff := cmp.Diff(want, s.recorder.Counts()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	registrytest.VerifyTree(t, s.dest)
}

// Who waits for the answer goes when his context ends; the one who asks may give
// up, and another asks again.
func TestLookByMountGivenUp(t *testing.T) {
	base := registrytest.Layer(1, 4000)
	s := newSight(t, nil, registrytest.Image(2, base))
	s.recall(t)
	gate := registrytest.NewGate(t)
	s.faults.Add(registrytest.Fault{Path: "mount=", Gate: gate})
	ctx, cancel := context.WithCancel(t.Context())
	job := s.job(t, "v", registrytest.Image(3, base))
	done := make(chan error, 1)
	go func() {
		_, err := NewCopier(s.client).Copy(ctx, job)
		done <- err
	}()
	<-gate.Reached()
	cancel()
	if err := <-done; providers.ClassOf(err) != providers.Canceled && err != context.Canceled {
		t.Errorf("given up: %v", err)
	}
	if got := s.way(t); got != lookUnknown {
		t.Errorf("looks by %d, want nothing learned", got)
	}
	gate.Open()
	s.copy(t, "w", registrytest.Image(4, base))
	if got := s.way(t); got != lookByMount {
		t.Errorf("looks by %d, want mounts", got)
	}
}

// A blob whose upload an earlier run has begun is looked for by HEAD: a session
// is there.
func TestLookBesideAnUnfinishedUpload(t *testing.T) {
	l := newLane(t)
	l.kind = lookByMounts
	l.ledger = newLedger()
	l.job.Fresh = false
	old := registrytest.Image(2, registrytest.Layer(3, 100))
	registrytest.Push(t, l.dest.Host(), "b", "old", old)
	l.breakOff(t, 5)
	client := l.client(t)
	if err := client.Recall(t.Context(), l.job.To, old.Digest(), 10); err != nil {
		t.Fatal(err)
	}
	result := mustCopy(t, NewCopier(client), l.job)
	registrytest.VerifyTree(t, l.dest.Host())
	if result.Skipped < 4*small.chunk {
		t.Errorf("result %+v: the session was not taken up", result)
	}
	if n := l.dest.Recorder.Count("POST upload"); n != 2 {
		t.Errorf("%d sessions asked for, want the question and the config's", n)
	}
	if n := l.dest.Recorder.Count("HEAD blob"); n != 1 {
		t.Errorf("%d blobs looked for by HEAD, want the large one", n)
	}
}

// The real registry answers as the fakes do, and a token for the repository is
// enough. Who may only read is told so.
func TestLookByMountAtDistribution(t *testing.T) {
	base, hidden := registrytest.Layer(1, 4000), registrytest.Layer(2, 3000)
	dest := registrytest.Distribution(t, registrytest.WithTokens(time.Hour))
	s := sightOf(t, registrytest.Start(t).Host(), dest.Host(), dest.Recorder, dest.Faults, registrytest.Image(2, base))
	registrytest.Push(t, s.dest, "b", "other", registrytest.Image(9, hidden))
	s.recall(t)
	result, counts := s.copy(t, "v", registrytest.Image(3, base, hidden, registrytest.Layer(4, 1000)))
	want := map[string]int{"POST upload": 4, "PUT upload": 2, "PUT manifest": 1}
	delete(counts, "GET token")
	if diff := cmp.Diff(want, counts); diff != "" || result.Skipped != int64(len(base.Data)+len(hidden.Data)) {
		t.Errorf("%+v, requests (-want +got):\n%s", result, diff)
	}
	for _, r := range dest.Recorder.Where(func(r registrytest.Request) bool {
		return strings.Contains(r.Query, "mount=") && r.Status == http.StatusUnauthorized
	}) {
		t.Errorf("refused: %s", r)
	}
}
