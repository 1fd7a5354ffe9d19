package registrytest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"testing"
)

// Fault is one thing that goes wrong. Method, Path and Kind select requests
// (all when empty); of those, Nth is the first to be hit and Times how many.
// Of several faults that match, the first one scripted is taken.
type Fault struct {
	Method string
	Path   string // a regular expression over path, "?" and query
	Kind   string // "manifest", "blob", …: see [embedded.Endpoint]
	Nth    int    // counted from 1 among the matching requests; 0 is 1
	Times  int    // 0 is once, negative is always

	// Gate holds the request until the gate is opened, before anything else; with
	// GateAt, once the registry has read so many bytes of the body.
	Gate   *Gate
	GateAt int64

	// Status answers with this status, Header and Body in place of the registry.
	Status int
	Header http.Header // also set on an answer of the registry's; an empty list removes one
	Body   string

	// Drop closes the connection without an answer.
	Drop bool
	// Late lets the registry do its work first: with Status or Drop, the effect
	// is there and the client does not learn of it.
	Late bool

	// CutRequest lets the registry see only so many bytes of the body, as if the
	// client's connection broke; CutResponse breaks the answer's body after so
	// many bytes. Flip changes one byte of the answer's body, counted from 1.
	CutRequest, CutResponse, Flip int64
}

// Gate stops requests until it is opened. Make one with [NewGate].
type Gate struct {
	reached chan struct{}
	open    chan struct{}
	once    sync.Once
	opening sync.Once
}

// NewGate makes a closed gate. It opens by itself at the end of the test.
func NewGate(t testing.TB) *Gate {
	g := &Gate{reached: make(chan struct{}), open: make(chan struct{})}
	t.Cleanup(g.Open)
	return g
}

// Reached is closed when the first request stands at the gate.
func (g *Gate) Reached() <-chan struct{} { return g.reached }

// Open lets everybody through, from now on.
func (g *Gate) Open() { g.opening.Do(func() { close(g.open) }) }

func (g *Gate) pass(r *http.Request) {
	g.once.Do(func() { close(g.reached) })
	select {
	case <-g.open:
	case <-r.Context().Done():
	}
}

// Faults is a script of what goes wrong. Safe for concurrent use; the zero
// value lets everything pass.
type Faults struct {
	mu     sync.Mutex
	script []*scripted

	endpoint func(path string) (kind, repository, reference string) // nil for embedded.Endpoint
}

type scripted struct {
	Fault
	path *regexp.Regexp
	seen int
}

// Add appends to the script. A Path that is no regular expression panics.
func (f *Faults) Add(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range faults {
		f.script = append(f.script, &scripted{Fault: fault, path: regexp.MustCompile(fault.Path)})
	}
}

// Clear empties the script.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script = nil
}

// Wrap is next with the faults in its way.
func (f *Faults) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault := f.pick(r); fault != nil {
			fault.strike(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// pick counts the request on every fault it matches, and gives the first that
// is due.
func (f *Faults) pick(r *http.Request) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	var due *Fault
	for _, s := range f.script {
		kind, _, _ := classify(f.endpoint, r.URL.Path)
		if !s.matches(r, kind) {
			continue
		}
		s.seen++
		first, times := max(1, s.Nth), s.Times
		if times == 0 {
			times = 1
		}
		if due == nil && s.seen >= first && (times < 0 || s.seen < first+times) {
			due = &s.Fault
		}
	}
	return due
}

func (s *scripted) matches(r *http.Request, kind string) bool {
	target := r.URL.Path
	if r.URL.RawQuery != "" {
		target += "?" + r.URL.RawQuery
	}
	return (s.Method == "" || s.Method == r.Method) && (s.Kind == "" || s.Kind == kind) && s.path.MatchString(target)
}

func (f *Fault) strike(w http.ResponseWriter, r *http.Request, next http.Handler) {
	switch {
	case f.Gate != nil && f.GateAt > 0:
		r.Body = &gatedBody{ReadCloser: r.Body, left: f.GateAt, pass: func() { f.Gate.pass(r) }}
	case f.Gate != nil:
		f.Gate.pass(r)
	}
	if f.CutRequest > 0 {
		r.Body = &cutBody{ReadCloser: r.Body, left: f.CutRequest}
	}
	if f.Late {
		next.ServeHTTP(httptest.NewRecorder(), r)
	}
	switch {
	case f.Drop:
		panic(http.ErrAbortHandler)
	case f.Status != 0:
		f.headers(w.Header())
		w.WriteHeader(f.Status)
		if r.Method != http.MethodHead {
			io.WriteString(w, f.Body)
		}
	default:
		next.ServeHTTP(&faultyWriter{ResponseWriter: w, fault: f}, r)
		if f.CutRequest > 0 {
			panic(http.ErrAbortHandler) // the client's side of the connection is gone
		}
	}
}

func (f *Fault) headers(h http.Header) {
	for name, values := range f.Header {
		h.Del(name)
		for _, value := range values {
			h.Add(name, value)
		}
	}
}

// gatedBody has a gate in its middle.
type gatedBody struct {
	io.ReadCloser
	left int64
	pass func()
}

func (b *gatedBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		b.pass()
		return b.ReadCloser.Read(p)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// cutBody ends early, as a broken connection does.
type cutBody struct {
	io.ReadCloser
	left int64
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// faultyWriter changes, flips or cuts what the registry answers.
type faultyWriter struct {
	http.ResponseWriter
	fault   *Fault
	written int64
	begun   bool
}

// Unwrap lets http.ResponseController through.
func (w *faultyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *faultyWriter) WriteHeader(status int) {
	if !w.begun {
		w.begun = true
		w.fault.headers(w.Header())
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	if at := w.fault.Flip - 1 - w.written; w.fault.Flip > 0 && at >= 0 && at < int64(len(p)) {
		p = append([]byte(nil), p...)
		p[at] ^= 0xff
	}
	if cut := w.fault.CutResponse; cut > 0 && w.written+int64(len(p)) >= cut {
		w.ResponseWriter.Write(p[:cut-w.written])
		http.NewResponseController(w.ResponseWriter).Flush() // so that the bytes before the cut arrive
		panic(http.ErrAbortHandler)
	}
	n, err := w.ResponseWriter.Write(p)
	w.written += int64(n)
	return n, err
}
