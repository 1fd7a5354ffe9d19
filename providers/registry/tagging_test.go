package registry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

// tagger writes tags of one image, which is in its registry already.
type tagger struct {
	*registrytest.Server
	client *Client
	at     providers.Repository
	first  registrytest.Fault // what the request of the first tag meets when it goes on
}

func newTagger(t *testing.T, rules registrytest.TagRules, kinds ...Kind) *tagger {
	t.Helper()
	p := registrytest.Generic
	p.Manifest.Tags = rules
	p.Manifest.Immutable = registrytest.Refusal{Status: http.StatusBadRequest, Code: "TAG_INVALID", Text: "{tag} is immutable"}
	s := registrytest.Start(t, registrytest.As(p))
	c := clientOf(t, Options{Kinds: kinds, Registries: []Settings{{Host: s.Host(), PlainHTTP: true}}})
	return &tagger{Server: s, client: c, at: repo(s.Host(), "a")}
}

func (g *tagger) remote(t *testing.T) *remote {
	t.Helper()
	r, err := g.client.remoteFor(g.at)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// image is one of some images in the repository, read by the client.
func (g *tagger) image(t *testing.T, seed uint64) *Manifest {
	t.Helper()
	d := registrytest.Push(t, g.Host(), g.at.Path, "", registrytest.Image(seed))
	m, err := g.client.Manifest(t.Context(), g.at, string(d))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// writing is the tags of one image on their way: the request for the first is
// held until go on, and the others wait behind it.
type writing struct {
	*tagger
	m      *Manifest
	tags   []string
	gate   *registrytest.Gate
	cancel []context.CancelFunc
	done   []chan error
}

func (g *tagger) begin(t *testing.T, m *Manifest, tags ...string) *writing {
	t.Helper()
	w := &writing{tagger: g, m: m, tags: tags, gate: registrytest.NewGate(t)}
	held := g.first
	held.Method, held.Path, held.Gate = http.MethodPut, "/manifests/"+tags[0]+"$", w.gate
	g.Faults.Add(held)
	for i, tag := range tags {
		ctx, cancel := context.WithCancel(t.Context())
		w.cancel, w.done = append(w.cancel, cancel), append(w.done, make(chan error, 1))
		// As the executor points a tag at content that is there.
		job := Job{From: g.at, To: g.at, Root: m.Digest, Tags: []string{tag}}
		go func() {
			_, err := NewCopier(g.client).Copy(ctx, job)
			w.done[i] <- err
		}()
		if i == 0 {
			<-w.gate.Reached()
		}
		w.waiting(t, i)
	}
	g.Recorder.Reset() // the first is under way, and counted by tally
	return w
}

// waiting returns when n tags wait behind the one under way.
func (w *writing) waiting(t *testing.T, n int) {
	t.Helper()
	r := w.remote(t)
	for t.Context().Err() == nil {
		r.tagging.mu.Lock()
		q := r.tagging.queues[tagKey{w.at.Path, w.m.Digest, w.m.MediaType}]
		now := -1
		if q != nil {
			now = len(q.waiting)
		}
		r.tagging.mu.Unlock()
		if now == n {
			return
		}
		runtime.Gosched()
	}
}

// finish lets the first request go on and gives what became of each tag.
func (w *writing) finish() (errs []error) {
	w.gate.Open()
	for _, done := range w.done {
		errs = append(errs, <-done)
	}
	return errs
}

// tally is how many requests there were, the first one among them; nothing but
// writes of the manifest is expected.
func (w *writing) tally() int { return 1 + w.Recorder.Total() }

// together are the tags of the requests for several, sorted.
func (w *writing) together(t *testing.T) (all [][]string) {
	t.Helper()
	for _, r := range w.Recorder.Where(func(r registrytest.Request) bool { return r.Query != "" && r.Kind == "manifest" }) {
		query, err := url.ParseQuery(r.Query)
		if err != nil || r.Reference != string(w.m.Digest) {
			t.Errorf("%s: %v", r, err)
		}
		all = append(all, slices.Sorted(slices.Values(query["tag"])))
	}
	return all
}

// leads checks where tags lead; an empty digest is for none.
func (g *tagger) leads(t *testing.T, want providers.Digest, tags ...string) {
	t.Helper()
	for _, tag := range tags {
		d, err := g.client.Head(t.Context(), g.at, tag)
		if d.Digest != want || want == "" && providers.ClassOf(err) != providers.NotFound {
			t.Errorf("%s leads to %q (%v), want %q", tag, d.Digest, err, want)
		}
	}
}

func names(n int) (tags []string) {
	for i := range n {
		tags = append(tags, fmt.Sprintf("t%d", i))
	}
	return tags
}

func noErrors(t *testing.T, errs []error) {
	t.Helper()
	for i, err := range errs {
		if err != nil {
			t.Errorf("tag %d: %v", i, err)
		}
	}
}

// Requests for the tags of one digest, of a first image and of a second. What a
// registry that does not take several costs is one request in a run, and only
// where two tags wait.
func TestTagsTogether(t *testing.T) {
	refused := func(status int) registrytest.TagRules {
		return registrytest.TagRules{Refusal: registrytest.Refusal{Status: status, Code: "UNSUPPORTED"}}
	}
	for _, tt := range []struct {
		name          string
		rules         registrytest.TagRules
		profile       Profile
		tags          int
		first, second int
		taken         tagsTaken
	}{
		{"a header for each", registrytest.TagRules{Together: true}, Profile{}, 5, 2, 2, tagsTogether},
		{"one header", registrytest.TagRules{Together: true, Listed: true}, Profile{}, 5, 2, 2, tagsTogether},
		{"more than go at once", registrytest.TagRules{Together: true, Most: 10}, Profile{}, 25, 4, 4, tagsTogether},
		{"two tags", registrytest.TagRules{Together: true}, Profile{}, 2, 2, 2, tagsUnknown},
		{"the query is not looked at", registrytest.TagRules{}, Profile{}, 5, 6, 5, tagsSingly},
		{"two tags, the query is not looked at", registrytest.TagRules{}, Profile{}, 2, 2, 2, tagsUnknown},
		{"refused with 400", refused(400), Profile{}, 5, 6, 5, tagsSingly},
		{"refused with 403", refused(403), Profile{}, 5, 6, 5, tagsSingly},
		{"refused with 404", refused(404), Profile{}, 5, 6, 5, tagsSingly},
		{"refused with 405", refused(405), Profile{}, 5, 6, 5, tagsSingly},
		{"refused with 414", refused(414), Profile{}, 5, 6, 5, tagsSingly},
		{"fails with 500", refused(500), Profile{}, 5, 6, 5, tagsSingly},
		{"a kind that does not take them", registrytest.TagRules{Together: true}, Profile{Tags: TagsSingly}, 5, 5, 5, tagsUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newTagger(t, tt.rules, Kind{Name: "generic", Profile: tt.profile})
			tags, one, two := names(tt.tags), g.image(t, 1), g.image(t, 2)
			write := func(m *Manifest, want int) {
				t.Helper()
				g.Recorder.Reset()
				if tt.profile.Tags == TagsSingly || g.remote(t).tagging.taken == tagsSingly {
					noErrors(t, g.atOnce(t, m, tags))
					if n := g.Recorder.Count("PUT manifest"); n != want {
						t.Errorf("%d requests, want %d", n, want)
					}
				} else {
					w := g.begin(t, m, tags...)
					noErrors(t, w.finish())
					if n := w.tally(); n != want {
						t.Errorf("%d requests, want %d", n, want)
					}
				}
				g.leads(t, m.Digest, tags...)
			}
			write(one, tt.first)
			write(two, tt.second)
			if got := g.remote(t).tagging.taken; got != tt.taken {
				t.Errorf("learned %d, want %d", got, tt.taken)
			}
			if n := len(g.remote(t).tagging.queues); n != 0 {
				t.Errorf("%d queues are left", n)
			}
		})
	}
}

func (g *tagger) atOnce(t *testing.T, m *Manifest, tags []string) []error {
	errs := make([]error, len(tags))
	var all sync.WaitGroup
	for i, tag := range tags {
		all.Go(func() { errs[i] = g.client.PutManifest(t.Context(), g.at, tag, m) })
	}
	all.Wait()
	return errs
}

// Whatever goes wrong with a request for several tags, each is written by its own
// caller then.
func TestTagsTogetherFail(t *testing.T) {
	other := string(providers.SHA256([]byte("other")))
	for _, tt := range []struct {
		name  string
		fault registrytest.Fault
		taken tagsTaken
	}{
		{"no answer", registrytest.Fault{Drop: true}, tagsUnknown},
		{"the answer is lost", registrytest.Fault{Drop: true, Late: true}, tagsUnknown},
		{"a pause is asked for", registrytest.Fault{Status: 429, Header: http.Header{"Retry-After": {"1"}}}, tagsUnknown},
		{"not for now", registrytest.Fault{Status: 503}, tagsUnknown},
		{"content is missing", registrytest.Fault{Status: 400, Body: `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}`}, tagsUnknown},
		{"another digest", registrytest.Fault{Header: http.Header{"Docker-Content-Digest": {other}}}, tagsUnknown},
		{"no tag is named", registrytest.Fault{Header: http.Header{"Oci-Tag": nil}}, tagsSingly},
		{"other tags are named", registrytest.Fault{Header: http.Header{"Oci-Tag": {"t0,t9, t11"}}}, tagsSingly},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newTagger(t, registrytest.TagRules{Together: true})
			tags, m := names(5), g.image(t, 1)
			tt.fault.Path = `\?tag=`
			g.Faults.Add(tt.fault)
			w := g.begin(t, m, tags...)
			noErrors(t, w.finish())
			if n := w.tally(); n != 6 {
				t.Errorf("%d requests, want 1, 1 for several, and 4", n)
			}
			g.leads(t, m.Digest, tags...)
			if got := g.remote(t).tagging.taken; got != tt.taken {
				t.Errorf("learned %d, want %d", got, tt.taken)
			}
		})
	}
}

