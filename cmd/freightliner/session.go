package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freightliner/config"
	"freightliner/planner"
	"freightliner/providers/registry"
	"freightliner/statefile"
)

// session is one run of a verb: where its words go, and the things that several
// verbs make in the same way.
type session struct {
	*program
	command string
	json    bool
	out     io.Writer // for people; nowhere with -json
	streams []*eventStream
	into    *draft                              // the file of -json-into
	vault   *vault                              // of the configuration; nil until it is loaded
	stats   func() map[string]registry.Counters // of the client; nil until there is one
	run     string                              // id of this run, see runID
}

// startSession opens the streams. The caller calls finish.
func (p *program) startSession(command string, asJSON bool, into string) (*session, error) {
	s := &session{program: p, command: command, json: asJSON, out: p.stdout}
	version := buildVersion()
	if into != "" {
		d, err := newDraft(into, public, false)
		if err != nil {
			return nil, err
		}
		s.into, d.filter = d, p.filter
		s.streams = append(s.streams, newEventStream(d, p.clock.Now, version, command))
	}
	if asJSON {
		s.out = io.Discard
		s.streams = append(s.streams, newEventStream(p.stdout, p.clock.Now, version, command))
	}
	return s, nil
}

func (s *session) eachStream(do func(*eventStream)) {
	for _, stream := range s.streams {
		do(stream)
	}
}

// finish tells err where it belongs, ends the streams with a summary, and gives
// what is left to say. summary makes it, but for the counts by registry.
func (s *session) finish(err error, summary func(code int) summaryEvent) error {
	code := codeOf(err)
	if err != nil && !told(err) {
		s.eachStream(func(e *eventStream) {
			e.diagnostic(&jsonDiagnostic{Severity: "error", Summary: err.Error(), Hint: hintOf(err)})
		})
		if s.json {
			err = &exit{code: code}
		}
	}
	sum := summary(code)
	sum.Registries = s.wireReports()
	s.eachStream(func(e *eventStream) { e.summary(sum) })
	var failed error
	for _, stream := range s.streams {
		if failed == nil {
			failed = stream.finish()
		}
	}
	if s.into != nil {
		if failed != nil {
			s.into.drop()
			failed = s.into.failed(failed)
		} else {
			failed = s.into.commit()
		}
	}
	if failed == nil {
		return err
	}
	if code != exitDone && code != exitChanges {
		s.tell(failed)
		return err
	}
	return failed
}

// plainSummary is the end of verbs that apply nothing.
func plainSummary(code int) summaryEvent { return summaryOf(nil, code) }

// told reports whether nothing is left to say of err but its code.
func told(err error) bool {
	var done *exit
	return errors.As(err, &done) && done.err == nil
}

// diagnose tells mistakes: to people on standard error, to programs as events.
func (s *session) diagnose(diags config.Diagnostics) {
	s.eachStream(func(e *eventStream) { e.diagnostics(diags) })
	if !s.json {
		diagnosticText{s.stderr, s.colour(s.terminal.stderr)}.write(diags)
	}
}

// variableFlags are how values come from outside the configuration.
type variableFlags struct {
	vars  []string
	files []string
}

func (v *variableFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&v.vars, "var", nil, "set a variable: `NAME=VALUE`; may be repeated")
	cmd.Flags().StringArrayVar(&v.files, "var-file", nil, "read variables from `FILE`; may be repeated, later ones win")
}

const variablePrefix = "FREIGHTLINER_VAR_"

func (v *variableFlags) variables(cmd *cobra.Command, env map[string]string) (config.Variables, error) {
	vars := config.Variables{Flags: map[string]string{}, Files: v.files, Environment: map[string]string{}}
	for _, pair := range v.vars {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return vars, &usageError{cmd, "flag -var: want NAME=VALUE", ""}
		}
		vars.Flags[name] = value
	}
	for name, value := range env {
		if name, ok := strings.CutPrefix(name, variablePrefix); ok {
			vars.Environment[name] = value
		}
	}
	return vars, nil
}

// loadConfig reads the configuration of the working directory and tells what is
// wrong with it.
func (s *session) loadConfig(vars config.Variables) (*config.Config, error) {
	root, err := os.OpenRoot(".")
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer root.Close()
	cfg, diags := config.Load(root.FS(), ".", vars, config.Options{Version: buildVersion(), ReadFile: readSmallFile})
	s.diagnose(diags)
	if diags.HasErrors() {
		return nil, &exit{code: exitError}
	}
	if s.vault, err = s.openVault(cfg); err != nil {
		return nil, err
	}
	return cfg, nil
}

// smallFile bounds what is read whole: variable files and certificates.
const smallFile = 1 << 20

// readSmallFile reads a file that the user named, of at most 1 MiB.
func readSmallFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, smallFile+1))
	if err == nil && len(b) > smallFile {
		err = fmt.Errorf("read %s: it is larger than 1 MiB", clean(name))
	}
	return b, err
}

// statePlace is where the state lives: a directory that statefile can not leave,
// and a name in it.
type statePlace struct {
	name string // as the user wrote it
	root *os.Root
	fsys statefile.FS
	path string // in fsys, with slashes
}

func openStatePlace(name string) (*statePlace, error) {
	dir, base := ".", filepath.Clean(name)
	if !filepath.IsLocal(name) {
		dir, base = filepath.Dir(base), filepath.Base(base)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory of the state %s: %w", clean(name), err)
	}
	return &statePlace{name: name, root: root, fsys: statefile.OS(root), path: path.Clean(filepath.ToSlash(base))}, nil
}

