package providers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers/fuzz"
)

func TestParseDigest(t *testing.T) {
	sum := strings.Repeat("0f", 32)
	for _, c := range []struct {
		in string
		ok bool
	}{
		{"sha256:" + sum, true},
		{"sha512:" + sum + sum, true},
		{"", false},
		{"sha256:", false},
		{sum, false},
		{"sha256:" + sum[1:], false},
		{"sha256:" + sum + "0", false},
		{"sha256:" + strings.ToUpper(sum), false},
		{"SHA256:" + sum, false},
		{"md5:" + sum[:32], false},
		{"sha256:../../etc/passwd" + sum[:47], false},
		{"sha256:" + sum + "\n", false},
	} {
		d, err := ParseDigest(c.in)
		if c.ok && (err != nil || string(d) != c.in) || !c.ok && !errors.Is(err, ErrDigest) {
			t.Errorf("%q: %q, %v", c.in, d, err)
		}
	}
}

func TestDigestOf(t *testing.T) {
	content := []byte("{}")
	d := SHA256(content)
	if d != "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" { // the empty descriptor of the OCI image-spec
		t.Errorf("digest of {}: %s", d)
	}
	if d.Of(content) != d || d.Of([]byte("{ }")) == d {
		t.Error("Of does not tell content apart")
	}
	if d.Short() != "44136fa355b3" || d.Algorithm() != "sha256" || Digest("").Short() != "" {
		t.Errorf("parts: %s %s", d.Short(), d.Algorithm())
	}
	if wide := Digest("sha512:00").Of(content); wide.Algorithm() != "sha512" || len(wide.Hex()) != 128 {
		t.Errorf("sha512: %s", wide)
	}
}

func TestClassOf(t *testing.T) {
	inner := &Error{Class: NotFound, Op: "read manifest", On: "r.example/a:1", Err: errors.New("gone"), Hint: "Look elsewhere."}
	outer := &Error{Class: Conflict, Op: "copy", On: "r.example/b:1", Err: inner}
	for _, c := range []struct {
		err  error
		want Class
		hint string
	}{
		{nil, Unknown, ""},
		{errors.New("x"), Unknown, ""},
		{context.Canceled, Canceled, ""},
		{fmt.Errorf("wrapped: %w", inner), NotFound, "Look elsewhere."},
		{outer, Conflict, "Look elsewhere."},
	} {
		if got := ClassOf(c.err); got != c.want {
			t.Errorf("class of %v: %s, want %s", c.err, got, c.want)
		}
		if got := HintOf(c.err); got != c.hint {
			t.Errorf("hint of %v: %q, want %q", c.err, got, c.hint)
		}
	}
	if got, want := outer.Error(), "copy r.example/b:1: read manifest r.example/a:1: gone"; got != want {
		t.Errorf("text:\n got %s\nwant %s", got, want)
	}
}

func TestUnder(t *testing.T) {
	repo := func(s string) Repository {
		host, path, _ := strings.Cut(s, "/")
		return Repository{host, path}
	}
	for _, c := range []struct {
		r, base string
		rel     string
		want    bool
	}{
		{"h/team/a", "h/team", "a", true},
		{"h/team", "h/team", "", true},
		{"h/team-b/a", "h/team", "", false},
		{"h/a/b", "h", "a/b", true},
		{"i/team/a", "h/team", "", false},
		{"h/team", "h/team/a", "", false},
	} {
		r, base := repo(c.r), repo(c.base)
		if got := r.Under(base); got != c.want {
			t.Errorf("%s under %s: %v", c.r, c.base, got)
		}
		if c.want && (r.Rel(base) != c.rel || base.Join(c.rel) != r) {
			t.Errorf("%s relative to %s: %q, and back: %s", c.r, c.base, r.Rel(base), base.Join(r.Rel(base)))
		}
	}
}