// What the answer does not name is written by its caller, and nothing else.
func TestTagsTogetherInPart(t *testing.T) {
	g := newTagger(t, registrytest.TagRules{Together: true})
	g.Faults.Add(registrytest.Fault{Path: `\?tag=`, Header: http.Header{"Oci-Tag": {"t1 ,t3", "t9"}}})
	m := g.image(t, 1)
	w := g.begin(t, m, names(5)...)
	noErrors(t, w.finish())
	var singly []string
	for _, r := range g.Recorder.Where(func(r registrytest.Request) bool { return r.Method == http.MethodPut && r.Query == "" }) {
		singly = append(singly, r.Reference)
	}
	slices.Sort(singly)
	if diff := cmp.Diff([]string{"t2", "t4"}, singly); diff != "" {
		t.Errorf("written alone (-want +got):\n%s", diff)
	}
	g.leads(t, m.Digest, w.tags...)
}

// The first tag's failure is its own: nobody is sent along with what may fail for
// the same reason.
func TestFirstTagFails(t *testing.T) {
	for _, canceled := range []bool{false, true} {
		t.Run(fmt.Sprint("canceled ", canceled), func(t *testing.T) {
			g := newTagger(t, registrytest.TagRules{Together: true})
			m := g.image(t, 1)
			if !canceled {
				g.first.Status = http.StatusForbidden
			}
			w := g.begin(t, m, names(4)...)
			want := providers.Denied
			if canceled {
				w.cancel[0]()
				want = providers.Canceled
				w.done[0] <- <-w.done[0]
			}
			errs := w.finish()
			if class := providers.ClassOf(errs[0]); class != want {
				t.Errorf("the first: %v of class %s, want %s", errs[0], class, want)
			}
			noErrors(t, errs[1:])
			if n := w.tally(); n != 4 || w.together(t) != nil {
				t.Errorf("%d requests, %v together; want 4 and none", n, w.together(t))
			}
			g.leads(t, m.Digest, w.tags[1:]...)
		})
	}
}

