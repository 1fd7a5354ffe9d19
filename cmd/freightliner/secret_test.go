package main

import (
	"bytes"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/fnv"
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"freightliner/providers/secret/secrettest/awsfake"
)

// safe is a directory with secrets, and a home of its own.
type safe struct {
	testing.TB
	dir, home, given string // given: a directory with what the tests hand in
	env              []string
	said             bytes.Buffer // all that the program ever printed
}

func newSafe(t testing.TB, hcl string) *safe {
	s := &safe{TB: t, dir: t.TempDir(), home: t.TempDir(), given: t.TempDir()}
	s.write("main.hcl", hcl)
	return s
}

func (s *safe) write(name, text string) {
	s.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

func (s *safe) command(stdin string, args ...string) *exec.Cmd {
	s.Helper()
	program, err := exec.LookPath("freightliner") // TestMain put it there
	if err != nil {
		s.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = s.dir
	cmd.Env = append([]string{
		"HOME=" + s.home, "USER=tester", "PATH=" + os.Getenv("PATH"), "NO_PROXY=127.0.0.1", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=AKIAFREIGHTLINERTEST", "AWS_SECRET_ACCESS_KEY=only-a-fake-takes-this",
	}, s.env...)
	cmd.Stdin = strings.NewReader(stdin)
	return cmd
}

// run runs the program and gives its exit code and standard output. All it
// prints is kept for the search.
func (s *safe) run(stdin string, args ...string) (code int, stdout string) {
	s.Helper()
	cmd := s.command(stdin, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the exit code is what counts
	s.said.Write(out.Bytes())
	s.said.Write(errs.Bytes())
	return cmd.ProcessState.ExitCode(), out.String()
}

func (s *safe) must(want int, stdin string, args ...string) string {
	s.Helper()
	code, out := s.run(stdin, args...)
	if code != want {
		s.Fatalf("freightliner %s: exit code %d, want %d\n%s", strings.Join(args, " "), code, want, s.said.String()[max(0, s.said.Len()-4000):])
	}
	return out
}

// canary is a value that must turn up nowhere: token is in it, whatever its
// shape.
type canary struct{ token, value string }

func canaries(n int) []canary {
	shapes := []func(token string) string{
		func(t string) string { return t },
		func(t string) string { return "pw-" + t + "!" },
		func(t string) string { return "first line\n" + t + "\nlast line\n" },
		func(t string) string { return `{"user":"app","password":"` + t + `"}` },
		func(t string) string { return `quo"te'` + t + "`tick`%s%d&<>" },
		func(t string) string { return "\u00fcml\u00e4ut " + t + " \u65e5\u672c" },
		func(t string) string {
			return "-----BEGIN PRIVATE KEY-----\nMIIB" + t + "\n-----END PRIVATE KEY-----\n"
		},
		func(t string) string { return "postgres://app:" + t + "@db.internal:5432/app?sslmode=require" },
		func(t string) string { return "\x00\x01\x02" + t + "\xff\xfe" },
		func(t string) string { return strings.Repeat(t, 40) },
	}
	out := make([]canary, n)
	for i := range out {
		token := "c4nary" + strings.ToLower(rand.Text())
		out[i] = canary{token, shapes[i%len(shapes)](token)}
	}
	return out
}

// forms are the token as it may appear: raw, which holds for every escape of
// URLs, JSON, HTML and shells too, since it is letters and digits; in the bases
// at every alignment; in UTF-16.
func (c canary) forms() map[string][]byte {
	token := []byte(c.token)
	forms := map[string][]byte{
		"raw": token, "hex": []byte(hex.EncodeToString(token)), "HEX": bytes.ToUpper([]byte(hex.EncodeToString(token))),
	}
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), token...))
		forms[fmt.Sprintf("base64+%d", shift)] = []byte(text[4 : len(text)-4])
	}
	for shift := range 5 {
		text := base32.StdEncoding.EncodeToString(append(make([]byte, shift), token...))
		forms[fmt.Sprintf("base32+%d", shift)] = []byte(text[8 : len(text)-8])
	}
	var little, big []byte
	for _, u := range utf16.Encode([]rune(c.token)) {
		little, big = append(little, byte(u), byte(u>>8)), append(big, byte(u>>8), byte(u))
	}
	forms["UTF-16LE"], forms["UTF-16BE"] = little, big
	return forms
}

