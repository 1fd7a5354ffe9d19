package gcp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"golang.org/x/oauth2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/credentials/oauth"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// Options say which secrets, where, and as whom.
type Options struct {
	Project  string // the project's id
	Location string // "" for global secrets, else the region of regional ones
	// Endpoint replaces Google's: "host:port", "https://host" or
	// "http://host:port". Plain text is spoken after "http://" and, without a
	// scheme, to a loopback address.
	Endpoint string
	// KMSKey encrypts secrets that are made without a key of their own.
	KMSKey string
	// Tokens log in. Nil sends none, which only a custom endpoint can accept.
	// They go to the endpoint alone, and never in plain text.
	Tokens oauth2.TokenSource
	// QuotaProject is billed for the calls of a person's credentials; "" leaves
	// it to the service.
	QuotaProject string
	// Account says whose the tokens are, for audit lines and errors; see
	// [AccountOf]. May be nil.
	Account func(context.Context) (string, error)

	// TLS is for endpoints whose certificate the machine does not know; nil for
	// the machine's own rules.
	TLS *tls.Config
	// Dial replaces the network. May be nil.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Clock is nil for the machine's.
	Clock Clock
	// Random gives uniform numbers, for jitter and to tell runs apart; nil for
	// the machine's.
	Random func() uint64
	// Patience is how long one operation is repeated when the service throttles
	// or fails; 0 for two minutes.
	Patience time.Duration
	// Notice is told, in a sentence, of what was done beyond what was asked:
	// a second version of one change was disabled. May be nil.
	Notice func(text string)
}

// Clock is time, handed in so that tests can hold it still.
type Clock interface {
	Now() time.Time
	// Wait returns after d, or with ctx's error when that ends first.
	Wait(ctx context.Context, d time.Duration) error
}

// Store is the secrets of one project, or of one location of it.
type Store struct {
	options Options
	place   string
	parent  string // "projects/p" or "projects/p/locations/l"
	run     string // tells claims of this process from others'
	conn    *grpc.ClientConn
	api     pb.SecretManagerServiceClient
	account func() (string, error)
	paces   *paces
	locks   locks

	mu sync.Mutex
	// newest is the highest number of a version that this process has seen:
	// numbers only grow, so a "latest" below it is out of date.
	newest map[string]int64
	// airborne are tokens whose last add may still arrive.
	airborne map[string]bool
}

var (
	_ secret.Store     = (*Store)(nil)
	_ secret.Principal = (*Store)(nil)
)

// New makes a store; it does not connect before the first call.
func New(ctx context.Context, o Options) (*Store, error) {
	refuse := func(hint, format string, args ...any) error {
		return &providers.Error{Class: providers.Invalid, Op: "open", On: "gcp secret store", Err: fmt.Errorf(format, args...), Hint: hint}
	}
	if !segment(o.Project) {
		return nil, refuse("Set project to the project's id, such as acme-prod.", "%q is no project", providers.Printable(o.Project, 80))
	}
	if o.Location != "" && !segment(o.Location) {
		return nil, refuse("Set location to a region, such as europe-west3, or leave it out.", "%q is no location", providers.Printable(o.Location, 80))
	}
	if o.KMSKey != "" && !kmsKey(o.KMSKey) {
		return nil, refuse(kmsForm, "%q is no KMS key", providers.Printable(o.KMSKey, 200))
	}
	address, plain, err := endpoint(o.Endpoint, o.Location)
	if err != nil {
		return nil, refuse("Write host:port, https://host or http://host:port.", "endpoint: %w", err)
	}
	if plain && o.Tokens != nil {
		return nil, refuse("Use an https:// endpoint, or none of the credentials.", "a token is not sent in plain text to %s", address)
	}
	if o.Clock == nil {
		o.Clock = machine{}
	}
	if o.Random == nil {
		o.Random = rand.Uint64
	}
	if o.Patience <= 0 {
		o.Patience = 2 * time.Minute
	}
	if o.Notice == nil {
		o.Notice = func(string) {}
	}
	s := &Store{options: o, place: "gcp/" + o.Project, parent: "projects/" + o.Project, run: fmt.Sprintf("%08x", uint32(o.Random())),
		newest: map[string]int64{}, airborne: map[string]bool{}}
	if o.Location != "" {
		s.place += "/" + o.Location
		s.parent += "/locations/" + o.Location
	}
	if o.Endpoint != "" {
		s.place += "@" + address
	}
	s.account = sync.OnceValues(func() (string, error) {
		if o.Account == nil {
			return "", nil
		}
		return o.Account(context.WithoutCancel(ctx))
	})
	s.paces = newPaces(o.Clock, o.Location != "")
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	security := credentials.NewTLS(o.TLS)
	if plain {
		security = insecure.NewCredentials()
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(security),
		grpc.WithDisableServiceConfig(), // a DNS record does not decide about repeating
		grpc.WithUserAgent("freightliner"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(answerCap)),
	}
	if o.Tokens != nil {
		dial = append(dial, grpc.WithPerRPCCredentials(oauth.TokenSource{TokenSource: o.Tokens}))
	}
	target := "dns:///" + address
	if o.Dial != nil {
		target = "passthrough:///" + address
		dial = append(dial, grpc.WithContextDialer(o.Dial))
	}
	if s.conn, err = grpc.NewClient(target, dial...); err != nil {
		return nil, refuse("", "%s: %w", address, err)
	}
	s.api = pb.NewSecretManagerServiceClient(s.conn)
	return s, nil
}

