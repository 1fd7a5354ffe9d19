package executor

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"sync"
	"time"

	"freightliner/planner"
	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/providers/secret"
	"freightliner/statefile"
)

// Run is what Apply works with. The caller holds the state's lock.
type Run struct {
	State   *statefile.State // as the plan's preconditions are checked against it
	Journal Journal
	Client  *registry.Client

	// Of plans with secrets.
	Secrets         *secret.Client
	Value           func(address string) (secret.Value, error)           // the configuration's value for a block
	FingerprintKeys map[string]*secret.FingerprintKey                    // by name of the store
	Rand            io.Reader                                            // nil for crypto/rand
	Agrees          func(p *planner.Plan, i int) (adopt bool, err error) // of saved plans, see planner.SecretAgreement
}

const (
	defaultParallelism = 16
	defaultRetries     = 2
	retryPause         = 2 * time.Second // before the first further round; doubles
	longestPause       = 5 * time.Minute // for a registry that asks for more, a run does not wait
)

// Apply runs the plan's actions and returns how each of them ended. It starts
// no action after opts.Stop is closed, after the journal failed, or after
// opts.MaxFailures failures; it returns when everything under way has ended,
// which ctx can hasten.
func Apply(ctx context.Context, plan *planner.Plan, run Run, opts Options) *Summary {
	w := newWalk(ctx, plan, run, opts)
	started := w.opts.Clock.Now()
	if w.told() {
		w.interrupt()
	}
	stopWatch := w.watch(ctx)
	w.begin()
	w.underway.Wait()
	stopWatch()
	w.giveUp()
	for _, work := range w.secretWork {
		work.value.Zero()
	}
	w.summary.Duration = w.opts.Clock.Now().Sub(started)
	w.total()
	return w.summary
}

// walk is the state of one run.
type walk struct {
	plan     *planner.Plan
	run      Run
	opts     Options
	copier   *registry.Copier
	ctx      context.Context
	underway sync.WaitGroup // actions and pauses; each starts what comes after it before it ends

	mu       sync.Mutex
	graph    *graph
	lanes    *lanes
	attempts map[int]int
	stopped  bool
	failures int
	full     map[providers.Repository]string // repositories whose quota is used up, and the action that met it
	summary  *Summary

	intents    map[string]statefile.Intent // of an interrupted run, by address
	secretWork map[int]*secretWork         // by action
}

func newWalk(ctx context.Context, plan *planner.Plan, run Run, opts Options) *walk {
	n := len(plan.Actions)
	w := &walk{
		plan: plan, run: run, opts: opts, copier: registry.NewCopier(run.Client), ctx: ctx,
		attempts: map[int]int{}, intents: map[string]statefile.Intent{}, secretWork: map[int]*secretWork{}, full: map[providers.Repository]string{}, summary: &Summary{Outcomes: make([]Outcome, n), Errors: make([]error, n)},
	}
	w.opts.Parallelism = cmp.Or(opts.Parallelism, defaultParallelism)
	if opts.Clock == nil {
		w.opts.Clock = registry.SystemClock{}
	}
	if run.Rand == nil {
		w.run.Rand = rand.Reader
	}
	for _, intent := range run.State.Intents() {
		w.intents[intent.Address] = intent
	}
	if opts.Retries == 0 {
		w.opts.Retries = defaultRetries
	}
	w.graph, w.lanes = newGraph(plan), newLanes(plan, w.opts.Parallelism, w.copier.Expect)
	return w
}

// begin starts what needs nothing.
func (w *walk) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.graph.roots(w.lanes.push)
	w.dispatch()
}

// dispatch starts every action that may start now. The caller holds mu.
func (w *walk) dispatch() {
	for !w.stopped {
		i, ok := w.lanes.pop()
		if !ok {
			return
		}
		w.underway.Go(func() { w.finish(i, w.try(i)) })
	}
}

// watch notices when the run is to stop.
func (w *walk) watch(ctx context.Context) (stop func()) {
	over := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		select {
		case <-w.opts.Stop:
		case <-ctx.Done():
		case <-over:
			return
		}
		w.interrupt()
	})
	return func() { close(over); wait.Wait() }
}

// told reports whether the run was told to stop before it began.
func (w *walk) told() bool {
	select {
	case <-w.opts.Stop:
		return true
	default:
		return w.ctx.Err() != nil
	}
}

func (w *walk) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.summary.Interrupted = true
	w.stopped = true
}

// again starts a further round of what failed for a passing reason, when its
// lane has nothing else to do: after a pause, so that the trouble has time to
// pass. Other lanes go on meanwhile. The caller holds mu.
func (w *walk) again(l *lane) {
	if w.stopped || len(l.later) == 0 || !l.idle() {
		return
	}
	pause := min(retryPause<<min(l.round, 8), longestPause)
	for _, i := range l.later {
		pause = max(pause, asked(w.summary.Errors[i]))
	}
	later := l.later
	l.later, l.resting = nil, true
	l.round++
	for _, i := range later {
		w.emit(Event{Type: Retrying, Action: int(i), Err: w.summary.Errors[i], Wait: pause, Attempt: w.attempts[int(i)] + 1})
	}
	w.underway.Go(func() {
		err := w.pause(pause)
		w.mu.Lock()
		defer w.mu.Unlock()
		l.resting = false
		for _, i := range later {
			if err != nil {
				w.fail(int(i), FailedOutcome, w.summary.Errors[i])
				continue
			}
			w.lanes.push(int(i))
		}
		w.dispatch()
	})
}

