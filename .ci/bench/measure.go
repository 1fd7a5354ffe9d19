package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// command is one process of a tool.
type command struct {
	program string
	args    []string
	env     []string // beside PATH
}

// outcome is what a tool's work took.
type outcome struct {
	wall       time.Duration
	cpu        time.Duration // of the tool's processes, user and system
	registries time.Duration // CPU of both registries meanwhile
	peak       int64         // bytes of memory of its largest process; 0 unknown
	err        error
}

// measure runs the commands, atOnce of them at a time, and waits for all. When
// ctx ends they are killed with SIGKILL.
func measure(ctx context.Context, commands []command, atOnce int, registries ...*process) outcome {
	exec.Command("sync").Run() // nobody pays for what others left to write
	before := processorTime(registries)
	started := time.Now()
	var mu sync.Mutex
	var o outcome
	var failures []error
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, c := range commands {
		group.Go(func() error {
			cpu, peak, err := c.run(ctx)
			mu.Lock()
			defer mu.Unlock()
			o.cpu += cpu
			o.peak = max(o.peak, peak)
			if err != nil {
				failures = append(failures, err)
			}
			return nil
		})
	}
	group.Wait()
	o.wall = time.Since(started)
	o.registries = processorTime(registries) - before
	if len(failures) > 0 {
		o.err = fmt.Errorf("%d of %d commands failed, the first: %w", len(failures), len(commands), failures[0])
	}
	return o
}

func (c command) run(ctx context.Context) (cpu time.Duration, peak int64, err error) {
	process := exec.CommandContext(ctx, c.program, c.args...)
	process.Env = append([]string{"PATH=" + os.Getenv("PATH")}, c.env...)
	var output tail
	process.Stdout, process.Stderr = &output, &output
	if err := process.Start(); err != nil {
		return 0, 0, err
	}
	ended := make(chan struct{})
	watched := make(chan int64, 1)
	go func() { watched <- watchMemory(process.Process.Pid, ended) }()
	err = process.Wait()
	close(ended)
	peak = <-watched
	cpu = process.ProcessState.UserTime() + process.ProcessState.SystemTime()
	if err != nil {
		err = fmt.Errorf("%s: %w: … %s", filepath.Base(c.program), err, bytes.TrimSpace(output.end))
	}
	return cpu, peak, err
}

// watchMemory looks at a process's high-water mark until it has ended. The
// kernel's rusage is not used: the maximum in it begins with that of the
// process that started this one, which is us.
func watchMemory(pid int, ended <-chan struct{}) int64 {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	name := fmt.Sprintf("/proc/%d/status", pid)
	var peak int64
	for {
		if status, err := os.ReadFile(name); err == nil {
			if _, rest, found := bytes.Cut(status, []byte("VmHWM:")); found {
				if fields := bytes.Fields(rest); len(fields) > 0 {
					kib, _ := strconv.ParseInt(string(fields[0]), 10, 64)
					peak = max(peak, kib<<10)
				}
			}
		}
		select {
		case <-ended:
			return peak
		case <-again.C:
		}
	}
}

// processorTime is what the processes have used so far, in steps of 10 ms; 0
// where there is no /proc.
func processorTime(processes []*process) time.Duration {
	var total time.Duration
	for _, p := range processes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
		if err != nil {
			continue
		}
		// The name in parentheses may hold anything; utime and stime are the 12th
		// and 13th field after it (proc(5)), in ticks of which Linux has 100.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		for _, i := range []int{11, 12} {
			if i < len(fields) {
				ticks, _ := strconv.ParseInt(string(fields[i]), 10, 64)
				total += time.Duration(ticks) * 10 * time.Millisecond
			}
		}
	}
	return total
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	end []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, p...)
	const most = 300
	if len(t.end) > most {
		t.end = append([]byte(nil), t.end[len(t.end)-most:]...)
	}
	return len(p), nil
}
