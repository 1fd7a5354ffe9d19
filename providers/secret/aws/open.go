package aws

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// Clock is time, handed in so that tests can hold it still.
type Clock interface {
	Now() time.Time
	// Wait returns after d, or with ctx's error when that ends first.
	Wait(ctx context.Context, d time.Duration) error
}

// Options are what a store needs from outside.
type Options struct {
	Region   string // required
	Endpoint string // a URL instead of AWS's own, for VPC endpoints and emulators
	RoleARN  string // a role to take on with Keys; empty for none
	KMSKey   string // for secrets that are made without a key of their own; empty: aws/secretsmanager
	// Profile is the profile that Keys come from, for messages; empty: the
	// default chain.
	Profile string
	Keys    aws.CredentialsProvider // required
	HTTP    *http.Client            // required; redirects are not followed
	Clock   Clock                   // required
	Rand    io.Reader               // nil: crypto/rand
}

// Store is the secrets of one account in one region. It is safe for concurrent
// use.
type Store struct {
	o       Options
	place   string
	client  *sm.Client
	sts     *sts.Client
	pace    map[string]*bucket
	noBatch atomic.Bool // BatchGetSecretValue was refused once

	who      sync.Mutex
	identity string
	asked    bool
}

var (
	_ secret.Store     = (*Store)(nil)
	_ secret.Principal = (*Store)(nil)
)

var regionForm = providers.Pattern(`^[a-z0-9]+(-[a-z0-9]+)+$`)

