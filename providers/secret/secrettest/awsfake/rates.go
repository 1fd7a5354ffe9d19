package awsfake

import "time"

// rates are calls per second by the groups that share a quota
// (docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html).
var rates = map[string]struct {
	group     string
	perSecond float64
}{
	"GetSecretValue":               {"get", 10000},
	"DescribeSecret":               {"describe", 40000},
	"BatchGetSecretValue":          {"batch", 100},
	"ListSecrets":                  {"list", 100},
	"ListSecretVersionIds":         {"versions", 50},
	"CreateSecret":                 {"create", 50},
	"PutSecretValue":               {"change", 50},
	"UpdateSecret":                 {"change", 50},
	"UpdateSecretVersionStage":     {"change", 50},
	"ReplicateSecretToRegions":     {"change", 50},
	"RemoveRegionsFromReplication": {"change", 50},
	"DeleteSecret":                 {"delete", 50},
	"RestoreSecret":                {"restore", 50},
	"TagResource":                  {"tag", 50},
	"UntagResource":                {"tag", 50},
}

// bucket is the budget of a group: half a second's worth at once, then the rate.
type bucket struct {
	perSecond, tokens float64
	at                time.Time
}

func (f *Fake) budget(operation string) *bucket {
	r := rates[operation]
	b := f.buckets[r.group]
	if b == nil {
		b = &bucket{perSecond: r.perSecond, tokens: r.perSecond / 2, at: f.Clock.Now()}
		f.buckets[r.group] = b
	}
	return b
}

func (b *bucket) take(now time.Time) bool {
	b.tokens = min(b.perSecond/2, b.tokens+now.Sub(b.at).Seconds()*b.perSecond)
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
