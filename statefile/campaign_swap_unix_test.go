//go:build unix

package statefile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	. "freightliner/statefile"
)

// TestCampaignSwapRace swaps what stands at the state's name, as fast as it can,
// among a link to somebody else's state, a FIFO, a directory, nothing, another
// user's file and a file that all may read, while runs read and write it. The
// link's target is never read nor written nor given another mode, no read waits
// for the FIFO, and what is written is private.
func TestCampaignSwapRace(t *testing.T) {
	started := time.Now()
	dir, outside := t.TempDir(), t.TempDir()
	good := mustBuild(map[string]Record{tag("a:1", 1).Address: tag("a:1", 1)})
	bait := bytes.Replace(good, []byte("00000000000000010000000000000002"), []byte("baitbaitbaitbaitbaitbaitbaitbait"), 1)
	bait = []byte(reseal(string(bait)))
	targets := []string{filepath.Join(dir, "bait.state"), filepath.Join(outside, "bait.state")}
	for _, name := range targets {
		check(t, "bait", os.WriteFile(name, bait, 0o644))
		check(t, "bait's mode", os.Chmod(name, 0o644))
	}
	second := filepath.Join(dir, "second.state") // a hard link is the file itself: it may be read, and not written
	check(t, "second", os.WriteFile(second, good, 0o600))
	place := filepath.Join(dir, file)
	put := func(mode fs.FileMode) error {
		if err := os.WriteFile(place+".new", good, mode); err != nil {
			return err
		}
		return errors.Join(os.Chmod(place+".new", mode), os.Rename(place+".new", place))
	}
	swaps := []struct {
		put         func() error
		read, wrote bool // what a run may do with it when it stands still
	}{
		{func() error { return put(0o600) }, true, true},
		{func() error { return os.Symlink("bait.state", place) }, false, false},
		{func() error { return put(0o666) }, true, true},
		{func() error { return os.Symlink(targets[1], place) }, false, false},
		{func() error { return syscall.Mkfifo(place, 0o600) }, false, false},
		{func() error { return put(0o644) }, true, true},
		{func() error { return os.Mkdir(place, 0o700) }, false, false},
		{func() error { return os.Link(second, place) }, true, false},
		{func() error {
			if os.Geteuid() != 0 {
				return syscall.Mkfifo(place, 0o600)
			}
			return errors.Join(put(0o600), os.Lchown(place, 12345, 12345))
		}, false, false},
	}
	// A file goes over what stands there in one step, everything else needs the
	// name to be free. Either may lose against a run that makes the file.
	swap := func(i int) error {
		err := swaps[i].put()
		if err != nil && os.Remove(place) == nil {
			err = swaps[i].put()
		}
		return err
	}
	var still sync.Mutex // held by a run that is not to be disturbed
	var swapper sync.WaitGroup
	var stop atomic.Bool
	swapped := 0
	defer swapper.Wait()
	defer stop.Store(true)
	swapper.Go(func() {
		for n := 0; !stop.Load(); n++ {
			still.Lock()
			_ = swap(n % len(swaps))
			still.Unlock()
			// It stands for nothing to about as long as a run takes, or most
			// of them would meet what is slowest to make.
			for range n * 37 % 256 {
				_, _ = os.Lstat(place)
			}
			swapped = n
		}
	})
	root, err := os.OpenRoot(dir)
	check(t, "root", err)
	defer root.Close()
	fsys := OS(root)
	// run reads and writes once and says whether each went through.
	rounds, refused := sized(300, 10_000), map[string]int{}
	run := func() (read, wrote bool) {
		s, err := Read(fsys, file)
		switch {
		case err == nil && s.Exists():
			read = true
			if s.Lineage() == "baitbaitbaitbaitbaitbaitbaitbait" {
				t.Fatal("read through a link")
			}
		case err != nil && !errors.Is(err, ErrUnsafe) && !errors.Is(err, fs.ErrNotExist) && !loops(err):
			t.Fatalf("Read says %v", err)
		case err != nil:
			refused[reason(err)]++
		}
		l, err := AcquireLock(context.Background(), fsys, file, Holder{PID: 1}, LockOptions{})
		check(t, "lock", err)
		j, _, err := Begin(context.Background(), l, file, RunInfo{Run: "r"}, Options{})
		if err == nil {
			err = errors.Join(j.Done(Put(tag("a:2", 2))), j.Close())
			wrote = err == nil
		}
		if err != nil {
			refused[reason(err)]++
		}
		check(t, "release", l.Release())
		return read, wrote
	}
	// Every third run meets something that stands still, each in turn: who wins
	// a race is the machine's to say, what a run does with a thing is not.
	undisturbed := func(i int) {
		still.Lock()
		defer still.Unlock()
		check(t, "swap", swap(i))
		if read, wrote := run(); read != swaps[i].read || wrote != swaps[i].wrote {
			t.Errorf("thing %d, standing still: read %v, written %v", i, read, wrote)
		}
	}
	reads, writes := 0, 0
	for i := range rounds {
		if i%3 == 0 {
			undisturbed(i / 3 % len(swaps))
			continue
		}
		read, wrote := run()
		reads, writes = reads+count(read), writes+count(wrote)
	}
	stop.Store(true)
	swapper.Wait()
	for _, name := range targets {
		data, err := os.ReadFile(name)
		check(t, "bait", err)
		info, err := os.Stat(name)
		check(t, "bait", err)
		if !bytes.Equal(data, bait) {
			t.Errorf("%s was written through a link:\n%s", name, data)
		}
		if info.Mode().Perm() != 0o644 {
			t.Errorf("the mode of %s was changed through a link to %v", name, info.Mode())
		}
	}
	if data, err := os.ReadFile(second); err != nil || !bytes.Equal(data, good) {
		t.Errorf("a file with a second name was written by it (%v):\n%s", err, data)
	}
	saved, err := filepath.Glob(place + ".saved-*")
	check(t, "glob", err)
	for _, name := range saved {
		if info, err := os.Lstat(name); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	told(t, started, int64(rounds), "%d swaps, %d reads and %d runs went through among them, refused %v", swapped, reads, writes, refused)
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// loops reports what opening says of a link, a directory or a FIFO that came
// between look and open; the text is what [os.Root] has for a link that leaves it.
func loops(err error) bool {
	return strings.Contains(err.Error(), "path escapes") || errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENXIO)
}

func reason(err error) string {
	for _, kind := range []error{ErrUnsafe, ErrReplaced, ErrNotDurable, fs.ErrNotExist, fs.ErrExist} {
		if errors.Is(err, kind) {
			return fmt.Sprint(kind)
		}
	}
	return "other"
}
