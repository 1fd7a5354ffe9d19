package gcpfake

import (
	"context"
	"sync"
	"time"
)

// Clock is time that passes only when somebody waits for it. The zero Clock
// begins at a fixed date.
type Clock struct {
	mu     sync.Mutex
	passed time.Duration
}

// Now is the date of the clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC).Add(c.passed)
}

// Wait lets d pass at once.
func (c *Clock) Wait(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.Advance(d)
	return nil
}

// Advance lets d pass.
func (c *Clock) Advance(d time.Duration) {
	if d > 0 {
		c.mu.Lock()
		c.passed += d
		c.mu.Unlock()
	}
}
