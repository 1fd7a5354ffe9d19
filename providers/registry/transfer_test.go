package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

// small makes everything about large blobs happen with small ones.
var small = sizes{large: 256 << 10, chunk: 64 << 10, longest: 64 << 10, keep: 1 << 30, mark: 16 << 10, start: 8 << 10, least: 8 << 10, range416: 32 << 10}

const blobSize = 640_000

// memoryLedger is a Ledger in memory.
type memoryLedger struct {
	mu      sync.Mutex
	entries map[string]Unfinished
	saves   int
}

func newLedger() *memoryLedger { return &memoryLedger{entries: map[string]Unfinished{}} }

func (l *memoryLedger) Save(u Unfinished) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.saves++
	l.entries[u.Host+" "+u.Repository+" "+string(u.Digest)] = u
	return nil
}

func (l *memoryLedger) Load(host, repository string, d providers.Digest) (Unfinished, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u, ok := l.entries[host+" "+repository+" "+string(d)]
	return u, ok
}

func (l *memoryLedger) Remove(host, repository string, d providers.Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.entries, host+" "+repository+" "+string(d))
}

// lane is a source with one image of a large layer, and an empty destination.
type laneTest struct {
	source, dest *registrytest.Server
	image        *registrytest.Artifact
	layer        registrytest.Blob
	job          Job
	kind         Kind // of the destination
	learned      Learned
	ledger       Ledger
	clock        *quick
	login        bool
	at           string // host of the destination, when dest is a stand-in
}

func newLane(t *testing.T, o ...registrytest.Option) *laneTest {
	t.Helper()
	l := &laneTest{source: registrytest.Start(t), dest: registrytest.Start(t, o...), layer: registrytest.Layer(7, blobSize), clock: newQuick()}
	l.image = registrytest.Image(1, l.layer)
	registrytest.Push(t, l.source.Host(), "a", "1", l.image)
	l.source.Recorder.Reset()
	l.job = Job{From: repo(l.source.Host(), "a"), To: repo(l.dest.Host(), "b"), Root: l.image.Digest(), Tags: []string{"1"}, Fresh: true}
	return l
}

func (l *laneTest) client(t *testing.T) *Client {
	t.Helper()
	l.kind.Name = "test"
	to := Settings{Host: l.at, PlainHTTP: true, Kind: "test"}
	if l.at == "" {
		to.Host = l.dest.Host()
	}
	if l.login {
		to.Credential = canary
	}
	c := clientOf(t, Options{Clock: l.clock, Kinds: []Kind{l.kind}, Learned: l.learned, Ledger: l.ledger, Registries: []Settings{
		{Host: l.source.Host(), PlainHTTP: true}, to}})
	c.sizes = small
	return c
}

func (l *laneTest) copy(t *testing.T) Result {
	t.Helper()
	result := mustCopy(t, NewCopier(l.client(t)), l.job)
	registrytest.VerifyTree(t, l.dest.Host())
	return result
}

// behind puts a proxy before the destination, which passes on what collect makes of
// a request.
func (l *laneTest) behind(t *testing.T, collect func(r *http.Request) []byte) {
	t.Helper()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		there, err := http.NewRequestWithContext(r.Context(), r.Method, l.dest.URL()+r.URL.String(), bytes.NewReader(collect(r)))
		if err != nil {
			t.Error(err)
			return
		}
		there.Header = r.Header
		resp, err := http.DefaultClient.Do(there)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		maps.Copy(w.Header(), resp.Header)
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}))
	t.Cleanup(front.Close)
	l.at = strings.TrimPrefix(front.URL, "http://")
	l.job.To.Host = l.at
}

// sent is how many bytes of blobs the destination read.
func (l *laneTest) sent() (n int64) {
	for _, r := range l.dest.Recorder.Where(func(r registrytest.Request) bool { return r.Kind == "upload" }) {
		n += r.In
	}
	return n
}

func (l *laneTest) size() int64 { return int64(len(l.layer.Data)) }

