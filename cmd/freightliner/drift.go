package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"freightliner/config"
	"freightliner/planner"
)

func (p *program) driftCommand() *cobra.Command {
	var f planFlags
	var markdown string
	cmd := &cobra.Command{
		Use:   "drift",
		Short: "Say what was changed behind our back; never writes",
		Long: `Looks at the registries and separates three things: drift (somebody changed the
destination), what your configuration still waits to do, and what moved upstream.
Exits 2 when there is drift, whatever the other two are. It changes nothing.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			vars, _, err := f.check(cmd, p.env)
			if err != nil {
				return err
			}
			if markdown == "-" && f.json {
				return &usageError{cmd, "-markdown=- and -json both want standard output", ""}
			}
			s, err := p.startSession("drift", f.json, f.jsonInto)
			if err != nil {
				return err
			}
			if markdown == "-" {
				s.out = io.Discard
			}
			return s.finish(s.drift(cmd.Context(), f, vars, markdown), plainSummary)
		},
	}
	f.variableFlags.add(cmd)
	f.addOutput(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.state, "state", "", "the state file is `FILE`, whatever the configuration says")
	flags.StringArrayVar(&f.targets, "target", nil, "only addresses that match `GLOB`; may be repeated")
	flags.StringArrayVar(&f.exclude, "exclude", nil, "no addresses that match `GLOB`; may be repeated")
	flags.StringVar(&markdown, "markdown", "", "write the result as Markdown to `FILE`; - is standard output")
	return cmd
}

func (s *session) drift(parent context.Context, f planFlags, vars config.Variables, markdown string) error {
	ctx, end := s.cancelOnSignal(parent)
	defer end()
	cfg, state, err := s.configAndState(vars, f.state)
	if err != nil {
		return err
	}
	client, err := s.newClient(cfg.Registries)
	if err != nil {
		return err
	}
	defer client.Close()
	plan, err := s.makePlan(ctx, planner.Input{Config: cfg, State: state, Client: client, Targets: f.targets, Exclude: f.exclude})
	if err != nil {
		return err
	}
	s.eachStream(func(e *eventStream) { e.drift(plan, cfg.Sources) })
	if !s.json {
		// A guard holds back an apply; nothing is applied here, so it is no failure.
		diagnosticText{s.stderr, s.colour(s.terminal.stderr)}.write(problemDiagnostics(plan, cfg.Sources))
	}
	driftText{planText{w: s.out, p: s.colour(s.terminal.stdout)}}.write(plan)
	if markdown != "" {
		if err := s.writeMarkdown(markdown, "drift", plan); err != nil {
			return err
		}
	}
	return s.endSecrets(driftExit(plan))
}

// driftExit is 2 for drift and nothing else, so that an alarm means something;
// what could not be looked at may hide drift, so it is told by 3.
func driftExit(plan *planner.Plan) error {
	totals := plan.Totals()
	switch {
	case unobservable(plan, totals):
		return &exit{code: exitError}
	case sum(totals.Counts[planner.ByDrift])+stuckDrift(plan) > 0:
		return &exit{code: exitChanges}
	case totals.Failed > 0:
		return &exit{code: exitPartial}
	}
	return nil
}

// stuckDrift counts what drifted and is left alone: an alarm means that too.
func stuckDrift(plan *planner.Plan) int {
	n := 0
	for i := range plan.Problems {
		if plan.Problems[i].Drift {
			n++
		}
	}
	return n
}

func sum(verbs map[planner.Verb]int) int {
	n := 0
	for _, v := range verbs {
		n += v
	}
	return n
}

// driftText tells the three questions apart. Drift comes in full; the rest is
// for plan to list, so here it is only counted.
type driftText struct{ planText }

func (v driftText) write(p *planner.Plan) {
	totals := p.Totals()
	v.drifted(p, sum(totals.Counts[planner.ByDrift]))
	v.counted(p, planner.ByConfig, "Waiting in your configuration", totals)
	v.counted(p, planner.ByUpstream, "Moved upstream", totals)
	if sum(totals.Counts[planner.ByConfig])+sum(totals.Counts[planner.ByUpstream]) > 0 {
		fmt.Fprintln(v.w, "\n\"freightliner plan\" lists these.")
	}
	fmt.Fprintf(v.w, "\n%s.\n", asTheyShouldBe(totals))
	if totals.Failed > 0 {
		fmt.Fprintf(v.w, "%s could not be looked at; there may be drift in them.\n", plural(totals.Failed, "part"))
	}
}

func (v driftText) drifted(p *planner.Plan, n int) {
	if stuck := stuckDrift(p); n == 0 && stuck > 0 {
		fmt.Fprintf(v.w, "%s %s left alone, for the reasons given.\n", v.p.paint(bold, "Drift that apply would not put right:"), isAre(stuck, "secret"))
		return
	}
	if blocked := p.Totals().Blocked; n == 0 && blocked > 0 {
		fmt.Fprintf(v.w, "%s %s left alone, for the reasons given.\n", v.p.paint(bold, "No drift that apply would put right."), isAre(blocked, "thing"))
		return
	}
	if n == 0 {
		fmt.Fprintln(v.w, v.p.paint(bold, "No drift.")+" Nobody changed the destinations behind our back.")
		return
	}
	fmt.Fprintln(v.w, v.p.paint(bold, "Drift:")+" "+plural(n, "thing")+" changed at the destinations, not by freightliner.")
	fmt.Fprintln(v.w)
	var verbs []planner.Verb
	var rows [][]string
	for i := range p.Actions {
		a := &p.Actions[i]
		if a.Cause == planner.ByDrift && counted(a) {
			verbs = append(verbs, a.Verb)
			rows = append(rows, []string{clean(destination(a)), movement(a), clean(a.Reason) + "; apply would " + string(a.Verb)})
		}
	}
	v.mixedRows(verbs, "  ", rows)
}

func (v driftText) counted(p *planner.Plan, cause planner.Cause, title string, totals planner.Totals) {
	if sum(totals.Counts[cause]) == 0 {
		return
	}
	fmt.Fprintf(v.w, "\n%s %s\n", v.p.paint(bold, title+":"), verbPhrase(totals.Counts[cause]))
	blocks := make([]tallied, len(p.Blocks))
	for i := range p.Actions {
		if a := &p.Actions[i]; a.Cause == cause && counted(a) {
			blocks[a.Block].add(a)
		}
	}
	for i := range blocks {
		if blocks[i].verbs != nil {
			fmt.Fprintf(v.w, "  %s: %s\n", clean(p.Blocks[i].Address), blocks[i].phrase())
		}
	}
}
