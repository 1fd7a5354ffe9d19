package main

import (
	"fmt"
	"io"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"freightliner/executor"
	"freightliner/planner"
)

// mostBars is how many transfers are drawn at once, so that the drawing fits on
// any terminal; the overall bar counts all of them.
const mostBars = 8

// barWidth is how many columns a bar takes; what it is about stands behind it.
const barWidth = 24

// bars draw an apply on a terminal: one bar per running transfer, one for all.
type bars struct {
	progress *mpb.Progress
	tally    *tally

	mu      sync.Mutex
	all     *mpb.Bar
	running map[int]*mpb.Bar
	stopped bool
}

func newBars(w io.Writer, t *tally) *bars {
	b := &bars{progress: mpb.New(mpb.WithOutput(w), mpb.WithAutoRefresh()), tally: t, running: map[int]*mpb.Bar{}}
	b.all = b.progress.AddBar(int64(max(t.total, 1)),
		mpb.BarWidth(barWidth),
		mpb.BarPriority(1<<30),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + progressLine(t.progress()) })))
	return b
}

func (b *bars) event(e executor.Event, a *planner.Action) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return
	}
	bar := b.running[e.Action]
	switch e.Type {
	case executor.Started:
		if isTransfer(a) && len(b.running) < mostBars {
			b.running[e.Action] = b.progress.AddBar(a.Bytes,
				mpb.BarRemoveOnComplete(), mpb.BarWidth(barWidth),
				mpb.AppendDecorators(decor.Any(func(s decor.Statistics) string {
					return fmt.Sprintf(" %s  %s of %s", clean(a.Address), size(s.Current), size(a.Bytes))
				})))
		}
	case executor.Moved:
		if bar != nil {
			// A retried transfer moves more than was planned; the bar stays full.
			bar.SetCurrent(min(bar.Current()+e.Bytes, a.Bytes-1))
		}
	case executor.Finished, executor.Failed, executor.Skipped:
		if bar != nil {
			bar.Abort(true)
			delete(b.running, e.Action)
		}
		p := b.tally.progress()
		b.all.SetCurrent(min(int64(p.Done+p.Failed+p.Skipped), int64(max(b.tally.total, 1))-1))
	}
}

// println writes a line above the bars.
func (b *bars) println(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.stopped {
		fmt.Fprintln(b.progress, line)
	}
}

// stop removes the bars; what they said last is said by the summary.
func (b *bars) stop() {
	b.mu.Lock()
	b.stopped = true
	for _, bar := range b.running {
		bar.Abort(true)
	}
	b.all.Abort(true)
	b.mu.Unlock()
	b.progress.Wait()
}
