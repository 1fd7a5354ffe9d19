package registry

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

// The tests of this file are named in the table "Attacks" of docs/testing.md.

// attacked is a registry with a password of its own, somebody who wants it, and
// a client. All that anybody hears is in the ledger.
type attacked struct {
	t        *testing.T
	ledger   registrytest.Ledger
	password string
	home     *registrytest.Server
	evil     *registrytest.Evil
	image    *registrytest.Artifact
	client   *Client
}

func newAttacked(t *testing.T, change func(*Settings), options ...registrytest.Option) *attacked {
	t.Helper()
	a := &attacked{t: t, password: registrytest.Canary("registry"), image: registrytest.Image(1)}
	a.home = registrytest.Start(t, append(options, registrytest.WithPassword(a.password), registrytest.WithLedger(&a.ledger, "registry"))...)
	a.evil = registrytest.NewEvil(t, &a.ledger, "evil")
	registrytest.Push(t, a.home.Host(), "app", "v1", a.image)
	s := Settings{Host: a.home.Host(), RootCAs: a.home.RootCAs(), PlainHTTP: a.home.RootCAs() == nil,
		Credential: func(context.Context, providers.Repository) (Credential, error) {
			return Credential{Username: registrytest.CanaryUser, Password: func() string { return a.password }, Origin: "the test"}, nil
		}}
	if change != nil {
		change(&s)
	}
	a.client = clientOf(t, Options{Registries: []Settings{s}})
	a.client.sizes = small // so that uploads go in chunks
	return a
}

// everything is all that a run may do with the registry; the errors are those of
// the attacks.
func (a *attacked) everything() (errs []error) {
	ctx, at := a.t.Context(), repo(a.home.Host(), "app")
	_, err := a.client.Head(ctx, at, "v1")
	errs = append(errs, err)
	_, err = a.client.Manifest(ctx, at, "v1")
	errs = append(errs, err)
	for _, blob := range a.image.Blobs {
		errs = append(errs, a.client.CheckBlob(ctx, at, providers.Descriptor{Digest: blob.Digest(), Size: int64(len(blob.Data))}, true, nil))
	}
	_, err = a.client.Tags(ctx, at)
	errs = append(errs, err)
	for _, err := range a.client.Repositories(ctx, a.home.Host(), "") {
		errs = append(errs, err)
	}
	_, err = a.client.ReferrerSet(ctx, at, []providers.Digest{a.image.Digest()}, nil)
	errs = append(errs, err)
	source := registrytest.Start(a.t)
	big := registrytest.Image(2, registrytest.Layer(3, blobSize))
	registrytest.Push(a.t, source.Host(), "big", "1", big)
	a.client.mu.Lock()
	a.client.settings = append(a.client.settings, Settings{Host: source.Host(), PlainHTTP: true})
	a.client.mu.Unlock()
	_, err = NewCopier(a.client).Copy(ctx, Job{From: repo(source.Host(), "big"), To: repo(a.home.Host(), "pushed"), Root: big.Digest(), Tags: []string{"1"}})
	return append(errs, err)
}

// clean fails the test when the password, or any token, went elsewhere, or an
// error shows one.
func (a *attacked) clean(errs ...error) {
	a.t.Helper()
	a.ledger.Clean(a.t, a.password, "registry")
	a.ledger.Clean(a.t, "Authorization: ", "registry")
	for _, err := range errs {
		if err == nil {
			continue
		}
		if found := registrytest.Sightings([]byte(err.Error()+providers.HintOf(err)), a.password); found != nil {
			a.t.Errorf("an error shows the password (%v): %v", found, err)
		}
	}
}

// TestAttacks lets a registry, or whoever sits before it, try each of the kit's
// ways to lead us or our credentials elsewhere, over plain HTTP and over TLS.
// CVE-2026-48978, CVE-2026-33540, CVE-2026-50151, CVE-2026-49349,
// GHSA-vh4v-2xq2-g5cg, CVE-2019-10214, CVE-2014-5277.
func TestAttacks(t *testing.T) {
	for _, attack := range registrytest.Attacks {
		for name, options := range map[string][]registrytest.Option{
			"over HTTP": {registrytest.WithTokens(time.Minute)},
			"over TLS":  {registrytest.WithTokens(time.Minute), registrytest.WithTLS()},
		} {
			t.Run(fmt.Sprintf("%d %s %s", attack.Row, attack.Name, name), func(t *testing.T) {
				a := newAttacked(t, nil, options...)
				attack.Arm(a.home, a.evil.URL())
				errs := a.everything()
				a.clean(errs...)
				// What is read may be fetched from where the registry says, by nobody in
				// particular. Nobody is asked for a token, sent a layer or asked for a page
				// who is not the registry, and over TLS nobody who does not speak it.
				mayRead := attack.Row == 3 && attack.Needs == "pull" && !a.tls() && !strings.Contains(attack.Name, "password") || strings.HasPrefix(attack.Name, "redirect of a listing") && !a.tls()
				if n := a.ledger.Requests("evil"); n > 0 && !mayRead {
					t.Errorf("the other host was asked %d times", n)
				}
				if err := errors.Join(errs...); err == nil {
					t.Error("nothing failed: the attack was not met")
				}
			})
		}
	}
}

