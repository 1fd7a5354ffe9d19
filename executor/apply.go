package executor

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"

	"freightliner/planner"
	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/statefile"
)

// Run is what Apply works with. The caller holds the state's lock.
type Run struct {
	State   *statefile.State // as the plan's preconditions are checked against it
	Journal Journal
	Client  *registry.Client
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
	var workers sync.WaitGroup
	for range w.opts.Parallelism {
		workers.Go(w.work)
	}
	stopWatch := w.watch(ctx)
	workers.Wait()
	stopWatch()
	w.giveUp()
	w.summary.Duration = w.opts.Clock.Now().Sub(started)
	w.total()
	return w.summary
}

// walk is the state of one run. Actions are nodes 0 to n-1; behind them comes
// one barrier for each block, which is reached when the block is finished.
type walk struct {
	plan   *planner.Plan
	run    Run
	opts   Options
	copier *registry.Copier
	ctx    context.Context

	mu         sync.Mutex
	changed    sync.Cond // ready, running, later or stopped changed
	ready      readyQueue
	running    int
	later      []int // failed for a passing reason: tried again when all else is done
	attempts   map[int]int
	round      int
	waiting    []int32 // needs that are not met yet, by node
	dependents [][]int32
	stopped    bool
	failures   int
	full       map[providers.Repository]string // repositories whose quota is used up, and the action that met it
	summary    *Summary
}

func newWalk(ctx context.Context, plan *planner.Plan, run Run, opts Options) *walk {
	n := len(plan.Actions)
	w := &walk{
		plan: plan, run: run, opts: opts, copier: registry.NewCopier(run.Client), ctx: ctx,
		attempts: map[int]int{}, full: map[providers.Repository]string{}, summary: &Summary{Outcomes: make([]Outcome, n), Errors: make([]error, n)},
	}
	w.changed.L = &w.mu
	w.ready.plan = plan
	w.opts.Parallelism = cmp.Or(opts.Parallelism, defaultParallelism)
	if opts.Clock == nil {
		w.opts.Clock = registry.SystemClock{}
	}
	if opts.Retries == 0 {
		w.opts.Retries = defaultRetries
	}
	w.link()
	return w
}

// link turns needs and block barriers into counters and dependents. A barrier
// keeps the edges between two blocks at their sum instead of their product.
func (w *walk) link() {
	n, blocks := len(w.plan.Actions), len(w.plan.Blocks)
	w.waiting = make([]int32, n+blocks)
	w.dependents = make([][]int32, n+blocks)
	edge := func(from, to int) {
		w.dependents[from] = append(w.dependents[from], int32(to))
		w.waiting[to]++
	}
	waited := make([]bool, blocks)
	for _, b := range w.plan.Blocks {
		for _, before := range b.After {
			waited[before] = true
		}
	}
	for i := range w.plan.Actions {
		a := &w.plan.Actions[i]
		for _, need := range a.Needs {
			edge(need, i)
		}
		if waited[a.Block] {
			edge(i, n+a.Block)
		}
		for _, before := range w.plan.Blocks[a.Block].After {
			edge(n+before, i)
		}
	}
	// A barrier of a block that has nothing to do still waits for the blocks
	// before it, so that an order holds through it.
	for b := range w.plan.Blocks {
		if !waited[b] {
			continue
		}
		for _, before := range w.plan.Blocks[b].After {
			edge(n+before, n+b)
		}
	}
	// Roots are collected before any is released: releasing lowers the counters
	// of others, which would otherwise be taken for roots a second time.
	var roots []int
	for node := range w.waiting {
		if w.waiting[node] == 0 {
			roots = append(roots, node)
		}
	}
	for _, node := range roots {
		w.release(node)
	}
}

// release hands a node whose needs are met to the workers; a barrier passes
// straight on. The caller holds mu, or nothing runs yet.
func (w *walk) release(node int) {
	if node < len(w.plan.Actions) {
		heap.Push(&w.ready, node)
		return
	}
	for _, next := range w.dependents[node] {
		w.met(int(next))
	}
}

func (w *walk) met(node int) {
	w.waiting[node]--
	if w.waiting[node] == 0 {
		w.release(node)
	}
}

// watch wakes the workers when the run is to stop.
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
	w.stop()
}

// stop lets no further action start. The caller holds mu.
func (w *walk) stop() {
	w.stopped = true
	w.changed.Broadcast()
}

func (w *walk) work() {
	for {
		i, ok := w.take()
		if !ok {
			return
		}
		w.finish(i, w.try(i))
	}
}

// take waits for an action to start; ok is false when there will be none.
func (w *walk) take() (i int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case w.stopped:
			return 0, false
		case w.ready.Len() > 0:
			w.running++
			return heap.Pop(&w.ready).(int), true
		case w.running > 0:
			w.changed.Wait()
		case len(w.later) > 0:
			w.again()
		default:
			w.changed.Broadcast() // the others can go home too
			return 0, false
		}
	}
}

