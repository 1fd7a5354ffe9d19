package aws_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"freightliner/providers/secret"
	. "freightliner/providers/secret/aws"
	"freightliner/providers/secret/secrettest"
	"freightliner/providers/secret/secrettest/awsfake"
)

// open is a store of a fake.
func open(t testing.TB, f *awsfake.Fake, change ...func(*Options)) *Store {
	t.Helper()
	s, err := newStore(f, change...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newStore(f *awsfake.Fake, change ...func(*Options)) (*Store, error) {
	o := Options{Region: f.Region, Keys: f.Keys(), HTTP: f.Client(), Clock: f.Clock}
	for _, c := range change {
		c(&o)
	}
	return New(context.Background(), o)
}

var badNames = []string{"with space", "colon:name", "ends-in-abc123", strings.Repeat("n", 513), "ümlaut", "new\nline", "a*b"}

// world is a fake as the story wants it.
func world(t *testing.T, f *awsfake.Fake) secrettest.World {
	store := open(t, f)
	return secrettest.World{
		Store: store, Slashes: true, Labels: true, BadNames: badNames,
		Bare:    func(_ *testing.T, name string) { f.Bare(name) },
		Advance: f.Clock.Advance,
		Crash: func(n int, lost bool) func() secret.Store {
			var calls atomic.Int64
			f.Inject(func(awsfake.Call) awsfake.Fault {
				switch at := calls.Add(1); {
				case at < int64(n):
					return awsfake.Fault{}
				case at == int64(n) && lost:
					return awsfake.Fault{Kind: awsfake.Lost}
				}
				return awsfake.Fault{Kind: awsfake.Cut}
			})
			return func() secret.Store {
				f.Inject(nil)
				return open(t, f)
			}
		},
	}
}

func TestConformance(t *testing.T) {
	secrettest.Conformance(t, func(t *testing.T) secrettest.World { return world(t, awsfake.New("eu-west-1")) })
}

// TestConformanceRates tells the story with the rates that AWS has.
func TestConformanceRates(t *testing.T) {
	secrettest.Conformance(t, func(t *testing.T) secrettest.World {
		f := awsfake.New("eu-west-1")
		f.Rates = true
		return world(t, f)
	})
}

// TestConformanceLag tells it with reads that show a write two reads later.
func TestConformanceLag(t *testing.T) {
	secrettest.Conformance(t, func(t *testing.T) secrettest.World {
		f := awsfake.New("eu-west-1")
		f.Lag = 2
		w := world(t, f)
		w.Patience = time.Minute
		return w
	})
}

// TestConformanceEndpoint tells the story over any Secrets Manager that the
// environment names, with the keys that are there, or "test" for emulators.
// Without it the fake takes its place, behind a real HTTP server. On this machine
// nobody waits, and connections break too.
func TestConformanceEndpoint(t *testing.T) {
	endpoint, region := os.Getenv("FREIGHTLINER_TEST_AWS_ENDPOINT"), or(os.Getenv("FREIGHTLINER_TEST_AWS_REGION"), "eu-west-1")
	var keys awssdk.CredentialsProvider = credentials.NewStaticCredentialsProvider(or(os.Getenv("AWS_ACCESS_KEY_ID"), "test"), or(os.Getenv("AWS_SECRET_ACCESS_KEY"), "test"), os.Getenv("AWS_SESSION_TOKEN"))
	var bare func(*testing.T, string)
	if endpoint == "" {
		f := awsfake.New(region)
		f.Clock = awsfake.PassingClock()
		endpoint, keys = serve(t, f), f.Keys()
		bare = func(_ *testing.T, name string) { f.Bare(name) }
	}
	here := strings.HasPrefix(endpoint, "http://")
	secrettest.Conformance(t, func(t *testing.T) secrettest.World {
		web := &breaking{}
		var clock Clock = awsfake.PassingClock()
		if here {
			clock = &hasty{}
		}
		again := func() secret.Store {
			web.at.Store(0)
			store, err := New(context.Background(), Options{Region: region, Endpoint: endpoint, Keys: keys, HTTP: &http.Client{Transport: web}, Clock: clock})
			if err != nil {
				t.Fatal(err)
			}
			return store
		}
		w := secrettest.World{
			Store: again(), Prefix: "freightliner-test-" + unique(), Slashes: true, Labels: true,
			BadNames: badNames, Patience: time.Minute, Bare: bare,
		}
		if here {
			w.Patience = 10 * time.Second
			w.Crash = func(n int, lost bool) func() secret.Store {
				web.lost = lost
				web.at.Store(int64(n))
				return again
			}
		}
		return w
	})
}

// breaking is a network that breaks at the at-th request from now, for good.
type breaking struct {
	at   atomic.Int64 // 0: never; -1: it is broken
	lost bool         // the request at which it breaks still arrives
}

var errBroken = errors.New("the network is broken")

func (b *breaking) RoundTrip(r *http.Request) (*http.Response, error) {
	switch at := b.at.Load(); {
	case at < 0:
		return nil, errBroken
	case at > 1:
		b.at.Add(-1)
	case at == 1:
		b.at.Store(-1)
		if b.lost {
			if answer, err := http.DefaultTransport.RoundTrip(r); err == nil {
				answer.Body.Close()
			}
		}
		return nil, errBroken
	}
	return http.DefaultTransport.RoundTrip(r)
}

// hasty is a clock for which waiting takes no time.
type hasty struct{ ahead atomic.Int64 }

func (h *hasty) Now() time.Time { return time.Now().Add(time.Duration(h.ahead.Load())) }

func (h *hasty) Wait(ctx context.Context, d time.Duration) error {
	h.ahead.Add(int64(d))
	return ctx.Err()
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func unique() string {
	var b [6]byte
	rand.Read(b[:])                       // never fails: crypto/rand.Read
	return hex.EncodeToString(b[:]) + "x" // no hyphen: it and six characters end no name
}
