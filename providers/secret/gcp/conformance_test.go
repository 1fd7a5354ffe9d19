package gcp_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"freightliner/providers/secret"
	"freightliner/providers/secret/gcp"
	"freightliner/providers/secret/secrettest"
	"freightliner/providers/secret/secrettest/gcpfake"
)

// opened is a store over a fake, on the fake's clock.
func opened(t testing.TB, server *gcpfake.Server, edit ...func(*gcp.Options)) *gcp.Store {
	t.Helper()
	o := gcp.Options{Project: "acme", Endpoint: "127.0.0.1:1", Dial: server.Dial, Clock: server.Clock()}
	for _, e := range edit {
		e(&o)
	}
	s, err := gcp.New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func served(t testing.TB, o gcpfake.Options) *gcpfake.Server {
	t.Helper()
	o.Project = "acme"
	server := gcpfake.New(o)
	t.Cleanup(func() {
		for _, p := range server.Problems() {
			t.Error(p)
		}
		server.Close()
	})
	return server
}

// badNames are what the service refuses.
var badNames = []string{"a/b", "a b", "a.b", "ä", "a\n", string(make([]byte, 3)), fmt.Sprintf("%0256d", 1)}

func world(t *testing.T, server *gcpfake.Server, edit ...func(*gcp.Options)) secrettest.World {
	open := func() secret.Store { return opened(t, server, edit...) }
	return secrettest.World{
		Store: open(), Prefix: "story-", Labels: true, Etags: true, BadNames: badNames,
		Bare: func(t *testing.T, name string) { bare(t, server, name) },
		Crash: func(n int, lost bool) func() secret.Store {
			var calls atomic.Int64
			server.Script(func(gcpfake.Call) gcpfake.Fault {
				switch i := int(calls.Add(1)); {
				case i < n:
					return gcpfake.Fault{}
				case i == n && lost:
					return gcpfake.Fault{Kind: gcpfake.Lost}
				}
				return gcpfake.Fault{Kind: gcpfake.Refuse, Code: codes.Unavailable}
			})
			return func() secret.Store { server.Script(nil); return open() }
		},
	}
}

func TestConformance(t *testing.T) {
	t.Run("global", func(t *testing.T) {
		secrettest.Conformance(t, func(t *testing.T) secrettest.World { return world(t, served(t, gcpfake.Options{})) })
	})
	t.Run("regional", func(t *testing.T) {
		secrettest.Conformance(t, func(t *testing.T) secrettest.World {
			server := served(t, gcpfake.Options{Location: "europe-west3"})
			return world(t, server, func(o *gcp.Options) { o.Location = "europe-west3" })
		})
	})
	t.Run("lagging", func(t *testing.T) {
		secrettest.Conformance(t, func(t *testing.T) secrettest.World {
			server := served(t, gcpfake.Options{})
			server.Lag(3)
			w := world(t, server)
			w.Patience = 300 * time.Millisecond // and ten looks at least, of which three are out of date
			w.Crash = nil                       // its looks are at once
			return w
		})
	})
	t.Run("endpoint", func(t *testing.T) {
		// An emulator, or the service itself through a proxy on this machine.
		endpoint, project := os.Getenv("FREIGHTLINER_TEST_GCP_ENDPOINT"), os.Getenv("FREIGHTLINER_TEST_GCP_PROJECT")
		if endpoint == "" || project == "" {
			return // the stories above are the test then
		}
		var n atomic.Int64
		secrettest.Conformance(t, func(t *testing.T) secrettest.World {
			s, err := gcp.New(t.Context(), gcp.Options{Project: project, Endpoint: endpoint})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			prefix := fmt.Sprintf("story-%x-%d-", time.Now().Unix(), n.Add(1))
			return secrettest.World{Store: s, Prefix: prefix, Labels: true, Etags: true, BadNames: badNames, Patience: time.Minute}
		})
	})
}
