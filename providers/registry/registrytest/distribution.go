package registrytest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"freightliner/providers/registry/embedded"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// BinariesVariable names the environment variable with a folder that holds a
// ready-built "registry" program (registry.exe on Windows), so that tests need
// not build it. Without it the program is built once per machine, Go version
// and state of .ci/tools/go.sum, and kept in the user's cache folder.
const BinariesVariable = "FREIGHTLINER_TEST_BIN"

// Process is the real distribution registry, with a storage folder of its own.
type Process struct {
	Recorder *Recorder        // nil without [WithRecorder] or [WithTokens]
	Faults   *Faults          // as the Recorder
	Tokens   *embedded.Tokens // nil without [WithTokens]
	Dir      string           // its storage folder

	host string
	stop func()
}

// Host is "127.0.0.1:port": of the recording proxy if there is one, otherwise
// of the process.
func (p *Process) Host() string { return p.host }

// Stop kills the process before the test ends.
func (p *Process) Stop() { p.stop() }

// bcrypt of CanaryPassword, at the lowest cost; the registry takes no other hash.
const canaryHash = "$2a$04$fqIXvMv.p8aiIoY3lnMG6u/71qIKBpqZlRV06VaJXEeeA4JDCygk."

// Distribution builds, when needed, and starts the distribution registry with
// deletes enabled, and waits until it answers. It is killed at the end of the
// test. A registry that can not be built or started fails the test.
func Distribution(t testing.TB, options ...Option) *Process {
	t.Helper()
	s := collect(options)
	if s.store != nil || s.tls || s.NoReferrers {
		t.Fatal("registrytest: this option is only for Start")
	}
	program, err := registryProgram()
	if err != nil {
		t.Fatalf("registrytest: build the distribution registry: %v", err)
	}
	p := &Process{Dir: t.TempDir(), stop: func() {}}
	config := map[string]any{
		"version": "0.1",
		"log":     map[string]any{"level": "error", "accesslog": map[string]any{"disabled": true}},
		// Not its storage in memory, though that is five times as fast: of two tags
		// where one is a prefix of the other, it loses one (v3.1.2).
		"storage": map[string]any{
			"filesystem":  map[string]any{"rootdirectory": p.Dir},
			"delete":      map[string]any{"enabled": true},
			"maintenance": map[string]any{"uploadpurging": map[string]any{"enabled": false}},
		},
	}
	var front *front
	if s.record || s.tokenLife > 0 {
		front = p.front(t)
	}
	if auth := p.auth(t, s, front); auth != nil {
		config["auth"] = auth
	}
	// The free port is chosen by binding and letting go; if somebody else takes
	// it in between, the process ends at once and we choose again.
	address, err := "", error(nil)
	for range 5 {
		if address, err = p.start(t, program, config); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("registrytest: start the distribution registry: %v", err)
	}
	p.host = address
	if front != nil {
		p.host = front.host
		front.open(address, p.Tokens)
	}
	introduce(t, p.host, peer{login: s.basic || s.tokenLife > 0})
	return p
}

// auth is the registry's "auth" section; nil for an open registry.
func (p *Process) auth(t testing.TB, s settings, front *front) map[string]any {
	t.Helper()
	switch {
	case s.basic:
		users := filepath.Join(t.TempDir(), "htpasswd")
		writeFile(t, users, []byte(CanaryUser+":"+canaryHash+"\n"))
		return map[string]any{"htpasswd": map[string]any{"realm": "freightliner", "path": users}}
	case s.tokenLife > 0:
		p.Tokens = issuer(t, s)
		keys := filepath.Join(t.TempDir(), "keys.json")
		writeFile(t, keys, p.Tokens.KeySet())
		return map[string]any{"token": map[string]any{
			"realm": "http://" + front.host + embedded.TokenPath, "service": p.Tokens.Service(), "issuer": p.Tokens.Issuer(), "jwks": keys,
		}}
	}
	return nil
}

// start runs the program on a free port and waits until it answers.
func (p *Process) start(t testing.TB, program string, config map[string]any) (string, error) {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	address := free.Addr().String()
	free.Close()
	config["http"] = map[string]any{"addr": address, "secret": "not-a-secret-a-test-registry"}
	file := filepath.Join(t.TempDir(), "registry.yml")
	body, err := json.Marshal(config) // JSON is YAML
	if err != nil {
		return "", err
	}
	writeFile(t, file, body)

	var output bytes.Buffer
	command := exec.Command(program, "serve", file)
	command.Env = cleanEnvironment()
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		return "", err
	}
	exited := make(chan struct{})
	go func() {
		command.Wait()
		close(exited)
	}()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			command.Process.Kill()
			<-exited
		})
	}
	t.Cleanup(stop)
	if err := answers(address, exited); err != nil {
		stop()
		return "", fmt.Errorf("%w\n%s", err, output.Bytes())
	}
	p.stop = stop
	return address, nil
}

