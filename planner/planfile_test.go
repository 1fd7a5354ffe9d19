package planner

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"freightliner/config"
	"freightliner/providers"
	"freightliner/providers/fuzz"
	"freightliner/statefile"
)

// richPlan has every field of every line set somewhere.
func richPlan() *Plan {
	return &Plan{
		State: D("f"),
		Registries: []Registry{
			{Config: config.Registry{Name: "prod", Host: "dst.example", Kind: "generic", PlainHTTP: true, TokenHosts: []string{"auth.example"},
				CreateRepositories: true, Created: config.RepositorySettings{ScanOnPush: true, ImmutableTags: true, KMSKey: "alias/k", Labels: map[string]string{"b": "1", "a": "2"}}}, Auth: true, Touched: true},
			{Config: config.Registry{Host: "src.example", Kind: "generic"}, Touched: true},
		},
		Blocks: []Block{
			{Address: "image.nginx", Kind: statefile.KindImage, Source: "src.example/nginx:1", Destination: "dst.example/nginx:1", Copy: config.CopyOptions{Referrers: true, Overwrite: "always"}, Unchanged: 1},
			{Address: "tree.p", Kind: statefile.KindTree, Source: "src.example/acme", Destination: "dst.example/m", OnRemove: "delete", Protect: true, Selection: "0123456789abcdef",
				Copy: config.CopyOptions{Platforms: []providers.Platform{{OS: "linux", Architecture: "arm64"}}, Overwrite: "managed"}, After: []int{0}, Left: 2},
		},
		Actions: []Action{
			{Address: "tree.p", Kind: statefile.KindTree, Verb: Create, Cause: ByConfig, Reason: "new in the configuration", Block: 1},
			{Address: "tree.p/api:1", Kind: statefile.KindTag, Verb: Update, Cause: ByUpstream, Reason: "moved at the source", Block: 1,
				From: repositoryOf("src.example/acme/api"), FromTag: "1", To: repositoryOf("dst.example/m/api"), ToTag: "1",
				Pin: D("a"), Want: D("b"), Observed: D("c"), Prior: D("d"), Fresh: true, Bytes: 10, Present: 20, Requests: 3, Needs: []int{0}},
			{Address: "tree.p/api@" + string(D("b")), Kind: statefile.KindReferrers, Verb: Create, Cause: ByUpstream, Reason: "goes with its image", Block: 1,
				From: repositoryOf("src.example/acme/api"), To: repositoryOf("dst.example/m/api"), Pin: D("e"), Want: D("e"),
				Referrers: []Referrer{{Digest: D("1"), Subject: D("b"), Tag: "sha256-x.sig"}}, Needs: []int{1}},
		},
		Problems: []Problem{{Address: "tree.p/web", Class: providers.Denied, Summary: "list tags: denied <&> \u2028", Hint: "Log in.", Range: config.Range{File: "main.hcl", StartLine: 3}}},
	}
}

func encoded(t testing.TB, p *Plan) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Encode(&b, p); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPlanFileRoundTrip(t *testing.T) {
	p := richPlan()
	got, err := Decode(bytes.NewReader(encoded(t, p)))
	if err != nil {
		t.Fatal(err)
	}
	p.Saved = true
	if diff := cmp.Diff(p, got); diff != "" {
		t.Errorf("plan (-written +read):\n%s", diff)
	}
	if got.ID() != p.ID() {
		t.Errorf("the id changed from %s to %s", p.ID(), got.ID())
	}
	if !bytes.Equal(encoded(t, p), encoded(t, got)) {
		t.Error("the bytes changed")
	}
}

// TestPlanFileDamage flips every bit and cuts at every byte: never a plan.
func TestPlanFileDamage(t *testing.T) {
	good := encoded(t, richPlan())
	for i := range good {
		if _, err := Decode(bytes.NewReader(good[:i])); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at byte %d: %v", i, err)
		}
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			got, err := Decode(bytes.NewReader(bad))
			if err == nil && got.ID() != richPlan().ID() {
				t.Fatalf("bit %d of byte %d flipped: read as another plan", bit, i)
			}
		}
	}
}

// sealer compresses for tests: one for all, since a fuzzer asks a thousand times
// a second.
var sealer = func() *zstd.Encoder {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<17))
	if err != nil {
		panic(err)
	}
	return z
}()

// reseal compresses lines as a plan file without making them right.
func reseal(content string) []byte { return sealer.EncodeAll([]byte(content), nil) }

func sealed(t testing.TB, content string) []byte {
	return reseal(ended(content))
}

// ended is content with the end line that belongs to it.
func ended(content string) string {
	return content + `{"end":"` + string(providers.SHA256([]byte(content))) + "\"}\n"
}

