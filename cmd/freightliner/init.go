package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"freightliner/config"
)

// starter is the first configuration of a newcomer: valid as it stands, with
// nothing in force until a comment sign is taken away.
const starter = `# What freightliner keeps in which registry. The usual way is:
#
#   freightliner plan     shows what would be done
#   freightliner apply    does it, after asking
#
# The state file beside this one belongs into git.

freightliner {
  required_version = ">= 0.1.0"
}

# A registry that needs more than its host name. Credentials come from
# "docker login" (or "podman login") unless an auth block says otherwise.
#
# registry "prod" {
#   host = "registry.example.com"
# }

# A tree keeps a whole tree of repositories in step.
#
# tree "platform" {
#   source      = "ghcr.io/acme"
#   destination = "registry.example.com/mirror/acme"
#
#   repositories {
#     include = ["**"]
#     exclude = ["**/sandbox-*"]
#   }
#   tags {
#     include = ["v*", "latest"]
#     newest  = 10
#   }
# }

# An image keeps one tag in step.
#
# image "nginx" {
#   source      = "docker.io/library/nginx:1.27"
#   destination = "registry.example.com/mirror/nginx:1.27"
# }
`

func (p *program) initCommand() *cobra.Command {
	var f stateFlags
	var driver bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Prepare a directory: starter file, .gitattributes, .gitignore",
		Long: `Prepares a directory: a commented starter configuration if there is none, and the
lines that git needs to keep the state file whole and everything else out. What
exists is never overwritten; missing lines are appended. It prints the two lines
of git configuration that let git merge states by record, and runs neither: your
git configuration is yours.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if driver {
				fmt.Fprint(p.stdout, mergeDriver)
				return nil
			}
			return p.initialise(cmd, &f)
		},
	}
	f.variableFlags.add(cmd)
	cmd.Flags().StringVar(&f.state, "state", "", "the state file is `FILE`, whatever the configuration says")
	cmd.Flags().BoolVar(&driver, "merge-driver", false, "only print the git configuration of the merge driver")
	return cmd
}

// mergeDriver is what git has to be told once in each clone, since it does not
// take commands to run from a repository.
const mergeDriver = `git config merge.freightliner.name "freightliner state, merged by record"
git config merge.freightliner.driver "freightliner state merge-driver %O %A %B %L %P"
`

// attributes for git: the state is checksummed to the byte, so its line ends are
// not to be touched, and it is merged by record where the driver is configured.
// Where it is not, git merges it as text, which is safe too.
const attributes = " -text merge=freightliner"

func (p *program) initialise(cmd *cobra.Command, f *stateFlags) error {
	root, err := os.OpenRoot(".")
	if err != nil {
		return fmt.Errorf("open the directory: %w", err)
	}
	defer root.Close()
	if err := p.starterFile(); err != nil {
		return err
	}
	state, err := p.stateToBe(cmd, f)
	if err != nil {
		return err
	}
	patterns := []string{"*.state" + attributes}
	if path.Ext(filepath.ToSlash(state)) != ".state" && filepath.IsLocal(state) {
		patterns = append(patterns, attributePattern(state)+attributes)
	}
	if err := p.appendLines(root, ".gitattributes", "# freightliner's state is checksummed: no line-end conversion, and a merge by record", patterns...); err != nil {
		return err
	}
	if err := p.appendLines(root, ".gitignore", "# freightliner's lock and backups, what a broken run saved, and saved plans", ".freightliner/", "*.saved-*", ".*.tmp-*", "*.flplan"); err != nil {
		return err
	}
	fmt.Fprint(p.stdout, "\nTo let git merge states by record, run this once in each clone:\n")
	for line := range strings.Lines(mergeDriver) {
		fmt.Fprint(p.stdout, "    "+line)
	}
	fmt.Fprint(p.stdout, "\nFreightliner is ready. Describe what you want in freightliner.hcl, then run:\n    freightliner plan\n")
	return nil
}

// stateToBe is the state's path, as far as it can be known: a configuration may
// want variables that nobody has set yet, and that is no reason to stop here.
func (p *program) stateToBe(cmd *cobra.Command, f *stateFlags) (string, error) {
	found, err := configured()
	if f.state != "" || err != nil || found == "" {
		return stateName(f.state, nil), err
	}
	vars, err := f.variables(cmd, p.env)
	if err != nil {
		return "", err
	}
	root, err := os.OpenRoot(".")
	if err != nil {
		return "", fmt.Errorf("open the directory: %w", err)
	}
	defer root.Close()
	cfg, diags := config.Load(root.FS(), ".", vars, config.Options{Version: buildVersion(), ReadFile: readSmallFile})
	if diags.HasErrors() {
		fmt.Fprintf(p.stdout, "The configuration has mistakes (\"freightliner validate\" lists them), so %s is taken for the state.\n", config.DefaultState)
	}
	return stateName("", cfg), nil
}

// attributePattern names one file of this directory in .gitattributes, where
// blanks and quotation marks need quotes and globs are to be taken literally.
func attributePattern(name string) string {
	pattern := "/" + path.Clean(filepath.ToSlash(name))
	for _, special := range []string{`\`, "*", "?", "["} {
		pattern = strings.ReplaceAll(pattern, special, `\`+special)
	}
	if strings.ContainsAny(pattern, " \t\"") {
		pattern = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(pattern) + `"`
	}
	return pattern
}

// configured names a configuration file of the working directory; empty when
// there is none.
func configured() (string, error) {
	entries, err := os.ReadDir(".")
	if err != nil {
		return "", fmt.Errorf("read the directory: %w", pathless(err, "."))
	}
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasPrefix(name, ".") && (strings.HasSuffix(name, ".hcl") || strings.HasSuffix(name, ".hcl.json")) {
			return name, nil
		}
	}
	return "", nil
}

func (p *program) starterFile() error {
	if name, err := configured(); err != nil {
		return err
	} else if name != "" {
		fmt.Fprintf(p.stdout, "Kept %s: there is a configuration already.\n", clean(name))
		return nil
	}
	err := writeFile("freightliner.hcl", public, true, func(w io.Writer) error {
		_, err := io.WriteString(w, starter)
		return err
	})
	if err == nil {
		fmt.Fprintln(p.stdout, "Wrote freightliner.hcl.")
	}
	return err
}

// appendLines adds the lines that name lacks, below a comment of their own.
func (p *program) appendLines(root *os.Root, name, comment string, lines ...string) error {
	old, err := root.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", name, pathless(err, name))
	}
	have := map[string]bool{}
	for line := range strings.Lines(string(old)) {
		have[strings.TrimSpace(line)] = true
	}
	var missing []string
	for _, line := range lines {
		if !have[line] {
			missing = append(missing, line)
		}
	}
	if len(missing) == 0 {
		fmt.Fprintf(p.stdout, "Kept %s: nothing is missing.\n", name)
		return nil
	}
	text := bytes.Clone(old)
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	text = append(text, comment+"\n"+strings.Join(missing, "\n")+"\n"...)
	err = writeFile(name, public, true, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
	if err != nil {
		return err
	}
	verb := "Wrote"
	if len(old) > 0 {
		verb = "Added to"
	}
	fmt.Fprintf(p.stdout, "%s %s: %s.\n", verb, name, list(missing))
	return nil
}
