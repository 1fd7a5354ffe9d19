package registry

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	"freightliner/providers/fuzz"
)

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	digestC = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
	digestD = "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
)

func descriptorOf(mediaType, digest, size, more string) string {
	return `{"mediaType":"` + mediaType + `","digest":"` + digest + `","size":` + size + more + `}`
}

func TestParseManifest(t *testing.T) {
	config := descriptorOf("application/vnd.oci.image.config.v1+json", digestA, "10", "")
	image := func(more string) string {
		return `{"schemaVersion":2,"config":` + config + `,"layers":[]` + more + `}`
	}
	layer := func(d string) string {
		return `{"schemaVersion":2,"mediaType":"` + ociManifest + `","config":` + config + `,"layers":[` + d + `]}`
	}
	hello := providers.SHA256([]byte("hello"))
	data := func(text string) string {
		return layer(descriptorOf("x/y", string(hello), "5", `,"data":"`+base64.StdEncoding.EncodeToString([]byte(text))+`"`))
	}
	for _, tt := range []struct {
		name, body, header string
		want               string // media type; empty: refused
	}{
		{"image by header", image(""), ociManifest, ociManifest},
		{"header with parameters", image(""), ociManifest + "; charset=utf-8", ociManifest},
		{"image by structure", image(""), "application/json", ociManifest},
		{"body wins over a generic header", image(`,"mediaType":"` + dockerManifest + `"`), "text/plain", dockerManifest},
		{"body and header differ", image(`,"mediaType":"` + dockerManifest + `"`), ociManifest, ""},
		{"index by structure", `{"schemaVersion":2,"manifests":[]}`, "", ociIndex},
		{"index called image", `{"schemaVersion":2,"manifests":[]}`, ociManifest, ""},
		{"image called index", image(""), ociIndex, ""},
		{"both", image(`,"manifests":[]`), ociManifest, ""},
		{"both, called index", image(`,"manifests":[]`), ociIndex, ""},
		{"duplicate key", image(`,"layers":[]`), ociManifest, ""},
		{"another spelling", image(`,"Manifests":[]`), ociManifest, ""},
		{"another spelling alone", `{"schemaVersion":2,"config":` + config + `,"LAYERS":[]}`, ociManifest, ""},
		{"kelvin sign", image(",\"foo\u212a\":1,\"fook\":2"), ociManifest, ""},
		{"long s in a known key", image(",\"\u017fubject\":null"), ociManifest, ""},
		{"annotations may differ in case", image(`,"annotations":{"a":"1","A":"2"}`), ociManifest, ociManifest},
		{"annotations may not repeat", image(`,"annotations":{"a":"1","a":"2"}`), ociManifest, ""},
		{"two values", image("") + "{}", ociManifest, ""},
		{"not UTF-8", image(",\"x\":\"\xff\""), ociManifest, ""},
		{"deep", image(`,"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100)), ociManifest, ""},
		{"schema 1", `{"schemaVersion":1,"fsLayers":[]}`, dockerSigned1, ""},
		{"schema version as text", `{"schemaVersion":"2","config":` + config + `,"layers":[]}`, ociManifest, ""},
		{"unknown type", image(`,"mediaType":"application/x"`), "", ""},
		{"no layers", `{"schemaVersion":2,"config":` + config + `}`, ociManifest, ""},
		{"artifact manifest", `{"mediaType":"` + ociArtifact + `","blobs":[` + config + `]}`, ociArtifact, ociArtifact},
		{"size 0", layer(descriptorOf("x/y", digestB, "0", "")), "", ociManifest},
		{"size 1 TiB", layer(descriptorOf("x/y", digestB, "1099511627776", "")), "", ociManifest},
		{"size over 1 TiB", layer(descriptorOf("x/y", digestB, "1099511627777", "")), "", ""},
		{"size -1", layer(descriptorOf("x/y", digestB, "-1", "")), "", ""},
		{"size 2^63-1", layer(descriptorOf("x/y", digestB, "9223372036854775807", "")), "", ""},
		{"size as text", layer(descriptorOf("x/y", digestB, `"5"`, "")), "", ""},
		{"size 1e3", layer(descriptorOf("x/y", digestB, "1e3", "")), "", ""},
		{"no size", layer(`{"mediaType":"x/y","digest":"` + digestB + `"}`), "", ""},
		{"digest as path", layer(descriptorOf("x/y", "sha256:../../etc", "5", "")), "", ""},
		{"digest in capitals", layer(descriptorOf("x/y", strings.Replace(digestB, "b", "B", 1), "5", "")), "", ""},
		{"line break in a media type", layer(descriptorOf(`x\r\ny`, digestB, "5", "")), "", ""},
		{"data", data("hello"), "", ociManifest},
		{"wrong data", data("jello"), "", ""},
		{"data of another size", data("hello!"), "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := parseManifest([]byte(tt.body), tt.header)
			got := ""
			if err == nil {
				got = m.MediaType
			}
			if got != tt.want {
				t.Errorf("read as %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestSelect(t *testing.T) {
	child := func(digest, platform, more string) string {
		return descriptorOf(ociManifest, digest, "10", `,"platform":`+platform+more)
	}
	amd := child(digestA, `{"os":"linux","architecture":"amd64"}`, "")
	arm := child(digestB, `{"os":"linux","architecture":"arm64"}`, "")
	att := child(digestC, `{"os":"unknown","architecture":"unknown"}`, `,"annotations":{"vnd.docker.reference.digest":"`+digestA+`","vnd.docker.reference.type":"attestation-manifest"}`)
	bare := descriptorOf(ociManifest, digestD, "10", "")
	windows1 := child(digestC, `{"os":"windows","architecture":"amd64","os.version":"10.0.17763.1"}`, "")
	windows2 := child(digestD, `{"os":"windows","architecture":"amd64","os.version":"10.0.20348.1"}`, "")
	arm6 := child(digestC, `{"os":"linux","architecture":"arm","variant":"v6"}`, "")
	arm7 := child(digestD, `{"os":"linux","architecture":"arm"}`, "")
	index := func(children ...string) string {
		return "{ \"schemaVersion\": 2,\n  \"mediaType\": \"" + ociIndex + "\", \"manifests\": [ " + strings.Join(children, " , ") + " ], \"annotations\": {\"z\":\"1\",\"a\":\"2\"} }"
	}
	linux := func(archs ...string) (list []providers.Platform) {
		for _, a := range archs {
			p, err := providers.ParsePlatform("linux/" + a)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, p)
		}
		return list
	}
	for _, tt := range []struct {
		name string
		in   string
		want []providers.Platform
		out  string // empty: an error
	}{
		{"all there is", index(amd, arm, att), linux("amd64", "arm64"), index(amd, arm, att)},
		{"an image and its attestation", index(amd, arm, att), linux("amd64"),
			`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[` + amd + `,` + att + `],"annotations":{"z":"1","a":"2"}}`},
		{"the attestation goes with its image", index(amd, arm, att), linux("arm64/v8"),
			`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[` + arm + `],"annotations":{"z":"1","a":"2"}}`},
		{"no platform is kept", index(amd, arm, bare), linux("arm64"),
			`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[` + arm + `,` + bare + `],"annotations":{"z":"1","a":"2"}}`},
		{"every version of Windows", index(windows1, amd, windows2), []providers.Platform{{OS: "windows", Architecture: "amd64"}},
			`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[` + windows1 + `,` + windows2 + `],"annotations":{"z":"1","a":"2"}}`},
		{"every variant, where none is named", index(arm6, arm7, amd), linux("arm"),
			`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[` + arm6 + `,` + arm7 + `],"annotations":{"z":"1","a":"2"}}`},
		{"the variant that is named, also where it goes without saying", index(arm6, arm7, amd), linux("arm/v7"),
			`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[` + arm7 + `],"annotations":{"z":"1","a":"2"}}`},
		{"nothing matches", index(amd, arm, att, bare), linux("s390x"), ""},
		{"an image is returned as it is", someManifest, linux("s390x"), someManifest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, err := parseManifest([]byte(tt.in), "")
			if err != nil {
				t.Fatal(err)
			}
			out, err := Select(in, tt.want)
			if tt.out == "" {
				if err == nil || !strings.Contains(err.Error(), "linux/amd64, linux/arm64") {
					t.Errorf("error %v, want one that lists what there is", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.out, string(out.Raw)); diff != "" || out.Digest != providers.SHA256(out.Raw) {
				t.Errorf("digest %s (-want +got):\n%s", out.Digest, diff)
			}
		})
	}
}

func TestParseChallenges(t *testing.T) {
	for _, tt := range []struct {
		lines []string
		want  string
	}{
		{[]string{`Bearer realm="https://a/token",service="s",scope="repository:x:pull,push"`}, `bearer map[realm:https://a/token scope:repository:x:pull,push service:s]`},
		{[]string{`Basic realm="a", Bearer realm="https://b"`}, `basic map[realm:a]; bearer map[realm:https://b]`},
		{[]string{`Basic realm=a`, `BEARER Realm="q\"uote"`}, `basic map[realm:a]; bearer map[realm:q"uote]`},
		{[]string{`Negotiate`, `Negotiate abc==`}, `negotiate map[]; negotiate map[]`},
		{[]string{`Bearer realm="open`}, `bearer map[]`},
		{[]string{`,,, `, ``}, ``},
	} {
		var got []string
		for _, c := range parseChallenges(tt.lines) {
			delete(c.params, "abc")
			got = append(got, fmt.Sprint(c.scheme, " ", c.params))
		}
		if text := strings.Join(got, "; "); !strings.HasPrefix(text, tt.want) {
			t.Errorf("%q: %s, want %s", tt.lines, text, tt.want)
		}
	}
}

