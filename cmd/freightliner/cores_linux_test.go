package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNoCoreDumps: a process that is about to hold a value or a key may write no
// core file. The program that it asks for the identity inherits the limit.
func TestNoCoreDumps(t *testing.T) {
	program, err := exec.LookPath("freightliner") // TestMain put it there
	if err != nil {
		t.Fatal(err)
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &was); err != nil {
		t.Fatal(err)
	}
	if was.Max == 0 {
		t.Log("this machine allows no process a core file, so there is nothing to see")
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: was.Max, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_CORE, &was)
	for _, args := range [][]string{{"secret", "put", "db"}, {"secret", "init"}} {
		dir := t.TempDir()
		for name, text := range map[string]string{
			"main.hcl": "secret_store \"main\" {}\n",
			"key":      "#!/bin/sh\nulimit -H -c > limit\nexit 1\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(program, args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader("value")
		cmd.Env = append(os.Environ(), "HOME="+dir, "CI=", ageKeyCmd+"="+filepath.Join(dir, "key"))
		out, _ := cmd.CombinedOutput() // it fails: there is no identity
		limit, err := os.ReadFile(filepath.Join(dir, "limit"))
		if err != nil {
			t.Fatalf("%s never asked for an identity: %s", strings.Join(args, " "), out)
		}
		if got := strings.TrimSpace(string(limit)); got != "0" {
			t.Errorf("%s may write a core file of %s blocks", strings.Join(args, " "), got)
		}
	}
}
