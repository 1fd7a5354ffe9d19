package statefile

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
