package main

import (
	"bufio"
	"encoding/json"
	"io"
	"sync"
	"time"

	"freightliner/config"
	"freightliner/executor"
	"freightliner/planner"
	"freightliner/providers"
)

// eventSchema is the version of the event stream (docs/events.md). The minor
// number grows when types or members are added, the major when one changes.
const eventSchema = "1.1"

// The types of events.
const (
	typeVersion    = "version"
	typeDiagnostic = "diagnostic"
	typeObserve    = "observe_progress"
	typePlanned    = "planned_change"
	typeDrift      = "drift"
	typeCounts     = "change_summary"
	typeStart      = "apply_start"
	typeProgress   = "apply_progress"
	typeComplete   = "apply_complete"
	typeErrored    = "apply_errored"
	typeCheckpoint = "checkpoint"
	typeSummary    = "summary"
)

// event is one line of the stream, in Terraform's envelope. Exactly the member
// that belongs to its type is set.
type event struct {
	Level     string `json:"@level"`
	Message   string `json:"@message"`
	Module    string `json:"@module"`
	Timestamp string `json:"@timestamp"`
	Type      string `json:"type"`

	Version    *versionEvent    `json:"version,omitempty"`
	Diagnostic *jsonDiagnostic  `json:"diagnostic,omitempty"`
	Observed   *observedEvent   `json:"observed,omitempty"`
	Change     *jsonChange      `json:"change,omitempty"`
	Changes    *changesEvent    `json:"changes,omitempty"`
	Action     *actionEvent     `json:"action,omitempty"`
	Progress   *progressEvent   `json:"progress,omitempty"`
	Checkpoint *checkpointEvent `json:"checkpoint,omitempty"`
	Summary    *summaryEvent    `json:"summary,omitempty"`
}

type versionEvent struct {
	Freightliner string `json:"freightliner"`
	Schema       string `json:"schema"`
	Command      string `json:"command"`
}

type observedEvent struct {
	Repositories int `json:"repositories"`
	Tags         int `json:"tags"`
	Manifests    int `json:"manifests"`
	Secrets      int `json:"secrets"`
	Failed       int `json:"failed"`
}

type changesEvent struct {
	Plan     providers.Digest `json:"plan"`
	Complete bool             `json:"complete"`
	Refused  bool             `json:"refused"`
	*jsonCounts
}

// actionEvent is what apply_start, apply_complete and apply_errored tell of one
// action.
type actionEvent struct {
	Address     string       `json:"address"`
	Action      planner.Verb `json:"action"`
	Destination string       `json:"destination,omitempty"`
	Outcome     string       `json:"outcome,omitempty"`
	Elapsed     *float64     `json:"elapsed_seconds,omitempty"`
	Bytes       *int64       `json:"bytes,omitempty"`
	Present     *int64       `json:"present_bytes,omitempty"`
	Already     bool         `json:"already,omitempty"`
	Note        string       `json:"note,omitempty"`
	Class       string       `json:"class,omitempty"`
	Error       string       `json:"error,omitempty"`
	Hint        string       `json:"hint,omitempty"`
	Because     string       `json:"because,omitempty"`
}

type progressEvent struct {
	Total   int     `json:"total"`
	Done    int     `json:"done"`
	Failed  int     `json:"failed"`
	Skipped int     `json:"skipped"`
	Running int     `json:"running"`
	Retries int     `json:"retries"`
	Bytes   int64   `json:"bytes"`
	Present int64   `json:"present_bytes"`
	ToMove  int64   `json:"bytes_planned"`
	Rate    float64 `json:"bytes_per_second"`
	Elapsed float64 `json:"elapsed_seconds"`
	// Registries is set when it is sent: the lines that people see do without.
	Registries map[string]wireProgress `json:"registries"`
}

type checkpointEvent struct {
	State     string           `json:"state"`
	Records   int              `json:"records"`
	Bytes     int64            `json:"bytes"`
	Compacted bool             `json:"compacted"`
	ID        providers.Digest `json:"id,omitempty"`
}

type summaryEvent struct {
	Outcome    string  `json:"outcome"`
	ExitCode   int     `json:"exit_code"`
	Done       int     `json:"done"`
	Already    int     `json:"already"`
	Failed     int     `json:"failed"`
	Skipped    int     `json:"skipped"`
	Stale      int     `json:"stale"`
	NotStarted int     `json:"not_started"`
	Bytes      int64   `json:"bytes"`
	Present    int64   `json:"present_bytes"`
	Elapsed    float64 `json:"elapsed_seconds"`
	// Registries is nil in the report, which has them beside it.
	Registries map[string]wireReport `json:"registries,omitzero"`
}

// eventStream writes events, one object a line. It is safe for use by many
// goroutines; the first error of the writer is kept and ends the writing, since
// an apply must not die of a reader that went away.
type eventStream struct {
	mu  sync.Mutex
	w   *bufio.Writer
	now func() time.Time
	err error
}