func TestLargeBlobsGoInChunks(t *testing.T) {
	l := newLane(t)
	result := mustCopy(t, NewCopier(l.client(t)), l.job)
	chunks := int((l.size() + small.chunk - 1) / small.chunk)
	want := map[string]int{"POST upload": 2, "PATCH upload": chunks, "PUT upload": 2, "PUT manifest": 1}
	if diff := cmp.Diff(want, l.dest.Recorder.Counts()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if all := l.size() + int64(len(l.image.Blobs[0].Data)); result.Bytes != all || l.sent() != all {
		t.Errorf("%d bytes told, %d sent, want %d", result.Bytes, l.sent(), all)
	}
}

// Cut ten times on either side: what was confirmed is not sent again.
func TestTenCuts(t *testing.T) {
	for _, tt := range []struct {
		name         string
		source, dest []registrytest.Fault
		kind         Kind
	}{
		{name: "the destination", dest: many(10, func(i int) registrytest.Fault {
			return registrytest.Fault{Method: "PATCH", Nth: 1 + i, CutRequest: 40_000}
		})},
		{name: "the source", source: []registrytest.Fault{{Method: "GET", Path: "/blobs/" + string(registrytest.Layer(7, blobSize).Digest()), CutResponse: 60_000, Times: 10}}},
		{name: "answers of the destination", dest: many(5, func(i int) registrytest.Fault {
			return registrytest.Fault{Method: "PATCH", Nth: 1 + 2*i, Late: true, Drop: true}
		})},
		{name: "by our own count", kind: Kind{Profile: Profile{Resume: ResumeLedger}}, dest: []registrytest.Fault{{Method: "PATCH", Nth: 3, Status: 503}, {Method: "PATCH", Nth: 6, Drop: true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLane(t)
			l.kind = tt.kind
			l.source.Faults.Add(tt.source...)
			l.dest.Faults.Add(tt.dest...)
			result := l.copy(t)
			all := l.size() + int64(len(l.image.Blobs[0].Data))
			if again := l.sent() - all; again*100 > 12*all {
				t.Errorf("%d bytes sent again, of %d", again, all)
			}
			if result.Bytes != all {
				t.Errorf("%d bytes told, want %d", result.Bytes, all)
			}
			if n := l.dest.Recorder.Count("PATCH upload"); tt.source != nil && n != 10 {
				t.Errorf("%d chunks: the destination notices that the source broke off", n)
			}
		})
	}
}

func many(n int, make func(i int) registrytest.Fault) (list []registrytest.Fault) {
	for i := range n {
		list = append(list, make(i))
	}
	return list
}

// breakOff copies until the k-th chunk stands at a gate, and then ends the run.
func (l *laneTest) breakOff(t *testing.T, k int) {
	t.Helper()
	gate := registrytest.NewGate(t)
	l.dest.Faults.Add(registrytest.Fault{Method: "PATCH", Nth: k, Gate: gate, Drop: true})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	copier := NewCopier(l.client(t))
	go func() {
		_, err := copier.Copy(ctx, l.job)
		ended <- err
	}()
	<-gate.Reached()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("the first run: %v, want it canceled", err)
	}
	gate.Open()
	l.dest.Faults.Clear()
	l.dest.Recorder.Reset()
	l.source.Recorder.Reset()
}

// A run that ended at nine tenths is taken up by the next, with what the first
// one left in the ledger.
func TestTakeUpAfterRestart(t *testing.T) {
	for _, rule := range []Resume{ResumeAsk, ResumeLedger} {
		t.Run(fmt.Sprint(rule), func(t *testing.T) {
			l := newLane(t)
			ledger := newLedger()
			l.ledger = ledger
			l.kind.Profile.Resume = rule
			l.breakOff(t, 10)
			if ledger.saves != 9 || len(ledger.entries) != 1 {
				t.Fatalf("%d saves, %d entries; want 9 and 1", ledger.saves, len(ledger.entries))
			}
			for _, u := range ledger.entries {
				if strings.Contains(u.Location, "?") || u.Offset != 9*small.chunk {
					t.Errorf("entry %+v: want no query, and nine chunks", u)
				}
			}
			result := l.copy(t)
			if sent := l.sent(); sent > l.size()*12/100 {
				t.Errorf("%d of %d bytes sent again", sent, l.size())
			}
			if result.Skipped < 9*small.chunk || result.Bytes+result.Skipped < l.size() {
				t.Errorf("result %+v of %d bytes", result, l.size())
			}
			if _, out := l.source.Recorder.Bytes(); out > l.size()/4 {
				t.Errorf("%d of %d bytes read again", out, l.size())
			}
			if len(ledger.entries) != 0 {
				t.Errorf("the ledger still has %v", ledger.entries)
			}
		})
	}
}

// Whatever is odd about an entry, the blob is right in the end.
func TestOddLedger(t *testing.T) {
	other := providers.Digest(digestA).Hash()
	other.Write(bytes.Repeat([]byte("x"), 64))
	state, err := other.(interface{ MarshalBinary() ([]byte, error) }).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(u *Unfinished){
		"another state":           func(u *Unfinished) { u.Hash = state },
		"no state":                func(u *Unfinished) { u.Hash = nil },
		"half a state":            func(u *Unfinished) { u.Hash = u.Hash[:50] },
		"too far":                 func(u *Unfinished) { u.Offset, u.HashedAt = blobSize*2, blobSize*2 },
		"negative":                func(u *Unfinished) { u.Offset, u.HashedAt = -5, -5 },
		"hashed beyond confirmed": func(u *Unfinished) { u.HashedAt = u.Offset + 16<<10 },
		"hashed beyond the session": func(u *Unfinished) {
			u.HashedAt, u.Offset = u.HashedAt+64<<10, u.Offset+64<<10
		},
		"another size":      func(u *Unfinished) { u.Size++ },
		"another session":   func(u *Unfinished) { u.Location = "/v2/b/blobs/uploads/none" },
		"another host":      func(u *Unfinished) { u.Location = "http://198.51.100.7/v2/b/blobs/uploads/1" },
		"no address":        func(u *Unfinished) { u.Location = "\x00" },
		"a week old":        func(u *Unfinished) { u.Saved = u.Saved.Add(-7 * 24 * time.Hour) },
		"another's session": func(u *Unfinished) { u.Location = strings.Replace(u.Location, "/b/", "/c/", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLane(t)
			ledger := newLedger()
			l.ledger = ledger
			l.breakOff(t, 6)
			for key, u := range ledger.entries {
				change(&u)
				ledger.entries[key] = u
			}
			l.copy(t)
			if len(ledger.entries) != 0 {
				t.Errorf("the ledger still has %v", ledger.entries)
			}
		})
	}
}

// The session has other bytes than the ledger's state was made from: the
// registry notices at the end, and the blob goes again.
func TestSessionOfOtherBytes(t *testing.T) {
	l := newLane(t)
	ledger := newLedger()
	l.ledger = ledger
	l.breakOff(t, 6)
	for key, u := range ledger.entries {
		// A session of the same length that somebody else filled.
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, l.dest.URL()+"/v2/b/blobs/uploads/", nil)
		if err != nil {
			t.Fatal(err)
		}
		u.Location = send(t, req).Header.Get("Location")
		if req, err = http.NewRequestWithContext(t.Context(), http.MethodPatch, l.dest.URL()+u.Location, bytes.NewReader(make([]byte, u.Offset))); err != nil {
			t.Fatal(err)
		}
		send(t, req)
		ledger.entries[key] = u
	}
	l.copy(t)
}

