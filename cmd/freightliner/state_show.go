package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"freightliner/planner"
	"freightliner/providers"
	"freightliner/statefile"
)

// jsonRecord is one record of the state.
type jsonRecord struct {
	Address        string           `json:"address"`
	Kind           statefile.Kind   `json:"kind"`
	Destination    string           `json:"destination,omitempty"`
	Digest         providers.Digest `json:"digest,omitempty"`
	Source         providers.Digest `json:"source_digest,omitempty"`
	Selection      string           `json:"selection,omitempty"`
	OnRemove       string           `json:"on_remove,omitempty"`
	PreventDestroy bool             `json:"prevent_destroy,omitempty"`
	Created        bool             `json:"created,omitempty"`
	Name           string           `json:"name,omitempty"`
	Version        string           `json:"version,omitempty"`
	At             string           `json:"version_created,omitempty"`
	Inputs         string           `json:"inputs,omitempty"`
	Keys           string           `json:"keys,omitempty"`
	Fingerprint    string           `json:"fingerprint,omitempty"`
	Window         string           `json:"recovery_window_days,omitempty"`
	Unknown        string           `json:"unknown,omitempty"` // members of a newer release, as they stand in the file
}

func recordOf(r *statefile.Record) jsonRecord {
	return jsonRecord{r.Address, r.Kind, r.Destination, r.Digest, r.Source, r.Selection, r.OnRemove, r.Protect, r.Created, r.Name, r.Version, r.At, r.Inputs, r.Keys, r.Fingerprint, r.Window, r.Unknown}
}

// maybeRecord is recordOf for a side that may have none: null.
func maybeRecord(r *statefile.Record) *jsonRecord {
	if r == nil {
		return nil
	}
	j := recordOf(r)
	return &j
}

// writeStateJSON writes the state for programs, one record a line.
func writeStateJSON(w io.Writer, state *statefile.State) error {
	e := &lineEncoder{w: w}
	e.object(struct {
		Format    string           `json:"format_version"`
		State     providers.Digest `json:"state,omitempty"`
		Lineage   string           `json:"lineage,omitempty"`
		Canonical bool             `json:"canonical"`
	}{planFormat, state.ID(), state.Lineage(), state.Canonical()})
	var records []statefile.Record
	for r := range state.All() {
		records = append(records, r)
	}
	writeList(e, "records", records, func(r *statefile.Record) any { return recordOf(r) })
	e.raw([]byte("}\n"))
	return e.err
}

func (p *program) stateList() *cobra.Command {
	var f stateFlags
	cmd := &cobra.Command{
		Use:   "list [GLOB]...",
		Short: "List the addresses in the state",
		Long: `Lists the addresses in the state, or those that one of the globs matches. A glob
is written as for -target of plan: * stays within a path segment, ** crosses
segments, and a block, a path or a repository covers all below it.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			state, _, err := f.read(p, cmd)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(p.stdout)
			defer out.Flush()
			wanted := planner.Wants(args, nil)
			var found []statefile.Record
			for r := range state.All() {
				if wanted(r.Address) {
					found = append(found, r)
				}
			}
			if f.json {
				e := &lineEncoder{w: out}
				e.object(struct {
					Format string `json:"format_version"`
				}{stateFormat})
				writeList(e, "records", found, func(r *statefile.Record) any { return recordOf(r) })
				e.raw([]byte("}\n"))
				return e.err
			}
			for _, r := range found {
				fmt.Fprintln(out, clean(r.Address))
			}
			return nil
		},
	}
	return f.add(cmd, true)
}

func (p *program) stateShow() *cobra.Command {
	var f stateFlags
	cmd := &cobra.Command{
		Use:   "show ADDRESS",
		Short: "Show one record of the state",
		Args:  exactly(1, "the address, as \"freightliner state list\" prints it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			state, name, err := f.read(p, cmd)
			if err != nil {
				return err
			}
			r, ok := state.Lookup(args[0])
			if !ok {
				return notInState(state, name, args[0])
			}
			if f.json {
				p.printJSON(struct {
					Format string `json:"format_version"`
					jsonRecord
				}{stateFormat, recordOf(&r)})
				return nil
			}
			p.showRecord(&r)
			return nil
		},
	}
	return f.add(cmd, true)
}

func notInState(state *statefile.State, name, address string) error {
	return hinted(fmt.Errorf("%s is not in the state %s", quoted(address), clean(name)), nearest(state, address))
}

// nearest names addresses under the same block, for a mistyped one.
func nearest(state *statefile.State, address string) string {
	var known []string
	block, _, _ := strings.Cut(address, "/")
	for r := range state.Under(block) {
		if known = append(known, r.Address); len(known) == 1000 {
			break
		}
	}
	if hint := didYouMean("", address, known); hint != "" {
		return hint
	}
	return "\"freightliner state list\" prints the addresses."
}

func (p *program) showRecord(r *statefile.Record) {
	for _, member := range membersOf(r) {
		if member.value != "" {
			fmt.Fprintf(p.stdout, "%-16s%s\n", member.name, clean(member.value))
		}
	}
}

// recordMember is one member of a record as people read it; empty when unset.
type recordMember struct{ name, value string }

func membersOf(r *statefile.Record) []recordMember {
	yes := func(b bool) string {
		if b {
			return "true"
		}
		return ""
	}
	return []recordMember{
		{"address", r.Address},
		{"kind", string(r.Kind)},
		{"destination", r.Destination},
		{"digest", string(r.Digest)},
		{"source_digest", string(r.Source)},
		{"selection", r.Selection},
		{"on_remove", r.OnRemove},
		{"prevent_destroy", yes(r.Protect)},
		{"created", yes(r.Created)},
		{"name", r.Name},
		{"version", r.Version},
		{"version_created", r.At},
		{"inputs", r.Inputs},
		{"keys", r.Keys},
		{"fingerprint", r.Fingerprint},
		{"recovery_window_days", r.Window},
		{"unknown", r.Unknown},
	}
}
