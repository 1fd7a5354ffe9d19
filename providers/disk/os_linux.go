package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData is fdatasync: the bytes and the size, not the times.
func syncData(f *os.File) error {
	var syncErr error
	err := control(f, func(fd int) {
		for {
			syncErr = unix.Fdatasync(fd)
			if syncErr != unix.EINTR {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return syncErr
}

// Reserve asks the disk for size bytes behind from without making the file
// longer: what is appended there later can not fail for want of space.
func (f osFile) Reserve(from, size int64) error {
	var reserveErr error
	err := control(f.File, func(fd int) {
		reserveErr = unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, from, size)
	})
	if err != nil {
		return err
	}
	return reserveErr
}
