package main

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unicode"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

// The tests of this file are named in the table "Attacks" of docs/testing.md.

// offTheWire is what a hostile registry puts into everything that it can: escapes
// of terminals (C0, DEL, C1), text that turns around or hides, commands of CI
// logs, Markdown and HTML that leave their place, and broken UTF-8.
var offTheWire = strings.Join([]string{
	"\x1b[2J\x1b[31m", "\x1b]0;title\x07", "\x7f", "\u009b31m", "\u202e\u2066", "\u200b\u2060", "\u2028\u2029", "\U000e0041", "\xff\xfe",
	"\n::set-output name=x::y", "\r::add-mask::a", "\n##vso[task.setvariable variable=x]y", "\n##teamcity[message text='x']",
	"\n```\n````\n", "<details><img src=https://beacon.example/x>", "<!--", "![x](https://beacon.example/x)", "@everyone", "|a|b|",
}, " ")

// hostileRegistry wants a password and echoes it, with all of
// offTheWire, wherever an answer has room for text.
func hostileRegistry(t *testing.T, ledger *registrytest.Ledger) (host string) {
	t.Helper()
	refuse := func(w http.ResponseWriter, r *http.Request, status int) {
		text := offTheWire + r.Header.Get("Authorization") + offTheWire
		w.Header().Set("Warning", `299 - "`+strings.Map(func(c rune) rune {
			if unicode.IsControl(c) && !strings.Contains(r.URL.Path, "/broken/") {
				return -1 // net/http would not take the answer
			}
			return c
		}, text)+`"`)
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]any{"code": "EVIL" + text, "message": text, "detail": text}}, "details": text})
	}
	s := httptest.NewServer(ledger.Wrap("hostile", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") == "":
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			refuse(w, r, http.StatusUnauthorized)
		case strings.HasSuffix(r.URL.Path, "/named/tags/list"):
			io.WriteString(w, `{"tags":["ok","`+strings.ReplaceAll(url.PathEscape(offTheWire), "%", `\u00`)+`"]}`)
		case strings.HasSuffix(r.URL.Path, "/typed/tags/list"):
			io.WriteString(w, `{"tags":["v1"]}`)
		case strings.Contains(r.URL.Path, "/typed/manifests/"):
			body := `{"schemaVersion":2,"mediaType":"x/y\u001b[31m\u202e"}`
			w.Header().Set("Content-Type", "x/y\x1b[31m")
			w.Header().Set("Docker-Content-Digest", string(providers.SHA256([]byte(body))))
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			io.WriteString(w, body)
		case strings.Contains(r.URL.Path, "/elsewhere/"):
			w.Header().Set("Location", "http://evil\x1b[31m.example/\u202e")
			refuse(w, r, http.StatusFound)
		default:
			refuse(w, r, http.StatusBadRequest)
		}
	})))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// TestHostileText lets a registry say everything that it should not be able to
