// Command demo shows freightliner at work on two registries and a secret store
// of its own: plan, apply, an empty plan, and then how a moved tag, a deleted one
// and a secret that somebody changed are told apart. Everything happens on
// loopback and below one directory, the home directory of the programs it starts
// included; nothing is left running.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"freightliner/providers/registry/embedded"
)

func main() {
	program := flag.String("program", "freightliner", "the freightliner to show")
	dir := flag.String("dir", ".demo", "working directory; emptied first")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *program, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

// demo is one run.
type demo struct {
	ctx                 context.Context
	program, dir        string
	source, destination string // host:port

	robot    *authn.Basic // whom the destination lets in
	database string       // the password in the JSON secret
}

func run(ctx context.Context, program, dir string) error {
	program, err := filepath.Abs(program)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "home"), 0o700); err != nil {
		return err
	}
	started := time.Now()
	d := &demo{
		ctx: ctx, program: program, dir: dir,
		robot: &authn.Basic{Username: "robot", Password: rand.Text()}, database: rand.Text(),
	}
	stopSource, err := d.open("source", &d.source)
	if err != nil {
		return err
	}
	defer stopSource()
	stopDestination, err := d.guarded("destination", &d.destination)
	if err != nil {
		return err
	}
	defer stopDestination()
	if err := d.story(); err != nil {
		return err
	}
	fmt.Printf("\nDone in %.1f s. The files are in %s; both registries are stopped.\n", time.Since(started).Seconds(), filepath.Base(dir))
	return nil
}

func (d *demo) story() error {
	d.say("Two registries run: the source at %s, open to all, and the destination\nat %s, which asks for a login. The source gets three repositories: multi-arch images\nthat share layers, a signature and an SBOM.", d.source, d.destination)
	moved, err := fill(d.source)
	if err != nil {
		return fmt.Errorf("fill the source: %w", err)
	}
	if err := d.configure(); err != nil {
		return err
	}
	login := fmt.Sprintf(`{"username": %q, "password": %q}`, d.robot.Username, d.robot.Password)
	steps := []step{
		{say: "The login goes into the store, from standard input. The store and an identity that\nopens it are made on the way.", args: "secret put registry/robot", stdin: login},
		{say: "What would happen?", args: "plan"},
		{say: "Make it so.", args: "apply -auto-approve"},
		{say: "And again: nothing to do.", args: "plan -detailed-exitcode"},
		{say: "Who has what: names and versions, no values.", args: "secret list"},
	}
	if err := d.freightliner(steps...); err != nil {
		return err
	}
	d.say("Now three things happen. Upstream, acme/api:1.1 moves to new content;\nsomebody deletes acme/web:2.0 at the destination; and somebody writes another value\ninto the secret app/database.")
	if err := move(d.source, "acme/api:1.1", moved); err != nil {
		return fmt.Errorf("move a tag: %w", err)
	}
	if err := d.remove("mirror/acme/web:2.0"); err != nil {
		return fmt.Errorf("delete a tag: %w", err)
	}
	steps = []step{
		{args: "secret put app/database", stdin: `{"user": "app", "password": "` + rand.Text() + `"}`},
		{say: "The plan says which is which.", args: "plan -detailed-exitcode", exit: 2},
		{say: "Drift is only what changed behind our back.", args: "drift", exit: 2},
		{say: "Put all three right.", args: "apply -auto-approve"},
		{say: "In sync.", args: "plan -detailed-exitcode"},
		{say: "What happened to the secret.", args: "secret history app/database"},
		{say: "Every read and write of a value was recorded before it happened.", args: "audit verify"},
	}
	if err := d.freightliner(steps...); err != nil {
		return err
	}
	if err := d.search(); err != nil {
		return err
	}
	d.say("Last, another client (go-containerregistry) pulls the moved image from the destination by digest\nand hashes every layer.")
	return d.pull("mirror/acme/api:1.1", "acme/api:1.1")
}

