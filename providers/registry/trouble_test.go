package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

// pair is a source, a destination, and a client of both.
type pair struct {
	source, dest *registrytest.Server
	copier       *Copier
}

func newPair(t *testing.T, o ...registrytest.Option) *pair {
	t.Helper()
	p := &pair{source: registrytest.Start(t), dest: registrytest.Start(t, o...)}
	p.copier = NewCopier(plainClient(t, p.source.Host(), p.dest.Host()))
	return p
}

// job has a pushed to the repository name of the source, to be copied to the
// repository to, which is new.
func (p *pair) job(t *testing.T, name, to string, a *registrytest.Artifact) Job {
	t.Helper()
	registrytest.Push(t, p.source.Host(), name, "1", a)
	return Job{From: repo(p.source.Host(), name), To: repo(p.dest.Host(), to), Root: a.Digest(), Tags: []string{"1"}, Fresh: true}
}

// A registry that answers a GET by what it accepts, and a HEAD as well, is asked
// the same in both: otherwise the digest of the one would not be in the other.
func TestHeadAndGetAcceptTheSame(t *testing.T) {
	const index = `{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[]}`
	accepted := map[string]bool{}
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
		accept := r.Header.Get("Accept")
		accepted[accept] = true
		if !strings.Contains(accept, ociIndex) {
			serveManifest(w, someManifest)
			return
		}
		w.Header().Set("Content-Type", ociIndex)
		w.Header().Set("Content-Length", fmt.Sprint(len(index)))
		w.Header().Set("Docker-Content-Digest", string(providers.SHA256([]byte(index))))
		io.WriteString(w, index)
	})
	c := plainClient(t, p.host())
	looked, err := c.Head(t.Context(), repo(p.host(), "a"), "1")
	if err != nil {
		t.Fatal(err)
	}
	read, err := c.Manifest(t.Context(), repo(p.host(), "a"), "1")
	if err != nil {
		t.Fatal(err)
	}
	if looked.Digest != read.Digest || !read.IsIndex() || len(accepted) != 1 {
		t.Errorf("looked up %s, read %s, accepting %q", looked.Digest, read.Digest, slices.Collect(maps.Keys(accepted)))
	}
	for _, mediaType := range []string{ociIndex, ociManifest, ociArtifact, dockerList, dockerManifest} {
		if !strings.Contains(acceptManifests, mediaType) {
			t.Errorf("%s is not accepted", mediaType)
		}
	}
}

// rewritten is an artifact whose manifest was changed by hand.
func rewritten(t *testing.T, a *registrytest.Artifact, change func(m map[string]any)) *registrytest.Artifact {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(a.Raw, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	b := *a
	b.Raw = raw
	return &b
}

// Content that a descriptor embeds stays where it is.
func TestEmbeddedDataIsKept(t *testing.T) {
	p := newPair(t)
	image := registrytest.Image(1)
	image = rewritten(t, image, func(m map[string]any) { m["config"].(map[string]any)["data"] = image.Blobs[0].Data })
	mustCopy(t, p.copier, p.job(t, "a", "b", image))
	m, err := p.copier.client.Manifest(t.Context(), repo(p.dest.Host(), "b"), "1")
	if err != nil || string(m.Raw) != string(image.Raw) || !strings.Contains(string(m.Raw), `"data"`) {
		t.Errorf("%v, want the manifest with its data, byte for byte", err)
	}
	registrytest.VerifyTree(t, p.dest.Host())
}

// A blob that is not as long as its descriptor says is never committed, whether
// or not the registry says beforehand how much it will send.
func TestSizesThatLie(t *testing.T) {
	for _, off := range []int{-1, 1, 5000} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%+d chunked %t", off, chunked), func(t *testing.T) {
				p := newPair(t)
				image := registrytest.Image(1, registrytest.Layer(2, 50_000))
				size := len(image.Blobs[1].Data) + off
				image = rewritten(t, image, func(m map[string]any) { m["layers"].([]any)[0].(map[string]any)["size"] = size })
				if chunked {
					p.source.Faults.Add(registrytest.Fault{Method: http.MethodGet, Kind: "blob", Times: -1, Header: http.Header{"Content-Length": nil}})
				}
				_, err := p.copier.Copy(t.Context(), p.job(t, "a", "b", image))
				if class := providers.ClassOf(err); class != providers.Conflict && !(chunked && off > 0 && class == providers.Transient) {
					t.Errorf("error %v of class %s, want conflict", err, class)
				}
				stored := p.dest.Recorder.Where(func(r registrytest.Request) bool {
					return r.Method == http.MethodPut && r.Status == http.StatusCreated && r.In != int64(len(image.Blobs[0].Data))
				})
				if len(stored) != 0 {
					t.Errorf("the destination took %v", stored)
				}
			})
		}
	}
}