// make us say, and echo our password: in what goes to a terminal, a CI log, a
// pull request or another program, with the most talkative log.
func TestHostileText(t *testing.T) {
	var ledger registrytest.Ledger
	password := registrytest.Canary("hostile")
	host := hostileRegistry(t, &ledger)
	to := registrytest.Start(t)
	m := &mirror{t: t, dir: t.TempDir(), home: t.TempDir()}
	text := fmt.Sprintf("variable \"password\" {\n  sensitive = true\n}\nregistry \"h\" {\n  host = %q\n  plain_http = true\n  auth {\n    username = \"u\"\n    password = var.password\n  }\n}\nregistry \"t\" {\n  host = %q\n  plain_http = true\n}\n", host, to.Host())
	for _, name := range []string{"named", "typed", "elsewhere", "refused", "broken"} {
		text += fmt.Sprintf("tree %q {\n  source = %q\n  destination = \"%s/x\"\n  repositories {\n    names = [%q]\n  }\n}\n", name, host, to.Host(), name)
	}
	text += fmt.Sprintf("tree \"all\" {\n  source = \"%s\"\n  destination = \"%s/all\"\n}\nimage \"one\" {\n  source = \"%s/refused:v1\"\n  destination = \"%s/one:v1\"\n}\n", host, to.Host(), host, to.Host())
	if err := os.WriteFile(filepath.Join(m.dir, "main.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := 0
	look := func(what string, text []byte) {
		t.Helper()
		if found := registrytest.Sightings(text, password); found != nil {
			t.Errorf("%s shows the password: %v", what, found)
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSuffix(line, "\n")
			seen += strings.Count(line, "set-output")
			for _, command := range []string{"::", "##vso[", "##teamcity["} {
				if strings.HasPrefix(strings.TrimLeft(line, " \t|>"), command) {
					t.Errorf("%s: a line begins with a command: %q", what, line)
				}
			}
			for _, c := range line {
				if providers.Printable(string(c), 100) != string(c) && c != '\t' && c != '"' && c != '\\' {
					t.Errorf("%s: %U comes through: %q", what, c, line)
					break
				}
			}
		}
	}
	for _, args := range [][]string{
		{"plan"}, {"plan", "-json"}, {"plan", "-markdown", "plan.md", "-out", "plan"}, {"drift"},
		{"apply", "-auto-approve", "-report", "report.json", "-json-into", "events.json"}, {"show"}, {"verify"},
	} {
		cmd, out := m.command(append(args, "-log-level", "trace")...)
		cmd.Env = append(cmd.Env, "FREIGHTLINER_VAR_password="+password)
		_ = cmd.Run() // most of it fails
		if cmd.ProcessState.ExitCode() < 0 || strings.Contains(out.String(), "unknown flag") {
			t.Fatalf("%v: %s", args, out)
		}
		look(strings.Join(args, " "), out.Bytes())
	}
	err := fs.WalkDir(os.DirFS(m.dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name == "main.hcl" {
			return err
		}
		content, err := os.ReadFile(filepath.Join(m.dir, name))
		if name == "plan" { // compressed
			content = nil
		}
		look(name, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Error("nothing of the hostile text was shown at all: the test shows nothing")
	}
	if len(ledger.Find(password)) == 0 {
		t.Error("the password never reached the registry: the test shows nothing")
	}
}

// TestChangedHost: a change of the configuration that names another host gets no
// credential sent there that belongs to the first one. CVE-2026-40161,
// CVE-2021-32690, CVE-2021-41092.
//
// What an auth block says is another matter: whoever may change the block may
// change where it is used, and a reviewer sees both in one place. So a saved plan
// is not led away by it, and the plan of a pull request gets no such variable.
func TestChangedHost(t *testing.T) {
	var ledger registrytest.Ledger
	password := registrytest.Canary("home")
	home := registrytest.Start(t, registrytest.WithBasicAuth(), registrytest.WithPassword(password), registrytest.WithLedger(&ledger, "home"))
	evil := registrytest.NewEvil(t, &ledger, "evil")
	to := registrytest.Start(t)
	registrytest.Push(t, home.Host(), "acme/app", "v1", registrytest.Image(1))
	write := func(m *mirror, host, auth string) {
		t.Helper()
		text := fmt.Sprintf("variable \"password\" {\n  default = \"\"\n}\nregistry \"from\" {\n  host = %q\n  plain_http = true\n%s}\nregistry \"to\" {\n  host = %q\n  plain_http = true\n}\ntree \"all\" {\n  source = \"%s/acme\"\n  destination = \"%s/mirror\"\n}\n",
			host, auth, to.Host(), host, to.Host())
		if err := os.WriteFile(filepath.Join(m.dir, "main.hcl"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("credentials of a file", func(t *testing.T) {
		m := &mirror{t: t, dir: t.TempDir(), home: t.TempDir()}
		if err := os.MkdirAll(filepath.Join(m.home, ".docker"), 0o700); err != nil {
			t.Fatal(err)
		}
		file, err := json.Marshal(map[string]any{"auths": map[string]any{home.Host(): map[string]string{"username": registrytest.CanaryUser, "password": password}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(m.home, ".docker", "config.json"), file, 0o600); err != nil {
			t.Fatal(err)
		}
		write(m, home.Host(), "")
		m.run(0, "apply", "-auto-approve")
		before := ledger.Requests("evil")
		write(m, evil.Host(), "")
		for _, args := range [][]string{{"plan"}, {"apply", "-auto-approve"}, {"drift"}} {
			cmd, _ := m.command(args...)
			_ = cmd.Run() // it is refused
		}
		if ledger.Requests("evil") == before {
			t.Error("the other host was not asked at all: the test shows nothing")
		}
	})
	t.Run("a saved plan", func(t *testing.T) {
		m := &mirror{t: t, dir: t.TempDir(), home: t.TempDir()}
		auth := fmt.Sprintf("  auth {\n    username = %q\n    password = var.password\n  }\n", registrytest.CanaryUser)
		write(m, home.Host(), auth)
		m.run(0, "plan", "-out", "plan", "-var", "password="+password)
		before := ledger.Requests("evil")
		write(m, evil.Host(), auth)
		cmd, out := m.command("apply", "-var", "password="+password, "plan")
		_ = cmd.Run() // it may fail, or apply what was planned
		if ledger.Requests("evil") != before {
			t.Errorf("the plan was led to another host\n%s", out)
		}
	})
	if len(ledger.Find(password)) == 0 {
		t.Error("the password was never used: the test shows nothing")
	}
	ledger.Clean(t, password, "home")
}

// TestProxyOfTheEnvironment: HTTP_PROXY is used, NO_PROXY is heeded, and a proxy is
// not asked to lead us to a metadata service.
func TestProxyOfTheEnvironment(t *testing.T) {
	var (
		mu    sync.Mutex
		asked []string
	)
	to := registrytest.Start(t)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.Host)
		mu.Unlock()
		if strings.HasSuffix(r.URL.Path, "/blobs/uploads/") || r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/led/") {
			w.Header().Set("Location", "http://169.254.169.254/latest/meta-data/")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"errors":[{"code":"NAME_UNKNOWN"}]}`)
	}))
	t.Cleanup(proxy.Close)
	m := &mirror{t: t, dir: t.TempDir(), home: t.TempDir()}
	text := fmt.Sprintf("registry \"a\" {\n  host = \"proxied.example\"\n  plain_http = true\n}\nregistry \"b\" {\n  host = \"direct.invalid\"\n  plain_http = true\n}\nregistry \"to\" {\n  host = %q\n  plain_http = true\n}\n", to.Host())
	for i, source := range []string{"proxied.example/none", "proxied.example/led", "direct.invalid/x"} {
		host, name, _ := strings.Cut(source, "/")
		text += fmt.Sprintf("tree \"t%d\" {\n  source = %q\n  destination = \"%s/m%d\"\n  repositories {\n    names = [%q]\n  }\n}\n", i, host, to.Host(), i, name)
	}
	if err := os.WriteFile(filepath.Join(m.dir, "main.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, out := m.command("plan")
	cmd.Env = append(cmd.Env, "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=direct.invalid", "no_proxy=direct.invalid")
	_ = cmd.Run() // nothing of it is there
	through := map[string]int{}
	for _, host := range asked {
		through[host]++
	}
	if through["proxied.example"] < 2 || len(through) != 1 {
		t.Errorf("the proxy was asked for %v, want proxied.example alone\n%s", through, out)
	}
	for _, want := range []string{"refused to connect to 169.254.169.254", "direct.invalid"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nothing is said of %s:\n%s", want, out)
		}
	}
}
