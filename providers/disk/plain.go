package disk

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ErrUnsafe: the file is not a plain file of ours: a link, a FIFO, a
// directory, another user's file.
var ErrUnsafe = errors.New("not a plain file of ours")

// OpenPlain opens an existing file for use and refuses what is not a plain
// file of ours. The name is looked at first and compared with what was opened,
// so a link swapped in between is found: its target has another identity, or
// is the very file that was approved.
func OpenPlain(fsys FS, path string, flag int) (File, Info, error) {
	before, err := fsys.Lstat(path)
	if err != nil {
		return nil, Info{}, err
	}
	if err := Plain(before); err != nil {
		return nil, Info{}, err
	}
	f, err := fsys.OpenFile(path, flag, 0)
	if err != nil {
		return nil, Info{}, err
	}
	info, err := f.Stat()
	if err == nil {
		err = Plain(info)
	}
	if err == nil && info.ID != before.ID {
		err = fmt.Errorf("%w: it was swapped while it was opened", ErrUnsafe)
	}
	if err != nil {
		return nil, Info{}, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// Plain refuses everything but a regular file of ours.
func Plain(info Info) error {
	what := ""
	switch mode := info.Mode; {
	case mode&fs.ModeSymlink != 0:
		what = "a symbolic link"
	case mode.IsDir():
		what = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		what = "a FIFO"
	case !mode.IsRegular():
		what = "a device or socket"
	case !info.Ours:
		what = "a file of another user"
	default:
		return nil
	}
	return fmt.Errorf("%w: it is %s", ErrUnsafe, what)
}

// RandomName is prefix and 16 random hex digits.
func RandomName(random io.Reader, prefix string) (string, error) {
	var b [8]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("no randomness: %w", err)
	}
	return prefix + hex.EncodeToString(b[:]), nil
}

// WriteNew makes a new file with the bytes that fill writes, synced, and says
// what it is. On an error there is no such file, if it could be removed.
func WriteNew(fsys FS, name string, fill func(io.Writer) error) (Info, error) {
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Info{}, err
	}
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	var info Info
	if err == nil {
		info, err = f.Stat()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return Info{}, errors.Join(err, fsys.Remove(name))
	}
	return info, nil
}

// ReadFile is a plain file's bytes; more than limit of them are an error.
func ReadFile(fsys FS, path string, limit int64) ([]byte, error) {
	f, info, err := OpenPlain(fsys, path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read: closing can lose nothing
	if info.Size > limit {
		return nil, fmt.Errorf("it has %d bytes, at most %d are read", info.Size, limit)
	}
	b := make([]byte, info.Size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, err
	}
	return b, nil
}
