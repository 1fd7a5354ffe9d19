package gcp

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// group is a quota that calls share.
type group uint8

const (
	accessGroup group = iota // 90,000 a minute and project
	readGroup                // 600 a minute and project
	writeGroup               // 600 a minute and project
)

// The buckets keep below 80 % of the quotas in any minute: what may come at once
// and what a minute adds are that together. The soft ones are per second: 2 writes
// of one global secret and 1 change of state of one version, 80 and 50 for
// regional ones (https://cloud.google.com/secret-manager/quotas); what may come
// at once is the limit itself there, so that a write (claim and add) waits for
// nothing.
var (
	accessRate  = bucket{perSecond: 1000, burst: 12_000} // 72,000 in a minute
	readRate    = bucket{perSecond: 7, burst: 60}        // 480
	writeRate   = bucket{perSecond: 7, burst: 60}        // 480
	secretRate  = [2]bucket{{perSecond: 0.8, burst: 2}, {perSecond: 32, burst: 32}}
	versionRate = [2]bucket{{perSecond: 0.8, burst: 1}, {perSecond: 20, burst: 20}}
)

type bucket struct{ perSecond, burst float64 }

// recovery is how long after a cut a rate is doubled again.
const recovery = time.Minute

// paces are the buckets of a store.
type paces struct {
	clock    Clock
	regional int
	groups   [3]*pace

	mu    sync.Mutex
	small map[string]*pace // of a secret or a version; swept when it grows
}

func newPaces(clock Clock, regional bool) *paces {
	p := &paces{clock: clock, small: map[string]*pace{}}
	if regional {
		p.regional = 1
	}
	for g, b := range map[group]bucket{accessGroup: accessRate, readGroup: readRate, writeGroup: writeRate} {
		p.groups[g] = newPace(b)
	}
	return p
}

// take waits until n calls of the group, and of the secret or version key if it
// is not empty, keep within the rates.
func (p *paces) take(ctx context.Context, g group, key string, b bucket, n int) error {
	now := p.clock.Now()
	wait := p.groups[g].reserve(now, n)
	if key != "" {
		wait = max(wait, p.of(key, b, now).reserve(now, n))
	}
	if wait <= 0 {
		return ctx.Err()
	}
	return p.clock.Wait(ctx, wait)
}

func (p *paces) ofSecret(ctx context.Context, name string, n int) error {
	return p.take(ctx, writeGroup, name, secretRate[p.regional], n)
}

func (p *paces) ofVersion(ctx context.Context, version string) error {
	return p.take(ctx, writeGroup, version, versionRate[p.regional], 1)
}

// throttled halves the rate of a group.
func (p *paces) throttled(g group) { p.groups[g].halve(p.clock.Now()) }

func (p *paces) of(key string, b bucket, now time.Time) *pace {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.small) > 10_000 {
		for k, q := range p.small {
			if q.limiter.TokensAt(now) >= q.full.burst {
				delete(p.small, k) // full again: as good as a new one
			}
		}
	}
	q := p.small[key]
	if q == nil {
		q = newPace(b)
		p.small[key] = q
	}
	return q
}

// pace is one bucket.
type pace struct {
	limiter *rate.Limiter
	full    bucket

	mu  sync.Mutex
	cut time.Time // when the rate was halved or doubled last
}

func newPace(b bucket) *pace {
	return &pace{limiter: rate.NewLimiter(rate.Limit(b.perSecond), int(b.burst)), full: b}
}

func (p *pace) reserve(now time.Time, n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if limit := p.limiter.Limit(); limit < rate.Limit(p.full.perSecond) && now.Sub(p.cut) >= recovery {
		p.cut = now
		p.limiter.SetLimitAt(now, min(2*limit, rate.Limit(p.full.perSecond)))
	}
	return p.limiter.ReserveN(now, n).DelayFrom(now)
}

// halve cuts the rate, down to a sixteenth, and what may come at once. It does
// so once a second at most: many calls are refused for one reason.
func (p *pace) halve(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.cut) < time.Second {
		return
	}
	p.cut = now
	p.limiter.SetLimitAt(now, max(p.limiter.Limit()/2, rate.Limit(p.full.perSecond/16)))
	if spare := int(p.limiter.TokensAt(now)); spare > 1 {
		p.limiter.ReserveN(now, spare-1)
	}
}
