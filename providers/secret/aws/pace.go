package aws

import (
	"sync"
	"time"
)

// rates are the calls per second that AWS lets an account do in a region, per
// group of calls that share a quota
// (docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html).
var rates = []struct {
	perSecond float64
	actions   []string
}{
	{10000, []string{"GetSecretValue"}},
	{40000, []string{"DescribeSecret"}},
	{100, []string{"BatchGetSecretValue"}},
	{100, []string{"ListSecrets"}},
	{50, []string{"ListSecretVersionIds"}},
	{50, []string{"CreateSecret"}},
	{50, []string{"PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage", "ReplicateSecretToRegions", "RemoveRegionsFromReplication"}},
	{50, []string{"DeleteSecret"}},
	{50, []string{"RestoreSecret"}},
	{50, []string{"TagResource", "UntagResource"}},
}

// share is how much of a quota is ours: others in the account want some too.
const share = 0.8

// budgets has a bucket for each action; actions of a group share one.
func budgets() map[string]*bucket {
	out := map[string]*bucket{}
	for _, group := range rates {
		full := group.perSecond * share
		b := &bucket{full: full, rate: full, burst: full / 4, tokens: full / 4}
		for _, action := range group.actions {
			out[action] = b
		}
	}
	return out
}

// bucket is one quota: tokens come at rate, a call takes one. Throttling halves
// the rate, time brings it back.
type bucket struct {
	mu            sync.Mutex
	full, rate    float64 // tokens per second: at best, and now
	burst         float64
	tokens        float64 // negative: promised to calls that wait
	at, throttled time.Time
}

// take reserves a call and says how long to wait for it.
func (b *bucket) take(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if passed := now.Sub(b.at).Seconds(); passed > 0 && !b.at.IsZero() {
		b.tokens = min(b.burst, b.tokens+passed*b.rate)
		b.rate = min(b.full, b.rate+passed*b.full/20)
	}
	if b.at.IsZero() || now.After(b.at) {
		b.at = now
	}
	b.tokens--
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / b.rate * float64(time.Second))
}

// slower halves the rate, once for all calls that are refused within a second.
func (b *bucket) slower(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.throttled) < time.Second {
		return
	}
	b.throttled = now
	b.rate = max(b.rate/2, b.full/64)
	b.tokens = min(b.tokens, 0)
}
