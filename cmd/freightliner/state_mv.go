package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"freightliner/planner"
	"freightliner/statefile"
)

func (p *program) stateMv() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use:   "mv FROM TO",
		Short: "Rename an address and all below it",
		Long: `Renames a block, an instance of a block or a single address, with all below it.
Only names change: no record speaks of another place afterwards, and no registry
is asked. Rename the block in the configuration too, and the next plan is empty.`,
		Args: exactly(2, "the address as it is, and as it shall be"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			name, err := f.name(p, cmd)
			if err != nil {
				return err
			}
			return f.hold(p, cmd, name, func(h *heldState) error { return h.mv(args[0], args[1], f.json) })
		},
	}
	f.addDryRun(cmd)
	return f.add(cmd)
}

// rename is one record's old and new address.
type rename struct {
	From string `json:"from"`
	To   string `json:"to"`
}

func (h *heldState) mv(fromText, toText string, asJSON bool) error {
	from, err := parseAddress(fromText)
	if err != nil {
		return err
	}
	to, err := parseAddress(toText)
	if err != nil {
		return err
	}
	state, err := h.settled()
	if err != nil {
		return err
	}
	renames := renamesOf(state, from, to)
	if len(renames) == 0 {
		return notInState(state, h.place.name, fromText)
	}
	if err := mayMove(state, from, to, renames); err != nil {
		return err
	}
	names := make(map[string]string, len(renames))
	for _, r := range renames {
		names[r.From] = r.To
	}
	moved, err := filtered(state, func(r statefile.Record) (statefile.Record, bool) {
		if name, ok := names[r.Address]; ok {
			r.Address = name
		}
		return r, true
	})
	if err != nil {
		return err
	}
	if h.lock != nil {
		if err := h.replace(moved); err != nil {
			return err
		}
	}
	if asJSON {
		e := &lineEncoder{w: h.stdout}
		e.object(h.changed(moved))
		writeList(e, "moved", renames, func(r *rename) any { return r })
		e.raw([]byte("}\n"))
		return e.err
	}
	h.tellMoved(from, to, renames)
	return nil
}

func (h *heldState) tellMoved(from, to stateAddress, renames []rename) {
	if h.lock == nil {
		for _, r := range renames {
			fmt.Fprintf(h.out, "%s -> %s\n", clean(r.From), clean(r.To))
		}
		fmt.Fprintf(h.out, "\n%s would be moved; nothing was changed.\n", plural(len(renames), "record"))
		return
	}
	fmt.Fprintf(h.out, "Moved %s: %s -> %s\n", plural(len(renames), "record"), clean(from.text), clean(to.text))
	if from.rest == "" {
		fmt.Fprintln(h.out, "Rename it in the configuration too; \"freightliner plan\" then has nothing to do because of it.")
	}
}

// renamesOf are the records at and below from with their new addresses. The
// instances of a block go with it only to a block that can have some.
func renamesOf(state *statefile.State, from, to stateAddress) []rename {
	var renames []rename
	for r := range state.Under(from.text) {
		if !covers(from.text, r.Address) {
			continue
		}
		below := r.Address[len(from.text):]
		if strings.HasPrefix(below, "[") && to.keyed {
			continue
		}
		renames = append(renames, rename{r.Address, joined(to.text, below)})
	}
	return renames
}

// joined is the address below top. The repository that is the destination prefix
// itself ends with a slash, which no other address has.
func joined(top, below string) string {
	slash := strings.HasSuffix(top, "/")
	switch {
	case slash && strings.HasPrefix(below, "/"):
		return top + below[1:]
	case !slash && below != "" && !strings.ContainsRune("/:@[", rune(below[0])):
		return top + "/" + below
	}
	return top + below
}

// mayMove refuses what would be more than a rename.
//
// Why no record can come to claim what is not ours: a block's record carries its
// destination along; anything below a block is found through that block's
// destination, so it may go to another block only if that names the same place.
func mayMove(state *statefile.State, from, to stateAddress, renames []rename) error {
	switch {
	case from.text == to.text:
		return fmt.Errorf("%s is to be moved to itself", quoted(from.text))
	case from.shape() != to.shape():
		return fmt.Errorf("%s is %s and %s is %s: only the name can change", quoted(from.text), from.shape(), quoted(to.text), to.shape())
	}
	moving := make(map[string]bool, len(renames))
	for _, r := range renames {
		moving[r.From] = true
	}
	for r := range state.Under(to.text) {
		// Instances are blocks of their own, unless instances move too.
		instance := strings.HasPrefix(r.Address[len(to.text):], "[")
		if covers(to.text, r.Address) && !moving[r.Address] && (!instance || movesInstances(from, renames)) {
			return hinted(fmt.Errorf("%s is in the state already", quoted(r.Address)), "Choose another name, or take it out of the state first with 'freightliner state rm'.")
		}
	}
	if from.rest == "" {
		return nil
	}
	return samePlace(state, from, to)
}

func movesInstances(from stateAddress, renames []rename) bool {
	for _, r := range renames {
		if strings.HasPrefix(r.From[len(from.text):], "[") {
			return true
		}
	}
	return false
}

func samePlace(state *statefile.State, from, to stateAddress) error {
	if from.kind == statefile.KindImage {
		return hinted(fmt.Errorf("%s goes with its image", quoted(from.text)), "Move the image: freightliner state mv "+planner.BlockOf(from.text)+" "+planner.BlockOf(to.text))
	}
	source, ok := state.Lookup(from.block)
	if !ok {
		return fmt.Errorf("%s is not in the state, so nobody knows where %s is", quoted(from.block), quoted(from.text))
	}
	target, ok := state.Lookup(to.block)
	if !ok {
		return hinted(fmt.Errorf("%s is not in the state, so nobody knows where %s would be", quoted(to.block), quoted(to.text)), "Move the whole block, or apply the new block first.")
	}
	was, will := from.where(source.Destination), to.where(target.Destination)
	if was != will {
		return hinted(fmt.Errorf("%s is %s, and %s would be %s", quoted(from.text), clean(was), quoted(to.text), clean(will)),
			"mv changes names, not places. Let apply copy it to the new place, and 'freightliner state rm' forget the old one.")
	}
	return nil
}
