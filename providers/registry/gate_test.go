package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

// Copies in opposite directions over gates of one slot each: every transfer
// needs a slot at both ends, and none may hold one while it waits for ever.
func TestOppositeCopiesDoNotBlockEachOther(t *testing.T) {
	a, b := registrytest.Start(t), registrytest.Start(t)
	var settings []Settings
	for _, s := range []*registrytest.Server{a, b} {
		settings = append(settings, Settings{Host: s.Host(), PlainHTTP: true, Concurrency: 1})
	}
	copier := NewCopier(clientOf(t, Options{Registries: settings}))
	group, ctx := errgroup.WithContext(t.Context())
	for i := range 12 {
		from, to := a.Host(), b.Host()
		if i%2 == 1 {
			from, to = to, from
		}
		if i%4 >= 2 {
			to = from // both slots at one gate
		}
		name := fmt.Sprint("r", i)
		image := registrytest.Image(uint64(100+i), registrytest.Layer(uint64(200+i), 3000), registrytest.Layer(uint64(300+i), 3000))
		registrytest.Push(t, from, name, "1", image)
		group.Go(func() error {
			_, err := copier.Copy(ctx, Job{From: repo(from, name), To: repo(to, "m/"+name), Root: image.Digest(), Tags: []string{"1"}, Fresh: true})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	registrytest.VerifyTree(t, a.Host())
	registrytest.VerifyTree(t, b.Host())
}

// What ends something begun passes what begins something, and keeps its order.
func TestWhatEndsGoesFirst(t *testing.T) {
	g := newGate(SystemClock{}, 1)
	leave, err := g.enter(t.Context(), pass{actions: []action{opens}, slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	asked := []action{opens, pushes, looks, writes, pushes}
	order := make(chan action, len(asked))
	for i, a := range asked {
		go func() {
			leave, err := g.enter(t.Context(), pass{actions: []action{a}, slots: 1})
			if err != nil {
				t.Error(err)
			}
			order <- a
			leave()
		}()
		for waiting := 0; waiting <= i; { // until it is in the queue
			runtime.Gosched()
			g.mu.Lock()
			waiting = len(g.queue)
			g.mu.Unlock()
		}
	}
	leave()
	var got []action
	for range asked {
		got = append(got, <-order)
	}
	if diff := cmp.Diff([]action{pushes, writes, pushes, opens, looks}, got); diff != "" {
		t.Errorf("order of admission (-want +got):\n%s", diff)
	}
}

// ECR mounts only what a committed manifest refers to: followers wait for the
// elder job's manifest, and then mount.
func TestMountAfterCommit(t *testing.T) {
	source, dest := registrytest.Start(t), registrytest.Start(t)
	base := registrytest.Layer(1, 5000)
	ecr := Kind{Name: "ecr", Profile: Profile{Mount: MountCommitted}}
	copier := NewCopier(clientOf(t, Options{Kinds: []Kind{ecr}, Registries: []Settings{
		{Host: source.Host(), PlainHTTP: true}, {Host: dest.Host(), PlainHTTP: true, Kind: "ecr"}}}))
	group, ctx := errgroup.WithContext(t.Context())
	for i := range 6 {
		name := fmt.Sprint("r", i)
		image := registrytest.Image(uint64(10+i), base, registrytest.Layer(uint64(20+i), 100))
		registrytest.Push(t, source.Host(), name, "1", image)
		group.Go(func() error {
			_, err := copier.Copy(ctx, Job{From: repo(source.Host(), name), To: repo(dest.Host(), name), Root: image.Digest(), Tags: []string{"1"}, Fresh: true})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	committed := map[string]bool{}
	for _, r := range dest.Recorder.All() {
		if r.Method == http.MethodPut && r.Kind == "manifest" {
			committed[r.Repository] = true
		}
		if _, from, ok := strings.Cut(r.Query, "from="); ok {
			from, _, _ = strings.Cut(from, "&")
			if !committed[from] {
				t.Errorf("%s: a mount from %s before its manifest was there", r, from)
			}
		}
	}
	registrytest.VerifyTree(t, dest.Host())
}

// Tokens on both sides, mounts included, and a large enough run that workers
// meet at the refresh.
func TestCopyWithTokens(t *testing.T) {
	source := registrytest.Start(t, registrytest.WithTokens(time.Minute))
	dest := registrytest.Start(t, registrytest.WithTokens(time.Minute))
	base := registrytest.Layer(1, 5000)
	settings := []Settings{{Host: source.Host(), PlainHTTP: true, Credential: canary}, {Host: dest.Host(), PlainHTTP: true, Credential: canary}}
	copier := NewCopier(clientOf(t, Options{Clock: SystemClock{}, Registries: settings}))
	open := registrytest.Start(t)
	fill := NewCopier(clientOf(t, Options{Clock: SystemClock{}, Registries: append(settings, Settings{Host: open.Host(), PlainHTTP: true})}))
	for i := range 4 {
		name := fmt.Sprint("r", i)
		image := registrytest.Image(uint64(10+i), base)
		registrytest.Push(t, open.Host(), name, "1", image)
		mustCopy(t, fill, Job{From: repo(open.Host(), name), To: repo(source.Host(), name), Root: image.Digest(), Tags: []string{"1"}, Fresh: true})
	}
	source.Recorder.Reset()
	dest.Recorder.Reset()
	for i := range 4 {
		name := fmt.Sprint("r", i)
		image := registrytest.Image(uint64(10+i), base)
		mustCopy(t, copier, Job{From: repo(source.Host(), name), To: repo(dest.Host(), name), Root: image.Digest(), Tags: []string{"1"}, Fresh: true})
	}
	// The source: one 401, a token and a manifest for each repository, four
	// configs, and the shared layer once.
	if diff := cmp.Diff(map[string]int{"GET manifest": 5, "GET token": 4, "GET blob": 5}, source.Recorder.Counts()); diff != "" {
		t.Errorf("requests to the source (-want +got):\n%s", diff)
	}
	mounted := dest.Recorder.Where(func(r registrytest.Request) bool {
		return r.Method == http.MethodPost && r.Status == http.StatusCreated
	})
	if len(mounted) != 3 {
		t.Errorf("%d mounts, want 3", len(mounted))
	}
	if n := dest.Recorder.Count("GET token"); n != 7 {
		t.Errorf("%d tokens for the destination, want 4 for the repositories and 3 for the mounts", n)
	}
}

// A registry that stops in the middle of an answer is given up on by progress.
func TestStalledBody(t *testing.T) {
	stop := make(chan struct{})
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "{")
		w.(http.Flusher).Flush()
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(stop) })
	c := plainClient(t, p.host())
	c.idle = 20 * time.Millisecond
	_, err := c.Manifest(t.Context(), repo(p.host(), "a"), "1")
	if providers.ClassOf(err) != providers.Transient || !strings.Contains(err.Error(), "no progress") {
		t.Errorf("error %v, want a transient one about progress", err)
	}
}

func TestCanceledCopy(t *testing.T) {
	source, dest := registrytest.Start(t), registrytest.Start(t)
	image := registrytest.Image(1, registrytest.Layer(2, 10_000))
	registrytest.Push(t, source.Host(), "a", "1", image)
	gate := registrytest.NewGate(t)
	dest.Faults.Add(registrytest.Fault{Method: "PUT", Kind: "upload", Gate: gate})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	copier := NewCopier(plainClient(t, source.Host(), dest.Host()))
	job := Job{From: repo(source.Host(), "a"), To: repo(dest.Host(), "b"), Root: image.Digest(), Tags: []string{"1"}, Fresh: true}
	go func() {
		_, err := copier.Copy(ctx, job)
		failed <- err
	}()
	<-gate.Reached()
	cancel()
	if err := <-failed; providers.ClassOf(err) != providers.Canceled || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v of class %s, want canceled", err, providers.ClassOf(err))
	}
	gate.Open()
	mustCopy(t, copier, job) // nothing of the canceled job is in the way
	registrytest.VerifyTree(t, dest.Host())
}

// endless is a body of n bytes that needs no memory.
type endless struct{ n int64 }

func (e *endless) Read(p []byte) (int, error) {
	if e.n == 0 {
		return 0, io.EOF
	}
	n := int(min(e.n, int64(len(p))))
	clear(p[:n])
	e.n -= int64(n)
	return n, nil
}

// A layer of 256 MiB goes through without being held in memory.
func TestMemoryDoesNotGrowWithTheLayer(t *testing.T) {
	const size = 256 << 20
	h := providers.Digest(digestA).Hash()
	if _, err := io.Copy(h, &endless{size}); err != nil {
		t.Fatal(err)
	}
	digest := providers.FromSum(h.Sum(nil))
	source := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		io.Copy(w, &endless{size})
	})
	dest := http.NewServeMux()
	var got int64
	dest.HandleFunc("POST /v2/b/blobs/uploads/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/v2/b/blobs/uploads/1?state=s")
		w.WriteHeader(http.StatusAccepted)
	})
	dest.HandleFunc("PUT /v2/b/blobs/uploads/1", func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
	})
	server := httptestServer(t, dest)
	copier := NewCopier(plainClient(t, source.host(), server))
	w, err := copier.begin(Job{From: repo(source.host(), "a"), To: repo(server, "b"), Root: digest, Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.end()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := w.deliver(t.Context(), providers.Descriptor{Digest: digest, Size: size}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 || got != size {
		t.Errorf("%d bytes allocated for %d bytes moved, want at most 16 MiB", grown, got)
	}
}
