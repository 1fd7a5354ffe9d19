package main

import (
	"bufio"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"freightliner/config"
	"freightliner/statefile"
)

func (p *program) showCommand() *cobra.Command {
	var vars variableFlags
	var state string
	var asJSON, markdown, full bool
	cmd := &cobra.Command{
		Use:   "show [FILE]",
		Short: "Show a saved plan, or the state",
		Args:  atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if asJSON && markdown {
				return &usageError{cmd, "-json and -markdown exclude each other", ""}
			}
			if len(args) == 1 {
				for _, name := range []string{"state", "var", "var-file"} {
					if cmd.Flags().Changed(name) {
						return &usageError{cmd, "-" + name + " is for showing the state, and " + quoted(args[0]) + " is a plan", ""}
					}
				}
				return p.showPlanFile(args[0], asJSON, markdown, full)
			}
			values, err := vars.variables(cmd, p.env)
			if err != nil {
				return err
			}
			loaded, name, err := p.findState(state, values)
			if err != nil {
				return err
			}
			return p.showState(loaded, name, asJSON, markdown, full)
		},
	}
	vars.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&state, "state", "", "the state file is `FILE`, whatever the configuration says")
	flags.BoolVar(&asJSON, "json", false, "print as JSON (docs/plan-json.md)")
	flags.BoolVar(&markdown, "markdown", false, "print as Markdown")
	flags.BoolVar(&full, "full", false, "list everything, however much")
	return cmd
}

func (p *program) showPlanFile(name string, asJSON, markdown, full bool) error {
	plan, err := loadPlan(name)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(p.stdout)
	defer out.Flush()
	switch {
	case asJSON:
		return writePlanJSON(out, plan)
	case markdown:
		budget := commentBudget
		if full {
			budget = int(^uint(0) >> 1)
		}
		return planMarkdown{title: "plan", target: p.global.chdir, budget: budget}.write(out, arrange(plan))
	}
	diagnosticText{p.stderr, p.colour(p.terminal.stderr)}.write(problemDiagnostics(plan, nil))
	planText{out, p.colour(p.terminal.stdout), full}.write(arrange(plan))
	fmt.Fprintf(out, "\nPlan %s\n", plan.ID())
	return nil
}

// findState reads the state that the flag or the configuration names. Where
// there is no configuration at all, the default name is as good as any.
func (p *program) findState(flag string, vars config.Variables) (*statefile.State, string, error) {
	if flag != "" {
		return stateOf(flag, nil)
	}
	name, err := configured()
	switch {
	case err != nil:
		return nil, "", err
	case name == "":
		return stateOf("", nil)
	}
	s := &session{program: p, out: p.stdout}
	cfg, err := s.loadConfig(vars)
	if err != nil {
		return nil, "", err
	}
	return stateOf(flag, cfg)
}

func (p *program) showState(state *statefile.State, name string, asJSON, markdown, full bool) error {
	if !state.Exists() {
		if asJSON {
			return writeStateJSON(p.stdout, state)
		}
		fmt.Fprintf(p.stdout, "There is no state yet: %s does not exist.\n", clean(name))
		return nil
	}
	out := bufio.NewWriter(p.stdout)
	defer out.Flush()
	switch {
	case asJSON:
		return writeStateJSON(out, state)
	case markdown:
		stateMarkdown(out, state, name)
		return nil
	}
	stateText(out, state, name, full)
	return nil
}

// stateBlock counts what the state holds of one block.
type stateBlock struct {
	record    statefile.Record
	repos     int
	tags      int
	referrers int
}

func stateBlocks(state *statefile.State) []stateBlock {
	var blocks []stateBlock
	for r := range state.All() {
		if r.Kind == statefile.KindTree || r.Kind == statefile.KindImage || len(blocks) == 0 {
			blocks = append(blocks, stateBlock{record: r})
			if r.Kind == statefile.KindImage {
				blocks[len(blocks)-1].tags++
			}
			continue
		}
		last := &blocks[len(blocks)-1]
		switch r.Kind {
		case statefile.KindRepo:
			last.repos++
		case statefile.KindTag:
			last.tags++
		case statefile.KindReferrers:
			last.referrers++
		}
	}
	return blocks
}

func (b *stateBlock) phrase() string {
	text := plural(b.tags, "tag")
	if b.repos > 0 {
		text = plural(b.repos, "repository") + ", " + text
	}
	if b.referrers > 0 {
		text += ", referrers of " + plural(b.referrers, "subject")
	}
	return text
}

func stateText(w io.Writer, state *statefile.State, name string, full bool) {
	for _, b := range stateBlocks(state) {
		fmt.Fprintf(w, "%s -> %s: %s%s\n", clean(b.record.Address), clean(b.record.Destination), b.phrase(), rulesOf(&b.record))
	}
	if full {
		fmt.Fprintln(w)
		for r := range state.All() {
			fmt.Fprintf(w, "%s  %s\n", clean(r.Address), r.Digest.Short())
		}
	}
	fmt.Fprintf(w, "\n%s in %s, %s\n", plural(state.Len(), "record"), clean(name), state.ID())
	if run, cut := state.Interrupted(); cut {
		fmt.Fprintf(w, "The last run (by %s) was cut off; \"freightliner apply\" resumes it.\n", clean(run.By))
	}
}

func rulesOf(r *statefile.Record) string {
	text := ""
	if r.Protect {
		text += ", prevent_destroy"
	}
	if r.OnRemove == "delete" {
		text += ", deleted when removed"
	}
	return text
}

func stateMarkdown(w io.Writer, state *statefile.State, name string) {
	fmt.Fprintf(w, "### freightliner state · %s\n\n", plural(state.Len(), "record"))
	for _, b := range stateBlocks(state) {
		fmt.Fprintf(w, "- %s to %s: %s%s\n", code(b.record.Address), code(b.record.Destination), b.phrase(), rulesOf(&b.record))
	}
	fmt.Fprintf(w, "\nState %s in %s\n", code(string(state.ID())), code(name))
}