// asked is the pause that the registry asked for; 0 when it did not.
func asked(err error) time.Duration {
	var e *providers.Error
	if errors.As(err, &e) {
		return e.After
	}
	return 0
}

// pause waits, unless the run is told to stop meanwhile.
func (w *walk) pause(d time.Duration) error {
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	go func() {
		select {
		case <-w.opts.Stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return w.opts.Clock.Wait(ctx, d)
}

// giveUp ends what would have been tried again if the run had not ended first.
func (w *walk) giveUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := range w.lanes.all {
		for _, i := range w.lanes.all[n].later {
			w.fail(int(i), FailedOutcome, w.summary.Errors[i])
		}
	}
}

// result is how one try ended.
type result struct {
	already bool
	note    string
	stale   bool
	because string // not tried, since this action failed
	err     error
}

func (w *walk) finish(i int, r result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lanes.ran(i)
	l := w.lanes.lane(i)
	switch {
	case r.because != "":
		w.summary.Errors[i] = nil
		w.skip(i, r.because)
		w.lost(i, r.because)
	case r.err == nil:
		w.done(i, r)
	case r.stale:
		w.fail(i, StaleOutcome, r.err)
	case w.ctx.Err() != nil || providers.ClassOf(r.err) == providers.Canceled:
		// Cut short by the end of the run: not done, and not its own fault.
		w.summary.Errors[i] = nil
	case providers.ClassOf(r.err).Retryable() && w.attempts[i] < w.opts.Retries && !w.stopped && asked(r.err) <= longestPause:
		w.attempts[i]++
		w.summary.Errors[i] = r.err
		l.later = append(l.later, int32(i))
	default:
		w.fail(i, FailedOutcome, r.err)
	}
	w.dispatch()
	w.again(l)
}

func (w *walk) done(i int, r result) {
	w.summary.Outcomes[i], w.summary.Errors[i] = Done, nil
	if r.already && w.plan.Actions[i].Kind != statefile.KindTree {
		w.summary.Already++
	}
	w.emit(Event{Type: Finished, Action: i, Already: r.already, Note: r.note})
	w.lanes.ended(i)
	w.graph.met(i, w.lanes.push)
}

// fail ends an action that did not succeed, and skips what needs it.
func (w *walk) fail(i int, outcome Outcome, err error) {
	w.summary.Outcomes[i], w.summary.Errors[i] = outcome, err
	w.emit(Event{Type: Failed, Action: i, Err: err})
	if jerr := w.run.Journal.Fail(w.plan.Actions[i].Address, w.failureClass(i, err)); jerr != nil {
		w.journalFailed(jerr)
	}
	if a := &w.plan.Actions[i]; errors.Is(err, registry.ErrFull) && w.full[a.To] == "" {
		w.full[a.To] = a.Address
	}
	w.lanes.ended(i)
	w.lost(i, w.plan.Actions[i].Address)
	w.failures++
	if w.opts.MaxFailures > 0 && w.failures >= w.opts.MaxFailures {
		w.stopped = true
	}
}

// lost skips everything that needs action i, directly or not.
func (w *walk) lost(i int, because string) {
	w.graph.lost(i, func(next int) bool { return w.skip(next, because) })
}

// skip ends an action that something else keeps from being tried; false when it
// was skipped before.
func (w *walk) skip(i int, because string) bool {
	if w.summary.Outcomes[i] != NotStarted {
		return false
	}
	w.summary.Outcomes[i] = SkippedOutcome
	w.lanes.ended(i)
	w.emit(Event{Type: Skipped, Action: i, Because: because})
	return true
}

// journalFailed ends the run: an effect that can not be recorded must not
// happen. The caller holds mu.
func (w *walk) journalFailed(err error) {
	if w.summary.JournalErr == nil {
		w.summary.JournalErr = err
	}
	w.stopped = true
}

func (w *walk) emit(e Event) {
	if w.opts.Events == nil {
		return
	}
	e.At = w.opts.Clock.Now()
	w.opts.Events(e)
}

// total counts the outcomes.
func (w *walk) total() {
	s := w.summary
	for i, outcome := range s.Outcomes {
		if w.plan.Actions[i].Kind == statefile.KindTree && outcome == Done {
			continue
		}
		switch outcome {
		case Done:
			s.Done++
		case FailedOutcome:
			s.Failed++
		case SkippedOutcome:
			s.Skipped++
		case StaleOutcome:
			s.Stale++
		case NotStarted:
			s.NotStarted++
		}
	}
}
