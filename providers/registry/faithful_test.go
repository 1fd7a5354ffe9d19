package registry

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

// handmade is a manifest as somebody may have written it, on the given blobs.
func handmade(raw string, blobs ...registrytest.Blob) *registrytest.Artifact {
	return &registrytest.Artifact{MediaType: ociManifest, Raw: []byte(raw), Blobs: blobs}
}

func blobOf(mediaType, data string) registrytest.Blob {
	return registrytest.Blob{MediaType: mediaType, Data: []byte(data)}
}

func mention(b registrytest.Blob) string {
	return descriptorOf(b.MediaType, string(b.Digest()), fmt.Sprint(len(b.Data)), "")
}

// nested is an image under so many indexes.
func nested(indexes int) *registrytest.Artifact {
	a := registrytest.Image(7)
	for range indexes {
		a = registrytest.IndexOf(a)
	}
	return a
}

// Whatever the registry takes arrives as it is: the same bytes, at each level, and
// the type that it has at the source.
func TestCopiedAsItIs(t *testing.T) {
	empty := blobOf("application/vnd.oci.empty.v1+json", "{}")
	chart := blobOf("application/vnd.cncf.helm.chart.content.v1.tar+gzip", "chart")
	chartConfig := blobOf("application/vnd.cncf.helm.config.v1+json", `{"name":"app"}`)
	model := blobOf("application/x.made-up.model+safetensors", "weights")
	subject := registrytest.Image(3)
	for _, tt := range []struct {
		name string
		a    *registrytest.Artifact
		as   string // Content-Type of the source, where it is odd
	}{
		{name: "an index in an index", a: registrytest.IndexOf(registrytest.Index(1), registrytest.Image(2), registrytest.IndexOf(registrytest.Image(4)))},
		{name: "indexes as deep as allowed", a: nested(maxDepth - 1)},
		{name: "an artifact with the empty config and a subject", a: registrytest.SBOM(subject, 5)},
		{name: "a chart", a: handmade(`{"schemaVersion":2,"mediaType":"`+ociManifest+`","config":`+mention(chartConfig)+`,"layers":[`+mention(chart)+`]}`, chartConfig, chart)},
		{name: "types that nobody knows", a: handmade(`{"schemaVersion":2,"mediaType":"`+ociManifest+`","artifactType":"application/x.made-up","config":`+mention(empty)+`,"layers":[`+mention(model)+`],"made-up":{"field":[1,2.50]}}`, empty, model)},
		{name: "spaces, escapes and an order of its own", a: handmade("{\n  \"layers\" : [ "+mention(chart)+" ],\r\n\t\"schemaVersion\": 2, \"config\":"+mention(chartConfig)+",\"annotations\":{\"b\":\"\\u003c1.0\",\"a\":\"\"},\"mediaType\":\""+ociManifest+"\"\n}\n", chartConfig, chart)},
		{name: "no type in the body", a: handmade(`{"schemaVersion":2,"config":`+mention(empty)+`,"layers":[`+mention(model)+`]}`, empty, model)},
		{name: "a type with parameters", a: registrytest.Image(6), as: ociManifest + "; charset=utf-8"},
		{name: "a type that says nothing", a: registrytest.Image(6), as: "application/json"},
		{name: "Docker's types", a: registrytest.DockerIndex(8, registrytest.Layer(9, 100))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			source, dest := registrytest.Start(t), registrytest.Start(t)
			registrytest.Push(t, source.Host(), "a", "1", subject)
			registrytest.Push(t, source.Host(), "a", "2", tt.a)
			if tt.as != "" {
				source.Faults.Add(registrytest.Fault{Kind: "manifest", Times: -1, Header: http.Header{"Content-Type": {tt.as}}})
			}
			long := strings.Repeat("t", 128)
			mustCopy(t, NewCopier(plainClient(t, source.Host(), dest.Host())),
				Job{From: repo(source.Host(), "a"), To: repo(dest.Host(), "b"), Root: tt.a.Digest(), Tags: []string{"2", long}, Fresh: true})
			c := plainClient(t, dest.Host())
			var walk func(ref string, want *registrytest.Artifact)
			walk = func(ref string, want *registrytest.Artifact) {
				got, err := c.Manifest(t.Context(), repo(dest.Host(), "b"), ref)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want.Raw), string(got.Raw)); diff != "" || got.MediaType != want.MediaType {
					t.Errorf("%s is %s, want %s (-want +got):\n%s", ref, got.MediaType, want.MediaType, diff)
				}
				for _, child := range want.Children {
					walk(string(child.Digest()), child)
				}
			}
			walk(long, tt.a)
			for _, put := range dest.Recorder.Where(func(r registrytest.Request) bool { return r.Method == "PUT" && r.Reference == long }) {
				if got := put.Header.Get("Content-Type"); got != tt.a.MediaType {
					t.Errorf("sent as %s, want %s", got, tt.a.MediaType)
				}
			}
			registrytest.VerifyTree(t, dest.Host())
		})
	}
}