// Layers that are not meant for registries are left out; a registry that wants
// them gets them from the source, if that has them. Their URLs are never asked.
func TestForeignLayers(t *testing.T) {
	unknown := `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown"}]}`
	for _, tt := range []struct {
		name          string
		there, wanted bool
		fails         bool
	}{
		{"nobody has it, nobody wants it", false, false, false},
		{"the source has it, nobody wants it", true, false, false},
		{"the destination wants it", true, true, false},
		{"the destination wants what nobody has", false, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair(t)
			trap := registrytest.NewTrap(t, nil, "")
			foreign := registrytest.Layer(9, 300)
			foreign.MediaType = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
			image := registrytest.Image(1, foreign, registrytest.Layer(2, 300))
			image = rewritten(t, image, func(m map[string]any) {
				m["layers"].([]any)[0].(map[string]any)["urls"] = []string{trap.URL() + "/layer"}
			})
			if !tt.there {
				image.Blobs = append(image.Blobs[:1:1], image.Blobs[2])
			}
			job := p.job(t, "a", "b", image)
			if tt.wanted {
				p.dest.Faults.Add(registrytest.Fault{Method: http.MethodPut, Kind: "manifest", Status: 400, Body: unknown})
				if tt.fails {
					p.dest.Faults.Add(registrytest.Fault{Method: http.MethodPut, Kind: "manifest", Status: 400, Body: unknown, Times: -1})
				}
			}
			p.source.Recorder.Reset()
			_, err := p.copier.Copy(t.Context(), job)
			if (err != nil) != tt.fails || tt.fails && !hasCode(err, "MANIFEST_BLOB_UNKNOWN") {
				t.Errorf("error %v, want one: %t", err, tt.fails)
			}
			asked := len(p.source.Recorder.Where(func(r registrytest.Request) bool { return r.Reference == string(foreign.Digest()) }))
			if (asked > 0) != tt.wanted {
				t.Errorf("the source was asked %d times for it, wanted: %t", asked, tt.wanted)
			}
			if tt.wanted && !tt.fails {
				there, err := p.copier.client.HasBlob(t.Context(), job.To, foreign.Digest())
				if err != nil || !there {
					t.Errorf("it is not at the destination: %v", err)
				}
			}
		})
	}
}

// A layer without a byte goes through in every shape, with a length of 0.
func TestEmptyBlobInEveryShape(t *testing.T) {
	for _, shape := range []Upload{UploadPut, UploadChunks, UploadPatch} {
		t.Run(shape.String(), func(t *testing.T) {
			l := newLane(t)
			empty := registrytest.Blob{MediaType: "application/vnd.oci.image.layer.v1.tar"}
			l.image = registrytest.Image(1, empty)
			registrytest.Push(t, l.source.Host(), "a", "2", l.image)
			l.job.Root = l.image.Digest()
			l.kind.Profile.Uploads = []Upload{shape}
			result := l.copy(t)
			if want := int64(len(l.image.Blobs[0].Data)); result.Bytes != want || result.Blobs != 2 {
				t.Errorf("result %+v, want %d bytes of 2 blobs", result, want)
			}
			put := l.dest.Recorder.Where(func(r registrytest.Request) bool {
				return r.Method == http.MethodPut && strings.Contains(r.Query, empty.Digest().Hex())
			})
			if len(put) != 1 || put[0].In != 0 || put[0].Status != http.StatusCreated {
				t.Errorf("%v, want one PUT without a body", put)
			}
		})
	}
}

