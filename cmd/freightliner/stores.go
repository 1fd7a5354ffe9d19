package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"golang.org/x/term"

	"freightliner/config"
	"freightliner/planner"
	"freightliner/providers"
	"freightliner/providers/disk"
	"freightliner/providers/registry"
	"freightliner/providers/secret"
	"freightliner/providers/secret/audit"
	"freightliner/providers/secret/aws"
	"freightliner/providers/secret/file"
	"freightliner/providers/secret/gcp"
)

// storeKinds open the stores of each kind. A new kind is one line here.
var storeKinds = map[string]func(*session, context.Context, config.SecretStore) (secret.Store, error){
	"aws":  (*session).awsStore,
	"gcp":  (*session).gcpStore,
	"file": (*session).fileStore,
}

// vault is what a run has of secrets: the stores of the configuration, opened
// when they are first used, behind the audit log.
type vault struct {
	client *secret.Client
	keys   map[string]*secret.FingerprintKey
	blocks map[string]*config.SecretBlock // by address
	audit  *lazyAudit
}

// openVault prepares the stores of a configuration. Nothing is opened yet.
func (s *session) openVault(cfg *config.Config) (*vault, error) {
	v := &vault{keys: map[string]*secret.FingerprintKey{}, blocks: map[string]*config.SecretBlock{}, audit: &lazyAudit{session: s}}
	v.client = secret.NewClient(secret.Options{Audit: v.audit, Filter: s.filter})
	for _, store := range cfg.Stores {
		v.client.Add(store.Name, func(ctx context.Context) (secret.Store, error) {
			return storeKinds[store.Kind](s, ctx, store)
		})
		if store.FingerprintKey == nil {
			continue
		}
		key, err := secret.NewFingerprintKey(secret.NewValue([]byte(store.FingerprintKey())))
		if err != nil {
			return nil, fmt.Errorf("secret_store %q: fingerprint_key: %w", store.Name, err)
		}
		v.keys[store.Name] = key
	}
	for i := range cfg.Secrets {
		b := &cfg.Secrets[i]
		v.blocks[b.Address] = b
		if b.Value != nil {
			s.watch([]byte(b.Value()))
		}
		if b.JSON != nil {
			s.filter.Watch(secret.NewValue([]byte(b.JSON())))
			for _, text := range b.JSONHidden() {
				s.filter.Watch(secret.NewValue([]byte(text)))
			}
		}
	}
	return v, nil
}

// watch lets the last net of all output look for a value of the configuration,
// which stays in memory for the whole run anyway; of JSON for its texts too, but
// not for its numbers, which are found among counts and sizes.
func (s *session) watch(value []byte) {
	s.filter.Watch(secret.NewValue(value))
	keys, err := secret.JSONKeys(secret.NewValue(value))
	if err != nil {
		return
	}
	for _, key := range keys {
		if text, err := secret.TextJSON(secret.NewValue(value), key); err == nil {
			s.filter.Watch(text)
		}
	}
}

// value is the configuration's value for a block.
func (v *vault) value(address string) (secret.Value, error) {
	b := v.blocks[address]
	switch {
	case b == nil:
	case b.Value != nil:
		return secret.NewValue([]byte(b.Value())), nil
	case b.JSON != nil:
		return secret.NewValue([]byte(b.JSON())), nil
	}
	return secret.Value{}, &providers.Error{
		Class: providers.Conflict, Op: "find the value of", On: address, Err: errors.New("the configuration has no such block with a value"),
		Hint: "Apply the plan with the configuration that it was made from.",
	}
}

// usesSecrets reports whether carrying out a plan needs the secret stores.
func usesSecrets(p *planner.Plan) bool {
	for i := range p.Actions {
		if p.Actions[i].Secret != nil && p.Actions[i].Verb != planner.Forget {
			return true
		}
	}
	return false
}

// clouds' own HTTP: no redirects are followed by the rooms, whatever is set here.
func (s *session) cloudHTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy: s.proxy(), TLSHandshakeTimeout: 20 * time.Second, ResponseHeaderTimeout: cloudPatience, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 64,
	}}
}

func (s *session) awsStore(ctx context.Context, c config.SecretStore) (secret.Store, error) {
	options := []func(*awsconfig.LoadOptions) error{awsconfig.WithRegion(c.Region), awsconfig.WithLogger(awsLog{s.log})}
	if c.Profile != "" {
		options = append(options, awsconfig.WithSharedConfigProfile(c.Profile))
	}
	chain, err := awsconfig.LoadDefaultConfig(context.WithoutCancel(ctx), options...)
	if err != nil {
		return nil, &providers.Error{
			Class: providers.Denied, Op: "read the AWS configuration for secret store", On: c.Name, Err: err,
			Hint: "Check profile, ~/.aws/config and the AWS_ variables of the environment.",
		}
	}
	return aws.New(ctx, aws.Options{
		Region: c.Region, Endpoint: c.Endpoint, RoleARN: c.RoleARN, KMSKey: c.KMSKey, Profile: c.Profile,
		Keys: chain.Credentials, HTTP: s.cloudHTTP(), Clock: s.clock,
	})
}

