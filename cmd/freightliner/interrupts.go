package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// How long things may take after a signal. CI systems send a second signal or
// kill after 5 to 10 seconds, so all must be over before.
const (
	parkTime  = 4 * time.Second         // after the first signal: work under way may finish
	leaveTime = 4800 * time.Millisecond // then the process ends, compacted or not
	hardTime  = 800 * time.Millisecond  // after the second signal
)

// wallClock is the machine's time.
type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

func (wallClock) Wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// interrupts turns signals into an orderly end. The first closes Stop: no work
// starts any more; four seconds later the context ends as well. The second ends
// the context at once. After each a last moment is set, when the process ends
// whatever it does: the journal is valid at every instant, so that costs a
// compaction and never a record.
type interrupts struct {
	ctx  context.Context
	stop chan struct{}

	first, second atomic.Bool
	end           func()
}

// watchSignals starts watching. say tells the person what the signal does; the
// caller calls end when the work is over.
func (p *program) watchSignals(parent context.Context, say func(string)) *interrupts {
	ctx, cancel := context.WithCancel(parent)
	i := &interrupts{ctx: ctx, stop: make(chan struct{})}
	over, overNow := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	after := func(d time.Duration, do func()) {
		watching.Go(func() {
			if p.clock.Wait(over, d) == nil {
				do()
			}
		})
	}
	watching.Go(func() {
		for n := 1; ; n++ {
			select {
			case <-over.Done():
				return
			case <-p.signals:
			}
			switch n {
			case 1:
				i.first.Store(true)
				close(i.stop)
				say(fmt.Sprintf("Interrupt received. Finishing what is under way, for at most %s; interrupt again to stop at once.", span(parkTime)))
				after(parkTime, cancel)
				after(leaveTime, func() { p.exitNow(exitInterrupted) })
			case 2:
				i.second.Store(true)
				cancel()
				say("Stopping at once.")
				after(hardTime, func() { p.exitNow(exitInterrupted) })
			}
		}
	})
	i.end = func() {
		overNow()
		cancel()
		watching.Wait()
	}
	return i
}

// cancelOnSignal is for work that changes nothing: the first signal ends it.
func (p *program) cancelOnSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for n := 1; ; n++ {
			select {
			case <-over:
				return
			case <-p.signals:
			}
			cancel()
			if n == 2 {
				p.exitNow(exitInterrupted)
			}
		}
	})
	return ctx, func() {
		close(over)
		cancel()
		watching.Wait()
	}
}

// errInterrupted ends a command that a signal cut short before it changed
// anything.
var errInterrupted = &exit{exitInterrupted, fmt.Errorf("interrupted; nothing was changed")}
