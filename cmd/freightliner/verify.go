package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"freightliner/config"
	"freightliner/executor"
	"freightliner/planner"
	"freightliner/providers"
)

// verifyFlags are what verify has besides variables.
type verifyFlags struct {
	stateFlags
	targets, exclude []string
	deep             bool
	parallelism      int
}

func (p *program) verifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read the destinations again and check every digest",
		Long: `Reads the destinations of everything in the state: every tag must have the digest
that was recorded, every manifest is read and hashed, and every blob must be there;
with -deep every blob is read and hashed too. It changes nothing.
Exits 2 when something does not match, 3 when a part could not be looked at.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			vars, err := f.variables(cmd, p.env)
			if err != nil {
				return err
			}
			if f.parallelism < 0 {
				return &usageError{cmd, "-parallelism must not be negative", ""}
			}
			s, err := p.startSession("verify", false, "")
			if err != nil {
				return err
			}
			return s.finish(s.verify(cmd.Context(), f, vars), plainSummary)
		},
	}
	f.add(cmd, false)
	flags := cmd.Flags()
	flags.BoolVar(&f.json, "json", false, "print the result as JSON (docs/plan-json.md)")
	flags.BoolVar(&f.deep, "deep", false, "read and hash every byte of every blob")
	flags.StringArrayVar(&f.targets, "target", nil, "only addresses that match `GLOB`; may be repeated")
	flags.StringArrayVar(&f.exclude, "exclude", nil, "no addresses that match `GLOB`; may be repeated")
	flags.IntVar(&f.parallelism, "parallelism", 0, "look at `N` tags at once at each registry (default 16)")
	return cmd
}

func (s *session) verify(parent context.Context, f verifyFlags, vars config.Variables) error {
	ctx, end := s.cancelOnSignal(parent)
	defer end()
	cfg, state, err := s.configAndState(vars, f.state)
	if err != nil {
		return err
	}
	options, err := s.clientOptions(cfg.Registries)
	if err != nil {
		return err
	}
	options.ManifestCache = 1 // nothing is taken for read because another repository has it
	client := s.connect(options)
	defer client.Close()
	report, err := executor.Verify(ctx, state, client, executor.VerifyOptions{
		Deep: f.deep, Parallelism: f.parallelism, Wants: planner.Wants(f.targets, f.exclude),
	})
	if err != nil {
		return err
	}
	if f.json {
		err = writeVerifyJSON(s.out, report)
	} else {
		writeVerify(s.out, report, f.deep)
	}
	if err != nil {
		return err
	}
	return verifyExit(report)
}

// verifyExit is 2 where something is not as recorded, and 3 where nothing worse
// is known than that a part could not be looked at.
func verifyExit(report *executor.VerifyReport) error {
	code := exitDone
	for _, m := range report.Mismatches {
		switch providers.ClassOf(m.Err) {
		case providers.NotFound, providers.Conflict:
			return &exit{code: exitChanges}
		}
		code = exitPartial
	}
	if code == exitDone {
		return nil
	}
	return &exit{code: code}
}

func writeVerify(w io.Writer, report *executor.VerifyReport, deep bool) {
	for _, m := range report.Mismatches {
		fmt.Fprintf(w, "%s\n  at %s: %s\n", clean(m.Address), clean(m.On), clean(m.Err.Error()))
	}
	if len(report.Mismatches) > 0 {
		fmt.Fprintln(w)
	}
	read := "present"
	if deep {
		read = "present, " + size(report.Bytes) + " read and hashed"
	}
	fmt.Fprintf(w, "%s and %s read and hashed, %s %s.\n", plural(report.Tags, "tag"), plural(report.Manifests, "manifest"), plural(report.Blobs, "blob"), read)
	switch n := len(report.Mismatches); n {
	case 0:
		fmt.Fprintln(w, "Everything is as the state says.")
	default:
		fmt.Fprintf(w, "%s not as the state says. \"freightliner plan\" shows what an apply would put right.\n", verb(n))
	}
}

// verb is "1 thing is", "2 things are".
func verb(n int) string {
	if n == 1 {
		return "1 thing is"
	}
	return plural(n, "thing") + " are"
}

// jsonMismatch is one mismatch in verify -json.
type jsonMismatch struct {
	Address string `json:"address"`
	On      string `json:"on"`
	Class   string `json:"class"`
	Error   string `json:"error"`
}

func writeVerifyJSON(w io.Writer, report *executor.VerifyReport) error {
	e := &lineEncoder{w: w}
	e.object(struct {
		Format    string `json:"format_version"`
		Tags      int    `json:"tags"`
		Manifests int    `json:"manifests"`
		Blobs     int    `json:"blobs"`
		Bytes     int64  `json:"bytes_read"`
	}{planFormat, report.Tags, report.Manifests, report.Blobs, report.Bytes})
	writeList(e, "mismatches", report.Mismatches, func(m *executor.Mismatch) any {
		return jsonMismatch{m.Address, m.On, providers.ClassOf(m.Err).String(), m.Err.Error()}
	})
	e.raw([]byte("}\n"))
	return e.err
}
