package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"freightliner/providers"
	"freightliner/providers/disk"
	"freightliner/providers/registry"
	"freightliner/providers/registry/kinds"
	"freightliner/providers/registry/registrytest"
)

// What counts as large in these tests, and a chunk, and the layer that is.
const (
	spoolLarge = 1 << 20
	spoolChunk = 256 << 10
	spoolLayer = 4 << 20
)

// noResume are the kinds whose uploads start again.
var noResume = []registrytest.Personality{registrytest.GAR, registrytest.ACR, registrytest.GHCR}

// spoolTest is a source with an image of large layers, a destination of a kind,
// and a directory for the spool.
type spoolTest struct {
	source, dest *registrytest.Server
	kind         string
	layers       []registrytest.Blob
	job          registry.Job
	dir          string
	fsys         disk.FS // nil for dir itself
	limit        int64
	spool        registry.Spool // nil to open dir
	log          bytes.Buffer
}

func newSpoolTest(t *testing.T, p registrytest.Personality, layers int) *spoolTest {
	t.Helper()
	p.Create = registrytest.CreateRules{} // not what this is about
	s := &spoolTest{source: registrytest.Start(t), dest: registrytest.Start(t, registrytest.As(p)), kind: p.Kind, dir: t.TempDir(), limit: 100 << 20}
	for i := range layers {
		s.layers = append(s.layers, registrytest.Layer(uint64(i+1), spoolLayer))
	}
	image := registrytest.Image(9, s.layers...)
	registrytest.Push(t, s.source.Host(), "a", "1", image)
	s.job = registry.Job{From: providers.Repository{Host: s.source.Host(), Path: "a"}, To: providers.Repository{Host: s.dest.Host(), Path: "acme/project/app"},
		Root: image.Digest(), Tags: []string{"1"}, Fresh: true}
	s.source.Recorder.Reset()
	return s
}

// client is that of a new run, which finds what the last one left.
func (s *spoolTest) client(t *testing.T) *registry.Client {
	t.Helper()
	spool := s.spool
	if spool == nil {
		spool = s.open(t)
	}
	return s.clientWith(t, spool)
}

func (s *spoolTest) clientWith(t *testing.T, spool registry.Spool) *registry.Client {
	t.Helper()
	c := registry.New(registry.Options{Kinds: kinds.All(kinds.Outside{}), Clock: quickly{}, Spool: spool,
		Log: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: &s.log}), Registries: []registry.Settings{
			{Host: s.source.Host(), PlainHTTP: true}, {Host: s.dest.Host(), PlainHTTP: true, Kind: s.kind}}})
	t.Cleanup(c.Close)
	registry.ShrinkUploads(c, spoolLarge, spoolChunk)
	return c
}

func (s *spoolTest) open(t *testing.T) *registry.DiskSpool {
	t.Helper()
	fsys := s.fsys
	if fsys == nil {
		fsys = diskAt(t, s.dir)
	}
	spool, err := registry.SpoolOnDisk(fsys, s.limit)
	if err != nil {
		t.Fatal(err)
	}
	return spool
}

func diskAt(t *testing.T, dir string) disk.FS {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return disk.OS(root)
}

// copy is a run that must do, from a new client; it gives what the source gave.
func (s *spoolTest) copy(t *testing.T) registry.Counters {
	t.Helper()
	c := s.client(t)
	if _, err := registry.NewCopier(c).Copy(t.Context(), s.job); err != nil {
		t.Fatal(err)
	}
	registrytest.VerifyTree(t, s.dest.Host())
	return c.Stats()[s.source.Host()]
}

// fails is a run that must not.
func (s *spoolTest) fails(t *testing.T) (registry.Counters, error) {
	t.Helper()
	c := s.client(t)
	_, err := registry.NewCopier(c).Copy(t.Context(), s.job)
	if err == nil {
		t.Fatal("the run did not fail")
	}
	return c.Stats()[s.source.Host()], err
}

