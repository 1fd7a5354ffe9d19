package registrytest

import (
	"cmp"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"freightliner/providers/registry/embedded"
)

// The credentials of every registry here that asks for some. They look like
// nothing else, so a test can search for them where they must not be.
const (
	CanaryUser     = "freightliner-canary"
	CanaryPassword = "canary-password-4f1c9b7e"
)

// Canaries are the forms in which the credentials travel.
func Canaries() []string {
	return []string{CanaryPassword, base64.StdEncoding.EncodeToString([]byte(CanaryUser + ":" + CanaryPassword))}
}

// settings collect what the options say.
type settings struct {
	embedded.Options
	store     embedded.Store
	tls       bool
	basic     bool
	tokenLife time.Duration
	users     []embedded.User
	record    bool

	personality *Personality
	login       bool
	pullLimit   int
	pullWindow  time.Duration
	lag         Lag
	ledger      *Ledger
	ledgerName  string
	password    string
	storage     *Storage
}

// owner is who may do everything.
func (s *settings) owner(name string) embedded.User {
	return embedded.User{Name: name, Password: cmp.Or(s.password, CanaryPassword)}
}

// Option changes how a registry starts. Those that only one of [Start] and
// [Distribution] knows say so.
type Option func(*settings)

// WithBasicAuth asks for [CanaryUser] and [CanaryPassword], who may do all.
func WithBasicAuth() Option { return func(s *settings) { s.basic = true } }

// WithTokens asks for bearer tokens that live so long. The token server stands
// on the registry's own address; for a [Distribution], this brings the proxy of
// [WithRecorder]. It knows [CanaryUser], who may do all, and the users given.
func WithTokens(life time.Duration, users ...embedded.User) Option {
	return func(s *settings) { s.tokenLife, s.users = life, users }
}

// WithRecorder puts a proxy with a [Recorder] and [Faults] before a
// [Distribution]; [Start] always has them.
func WithRecorder() Option { return func(s *settings) { s.record = true } }

// WithoutReferrers switches the referrers API off. Only for [Start]; the
// distribution registry has none anyway.
func WithoutReferrers() Option { return func(s *settings) { s.NoReferrers = true } }

// WithDirectory keeps the content in a folder, not in memory. The caller opens
// and closes it. Only for [Start].
func WithDirectory(store *embedded.Directory) Option { return func(s *settings) { s.store = store } }

// WithTLS serves https with a certificate of [Server.RootCAs]. Only for [Start].
func WithTLS() Option { return func(s *settings) { s.tls = true } }

// WithOptions sets what the options above do not. Only for [Start].
func WithOptions(change func(*embedded.Options)) Option {
	return func(s *settings) { change(&s.Options) }
}

func collect(options []Option) settings {
	var s settings
	for _, option := range options {
		option(&s)
	}
	return s
}

// Server is an embedded registry on a loopback port.
type Server struct {
	Recorder *Recorder        // what it was asked
	Faults   *Faults          // what goes wrong
	Tokens   *embedded.Tokens // nil without a login by token

	http *httptest.Server
	site *site // nil without a personality
}

// Start starts the embedded registry, in memory unless told otherwise. It
// stops at the end of the test.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	s := collect(options)
	if s.store == nil {
		s.store = embedded.NewMemory()
	}
	server := &Server{Recorder: &Recorder{}, Faults: &Faults{}}
	known := peer{tls: s.tls, login: s.basic || s.login || s.tokenLife > 0, password: s.password}
	switch {
	case s.personality != nil:
		server.site = newSite(*s.personality, s)
		server.site.settle(t, &s)
		server.Tokens = s.Options.Tokens
		server.Recorder.endpoint, server.Faults.endpoint = server.site.endpoint, server.site.endpoint
		known.user = server.site.user()
	case s.basic:
		s.Users = []embedded.User{s.owner(CanaryUser)}
	case s.tokenLife > 0:
		server.Tokens = issuer(t, s)
		s.Options.Tokens = server.Tokens
	}
	handler := embedded.New(s.store, s.Options)
	if server.site != nil {
		handler = server.site.front(handler)
		known.back = &http.Client{Transport: backDoor{server.site.open}}
		known.prepare = server.CreateRepository
	}
	handler = server.Recorder.Wrap(server.Faults.Wrap(handler))
	if s.ledger != nil {
		handler = s.ledger.Wrap(s.ledgerName, handler)
	}
	server.http = httptest.NewUnstartedServer(handler)
	server.http.Config.ErrorLog = log.New(io.Discard, "", 0) // connections are dropped on purpose
	if s.tls {
		server.http.StartTLS()
	} else {
		server.http.Start()
	}
	t.Cleanup(server.http.Close)
	known.client = server.http.Client()
	introduce(t, server.Host(), known)
	return server
}

// issuer is the token server for s.
func issuer(t testing.TB, s settings) *embedded.Tokens {
	t.Helper()
	tokens, err := embedded.NewTokens(embedded.TokenOptions{
		Users: append([]embedded.User{s.owner(CanaryUser)}, s.users...),
		Life:  s.tokenLife,
		Now:   s.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// Host is "127.0.0.1:port".
func (s *Server) Host() string { return s.http.Listener.Addr().String() }

// URL is "http://127.0.0.1:port", or https with [WithTLS].
func (s *Server) URL() string { return s.http.URL }

// RootCAs is the certificate to trust, as PEM; nil without [WithTLS].
func (s *Server) RootCAs() []byte {
	if s.http.TLS == nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
}

// Stop closes the server before the test ends: from now on it is unreachable.
func (s *Server) Stop() {
	s.http.CloseClientConnections()
	s.http.Close()
}

// Restart serves again what a stopped server had, on the same address.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp", s.Host())
	if err != nil {
		t.Fatalf("registrytest: restart: %v", err)
	}
	again := httptest.NewUnstartedServer(s.http.Config.Handler)
	again.Listener.Close()
	again.Listener = listener
	again.Config.ErrorLog = s.http.Config.ErrorLog
	if s.http.TLS != nil {
		again.TLS = s.http.TLS
		again.StartTLS()
	} else {
		again.Start()
	}
	t.Cleanup(again.Close)
	s.http = again
}

// peer is how to talk to a registry that was started here.
type peer struct {
	client *http.Client
	tls    bool
	login  bool   // with the canary credentials
	user   string // empty for CanaryUser

	password string // empty for CanaryPassword

	back    *http.Client            // past a personality; nil without one
	prepare func(repository string) // creates what must be there before a push; nil for nothing
}

// peers lets functions that take a host find out how to talk to it, so that
// tests need not carry credentials around.
var peers sync.Map // host to peer

func introduce(t testing.TB, host string, p peer) {
	peers.Store(host, p)
	t.Cleanup(func() { peers.Delete(host) })
}
