package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"freightliner/providers"
)

// clock is time that moves when it is told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// caller asks a handler without a network between.
type caller struct {
	*testing.T
	handler http.Handler
}

func (c caller) ask(status int, method, target string, body io.Reader, header ...string) *httptest.ResponseRecorder {
	c.Helper()
	r := httptest.NewRequest(method, target, body)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	if w.Code != status {
		c.Fatalf("%s %s: status %d, want %d; body %s", method, target, w.Code, status, w.Body)
	}
	return w
}

func (c caller) upload(name, data string) providers.Digest {
	c.Helper()
	d := providers.SHA256([]byte(data))
	c.ask(http.StatusCreated, http.MethodPost, "/v2/"+name+"/blobs/uploads/?digest="+string(d), strings.NewReader(data))
	return d
}

// image is a manifest whose config and layer were uploaded to name.
func (c caller) image(name, content string) string {
	c.Helper()
	config, layer := c.upload(name, "{}"), c.upload(name, content)
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`,
		ociManifest, config, layer, len(content))
}

func (c caller) tag(name, tag, manifest string) {
	c.Helper()
	c.ask(http.StatusCreated, http.MethodPut, "/v2/"+name+"/manifests/"+tag, strings.NewReader(manifest), "Content-Type", ociManifest)
}

func TestDirectorySurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	first := openDirectory(t, dir, day)
	c := caller{t, New(first, Options{})}
	manifest := c.image("app", "layer")
	c.tag("app", "V1", manifest)
	open := c.ask(http.StatusAccepted, http.MethodPost, "/v2/app/blobs/uploads/", nil).Header().Get("Location")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	c.handler = New(openDirectory(t, dir, day), Options{})
	got := c.ask(http.StatusOK, http.MethodGet, "/v2/app/manifests/V1", nil)
	if got.Body.String() != manifest {
		t.Errorf("after a restart the manifest is %s, want %s", got.Body, manifest)
	}
	if text := c.ask(http.StatusOK, http.MethodGet, "/v2/app/blobs/"+string(providers.SHA256([]byte("layer"))), nil).Body.String(); text != "layer" {
		t.Errorf("after a restart the layer is %q", text)
	}
	gone := c.ask(http.StatusNotFound, http.MethodPatch, open, strings.NewReader("x"))
	if !strings.Contains(gone.Body.String(), "BLOB_UPLOAD_UNKNOWN") {
		t.Errorf("an upload from before the restart: %s", gone.Body)
	}
}

// The bytes that arrived before a connection broke are kept and reported, and
// the client goes on behind them.
func TestBrokenChunkGoesOn(t *testing.T) {
	c := caller{t, New(NewMemory(), Options{})}
	at := c.ask(http.StatusAccepted, http.MethodPost, "/v2/app/blobs/uploads/", nil).Header().Get("Location")
	broken := io.MultiReader(strings.NewReader("hello"), failing{})
	c.ask(http.StatusBadRequest, http.MethodPatch, at, broken)
	status := c.ask(http.StatusNoContent, http.MethodGet, at, nil)
	if got := status.Header().Get("Range"); got != "0-4" {
		t.Errorf("range after a broken chunk is %q, want 0-4", got)
	}
	d := providers.SHA256([]byte("hello, world"))
	c.ask(http.StatusCreated, http.MethodPut, at+"?digest="+string(d), strings.NewReader(", world"), "Content-Range", "5-11")
	if got := c.ask(http.StatusOK, http.MethodGet, "/v2/app/blobs/"+string(d), nil).Body.String(); got != "hello, world" {
		t.Errorf("the blob is %q", got)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestWrongDigestEndsTheUpload(t *testing.T) {
	c := caller{t, New(NewMemory(), Options{})}
	at := c.ask(http.StatusAccepted, http.MethodPost, "/v2/app/blobs/uploads/", nil).Header().Get("Location")
	c.ask(http.StatusBadRequest, http.MethodPut, at+"?digest="+someDigest, strings.NewReader("not empty"))
	c.ask(http.StatusNotFound, http.MethodGet, at, nil)
}

func TestContentRangeForms(t *testing.T) {
	for given, status := range map[string]int{
		"0-4": http.StatusAccepted, "bytes 0-4/*": http.StatusAccepted, "bytes=0-4": http.StatusAccepted, "": http.StatusAccepted,
		"1-5":                       http.StatusRequestedRangeNotSatisfiable,
		"4-0":                       http.StatusRequestedRangeNotSatisfiable,
		"all":                       http.StatusRequestedRangeNotSatisfiable,
		"-4":                        http.StatusRequestedRangeNotSatisfiable,
		"0-10":                      http.StatusBadRequest, // more than the body
		"0-99999999999999999999999": http.StatusRequestedRangeNotSatisfiable,
	} {
		c := caller{t, New(NewMemory(), Options{})}
		at := c.ask(http.StatusAccepted, http.MethodPost, "/v2/app/blobs/uploads/", nil).Header().Get("Location")
		c.ask(status, http.MethodPatch, at, strings.NewReader("hello"), "Content-Range", given)
	}
}

func TestUploadsAreFewAndExpire(t *testing.T) {
	clock := &clock{now: day}
	c := caller{t, New(NewMemory(), Options{Now: clock.Now, MaxUploads: 2, UploadIdle: time.Minute})}
	start := func(status int) string {
		t.Helper()
		return c.ask(status, http.MethodPost, "/v2/app/blobs/uploads/", nil).Header().Get("Location")
	}
	first := start(http.StatusAccepted)
	clock.advance(40 * time.Second)
	second := start(http.StatusAccepted)
	start(http.StatusTooManyRequests)
	c.ask(http.StatusTooManyRequests, http.MethodPost, "/v2/app/blobs/uploads/?digest="+someDigest, nil)
	clock.advance(30 * time.Second) // the first is 70 s old, the second 30 s
	third := start(http.StatusAccepted)
	c.ask(http.StatusNotFound, http.MethodGet, first, nil)
	for _, open := range []string{second, third} {
		c.ask(http.StatusNoContent, http.MethodGet, open, nil)
	}
	// A mount opens no session and is not refused.
	c.ask(http.StatusNoContent, http.MethodDelete, second, nil)
	d := c.upload("other", "data")
	start(http.StatusAccepted)
	c.ask(http.StatusCreated, http.MethodPost, "/v2/app/blobs/uploads/?mount="+string(d)+"&from=other", nil)
}

func TestSizeLimits(t *testing.T) {
	c := caller{t, New(NewMemory(), Options{MaxBlob: 10})}
	at := c.ask(http.StatusAccepted, http.MethodPost, "/v2/app/blobs/uploads/", nil).Header().Get("Location")
	c.ask(http.StatusRequestEntityTooLarge, http.MethodPatch, at, strings.NewReader("more than ten bytes"))
	c.ask(http.StatusNotFound, http.MethodGet, at, nil)

	c = caller{t, New(NewMemory(), Options{})}
	padding := func(size int) io.Reader {
		manifest := c.image("app", "layer")
		return strings.NewReader(manifest + strings.Repeat(" ", size-len(manifest)))
	}
	c.ask(http.StatusCreated, http.MethodPut, "/v2/app/manifests/large", padding(ManifestLimit), "Content-Type", ociManifest)
	c.ask(http.StatusRequestEntityTooLarge, http.MethodPut, "/v2/app/manifests/larger", padding(ManifestLimit+1), "Content-Type", ociManifest)
}

// A big upload streams to disk: what is allocated does not depend on its size.
func TestUploadStreams(t *testing.T) {
	const size = 64 << 20
	c := caller{t, New(openDirectory(t, t.TempDir(), day), Options{})}
	at := c.ask(http.StatusAccepted, http.MethodPost, "/v2/app/blobs/uploads/", nil).Header().Get("Location")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := c.ask(http.StatusAccepted, http.MethodPatch, at, io.LimitReader(zeros{}, size))
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 4<<20 {
		t.Errorf("%d bytes allocated for an upload of %d", allocated, size)
	}
	if want := fmt.Sprintf("0-%d", size-1); got.Header().Get("Range") != want {
		t.Errorf("range %s, want %s", got.Header().Get("Range"), want)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestNoDelete(t *testing.T) {
	c := caller{t, New(NewMemory(), Options{NoDelete: true})}
	manifest := c.image("app", "layer")
	c.tag("app", "v1", manifest)
	for _, target := range []string{"manifests/v1", "manifests/" + string(providers.SHA256([]byte(manifest))), "blobs/" + string(providers.SHA256([]byte("layer")))} {
		w := c.ask(http.StatusMethodNotAllowed, http.MethodDelete, "/v2/app/"+target, nil)
		if !strings.Contains(w.Body.String(), `"UNSUPPORTED"`) {
			t.Errorf("delete %s: %s", target, w.Body)
		}
	}
	c.ask(http.StatusOK, http.MethodGet, "/v2/app/manifests/v1", nil)
}

func TestListingsAreCutAtTheLargestPage(t *testing.T) {
	c := caller{t, New(NewMemory(), Options{MaxPage: 2, ReferrersPage: 1})}
	manifest := c.image("app", "layer")
	for _, tag := range []string{"a", "b", "c"} {
		c.tag("app", tag, manifest)
	}
	got := c.ask(http.StatusOK, http.MethodGet, "/v2/app/tags/list?n=100", nil)
	if want := `</v2/app/tags/list?last=b&n=2>; rel="next"`; got.Header().Get("Link") != want {
		t.Errorf("link %s, want %s", got.Header().Get("Link"), want)
	}
	c.ask(http.StatusBadRequest, http.MethodGet, "/v2/_catalog?n=3", nil)

	subject := string(providers.SHA256([]byte(manifest)))
	for i := range 3 {
		c.tag("app", fmt.Sprint("r", i), strings.Replace(manifest, `"config"`, fmt.Sprintf(`"artifactType":"application/x","annotations":{"n":"%d"},"subject":{"mediaType":%q,"digest":%q,"size":1},"config"`, i, ociManifest, subject), 1))
	}
	next, found := "/v2/app/referrers/"+subject+"?artifactType=application/x", 0
	for next != "" {
		page := c.ask(http.StatusOK, http.MethodGet, next, nil)
		found += strings.Count(page.Body.String(), `"artifactType":"application/x"`)
		next, _, _ = strings.Cut(strings.TrimPrefix(page.Header().Get("Link"), "<"), ">")
	}
	if found != 3 {
		t.Errorf("%d referrers over all pages, want 3", found)
	}
}

// Trouble of the store is a 500 that says nothing about this machine.
func TestStoreTroubleStaysHome(t *testing.T) {
	c := caller{t, New(sick{}, Options{})}
	for _, target := range []string{"/v2/_catalog", "/v2/app/tags/list", "/v2/app/manifests/v1", "/v2/app/blobs/" + someDigest, "/v2/app/referrers/" + someDigest} {
		w := c.ask(http.StatusInternalServerError, http.MethodGet, target, nil)
		if strings.Contains(w.Body.String(), "disk") {
			t.Errorf("GET %s tells %s", target, w.Body)
		}
	}
	c.ask(http.StatusInternalServerError, http.MethodPost, "/v2/app/blobs/uploads/", nil)
}

type sick struct{}

var errDisk = &fs.PathError{Op: "open", Path: "some/disk", Err: errors.New("input/output error")}

func (sick) Open(string) (io.ReadSeekCloser, error) { return nil, errDisk }
func (sick) Write(string, []byte) error             { return errDisk }
func (sick) Remove(string) error                    { return errDisk }
func (sick) List(string) ([]string, error)          { return nil, errDisk }
func (sick) Draft() (Draft, error)                  { return nil, errDisk }

// While blobs come and go, a manifest that was accepted has all its blobs.
func TestManifestNeverAcceptedOverADeletedBlob(t *testing.T) {
	handler := New(NewMemory(), Options{})
	c := caller{t, handler}
	manifest := c.image("app", "layer")
	layer := string(providers.SHA256([]byte("layer")))
	for range 200 {
		var wg sync.WaitGroup
		codes := make([]int, 2)
		for i, r := range []*http.Request{
			httptest.NewRequest(http.MethodPut, "/v2/app/manifests/v1", strings.NewReader(manifest)),
			httptest.NewRequest(http.MethodDelete, "/v2/app/blobs/"+layer, nil),
		} {
			r.Header.Set("Content-Type", ociManifest)
			wg.Go(func() {
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				codes[i] = w.Code
			})
		}
		wg.Wait()
		if codes[0] != http.StatusCreated && codes[0] != http.StatusBadRequest || codes[1] != http.StatusAccepted {
			t.Fatalf("put %d, delete %d", codes[0], codes[1])
		}
		c.upload("app", "layer")
	}
}

func TestServeLetsRunningRequestsFinish(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entered, leave := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		io.WriteString(w, "done")
	})
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, listener, handler) }()

	answer := make(chan string, 1)
	go func() {
		response, err := http.Get("http://" + listener.Addr().String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answer <- string(body)
	}()
	<-entered
	stop()
	close(leave)
	if got := <-answer; got != "done" {
		t.Errorf("the running request got %q", got)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
}

func TestServeTellsOfABrokenListener(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	if err := Serve(t.Context(), listener, http.NotFoundHandler()); err == nil || !strings.HasPrefix(err.Error(), "serve registry on 127.0.0.1:") {
		t.Errorf("Serve on a closed listener: %v", err)
	}
}
