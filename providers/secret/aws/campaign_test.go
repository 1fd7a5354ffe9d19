package aws_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/providers/secret/secrettest/awsfake"
)

// The campaigns have a short form, which runs with all other tests, and a full
// one. Every failure prints the seed of its case.
var (
	campaign     = flag.String("campaign", "short", "short or full")
	campaignSeed = flag.Uint64("campaign-seed", 1, "first seed of the random campaigns")
	campaignOnly = flag.Bool("campaign-only", false, "run the case of -campaign-seed alone")
)

// until does cases on all cores until together they have met that many points.
func until(t *testing.T, short, full int, do func(seed uint64) (points int, err error)) {
	t.Helper()
	want := int64(short)
	if *campaign == "full" {
		want = int64(full)
	}
	if *campaignOnly {
		want = 1
	}
	started := time.Now()
	var next, points, cases atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), int(want)) {
		wg.Go(func() {
			for !t.Failed() && points.Load() < want {
				seed := *campaignSeed + uint64(next.Add(1)-1)
				n, err := do(seed)
				if err != nil {
					t.Errorf("seed %d: %v\nagain: go test ./providers/secret/aws -run '^%s$' -campaign-only -campaign-seed=%d", seed, err, t.Name(), seed)
				}
				cases.Add(1)
				points.Add(int64(n))
				if *campaignOnly {
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%s: %d points in %d cases, %v", *campaign, points.Load(), cases.Load(), time.Since(started).Round(time.Millisecond))
}

// trial is one case: a world that breaks, and processes that die in it.
type trial struct {
	*rand.Rand
	f        *awsfake.Fake
	points   int // deaths, timeouts, lost answers and second deliveries that were met
	said     []string
	payloads []string
	late     bool // a request with a label was delivered late
	blind    bool // the making of a secret was repeated without settling
	serial   int

	mu   sync.Mutex // guards what the script of faults changes
	kill int        // calls until this process dies; 0: never
	dead bool
	end  context.CancelFunc
	rate float64

	// before is called ahead of every call, by whom it may concern.
	before func(awsfake.Call)
}

func newTrial(seed uint64) *trial {
	tr := &trial{Rand: rand.New(rand.NewPCG(seed, 6)), f: awsfake.New("eu-west-1")}
	tr.f.Lag = tr.IntN(4)
	tr.f.Rates = tr.IntN(3) == 0
	tr.f.ReplicaDelay = tr.IntN(3)
	tr.rate = []float64{0, 0.1, 0.3}[tr.IntN(3)]
	tr.f.Inject(tr.script)
	return tr
}

var faults = []awsfake.Kind{
	awsfake.Cut, awsfake.Lost, awsfake.Lost, awsfake.Timeout, awsfake.LostTimeout, awsfake.LostTimeout, awsfake.Twice, awsfake.Twice,
	awsfake.Unavailable, awsfake.Broken, awsfake.Throttle, awsfake.Garbled, awsfake.Proxied, awsfake.Echo,
}

func (tr *trial) script(c awsfake.Call) awsfake.Fault {
	if tr.before != nil {
		tr.before(c)
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.dead {
		return awsfake.Fault{Kind: awsfake.Cut}
	}
	if tr.kill > 0 {
		if tr.kill--; tr.kill == 0 {
			tr.dead = true
			tr.points++
			tr.end() // the process is gone, and what it would have said
			if tr.IntN(2) == 0 {
				return awsfake.Fault{Kind: awsfake.Lost}
			}
			return awsfake.Fault{Kind: awsfake.Cut}
		}
	}
	if tr.Float64() >= tr.rate {
		return awsfake.Fault{}
	}
	fault := awsfake.Fault{Kind: faults[tr.IntN(len(faults))]}
	switch fault.Kind {
	case awsfake.Lost, awsfake.Timeout, awsfake.LostTimeout, awsfake.Twice:
		tr.points++ // the others come on top
	}
	if fault.Kind == awsfake.Twice {
		switch c.Operation {
		case "PutSecretValue", "UpdateSecretVersionStage":
			fault.Later = tr.IntN(4)
			tr.late = tr.late || fault.Later > 0
		}
	}
	return fault
}

// process is a new run of the program; it may die.
func (tr *trial) process(mortal bool) (context.Context, secret.Store, error) {
	ctx, cancel := context.WithCancel(context.Background())
	tr.mu.Lock()
	tr.end, tr.dead, tr.kill = cancel, false, 0
	if mortal && tr.IntN(4) > 0 {
		tr.kill = 1 + tr.IntN(9)
	}
	tr.mu.Unlock()
	store, err := newStore(tr.f)
	return ctx, store, err
}

func (tr *trial) heard(err error) {
	tr.said = append(tr.said, err.Error(), providers.HintOf(err), fmt.Sprintf("%+v %#v", err, err))
}

// mostRuns is how many processes may try one thing; the first few may die.
const (
	mostRuns    = 80
	mortalRuns  = 4
	unlikelyEnd = "a change did not come to its end in 80 runs"
)

// again repeats what may be repeated, in new processes, until it succeeds.
func (tr *trial) again(what string, do func(context.Context, secret.Store) error) error {
	var last error
	for n := range mostRuns {
		ctx, store, err := tr.process(n < mortalRuns)
		if err != nil {
			return err
		}
		if last = do(ctx, store); last == nil {
			return nil
		}
		tr.heard(last)
	}
	return fmt.Errorf("%s: %s: %w", what, unlikelyEnd, last)
}

func (tr *trial) value() secret.Value {
	tr.serial++
	text := fmt.Sprintf("needle-%d-%x-\"quoted\"", tr.serial, tr.Uint64())
	if tr.IntN(3) == 0 {
		text += "\xff\x00"
	}
	tr.payloads = append(tr.payloads, text)
	return secret.NewValue([]byte(text))
}

func (tr *trial) token() string {
	return fmt.Sprintf("%08x-%016x-%04d-freight", tr.Uint32(), tr.Uint64(), tr.serial)
}

// write brings an intended change to its end: whoever comes after a death
// settles by the token that was recorded, or just writes again. conflict is true
// when it must not happen any more.
func (tr *trial) write(w secret.Write) (conflict bool, err error) {
	first, settles := true, false
	err = tr.again("write", func(ctx context.Context, store secret.Store) error {
		// Who has begun to settle goes on so, as the executor does: a write of a
		// new secret alone does not look for the label of a settlement that died.
		if settles = settles || !first && tr.IntN(4) > 0; settles {
			v, made, err := store.Settle(ctx, w)
			if err != nil {
				return err
			}
			truth := tr.f.Labels(w.Name)[w.Token]
			switch {
			case made && v.ID != w.Token:
				panic("settled as another version")
			case made && !slices.Contains(tr.f.Reigns(w.Name), w.Token):
				panic("settled as made, but it never was current")
			case !made && slices.Contains(truth, "AWSCURRENT"):
				panic("settled as not made, but it is current")
			case made:
				return nil
			}
		}
		tr.blind = !first && !settles && w.Create != nil
		first = false
		v, err := store.Write(ctx, w)
		if providers.ClassOf(err) == providers.Conflict {
			tr.heard(err)
			conflict = true
			return nil
		}
		if err == nil && v.ID != w.Token {
			panic("written as another version")
		}
		return err
	})
	return conflict, err
}

// silent searches all that was said and can be seen for payloads.
func (tr *trial) silent() error {
	all := strings.Join(tr.said, "\n") + "\n" + tr.f.Visible()
	for _, p := range tr.payloads {
		for _, form := range []string{p, fmt.Sprintf("%q", p), hex.EncodeToString([]byte(p)), base64.StdEncoding.EncodeToString([]byte(p)), p[:min(len(p), 16)]} {
			if strings.Contains(all, form) {
				return fmt.Errorf("a payload shows as %q", form)
			}
		}
	}
	return nil
}

// leftovers are labels of ours that sit on versions.
func (tr *trial) leftovers(name string) (out []string) {
	for id, labels := range tr.f.Labels(name) {
		for _, l := range labels {
			if strings.HasPrefix(l, "freightliner-") {
				out = append(out, id+" "+l)
			}
		}
	}
	return out
}

// TestCampaign: nobody else writes, so whatever breaks, versions made = changes
// intended, in their order, and the world ends as in a run without faults.
func TestCampaign(t *testing.T) {
	until(t, 400, 5000, func(seed uint64) (points int, err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("%v", r)
			}
		}()
		tr := newTrial(seed)
		err = tr.lives("prod/db")
		return tr.points, err
	})
}

// lives tells the whole life of a secret.
func (tr *trial) lives(name string) error {
	var tokens []string
	expect := ""
	payload := ""
	change := func(create *secret.Metadata) error {
		w := secret.Write{Name: name, Value: tr.value(), Token: tr.token(), Expect: expect, Create: create, Owner: `secret.db["a"]`}
		tokens = append(tokens, w.Token)
		conflict, err := tr.write(w)
		if conflict {
			err = fmt.Errorf("a conflict without anybody else: %v", tr.said[len(tr.said)-3:])
		}
		w.Value.Use(func(b []byte) { payload = string(b) })
		expect = w.Token
		return err
	}
	check := func(where string) error {
		if made := tr.f.Made(name); !slices.Equal(made, tokens) {
			return fmt.Errorf("%s: made %v of the changes %v", where, made, tokens)
		}
		if got, ok := tr.f.Payload(name); !ok || got != payload {
			return fmt.Errorf("%s: another payload than the last", where)
		}
		labels := tr.f.Labels(name)
		if !slices.Contains(labels[expect], "AWSCURRENT") {
			return fmt.Errorf("%s: labels %v, want %s current", where, labels, expect)
		}
		left := tr.leftovers(name)
		if tr.blind { // then the first version may keep its label until the next change
			left = slices.DeleteFunc(left, func(l string) bool { return strings.HasPrefix(l, expect) })
		}
		if len(left) > 0 && !tr.late {
			return fmt.Errorf("%s: left over: %v", where, left)
		}
		return nil
	}
	if tr.IntN(4) == 0 {
		tr.f.Bare(name)
	}
	create := &secret.Metadata{Description: ptr("made"), Labels: map[string]string{"team": "a"}, Owner: `secret.db["a"]`}
	if err := change(create); err != nil {
		return err
	}
	if err := check("created"); err != nil {
		return err
	}
	for range 1 + tr.IntN(4) {
		if err := change(nil); err != nil {
			return err
		}
		if err := check("written"); err != nil {
			return err
		}
	}
	words := fmt.Sprintf("words %d", tr.IntN(100))
	err := tr.again("update", func(ctx context.Context, s secret.Store) error {
		return s.Update(ctx, name, secret.Metadata{Description: &words, Labels: map[string]string{"team": "b"}, Replicas: []secret.Replica{{Region: "us-east-1"}}}, "")
	})
	if err != nil {
		return err
	}
	if seen := tr.f.Visible(); !strings.Contains(seen, words) || !strings.Contains(seen, "team:b") || !strings.Contains(seen, "us-east-1") {
		return fmt.Errorf("after update: %s", seen)
	}
	if err := change(nil); err != nil {
		return err
	}
	for _, force := range []bool{false, true} {
		err := tr.again("delete", func(ctx context.Context, s secret.Store) error {
			_, err := s.Delete(ctx, name, secret.Deletion{Expect: expect, Force: force})
			if force && providers.ClassOf(err) == providers.NotFound {
				return nil // a run before got that far
			}
			return err
		})
		if err != nil {
			return err
		}
		if force {
			break
		}
		if err := tr.again("restore", func(ctx context.Context, s secret.Store) error { return s.Restore(ctx, name) }); err != nil {
			return err
		}
		if err := change(nil); err != nil {
			return err
		}
		if err := check("restored"); err != nil {
			return err
		}
	}
	expect = ""
	if err := change(create); err != nil {
		return err
	}
	if err := check("made anew"); err != nil {
		return err
	}
	return tr.silent()
}

func ptr(s string) *string { return &s }

// TestCampaignForeign: somebody else writes at any moment. No version of theirs
// is replaced by a change that did not expect it; what lost leaves no label; each
// intended change made at most one version, and one that succeeded exactly one.
func TestCampaignForeign(t *testing.T) {
	until(t, 300, 5000, func(seed uint64) (points int, err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("%v", r)
			}
		}()
		tr := newTrial(seed)
		err = tr.contest("prod/db")
		return tr.points, err
	})
}

func (tr *trial) contest(name string) error {
	first := tr.f.Foreign(name, "needle-foreign")
	var mu sync.Mutex
	left := tr.IntN(6)
	tr.before = func(c awsfake.Call) {
		mu.Lock()
		defer mu.Unlock()
		if left > 0 && tr.chance(6) {
			left--
			tr.f.Foreign(name, "needle-foreign")
		}
	}
	expects := map[string]string{}
	done, lost := map[string]bool{}, map[string]bool{}
	expect := first
	for range 3 + tr.IntN(4) {
		w := secret.Write{Name: name, Value: tr.value(), Token: tr.token(), Expect: expect, Owner: "secret.db"}
		expects[w.Token] = expect
		conflict, err := tr.write(w)
		if err != nil {
			return err
		}
		if conflict {
			lost[w.Token] = true
		} else {
			done[w.Token] = true
		}
		reigns := tr.f.Reigns(name) // plan again
		expect = reigns[len(reigns)-1]
	}
	reigns := tr.f.Reigns(name)
	for i, id := range reigns {
		want, ours := expects[id]
		if ours && (i == 0 || reigns[i-1] != want) {
			return fmt.Errorf("%s replaced %v, expected %s", id, reigns[:i], want)
		}
		if slices.Contains(reigns[:i], id) {
			return fmt.Errorf("%s became current twice: %v", id, reigns)
		}
	}
	made := tr.f.Made(name)
	for i, id := range made {
		if slices.Contains(made[:i], id) {
			return fmt.Errorf("%s was made twice", id)
		}
	}
	for token := range done {
		if !slices.Contains(reigns, token) {
			return fmt.Errorf("%s succeeded and never was current", token)
		}
	}
	for _, leftover := range tr.leftovers(name) {
		id, _, _ := strings.Cut(leftover, " ")
		if !tr.late && done[id] {
			return fmt.Errorf("left over: %s", leftover)
		}
	}
	tr.payloads = append(tr.payloads, "needle-foreign")
	return tr.silent()
}

func (tr *trial) chance(n int) bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.IntN(n) == 0
}
