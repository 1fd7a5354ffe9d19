package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"freightliner/providers"
)

// longFlags turns Terraform's single-dash flags into the double-dash form that
// cobra reads: -out=F and -out F become --out=F and --out F. It walks the
// command tree along with the arguments, since only a command's own flags say
// whether the next argument is a value; a value is left alone even when it
// starts with a dash. Everything after a bare "--" is left alone.
func longFlags(root *cobra.Command, args []string) []string {
	out := make([]string, 0, len(args))
	cmd, value := root, false
	for i, arg := range args {
		switch {
		case value:
			out, value = append(out, arg), false
		case arg == "--":
			return append(out, args[i:]...)
		case arg == "-h" || len(arg) < 2 || arg[0] != '-':
			out = append(out, arg)
			if sub := child(cmd, arg); sub != nil {
				cmd = sub
			}
		default:
			name, _, inline := strings.Cut(strings.TrimLeft(arg, "-"), "=")
			value = !inline && takesValue(cmd, name)
			out = append(out, "--"+strings.TrimLeft(arg, "-"))
		}
	}
	return out
}

func child(cmd *cobra.Command, name string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == name {
			return sub
		}
	}
	return nil
}

// flagOf finds a flag of cmd, its own or one of the global ones.
func flagOf(cmd *cobra.Command, name string) *pflag.Flag {
	if f := cmd.Flags().Lookup(name); f != nil {
		return f
	}
	return cmd.Root().PersistentFlags().Lookup(name)
}

func takesValue(cmd *cobra.Command, name string) bool {
	f := flagOf(cmd, name)
	return f != nil && f.NoOptDefVal == ""
}

// usageError is a mistake on the command line: told with the usage line, since
// the whole help would push the mistake off the screen.
type usageError struct {
	cmd  *cobra.Command
	text string
	hint string
}

func (e *usageError) Error() string { return e.text }

// wrongFlag words a flag mistake of cobra's with the dashes people type here.
func wrongFlag(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		return &usageError{cmd, "unknown flag -" + providers.Printable(name, 80), didYouMean("-", name, flagNames(cmd))}
	case errors.As(err, &missing):
		return &usageError{cmd, fmt.Sprintf("flag -%s needs a value", missing.GetSpecifiedName()), ""}
	case errors.As(err, &invalid):
		cause := invalid.Unwrap()
		return &usageError{cmd, fmt.Sprintf("flag -%s: %s", invalid.GetFlag().Name, providers.Printable(plainFlagCause(cause), 200)), ""}
	}
	return &usageError{cmd, providers.Printable(err.Error(), 200), ""}
}

// plainFlagCause drops the name of the Go function that did not understand a
// number; what is left is what a person can act on.
func plainFlagCause(err error) string {
	text := err.Error()
	for _, prefix := range []string{"strconv.ParseInt: ", "strconv.ParseBool: ", "time: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return text
}

func flagNames(cmd *cobra.Command) []string {
	var names []string
	add := func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	}
	cmd.Flags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	return names
}

// atMost allows up to n arguments, exactly counts them, noArguments none.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return &usageError{cmd, fmt.Sprintf("unexpected argument %q", args[n]), ""}
		}
		return nil
	}
}

func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return &usageError{cmd, "missing argument: " + what, ""}
		}
		return atMost(n)(cmd, args)
	}
}

// group makes a command that only has subcommands: alone it prints its help.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		var names []string
		for _, sub := range cmd.Commands() {
			names = append(names, sub.Name())
		}
		return &usageError{cmd, "unknown command " + quoted(args[0]), didYouMean("", args[0], names)}
	}
	return cmd
}

func quoted(s string) string { return `"` + providers.Printable(s, 80) + `"` }

// didYouMean is a hint when one of the known names is close to got: two edits,
// or one of them begins with the other.
func didYouMean(dash, got string, known []string) string {
	best, distance := "", 3
	for _, name := range known {
		d := levenshtein.Distance(got, name, nil)
		if len(got) >= 3 && strings.HasPrefix(name, got) {
			d = min(d, 2)
		}
		if d < distance && d < len(name) {
			best, distance = name, d
		}
	}
	if best == "" {
		return ""
	}
	return "Did you mean " + dash + best + "?"
}

// usageLine is "freightliner plan [options]".
func usageLine(cmd *cobra.Command) string {
	line := cmd.CommandPath()
	if _, arguments, ok := strings.Cut(cmd.Use, " "); ok {
		return line + " [options] " + arguments
	}
	if cmd.HasSubCommands() {
		return line + " [options] <command>"
	}
	return line + " [options]"
}

// help prints a command's help with the flags as Terraform writes them.
func help(cmd *cobra.Command, w io.Writer) {
	fmt.Fprintf(w, "Usage: %s\n", usageLine(cmd))
	if text := cmd.Long; text != "" {
		fmt.Fprintf(w, "\n%s\n", text)
	} else if cmd.Short != "" {
		fmt.Fprintf(w, "\n%s.\n", cmd.Short)
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprint(w, "\nCommands:\n")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(w, "  %-12s %s\n", sub.Name(), sub.Short)
			}
		}
	}
	helpFlags(w, "Options", cmd.NonInheritedFlags(), cmd)
	helpFlags(w, "Global options", cmd.InheritedFlags(), cmd)
}

func helpFlags(w io.Writer, title string, flags *pflag.FlagSet, cmd *cobra.Command) {
	var lines [][2]string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, text := pflag.UnquoteUsage(f)
		name := "-" + f.Name
		if f.NoOptDefVal == "" {
			name += "=" + value
		}
		lines = append(lines, [2]string{name, text})
	})
	if len(lines) == 0 {
		return
	}
	if !cmd.HasParent() {
		title = "Global options"
	}
	width := 0
	for _, line := range lines {
		width = max(width, len(line[0]))
	}
	fmt.Fprintf(w, "\n%s:\n", title)
	for _, line := range lines {
		fmt.Fprintf(w, "  %-*s  %s\n", width, line[0], line[1])
	}
}

// completeDashes makes completion speak single dashes when the user does: cobra
// completes --out, and the shell offers only what starts with what was typed.
// It reports whether args ask for completion of a single-dash word, and gives
// the arguments that cobra is to see.
func completeDashes(args []string) ([]string, bool) {
	if len(args) < 2 || !slices.Contains([]string{cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}, args[0]) {
		return args, false
	}
	last := args[len(args)-1]
	if !strings.HasPrefix(last, "-") || strings.HasPrefix(last, "--") {
		return args, false
	}
	asked := slices.Clone(args)
	asked[len(asked)-1] = "-" + last
	return asked, true
}

// completions are the lines that cobra answers, as the shell is to see them:
// without the marks around the names of values, and with one dash if asked.
func completions(answer string, single bool) string {
	lines := strings.Split(strings.ReplaceAll(answer, "`", ""), "\n")
	for i, line := range lines {
		if single && strings.HasPrefix(line, "--") {
			lines[i] = line[1:]
		}
	}
	return strings.Join(lines, "\n")
}