func (a *attacked) tls() bool { return a.home.RootCAs() != nil }

// A chain that leads from the registry to somebody else and back is followed
// without credentials from the first foreign hop on, also when the registry then
// asks for some; and one that leads in a circle ends. go-containerregistry #2337.
func TestRedirectChains(t *testing.T) {
	for name, hops := range map[string]int{"there and back": 1, "there, there again, and back": 2} {
		t.Run(name, func(t *testing.T) {
			a := newAttacked(t, nil, registrytest.WithBasicAuth())
			back := a.home.URL() + "/v2/app/blobs/" + string(a.image.Blobs[0].Digest())
			seen := 0
			a.evil.Script(func(w http.ResponseWriter, r *http.Request) bool {
				seen++
				to := back
				if seen%hops != 0 {
					to = a.evil.URL() + "/again"
				}
				w.Header().Set("Location", to)
				w.WriteHeader(http.StatusTemporaryRedirect)
				return true
			})
			a.home.Faults.Add(registrytest.Fault{Method: http.MethodGet, Kind: "blob", Nth: 1, Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {a.evil.URL() + "/blob"}}})
			d := providers.Descriptor{Digest: a.image.Blobs[0].Digest(), Size: int64(len(a.image.Blobs[0].Data))}
			err := a.client.CheckBlob(t.Context(), repo(a.home.Host(), "app"), d, true, nil)
			if err == nil || seen < hops {
				t.Errorf("%v after %d foreign hops, want a failure after %d", err, seen, hops)
			}
			a.clean(err)
			last := a.home.Recorder.All()[a.home.Recorder.Total()-1]
			if last.Header.Get("Authorization") != "" {
				t.Error("the credential went along on the way back")
			}
		})
	}
	t.Run("a circle", func(t *testing.T) {
		a := newAttacked(t, nil, registrytest.WithBasicAuth())
		a.evil.Redirect(http.StatusFound, a.evil.URL()+"/again")
		a.home.Faults.Add(registrytest.Fault{Method: http.MethodGet, Kind: "manifest", Times: -1, Status: http.StatusFound, Header: http.Header{"Location": {a.evil.URL() + "/x"}}})
		_, err := a.client.Manifest(t.Context(), repo(a.home.Host(), "app"), "v1")
		if n := a.ledger.Requests("evil"); providers.ClassOf(err) != providers.Invalid || n != maxRedirects {
			t.Errorf("%v after %d requests, want a refusal after %d", err, n, maxRedirects)
		}
		a.clean(err)
	})
}

// The standard library lets some headers follow to subdomains, or restores them
// on the way back (CVE-2023-45289, CVE-2024-45336, CVE-2025-4673). We never ask
// it to follow: it sees single requests, and ours carry nothing abroad.
func TestHeadersDoNotFollowRedirects(t *testing.T) {
	for _, to := range []string{"https://sub.reg.example/x", "https://reg.example:8443/x", "https://example/x", "https://reg.example.evil/x", "https://evil/then-home"} {
		t.Run(to, func(t *testing.T) {
			abroad := 0
			answer := func(req *http.Request) (*http.Response, error) {
				w := httptest.NewRecorder()
				switch {
				case req.URL.Host != "reg.example" || req.URL.Path == "/home-again":
					abroad++
					for name := range req.Header {
						if name != "Accept" && name != "User-Agent" && name != "Accept-Encoding" && name != "Range" {
							t.Errorf("%s goes to %s", name, req.URL)
						}
					}
					if req.URL.Path == "/then-home" {
						w.Header().Set("Location", "https://reg.example/home-again")
						w.WriteHeader(http.StatusFound)
						break
					}
					serveManifest(w, someManifest)
				case req.Header.Get("Authorization") == "":
					w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
					w.WriteHeader(401)
				default:
					w.Header().Set("Set-Cookie", "session=1; Domain=example")
					w.Header().Set("Location", to)
					w.WriteHeader(http.StatusFound)
				}
				return w.Result(), nil
			}
			c := clientOf(t, Options{Registries: []Settings{{Host: "reg.example", Credential: canary}},
				Transport: func(Settings) (http.RoundTripper, error) { return roundTripper(answer), nil }})
			if _, err := c.Manifest(t.Context(), repo("reg.example", "a"), "1"); err != nil {
				t.Error(err)
			}
			if abroad == 0 {
				t.Error("the redirect was not followed: the test shows nothing")
			}
		})
	}
}