// A registry that says 201 and stores nothing is found out by the manifest, and
// what is missing is sent, and only that.
func TestLostUpload(t *testing.T) {
	p := newPair(t)
	image := registrytest.Image(1, registrytest.Layer(2, 3000), registrytest.Layer(3, 3000))
	lost := image.Blobs[1]
	job := p.job(t, "a", "b", image)
	p.dest.Faults.Add(registrytest.Fault{Method: http.MethodPut, Path: lost.Digest().Hex(), Status: http.StatusCreated})
	result := mustCopy(t, p.copier, job)
	registrytest.VerifyTree(t, p.dest.Host())
	all := len(image.Blobs[0].Data) + 2*len(lost.Data) + len(image.Blobs[2].Data)
	if result.Bytes != int64(all) || result.Skipped != 0 {
		t.Errorf("result %+v, want %d bytes and nothing skipped", result, all)
	}
	if n := p.dest.Recorder.Count("PUT manifest"); n != 2 {
		t.Errorf("%d manifests sent, want 2", n)
	}
}

// A mount whose blob is gone by the time of the commit: the blob is looked for,
// and sent.
func TestMountedBlobVanishes(t *testing.T) {
	p := newPair(t)
	base := registrytest.Layer(1, 3000)
	mustCopy(t, p.copier, p.job(t, "a", "x", registrytest.Image(1, base)))
	p.dest.Faults.Add(registrytest.Fault{Method: http.MethodPost, Path: "mount=", Times: -1, Status: http.StatusCreated})
	job := p.job(t, "b", "y", registrytest.Image(2, base))
	result := mustCopy(t, p.copier, job)
	registrytest.VerifyTree(t, p.dest.Host())
	sent := p.dest.Recorder.Where(func(r registrytest.Request) bool {
		return r.Method == http.MethodPut && r.Repository == "y" && strings.Contains(r.Query, base.Digest().Hex())
	})
	if len(sent) != 1 || result.Mounted != int64(len(base.Data)) {
		t.Errorf("%d uploads of the layer, result %+v; want one, after a mount", len(sent), result)
	}
}

// What a registry refused to mount from a repository it is not asked for again.
func TestRefusedMountIsRemembered(t *testing.T) {
	p := newPair(t)
	var layers []registrytest.Blob
	for i := range 4 {
		layers = append(layers, registrytest.Layer(uint64(i), 300))
	}
	mustCopy(t, p.copier, p.job(t, "a", "x", registrytest.Image(1, layers...)))
	p.dest.Faults.Add(registrytest.Fault{Method: http.MethodPost, Path: "mount=", Times: -1, Status: http.StatusMethodNotAllowed})
	mounts := func() int {
		return len(p.dest.Recorder.Where(func(r registrytest.Request) bool { return strings.Contains(r.Query, "mount=") }))
	}
	mustCopy(t, p.copier, p.job(t, "b", "y", registrytest.Image(2, layers[:2]...)))
	asked := mounts()
	mustCopy(t, p.copier, p.job(t, "c", "y", registrytest.Image(3, layers[2:]...)))
	if asked == 0 || mounts() != asked {
		t.Errorf("%d mounts asked for, then %d more; want some, and none", asked, mounts()-asked)
	}
	if diff := cmp.Diff([]string{"1"}, tagsAt(t, p, "y")); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	registrytest.VerifyTree(t, p.dest.Host())
}

func tagsAt(t *testing.T, p *pair, path string) []string {
	t.Helper()
	list, err := p.copier.client.Tags(t.Context(), repo(p.dest.Host(), path))
	if err != nil {
		t.Fatal(err)
	}
	return list.Tags
}

