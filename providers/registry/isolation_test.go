package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// Twenty destinations of one source, six of them in trouble. The healthy ones
// finish while the stalled one still stalls, with exactly the requests of an
// undisturbed run; the others say what is wrong with them, and a later run
// completes them.
func TestTwentyRegistriesSixInTrouble(t *testing.T) {
	const hosts, troubled = 20, 6
	const down, stalls, throttles, flaky, resets, expires = 0, 1, 2, 3, 4, 5
	source := registrytest.Start(t)
	var layers []registrytest.Blob
	for i := range 10 {
		layers = append(layers, registrytest.Layer(uint64(i), 20_000))
	}
	image := registrytest.Image(99, layers...)
	registrytest.Push(t, source.Host(), "a", "1", image)

	run := func(disturb bool) (healthy []map[string]int, took time.Duration) {
		var dests []*registrytest.Server
		settings := []Settings{{Host: source.Host(), PlainHTTP: true, Concurrency: 8}}
		for i := range hosts {
			var o []registrytest.Option
			s := Settings{PlainHTTP: true}
			if disturb && i == expires {
				o, s.Credential = append(o, registrytest.WithTokens(2*time.Second)), canary
			}
			dests = append(dests, registrytest.Start(t, o...))
			s.Host = dests[i].Host()
			settings = append(settings, s)
		}
		stalled := registrytest.NewGate(t)
		if disturb {
			dests[down].Stop()
			dests[stalls].Faults.Add(registrytest.Fault{Method: "PUT", Kind: "upload", Times: -1, Gate: stalled, Status: 500})
			dests[throttles].Faults.Add(registrytest.Fault{Times: 3, Status: 429, Header: http.Header{"Retry-After": {"2"}}})
			for n := 1; n < 400; n++ {
				if n%10 < 3 {
					dests[flaky].Faults.Add(registrytest.Fault{Nth: n, Status: 502})
				}
				if n%4 == 0 {
					dests[resets].Faults.Add(registrytest.Fault{Nth: n, Drop: true})
				}
			}
		}
		clock := newQuick()
		c := clientOf(t, Options{Clock: clock, Registries: settings})
		copier := NewCopier(c)
		failed := make([]error, hosts)
		var all, good sync.WaitGroup
		started := time.Now()
		one := func(i int) {
			_, failed[i] = copier.Copy(t.Context(), Job{From: repo(source.Host(), "a"), To: repo(dests[i].Host(), "m/a"), Root: image.Digest(), Tags: []string{"1"}, Fresh: true})
		}
		for i := range hosts {
			wait := &all
			if i >= troubled || !disturb {
				wait = &good
			}
			wait.Go(func() { one(i) })
		}
		good.Wait() // nobody opened the gate of the stalled one
		took = time.Since(started)
		for i := troubled; i < hosts; i++ {
			if failed[i] != nil {
				t.Errorf("healthy registry %d: %v", i, failed[i])
			}
			registrytest.VerifyTree(t, dests[i].Host())
			healthy = append(healthy, dests[i].Recorder.Counts())
		}
		stalled.Open()
		all.Wait()
		if !disturb {
			return healthy, took
		}
		if !errors.Is(failed[down], ErrDown) && providers.ClassOf(failed[down]) != providers.Transient {
			t.Errorf("the registry that is down: %v", failed[down])
		}
		if failed[stalls] == nil {
			t.Error("the registry that stalled and then failed was copied to")
		}
		for _, i := range []int{throttles, expires} {
			if failed[i] != nil {
				t.Errorf("registry %d gets through within the run: %v", i, failed[i])
			}
		}
		for i, s := range dests[:troubled] {
			if i != down && s.Recorder.Total() > 150 {
				t.Errorf("registry %d was sent %d requests, want at most 150", i, s.Recorder.Total())
			}
			s.Faults.Clear()
		}
		for _, i := range []int{stalls, flaky, resets} {
			if one(i); failed[i] != nil {
				t.Errorf("registry %d in a later run: %v", i, failed[i])
			}
			registrytest.VerifyTree(t, dests[i].Host())
		}
		return healthy, took
	}
	want, alone := run(false)
	got, among := run(true)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests to the healthy registries (-undisturbed +disturbed):\n%s", diff)
	}
	t.Logf("fourteen healthy registries: %v among six in trouble, twenty undisturbed: %v", among, alone)
}

