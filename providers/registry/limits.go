package registry

import (
	"context"
	"maps"
	"sync"
	"time"
)

// pace is a ceiling on a rate: a token bucket kept as the moment at which the
// bucket is full of debt again. nil means no ceiling.
type pace struct {
	clock Clock
	each  float64 // seconds per unit
	burst float64 // units

	mu   sync.Mutex
	next time.Time
}

func newPace(clock Clock, perSecond, burst float64) *pace {
	if perSecond <= 0 {
		return nil
	}
	return &pace{clock: clock, each: 1 / perSecond, burst: burst}
}

// take waits until n more units are within the rate.
func (p *pace) take(ctx context.Context, n int) error {
	if p == nil || n == 0 {
		return nil
	}
	p.mu.Lock()
	now := p.clock.Now()
	if earliest := now.Add(-seconds(p.burst * p.each)); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(seconds(float64(n) * p.each))
	wait := p.next.Sub(now)
	p.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	return p.clock.Wait(ctx, wait)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// counters count what goes over the wire.
type counters struct {
	mu                                 sync.Mutex
	requests                           map[string]int64
	received, sent, retries, throttled int64
}

func (c *counters) request(method, endpoint string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[method+" "+endpoint]++
}

func (c *counters) bytes(received, sent int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received += int64(received)
	c.sent += int64(sent)
}

func (c *counters) retry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retries++
}

func (c *counters) throttle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.throttled++
}

// add is sum plus these counters, as a copy.
func (c *counters) add(sum Counters) Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	requests := maps.Clone(c.requests)
	for k, n := range sum.Requests {
		requests[k] += n
	}
	return Counters{
		Requests:      requests,
		BytesReceived: sum.BytesReceived + c.received,
		BytesSent:     sum.BytesSent + c.sent,
		Retries:       sum.Retries + c.retries,
		Throttled:     sum.Throttled + c.throttled,
	}
}

// health is the breaker of one registry. Three failures to connect in a row
// mean that the host is down for the rest of the run: every further call fails
// at once with the first failure, and costs the other hosts nothing. Failures
// of tries that ran side by side count as one.
type health struct {
	mu      sync.Mutex
	row     int
	first   error
	counted time.Time // when the last counted failure ended
	down    error
	resume  time.Time // no request before this, from Retry-After
}

const downAfter = 3

// failed takes note of a try that could not connect.
func (h *health) failed(started, now time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.row > 0 && started.Before(h.counted) {
		return
	}
	if h.row == 0 {
		h.first = err
	}
	h.row++
	h.counted = now
	if h.row >= downAfter {
		h.down = h.first
	}
}

// works takes note of an answer, whatever it says.
func (h *health) works() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.row, h.first = 0, nil
}

// gone is the reason why the host counts as down; nil while it does not.
func (h *health) gone() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.down
}

// pause keeps all requests back until t.
func (h *health) pause(t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.After(h.resume) {
		h.resume = t
	}
}

// pausing is how long requests are to be kept back.
func (h *health) pausing(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.resume.Sub(now)
}
