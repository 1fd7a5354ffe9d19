package registry

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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