func TestBreaker(t *testing.T) {
	clock := newQuick()
	h := &health{}
	refused := errors.New("refused")
	at := func(d time.Duration) time.Time { return clock.Now().Add(d) }
	for i := range 10 {
		h.failed(clock.Now(), at(time.Second), weightDial, fmt.Errorf("%w %d", refused, i))
	}
	if _, down := h.admit(at(0)); down != nil {
		t.Fatalf("ten tries side by side count as ten: %v", down)
	}
	h.failed(at(2*time.Second), at(3*time.Second), weightDial, refused)
	h.failed(at(4*time.Second), at(5*time.Second), weightDial, refused)
	spell := firstSpell
	for now := at(5 * time.Second); spell < longSpell; {
		if _, down := h.admit(now.Add(spell - 1)); down == nil || down.Error() != "refused 0" {
			t.Fatalf("before the pause of %v is over: %v, want the first failure", spell, down)
		}
		now = now.Add(spell)
		probe, down := h.admit(now)
		if !probe || down != nil {
			t.Fatalf("after %v: probe %t, %v", spell, probe, down)
		}
		if again, down := h.admit(now); again || down == nil {
			t.Fatal("two probes at once")
		}
		h.failed(now, now, weightDial, refused)
		spell = min(2*spell, longSpell)
	}
	if probe, _ := h.admit(at(24 * time.Hour)); !probe {
		t.Fatal("no probe after a day")
	}
	h.works()
	if probe, down := h.admit(at(24 * time.Hour)); probe || down != nil {
		t.Errorf("after an answer: probe %t, %v; want closed", probe, down)
	}
}

// A host that comes back is used again in the same run.
func TestHostComesBack(t *testing.T) {
	s := registrytest.Start(t)
	registrytest.Push(t, s.Host(), "a", "1", registrytest.Image(1))
	s.Faults.Add(registrytest.Fault{Times: 8, Drop: true})
	clock := newQuick()
	c := clientOf(t, Options{Clock: clock, Registries: []Settings{{Host: s.Host(), PlainHTTP: true}}})
	for range 8 {
		c.Tags(t.Context(), repo(s.Host(), "a"))
	}
	if _, err := c.Tags(t.Context(), repo(s.Host(), "a")); !errors.Is(err, ErrDown) {
		t.Fatalf("error %v, want the host to count as down", err)
	}
	s.Faults.Clear()
	clock.Wait(t.Context(), firstSpell)
	if _, err := c.Tags(t.Context(), repo(s.Host(), "a")); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}

func TestRetryBudget(t *testing.T) {
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) })
	c := clientOf(t, Options{Registries: []Settings{{Host: p.host(), PlainHTTP: true}}})
	for i := range 400 {
		c.Tags(t.Context(), repo(p.host(), fmt.Sprint("r", i)))
	}
	stats := c.Stats()[p.host()]
	if stats.Retries > retryFloor+stats.Requests["GET tags"]/retryShare || stats.Retries < retryFloor {
		t.Errorf("%d retries of %d requests, want at most a floor of %d and a tenth", stats.Retries, stats.Requests["GET tags"], retryFloor)
	}
}

// Docker Hub's headers: what is left narrows what runs at once, and a spent
// quota postpones without a retry, while HEADs go on.
func TestQuota(t *testing.T) {
	left := "3"
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.Header().Set("Docker-Content-Digest", digestA)
			w.Header().Set("Content-Length", "9")
			w.Header().Set("Content-Type", ociManifest)
			return
		}
		w.Header().Set("RateLimit-Limit", "100;w=21600")
		w.Header().Set("RateLimit-Remaining", left+";w=21600")
		if left == "0" {
			w.WriteHeader(429)
			return
		}
		serveManifest(w, someManifest)
	})
	c := plainClient(t, p.host())
	at := repo(p.host(), "a")
	if _, err := c.Manifest(t.Context(), at, "1"); err != nil {
		t.Fatal(err)
	}
	r, err := c.remoteFor(at)
	if err != nil {
		t.Fatal(err)
	}
	if n := r.gate.width(reads); n != 3 {
		t.Errorf("%d reads at once with 3 left", n)
	}
	left = "0"
	_, err = c.Manifest(t.Context(), at, "2")
	var e *providers.Error
	if !errors.As(err, &e) || e.Class != providers.Throttled || e.After != 6*time.Hour {
		t.Errorf("error %v, want throttled for six hours at most", err)
	}
	if n := len(p.requests()); n != 2 {
		t.Errorf("%d requests, want no retry", n)
	}
	if _, err := c.Head(t.Context(), at, "1"); err != nil {
		t.Errorf("a HEAD, which is not metered: %v", err)
	}
	if diff := cmp.Diff(&Quota{Limit: 100, Remaining: 0, Window: 6 * time.Hour}, c.Stats()[p.host()].Quota); diff != "" {
		t.Errorf("quota (-want +got):\n%s", diff)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"":                              0,
		"7":                             7 * time.Second,
		" 7 ":                           7 * time.Second,
		"-3":                            0,
		"99999999999":                   7 * 24 * time.Hour,
		"soon":                          0,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second,
		"Fri, 02 Jan 2026 03:04:00 GMT": 0, // in the past
		"Fri, 02 Jan 2099 03:04:00 GMT": 7 * 24 * time.Hour,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("Retry-After %q: %v, want %v", text, got, want)
		}
	}
}

