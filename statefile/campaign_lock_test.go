package statefile_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	. "freightliner/statefile"
)

// TestCampaignLockRaces lets two to eight processes ask for the lock at once:
// exactly one gets it and the others name it. Then the holder is killed by
// SIGKILL while another process waits, which has the lock within a second.
func TestCampaignLockRaces(t *testing.T) {
	started := time.Now()
	rounds := sized(3, 1000)
	var slowest time.Duration
	processes := 0
	for round := range rounds {
		r := rand.New(rand.NewPCG(*campaignSeed+uint64(round), 29))
		dir := t.TempDir()
		racers := make([]racer, 2+r.IntN(7))
		var wg sync.WaitGroup
		for i := range racers {
			wg.Go(func() { racers[i] = race(dir, "0s") })
		}
		wg.Wait()
		processes += len(racers)
		holder := -1
		for i, x := range racers {
			switch {
			case x.err != nil:
				t.Fatalf("round %d: %v", round, x.err)
			case x.says == "locked" && holder >= 0:
				t.Fatalf("round %d: two of %d processes have the lock", round, len(racers))
			case x.says == "locked":
				holder = i
			case !strings.Contains(x.says, "the state is locked by"):
				t.Fatalf("round %d: a process says %q", round, x.says)
			}
		}
		if holder < 0 {
			t.Fatalf("round %d: nobody has the lock: %v", round, racers)
		}
		next := make(chan racer, 1)
		go func() { next <- race(dir, "1m") }()
		killed := time.Now()
		check(t, "kill", racers[holder].cmd.Process.Kill())
		x := <-next
		check(t, "the next process", x.err)
		if x.says != "locked" {
			t.Fatalf("round %d: after the kill the next says %q", round, x.says)
		}
		slowest = max(slowest, time.Since(killed))
		for _, y := range append(racers, x) {
			y.end()
		}
	}
	told(t, started, int64(rounds), "%d processes, never two with the lock; after SIGKILL of the holder the next had it at most %v later, its own start included", processes, slowest.Round(time.Millisecond))
	if slowest > 5*time.Second {
		t.Errorf("the next process had the lock %v after the kill", slowest)
	}
}

// racer is a process that asked for the lock and what it said.
type racer struct {
	cmd  *exec.Cmd
	end  func()
	says string
	err  error
}

// race starts this test binary as a process that asks for the lock of dir and
// holds it until its standard input ends; see TestMain.
func race(dir, wait string) racer {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir, waitEnv+"="+wait)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return racer{err: err}
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return racer{err: err}
	}
	if err := cmd.Start(); err != nil {
		return racer{err: err}
	}
	says, err := bufio.NewReader(stdout).ReadString('\n')
	return racer{cmd: cmd, says: strings.TrimSpace(says), err: err, end: func() {
		_ = stdin.Close() // it ends by this, or was killed before
		_ = cmd.Wait()
	}}
}

// swapped is the disk of the machine on which, right before the nth operation,
// somebody renames another file over the state, as git checkout and editors do.
type swapped struct {
	FS
	mu    *sync.Mutex
	count *int
	at    int
	swap  func()
	last  *string // the operation it came before
}

func (s swapped) step(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*s.count++
	if *s.count == s.at {
		*s.last = what
		s.swap()
	}
}

func (s swapped) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	s.step("open " + name)
	f, err := s.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return swappedFile{f, s}, nil
}
func (s swapped) Lstat(name string) (Info, error) {
	s.step("lstat " + name)
	return s.FS.Lstat(name)
}
func (s swapped) Rename(from, to string) error {
	s.step("rename")
	return s.FS.Rename(from, to)
}
func (s swapped) Link(from, to string) error {
	s.step("link")
	return s.FS.Link(from, to)
}
func (s swapped) Remove(name string) error {
	s.step("remove " + name)
	return s.FS.Remove(name)
}
func (s swapped) SyncDir(dir string) error {
	s.step("syncdir")
	return s.FS.SyncDir(dir)
}

type swappedFile struct {
	File
	on swapped
}

func (f swappedFile) Write(p []byte) (int, error) {
	f.on.step("write")
	return f.File.Write(p)
}
func (f swappedFile) Sync() error {
	f.on.step("sync")
	return f.File.Sync()
}
func (f swappedFile) Close() error {
	f.on.step("close")
	return f.File.Close()
}

