package gcpfake

import (
	"context"
	"fmt"
	"maps"
	"net"
	"path"
	"strings"
	"sync"
	"time"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"
)

// Options say what a server serves.
type Options struct {
	Project  string // its id; answers name its number
	Location string // serves regional secrets of this location, and no global ones
	Clock    *Clock // nil for one of its own
	// NoQuotas takes all calls at any rate.
	NoQuotas bool
}

// number is the project's number, which the service puts into names.
const number = "271828182845"

// Server is one endpoint of the service. It is safe for concurrent use.
type Server struct {
	pb.UnimplementedSecretManagerServiceServer
	options Options
	clock   *Clock
	grpc    *grpc.Server
	memory  *bufconn.Listener

	conns struct {
		sync.Mutex
		open map[net.Conn]bool
	}

	mu       sync.Mutex
	secrets  map[string]*record
	gone     map[string][]*record // earlier lives of a name
	etags    int
	calls    map[string]int
	total    int
	script   func(Call) Fault
	denied   []denial
	off      bool
	broken_  map[string]error // by KMS key
	lag      int
	late     []late
	spent    map[string][]time.Time
	bearer   string
	refused  int
	stale    int
	problems []string
}

// record is a secret with its versions.
type record struct {
	secret   *pb.Secret
	versions []*kept // number n is at n-1
	hidden   int     // list reads that do not see it yet
	before   *pb.Secret
	stale    int // GetSecret calls that are answered with before
}

type kept struct {
	version *pb.SecretVersion
	payload []byte
	hidden  int
}

// New starts a server.
func New(o Options) *Server {
	if o.Clock == nil {
		o.Clock = &Clock{}
	}
	s := &Server{options: o, clock: o.Clock, memory: bufconn.Listen(256 << 10), secrets: map[string]*record{}, gone: map[string][]*record{},
		calls: map[string]int{}, broken_: map[string]error{}, spent: map[string][]time.Time{}}
	s.conns.open = map[net.Conn]bool{}
	s.grpc = grpc.NewServer(grpc.UnaryInterceptor(s.Intercept))
	pb.RegisterSecretManagerServiceServer(s.grpc, s)
	go s.grpc.Serve(s.memory)
	return s
}

// Serve serves another listener too, until it is closed.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// Dial connects in memory, whatever the address.
func (s *Server) Dial(ctx context.Context, _ string) (net.Conn, error) {
	c, err := s.memory.DialContext(ctx)
	if err == nil {
		s.conns.Lock()
		s.conns.open[c] = true
		s.conns.Unlock()
	}
	return c, err
}

// cut breaks all connections in memory.
func (s *Server) cut() {
	s.conns.Lock()
	defer s.conns.Unlock()
	for c := range s.conns.open {
		c.Close()
	}
	clear(s.conns.open)
}

// Close ends the server.
func (s *Server) Close() { s.grpc.Stop() }

// Clock is the server's.
func (s *Server) Clock() *Clock { return s.clock }

// Script is asked about every call; nil for none. It may call the server.
func (s *Server) Script(f func(Call) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = f
}

// Lag hides what is made from now on from the first n reads of a list or of
// "latest" that would show it.
func (s *Server) Lag(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lag = n
}

// Stale answers the first n calls of GetSecret after each update from now on
// with what was there before it.
func (s *Server) Stale(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = n
}

// Refused counts the calls that went over a quota.
func (s *Server) Refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// Limit ends Options.NoQuotas.
func (s *Server) Limit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options.NoQuotas = false
}

// Require refuses calls without this bearer token.
func (s *Server) Require(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bearer = token
}

// SwitchOff makes the API one that the project has not enabled.
func (s *Server) SwitchOff() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = true
}

// BreakKey makes every use of a KMS key fail; nil mends it.
func (s *Server) BreakKey(key string, failure error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken_[key] = failure
}

// Calls counts the calls by method since the last call of ResetCalls.
func (s *Server) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.calls)
}

// ResetCalls begins to count anew.
func (s *Server) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.calls)
	s.total = 0
}

// Made is a version that was ever made.
type Made struct {
	Life    int // of the name: 0 until it was deleted for the first time
	Number  int
	State   pb.SecretVersion_State
	Payload string // as it was added, also of a destroyed one
}

// Made lists the versions ever made of a secret, those of deleted ones included,
// in the order in which they were made. See [Server.Land] for effects that are
// still to come.
func (s *Server) Made(name string) []Made {
	s.due(s.clock.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	lives := s.gone[name]
	if r := s.secrets[name]; r != nil {
		lives = append(lives[:len(lives):len(lives)], r)
	}
	var out []Made
	for life, r := range lives {
		for i, v := range r.versions {
			out = append(out, Made{Life: life, Number: i + 1, State: v.version.State, Payload: string(v.payload)})
		}
	}
	return out
}

// Visible is all that whoever may not read payloads can see: every secret and
// version as JSON, in all lives.
func (s *Server) Visible() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	show := func(r *record) {
		b.WriteString(protojson.Format(r.secret))
		for _, v := range r.versions {
			b.WriteString(protojson.Format(v.version))
		}
	}
	for _, r := range s.secrets {
		show(r)
	}
	for _, lives := range s.gone {
		for _, r := range lives {
			show(r)
		}
	}
	return b.String()
}

// Problems are breaches of manners that the service would take: a call without a
// deadline, without routing.
func (s *Server) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.problems...)
}

// Intercept is the whole of the fake around a call, for a gRPC server of one's own
// (with TLS): grpc.UnaryInterceptor(server.Intercept).
func (s *Server) Intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	s.due(s.clock.Now())
	method := path.Base(info.FullMethod)
	resource := resourceOf(request)
	s.mu.Lock()
	s.calls[method]++
	s.total++
	c := Call{Method: method, Resource: resource, N: s.total, Of: s.calls[method]}
	script, bearer := s.script, s.bearer
	s.manners(ctx, c)
	s.mu.Unlock()
	var f Fault
	if script != nil {
		f = script(c)
	}
	if bearer != "" {
		md, _ := metadata.FromIncomingContext(ctx)
		if got := md.Get("authorization"); len(got) != 1 || got[0] != "Bearer "+bearer {
			return nil, status.Error(codes.Unauthenticated, "Request had invalid authentication credentials. Expected OAuth 2 access token.")
		}
	}
	return s.broken(ctx, f, request, func(ctx context.Context, request any) (any, error) {
		if err := s.admit(method, request); err != nil {
			return nil, err
		}
		return handle(ctx, request)
	})
}

func (s *Server) manners(ctx context.Context, c Call) {
	if _, limited := ctx.Deadline(); !limited {
		s.problems = append(s.problems, c.Method+" without a deadline")
	}
	md, _ := metadata.FromIncomingContext(ctx)
	if routing := md.Get("x-goog-request-params"); len(routing) != 1 || !strings.Contains(routing[0], strings.ReplaceAll(c.Resource, "/", "%2F")) {
		s.problems = append(s.problems, fmt.Sprintf("%s of %s is routed by %q", c.Method, c.Resource, routing))
	}
}

func resourceOf(request any) string {
	switch r := request.(type) {
	case interface{ GetName() string }:
		return r.GetName()
	case interface{ GetParent() string }:
		return r.GetParent()
	case *pb.UpdateSecretRequest:
		return r.GetSecret().GetName()
	}
	return ""
}