// Replicas that show late what they took cost time and no byte: content is looked
// for again before it is sent again.
func TestReplicasThatShowLate(t *testing.T) {
	for _, tt := range []struct {
		name string
		lag  int // requests that do not see a blob
		sent int // times that the layer is sent
	}{
		{"at once", 0, 1},
		{"late", 2, 1},
		{"never within the looks", 1000, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair(t, registrytest.As(registrytest.Generic), registrytest.WithLag(registrytest.Lag{Blobs: tt.lag}))
			image := registrytest.Image(1, registrytest.Layer(2, 3000))
			_, err := p.copier.Copy(t.Context(), p.job(t, "a", "b", image))
			if lost := tt.lag == 1000; (err != nil) != lost || lost && !hasCode(err, "MANIFEST_BLOB_UNKNOWN") {
				t.Errorf("error %v, want one: %t", err, lost)
			}
			sent := p.dest.Recorder.Where(func(r registrytest.Request) bool {
				return r.Method == http.MethodPut && strings.Contains(r.Query, image.Blobs[1].Digest().Hex())
			})
			if len(sent) != tt.sent {
				t.Errorf("the layer was sent %d times, want %d", len(sent), tt.sent)
			}
			clock := p.copier.client.clock.(*quick)
			if waits := clock.waits(); (len(waits) > 0) != (tt.lag > 0) {
				t.Errorf("waits %v", waits)
			}
		})
	}
}

// Blobs that lie in a cloud's storage: no credential goes there, an address is
// used once, and one that has ended is got anew from the registry.
func TestStorageElsewhere(t *testing.T) {
	for _, tt := range []struct {
		name    string
		storage []registrytest.Fault
		expired bool // the first address has ended before it can be used
		asked   int  // times that the registry is asked for the layer
	}{
		{"as it should be", nil, false, 1},
		{"the signature has ended", nil, true, 2},
		{"it breaks off", []registrytest.Fault{{CutResponse: 20_000}}, false, 2},
		{"it is down for a moment", []registrytest.Fault{{Status: 503}}, false, 2},
		{"its own words for ended", []registrytest.Fault{{Status: 400, Body: `{"message":"ExpiredToken ?X-Amz-Signature=canary"}`}}, false, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			storage := registrytest.NewStorage(t)
			source := registrytest.Start(t, registrytest.As(registrytest.Generic), registrytest.WithLogin(), registrytest.WithStorage(storage))
			dest := registrytest.Start(t)
			image := registrytest.Image(1, registrytest.Layer(2, 50_000))
			layer := image.Blobs[1].Digest()
			registrytest.Push(t, source.Host(), "a", "1", image)
			for i := range tt.storage {
				tt.storage[i].Path = layer.Hex()
				storage.Faults.Add(tt.storage[i])
			}
			clock := newQuick()
			if tt.expired {
				storage.SetLife(-1)
				clock.after = func() { storage.SetLife(time.Hour) }
			}
			c := clientOf(t, Options{Clock: clock, Registries: []Settings{
				{Host: source.Host(), PlainHTTP: true, Credential: canary, Concurrency: 1}, {Host: dest.Host(), PlainHTTP: true}}})
			mustCopy(t, NewCopier(c), Job{From: repo(source.Host(), "a"), To: repo(dest.Host(), "b"), Root: image.Digest(), Tags: []string{"1"}, Fresh: true})
			registrytest.VerifyTree(t, dest.Host())
			asked := source.Recorder.Where(func(r registrytest.Request) bool { return r.Reference == string(layer) })
			if tt.expired { // the config may have been the one that met it
				asked = source.Recorder.Where(func(r registrytest.Request) bool { return r.Kind == "blob" })
				tt.asked++
			}
			if len(asked) != tt.asked {
				t.Errorf("the registry was asked %d times, want %d", len(asked), tt.asked)
			}
			for _, secret := range append(registrytest.Canaries(), "Bearer ") {
				if told := storage.Recorder.Mentions(secret); len(told) > 0 {
					t.Errorf("the storage was told %s: %v", secret, told)
				}
			}
		})
	}
}

