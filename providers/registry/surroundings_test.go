package registry

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

// An answer that never ends is given up at its cap, whatever it is an answer to,
// and not asked for again.
func TestEndlessAnswers(t *testing.T) {
	for _, tt := range []struct {
		name, path string
		status     int
		call       func(context.Context, *Client, providers.Repository) error
	}{
		{"manifest", "/manifests/", 200, func(ctx context.Context, c *Client, at providers.Repository) error {
			_, err := c.Manifest(ctx, at, "1")
			return err
		}},
		{"tags", "/tags/", 200, func(ctx context.Context, c *Client, at providers.Repository) error {
			_, err := c.Tags(ctx, at)
			return err
		}},
		{"catalog", "/_catalog", 200, func(ctx context.Context, c *Client, at providers.Repository) error {
			for _, err := range c.Repositories(ctx, at.Host, "") {
				if err != nil {
					return err
				}
			}
			return nil
		}},
		{"token", "/token", 200, func(ctx context.Context, c *Client, at providers.Repository) error {
			_, err := c.Head(ctx, at, "1")
			return err
		}},
		{"refusal", "/manifests/", 400, func(ctx context.Context, c *Client, at providers.Repository) error {
			_, err := c.Manifest(ctx, at, "1")
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			endless, sent := 0, 0
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.Contains(r.URL.Path, tt.path) {
					w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token"`)
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				endless++
				w.Header().Set("Content-Type", ociManifest)
				w.WriteHeader(tt.status)
				blank := bytes.Repeat([]byte(" "), 64<<10)
				for {
					n, err := w.Write(blank)
					if sent += n; err != nil {
						return
					}
				}
			}))
			host := strings.TrimPrefix(s.URL, "http://")
			c := plainClient(t, host)
			err := tt.call(t.Context(), c, repo(host, "a"))
			s.Close() // waits for the handler
			if providers.ClassOf(err) != providers.Invalid || !strings.Contains(err.Error(), "more than") {
				t.Errorf("error %v of class %s, want invalid: more than the limit", err, providers.ClassOf(err))
			}
			if read := c.Stats()[host].BytesReceived; endless != 1 || read > maxPage+1<<20 {
				t.Errorf("asked %d times, %d bytes read; want once, and the cap", endless, read)
			}
		})
	}
}

// A body may take as long as it likes while it makes progress; one that makes none
// is given up. The time is the bubble's, so nobody waits.
func TestSlowDrip(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pause time.Duration
		fails bool
	}{
		{"a byte every fifty seconds, for hours", 50 * time.Second, false},
		{"nothing for more than a minute", 61 * time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				started := time.Now()
				transport := roundTripper(func(req *http.Request) (*http.Response, error) {
					header := http.Header{"Content-Type": {ociManifest}, "Docker-Content-Digest": {string(providers.SHA256([]byte(someManifest)))}}
					return &http.Response{StatusCode: http.StatusOK, Header: header, ContentLength: -1,
						Body: io.NopCloser(&dripping{ctx: req.Context(), rest: someManifest, pause: tt.pause})}, nil
				})
				c := clientOf(t, Options{Transport: func(Settings) (http.RoundTripper, error) { return transport, nil }})
				_, err := c.Manifest(t.Context(), repo("reg.example", "a"), "1")
				switch {
				case tt.fails && (providers.ClassOf(err) != providers.Transient || !strings.Contains(err.Error(), "no progress")):
					t.Errorf("error %v, want a transient one about progress", err)
				case !tt.fails && err != nil:
					t.Error(err)
				case !tt.fails && time.Since(started) < time.Hour:
					t.Errorf("it took only %v", time.Since(started))
				}
			})
		})
	}
}

// dripping is a body of one byte at a time.
type dripping struct {
	ctx   context.Context
	rest  string
	pause time.Duration
}

