package audit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"freightliner/providers"
	"freightliner/providers/disk"
	"freightliner/providers/secret"
)

// clock moves a second with each look.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Second)
	return c.now
}

func (c *clock) Wait(ctx context.Context, _ time.Duration) error {
	runtime.Gosched() // whoever holds the lock is at work
	return ctx.Err()
}

func (c *clock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

func opened(fsys disk.FS, c disk.Clock) *Log {
	return Open(Options{FS: fsys, Clock: c, Workspace: "prod", Patience: 1e6 * time.Hour, Run: "run-1", Host: "runner-7", Version: "0.2.0", Actor: "Ann <ann@example.org>", Job: "https://ci.example.org/job/7"})
}

func entry(name string) secret.Entry {
	return secret.Entry{Operation: secret.OpWrite, Reason: "apply", Address: "secret." + name, Store: "file/secrets", Principal: "ann", Name: name, Before: "1-aa", Token: "token-" + name}
}

func check(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// verified wants nothing to be wrong.
func verified(t testing.TB, fsys disk.FS, heads ...Head) Report {
	t.Helper()
	r, err := Verify(t.Context(), fsys, "prod", heads...)
	check(t, "verify", err)
	if !r.OK() {
		t.Fatalf("verify: %v", r.Problems)
	}
	return r
}

var errDenied = &providers.Error{Class: providers.Denied, Op: "write secret", Err: errors.New("no right")}

// filled is a log of n batches: an intent and an outcome each.
func filled(t testing.TB, fsys disk.FS, n int) *Log {
	t.Helper()
	l := opened(fsys, newClock())
	for i := range n {
		e := entry(fmt.Sprintf("s%d", i))
		check(t, "intend", l.Intend(t.Context(), e))
		if e.After = "2-bb"; i%2 == 1 {
			e.After, e.Failure = "", errDenied
		}
		check(t, "outcome", l.Outcome(t.Context(), e))
	}
	return l
}
