//go:build unix

package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFlags keeps an open of a FIFO from waiting for its other end.
const openFlags = syscall.O_NONBLOCK

func describe(root *os.Root, _ string, _ *os.File, fi fs.FileInfo) (Info, error) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return Info{}, fmt.Errorf("%s: the system did not say which file this is", fi.Name())
	}
	info := Info{
		Mode:    fi.Mode(),
		Size:    fi.Size(),
		ModTime: fi.ModTime(),
		ID:      FileID{Volume: uint64(st.Dev), File: st.Ino},
		Links:   uint64(st.Nlink),
		Ours:    st.Uid == uint32(os.Geteuid()),
	}
	if !info.Ours {
		dir, err := root.Stat(".")
		if err != nil {
			return Info{}, err
		}
		owner, ok := dir.Sys().(*syscall.Stat_t)
		info.Ours = ok && owner.Uid == st.Uid
	}
	return info, nil
}

func syncDir(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

func tryLock(f *os.File) (bool, error) {
	var lockErr error
	err := control(f, func(fd int) {
		for {
			lockErr = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
			if lockErr != unix.EINTR {
				return
			}
		}
	})
	if err == nil {
		err = lockErr
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

func control(f *os.File, do func(fd int)) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Control(func(fd uintptr) { do(int(fd)) })
}
