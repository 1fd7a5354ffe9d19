package main

import (
	"fmt"
	"io"

	"freightliner/executor"
	"freightliner/planner"
	"freightliner/providers"
)

// listed is how many failures of one kind are told in full; the report has all.
const listed = 30

// conclusion is the truthful end of an apply: what was done, what was not and
// why, and what to do next.
type conclusion struct {
	w io.Writer
	p palette
	a *application
}

func (v conclusion) write() {
	sum := v.a.summary
	v.list("Failed", executor.FailedOutcome, red)
	v.list("Stale: no longer as the plan saw it, nothing was done", executor.StaleOutcome, yellow)
	v.skipped()
	title := "Apply complete!"
	if v.a.destroy {
		title = "Destroy complete!"
	}
	left := v.a.plan.Totals().Failed
	if sum.Failed+sum.Skipped+sum.Stale+sum.NotStarted+left > 0 {
		title = v.p.paint(yellow, "Apply incomplete.")
		if v.a.destroy {
			title = v.p.paint(yellow, "Destroy incomplete.")
		}
	} else {
		title = v.p.paint(green, title)
	}
	fmt.Fprintf(v.w, "%s %s done", v.p.paint(bold, title), count(sum.Done))
	if sum.Already > 0 {
		fmt.Fprintf(v.w, " (%s had nothing to do)", count(sum.Already))
	}
	for _, part := range []struct {
		n    int
		word string
	}{{sum.Failed, "failed"}, {sum.Stale, "stale"}, {sum.Skipped, "skipped"}, {sum.NotStarted, "not started"}} {
		if part.n > 0 {
			fmt.Fprintf(v.w, ", %s %s", count(part.n), part.word)
		}
	}
	fmt.Fprintf(v.w, "; %s moved, %s there already, in %s.\n", size(sum.Bytes), size(sum.Present), span(sum.Duration))
	v.wire()
	if left > 0 {
		fmt.Fprintf(v.w, "%s could not be observed when planning and was left out; see above.\n", plural(left, "part"))
	}
	v.next()
}

// wire tells what went over the wire, registry by registry.
func (v conclusion) wire() {
	lines, more := wireLines(v.a.counters())
	for _, line := range lines {
		fmt.Fprintf(v.w, "  %s\n", line)
	}
	if more > 0 {
		fmt.Fprintf(v.w, "  and %s more; -report=FILE lists all\n", count(more))
	}
}

// list tells the actions that ended in one way, with reasons and ways out.
func (v conclusion) list(title string, outcome executor.Outcome, c colour) {
	n := 0
	for i, got := range v.a.summary.Outcomes {
		if got != outcome {
			continue
		}
		if n == 0 {
			fmt.Fprintln(v.w, v.p.paint(c, title)+":")
		}
		if n++; n > listed {
			continue
		}
		a, err := &v.a.plan.Actions[i], v.a.summary.Errors[i]
		fmt.Fprintf(v.w, "  %s (%s)\n", clean(a.Address), a.Verb)
		if err != nil {
			fmt.Fprintf(v.w, "    because: %s\n", clean(err.Error()))
			if hint := hintOf(err); hint != "" {
				fmt.Fprintf(v.w, "    hint: %s\n", clean(hint))
			}
		}
	}
	v.more(n)
}

func (v conclusion) more(n int) {
	if n > listed {
		fmt.Fprintf(v.w, "  and %s more; -report=FILE lists all\n", count(n-listed))
	}
	if n > 0 {
		fmt.Fprintln(v.w)
	}
}

// skipped groups by what they were skipped for.
func (v conclusion) skipped() {
	if v.a.summary.Skipped == 0 {
		return
	}
	counts := map[string]int{}
	var order []string
	for i, got := range v.a.summary.Outcomes {
		if got != executor.SkippedOutcome {
			continue
		}
		because := v.a.because[i]
		if counts[because] == 0 {
			order = append(order, because)
		}
		counts[because]++
	}
	fmt.Fprintln(v.w, v.p.paint(yellow, "Skipped")+":")
	for n, because := range order {
		if n < listed {
			fmt.Fprintf(v.w, "  %s, because %s failed\n", plural(counts[because], "action"), clean(because))
		}
	}
	v.more(len(order))
}

