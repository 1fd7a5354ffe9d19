package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freightliner/providers"
	"freightliner/statefile"
)

func (p *program) stateCommand() *cobra.Command {
	cmd := group(&cobra.Command{Use: "state", Short: "Look into the state file and keep it well"})
	cmd.AddCommand(p.stateList(), p.stateShow(), p.stateVerify(), p.stateCompact())
	return cmd
}

// stateFlags are what every state command has.
type stateFlags struct {
	variableFlags
	state string
	json  bool
}

func (f *stateFlags) add(cmd *cobra.Command, withJSON bool) *cobra.Command {
	f.variableFlags.add(cmd)
	cmd.Flags().StringVar(&f.state, "state", "", "the state file is `FILE`, whatever the configuration says")
	if withJSON {
		cmd.Flags().BoolVar(&f.json, "json", false, "print as JSON (docs/plan-json.md)")
	}
	return cmd
}

func (f *stateFlags) read(p *program, cmd *cobra.Command) (*statefile.State, string, error) {
	vars, err := f.variables(cmd, p.env)
	if err != nil {
		return nil, "", err
	}
	return p.findState(f.state, vars)
}

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
}

func recordOf(r *statefile.Record) jsonRecord {
	return jsonRecord{r.Address, r.Kind, r.Destination, r.Digest, r.Source, r.Selection, r.OnRemove, r.Protect, r.Created}
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
		Use:   "list [ADDRESS]",
		Short: "List the addresses in the state",
		Long: `Lists the addresses in the state, or those at and below one: a block, a path or a
repository.`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			state, _, err := f.read(p, cmd)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(p.stdout)
			defer out.Flush()
			var found []statefile.Record
			for r := range state.All() {
				if len(args) == 0 || covers(args[0], r.Address) {
					found = append(found, r)
				}
			}
			if f.json {
				e := &lineEncoder{w: out}
				e.object(struct {
					Format string `json:"format_version"`
				}{planFormat})
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

// covers reports whether address is top or lies below it, by whole segments.
func covers(top, address string) bool {
	rest, ok := strings.CutPrefix(address, top)
	return ok && (rest == "" || strings.ContainsRune("/:@[", rune(rest[0])) || strings.HasSuffix(top, "/"))
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
				return hinted(fmt.Errorf("%s is not in the state %s", quoted(args[0]), clean(name)), nearest(state, args[0]))
			}
			if f.json {
				p.printJSON(recordOf(&r))
				return nil
			}
			p.showRecord(&r)
			return nil
		},
	}
	return f.add(cmd, true)
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
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(p.stdout, "%-16s%s\n", name, clean(value))
		}
	}
	yes := func(b bool) string {
		if b {
			return "true"
		}
		return ""
	}
	line("address", r.Address)
	line("kind", string(r.Kind))
	line("destination", r.Destination)
	line("digest", string(r.Digest))
	line("source_digest", string(r.Source))
	line("selection", r.Selection)
	line("on_remove", r.OnRemove)
	line("prevent_destroy", yes(r.Protect))
	line("created", yes(r.Created))
}

func (p *program) stateVerify() *cobra.Command {
	var f stateFlags
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check every line of the state file",
		Args:  atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, name, err := f.read(p, cmd)
			if err != nil {
				return err
			}
			if f.json {
				p.printJSON(verified(state, name))
				return nil
			}
			p.tellVerified(state, name)
			return nil
		},
	}
	return f.add(cmd, true)
}

// verifiedJSON is what state verify -json prints of a good state; a damaged one
// is told as every error is, with exit 6.
type verifiedJSON struct {
	Path        string           `json:"path"`
	Exists      bool             `json:"exists"`
	State       providers.Digest `json:"state,omitempty"`
	Records     int              `json:"records"`
	Canonical   bool             `json:"canonical"`
	Interrupted bool             `json:"interrupted"`
	TornBytes   int              `json:"torn_bytes"`
}

func verified(state *statefile.State, name string) verifiedJSON {
	_, cut := state.Interrupted()
	return verifiedJSON{name, state.Exists(), state.ID(), state.Len(), state.Canonical(), cut, state.Torn()}
}

func (p *program) tellVerified(state *statefile.State, name string) {
	if !state.Exists() {
		fmt.Fprintf(p.stdout, "There is no state yet: %s does not exist.\n", clean(name))
		return
	}
	fmt.Fprintf(p.stdout, "The state is valid: %s in %s, %s\n", plural(state.Len(), "record"), clean(name), state.ID())
	if run, cut := state.Interrupted(); cut {
		fmt.Fprintf(p.stdout, "The last run (by %s) was cut off; what it finished counts. \"freightliner apply\" resumes it.\n", clean(run.By))
	}
	if n := state.Torn(); n > 0 {
		fmt.Fprintf(p.stdout, "A crash left %s half-written at the end; they do not count and go with the next apply or compact.\n", plural(n, "byte"))
	}
	if !state.Canonical() {
		fmt.Fprintln(p.stdout, "It ends with a journal. \"freightliner state compact\" folds it, before a commit to git.")
	}
}

func (p *program) stateCompact() *cobra.Command {
	var f stateFlags
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Fold the journal of an interrupted run into the snapshot",
		Args:  atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout < 0 {
				return &usageError{cmd, "flag -lock-timeout: must not be negative", ""}
			}
			before, name, err := f.read(p, cmd)
			if err != nil {
				return err
			}
			if before.Canonical() {
				fmt.Fprintln(p.stdout, "Nothing to do: the state has no journal.")
				return nil
			}
			return p.compact(cmd, name, timeout)
		},
	}
	cmd.Flags().DurationVar(&timeout, "lock-timeout", 0, "wait for the state's lock for at most `TIME`, such as 10m (default: do not wait)")
	return f.add(cmd, false)
}

func (p *program) compact(cmd *cobra.Command, name string, timeout time.Duration) error {
	s := &session{program: p, command: "compact", out: p.stdout}
	place, err := openStatePlace(name)
	if err != nil {
		return err
	}
	defer place.close()
	ctx, end := p.cancelOnSignal(cmd.Context())
	defer end()
	lock, err := s.lockState(ctx, place, timeout)
	if err != nil {
		return err
	}
	defer lock.Release()
	journal, _, err := s.openJournal(ctx, lock, place, nil)
	if err != nil {
		return err
	}
	if err := journal.Close(); err != nil {
		return err
	}
	for _, note := range journal.Notes() {
		fmt.Fprintln(p.stdout, clean(note))
	}
	after, err := statefile.Read(place.fsys, place.path)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "Folded the journal: %s, %s\n", plural(after.Len(), "record"), after.ID())
	return nil
}
