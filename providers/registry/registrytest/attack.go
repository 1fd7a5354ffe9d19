package registrytest

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Trap is an address that nobody may contact.
type Trap struct {
	Addr string // host:port

	mu       sync.Mutex
	contacts []string
}

// NewTrap listens on address ("127.0.0.1:0" when empty; a test in a network
// namespace gives the metadata service's) and fails the test at its end if
// anybody connected. What a visitor says first is kept in the ledger under
// "trap"; a nil ledger keeps nothing.
func NewTrap(t testing.TB, ledger *Ledger, address string) *Trap {
	t.Helper()
	trap := SilentTrap(t, ledger, address)
	t.Cleanup(func() {
		for _, from := range trap.Contacts() {
			t.Errorf("the trap on %s was contacted from %s", trap.Addr, from)
		}
	})
	return trap
}

// SilentTrap is a [NewTrap] that only counts.
func SilentTrap(t testing.TB, ledger *Ledger, address string) *Trap {
	t.Helper()
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("registrytest: set a trap: %v", err)
	}
	trap := &Trap{Addr: listener.Addr().String()}
	var visits sync.WaitGroup
	visits.Go(func() {
		for {
			visitor, err := listener.Accept()
			if err != nil {
				return
			}
			trap.mu.Lock()
			trap.contacts = append(trap.contacts, visitor.RemoteAddr().String())
			trap.mu.Unlock()
			visits.Go(func() { listen(visitor, ledger) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		visits.Wait()
	})
	return trap
}

// listen hears a visitor out for a moment and hangs up.
func listen(visitor net.Conn, ledger *Ledger) {
	defer visitor.Close()
	visitor.SetReadDeadline(time.Now().Add(time.Second)) // a TCP connection takes deadlines
	said := make([]byte, 64<<10)
	n, _ := visitor.Read(said) // whatever ends the reading, n counts
	if ledger != nil {
		ledger.raw("trap", visitor.RemoteAddr().String(), said[:n])
	}
}

// Contacts are the addresses that connections came from.
func (t *Trap) Contacts() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.contacts...)
}

// URL is "http://host:port".
func (t *Trap) URL() string { return "http://" + t.Addr }

// Evil is somebody else's server that wants credentials. It reads all it is
// sent, gives a token to anybody, answers any other request without
// credentials by a challenge, and one with credentials as if all were well.
type Evil struct {
	Name string // in the ledger

	http   *httptest.Server
	mu     sync.Mutex
	script func(http.ResponseWriter, *http.Request) bool
}

// NewEvil starts one that keeps what it hears in the ledger.
func NewEvil(t testing.TB, ledger *Ledger, name string) *Evil {
	t.Helper()
	e := &Evil{Name: name}
	e.http = httptest.NewUnstartedServer(ledger.Wrap(name, http.HandlerFunc(e.answer)))
	e.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	e.http.Start()
	t.Cleanup(e.http.Close)
	return e
}

// URL is "http://127.0.0.1:port".
func (e *Evil) URL() string { return e.http.URL }

// Host is "127.0.0.1:port".
func (e *Evil) Host() string { return e.http.Listener.Addr().String() }

// Script answers before the usual answers; it returns false to leave a request
// to them. For chains: back to where the request came from, to a trap.
func (e *Evil) Script(answer func(http.ResponseWriter, *http.Request) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.script = answer
}

// Redirect sends every request on to another address.
func (e *Evil) Redirect(status int, to string) {
	e.Script(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Location", to)
		w.WriteHeader(status)
		return true
	})
}

func (e *Evil) answer(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // the client is gone
	}
	e.mu.Lock()
	script := e.script
	e.mu.Unlock()
	switch {
	case script != nil && script(w, r):
	case strings.HasPrefix(r.URL.Path, "/token"):
		writeJSON(w, http.StatusOK, map[string]any{"token": "evil-token", "access_token": "evil-token", "expires_in": 300})
	case r.Header.Get("Authorization") == "":
		w.Header().Add("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="evil",scope="repository:x:pull,push"`, e.URL()))
		w.Header().Add("WWW-Authenticate", `Basic realm="evil"`)
		Refusal{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Text: "log in here"}.answer(w)
	case r.Method == http.MethodPost, r.Method == http.MethodPatch:
		w.Header().Set("Location", e.URL()+"/upload")
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPut:
		w.WriteHeader(http.StatusCreated)
	default:
		writeJSON(w, http.StatusOK, map[string]any{"tags": []string{"v1"}, "repositories": []string{"evil"}})
	}
}

