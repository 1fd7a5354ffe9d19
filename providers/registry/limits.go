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
	mu                                                      sync.Mutex
	requests                                                map[string]int64
	received, sent, retries, throttled, mismatched, resumed int64
	mounted, present, spooled                               int64
	quota                                                   *Quota
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

// mismatch counts content that did not match its digest.
func (c *counters) mismatch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mismatched++
}

// found counts the bytes of a blob that did not have to be moved.
func (c *counters) found(mounted, present int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mounted += mounted
	c.present += present
}

// resume counts bytes that were not moved again.
func (c *counters) resume(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resumed += n
}

// spool counts bytes that did not have to be read again.
func (c *counters) spool(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spooled += n
}

// left keeps what the registry said last about its quota.
func (c *counters) left(q Quota) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quota = &q
}

// add is sum plus these counters, as a copy.
func (c *counters) add(sum Counters) Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	requests := maps.Clone(c.requests)
	for k, n := range sum.Requests {
		requests[k] += n
	}
	quota := sum.Quota
	if c.quota != nil {
		quota = c.quota
	}
	return Counters{
		Requests:      requests,
		BytesReceived: sum.BytesReceived + c.received,
		BytesSent:     sum.BytesSent + c.sent,
		Retries:       sum.Retries + c.retries,
		Throttled:     sum.Throttled + c.throttled,
		Mismatched:    sum.Mismatched + c.mismatched,
		Resumed:       sum.Resumed + c.resumed,
		Mounted:       sum.Mounted + c.mounted,
		Present:       sum.Present + c.present,
		Spooled:       sum.Spooled + c.spooled,
		Quota:         quota,
	}
}
