package gcp_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"golang.org/x/oauth2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/providers/secret/gcp"
	"freightliner/providers/secret/secrettest/gcpfake"
)

func TestPlaceAndEndpoint(t *testing.T) {
	key := "projects/p/locations/global/keyRings/r/cryptoKeys/k"
	for _, c := range []struct {
		o       gcp.Options
		place   string // empty: refused
		address string // what is dialled
	}{
		{gcp.Options{Project: "acme-prod"}, "gcp/acme-prod", "secretmanager.googleapis.com:443"},
		{gcp.Options{Project: "acme-prod", Location: "europe-west3", KMSKey: key}, "gcp/acme-prod/europe-west3", "secretmanager.europe-west3.rep.googleapis.com:443"},
		{gcp.Options{Project: "example.com:acme", Endpoint: "localhost:8085"}, "gcp/example.com:acme@localhost:8085", "localhost:8085"},
		{gcp.Options{Project: "acme", Endpoint: "http://emulator:8085/"}, "gcp/acme@emulator:8085", "emulator:8085"},
		{gcp.Options{Project: "acme", Endpoint: "http://emulator"}, "gcp/acme@emulator:80", "emulator:80"},
		{gcp.Options{Project: "acme", Endpoint: "https://private.example.com"}, "gcp/acme@private.example.com:443", "private.example.com:443"},
		{gcp.Options{Project: "acme", Endpoint: "[::1]:99"}, "gcp/acme@[::1]:99", "[::1]:99"},
		{gcp.Options{Project: "acme", Endpoint: "::1"}, "gcp/acme@[::1]:443", "[::1]:443"},
		{gcp.Options{}, "", ""},
		{gcp.Options{Project: "a/b"}, "", ""},
		{gcp.Options{Project: "acme", Location: "../x"}, "", ""},
		{gcp.Options{Project: "acme", KMSKey: "k"}, "", ""},
		{gcp.Options{Project: "acme", Endpoint: "ftp://x"}, "", ""},
		{gcp.Options{Project: "acme", Endpoint: "https://x/path"}, "", ""},
		{gcp.Options{Project: "acme", Endpoint: "user@host:1"}, "", ""},
		{gcp.Options{Project: "acme", Endpoint: "http://"}, "", ""},
		{gcp.Options{Project: "acme", Endpoint: ":80"}, "", ""},
		// A token would go out readable.
		{gcp.Options{Project: "acme", Endpoint: "127.0.0.1:1", Tokens: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "x"})}, "", ""},
		{gcp.Options{Project: "acme", Endpoint: "http://emulator:1", Tokens: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "x"})}, "", ""},
	} {
		dialled := make(chan string, 10)
		ctx, cancel := context.WithCancel(t.Context())
		c.o.Dial = func(_ context.Context, address string) (net.Conn, error) {
			select {
			case dialled <- address:
			default:
			}
			cancel()
			return nil, net.ErrClosed
		}
		s, err := gcp.New(ctx, c.o)
		if c.place == "" {
			wants(t, err, providers.Invalid)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.place, err)
			continue
		}
		if s.Place() != c.place {
			t.Errorf("place %q, want %q", s.Place(), c.place)
		}
		if _, err := s.Describe(ctx, "x"); err == nil {
			t.Error("an answer from nowhere")
		}
		if got := <-dialled; got != c.address {
			t.Errorf("%s connects to %q, want %q", c.place, got, c.address)
		}
		s.Close()
	}
}

// certified serves the fake over TLS on the loopback interface.
func certified(t *testing.T, server *gcpfake.Server) (address string, trust *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})), grpc.UnaryInterceptor(server.Intercept))
	pb.RegisterSecretManagerServiceServer(front, server)
	go front.Serve(l)
	t.Cleanup(front.Stop)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return l.Addr().String(), &tls.Config{RootCAs: roots}
}

func TestTokens(t *testing.T) {
	server := served(t, gcpfake.Options{})
	server.Require("ya29.good")
	address, trust := certified(t, server)
	open := func(token string) *gcp.Store {
		o := gcp.Options{Project: "acme", Endpoint: "https://" + address, TLS: trust, Clock: server.Clock()}
		if token != "" {
			o.Tokens = oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token})
		}
		s, err := gcp.New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	mustWrite(t, open("ya29.good"), creation("db", "needle-token"))
	for _, bad := range []string{"", "ya29.bad"} {
		_, err := open(bad).Describe(t.Context(), "db")
		wants(t, err, providers.Denied, "credentials", "gcloud auth")
	}
	// Without trust there is no conversation, and so no token.
	s, err := gcp.New(t.Context(), gcp.Options{Project: "acme", Endpoint: "https://" + address, Clock: server.Clock(),
		Tokens: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "ya29.good"})})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Describe(t.Context(), "db")
	wants(t, err, providers.Transient, "certificate")
}

func TestPrincipal(t *testing.T) {
	for text, want := range map[string]string{
		`{"type":"service_account","client_email":"ci@acme.iam.gserviceaccount.com","private_key":"x"}`:                                                                                              "ci@acme.iam.gserviceaccount.com",
		`{"type":"external_account","service_account_impersonation_url":"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/wif@acme.iam.gserviceaccount.com:generateAccessToken"}`: "wif@acme.iam.gserviceaccount.com",
		`{"type":"authorized_user","client_id":"x"}`: "",
		``: "", `[`: "",
	} {
		if got := gcp.AccountOf([]byte(text)); got != want {
			t.Errorf("%s: %q", text, got)
		}
	}
	server, asked := served(t, gcpfake.Options{}), 0
	s := opened(t, server, func(o *gcp.Options) {
		o.Account = func(context.Context) (string, error) { asked++; return "ci@acme.iam.gserviceaccount.com", nil }
	})
	for range 3 {
		if who, err := secret.Principal(s).Principal(t.Context()); err != nil || who != "ci@acme.iam.gserviceaccount.com" {
			t.Fatal(who, err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// TestCredentialsBelongToGoogle: a token goes to no other origin.
func TestCredentialsBelongToGoogle(t *testing.T) {
	for endpoint, want := range map[string]bool{
		"": true, "secretmanager.googleapis.com": true, "https://secretmanager.europe-west3.rep.googleapis.com": true,
		"secretmanager-ours.p.googleapis.com:443": true, "https://SecretManager.GoogleAPIs.com": true,
		"http://secretmanager.googleapis.com": false, "127.0.0.1:9000": false, "https://vault.acme.example": false,
		"https://googleapis.com.acme.example": false, "evilgoogleapis.com": false, "https://x@secretmanager.googleapis.com": false,
		"https://acme.example/.googleapis.com": false,
	} {
		if got := gcp.Google(endpoint); got != want {
			t.Errorf("%q: %t, want %t", endpoint, got, want)
		}
	}
}
