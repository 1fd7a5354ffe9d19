package awsfake

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Fake is the secrets of one account in one region. It is safe for concurrent
// use; its exported fields are set before the first call.
type Fake struct {
	Region  string
	Account string
	Clock   *Clock

	// Lag is how many reads of a secret after a write still show what was before.
	Lag int
	// Rates makes calls beyond the rates of a group fail with ThrottlingException.
	Rates bool
	// ForceDelay is how long a name stays taken after a forced deletion.
	ForceDelay time.Duration
	// ReplicaDelay is how many descriptions show a new replica in progress.
	ReplicaDelay int
	// VersionQuota is how many versions a secret may have. Versions without a
	// label that are older than a day go when there are more than 100.
	VersionQuota int

	mu       sync.Mutex
	secrets  map[string]*secret
	made     map[string][]string // version ids by name, in order, for ever
	counts   map[string]int
	calls    int
	inject   func(Call) Fault
	late     []delayed // requests that will be delivered again
	denied   map[string]bool
	keys     map[string]string // KMS keys that can not be used, and how
	failing  map[string]string // regions whose replicas fail, and why
	revoked  string            // code and text that refuse every key
	buckets  map[string]*bucket
	pasts    map[string]*past
	sequence int
}

// New is an empty account.
func New(region string) *Fake {
	return &Fake{
		Region: region, Account: "123456789012", Clock: NewClock(),
		ForceDelay: 2 * time.Second, VersionQuota: 200,
		secrets: map[string]*secret{}, made: map[string][]string{}, counts: map[string]int{},
		denied: map[string]bool{}, keys: map[string]string{}, failing: map[string]string{}, buckets: map[string]*bucket{}, pasts: map[string]*past{},
	}
}

// secret is what the service keeps of one.
type secret struct {
	name, arn, description, key string
	owningService, kind         string
	primaryRegion               string
	rotates                     bool
	tags                        map[string]string
	versions                    []*version
	reigns                      []string // ids that became current, in order
	replicas                    []*replica
	created, changed            time.Time
	deleted                     time.Time // when the deletion becomes final; zero for none
	forced                      bool
}

type version struct {
	id      string
	text    *string
	binary  []byte
	labels  []string
	created time.Time
	key     string
}

type replica struct {
	region, key, status, message string
	left                         int // descriptions until it is settled
}

func (s *secret) clone() *secret {
	c := *s
	c.tags = maps.Clone(s.tags)
	c.versions, c.replicas, c.reigns = nil, nil, slices.Clone(s.reigns)
	for _, v := range s.versions {
		copied := *v
		copied.labels = slices.Clone(v.labels)
		c.versions = append(c.versions, &copied)
	}
	for _, r := range s.replicas {
		copied := *r
		c.replicas = append(c.replicas, &copied)
	}
	return &c
}

func (s *secret) version(id string) *version {
	for _, v := range s.versions {
		if v.id == id {
			return v
		}
	}
	return nil
}

func (s *secret) holder(label string) *version {
	for _, v := range s.versions {
		if slices.Contains(v.labels, label) {
			return v
		}
	}
	return nil
}

// attach puts a label on v and takes it from whoever has it. Moving AWSCURRENT
// takes AWSPREVIOUS to the version that loses it.
func (s *secret) attach(v *version, label string) {
	old := s.holder(label)
	if old == v {
		return
	}
	if old != nil {
		old.drop(label)
		if label == "AWSCURRENT" {
			s.attach(old, "AWSPREVIOUS")
		}
	}
	v.labels = append(v.labels, label)
	if label == "AWSCURRENT" {
		s.reigns = append(s.reigns, v.id)
		v.drop("AWSPREVIOUS")
	}
}

func (v *version) drop(label string) {
	v.labels = slices.DeleteFunc(v.labels, func(l string) bool { return l == label })
}

// Keys are keys that this account knows.
func (f *Fake) Keys() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider("AKIAFAKEFAKEFAKEFAKE", "fake/secret/key/of/no/account/at/all0000", "")
}

// Principal is whom the keys belong to.
func (f *Fake) Principal() string {
	return "arn:aws:sts::" + f.Account + ":assumed-role/deploy/ci"
}

// Inject sets what goes wrong: it is asked for every call. Nil for nothing.
func (f *Fake) Inject(script func(Call) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inject = script
}

// Deny takes the right to an action ("GetSecretValue", "kms:Decrypt" is
// [Fake.DenyKey]) on a secret away; "*" for all.
func (f *Fake) Deny(action, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.denied[action+" "+name] = true
}

// Allow gives every right back.
func (f *Fake) Allow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.denied)
	clear(f.keys)
	f.revoked = ""
}