// A tag that is kept fails alone, with the registry's own words: where the others
// are set without it, and where nothing is.
func TestKeptTagAmongOthers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		skips  bool
		before bool // several were taken before
		want   int  // requests; one is a look at the kept tag, after its refusal
		taken  tagsTaken
	}{
		{"left out", true, false, 4, tagsTogether},
		{"all refused", false, false, 7, tagsSingly},
		{"all refused, and it took several before", false, true, 7, tagsTogether},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newTagger(t, registrytest.TagRules{Together: true, Skips: tt.skips})
			one, two := g.image(t, 1), g.image(t, 2)
			if err := g.client.PutManifest(t.Context(), g.at, "t3", one); err != nil {
				t.Fatal(err)
			}
			if tt.before {
				noErrors(t, g.begin(t, one, "x", "y", "z").finish())
			}
			g.Protect("a", registrytest.Protection{On: true, Only: []string{"t3"}})
			w := g.begin(t, two, names(5)...)
			errs := w.finish()
			if err := errs[3]; statusOf(err) != http.StatusBadRequest || !strings.Contains(err.Error(), "a:t3: ") || !strings.Contains(err.Error(), "t3 is immutable") {
				t.Errorf("the kept tag: %v", err)
			}
			noErrors(t, slices.Delete(errs, 3, 4))
			if n := w.tally(); n != tt.want {
				t.Errorf("%d requests, want %d", n, tt.want)
			}
			g.leads(t, one.Digest, "t3")
			g.leads(t, two.Digest, "t0", "t1", "t2", "t4")
			if got := g.remote(t).tagging.taken; got != tt.taken {
				t.Errorf("learned %d, want %d", got, tt.taken)
			}
		})
	}
}

