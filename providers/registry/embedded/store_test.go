package embedded

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var day = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func openDirectory(t *testing.T, dir string, now time.Time) *Directory {
	t.Helper()
	d, err := OpenDirectory(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// Both stores are told the same story.
func TestStores(t *testing.T) {
	for name, store := range map[string]Store{
		"memory":    NewMemory(),
		"directory": openDirectory(t, t.TempDir(), day),
	} {
		t.Run(name, func(t *testing.T) { tellStore(t, store) })
	}
}

func tellStore(t *testing.T, s Store) {
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	absent := func(key string) {
		t.Helper()
		if _, err := s.Open(key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %s: %v, want it not to exist", key, err)
		}
		if err := s.Remove(key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("remove %s: %v, want it not to exist", key, err)
		}
	}
	holds := func(key, want string) {
		t.Helper()
		got, err := read(s, key)
		check(err)
		if string(got) != want {
			t.Errorf("%s holds %q, want %q", key, got, want)
		}
	}
	lists := func(key string, want ...string) {
		t.Helper()
		got, err := s.List(key)
		check(err)
		if diff := cmp.Diff(slices.Concat([]string{}, want), slices.Concat([]string{}, got)); diff != "" {
			t.Errorf("list %s (-want +got):\n%s", key, diff)
		}
	}

	absent("a/b")
	lists("a")
	check(s.Write("a/b", []byte("one")))
	holds("a/b", "one")
	check(s.Write("a/b", []byte("two")))
	holds("a/b", "two")
	absent("a/b/c") // below a value
	lists("a/b/c")
	if _, err := s.Open("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open a folder: %v, want it not to exist", err)
	}

	check(s.Write("a/b-c/d", nil))
	check(s.Write("a/b.c", nil))
	check(s.Write("a/a/x", []byte("x")))
	lists("a", "a/", "b", "b-c/", "b.c")

	// Who reads while the value is replaced keeps reading the old one.
	old, err := s.Open("a/b")
	check(err)
	if runtime.GOOS != "windows" { // where an open file can not be replaced
		check(s.Write("a/b", []byte("three")))
		text, err := io.ReadAll(old)
		check(err)
		if string(text) != "two" {
			t.Errorf("an open value reads %q after it was replaced, want %q", text, "two")
		}
	}
	check(old.Close())
	check(s.Remove("a/b"))
	absent("a/b")

	draft, err := s.Draft()
	check(err)
	_, err = io.WriteString(draft, "hello, ")
	check(err)
	sofar, err := draft.Open()
	check(err)
	text, err := io.ReadAll(sofar)
	check(err)
	check(sofar.Close())
	if string(text) != "hello, " {
		t.Errorf("a draft reads %q", text)
	}
	_, err = io.WriteString(draft, "world")
	check(err)
	absent("c/d")
	check(draft.Keep("c/d"))
	holds("c/d", "hello, world")

	// Content that is there stays, and a discarded draft leaves nothing.
	for _, end := range []func(Draft) error{func(d Draft) error { return d.Keep("c/d") }, Draft.Discard} {
		draft, err := s.Draft()
		check(err)
		_, err = io.WriteString(draft, "other")
		check(err)
		check(end(draft))
	}
	holds("c/d", "hello, world")
	lists("c", "d")
}

func TestDirectorySweepsOldDraftsOnly(t *testing.T) {
	dir := t.TempDir()
	first := openDirectory(t, dir, day)
	for range 2 {
		if _, err := first.Draft(); err != nil {
			t.Fatal(err)
		}
	}
	names, err := os.ReadDir(filepath.Join(dir, drafts))
	if err != nil || len(names) != 2 {
		t.Fatalf("%d drafts, error %v; want 2", len(names), err)
	}
	old := filepath.Join(dir, drafts, names[0].Name())
	if err := os.Chtimes(old, day.Add(-25*time.Hour), day.Add(-25*time.Hour)); err != nil {
		t.Fatal(err)
	}
	young := filepath.Join(dir, drafts, names[1].Name())
	if err := os.Chtimes(young, day.Add(-time.Hour), day.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	openDirectory(t, dir, day)
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the draft of yesterday: %v, want it gone", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("the draft of an hour ago: %v, want it kept", err)
	}
}

// A link that somebody planted in the folder leads nowhere.
func TestDirectoryFollowsNoLinkOut(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := openDirectory(t, dir, day)
	if err := os.Symlink(outside, filepath.Join(dir, "repositories")); err != nil {
		t.Logf("no symbolic links here: %v", err)
		return
	}
	if _, err := d.Open("repositories/secret"); err == nil {
		t.Error("read a file outside through a link")
	}
	if err := d.Write("repositories/new", []byte("x")); err == nil {
		t.Error("wrote a file outside through a link")
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 1 {
		t.Errorf("outside holds %v, error %v", left, err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, drafts)); err != nil || len(left) != 0 {
		t.Errorf("the failed write left %v, error %v", left, err)
	}
}

func TestOpenDirectorySaysWhatIsWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := OpenDirectory(file, day)
	if err == nil || !strings.HasPrefix(err.Error(), "open registry directory: ") {
		t.Errorf("opening a file as a directory: %v", err)
	}
}
