package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

// peer is a server that writes down all that it is sent.
type peer struct {
	*httptest.Server
	mu  sync.Mutex
	got []string
}

func newPeer(t *testing.T, handle http.HandlerFunc) *peer {
	t.Helper()
	p := &peer{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		p.got = append(p.got, fmt.Sprintf("%s %s %v %s", r.Method, r.URL, r.Header, body))
		p.mu.Unlock()
		handle(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *peer) host() string { return strings.TrimPrefix(p.URL, "http://") }

func (p *peer) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

// leaks are the requests that carry one of our secrets.
func (p *peer) leaks() []string {
	secrets := append(registrytest.Canaries(), "canary-token", base64.StdEncoding.EncodeToString([]byte(registrytest.CanaryUser+":"+registrytest.CanaryPassword)))
	return slices.DeleteFunc(p.requests(), func(r string) bool {
		return !slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(r, s) })
	})
}

const someManifest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`

func serveManifest(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", ociManifest)
	w.Header().Set("Docker-Content-Digest", string(providers.SHA256([]byte(body))))
	io.WriteString(w, body)
}

// A credential goes to the origin it belongs to and nowhere else: not behind a
// redirect, not to another host's token server, not along an upload.
func TestCredentialsStayHome(t *testing.T) {
	for _, tt := range []struct {
		name  string
		evil  func(home string) http.HandlerFunc // nil: a plain answer
		home  func(evil string) http.HandlerFunc // behind authentication
		realm func(evil string) string           // empty: basic
		call  func(ctx context.Context, c *Client, at providers.Repository) error
		fails bool
	}{{
		name: "blob redirect",
		home: func(evil string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, evil+"/blob?sig=1", http.StatusTemporaryRedirect)
			}
		},
		call: func(ctx context.Context, c *Client, at providers.Repository) error {
			_, err := c.Head(ctx, at, "1")
			return err
		},
	}, {
		name: "redirect, then a challenge",
		evil: func(string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("WWW-Authenticate", "Basic realm=x")
				w.WriteHeader(401)
			}
		},
		home: func(evil string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, evil+"/blob", http.StatusFound) }
		},
		call: func(ctx context.Context, c *Client, at providers.Repository) error {
			_, err := c.Manifest(ctx, at, "1")
			return err
		},
		fails: true,
	}, {
		name:  "token server elsewhere",
		realm: func(evil string) string { return evil + "/token" },
		call: func(ctx context.Context, c *Client, at providers.Repository) error {
			_, err := c.Manifest(ctx, at, "1")
			return err
		},
		fails: true,
	}, {
		name: "upload elsewhere",
		home: func(evil string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", evil+"/upload?state=1")
				w.WriteHeader(202)
			}
		},
		call: func(ctx context.Context, c *Client, at providers.Repository) error {
			r, err := c.remoteFor(at)
			if err != nil {
				return err
			}
			_, _, err = c.openUpload(ctx, r, at, providers.SHA256(nil), "")
			return err
		},
		fails: true,
	}, {
		name: "next page elsewhere",
		home: func(evil string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Link", "<"+evil+`/v2/a/tags/list?last=1>; rel="next"`)
				io.WriteString(w, `{"tags":["1"]}`)
			}
		},
		call: func(ctx context.Context, c *Client, at providers.Repository) error {
			_, err := c.Tags(ctx, at)
			return err
		},
		fails: true,
	}, {
		name: "manifest PUT redirected",
		home: func(evil string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, evil+"/put", http.StatusTemporaryRedirect)
			}
		},
		call: func(ctx context.Context, c *Client, at providers.Repository) error {
			m, err := parseManifest([]byte(someManifest), "")
			if err != nil {
				return err
			}
			return c.PutManifest(ctx, at, "1", m)
		},
		fails: true,
	}} {
		t.Run(tt.name, func(t *testing.T) {
			evil := newPeer(t, func(w http.ResponseWriter, r *http.Request) { serveManifest(w, someManifest) })
			if tt.evil != nil {
				evil = newPeer(t, tt.evil(""))
			}
			home := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Header.Get("Authorization") != "" && tt.home != nil:
					tt.home(evil.URL)(w, r)
				case tt.realm != nil:
					w.Header().Set("WWW-Authenticate", `Bearer realm="`+tt.realm(evil.URL)+`",service="x"`)
					w.WriteHeader(401)
				default:
					w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
					w.WriteHeader(401)
				}
			})
			c := clientOf(t, Options{Registries: []Settings{{Host: home.host(), PlainHTTP: true, Credential: canary}}})
			err := tt.call(t.Context(), c, repo(home.host(), "a"))
			if (err != nil) != tt.fails {
				t.Errorf("error %v, want one: %t", err, tt.fails)
			}
			if leaks := evil.leaks(); len(leaks) != 0 {
				t.Errorf("secrets reached the other host:\n%s", strings.Join(leaks, "\n"))
			}
			for _, secret := range registrytest.Canaries() {
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("the error shows a secret: %v", err)
				}
			}
		})
	}
}

func TestAddressesFromAnswers(t *testing.T) {
	r := &remote{scheme: "https", apiHost: "reg.example", origin: "https://reg.example:443"}
	base := &url.URL{Scheme: "https", Host: "reg.example", Path: "/v2/a/blobs/uploads/"}
	for _, tt := range []struct {
		text    string
		want    string // empty: refused
		foreign bool
	}{
		{"/v2/a/blobs/uploads/1?state=x%2By", "https://reg.example/v2/a/blobs/uploads/1?state=x%2By", false},
		{"1?_state=z", "https://reg.example/v2/a/blobs/uploads/1?_state=z", false},
		{"https://reg.example:443/u", "https://reg.example:443/u", false},
		{"https://REG.example/u", "https://REG.example/u", false},
		{"http://reg.example/u", "https://reg.example/u", false},
		{"http://reg.example:80/u", "https://reg.example/u", false},
		{"http://reg.example:5000/u", "", false},
		{"https://reg.example:8443/u", "", false},
		{"https://store.example/u?sig=1", "https://store.example/u?sig=1", true},
		{"http://store.example/u", "", false},
		{"https://reg.example.evil/u", "", false},
		{"https://reg.example@evil/u", "", false},
		{"//evil/u", "", false},
		{"ftp://reg.example/u", "", false},
		{"https://reg.example/\r\nX: y", "", false},
		{"", "", false},
	} {
		u, foreign, err := r.resolve(base, tt.text, []string{"store.example"})
		got := ""
		if err == nil {
			got = u.String()
		}
		if got != tt.want || foreign != tt.foreign {
			t.Errorf("%q: %q, foreign %t, %v; want %q, %t", tt.text, got, foreign, err, tt.want, tt.foreign)
		}
	}
}

func TestAddressesWhenDialled(t *testing.T) {
	home := map[string][]netip.Addr{
		"public.example":  {netip.MustParseAddr("93.184.216.34")},
		"private.example": {netip.MustParseAddr("10.1.2.3")},
		"local.example":   {netip.MustParseAddr("127.0.0.1")},
	}
	for _, tt := range []struct {
		home, address string
		foreign, ok   bool
	}{
		{"public.example", "93.184.216.34:443", true, true},
		{"public.example", "10.0.0.1:443", true, false},
		{"public.example", "127.0.0.1:443", true, false},
		{"public.example", "[::1]:443", true, false},
		{"public.example", "[::ffff:127.0.0.1]:443", true, false},
		{"public.example", "[64:ff9b::7f00:1]:443", true, false},
		{"public.example", "100.64.0.1:443", true, false},
		{"public.example", "[fc00::1]:443", true, false},
		{"private.example", "10.0.0.1:443", true, true},
		{"private.example", "127.0.0.1:443", true, false},
		{"local.example", "127.0.0.1:443", true, true},
		{"public.example", "10.0.0.1:443", false, true},
		{"public.example", "127.0.0.1:443", false, true},
		{"local.example", "169.254.169.254:80", false, false},
		{"local.example", "169.254.169.254:80", true, false},
		{"local.example", "[fe80::1]:80", true, false},
		{"local.example", "[fd00:ec2::254]:80", true, false},
		{"local.example", "100.100.100.200:80", true, false},
		{"local.example", "0.0.0.0:80", true, false},
		{"local.example", "[64:ff9b::a9fe:a9fe]:80", true, false},
	} {
		g := newGuard(tt.home, nil, nil)
		g.lookup = func(_ context.Context, host string) ([]netip.Addr, error) { return home[host], nil }
		if err := g.judge(t.Context(), tt.address, tt.foreign); (err == nil) != tt.ok {
			t.Errorf("%s for %s (foreign %t): %v, want it allowed: %t", tt.address, tt.home, tt.foreign, err, tt.ok)
		}
	}
}

// Our own transport really asks the guard: a registry at a link-local address
// is refused without a retry.
func TestOwnTransportJudges(t *testing.T) {
	c := clientOf(t, Options{Registries: []Settings{{Host: "169.254.169.254", PlainHTTP: true}}})
	_, err := c.Tags(t.Context(), repo("169.254.169.254", "a"))
	if providers.ClassOf(err) != providers.Invalid || !strings.Contains(err.Error(), "link-local") {
		t.Errorf("error %v, want a refusal of class invalid", err)
	}
}

func TestRetryClasses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		header http.Header
		class  providers.Class
		tries  int
		waits  []time.Duration
	}{
		{"500", 500, nil, providers.Transient, 4, []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second}},
		{"503 with seconds", 503, http.Header{"Retry-After": {"7"}}, providers.Transient, 4, nil},
		{"429 with a date", 429, http.Header{"Retry-After": {"Fri, 02 Jan 2026 03:04:15 GMT"}}, providers.Throttled, 4, nil},
		{"429 with a date in the past", 429, http.Header{"Retry-After": {"Fri, 02 Jan 2026 03:04:00 GMT"}}, providers.Throttled, 4, []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second}},
		{"429 with nothing", 429, nil, providers.Throttled, 4, []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second}},
		{"503 with a date", 503, http.Header{"Retry-After": {"Fri, 02 Jan 2026 03:04:15 GMT"}}, providers.Transient, 4, nil},
		{"502", 502, nil, providers.Transient, 4, []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second}},
		{"504", 504, nil, providers.Transient, 4, []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second}},
		{"401", 401, nil, providers.Denied, 1, nil},
		{"429 for hours", 429, http.Header{"Retry-After": {"7200"}}, providers.Throttled, 1, nil},
		{"403", 403, nil, providers.Denied, 1, nil},
		{"404", 404, nil, providers.NotFound, 1, nil},
		{"409", 409, nil, providers.Conflict, 1, nil},
		{"400", 400, nil, providers.Invalid, 1, nil},
		{"501", 501, nil, providers.Unsupported, 1, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
				for k, v := range tt.header {
					w.Header()[k] = v
				}
				w.WriteHeader(tt.status)
				io.WriteString(w, `{"errors":[{"code":"X","message":"\u001b[31mred\u202e"}]}`)
			})
			clock := newQuick()
			c := clientOf(t, Options{Clock: clock, Registries: []Settings{{Host: p.host(), PlainHTTP: true}}})
			_, err := c.Manifest(t.Context(), repo(p.host(), "a"), "1")
			if providers.ClassOf(err) != tt.class || len(p.requests()) != tt.tries {
				t.Errorf("error %v of class %s after %d tries, want %s after %d", err, providers.ClassOf(err), len(p.requests()), tt.class, tt.tries)
			}
			if strings.ContainsAny(err.Error(), "\x1b\u202e") {
				t.Errorf("the error is not printable: %q", err)
			}
			if tt.waits != nil && !cmp.Equal(tt.waits, clock.waits()) {
				t.Errorf("waits %v, want %v", clock.waits(), tt.waits)
			}
			asked := retryAfter(tt.header, newQuick().Now())
			if waits := clock.waits(); asked > 0 && asked <= patience && (len(waits) == 0 || waits[0] < asked) {
				t.Errorf("waits %v, want at least the %v asked for", waits, asked)
			}
		})
	}
}

func TestDeadHostFailsFast(t *testing.T) {
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {})
	host := p.host()
	p.Close()
	clock := newQuick()
	c := clientOf(t, Options{Clock: clock, Registries: []Settings{{Host: host, PlainHTTP: true}}})
	for range 50 {
		if _, err := c.Tags(t.Context(), repo(host, "a")); err == nil {
			t.Fatal("a closed port answered")
		}
	}
	if n := c.Stats()[host].Requests["GET tags"]; n > 4 {
		t.Errorf("%d connections tried, want at most 4", n)
	}
	_, err := c.Tags(t.Context(), repo(host, "b"))
	if providers.ClassOf(err).Retryable() || !strings.Contains(err.Error(), "down") {
		t.Errorf("error %v of class %s: want one that says the host is down and is not retried", err, providers.ClassOf(err))
	}
}

func TestBadCredentialsFailOnce(t *testing.T) {
	s := registrytest.Start(t, registrytest.WithBasicAuth())
	asked := 0
	wrong := func(context.Context, providers.Repository) (Credential, error) {
		asked++
		return Credential{Username: "u", Password: func() string { return "wrong-password" }, Origin: "the auth block"}, nil
	}
	c := clientOf(t, Options{Registries: []Settings{{Host: s.Host(), PlainHTTP: true, Credential: wrong}}})
	for i := range 10 {
		_, err := c.Tags(t.Context(), repo(s.Host(), fmt.Sprint("r", i)))
		if providers.ClassOf(err) != providers.Denied || !strings.Contains(providers.HintOf(err), "the auth block") || strings.Contains(err.Error(), "wrong-password") {
			t.Fatalf("error %v, hint %q: want denied, naming the auth block", err, providers.HintOf(err))
		}
	}
	if n := s.Recorder.Total(); n != 2 || asked != 2 {
		t.Errorf("%d requests, asked %d times for the credential; want 2 and 2: the challenge and one try", n, asked)
	}
}

// A password that works for one repository and not for another is not bad.
func TestLackOfRightsIsNotABadCredential(t *testing.T) {
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" || strings.Contains(r.URL.Path, "/closed/") {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(401)
			return
		}
		serveManifest(w, someManifest)
	})
	c := clientOf(t, Options{Registries: []Settings{{Host: p.host(), PlainHTTP: true, Credential: canary}}})
	for _, name := range []string{"open", "closed", "open", "closed"} {
		_, err := c.Head(t.Context(), repo(p.host(), name), "1")
		if want := map[string]providers.Class{"closed": providers.Denied}[name]; providers.ClassOf(err) != want {
			t.Errorf("%s: error %v of class %s, want %s", name, err, providers.ClassOf(err), want)
		}
	}
	if n := len(p.requests()); n != 4 {
		t.Errorf("%d requests, want 4: the challenge, open twice, closed once", n)
	}
}

// A refresh token that ends in the middle of a run is asked for again.
func TestReplacedRefreshToken(t *testing.T) {
	valid := "first"
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {})
	p.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token" && r.FormValue("refresh_token") == valid:
			io.WriteString(w, `{"access_token":"canary-token","expires_in":300}`)
		case r.URL.Path == "/token":
			w.WriteHeader(401)
		case r.Header.Get("Authorization") == "Bearer canary-token":
			serveManifest(w, someManifest)
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token"`)
			w.WriteHeader(401)
		}
	})
	find := func(context.Context, providers.Repository) (Credential, error) {
		now := valid
		return Credential{Identity: func() string { return now }}, nil
	}
	c := clientOf(t, Options{Registries: []Settings{{Host: p.host(), PlainHTTP: true, Credential: find}}})
	for _, step := range []string{"first", "second"} {
		valid = step
		if _, err := c.Head(t.Context(), repo(p.host(), step), "1"); err != nil {
			t.Errorf("with the %s refresh token: %v", step, err)
		}
	}
}

