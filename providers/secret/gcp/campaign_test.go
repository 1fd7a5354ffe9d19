package gcp_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"

	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/providers/secret/gcp"
	"freightliner/providers/secret/secrettest/gcpfake"
)

// The campaign has a short form, which runs with all other tests, and a full one.
// Every failure prints the seed of its case.
var (
	campaign     = flag.String("campaign", "short", "short or full")
	campaignSeed = flag.Uint64("campaign-seed", 1, "first seed of the random campaigns")
	campaignOnly = flag.Bool("campaign-only", false, "run the case of -campaign-seed alone")
)

// TestCampaign does random sequences of creates, writes, deletions and
// restorations, and breaks their calls: processes die, answers are lost, calls
// time out and arrive later, are executed twice, are throttled. A new process
// settles with the recorded token and goes on. Versions made are changes
// intended, always; a second delivery of one add is disabled.
func TestCampaign(t *testing.T) {
	points := int64(400)
	if *campaign == "full" {
		points = 5000
	}
	started := time.Now()
	var fired [kinds]atomic.Int64
	var changes, cases, next atomic.Int64
	sum := func() (n int64) {
		for i := range fired {
			n += fired[i].Load()
		}
		return n
	}
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for !t.Failed() {
				i := next.Add(1) - 1
				if *campaignOnly && i > 0 || !*campaignOnly && sum() >= points {
					return
				}
				seed := *campaignSeed + uint64(i)
				c := &trial{random: rand.New(rand.NewPCG(seed, 6)), fired: &fired}
				if err := c.run(); err != nil {
					t.Errorf("seed %d: %v\n%s\nagain: go test ./providers/secret/gcp -run '^TestCampaign$' -campaign-only -campaign-seed=%d", seed, err, strings.Join(c.story, "\n"), seed)
				}
				changes.Add(int64(c.changes))
				cases.Add(1)
			}
		})
	}
	workers.Wait()
	var told []string
	for k := range fired {
		if fired[k].Load() == 0 && !*campaignOnly && !t.Failed() {
			t.Errorf("no %s was tried", kindNames[k])
		}
		told = append(told, fmt.Sprintf("%d %s", fired[k].Load(), kindNames[k]))
	}
	t.Logf("%s: %d points in %d sequences, %d changes, %v: %s", *campaign, sum(), cases.Load(), changes.Load(), time.Since(started).Round(time.Millisecond), strings.Join(told, ", "))
}

const (
	killBefore = iota // the process dies before the call has its effect
	killAfter         // and after
	killLate          // and the call still has its effect, later
	lostReply
	timeout      // an error now, the effect later
	timeoutNever // an error, no effect
	twice
	twiceSecond
	throttled
	kinds
)

var kindNames = [kinds]string{"kills before the effect", "kills after the effect", "kills with the call in flight", "lost replies", "timeouts with a late effect", "timeouts without effect",
	"duplicate deliveries answered by the first", "duplicate deliveries answered by the second", "throttled calls"}

// trial is one sequence.
type trial struct {
	random *rand.Rand
	fired  *[kinds]atomic.Int64
	story  []string

	server  *gcpfake.Server
	store   *gcp.Store
	ctx     context.Context
	kill    context.CancelFunc
	killed  atomic.Bool
	mu      sync.Mutex
	plan    map[int]int // call from now on: kind
	calls   int
	changes int
	life    int
	tokens  int
}

const name = "campaign"

func (c *trial) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.story = append(c.story, fmt.Sprintf(format, args...))
}

// start is a new process.
func (c *trial) start() error {
	if c.store != nil {
		c.store.Close()
	}
	c.killed.Store(false)
	c.ctx, c.kill = context.WithCancel(context.Background())
	store, err := gcp.New(c.ctx, gcp.Options{Project: "acme", Endpoint: "127.0.0.1:1", Dial: c.server.Dial, Clock: c.server.Clock(), Random: c.server64()})
	c.store = store
	return err
}