// A quota that is spent says in several ways when it is renewed.
func TestSpentQuotas(t *testing.T) {
	now := newQuick().Now()
	in := func(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }
	for _, tt := range []struct {
		name   string
		status int
		header http.Header
		class  providers.Class
		after  time.Duration
	}{
		{"GitHub's 403", 403, http.Header{"X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {in(time.Hour)}}, providers.Throttled, time.Hour},
		{"GitHub's 429", 429, http.Header{"X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {in(2 * time.Hour)}}, providers.Throttled, 2 * time.Hour},
		{"a 403 with something left", 403, http.Header{"X-Ratelimit-Remaining": {"7"}, "X-Ratelimit-Reset": {in(time.Hour)}}, providers.Denied, 0},
		{"GitLab", 429, http.Header{"Ratelimit-Remaining": {"0"}, "Ratelimit-Reset": {in(10 * time.Minute)}}, providers.Throttled, 10 * time.Minute},
		{"seconds from now", 429, http.Header{"Ratelimit-Reset": {"120"}}, providers.Throttled, 2 * time.Minute},
		{"Docker's web interface", 429, http.Header{"X-Retry-After": {in(5 * time.Minute)}}, providers.Throttled, 5 * time.Minute},
		{"Retry-After goes first", 429, http.Header{"Retry-After": {"90"}, "X-Ratelimit-Reset": {in(time.Hour)}}, providers.Throttled, 90 * time.Second},
		{"absurdly far", 429, http.Header{"X-Ratelimit-Reset": {"9223372036854775807"}}, providers.Throttled, 7 * 24 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
				for name, values := range tt.header {
					w.Header()[name] = values
				}
				w.WriteHeader(tt.status)
			})
			_, err := plainClient(t, p.host()).Tags(t.Context(), repo(p.host(), "a"))
			var e *providers.Error
			if !errors.As(err, &e) || e.Class != tt.class || e.After != tt.after || len(p.requests()) != 1 {
				t.Errorf("%v (%s, after %v) with %d requests, want %s after %v, asked once", err, providers.ClassOf(err), e.After, len(p.requests()), tt.class, tt.after)
			}
		})
	}
}

// The pause that a registry's storage asks for is not the registry's.
func TestStoragesPauseIsItsOwn(t *testing.T) {
	storage := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "50")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/away/manifests/1" {
			http.Redirect(w, r, storage.URL+"/x", http.StatusTemporaryRedirect)
			return
		}
		serveManifest(w, someManifest)
	})
	c := plainClient(t, p.host())
	if _, err := c.Manifest(t.Context(), repo(p.host(), "away"), "1"); err == nil {
		t.Fatal("the storage answered")
	}
	r, err := c.remoteFor(repo(p.host(), "a"))
	if err != nil {
		t.Fatal(err)
	}
	if wait := r.health.pausing(c.clock.Now()); wait > 0 {
		t.Errorf("the registry is left alone for %v", wait)
	}
	if _, err := c.Manifest(t.Context(), repo(p.host(), "a"), "1"); err != nil {
		t.Error(err)
	}
}

func TestWindow(t *testing.T) {
	clock := newQuick()
	g := newGate(clock, 16)
	sent := clock.Now()
	clock.Wait(t.Context(), time.Second)
	for range 10 {
		g.congested(opens, sent)
	}
	if n := g.width(opens); n != 8 {
		t.Errorf("width %d after ten refusals of one epoch, want 8", n)
	}
	clock.Wait(t.Context(), time.Second)
	g.congested(opens, clock.Now())
	if n := g.width(opens); n != 4 {
		t.Errorf("width %d after the next epoch, want 4", n)
	}
	for range 5 {
		g.eased(opens)
	}
	if n := g.width(opens); n != 5 {
		t.Errorf("width %d after a full window of successes, want 5", n)
	}
	for range 1000 {
		g.eased(opens)
	}
	if n := g.width(opens); n != 16 {
		t.Errorf("width %d after many successes, want the ceiling", n)
	}
	for range 20 {
		clock.Wait(t.Context(), time.Second)
		g.congested(writes, clock.Now())
	}
	if n := g.width(writes); n != 1 {
		t.Errorf("width %d, want never less than one", n)
	}
	if n := g.width(pulls); n != 16 {
		t.Errorf("width %d of an action that was never throttled, want 16", n)
	}
}