func newEventStream(w io.Writer, now func() time.Time, version, command string) *eventStream {
	s := &eventStream{w: bufio.NewWriterSize(w, 64<<10), now: now}
	s.send(event{Type: typeVersion, Message: "freightliner " + version, Version: &versionEvent{version, eventSchema, command}})
	return s
}

// send writes e with the envelope filled in.
func (s *eventStream) send(e event) {
	e.Module = "freightliner.ui"
	e.Message = clean(e.Message)
	if e.Level == "" {
		e.Level = "info"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	e.Timestamp = s.now().UTC().Format("2006-01-02T15:04:05.000000Z07:00")
	line, err := json.Marshal(e)
	if err == nil {
		_, err = s.w.Write(append(ascii(line), '\n'))
	}
	if err == nil && e.Type != typePlanned && e.Type != typeDrift {
		err = s.w.Flush()
	}
	s.err = err
}

// finish flushes and gives the first error of all.
func (s *eventStream) finish() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = s.w.Flush()
	}
	return s.err
}

func (s *eventStream) diagnostics(diags config.Diagnostics) {
	for i := range diags {
		s.diagnostic(diagnosticOf(&diags[i]))
	}
}

func (s *eventStream) diagnostic(d *jsonDiagnostic) {
	level := "error"
	if d.Severity == "warning" {
		level = "warn"
	}
	s.send(event{Level: level, Type: typeDiagnostic, Message: d.Summary, Diagnostic: d})
}

func (s *eventStream) observed(o planner.Observed) {
	s.send(event{Type: typeObserve, Message: observedLine(o), Observed: (*observedEvent)(&o)})
}

// plan sends all that a plan says: what drifted, every change, every problem,
// the counts.
func (s *eventStream) plan(p *planner.Plan, sources map[string][]byte) {
	for i := range p.Problems {
		d := problemOf(&p.Problems[i])
		d.Excerpt = excerptOf(sources, p.Problems[i].Range)
		s.diagnostic(d)
	}
	for i := range p.Actions {
		if p.Actions[i].Cause == planner.ByDrift {
			s.change(typeDrift, p, &p.Actions[i])
		}
	}
	for i := range p.Actions {
		s.change(typePlanned, p, &p.Actions[i])
	}
	s.counts(p)
}

// drift sends what a drift run finds: drift as drift, all else as pending.
func (s *eventStream) drift(p *planner.Plan, sources map[string][]byte) {
	for i := range p.Problems {
		d := problemOf(&p.Problems[i])
		d.Excerpt = excerptOf(sources, p.Problems[i].Range)
		s.diagnostic(d)
	}
	for i := range p.Actions {
		a := &p.Actions[i]
		if a.Cause == planner.ByDrift {
			s.change(typeDrift, p, a)
			continue
		}
		s.change(typePlanned, p, a)
	}
	s.counts(p)
}

func (s *eventStream) change(kind string, p *planner.Plan, a *planner.Action) {
	message := a.Address + ": to " + verbWords[a.Verb]
	if kind == typeDrift {
		message = a.Address + ": drifted"
	}
	s.send(event{Type: kind, Message: message + " (" + string(a.Cause) + ": " + a.Reason + ")", Change: changeOf(p, a)})
}

func (s *eventStream) counts(p *planner.Plan) {
	t := p.Totals()
	message := "no changes"
	switch phrase := verbPhrase(t.Verbs); {
	case phrase != "":
		message = phrase
	case !p.Empty():
		message = "only rules of blocks to record"
	}
	s.send(event{Type: typeCounts, Message: message, Changes: &changesEvent{p.ID(), t.Failed == 0, p.Blocked(), countsOf(t)}})
}

func (s *eventStream) summary(sum summaryEvent) {
	level := "info"
	if sum.ExitCode != exitDone && sum.ExitCode != exitChanges {
		level = "error"
	}
	s.send(event{Level: level, Type: typeSummary, Message: sum.Outcome, Summary: &sum})
}

// outcomeWords name exit codes in the summary event and the report.
var outcomeWords = map[int]string{
	exitDone: "done", exitError: "error", exitChanges: "changes", exitPartial: "partial", exitStale: "stale",
	exitLocked: "locked", exitState: "state_damaged", exitRefused: "refused", exitInterrupted: "interrupted",
}

func summaryOf(sum *executor.Summary, code int) summaryEvent {
	e := summaryEvent{Outcome: outcomeWords[code], ExitCode: code}
	if sum == nil {
		return e
	}
	e.Done, e.Already, e.Failed, e.Skipped = sum.Done, sum.Already, sum.Failed, sum.Skipped
	e.Stale, e.NotStarted = sum.Stale, sum.NotStarted
	e.Bytes, e.Present, e.Elapsed = sum.Bytes, sum.Present, sum.Duration.Seconds()
	return e
}
