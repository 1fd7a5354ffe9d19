package main

import (
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testProgram is a program that nobody watches.
func testProgram() *program {
	return &program{
		stdout: &lockedWriter{w: io.Discard}, stderr: &lockedWriter{w: io.Discard},
		env: map[string]string{}, clock: wallClock{}, tick: wallTicker,
	}
}

func TestLongFlags(t *testing.T) {
	tests := map[string]struct{ in, want []string }{
		"one dash":                        {[]string{"plan", "-out", "f"}, []string{"plan", "--out", "f"}},
		"one dash with value":             {[]string{"plan", "-out=f"}, []string{"plan", "--out=f"}},
		"two dashes":                      {[]string{"plan", "--out", "f", "--json"}, []string{"plan", "--out", "f", "--json"}},
		"a value that starts with a dash": {[]string{"plan", "-markdown", "-", "-json"}, []string{"plan", "--markdown", "-", "--json"}},
		"a value that looks like a flag":  {[]string{"plan", "-out", "-json"}, []string{"plan", "--out", "-json"}},
		"a switch takes no value":         {[]string{"apply", "-json", "-auto-approve"}, []string{"apply", "--json", "--auto-approve"}},
		"global before the command":       {[]string{"-chdir", "-dir", "plan", "-full"}, []string{"--chdir", "-dir", "plan", "--full"}},
		"global with value":               {[]string{"-chdir=x", "state", "list", "-json"}, []string{"--chdir=x", "state", "list", "--json"}},
		"nothing behind a double dash":    {[]string{"fmt", "--", "-odd.hcl"}, []string{"fmt", "--", "-odd.hcl"}},
		"a lone dash":                     {[]string{"fmt", "-"}, []string{"fmt", "-"}},
		"help":                            {[]string{"plan", "-h"}, []string{"plan", "-h"}},
		"an unknown flag takes no value":  {[]string{"plan", "-nope", "-json"}, []string{"plan", "--nope", "--json"}},
		"a variable with an equals sign":  {[]string{"plan", "-var", "a=-b=c"}, []string{"plan", "--var", "a=-b=c"}},
	}
	root := testProgram().commands()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, longFlags(root, test.in)); diff != "" {
				t.Errorf("longFlags(%q) (-want +got):\n%s", test.in, diff)
			}
		})
	}
}

func FuzzLongFlags(f *testing.F) {
	f.Add("plan", "-out", "-x")
	f.Add("-chdir", "--", "plan")
	f.Add("state", "-", "")
	root := testProgram().commands()
	f.Fuzz(func(t *testing.T, a, b, c string) {
		in := []string{a, b, c}
		out := longFlags(root, in)
		if len(out) != len(in) {
			t.Fatalf("longFlags(%q) = %q: arguments were lost or made", in, out)
		}
		if diff := cmp.Diff(out, longFlags(root, out)); diff != "" {
			t.Fatalf("longFlags(%q) is not stable (-once +twice):\n%s", in, diff)
		}
	})
}

func TestDidYouMean(t *testing.T) {
	known := []string{"plan", "apply", "auto-approve", "out"}
	tests := []struct{ dash, got, want string }{
		{"", "aply", "Did you mean apply?"},
		{"-", "auto-aprove", "Did you mean -auto-approve?"},
		{"-", "auto", "Did you mean -auto-approve?"},
		{"", "zzzzzz", ""},
		{"", "x", ""},
	}
	for _, test := range tests {
		if got := didYouMean(test.dash, test.got, known); got != test.want {
			t.Errorf("didYouMean(%q, %q) = %q, want %q", test.dash, test.got, got, test.want)
		}
	}
}

// Every flag that is accepted does its job somewhere; this list is the contract
// (DESIGN A2) as far as it is built, and a flag that appears or goes must be
// changed here too.
func TestFlags(t *testing.T) {
	planFlags := []string{"exclude", "full", "json", "json-into", "max-deletes", "parallelism", "state", "target", "var", "var-file"}
	secretFlags := []string{"json", "store", "var", "var-file"}
	applyFlags := []string{"auto-approve", "lock-timeout", "max-duration", "max-failures", "report"}
	want := map[string][]string{
		"freightliner":               {"chdir", "log-json", "log-level", "no-color"},
		"freightliner init":          {"merge-driver", "state", "var", "var-file"},
		"freightliner validate":      {"json", "var", "var-file"},
		"freightliner fmt":           {"check", "diff"},
		"freightliner plan":          append([]string{"destroy", "detailed-exitcode", "markdown", "out"}, planFlags...),
		"freightliner show":          {"full", "json", "markdown", "state", "var", "var-file"},
		"freightliner apply":         append(append([]string{"approve", "spool"}, applyFlags...), planFlags...),
		"freightliner destroy":       append(append([]string{}, applyFlags...), planFlags...),
		"freightliner drift":         {"exclude", "json", "json-into", "markdown", "state", "target", "var", "var-file"},
		"freightliner verify":        {"deep", "exclude", "json", "parallelism", "state", "target", "var", "var-file"},
		"freightliner state":         {},
		"freightliner state list":    {"json", "state", "var", "var-file"},
		"freightliner state show":    {"json", "state", "var", "var-file"},
		"freightliner state verify":  {"canonical", "json", "state", "var", "var-file"},
		"freightliner state compact": {"json", "lock-timeout", "state", "var", "var-file"},
		"freightliner state diff":    {"json", "state", "var", "var-file"},
		"freightliner state merge":   {"json", "lock-timeout", "out", "resolve", "state", "var", "var-file"},
		"freightliner state mv":      {"dry-run", "json", "lock-timeout", "state", "var", "var-file"},
		"freightliner state rebuild": {"auto-approve", "dry-run", "json", "lock-timeout", "state", "var", "var-file"},
		"freightliner state repair":  {"auto-approve", "dry-run", "json", "lock-timeout", "state", "var", "var-file"},
		"freightliner state rm":      {"auto-approve", "dry-run", "json", "lock-timeout", "state", "var", "var-file"},
		"freightliner state upgrade": {"json", "state", "var", "var-file"},

		"freightliner state merge-driver": {"json", "resolve", "state", "var", "var-file"},
		"freightliner registry":           {},
		"freightliner registry serve":     {"listen"},
		"freightliner version":            {"json"},
		"freightliner completion":         {},

		"freightliner secret":               {},
		"freightliner secret list":          secretFlags,
		"freightliner secret get":           append([]string{"key", "reveal", "version"}, secretFlags...),
		"freightliner secret put":           append([]string{"allow-empty", "expect", "file", "trim"}, secretFlags...),
		"freightliner secret put-json":      append([]string{"allow-empty", "expect", "file", "remove", "trim"}, secretFlags...),
		"freightliner secret delete":        append([]string{"auto-approve", "force", "window"}, secretFlags...),
		"freightliner secret restore":       secretFlags,
		"freightliner secret history":       secretFlags,
		"freightliner secret init":          append([]string{"name", "recovery"}, secretFlags...),
		"freightliner secret member":        {},
		"freightliner secret member list":   secretFlags,
		"freightliner secret member add":    secretFlags,
		"freightliner secret member remove": secretFlags,
		"freightliner secret doctor":        secretFlags,
		"freightliner audit":                {},
		"freightliner audit verify":         {"json"},
	}
	got := map[string][]string{}
	walkCommands(testProgram().commands(), func(path string, flags []string) { got[path] = flags })
	if diff := cmp.Diff(sortedLists(want), sortedLists(got)); diff != "" {
		t.Errorf("flags by command (-want +got):\n%s", diff)
	}
}
