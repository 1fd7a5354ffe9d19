package executor

import (
	"time"

	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/statefile"
)

// Journal is where effects are recorded. *statefile.Journal is one.
type Journal interface {
	// Done records what is true now; it returns when the record survives the
	// death of the process. An error is final: no further effect may start.
	Done(changes ...statefile.Change) error
	// Intent records durably what is about to be done and can not be repeated
	// blindly. On an error it must not be done.
	Intent(address, op, token string) error
	// Fail records that an action did not succeed.
	Fail(address string, class providers.Class) error
}

// EventType says what happened to an action.
type EventType uint8

const (
	Started  EventType = iota // an action begins
	Moved                     // bytes moved within a running action
	Finished                  // done: the effect is confirmed and recorded
	Failed                    // gave up; Err says why
	Skipped                   // not tried, since something it needs failed; Because names it
	Retrying                  // failed, to be tried again after Wait
)

// Event is one thing that happened. Events of one action come in order; events
// of different actions come from different goroutines, so a receiver locks.
type Event struct {
	Type    EventType
	Action  int // index into Plan.Actions
	At      time.Time
	Bytes   int64  // Moved: blob bytes since the last event
	Present int64  // Moved: blob bytes found there or mounted since the last event
	Already bool   // Finished: nothing had to be done
	Note    string // Finished: worth telling, such as "the source tag moved since the plan"
	Err     error  // Failed, Retrying
	Because string // Skipped: the address of what failed
	Wait    time.Duration
	Attempt int
}

// Outcome is how an action ended.
type Outcome uint8

const (
	NotStarted Outcome = iota // the run ended first
	Done
	FailedOutcome
	SkippedOutcome
	StaleOutcome // its preconditions no longer held; nothing was done
)

// Summary is the truthful end of a run. Actions on block records are counted
// only where they did not succeed.
type Summary struct {
	Outcomes []Outcome // by action
	Errors   []error   // by action; nil where there is none

	Done, Failed, Skipped, Stale, NotStarted int
	Already                                  int // of Done: nothing had to be done
	Bytes, Present                           int64
	Interrupted                              bool
	Duration                                 time.Duration
	JournalErr                               error // the state could not be written: final
}

// Options of one run. The zero value of a field means its default.
type Options struct {
	// Parallelism is how many actions are under way at once; default 16. Each pair
	// of registries has its share, also while another pair holds more than its
	// own, so there may be up to twice as many, or one for each pair.
	Parallelism int
	Retries     int // further tries of an action after transient or throttled failures; default 2, negative for none
	MaxFailures int // stop starting work after this many failures; 0 for no bound
	// Events is told what happens, from many goroutines. It must not wait for
	// the run: while it does not return, nothing else starts.
	Events func(Event)
	Clock  registry.Clock // nil for the machine's
	// Stop, when closed, ends the run softly: no action starts any more, those
	// under way may finish until the context ends.
	Stop <-chan struct{}
}
