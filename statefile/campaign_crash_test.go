package statefile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freightliner/providers"
	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// job is a desired state and how a run gets there: like an apply, it does what
// the state does not have yet, one address after the other.
type job struct {
	desired map[string]Record
	order   []string // addresses, in the order in which they are done
	intents map[string]bool
	options Options // beyond clock and randomness
}

// randomJob wants some records of start changed, removed and added.
func randomJob(r *rand.Rand, start map[string]Record) *job {
	b := &job{desired: maps.Clone(start), intents: map[string]bool{}}
	if b.desired == nil {
		b.desired = map[string]Record{}
	}
	for n := range 2 + r.IntN(7) {
		rec := tag(fmt.Sprintf("app-%d:v%d", r.IntN(3), r.IntN(5)), 1000+n)
		if r.IntN(4) == 0 {
			rec.Source, rec.Selection = digest(n), "linux/amd64"
		}
		if _, twice := b.intents[rec.Address]; twice {
			continue
		}
		b.intents[rec.Address] = r.IntN(4) == 0
		b.order = append(b.order, rec.Address)
		if _, had := start[rec.Address]; had && r.IntN(3) == 0 {
			delete(b.desired, rec.Address)
		} else {
			b.desired[rec.Address] = rec
		}
	}
	return b
}

// left is what the state does not have yet.
func (b *job) left(s *State) (out []string) {
	for _, address := range b.order {
		is, has := s.Lookup(address)
		if want, wanted := b.desired[address]; wanted != has || is != want {
			out = append(out, address)
		}
	}
	return out
}

// run does what is left, as an apply does, and ends as it does. world counts how
// often each effect was made; acknowledged is told what the journal has taken.
func (b *job) run(d *statefiletest.Disk, c *clock, world map[string]int, acknowledged func(address string, durable bool)) error {
	l, err := AcquireLock(context.Background(), d, file, Holder{PID: 1}, LockOptions{Clock: c})
	if err != nil {
		return err
	}
	opts := b.options
	opts.Clock, opts.Rand = c, &counter{}
	j, s, err := Begin(context.Background(), l, file, RunInfo{Run: "job"}, opts)
	if err != nil {
		return errors.Join(err, l.Release())
	}
	for _, i := range s.Intents() {
		// Looked at: the effect did not happen, or has a done line.
		if err := j.Fail(i.Address, providers.NotFound); err != nil {
			return errors.Join(err, j.Close(), l.Release())
		}
	}
	for _, address := range b.left(s) {
		if b.intents[address] {
			if err := j.Intent(address, "add_version", "token"); err != nil {
				return errors.Join(err, j.Close(), l.Release())
			}
			acknowledged("", true)
		}
		world[address]++
		change := Remove(address)
		if want, wanted := b.desired[address]; wanted {
			change = Put(want)
		}
		if err := j.Done(change); err != nil {
			return errors.Join(err, j.Close(), l.Release())
		}
		acknowledged(address, false)
	}
	err = j.Close()
	if err == nil {
		acknowledged("", true)
	}
	return errors.Join(err, l.Release())
}

// watch knows at every moment which addresses must survive a power cut: those
// that were acknowledged before the last thing that was durable.
type watch struct {
	mu      sync.Mutex
	done    []string
	durable int
}

func (w *watch) acknowledged(address string, durable bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if address != "" {
		w.done = append(w.done, address)
	}
	if durable {
		w.durable = len(w.done)
	}
}

func (w *watch) survivors() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done[:w.durable:w.durable]
}

// resumes says what is wrong with the disk that a crash left: it opens; it has
// what was durable; a second run does the rest and nothing that the state has,
// and ends at the undisturbed state, to the byte but for its lineage; a third
// one changes nothing.
func (b *job) resumes(d *statefiletest.Disk, start map[string]Record, durable []string) error {
	s, err := Read(d, file)
	if err != nil {
		return err
	}
	has := byAddress(s)
	for _, address := range b.order {
		is, isThere := has[address]
		before, wasThere := start[address]
		want, wanted := b.desired[address]
		if (isThere != wasThere || is != before) && (isThere != wanted || is != want) {
			return fmt.Errorf("%s is neither what it was nor what it is to be: %v", address, is)
		}
	}
	for address, rec := range start {
		if _, touched := b.intents[address]; !touched && has[address] != rec {
			return fmt.Errorf("%s, which nobody touched, is %v", address, has[address])
		}
	}
	for _, address := range durable {
		want, wanted := b.desired[address]
		if is, isThere := has[address]; isThere != wanted || is != want {
			return fmt.Errorf("%s was durable and is forgotten", address)
		}
	}
	left, world := b.left(s), map[string]int{}
	if err := b.run(d, &clock{}, world, func(string, bool) {}); err != nil {
		return fmt.Errorf("the next run: %w", err)
	}
	if len(world) != len(left) {
		return fmt.Errorf("the next run did %v, only %v was left", world, left)
	}
	after := d.Bytes(file)
	s, err = Parse(after)
	switch {
	case err != nil:
		return fmt.Errorf("after the next run: %w", err)
	case !s.Canonical() && len(s.Intents()) == 0:
		return errors.New("the next run did not compact")
	case !maps.Equal(b.desired, byAddress(s)):
		return fmt.Errorf("after the next run the state is %v, want %v", byAddress(s), b.desired)
	}
	world = map[string]int{}
	if err := b.run(d, &clock{}, world, func(string, bool) {}); err != nil || len(world) > 0 || !bytes.Equal(after, d.Bytes(file)) {
		return fmt.Errorf("a run with nothing to do: %v, did %v, bytes equal %v", err, world, bytes.Equal(after, d.Bytes(file)))
	}
	return nil
}

