package registry

import (
	"context"
	"slices"
	"sync"
	"time"
)

// action is a kind of request that a registry limits by itself: a registry
// that throttles manifest writes takes blobs as before.
type action uint8

const (
	listings action = iota // catalog, tag lists, referrers
	looks                  // HEAD of anything
	reads                  // GET of manifests: what Docker Hub counts as a pull
	pulls                  // GET of blobs
	opens                  // upload sessions and mounts
	pushes                 // blob data to the registry
	writes                 // PUT of manifests
	deletes                // DELETE
	actions                // how many there are
)

// actionOf is the action that c is.
func actionOf(c *call) action {
	switch {
	case c.method == "HEAD":
		return looks
	case c.method == "DELETE":
		return deletes
	case c.bulk && c.method == "GET":
		return pulls
	case c.endpoint == "manifest" && c.method == "PUT":
		return writes
	case c.endpoint == "manifest":
		return reads
	case c.method == "POST":
		return opens
	case c.method == "PUT", c.method == "PATCH", c.endpoint == "upload":
		return pushes
	}
	return listings
}

// gate bounds how much runs at once at one registry:
//
//	slots          the ceiling over everything ("concurrency")
//	window         by action: halved when the registry throttles it, at most once
//	               per congestion epoch, and one wider again per full window of
//	               successes (additive increase, multiplicative decrease)
//	lane           by the registry at the other end of a transfer: one that stalls
//	               takes no more than its part of the slots, so that it holds up
//	               nobody else
//
// All three are taken together or not at all, and in the order of asking as far
// as the bounds let: nobody holds one while waiting for another, so there is no
// circle to wait in within a gate. What ends something begun goes before what
// begins something: else a hundred sessions lie open before the first blob has
// arrived, and each transfer keeps its slot at the source for as long. Nobody
// starves, since only what was begun can be ended.
type gate struct {
	clock Clock
	slots int

	mu      sync.Mutex
	used    int
	windows [actions]window
	lanes   map[string]*lane // by the other registry's host
	queue   []*waiter
}

// lane is what is in motion between this registry and another.
type lane struct {
	used     int // slots
	expected int // by callers of expect
}

type window struct {
	width  float64
	used   int
	halved time.Time // requests sent before this belong to the epoch that is over
}

// pass is what somebody wants to hold.
type pass struct {
	actions []action // a window place in each
	slots   int
	lane    string // the other registry; empty for none
}

// ends reports whether p brings something begun to its end: blob data whose
// session is open, a manifest whose blobs are there.
func (p pass) ends() bool {
	return slices.Contains(p.actions, pushes) || slices.Contains(p.actions, writes)
}

type waiter struct {
	pass
	open chan struct{}
}

func newGate(clock Clock, slots int) *gate {
	g := &gate{clock: clock, slots: slots, lanes: map[string]*lane{}}
	for a := range g.windows {
		g.windows[a].width = float64(slots)
	}
	return g
}

// enter waits until p is free, or ctx ends. What it returns gives p back.
func (g *gate) enter(ctx context.Context, p pass) (leave func(), err error) {
	p.slots = min(p.slots, g.slots)
	w := &waiter{pass: p, open: make(chan struct{})}
	g.mu.Lock()
	g.lane(p.lane)
	at := len(g.queue)
	if p.ends() {
		at = slices.IndexFunc(g.queue, func(w *waiter) bool { return !w.ends() })
		if at < 0 {
			at = len(g.queue)
		}
	}
	g.queue = slices.Insert(g.queue, at, w)
	g.admit()
	g.mu.Unlock()
	leave = func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.take(p, -1)
		g.admit()
	}
	select {
	case <-w.open:
		return leave, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.queue, w); i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
	} else {
		g.take(p, -1)
	}
	g.admit()
	return nil, ctx.Err()
}

// lane makes sure that there is a lane of that name. It stays, unless it was
// expected and is over. The caller holds the lock.
func (g *gate) lane(name string) *lane {
	l := g.lanes[name]
	if l == nil && name != "" {
		l = &lane{}
		g.lanes[name] = l
	}
	return l
}

// expect says that a lane is going to be used, until over is called. Its share
// is kept for it from now on: who comes first can not take everything.
func (g *gate) expect(name string) (over func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.lane(name)
	l.expected++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if l.expected--; l.expected == 0 && l.used == 0 {
			delete(g.lanes, name)
		}
		g.admit()
	}
}

// admit lets in whom the bounds allow. Who waits for a window or a lane is
// passed by; who waits for slots is not, or a large pass would wait for ever.
// The caller holds the lock.
func (g *gate) admit() {
	for i := 0; i < len(g.queue); {
		w := g.queue[i]
		if g.used+w.slots > g.slots {
			return
		}
		if !g.fits(w.pass) {
			i++
			continue
		}
		g.queue = slices.Delete(g.queue, i, i+1)
		g.take(w.pass, 1)
		close(w.open)
	}
}

func (g *gate) fits(p pass) bool {
	for _, a := range p.actions {
		if w := &g.windows[a]; w.used+1 > max(1, int(w.width)) {
			return false
		}
	}
	return p.lane == "" || g.room(p)
}

// room reports whether p's lane may take its slots. The only lane may take all.
// One of several has an equal share at any time, and beyond that, up to a
// quarter of all slots, what is free as long as another quarter stays for the
// lanes below their share: so those that stall, even several of them, leave room
// for the others.
func (g *gate) room(p pass) bool {
	used, lanes := g.lane(p.lane).used+p.slots, len(g.lanes)
	switch {
	case used <= max(p.slots, g.slots/lanes):
		return true
	case used > g.slots/min(4, lanes):
		return false
	}
	return g.used+p.slots <= g.slots-g.slots/4
}

func (g *gate) take(p pass, n int) {
	g.used += n * p.slots
	for _, a := range p.actions {
		g.windows[a].used += n
	}
	if p.lane != "" {
		g.lane(p.lane).used += n * p.slots
	}
}

// congested halves the window of a, because a request that was sent at started
// was throttled. Requests of one epoch, sent before the last halving, are one
// event however many of them are refused.
func (g *gate) congested(a action, started time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := &g.windows[a]
	if !started.After(w.halved) && !w.halved.IsZero() {
		return
	}
	w.width = max(1, w.width/2)
	w.halved = g.clock.Now()
}

// eased widens the window of a by one part of a full window of successes.
func (g *gate) eased(a action) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := &g.windows[a]
	if w.width >= float64(g.slots) {
		return
	}
	before := int(w.width)
	w.width = min(float64(g.slots), w.width+1/w.width)
	if int(w.width) > before {
		g.admit()
	}
}

// atMost narrows the window of a to n, the number of requests that are left of
// a quota. It widens again with successes like any other.
func (g *gate) atMost(a action, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := &g.windows[a]
	w.width = min(w.width, float64(max(1, n)))
}

// width is how many requests of action a run at once at most.
func (g *gate) width(a action) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(1, int(g.windows[a].width))
}