func TestTokensAreRenewed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer string
		move   time.Duration
		tokens int
	}{
		{"within its life", `{"token":"canary-token","expires_in":300}`, 239 * time.Second, 1},
		{"at 80 % of its life", `{"token":"canary-token","expires_in":300}`, 241 * time.Second, 2},
		{"issued years ago, by a clock that is not ours", `{"token":"canary-token","expires_in":300,"issued_at":"2001-01-01T00:00:00Z"}`, 239 * time.Second, 1},
		{"issued in years, by a clock that is not ours", `{"token":"canary-token","expires_in":300,"issued_at":"2101-01-01T00:00:00Z"}`, 241 * time.Second, 2},
		{"the token goes before the access token", `{"access_token":"another","token":"canary-token","expires_in":300}`, 239 * time.Second, 1},
		{"60 s when nothing is said", `{"access_token":"canary-token"}`, 47 * time.Second, 1},
		{"60 s when nothing is said, over", `{"access_token":"canary-token"}`, 49 * time.Second, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/token":
					io.WriteString(w, tt.answer)
				case r.Header.Get("Authorization") == "Bearer canary-token":
					serveManifest(w, someManifest)
				default:
					w.Header().Set("WWW-Authenticate", `Basic realm="no", Bearer realm="http://`+r.Host+`/token",service="s,x"`)
					w.WriteHeader(401)
				}
			})
			clock := newQuick()
			c := clientOf(t, Options{Clock: clock, Registries: []Settings{{Host: p.host(), PlainHTTP: true, Credential: canary}}})
			for range 2 {
				if _, err := c.Head(t.Context(), repo(p.host(), "a"), "1"); err != nil {
					t.Fatal(err)
				}
				clock.mu.Lock()
				clock.now = clock.now.Add(tt.move)
				clock.mu.Unlock()
			}
			if n := c.Stats()[p.host()].Requests["GET token"]; n != int64(tt.tokens) {
				t.Errorf("%d tokens asked for, want %d", n, tt.tokens)
			}
		})
	}
}

