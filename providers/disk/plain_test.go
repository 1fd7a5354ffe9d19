package disk_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"freightliner/providers/disk"
)

// reusing is a file system in which, between look and open, the file was removed
// and something else got its inode, as ext4 does at once.
type reusing struct {
	disk.FS
	mode fs.FileMode
	ours bool
}

func (r reusing) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := r.FS.OpenFile(name, flag, perm)
	return reused{f, r}, err
}

type reused struct {
	disk.File
	as reusing
}

func (r reused) Stat() (disk.Info, error) {
	info, err := r.File.Stat()
	info.Mode, info.Ours = r.as.mode, r.as.ours
	return info, err
}

// TestOpenPlainLooksAtWhatItOpened: the same inode is not the same file.
func TestOpenPlainLooksAtWhatItOpened(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode fs.FileMode
		ours bool
		want error
	}{
		{0o600, true, nil},
		{fs.ModeNamedPipe | 0o600, true, disk.ErrUnsafe},
		{fs.ModeDir | 0o700, true, disk.ErrUnsafe},
		{0o600, false, disk.ErrUnsafe},
	} {
		f, _, err := disk.OpenPlain(reusing{disk.OS(root), c.mode, c.ours}, "f", os.O_RDONLY)
		if !errors.Is(err, c.want) {
			t.Errorf("mode %v, ours %v: %v, want %v", c.mode, c.ours, err, c.want)
		}
		if err == nil {
			f.Close()
		}
	}
}

// TestWriteNewTakesNoName: what stands at the name, a link too, is neither
// written nor removed.
func TestWriteNewTakesNoName(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	theirs := filepath.Join(dir, "theirs")
	names := []string{"theirs"}
	if err := os.WriteFile(theirs, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Symlink("theirs", filepath.Join(dir, "link")) == nil { // Windows wants a right for it
		names = append(names, "link")
	}
	for _, name := range names {
		_, err := disk.WriteNew(disk.OS(root), name, func(w io.Writer) error {
			_, err := w.Write([]byte("ours"))
			return err
		})
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v, want ErrExist", name, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Errorf("%s was removed", name)
		}
	}
	if b, err := os.ReadFile(theirs); err != nil || string(b) != "text" {
		t.Errorf("their file is now %q, %v", b, err)
	}
}