// What can not be copied faithfully fails that item, says why, and writes nothing.
func TestNotCopied(t *testing.T) {
	schema1 := `{"schemaVersion":1,"name":"a","tag":"1","fsLayers":[],"history":[]}`
	for _, tt := range []struct {
		name      string
		mediaType string
		body      string
		digest    providers.Digest // as the source names it; empty for the right one
		class     providers.Class
		text      string
	}{
		{"schema 1", dockerSchema1, schema1, "", providers.Unsupported, "schema 1"},
		{"schema 1, signed", dockerSigned1, schema1, "", providers.Unsupported, "schema 1"},
		{"schema 1 that says nothing of it", "application/json", schema1, "", providers.Unsupported, "schema 1"},
		{"one space more than the digest says", ociManifest, someManifest + " ", providers.SHA256([]byte(someManifest)), providers.Conflict, "the digest"},
		{"another type than the header says", dockerManifest, someManifest, "", providers.Invalid, "the header says"},
		{"an image that is called an index", ociIndex, `{"schemaVersion":2,"config":` + descriptorOf("x/y", digestA, "1", "") + `,"layers":[]}`, "", providers.Invalid, "without manifests"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			digest := tt.digest
			if digest == "" {
				digest = providers.SHA256([]byte(tt.body))
			}
			source := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", tt.mediaType)
				w.Header().Set("Docker-Content-Digest", string(digest))
				io.WriteString(w, tt.body)
			})
			dest := registrytest.Start(t)
			c := plainClient(t, source.host(), dest.Host())
			_, err := c.Manifest(t.Context(), repo(source.host(), "a"), "1")
			if providers.ClassOf(err) != tt.class || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("read: %v of class %s, want %s with %q", err, providers.ClassOf(err), tt.class, tt.text)
			}
			_, err = NewCopier(c).Copy(t.Context(), Job{From: repo(source.host(), "a"), To: repo(dest.Host(), "b"), Root: digest, Tags: []string{"1"}, Fresh: true})
			if providers.ClassOf(err) != tt.class || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("copy: %v of class %s, want %s with %q", err, providers.ClassOf(err), tt.class, tt.text)
			}
			if n := dest.Recorder.Total(); n != 0 {
				t.Errorf("%d requests to the destination, want none", n)
			}
		})
	}
}

// Indexes may lie in indexes, to a depth, and no manifest is walked twice.
func TestNestedTooDeep(t *testing.T) {
	source, dest := registrytest.Start(t), registrytest.Start(t)
	deep := nested(maxDepth) // and the image below
	registrytest.Push(t, source.Host(), "a", "1", deep)
	c := plainClient(t, source.Host(), dest.Host())
	_, err := c.Contents(t.Context(), repo(source.Host(), "a"), deep.Digest(), nil)
	if providers.ClassOf(err) != providers.Invalid || !strings.Contains(err.Error(), "nested deeper than 8") {
		t.Errorf("plan: %v, want a refusal of the depth", err)
	}
	_, err = NewCopier(c).Copy(t.Context(), Job{From: repo(source.Host(), "a"), To: repo(dest.Host(), "b"), Root: deep.Digest(), Tags: []string{"1"}, Fresh: true})
	if providers.ClassOf(err) != providers.Invalid || len(dest.Recorder.Writes()) != 0 {
		t.Errorf("copy: %v and %d writes, want a refusal and none", err, len(dest.Recorder.Writes()))
	}
	twice := registrytest.IndexOf(registrytest.Image(1), registrytest.IndexOf(registrytest.Image(1)), registrytest.IndexOf(registrytest.Image(1)))
	registrytest.Push(t, source.Host(), "a", "2", twice)
	contents, err := c.Contents(t.Context(), repo(source.Host(), "a"), twice.Digest(), nil)
	if err != nil || len(contents.Manifests) != 3 || len(contents.Blobs) != 2 {
		t.Errorf("%d manifests and %d blobs, %v; want each of the 3 and 2 once", len(contents.Manifests), len(contents.Blobs), err)
	}
}

