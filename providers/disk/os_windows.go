package disk

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

const openFlags = 0

// describe asks the file itself, since a name's description on Windows has
// neither file index nor link count. Ownership is left to the access control
// lists of the directory, which files inherit there: Mode has no meaning for
// other users, and Ours is true.
func describe(root *os.Root, name string, f *os.File, fi fs.FileInfo) (Info, error) {
	info := Info{Mode: fi.Mode()&^0o077 | 0o600, Size: fi.Size(), ModTime: fi.ModTime(), Links: 1, Ours: true}
	if !fi.Mode().IsRegular() {
		return info, nil
	}
	if f == nil {
		opened, err := root.Open(name)
		if err != nil {
			return Info{}, err
		}
		defer opened.Close()
		f = opened
	}
	var details windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &details); err != nil {
		return Info{}, err
	}
	info.ID = FileID{
		Volume: uint64(details.VolumeSerialNumber),
		File:   uint64(details.FileIndexHigh)<<32 | uint64(details.FileIndexLow),
	}
	info.Links = uint64(details.NumberOfLinks)
	return info, nil
}

// syncDir does nothing: NTFS journals its names itself, and a directory has no
// handle that may be flushed without administrator rights.
func syncDir(*os.Root, string) error { return nil }

// lockOffset lies far behind the lock file's text, since a lock on Windows
// also keeps others from reading the bytes it covers.
const lockOffset = 1 << 30

func tryLock(f *os.File) (bool, error) {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	place := windows.Overlapped{Offset: lockOffset}
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &place)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return false, nil
	}
	return err == nil, err
}
