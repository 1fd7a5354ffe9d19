package statefiletest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// story does one thing of each kind and writes down what came of it, without
// anything that may differ between machines.
func story(t *testing.T, fsys statefile.FS) string {
	t.Helper()
	var b strings.Builder
	say := func(what string, err error) {
		answer := "done"
		for name, target := range map[string]error{"missing": fs.ErrNotExist, "exists": fs.ErrExist, "closed": fs.ErrClosed} {
			if errors.Is(err, target) {
				answer = name
			}
		}
		if err != nil && answer == "done" {
			answer = "failed"
		}
		fmt.Fprintf(&b, "%s: %s\n", what, answer)
	}
	open := func(what, name string, flag int) statefile.File {
		f, err := fsys.OpenFile(name, flag, 0o600)
		say(what, err)
		if err != nil {
			return nil
		}
		return f
	}
	open("open what is missing", "a", os.O_RDONLY)
	_, err := fsys.Lstat("a")
	say("lstat what is missing", err)
	say("remove what is missing", fsys.Remove("a"))
	say("rename what is missing", fsys.Rename("a", "b"))
	open("create in a missing directory", "dir/a", os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	f := open("create", "a", os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	open("create again", "a", os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	_, err = f.Write([]byte("hello"))
	say("write", err)
	say("sync", f.Sync())
	info, err := f.Stat()
	say("stat", err)
	fmt.Fprintf(&b, "%v, %d bytes, %d links, ours %v\n", info.Mode, info.Size, info.Links, info.Ours)
	say("truncate", f.Truncate(2))
	say("chmod", f.Chmod(0o640))
	say("close", f.Close())
	say("close again", f.Close())
	appending := open("append", "a", os.O_WRONLY|os.O_APPEND)
	_, err = appending.Write([]byte("y"))
	say("write", err)
	say("close", appending.Close())
	reading := open("open", "a", os.O_RDWR)
	text, err := io.ReadAll(reading)
	say("read", err)
	fmt.Fprintf(&b, "%q\n", text)
	got, err := reading.TryLock()
	say(fmt.Sprintf("lock %v", got), err)
	other := open("open", "a", os.O_RDWR)
	got, err = other.TryLock()
	say(fmt.Sprintf("lock of somebody else %v", got), err)
	say("close", reading.Close())
	got, err = other.TryLock()
	say(fmt.Sprintf("lock that was freed %v", got), err)
	say("close", other.Close())
	say("mkdir", fsys.Mkdir("dir", 0o700))
	say("mkdir again", fsys.Mkdir("dir", 0o700))
	say("link", fsys.Link("a", "dir/b"))
	say("link to what exists", fsys.Link("a", "dir/b"))
	one, err := fsys.Lstat("a")
	say("lstat", err)
	two, err := fsys.Lstat("dir/b")
	say("lstat", err)
	fmt.Fprintf(&b, "same file %v, %d links, mode %v\n", one.ID == two.ID, one.Links, one.Mode)
	say("create", open("create", "c", os.O_WRONLY|os.O_CREATE|os.O_EXCL).Close())
	say("rename over", fsys.Rename("c", "a"))
	now, err := fsys.Lstat("a")
	say("lstat", err)
	fmt.Fprintf(&b, "another file %v, %d bytes\n", now.ID != one.ID, now.Size)
	say("sync directory", fsys.SyncDir("."))
	names, err := fsys.Names(".")
	say("names", err)
	slices.Sort(names)
	fmt.Fprintf(&b, "%v\n", names)
	say("remove", fsys.Remove("a"))
	return b.String()
}

// TestTheDiskBehavesLikeOne: the same story on the machine's file system and on
// the one in memory.
func TestTheDiskBehavesLikeOne(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if diff := cmp.Diff(story(t, statefile.OS(root)), story(t, statefiletest.New())); diff != "" {
		t.Errorf("(-machine +memory):\n%s", diff)
	}
}

func write(t *testing.T, d *statefiletest.Disk, name, text string, sync bool) {
	t.Helper()
	f, err := d.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		_, err = f.Write([]byte(text))
	}
	if err == nil && sync {
		err = f.Sync()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// after is every content of a file that a crash may leave, "-" for no file.
func after(d *statefiletest.Disk, name string) []string {
	var out []string
	for crashed := range d.Crashes(4) {
		text := "-"
		if b := crashed.Bytes(name); b != nil {
			text = string(b)
		}
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return out
}

// TestCrashes: what is not synced may be there in part, what is synced is.
func TestCrashes(t *testing.T) {
	d := statefiletest.New()
	write(t, d, "a", "12345678", false)
	want := []string{"", "\x00\x00\x00\x005678", "\x00\x00\x00\x00\x00\x00\x00\x00", "-", "1234", "1234\x00\x00\x00\x00", "12345678"}
	slices.Sort(want)
	if diff := cmp.Diff(want, after(d, "a")); diff != "" {
		t.Errorf("nothing synced (-want +got):\n%s", diff)
	}
	write(t, d, "a", "", true)
	if diff := cmp.Diff([]string{"-", "12345678"}, after(d, "a")); diff != "" {
		t.Errorf("the name is not synced (-want +got):\n%s", diff)
	}
	if err := d.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	write(t, d, "b", "new", false)
	if err := d.Rename("b", "a"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"", "\x00\x00\x00", "12345678", "new"}, after(d, "a")); diff != "" {
		t.Errorf("renamed without a sync (-want +got):\n%s", diff)
	}
}

// TestFailedSyncLosesTheBytes although reading shows them and the next sync
// says that all is well.
func TestFailedSyncLosesTheBytes(t *testing.T) {
	d := statefiletest.New()
	d.Put("a", []byte("old "), 0o600)
	f, err := d.OpenFile("a", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	d.Fail(&statefiletest.Fault{At: 1, Verb: "sync", Err: syscall.EIO})
	_, writeErr := f.Write([]byte("new"))
	first, second := f.Sync(), f.Sync()
	if writeErr != nil || !errors.Is(first, syscall.EIO) || second != nil {
		t.Fatalf("write %v, first sync %v, second %v", writeErr, first, second)
	}
	if !bytes.Equal(d.Bytes("a"), []byte("old new")) {
		t.Errorf("reading shows %q", d.Bytes("a"))
	}
	if diff := cmp.Diff([]string{"old "}, after(d, "a")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestFaults come at their operation, once or for ever, and may write half.
func TestFaults(t *testing.T) {
	d := statefiletest.New()
	f, err := d.OpenFile("a", os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	d.Fail(&statefiletest.Fault{At: 2, Verb: "write", Err: syscall.ENOSPC, Short: true})
	for i, want := range []struct {
		n   int
		err error
	}{{4, nil}, {2, syscall.ENOSPC}, {4, nil}} {
		if n, err := f.Write([]byte("1234")); n != want.n || !errors.Is(err, want.err) {
			t.Errorf("write %d: %d bytes, %v", i, n, err)
		}
	}
	d.Fail(&statefiletest.Fault{At: 1, Err: syscall.EROFS, Always: true})
	if _, err := d.Lstat("a"); !errors.Is(err, syscall.EROFS) {
		t.Errorf("lstat: %v", err)
	}
	if err := d.Remove("a"); !errors.Is(err, syscall.EROFS) {
		t.Errorf("remove: %v", err)
	}
	if string(d.Bytes("a")) != "1234121234" {
		t.Errorf("the file has %q", d.Bytes("a"))
	}
	last := d.Trace()[len(d.Trace())-1]
	if last.Verb != "remove" || last.Path != "a" || last.N != d.Ops() || !strings.Contains(last.String(), "remove a: ") {
		t.Errorf("the trace ends with %v", last)
	}
}