// What a storage says is not shown, and no signed address is in an error.
func TestSignedAddressesAreNotShown(t *testing.T) {
	storage := registrytest.NewStorage(t)
	source := registrytest.Start(t, registrytest.As(registrytest.Generic), registrytest.WithStorage(storage))
	registrytest.Push(t, source.Host(), "a", "1", registrytest.Image(1))
	d := registrytest.Image(1).Blobs[1]
	for name, fault := range map[string]registrytest.Fault{
		"refused":   {Times: -1, Status: 403, Body: `{"message":"canary X-Amz-Signature=canary","errors":[{"code":"X","message":"canary"}]}`},
		"gone":      {Times: -1, Status: 404, Body: `{"message":"canary"}`},
		"dropped":   {Times: -1, Drop: true},
		"on and on": {Times: -1, Status: 307, Header: http.Header{"Location": {"https://elsewhere.example/x?X-Amz-Signature=canary"}}},
	} {
		t.Run(name, func(t *testing.T) {
			storage.Faults.Clear()
			storage.Faults.Add(fault)
			var log bytes.Buffer
			c := clientOf(t, Options{Registries: []Settings{{Host: source.Host(), PlainHTTP: true}},
				Log: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &log})})
			r, err := c.remoteFor(repo(source.Host(), "a"))
			if err != nil {
				t.Fatal(err)
			}
			err = r.again(t.Context(), func() error {
				body, err := c.getBlob(t.Context(), r, repo(source.Host(), "a"), providers.Descriptor{Digest: d.Digest(), Size: int64(len(d.Data))}, 0, 0)
				if err == nil {
					body.Close()
				}
				return err
			})
			if err == nil {
				t.Fatal("no error")
			}
			for _, shown := range []string{"canary", "Signature", "X-Amz"} {
				if strings.Contains(err.Error()+providers.HintOf(err)+log.String(), shown) {
					t.Errorf("%q is shown: %v\n%s", shown, err, log.String())
				}
			}
		})
	}
}

// Redirects are bounded. A body is sent anew within the origin, and a request
// that would lose its body is not sent.
func TestRedirects(t *testing.T) {
	m, err := parseManifest([]byte(someManifest), "")
	if err != nil {
		t.Fatal(err)
	}
	put := func(ctx context.Context, c *Client, at providers.Repository) error {
		return c.PutManifest(ctx, at, "1", m)
	}
	read := func(ctx context.Context, c *Client, at providers.Repository) error {
		_, err := c.Manifest(ctx, at, "1")
		return err
	}
	upload := func(ctx context.Context, c *Client, at providers.Repository) error {
		r, err := c.remoteFor(at)
		if err != nil {
			return err
		}
		s := &session{url: r.url("a/blobs/uploads/1", nil)}
		return c.putBlob(ctx, r, at, providers.SHA256([]byte("hello")), s, strings.NewReader("hello"), 5)
	}
	for _, tt := range []struct {
		name   string
		status int
		hops   int // redirects before the answer; -1 for ever
		call   func(context.Context, *Client, providers.Repository) error
		fails  string
		asked  int
	}{
		{"five on", 307, 5, read, "", 6},
		{"a loop", 307, -1, read, "more than 5 redirects", 6},
		{"of a manifest's PUT", 307, 1, put, "", 2},
		{"a loop of PUT", 308, -1, put, "more than 5 redirects", 6},
		{"a PUT that would become a GET", 302, -1, put, "not followed", 1},
		{"of a blob's PUT, whose body is gone", 307, -1, upload, "not followed", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked := 0
			p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
				if asked++; tt.hops < 0 || asked <= tt.hops {
					w.Header().Set("Location", fmt.Sprintf("/v2/hop/%d", asked))
					w.WriteHeader(tt.status)
					return
				}
				if r.Method == http.MethodPut {
					w.WriteHeader(http.StatusCreated)
					return
				}
				serveManifest(w, someManifest)
			})
			err := tt.call(t.Context(), plainClient(t, p.host()), repo(p.host(), "a"))
			if (err != nil) != (tt.fails != "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("error %v, want %q", err, tt.fails)
			}
			requests := p.requests()
			if len(requests) != tt.asked {
				t.Errorf("%d requests, want %d", len(requests), tt.asked)
			}
			for _, r := range requests {
				if strings.HasPrefix(r, "PUT /v2/") && strings.Contains(r, "manifest") && !strings.HasSuffix(r, someManifest) {
					t.Errorf("a PUT without its body: %s", r)
				}
			}
		})
	}
}

