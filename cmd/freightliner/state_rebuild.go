package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"freightliner/config"
	"freightliner/planner"
	"freightliner/statefile"
)

func (p *program) stateRebuild() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use:   "rebuild",
		Short: "Recreate the state from the configuration and the registries",
		Long: `Recreates a lost or hopeless state: what the configuration names and the
destination has exactly as the source does is recorded, and nothing else. What
differs, and what left the source, is listed and not taken over; the next plan
shows it. Asks when there is a state, and keeps its lineage if it can be read.
The registries are only looked at.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.lockTimeout < 0 {
				return f.check(cmd)
			}
			cfg, err := f.config(p, cmd)
			if err != nil {
				return err
			}
			return f.hold(p, cmd, stateName(f.state, cfg), func(h *heldState) error {
				if h.was != "" { // only then there is something to ask about
					if err := f.check(cmd); err != nil {
						return err
					}
				}
				return h.endSecrets(h.rebuild(cfg, &f))
			})
		},
	}
	f.addDryRun(cmd)
	f.addAutoApprove(cmd)
	return f.add(cmd)
}

// rebuilding is what a rebuild found.
type rebuilding struct {
	plan    *planner.Plan
	state   *statefile.State
	left    []int              // actions whose destination is not as the configuration says
	lost    []statefile.Record // of the old state, and not found again
	lineage bool               // the old state's
}

func (h *heldState) rebuild(cfg *config.Config, f *changeFlags) error {
	if f.json {
		h.out = io.Discard
	}
	old, err := h.oldState()
	if err != nil {
		return err
	}
	r, err := h.lookAround(cfg, old)
	if err != nil {
		return err
	}
	h.tellRebuilt(r)
	if h.was != "" && !f.dryRun && !f.autoApprove {
		if err := h.confirm("Do you want to replace the state by this?"); err != nil {
			return err
		}
	}
	backup := ""
	if h.lock != nil {
		if h.was != "" {
			if backup, err = h.keepOld("replaced"); err != nil {
				return err
			}
		}
		if err := h.replace(r.state); err != nil {
			return err
		}
	}
	if f.json {
		return h.rebuiltJSON(r, backup)
	}
	if h.lock == nil {
		fmt.Fprintln(h.out, "\nNothing was changed.")
		return nil
	}
	fmt.Fprintf(h.out, "\nRebuilt %s: %s, %s\n", clean(h.place.name), plural(r.state.Len(), "record"), r.state.ID())
	if backup != "" {
		fmt.Fprintf(h.out, "The old file is kept as %s.\n", clean(backup))
	}
	return nil
}

// oldState is what can be known of the state that is there: all of it, or what
// repair saves; nil when there is none. A newer release's is left to that.
func (h *heldState) oldState() (*statefile.State, error) {
	old, err := h.read()
	switch {
	case err == nil && !old.Exists():
		return nil, nil
	case errors.Is(err, statefile.ErrDamaged):
		old, _, err = statefile.Repair(h.place.fsys, h.place.path, nil)
	}
	return old, err
}

// lookAround plans against a state without records and records what a plan would
// adopt: content at the destination that is what the source has.
//
// Why this can not claim what is not ours to delete: prune deletes only tags that
// left the source, and what is recorded here is at the source with this digest.
// A listing that is not complete is refused, since a record would be missing
// without a word.
func (h *heldState) lookAround(cfg *config.Config, old *statefile.State) (*rebuilding, error) {
	r := &rebuilding{}
	lineage := ""
	if old != nil {
		lineage, r.lineage = old.Lineage(), true
	}
	nothing, err := statefile.Build(lineage, func(func(statefile.Record) bool) {}, nil)
	if err != nil {
		return nil, err
	}
	client, err := h.newClient(cfg.Registries)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if r.plan, err = h.makePlan(h.ctx, planner.Input{Config: cfg, State: nothing, Client: client}); err != nil {
		return nil, err
	}
	diagnosticText{h.stderr, h.colour(h.terminal.stderr)}.write(problemDiagnostics(r.plan, cfg.Sources))
	switch {
	case r.plan.Blocked():
		return nil, &exit{exitRefused, errors.New("the configuration is refused by a guard, and nothing was changed")}
	case r.plan.Totals().Failed > 0:
		return nil, hinted(fmt.Errorf("%s could not be looked at, and nothing was changed", plural(r.plan.Totals().Failed, "part")),
			"A rebuilt state without them would have forgotten them. Make them readable, and run it again.")
	}
	r.state, err = statefile.Build(nothing.Lineage(), r.records, nil)
	if err == nil && old != nil {
		for d := range statefile.Diff(old, r.state) {
			if d.New == nil {
				r.lost = append(r.lost, *d.Old)
			}
		}
	}
	return r, err
}

// records are those of blocks and of all that is at the destination as it should be.
func (r *rebuilding) records(yield func(statefile.Record) bool) {
	for i := range r.plan.Actions {
		a := &r.plan.Actions[i]
		if a.Kind != statefile.KindTree && a.Verb != planner.Adopt {
			r.left = append(r.left, i)
			continue
		}
		if !yield(r.plan.Change(i).Record) {
			return
		}
	}
}

func (h *heldState) tellRebuilt(r *rebuilding) {
	fmt.Fprintf(h.out, "Found %s to record.\n", plural(r.state.Len(), "record"))
	if len(r.left) > 0 {
		fmt.Fprintf(h.out, "\nNot taken over, since the destination is not as the configuration says:\n")
	}
	for n, i := range r.left {
		if n == manyRecords {
			fmt.Fprintf(h.out, "  and %s more; \"freightliner plan\" lists them\n", count(len(r.left)-n))
			break
		}
		a := &r.plan.Actions[i]
		fmt.Fprintf(h.out, "  %s: apply would %s\n", clean(a.Address), a.Verb)
	}
	if len(r.lost) > 0 {
		fmt.Fprintf(h.out, "\nIn the old state and not found again:\n")
	}
	for n := range r.lost {
		if n == manyRecords {
			fmt.Fprintf(h.out, "  and %s more; -json lists them\n", count(len(r.lost)-n))
			break
		}
		fmt.Fprintf(h.out, "  %s%s\n", clean(r.lost[n].Address), rulesOf(&r.lost[n]))
	}
}

func (h *heldState) rebuiltJSON(r *rebuilding, backup string) error {
	e := &lineEncoder{w: h.stdout}
	e.object(struct {
		changedJSON
		Lineage string `json:"lineage"`
		Kept    bool   `json:"lineage_kept"`
		Backup  string `json:"backup,omitempty"`
	}{h.changed(r.state), r.state.Lineage(), r.lineage, backup})
	writeList(e, "left", r.left, func(i *int) any { return changeOf(r.plan, &r.plan.Actions[*i]) })
	writeList(e, "lost", r.lost, func(r *statefile.Record) any { return recordOf(r) })
	e.raw([]byte("}\n"))
	return e.err
}