// search looks for every canary in everything that the program printed or left
// behind.
func (s *safe) search(all []canary) {
	s.Helper()
	places := map[string][]byte{"what was printed": s.said.Bytes()}
	for _, root := range []string{s.dir, s.home} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			places[path], err = os.ReadFile(path)
			return err
		})
		if err != nil {
			s.Fatal(err)
		}
	}
	hits := 0
	for _, c := range all {
		for form, text := range c.forms() {
			for place, content := range places {
				if i := bytes.Index(content, text); i >= 0 {
					hits++
					s.Errorf("%s of %s in %s, after %q", form, c.token, place, content[max(0, i-60):i])
				}
			}
		}
	}
	s.Logf("%d values in %d places: %d hits", len(all), len(places), hits)
}

const canaryHCL = `
variable "values" {
  type      = map(string)
  ephemeral = true
}
variable "names" { type = set(string) }
variable "endpoint" {}

secret_store "here" {}
secret_store "cloud" {
  kind     = "aws"
  region   = "eu-west-1"
  endpoint = var.endpoint
}
secret "text" {
  for_each = var.names
  store    = secret_store.here
  name     = "text/${each.key}"
  value    = var.values[each.key]
  lifecycle { prevent_destroy = false }
}
secret "json" {
  for_each = var.names
  store    = secret_store.cloud
  name     = "json/${each.key}"
  json     = { user = "app", password = var.values[each.key] }
}
`

// TestCanaries takes 240 values of every shape through every command, in
// success and in failure, and then looks for them everywhere but in the stores.
func TestCanaries(t *testing.T) {
	all := canaries(240)
	fake := awsfake.New("eu-west-1")
	fake.Clock = awsfake.PassingClock()
	server := httptest.NewServer(fake)
	defer server.Close()
	s := newSafe(t, canaryHCL)
	value := map[string]string{}
	names := []string{}
	given := []canary{} // by the configuration; HCL has no invalid UTF-8
	for i, c := range all {
		if i < 200 && i%10 != 8 {
			name := fmt.Sprintf("n%03d", i)
			value[name], names = c.value, append(names, name)
			given = append(given, c)
		}
	}
	vars := filepath.Join(s.given, "values.hcl.json")
	writeJSON(t, vars, map[string]any{"values": value, "names": names, "endpoint": server.URL})
	with := func(args ...string) []string { return append(args, "-var-file", vars) }

	s.must(0, "", with("validate")...)
	s.must(0, "", with("plan", "-out", "p.flplan", "-markdown", "p.md", "-json-into", "plan.jsonl", "-full")...)
	s.must(2, "", with("plan", "-json", "-detailed-exitcode", "-log-level", "trace")...)
	s.must(0, "", "show", "p.flplan")
	s.must(0, "", "show", "-json", "p.flplan")
	s.must(0, "", with("apply", "p.flplan", "-json-into", "apply.jsonl", "-report", "report.json", "-log-level", "trace")...)
	s.must(0, "", with("plan", "-detailed-exitcode")...)
	for _, args := range [][]string{{"drift", "-json"}, {"drift", "-markdown", "d.md"}, {"state", "rebuild", "-auto-approve"}} {
		s.must(0, "", with(args...)...)
	}
	for _, args := range [][]string{{"state", "list"}, {"state", "list", "-json"}, {"state", "show", "-json"}, {"state", "verify"}, {"state", "compact"}} {
		s.run("", with(args...)...)
	}
	direct := directly(t, server.URL, all[200:])
	s.must(0, "", with("secret", "list", "-store", "cloud", "-json")...)
	s.must(0, "", "audit", "verify", "-json")

	// Failures: drift that is put right, refusals, a value that is too long, a
	// configuration that uses values where it must not, a store that is down.
	fake.Foreign("json/n000", "theirs")
	s.must(0, "", with("apply", "-auto-approve", "-json")...)
	for n, action := range []string{"DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"} {
		name := "json/" + names[n+1]
		fake.Foreign(name, "theirs")
		fake.Deny(action, name)
		s.must(3, "", with("apply", "-auto-approve", "-log-level", "debug")...)
		fake.Allow()
		s.must(0, "", with("apply", "-auto-approve")...)
	}
	for _, kind := range []awsfake.Kind{awsfake.Garbled, awsfake.Proxied, awsfake.Broken} {
		name := "json/" + names[9]
		fake.Foreign(name, "theirs")
		fake.Inject(func(c awsfake.Call) awsfake.Fault {
			if c.Operation == "PutSecretValue" {
				return awsfake.Fault{Kind: kind}
			}
			return awsfake.Fault{}
		})
		s.run("", with("apply", "-auto-approve", "-log-level", "trace")...)
		fake.Inject(nil)
		s.must(0, "", with("apply", "-auto-approve")...)
	}
	for _, mistake := range []string{
		`secret "x" {
  store = secret_store.here
  name  = var.values["n000"]
  value = "${var.values["n001"]}"
}`, `locals { leak = tonumber(var.values["n002"]) }`, `output "x" { value = var.values["n003"] }`,
		`check "x" { assert { condition = var.values["n004"] == "" } }`,
		`tree "t" {
  source = "a.b/${var.values["n005"]}"
  destination = "c.d/e"
}`,
	} {
		s.write("mistake.hcl", mistake)
		s.must(1, "", with("plan")...)
		s.must(1, "", with("plan", "-json")...)
	}
	if err := os.Remove(filepath.Join(s.dir, "mistake.hcl")); err != nil {
		t.Fatal(err)
	}
	s.must(7, "", with("secret", "delete", "-store", "cloud", "-auto-approve", "json/n000")...)
	s.must(0, "", with("destroy", "-auto-approve", "-target", "secret.text")...)
	fake.Inject(func(awsfake.Call) awsfake.Fault { return awsfake.Fault{Kind: awsfake.Proxied} })
	s.must(1, "", with("plan", "-target", "secret.json")...) // a store that can not be reached
	fake.Inject(nil)
	s.search(given)
	direct.search(all[200:])
}

