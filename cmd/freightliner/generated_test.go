package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"freightliner/config"
)

// TestGenerated holds the pages that are made from the program itself; -update
// writes them anew.
func TestGenerated(t *testing.T) {
	for name, want := range map[string]string{
		"configuration.md": configurationPage(),
		"commands.md":      commandsPage(),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("..", "..", "docs", name)
			if *update {
				if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, string(got)); diff != "" {
				t.Errorf("docs/%s is out of date; go test ./cmd/freightliner -run TestGenerated -update writes it anew (-want +got):\n%s", name, diff)
			}
		})
	}
}

// configurationPage is docs/configuration.md: the tables that configurations are
// checked against.
func configurationPage() string {
	return `# Configuration

All *.hcl and *.hcl.json files of one directory form one configuration; files whose name begins with a dot are ignored. Made
from the tables that configurations are checked against. [examples](../examples) has configurations to copy.

Repository globs: ` + "`*` stays within a path segment, `**` crosses segments. Tag globs: `*`" + ` is any run of characters. Filters combine
with "and".

` + config.Reference()
}

// commandsPage is docs/commands.md: the help of every command.
func commandsPage() string {
	var b strings.Builder
	b.WriteString(`# Commands

Made from the program's own help. Flags are accepted with one dash or two.

## Exit codes

| code | meaning |
| --- | --- |
| 0 | done, or in sync |
| 1 | error |
| 2 | changes (` + "`plan -detailed-exitcode`" + `), drift (` + "`drift`" + `), or differences (` + "`state diff`" + `) |
| 3 | partial: some things could not be observed or some actions failed; the state is saved, run again to go on |
| 4 | the plan is stale: what it was made for has changed |
| 5 | the lock was not obtained |
| 6 | the state is damaged or was written by a newer version |
| 7 | refused by a guard: deletes, protection, incomplete listing, approval |
| 130 | interrupted; the state is saved |
`)
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		fmt.Fprintf(&b, "\n## %s\n\n```\n", cmd.CommandPath())
		help(cmd, &b)
		b.WriteString("```\n")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				walk(sub)
			}
		}
	}
	walk((&program{}).commands())
	return b.String()
}
