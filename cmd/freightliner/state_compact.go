package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"freightliner/statefile"
)

func (p *program) stateCompact() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Fold the journal of an interrupted run into the snapshot",
		Args:  atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			before, name, err := f.read(p, cmd)
			if err != nil {
				return err
			}
			if before.Canonical() {
				return p.tellCompacted(before, name, false, f.json)
			}
			return f.hold(p, cmd, name, func(h *heldState) error { return h.compact(f.json) })
		},
	}
	return f.add(cmd)
}

func (h *heldState) compact(asJSON bool) error {
	journal, before, err := h.openJournal(h.ctx, h.lock, h.place, nil)
	if err != nil {
		return err
	}
	err = journal.Close()
	for _, note := range journal.Notes() {
		fmt.Fprintf(h.stderr, "Note: %s.\n", clean(note))
	}
	if err != nil {
		return err
	}
	if len(before.Intents()) > 0 {
		return hinted(fmt.Errorf("compact the state %s: %w", clean(h.place.name), statefile.ErrUndecided), "Apply again: the next run looks at them first.")
	}
	after, err := h.read()
	if err != nil {
		return err
	}
	return h.tellCompacted(after, h.place.name, true, asJSON)
}

func (p *program) tellCompacted(state *statefile.State, name string, folded, asJSON bool) error {
	switch {
	case asJSON:
		p.printJSON(struct {
			changedJSON
			Compacted bool `json:"compacted"`
		}{changedJSON{stateFormat, name, false, state.ID(), state.Len()}, folded})
	case folded:
		fmt.Fprintf(p.stdout, "Folded the journal: %s, %s\n", plural(state.Len(), "record"), state.ID())
	default:
		fmt.Fprintln(p.stdout, "Nothing to do: the state has no journal.")
	}
	return nil
}
