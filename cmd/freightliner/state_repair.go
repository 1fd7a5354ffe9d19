package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"freightliner/statefile"
)

func (p *program) stateRepair() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Keep the whole records of a damaged state",
		Long: `Keeps every record of a damaged state that can be believed, says what it drops,
and asks. What is dropped is not owned any more: nothing is deleted because of
it, and the next plan finds it by looking. The damaged file is kept as it is in
.freightliner.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			name, err := f.name(p, cmd)
			if err != nil {
				return err
			}
			return f.hold(p, cmd, name, func(h *heldState) error { return h.repair(&f) })
		},
	}
	f.addDryRun(cmd)
	f.addAutoApprove(cmd)
	return f.add(cmd)
}

type repairedJSON struct {
	changedJSON
	Repaired bool          `json:"repaired"`
	Dropped  []jsonFinding `json:"dropped"`
	Backup   string        `json:"backup,omitempty"`
}

func (h *heldState) repair(f *changeFlags) error {
	if h.was == "" {
		return noState(h.place.name)
	}
	whole, err := h.read()
	if err == nil {
		if f.json {
			h.printJSON(repairedJSON{changedJSON: h.changed(whole), Dropped: []jsonFinding{}})
			return nil
		}
		fmt.Fprintf(h.out, "Nothing to repair: the state is valid, %s in %s.\n", plural(whole.Len(), "record"), clean(h.place.name))
		return nil
	}
	if !errors.Is(err, statefile.ErrDamaged) {
		return err // newer, or no file of ours: there is nothing to salvage
	}
	saved, dropped, err := statefile.Repair(h.place.fsys, h.place.path, nil)
	if err != nil {
		return err
	}
	if !f.json {
		h.tellSalvaged(saved, dropped)
	}
	if !f.dryRun && !f.autoApprove {
		if err := h.confirm("Do you want to replace the state by what was saved?"); err != nil {
			return err
		}
	}
	out := repairedJSON{changedJSON: h.changed(saved), Repaired: h.lock != nil, Dropped: []jsonFinding{}}
	for i := range dropped {
		out.Dropped = append(out.Dropped, findingOf(&dropped[i]))
	}
	if h.lock != nil {
		if out.Backup, err = h.keepOld("damaged"); err != nil {
			return err
		}
		if err := h.replace(saved); err != nil {
			return err
		}
	}
	switch {
	case f.json:
		h.printJSON(out)
	case h.lock == nil:
		fmt.Fprintln(h.out, "Nothing was changed.")
	default:
		fmt.Fprintf(h.out, "\nRepaired %s: %s, %s\nThe damaged file is kept as %s. Run \"freightliner plan\" to see what is not recorded any more.\n",
			clean(h.place.name), plural(saved.Len(), "record"), saved.ID(), clean(out.Backup))
	}
	return nil
}

func (h *heldState) tellSalvaged(saved *statefile.State, dropped []statefile.Damage) {
	fmt.Fprintf(h.out, "%s can be saved from %s.\n", plural(saved.Len(), "record"), clean(h.place.name))
	if len(dropped) > 0 {
		fmt.Fprintf(h.out, "To be dropped:\n")
	}
	for i := range dropped {
		h.tellFinding(&dropped[i])
	}
}

// keepOld copies the file as it is into .freightliner, under a name that no later
// run takes: the .bak beside it is that of the last run only.
func (h *heldState) keepOld(word string) (string, error) {
	base := filepath.Base(h.place.name) + "." + word + "-" + h.was.Short()
	name := filepath.Join(filepath.Dir(h.place.name), ".freightliner", base)
	if _, err := os.Lstat(name); err == nil {
		return name, nil // named by its content: it is there already
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("keep the old state: %w", err)
	}
	old, err := h.place.root.Open(filepath.FromSlash(h.place.path))
	if err != nil {
		return "", fmt.Errorf("keep the old state: %w", err)
	}
	defer old.Close()
	return name, writeFile(name, private, true, func(w io.Writer) error {
		_, err := io.Copy(w, old)
		return err
	})
}
