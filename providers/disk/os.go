package disk

import (
	"io/fs"
	"os"
)

// OS is the directory root on the machine's disk. Nothing outside it can be
// reached, whatever links lie in it. The caller keeps root open as long as the
// FS is used.
func OS(root *os.Root) FS { return osDir{root} }

type osDir struct{ root *os.Root }

func (d osDir) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := d.root.OpenFile(name, flag|openFlags, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f, d.root}, nil
}

func (d osDir) Lstat(name string) (Info, error) {
	fi, err := d.root.Lstat(name)
	if err != nil {
		return Info{}, err
	}
	return describe(d.root, name, nil, fi)
}

func (d osDir) Rename(oldName, newName string) error { return d.root.Rename(oldName, newName) }
func (d osDir) Link(oldName, newName string) error   { return d.root.Link(oldName, newName) }
func (d osDir) Remove(name string) error             { return d.root.Remove(name) }
func (d osDir) Mkdir(name string, perm fs.FileMode) error {
	return d.root.Mkdir(name, perm)
}

func (d osDir) Names(dir string) ([]string, error) {
	f, err := d.root.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return names, err
}

func (d osDir) SyncDir(dir string) error { return syncDir(d.root, dir) }

type osFile struct {
	*os.File
	root *os.Root
}

func (f osFile) Stat() (Info, error) {
	fi, err := f.File.Stat()
	if err != nil {
		return Info{}, err
	}
	return describe(f.root, "", f.File, fi)
}

func (f osFile) Sync() error            { return syncData(f.File) }
func (f osFile) TryLock() (bool, error) { return tryLock(f.File) }