// directly takes values, with the shapes that no variable can hold, through the
// commands that work on one secret.
func directly(t *testing.T, endpoint string, all []canary) *safe {
	s := newSafe(t, fmt.Sprintf(`
secret_store "here" {}
secret_store "cloud" {
  kind     = "aws"
  region   = "eu-west-1"
  endpoint = %q
}
`, endpoint))
	for i, c := range all {
		name, store := "direct/"+strconv.Itoa(i), []string{"here", "cloud"}[i%2]
		file := filepath.Join(s.given, strconv.Itoa(i))
		if err := os.WriteFile(file, []byte(c.value), 0o600); err != nil {
			t.Fatal(err)
		}
		of := func(command string, args ...string) []string {
			return append([]string{"secret", command, "-store", store, name}, args...)
		}
		if i%3 == 0 {
			s.must(0, "", of("put", "-file", file, "-json")...)
		} else {
			s.must(0, c.value, of("put")...)
		}
		got, err := s.command("", of("get", "-reveal")...).Output() // the one output that is meant to be the value
		if err != nil || string(got) != c.value {
			t.Fatalf("get -reveal of %s gave %q, %v", name, got, err)
		}
		switch i % 5 {
		case 0:
			s.must(0, "", of("get")...)
			s.must(0, "", of("history", "-json")...)
		case 1:
			merged := 1 // only a JSON object has keys
			if strings.HasPrefix(c.value, "{") {
				merged = 0
			}
			s.must(merged, `{"more":"`+c.token+`"}`, of("put-json")...)
		case 2:
			s.must(1, c.value, of("put", "-expect", "another", "-log-level", "trace")...)
		case 3:
			s.must(0, "", of("delete", "-auto-approve")...)
			s.must(1, c.value, of("put")...) // it waits for its deletion
			s.must(0, "", of("restore")...)
		case 4:
			s.must(1, strings.Repeat(c.token, 5000), of("put")...)
		}
	}
	s.must(0, "", "secret", "list", "-store", "here")
	s.must(0, "", "secret", "member", "list")
	s.must(0, "", "secret", "doctor")
	s.must(0, "", "audit", "verify")
	return s
}

func writeJSON(t testing.TB, name string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(name, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestNoGuessing: nothing in state, plan or audit log tells a PIN of four digits
// from the other 9,999. The search tries all digests that anybody would think of
// over each field that the files hold, and the secret key's own fingerprints are
// the control that the search works.
func TestNoGuessing(t *testing.T) {
	const pin = "4711"
	s := newSafe(t, `
variable "pin" { ephemeral = true }
secret_store "here" {}
secret "pin" {
  store = secret_store.here
  name  = "pin"
  value = var.pin
}
`)
	s.env = []string{"FREIGHTLINER_VAR_pin=" + pin}
	s.must(0, "", "plan", "-out", "p.flplan", "-json-into", "p.jsonl")
	s.must(0, "", "apply", "-auto-approve", "-report", "r.json")
	s.must(0, "", "show", "-json")
	fields := map[string]bool{}
	collect := func(text string) {
		for _, word := range strings.FieldsFunc(text, func(r rune) bool {
			return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("+/=_-", r))
		}) {
			fields[word] = true
			for part := range strings.SplitSeq(word, "-") {
				fields[part] = true
			}
		}
	}
	collect(s.said.String())
	for _, root := range []string{s.dir, s.home} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, ".age") || strings.HasSuffix(path, "identity.txt") {
				return err // the store itself
			}
			b, err := os.ReadFile(path)
			collect(string(b))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	hits := guesses(fields, 10_000)
	if len(hits) > 0 {
		t.Errorf("PINs can be told from %v", hits)
	}
	control := map[string]bool{digestsOf("0815")[3]: true}
	if got := guesses(control, 10_000); len(got) != 1 {
		t.Errorf("the search does not find what it should: %v", got)
	}
	t.Logf("%d fields, 10,000 PINs, %d digests of each: %d hits", len(fields), len(digestsOf(pin)), len(hits))
}