func TestHostilePlanFiles(t *testing.T) {
	const head = `{"freightliner":"plan","v":1}` + "\n"
	const block = `{"block":{"Address":"tree.p","Kind":"tree","Source":"","Destination":"","Copy":{"Platforms":null,"Referrers":false,"Overwrite":""},"OnRemove":"","Protect":false,"Selection":"","After":null,"Unchanged":0,"Left":0}}` + "\n"
	action := func(members string) string {
		return head + block + `{"action":{"a":"tree.p/x:1","k":"tag",` + members + "}}\n"
	}
	const good = `"v":"forget","c":"config","why":"","b":0`
	for _, c := range []struct {
		name, content string
		want          error
	}{
		{"another version", `{"freightliner":"plan","v":2}` + "\n", ErrVersion},
		{"a state file", `{"freightliner":"state","v":1}` + "\n", ErrDamaged},
		{"an unknown member", head + `{"surprise":1}` + "\n", ErrDamaged},
		{"an empty line", head + "{}\n", ErrDamaged},
		{"a block that is not there", action(`"v":"forget","c":"config","why":"","b":1`), ErrDamaged},
		{"an action of another block", head + block + `{"action":{"a":"tree.q/x:1","k":"tag",` + good + "}}\n", ErrDamaged},
		{"a need that comes later", action(good + `,"needs":[0]`), ErrDamaged},
		{"a digest that is a path", action(good + `,"pin":"sha256:../../etc"`), ErrDamaged},
		{"negative bytes", action(good + `,"bytes":-1`), ErrDamaged},
		{"a block after itself", strings.Replace(head+block, `"After":null`, `"After":[0]`, 1), ErrDamaged},
		{"a verb that is none", action(`"v":"explode","c":"config","why":"","b":0`), ErrDamaged},
		{"a cause that is none", action(`"v":"forget","c":"magic","why":"","b":0`), ErrDamaged},
		{"a kind that is none", head + block + `{"action":{"a":"tree.p/x:1","k":"moon",` + good + "}}\n", ErrDamaged},
		{"a delete of what is not recorded", action(`"v":"delete","c":"config","why":"","b":0,"observed":"` + string(D("a")) + `"`), ErrDamaged},
		{"a copy of nothing", action(`"v":"create","c":"config","why":"","b":0`), ErrDamaged},
		{"a member twice", action(good + `,"b":0`), ErrDamaged},
		{"a member in another case", head + strings.Replace(block, "Protect", "protect", 1), ErrDamaged},
		{"more behind a line", strings.TrimSuffix(action(good), "\n") + "{}\n", ErrDamaged},
		{"a class that is none", head + `{"problem":{"Address":"","Class":200,"Summary":"","Hint":"","Blocked":false,"Guard":false,"Range":{"File":"","StartLine":0,"StartColumn":0,"EndLine":0,"EndColumn":0}}}` + "\n", ErrDamaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Decode(bytes.NewReader(sealed(t, c.content))); !errors.Is(err, c.want) {
				t.Errorf("error: %v, want %v", err, c.want)
			}
		})
	}
	if _, err := Decode(bytes.NewReader(sealed(t, action(good)))); err != nil {
		t.Errorf("the action that the others spoil is fine: %v", err)
	}
	if _, err := Decode(bytes.NewReader(sealed(t, head))); err != nil {
		t.Errorf("an empty plan is fine: %v", err)
	}
}

func FuzzDecodePlan(f *testing.F) {
	f.Add(encoded(f, richPlan()))
	f.Add(encoded(f, &Plan{}))
	f.Add([]byte("not zstd"))
	fuzz.Run(f, func(t *testing.T, b []byte) {
		p, err := Decode(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := Decode(bytes.NewReader(encoded(t, p)))
		if err != nil || again.ID() != p.ID() {
			t.Fatalf("a plan that can be read can not be written and read again: %v", err)
		}
	})
}

// FuzzDecodePlanContent gets past compression and checksum, so that the fuzzer
// works on the lines.
func FuzzDecodePlanContent(f *testing.F) {
	var b bytes.Buffer
	if err := richPlan().content(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.String())
	f.Add(`{"freightliner":"plan","v":1}` + "\n")
	fuzz.Run(f, func(t *testing.T, content string) {
		p, err := decode(strings.NewReader(ended(content)))
		if err != nil {
			return
		}
		if want := providers.SHA256([]byte(content)); p.ID() != want {
			t.Fatalf("the id is %s, the content's digest %s", p.ID(), want)
		}
		p.Totals()
		for i := range p.Actions {
			p.Change(i)
		}
		for _, q := range p.Problems {
			_ = q.Class.String()
		}
	})
}