// New makes a store. It asks nothing of AWS: wrong keys show at the first use.
func New(_ context.Context, o Options) (*Store, error) {
	bad := func(hint, format string, a ...any) (*Store, error) {
		return nil, &providers.Error{Class: providers.Invalid, Op: "open secret store", On: "aws", Err: fmt.Errorf(format, a...), Hint: hint}
	}
	if !regionForm().MatchString(o.Region) {
		return bad("Set region, as in region = \"eu-west-1\".", "%q is no AWS region", providers.Printable(o.Region, 40))
	}
	if o.Keys == nil || o.HTTP == nil || o.Clock == nil {
		return nil, errors.New("aws: keys, HTTP client and clock must be handed in")
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	s := &Store{o: o, place: "aws/" + o.Region, pace: budgets()}
	var own, identity *string
	if o.Endpoint != "" {
		u, err := url.Parse(o.Endpoint)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || (u.Scheme != "https" && u.Scheme != "http") {
			return bad("Write it as https://host[:port].", "the endpoint is no URL of a service")
		}
		if u.Scheme == "http" && !local(u.Hostname()) {
			return bad("Use https, or an endpoint on this machine.", "the endpoint %s would send payloads over the network in clear", providers.Printable(u.Host, 80))
		}
		s.place += "/" + u.Host
		own = &o.Endpoint
		// An endpoint inside a VPC serves one service; anything else that is not
		// Amazon's is an emulator, which serves all.
		if !strings.HasSuffix(u.Hostname(), ".amazonaws.com") && !strings.HasSuffix(u.Hostname(), ".amazonaws.com.cn") {
			identity = own
		}
	}
	web := *o.HTTP
	web.Transport = guarded{o.HTTP.Transport}
	keys := aws.NewCredentialsCache(marked{o.Keys})
	newSTS := func(keys aws.CredentialsProvider) *sts.Client {
		return sts.New(sts.Options{Region: o.Region, BaseEndpoint: identity, Credentials: keys, HTTPClient: &web, Retryer: aws.NopRetryer{}, Logger: logging.Nop{}})
	}
	if o.RoleARN != "" {
		role := stscreds.NewAssumeRoleProvider(newSTS(keys), o.RoleARN, func(a *stscreds.AssumeRoleOptions) { a.RoleSessionName = "freightliner" })
		keys = aws.NewCredentialsCache(marked{role})
	}
	s.sts = newSTS(keys)
	// ClientLogMode stays zero and the logger mute: nothing in this package lets
	// anybody set them, so no request or answer is ever logged by the SDK. Its
	// retries are off, since call.go decides by class what is tried again.
	s.client = sm.New(sm.Options{
		Region: o.Region, BaseEndpoint: own, Credentials: keys, HTTPClient: &web,
		Retryer: aws.NopRetryer{}, Logger: logging.Nop{}, IdempotencyTokenProvider: randomToken{s},
	})
	return s, nil
}

// local names this machine, or one that only a name without dots leads to.
func local(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || ip == nil && !strings.Contains(strings.TrimSuffix(host, ".localhost"), ".")
}

// Place is "aws/<region>", with the endpoint's host when that is not AWS's own.
func (s *Store) Place() string { return s.place }

// Principal is the ARN that the keys belong to. It asks STS at most once.
func (s *Store) Principal(ctx context.Context) (string, error) {
	s.who.Lock()
	defer s.who.Unlock()
	if s.asked {
		if s.identity == "" {
			return "", s.fail(providers.Denied, "find out the principal", "", "STS did not tell", "")
		}
		return s.identity, nil
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	out, err := s.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	s.asked = ctx.Err() == nil
	if err != nil {
		return "", s.judge(ctx, question{op: "find out the principal", action: "GetCallerIdentity"}, err)
	}
	s.identity = providers.Printable(aws.ToString(out.Arn), 300)
	return s.identity, nil
}

// fail is an error of ours.
func (s *Store) fail(class providers.Class, op, name, text, hint string) error {
	return &providers.Error{Class: class, Op: op, On: s.on(name), Err: errors.New(text), Hint: hint}
}

// on is a secret's name as messages write it.
func (s *Store) on(name string) string {
	if name == "" {
		return s.place
	}
	return s.place + " " + providers.Printable(name, 600)
}

// random is a fraction in [0, 1) for jitter.
func (s *Store) random() float64 {
	var b [2]byte
	if _, err := io.ReadFull(s.o.Rand, b[:]); err != nil {
		return 0.5
	}
	return float64(uint16(b[0])<<8|uint16(b[1])) / (1 << 16)
}

// randomToken fills tokens that the service wants for calls that make no version.
type randomToken struct{ s *Store }

func (r randomToken) GetIdempotencyToken() (string, error) {
	var b [16]byte
	_, err := io.ReadFull(r.s.o.Rand, b[:])
	return hex.EncodeToString(b[:]), err
}

// guarded bounds every answer, and leaves no redirect in it, whatever client and
// SDK would do with one: what we send goes to the endpoint and nowhere else.
type guarded struct{ next http.RoundTripper }

// largestAnswer holds the largest honest one: 20 payloads of 64 KiB whose every
// byte is escaped to six.
const largestAnswer = 16 << 20

func (g guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	next := g.next
	if next == nil {
		next = http.DefaultTransport
	}
	r, err := whole(r)
	if err != nil {
		return nil, err
	}
	answer, err := next.RoundTrip(r)
	if err == nil {
		answer.Header.Del("Location")
		answer.Body = http.MaxBytesReader(nil, answer.Body, largestAnswer)
	}
	return answer, err
}

// whole is r with its body in one piece. The SDK closes a request's body as soon
// as there is an answer; net/http may still be about to see its end then, takes
// the closed body for a failure, and breaks the connection under the answer. The
// SDK holds the same bytes in memory anyway.
func whole(r *http.Request) (*http.Request, error) {
	if r.Body == nil {
		return r, nil
	}
	body, err := io.ReadAll(r.Body)
	if closed := r.Body.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, err
	}
	r = r.WithContext(r.Context()) // a RoundTripper leaves its request alone
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return r, nil
}

// keysError says that there were no keys to sign with.
type keysError struct{ err error }

func (e *keysError) Error() string { return "no AWS keys: " + e.err.Error() }
func (e *keysError) Unwrap() error { return e.err }

// marked tells failures of keys from failures of calls.
type marked struct{ next aws.CredentialsProvider }

func (m marked) Retrieve(ctx context.Context) (aws.Credentials, error) {
	keys, err := m.next.Retrieve(ctx)
	if err != nil {
		err = &keysError{err}
	}
	return keys, err
}