// TestTwoThousandSecrets: a plan of 2,000 secrets in sync, against the fake with
// the service's rates and batch calls only.
func TestTwoThousandSecrets(t *testing.T) {
	fake := awsfake.New("eu-west-1")
	fake.Clock, fake.Rates = awsfake.PassingClock(), false
	server := httptest.NewServer(fake)
	defer server.Close()
	s := newSafe(t, fmt.Sprintf(`
secret_store "cloud" {
  kind     = "aws"
  region   = "eu-west-1"
  endpoint = %q
}
secret "all" {
  for_each = toset(flatten([for a in range(2) : [for b in range(1000) : format("s%%d%%03d", a, b)]]))
  store    = secret_store.cloud
  name     = "prod/${each.key}"
  json     = { name = each.key, adopt = true }
  adopt    = true
}
`, server.URL))
	for i := range 2000 {
		name := fmt.Sprintf("s%04d", i)
		fake.Foreign("prod/"+name, `{"adopt":true,"name":"`+name+`"}`)
		fake.Retag("prod/"+name, "managed-by", "freightliner")
		fake.Retag("prod/"+name, "freightliner-address", `secret.all["`+name+`"]`)
	}
	s.must(0, "", "apply", "-auto-approve")
	fake.Rates = true
	fake.ResetCalls()
	began := time.Now()
	out := s.must(0, "", "plan", "-detailed-exitcode")
	took := time.Since(began)
	if !strings.Contains(out, "2,000 secrets are as they should be") {
		t.Errorf("plan says:\n%s", out)
	}
	calls := fake.Calls()
	want := map[string]int{"ListSecrets": 20, "BatchGetSecretValue": 100, "GetCallerIdentity": 1}
	for operation, n := range want {
		if calls[operation] != n {
			t.Errorf("%s was called %d times, want %d", operation, calls[operation], n)
		}
		delete(calls, operation)
	}
	if len(calls) > 0 {
		t.Errorf("further calls: %v", calls)
	}
	t.Logf("2,000 secrets in sync planned in %v", took.Round(time.Millisecond))
}

// digestsOf are all texts that somebody who wants to guess would look for.
func digestsOf(pin string) []string {
	b := []byte(pin)
	sums := [][]byte{}
	for _, h := range []hash.Hash{md5.New(), sha1.New(), sha256.New(), sha512.New(), sha512.New384(), crc32.NewIEEE(), crc32.New(crc32.MakeTable(crc32.Castagnoli)), fnv.New64a()} {
		h.Write(b)
		sums = append(sums, h.Sum(nil))
	}
	var out []string
	for _, sum := range sums {
		out = append(out, hex.EncodeToString(sum), base64.RawStdEncoding.EncodeToString(sum), base64.RawURLEncoding.EncodeToString(sum))
		if len(sum) >= 8 {
			out = append(out, hex.EncodeToString(sum[:8]))
		}
		if len(sum) >= 16 {
			out = append(out, hex.EncodeToString(sum[:16]))
		}
	}
	return append(out, hex.EncodeToString(b), base64.StdEncoding.EncodeToString(b), strconv.Itoa(int(crc32.ChecksumIEEE(b))),
		strconv.Itoa(int(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))))
}

// guesses are the PINs of which a field is a digest.
func guesses(fields map[string]bool, n int) (hits []string) {
	for i := range n {
		pin := fmt.Sprintf("%04d", i)
		if slices.ContainsFunc(digestsOf(pin), func(d string) bool { return len(d) >= 8 && fields[d] }) {
			hits = append(hits, pin)
		}
	}
	return hits
}
