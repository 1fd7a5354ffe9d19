package registry

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// health is the circuit breaker of one registry. Failures of the connection in
// a row open it, and then every call fails at once with the first of them and
// costs the other hosts nothing. After a pause, which doubles, one call is let
// through as a probe: when it gets an answer, whatever it says, the registry is
// back. Failures of tries that ran side by side count as one.
//
//	closed --failures--> open --pause--> one probe --answer--> closed
//	                      ^                   |
//	                      +------failure------+
type health struct {
	mu      sync.Mutex
	row     int // weight of the failures in a row
	first   error
	counted time.Time // when the last counted failure ended
	down    bool
	until   time.Time // no probe before this
	spell   time.Duration
	probing bool
	resume  time.Time // no request before this, from Retry-After
}

const (
	downAfter = 6 // weight in a row that opens the breaker
	// Weights of one failure. Three refused connections are enough; a stall has
	// cost a minute already; a connection that breaks may be about one request.
	weightDial, weightStall, weightBroken = 2, 3, 1

	firstSpell = 30 * time.Second
	longSpell  = 5 * time.Minute
)

// failed takes note of a try that got no answer.
func (h *health) failed(started, now time.Time, weight int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.down && (!h.probing || started.Before(h.until)):
		return // sent before the breaker opened
	case h.down:
		h.spell = min(2*h.spell, longSpell)
		h.until, h.probing = now.Add(h.spell), false
		return
	case h.row > 0 && started.Before(h.counted):
		return
	}
	if h.row == 0 {
		h.first = err
	}
	h.row += weight
	h.counted = now
	if h.row >= downAfter {
		h.down, h.spell = true, firstSpell
		h.until = now.Add(h.spell)
	}
}

// works takes note of an answer.
func (h *health) works() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.row, h.first, h.down, h.probing = 0, nil, false, false
}

// admit says whether a call may go out now: down is the reason why not, and
// probe that this call is the one that finds out.
func (h *health) admit(now time.Time) (probe bool, down error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.down:
		return false, nil
	case h.probing || now.Before(h.until):
		return false, h.first
	}
	h.probing = true
	return true, nil
}

// probed ends a probe that may have come to no outcome: the next call is the
// next one.
func (h *health) probed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probing = false
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

// weightOf is what a failed try says about the health of its host; 0 for
// nothing: our own refusals, certificates, and bodies that broke off.
func weightOf(err error, hasBody bool) int {
	var op *net.OpError
	var declined *refusal
	switch {
	case errors.As(err, &declined):
		return 0
	case errors.Is(err, errStalled):
		return weightStall
	case errors.As(err, &op) && op.Op == "dial":
		return weightDial
	case hasBody || isCertificate(err) || isUnwelcome(err):
		return 0
	}
	return weightBroken
}

// budget bounds the retries of one registry to a tenth of its requests, so that
// trouble is not multiplied when it is greatest. The floor lets small runs try.
// Each registry has its own: together they are within a tenth of all requests
// and a floor for each host, and a registry in trouble uses up nobody else's.
type budget struct{ requests, retries atomic.Int64 }

const (
	retryFloor = 20
	retryShare = 10 // one retry for so many requests
)

// spend takes one retry out of the budget, if there is one.
func (b *budget) spend() bool {
	if b.retries.Add(1) <= retryFloor+b.requests.Load()/retryShare {
		return true
	}
	b.retries.Add(-1)
	return false
}
