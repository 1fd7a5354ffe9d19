package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"freightliner/statefile"
)

func (p *program) stateMerge() *cobra.Command {
	var f changeFlags
	var out, resolve string
	cmd := &cobra.Command{
		Use:   "merge [BASE OURS THEIRS]",
		Short: "Merge two versions of the state by record",
		Long: `Merges two versions of the state that went apart from BASE, record by record, and
puts the result in the place of the state. Without files it takes the two sides
from the conflict markers that a merge left in the state.

A record that only one side changed is taken from there. One that both changed in
different ways is a conflict, unless -resolve decides: live looks at the
destination and takes the side that says what is there; ours and theirs take a
side. With conflicts left nothing is written, and the exit code is 1.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return exactly(3, "the common ancestor, our side and their side")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(f.check(cmd), checkResolve(cmd, resolve)); err != nil {
				return err
			}
			if out == "-" && f.json {
				return &usageError{cmd, "-out=- and -json both want standard output", ""}
			}
			name, err := f.name(p, cmd)
			if err != nil {
				return err
			}
			m, err := readMerging(args, name)
			if err != nil {
				return err
			}
			if err := m.decide(p, cmd, &f.stateFlags, resolve); err != nil {
				return err
			}
			return p.merge(cmd, &f, m, name, out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "write the result to `FILE` instead of the state; - is standard output")
	cmd.Flags().StringVar(&resolve, "resolve", "", "settle conflicts by `HOW`: live, ours or theirs")
	return f.add(cmd)
}

func checkResolve(cmd *cobra.Command, how string) error {
	switch how {
	case "", "live", "ours", "theirs":
		return nil
	}
	return &usageError{cmd, "flag -resolve: want live, ours or theirs, not " + quoted(how), didYouMean("", how, []string{"live", "ours", "theirs"})}
}

// merging is a merge on its way: the sides, and then what came of them.
type merging struct {
	base         *statefile.State // nil: not known, so every difference is a conflict
	ours, theirs *statefile.State

	merged    *statefile.State     // nil with conflicts
	conflicts []statefile.Conflict // left open
	settled   int                  // conflicts that -resolve decided
	notes     []string
}

func readMerging(files []string, name string) (*merging, error) {
	if len(files) == 0 {
		return readMarked(name)
	}
	var sides [3]*statefile.State
	for i, file := range files {
		var err error
		sides[i], err = readSide(file)
		if i == 0 && errors.Is(err, statefile.ErrConflictMarkers) {
			// Branches that merged each other have several ancestors. Git merges those
			// first, by this driver too, and hands over what came of it.
			return readTwoSides(files)
		}
		if err != nil {
			return nil, err
		}
		if sides[i] == nil && i > 0 {
			return nil, fmt.Errorf("read state %s: the file is empty", clean(file))
		}
	}
	if sides[0] == nil { // git has no ancestor: both sides added the file
		var err error
		if sides[0], err = statefile.Build(sides[1].Lineage(), func(func(statefile.Record) bool) {}, nil); err != nil {
			return nil, err
		}
	}
	return &merging{base: sides[0], ours: sides[1], theirs: sides[2]}, nil
}

// readTwoSides is for an ancestor that has conflicts itself. Taking one of their
// sides for the ancestor could let the wrong side win without a word.
func readTwoSides(files []string) (*merging, error) {
	m := &merging{notes: []string{"The common ancestor has conflicts itself, so every record that differs is one."}}
	for i, into := range []**statefile.State{&m.ours, &m.theirs} {
		var err error
		if *into, err = readExisting(files[i+1]); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// readMarked takes both sides from the markers in the state.
func readMarked(name string) (*merging, error) {
	_, err := readState(name)
	if !errors.Is(err, statefile.ErrConflictMarkers) {
		if err == nil {
			err = hinted(fmt.Errorf("the state %s has no conflict markers", clean(name)), "Name three files: the common ancestor, our side and their side.")
		}
		return nil, err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read state %w", pathless(err, name))
	}
	ours, theirs, err := unmarked(text)
	if err != nil {
		return nil, fmt.Errorf("read state %s: %w", clean(name), err)
	}
	dir, err := os.MkdirTemp("", "freightliner-merge-")
	if err != nil {
		return nil, fmt.Errorf("write the two sides: %w", err)
	}
	defer os.RemoveAll(dir)
	m := &merging{}
	for _, side := range []struct {
		name string
		text []byte
		into **statefile.State
	}{{"ours", ours, &m.ours}, {"theirs", theirs, &m.theirs}} {
		file := filepath.Join(dir, side.name)
		if err := os.WriteFile(file, side.text, private); err != nil {
			return nil, fmt.Errorf("write the two sides: %w", err)
		}
		if *side.into, err = readState(file); err != nil {
			return nil, hinted(fmt.Errorf("%s in the markers of %s can not be taken by themselves: %w", side.name, clean(name), err),
				"Merge the whole sides: git show :1:FILE, :2:FILE and :3:FILE print BASE, OURS and THEIRS for 'freightliner state merge'.")
		}
	}
	return m, nil
}

// unmarked takes a file with conflict markers apart: the lines outside belong to
// both sides, those of the ancestor to none.
func unmarked(text []byte) (ours, theirs []byte, err error) {
	const outside, inOurs, inBase, inTheirs = 0, 1, 2, 3
	at := outside
	for line := range bytes.Lines(text) {
		opens := func(mark string) bool { return bytes.HasPrefix(line, []byte(mark)) }
		switch {
		case at == outside && opens("<<<<<<<"):
			at = inOurs
		case at == inOurs && opens("|||||||"):
			at = inBase
		case (at == inOurs || at == inBase) && opens("======="):
			at = inTheirs
		case at == inTheirs && opens(">>>>>>>"):
			at = outside
		case at == outside:
			ours, theirs = append(ours, line...), append(theirs, line...)
		case at == inOurs:
			ours = append(ours, line...)
		case at == inTheirs:
			theirs = append(theirs, line...)
		}
	}
	if at != outside {
		return nil, nil, errors.New("a conflict has no end")
	}
	return ours, theirs, nil
}

// try merges with a way to settle conflicts, which may be nil.
func (m *merging) try(resolve statefile.Resolve) (*statefile.State, []statefile.Conflict, error) {
	if m.base != nil {
		return statefile.Merge(m.base, m.ours, m.theirs, resolve)
	}
	if m.ours.Lineage() != m.theirs.Lineage() {
		return nil, nil, hinted(fmt.Errorf("merge states: %w", statefile.ErrLineage), "They were created apart: keep one of them, or run 'freightliner state rebuild'.")
	}
	if len(m.ours.Intents())+len(m.theirs.Intents()) > 0 {
		return nil, nil, fmt.Errorf("merge states: %w", statefile.ErrUndecided)
	}
	// What went well is common to both sides already: all that differs is a conflict.
	chosen := map[string]*statefile.Record{}
	var open []statefile.Conflict
	for d := range statefile.Diff(m.ours, m.theirs) {
		c := statefile.Conflict{Address: d.Address, Ours: d.Old, Theirs: d.New}
		if resolve != nil {
			if r, ok := resolve(c); ok {
				chosen[c.Address] = r
				continue
			}
		}
		open = append(open, c)
	}
	if len(open) > 0 {
		return nil, open, nil
	}
	merged, err := statefile.Build(m.ours.Lineage(), func(yield func(statefile.Record) bool) {
		for r := range m.ours.All() {
			if _, ok := chosen[r.Address]; !ok && !yield(r) {
				return
			}
		}
		for _, r := range chosen {
			if r != nil && !yield(*r) {
				return
			}
		}
	}, nil)
	return merged, nil, err
}

// decide merges and settles conflicts as how says.
func (m *merging) decide(p *program, cmd *cobra.Command, f *stateFlags, how string) error {
	var err error
	if m.merged, m.conflicts, err = m.try(nil); err != nil || len(m.conflicts) == 0 || how == "" {
		return err
	}
	all := len(m.conflicts)
	resolve := takeSide(how)
	if how == "live" {
		if resolve, err = m.lookLive(p, cmd, f); err != nil {
			return err
		}
	}
	m.merged, m.conflicts, err = m.try(resolve)
	m.settled = all - len(m.conflicts)
	return err
}

func takeSide(how string) statefile.Resolve {
	return func(c statefile.Conflict) (*statefile.Record, bool) {
		if how == "ours" {
			return c.Ours, true
		}
		return c.Theirs, true
	}
}

// merge tells what came of it and writes it.
func (p *program) merge(cmd *cobra.Command, f *changeFlags, m *merging, name, out string) error {
	if len(m.conflicts) > 0 {
		return p.tellConflicts(m, name, f.json)
	}
	if out == "-" {
		return m.merged.WriteCanonical(p.stdout)
	}
	if out != "" {
		name = out
	}
	return f.hold(p, cmd, name, func(h *heldState) error {
		if err := m.mayReplace(h); err != nil {
			return err
		}
		if err := h.replace(m.merged); err != nil {
			return err
		}
		if f.json {
			p.printJSON(m.json(h.changed(m.merged)))
			return nil
		}
		for _, note := range m.notes {
			fmt.Fprintln(h.out, clean(note))
		}
		text := ""
		if m.settled > 0 {
			text = fmt.Sprintf(" (%s settled)", plural(m.settled, "conflict"))
		}
		fmt.Fprintf(h.out, "Merged into %s%s: %s, %s\n", clean(name), text, plural(m.merged.Len(), "record"), m.merged.ID())
		return nil
	})
}

// mayReplace refuses to put the result in the place of a state that did not go
// into it: what only that one knows would be lost.
func (m *merging) mayReplace(h *heldState) error {
	if h.was == "" {
		return nil
	}
	now, err := h.read()
	switch {
	case errors.Is(err, statefile.ErrConflictMarkers):
		return nil
	case err != nil:
		return err
	case now.ID() == m.ours.ID(), now.ID() == m.theirs.ID(), now.ID() == m.merged.ID():
		return nil
	}
	return hinted(fmt.Errorf("%s is neither of the two sides and has no conflict, so it was left alone", clean(h.place.name)),
		"Write the result to another file with -out, or merge the state itself: it must be OURS or THEIRS.")
}

type mergedJSON struct {
	changedJSON
	Settled   int            `json:"settled"`
	Conflicts []jsonConflict `json:"conflicts"`
	Notes     []string       `json:"notes"`
}

type jsonConflict struct {
	Address string      `json:"address"`
	Base    *jsonRecord `json:"base"`
	Ours    *jsonRecord `json:"ours"`
	Theirs  *jsonRecord `json:"theirs"`
}

func (m *merging) json(head changedJSON) mergedJSON {
	j := mergedJSON{changedJSON: head, Settled: m.settled, Conflicts: []jsonConflict{}, Notes: append([]string{}, m.notes...)}
	for _, c := range m.conflicts {
		j.Conflicts = append(j.Conflicts, jsonConflict{c.Address, maybeRecord(c.Base), maybeRecord(c.Ours), maybeRecord(c.Theirs)})
	}
	return j
}

func (p *program) tellConflicts(m *merging, name string, asJSON bool) error {
	if asJSON {
		p.printJSON(m.json(changedJSON{Format: stateFormat, Path: name}))
		return &exit{code: exitError}
	}
	for _, note := range m.notes {
		fmt.Fprintln(p.stdout, clean(note))
	}
	writeConflicts(p.stdout, m.conflicts)
	return &exit{exitError, hinted(fmt.Errorf("%s changed on both sides, in different ways; nothing was written", plural(len(m.conflicts), "record")),
		"Settle them with -resolve=live, which looks at the destinations, or with -resolve=ours or -resolve=theirs.")}
}

func writeConflicts(w io.Writer, conflicts []statefile.Conflict) {
	for _, c := range conflicts {
		fmt.Fprintf(w, "  %s\n", clean(c.String()))
	}
}
