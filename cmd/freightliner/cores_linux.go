package main

import "golang.org/x/sys/unix"

// keepFromCores makes the process leave no core dump, since payloads are about
// to be in its memory. Both may be refused (a sandbox); then the system's own
// settings hold.
func keepFromCores() {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