func send(t *testing.T, req *http.Request) *http.Response {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

// What goes wrong in the middle of a chunked upload, and how it goes on.
func TestChunksGetOverFailures(t *testing.T) {
	for _, tt := range []struct {
		name  string
		dest  []registrytest.Fault
		whole bool // the blob starts again
	}{
		{"session gone", []registrytest.Fault{{Method: "PATCH", Nth: 5, Status: 404, Body: `{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}`}}, true},
		{"416 once", []registrytest.Fault{{Method: "PATCH", Nth: 5, Status: 416}}, false},
		{"416 twice", []registrytest.Fault{{Method: "PATCH", Nth: 5, Status: 416, Times: 2}}, true},
		{"status says nothing", []registrytest.Fault{{Method: "PATCH", Nth: 5, Drop: true}, {Method: "GET", Kind: "upload", Header: http.Header{"Range": nil}}}, true},
		{"status says 0-0", []registrytest.Fault{{Method: "PATCH", Nth: 5, Drop: true}, {Method: "GET", Kind: "upload", Header: http.Header{"Range": {"0-0"}}}}, true},
		{"status says too much", []registrytest.Fault{{Method: "PATCH", Nth: 5, Drop: true}, {Method: "GET", Kind: "upload", Header: http.Header{"Range": {"0-99999999"}}}}, true},
		{"status is gone", []registrytest.Fault{{Method: "PATCH", Nth: 5, Drop: true}, {Method: "GET", Kind: "upload", Status: 404}}, true},
		{"short acknowledgement once", []registrytest.Fault{{Method: "PATCH", Nth: 5, Header: http.Header{"Range": {"0-99"}}}}, false},
		{"final PUT 500", []registrytest.Fault{{Method: "PUT", Path: "digest=" + "sha256%3A", Nth: 2, Status: 500}}, false},
		{"final PUT stored, answer lost", []registrytest.Fault{{Method: "PUT", Kind: "upload", Nth: 2, Late: true, Drop: true}}, false},
		{"bytes in the range", []registrytest.Fault{{Method: "PATCH", Nth: 5, Header: http.Header{"Range": {fmt.Sprintf("bytes=0-%d", 5*small.chunk-1)}}}}, false},
		{"PATCH answers 201", []registrytest.Fault{{Method: "PATCH", Nth: 5, Late: true, Status: 201}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLane(t)
			l.dest.Faults.Add(tt.dest...)
			result := l.copy(t)
			all := l.size() + int64(len(l.image.Blobs[0].Data))
			if !tt.whole && l.sent() > all+2*small.chunk {
				t.Errorf("%d bytes sent of %d", l.sent(), all)
			}
			if opened := l.dest.Recorder.Count("POST upload"); (opened == 3) != tt.whole {
				t.Errorf("%d sessions for two blobs; want one more: %t", opened, tt.whole)
			}
			if result.Bytes != all {
				t.Errorf("%d bytes told, want %d", result.Bytes, all)
			}
		})
	}
}

// A registry whose Range can not be relied on gets the blob in one piece.
func TestUnreliableRange(t *testing.T) {
	l := newLane(t)
	l.dest.Faults.Add(registrytest.Fault{Method: "PATCH", Times: -1, Header: http.Header{"Range": {"0-7"}}})
	l.copy(t)
}

// Wrong bytes from a source that broke off are noticed at the last byte.
func TestWrongBytesAfterACut(t *testing.T) {
	l := newLane(t)
	at := "/blobs/" + string(l.layer.Digest())
	l.source.Faults.Add(registrytest.Fault{Method: "GET", Path: at, CutResponse: 100_000}, registrytest.Fault{Method: "GET", Path: at, Nth: 2, Times: -1, Flip: 5000})
	_, err := NewCopier(l.client(t)).Copy(t.Context(), l.job)
	if providers.ClassOf(err) != providers.Conflict {
		t.Errorf("error %v, want class conflict", err)
	}
	if there := l.dest.Recorder.Where(func(r registrytest.Request) bool { return r.Method == "PUT" && r.Kind == "manifest" }); len(there) != 0 {
		t.Errorf("the destination took %v", there)
	}
}

// A source that knows no ranges is read past what we have; one whose range is
// another is refused.
func TestSourceRanges(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault func(l *laneTest) registrytest.Fault
		fails bool
	}{
		{"200 with everything", func(l *laneTest) registrytest.Fault {
			return registrytest.Fault{Status: 200, Body: string(l.layer.Data), Header: http.Header{"Content-Length": {fmt.Sprint(len(l.layer.Data))}}}
		}, false},
		{"416", func(*laneTest) registrytest.Fault { return registrytest.Fault{Status: 416} }, false},
		{"another range", func(l *laneTest) registrytest.Fault {
			return registrytest.Fault{Times: -1, Header: http.Header{"Content-Range": {fmt.Sprintf("bytes 7-%d/%d", len(l.layer.Data)-1, len(l.layer.Data))}}}
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLane(t)
			at := "/blobs/" + string(l.layer.Digest())
			again := tt.fault(l)
			again.Method, again.Path, again.Nth = "GET", at, 2
			l.source.Faults.Add(registrytest.Fault{Method: "GET", Path: at, CutResponse: 100_000}, again)
			if _, err := NewCopier(l.client(t)).Copy(t.Context(), l.job); (err != nil) != tt.fails {
				t.Errorf("error %v, want one: %t", err, tt.fails)
			}
		})
	}
}