func (d *dripping) Read(p []byte) (int, error) {
	select {
	case <-time.After(d.pause):
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
	if d.rest == "" {
		return 0, io.EOF
	}
	p[0], d.rest = d.rest[0], d.rest[1:]
	return 1, nil
}

// authority is a CA of its own.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue makes a certificate for 127.0.0.1 and for clients, as PEM.
func (a *authority) issue(t *testing.T) (cert, key []byte, pair tls.Certificate) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, &own.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if pair, err = tls.X509KeyPair(cert, key); err != nil {
		t.Fatal(err)
	}
	return cert, key, pair
}

// serveTLS is a registry with one manifest behind a certificate of a.
func (a *authority) serveTLS(t *testing.T, change func(*tls.Config)) (host string) {
	t.Helper()
	_, _, pair := a.issue(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveManifest(w, someManifest) }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if change != nil {
		change(s.TLS)
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes fail on purpose
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// Authorities, client certificates and what a proxy needs are settings of one
// registry, and another one has nothing of them.
func TestTrustByRegistry(t *testing.T) {
	ours, proxys, others := newAuthority(t), newAuthority(t), newAuthority(t)
	plain := ours.serveTLS(t, nil)
	guarded := ours.serveTLS(t, func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ours.pool() })
	cert, key, _ := ours.issue(t)
	strange, strangeKey, _ := others.issue(t)
	proxy := interceptor(t, proxys, ours)
	through := func(*http.Request) (*url.URL, error) { return &url.URL{Scheme: "https", Host: proxy}, nil }
	for _, tt := range []struct {
		name     string
		settings Settings
		proxy    func(*http.Request) (*url.URL, error)
		hint     string // of the error; empty when it works
	}{
		{"a private authority", Settings{Host: plain, RootCAs: ours.pem()}, nil, ""},
		{"the same, not named", Settings{Host: plain}, nil, "ca_file"},
		{"another one named", Settings{Host: plain, RootCAs: others.pem()}, nil, "ca_file"},
		{"a client certificate", Settings{Host: guarded, RootCAs: ours.pem(), Certificate: cert, CertificateKey: key}, nil, ""},
		{"none, where one is wanted", Settings{Host: guarded, RootCAs: ours.pem()}, nil, "client_cert"},
		{"one of another authority", Settings{Host: guarded, RootCAs: ours.pem(), Certificate: strange, CertificateKey: strangeKey}, nil, "client_cert"},
		{"a proxy that breaks TLS open, with its own authority", Settings{Host: plain, RootCAs: proxys.pem()}, through, ""},
		{"the same, not named", Settings{Host: plain, RootCAs: ours.pem()}, through, "ca_file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			other := Settings{Host: "other.example", PlainHTTP: true, RootCAs: others.pem()}
			clock := newQuick()
			c := clientOf(t, Options{Clock: clock, Proxy: tt.proxy, Registries: []Settings{other, tt.settings}})
			_, err := c.Manifest(t.Context(), repo(tt.settings.Host, "a"), "1")
			if (err == nil) != (tt.hint == "") || err != nil && (providers.ClassOf(err) != providers.Invalid || !strings.Contains(providers.HintOf(err), tt.hint)) {
				t.Errorf("%v (%s, hint %q), want hint %q", err, providers.ClassOf(err), providers.HintOf(err), tt.hint)
			}
			if waits := clock.waits(); len(waits) != 0 {
				t.Errorf("a certificate was tried again after %v", waits)
			}
		})
	}
	system, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	system.AddCert(ours.cert)
	if trust, err := trustOf(Settings{RootCAs: ours.pem()}); err != nil || !trust.RootCAs.Equal(system) {
		t.Errorf("%v; a named authority is trusted besides the system's", err)
	}
}

// interceptor is an https proxy that shows a certificate of its own for whatever
// it is asked to connect to, as companies have them.
func interceptor(t *testing.T, own, behind *authority) (host string) {
	t.Helper()
	_, _, pair := own.issue(t)
	config := &tls.Config{Certificates: []tls.Certificate{pair}}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
		client := tls.Server(conn, config)
		if client.HandshakeContext(r.Context()) != nil {
			return // it does not trust us
		}
		server, err := tls.Dial("tcp", r.Host, &tls.Config{RootCAs: behind.pool()})
		if err != nil {
			t.Error(err)
			return
		}
		defer server.Close()
		go io.Copy(server, client)
		io.Copy(client, server)
	}))
	s.TLS = config.Clone()
	s.TLS.NextProtos = []string{"http/1.1"}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// A name with a dead address among its addresses works, and each try looks the