func TestCaps(t *testing.T) {
	padded := func(n int) string {
		return someManifest + strings.Repeat(" ", n-len(someManifest))
	}
	for _, tt := range []struct {
		size int
		ok   bool
	}{{maxManifest - 1, true}, {maxManifest, true}, {maxManifest + 1, false}} {
		p := newPeer(t, func(w http.ResponseWriter, r *http.Request) { serveManifest(w, padded(tt.size)) })
		_, err := plainClient(t, p.host()).Manifest(t.Context(), repo(p.host(), "a"), "1")
		if (err == nil) != tt.ok {
			t.Errorf("a manifest of %d bytes: %v, want it taken: %t", tt.size, err, tt.ok)
		}
		if n := len(p.requests()); n != 1 {
			t.Errorf("a manifest of %d bytes: %d tries, want 1", tt.size, n)
		}
	}
	for _, tt := range []struct {
		size int
		ok   bool
	}{{maxPage, true}, {maxPage + 1, false}} {
		p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
			body := `{"tags":null}`
			io.WriteString(w, body+strings.Repeat(" ", tt.size-len(body)))
		})
		if _, err := plainClient(t, p.host()).Tags(t.Context(), repo(p.host(), "a")); (err == nil) != tt.ok {
			t.Errorf("a page of %d bytes: %v, want it taken: %t", tt.size, err, tt.ok)
		}
	}
}