// answerCap is the most that one answer may have: a page of a thousand secrets
// with the most labels (16 KiB) and annotations (16 KiB) that there can be.
const answerCap = 40 << 20

// Close ends the connections.
func (s *Store) Close() error { return s.conn.Close() }

// Place is "gcp/<project>" or "gcp/<project>/<location>", and "@<host:port>" for
// an endpoint that is not Google's.
func (s *Store) Place() string { return s.place }

// Principal is the account that the tokens belong to; empty when nobody knows.
func (s *Store) Principal(context.Context) (string, error) { return s.account() }

func (s *Store) secretName(name string) string { return s.parent + "/secrets/" + name }

func (s *Store) versionName(name, version string) string {
	return s.secretName(name) + "/versions/" + version
}

// Google reports whether an endpoint is the service's own, over TLS: the one for
// all, a location's, a restricted, private or Private Service Connect one, all of
// which end in googleapis.com. Only there do Google's credentials belong.
func Google(custom string) bool {
	address, plain, err := endpoint(custom, "")
	host, _, _ := net.SplitHostPort(address)
	return err == nil && !plain && strings.HasSuffix(strings.ToLower(host), ".googleapis.com")
}

// endpoint is where to connect, and whether in plain text.
func endpoint(custom, location string) (address string, plain bool, err error) {
	if custom == "" {
		if location == "" {
			return "secretmanager.googleapis.com:443", false, nil
		}
		return "secretmanager." + location + ".rep.googleapis.com:443", false, nil
	}
	scheme, rest, found := strings.Cut(custom, "://")
	if !found {
		scheme, rest = "", custom
	}
	rest = strings.TrimSuffix(rest, "/")
	if scheme != "" && scheme != "http" && scheme != "https" {
		return "", false, fmt.Errorf("scheme %q", providers.Printable(scheme, 20))
	}
	if rest == "" || strings.ContainsAny(rest, "/@?# \t\r\n") {
		return "", false, errors.New("it is a host and a port, nothing else")
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		if host = strings.Trim(rest, "[]"); strings.Contains(host, ":") && !isAddress(host) {
			return "", false, errors.New("it is a host and a port, nothing else")
		}
		port = map[bool]string{true: "80", false: "443"}[scheme == "http"]
	}
	if host == "" || port == "" {
		return "", false, errors.New("it lacks a host or a port")
	}
	return net.JoinHostPort(host, port), scheme == "http" || scheme == "" && loopback(host), nil
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// segment is a part of a resource name that holds no separator.
func segment(s string) bool {
	if s == "" || len(s) > 100 {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-:.") == "" && !strings.HasPrefix(s, ".")
}

// machine is the clock of the machine.
type machine struct{}

func (machine) Now() time.Time { return time.Now() }

func (machine) Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// locks let one writer of this process at a time at each secret.
type locks struct {
	mu   sync.Mutex
	held map[string]*held
}

type held struct {
	turn chan struct{} // holds one element while somebody is at work
	want int
}

// take waits for its turn; the function that it returns ends it.
func (l *locks) take(ctx context.Context, name string) (func(), error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*held{}
	}
	h := l.held[name]
	if h == nil {
		h = &held{turn: make(chan struct{}, 1)}
		l.held[name] = h
	}
	h.want++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		if h.want--; h.want == 0 {
			delete(l.held, name)
		}
		l.mu.Unlock()
	}
	select {
	case h.turn <- struct{}{}:
		return func() { <-h.turn; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
