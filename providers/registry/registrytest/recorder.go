package registrytest

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"freightliner/providers/registry/embedded"
)

// Request is one request as the server saw it.
type Request struct {
	Method string
	Path   string
	Query  string // raw, without the question mark
	Header http.Header

	Kind       string // "manifest", "blob", "upload", …: see [embedded.Endpoint]
	Repository string
	Reference  string

	Status int   // 0 while there is no answer, or when the connection was dropped
	In     int64 // body bytes the server read
	Out    int64 // body bytes the server wrote
}

// String is "PUT /v2/app/manifests/v1 201".
func (r Request) String() string {
	target := r.Path
	if r.Query != "" {
		target += "?" + r.Query
	}
	return r.Method + " " + target + " " + strconv.Itoa(r.Status)
}

// Writes reports whether the request can change the registry.
func (r Request) Writes() bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	return r.Kind != "token"
}

// Recorder remembers requests in the order they arrived. A request is there
// before its client sees the answer, so a test may count right after a call
// returns. Safe for concurrent use; the zero value is ready.
type Recorder struct {
	mu       sync.Mutex
	requests []*Request

	endpoint func(path string) (kind, repository, reference string) // nil for embedded.Endpoint
}

// Wrap is next with every request recorded.
func (c *Recorder) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, repository, reference := classify(c.endpoint, r.URL.Path)
		seen := &Request{
			Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone(),
			Kind: kind, Repository: repository, Reference: reference,
		}
		c.mu.Lock()
		c.requests = append(c.requests, seen)
		c.mu.Unlock()
		r.Body = &countedBody{ReadCloser: r.Body, recorder: c, seen: seen}
		next.ServeHTTP(&countedWriter{ResponseWriter: w, recorder: c, seen: seen}, r)
	})
}

func classify(endpoint func(string) (string, string, string), path string) (kind, repository, reference string) {
	if endpoint == nil {
		return embedded.Endpoint(path)
	}
	return endpoint(path)
}

// All is a copy of what was recorded.
func (c *Recorder) All() []Request {
	return c.Where(func(Request) bool { return true })
}

// Where are the requests that keep says yes to.
func (c *Recorder) Where(keep func(Request) bool) []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	var kept []Request
	for _, r := range c.requests {
		if keep(*r) {
			kept = append(kept, *r)
		}
	}
	return kept
}

// Writes are the requests that can change the registry.
func (c *Recorder) Writes() []Request { return c.Where(Request.Writes) }

// Counts are the numbers of requests by method and kind: "GET manifest".
func (c *Recorder) Counts() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := map[string]int{}
	for _, r := range c.requests {
		counts[r.Method+" "+r.Kind]++
	}
	return counts
}

// Count is the number of requests of one kind, as in Count("PUT manifest").
func (c *Recorder) Count(what string) int { return c.Counts()[what] }

// Total is the number of all requests.
func (c *Recorder) Total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.requests)
}

// Bytes are the sums of body bytes the server read and wrote.
func (c *Recorder) Bytes() (in, out int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.requests {
		in, out = in+r.In, out+r.Out
	}
	return in, out
}

// Mentions are the requests that carry text in their query or any header:
// where a canary credential went.
func (c *Recorder) Mentions(text string) []Request {
	return c.Where(func(r Request) bool {
		headers := slices.Concat(slices.Collect(maps.Values(r.Header))...)
		return strings.Contains(r.Query, text) || strings.Contains(strings.Join(headers, "\n"), text)
	})
}

// Reset forgets everything recorded so far.
func (c *Recorder) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = nil
}

func (c *Recorder) update(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

type countedBody struct {
	io.ReadCloser
	recorder *Recorder
	seen     *Request
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.recorder.update(func() { b.seen.In += int64(n) })
	return n, err
}

// countedWriter counts before it writes, so that nobody sees an answer that
// is not in the record.
type countedWriter struct {
	http.ResponseWriter
	recorder *Recorder
	seen     *Request
}

// Unwrap lets http.ResponseController through.
func (w *countedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *countedWriter) WriteHeader(status int) {
	w.recorder.update(func() {
		if w.seen.Status == 0 || w.seen.Status < 200 {
			w.seen.Status = status
		}
	})
	w.ResponseWriter.WriteHeader(status)
}

func (w *countedWriter) Write(p []byte) (int, error) {
	w.recorder.update(func() {
		if w.seen.Status == 0 {
			w.seen.Status = http.StatusOK
		}
		w.seen.Out += int64(len(p))
	})
	return w.ResponseWriter.Write(p)
}