// Tags and the catalog page alike; the cases are written for tags.
func TestPaging(t *testing.T) {
	all := []string{"a", "b", "c", "d", "e"}
	after := func(last string) []string { return all[slices.Index(all, last)+1:] }
	for _, tt := range []struct {
		name string
		page func(w http.ResponseWriter, q url.Values) string
		want []string // nil: an error
	}{
		{"null", func(http.ResponseWriter, url.Values) string { return `{"tags":null}` }, []string{}},
		{"missing field", func(http.ResponseWriter, url.Values) string { return `{}` }, []string{}},
		{"pages without links", func(_ http.ResponseWriter, q url.Values) string {
			rest := after(q.Get("last"))
			return tagsOf(rest[:min(2, len(rest))])
		}, all},
		{"last is ignored", func(http.ResponseWriter, url.Values) string { return tagsOf(all) }, all},
		{"a link behind an empty page", func(w http.ResponseWriter, q url.Values) string {
			if q.Get("last") == "z" {
				return tagsOf(all)
			}
			w.Header().Set("Link", `</v2/r/tags/list?last=z>; rel="next"`)
			return `{"tags":[]}`
		}, all},
		{"a relative link", func(w http.ResponseWriter, q url.Values) string {
			if q.Get("last") != "" {
				return tagsOf(after(q.Get("last")))
			}
			w.Header().Set("Link", `<?last=c&n=3>; rel="next"`)
			return tagsOf(all[:3])
		}, all},
		{"a link to another host", func(w http.ResponseWriter, q url.Values) string {
			w.Header().Set("Link", `<http://other.example/v2/r/tags/list?last=c>; rel="next"`)
			return tagsOf(all[:3])
		}, nil},
		{"n is ignored, and each page has an order of its own", func(w http.ResponseWriter, q url.Values) string {
			switch q.Get("last") {
			case "":
				return tagsOf([]string{"e", "b"})
			case "b":
				return tagsOf([]string{"b", "a", "d"})
			case "d":
				return tagsOf([]string{"c", "e"})
			}
			return tagsOf(nil)
		}, all},
		{"unsorted", func(http.ResponseWriter, url.Values) string { return `{"tags":["e","a","d","b","c","a"]}` }, all},
		{"a link to itself", func(w http.ResponseWriter, q url.Values) string {
			w.Header().Set("Link", `</v2/r/tags/list?n=1000>; rel="next"`)
			return tagsOf(all)
		}, nil},
		{"an invalid tag", func(http.ResponseWriter, url.Values) string { return `{"tags":["ok","../../x"]}` }, nil},
		{"two tags fields", func(http.ResponseWriter, url.Values) string { return `{"tags":["a"],"Tags":["b"]}` }, nil},
		{"no JSON", func(http.ResponseWriter, url.Values) string { return `<html>` }, nil},
		{"page two stays away after all tries", func(w http.ResponseWriter, q url.Values) string {
			if q.Get("last") != "" {
				w.WriteHeader(503)
				return ""
			}
			w.Header().Set("Link", `</v2/r/tags/list?last=e>; rel="next"`)
			return tagsOf(all)
		}, nil},
		{"fails on page two", func(w http.ResponseWriter, q url.Values) string {
			if q.Get("last") != "" {
				w.WriteHeader(404)
				return `{"errors":[{"code":"NAME_UNKNOWN"}]}`
			}
			w.Header().Set("Link", `</v2/r/tags/list?last=e>; rel="next"`)
			return tagsOf(all)
		}, nil},
	} {
		serve := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, tt.page(w, r.URL.Query())) }
		t.Run("tags/"+tt.name, func(t *testing.T) {
			p := newPeer(t, serve)
			tags, err := plainClient(t, p.host()).Tags(t.Context(), repo(p.host(), "r"))
			if tt.want == nil {
				if err == nil || len(p.requests()) > maxTries+1 {
					t.Errorf("tags %v, %v after %d requests; want an error at once", tags.Tags, err, len(p.requests()))
				}
				return
			}
			if err != nil || tags.Missing || !slices.Equal(tags.Tags, tt.want) {
				t.Errorf("tags %v, missing %t, %v; want %v", tags.Tags, tags.Missing, err, tt.want)
			}
		})
		t.Run("catalog/"+tt.name, func(t *testing.T) {
			p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
				answer := httptest.NewRecorder()
				serve(answer, r)
				for _, link := range answer.Header().Values("Link") {
					w.Header().Add("Link", strings.Replace(link, "/v2/r/tags/list", "/v2/_catalog", 1))
				}
				w.WriteHeader(answer.Code)
				io.WriteString(w, strings.NewReplacer(`"tags"`, `"repositories"`, `"Tags"`, `"Repositories"`).Replace(answer.Body.String()))
			})
			got, failed := []string{}, error(nil)
			for name, err := range plainClient(t, p.host()).Repositories(t.Context(), p.host(), "") {
				if failed = err; err == nil {
					got = append(got, name)
				}
			}
			slices.Sort(got)
			switch {
			case tt.want == nil && (failed == nil || len(p.requests()) > maxTries+1):
				t.Errorf("repositories %v, %v after %d requests; want an error at once", got, failed, len(p.requests()))
			case tt.want != nil && (failed != nil || !slices.Equal(got, tt.want)):
				t.Errorf("repositories %v, %v; want %v", got, failed, tt.want)
			}
		})
	}
}