// nineTenths lets the destination meet fault when it has nine tenths of a layer,
// or a chunk less where blobs go in chunks.
func (s *spoolTest) nineTenths(layer registrytest.Blob, fault registrytest.Fault) {
	at := int64(len(layer.Data)) * 9 / 10
	fault.Method, fault.Path = "PUT", layer.Digest().Hex()
	if s.kind == registrytest.ACR.Kind {
		// The chunks of each try, and that of the configuration.
		fault.Method, fault.Path, fault.Kind = "PATCH", "", "upload"
		fault.Nth, at = int(at/spoolChunk+1)*max(1, fault.Nth), at%spoolChunk
	}
	if fault.Gate != nil {
		fault.GateAt = at
	} else {
		fault.CutRequest = at
	}
	s.dest.Faults.Add(fault)
}

// interrupted is a run that is ended when the destination has nine tenths of
// every layer.
func (s *spoolTest) interrupted(t *testing.T) {
	t.Helper()
	var gates []*registrytest.Gate
	for _, layer := range s.layers {
		gates = append(gates, registrytest.NewGate(t))
		s.nineTenths(layer, registrytest.Fault{Gate: gates[len(gates)-1]})
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	copier := registry.NewCopier(s.client(t))
	go func() {
		_, err := copier.Copy(ctx, s.job)
		ended <- err
	}()
	for _, gate := range gates {
		<-gate.Reached()
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("the first run: %v, want it canceled", err)
	}
	for _, gate := range gates {
		gate.Open()
	}
	s.dest.Faults.Clear()
	s.source.Recorder.Reset()
}

// file is where a layer is spooled.
func (s *spoolTest) file(layer registrytest.Blob) string {
	return filepath.Join(s.dir, "spool", "sha256-"+layer.Digest().Hex()+".partial")
}

// left are the files of the spool with their sizes.
func (s *spoolTest) left(t *testing.T) (names []string, bytes int64) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, "spool"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Name())
		bytes += info.Size()
	}
	return names, bytes
}

func (s *spoolTest) wantEmpty(t *testing.T) {
	t.Helper()
	if names, _ := s.left(t); len(names) > 0 {
		t.Errorf("left in the spool: %v", names)
	}
}

// ranges are the offsets at which the source was asked for a layer; 0 for all.
func (s *spoolTest) ranges(layer registrytest.Blob) (offsets []int64) {
	for _, r := range s.source.Recorder.Where(func(r registrytest.Request) bool { return r.Method == "GET" && r.Reference == string(layer.Digest()) }) {
		var at int64
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at) // none: from the start
		offsets = append(offsets, at)
	}
	return offsets
}

// An upload that breaks twice at nine tenths, at registries where it starts again:
// the source is read once.
func TestSpoolSavesTheSecondRead(t *testing.T) {
	for _, p := range noResume {
		for _, spooled := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, spool %t", p.Kind, spooled), func(t *testing.T) {
				s := newSpoolTest(t, p, 1)
				s.nineTenths(s.layers[0], registrytest.Fault{})
				s.nineTenths(s.layers[0], registrytest.Fault{Nth: 2})
				var spool registry.Spool
				if spooled {
					spool = s.open(t)
				}
				c := s.clientWith(t, spool)
				if _, err := registry.NewCopier(c).Copy(t.Context(), s.job); err != nil {
					t.Fatal(err)
				}
				registrytest.VerifyTree(t, s.dest.Host())
				all := int64(len(s.layers[0].Data))
				got := c.Stats()[s.source.Host()]
				if spooled {
					if got.BytesReceived > all*11/10 || got.Spooled < all*16/10 {
						t.Errorf("%d bytes read and %d spooled, of %d", got.BytesReceived, got.Spooled, all)
					}
					s.wantEmpty(t)
				} else if got.BytesReceived < all*26/10 || got.Spooled != 0 {
					t.Errorf("%d bytes read and %d spooled, of %d: the uploads did not break where they should", got.BytesReceived, got.Spooled, all)
				}
			})
		}
	}
}

// A run that ended at nine tenths: the next one reads only the rest.
func TestSpoolOverARestart(t *testing.T) {
	for _, p := range noResume {
		t.Run(p.Kind, func(t *testing.T) {
			s := newSpoolTest(t, p, 1)
			s.interrupted(t)
			all := int64(len(s.layers[0].Data))
			info, err := os.Stat(s.file(s.layers[0]))
			if err != nil || info.Size() < all*8/10 {
				t.Fatalf("spooled %v, %v; want eight tenths of %d", info, err, all)
			}
			if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v", info.Mode())
			}
			// However much was in flight: exactly eight tenths.
			if err := os.Truncate(s.file(s.layers[0]), all*8/10); err != nil {
				t.Fatal(err)
			}
			got := s.copy(t)
			if offsets := s.ranges(s.layers[0]); len(offsets) != 1 || offsets[0] != all*8/10 {
				t.Errorf("the source was read from %v, want from %d", offsets, all*8/10)
			}
			if got.BytesReceived > all*21/100 || got.Spooled != all*8/10 || got.Resumed != 0 {
				t.Errorf("%d bytes read, %d spooled and %d resumed, of %d", got.BytesReceived, got.Spooled, got.Resumed, all)
			}
			s.wantEmpty(t)
		})
	}
}

