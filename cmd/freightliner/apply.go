package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"freightliner/config"
	"freightliner/executor"
	"freightliner/planner"
	"freightliner/providers/disk"
	"freightliner/providers/registry"
	"freightliner/statefile"
)

// applyFlags are the flags of the verbs that change things.
type applyFlags struct {
	planFlags
	autoApprove bool
	approve     string
	maxFailures int
	maxDuration time.Duration
	lockTimeout time.Duration
	report      string
	spool       string // of apply alone
	spoolBytes  int64  // 0 for none
}

func (f *applyFlags) add(cmd *cobra.Command) {
	f.planFlags.add(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.autoApprove, "auto-approve", false, "do not ask")
	flags.IntVar(&f.parallelism, "parallelism", 0, "work on `N` actions at once, of which each pair of registries has its share (default 16)")
	flags.IntVar(&f.maxFailures, "max-failures", 0, "start nothing more after `N` failures (default: no bound)")
	flags.DurationVar(&f.maxDuration, "max-duration", 0, "start nothing more after `TIME`, such as 50m (default: no bound)")
	flags.DurationVar(&f.lockTimeout, "lock-timeout", 0, "wait for the state's lock for at most `TIME`, such as 10m (default: do not wait)")
	flags.StringVar(&f.report, "report", "", "write what was done as one JSON document to `FILE`")
}

func (f *applyFlags) check(cmd *cobra.Command, env map[string]string) (config.Variables, config.Limit, error) {
	for name, wrong := range map[string]bool{
		"max-failures": f.maxFailures < 0, "max-duration": f.maxDuration < 0, "lock-timeout": f.lockTimeout < 0,
	} {
		if wrong {
			return config.Variables{}, config.Limit{}, &usageError{cmd, "flag -" + name + ": must not be negative", ""}
		}
	}
	if f.spool != "" {
		var ok bool
		if f.spoolBytes, ok = config.ParseSize(f.spool); !ok {
			return config.Variables{}, config.Limit{}, &usageError{cmd, "flag -spool: want a size, such as 20GB or 512MiB", ""}
		}
	}
	return f.planFlags.check(cmd, env)
}

func (p *program) applyCommand() *cobra.Command {
	var f applyFlags
	cmd := &cobra.Command{
		Use:   "apply [FILE]",
		Short: "Do what a plan says",
		Long: `Does what a saved plan says, or makes a plan, shows it and asks first. What is
done is recorded as it happens: after an interruption of any kind, run it again
and only the rest is done.`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.runApply(cmd, args, &f, false)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.approve, "approve", "", "do it only if the plan's id is `ID`, or begins with it (8 digits or more)")
	cmd.Flags().StringVar(&f.spool, "spool", "", "keep up to `SIZE`, such as 20GB, of large blobs on disk, so that an upload that starts again does not read the source again (default: nothing)")
	return cmd
}