// A hundred thousand tags in a hundred pages are held as their names and little
// more. The catalog is not held at all: a name is handed on before the next page is
// asked for.
func TestLongListings(t *testing.T) {
	const pages, each = 100, 1000
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
		page, _ := strconv.Atoi(r.URL.Query().Get("last"))
		if page+1 < pages {
			w.Header().Set("Link", fmt.Sprintf(`<%s?last=%d>; rel="next"`, r.URL.Path, page+1))
		}
		names := make([]string, each)
		for i := range names {
			names[i] = fmt.Sprintf("build-%06d", page*each+i)
		}
		body := tagsOf(names)
		if strings.HasSuffix(r.URL.Path, "_catalog") {
			body = strings.Replace(body, "tags", "repositories", 1)
		}
		io.WriteString(w, body)
	})
	c := plainClient(t, p.host())
	held := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := held()
	list, err := c.Tags(t.Context(), repo(p.host(), "r"))
	if err != nil || len(list.Tags) != pages*each || !slices.IsSorted(list.Tags) || len(p.requests()) != pages {
		t.Fatalf("%d tags after %d pages, %v", len(list.Tags), len(p.requests()), err)
	}
	if after, most := held(), uint64(pages*each*100); after > before+most {
		t.Errorf("the list holds %d bytes, want at most %d", after-before, most)
	}
	runtime.KeepAlive(list)
	for _, err := range c.Repositories(t.Context(), p.host(), "") {
		if asked := len(p.requests()) - pages; err != nil || asked != 1 {
			t.Errorf("the first name came after %d pages: %v", asked, err)
		}
		break
	}
}