type memoryLearned struct {
	mu  sync.Mutex
	all map[string]Lessons
}

func (m *memoryLearned) Lessons(host string) Lessons {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all[host]
}

func (m *memoryLearned) Learn(host string, l Lessons) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all[host] = l
	return nil
}

// A refusal is learned from once, for this run and the next ones, until it is a
// week old.
func TestLessons(t *testing.T) {
	refuse := func(status int) registrytest.Refusal {
		return registrytest.Refusal{Status: status, Code: "SIZE_INVALID"}
	}
	for _, tt := range []struct {
		name    string
		uploads []Upload
		rules   registrytest.UploadRules
		status  int // of the refusal
		want    Lessons
	}{
		{"413 of a proxy", []Upload{UploadPut, UploadChunks}, registrytest.UploadRules{MaxPut: 100_000, OverPut: refuse(413)}, 413, Lessons{MaxBody: blobSize / 2}},
		{"405 to chunks", nil, registrytest.UploadRules{NoRange: true, Chunked: refuse(405)}, 405, Lessons{Refused: []Upload{UploadChunks}}},
		{"416 to large chunks", nil, registrytest.UploadRules{MaxPatch: small.range416, OverPatch: refuse(416)}, 416, Lessons{MaxChunk: small.range416}},
		{"416 to any chunk", nil, registrytest.UploadRules{MaxPatch: 1, OverPatch: refuse(416)}, 416, Lessons{MaxChunk: small.range416, Refused: []Upload{UploadChunks}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := registrytest.Generic
			p.Upload = tt.rules
			l := newLane(t, registrytest.As(p))
			l.kind.Profile.Uploads = tt.uploads
			if tt.uploads != nil {
				l.kind.Profile.Resume = ResumeNever // chunks come second
			}
			learned := &memoryLearned{all: map[string]Lessons{}}
			l.learned = learned
			refusals := func() int {
				return len(l.dest.Recorder.Where(func(r registrytest.Request) bool { return r.Status == tt.status }))
			}
			l.copy(t)
			first := refusals()
			if first == 0 || first > 4 {
				t.Errorf("%d refusals, want one to four", first)
			}
			got := learned.all[l.dest.Host()]
			if got.MaxBody > 0 && got.MaxBody <= tt.want.MaxBody+1000 {
				got.MaxBody = tt.want.MaxBody // the layer is a bit larger than its file
			}
			until := got.Until
			got.Until = time.Time{}
			if diff := cmp.Diff(tt.want, got); diff != "" || until.Before(l.clock.Now().Add(6*24*time.Hour)) {
				t.Errorf("learned until %v (-want +got):\n%s", until, diff)
			}
			l.job.To.Path = "c"
			l.copy(t)
			if refusals() != first {
				t.Errorf("%d refusals in a second run, want none", refusals()-first)
			}
			l.clock.mu.Lock()
			l.clock.now = l.clock.now.Add(8 * 24 * time.Hour)
			l.clock.mu.Unlock()
			l.job.To.Path = "d"
			l.copy(t)
			if refusals() == first {
				t.Error("after a week, the best way is not tried again")
			}
		})
	}
}

