package statefile_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	. "freightliner/statefile"
)

// writeForever does one short run after another, from creation to compaction,
// and prints the number of each record once it was acknowledged.
func writeForever(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	l, err := AcquireLock(context.Background(), OS(root), file, Holder{Host: "writer", PID: os.Getpid()}, LockOptions{})
	if err != nil {
		return err
	}
	for n := 0; ; {
		j, s, err := Begin(context.Background(), l, file, RunInfo{Run: "r"}, Options{})
		if err != nil {
			return err
		}
		n = s.Len()
		for range 7 {
			if err := j.Done(Put(tag(fmt.Sprintf("%06d", n), n))); err != nil {
				return err
			}
			fmt.Println(n)
			n++
		}
		if err := j.Close(); err != nil {
			return err
		}
	}
}

// TestKillNine kills a process that writes, again and again: each time the lock
// is free at once, the state opens, every record that was acknowledged is in
// it and none but the next one more.
func TestKillNine(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	check(t, "root", err)
	defer root.Close()
	for round := range 20 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writeEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		check(t, "stdout", err)
		check(t, "start", cmd.Start())
		acknowledged := bufio.NewScanner(out)
		last := -1
		for range 3 + 5*round {
			if !acknowledged.Scan() {
				t.Fatalf("round %d: the writer stopped by itself", round)
			}
			last, err = strconv.Atoi(acknowledged.Text())
			if err != nil {
				t.Fatalf("round %d: the writer says %q", round, acknowledged.Text())
			}
		}
		check(t, "kill", cmd.Process.Kill())
		for acknowledged.Scan() { // what it still said before it died counts
			line := strings.TrimSpace(acknowledged.Text())
			if n, err := strconv.Atoi(line); err == nil && n == last+1 {
				last = n
			}
		}
		_ = cmd.Wait()

		s := mustRead(t, OS(root))
		if s.Len() < last+1 || s.Len() > last+2 {
			t.Fatalf("round %d: %d records, %d were acknowledged", round, s.Len(), last+1)
		}
		for n := range s.Len() {
			if r, ok := s.Lookup(fmt.Sprintf("tree.platform/%06d", n)); !ok || r.Digest != digest(n) {
				t.Fatalf("round %d: record %d is missing", round, n)
			}
		}
		check(t, "release", mustLock(t, OS(root)).Release())
	}
}