// A blob that the spool has whole is not read from the source at all.
func TestSpoolHasEverything(t *testing.T) {
	s := newSpoolTest(t, registrytest.GHCR, 1)
	s.interrupted(t)
	if err := os.WriteFile(s.file(s.layers[0]), s.layers[0].Data, 0o600); err != nil {
		t.Fatal(err)
	}
	s.copy(t)
	if offsets := s.ranges(s.layers[0]); len(offsets) != 0 {
		t.Errorf("the source was read from %v", offsets)
	}
	s.wantEmpty(t)
}

// Whatever is wrong with a file, the blob is right in the end, the source is not
// blamed for it, and the file is gone.
func TestDamagedSpool(t *testing.T) {
	for name, change := range map[string]func(b []byte) []byte{
		"a bit":              func(b []byte) []byte { b[1000] ^= 1; return b },
		"a torn tail":        func(b []byte) []byte { clear(b[len(b)*8/10:]); return b },
		"a hole":             func(b []byte) []byte { return append(b[:1000:1000], b[2000:]...) },
		"other content":      func(b []byte) []byte { return bytes.Repeat([]byte("x"), len(b)) },
		"nothing":            func([]byte) []byte { return nil },
		"longer than it":     func(b []byte) []byte { return append(b, make([]byte, spoolLayer)...) },
		"the wrong end only": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
	} {
		for _, p := range noResume[1:] {
			t.Run(name+", "+p.Kind, func(t *testing.T) {
				s := newSpoolTest(t, p, 1)
				s.interrupted(t)
				b, err := os.ReadFile(s.file(s.layers[0]))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(s.file(s.layers[0]), change(b), 0o600); err != nil {
					t.Fatal(err)
				}
				got := s.copy(t)
				if got.Mismatched != 0 || got.BytesReceived > spoolLayer*12/10 {
					t.Errorf("%d mismatches counted for the source, and %d bytes read of %d", got.Mismatched, got.BytesReceived, spoolLayer)
				}
				s.wantEmpty(t)
			})
		}
	}
}

// Wrong bytes of the source are not taken for the spool's doing, and do not stay.
func TestSpoolOfALyingSource(t *testing.T) {
	s := newSpoolTest(t, registrytest.GHCR, 1)
	at := "/blobs/" + string(s.layers[0].Digest())
	s.source.Faults.Add(registrytest.Fault{Method: "GET", Path: at, Times: -1, Flip: 5000})
	got, err := s.fails(t)
	if providers.ClassOf(err) != providers.Conflict || got.Mismatched != 1 {
		t.Errorf("error %v and %d mismatches, want a conflict and one", err, got.Mismatched)
	}
	s.wantEmpty(t)

	// It lied only in the run that broke off: the next one finds out, and reads again.
	s.source.Faults.Clear()
	s.source.Faults.Add(registrytest.Fault{Method: "GET", Path: at, Flip: 5000, CutResponse: 1 << 20},
		registrytest.Fault{Method: "GET", Path: at, Nth: 2, Drop: true, Times: -1})
	s.fails(t)
	if _, n := s.left(t); n < 5000 {
		t.Fatalf("%d bytes spooled", n)
	}
	s.source.Faults.Clear()
	if got := s.copy(t); got.Mismatched != 0 || got.BytesReceived < spoolLayer {
		t.Errorf("%d mismatches, %d bytes read", got.Mismatched, got.BytesReceived)
	}
	s.wantEmpty(t)
}