// again starts a further round of what failed for a passing reason. It comes
// last, so that a registry in trouble holds up nothing else, and after a pause,
// so that the trouble has time to pass. The caller holds mu.
func (w *walk) again() {
	pause := min(retryPause<<min(w.round, 8), longestPause)
	for _, i := range w.later {
		pause = max(pause, asked(w.summary.Errors[i]))
	}
	w.round++
	later := w.later
	w.later = nil
	w.running++ // keeps the others waiting instead of leaving
	for _, i := range later {
		w.emit(Event{Type: Retrying, Action: i, Err: w.summary.Errors[i], Wait: pause, Attempt: w.attempts[i] + 1})
	}
	w.mu.Unlock()
	err := w.pause(pause)
	w.mu.Lock()
	w.running--
	for _, i := range later {
		if err != nil {
			w.fail(i, FailedOutcome, w.summary.Errors[i])
			continue
		}
		heap.Push(&w.ready, i)
	}
	w.changed.Broadcast()
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
	later := w.later
	w.later = nil
	for _, i := range later {
		w.fail(i, FailedOutcome, w.summary.Errors[i])
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
	defer w.changed.Broadcast()
	w.running--
	switch {
	case r.because != "":
		w.summary.Outcomes[i], w.summary.Errors[i] = SkippedOutcome, nil
		w.emit(Event{Type: Skipped, Action: i, Because: r.because})
		w.skip(i, r.because)
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
		w.later = append(w.later, i)
	default:
		w.fail(i, FailedOutcome, r.err)
	}
}

func (w *walk) done(i int, r result) {
	w.summary.Outcomes[i], w.summary.Errors[i] = Done, nil
	if r.already && w.plan.Actions[i].Kind != statefile.KindTree {
		w.summary.Already++
	}
	w.emit(Event{Type: Finished, Action: i, Already: r.already, Note: r.note})
	for _, next := range w.dependents[i] {
		w.met(int(next))
	}
}

// fail ends an action that did not succeed, and skips what needs it.
func (w *walk) fail(i int, outcome Outcome, err error) {
	w.summary.Outcomes[i], w.summary.Errors[i] = outcome, err
	w.emit(Event{Type: Failed, Action: i, Err: err})
	if jerr := w.run.Journal.Fail(w.plan.Actions[i].Address, providers.ClassOf(err)); jerr != nil {
		w.journalFailed(jerr)
	}
	if a := &w.plan.Actions[i]; errors.Is(err, registry.ErrFull) && w.full[a.To] == "" {
		w.full[a.To] = a.Address
	}
	w.skip(i, w.plan.Actions[i].Address)
	w.failures++
	if w.opts.MaxFailures > 0 && w.failures >= w.opts.MaxFailures {
		w.stop()
	}
}

// skip marks everything that needs the node, directly or not.
func (w *walk) skip(node int, because string) {
	for _, next := range w.dependents[node] {
		next := int(next)
		if next < len(w.plan.Actions) {
			if w.summary.Outcomes[next] != NotStarted {
				continue
			}
			w.summary.Outcomes[next] = SkippedOutcome
			w.emit(Event{Type: Skipped, Action: next, Because: because})
		} else if w.waiting[next] < 0 {
			continue // a barrier that was skipped already
		} else {
			w.waiting[next] = -1 << 30
		}
		w.skip(next, because)
	}
}

// journalFailed ends the run: an effect that can not be recorded must not
// happen. The caller holds mu.
func (w *walk) journalFailed(err error) {
	if w.summary.JournalErr == nil {
		w.summary.JournalErr = err
	}
	w.stop()
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

// readyQueue orders the actions that may start: deletes last, then the most
// bytes first, so that long transfers do not form the tail and blobs that
// others mount move early, then the plan's order.
type readyQueue struct {
	plan  *planner.Plan
	items []int
}

func (q *readyQueue) Len() int      { return len(q.items) }
func (q *readyQueue) Swap(i, j int) { q.items[i], q.items[j] = q.items[j], q.items[i] }
func (q *readyQueue) Push(x any)    { q.items = append(q.items, x.(int)) }

func (q *readyQueue) Less(i, j int) bool {
	a, b := &q.plan.Actions[q.items[i]], &q.plan.Actions[q.items[j]]
	if (a.Verb == planner.Delete) != (b.Verb == planner.Delete) {
		return b.Verb == planner.Delete
	}
	if a.Bytes != b.Bytes {
		return a.Bytes > b.Bytes
	}
	return q.items[i] < q.items[j]
}

func (q *readyQueue) Pop() any {
	last := q.items[len(q.items)-1]
	q.items = q.items[:len(q.items)-1]
	return last
}
