package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"freightliner/executor"
	"freightliner/planner"
	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/statefile"
)

// quiet is the longest time without a word when nobody watches a terminal: CI
// systems kill a silent job, and people worry long before.
const quiet = 10 * time.Second

// ticker gives a channel that ticks, and the way to stop it; tests hand in
// their own.
type ticker func(time.Duration) (<-chan time.Time, func())

func wallTicker(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTicker(d)
	return t.C, t.Stop
}

// tally counts what an apply does, out of the executor's events, which come
// from many goroutines. Every view of progress reads the same tally.
type tally struct {
	plan   *planner.Plan
	total  int   // actions that count
	toMove int64 // bytes planned
	now    func() time.Time
	began  time.Time

	mu       sync.Mutex
	snapshot progressEvent
	running  map[int]*transfer
	because  map[int]string // why actions were skipped
}

// transfer is one action under way.
type transfer struct {
	began          time.Time
	bytes, present int64
}

func newTally(p *planner.Plan, now func() time.Time) *tally {
	t := &tally{plan: p, now: now, began: now(), running: map[int]*transfer{}, because: map[int]string{}}
	totals := p.Totals()
	for _, n := range totals.Verbs {
		t.total += n
	}
	t.toMove = totals.Bytes
	return t
}

// add counts e and gives the transfer it belongs to as it is now.
func (t *tally) add(e executor.Event) transfer {
	t.mu.Lock()
	defer t.mu.Unlock()
	tr := t.running[e.Action]
	if tr == nil {
		tr = &transfer{began: t.now()}
	}
	n := 1
	if !counted(&t.plan.Actions[e.Action]) {
		n = 0
	}
	switch e.Type {
	case executor.Started:
		t.running[e.Action] = tr
	case executor.Moved:
		tr.bytes += e.Bytes
		tr.present += e.Present
		t.snapshot.Bytes += e.Bytes
		t.snapshot.Present += e.Present
	case executor.Finished:
		t.snapshot.Done += n
		delete(t.running, e.Action)
	case executor.Failed:
		t.snapshot.Failed += n
		delete(t.running, e.Action)
	case executor.Skipped:
		t.snapshot.Skipped += n
		t.because[e.Action] = e.Because
	case executor.Retrying:
		t.snapshot.Retries++
	}
	return *tr
}

// reasons are why actions were skipped, by action; asked for when all is over.
func (t *tally) reasons() map[int]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.because
}

// progress is how far things are at this moment.
func (t *tally) progress() progressEvent {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.snapshot
	p.Total, p.ToMove, p.Running = t.total, t.toMove, len(t.running)
	elapsed := t.now().Sub(t.began)
	p.Elapsed = elapsed.Seconds()
	if elapsed > 0 {
		p.Rate = float64(p.Bytes) / elapsed.Seconds()
	}
	return p
}

// progressLine is "applied 120 of 1,000, 1 failed; 1.2 GB of 4.1 GB moved, 12.0 MB/s, about 3m05s left".
func progressLine(p progressEvent) string {
	line := fmt.Sprintf("applied %s of %s", count(p.Done), count(p.Total))
	if p.Failed > 0 {
		line += ", " + count(p.Failed) + " failed"
	}
	if p.Skipped > 0 {
		line += ", " + count(p.Skipped) + " skipped"
	}
	if p.ToMove > 0 {
		line += fmt.Sprintf("; %s of %s moved", size(p.Bytes), size(p.ToMove))
	}
	if p.Bytes > 0 && p.Rate > 0 {
		line += ", " + size(int64(p.Rate)) + "/s"
	}
	if left := remaining(p); left > 0 {
		line += ", about " + span(left) + " left"
	}
	return line
}

// remaining guesses from the bytes while there are some to move, else from the
// actions; 0 when there is nothing to guess from.
func remaining(p progressEvent) time.Duration {
	switch {
	case p.Bytes > 0 && p.ToMove > p.Bytes:
		return time.Duration(p.Elapsed * float64(p.ToMove-p.Bytes) / float64(p.Bytes) * float64(time.Second))
	case p.ToMove == 0 && p.Done > 0 && p.Total > p.Done:
		return time.Duration(p.Elapsed * float64(p.Total-p.Done) / float64(p.Done) * float64(time.Second))
	}
	return 0
}

func observedLine(o planner.Observed) string {
	line := fmt.Sprintf("observing: %s, %s, %s", plural(o.Repositories, "repository"), plural(o.Tags, "tag"), plural(o.Manifests, "manifest"))
	if o.Secrets > 0 {
		line += ", " + plural(o.Secrets, "secret")
	}
	if o.Failed > 0 {
		line += ", " + count(o.Failed) + " failed"
	}
	return line
}

// every calls say at each tick until the returned function is called, which
// waits for the last call to end.
func every(tick ticker, d time.Duration, say func()) (stop func()) {
	ticks, stopTicks := tick(d)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-ticks:
				say()
			}
		}
	}()
	return func() {
		stopTicks()
		close(done)
		<-ended
	}
}

// observation tells how far observing has come: in place on a terminal, as a
// line every ten seconds elsewhere, as events in a stream.
type observation struct {
	mu   sync.Mutex
	last planner.Observed
	seen bool
}

func (o *observation) report(now planner.Observed) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last, o.seen = now, true
}

func (o *observation) get() (planner.Observed, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last, o.seen
}