// Who gives up while he waits is left out of the request.
func TestTagGivenUpWhileWaiting(t *testing.T) {
	for _, tt := range []struct {
		name     string
		gone     []int
		want     int
		together [][]string
	}{
		{"one of four", []int{2}, 2, [][]string{{"t1", "t3"}}},
		{"all but one", []int{1, 2}, 2, nil},
		{"all", []int{1, 2, 3}, 1, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newTagger(t, registrytest.TagRules{Together: true})
			m := g.image(t, 1)
			w := g.begin(t, m, names(4)...)
			for _, i := range tt.gone {
				w.cancel[i]()
				if err := <-w.done[i]; providers.ClassOf(err) != providers.Canceled || !strings.Contains(err.Error(), "a:"+w.tags[i]) {
					t.Errorf("given up: %v", err)
				}
				w.done[i] <- nil
			}
			noErrors(t, w.finish())
			if n := w.tally(); n != tt.want {
				t.Errorf("%d requests, want %d", n, tt.want)
			}
			if diff := cmp.Diff(tt.together, w.together(t)); diff != "" {
				t.Errorf("together (-want +got):\n%s", diff)
			}
			for i, tag := range w.tags {
				if slices.Contains(tt.gone, i) {
					g.leads(t, "", tag)
				} else {
					g.leads(t, m.Digest, tag)
				}
			}
		})
	}
}

// Who gives up when the request is out learns nothing about it, at once, and the
// others go on; it ends when nobody is left who waits for it.
func TestTagGivenUpUnderWay(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprint("all ", all), func(t *testing.T) {
			g := newTagger(t, registrytest.TagRules{Together: true})
			m := g.image(t, 1)
			out := registrytest.NewGate(t)
			g.Faults.Add(registrytest.Fault{Path: `\?tag=`, Gate: out})
			w := g.begin(t, m, names(4)...)
			w.gate.Open()
			<-out.Reached()
			gone := []int{2}
			if all {
				gone = []int{1, 2, 3}
			}
			for _, i := range gone {
				w.cancel[i]()
				if err := <-w.done[i]; providers.ClassOf(err) != providers.Canceled {
					t.Errorf("given up: %v", err)
				}
				w.done[i] <- nil
			}
			if all {
				w.waiting(t, -1) // the request has ended although the gate is closed
			}
			out.Open()
			noErrors(t, w.finish())
			if n := w.tally(); n != 2 {
				t.Errorf("%d requests, want 2", n)
			}
			g.Faults.Clear()
			noErrors(t, g.atOnce(t, m, w.tags[:1]))
			if !all {
				g.leads(t, m.Digest, w.tags...)
			}
		})
	}
}