func tagsOf(tags []string) string {
	if len(tags) == 0 {
		return `{"tags":[]}`
	}
	return `{"tags":["` + strings.Join(tags, `","`) + `"]}`
}

// One page without a Link is checked, once for the registry.
func TestEndOfListingIsCheckedOnce(t *testing.T) {
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("last") != "" {
			io.WriteString(w, `{"tags":[]}`)
			return
		}
		io.WriteString(w, `{"tags":["1","2","3"]}`)
	})
	c := plainClient(t, p.host())
	for i := range 20 {
		if _, err := c.Tags(t.Context(), repo(p.host(), fmt.Sprint("r", i))); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(p.requests()); n != 21 {
		t.Errorf("%d requests for 20 listings, want 21", n)
	}
}

func TestCatalog(t *testing.T) {
	s := registrytest.Start(t)
	for _, name := range []string{"team/a", "team/b/c", "team-b/x", "team"} {
		registrytest.Push(t, s.Host(), name, "1", registrytest.Image(1))
	}
	c := plainClient(t, s.Host())
	var got []string
	for name, err := range c.Repositories(t.Context(), s.Host(), "team") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, name)
	}
	slices.Sort(got)
	if want := []string{"team", "team/a", "team/b/c"}; !slices.Equal(got, want) {
		t.Errorf("repositories %v, want %v", got, want)
	}
	tags, err := c.Tags(t.Context(), repo(s.Host(), "nowhere"))
	if err != nil || !tags.Missing {
		t.Errorf("tags of no repository: %+v, %v; want missing", tags, err)
	}
	for _, status := range []int{401, 403, 404, 405} {
		s.Faults.Clear()
		s.Faults.Add(registrytest.Fault{Kind: "catalog", Status: status, Times: -1})
		for _, err := range c.Repositories(t.Context(), s.Host(), "") {
			if err == nil || providers.HintOf(err) == "" && status != 401 {
				t.Errorf("HTTP %d: error %v without a hint", status, err)
			}
		}
	}
}