// An index whose child is not at the source is an error that names the way out,
// and leads no tag to it; a selection without that child goes through.
func TestSparseIndexAtTheSource(t *testing.T) {
	source, dest := registrytest.Start(t), registrytest.Start(t)
	index := registrytest.Index(1)
	registrytest.Push(t, source.Host(), "a", "1", index)
	registrytest.Delete(t, source.Host(), "a", string(index.Children[1].Digest())) // arm64
	job := Job{From: repo(source.Host(), "a"), To: repo(dest.Host(), "b"), Root: index.Digest(), Tags: []string{"1"}, Fresh: true}
	_, err := NewCopier(plainClient(t, source.Host(), dest.Host())).Copy(t.Context(), job)
	if providers.ClassOf(err) != providers.NotFound || !strings.Contains(providers.HintOf(err), "platforms = [...]") {
		t.Errorf("%v (hint %q), want not found and the way out", err, providers.HintOf(err))
	}
	if tags := registrytest.Inventory(t, dest.Host())["b"]; len(tags) != 0 {
		t.Errorf("tags at the destination: %v", tags)
	}
	job.Select = []providers.Platform{{OS: "linux", Architecture: "amd64"}}
	mustCopy(t, NewCopier(plainClient(t, source.Host(), dest.Host())), job)
	registrytest.VerifyTree(t, dest.Host())
}

// Repositories that are called like parts of the API are repositories, for us and
// for the real registry.
func TestRepositoriesNamedLikeTheAPI(t *testing.T) {
	source := registrytest.Start(t)
	for name, host := range map[string]string{"embedded": registrytest.Start(t).Host(), "distribution": registrytest.Distribution(t).Host()} {
		t.Run(name, func(t *testing.T) {
			c := plainClient(t, source.Host(), host)
			for i, path := range []string{"library", "blobs", "manifests", "tags", "uploads", "referrers", "acme/blobs/uploads", "acme/manifests/latest", "v2/tags"} {
				image := registrytest.Image(uint64(i))
				registrytest.Push(t, source.Host(), path, "manifests", image)
				mustCopy(t, NewCopier(c), Job{From: repo(source.Host(), path), To: repo(host, path), Root: image.Digest(), Tags: []string{"manifests"}})
				list, err := c.Tags(t.Context(), repo(host, path))
				if err != nil || !cmp.Equal(list.Tags, []string{"manifests"}) {
					t.Errorf("%s: tags %q, %v", path, list.Tags, err)
				}
				if d, err := c.Head(t.Context(), repo(host, path), "manifests"); err != nil || d.Digest != image.Digest() {
					t.Errorf("%s: %s, %v", path, d.Digest, err)
				}
			}
			registrytest.Equal(t, registrytest.Inventory(t, host), registrytest.Inventory(t, source.Host()))
		})
	}
}

// wide is the SHA-512 digest of data.
func wide(data string) providers.Digest {
	return providers.Digest("sha512:" + strings.Repeat("0", 128)).Of([]byte(data))
}