// Who goes along is settled when the request is sent, each time that it is.
func TestTagsDepart(t *testing.T) {
	var g tagging
	q := &tagQueue{}
	cancel := map[string]context.CancelFunc{}
	add := func(tags ...string) {
		for _, tag := range tags {
			ctx, c := context.WithCancel(t.Context())
			cancel[tag] = c
			q.waiting = append(q.waiting, &tagCaller{ctx: ctx, tag: tag})
		}
	}
	depart := func(want ...string) {
		t.Helper()
		got, err := g.depart(q)
		if diff := cmp.Diff(want, got); diff != "" || (err != nil) != (want == nil) {
			t.Errorf("depart: %v (-want +got):\n%s", err, diff)
		}
	}
	add("a", "b", "b", "c")
	cancel["c"]()
	depart("a", "b")
	add("d", "e", "f", "g", "h", "i", "j", "k", "l")
	cancel["a"]() // as when a credential is got anew for the request
	depart("b", "d", "e", "f", "g", "h", "i", "j", "k")
	if len(q.waiting) != 1 || q.waiting[0].tag != "l" {
		t.Errorf("%d wait, want l alone", len(q.waiting))
	}
	for _, c := range cancel {
		c()
	}
	depart()
}

// Content that was lost on its way is sent for each tag's sake, as without
// company.
func TestTagsOfLostContent(t *testing.T) {
	p := registrytest.Generic
	p.Manifest.Tags.Together = true
	l := newPair(t, registrytest.As(p))
	image := registrytest.Image(1, registrytest.Layer(2, 3000))
	job := l.job(t, "a", "b", image)
	l.dest.Faults.Add(registrytest.Fault{Method: http.MethodPut, Path: image.Blobs[1].Digest().Hex(), Status: http.StatusCreated})
	tags := names(6)
	errs := make([]error, len(tags))
	var all sync.WaitGroup
	for i, tag := range tags {
		one := job
		one.Tags = []string{tag}
		all.Go(func() { _, errs[i] = l.copier.Copy(t.Context(), one) })
	}
	all.Wait()
	noErrors(t, errs)
	if diff := cmp.Diff(tags, tagsAt(t, l, "b")); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	registrytest.VerifyTree(t, l.dest.Host())
}

// Many tags of many manifests, some of whose callers give up: whoever was told
// that his tag is written finds it written.
func TestManyTagsTogether(t *testing.T) {
	for _, rules := range []registrytest.TagRules{{Together: true}, {Together: true, Listed: true, Most: 3}, {}} {
		t.Run(fmt.Sprintf("%+v", rules), func(t *testing.T) {
			g := newTagger(t, rules)
			random := rand.New(rand.NewPCG(1, 2))
			var all sync.WaitGroup
			for seed := range uint64(6) {
				m := g.image(t, seed)
				for _, tag := range names(20) {
					tag = fmt.Sprintf("%s-%d", tag, seed)
					ctx, cancel := context.WithCancel(t.Context())
					if random.IntN(4) == 0 {
						all.Go(cancel)
					}
					all.Go(func() {
						defer cancel()
						if err := g.client.PutManifest(ctx, g.at, tag, m); err == nil {
							g.leads(t, m.Digest, tag)
						} else if providers.ClassOf(err) != providers.Canceled {
							t.Errorf("%s: %v", tag, err)
						}
					})
				}
			}
			all.Wait()
			r := g.remote(t)
			r.tagging.mu.Lock()
			defer r.tagging.mu.Unlock()
			for key, q := range r.tagging.queues {
				if q.cancel == nil {
					t.Errorf("%v: %d wait for nobody", key, len(q.waiting))
				}
			}
		})
	}
}
