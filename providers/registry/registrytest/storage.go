package registrytest

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freightliner/providers"
)

// Storage is where the registries of clouds keep blobs: another host, which
// takes a signature in the address, and refuses an Authorization header beside
// it as S3 does ("only one auth mechanism allowed"). A registry started with
// [WithStorage] sends readers of blobs there.
type Storage struct {
	Recorder *Recorder
	Faults   *Faults

	life atomic.Int64 // of a signature, in nanoseconds
	site *site        // whose blobs these are; set when the registry starts
	http *httptest.Server
}

// NewStorage starts an empty one, whose signatures live for an hour.
func NewStorage(t testing.TB) *Storage {
	t.Helper()
	s := &Storage{Recorder: &Recorder{}, Faults: &Faults{}}
	s.SetLife(time.Hour)
	s.http = httptest.NewUnstartedServer(s.Recorder.Wrap(s.Faults.Wrap(http.HandlerFunc(s.serve))))
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.http.Start()
	t.Cleanup(s.http.Close)
	return s
}

// WithStorage answers a GET of a blob by 307 to the storage. Only together
// with [As], and for one registry per storage.
func WithStorage(storage *Storage) Option { return func(s *settings) { s.storage = storage } }

// Host is "127.0.0.1:port".
func (s *Storage) Host() string { return s.http.Listener.Addr().String() }

// SetLife changes how long signatures given from now on are good: none at all
// when it is negative.
func (s *Storage) SetLife(life time.Duration) { s.life.Store(int64(life)) }

// address is where a blob can be read until the signature ends.
func (s *Storage) address(path string) string {
	ends := s.site.now().Add(time.Duration(s.life.Load())).UnixNano()
	return fmt.Sprintf("%s/bucket%s?X-Amz-Expires=%d&X-Amz-Signature=%s", s.http.URL, path, ends, sign(path, ends))
}

func sign(path string, ends int64) string {
	return providers.SHA256(fmt.Appendf(nil, "%s until %d", path, ends)).Hex()
}

func (s *Storage) serve(w http.ResponseWriter, r *http.Request) {
	path, ours := strings.CutPrefix(r.URL.Path, "/bucket")
	query := r.URL.Query()
	ends, err := strconv.ParseInt(query.Get("X-Amz-Expires"), 10, 64)
	switch {
	case r.Header.Get("Authorization") != "":
		http.Error(w, "<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>", http.StatusBadRequest)
	case !ours || err != nil || query.Get("X-Amz-Signature") != sign(path, ends):
		http.Error(w, "<Error><Code>SignatureDoesNotMatch</Code></Error>", http.StatusForbidden)
	case s.site.now().UnixNano() >= ends:
		http.Error(w, "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>", http.StatusForbidden)
	default:
		r = r.Clone(r.Context())
		r.URL.Path = path
		s.site.open.ServeHTTP(w, r)
	}
}

// Throttled is a fault that answers so many requests of a kind with 429. After
// is the Retry-After header: seconds ("3"), a date ([http.TimeFormat]), or
// empty for none.
func Throttled(kind string, times int, after string) Fault {
	header := http.Header{"Content-Type": {"application/json"}}
	if after != "" {
		header.Set("Retry-After", after)
	}
	return Fault{Kind: kind, Times: times, Status: http.StatusTooManyRequests, Header: header,
		Body: `{"errors":[{"code":"TOOMANYREQUESTS","message":"Rate exceeded"}]}`}
}