// Uploads may go to a host that upload_hosts names, and tokens come from one that
// token_hosts names: the layer goes there, the credential only to the latter.
func TestAllowedHosts(t *testing.T) {
	t.Run("upload_hosts", func(t *testing.T) {
		var host string
		a := newAttacked(t, nil, registrytest.WithBasicAuth())
		host = a.evil.Host()
		a.client.settings[0].UploadHosts = []string{host}
		a.home.Faults.Add(registrytest.Fault{Method: http.MethodPost, Kind: "upload", Times: -1, Status: http.StatusAccepted, Header: http.Header{"Location": {a.evil.URL() + "/upload/1"}}})
		a.evil.Script(func(w http.ResponseWriter, r *http.Request) bool {
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusCreated)
			return true
		})
		errs := a.everything()
		if a.ledger.Requests("evil") == 0 {
			t.Errorf("nothing was uploaded to the allowed host: %v", errors.Join(errs...))
		}
		a.clean(errs...)
	})
	t.Run("token_hosts", func(t *testing.T) {
		a := newAttacked(t, nil, registrytest.WithTokens(time.Minute))
		a.client.settings[0].TokenHosts = []string{a.evil.Host()}
		a.home.Faults.Add(registrytest.Fault{Times: -1, Status: http.StatusUnauthorized, Header: http.Header{"Www-Authenticate": {`Bearer realm="` + a.evil.URL() + `/token",service="x"`}}})
		_, err := a.client.Manifest(t.Context(), repo(a.home.Host(), "app"), "v1")
		if err == nil || len(a.ledger.Find(a.password)) == 0 {
			t.Errorf("%v; the password was not offered to the token server that the user named", err)
		}
	})
}

// The bytes decide. A manifest asked for by digest that has other bytes is
// refused and one that has the right ones is taken, whatever its header says; a
// tag whose header differs from its bytes is refused. GHSA-qv35-3gw6-8q4j.
func TestDigestConfusion(t *testing.T) {
	right := providers.SHA256([]byte(someManifest))
	other := strings.Replace(someManifest, `"layers":[]`, `"layers":[ ]`, 1)
	for _, tt := range []struct {
		name, ref, body, header string
		ok                      bool
	}{
		{"as asked for", string(right), someManifest, string(right), true},
		{"no header", string(right), someManifest, "", true},
		{"wrong bytes", string(right), other, "", false},
		{"wrong bytes, the header says they are right", string(right), other, string(right), false},
		{"wrong bytes, the header says what they are", string(right), other, string(providers.SHA256([]byte(other))), false},
		{"too short", string(right), someManifest[:len(someManifest)-1], string(right), false},
		{"too long", string(right), someManifest + " ", string(right), false},
		{"right bytes, the header differs", string(right), someManifest, string(providers.SHA256([]byte(other))), true},
		{"a tag, the header differs", "v1", someManifest, string(providers.SHA256([]byte(other))), false},
		{"a tag, the header is a path", "v1", someManifest, "sha256:../../../etc/passwd", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", ociManifest)
				if tt.header != "" {
					w.Header().Set("Docker-Content-Digest", tt.header)
				}
				io.WriteString(w, tt.body)
			})
			m, err := plainClient(t, p.host()).Manifest(t.Context(), repo(p.host(), "a"), tt.ref)
			if (err == nil) != tt.ok || err == nil && m.Digest != right || providers.ClassOf(err).Retryable() {
				t.Errorf("%v of class %s, want it taken: %t", err, providers.ClassOf(err), tt.ok)
			}
		})
	}
}