// TestCampaignCrashStates runs random jobs, from an empty disk and from a state,
// and cuts the power after every file operation. Every disk that
// statefiletest.Crashes allows then, with unsynced writes lost, torn at sectors
// and out of order, must resume; and so must one that loses sectors at random.
func TestCampaignCrashStates(t *testing.T) {
	started := time.Now()
	var states, jobs atomic.Int64
	want := int64(sized(4000, 200_000))
	rounds := sized(40, 1_000_000)
	seeded(t, rounds, func(seed uint64) error {
		if states.Load() >= want && !*campaignOnly {
			return nil
		}
		r := rand.New(rand.NewPCG(seed, 17))
		start, d := map[string]Record(nil), statefiletest.New()
		if r.IntN(5) > 0 {
			start = map[string]Record{}
			for range r.IntN(8) {
				rec := tag(fmt.Sprintf("app-%d:v%d", r.IntN(3), r.IntN(5)), r.IntN(9))
				start[rec.Address] = rec
			}
			d.Put(file, mustBuild(start), 0o600)
		}
		b, w := randomJob(r, start), &watch{}
		sector := []int{32, 64, 128, 512}[r.IntN(4)]
		jobs.Add(1)
		var wrong error
		var mu sync.Mutex // the journal's goroutine and the caller make operations
		d.After(func(op statefiletest.Op) {
			mu.Lock()
			defer mu.Unlock()
			durable := w.survivors()
			look := func(crashed *statefiletest.Disk) bool {
				states.Add(1)
				content := crashed.Bytes(file)
				if err := b.resumes(crashed, start, durable); err != nil && wrong == nil {
					wrong = fmt.Errorf("a crash after %v, sector %d: %w\n%s", op, sector, err, content)
				}
				return wrong == nil
			}
			for crashed := range d.Crashes(sector) {
				if !look(crashed) {
					return
				}
			}
			for range 3 {
				if !look(d.Crash(r, sector)) {
					return
				}
			}
		})
		err := b.run(d, &clock{}, map[string]int{}, w.acknowledged)
		d.After(nil)
		return errors.Join(wrong, err)
	})
	told(t, started, states.Load(), "0 wrong, in %d jobs", jobs.Load())
	if !*campaignOnly && states.Load() < want {
		t.Errorf("only %d crash states", states.Load())
	}
}

// TestCampaignCrashChains lets one job crash again and again, also while it
// recovers from the crash before, and looks whether it still gets there.
func TestCampaignCrashChains(t *testing.T) {
	started := time.Now()
	var crashes atomic.Int64
	seeded(t, sized(200, 20_000), func(seed uint64) error {
		r := rand.New(rand.NewPCG(seed, 19))
		start := map[string]Record{}
		for range r.IntN(8) {
			rec := tag(fmt.Sprintf("app-%d:v%d", r.IntN(3), r.IntN(5)), r.IntN(9))
			start[rec.Address] = rec
		}
		d := statefiletest.New()
		d.Put(file, mustBuild(start), 0o600)
		b := randomJob(r, start)
		var durable []string
		for range 1 + r.IntN(5) {
			w := &watch{}
			var crashed *statefiletest.Disk
			var mu sync.Mutex
			at, sector, n := 1+r.IntN(60), []int{32, 64, 128, 512}[r.IntN(4)], 0
			d.After(func(statefiletest.Op) {
				mu.Lock()
				defer mu.Unlock()
				if n++; n == at {
					durable = append(durable, w.survivors()...)
					crashed = d.Crash(r, sector)
				}
			})
			if err := b.run(d, &clock{}, map[string]int{}, w.acknowledged); err != nil {
				return fmt.Errorf("after %d crashes: %w\n%s", crashes.Load(), err, d.Bytes(file))
			}
			d.After(nil)
			if crashed == nil {
				durable = b.order // it ended before the crash
				break
			}
			crashes.Add(1)
			d = crashed
		}
		return b.resumes(d, start, durable)
	})
	told(t, started, crashes.Load(), "0 wrong")
}
