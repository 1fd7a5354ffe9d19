package registry

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

const insideNamespace = "FREIGHTLINER_TEST_NAMESPACE"

// TestInANamespace has a network of its own, in which this machine has public,
// private and metadata addresses: a public registry tries to send us to the
// others. CVE-2026-58442, CVE-2026-49478.
//
// Where the kernel gives no namespaces, or iproute2 is missing, TestAddressesNamedByAnswers,
// TestAddressesWhenDialled and TestOwnTransportJudges show the same decisions on
// loopback, where they always run; here, that is said.
func TestInANamespace(t *testing.T) {
	if os.Getenv(insideNamespace) != "" {
		network(t)
		t.Run("public", publicRegistry)
		t.Run("private", privateRegistry)
		return
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Logf("%v: the decisions are shown on loopback only", err)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestInANamespace$", "-test.v")
	cmd.Env = append(os.Environ(), insideNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Logf("no network namespace (%v): the decisions are shown on loopback only", err)
		return
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("inside the namespace: %v\n%s", err, &out)
	}
	if !strings.Contains(out.String(), "--- PASS: TestInANamespace/public") {
		t.Errorf("the test did not run inside:\n%s", &out)
	}
}

const (
	homeAddress    = "93.184.216.34"
	storageAddress = "93.184.216.35"
	silentAddress  = "93.184.216.36" // nobody listens
)

// network gives the machine its addresses, all on loopback.
func network(t *testing.T) {
	t.Helper()
	for _, args := range []string{
		"link set lo up", "addr add " + homeAddress + "/32 dev lo", "addr add " + storageAddress + "/32 dev lo", "addr add " + silentAddress + "/32 dev lo",
		"addr add 169.254.169.254/32 dev lo", "addr add 100.100.100.200/32 dev lo", "addr add 168.63.129.16/32 dev lo",
		"addr add 10.0.0.1/32 dev lo", "addr add 10.0.0.2/32 dev lo", "addr add 192.168.7.7/32 dev lo", "addr add 100.64.0.1/32 dev lo",
		"-6 addr add fd00:ec2::254/128 dev lo nodad", "-6 addr add fd12::1/128 dev lo nodad",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
}

// guide is a registry that leads elsewhere.
type guide struct {
	*httptest.Server
	host string
	lead func(w http.ResponseWriter, r *http.Request)
}

func newGuide(t *testing.T, address string) *guide {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	g := &guide{host: listener.Addr().String()}
	g.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.lead(w, r) }))
	g.Listener.Close()
	g.Listener = listener
	g.Start()
	t.Cleanup(g.Close)
	return g
}

// ways are the places of an answer that can name another host, and what a client
// does to meet them.
var ways = map[string]struct {
	lead func(to string) func(http.ResponseWriter, *http.Request)
	call func(ctx context.Context, c *Client, at providers.Repository) error
}{
	"redirect": {
		func(to string) func(http.ResponseWriter, *http.Request) {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, to+"/latest/meta-data/", http.StatusTemporaryRedirect)
			}
		},
		func(ctx context.Context, c *Client, at providers.Repository) error {
			_, err := c.Manifest(ctx, at, "1")
			return err
		},
	},
	"realm": {
		func(to string) func(http.ResponseWriter, *http.Request) {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("WWW-Authenticate", `Bearer realm="`+to+`/token",service="x"`)
				w.WriteHeader(http.StatusUnauthorized)
			}
		},
		func(ctx context.Context, c *Client, at providers.Repository) error {
			_, err := c.Head(ctx, at, "1")
			return err
		},
	},
	"location": {
		func(to string) func(http.ResponseWriter, *http.Request) {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", to+"/upload/1")
				w.WriteHeader(http.StatusAccepted)
			}
		},
		func(ctx context.Context, c *Client, at providers.Repository) error {
			r, err := c.remoteFor(at)
			if err != nil {
				return err
			}
			s, _, err := c.openUpload(ctx, r, at, providers.SHA256([]byte("x")), "")
			if err != nil {
				return err
			}
			return c.putBlob(ctx, r, at, providers.SHA256([]byte("x")), s, strings.NewReader("x"), 1)
		},
	},
	"link": {
		func(to string) func(http.ResponseWriter, *http.Request) {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Link", "<"+to+`/v2/a/tags/list?last=1>; rel="next"`)
				w.Write([]byte(`{"tags":["1"]}`))
			}
		},
		func(ctx context.Context, c *Client, at providers.Repository) error {
			_, err := c.Tags(ctx, at)
			return err
		},
	},
}