func (d *demo) say(format string, args ...any) {
	fmt.Println("\n# " + strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n# "))
}

// configure writes the HCL.
func (d *demo) configure() error {
	text := fmt.Sprintf(`registry "source" {
  host       = %q
  plain_http = true
}

registry "destination" {
  host       = %q
  plain_http = true

  auth {
    secret = { store = secret_store.main, name = "registry/robot" }
  }
}

tree "acme" {
  source      = "${registry.source.host}/acme"
  destination = "${registry.destination.host}/mirror/acme"
}

secret_store "main" {}

secret "session" {
  store = secret_store.main
  name  = "app/session"

  generate {
    length = 40
  }
}

variable "database_password" {
  ephemeral = true
}

secret "database" {
  store = secret_store.main
  name  = "app/database"
  json  = { user = "app", password = var.database_password }
}
`, d.source, d.destination)
	d.say("The configuration:")
	fmt.Print(text)
	return os.WriteFile(filepath.Join(d.dir, "freightliner.hcl"), []byte(text), 0o644)
}

// step is one call of freightliner and the exit code it must end with.
type step struct {
	say, args string
	stdin     string
	exit      int
}

func (d *demo) freightliner(steps ...step) error {
	for _, s := range steps {
		if s.say != "" {
			d.say("%s", s.say)
		}
		from := ""
		if s.stdin != "" {
			from = " < …"
		}
		fmt.Printf("$ freightliner %s%s\n", s.args, from)
		cmd := d.command(strings.Fields(s.args)...)
		cmd.Stdin, cmd.Stdout = strings.NewReader(s.stdin), os.Stdout
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return err
		}
		if code := cmd.ProcessState.ExitCode(); code != s.exit {
			return fmt.Errorf("freightliner %s ended with exit code %d, expected %d", s.args, code, s.exit)
		}
	}
	return nil
}

// command is a call of freightliner that knows nothing of the person who runs the
// demo: no credentials, no identity, no settings.
func (d *demo) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(d.ctx, d.program, args...)
	cmd.Dir, cmd.Stderr = d.dir, os.Stderr
	home := filepath.Join(d.dir, "home")
	cmd.Env = []string{"HOME=" + home, "USERPROFILE=" + home, "LOCALAPPDATA=" + home, "USER=demo", "FREIGHTLINER_VAR_database_password=" + d.database}
	for _, name := range []string{"PATH", "TERM", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	return cmd
}

// search looks for the values in every file that the demo made.
func (d *demo) search() error {
	files := 0
	err := filepath.WalkDir(d.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, value := range []string{d.robot.Password, d.database} {
			if bytes.Contains(content, []byte(value)) {
				return fmt.Errorf("%s holds a password", path)
			}
		}
		return nil
	})
	if err == nil {
		d.say("The passwords are in none of the %d files here in clear.", files)
	}
	return err
}

// guarded runs a registry that lets only the robot in. It is in this process,
// since "registry serve" asks nobody for a login.
func (d *demo) guarded(name string, host *string) (stop func(), err error) {
	store, err := embedded.OpenDirectory(filepath.Join(d.dir, name), time.Now())
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	*host = listener.Addr().String()
	ctx, cancel := context.WithCancel(d.ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		users := []embedded.User{{Name: d.robot.Username, Password: d.robot.Password}}
		if err := embedded.Serve(ctx, listener, embedded.New(store, embedded.Options{Users: users})); err != nil {
			fmt.Fprintln(os.Stderr, "demo: the destination:", err)
		}
	}()
	return func() {
		cancel()
		<-ended
		if err := store.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "demo: the destination:", err)
		}
	}, nil
}

var address = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)

// open starts an embedded registry that is open to all on a free port and finds
// out which.
func (d *demo) open(name string, host *string) (stop func(), err error) {
	cmd := d.command("registry", "serve", "-listen", "127.0.0.1:0", name)
	cmd.Cancel = func() error { return nil } // stop ends it
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			_ = cmd.Process.Kill() // Windows knows no interrupt
		}
		_ = cmd.Wait() // it was told to end: how is no news
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if found := address.FindString(line); found != "" {
			*host = found
			go io.Copy(io.Discard, lines) // only keeps the pipe empty
			return stop, nil
		}
		if err != nil {
			stop()
			return nil, fmt.Errorf("the %s registry did not say where it listens: %w", name, err)
		}
	}
}
