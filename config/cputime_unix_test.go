//go:build unix

package config

import (
	"syscall"
	"time"
)

// cpuTime is what the process has used of all processors so far. Bounds on it
// hold on a machine that does other things as well, unlike those on the clock.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