// name up again, so that one that moves is followed.
func TestNamesThatMove(t *testing.T) {
	live, dead := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
	for _, tt := range []struct {
		name  string
		first []netip.Addr // what the name has at first
		then  []netip.Addr // and after the first try
		tries int
	}{
		{"the first address is dead", []netip.Addr{dead, live}, []netip.Addr{dead, live}, 1},
		{"it moves between two tries", []netip.Addr{dead}, []netip.Addr{live}, 2},
		{"it is gone for a moment", nil, []netip.Addr{live}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			listener, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveManifest(w, someManifest) })}
			go s.Serve(listener)
			t.Cleanup(func() { s.Close() })
			names := &nameServer{addrs: tt.first}
			clock := newQuick()
			clock.after = func() { names.set(tt.then) }
			host := fmt.Sprintf("registry.example:%d", listener.Addr().(*net.TCPAddr).Port)
			c := clientOf(t, Options{Clock: clock, Registries: []Settings{{Host: host, PlainHTTP: true}}})
			c.resolver = &net.Resolver{PreferGo: true, Dial: names.dial}
			if _, err := c.Manifest(t.Context(), repo(host, "a"), "1"); err != nil {
				t.Fatal(err)
			}
			if n := c.Stats()[host].Requests["GET manifest"]; n != int64(tt.tries) {
				t.Errorf("%d tries, want %d", n, tt.tries)
			}
		})
	}
}

// nameServer answers every question with its addresses (RFC 1035, over a stream).
type nameServer struct {
	mu    sync.Mutex
	addrs []netip.Addr
}

func (n *nameServer) set(addrs []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs = addrs
}

func (n *nameServer) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		defer ours.Close()
		for {
			var length [2]byte
			if _, err := io.ReadFull(ours, length[:]); err != nil {
				return
			}
			question := make([]byte, binary.BigEndian.Uint16(length[:]))
			if _, err := io.ReadFull(ours, question); err != nil {
				return
			}
			answer := n.answer(question)
			if _, err := ours.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
				return
			}
		}
	}()
	return theirs, nil
}

func (n *nameServer) answer(question []byte) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	end := 12 + bytes.IndexByte(question[12:], 0) + 5 // name, type and class
	kind := binary.BigEndian.Uint16(question[end-4:])
	var records []byte
	count := 0
	for _, a := range n.addrs {
		if a.Is4() == (kind == 1) && (kind == 1 || kind == 28) {
			raw := a.AsSlice()
			records = append(records, 0xc0, 12)
			records = binary.BigEndian.AppendUint16(records, kind)
			records = append(records, 0, 1, 0, 0, 0, 0)
			records = binary.BigEndian.AppendUint16(records, uint16(len(raw)))
			records = append(records, raw...)
			count++
		}
	}
	code := byte(0)
	if len(n.addrs) == 0 {
		code = 3 // no such name
	}
	head := append([]byte{question[0], question[1], 0x81, 0x80 | code, 0, 1, 0, byte(count), 0, 0, 0, 0}, question[12:end]...)
	return append(head, records...)
}

// fullLedger has no room.
type fullLedger struct{ *memoryLedger }

func (fullLedger) Save(Unfinished) error {
	return &os.PathError{Op: "write", Path: "uploads", Err: syscall.ENOSPC}
}

// A ledger without room keeps no upload from going on, and is told of once.
func TestNoRoomForTheLedger(t *testing.T) {
	l := newLane(t)
	ledger := fullLedger{newLedger()}
	l.ledger = ledger
	var told bytes.Buffer
	c := l.client(t)
	c.log = hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: &told})
	mustCopy(t, NewCopier(c), l.job)
	registrytest.VerifyTree(t, l.dest.Host())
	if n := strings.Count(told.String(), "unfinished uploads can not be kept"); n != 1 {
		t.Errorf("told %d times:\n%s", n, told.String())
	}
}