func (p *program) destroyCommand() *cobra.Command {
	var f applyFlags
	cmd := &cobra.Command{
		Use:   "destroy",
		Short: "Delete all that the state records",
		Long: `Plans against an empty configuration, shows the plan and asks: all tags that the
state says are ours are deleted at the destinations. prevent_destroy still holds.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.runApply(cmd, args, &f, true)
		},
	}
	f.add(cmd)
	return cmd
}

// runApply checks the flags against each other and runs the story below.
func (p *program) runApply(cmd *cobra.Command, args []string, f *applyFlags, destroy bool) error {
	vars, limit, err := f.check(cmd, p.env)
	if err != nil {
		return err
	}
	if len(args) == 1 {
		for _, name := range []string{"target", "exclude", "max-deletes"} {
			if cmd.Flags().Changed(name) {
				return &usageError{cmd, "-" + name + " is for making a plan, and " + quoted(args[0]) + " is made already", ""}
			}
		}
	}
	asks := len(args) == 0 && !f.autoApprove && f.approve == ""
	if f.json && asks {
		return &usageError{cmd, "-json can not ask: give -auto-approve or a saved plan", ""}
	}
	s, err := p.startSession(cmd.Name(), f.json, f.jsonInto)
	if err != nil {
		return err
	}
	a := &application{session: s, flags: f, vars: vars, limit: limit, destroy: destroy, asks: asks}
	if len(args) == 1 {
		a.file = args[0]
	}
	err = a.run(cmd.Context())
	if reportErr := a.writeReport(codeOf(err)); reportErr != nil {
		p.tell(reportErr)
		if err == nil {
			err = &exit{code: exitError}
		}
	}
	return s.finish(err, func(code int) summaryEvent { return summaryOf(a.summary, code) })
}

// application is one apply or destroy.
type application struct {
	*session
	flags   *applyFlags
	vars    config.Variables
	limit   config.Limit
	destroy bool
	asks    bool
	file    string // the saved plan; empty to make one

	config  *config.Config // nil when a saved plan needed none
	plan    *planner.Plan
	client  *registry.Client
	private *os.Root            // .freightliner, once it is open
	spool   *registry.DiskSpool // nil for none
	summary *executor.Summary   // nil until something was tried
	because map[int]string      // why actions were skipped
	retries int
}

// run is the story: read, lock, plan, show, ask, do, record, tell.
func (a *application) run(parent context.Context) error {
	if a.file != "" {
		plan, err := loadPlan(a.file)
		if err != nil {
			return err
		}
		a.plan = plan
		if err := a.checkApproval(); err != nil {
			return err
		}
	}
	if err := a.configure(); err != nil {
		return err
	}
	place, err := openStatePlace(stateName(a.flags.state, a.config))
	if err != nil {
		return err
	}
	defer place.close()
	defer func() {
		if a.private != nil {
			a.private.Close()
		}
	}()
	ctx, endWatch := a.cancelOnSignal(parent)
	lock, err := a.lockState(ctx, place, a.flags.lockTimeout)
	if err == nil {
		defer lock.Release()
		err = a.prepare(ctx, place)
	}
	interrupted := ctx.Err() != nil // asked before endWatch, which ends ctx too
	endWatch()
	if interrupted {
		return errInterrupted
	}
	if err != nil {
		return err
	}
	defer a.client.Close()
	if err := a.mayStart(parent); err != nil {
		return err
	}
	return a.execute(parent, lock, place)
}

// configure loads the configuration unless a saved plan tells all there is to
// know: it remembers the registries' settings, but no credentials and not where
// the state is.
func (a *application) configure() error {
	if a.file != "" && a.flags.state != "" && !needsAuth(a.plan) && !usesSecrets(a.plan) {
		return nil
	}
	cfg, err := a.loadConfig(a.vars)
	a.config = cfg
	return err
}

func needsAuth(plan *planner.Plan) bool {
	for i := range plan.Registries {
		if plan.Registries[i].Auth {
			return true
		}
	}
	return false
}

// registries are the settings of a run: the configuration's, or for a saved
// plan the plan's, with the auth blocks looked up in the configuration.
func (a *application) registries() ([]config.Registry, error) {
	if a.file == "" {
		return a.config.Registries, nil
	}
	var all []config.Registry
	for _, saved := range a.plan.Registries {
		one := saved.Config
		if saved.Auth {
			now := registryNow(a.config, one)
			if now == nil || now.Auth == nil {
				return nil, hinted(fmt.Errorf("the plan needs the auth block of registry %s, and the configuration has none", quoted(one.Name)),
					"Apply the plan in the directory it was made for, or make a new one.")
			}
			one.Auth = now.Auth
			one.PlainHTTP, one.CAFile, one.ClientCert, one.ClientKey = now.PlainHTTP, now.CAFile, now.ClientCert, now.ClientKey
			one.TokenHosts, one.UploadHosts = now.TokenHosts, now.UploadHosts
		}
		all = append(all, one)
	}
	return all, nil
}

// registryNow finds the block of a saved registry that has an auth block. Host and
// path must be the same, and all that decides who gets to see the credential is
// taken from it too: it goes only where and as the configuration sends it now,
// whatever somebody wrote into the plan file.
func registryNow(cfg *config.Config, saved config.Registry) *config.Registry {
	for i := range cfg.Registries {
		r := &cfg.Registries[i]
		if r.Name == saved.Name && r.Host == saved.Host && r.Path == saved.Path {
			return r
		}
	}
	return nil
}

// prepare makes the plan, under the lock, so that nobody changes the state
// between the plan that is shown and the apply.
func (a *application) prepare(ctx context.Context, place *statePlace) error {
	registries, err := a.registries()
	if err != nil {
		return err
	}
	options, err := a.clientOptions(registries)
	if err != nil {
		return err
	}
	if kept := a.keep(place); kept != nil {
		options.Ledger, options.Learned = kept, kept
	}
	if a.openSpool(); a.spool != nil {
		options.Spool = a.spool
	}
	a.client = a.connect(options)
	if a.file != "" {
		a.showPlan(a.plan, nil, a.flags.full)
		return nil
	}
	state, err := statefile.Read(place.fsys, place.path)
	if err != nil {
		return err
	}
	a.plan, err = a.makePlan(ctx, planner.Input{
		Config: a.config, State: state, Client: a.client, Destroy: a.destroy,
		Targets: a.flags.targets, Exclude: a.flags.exclude, MaxDeletes: a.limit,
	})
	if err != nil {
		return err
	}
	a.showPlan(a.plan, a.config.Sources, a.flags.full)
	return a.checkApproval()
}

// keep opens the directory beside the lock where unfinished uploads and what was
// learned about registries outlive the run. They only save time, so an apply
// that can not have them goes without.
func (a *application) keep(place *statePlace) *registry.Disk {
	root, err := place.root.OpenRoot(path.Join(path.Dir(place.path), ".freightliner"))
	if err == nil {
		a.private = root
		var kept *registry.Disk
		if kept, err = registry.OnDisk(root, time.Now()); err == nil {
			return kept
		}
	}
	a.log.Warn("unfinished uploads are not kept", "error", clean(err.Error()))
	return nil
}

// openSpool opens the spool that was asked for, beside what keep opened. It only
// saves time too, so without it blobs go as if it were not asked for, and that is
// said.
func (a *application) openSpool() {
	if a.flags.spoolBytes == 0 {
		return
	}
	err := errors.New("its directory is not to be had")
	if a.private != nil {
		a.spool, err = registry.SpoolOnDisk(disk.OS(a.private), a.flags.spoolBytes)
	}
	a.tellSpool(err)
}

// tellSpool warns of trouble with the spool.
func (a *application) tellSpool(err error) {
	if err != nil {
		a.diagnose(config.Diagnostics{{Warning: true, Summary: "the spool can not be used, and large blobs go without it: " + err.Error()}})
	}
}

// checkApproval holds the plan against the id that was approved.
func (a *application) checkApproval() error {
	if a.flags.approve == "" {
		return nil
	}
	ok, err := approves(a.flags.approve, a.plan.ID())
	switch {
	case err != nil:
		return fmt.Errorf("flag -approve: %w", err)
	case !ok:
		return &exit{exitRefused, hinted(
			fmt.Errorf("the approval is for another plan: %s was approved, this is %s", clean(a.flags.approve), a.plan.ID()),
			"Read this plan with \"freightliner show\" and approve its id.")}
	}
	return nil
}

// mayStart holds guards and asks.
func (a *application) mayStart(ctx context.Context) error {
	if a.plan.Blocked() {
		return &exit{exitRefused, errors.New("the plan is refused by a guard, and nothing was changed")}
	}
	if unobservable(a.plan, a.plan.Totals()) {
		return &exit{exitError, errors.New("nothing could be observed, and nothing was changed")}
	}
	if !a.asks || a.plan.Empty() {
		return nil
	}
	if err := a.ask(ctx); err != nil {
		return err
	}
	// Time passed while the person decided, as with a saved plan: each
	// destination is looked at again before it is written.
	a.plan.Saved = true
	return nil
}

// ask wants a whole "yes" from a person.
func (a *application) ask(ctx context.Context) error {
	if !a.terminal.stdin {
		return hinted(errors.New("no terminal to ask on"), "Give -auto-approve to apply without being asked, or apply a saved plan.")
	}
	question := "Do you want to apply?"
	if a.destroy {
		question = "Do you really want to delete all of this?"
	}
	fmt.Fprintf(a.out, "\n%s\n  Only 'yes' is accepted.\n\n  Enter a value: ", a.colour(a.terminal.stdout).paint(bold, question))
	ctx, end := a.cancelOnSignal(ctx)
	defer end()
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(a.stdin).ReadString('\n')
		answer <- line
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.out)
		return errInterrupted
	case line := <-answer:
		fmt.Fprintln(a.out)
		if line == "yes\n" || line == "yes\r\n" {
			return nil
		}
	}
	return &exit{exitError, fmt.Errorf("%s cancelled; nothing was changed", a.command)}
}

// countedJournal counts the records that reach the journal, for checkpoints.
type countedJournal struct {
	*statefile.Journal
	records atomic.Int64
}

func (j *countedJournal) Done(changes ...statefile.Change) error {
	err := j.Journal.Done(changes...)
	if err == nil {
		j.records.Add(int64(len(changes)))
	}
	return err
}

// execute runs the plan. A plan without changes opens no journal and so writes
// no byte, unless an interrupted run left its journal to be folded.
func (a *application) execute(parent context.Context, lock *statefile.Lock, place *statePlace) error {
	if a.plan.Empty() {
		return a.nothingToDo(parent, lock, place)
	}
	journal, state, err := a.openJournal(parent, lock, place, a.plan)
	if err != nil {
		return err
	}
	if run, cut := state.Interrupted(); cut {
		fmt.Fprintf(a.out, "\nResuming: the run of %s was cut off; what it finished is kept.\n", clean(run.By))
	}
	fmt.Fprintln(a.out)
	kept := &countedJournal{Journal: journal}
	watch := a.watchApply(a.plan)
	signals := a.watchSignals(parent, watch.say)
	stop, stopTimer := a.stopAfter(signals, watch.say)
	a.because = map[int]string{}
	options := executor.Options{
		Parallelism: a.parallelism(), Retries: a.retryLimit(), MaxFailures: a.flags.maxFailures,
		Clock: a.clock, Stop: stop, Events: watch.event,
	}
	run := executor.Run{State: state, Journal: kept, Client: a.client}
	if a.vault != nil {
		run.Secrets, run.Value, run.FingerprintKeys = a.vault.client, a.vault.value, a.vault.keys
		run.Agrees = planner.SecretAgreement(a.config)
	}
	a.summary = executor.Apply(signals.ctx, a.plan, run, options)
	stopTimer()
	watch.stop()
	a.because, a.retries = watch.reasons(), watch.progress().Retries
	closeErr := a.closeJournal(journal, signals)
	a.checkpoint(place, kept, closeErr == nil && !signals.second.Load())
	signals.end()
	a.tellStats(a.client)
	if a.spool != nil {
		a.tellSpool(a.spool.Trouble())
	}
	for _, note := range journal.Notes() {
		fmt.Fprintln(a.out, clean(note))
	}
	return a.endSecrets(a.conclude(signals, closeErr))
}

// closeJournal compacts, unless there is no time for it.
func (a *application) closeJournal(journal *statefile.Journal, signals *interrupts) error {
	if signals.second.Load() {
		return journal.Abandon()
	}
	return journal.Close()
}

// nothingToDo ends an apply without changes.
func (a *application) nothingToDo(parent context.Context, lock *statefile.Lock, place *statePlace) error {
	state, err := statefile.Read(place.fsys, place.path)
	if err != nil {
		return err
	}
	if state.Exists() && !state.Canonical() {
		journal, _, err := a.openJournal(parent, lock, place, a.plan)
		if err != nil {
			return err
		}
		if err := journal.Close(); err != nil {
			return err
		}
		fmt.Fprintln(a.out, "Folded the journal of an interrupted run into the state.")
	}
	if a.plan.Totals().Failed > 0 {
		return &exit{code: exitPartial}
	}
	return nil
}

// stopAfter joins the first signal and -max-duration into one channel.
func (a *application) stopAfter(signals *interrupts, say func(string)) (stop <-chan struct{}, end func()) {
	if a.flags.maxDuration == 0 {
		return signals.stop, func() {}
	}
	joined := make(chan struct{})
	ctx, cancel := context.WithCancel(signals.ctx)
	ended := make(chan struct{})
	late := make(chan struct{})
	go func() {
		if a.clock.Wait(ctx, a.flags.maxDuration) == nil {
			close(late)
		}
	}()
	go func() {
		defer close(ended)
		select {
		case <-signals.stop:
			close(joined)
		case <-late:
			close(joined)
			say(fmt.Sprintf("The %s of -max-duration are over. Finishing what is under way.", span(a.flags.maxDuration)))
		case <-ctx.Done():
		}
	}()
	return joined, func() { cancel(); <-ended }
}

func (a *application) parallelism() int {
	switch {
	case a.flags.parallelism > 0:
		return a.flags.parallelism
	case a.config != nil:
		return a.config.Defaults.Parallelism
	}
	return 0
}

// retryLimit turns the configuration's "0 is none, -1 is not set" into the
// executor's "0 is not set, negative is none".
func (a *application) retryLimit() int {
	switch {
	case a.config == nil || a.config.Defaults.Retries < 0:
		return 0
	case a.config.Defaults.Retries == 0:
		return -1
	}
	return a.config.Defaults.Retries
}

// checkpoint tells programs where the state stands.
func (a *application) checkpoint(place *statePlace, journal *countedJournal, compacted bool) {
	if len(a.streams) == 0 {
		return
	}
	e := checkpointEvent{State: place.name, Records: int(journal.records.Load()), Compacted: compacted}
	if state, err := statefile.Read(place.fsys, place.path); err == nil {
		e.ID = state.ID()
	}
	if info, err := place.fsys.Lstat(place.path); err == nil {
		e.Bytes = info.Size
	}
	message := fmt.Sprintf("state saved in %s", place.name)
	a.eachStream(func(s *eventStream) { s.send(event{Type: typeCheckpoint, Message: message, Checkpoint: &e}) })
}

// conclude tells how it ended and settles the exit code.
func (a *application) conclude(signals *interrupts, closeErr error) error {
	sum := a.summary
	conclusion{a.out, a.colour(a.terminal.stdout), a}.write()
	switch {
	case closeErr != nil: // it knows where everything was saved, so it goes first
		return &exit{exitError, closeErr}
	case sum.JournalErr != nil:
		return &exit{exitError, sum.JournalErr}
	case signals.first.Load():
		return &exit{code: exitInterrupted}
	case sum.Failed > 0 || sum.NotStarted > 0:
		return &exit{code: exitPartial}
	case sum.Stale > 0:
		return &exit{code: exitStale}
	case sum.Skipped > 0, a.plan.Totals().Failed > 0:
		return &exit{code: exitPartial}
	}
	return nil
}
