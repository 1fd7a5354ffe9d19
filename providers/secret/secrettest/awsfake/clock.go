package awsfake

import (
	"context"
	"sync"
	"time"
)

// Clock is time for a fake and for whoever talks to it.
type Clock struct {
	mu     sync.Mutex
	now    time.Time
	passes bool
}

// NewClock is a clock that stands still, on the first of January 2026, until
// somebody waits: that moves it to the end of the wait, at once. Waits of
// several goroutines add up.
func NewClock() *Clock { return &Clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

// PassingClock is a clock that goes as time.Now does; in a bubble of
// testing/synctest that is the bubble's time.
func PassingClock() *Clock { return &Clock{passes: true} }

// Now is the time.
func (c *Clock) Now() time.Time {
	if c.passes {
		return time.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves a clock that stands still.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Wait returns after d, or with ctx's error when that ends first.
func (c *Clock) Wait(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !c.passes {
		c.Advance(d)
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