func (s *session) gcpStore(ctx context.Context, c config.SecretStore) (secret.Store, error) {
	o := gcp.Options{
		Project: c.Project, Location: c.Location, Endpoint: c.Endpoint, KMSKey: c.KMSKey, Clock: s.clock,
		Notice: func(text string) { s.log.Warn("secret store", "store", c.Name, "notice", clean(text)) },
	}
	// A token of Google's opens all that its account may, so it goes to Google
	// alone, wherever an endpoint in the configuration leads: not to an emulator,
	// and not to whatever a pull request writes there.
	if gcp.Google(c.Endpoint) {
		found, err := google.FindDefaultCredentials(context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, s.cloudHTTP()), "https://www.googleapis.com/auth/cloud-platform")
		if err != nil {
			return nil, &providers.Error{
				Class: providers.Denied, Op: "find Google credentials for secret store", On: c.Name, Err: err,
				Hint: "Run \"gcloud auth application-default login\", or set GOOGLE_APPLICATION_CREDENTIALS.",
			}
		}
		o.Tokens = found.TokenSource
		o.Account = func(context.Context) (string, error) { return gcp.AccountOf(found.JSON), nil }
	}
	return gcp.New(ctx, o)
}

// Identities of the file store.
const (
	identityName = "identity.txt" // in the user's configuration directory
	ageKey       = "FREIGHTLINER_AGE_KEY"
	ageKeyFile   = "FREIGHTLINER_AGE_KEY_FILE"
	ageKeyCmd    = "FREIGHTLINER_AGE_KEY_CMD"
)

func (s *session) fileStore(_ context.Context, c config.SecretStore) (secret.Store, error) {
	store, err := s.openFileStore(c)
	if err != nil {
		return nil, err
	}
	return store, nil
}

func (s *session) openFileStore(c config.SecretStore) (*file.Store, error) {
	fsys, name, err := placeOf(c.Path)
	if err != nil {
		return nil, &providers.Error{Class: providers.Invalid, Op: "open secret store", On: c.Path, Err: err}
	}
	o := file.Options{
		FS: fsys, Path: name, Clock: s.clock, Rand: rand.Reader, Recipients: c.Recipients, User: s.who(),
		Passphrase: s.passphrase, Plugins: nil,
		// A machine that is thrown away after the run would take the only
		// identity with it.
		AutoInit: s.env["CI"] == "",
	}
	if o.Keys, err = s.identitySources(c); err != nil {
		return nil, err
	}
	if home, ok := s.userDir("config"); ok {
		if root, err := madeRoot(home); err == nil {
			o.Home, o.HomePath, o.HomeName = disk.OS(root), identityName, filepath.Join(home, identityName)
		}
	}
	return file.Open(o), nil
}

// identitySources are where the identity may be, the most explicit first.
func (s *session) identitySources(c config.SecretStore) ([]file.KeySource, error) {
	var sources []file.KeySource
	fromFile := func(label, path string) error {
		fsys, name, err := placeOf(path)
		if err != nil {
			return fmt.Errorf("%s: %w", label, err)
		}
		sources = append(sources, file.FromFile(label, fsys, name))
		return nil
	}
	if c.IdentityFile != "" {
		if err := fromFile("identity_file", c.IdentityFile); err != nil {
			return nil, err
		}
	}
	if text := s.env[ageKey]; text != "" {
		sources = append(sources, file.KeySource{Name: ageKey, Read: func(context.Context) ([]byte, error) { return []byte(text), nil }})
	}
	if path := s.env[ageKeyFile]; path != "" {
		if err := fromFile(ageKeyFile, path); err != nil {
			return nil, err
		}
	}
	if words := strings.Fields(s.env[ageKeyCmd]); len(words) > 0 {
		sources = append(sources, file.KeySource{Name: ageKeyCmd, Read: func(ctx context.Context) ([]byte, error) { return s.keyOf(ctx, words) }})
	}
	return sources, nil
}

