package main

import (
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"syscall"
	"testing"

	"freightliner/providers/secret/secrettest/awsfake"
)

// TestNoCoreDump kills a process the hard way, with a payload in its memory: it
// leaves no core, and its last words have no payload.
func TestNoCoreDump(t *testing.T) {
	fake := awsfake.New("eu-west-1")
	fake.Clock = awsfake.PassingClock()
	server := httptest.NewServer(fake)
	defer server.Close()
	values := canaries(1)
	s := newSafe(t, fmt.Sprintf(`
variable "v" { ephemeral = true }
secret_store "cloud" {
  kind     = "aws"
  region   = "eu-west-1"
  endpoint = %q
}
secret "x" {
  store = secret_store.cloud
  name  = "x"
  value = var.v
}
`, server.URL))
	s.env = []string{"FREIGHTLINER_VAR_v=" + values[0].value, "GOTRACEBACK=crash"}
	reached, never := make(chan struct{}), make(chan struct{})
	defer close(never)
	fake.Inject(func(c awsfake.Call) awsfake.Fault {
		if c.Operation != "CreateSecret" {
			return awsfake.Fault{}
		}
		close(reached)
		return awsfake.Fault{Until: never}
	})
	cmd := s.command("", "apply", "-auto-approve")
	cmd.Stdout, cmd.Stderr = &s.said, &s.said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-reached
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
	if err != nil || !regexp.MustCompile(`Max core file size +0 +0 `).Match(limits) {
		t.Errorf("a core may be written: %v\n%s", err, limits)
	}
	if err := cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.CoreDump() {
		t.Errorf("ended with %v: a core was dumped", cmd.ProcessState)
	}
	s.search(values)
}