// A registry that repeats what it was sent, in any form, does not get it shown.
func TestEchoedSecretsAreRedacted(t *testing.T) {
	pairs := base64.StdEncoding.EncodeToString([]byte(registrytest.CanaryUser + ":" + registrytest.CanaryPassword))
	for _, token := range []bool{false, true} {
		t.Run(fmt.Sprintf("token %t", token), func(t *testing.T) {
			p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/token":
					io.WriteString(w, `{"token":"canary-token-value"}`)
				case r.Header.Get("Authorization") == "" && token:
					w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token"`)
					w.WriteHeader(http.StatusUnauthorized)
				case r.Header.Get("Authorization") == "":
					w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
					w.WriteHeader(http.StatusUnauthorized)
				default:
					w.WriteHeader(http.StatusBadRequest)
					fmt.Fprintf(w, `{"errors":[{"code":"X","message":"you sent %s, which is %s, escaped %s"}]}`,
						r.Header.Get("Authorization"), registrytest.CanaryPassword, url.QueryEscape(pairs))
				}
			})
			var told bytes.Buffer
			c := clientOf(t, Options{Registries: []Settings{{Host: p.host(), PlainHTTP: true, Credential: canary}},
				Log: hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &told})})
			_, err := c.Manifest(t.Context(), repo(p.host(), "a"), "1")
			if err == nil || !strings.Contains(err.Error(), "[redacted]") {
				t.Errorf("error %v, want what was said, redacted", err)
			}
			for _, secret := range append(registrytest.Canaries(), url.QueryEscape(pairs), "canary-token-value") {
				if strings.Contains(fmt.Sprint(err)+providers.HintOf(err)+told.String(), secret) {
					t.Errorf("%s is shown: %v\n%s", secret, err, told.String())
				}
			}
		})
	}
}

// Of several ways to authenticate, in one header or in more, the bearer token is
// chosen, then the password.
func TestChoiceOfChallenges(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		want  string // how the request came that worked; empty: none does
	}{
		{"two headers", []string{`Basic realm="x"`, `Bearer realm="{token}",service="s"`}, "Bearer"},
		{"one header", []string{`Basic realm="x, y", Bearer service="s",realm="{token}"`}, "Bearer"},
		{"bearer first", []string{`Bearer realm="{token}"`, `Basic realm="x"`}, "Bearer"},
		{"another beside basic", []string{`Negotiate`, `Basic realm="x"`}, "Basic"},
		{"bearer without a realm", []string{`Bearer service="s"`, `Basic realm="x"`}, "Basic"},
		{"nothing that we know", []string{`Negotiate`, `Digest realm="x"`}, ""},
		{"nothing at all", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
				scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
				switch {
				case r.URL.Path == "/token":
					io.WriteString(w, `{"token":"canary-token"}`)
				case scheme != "" && scheme == tt.want:
					serveManifest(w, someManifest)
				default:
					for _, line := range tt.lines {
						w.Header().Add("WWW-Authenticate", strings.ReplaceAll(line, "{token}", "http://"+r.Host+"/token"))
					}
					w.WriteHeader(http.StatusUnauthorized)
				}
			})
			c := clientOf(t, Options{Registries: []Settings{{Host: p.host(), PlainHTTP: true, Credential: canary}}})
			_, err := c.Manifest(t.Context(), repo(p.host(), "a"), "1")
			if (err == nil) != (tt.want != "") || err != nil && providers.ClassOf(err) != providers.Denied {
				t.Errorf("error %v, want it to work: %t", err, tt.want != "")
			}
			if n := len(p.requests()); n > 3 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// Helpers as programs: what one prints when it fails, or instead of an answer, is