// Each cap, one byte below, at and above it. Over it is an error that says so,
// never a silent end, and is not asked for again. CVE-2020-1702, CVE-2017-11468.
func TestTokenAndRefusalCaps(t *testing.T) {
	for _, off := range []int{-1, 0, 1} {
		t.Run(fmt.Sprintf("token %+d", off), func(t *testing.T) {
			tokens := 0
			p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/token":
					tokens++
					body := `{"token":"canary-token"}`
					io.WriteString(w, body+strings.Repeat(" ", maxToken+off-len(body)))
				case r.Header.Get("Authorization") != "":
					serveManifest(w, someManifest)
				default:
					w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token"`)
					w.WriteHeader(401)
				}
			})
			_, err := plainClient(t, p.host()).Manifest(t.Context(), repo(p.host(), "a"), "1")
			if (err == nil) != (off <= 0) || tokens != 1 || err != nil && providers.ClassOf(err) != providers.Invalid {
				t.Errorf("%v after %d tries, want it taken: %t", err, tokens, off <= 0)
			}
		})
		t.Run(fmt.Sprintf("refusal %+d", off), func(t *testing.T) {
			p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(400)
				body := `{"errors":[{"code":"X","message":"the reason"}]}`
				io.WriteString(w, body+strings.Repeat(" ", maxError+off-len(body)))
			})
			_, err := plainClient(t, p.host()).Manifest(t.Context(), repo(p.host(), "a"), "1")
			want := "the reason"
			if off > 0 {
				want = "more than"
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
}

// A small answer that is large when it is decoded is given up at the same cap.
// Blobs are never decoded. CVE-2023-30551, CVE-2026-48702, CVE-2024-28180.
func TestTransportBombs(t *testing.T) {
	const size = 128 << 20
	zero := bytes.Repeat([]byte(" "), 1<<20)
	encoders := map[string]func(io.Writer) io.WriteCloser{
		"gzip": func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"zstd": func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w, zstd.WithWindowSize(8<<20))
			if err != nil {
				t.Fatal(err)
			}
			return z
		},
	}
	for name, encode := range encoders {
		t.Run(name, func(t *testing.T) {
			var bomb bytes.Buffer
			z := encode(&bomb)
			for range size / len(zero) {
				if _, err := z.Write(zero); err != nil {
					t.Fatal(err)
				}
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Encoding", name)
				w.Header().Set("Content-Type", ociManifest)
				w.Write(bomb.Bytes())
			})
			c := plainClient(t, p.host())
			_, manifest := c.Manifest(t.Context(), repo(p.host(), "a"), "1")
			_, tags := c.Tags(t.Context(), repo(p.host(), "a"))
			for _, err := range []error{manifest, tags} {
				if providers.ClassOf(err) != providers.Invalid || !strings.Contains(err.Error(), "more than") {
					t.Errorf("%v of class %s, want a refusal at the cap", err, providers.ClassOf(err))
				}
			}
			if n := len(p.requests()); n != 2 {
				t.Errorf("%d requests, want each once", n)
			}
		})
	}
	t.Run("a window larger than ours", func(t *testing.T) {
		var far bytes.Buffer
		z, err := zstd.NewWriter(&far, zstd.WithWindowSize(64<<20), zstd.WithSingleSegment(false))
		if err != nil {
			t.Fatal(err)
		}
		for range 70 {
			if _, err := z.Write(zero); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "zstd")
			w.Write(far.Bytes())
		})
		if _, err := plainClient(t, p.host()).Tags(t.Context(), repo(p.host(), "a")); err == nil {
			t.Error("it was decoded")
		}
	})
}

// What a token server gives can not put lines into our headers.
func TestTokensThatAreHeaders(t *testing.T) {
	for _, token := range []string{`a\r\nX-Evil: 1`, `a\nb`, `a b`, `a\u0000`, `\u00e9`, ``} {
		p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				io.WriteString(w, `{"token":"`+token+`"}`)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token"`)
			w.WriteHeader(401)
		})
		_, err := plainClient(t, p.host()).Manifest(t.Context(), repo(p.host(), "a"), "1")
		if providers.ClassOf(err) != providers.Invalid || !strings.Contains(err.Error(), "no usable token") || len(p.requests()) != 2 {
			t.Errorf("%q: %v after %d requests", token, err, len(p.requests()))
		}
	}
}

