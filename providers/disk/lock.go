package disk

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"
)

// Clock is time, handed in so that tests need not wait.
type Clock interface {
	Now() time.Time
	// Wait returns after d, or with ctx's error when that ends first.
	Wait(ctx context.Context, d time.Duration) error
}

// ErrLocked: another process holds the lock.
var ErrLocked = errors.New("another process holds the lock")

// TryLock opens the lock file at name, makes it if there is none, and takes
// the kernel's lock on it without waiting. The file is open either way, for
// the caller to read who has it, and to close: that, or the end of the process,
// frees the lock. The file must never be renamed or removed.
func TryLock(fsys FS, name string) (f File, got bool, err error) {
	for {
		f, got, err := lookAndLock(fsys, name)
		if !errors.Is(err, errLookAgain) {
			return f, got, err
		}
	}
}

// errLookAgain: the lock file was made or replaced while we looked.
var errLookAgain = errors.New("the lock file was replaced")

func lookAndLock(fsys FS, name string) (File, bool, error) {
	f, info, err := OpenPlain(fsys, name, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return nil, false, errLookAgain // somebody was faster
		}
		if err != nil {
			return nil, false, err
		}
		if info, err = f.Stat(); err != nil {
			return nil, false, errors.Join(err, f.Close())
		}
	}
	if err != nil {
		return nil, false, err
	}
	got, err := f.TryLock()
	if err != nil {
		return nil, false, errors.Join(err, f.Close())
	}
	if !got {
		return f, false, nil
	}
	// A lock on a file that nobody else can find by its name guards nothing: if
	// somebody removed the file against the rules, start over with the new one.
	now, err := fsys.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && now.ID != info.ID {
		return nil, false, errors.Join(errLookAgain, f.Close())
	}
	if err != nil {
		return nil, false, errors.Join(err, f.Close())
	}
	return f, true, nil
}

// Lock waits for the lock at name, up to patience, and returns what frees it.
// The error is ctx's, or wraps [ErrLocked].
func Lock(ctx context.Context, fsys FS, clock Clock, name string, patience time.Duration) (free func() error, err error) {
	deadline := clock.Now().Add(patience)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, got, err := TryLock(fsys, name)
		if err != nil {
			return nil, err
		}
		if got {
			return f.Close, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
		left := deadline.Sub(clock.Now())
		if left <= 0 {
			return nil, ErrLocked
		}
		if err := clock.Wait(ctx, min(pause, left)); err != nil {
			return nil, err
		}
	}
}
