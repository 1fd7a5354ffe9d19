//go:build unix

package statefile_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	. "freightliner/statefile"
)

// TestRealLinksAndFIFOs at every name that the package opens: none is
// followed, and a FIFO does not make it wait.
func TestRealLinksAndFIFOs(t *testing.T) {
	for _, name := range []string{file, ".freightliner", ".freightliner/lock"} {
		for what, place := range map[string]func(path, target string) error{
			"link": func(path, target string) error { return os.Symlink(target, path) },
			"FIFO": func(path, _ string) error { return syscall.Mkfifo(path, 0o600) },
		} {
			dir := t.TempDir()
			root, err := os.OpenRoot(dir)
			check(t, "root", err)
			defer root.Close()
			target := filepath.Join(dir, "target")
			check(t, "target", os.WriteFile(target, []byte(reseal(snapshotText)), 0o600))
			if name == ".freightliner/lock" {
				check(t, "mkdir", os.Mkdir(filepath.Join(dir, ".freightliner"), 0o700))
			}
			check(t, "place", place(filepath.Join(dir, name), "target"))

			l, err := AcquireLock(t.Context(), OS(root), file, Holder{PID: 1}, LockOptions{})
			if name == file {
				check(t, "lock", err)
				if _, err := Read(OS(root), file); !errors.Is(err, ErrUnsafe) {
					t.Errorf("%s is a %s: Read says %v", name, what, err)
				}
				_, _, err = Begin(t.Context(), l, file, RunInfo{Run: "r"}, Options{})
			}
			if !errors.Is(err, ErrUnsafe) {
				t.Errorf("%s is a %s: %v, want ErrUnsafe", name, what, err)
			}
			after, err := os.ReadFile(target)
			check(t, "target", err)
			if string(after) != reseal(snapshotText) {
				t.Errorf("%s is a %s: its target was written", name, what)
			}
		}
	}
}

// TestPrivateDirectoryOfEverybody: where others may put files, the lock could be
// taken away from under us, so such a directory is refused.
func TestPrivateDirectoryOfEverybody(t *testing.T) {
	for mode, want := range map[os.FileMode]error{0o700: nil, 0o755: nil, 0o775: ErrUnsafe, 0o777: ErrUnsafe} {
		dir := t.TempDir()
		root, err := os.OpenRoot(dir)
		check(t, "root", err)
		defer root.Close()
		private := filepath.Join(dir, ".freightliner")
		check(t, "mkdir", os.Mkdir(private, 0o700))
		check(t, "chmod", os.Chmod(private, mode))
		l, err := AcquireLock(t.Context(), OS(root), file, Holder{PID: 1}, LockOptions{})
		if !errors.Is(err, want) {
			t.Errorf("mode %04o: %v, want %v", mode, err, want)
		}
		if err == nil {
			check(t, "release", l.Release())
		}
	}
}
