package statefile_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	. "freightliner/statefile"
)

// TestRoomIsReserved: a running journal has a mebibyte of the disk set aside
// behind its end, the file is no longer for it, and compaction gives it back.
func TestRoomIsReserved(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	check(t, "root", err)
	defer root.Close()
	blocks := func() (size, room int64) {
		info, err := os.Stat(filepath.Join(dir, file))
		check(t, "stat", err)
		return info.Size(), info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	j, _, l := open(t, OS(root), "r", Options{})
	check(t, "done", j.Done(Put(tag("a", 1))))
	size, room := blocks()
	f, err := os.OpenFile(filepath.Join(dir, "probe"), os.O_CREATE|os.O_WRONLY, 0o600)
	check(t, "probe", err)
	can := syscall.Fallocate(int(f.Fd()), 1, 0, 1<<20) == nil // FALLOC_FL_KEEP_SIZE
	check(t, "probe", f.Close())
	if size > 4096 || can && room < 1<<20 {
		t.Errorf("the file has %d bytes and %d bytes of disk; the disk can reserve: %v", size, room, can)
	}
	check(t, "close", j.Close())
	if size, room := blocks(); room > 64<<10 {
		t.Errorf("after compaction the file has %d bytes and %d bytes of disk", size, room)
	}
	check(t, "release", l.Release())
}
