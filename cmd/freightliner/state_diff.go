package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"freightliner/providers"
	"freightliner/statefile"
)

func (p *program) stateDiff() *cobra.Command {
	var f stateFlags
	cmd := &cobra.Command{
		Use:   "diff A [B]",
		Short: "Compare two states by record",
		Long: `Compares the state file A with B, or with the current state, record by record.
Journals count. Exits 0 when they are equal and 2 when they differ.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{cmd, "missing argument: the state file to compare with", ""}
			}
			return atMost(2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			before, err := readExisting(args[0])
			if err != nil {
				return err
			}
			var after *statefile.State
			if len(args) == 2 {
				after, err = readExisting(args[1])
			} else {
				after, _, err = f.read(p, cmd)
			}
			if err != nil {
				return err
			}
			return p.diffStates(before, after, f.json)
		},
	}
	return f.add(cmd, true)
}

// readExisting reads a state file that the user named: one that is not there is
// a mistake and not an empty state.
func readExisting(name string) (*statefile.State, error) {
	state, err := readState(name)
	if err == nil && !state.Exists() {
		err = fmt.Errorf("read state %s: %w", clean(name), fs.ErrNotExist)
	}
	return state, err
}

// jsonDifference is one address at which two states differ.
type jsonDifference struct {
	Address string      `json:"address"`
	Change  string      `json:"change"` // added, removed, changed
	Old     *jsonRecord `json:"old"`
	New     *jsonRecord `json:"new"`
}

func (p *program) diffStates(before, after *statefile.State, asJSON bool) error {
	out := bufio.NewWriter(p.stdout)
	defer out.Flush()
	var all []statefile.Difference
	counts := map[string]int{}
	for d := range statefile.Diff(before, after) {
		all = append(all, d)
		counts[changeWord(&d)]++
	}
	if asJSON {
		e := &lineEncoder{w: out}
		e.object(struct {
			Format  string           `json:"format_version"`
			Equal   bool             `json:"equal"`
			Old     providers.Digest `json:"old_state,omitempty"`
			New     providers.Digest `json:"new_state,omitempty"`
			Added   int              `json:"added"`
			Removed int              `json:"removed"`
			Changed int              `json:"changed"`
		}{stateFormat, len(all) == 0, before.ID(), after.ID(), counts["added"], counts["removed"], counts["changed"]})
		writeList(e, "differences", all, func(d *statefile.Difference) any {
			return jsonDifference{d.Address, changeWord(d), maybeRecord(d.Old), maybeRecord(d.New)}
		})
		e.raw([]byte("}\n"))
		if e.err != nil {
			return e.err
		}
	} else {
		if before.Exists() && after.Exists() && before.Lineage() != after.Lineage() {
			fmt.Fprintln(out, "They have different lineages: they were created apart and can not be merged.")
		}
		for i := range all {
			fmt.Fprintln(out, differenceLine(&all[i]))
		}
		if len(all) == 0 {
			fmt.Fprintln(out, "The records are the same.")
		} else {
			fmt.Fprintf(out, "\n%s added, %d changed, %d removed.\n", plural(counts["added"], "record"), counts["changed"], counts["removed"])
		}
	}
	if len(all) > 0 {
		return &exit{code: exitChanges}
	}
	return nil
}

func changeWord(d *statefile.Difference) string {
	switch {
	case d.Old == nil:
		return "added"
	case d.New == nil:
		return "removed"
	}
	return "changed"
}

// differenceLine is "~ address: digest 0a1b… -> 2c3d…".
func differenceLine(d *statefile.Difference) string {
	switch {
	case d.Old == nil:
		return "+ " + clean(d.Address) + brief(d.New)
	case d.New == nil:
		return "- " + clean(d.Address) + brief(d.Old)
	}
	var changes []string
	was, now := membersOf(d.Old), membersOf(d.New)
	for i := range was {
		if was[i] != now[i] {
			changes = append(changes, was[i].name+" "+briefValue(was[i].value)+" -> "+briefValue(now[i].value))
		}
	}
	return "~ " + clean(d.Address) + ": " + list(changes)
}

func brief(r *statefile.Record) string {
	if what := r.Digest.Short(); what != "" {
		return "  " + what
	}
	return ""
}

// briefValue is a member's value in a line: digests as people know them.
func briefValue(value string) string {
	if d, err := providers.ParseDigest(value); err == nil {
		return d.Short()
	}
	if value == "" {
		return "(none)"
	}
	return clean(value)
}

// readSide reads one side of a merge. An empty file, which is what git hands
// over when there was no common ancestor, gives nil.
func readSide(name string) (*statefile.State, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read state %s: %w", clean(name), fs.ErrNotExist)
	case err == nil && info.Size() == 0:
		return nil, nil
	}
	return readState(name)
}
