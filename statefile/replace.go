package statefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"freightliner/providers"
	"freightliner/providers/disk"
)

// The file is replaced whole, in this order, each step only after the one
// before it has succeeded:
//
//	1 create a temporary file beside it, exclusively, 0600
//	2 write all of it      3 sync it      4 close it
//	5 give the old file a second name, .freightliner/NAME.bak
//	6 look whether the file to be replaced is still the one we know
//	7 rename the temporary file over it      8 sync the directory
//
// The look comes last, so that between it and the rename there is no other
// operation in which somebody's new file could come and be overwritten.
//
// A crash before 7 leaves the old file (and a temporary one that the next run
// removes), a crash after 7 the new one. Both are complete: the new file was
// durable before it got the name.

// tempPrefix begins the names of temporary files for the state at name.
func tempPrefix(name string) string {
	return path.Join(path.Dir(name), "."+path.Base(name)+".tmp-")
}

// replace puts what fill writes in the place of the file at name. still is
// asked last: it says whether the place is as the caller knows it. A backup
// that can not be made is only worth a note.
func replace(fsys FS, name string, random io.Reader, fill func(io.Writer) error, still func() error, backup bool) (info Info, note string, err error) {
	temp, err := disk.RandomName(random, tempPrefix(name))
	if err != nil {
		return Info{}, "", err
	}
	info, err = disk.WriteNew(fsys, temp, fill)
	if err != nil {
		return Info{}, "", err
	}
	if backup {
		note = keepBackup(fsys, name)
	}
	if err := still(); err != nil {
		return Info{}, note, errors.Join(err, fsys.Remove(temp))
	}
	if err := fsys.Rename(temp, name); err != nil {
		return Info{}, note, errors.Join(err, fsys.Remove(temp))
	}
	return info, note, fsys.SyncDir(path.Dir(name))
}

func backupName(name string) string {
	return path.Join(path.Dir(name), privateDir, path.Base(name)+".bak")
}

// keepBackup gives the file that is about to be replaced a second name. It is
// the same file, so it costs no space before the rename, and there is no
// instant without a state.
func keepBackup(fsys FS, name string) (note string) {
	err := fsys.Remove(backupName(name))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = fsys.Link(name, backupName(name))
	}
	if err != nil {
		return fmt.Sprintf("no backup was kept: %v", err)
	}
	return ""
}

var tempSuffix = providers.Pattern(`^[0-9a-f]{16}$`)

// removeLeftovers removes temporary files of runs that were killed while they
// replaced the state. The caller has the lock, so none of them is in use, and
// none was ever the state: that happens by rename, which takes the name away.
func removeLeftovers(fsys FS, name string) (removed int, err error) {
	names, err := fsys.Names(path.Dir(name))
	if err != nil {
		return 0, err
	}
	prefix := path.Base(tempPrefix(name))
	for _, found := range names {
		if len(found) != len(prefix)+16 || found[:len(prefix)] != prefix || !tempSuffix().MatchString(found[len(prefix):]) {
			continue
		}
		full := path.Join(path.Dir(name), found)
		if info, err := fsys.Lstat(full); err != nil || disk.Plain(info) != nil {
			continue
		}
		if err := fsys.Remove(full); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}