// next says what to do now.
func (v conclusion) next() {
	sum := v.a.summary
	again := "freightliner " + v.a.command
	if v.a.file != "" {
		again += " " + v.a.file
	}
	switch {
	case sum.JournalErr != nil:
		fmt.Fprintln(v.w, "The state could not be written, so no more work was started.")
	case sum.Failed+sum.Skipped+sum.NotStarted > 0:
		fmt.Fprintf(v.w, "What is done is saved in the state. Run \"%s\" again to do the rest.\n", clean(again))
	case sum.Stale > 0:
		fmt.Fprintln(v.w, "What is done is saved in the state. Make a new plan for what is stale.")
	}
}

// report is the document of -report; docs/events.md describes it.
type report struct {
	Format     string                `json:"format_version"`
	Command    string                `json:"command"`
	Plan       providers.Digest      `json:"plan,omitempty"`
	Summary    summaryEvent          `json:"summary"`
	Planned    *jsonCounts           `json:"planned,omitempty"`
	Retries    int                   `json:"retries"`
	Rate       float64               `json:"bytes_per_second"`
	Failures   map[string]int        `json:"failures_by_class"`
	Registries map[string]wireReport `json:"registries"`
	Actions    []reportAction        `json:"actions"`
	Problems   []*jsonDiagnostic     `json:"problems"`
}

// reportAction is one action that did not end well.
type reportAction struct {
	Address string       `json:"address"`
	Action  planner.Verb `json:"action"`
	Outcome string       `json:"outcome"`
	Class   string       `json:"class,omitempty"`
	Error   string       `json:"error,omitempty"`
	Hint    string       `json:"hint,omitempty"`
	Because string       `json:"because,omitempty"`
}

func outcomeName(o executor.Outcome) string {
	return [...]string{"not_started", "done", "failed", "skipped", "stale"}[o]
}

// writeReport writes the report if it was asked for. A run that ended before
// anything was tried has one too, since a pipeline looks for the file.
func (a *application) writeReport(code int) error {
	if a.flags.report == "" {
		return nil
	}
	r := report{
		Format: "1.0", Command: a.command, Summary: summaryOf(a.summary, code), Retries: a.retries,
		Failures: map[string]int{}, Registries: a.wireReports(), Actions: []reportAction{}, Problems: []*jsonDiagnostic{},
	}
	if a.plan != nil {
		r.Plan, r.Planned = a.plan.ID(), countsOf(a.plan.Totals())
		for i := range a.plan.Problems {
			r.Problems = append(r.Problems, problemOf(&a.plan.Problems[i]))
		}
	}
	if a.summary != nil {
		if seconds := a.summary.Duration.Seconds(); seconds > 0 {
			r.Rate = float64(a.summary.Bytes) / seconds
		}
		for i, outcome := range a.summary.Outcomes {
			a.reportOne(&r, i, outcome)
		}
	}
	return a.saveReport(&r)
}

func (a *application) reportOne(r *report, i int, outcome executor.Outcome) {
	if outcome == executor.Done {
		return
	}
	action := &a.plan.Actions[i]
	one := reportAction{Address: action.Address, Action: action.Verb, Outcome: outcomeName(outcome), Because: a.because[i]}
	if err := a.summary.Errors[i]; err != nil {
		one.Error, one.Hint, one.Class = err.Error(), hintOf(err), providers.ClassOf(err).String()
	}
	if outcome == executor.FailedOutcome {
		r.Failures[one.Class]++
	}
	r.Actions = append(r.Actions, one)
}

func (a *application) saveReport(r *report) error {
	if a.flags.report == "-" {
		a.printJSON(r)
		return nil
	}
	return writeFile(a.flags.report, public, false, func(w io.Writer) error {
		w = a.filter.Writer(w)
		_, err := w.Write(indentedJSON(r))
		return err
	})
}