// A narrow window and a full lane hold up nobody else; a large pass is not
// starved by small ones.
func TestGateOrder(t *testing.T) {
	g := newGate(newQuick(), 4)
	now := func(p pass) func() {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // whoever can not enter at once fails
		g.mu.Lock()
		fits := g.used+p.slots <= g.slots && len(g.queue) == 0 && g.fits(p)
		g.mu.Unlock()
		leave, err := g.enter(ctx, p)
		if !fits {
			return nil
		}
		if err != nil { // select may see the end of ctx first
			leave, err = g.enter(t.Context(), p)
		}
		if err != nil {
			t.Fatal(err)
		}
		return leave
	}
	for range 8 {
		g.congested(opens, time.Now())
	}
	if now(pass{actions: []action{opens}, slots: 1}) == nil {
		t.Fatal("an empty gate is shut")
	}
	one := now(pass{actions: []action{pulls}, slots: 1, lane: "x"})
	if one == nil {
		t.Fatal("no room for a second")
	}
	one()
	for _, name := range []string{"y", "z", "w"} {
		g.expect(name)
	}
	if now(pass{actions: []action{pulls}, slots: 1, lane: "x"}) == nil {
		t.Fatal("lane x has no place")
	}
	if now(pass{actions: []action{pulls}, slots: 1, lane: "x"}) != nil {
		t.Error("lane x takes more than its quarter")
	}
	two := now(pass{actions: []action{pulls}, slots: 1, lane: "y"})
	if two == nil {
		t.Fatal("lane y waits for lane x")
	}
	entered := make(chan func())
	go func() {
		leave, err := g.enter(t.Context(), pass{actions: []action{pulls, pushes}, slots: 2})
		if err != nil {
			t.Error(err)
		}
		entered <- leave
	}()
	for waiting := false; !waiting; {
		g.mu.Lock()
		waiting = len(g.queue) == 1
		g.mu.Unlock()
	}
	if now(pass{actions: []action{looks}, slots: 1}) != nil {
		t.Error("a small pass overtakes a large one that waits for slots")
	}
	two()
	(<-entered)()
}

// TestLanes lets lanes that never let go take what they can get of sixteen slots.
func TestLanes(t *testing.T) {
	twenty := func(g *gate) (over []func()) {
		for i := range 20 {
			over = append(over, g.expect(fmt.Sprint(i)))
		}
		return over
	}
	g := newGate(newQuick(), 16)
	grab := func(lane string, want int) {
		t.Helper()
		got := 0
		for p := (pass{actions: []action{pulls}, slots: 1, lane: lane}); g.used < g.slots && g.fits(p); got++ {
			g.take(p, 1)
		}
		if got != want {
			t.Errorf("lane %s got %d slots, want %d; %d of %d are taken", lane, got, want, g.used, g.slots)
		}
	}
	for _, over := range twenty(g) {
		over()
	}
	g.expect("alone")
	grab("alone", 16)

	g = newGate(newQuick(), 16)
	g.expect("a")
	g.expect("b")
	grab("a", 8)
	grab("b", 8)

	g = newGate(newQuick(), 16)
	over := twenty(g)
	for _, stuck := range []string{"0", "1", "2"} {
		grab(stuck, 4)
	}
	for _, other := range []string{"3", "4", "5", "6"} { // three that stall do not have the rest too
		grab(other, 1)
	}
	grab("7", 0)
	g.take(pass{slots: 1, lane: "6", actions: []action{pulls}}, -1)
	for _, end := range over[6:19] {
		end()
	}
	grab("19", 1)
}