func (p *statePlace) close() { p.root.Close() }

// stateName is the state's path: the flag, else the configuration's.
func stateName(flag string, cfg *config.Config) string {
	switch {
	case flag != "":
		return flag
	case cfg != nil && cfg.State != "":
		return cfg.State
	}
	return config.DefaultState
}

// readState reads the state without a lock and without writing.
func readState(name string) (*statefile.State, error) {
	place, err := openStatePlace(name)
	if err != nil {
		return nil, err
	}
	defer place.close()
	return statefile.Read(place.fsys, place.path)
}

// lockState takes the state's lock, waiting up to timeout.
func (s *session) lockState(ctx context.Context, place *statePlace, timeout time.Duration) (*statefile.Lock, error) {
	host, _ := os.Hostname()
	who := statefile.Holder{Host: host, PID: os.Getpid(), Since: s.clock.Now().UTC().Truncate(time.Second), By: s.who()}
	lock, err := statefile.AcquireLock(ctx, place.fsys, place.path, who, statefile.LockOptions{Timeout: timeout})
	var locked *statefile.LockedError
	if errors.As(err, &locked) && timeout == 0 {
		return nil, hinted(err, "Wait for it to end, or let freightliner wait: -lock-timeout=10m. The lock ends with the process that holds it.")
	}
	return lock, err
}

// who names who runs this, for the journal and the lock: people's words only.
func (s *session) who() string {
	for _, name := range []string{"USER", "LOGNAME", "USERNAME"} {
		if user := s.env[name]; user != "" {
			return clean(user)
		}
	}
	return "uid " + strconv.Itoa(os.Getuid())
}

// openJournal begins a run on a locked state.
func (s *session) openJournal(ctx context.Context, lock *statefile.Lock, place *statePlace, plan *planner.Plan) (*statefile.Journal, *statefile.State, error) {
	run := statefile.RunInfo{Run: s.runID(), By: s.who(), Tool: buildVersion()}
	if plan != nil {
		run.Plan = plan.ID()
	}
	opts := statefile.Options{LastResort: s.stderr}
	if temp, err := os.OpenRoot(os.TempDir()); err == nil {
		opts.Emergency = &statefile.Place{FS: statefile.OS(temp), Path: "freightliner-" + run.Run + ".state"}
	}
	return statefile.Begin(ctx, lock, place.path, run, opts)
}

// settingsOf turns registry blocks into what the client needs: certificates are
// read here, and the auth block becomes a function that gives the credential.
func (s *session) settingsOf(registries []config.Registry) ([]registry.Settings, error) {
	var all []registry.Settings
	for _, r := range registries {
		one := registry.Settings{
			Host: r.Host, Path: r.Path, Kind: r.Kind, PlainHTTP: r.PlainHTTP,
			Concurrency: r.Concurrency, RequestsPerSecond: r.RequestsPerSecond, MaxBandwidth: r.MaxBandwidth,
			TokenHosts: r.TokenHosts, UploadHosts: r.UploadHosts, CreateRepositories: r.CreateRepositories, Created: registry.RepositorySettings(r.Created),
		}
		for _, file := range []struct {
			argument, name string
			to             *[]byte
		}{
			{"ca_file", r.CAFile, &one.RootCAs}, {"client_cert", r.ClientCert, &one.Certificate}, {"client_key", r.ClientKey, &one.CertificateKey},
		} {
			if file.name == "" {
				continue
			}
			b, err := readSmallFile(file.name)
			if err != nil {
				return nil, fmt.Errorf("registry %q: read %s: %w", r.Name, file.argument, pathless(err, file.name))
			}
			*file.to = b
		}
		if r.Auth != nil {
			credential, err := s.authBlock(r)
			if err != nil {
				return nil, err
			}
			one.Credential = credential
		}
		all = append(all, one)
	}
	return all, nil
}

// pathless keeps the name that people wrote and drops the call that failed.
func pathless(err error, name string) error {
	var failed *fs.PathError
	if errors.As(err, &failed) {
		return fmt.Errorf("%s: %w", clean(name), failed.Err)
	}
	return err
}

// configAndState loads the configuration, and the state that it or the flag
// -state names, for work that changes neither.
func (s *session) configAndState(vars config.Variables, flag string) (*config.Config, *statefile.State, error) {
	cfg, err := s.loadConfig(vars)
	if err != nil {
		return nil, nil, err
	}
	state, err := readState(stateName(flag, cfg))
	return cfg, state, err
}

// newClient makes the registry client for a run.
func (s *session) newClient(registries []config.Registry) (*registry.Client, error) {
	options, err := s.clientOptions(registries)
	if err != nil {
		return nil, err
	}
	return s.connect(options), nil
}

// connect makes the one client of a run, whose counters the views tell.
func (s *session) connect(options registry.Options) *registry.Client {
	client := registry.New(options)
	s.stats = client.Stats
	return client
}

// clientOptions is everything that the client needs of the configuration and
// of the surroundings.
func (s *session) clientOptions(registries []config.Registry) (registry.Options, error) {
	settings, err := s.settingsOf(registries)
	if err != nil {
		return registry.Options{}, err
	}
	return registry.Options{
		Registries: settings,
		Kinds:      s.kinds(),
		Keychain:   s.keychain(),
		Proxy:      s.proxy(),
		Log:        s.log.Named("registry"),
		UserAgent:  "freightliner/" + buildVersion(),
	}, nil
}
