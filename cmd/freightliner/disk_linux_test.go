package main

import (
	"os"
	"path/filepath"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// readonly DIR: nobody can write there. Root may write anywhere, so for root it
// is a file system that is mounted read-only.
func (w *world) readOnly(ts *testscript.TestScript, args []string) {
	dir := ts.MkAbs(args[0])
	if os.Geteuid() != 0 {
		ts.Check(os.Chmod(dir, 0o500))
		ts.Defer(func() { os.Chmod(dir, 0o700) })
		return
	}
	ts.Check(syscall.Mount(dir, dir, "", syscall.MS_BIND, ""))
	ts.Defer(func() { ts.Check(syscall.Unmount(dir, syscall.MNT_DETACH)) })
	ts.Check(syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
}

// fulldisk DIR: a directory with no room for another byte. Only root can mount
// one; stories say [root] and have a second case for everybody: /dev/full.
func (w *world) fullDisk(ts *testscript.TestScript, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4096"))
	ts.Defer(func() { ts.Check(syscall.Unmount(dir, syscall.MNT_DETACH)) })
	ts.Check(os.WriteFile(filepath.Join(dir, "filling"), make([]byte, 4096), 0o600))
}

// mayMount reports whether we are root.
func mayMount() bool { return os.Geteuid() == 0 }