// server64 are random numbers of this case, safe for concurrent use.
func (c *trial) server64() func() uint64 {
	r := rand.New(rand.NewPCG(c.random.Uint64(), 1))
	var mu sync.Mutex
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Uint64()
	}
}

// script breaks the calls of the plan.
func (c *trial) script(call gcpfake.Call) gcpfake.Fault {
	c.mu.Lock()
	c.calls++
	kind, broken := c.plan[c.calls]
	delete(c.plan, c.calls)
	delay := time.Duration(c.random.Int64N(int64(25 * time.Second)))
	c.mu.Unlock()
	if c.killed.Load() {
		return gcpfake.Fault{Kind: gcpfake.Refuse}
	}
	if !broken {
		return gcpfake.Fault{}
	}
	c.fired[kind].Add(1)
	c.say("  %s: %s", call.Method, kindNames[kind])
	die := func() { c.killed.Store(true); c.kill() }
	switch kind {
	case killBefore:
		return gcpfake.Fault{Kind: gcpfake.Refuse, After: die}
	case killAfter:
		return gcpfake.Fault{Kind: gcpfake.Lost, After: die}
	case killLate:
		return gcpfake.Fault{Kind: gcpfake.Late, Delay: delay, After: die}
	case lostReply:
		return gcpfake.Fault{Kind: gcpfake.Lost}
	case timeout:
		return gcpfake.Fault{Kind: gcpfake.Late, Delay: delay}
	case timeoutNever:
		return gcpfake.Fault{Kind: gcpfake.Refuse, Code: codes.DeadlineExceeded}
	case twice:
		return gcpfake.Fault{Kind: gcpfake.Twice}
	case twiceSecond:
		return gcpfake.Fault{Kind: gcpfake.TwiceSecond}
	}
	return gcpfake.Fault{Kind: gcpfake.Refuse, Code: codes.ResourceExhausted, Message: "Quota exceeded."}
}

// trouble plans some faults among the next calls.
func (c *trial) trouble(calls int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls, c.plan = 0, map[int]int{}
	for range 1 + c.random.IntN(2) {
		c.plan[1+c.random.IntN(calls)] = c.random.IntN(kinds)
	}
}

func (c *trial) peace() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.plan = nil
}

func (c *trial) token() string {
	c.tokens++
	return fmt.Sprintf("%032d-%d", c.random.Uint64(), c.tokens)
}

func (c *trial) run() error {
	c.server = gcpfake.New(gcpfake.Options{Project: "acme", NoQuotas: c.random.IntN(2) == 0})
	defer c.server.Close()
	c.server.Lag(c.random.IntN(3))
	c.server.Script(c.script)
	if err := c.start(); err != nil {
		return err
	}
	defer func() { c.store.Close() }()
	version, payloads := "", []string{}
	for range 2 + c.random.IntN(5) {
		payload := fmt.Sprintf("payload-%d", c.random.IntN(3)) // A, B, A too
		payloads = append(payloads, payload)
		c.changes++
		var err error
		if version, err = c.write(payload, version); err != nil {
			return err
		}
		if err := c.check(payloads); err != nil {
			return fmt.Errorf("after version %s: %w", version, err)
		}
		switch c.random.IntN(6) {
		case 0:
			if err := c.deleteRestore(version); err != nil {
				return err
			}
			if err := c.check(payloads); err != nil {
				return fmt.Errorf("after a restored deletion: %w", err)
			}
		case 1:
			if err := c.until("delete for ever", func() error {
				_, err := c.store.Delete(c.ctx, name, secret.Deletion{Expect: version, Force: true})
				if providers.ClassOf(err) == providers.NotFound {
					err = nil
				}
				return err
			}); err != nil {
				return err
			}
			if _, err := c.store.Describe(context.Background(), name); providers.ClassOf(err) != providers.NotFound {
				return fmt.Errorf("deleted for ever, and described: %w", err)
			}
			version, payloads = "", nil
			c.life++
		}
	}
	c.server.Land()
	if err := c.check(payloads); err != nil {
		return fmt.Errorf("after all calls have landed: %w", err)
	}
	return nil
}

