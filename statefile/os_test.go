package statefile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// TestUnsafeFilesAreRefused, never followed, waited for or written, by reading
// and by beginning alike.
func TestUnsafeFilesAreRefused(t *testing.T) {
	for name, place := range map[string]func(*statefiletest.Disk){
		"symbolic link":        func(d *statefiletest.Disk) { d.Place(file, fs.ModeSymlink|0o777) },
		"FIFO":                 func(d *statefiletest.Disk) { d.Place(file, fs.ModeNamedPipe|0o600) },
		"directory":            func(d *statefiletest.Disk) { d.Place(file, fs.ModeDir|0o700) },
		"device or socket":     func(d *statefiletest.Disk) { d.Place(file, fs.ModeSocket|0o600) },
		"file of another user": func(d *statefiletest.Disk) { d.Put(file, []byte(reseal(snapshotText)), 0o600); d.GiveAway(file) },
	} {
		d := statefiletest.New()
		place(d)
		if _, err := Read(d, file); !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: Read says %v", name, err)
		}
		if _, _, err := Begin(t.Context(), mustLock(t, d), file, RunInfo{Run: "r"}, testOptions()); !errors.Is(err, ErrUnsafe) {
			t.Errorf("%s: Begin says %v", name, err)
		}
	}
}

// TestSwappedWhileOpened: a file that is not the one that was looked at is
// refused, whatever was put in its place.
func TestSwappedWhileOpened(t *testing.T) {
	d := diskWith(t, sample()...)
	d.After(func(op statefiletest.Op) {
		if op.Verb == "lstat" && op.Path == file {
			d.After(nil)
			d.Put(file, d.Bytes(file), 0o600)
		}
	})
	if _, err := Read(d, file); !errors.Is(err, ErrUnsafe) {
		t.Errorf("Read says %v, want ErrUnsafe", err)
	}
}

// TestHardLinkIsRefusedForWriting, since writing would go through to the other
// name; but the backup's name that a crash left is ours to drop.
func TestHardLinkIsRefusedForWriting(t *testing.T) {
	d := diskWith(t, sample()...)
	check(t, "link", d.Link(file, "other"))
	mustRead(t, d)
	l := mustLock(t, d)
	if _, _, err := Begin(t.Context(), l, file, RunInfo{Run: "r"}, testOptions()); !errors.Is(err, ErrUnsafe) {
		t.Errorf("Begin says %v, want ErrUnsafe", err)
	}
	check(t, "remove", d.Remove("other"))
	_ = d.Remove(".freightliner/" + file + ".bak")
	check(t, "link", d.Link(file, ".freightliner/"+file+".bak"))
	j, _, err := Begin(t.Context(), l, file, RunInfo{Run: "r"}, testOptions())
	check(t, "begin with the backup's name", err)
	check(t, "close", j.Close())
	if d.Bytes(".freightliner/"+file+".bak") != nil {
		t.Error("the second name is still there")
	}
}

// TestModeIsTightened and said; reading leaves it.
func TestModeIsTightened(t *testing.T) {
	d := statefiletest.New()
	d.Put(file, []byte(reseal(snapshotText)), 0o644)
	mustRead(t, d)
	if got := mustStat(t, d).Mode; got != 0o644 {
		t.Errorf("Read changed the mode to %v", got)
	}
	j, _, _ := open(t, d, "r", testOptions())
	if got := mustStat(t, d).Mode; got != 0o600 || len(j.Notes()) != 1 || !strings.Contains(j.Notes()[0], "0644") {
		t.Errorf("mode %v, notes %q", got, j.Notes())
	}
	check(t, "done", j.Done(Put(tag("a", 1))))
	check(t, "close", j.Close())
	if got := mustStat(t, d).Mode; got != 0o600 {
		t.Errorf("mode %v after compaction", got)
	}
}

// TestLeftoversAreRemoved: only what is exactly a temporary file of this state.
func TestLeftoversAreRemoved(t *testing.T) {
	d := diskWith(t)
	keep := []string{".freightliner.state.tmp-xyz", ".other.state.tmp-0123456789abcdef", ".freightliner.state.tmp-0123456789abcdeg", file + ".saved-0123456789abcdef"}
	for _, name := range append(keep, ".freightliner.state.tmp-0123456789abcdef") {
		d.Put(name, []byte("x"), 0o600)
	}
	d.Place(".freightliner.state.tmp-fedcba9876543210", fs.ModeSymlink|0o777)
	j, _, _ := open(t, d, "r", testOptions())
	check(t, "close", j.Close())
	if d.Bytes(".freightliner.state.tmp-0123456789abcdef") != nil || len(j.Notes()) != 1 {
		t.Errorf("the leftover is still there; notes %q", j.Notes())
	}
	for _, name := range keep {
		if d.Bytes(name) == nil {
			t.Errorf("%s was removed", name)
		}
	}
}

// TestRealDisk runs a state on the machine's file system: creation, a killed
// run, compaction, modes, backup; links and FIFOs lie in wait.
func TestRealDisk(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	check(t, "root", err)
	defer root.Close()
	fsys := OS(root)

	j, s, l := open(t, fsys, "first", Options{})
	if s.Len() != 0 || !s.Exists() {
		t.Errorf("a new state has %d records, exists %v", s.Len(), s.Exists())
	}
	var changes []Change
	for _, r := range sample() {
		changes = append(changes, Put(r))
	}
	check(t, "done", j.Done(changes...))
	check(t, "abandon", j.Abandon())
	check(t, "release", l.Release())

	j, s, l = open(t, fsys, "second", Options{})
	if run, ok := s.Interrupted(); !ok || run.Run != "first" || s.Len() != len(sample()) {
		t.Errorf("Interrupted() = %v %v, %d records", run, ok, s.Len())
	}
	check(t, "close", j.Close())
	check(t, "release", l.Release())
	if s := mustRead(t, fsys); !s.Canonical() || s.Len() != len(sample()) {
		t.Errorf("canonical %v, %d records", s.Canonical(), s.Len())
	}
	entries, err := os.ReadDir(dir)
	check(t, "list", err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != ".freightliner "+file {
		t.Errorf("the directory has %q", got)
	}
	for _, name := range []string{file, ".freightliner/lock", ".freightliner/" + file + ".bak"} {
		info, err := os.Stat(filepath.Join(dir, name))
		check(t, "stat", err)
		if info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	// Out of the directory leads no way.
	if _, err := Read(fsys, "../"+file); err == nil {
		t.Error("read a state outside the directory")
	}
}