// attempt lets a registry lead a client to a host, in one of the ways. The user
// allows that host for tokens and uploads, so that only its address is against it.
func attempt(t *testing.T, g *guide, way, host string, names *nameServer) error {
	t.Helper()
	g.lead = ways[way].lead("http://" + host)
	c := clientOf(t, Options{Registries: []Settings{{Host: g.host, PlainHTTP: true, Credential: canary, TokenHosts: []string{host}, UploadHosts: []string{host}}}})
	if names != nil {
		c.resolver = &net.Resolver{PreferGo: true, Dial: names.dial}
	}
	return ways[way].call(t.Context(), c, repo(g.host, "a"))
}

func publicRegistry(t *testing.T) {
	g := newGuide(t, homeAddress)
	var ledger registrytest.Ledger
	var traps []string
	for _, address := range []string{"169.254.169.254", "100.100.100.200", "168.63.129.16", "10.0.0.1", "192.168.7.7", "100.64.0.1", "127.0.0.1", "::1", "fd00:ec2::254", "fd12::1"} {
		traps = append(traps, registrytest.NewTrap(t, &ledger, net.JoinHostPort(address, "80")).Addr)
	}
	storage := registrytest.SilentTrap(t, &ledger, net.JoinHostPort(storageAddress, "80"))
	refused := func(what string, err error) {
		t.Helper()
		if err == nil || providers.ClassOf(err) != providers.Invalid && providers.ClassOf(err) != providers.Denied {
			t.Errorf("%s: %v of class %s, want a refusal", what, err, providers.ClassOf(err))
		}
	}
	for way := range ways {
		for _, trap := range traps {
			refused(way+" to "+trap, attempt(t, g, way, trap, nil))
		}
		for _, literal := range []string{"[::ffff:169.254.169.254]", "[::ffff:10.0.0.1]", "[64:ff9b::a9fe:a9fe]"} {
			refused(way+" to "+literal, attempt(t, g, way, literal, nil))
		}
		// Names: with a trap alone, behind an address at which nobody answers, and
		// with another answer at each question.
		for name, addrs := range map[string][]string{
			"metadata": {"169.254.169.254"}, "private": {"10.0.0.1"}, "loopback": {"127.0.0.1"},
			"dead and metadata": {silentAddress, "169.254.169.254"}, "dead and loopback": {silentAddress, "127.0.0.1"},
		} {
			names := &nameServer{}
			for _, a := range addrs {
				names.addrs = append(names.addrs, netip.MustParseAddr(a))
			}
			if err := attempt(t, g, way, "evil.example", names); err == nil {
				t.Errorf("%s to a name with %s: no error", way, name)
			}
		}
	}
	// The control: another public address is gone to, without a credential.
	before := len(storage.Contacts())
	names := &nameServer{addrs: []netip.Addr{netip.MustParseAddr(storageAddress)}}
	_ = attempt(t, g, "redirect", "evil.example", names) // it hangs up
	if len(storage.Contacts()) == before {
		t.Error("a redirect to a public address was not followed: the test shows nothing")
	}
	for _, secret := range registrytest.Canaries() {
		if seen := ledger.Find(secret); len(seen) != 0 {
			t.Errorf("the credential was seen: %v", seen)
		}
	}
}

// privateRegistry lives at a private address: its neighbours may keep its blobs,
// this machine and metadata services may not.
func privateRegistry(t *testing.T) {
	g := newGuide(t, "10.0.0.2")
	neighbour := registrytest.SilentTrap(t, nil, "10.0.0.1:8080")
	_ = attempt(t, g, "redirect", neighbour.Addr, nil) // it hangs up
	if len(neighbour.Contacts()) == 0 {
		t.Error("a redirect to a neighbour was not followed")
	}
	for _, address := range []string{"169.254.169.254:8080", "127.0.0.1:8080", "[fd00:ec2::254]:8080"} {
		trap := registrytest.NewTrap(t, nil, address)
		if err := attempt(t, g, "redirect", trap.Addr, nil); providers.ClassOf(err) != providers.Invalid || !strings.Contains(fmt.Sprint(err), "refused to connect") {
			t.Errorf("to %s: %v, want a refusal", address, err)
		}
	}
}