// Attack is a way in which a registry, or somebody between, tries to send a
// client or its credentials elsewhere.
type Attack struct {
	Name   string
	Row    int    // of the table of attacks in reliability.md, section 2
	Needs  string // what the client must do to meet it: "login", "pull", "push", "list", "refer"
	Script []func(to string) Fault
}

// Arm puts the attack into a server. To is where it leads: an [Evil]'s or a
// [Trap]'s URL. An attack with a realm wants a server that asks for a login.
func (a Attack) Arm(s *Server, to string) {
	for _, fault := range a.Script {
		s.Faults.Add(fault(to))
	}
}

// header is an answer of ours with one header; without a status, the
// registry's own answer with that header.
func header(method, kind string, status int, name, format string) func(to string) Fault {
	return func(to string) Fault {
		return Fault{
			Method: method, Kind: kind, Times: -1, Status: status,
			Header: http.Header{name: {strings.ReplaceAll(format, "{to}", to)}},
		}
	}
}

// plainly is f with the address's scheme changed to http.
func plainly(f func(to string) Fault) func(to string) Fault {
	return func(to string) Fault { return f(strings.Replace(to, "https://", "http://", 1)) }
}

const realm = `Bearer realm="{to}/token",service="registry",scope="repository:app:pull,push"`

// Attacks are those that one answer makes. Each one is armed alone.
var Attacks = []Attack{
	{"realm elsewhere", 1, "login", []func(string) Fault{header("", "", http.StatusUnauthorized, "Www-Authenticate", realm)}},
	{"realm elsewhere, of manifests only", 1, "pull", []func(string) Fault{header("", "manifest", http.StatusUnauthorized, "Www-Authenticate", realm)}},
	{"realm over plain HTTP", 2, "login", []func(string) Fault{plainly(header("", "", http.StatusUnauthorized, "Www-Authenticate", realm))}},
	{"redirect of a manifest", 3, "pull", []func(string) Fault{header(http.MethodGet, "manifest", http.StatusFound, "Location", "{to}/v2/app/manifests/v1")}},
	{"redirect of a look at a manifest", 3, "pull", []func(string) Fault{header(http.MethodHead, "manifest", http.StatusTemporaryRedirect, "Location", "{to}/v2/app/manifests/v1")}},
	{"redirect of a blob, which then asks for a login", 3, "pull", []func(string) Fault{header(http.MethodGet, "blob", http.StatusTemporaryRedirect, "Location", "{to}/blob")}},
	{"redirect of the token request", 3, "login", []func(string) Fault{header("", "token", http.StatusTemporaryRedirect, "Location", "{to}/token")}},
	{"redirect of a manifest's upload", 3, "push", []func(string) Fault{header(http.MethodPut, "manifest", http.StatusTemporaryRedirect, "Location", "{to}/v2/app/manifests/v1")}},
	{"redirect with a name and password in the address", 3, "pull", []func(string) Fault{func(to string) Fault {
		return header(http.MethodGet, "blob", http.StatusFound, "Location", strings.Replace(to, "://", "://user:password@", 1)+"/blob")(to)
	}}},
	{"upload elsewhere", 5, "push", []func(string) Fault{header(http.MethodPost, "upload", http.StatusAccepted, "Location", "{to}/upload/1")}},
	{"upload goes on elsewhere", 5, "push", []func(string) Fault{header(http.MethodPatch, "upload", 0, "Location", "{to}/upload/2")}},
	{"upload elsewhere, without a scheme", 5, "push", []func(string) Fault{func(to string) Fault {
		_, host, _ := strings.Cut(to, "://")
		return header(http.MethodPost, "upload", http.StatusAccepted, "Location", "//"+host+"/upload/1")(to)
	}}},
	{"next page of tags elsewhere", 13, "list", []func(string) Fault{header(http.MethodGet, "tags", 0, "Link", `<{to}/v2/app/tags/list?n=1>; rel="next"`)}},
	{"next page of the catalog elsewhere", 13, "list", []func(string) Fault{header(http.MethodGet, "catalog", 0, "Link", `<{to}/v2/_catalog?n=1>; rel="next"`)}},
	{"next page of referrers elsewhere", 13, "refer", []func(string) Fault{header(http.MethodGet, "referrers", 0, "Link", `<{to}/v2/app/referrers/x>; rel="next"`)}},
	{"redirect of a listing", 3, "list", []func(string) Fault{header(http.MethodGet, "tags", http.StatusFound, "Location", "{to}/v2/app/tags/list")}},
}