// watchObserving starts the telling and returns what the planner reports to and
// the end of it.
func (s *session) watchObserving() (report func(planner.Observed), stop func()) {
	o := &observation{}
	say, period := func(now planner.Observed) { fmt.Fprintln(s.out, observedLine(now)) }, quiet
	last := func() {}
	switch {
	case s.json:
		say = func(planner.Observed) {}
	case s.terminal.stdout:
		say, period = func(now planner.Observed) { fmt.Fprintf(s.out, "\r\x1b[K%s", observedLine(now)) }, 100*time.Millisecond
		last = func() { fmt.Fprint(s.out, "\r\x1b[K") }
	}
	stopLines := every(s.tick, period, func() {
		if now, ok := o.get(); ok {
			say(now)
		}
	})
	stopEvents := func() {}
	if len(s.streams) > 0 {
		told := planner.Observed{}
		tell := func() {
			if now, ok := o.get(); ok && now != told {
				told = now
				s.eachStream(func(e *eventStream) { e.observed(now) })
			}
		}
		stopTicks := every(s.tick, time.Second, tell)
		stopEvents = func() { stopTicks(); tell() }
	}
	return o.report, func() { stopLines(); stopEvents(); last() }
}

// applyWatch tells an apply as it goes: the tally behind it, the lines or bars
// before it, the streams beside it.
type applyWatch struct {
	*tally
	s     *session
	p     *planner.Plan
	bars  *bars // nil without a terminal
	stops []func()
}

func (s *session) watchApply(p *planner.Plan) *applyWatch {
	w := &applyWatch{tally: newTally(p, s.clock.Now), s: s, p: p}
	switch {
	case s.json:
	case s.terminal.stdout:
		// The terminal itself, since its width is asked for. All other words go
		// through the bars while they are drawn.
		w.bars = newBars(s.stdout.w, w.tally)
		w.stops = append(w.stops, w.bars.stop)
	default:
		w.stops = append(w.stops, every(s.tick, quiet, func() { fmt.Fprintln(s.out, progressLine(w.progress())) }))
	}
	if len(s.streams) > 0 {
		w.stops = append(w.stops, every(s.tick, time.Second, w.sendProgress))
	}
	return w
}

func (w *applyWatch) sendProgress() {
	p := w.progress()
	p.Registries = w.s.wireProgress()
	w.s.eachStream(func(e *eventStream) { e.send(event{Type: typeProgress, Message: progressLine(p), Progress: &p}) })
}

// stop ends the telling; the last progress event carries the final numbers.
func (w *applyWatch) stop() {
	for _, stop := range w.stops {
		stop()
	}
	w.sendProgress()
}

// event receives what the executor tells.
func (w *applyWatch) event(e executor.Event) {
	tr := w.add(e)
	a := &w.p.Actions[e.Action]
	if w.bars != nil {
		w.bars.event(e, a)
	}
	switch e.Type {
	case executor.Failed:
		w.say(fmt.Sprintf("%s: %s failed: %s", clean(a.Address), a.Verb, clean(e.Err.Error())))
	case executor.Finished:
		if e.Note != "" {
			w.say(clean(a.Address) + ": " + clean(e.Note))
		}
	case executor.Retrying:
		w.s.log.Info("retrying", "address", a.Address, "wait", e.Wait, "attempt", e.Attempt, "error", e.Err)
	}
	if len(w.s.streams) > 0 {
		w.send(e, a, tr)
	}
}

// say prints one line at once, above the bars if there are any.
func (w *applyWatch) say(line string) {
	switch {
	case w.bars != nil:
		w.bars.println(line)
	case !w.s.json:
		fmt.Fprintln(w.s.out, line)
	}
}

func (w *applyWatch) send(e executor.Event, a *planner.Action, tr transfer) {
	out := event{Action: &actionEvent{Address: a.Address, Action: a.Verb}}
	if a.Secret != nil || a.To != (providers.Repository{}) {
		out.Action.Destination = destination(a)
	}
	switch e.Type {
	case executor.Started:
		out.Type, out.Message = typeStart, a.Address+": "+string(a.Verb)+" started"
	case executor.Finished:
		elapsed := w.now().Sub(tr.began).Seconds()
		out.Type, out.Message = typeComplete, a.Address+": "+string(a.Verb)+" complete"
		out.Action.Elapsed, out.Action.Bytes, out.Action.Present = &elapsed, &tr.bytes, &tr.present
		out.Action.Already, out.Action.Note = e.Already, e.Note
	case executor.Failed:
		out.Level, out.Type, out.Message = "error", typeErrored, a.Address+": "+string(a.Verb)+" failed: "+e.Err.Error()
		out.Action.Outcome, out.Action.Class = "failed", providers.ClassOf(e.Err).String()
		out.Action.Error, out.Action.Hint = e.Err.Error(), hintOf(e.Err)
	case executor.Skipped:
		out.Level, out.Type, out.Message = "warn", typeErrored, a.Address+": skipped because "+e.Because+" failed"
		out.Action.Outcome, out.Action.Because = "skipped", e.Because
	default:
		return
	}
	w.s.eachStream(func(s *eventStream) { s.send(out) })
}

// lockedWriter lets progress and the main story share one output.
type lockedWriter struct {
	mu     sync.Mutex
	w      io.Writer
	filter *secret.Filter
	err    error // the first
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	if _, err := l.write(l.filter.Clean(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (l *lockedWriter) write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return len(p), nil
	}
	_, l.err = l.w.Write(p)
	return len(p), nil
}

// unfiltered is the same end without the last net, for the one thing that is
// meant to be a value.
func (l *lockedWriter) unfiltered() io.Writer { return plainWriter{l} }

type plainWriter struct{ *lockedWriter }

func (p plainWriter) Write(b []byte) (int, error) { return p.write(b) }

func (l *lockedWriter) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// isTransfer reports whether an action's bytes deserve a bar of their own.
func isTransfer(a *planner.Action) bool {
	return a.Bytes > 0 && (a.Kind == statefile.KindTag || a.Kind == statefile.KindImage || a.Kind == statefile.KindReferrers)
}
