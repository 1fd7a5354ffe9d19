package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"freightliner/providers/disk"
	"freightliner/providers/secret/audit"
)

func (p *program) auditCommand() *cobra.Command {
	cmd := group(&cobra.Command{Use: "audit", Short: "The log of who read and wrote which secret"})
	var asJSON bool
	verify := &cobra.Command{
		Use:   "verify [HEAD...]",
		Short: "Check that nothing in the audit log was changed",
		Long: `Reads this directory's audit log and checks its chain. A chain alone does not show
that its end was cut off or written anew: give the heads that earlier runs printed
("Audit log: 41:07ab…"), and each must still be in it. Exit code 1: it was changed.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s := &session{program: p, command: cmd.CommandPath(), json: asJSON, out: p.stdout}
			return s.verifyAudit(cmd, args)
		},
	}
	verify.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(verify)
	return cmd
}

func (s *session) verifyAudit(cmd *cobra.Command, args []string) error {
	var heads []audit.Head
	for _, text := range args {
		head, err := audit.ParseHead(text)
		if err != nil {
			return &usageError{cmd, quoted(text) + ": " + err.Error(), ""}
		}
		heads = append(heads, head)
	}
	dir, workspace, err := s.auditPlace()
	if err != nil {
		return err
	}
	report := audit.Report{}
	if root, openErr := os.OpenRoot(dir); openErr == nil {
		defer root.Close()
		report, err = audit.Verify(cmd.Context(), disk.OS(root), workspace, heads...)
	} else if !os.IsNotExist(openErr) {
		err = pathless(openErr, dir)
	}
	if err != nil {
		return err
	}
	missing := report.Lines == 0 && len(heads) > 0
	if s.json {
		err = s.auditJSON(&report, missing)
	} else {
		s.auditText(&report, dir, missing)
	}
	if err == nil && (!report.OK() || missing) {
		return &exit{code: exitError}
	}
	return err
}

func (s *session) auditText(r *audit.Report, dir string, missing bool) {
	for _, p := range r.Problems {
		fmt.Fprintf(s.out, "%s\n", clean(p.String()))
	}
	for _, head := range r.Unchecked {
		fmt.Fprintf(s.out, "Not checked: the head %s is older than the first line that is there.\n", head)
	}
	if r.Torn {
		fmt.Fprintln(s.out, "The last lines were cut off by a crash before they counted; the next run drops them.")
	}
	switch {
	case missing:
		fmt.Fprintf(s.out, "There is no audit log in %s, although there are heads of one.\n", clean(dir))
	case r.Lines == 0:
		fmt.Fprintf(s.out, "There is no audit log of this directory in %s.\n", clean(dir))
	case r.OK():
		fmt.Fprintf(s.out, "%s in %s: nothing was changed. The end is %s\n", plural(r.Lines, "line"), clean(dir), r.Last)
	default:
		fmt.Fprintf(s.out, "%s in %s: %s.\n", plural(r.Lines, "line"), clean(dir), plural(len(r.Problems), "problem"))
	}
}

func (s *session) auditJSON(r *audit.Report, missing bool) error {
	e := &lineEncoder{w: s.stdout}
	e.object(struct {
		Format string `json:"format_version"`
		OK     bool   `json:"ok"`
		Lines  int    `json:"lines"`
		Last   string `json:"last,omitempty"`
		Torn   bool   `json:"torn"`
	}{planFormat, r.OK() && !missing, r.Lines, r.Last.String(), r.Torn})
	writeList(e, "problems", r.Problems, func(p *audit.Problem) any { return p.String() })
	writeList(e, "unchecked", r.Unchecked, func(h *audit.Head) any { return h.String() })
	e.raw([]byte("}\n"))
	return e.err
}
