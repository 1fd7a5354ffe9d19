package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
)

// A kind reaches the registry and the hosts that belong to it, and no other: what
// does not belong is refused before a credential is even looked for.
func TestAPIStaysHome(t *testing.T) {
	var sent []string
	transport := func(Settings) (http.RoundTripper, error) {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			sent = append(sent, req.URL.Scheme+"://"+req.URL.Host+" "+req.Header.Get("Authorization"))
			if req.URL.Path == "/away" {
				return &http.Response{StatusCode: 302, Header: http.Header{"Location": {"https://evil.example/"}}, Body: http.NoBody, Request: req}, nil
			}
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
		}), nil
	}
	kind := Kind{Name: "test", Pairs: func(Settings) []string { return []string{"api.example.com"} }}
	c := New(Options{Kinds: []Kind{kind}, Registries: []Settings{{Host: "registry.example.com", Kind: "test"}}, Transport: transport})
	defer c.Close()
	r, err := c.remoteFor(providers.Repository{Host: "registry.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		address string
		scopes  []string
		want    string // of what is sent; empty for nothing
	}{
		{address: "https://registry.example.com/x", want: "https://registry.example.com canary"},
		{address: "https://api.example.com/x", want: "https://api.example.com canary"},
		{address: "https://api.example.com:443/x", want: "https://api.example.com:443 canary"},
		{address: "https://api.example.com/away", want: "https://api.example.com canary"},
		{address: "https://registry.example.com/away", want: "https://registry.example.com canary"},
		{address: "http://registry.example.com/x"},
		{address: "http://api.example.com/x"},
		{address: "https://api.example.com:8443/x"},
		{address: "https://api.example.com.evil.example/x"},
		{address: "https://evil.example/x"},
		{address: "https://169.254.169.254/latest/meta-data"},
		{address: "https://api.example.com/x", scopes: []string{"repository:a:pull"}},
	} {
		sent = nil
		u, err := url.Parse(tt.address)
		if err != nil {
			t.Fatal(err)
		}
		q := Request{Op: "ask", On: tt.address, URL: u, Scopes: tt.scopes}
		authorized := false
		if tt.scopes == nil {
			q.Authorize = func(_ context.Context, req *http.Request) error {
				authorized = true
				req.Header.Set("Authorization", "canary")
				return nil
			}
		}
		_, err = (&API{remote: r}).Ask(t.Context(), q, nil)
		if diff := cmp.Diff(tt.want, strings.Join(sent, "\n")); diff != "" {
			t.Errorf("%s: sent (-want +got):\n%s", tt.address, diff)
		}
		if refused := tt.want == ""; refused && (err == nil || authorized || !errors.Is(err, errElsewhere)) {
			t.Errorf("%s: %v, a credential was asked for: %t; want a refusal before", tt.address, err, authorized)
		}
		if strings.Contains(tt.address, "away") && err == nil {
			t.Errorf("%s: a redirect was taken for an answer", tt.address)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A tag that is listed with two digests has none that is believed; a digest that
// is none is asked for.
func TestTagListAdd(t *testing.T) {
	a, b := providers.SHA256([]byte("a")), providers.SHA256([]byte("b"))
	at := time.Unix(1e9, 0)
	var list TagList
	list.Add("moved", TagEntry{Digest: string(a), Pushed: at, Size: 5})
	list.Add("moved", TagEntry{Digest: string(b)})
	list.Add("moved", TagEntry{Digest: string(a)})
	list.Add("same", TagEntry{Digest: string(a)})
	list.Add("same", TagEntry{Digest: string(a)})
	list.Add("odd", TagEntry{Digest: "sha256:short"})
	list.Add("bare", TagEntry{})
	if err := list.check(); err != nil {
		t.Fatal(err)
	}
	want := TagList{Tags: []string{"bare", "moved", "odd", "same"}, Digests: map[string]providers.Digest{"same": a},
		Pushed: map[string]time.Time{"moved": at}, Sizes: map[string]int64{"moved": 5}}
	if diff := cmp.Diff(want, list, cmp.AllowUnexported(TagList{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The kind is the one that the block names, else the one that serves the host.
func TestKindOfHost(t *testing.T) {
	serves := func(want string) func(string) bool { return func(host string) bool { return host == want } }
	c := New(Options{Kinds: []Kind{{Name: "generic"}, {Name: "a", Serves: serves("a.example")}, {Name: "b", Serves: serves("b.example")}}})
	for _, tt := range []struct{ host, kind, want string }{
		{"a.example", "", "a"}, {"b.example", "", "b"}, {"c.example", "", "generic"},
		{"c.example", "a", "a"}, {"a.example", "generic", "generic"}, {"a.example", "b", "b"}, {"c.example", "unknown", "generic"},
	} {
		if got := c.kindOf(Settings{Host: tt.host, Kind: tt.kind}).Name; got != tt.want {
			t.Errorf("%s as %q: %s, want %s", tt.host, tt.kind, got, tt.want)
		}
	}
	if got := New(Options{}).kindOf(Settings{Host: "a.example", Kind: "a"}).Name; got != "generic" {
		t.Errorf("without kinds: %s", got)
	}
}
