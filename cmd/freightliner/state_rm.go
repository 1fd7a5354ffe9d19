package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"freightliner/planner"
	"freightliner/statefile"
)

func (p *program) stateRm() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use:   "rm GLOB...",
		Short: "Forget records; no registry is touched",
		Long: `Takes records out of the state, after asking. Nothing at the registries changes:
freightliner only does not own it any more, so it will never delete it. While the
configuration still names it, the next apply records it again.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{cmd, "missing argument: the addresses, as \"freightliner state list\" prints them", ""}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			name, err := f.name(p, cmd)
			if err != nil {
				return err
			}
			return f.hold(p, cmd, name, func(h *heldState) error { return h.rm(args, &f) })
		},
	}
	f.addDryRun(cmd)
	f.addAutoApprove(cmd)
	return f.add(cmd)
}

func (h *heldState) rm(patterns []string, f *changeFlags) error {
	state, err := h.settled()
	if err != nil {
		return err
	}
	gone, err := matching(state, h.place.name, patterns)
	if err != nil {
		return err
	}
	if !f.json {
		h.tellGone(gone)
	}
	if !f.dryRun && !f.autoApprove {
		if err := h.confirm("Do you want freightliner to forget " + plural(len(gone), "record") + "?"); err != nil {
			return err
		}
	}
	wanted := planner.Wants(patterns, nil)
	left, err := filtered(state, func(r statefile.Record) (statefile.Record, bool) { return r, !wanted(r.Address) })
	if err != nil {
		return err
	}
	if h.lock != nil {
		if err := h.replace(left); err != nil {
			return err
		}
	}
	switch {
	case f.json:
		e := &lineEncoder{w: h.stdout}
		e.object(h.changed(left))
		writeList(e, "removed", gone, func(r *statefile.Record) any { return recordOf(r) })
		e.raw([]byte("}\n"))
		return e.err
	case h.lock == nil:
		fmt.Fprintf(h.out, "\n%s would be forgotten; nothing was changed.\n", plural(len(gone), "record"))
	default:
		fmt.Fprintf(h.out, "\nForgot %s; %s left in %s.\n", plural(len(gone), "record"), isAre(left.Len(), "record"), clean(h.place.name))
	}
	return nil
}

// matching are the records that the globs match. A glob that matches nothing is
// a mistake: the others are not acted on either.
func matching(state *statefile.State, name string, patterns []string) ([]statefile.Record, error) {
	each := make([]func(string) bool, len(patterns))
	hits := make([]int, len(patterns))
	for i := range patterns {
		each[i] = planner.Wants(patterns[i:i+1], nil)
	}
	var found []statefile.Record
	for r := range state.All() {
		hit := false
		for i := range each {
			if each[i](r.Address) {
				hits[i]++
				hit = true
			}
		}
		if hit {
			found = append(found, r)
		}
	}
	for i, n := range hits {
		if n == 0 {
			return nil, notInState(state, name, patterns[i])
		}
	}
	return found, nil
}

// manyRecords is how many records are listed before a question; more do not
// help to decide.
const manyRecords = 50

func (h *heldState) tellGone(gone []statefile.Record) {
	fmt.Fprintf(h.out, "To be forgotten, and left as it is at the registries:\n")
	for i, r := range gone {
		if i == manyRecords && h.lock != nil {
			fmt.Fprintf(h.out, "  and %s more; \"freightliner state list\" takes the same globs\n", count(len(gone)-i))
			return
		}
		fmt.Fprintf(h.out, "  %s%s\n", clean(r.Address), rulesOf(&r))
	}
}