// SHA-512 is verified like SHA-256 and kept. A registry that does not take it says
// so, and the hint says it in clear words.
func TestSHA512(t *testing.T) {
	const layer, config = "a layer", "{}"
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ociManifest,
		"config": map[string]any{"mediaType": "application/vnd.oci.empty.v1+json", "digest": wide(config), "size": len(config)},
		"layers": []any{map[string]any{"mediaType": "x/y", "digest": wide(layer), "size": len(layer)}}})
	if err != nil {
		t.Fatal(err)
	}
	root := wide(string(raw))
	for _, tt := range []struct {
		name  string
		layer string // as the source sends it
		dest  registrytest.Personality
		class providers.Class
		hint  string
	}{
		{name: "kept", layer: layer, dest: registrytest.Generic},
		{name: "wrong bytes", layer: "A layer", dest: registrytest.Generic, class: providers.Conflict},
		{name: "refused", layer: layer, dest: onlySHA256(), class: providers.Invalid, hint: "SHA-256 digests alone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			source := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
				body, mediaType := tt.layer, "application/octet-stream"
				switch {
				case strings.HasSuffix(r.URL.Path, "/manifests/"+string(root)):
					body, mediaType = string(raw), ociManifest
				case strings.HasSuffix(r.URL.Path, "/blobs/"+string(wide(config))):
					body = config
				}
				w.Header().Set("Content-Type", mediaType)
				io.WriteString(w, body)
			})
			dest := registrytest.Start(t, registrytest.As(tt.dest))
			c := plainClient(t, source.host(), dest.Host())
			_, err := NewCopier(c).Copy(t.Context(), Job{From: repo(source.host(), "a"), To: repo(dest.Host(), "b"), Root: root})
			if providers.ClassOf(err) != tt.class || !strings.Contains(providers.HintOf(err), tt.hint) {
				t.Fatalf("%v of class %s, hint %q; want %s and %q", err, providers.ClassOf(err), providers.HintOf(err), tt.class, tt.hint)
			}
			if tt.class != providers.Unknown {
				return
			}
			got, err := plainClient(t, dest.Host()).Manifest(t.Context(), repo(dest.Host(), "b"), string(root))
			if err != nil || got.Digest != root || string(got.Raw) != string(raw) {
				t.Errorf("%+v, %v", got, err)
			}
			if there, err := plainClient(t, dest.Host()).HasBlob(t.Context(), repo(dest.Host(), "b"), wide(layer)); err != nil || !there {
				t.Errorf("the layer is there: %t, %v", there, err)
			}
		})
	}
	if tag := FallbackTag(root); CheckTag(tag) != nil || tag != "sha512-"+root.Hex()[:64] {
		t.Errorf("fallback tag %s: want 64 digits (distribution-spec, Referrers Tag Schema)", tag)
	}
}

func onlySHA256() registrytest.Personality {
	p := registrytest.Generic
	p.SHA256Only = true
	return p
}

// Referrers that name each other are walked once each.
func TestReferrersInACircle(t *testing.T) {
	next := map[string]string{digestA: digestB, digestB: digestC, digestC: digestA, digestD: digestD}
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
		subject := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		w.Header().Set("Content-Type", ociIndex)
		io.WriteString(w, `{"schemaVersion":2,"mediaType":"`+ociIndex+`","manifests":[`+descriptorOf(ociManifest, next[subject], "10", "")+`]}`)
	})
	set, err := plainClient(t, p.host()).ReferrerSet(t.Context(), repo(p.host(), "a"), []providers.Digest{digestA, digestD}, &TagList{})
	got := map[string]string{}
	for _, r := range set {
		got[string(r.Subject)] = string(r.Digest)
	}
	if diff := cmp.Diff(next, got); err != nil || diff != "" || len(set) != 4 {
		t.Errorf("%d referrers, %v (-want +got):\n%s", len(set), err, diff)
	}
	if n := len(p.requests()); n != 4 {
		t.Errorf("%d requests, want one for each", n)
	}
}

// A list of referrers goes on over pages. We ask for no filter, so whether the
// server applies one makes no difference: all types follow their subject.
func TestReferrersOverPages(t *testing.T) {
	p := newPeer(t, nil)
	p.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entry := descriptorOf(ociManifest, digestB, "10", `,"artifactType":"application/spdx+json"`)
		switch {
		case r.URL.RawQuery != "" && r.URL.RawQuery != "page=2":
			w.WriteHeader(http.StatusBadRequest)
			return
		case !strings.HasSuffix(r.URL.Path, digestA):
			entry = ""
		case r.URL.RawQuery == "page=2":
			entry = descriptorOf(ociManifest, digestC, "10", `,"artifactType":"application/vnd.in-toto+json"`)
		default:
			w.Header().Set("Link", `<?page=2>; rel="next"`)
		}
		w.Header().Set("Content-Type", ociIndex)
		io.WriteString(w, `{"schemaVersion":2,"mediaType":"`+ociIndex+`","manifests":[`+entry+`]}`)
	})
	set, err := plainClient(t, p.host()).ReferrerSet(t.Context(), repo(p.host(), "a"), []providers.Digest{digestA}, &TagList{})
	if err != nil || len(set) != 2 || set[0].Digest != digestB || set[1].Digest != digestC {
		t.Errorf("%+v, %v; want both pages", set, err)
	}
}

