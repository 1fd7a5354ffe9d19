package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"freightliner/config"
)

func (p *program) fmtCommand() *cobra.Command {
	var check, showDiff bool
	cmd := &cobra.Command{
		Use:   "fmt [FILE or DIR...]",
		Short: "Write configuration files in the usual layout",
		Long: `Writes the configuration files of the working directory, or those named, in the
usual layout and names the files it changed. With "-" it formats standard input
to standard output.`,
		RunE: func(_ *cobra.Command, args []string) error { return p.format(args, check, showDiff) },
	}
	cmd.Flags().BoolVar(&check, "check", false, "change nothing; exit 1 if a file would be changed")
	cmd.Flags().BoolVar(&showDiff, "diff", false, "print what changes")
	return cmd
}

func (p *program) format(targets []string, check, showDiff bool) error {
	if len(targets) == 0 {
		targets = []string{"."}
	}
	failed, changed := false, false
	for _, target := range targets {
		files, err := hclFiles(target)
		if err != nil {
			return err
		}
		for _, name := range files {
			differs, err := p.formatFile(name, check, showDiff)
			if told(err) {
				failed = true
			} else if err != nil {
				return err
			}
			changed = changed || differs
		}
	}
	if failed || check && changed {
		return &exit{code: exitError}
	}
	return nil
}

// hclFiles are the files that target names: itself, or what a directory holds.
func hclFiles(target string) ([]string, error) {
	if target == "-" {
		return []string{target}, nil
	}
	info, err := os.Stat(target)
	if err != nil {
		return nil, fmt.Errorf("read %w", pathless(err, target))
	}
	if !info.IsDir() {
		return []string{target}, nil
	}
	entries, err := os.ReadDir(target)
	if err != nil {
		return nil, fmt.Errorf("read %w", pathless(err, target))
	}
	var files []string
	for _, entry := range entries {
		if name := entry.Name(); entry.Type().IsRegular() && strings.HasSuffix(name, ".hcl") && !strings.HasPrefix(name, ".") {
			files = append(files, filepath.Join(target, name))
		}
	}
	slices.Sort(files)
	return files, nil
}

// formatFile reports whether the file's layout differs, and writes the better
// one unless only a check was asked for.
func (p *program) formatFile(name string, check, showDiff bool) (bool, error) {
	var src []byte
	var err error
	if name == "-" {
		src, err = io.ReadAll(io.LimitReader(p.stdin, smallFile))
	} else {
		src, err = readSmallFile(name)
	}
	if err != nil {
		return false, fmt.Errorf("read %w", pathless(err, name))
	}
	out, diags := config.Format(src, name)
	diagnosticText{p.stderr, p.colour(p.terminal.stderr)}.write(diags)
	if diags.HasErrors() {
		return false, &exit{code: exitError}
	}
	differs := !bytes.Equal(src, out)
	switch {
	case name == "-" && !check && !showDiff:
		p.stdout.Write(out)
		return differs, nil
	case !differs:
		return false, nil
	}
	if name != "-" {
		fmt.Fprintln(p.stdout, clean(name))
	}
	if showDiff {
		for line := range strings.Lines(string(diff.Diff("old/"+name, src, "new/"+name, out))) {
			fmt.Fprintln(p.stdout, clean(strings.TrimRight(line, "\r\n")))
		}
	}
	if check || name == "-" {
		return true, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return true, fmt.Errorf("read %w", pathless(err, name))
	}
	return true, writeFile(name, info.Mode()&fs.ModePerm, true, func(w io.Writer) error {
		_, err := w.Write(out)
		return err
	})
}
