package aws_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"

	. "freightliner/providers/secret/aws"
	"freightliner/providers/secret/secrettest/awsfake"
)

// TestAnswerCutShort: a connection that breaks under an answer is asked again.
func TestAnswerCutShort(t *testing.T) {
	f := awsfake.New("eu-west-1")
	id := f.Foreign("a", "x")
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		f.ServeHTTP(answer, r)
		body := answer.Body.Bytes()
		if calls.Add(1) == 1 {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.Write(body[:len(body)/2])
			panic(http.ErrAbortHandler)
		}
		w.Write(body)
	}))
	defer server.Close()
	s := open(t, f, func(o *Options) { o.Endpoint, o.HTTP = server.URL, server.Client() })
	info, err := s.Describe(t.Context(), "a")
	if err != nil || info.Version != id || calls.Load() != 2 {
		t.Fatalf("version %q, %v after %d calls", info.Version, err, calls.Load())
	}
}

// late reads the end of a request's body when everybody else is done with it, as
// net/http may on a busy machine.
type late struct {
	next http.RoundTripper
	body io.Reader
}

func (l *late) RoundTrip(r *http.Request) (*http.Response, error) {
	sent, err := io.ReadAll(io.LimitReader(r.Body, r.ContentLength))
	if err != nil {
		return nil, err
	}
	l.body = r.Body
	again := r.Clone(r.Context())
	again.Body = io.NopCloser(bytes.NewReader(sent))
	return l.next.RoundTrip(again)
}

// TestBodyIsReadToItsEndLate: the SDK closes a request's body with the answer;
// that must not look like a broken request to the transport.
func TestBodyIsReadToItsEndLate(t *testing.T) {
	f := awsfake.New("eu-west-1")
	f.Foreign("a", "x")
	transport := &late{next: f.Client().Transport}
	s := open(t, f, func(o *Options) { o.HTTP = &http.Client{Transport: transport} })
	if _, err := s.Describe(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	// As net/http does to find that nothing is left.
	if n, err := io.Copy(io.Discard, transport.body); n != 0 || err != nil {
		t.Errorf("the end of the body is %d bytes, %v", n, err)
	}
}