// answers asks the registry until it answers anything over HTTP.
func answers(address string, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for {
		response, err := plain.Get("http://" + address + "/v2/")
		if err == nil {
			response.Body.Close()
			return nil
		}
		select {
		case <-exited:
			return errors.New("the process ended")
		case <-ctx.Done():
			return fmt.Errorf("no answer within a minute: %w", err)
		case <-again.C:
		}
	}
}

// front is a proxy before the process: it records, makes faults, and serves the
// token endpoint on the registry's own address, where clients that are careful
// about other hosts expect it.
type front struct {
	host  string
	ready chan struct{} // closed when next is there
	next  http.Handler
}

// front starts the proxy, since its address belongs in the process's
// configuration. Requests wait until it is opened.
func (p *Process) front(t testing.TB) *front {
	t.Helper()
	p.Recorder, p.Faults = &Recorder{}, &Faults{}
	f := &front{ready: make(chan struct{})}
	server := httptest.NewUnstartedServer(p.Recorder.Wrap(p.Faults.Wrap(f)))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	f.host = server.Listener.Addr().String()
	return f
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	<-f.ready
	f.next.ServeHTTP(w, r)
}

// open lets requests through to the process. The Host header is kept, so that
// the registry's Locations lead back through the proxy.
func (f *front) open(address string, tokens *embedded.Tokens) {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address})
			r.Out.Host = r.In.Host
		},
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
	}
	f.next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tokens != nil && r.URL.Path == embedded.TokenPath {
			tokens.ServeHTTP(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	})
	close(f.ready)
}

// cleanEnvironment is ours without what would configure the registry, and
// without telemetry.
func cleanEnvironment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "REGISTRY_") || strings.HasPrefix(v, "OTEL_")
	})
	return append(env, "OTEL_TRACES_EXPORTER=none", "OTEL_METRICS_EXPORTER=none", "OTEL_LOGS_EXPORTER=none")
}

// registryProgram finds or builds the program, once per process.
var registryProgram = sync.OnceValues(func() (string, error) {
	name := "registry"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	if dir := os.Getenv(BinariesVariable); dir != "" {
		program := filepath.Join(dir, name)
		if _, err := os.Stat(program); err != nil {
			return "", fmt.Errorf("%s: %w", BinariesVariable, err)
		}
		return program, nil
	}
	tools, err := toolsModule()
	if err != nil {
		return "", err
	}
	dir, err := cacheFolder(tools)
	if err != nil {
		return "", err
	}
	return build(tools, dir, name)
})

// build makes the program unless it is there. The kernel's file lock lets
// packages that are tested side by side wait for one build; it goes away with
// its process. The program gets its name when it is whole.
func build(tools, dir, name string) (string, error) {
	unlock, err := lockedfile.MutexAt(filepath.Join(dir, "lock")).Lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	program := filepath.Join(dir, name)
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	half := filepath.Join(dir, "building-"+name)
	command := exec.Command("go", "build", "-C", tools, "-o", half, "github.com/distribution/distribution/v3/cmd/registry")
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, output)
	}
	return program, os.Rename(half, program)
}

// cacheFolder is where this version of the program is kept.
func cacheFolder(tools string) (string, error) {
	sums, err := os.ReadFile(filepath.Join(tools, "go.sum"))
	if err != nil {
		return "", err
	}
	key := sha256.Sum256(append(sums, runtime.Version()+runtime.GOOS+runtime.GOARCH...))
	base, err := os.UserCacheDir()
	if err != nil { // no HOME
		base = os.TempDir()
	}
	dir := filepath.Join(base, "freightliner-test", hex.EncodeToString(key[:8]))
	return dir, os.MkdirAll(dir, 0o700)
}

// toolsModule is the folder .ci/tools of the module freightliner, above the
// working directory.
func toolsModule() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module freightliner\n") {
			return filepath.Join(dir, ".ci", "tools"), nil
		}
		above := filepath.Dir(dir)
		if above == dir {
			return "", errors.New("no go.mod of module freightliner above the working directory")
		}
		dir = above
	}
}

func writeFile(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
