package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"freightliner/config"
	"freightliner/providers"
	"freightliner/statefile"
)

func (p *program) stateCommand() *cobra.Command {
	cmd := group(&cobra.Command{Use: "state", Short: "Look into the state file and keep it well"})
	cmd.AddCommand(
		p.stateList(), p.stateShow(), p.stateDiff(), p.stateVerify(),
		p.stateMv(), p.stateRm(), p.stateCompact(), p.stateUpgrade(),
		p.stateMerge(), p.stateMergeDriver(), p.stateRepair(), p.stateRebuild(),
	)
	return cmd
}

// stateFormat is the version of what the state commands print with -json
// (docs/state-commands.md): the minor number grows when members are added, the
// major when one changes.
const stateFormat = "1.0"

// stateFlags are what every state command has.
type stateFlags struct {
	variableFlags
	state string
	json  bool
}

func (f *stateFlags) add(cmd *cobra.Command, withJSON bool) *cobra.Command {
	f.variableFlags.add(cmd)
	cmd.Flags().StringVar(&f.state, "state", "", "the state file is `FILE`, whatever the configuration says")
	if withJSON {
		cmd.Flags().BoolVar(&f.json, "json", false, "print as JSON (docs/state-commands.md)")
	}
	return cmd
}

// read reads the state without a lock.
func (f *stateFlags) read(p *program, cmd *cobra.Command) (*statefile.State, string, error) {
	name, err := f.name(p, cmd)
	if err != nil {
		return nil, "", err
	}
	state, err := readState(name)
	return state, name, err
}

// name is the state's path, whether or not anything is there. Where there is no
// configuration at all, the default name is as good as any.
func (f *stateFlags) name(p *program, cmd *cobra.Command) (string, error) {
	if f.state != "" {
		return f.state, nil
	}
	found, err := configured()
	if err != nil || found == "" {
		return config.DefaultState, err
	}
	cfg, err := f.config(p, cmd)
	return stateName("", cfg), err
}

func (f *stateFlags) config(p *program, cmd *cobra.Command) (*config.Config, error) {
	vars, err := f.variables(cmd, p.env)
	if err != nil {
		return nil, err
	}
	s := &session{program: p, out: p.stdout}
	return s.loadConfig(vars)
}

// changeFlags are what state commands that write have besides.
type changeFlags struct {
	stateFlags
	lockTimeout time.Duration
	dryRun      bool
	autoApprove bool
}

func (f *changeFlags) add(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().DurationVar(&f.lockTimeout, "lock-timeout", 0, "wait for the state's lock for at most `TIME`, such as 10m (default: do not wait)")
	return f.stateFlags.add(cmd, true)
}

func (f *changeFlags) addDryRun(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be done, and do nothing")
}

func (f *changeFlags) addAutoApprove(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.autoApprove, "auto-approve", false, "do not ask")
}

func (f *changeFlags) check(cmd *cobra.Command) error {
	if f.lockTimeout < 0 {
		return &usageError{cmd, "flag -lock-timeout: must not be negative", ""}
	}
	if asks := cmd.Flags().Lookup("auto-approve") != nil && !f.autoApprove && !f.dryRun; asks && f.json {
		return &usageError{cmd, "-json can not ask: give -auto-approve", ""}
	}
	return nil
}

// heldState is the state while one command works on it.
type heldState struct {
	*session
	ctx   context.Context
	place *statePlace
	lock  *statefile.Lock  // nil in a dry run, which writes nothing
	was   providers.Digest // of the file's bytes when the work began; empty when there was no file
}

// hold takes the lock of the state called name, unless this is a dry run, and
// lets do work. A signal before the file is replaced ends the work.
func (f *changeFlags) hold(p *program, cmd *cobra.Command, name string, do func(*heldState) error) error {
	place, err := openStatePlace(name)
	if err != nil {
		return err
	}
	defer place.close()
	ctx, end := p.cancelOnSignal(cmd.Context())
	defer end()
	s := &session{program: p, command: "state " + cmd.Name(), out: p.stdout}
	h := &heldState{session: s, ctx: ctx, place: place}
	err = h.work(f, do)
	if errors.Is(err, context.Canceled) {
		return errInterrupted
	}
	return err
}

func (h *heldState) work(f *changeFlags, do func(*heldState) error) error {
	if !f.dryRun {
		lock, err := h.lockState(h.ctx, h.place, f.lockTimeout)
		if err != nil {
			return err
		}
		defer lock.Release()
		h.lock = lock
	}
	// The digest comes first: what is read after it and differs from it is
	// refused by replace, so that nobody's change is overwritten unseen.
	was, err := statefile.FileDigest(h.place.fsys, h.place.path)
	if err != nil {
		if _, readErr := h.read(); readErr != nil {
			return readErr // the same, with what to do about it
		}
		return fmt.Errorf("read the state %s: %w", clean(h.place.name), err)
	}
	h.was = was
	return do(h)
}

// read reads the state.
func (h *heldState) read() (*statefile.State, error) {
	return statefile.Read(h.place.fsys, h.place.path)
}

// settled reads a state that is there and can be written anew as a whole. Open
// intents have no place in a snapshot, so they must not be left behind.
func (h *heldState) settled() (*statefile.State, error) {
	state, err := h.read()
	switch {
	case err != nil:
		return nil, err
	case !state.Exists():
		return nil, noState(h.place.name)
	case len(state.Intents()) > 0:
		return nil, hinted(fmt.Errorf("change the state %s: %w", clean(h.place.name), statefile.ErrUndecided), "Apply again: the next run looks at them first.")
	}
	return state, state.Writable()
}

func noState(name string) error {
	return hinted(fmt.Errorf("there is no state: %s does not exist", clean(name)), "\"freightliner apply\" makes one; \"freightliner state rebuild\" recreates a lost one from the registries.")
}

// replace puts state in the place of the file that the work began with.
func (h *heldState) replace(state *statefile.State) error {
	notes, err := statefile.Replace(h.ctx, h.lock, h.place.path, h.was, state, statefile.Options{})
	for _, note := range notes {
		fmt.Fprintf(h.stderr, "Note: %s.\n", clean(note))
	}
	if errors.Is(err, statefile.ErrReplaced) {
		return hinted(fmt.Errorf("replace the state %s: it was changed by somebody else meanwhile, and was left alone", clean(h.place.name)), "Look at it, and run the command again.")
	}
	return err
}

// filtered is state with every record as keep gives it, without those that it
// drops.
func filtered(state *statefile.State, keep func(statefile.Record) (statefile.Record, bool)) (*statefile.State, error) {
	records := func(yield func(statefile.Record) bool) {
		for r := range state.All() {
			if r, ok := keep(r); ok && !yield(r) {
				return
			}
		}
	}
	return statefile.Build(state.Lineage(), records, nil)
}

// changed is the head of what commands print with -json that may write.
type changedJSON struct {
	Format  string           `json:"format_version"`
	Path    string           `json:"path"`
	DryRun  bool             `json:"dry_run"`
	State   providers.Digest `json:"state,omitempty"`
	Records int              `json:"records"`
}

func (h *heldState) changed(state *statefile.State) changedJSON {
	return changedJSON{stateFormat, h.place.name, h.lock == nil, state.ID(), state.Len()}
}