// Wrong bytes are counted, by the registry that they came from.
func TestMismatchesAreCounted(t *testing.T) {
	p := newPair(t)
	image := registrytest.Image(1, registrytest.Layer(2, 3000))
	job := p.job(t, "a", "b", image)
	p.source.Faults.Add(registrytest.Fault{Method: http.MethodGet, Path: image.Blobs[1].Digest().Hex(), Times: -1, Flip: 700})
	_, err := p.copier.Copy(t.Context(), job)
	if providers.ClassOf(err) != providers.Conflict || !strings.Contains(err.Error(), string(image.Blobs[1].Digest())) {
		t.Errorf("error %v, want a conflict that names the digest", err)
	}
	p.source.Faults.Add(registrytest.Fault{Method: http.MethodGet, Kind: "manifest", Times: -1, Flip: 7})
	if _, err := plainClient(t, p.source.Host()).Manifest(t.Context(), job.From, "1"); providers.ClassOf(err) != providers.Conflict {
		t.Errorf("error %v, want class conflict", err)
	}
	stats := p.copier.client.Stats()
	if from, to := stats[p.source.Host()].Mismatched, stats[p.dest.Host()].Mismatched; from != 1 || to != 0 {
		t.Errorf("counted %d at the source and %d at the destination, want 1 and 0", from, to)
	}
}

// A server that refuses before it has read the body, and closes the connection
// upon what is still being sent, is heard.
func TestEarlyRefusalIsHeard(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			head := make([]byte, 4096)
			conn.Read(head)
			io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: 57\r\nConnection: close\r\n\r\n"+
				`{"errors":[{"code":"DENIED","message":"quota exceeded"}]}`)
			conn.(*net.TCPConn).SetLinger(0) // the rest is answered by a reset
			conn.Close()
		}
	}()
	host := listener.Addr().String()
	c := plainClient(t, host)
	at := repo(host, "a")
	r, err := c.remoteFor(at)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		s := &session{url: r.url("a/blobs/uploads/1", nil)}
		err := c.putBlob(t.Context(), r, at, providers.SHA256(nil), s, &endless{64 << 20}, 64<<20)
		if providers.ClassOf(err) != providers.Denied || !strings.Contains(err.Error(), "quota exceeded") {
			t.Fatalf("error %v of class %s, want the refusal", err, providers.ClassOf(err))
		}
	}
}

// Nothing waits for "100 Continue": a server that knows no expectations takes all.
func TestNoExpectations(t *testing.T) {
	l := newLane(t)
	l.copy(t)
	for _, r := range l.dest.Recorder.All() {
		if expect := r.Header.Get("Expect"); expect != "" {
			t.Errorf("%s expects %s", r, expect)
		}
	}
}

// A token that gives less than was asked for is found out by the first request
// that needs it, before a byte of a blob is read, and the right is named.
func TestNarrowToken(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			source := registrytest.Start(t)
			image := registrytest.Image(1)
			registrytest.Push(t, source.Host(), "a", "1", image)
			source.Recorder.Reset()
			var scopes []string
			dest := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/token":
					scopes = append(scopes, r.URL.Query()["scope"]...)
					io.WriteString(w, `{"token":"canary-token","expires_in":300}`)
				case r.Header.Get("Authorization") == "" || status == http.StatusUnauthorized && r.Method != http.MethodHead:
					w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="s",scope="repository:b:pull,push",error="insufficient_scope"`)
					w.WriteHeader(http.StatusUnauthorized)
				default:
					w.WriteHeader(status)
				}
			})
			c := clientOf(t, Options{Registries: []Settings{{Host: source.Host(), PlainHTTP: true}, {Host: dest.host(), PlainHTTP: true, Credential: canary}}})
			_, err := NewCopier(c).Copy(t.Context(), Job{From: repo(source.Host(), "a"), To: repo(dest.host(), "b"), Root: image.Digest(), Tags: []string{"1"}, Fresh: true})
			if said := fmt.Sprint(err) + " " + providers.HintOf(err); providers.ClassOf(err) != providers.Denied || !strings.Contains(said, "repository:b:pull,push") || !strings.Contains(said, dest.host()) {
				t.Errorf("%v (hint %q), want denied with the right and the host", err, providers.HintOf(err))
			}
			if n := source.Recorder.Count("GET blob"); n != 0 {
				t.Errorf("%d blobs were read", n)
			}
			if len(scopes) == 0 || len(scopes) > 2 || scopes[0] != "repository:b:pull,push" {
				t.Errorf("asked for %q", scopes)
			}
		})
	}
}