// A HEAD that does not say enough costs one GET.
func TestSilentHead(t *testing.T) {
	for name, head := range map[string]func(w http.ResponseWriter){
		"no digest": func(w http.ResponseWriter) { w.Header().Set("Content-Type", ociManifest) },
		"no length": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", ociManifest)
			w.Header().Set("Docker-Content-Digest", string(providers.SHA256([]byte(someManifest))))
			w.(http.Flusher).Flush()
		},
		"no type": func(w http.ResponseWriter) {
			w.Header()["Content-Type"] = nil
			w.Header().Set("Docker-Content-Digest", string(providers.SHA256([]byte(someManifest))))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodHead {
					head(w)
				} else {
					w.Header().Set("Content-Type", ociManifest)
				}
				io.WriteString(w, someManifest)
			})
			d, err := plainClient(t, p.host()).Head(t.Context(), repo(p.host(), "a"), "1")
			want := providers.Descriptor{MediaType: ociManifest, Digest: providers.SHA256([]byte(someManifest)), Size: int64(len(someManifest))}
			if diff := cmp.Diff(want, d); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if n := len(p.requests()); n != 2 {
				t.Errorf("%d requests, want HEAD and GET", n)
			}
		})
	}
}

// Local hosts are spoken to like any other: https, unless the registry block says
// plain_http. Brackets around an IPv6 address are part of the host in URLs, in
// the realm and where its credential is looked up.
func TestLocalHosts(t *testing.T) {
	for _, host := range []string{"localhost:5000", "127.0.0.1:5000", "host.docker.internal:5000", "[::1]:5000", "[2001:db8::1]"} {
		for _, plain := range []bool{false, true} {
			scheme := map[bool]string{false: "https", true: "http"}[plain]
			t.Run(scheme+" "+host, func(t *testing.T) {
				var asked []string
				answer := func(req *http.Request) (*http.Response, error) {
					w := httptest.NewRecorder()
					asked = append(asked, req.URL.Scheme+"://"+req.URL.Host+req.URL.Path)
					switch user, _, _ := req.BasicAuth(); {
					case req.URL.Path == "/token" && user == "u":
						io.WriteString(w, `{"token":"canary-token"}`)
					case req.Header.Get("Authorization") == "Bearer canary-token":
						serveManifest(w, someManifest)
					default:
						w.Header().Set("WWW-Authenticate", `Bearer realm="`+scheme+`://`+host+`/token",service="x"`)
						w.WriteHeader(401)
					}
					return w.Result(), nil
				}
				file := `{"auths":{"` + host + `":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("u:p")) + `"}}}`
				c := clientOf(t, Options{
					Registries: []Settings{{Host: host, PlainHTTP: plain}},
					Transport:  func(Settings) (http.RoundTripper, error) { return roundTripper(answer), nil },
					Keychain:   DockerConfigKeychain(KeychainOptions{Files: []string{"f"}, Read: func(string) ([]byte, error) { return []byte(file), nil }}),
				})
				if _, err := c.Manifest(t.Context(), repo(host, "a"), "1"); err != nil {
					t.Error(err)
				}
				at := scheme + "://" + host
				if diff := cmp.Diff([]string{at + "/v2/a/manifests/1", at + "/token", at + "/v2/a/manifests/1"}, asked); diff != "" {
					t.Errorf("requests (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// A registry that does not speak TLS is not spoken to in the clear instead.
func TestNoDowngradeToPlainHTTP(t *testing.T) {
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) { serveManifest(w, someManifest) })
	_, port, _ := strings.Cut(p.host(), ":")
	for _, host := range []string{p.host(), "localhost:" + port} {
		c := clientOf(t, Options{Registries: []Settings{{Host: host, Credential: canary}}})
		_, err := c.Manifest(t.Context(), repo(host, "a"), "1")
		if providers.ClassOf(err) != providers.Invalid || !strings.Contains(providers.HintOf(err), "plain_http = true") {
			t.Errorf("%s: error %v, hint %q; want one that names plain_http", host, err, providers.HintOf(err))
		}
	}
	if got := p.requests(); len(got) != 0 {
		t.Errorf("sent in the clear:\n%s", strings.Join(got, "\n"))
	}
}

// A manifest that the registry finds too large fails at once, with its size.
func TestManifestTooLargeForTheRegistry(t *testing.T) {
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) })
	m, err := parseManifest([]byte(someManifest), "")
	if err != nil {
		t.Fatal(err)
	}
	err = plainClient(t, p.host()).PutManifest(t.Context(), repo(p.host(), "a"), "1", m)
	if providers.ClassOf(err).Retryable() || !strings.Contains(providers.HintOf(err), fmt.Sprint(len(someManifest), " bytes")) || len(p.requests()) != 1 {
		t.Errorf("%v (hint %q) after %d tries; want a failure with the size after one", err, providers.HintOf(err), len(p.requests()))
	}
}

func httptestServer(t *testing.T, h http.Handler) (host string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// script is a connection that keeps what is written, and a reader that gives so
// many bytes at a time.
type script struct {
	net.Conn
	reads  []int
	end    error // after them
	writes []int
	wrote  bytes.Buffer
	fails  int // the write that fails; 0 for none
}

func (s *script) Write(p []byte) (int, error) {
	s.writes = append(s.writes, len(p))
	if len(s.writes) == s.fails {
		return 0, io.ErrClosedPipe
	}
	return s.wrote.Write(p)
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.reads) == 0 {
		return 0, s.end
	}
	n := min(s.reads[0], len(p))
	for i := range p[:n] {
		p[i] = byte(len(s.reads))
	}
	if s.reads[0] -= n; s.reads[0] == 0 {
		s.reads = s.reads[1:]
	}
	return n, nil
}

// Small reads go out together, but only a few: what a slow source gave does not
// wait for all it will give.
func TestBodiesGoOutInLargeWrites(t *testing.T) {
	broken := errors.New("the source broke off")
	for _, tt := range []struct {
		name   string
		reads  []int
		end    error
		fails  int
		writes []int
		sent   int64
		err    error
	}{
		{"nothing", nil, io.EOF, 0, nil, 0, nil},
		{"a fast source", []int{300 << 10}, io.EOF, 0, []int{128 << 10, 128 << 10, 44 << 10}, 300 << 10, nil},
		{"reads as over loopback", []int{32 << 10, 32 << 10, 32 << 10, 32 << 10, 32 << 10}, io.EOF, 0, []int{96 << 10, 64 << 10}, 160 << 10, nil},
		{"a slow source", []int{1, 2, 3, 4, 5, 6}, io.EOF, 0, []int{10, 11}, 21, nil},
		{"a source that breaks off", []int{1, 2, 3, 4, 5, 6}, broken, 0, []int{10, 11}, 21, broken},
		{"a destination that does", []int{1, 2, 3, 4, 5, 6}, io.EOF, 2, []int{10, 11}, 10, io.ErrClosedPipe},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &script{reads: slices.Clone(tt.reads), end: tt.end, fails: tt.fails}
			c := &listening{Conn: s, ended: make(chan struct{})}
			c.end() // a write that fails need not wait for an answer
			sent, err := c.ReadFrom(s)
			if sent != tt.sent || !errors.Is(err, tt.err) {
				t.Errorf("sent %d, %v; want %d, %v", sent, err, tt.sent, tt.err)
			}
			if diff := cmp.Diff(tt.writes, s.writes); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			if int64(s.wrote.Len()) != tt.sent {
				t.Errorf("%d bytes arrived of %d sent", s.wrote.Len(), tt.sent)
			}
		})
	}
}
