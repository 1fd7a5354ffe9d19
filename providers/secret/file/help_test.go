package file

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"

	"freightliner/providers/disk"
	"freightliner/providers/secret"
	"freightliner/statefile/statefiletest"
)

// clock stands still until somebody waits or moves it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Millisecond)
	return c.now
}

func (c *clock) Wait(ctx context.Context, d time.Duration) error {
	c.advance(d)
	return ctx.Err()
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// person is somebody with an identity.
type person struct {
	id *age.HybridIdentity
}

func newPerson(t testing.TB) person {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	check(t, "identity", err)
	return person{id}
}

func (p person) recipient() string { return p.id.Recipient().String() }

func (p person) key() KeySource {
	return KeySource{Name: "test", Read: func(context.Context) ([]byte, error) { return []byte(p.id.String() + "\n"), nil }}
}

// opened is the store on fsys as p sees it.
func opened(fsys disk.FS, c disk.Clock, p person) *Store {
	return Open(Options{FS: fsys, Path: "vault", Clock: c, Rand: rand.Reader, Keys: []KeySource{p.key()}, AutoInit: true, User: "ann"})
}

// made is a store with one member, ann, and its disk.
func made(t testing.TB) (*Store, *statefiletest.Disk, *clock, person) {
	t.Helper()
	d, c, p := statefiletest.New(), newClock(), newPerson(t)
	s := opened(d, c, p)
	_, err := s.Init(t.Context(), InitOptions{Member: "ann"})
	check(t, "init", err)
	return s, d, c, p
}

func check(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

var tokens struct {
	sync.Mutex
	n int
}

func token() string {
	tokens.Lock()
	defer tokens.Unlock()
	tokens.n++
	return fmt.Sprintf("token-%030d", tokens.n)
}

// write makes a version, or the secret when expect is empty.
func write(t testing.TB, s *Store, name, text, expect string) secret.Version {
	t.Helper()
	w := secret.Write{Name: name, Value: secret.NewValue([]byte(text)), Token: token(), Expect: expect}
	if expect == "" {
		w.Create = &secret.Metadata{Owner: "secret.test"}
	}
	v, err := s.Write(t.Context(), w)
	check(t, "write "+name, err)
	return v
}

// read is the payload, or the error.
func read(t testing.TB, s *Store, name, version string) (text string, err error) {
	t.Helper()
	check(t, "read", s.Read(t.Context(), []secret.Ref{{Name: name, Version: version}}, func(r secret.Reading) {
		r.Value.Use(func(b []byte) { text = string(b) })
		r.Value.Zero()
		err = r.Err
	}))
	return text, err
}

func armored(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := armor.NewWriter(&out)
	_, err := w.Write(b)
	check(t, "armor", err)
	check(t, "armor", w.Close())
	return out.Bytes()
}
