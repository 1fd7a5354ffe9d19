package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"freightliner/providers"
)

// KeychainOptions say where a keychain looks. Nothing here is read from the
// environment: whoever makes the keychain knows it.
type KeychainOptions struct {
	// Files are credential files of Docker (config.json) and Podman (auth.json),
	// the preferred first; see [CredentialFiles]. The first that has something for
	// a host wins.
	Files []string
	// Read reads a file whole; an error that is fs.ErrNotExist is passed over.
	Read func(path string) ([]byte, error)
	// Helper runs a credential helper; nil means that files which name one are an
	// error for the hosts concerned.
	Helper RunHelper
}

// RunHelper runs the program "docker-credential-<name> get" with server on its
// standard input and gives its standard output. The name has been checked, ctx
// ends after 10 s, and what it prints appears in no message.
type RunHelper func(ctx context.Context, name, server string) ([]byte, error)

const (
	helperTime  = 10 * time.Second
	helperCap   = 64 << 10
	keychainCap = 1 << 20
)

var helperGrammar = providers.Pattern(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// CredentialFiles are the usual places, in the order in which Docker and
// containers/image search, for an environment given by env.
func CredentialFiles(env func(string) string, home string) []string {
	var files []string
	add := func(dir string, names ...string) {
		if dir != "" {
			files = append(files, strings.TrimRight(dir, `/\`)+"/"+path.Join(names...))
		}
	}
	if f := env("REGISTRY_AUTH_FILE"); f != "" {
		files = append(files, f)
	}
	if dir := env("DOCKER_CONFIG"); dir != "" {
		add(dir, "config.json")
	} else {
		add(home, ".docker", "config.json")
	}
	add(env("XDG_RUNTIME_DIR"), "containers", "auth.json")
	if dir := env("XDG_CONFIG_HOME"); dir != "" {
		add(dir, "containers", "auth.json")
	} else {
		add(home, ".config", "containers", "auth.json")
	}
	return files
}

// DockerConfigKeychain finds credentials in the files that docker login and
// podman login write: "auths" with a user name and password, an identity token
// or a registry token; "credHelpers" by host; "credsStore" for all. A host that
// no file knows is anonymous. Files are read once.
//
// Errors are Denied: a file that can not be read or understood, a helper that
// is missing, hangs, or answers nonsense. They name the file or the helper,
// never a value.
func DockerConfigKeychain(o KeychainOptions) CredentialFunc {
	load := sync.OnceValues(func() ([]credentialFile, error) { return loadCredentialFiles(o) })
	return func(ctx context.Context, repo providers.Repository) (Credential, error) {
		files, err := load()
		if err != nil {
			return Credential{}, err
		}
		for _, f := range files {
			c, found, err := f.find(ctx, repo, o.Helper)
			if found || err != nil {
				return c, err
			}
		}
		return Credential{Origin: "nowhere: anonymous"}, nil
	}
}

// credentialFile is Docker's config.json or Podman's auth.json.
type credentialFile struct {
	name    string
	Auths   map[string]authEntry `json:"auths"`
	Helpers map[string]string    `json:"credHelpers"`
	Store   string               `json:"credsStore"`
}

type authEntry struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

func loadCredentialFiles(o KeychainOptions) ([]credentialFile, error) {
	var files []credentialFile
	for _, name := range o.Files {
		raw, err := o.Read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, denied("read credentials in", name, err)
		}
		f, err := parseCredentialFile(name, raw)
		if err != nil {
			return nil, denied("read credentials in", name, err)
		}
		files = append(files, f)
	}
	return files, nil
}

func parseCredentialFile(name string, raw []byte) (credentialFile, error) {
	f := credentialFile{name: name}
	if len(raw) > keychainCap {
		return f, fmt.Errorf("%w of %d bytes", errMore, keychainCap)
	}
	if len(strings.TrimSpace(string(raw))) == 0 {
		return f, nil
	}
	// The decoder's own errors can quote a value, so they are not passed on.
	if json.Unmarshal(raw, &f) != nil {
		return f, errors.New("it is not the JSON of docker login or podman login")
	}
	return f, nil
}

func denied(op, on string, err error) error {
	return &providers.Error{Class: providers.Denied, Op: op, On: on, Err: err}
}

// find looks for the entry of repo: Docker's order, in which a helper for the
// host goes before the general store, and that before what the file holds.
// Podman's keys may carry a path; the longest that covers the repository wins.
func (f *credentialFile) find(ctx context.Context, repo providers.Repository, run RunHelper) (c Credential, found bool, err error) {
	if key, ok := bestKey(f.Helpers, repo); ok {
		return f.help(ctx, f.Helpers[key], serverOf(key), run)
	}
	key, ok := bestKey(f.Auths, repo)
	if f.Store != "" && (!ok || f.Auths[key] == authEntry{}) {
		server := serverOf(repo.Host)
		if ok {
			server = key
		}
		if c, found, err = f.help(ctx, f.Store, server, run); found || err != nil {
			return c, found, err
		}
	}
	if !ok {
		return Credential{}, false, nil
	}
	return f.entry(key)
}

// entry reads what the file itself holds.
func (f *credentialFile) entry(key string) (Credential, bool, error) {
	e := f.Auths[key]
	c := Credential{Username: e.Username, Origin: f.name}
	password := e.Password
	if e.Auth != "" {
		plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(e.Auth))
		user, secret, ok := strings.Cut(strings.TrimRight(string(plain), "\x00"), ":")
		if err != nil || !ok {
			return Credential{}, false, denied("read credentials in", f.name, fmt.Errorf("the auth of %s is not base64 of user:password", providers.Printable(key, 100)))
		}
		c.Username, password = user, secret
	}
	switch {
	case e.RegistryToken != "":
		c.Bearer = func() string { return e.RegistryToken }
	case e.IdentityToken != "":
		c.Identity = func() string { return e.IdentityToken }
	case c.Username != "" || password != "":
		c.Password = func() string { return password }
	default:
		return Credential{}, false, nil
	}
	return c, true, nil
}

// help asks a credential helper.
func (f *credentialFile) help(ctx context.Context, name, server string, run RunHelper) (Credential, bool, error) {
	on := "docker-credential-" + providers.Printable(name, 80)
	denied := func(op, on string, err error) error {
		return &providers.Error{Class: providers.Denied, Op: op, On: on, Err: err,
			Hint: fmt.Sprintf("%s names this helper. See what it says to: echo %s | %s get", f.name, providers.Printable(server, 100), on)}
	}
	if !helperGrammar().MatchString(name) {
		return Credential{}, false, denied("run", on, fmt.Errorf("%s names a helper that can not be a program name", f.name))
	}
	if run == nil {
		return Credential{}, false, denied("run", on, errors.New("credential helpers are switched off here"))
	}
	ctx, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()
	out, err := run(ctx, name, server)
	switch {
	case ctx.Err() != nil:
		return Credential{}, false, denied("run", on, fmt.Errorf("no answer within %s", helperTime))
	case errors.Is(err, errNoCredentials):
		return Credential{}, false, nil
	case err != nil:
		return Credential{}, false, denied("run", on, err)
	case len(out) > helperCap:
		return Credential{}, false, denied("run", on, fmt.Errorf("its answer is %w of %d bytes", errMore, helperCap))
	}
	c, err := helperAnswer(out, on)
	if err != nil {
		return Credential{}, false, denied("run", on, err)
	}
	return c, true, nil
}

// errNoCredentials is what a helper says that works and knows nothing.
var errNoCredentials = errors.New("credentials not found in native keychain")

func helperAnswer(out []byte, on string) (Credential, error) {
	var answer struct{ Username, Secret string }
	if json.Unmarshal(out, &answer) != nil || answer.Secret == "" {
		return Credential{}, errors.New("its answer is not a user name and a secret")
	}
	secret := func() string { return answer.Secret }
	if answer.Username == "<token>" { // docker-credential-helpers: the secret is an identity token
		return Credential{Identity: secret, Origin: on}, nil
	}
	return Credential{Username: answer.Username, Password: secret, Origin: on}, nil
}

// hubKey is how Docker writes its own registry in its files, whatever name the
// registry goes by elsewhere.
const hubKey = "https://index.docker.io/v1/"

var hubHosts = map[string]bool{"docker.io": true, "index.docker.io": true, "registry-1.docker.io": true}

func serverOf(host string) string {
	if hubHosts[host] {
		return hubKey
	}
	return host
}

// bestKey is the key of m that covers repo with the longest path. Keys may be
// hosts, host/path, or URLs as old versions of Docker wrote them.
func bestKey[V any](m map[string]V, repo providers.Repository) (string, bool) {
	best, length := "", -1
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		host, dir := splitKey(key)
		if host == repo.Host || hubHosts[host] && hubHosts[repo.Host] {
			if below(repo.Path, dir) && len(dir) > length {
				best, length = key, len(dir)
			}
		}
	}
	return best, length >= 0
}

// splitKey takes a key apart. The version at the end of Docker's URLs is no path.
func splitKey(key string) (host, dir string) {
	rest, isURL := strings.CutPrefix(key, "https://")
	if !isURL {
		rest, isURL = strings.CutPrefix(key, "http://")
	}
	host, dir, _ = strings.Cut(rest, "/")
	dir = strings.Trim(dir, "/")
	if isURL && (dir == "v1" || dir == "v2") {
		dir = ""
	}
	return strings.ToLower(host), dir
}
