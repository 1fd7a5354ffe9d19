//go:build !unix

package config

import "time"

var started = time.Now()

// cpuTime is the clock, where a process does not tell what it has used.
func cpuTime() time.Duration { return time.Since(started) }