// A smallest chunk that the registry asks for. Chunks are not held in memory, so
// there is no cap of ours that it could go beyond; where it goes beyond what the
// registry is known to take, the blob goes in one piece.
func TestMinimumChunk(t *testing.T) {
	for _, tt := range []struct {
		name, least string
		most        int64 // of the profile
		want        []int64
	}{
		{"larger than ours", "200000", 0, []int64{200_000, 200_000, 200_000, -1}},
		{"larger than the blob", "10000000", 0, []int64{-1}},
		{"larger than the registry's largest", "200000", 100_000, nil},
		{"no number", "many", 0, []int64{65536, 65536, 65536, 65536, 65536, 65536, 65536, 65536, 65536, -1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLane(t)
			l.kind.Profile.MaxChunk = tt.most
			l.dest.Faults.Add(registrytest.Fault{Method: "POST", Kind: "upload", Times: -1, Header: http.Header{"Oci-Chunk-Min-Length": {tt.least}}})
			l.copy(t)
			rest := l.size()
			for i, want := range tt.want {
				if want < 0 {
					tt.want[i] = rest
				}
				rest -= want
			}
			var lengths []int64
			for _, r := range l.dest.Recorder.Where(func(r registrytest.Request) bool { return r.Method == "PATCH" }) {
				lengths = append(lengths, r.In)
			}
			if !slices.Equal(lengths, tt.want) {
				t.Errorf("chunks of %v bytes, want %v", lengths, tt.want)
			}
		})
	}
}

