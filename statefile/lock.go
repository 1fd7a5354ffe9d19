package statefile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"freightliner/providers"
	"freightliner/providers/disk"
)

const (
	// privateDir lies beside the state and is ignored by git.
	privateDir = ".freightliner"
	lockName   = "lock"
)

// Lock is the right to write the states of one directory. It is a lock of the
// kernel on a file that is never renamed or removed, so it ends with the
// process however that ends, and there is nothing to break by force. The lock
// is not on the state itself, whose inode changes with every compaction.
type Lock struct {
	fsys FS
	dir  string
	file File
}

// LockOptions say how long to wait. Clock is only used while waiting; nil is
// the machine's.
type LockOptions struct {
	Timeout time.Duration // 0: do not wait
	Clock   Clock
}

// LockedError names who has the lock. It matches [ErrLocked].
type LockedError struct {
	Holder Holder // zero when the holder could not write it down
}

// Error is "the state is locked by pid 4711 on runner-7 since …".
func (e *LockedError) Error() string {
	h := e.Holder
	if h.PID == 0 {
		return ErrLocked.Error() + " by a process that left no details"
	}
	out := fmt.Sprintf("%v by process %d on %s since %s", ErrLocked, h.PID, providers.Printable(h.Host, 200), h.Since.UTC().Format(time.RFC3339))
	if h.By != "" {
		out += " (" + providers.Printable(h.By, 200) + ")"
	}
	if h.Run != "" {
		out += ", run " + providers.Printable(h.Run, 200)
	}
	return out
}

// Is makes it match ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// AcquireLock takes the lock of the directory that holds statePath, on
// .freightliner/lock in it, and writes down who has it. It waits up to the
// timeout; then, or when ctx ends, the error is a [*LockedError], or that of
// ctx. The lock file is not followed through links.
func AcquireLock(ctx context.Context, fsys FS, statePath string, who Holder, opts LockOptions) (*Lock, error) {
	if opts.Clock == nil {
		opts.Clock = SystemClock{}
	}
	dir := path.Dir(statePath)
	name := path.Join(dir, privateDir, lockName)
	if err := makePrivateDir(fsys, dir); err != nil {
		return nil, failed("lock state", name, err)
	}
	deadline := opts.Clock.Now().Add(opts.Timeout)
	pause := 20 * time.Millisecond
	for {
		if err := ctx.Err(); err != nil {
			return nil, failed("lock state", name, err)
		}
		f, holder, err := tryLockFile(fsys, name)
		if err != nil {
			return nil, failed("lock state", name, err)
		}
		if f != nil {
			l := &Lock{fsys: fsys, dir: dir, file: f}
			if err := l.describe(who); err != nil {
				return nil, failed("lock state", name, errors.Join(err, f.Close()))
			}
			return l, nil
		}
		left := deadline.Sub(opts.Clock.Now())
		if left <= 0 {
			return nil, &providers.Error{
				Class: providers.Conflict, Op: "lock state", On: name, Err: &LockedError{holder},
				Hint: "Wait for it with -lock-timeout; the lock is freed by itself when that process ends.",
			}
		}
		select {
		case <-ctx.Done():
		case <-opts.Clock.After(min(pause, left)):
		}
		// Long enough not to be busy, short enough that the lock of a killed
		// process is taken over within a second.
		pause = min(2*pause, 500*time.Millisecond)
	}
}

// tryLockFile gives the locked file, or who has it when somebody else does.
func tryLockFile(fsys FS, name string) (File, Holder, error) {
	f, got, err := disk.TryLock(fsys, name)
	if err != nil || got {
		return f, Holder{}, err
	}
	holder := readHolder(f)
	return nil, holder, f.Close()
}

// readHolder reads who has the lock. It is only for a message, so what can not
// be read is left out: the holder may be writing it this instant.
func readHolder(f File) Holder {
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	var h Holder
	if err != nil || json.Unmarshal(text, &h) != nil {
		return Holder{}
	}
	return h
}

func (l *Lock) describe(who Holder) error {
	text, err := json.Marshal(who)
	if err != nil {
		return err
	}
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err = l.file.Write(append(text, '\n'))
	return err
}

// Release gives the lock back. The file stays, empty.
func (l *Lock) Release() error {
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return failed("unlock state", path.Join(l.dir, privateDir, lockName), errors.Join(f.Truncate(0), f.Close()))
}

// guards reports whether the lock is held and covers the state at statePath.
func (l *Lock) guards(statePath string) bool {
	return l != nil && l.file != nil && path.Dir(statePath) == l.dir
}

// makePrivateDir makes .freightliner in dir, or checks that it is a directory
// of ours, not a link to somewhere else, and that only we can put files there:
// who can, could take the lock away from under us.
func makePrivateDir(fsys FS, dir string) error {
	name := path.Join(dir, privateDir)
	if err := fsys.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := fsys.Lstat(name)
	if err != nil {
		return err
	}
	if !info.Mode.IsDir() || !info.Ours {
		return fmt.Errorf("%w: %s is not a directory of ours", ErrUnsafe, name)
	}
	if info.Mode.Perm()&0o022 != 0 {
		return fmt.Errorf("%w: others may write into %s, its mode is %04o", ErrUnsafe, name, info.Mode.Perm())
	}
	return nil
}
