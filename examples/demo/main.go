// Command demo shows freightliner at work on two registries of its own: plan,
// apply, an empty plan, and then how a moved tag and a deleted one are told
// apart. Everything happens on loopback and below one directory; nothing is
// left running.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
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
}

func run(ctx context.Context, program, dir string) error {
	program, err := filepath.Abs(program)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	started := time.Now()
	d := &demo{ctx: ctx, program: program, dir: dir}
	stopSource, err := d.registry("source", &d.source)
	if err != nil {
		return err
	}
	defer stopSource()
	stopDestination, err := d.registry("destination", &d.destination)
	if err != nil {
		return err
	}
	defer stopDestination()
	if err := d.story(); err != nil {
		return err
	}
	fmt.Printf("\nDone in %.1f s. The files are in %s; both registries are stopped.\n", time.Since(started).Seconds(), dir)
	return nil
}

func (d *demo) story() error {
	d.say("Two registries run: the source at %s, the destination at %s.\nThe source gets three repositories: multi-arch images that share layers, a signature and an SBOM.", d.source, d.destination)
	moved, err := fill(d.source)
	if err != nil {
		return fmt.Errorf("fill the source: %w", err)
	}
	if err := d.configure(); err != nil {
		return err
	}
	steps := []step{
		{say: "What would happen?", args: "plan"},
		{say: "Make it so.", args: "apply -auto-approve"},
		{say: "And again: nothing to do.", args: "plan -detailed-exitcode"},
	}
	if err := d.freightliner(steps...); err != nil {
		return err
	}
	d.say("Now two things happen. Upstream, acme/api:1.1 moves to new content;\nand somebody deletes acme/web:2.0 at the destination.")
	if err := move(d.source, "acme/api:1.1", moved); err != nil {
		return fmt.Errorf("move a tag: %w", err)
	}
	if err := remove(d.destination, "mirror/acme/web:2.0"); err != nil {
		return fmt.Errorf("delete a tag: %w", err)
	}
	steps = []step{
		{say: "The plan says which is which.", args: "plan -detailed-exitcode", exit: 2},
		{say: "Drift is only what changed behind our back.", args: "drift", exit: 2},
		{say: "Put both right.", args: "apply -auto-approve"},
		{say: "In sync.", args: "plan -detailed-exitcode"},
	}
	if err := d.freightliner(steps...); err != nil {
		return err
	}
	d.say("Last, another client (go-containerregistry) pulls the moved image from the destination by digest\nand hashes every layer.")
	return pull(d.destination, "mirror/acme/api:1.1", d.source, "acme/api:1.1")
}

func (d *demo) say(format string, args ...any) {
	fmt.Println("\n# " + strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n# "))
}

// configure writes the ten lines of HCL.
func (d *demo) configure() error {
	text := fmt.Sprintf(`registry "source" {
  host       = %q
  plain_http = true
}

registry "destination" {
  host       = %q
  plain_http = true
}

tree "acme" {
  source      = "${registry.source.host}/acme"
  destination = "${registry.destination.host}/mirror/acme"
}
`, d.source, d.destination)
	d.say("The configuration:")
	fmt.Print(text)
	return os.WriteFile(filepath.Join(d.dir, "freightliner.hcl"), []byte(text), 0o644)
}

// step is one call of freightliner and the exit code it must end with.
type step struct {
	say, args string
	exit      int
}

func (d *demo) freightliner(steps ...step) error {
	for _, s := range steps {
		d.say("%s", s.say)
		fmt.Printf("$ freightliner %s\n", s.args)
		cmd := exec.CommandContext(d.ctx, d.program, strings.Fields(s.args)...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = d.dir, os.Stdout, os.Stderr
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

var address = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)

// registry starts an embedded registry on a free port and finds out which.
func (d *demo) registry(name string, host *string) (stop func(), err error) {
	cmd := exec.Command(d.program, "registry", "serve", "-listen", "127.0.0.1:0", name)
	cmd.Dir = d.dir
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
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
