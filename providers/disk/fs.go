package disk

import (
	"io"
	"io/fs"
	"time"
)

// FS is one directory and what lies below it: all the file operations that
// freightliner makes on what it keeps, few enough that a fake can enumerate every failure and
// every crash (package statefile/statefiletest does). Names are slash-separated and
// relative. [OS] is the real one.
//
// Errors wrap those of io/fs: fs.ErrNotExist, fs.ErrExist, fs.ErrPermission.
type FS interface {
	// OpenFile opens a file with flags of package os. It never waits for a FIFO's
	// other end. The caller looks at [File.Stat] before it trusts what it opened.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Lstat describes name itself, a symbolic link and not what it points to.
	Lstat(name string) (Info, error)
	// Rename replaces newName by oldName in one step; a crash leaves one or the other.
	Rename(oldName, newName string) error
	// Link gives the file a second name, which must not exist.
	Link(oldName, newName string) error
	Remove(name string) error
	Mkdir(name string, perm fs.FileMode) error
	// Names lists the names in a directory, in no order.
	Names(dir string) ([]string, error)
	// SyncDir makes the names in dir durable: creations, renames, removals.
	SyncDir(dir string) error
}

// File is one open file. It is not safe for concurrent use.
type File interface {
	io.Reader
	// Write writes all of p or returns an error. After an error nothing is known
	// about the file's end.
	io.Writer
	Stat() (Info, error)
	Truncate(size int64) error
	Chmod(mode fs.FileMode) error
	// Sync returns when all written bytes and the size are durable. After an
	// error nothing is known about what is on the disk, and trying again would
	// lie: the kernel may have marked the lost pages clean.
	Sync() error
	// TryLock takes the kernel's exclusive lock on the file without waiting and
	// reports whether it got it. Closing the file, or the end of the process,
	// frees it.
	TryLock() (bool, error)
	io.Closer
}

// Info describes a file.
type Info struct {
	Mode fs.FileMode
	Size int64
	// ModTime is when the content was last written; zero where that is not known.
	ModTime time.Time
	ID      FileID
	Links   uint64 // names the file has
	// Ours says that the file belongs to the user we run as, or to the owner of
	// the directory. The second is the usual case of a container that runs as
	// root over a checkout of somebody else's: whoever owns the directory could
	// replace any file in it anyway, so refusing would protect nothing.
	Ours bool
}

// FileID tells whether two descriptions are of the same file: volume and
// inode, or what the platform has instead.
type FileID struct{ Volume, File uint64 }
