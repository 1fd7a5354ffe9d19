package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"freightliner/providers"
	"freightliner/statefile"
)

func (p *program) stateVerify() *cobra.Command {
	var f stateFlags
	var canonical bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check every line of the state file",
		Long: `Checks every line of the state file and names each that does not hold, with its
line and byte. It changes nothing and takes no lock. Exits 6 when the state can
not be used.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			name, err := f.name(p, cmd)
			if err != nil {
				return err
			}
			place, err := openStatePlace(name)
			if err != nil {
				return err
			}
			defer place.close()
			report, err := statefile.Verify(place.fsys, place.path)
			if err != nil {
				return err
			}
			err = verdict(&report, name, canonical)
			if f.json {
				p.printJSON(verifiedOf(&report, name, err))
				if err != nil {
					err = &exit{code: codeOf(err)}
				}
				return err
			}
			p.tellVerified(&report, name)
			return err
		},
	}
	cmd.Flags().BoolVar(&canonical, "canonical", false, "exit 6 also for a journal behind the snapshot: for checks before a commit is merged")
	return f.add(cmd, true)
}

// verdict is what is wrong with the state; nil when it can be used.
func verdict(r *statefile.Report, name string, canonical bool) error {
	var bad *statefile.Damage
	switch {
	case errors.As(r.Err, &bad) && bad.Kind == statefile.ErrDamaged:
		return hinted(r.Err, "Run 'freightliner state repair' to keep the records that are whole, or restore the file from git.")
	case r.Err != nil:
		return r.Err
	case canonical && !r.State.Canonical():
		return &exit{exitState, hinted(fmt.Errorf("the state %s is valid, and not as it should be committed: a journal follows the snapshot", clean(name)),
			"Run 'freightliner state compact'.")}
	}
	return nil
}

// verifiedJSON is what state verify -json prints, of a damaged state too.
type verifiedJSON struct {
	Format      string           `json:"format_version"`
	Path        string           `json:"path"`
	Exists      bool             `json:"exists"`
	Valid       bool             `json:"valid"`
	Canonical   bool             `json:"canonical"`
	State       providers.Digest `json:"state,omitempty"`
	Records     int              `json:"records"`
	Lines       int              `json:"lines"`
	Journal     int              `json:"journal_lines"`
	Interrupted bool             `json:"interrupted"`
	TornBytes   int              `json:"torn_bytes"`
	Findings    []jsonFinding    `json:"findings"`
	Cut         bool             `json:"findings_cut"`
	Notes       []string         `json:"notes"`
	Error       string           `json:"error,omitempty"`
	Hint        string           `json:"hint,omitempty"`
}

// jsonFinding is one line that does not hold.
type jsonFinding struct {
	Line   int    `json:"line"`
	Offset int64  `json:"offset"`
	What   string `json:"what"`
}

func findingOf(d *statefile.Damage) jsonFinding { return jsonFinding{d.Line, d.Offset, d.What} }

func verifiedOf(r *statefile.Report, name string, err error) verifiedJSON {
	v := verifiedJSON{
		Format: stateFormat, Path: name, Exists: true, Valid: r.Err == nil, Records: r.Records, Lines: r.Lines, Journal: r.Journal,
		Findings: []jsonFinding{}, Cut: r.Truncated, Notes: append([]string{}, r.Notes...),
	}
	if err != nil {
		v.Error, v.Hint = err.Error(), hintOf(err)
	}
	for i := range r.Findings {
		v.Findings = append(v.Findings, findingOf(&r.Findings[i]))
	}
	if s := r.State; s != nil {
		v.Exists, v.Canonical, v.State, v.Records, v.TornBytes = s.Exists(), s.Canonical(), s.ID(), s.Len(), s.Torn()
		_, v.Interrupted = s.Interrupted()
	}
	return v
}

func (p *program) tellVerified(r *statefile.Report, name string) {
	for i := range r.Findings {
		p.tellFinding(&r.Findings[i])
	}
	if r.Truncated {
		fmt.Fprintf(p.stdout, "and more; these are the first %s\n", count(len(r.Findings)))
	}
	state := r.State
	if state == nil {
		return
	}
	if !state.Exists() {
		fmt.Fprintf(p.stdout, "There is no state yet: %s does not exist.\n", clean(name))
		return
	}
	fmt.Fprintf(p.stdout, "The state is valid: %s in %s, %s\n", plural(state.Len(), "record"), clean(name), state.ID())
	if run, cut := state.Interrupted(); cut {
		by := ""
		if run.By != "" {
			by = " (by " + clean(run.By) + ")"
		}
		fmt.Fprintf(p.stdout, "The last run%s was cut off; what it finished counts. \"freightliner apply\" resumes it.\n", by)
	}
	if n := state.Torn(); n > 0 {
		fmt.Fprintf(p.stdout, "A crash left %s half-written at the end; they do not count and go with the next apply or compact.\n", plural(n, "byte"))
	}
	if n := len(state.Intents()); n > 0 {
		fmt.Fprintf(p.stdout, "Nobody knows how %s ended; the next apply looks.\n", plural(n, "action"))
	}
	if !state.Canonical() {
		fmt.Fprintln(p.stdout, "It ends with a journal. \"freightliner state compact\" folds it, before a commit to git.")
	}
}

// tellFinding is one line of a report; 0 is no line of the file.
func (p *program) tellFinding(d *statefile.Damage) {
	if d.Line == 0 {
		fmt.Fprintf(p.stdout, "  %s\n", clean(d.What))
		return
	}
	fmt.Fprintf(p.stdout, "  line %d (byte %d): %s\n", d.Line, d.Offset, clean(d.What))
}