func TestPlatforms(t *testing.T) {
	for _, bad := range []string{"", "linux", "linux/", "/amd64", "Linux/amd64", "linux/arm/v7/x", "linux/amd64 "} {
		if p, err := ParsePlatform(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, p)
		}
	}
	platform := func(s string) Platform {
		p, err := ParsePlatform(s)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, p.String()); diff != "" {
			t.Error(diff)
		}
		return p
	}
	for _, c := range []struct {
		image, want string
		ok          bool
	}{
		{"linux/amd64", "linux/amd64", true},
		{"linux/arm64/v8", "linux/arm64", true},
		{"linux/arm64", "linux/arm64/v8", true},
		{"linux/arm/v6", "linux/arm", true},
		{"linux/arm/v6", "linux/arm/v7", false},
		{"linux/arm", "linux/arm/v7", true},
		{"windows/amd64", "linux/amd64", false},
		{"linux/amd64", "linux/amd64/v2", false},
		{"linux/amd64", "linux/amd64/v1", true},
		{"linux/amd64/v1", "linux/amd64", true},
		{"linux/amd64/v2", "linux/amd64", true},
		{"linux/amd64/v3", "linux/amd64/v2", false}, // a machine could run it; this selects, it does not choose
		{"linux/x86_64", "linux/amd64/v1", true},
		{"linux/amd64", "linux/x86_64", true},
		{"linux/aarch64", "linux/arm64/v8", true},
		{"linux/arm64/8", "linux/arm64/v8", true},
		{"linux/arm64/v9", "linux/arm64", true},
		{"linux/arm/7", "linux/arm/v7", true},
		{"linux/amd64/v2", "linux/x86_64", true},
		{"linux/arm/v6", "linux/armhf", false},
		{"linux/armhf", "linux/arm/v7", true},
		{"linux/armel", "linux/arm/v7", false},
		{"linux/riscv64", "linux/riscv64", true},
	} {
		if got := platform(c.image).Matches(platform(c.want)); got != c.ok {
			t.Errorf("%s satisfies %s: %v", c.image, c.want, got)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain ünïcode 漢字":     "plain ünïcode 漢字",
		"a\x1b[31mred":         `a\u{1b}[31mred`,
		"line\n::set-output::": `line\n::set-output::`,
		"\r\t\x7f\u0085":       `\r\t\u{7f}\u{85}`,
		"\u202egnp.exe":        `\u{202e}gnp.exe`,
		"zero\u200bwidth":      `zero\u{200b}width`,
		"\u2028\u2029":         `\u{2028}\u{2029}`,
		"bad \xff\xfe utf8":    `bad \xff\xfe utf8`,
		"tag \U000e0041":       `tag \u{e0041}`,
	} {
		if got := Printable(in, 0); got != want {
			t.Errorf("%q:\n got %s\nwant %s", in, got, want)
		}
	}
	if got := Printable(strings.Repeat("x", 100), 10); got != "xxxxxxxxxx…" {
		t.Errorf("cut: %s", got)
	}
}

// FuzzPrintable: whatever goes in, what comes out is one line of visible text.
func FuzzPrintable(f *testing.F) {
	for _, seed := range []string{"", "plain", "\x1b]0;title\a", "\u202e\u2066", "a\xc3", strings.Repeat("\n", 50)} {
		f.Add(seed, byte(80))
	}
	fuzz.Run(f, func(t *testing.T, in string, limit byte) {
		out := Printable(in, int(limit))
		if !utf8.ValidString(out) {
			t.Fatalf("not UTF-8: %q", out)
		}
		for _, r := range out {
			if unicode.IsControl(r) || hidden(r) {
				t.Fatalf("%q lets %U through", out, r)
			}
		}
	})
}

// FuzzParseDigest: what is taken for a digest is safe in a path and in a URL.
func FuzzParseDigest(f *testing.F) {
	f.Add("sha256:" + strings.Repeat("a", 64))
	f.Add("sha512:" + strings.Repeat("a", 128))
	f.Add("sha256:../..")
	fuzz.Run(f, func(t *testing.T, in string) {
		d, err := ParseDigest(in)
		if err != nil {
			return
		}
		if string(d) != in || strings.Trim(d.Hex(), "0123456789abcdef") != "" || d.Of(nil).Algorithm() != d.Algorithm() {
			t.Fatalf("%q", in)
		}
	})
}
