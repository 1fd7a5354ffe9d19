package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"freightliner/config"
	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/providers/secret"
	"freightliner/statefile"
)

func main() {
	// A reader that goes away (apply | head) must not kill an apply: writes to it
	// fail instead, and the work goes on.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	postponeGC()
	keepFromCores() // whatever command it is: variables of the environment are payloads already
	filter := &secret.Filter{}
	p := &program{
		filter:   filter,
		stdin:    os.Stdin,
		stdout:   &lockedWriter{w: os.Stdout, filter: filter},
		stderr:   &lockedWriter{w: os.Stderr, filter: filter},
		terminal: terminals{term.IsTerminal(int(os.Stdin.Fd())), term.IsTerminal(int(os.Stdout.Fd())), term.IsTerminal(int(os.Stderr.Fd()))},
		env:      environment(os.Environ()),
		signals:  signals,
		exitNow:  os.Exit,
		clock:    wallClock{},
		tick:     wallTicker,
	}
	os.Exit(p.run(os.Args[1:]))
}

// postponeGC lets the garbage collector begin at 16 MiB of heap instead of 4. A run
// that finds nothing to do ends before that; it spent a twentieth of its time on
// collections that freed nothing worth it. After the first one all is as usual.
func postponeGC() {
	if os.Getenv("GOGC") != "" {
		return
	}
	usual := debug.SetGCPercent(400)
	runtime.AddCleanup(new([64]byte), func(percent int) { debug.SetGCPercent(percent) }, usual)
}

// program is one process: all it knows of the world around it.
type program struct {
	stdin          io.Reader
	stdout, stderr *lockedWriter
	terminal       terminals
	env            map[string]string
	signals        <-chan os.Signal
	exitNow        func(int) // ends the process at once; see interrupts.go
	clock          registry.Clock
	tick           ticker
	filter         *secret.Filter // the last net of all output

	global globalFlags
	log    hclog.Logger
}

// terminals says at which ends of the process a person sits.
type terminals struct{ stdin, stdout, stderr bool }

type globalFlags struct {
	chdir    string
	noColor  bool
	logLevel string
	logJSON  bool
}

// environment is the process environment as a map. It is read here and in
// credentials.go, nowhere else.
func environment(pairs []string) map[string]string {
	env := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env
}

// run is the whole program; it gives the exit code.
func (p *program) run(args []string) (code int) {
	// The last resort: whatever went wrong in us, a person gets one line to act
	// on and not a stack trace. The journal is valid at every instant, so nothing
	// is lost by ending here.
	defer func() {
		if failure := recover(); failure != nil {
			fmt.Fprintf(p.stderr, "Error: freightliner failed inside (%s). Please report this together with what you ran; your state is safe.\n", clean(fmt.Sprint(failure)))
			code = exitError
		}
	}()
	if len(args) > 0 && slices.Contains([]string{"-version", "--version", "-v"}, args[0]) {
		args = append([]string{"version"}, args[1:]...)
	}
	p.log = hclog.NewNullLogger()
	root := p.commands()
	args, single := completeDashes(args)
	var answer bytes.Buffer // of a completion
	root.SetOut(&answer)
	root.SetErr(p.stderr)
	root.SetArgs(longFlags(root, args))
	err := root.ExecuteContext(context.Background())
	fmt.Fprint(p.stdout, completions(answer.String(), single))
	code = p.tell(err)
	// A reader that has read enough (plan | head) is no failure.
	if failed := p.stdout.failed(); failed != nil && code == exitDone && !errors.Is(failed, syscall.EPIPE) {
		code = p.tell(fmt.Errorf("write standard output: %w", failed))
	}
	return code
}

// tell prints an error, unless it was told already, and gives its exit code.
func (p *program) tell(err error) int {
	if err == nil {
		return exitDone
	}
	var done *exit
	if errors.As(err, &done) && done.err == nil {
		return done.code
	}
	v := diagnosticText{p.stderr, p.colour(p.terminal.stderr)}
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(p.stderr, "%s %s.\n", v.severity(false), clean(usage.text))
		if usage.hint != "" {
			fmt.Fprintln(p.stderr, usage.hint)
		}
		fmt.Fprintf(p.stderr, "\nUsage: %s\n", usageLine(usage.cmd))
		return exitError
	}
	v.one(&config.Diagnostic{Summary: err.Error(), Hint: hintOf(err)})
	return codeOf(err)
}

