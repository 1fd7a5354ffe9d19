package statefile_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"freightliner/providers"
	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

const file = "freightliner.state"

// counter is a source of "random" bytes that never repeats itself.
type counter struct {
	mu sync.Mutex
	n  uint64
}

func (c *counter) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 0; i < len(p); i += 8 {
		var b [8]byte
		c.n++
		binary.BigEndian.PutUint64(b[:], c.n)
		copy(p[i:], b[:])
	}
	return len(p), nil
}

// clock stands still until it is told to advance.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	timers []timer
	asked  chan struct{} // signalled by every After, if not nil
}

type timer struct {
	at time.Time
	c  chan time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := timer{c.now.Add(d), make(chan time.Time, 1)}
	c.timers = append(c.timers, t)
	if c.asked != nil {
		c.asked <- struct{}{}
	}
	return t.c
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.timers = slices.DeleteFunc(c.timers, func(t timer) bool {
		due := !t.at.After(c.now)
		if due {
			t.c <- c.now
		}
		return due
	})
}

func testOptions() Options { return Options{Clock: &clock{}, Rand: &counter{}} }

func mustLock(t testing.TB, fsys FS) *Lock {
	t.Helper()
	l, err := AcquireLock(context.Background(), fsys, file, Holder{Host: "here", PID: 1}, LockOptions{Clock: &clock{}})
	if err != nil {
		t.Fatalf("lock: %v", err)
	}
	return l
}

// open begins a run on a disk whose lock nobody has.
func open(t testing.TB, fsys FS, run string, opts Options) (*Journal, *State, *Lock) {
	t.Helper()
	l := mustLock(t, fsys)
	j, s, err := Begin(context.Background(), l, file, RunInfo{Run: run, By: "ci@runner-7", Tool: "0.1.0"}, opts)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	return j, s, l
}

func check(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// diskWith is a disk with a canonical state of these records.
func diskWith(t testing.TB, records ...Record) *statefiletest.Disk {
	t.Helper()
	d := statefiletest.New()
	j, _, l := open(t, d, "first", testOptions())
	var changes []Change
	for _, r := range records {
		changes = append(changes, Put(r))
	}
	check(t, "done", j.Done(changes...))
	check(t, "close", j.Close())
	check(t, "release", l.Release())
	return d
}

// killed is the disk as a kill of the process leaves it in the middle of run,
// with the locks gone and no further byte written.
func killed(t testing.TB, d *statefiletest.Disk, run func(*Journal)) *statefiletest.Disk {
	t.Helper()
	j, _, l := open(t, d, "killed", testOptions())
	run(j)
	after := d.Clone()
	check(t, "abandon", j.Abandon())
	check(t, "release", l.Release())
	return after
}

func mustRead(t testing.TB, fsys FS) *State {
	t.Helper()
	s, err := Read(fsys, file)
	check(t, "read", err)
	return s
}

func records(s *State) []Record { return collect(s.All()) }

func collect(seq iter.Seq[Record]) []Record { return slices.Collect(seq) }

// byAddress is the model of a state: a map.
func byAddress(s *State) map[string]Record {
	out := map[string]Record{}
	for r := range s.All() {
		out[r.Address] = r
	}
	return out
}

func apply(m map[string]Record, changes ...Change) map[string]Record {
	m = maps.Clone(m)
	if m == nil {
		m = map[string]Record{}
	}
	for _, c := range changes {
		if c.Removed {
			delete(m, c.Address)
		} else {
			m[c.Address] = c.Record
		}
	}
	return m
}

func digest(n int) providers.Digest { return providers.SHA256(fmt.Append(nil, n)) }

func tag(name string, n int) Record {
	return Record{Address: "tree.platform/" + name, Kind: KindTag, Digest: digest(n)}
}

// sample has every kind, every member and addresses that need escapes.
func sample() []Record {
	return []Record{
		{Address: "image.nginx", Kind: KindImage, Destination: "mirror.example/nginx:1.27", Digest: digest(1), Source: digest(2), Selection: "linux/amd64", Protect: true},
		{Address: "image.nginx@" + string(digest(1)), Kind: KindReferrers, Digest: digest(3)},
		{
			Address: "secret.db", Kind: KindSecret, Destination: "aws/eu-west-1", Selection: "9a", OnRemove: "delete", Protect: true, Name: "prod/db",
			Version: "8f1d", At: "2026-11-27T14:00:00Z", Inputs: "json version=3", Keys: `["password","user"]`, Fingerprint: "k.s.m", Window: "7",
		},
		{Address: "tree.platform", Kind: KindTree, Destination: "mirror.example/acme", Selection: "5b7f", OnRemove: "delete"},
		{Address: "tree.platform/", Kind: KindRepo, Destination: "mirror.example/acme"},
		{Address: "tree.platform/team/api", Kind: KindRepo, Destination: "mirror.example/acme/team/api", Created: true},
		{Address: "tree.platform/team/api:1.2", Kind: KindTag, Digest: digest(4)},
		{Address: "tree.platform/team/api:1.3", Kind: KindTag, Digest: digest(5), Source: digest(6), Selection: "linux/amd64,linux/arm64"},
		{Address: `tree.platform["eu"]`, Kind: KindTree, Destination: "eu.example/acme"},
		{Address: `tree.platform["eu"]/a:ü`, Kind: KindTag, Digest: digest(7)},
		{Address: `tree.platform["\` + "\x01\u2028" + `"]`, Kind: KindTree, Destination: "<odd> & \x7f"},
	}
}

// reseal gives every line of a state or journal the checksums and links that
// its content asks for, so that a test can change content and keep the form.
// It is written from docs/state-format.md and shares nothing with the package.
func reseal(text string) string {
	crc := crc32.MakeTable(crc32.Castagnoli)
	hex := func(b string) string { return fmt.Sprintf("%08x", crc32.Checksum([]byte(b), crc)) }
	var out strings.Builder
	previous, chain := "", ""
	var snapshot bytes.Buffer
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, `{"end":`):
			chain = hex(previous)
			line = `{"end":"` + chain + `"}`
		case strings.HasPrefix(line, `{"j":`):
			line = strings.ReplaceAll(line, "BASE", string(providers.SHA256(snapshot.Bytes())))
			body := line[:len(line)-16]
			chain = hex(chain + body)
			line = body + `,"~":"` + chain + `"}`
		case strings.HasPrefix(line, `{"a":`):
			var key struct{ A string }
			if err := json.Unmarshal([]byte(line), &key); err != nil {
				panic(err)
			}
			body := line[:len(line)-31] + `,"p":"` + hex(previous) + `"`
			line = body + `,"~":"` + hex(body) + `"}`
			previous = key.A
		default:
			body := line[:len(line)-16]
			line = body + `,"~":"` + hex(body) + `"}`
		}
		out.WriteString(line + "\n")
		if chain == "" || strings.HasPrefix(line, `{"end":`) {
			snapshot.WriteString(line + "\n")
		}
	}
	return out.String()
}