// TestCampaignSwappedUnderARun renames another state over the one of a running
// apply, on the machine's disk, before each of its file operations in turn. It
// is noticed: theirs stands, ours is saved beside it with everything that was
// done, and the error names the place. Only between the last look and the
// rename, which no system call joins, theirs loses; the count shows the gap.
func TestCampaignSwappedUnderARun(t *testing.T) {
	started := time.Now()
	cases, gap := 0, []string(nil)
	for at := 1; ; at++ {
		dir := t.TempDir()
		root, err := os.OpenRoot(dir)
		check(t, "root", err)
		mine, theirs := mustBuild(map[string]Record{tag("a:1", 1).Address: tag("a:1", 1)}), mustBuild(map[string]Record{tag("b:1", 2).Address: tag("b:1", 2)})
		check(t, "write", root.WriteFile(file, mine, 0o600))
		l := mustLock(t, OS(root))
		check(t, "release", l.Release())
		count, last := 0, ""
		fsys := swapped{FS: OS(root), mu: &sync.Mutex{}, count: &count, at: at, last: &last, swap: func() {
			must(os.WriteFile(filepath.Join(dir, "checkout"), theirs, 0o600))
			must(os.Rename(filepath.Join(dir, "checkout"), filepath.Join(dir, file)))
		}}
		l, err = AcquireLock(t.Context(), fsys, file, Holder{PID: 1}, LockOptions{Clock: &clock{}})
		check(t, "lock", err)
		opts := testOptions()
		j, s, err := Begin(t.Context(), l, file, RunInfo{Run: "r"}, opts)
		var acknowledged []Record
		if err == nil {
			for n := range 3 {
				rec := tag(fmt.Sprintf("c:%d", n), n)
				if j.Done(Put(rec)) == nil {
					acknowledged = append(acknowledged, rec)
				}
			}
			err = j.Close()
		} else if !errors.Is(err, ErrReplaced) && !errors.Is(err, ErrUnsafe) {
			t.Fatalf("before operation %d (%s): Begin says %v", at, last, err)
		}
		check(t, "release", l.Release())
		if last == "" {
			check(t, "a run without a swap", err)
			break
		}
		cases++
		now, readErr := os.ReadFile(filepath.Join(dir, file))
		check(t, "read", readErr)
		sawTheirs := s != nil && s.ID() == mustParse(t, theirs).ID()
		switch {
		case err == nil && sawTheirs, bytes.Equal(now, theirs):
			// It was there before we looked, or it stands as they wrote it.
		case last == "rename":
			gap = append(gap, last)
		default:
			t.Errorf("before operation %d (%s): theirs is gone; the run said: %v", at, last, err)
		}
		if !hasAll(dir, acknowledged) {
			t.Errorf("before operation %d (%s): done work is in no file; the run said: %v", at, last, err)
		}
		// Once the new state has its name, the run is over, and what comes is later.
		after := last == "syncdir" || at > count-2
		if err == nil && !sawTheirs && last != "rename" && !after {
			t.Errorf("before operation %d (%s): nobody noticed", at, last)
		}
		check(t, "close", root.Close())
	}
	told(t, started, int64(cases), "noticed, nothing lost; %d in the gap right before %v", len(gap), gap)
	if cases < 20 || len(gap) > 1 {
		t.Errorf("%d cases, %d in the gap", cases, len(gap))
	}
}

func mustParse(t *testing.T, data []byte) *State {
	t.Helper()
	s, err := Parse(data)
	check(t, "parse", err)
	return s
}

// hasAll reports whether one of the states in dir has all the records.
func hasAll(dir string, all []Record) bool {
	names, err := filepath.Glob(filepath.Join(dir, file+"*"))
	must(err)
	names = append(names, filepath.Join(dir, ".freightliner", file+".bak"))
	for _, name := range names {
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no backup yet
		}
		must(err)
		s, err := Parse(data)
		if err != nil {
			continue
		}
		has := 0
		for _, rec := range all {
			if is, ok := s.Lookup(rec.Address); ok && is == rec {
				has++
			}
		}
		if has == len(all) {
			return true
		}
	}
	return false
}