// codeOf is the exit code of an error, by its type.
func codeOf(err error) int {
	var done *exit
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &done):
		return done.code
	case errors.Is(err, statefile.ErrLocked):
		return exitLocked
	case errors.Is(err, statefile.ErrDamaged), errors.Is(err, statefile.ErrNewer), errors.Is(err, statefile.ErrUnsafe):
		return exitState
	case providers.ClassOf(err) == providers.Canceled:
		return exitInterrupted
	}
	return exitError
}

// colour decides whether one end of the process gets colours.
func (p *program) colour(terminal bool) palette {
	return palette(terminal && !p.global.noColor && p.env["NO_COLOR"] == "" && p.env["TERM"] != "dumb")
}

// commands is the whole command tree. A new command is one file and one line.
func (p *program) commands() *cobra.Command {
	root := group(&cobra.Command{
		Use:   "freightliner",
		Short: "Freightliner keeps container registries as your configuration says",
		Long: `Freightliner reads the *.hcl files of a directory, shows what differs from the
registries, and applies it. The usual way is: init, plan, apply.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	})
	flags := root.PersistentFlags()
	flags.StringVar(&p.global.chdir, "chdir", "", "work in the directory `DIR`")
	flags.BoolVar(&p.global.noColor, "no-color", false, "no colours, even on a terminal")
	flags.StringVar(&p.global.logLevel, "log-level", "", "log to standard error: `LEVEL` is trace, debug, info, warn, error or off (the default; or FREIGHTLINER_LOG)")
	flags.BoolVar(&p.global.logJSON, "log-json", false, "log as JSON")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return p.prepare(cmd) }
	root.SetFlagErrorFunc(wrongFlag)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { help(cmd, p.stdout) })
	root.SetHelpCommand(&cobra.Command{Use: "help", Hidden: true, RunE: func(cmd *cobra.Command, args []string) error {
		asked, _, err := root.Find(args)
		if err != nil || asked == nil {
			asked = root
		}
		return asked.Help()
	}})
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		p.initCommand(),
		p.validateCommand(),
		p.fmtCommand(),
		p.planCommand(),
		p.showCommand(),
		p.applyCommand(),
		p.destroyCommand(),
		p.driftCommand(),
		p.verifyCommand(),
		p.stateCommand(),
		p.secretCommand(),
		p.auditCommand(),
		p.registryCommand(),
		p.versionCommand(),
		p.completionCommand(),
	)
	return root
}

// prepare does what the global flags ask for, before any command.
func (p *program) prepare(cmd *cobra.Command) error {
	if p.global.chdir != "" {
		if err := os.Chdir(p.global.chdir); err != nil {
			var path *fs.PathError
			if errors.As(err, &path) {
				err = path.Err
			}
			return fmt.Errorf("change to the directory %s: %w", clean(p.global.chdir), err)
		}
	}
	level := p.global.logLevel
	if level == "" {
		level = p.env["FREIGHTLINER_LOG"]
	}
	if level == "" {
		level = "off"
	}
	known := []string{"trace", "debug", "info", "warn", "error", "off"}
	if !slices.Contains(known, strings.ToLower(level)) {
		return &usageError{cmd, fmt.Sprintf("log level %s: use trace, debug, info, warn, error or off", quoted(level)), didYouMean("", level, known)}
	}
	p.log = hclog.New(&hclog.LoggerOptions{
		Name: "freightliner", Level: hclog.LevelFromString(level), Output: logWriter{p.stderr}, JSONFormat: p.global.logJSON,
	})
	return nil
}

// logWriter makes log lines safe to look at: what was read from a registry may
// be quoted in them. The writer's own line breaks stay.
type logWriter struct{ w io.Writer }

func (l logWriter) Write(b []byte) (int, error) {
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	for i := range lines {
		lines[i] = clean(lines[i])
	}
	_, err := io.WriteString(l.w, strings.Join(lines, "\n")+"\n")
	return len(b), err
}