// A referrer is taken where its subject is not (distribution-spec, "Pushing
// Manifests with Subject").
func TestReferrerWithoutItsSubject(t *testing.T) {
	for name, options := range map[string][]registrytest.Option{"API": nil, "tags": {registrytest.WithoutReferrers()}} {
		t.Run(name, func(t *testing.T) {
			source, dest := registrytest.Start(t), registrytest.Start(t, options...)
			image := registrytest.Image(1)
			sbom := registrytest.SBOM(image, 2)
			registrytest.Push(t, source.Host(), "a", "1", image)
			registrytest.PushReferrer(t, source.Host(), "a", sbom)
			c := plainClient(t, source.Host(), dest.Host())
			subjects := []providers.Digest{image.Digest()}
			if _, err := NewCopier(c).CopyReferrers(t.Context(), ReferrersJob{From: repo(source.Host(), "a"), To: repo(dest.Host(), "b"), Subjects: subjects, Fresh: true}); err != nil {
				t.Fatal(err)
			}
			set, err := c.ReferrerSet(t.Context(), repo(dest.Host(), "b"), subjects, nil)
			if err != nil || len(set) != 1 || set[0].Digest != sbom.Digest() {
				t.Errorf("%+v, %v; want the SBOM", set, err)
			}
		})
	}
}

// Somebody who writes a fallback tag between our look and our write loses nothing:
// we look again, and merge again. One who never stops is a conflict in the end.
func TestFallbackTagOfTwoWriters(t *testing.T) {
	source, dest := registrytest.Start(t), registrytest.Start(t, registrytest.WithoutReferrers())
	image := registrytest.Image(1)
	ours, theirs := registrytest.SBOM(image, 2), registrytest.SBOM(image, 3)
	registrytest.Push(t, source.Host(), "a", "1", image)
	registrytest.PushReferrer(t, source.Host(), "a", ours)
	registrytest.Push(t, dest.Host(), "b", "1", image)
	tag := FallbackTag(image.Digest())
	gate := registrytest.NewGate(t)
	dest.Faults.Add(registrytest.Fault{Method: "HEAD", Path: "/manifests/" + tag + "$", Gate: gate})

	c := plainClient(t, source.Host(), dest.Host())
	job := ReferrersJob{From: repo(source.Host(), "a"), To: repo(dest.Host(), "b"), Subjects: []providers.Digest{image.Digest()}}
	done := make(chan error, 1)
	go func() {
		_, err := NewCopier(c).CopyReferrers(t.Context(), job)
		done <- err
	}()
	select {
	case <-gate.Reached(): // ours is written, and is about to be looked at
	case err := <-done:
		t.Fatalf("what was written was not looked at again: %v", err)
	}
	registrytest.Push(t, dest.Host(), "b", tag, registrytest.IndexOf(theirs))
	gate.Open()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	set, err := plainClient(t, dest.Host()).ReferrerSet(t.Context(), job.To, job.Subjects, nil)
	got := map[providers.Digest]bool{}
	for _, r := range set {
		got[r.Digest] = true
	}
	if diff := cmp.Diff(map[providers.Digest]bool{ours.Digest(): true, theirs.Digest(): true}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}

	registrytest.Delete(t, dest.Host(), "b", tag)
	dest.Faults.Add(
		registrytest.Fault{Method: "HEAD", Path: "/manifests/" + tag + "$", Times: -1, Header: http.Header{"Docker-Content-Digest": {digestA}}},
		registrytest.Fault{Method: "GET", Path: "/manifests/" + tag + "$", Times: -1, Status: http.StatusNotFound})
	if _, err := NewCopier(plainClient(t, source.Host(), dest.Host())).CopyReferrers(t.Context(), job); providers.ClassOf(err) != providers.Conflict {
		t.Errorf("%v, want a conflict", err)
	}
}