// until does something again and again, in new processes when one was killed.
func (c *trial) until(what string, do func() error) error {
	c.trouble(16)
	c.say("%s", what)
	for range 20 {
		err := do()
		if !c.killed.Load() {
			if err == nil {
				c.peace()
				return nil
			}
			if !providers.ClassOf(err).Retryable() {
				return fmt.Errorf("%s: %w", what, err)
			}
			continue
		}
		if err := c.start(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: no end of it", what)
}

// write makes one change, whatever happens.
func (c *trial) write(payload, expect string) (string, error) {
	w := secret.Write{Name: name, Token: c.token(), Expect: expect, Owner: "secret.campaign"}
	if expect == "" {
		w.Create = &secret.Metadata{Owner: "secret.campaign"}
	}
	c.trouble(7)
	c.say("write %s after %q", payload, expect)
	for range 20 {
		w.Value = secret.NewValue([]byte(payload))
		v, err := c.store.Write(c.ctx, w)
		if !c.killed.Load() {
			if err == nil {
				c.peace()
				return v.ID, nil
			}
			if providers.ClassOf(err) == providers.Conflict && strings.Contains(err.Error(), "another run is writing it") {
				c.server.Clock().Advance(time.Minute)
				continue
			}
			if !providers.ClassOf(err).Retryable() {
				return "", err
			}
			continue
		}
		// The next process knows the token, and the value or not.
		c.say("  a new process")
		if err := c.start(); err != nil {
			return "", err
		}
		if c.random.IntN(4) == 0 {
			continue // repeats the write without a look
		}
		if c.random.IntN(2) == 0 {
			w.Value = secret.Value{}
		}
		v, made, err := c.store.Settle(c.ctx, w)
		for err != nil && !c.killed.Load() {
			if !providers.ClassOf(err).Retryable() {
				return "", fmt.Errorf("settle: %w", err)
			}
			v, made, err = c.store.Settle(c.ctx, w)
		}
		switch {
		case c.killed.Load():
			if err := c.start(); err != nil {
				return "", err
			}
		case made:
			c.say("  settled: %s", v.ID)
			c.peace()
			return v.ID, nil
		case c.random.IntN(2) == 0:
			c.say("  settled: nothing; a new token")
			w.Token = c.token()
		}
	}
	return "", errors.New("no end of it")
}

func (c *trial) deleteRestore(version string) error {
	if err := c.until("delete", func() error {
		_, err := c.store.Delete(c.ctx, name, secret.Deletion{Expect: version})
		return err
	}); err != nil {
		return err
	}
	for _, m := range c.server.Made(name) {
		if m.Life == c.life && m.State == pb.SecretVersion_ENABLED {
			return fmt.Errorf("version %d is enabled after the deletion", m.Number)
		}
	}
	return c.until("restore", func() error { return c.store.Restore(c.ctx, name) })
}

// check compares what was ever made with what was intended.
func (c *trial) check(payloads []string) error {
	var got []string
	made := c.server.Made(name)
	for i, m := range made {
		if m.Life != c.life {
			continue
		}
		switch m.State {
		case pb.SecretVersion_ENABLED:
			got = append(got, m.Payload)
		case pb.SecretVersion_DISABLED:
			// A surplus delivery: the next one holds the same.
			if i+1 >= len(made) || made[i+1].Payload != m.Payload {
				return fmt.Errorf("version %d is disabled and no delivery of the next: %v", m.Number, made)
			}
		}
	}
	if strings.Join(got, " ") != strings.Join(payloads, " ") {
		return fmt.Errorf("versions %v of changes %v (%v)", got, payloads, made)
	}
	return nil
}
