package aws_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
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

// TestConformanceEndpoint tells the story over any Secrets Manager that the
// environment names, with the keys that are there, or "test" for emulators.
// Without it the fake takes its place, behind a real HTTP server.
func TestConformanceEndpoint(t *testing.T) {
	endpoint, region := os.Getenv("FREIGHTLINER_TEST_AWS_ENDPOINT"), os.Getenv("FREIGHTLINER_TEST_AWS_REGION")
	if region == "" {
		region = "eu-west-1"
	}
	var keys awssdk.CredentialsProvider = credentials.NewStaticCredentialsProvider(or(os.Getenv("AWS_ACCESS_KEY_ID"), "test"), or(os.Getenv("AWS_SECRET_ACCESS_KEY"), "test"), os.Getenv("AWS_SESSION_TOKEN"))
	patience, clock := time.Minute, awsfake.PassingClock()
	var bare func(*testing.T, string)
	if endpoint == "" {
		f := awsfake.New(region)
		endpoint, keys, patience, clock = serve(t, f), f.Keys(), 0, f.Clock
		bare = func(_ *testing.T, name string) { f.Bare(name) }
	}
	secrettest.Conformance(t, func(t *testing.T) secrettest.World {
		store, err := New(t.Context(), Options{Region: region, Endpoint: endpoint, Keys: keys, HTTP: &http.Client{}, Clock: clock})
		if err != nil {
			t.Fatal(err)
		}
		return secrettest.World{
			Store: store, Prefix: "freightliner-test-" + unique(), Slashes: true, Labels: true,
			BadNames: badNames, Patience: patience, Bare: bare,
		}
	})
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