// keyOf runs the program that gives the identity. There is no shell: the words
// are the program and its arguments.
func (s *session) keyOf(ctx context.Context, words []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	for name, value := range s.env {
		if !strings.HasPrefix(name, variablePrefix) && name != ageKey {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	var out bytes.Buffer
	cmd.Stdout = &out // its errors may quote what it read, so they are not shown
	if err := cmd.Run(); err != nil {
		clear(out.Bytes())
		return nil, fmt.Errorf("%s: %w", clean(words[0]), err)
	}
	return out.Bytes(), nil
}

// passphrase asks a person, without echo. Nobody is asked in a pipeline.
func (s *session) passphrase(_ context.Context, what string) ([]byte, error) {
	if !s.terminal.stdin {
		return nil, errors.New("it needs a passphrase, and there is no terminal to ask on")
	}
	fmt.Fprintf(s.stderr, "Passphrase for %s: ", clean(what))
	defer fmt.Fprintln(s.stderr)
	return term.ReadPassword(int(os.Stdin.Fd()))
}

// placeOf opens the directory of a path that people wrote, and gives the name
// in it: inside the working directory no link leads out of it.
func placeOf(path string) (disk.FS, string, error) {
	dir, base := ".", filepath.Clean(path)
	if !filepath.IsLocal(path) {
		dir, base = filepath.Dir(base), filepath.Base(base)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, "", pathless(err, dir)
	}
	return disk.OS(root), filepath.ToSlash(base), nil
}

// userDir is freightliner's directory of one purpose, "config" or "state", in
// the user's home, as each system has it.
func (s *session) userDir(purpose string) (string, bool) {
	home := s.env["HOME"]
	switch runtime.GOOS {
	case "windows":
		if base := s.env["LOCALAPPDATA"]; base != "" {
			return filepath.Join(base, "freightliner", purpose), true
		}
	case "darwin":
		if home != "" {
			return filepath.Join(home, "Library", "Application Support", "freightliner", purpose), true
		}
	default: // XDG Base Directory Specification
		variable, below := "XDG_CONFIG_HOME", ".config"
		if purpose == "state" {
			variable, below = "XDG_STATE_HOME", filepath.Join(".local", "state")
		}
		if base := s.env[variable]; filepath.IsAbs(base) {
			return filepath.Join(base, "freightliner"), true
		}
		if home != "" {
			return filepath.Join(home, below, "freightliner"), true
		}
	}
	return "", false
}

// madeRoot opens a private directory of ours, which it makes if need be.
func madeRoot(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}

// lazyAudit opens the audit log when the first line has to be written, so that
// a run without secrets leaves none.
type lazyAudit struct {
	session *session

	once sync.Once
	log  *audit.Log
	err  error
}

// auditDir names the directory of audit logs.
const auditDir = "FREIGHTLINER_AUDIT_DIR"

func (l *lazyAudit) open() (*audit.Log, error) {
	l.once.Do(func() { l.log, l.err = l.session.openAudit() })
	return l.log, l.err
}

func (l *lazyAudit) Intend(ctx context.Context, entries ...secret.Entry) error {
	log, err := l.open()
	if err != nil {
		return err
	}
	return log.Intend(ctx, entries...)
}

func (l *lazyAudit) Outcome(ctx context.Context, entries ...secret.Entry) error {
	log, err := l.open()
	if err != nil {
		return err
	}
	return log.Outcome(ctx, entries...)
}

// auditPlace is the directory of audit logs and the name of this workspace in it.
func (s *session) auditPlace() (dir, workspace string, err error) {
	dir = s.env[auditDir]
	if dir == "" {
		home, ok := s.userDir("state")
		if !ok {
			return "", "", hinted(errors.New("there is no home directory for the audit log"), "Set "+auditDir+" to a directory that outlives the run.")
		}
		dir = filepath.Join(home, "audit")
	}
	here, err := filepath.Abs(".")
	if err != nil {
		return "", "", err
	}
	sum := sha256.Sum256([]byte(here))
	return dir, filepath.Base(here) + "-" + hex.EncodeToString(sum[:4]), nil
}

func (s *session) openAudit() (*audit.Log, error) {
	dir, workspace, err := s.auditPlace()
	if err != nil {
		return nil, err
	}
	root, err := madeRoot(dir)
	if err != nil {
		return nil, pathless(err, dir)
	}
	host, _ := os.Hostname()
	return audit.Open(audit.Options{
		FS: disk.OS(root), Clock: s.clock, Workspace: workspace, Run: s.runID(), Host: host, Version: buildVersion(),
		Actor: s.actor(), Job: s.job(),
	}), nil
}

// runID names this process's run, in the journal and in the audit log.
func (s *session) runID() string {
	if s.run == "" {
		s.run = rand.Text()
	}
	return s.run
}

// actor is who started the run, as far as the surroundings say.
func (s *session) actor() string {
	for _, name := range []string{"GITHUB_ACTOR", "GITLAB_USER_LOGIN", "BUILD_REQUESTEDFOREMAIL", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"} {
		if who := s.env[name]; who != "" {
			return clean(who)
		}
	}
	return s.who()
}

// job is the CI job's address; empty outside of CI.
func (s *session) job() string {
	if server, run := s.env["GITHUB_SERVER_URL"], s.env["GITHUB_RUN_ID"]; server != "" && run != "" {
		return clean(server + "/" + s.env["GITHUB_REPOSITORY"] + "/actions/runs/" + run)
	}
	for _, name := range []string{"CI_JOB_URL", "BUILD_URL", "CIRCLE_BUILD_URL", "BUILDKITE_BUILD_URL"} {
		if url := s.env[name]; url != "" {
			return clean(url)
		}
	}
	return ""
}

// tellAudit says where the audit log ends: whoever keeps this line elsewhere can
// prove later that nothing before it was changed or cut off.
func (s *session) tellAudit() {
	if s.vault == nil || s.vault.audit.log == nil {
		return
	}
	if head := s.vault.audit.log.Head(); head.Seq > 0 {
		fmt.Fprintf(s.out, "Audit log: %s\n", head)
	}
}

// endSecrets tells where the audit log ends, closes it, and adds to err what it
// lost.
func (s *session) endSecrets(err error) error {
	s.tellAudit()
	if lost := s.closeVault(); lost != nil {
		if err == nil {
			return &exit{exitError, lost}
		}
		s.tell(lost)
	}
	return err
}

// closeVault ends the audit log, and tells when it lost a line.
func (s *session) closeVault() error {
	if s.vault == nil {
		return nil
	}
	if s.vault.audit.log != nil {
		s.vault.audit.log.Close() // what was recorded is on the disk
	}
	if err := s.vault.client.AuditErr(); err != nil {
		return hinted(fmt.Errorf("the audit log could not record how it ended: %w", err), "What was done is done and recorded in the state; only its audit line is missing.")
	}
	return nil
}

// storedCredential reads a registry's credential from a secret store, once.
func (s *session) storedCredential(r config.Registry) registry.CredentialFunc {
	from := r.Auth.StoreSecret
	origin := fmt.Sprintf("the secret %s in secret_store.%s", clean(from.Name), from.Store)
	read := func(ctx context.Context) (registry.Credential, error) {
		if s.vault == nil {
			return registry.Credential{}, errors.New("the configuration's secret stores are not at hand")
		}
		why := secret.Why{Reason: "registry credential", Address: "registry." + r.Name}
		v, _, err := s.vault.client.GetSecret(ctx, why, from.Store, from.Name, "")
		if err != nil {
			failed := &providers.Error{Class: providers.ClassOf(err), Op: "read the credential of registry", On: r.Name, Err: err}
			if failed.Class == providers.NotFound {
				failed.Hint = fmt.Sprintf("Put it there: freightliner secret put -store %s %s", from.Store, clean(from.Name))
			}
			return registry.Credential{}, failed
		}
		defer v.Zero()
		c, err := credentialIn(v, from.Key)
		if err != nil {
			return c, &providers.Error{Class: providers.Invalid, Op: "use as a credential", On: origin, Err: err,
				Hint: "It must be a JSON object with username and password, \"user:password\", or a token; key takes one member of an object."}
		}
		c.Origin = origin
		for _, use := range []func() string{c.Password, c.Bearer} {
			if use != nil {
				s.watch([]byte(use()))
			}
		}
		return c, nil
	}
	var mu sync.Mutex
	var asked bool
	var found registry.Credential
	var failed error
	return func(ctx context.Context, _ providers.Repository) (registry.Credential, error) {
		mu.Lock()
		defer mu.Unlock()
		if asked {
			return found, failed // also a failure: a thousand repositories would ask again
		}
		found, failed = read(ctx)
		asked = failed == nil || ctx.Err() == nil
		return found, failed
	}
}

// credentialIn reads a credential out of a payload: a JSON object with username
// and password; or, from one of its keys or the whole, "user:password" or else
// a token.
func credentialIn(v secret.Value, key string) (registry.Credential, error) {
	text := func(v secret.Value) (s string) {
		v.Use(func(b []byte) { s = strings.TrimRight(string(b), "\r\n") })
		return s
	}
	hold := func(s string) func() string { return func() string { return s } }
	if key != "" {
		member, err := secret.MemberJSON(v, key)
		if err != nil {
			return registry.Credential{}, err
		}
		defer member.Zero()
		v = member
	} else if user, err := secret.MemberJSON(v, "username"); err == nil {
		password, err := secret.MemberJSON(v, "password")
		if err != nil {
			return registry.Credential{}, errors.New("it has a username and no password")
		}
		defer password.Zero()
		return registry.Credential{Username: text(user), Password: hold(text(password))}, nil
	}
	switch user, password, pair := strings.Cut(text(v), ":"); {
	case pair && user != "" && password != "":
		return registry.Credential{Username: user, Password: hold(password)}, nil
	case text(v) == "":
		return registry.Credential{}, errors.New("it is empty")
	}
	return registry.Credential{Bearer: hold(text(v))}, nil
}
