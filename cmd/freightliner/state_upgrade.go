package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// stateVersion is the newest format version that this release writes, and the
// only one there has been (docs/state-format.md, 8).
const stateVersion = 1

func (p *program) stateUpgrade() *cobra.Command {
	var f stateFlags
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Bring the state to the newest format version",
		Long: `Brings the state to the newest format version. Nothing else does: a newer release
keeps the version that it finds, so that one machine does not lock out the rest.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A state that can be read has version 1: statefile refuses all others.
			state, name, err := f.read(p, cmd)
			switch {
			case err != nil:
				return err
			case !state.Exists():
				return noState(name)
			}
			if f.json {
				p.printJSON(struct {
					changedJSON
					Version  int  `json:"version"`
					Upgraded bool `json:"upgraded"`
				}{changedJSON{stateFormat, name, false, state.ID(), state.Len()}, stateVersion, false})
				return nil
			}
			fmt.Fprintf(p.stdout, "Nothing to do: %s has format version %d, the newest.\n", clean(name), stateVersion)
			return nil
		},
	}
	return f.add(cmd, true)
}