// A source that stalls holds nothing of the destination that another source
// needs, although it has more blobs under way than the destination takes at once.
func TestAStalledSourceHoldsUpNoOther(t *testing.T) {
	stalled, healthy, dest := registrytest.Start(t), registrytest.Start(t), registrytest.Start(t)
	copier := NewCopier(plainClient(t, stalled.Host(), healthy.Host(), dest.Host()))
	for _, source := range []*registrytest.Server{stalled, healthy} {
		defer copier.Expect(repo(source.Host(), "a"), repo(dest.Host(), "m"))()
	}
	ctx, cancel := context.WithCancel(t.Context())
	var stuck sync.WaitGroup
	defer stuck.Wait()
	defer cancel()
	for i := range 4 {
		var layers []registrytest.Blob
		for j := range 16 {
			layers = append(layers, registrytest.Layer(uint64(100*i+j), 500))
		}
		name := fmt.Sprint("a", i)
		image := registrytest.Image(uint64(i), layers...)
		registrytest.Push(t, stalled.Host(), name, "1", image)
		stalled.Faults.Add(registrytest.Fault{Path: "/" + name + "/blobs/", Times: -1, Gate: registrytest.NewGate(t)})
		stuck.Go(func() {
			copier.Copy(ctx, Job{From: repo(stalled.Host(), name), To: repo(dest.Host(), "m/"+name), Root: image.Digest(), Fresh: true}) // it is cut off
		})
	}
	r, err := copier.client.remoteFor(repo(stalled.Host(), "a0"))
	if err != nil {
		t.Fatal(err)
	}
	for full := false; !full; { // everything that the stalled source may have at once, it has
		r.gate.mu.Lock()
		full = r.gate.windows[pulls].used == r.slots
		r.gate.mu.Unlock()
		runtime.Gosched()
	}
	image := registrytest.Image(9, registrytest.Layer(1000, 500), registrytest.Layer(1001, 500))
	registrytest.Push(t, healthy.Host(), "b", "1", image)
	_, err = copier.Copy(t.Context(), Job{From: repo(healthy.Host(), "b"), To: repo(dest.Host(), "m/b"), Root: image.Digest(), Tags: []string{"1"}, Fresh: true})
	if err != nil {
		t.Error(err)
	}
}

// Blobs that follow another job hold up nothing: the one that can move does,
// however many wait before it.
func TestFollowersDoNotHoldUpOthers(t *testing.T) {
	source, dest := registrytest.Start(t), registrytest.Start(t)
	var shared []registrytest.Blob
	for i := range blobsAtOnce {
		shared = append(shared, registrytest.Layer(uint64(i), 500))
	}
	own := registrytest.Layer(1000, 700)
	first, second := registrytest.Image(1, shared...), registrytest.Image(1, append(shared[:len(shared):len(shared)], own)...)
	registrytest.Push(t, source.Host(), "a", "1", first)
	registrytest.Push(t, source.Host(), "b", "1", second)
	gate, moved := registrytest.NewGate(t), registrytest.NewGate(t)
	dest.Faults.Add(registrytest.Fault{Method: "PUT", Path: "/m/a/blobs/uploads/", Times: -1, Gate: gate},
		registrytest.Fault{Method: "PUT", Path: "/m/b/blobs/uploads/.*" + own.Digest().Hex(), Gate: moved})
	moved.Open()
	copier := NewCopier(clientOf(t, Options{Registries: []Settings{
		{Host: source.Host(), PlainHTTP: true, Concurrency: 128}, {Host: dest.Host(), PlainHTTP: true, Concurrency: 128}}}))
	var jobs sync.WaitGroup
	start := func(name string, a *registrytest.Artifact) {
		jobs.Go(func() {
			_, err := copier.Copy(t.Context(), Job{From: repo(source.Host(), name), To: repo(dest.Host(), "m/"+name), Root: a.Digest(), Tags: []string{"1"}, Fresh: true})
			if err != nil {
				t.Error(err)
			}
		})
	}
	start("a", first)
	<-gate.Reached()
	start("b", second)
	<-moved.Reached() // while all of the first job stands at its gate
	gate.Open()
	jobs.Wait()
	registrytest.VerifyTree(t, dest.Host())
}

// A token server on another host refuses a password once and for all.
func TestTokenServerElsewhereRefuses(t *testing.T) {
	tokens := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"details":"incorrect username or password"}`)
	})
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+tokens.URL+`/token",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	c := clientOf(t, Options{Registries: []Settings{{Host: p.host(), PlainHTTP: true, Credential: canary, TokenHosts: []string{tokens.host()}}}})
	_, err := c.Manifest(t.Context(), repo(p.host(), "a"), "1")
	if providers.ClassOf(err) != providers.Denied || !strings.Contains(err.Error(), "incorrect username or password") || len(tokens.requests()) != 1 {
		t.Errorf("%v of class %s after %d requests for a token, want denied after one", err, providers.ClassOf(err), len(tokens.requests()))
	}
}
