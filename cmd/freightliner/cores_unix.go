//go:build unix && !linux

package main

import "golang.org/x/sys/unix"

// keepFromCores makes the process leave no core dump, since payloads are about
// to be in its memory.
func keepFromCores() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }
