package statefile_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"freightliner/providers"
	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

const (
	childEnv = "STATEFILE_TEST_LOCK_DIR"
	waitEnv  = "STATEFILE_TEST_LOCK_WAIT"
	writeEnv = "STATEFILE_TEST_WRITE_DIR"
)

// TestMain makes the test binary its own second process: with childEnv set it
// takes the lock of that directory, waiting as long as waitEnv says, tells how
// that went, and holds it until its stdin ends; with writeEnv set it does runs in that directory until killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(writeEnv); dir != "" {
		fmt.Println("ended:", writeForever(dir))
		os.Exit(1)
	}
	dir := os.Getenv(childEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	wait, _ := time.ParseDuration(os.Getenv(waitEnv)) // unset: do not wait
	root, err := os.OpenRoot(dir)
	if err == nil {
		_, err = AcquireLock(context.Background(), OS(root), file, Holder{Host: "child", PID: os.Getpid()}, LockOptions{Timeout: wait})
	}
	if err != nil {
		fmt.Println("refused:", err)
		os.Exit(0)
	}
	fmt.Println("locked")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// child starts a process that tries to take the lock, and gives its first line.
func child(t *testing.T, dir string) (says string, cmd *exec.Cmd) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	stdin, err := cmd.StdinPipe()
	check(t, "stdin", err)
	stdout, err := cmd.StdoutPipe()
	check(t, "stdout", err)
	check(t, "start", cmd.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	says, err = bufio.NewReader(stdout).ReadString('\n')
	check(t, "child", err)
	return strings.TrimSpace(says), cmd
}

// TestLockBetweenProcesses: of several processes exactly one has the lock, the
// others name it, and killing it frees the lock at once.
func TestLockBetweenProcesses(t *testing.T) {
	dir := t.TempDir()
	type result struct {
		says string
		cmd  *exec.Cmd
	}
	for range 5 {
		results := make([]result, 4)
		done := make(chan struct{})
		for i := range results {
			go func() {
				defer func() { done <- struct{}{} }()
				says, cmd := child(t, dir)
				results[i] = result{says, cmd}
			}()
		}
		for range results {
			<-done
		}
		var holder *exec.Cmd
		for _, r := range results {
			switch {
			case r.says == "locked" && holder == nil:
				holder = r.cmd
			case r.says == "locked":
				t.Fatal("two processes have the lock")
			case !strings.Contains(r.says, "the state is locked by"):
				t.Fatalf("a process says %q", r.says)
			}
		}
		if holder == nil {
			t.Fatalf("nobody has the lock: %v", results)
		}
		root, err := os.OpenRoot(dir)
		check(t, "root", err)
		_, err = AcquireLock(t.Context(), OS(root), file, Holder{PID: 1}, LockOptions{})
		var locked *LockedError
		if !errors.As(err, &locked) || locked.Holder.PID != holder.Process.Pid || locked.Holder.Host != "child" {
			t.Fatalf("the lock's holder is process %d, the error says %v", holder.Process.Pid, err)
		}
		check(t, "kill", holder.Process.Kill())
		_, _ = holder.Process.Wait()
		l, err := AcquireLock(t.Context(), OS(root), file, Holder{PID: 1}, LockOptions{})
		check(t, "after the kill", err)
		check(t, "release", l.Release())
		check(t, "close", root.Close())
	}
}

func TestLockWaits(t *testing.T) {
	d := statefiletest.New()
	since := time.Date(2026, 3, 1, 4, 5, 6, 0, time.UTC)
	first, err := AcquireLock(t.Context(), d, file, Holder{Host: "runner\x1b[2J", PID: 7, Since: since, Run: "r1", By: "ci"}, LockOptions{})
	check(t, "lock", err)

	_, err = AcquireLock(t.Context(), d, file, Holder{PID: 8}, LockOptions{})
	if !errors.Is(err, ErrLocked) || providers.HintOf(err) == "" || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("the second says %q", err)
	}
	if want := `process 7 on runner\u{1b}[2J since 2026-03-01T04:05:06Z (ci), run r1`; !strings.Contains(err.Error(), want) {
		t.Errorf("the second says %q, want %q in it", err, want)
	}

	// It waits, and gets the lock when the first gives it back.
	c := &clock{asked: make(chan struct{}, 1000)}
	got := make(chan error, 1)
	go func() {
		l, err := AcquireLock(t.Context(), d, file, Holder{PID: 9}, LockOptions{Timeout: time.Minute, Clock: c})
		if err == nil {
			err = l.Release()
		}
		got <- err
	}()
	<-c.asked
	check(t, "release", first.Release())
	check(t, "release again", first.Release())
	c.advance(time.Second)
	check(t, "the waiting one", <-got)

	// It stops waiting when the time is up, and when its context ends.
	again := mustLock(t, d)
	go func() {
		_, err := AcquireLock(t.Context(), d, file, Holder{PID: 9}, LockOptions{Timeout: time.Minute, Clock: c})
		got <- err
	}()
	<-c.asked
	c.advance(time.Hour)
	if err := <-got; !errors.Is(err, ErrLocked) {
		t.Errorf("after the timeout: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := AcquireLock(ctx, d, file, Holder{PID: 9}, LockOptions{Timeout: time.Minute, Clock: c})
		got <- err
	}()
	<-c.asked
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
	check(t, "release", again.Release())
}

// TestLockFileThatWasRemoved: a lock on a file that nobody finds any more does
// not count.
func TestLockFileThatWasRemoved(t *testing.T) {
	d := statefiletest.New()
	removed := false
	d.After(func(op statefiletest.Op) {
		if op.Verb == "lock" && !removed {
			removed = true
			_ = d.Remove(".freightliner/lock")
		}
	})
	l := mustLock(t, d)
	if _, err := AcquireLock(t.Context(), d, file, Holder{PID: 2}, LockOptions{}); !errors.Is(err, ErrLocked) {
		t.Errorf("two locks: %v", err)
	}
	check(t, "release", l.Release())
}