// shown to nobody, and one that hangs is ended.
func TestHelperPrograms(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		want         string // part of the error; empty for a credential
	}{
		{"works", `read server; printf '{"Username":"u","Secret":"p-%s"}' "$server"`, ""},
		{"fails and says why on stdout", `echo "error: canary-secret is locked"; exit 1`, "it failed"},
		{"an error in place of an answer", `echo "canary-secret: vault is sealed"`, "not a user name and a secret"},
		{"another shape", `echo '{"secret_key":"canary-secret"}'`, "not a user name and a secret"},
		{"an answer without an end", `yes canary-secret`, "more than the limit"},
		{"hangs", `exec sleep 600`, "no answer"},
		{"hangs, with a child that holds its output", `sleep 600 & sleep 600`, "no answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bin := t.TempDir()
			if err := os.WriteFile(filepath.Join(bin, "docker-credential-test"), []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			ctx := t.Context()
			if strings.HasPrefix(tt.name, "hangs") {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond) // in place of the 10 s
				defer cancel()
			}
			file := credentialFile{name: "f", Store: "test"}
			c, found, err := file.find(ctx, repo("reg.example", "a"), ExecHelper([]string{"PATH=" + bin + ":" + os.Getenv("PATH")}))
			if tt.want == "" {
				if err != nil || !found || shown(c) != "u|p-reg.example||" {
					t.Errorf("%s, %t, %v", shown(c), found, err)
				}
				return
			}
			var e *providers.Error
			if !errors.As(err, &e) || e.Class != providers.Denied || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "docker-credential-test") {
				t.Errorf("error %v, want denied with %q and the program", err, tt.want)
			}
			if strings.Contains(fmt.Sprint(err), "canary") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

// nudged is a clock on which followers wait for their leader until the test says
// that the time is over.
type nudged struct {
	*quick
	over chan struct{}
}

func (n *nudged) Wait(ctx context.Context, d time.Duration) error {
	if d < followLimit {
		return n.quick.Wait(ctx, d)
	}
	select {
	case <-n.over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Who follows an upload that does not move any more helps itself after a while.
func TestFollowersHelpThemselves(t *testing.T) {
	source, dest := registrytest.Start(t), registrytest.Start(t)
	base := registrytest.Layer(1, 3000)
	first, second := registrytest.Image(1, base), registrytest.Image(2, base)
	registrytest.Push(t, source.Host(), "a", "1", first)
	registrytest.Push(t, source.Host(), "b", "1", second)
	gate := registrytest.NewGate(t)
	dest.Faults.Add(registrytest.Fault{Method: http.MethodPut, Path: "/m/a/blobs/uploads/.*" + base.Digest().Hex(), Gate: gate})
	clock := &nudged{newQuick(), make(chan struct{})}
	copier := NewCopier(clientOf(t, Options{Clock: clock, Registries: []Settings{{Host: source.Host(), PlainHTTP: true}, {Host: dest.Host(), PlainHTTP: true}}}))
	job := func(name string, a *registrytest.Artifact) Job {
		return Job{From: repo(source.Host(), name), To: repo(dest.Host(), "m/"+name), Root: a.Digest(), Tags: []string{"1"}, Fresh: true}
	}
	led := make(chan error, 1)
	go func() {
		_, err := copier.Copy(t.Context(), job("a", first))
		led <- err
	}()
	<-gate.Reached()
	close(clock.over)
	mustCopy(t, copier, job("b", second)) // while the leader stands at its gate
	select {
	case err := <-led:
		t.Errorf("the leader ended before its gate was opened: %v", err)
	default:
	}
	gate.Open()
	if err := <-led; err != nil {
		t.Error(err)
	}
	registrytest.VerifyTree(t, dest.Host())
	sent := source.Recorder.Where(func(r registrytest.Request) bool {
		return r.Method == http.MethodGet && r.Reference == string(base.Digest())
	})
	if len(sent) != 2 {
		t.Errorf("the layer was read %d times, want twice", len(sent))
	}
}

// Pauses grow, have full jitter, and are never shorter than what was asked for.
func TestBackoff(t *testing.T) {
	for _, random := range []float64{0, 0.5, 0.999} {
		c := clientOf(t, Options{Rand: func() float64 { return random }})
		r, err := c.remoteFor(repo("reg.example", "a"))
		if err != nil {
			t.Fatal(err)
		}
		var got []time.Duration
		for n := range 8 {
			got = append(got, r.backoff(n+1, nil))
		}
		want := []time.Duration{500, 1000, 2000, 4000, 8000, 15000, 15000, 15000}
		for i := range want {
			want[i] = time.Duration(float64(want[i]*time.Millisecond) * random)
		}
		if !slices.EqualFunc(got, want, func(a, b time.Duration) bool { return (a - b).Abs() < time.Millisecond }) {
			t.Errorf("at %v: %v, want %v", random, got, want)
		}
		if asked := r.backoff(1, &providers.Error{After: 7 * time.Second}); asked < 7*time.Second || asked > 8*time.Second {
			t.Errorf("at %v: %v after seven seconds were asked for", random, asked)
		}
	}
}

// A wrong password goes over the wire once, however many workers start at the same
// moment: accounts are locked after a few.
func TestWrongPasswordIsSentOnce(t *testing.T) {
	for name, o := range map[string]registrytest.Option{"basic": registrytest.WithBasicAuth(), "tokens": registrytest.WithTokens(time.Minute)} {
		t.Run(name, func(t *testing.T) {
			s := registrytest.Start(t, o)
			wrong := func(context.Context, providers.Repository) (Credential, error) {
				return Credential{Username: "u", Password: func() string { return "wrong-password" }, Origin: "the auth block"}, nil
			}
			c := clientOf(t, Options{Registries: []Settings{{Host: s.Host(), PlainHTTP: true, Credential: wrong}}})
			var said sync.Map
			var workers sync.WaitGroup
			for i := range 30 {
				workers.Go(func() {
					_, err := c.Head(t.Context(), repo(s.Host(), fmt.Sprint("r", i)), "1")
					if providers.ClassOf(err) != providers.Denied {
						t.Errorf("error %v, want denied", err)
					}
					said.Store(fmt.Sprint(err, providers.HintOf(err)), true)
				})
			}
			workers.Wait()
			sent := s.Recorder.Where(func(r registrytest.Request) bool { return r.Header.Get("Authorization") != "" })
			if len(sent) != 1 || s.Recorder.Total() != 2 {
				t.Errorf("sent %d times in %d requests, want once in 2", len(sent), s.Recorder.Total())
			}
			texts := 0
			said.Range(func(any, any) bool { texts++; return true })
			if texts != 1 {
				t.Errorf("%d different errors, want one", texts)
			}
		})
	}
}

// A registry that has stored a blob and never says so: it is looked for before it is
// sent again.
func TestCommitWithoutAnswer(t *testing.T) {
	l := newLane(t)
	silent := sync.Once{}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		there := r.Clone(r.Context())
		there.RequestURI = ""
		there.URL.Scheme, there.URL.Host = "http", l.dest.Host()
		resp, err := http.DefaultTransport.RoundTrip(there)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		if r.Method == http.MethodPut && strings.Contains(r.URL.RawQuery, l.layer.Digest().Hex()) {
			silent.Do(func() { <-r.Context().Done() })
		}
		for name, values := range resp.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}))
	t.Cleanup(front.Close)
	l.at = strings.TrimPrefix(front.URL, "http://")
	l.job.To.Host = l.at
	l.kind.Profile.Uploads, l.kind.Profile.Resume = []Upload{UploadPut}, ResumeNever
	c := l.client(t)
	c.commit = 3 * time.Second // of a quarter of an hour
	mustCopy(t, NewCopier(c), l.job)
	sent := l.dest.Recorder.Where(func(r registrytest.Request) bool {
		return r.Method == http.MethodPut && strings.Contains(r.Query, l.layer.Digest().Hex())
	})
	looked := l.dest.Recorder.Where(func(r registrytest.Request) bool {
		return r.Method == http.MethodHead && r.Kind == "blob" && r.Reference == string(l.layer.Digest())
	})
	if len(sent) != 1 || len(looked) == 0 {
		t.Errorf("sent %d times, looked for %d times; want once, and a look", len(sent), len(looked))
	}
	registrytest.VerifyTree(t, l.dest.Host())
}