// DenyKey takes the right to use a KMS key away; "" is the default key.
func (f *Fake) DenyKey(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[key] = "denied"
}

// DisableKey disables a KMS key.
func (f *Fake) DisableKey(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[key] = "disabled"
}

// Revoke makes every call fail as for keys that are no good: code is
// "ExpiredTokenException", "UnrecognizedClientException" and so on.
func (f *Fake) Revoke(code, message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revoked = code + "\n" + message
}

// FailReplicas makes replicas in a region fail with a message; "" heals it.
func (f *Fake) FailReplicas(region, message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failing[region] = message
}

// Calls are the calls until now, by operation, refused ones included.
func (f *Fake) Calls() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.counts)
}

// ResetCalls begins to count anew.
func (f *Fake) ResetCalls() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.counts)
}

// Made are the ids of all versions that were ever made under a name, in order,
// also of secrets that are gone.
func (f *Fake) Made(name string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.made[name])
}

// Labels are the staging labels of each version of a secret, as they are now.
func (f *Fake) Labels(name string) map[string][]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string][]string{}
	if s := f.secrets[name]; s != nil {
		for _, v := range s.versions {
			out[v.id] = slices.Sorted(slices.Values(v.labels))
		}
	}
	return out
}

// Reigns are the ids of the versions that became current, in order, since the
// secret was made.
func (f *Fake) Reigns(name string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.secrets[name]; s != nil {
		return slices.Clone(s.reigns)
	}
	return nil
}

// Payload is the current payload, as it is now; ok is false without one.
func (f *Fake) Payload(name string) (text string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.secrets[name]
	if s == nil || s.holder("AWSCURRENT") == nil {
		return "", false
	}
	v := s.holder("AWSCURRENT")
	if v.text != nil {
		return *v.text, true
	}
	return string(v.binary), true
}

// Visible is all that can be seen of all secrets without reading a payload.
func (f *Fake) Visible() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(f.secrets)) {
		s := f.secrets[name]
		fmt.Fprintln(&b, s.name, s.arn, s.description, s.key, s.owningService, s.kind, s.tags, s.reigns)
		for _, v := range s.versions {
			fmt.Fprintln(&b, " ", v.id, v.labels, v.key)
		}
		for _, r := range s.replicas {
			fmt.Fprintln(&b, " ", *r)
		}
	}
	fmt.Fprintln(&b, f.made)
	return b.String()
}

// Foreign writes a payload as somebody else does, in the console: a version with
// an id of its own becomes current. It makes the secret if there is none, and
// is not counted in [Fake.Made].
func (f *Fake) Foreign(name, payload string) (id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.bare(name)
	f.sequence++
	v := &version{id: fmt.Sprintf("f0e1d2c3-0000-4000-8000-%012d", f.sequence), text: &payload, created: f.Clock.Now(), key: s.key}
	s.versions = append(s.versions, v)
	s.attach(v, "AWSCURRENT")
	s.changed = f.Clock.Now()
	return v.id
}

// Bare makes a secret without a value, if there is none.
func (f *Fake) Bare(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bare(name)
}

func (f *Fake) bare(name string) *secret {
	if f.secrets[name] == nil {
		f.secrets[name] = f.fresh(name)
	}
	return f.secrets[name]
}

func (f *Fake) fresh(name string) *secret {
	f.sequence++
	now := f.Clock.Now()
	return &secret{
		name: name, arn: fmt.Sprintf("arn:aws:secretsmanager:%s:%s:secret:%s-%s", f.Region, f.Account, name, suffix(f.sequence)),
		tags: map[string]string{}, created: now, changed: now, primaryRegion: f.Region,
	}
}

// suffix is six characters of letters and digits.
func suffix(n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, 6)
	for i := range b {
		b[i] = alphabet[n%len(alphabet)]
		n = n/len(alphabet) + i*7
	}
	return string(b)
}

// Rollback makes a version current again, as somebody else does.
func (f *Fake) Rollback(name, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.secrets[name]
	s.attach(s.version(id), "AWSCURRENT")
}

// Retag sets a tag as somebody else does.
func (f *Fake) Retag(name, key, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.secrets[name].tags[key] = value
}

// Own gives a secret to a service.
func (f *Fake) Own(name, service string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.secrets[name].owningService = service
}

// Rotate turns rotation on.
func (f *Fake) Rotate(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.secrets[name].rotates = true
}

// Replicated makes a secret a replica of one in another region.
func (f *Fake) Replicated(name, primary string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.secrets[name].primaryRegion = primary
}

// purge removes what is gone for good.
func (f *Fake) purge() {
	now := f.Clock.Now()
	for name, s := range f.secrets {
		if !s.deleted.IsZero() && !now.Before(s.deleted) {
			delete(f.secrets, name)
		}
	}
}
