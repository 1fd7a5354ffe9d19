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
	swaps := []func() error{
		func() error { return put(0o600) },
		func() error { return os.Symlink("bait.state", place) },
		func() error { return put(0o666) },
		func() error { return os.Symlink(targets[1], place) },
		func() error { return syscall.Mkfifo(place, 0o600) },
		func() error { return os.Mkdir(place, 0o700) },
		func() error { return put(0o600) },
		func() error { return os.Link(second, place) },
		func() error {
			if os.Geteuid() != 0 {
				return put(0o644)
			}
			return errors.Join(put(0o600), os.Lchown(place, 12345, 12345))
		},
	}
	stop, swapped := make(chan struct{}), make(chan int, 1)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				swapped <- n
				return
			default:
			}
			_ = os.Remove(place)      // whatever it is; a run may have removed it
			_ = swaps[n%len(swaps)]() // may lose against a run that creates the file
			n++
		}
	}()
	root, err := os.OpenRoot(dir)
	check(t, "root", err)
	defer root.Close()
	fsys := OS(root)
	rounds, read, wrote, refused := sized(300, 10_000), 0, 0, map[string]int{}
	for range rounds {
		s, err := Read(fsys, file)
		switch {
		case err == nil && s.Exists():
			read++
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
			if err == nil {
				wrote++
			}
		}
		if err != nil {
			refused[reason(err)]++
		}
		check(t, "release", l.Release())
	}
	close(stop)
	n := <-swapped
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
	told(t, started, int64(rounds), "%d swaps, %d reads and %d runs went through, refused %v", n, read, wrote, refused)
	if read == 0 || len(refused) == 0 {
		t.Errorf("too one-sided to show anything")
	}
}

// loops reports what opening a link with O_NOFOLLOW says, between look and open.
func loops(err error) bool {
	return errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENXIO)
}

func reason(err error) string {
	for _, kind := range []error{ErrUnsafe, ErrReplaced, ErrNotDurable, fs.ErrNotExist, fs.ErrExist} {
		if errors.Is(err, kind) {
			return fmt.Sprint(kind)
		}
	}
	return "other"
}
