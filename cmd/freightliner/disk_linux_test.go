package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"freightliner/providers/registry/registrytest"
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

// A spool without room: the layer goes without it, and one warning says so.
func TestNoRoomForTheSpool(t *testing.T) {
	if !mayMount() {
		t.Skip("mounting a full file system takes root; TestNoRoomForTheSpool of providers/registry has the same on a disk in memory")
	}
	m, _, destination, layer := newSpoolMirror(t)
	dir := filepath.Join(m.dir, ".freightliner", "spool")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	destination.Faults.Add(registrytest.Fault{Method: "PUT", Path: layer.Digest().Hex(), CutRequest: spoolLayer / 2})
	out := m.run(exitDone, "apply", "-auto-approve", "-spool", "200MB")
	if n := strings.Count(out, "Warning: the spool can not be used"); n != 1 {
		t.Errorf("warned %d times:\n%s", n, out)
	}
	registrytest.VerifyTree(t, destination.Host())
	if names := spooledFiles(t, m); len(names) != 0 {
		t.Errorf("left in the spool: %v", names)
	}
}