// A registry that takes less of a chunk than it was sent, and says so, is sent the
// rest from there on.
func TestShortChunk(t *testing.T) {
	l := newLane(t)
	patches := 0
	l.behind(t, func(r *http.Request) []byte {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if r.Method == http.MethodPatch {
			if patches++; patches == 4 {
				body = body[:10_000]
				r.Header.Set("Content-Range", fmt.Sprintf("%d-%d", 3*small.chunk, 3*small.chunk+9_999))
			}
		}
		return body
	})
	result := l.copy(t)
	all := l.size() + int64(len(l.image.Blobs[0].Data))
	if l.sent() != all || result.Bytes != all {
		t.Errorf("%d bytes taken and %d told, want each once: %d", l.sent(), result.Bytes, all)
	}
	if n := l.dest.Recorder.Count("POST upload"); n != 2 {
		t.Errorf("%d sessions for two blobs", n)
	}
}

// A large blob goes in one chunk, until one breaks off behind a proxy that passes
// on only what it has whole: from then on, also in the next runs, chunks are short.
func TestNothingKeptOfAChunk(t *testing.T) {
	l := newLane(t)
	var broken atomic.Bool
	l.behind(t, func(r *http.Request) []byte {
		if r.Method == http.MethodPatch && broken.CompareAndSwap(false, true) {
			io.CopyN(io.Discard, r.Body, blobSize*9/10)
			panic(http.ErrAbortHandler)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		return body
	})
	learned := &memoryLearned{all: map[string]Lessons{}}
	l.learned = learned
	run := func(path string) int {
		c := l.client(t)
		c.sizes.longest, c.sizes.keep = usualSizes.longest, small.chunk
		l.job.To.Path = path
		l.dest.Recorder.Reset()
		mustCopy(t, NewCopier(c), l.job)
		return l.dest.Recorder.Count("PATCH upload")
	}
	short := int((l.size() + small.chunk - 1) / small.chunk)
	if n := run("b"); n != short || !learned.all[l.at].Forgets {
		t.Errorf("%d chunks after the one that left nothing, want %d; learned %+v", n, short, learned.all[l.at])
	}
	if n := run("c"); n != short {
		t.Errorf("%d chunks in the next run, want %d", n, short)
	}
	delete(learned.all, l.at)
	if n := run("d"); n != 1 {
		t.Errorf("%d chunks where nothing was learned, want 1", n)
	}
	registrytest.VerifyTree(t, l.dest.Host())
}

// A blob that fits no way says so, with its size.
func TestNoWay(t *testing.T) {
	p := registrytest.Generic
	p.Upload.MaxPut, p.Upload.OverPut = 1000, registrytest.Refusal{Status: 413}
	l := newLane(t, registrytest.As(p))
	l.kind.Profile.Uploads = []Upload{UploadPut}
	_, err := NewCopier(l.client(t)).Copy(t.Context(), l.job)
	if hint := providers.HintOf(err); statusOf(err) != 413 || !strings.Contains(hint, fmt.Sprint(l.size())) {
		t.Errorf("error %v, hint %q; want 413 and the size", err, hint)
	}
}

func TestRangeHeld(t *testing.T) {
	for text, want := range map[string]int64{"0-0": 1, "0-41": 42, "bytes=0-41": 42, " 0-41 ": 42, "": -1, "1-41": -1, "0-": -1, "0--3": -1, "0-+3": -1, "0-9999999999999999999": -1, "bytes 0-1": -1, "0-1152921504606846976": -1} {
		n, ok := rangeHeld(text)
		if !ok {
			n = -1
		}
		if n != want {
			t.Errorf("Range %q: %d, want %d", text, n, want)
		}
	}
}