// A certificate for another host is refused with its name in the message, TLS
// before 1.2 is not spoken, and two registries share no sessions.
func TestTLSAttacks(t *testing.T) {
	ca := newAuthority(t)
	host := ca.serveTLS(t, nil)
	_, port, err := net.SplitHostPort(host)
	if err != nil {
		t.Fatal(err)
	}
	named := "localhost:" + port // the certificate is for 127.0.0.1 alone
	c := clientOf(t, Options{Registries: []Settings{{Host: named, RootCAs: ca.pem(), Credential: canary}}})
	_, err = c.Manifest(t.Context(), repo(named, "a"), "1")
	if providers.ClassOf(err) != providers.Invalid || !strings.Contains(err.Error(), "localhost") {
		t.Errorf("a certificate for another host: %v of class %s", err, providers.ClassOf(err))
	}
	if hint := providers.HintOf(err); !strings.Contains(hint, "not for this name") {
		t.Errorf("a certificate for another host: hint %q", hint)
	}
	old := ca.serveTLS(t, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })
	clock := newQuick()
	c = clientOf(t, Options{Clock: clock, Registries: []Settings{{Host: old, RootCAs: ca.pem()}}})
	if _, err := c.Manifest(t.Context(), repo(old, "a"), "1"); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v", err)
	} else if providers.ClassOf(err) != providers.Invalid || len(clock.waits()) > 0 {
		t.Errorf("TLS 1.1: class %s, tried again after %v; want it given up at once", providers.ClassOf(err), clock.waits())
	}
	one, err := trustOf(Settings{RootCAs: ca.pem()})
	if err != nil {
		t.Fatal(err)
	}
	two, err := trustOf(Settings{})
	if err != nil {
		t.Fatal(err)
	}
	if one == two || one.ClientSessionCache != nil || two.ClientSessionCache != nil {
		t.Error("sessions may be shared between registries")
	}
}

// Headers are read up to 256 KiB, over both versions of HTTP. CVE-2023-45288.
func TestHeaderFloods(t *testing.T) {
	ca := newAuthority(t)
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %t", h2), func(t *testing.T) {
			_, _, pair := ca.issue(t)
			asked := 0
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				for i := range 400 {
					w.Header().Add(fmt.Sprint("X-", i), strings.Repeat("x", 1000))
				}
				serveManifest(w, someManifest)
			}))
			s.EnableHTTP2 = h2
			s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
			s.StartTLS()
			t.Cleanup(s.Close)
			host := s.Listener.Addr().String()
			c := clientOf(t, Options{Registries: []Settings{{Host: host, RootCAs: ca.pem()}}})
			_, err := c.Manifest(t.Context(), repo(host, "a"), "1")
			if err == nil {
				t.Fatal("400 kB of headers were taken")
			}
			// HTTP/2 does not say why it gave up, so it is tried again, a few times.
			if most := map[bool]int{false: 1, true: maxTries}[h2]; asked > most || !h2 && providers.ClassOf(err) != providers.Invalid {
				t.Errorf("%v of class %s after %d tries, want at most %d", err, providers.ClassOf(err), asked, most)
			}
		})
	}
}

// traps on loopback, and a registry that is not: nothing that it names is
// contacted there. What loopback can not show is in TestInANamespace.
func TestAddressesNamedByAnswers(t *testing.T) {
	trap := registrytest.NewTrap(t, nil, "")
	for name, tt := range map[string]struct {
		home  []string // addresses that the registry's name has
		met   string   // where it was connected to; empty for never
		fails bool
	}{
		"a public registry":                              {[]string{"93.184.216.34"}, "93.184.216.34:443", true},
		"a private registry":                             {[]string{"10.0.0.1"}, "10.0.0.1:443", true},
		"a name with two answers, one of them near":      {[]string{"93.184.216.34", "127.0.0.1"}, "", true},
		"a name that has another answer now":             {[]string{"127.0.0.1"}, "93.184.216.34:443", true},
		"a name without an answer":                       {nil, "", true},
		"a name whose only answer is a metadata service": {[]string{"169.254.169.254"}, "93.184.216.34:443", true},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuard("home.example", nil, nil)
			g.lookup = func(context.Context, string) (addrs []netip.Addr, err error) {
				for _, a := range tt.home {
					addrs = append(addrs, netip.MustParseAddr(a))
				}
				return addrs, nil
			}
			if tt.met != "" {
				g.meet(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(tt.met)))
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, trap.URL(), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = g.transport(&tls.Config{}, transportShape{conns: 1, foreign: true}).RoundTrip(req)
			var declined *refusal
			if !errors.As(err, &declined) {
				t.Errorf("%v, want a refusal of ours", err)
			}
		})
	}
}