// A source that has lost the blob says so after one upload of what is spooled, and
// the spool keeps it.
func TestSpoolOfALostSource(t *testing.T) {
	s := newSpoolTest(t, registrytest.GHCR, 1)
	s.interrupted(t)
	all := int64(len(s.layers[0].Data))
	if err := os.Truncate(s.file(s.layers[0]), all*9/10); err != nil {
		t.Fatal(err)
	}
	s.dest.Recorder.Reset()
	s.source.Faults.Add(registrytest.Fault{Method: "GET", Kind: "blob", Path: string(s.layers[0].Digest()), Times: -1, Status: 404})
	if _, err := s.fails(t); providers.ClassOf(err) != providers.NotFound {
		t.Errorf("error %v, want not found", err)
	}
	sent := s.dest.Recorder.Where(func(r registrytest.Request) bool {
		return r.Method == "PUT" && strings.Contains(r.Query, s.layers[0].Digest().Hex())
	})
	if len(sent) != 1 {
		t.Errorf("%d uploads, want one", len(sent))
	}
	if _, n := s.left(t); n != all*9/10 {
		t.Errorf("%d bytes left in the spool", n)
	}
}

// A source that breaks off, and breaks off again behind what is spooled.
func TestSpoolAndABrokenSource(t *testing.T) {
	s := newSpoolTest(t, registrytest.GAR, 1)
	at := "/blobs/" + string(s.layers[0].Digest())
	s.source.Faults.Add(registrytest.Fault{Method: "GET", Path: at, CutResponse: 1 << 20},
		registrytest.Fault{Method: "GET", Path: at, Nth: 2, Drop: true, Times: -1})
	got, _ := s.fails(t)
	all := int64(len(s.layers[0].Data))
	if _, n := s.left(t); n < all/8 || n > 1<<20 || got.BytesReceived > 2<<20 {
		t.Errorf("%d bytes spooled and %d read, want less than the source gave", n, got.BytesReceived)
	}
	s.source.Faults.Clear()
	s.source.Faults.Add(registrytest.Fault{Method: "GET", Path: at, CutResponse: 1 << 20, Times: 2})
	if got := s.copy(t); got.BytesReceived > all {
		t.Errorf("%d bytes read of %d", got.BytesReceived, all)
	}
	s.wantEmpty(t)
}

// askedSpool says what it was asked for, and has nothing.
type askedSpool struct {
	mu    sync.Mutex
	asked []providers.Digest
}

func (a *askedSpool) Take(d providers.Digest, _ int64) (registry.SpoolEntry, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, d)
	return nil, nil
}

// Only large blobs whose upload can not be taken up in the middle are spooled:
// by profile, or since the registry was found to take no chunks.
func TestWhatIsSpooled(t *testing.T) {
	for _, tt := range []struct {
		name    string
		p       registrytest.Personality
		learned registry.Lessons
		want    int
	}{
		{"chunks", registrytest.Generic, registry.Lessons{}, 0},
		{"our own count", registrytest.ECR, registry.Lessons{}, 0},
		{"chunks are refused", registrytest.Generic, registry.Lessons{Refused: []registry.Upload{registry.UploadChunks}}, 1},
		{"never", registrytest.GHCR, registry.Lessons{}, 1},
		{"chunks, never", registrytest.ACR, registry.Lessons{}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSpoolTest(t, tt.p, 1)
			asked := &askedSpool{}
			tt.learned.Until = registry.SystemClock{}.Now().Add(1 << 40)
			c := registry.New(registry.Options{Kinds: kinds.All(kinds.Outside{}), Clock: quickly{}, Spool: asked, Learned: remembered{tt.learned},
				Registries: []registry.Settings{{Host: s.source.Host(), PlainHTTP: true}, {Host: s.dest.Host(), PlainHTTP: true, Kind: s.kind}}})
			t.Cleanup(c.Close)
			registry.ShrinkUploads(c, spoolLarge, spoolChunk)
			if _, err := registry.NewCopier(c).Copy(t.Context(), s.job); err != nil {
				t.Fatal(err)
			}
			if len(asked.asked) != tt.want || tt.want == 1 && asked.asked[0] != s.layers[0].Digest() {
				t.Errorf("spooled: %v, want %d", asked.asked, tt.want)
			}
		})
	}
}

// remembered is what an earlier run learned about every host.
type remembered struct{ all registry.Lessons }

func (r remembered) Learn(string, registry.Lessons) error { return nil }
func (r remembered) Lessons(string) registry.Lessons      { return r.all }