func TestNextLink(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{`</v2/_catalog?last=b&n=2>; rel="next"`, "/v2/_catalog?last=b&n=2"},
		{`</prev>; rel=prev, </next>; rel=next`, "/next"},
		{`<a,b;c>; title="x, <y>"; rel="first next"`, "a,b;c"},
		{`</x>; REL="NEXT"`, "/x"},
		{`</x>`, ""},
		{`/x; rel=next`, ""},
		{`</x; rel=next`, ""},
		{`</x>; rel="next`, ""},
	} {
		if got := nextLink([]string{tt.line}); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.line, got, tt.want)
		}
	}
}

func TestParseReferrerTag(t *testing.T) {
	hex := strings.Repeat("a", 64)
	for _, tt := range []struct {
		tag, suffix string
		ok          bool
	}{
		{"sha256-" + hex, "", true},
		{"sha256-" + hex + ".sig", "sig", true},
		{"sha256-" + hex + ".att", "att", true},
		{"sha256-" + hex + ".sbom", "sbom", true},
		{"sha256-" + hex + ".exe", "", false},
		{"sha256-" + hex + ".", "", false},
		{"sha256-" + hex[1:], "", false},
		{"v1.0", "", false},
	} {
		subject, suffix, ok := ParseReferrerTag(tt.tag)
		if ok != tt.ok || ok && (suffix != tt.suffix || subject != digestA) {
			t.Errorf("%s: %s %q %t, want %q %t", tt.tag, subject, suffix, ok, tt.suffix, tt.ok)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(someManifest), ociManifest)
	f.Add([]byte(`{"schemaVersion":2,"manifests":[`+descriptorOf(ociManifest, digestA, "10", `,"platform":{"os":"linux","architecture":"amd64"}`)+`]}`), "")
	fuzz.Run(f, func(t *testing.T, raw []byte, contentType string) {
		m, err := parseManifest(raw, contentType)
		if err != nil {
			return
		}
		if m.Digest != providers.SHA256(raw) || !bytes.Equal(m.Raw, raw) {
			t.Fatal("the bytes changed")
		}
		if m.IsIndex() != (m.Manifests != nil) || m.IsIndex() && (m.Config != nil || m.Layers != nil) {
			t.Fatalf("an index and an image at once: %+v", m)
		}
		// A reader that minds the case of keys must see the same.
		var plain map[string]json.RawMessage
		if json.Unmarshal(raw, &plain) != nil {
			t.Fatal("not an object")
		}
		if _, there := plain["manifests"]; m.IsIndex() && !there {
			t.Fatal("an index for us, not for a strict reader")
		}
		for _, d := range append(m.Blobs(), m.Manifests...) {
			if _, err := providers.ParseDigest(string(d.Digest)); err != nil || d.Size < 0 || d.Size > maxSize {
				t.Fatalf("descriptor %+v got through", d)
			}
		}
		if narrowed, err := Select(m, []providers.Platform{{OS: "linux", Architecture: "amd64"}}); err == nil && m.IsIndex() && len(narrowed.Manifests) == 0 {
			t.Fatal("an empty index was made")
		}
	})
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://a/token",service="s", Basic realm=x`)
	f.Add(`Negotiate abc==,Bearer realm="\"`)
	fuzz.Run(f, func(t *testing.T, line string) {
		all := parseChallenges([]string{line})
		if len(all) > maxChallenges {
			t.Fatalf("%d challenges", len(all))
		}
		if c, err := choose(all); err == nil && c.scheme != "basic" && c.scheme != "bearer" {
			t.Fatalf("chose %s", c.scheme)
		}
	})
}

func FuzzLink(f *testing.F) {
	f.Add(`</v2/_catalog?last=b&n=2>; rel="next"`)
	f.Add(`<a>;x="<b>", <c>; rel=next`)
	fuzz.Run(f, func(t *testing.T, line string) {
		if target := nextLink([]string{line}); !strings.Contains(line, target) {
			t.Fatalf("%q is not in the header", target)
		}
	})
}

func FuzzLocation(f *testing.F) {
	r := &remote{scheme: "https", apiHost: "reg.example", origin: "https://reg.example:443"}
	base := r.url("a/blobs/uploads/", nil)
	for _, s := range []string{"/v2/a?x=1", "https://reg.example/u", "http://reg.example/u", "//evil/u", "https://u@evil", "https://store.example/x"} {
		f.Add(s)
	}
	fuzz.Run(f, func(t *testing.T, text string) {
		u, foreign, err := r.resolve(base, text, []string{"store.example"})
		if err != nil {
			return
		}
		if u.Scheme != "https" || u.User != nil {
			t.Fatalf("%q gives %s", text, u)
		}
		if host := strings.ToLower(u.Hostname()); !foreign && host != "reg.example" || foreign && host != "store.example" {
			t.Fatalf("%q goes to %s, foreign %t", text, host, foreign)
		}
	})
}

func FuzzCredentialFile(f *testing.F) {
	f.Add([]byte(`{"auths":{"reg.example":{"auth":"dTpw"}},"credHelpers":{"x":"y"},"credsStore":"z"}`))
	f.Add([]byte(`{"auths":{"https://index.docker.io/v1/":{"identitytoken":"t"}}}`))
	fuzz.Run(f, func(t *testing.T, raw []byte) {
		file, err := parseCredentialFile("config.json", raw)
		if err != nil {
			return
		}
		for _, host := range []string{"reg.example", "docker.io", "x"} {
			c, found, err := file.find(t.Context(), providers.Repository{Host: host, Path: "a/b"}, nil)
			if found && err == nil && c.Password == nil && c.Identity == nil && c.Bearer == nil {
				t.Fatal("found, and nothing in it")
			}
		}
		for _, name := range slices.Collect(func(yield func(string) bool) {
			for _, n := range file.Helpers {
				if !yield(n) {
					return
				}
			}
		}) {
			if helperGrammar().MatchString(name) && strings.ContainsAny(name, `/\ `) {
				t.Fatalf("helper %q passes", name)
			}
		}
	})
}
