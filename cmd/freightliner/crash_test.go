package main

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"freightliner/planner"
	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
	"freightliner/statefile"
)

// The short form runs with all other tests; `make crash` runs the full one.
var (
	campaign      = flag.String("campaign", "short", "short or full")
	campaignSeed  = flag.Uint64("campaign-seed", 0, "seed of the first round; 0 takes one from the clock")
	campaignKills = flag.Int("campaign-kills", 2000, "kills of the full campaign")
	campaignTime  = flag.Duration("campaign-time", 4*time.Hour, "no new round begins after this")
)

// TestCrashCampaign kills a real apply against real registries with SIGKILL,
// again and again: at a request, at an instant, at a file operation of the
// state, and inside the compaction. Each round is a new source tree that the
// destination, the state and whatever the round before left there must become:
// new tags, moved tags, deleted tags. After each kill the state opens, says
// nothing done that is not, and the next apply repeats nothing that it says.
// At the end of the round the trees are equal and one more apply writes nothing.
func TestCrashCampaign(t *testing.T) {
	kills, workers := 8, 1
	if *campaign == "full" {
		kills, workers = *campaignKills, 2
	}
	seed := *campaignSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) &^ (1<<32 - 1)
	}
	stop := time.Now().Add(*campaignTime)
	for w := range workers {
		t.Run(fmt.Sprintf("worker %d", w), func(t *testing.T) {
			t.Parallel()
			c := newCrashes(t)
			first := seed + uint64(w)<<20
			for round := uint64(0); c.total() < kills/workers && time.Now().Before(stop); round++ {
				c.round(first+round, kills/workers-c.total())
				if t.Failed() {
					break
				}
			}
			t.Logf("%d kills in %d rounds (%d applies ended by themselves before their kill), first seed %d", c.total(), c.rounds, c.missed, first)
			for _, how := range slices.Sorted(maps.Keys(c.kills)) {
				t.Logf("  %5d %s", c.kills[how], how)
			}
			t.Logf("  %5d of them inside compaction (%d %%)", c.compacting, 100*c.compacting/max(1, c.total()))
			if c.strace == "" {
				t.Log("strace is not installed: the state's file operations were not aimed at one by one; `make crash` as root installs it")
			}
		})
	}
}

// crashes is one pair of registries, one directory, and what happened there.
type crashes struct {
	*mirror
	source, destination *registrytest.Process
	strace              string // its path; empty when there is none
	random              *rand.Rand
	seed                uint64

	requests int           // of an undisturbed apply at the destination
	duration time.Duration // of an undisturbed apply

	kills      map[string]int
	compacting int
	missed     int
	rounds     int
}

func newCrashes(t *testing.T) *crashes {
	c := &crashes{
		source: registrytest.Distribution(t), destination: registrytest.Distribution(t, registrytest.WithRecorder()),
		kills: map[string]int{}, requests: 60, duration: 300 * time.Millisecond,
	}
	c.mirror = newMirror(t, c.source.Host(), c.destination.Host())
	c.strace, _ = exec.LookPath("strace") // without it, its kills are not made, and that is said
	return c
}

func (c *crashes) total() int {
	n := 0
	for _, count := range c.kills {
		n += count
	}
	return n
}

// configure points the tree at the source of this round.
func (c *crashes) configure(prefix string) {
	c.t.Helper()
	text := fmt.Sprintf(`registry "source" {
  host       = %q
  plain_http = true
}

registry "destination" {
  host       = %q
  plain_http = true
}

tree "all" {
  source      = "${registry.source.host}/%s"
  destination = "${registry.destination.host}/mirror"
  prune       = "managed"
}
`, c.source.Host(), c.destination.Host(), prefix)
	if err := os.WriteFile(filepath.Join(c.dir, "main.hcl"), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

var applyArgs = []string{"apply", "-auto-approve", "-max-deletes", "100%"}

// killsARound is how often a round's apply is killed at most.
const killsARound = 9

// round kills an apply until it is done, or often enough, and then looks at
// everything.
func (c *crashes) round(seed uint64, limit int) {
	t := c.t
	c.seed, c.random = seed, rand.New(rand.NewPCG(seed, 0))
	c.rounds++
	prefix := fmt.Sprintf("acme/r%d", seed)
	want := registrytest.Fill(t, c.source.Host(), registrytest.Tree{
		// Always the same repositories: one that is empty by now is no reason to delete.
		Repositories: 3, Tags: 1 + c.random.IntN(4), Prefix: prefix, Seed: seed, LayerSize: 2 << 10, Indexes: c.random.IntN(3) == 0,
	}).Under(prefix)
	c.configure(prefix)
	done, closed := false, false
	for n := 0; !done && n < min(limit, killsARound); n++ {
		// Three of ten kills are to fall inside the compaction. Once one did, the
		// work is done, and only the compaction is left to be killed again.
		due := 3*c.compacting < c.total()
		if closed && !due {
			break
		}
		before := c.recorded()
		how := c.aim(due && (closed || n >= 3), closed)
		c.destination.Recorder.Reset()
		started := time.Now()
		killed, out := how.run(c)
		if killed {
			c.kills[how.name]++
			if how.compacting || c.inCompaction() {
				c.compacting++
				closed = true
			}
			c.believes(want, how.name, out)
		} else {
			c.missed++
			if n == 0 && !how.traced {
				c.learn(started)
			}
			done = bytes.Contains(out.Bytes(), []byte("Apply complete!")) || bytes.Contains(out.Bytes(), []byte("No changes."))
		}
		c.repeated(want, before, how.name)
	}
	if !done {
		before := c.recorded()
		c.destination.Recorder.Reset()
		c.mustApply("the apply after the last kill")
		c.repeated(want, before, "the apply after the last kill")
	}
	c.settled(want)
}

// learn keeps how much there is to aim at in an apply that was not killed.
func (c *crashes) learn(started time.Time) {
	c.duration = (3*c.duration + time.Since(started)) / 4
	c.requests = (3*c.requests + c.destination.Recorder.Total()) / 4
}

func (c *crashes) failf(format string, args ...any) {
	c.t.Helper()
	c.t.Errorf("%s\nround of seed %d: again with go test ./cmd/freightliner -run TestCrashCampaign -campaign-seed=%d", fmt.Sprintf(format, args...), c.seed, c.seed)
}

func (c *crashes) mustApply(what string) {
	c.t.Helper()
	cmd, out := c.command(applyArgs...)
	_ = cmd.Run() // the exit code is what counts
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		c.failf("%s: exit code %d\n%s", what, code, out)
	}
}

// settled: the trees are equal, byte for byte, and one more apply writes
// nothing, neither to the registry nor to the state.
func (c *crashes) settled(want registrytest.Listing) {
	c.t.Helper()
	got := registrytest.Inventory(c.t, c.destination.Host()).Under("mirror").WithoutFallback()
	for repository, tags := range got {
		if len(tags) == 0 {
			delete(got, repository) // pruned: the registry keeps the empty name
		}
	}
	if !maps.EqualFunc(want, got, maps.Equal) {
		c.failf("the trees differ: want %v\ngot %v", want, got)
		return
	}
	name := filepath.Join(c.dir, "freightliner.state")
	before, err := os.ReadFile(name)
	if err != nil {
		c.t.Fatal(err)
	}
	c.destination.Recorder.Reset()
	c.mustApply("the second apply")
	if writes := c.destination.Recorder.Writes(); len(writes) > 0 {
		c.failf("the second apply wrote: %v", writes)
	}
	if after, err := os.ReadFile(name); err != nil || !bytes.Equal(before, after) {
		c.failf("the second apply changed the state (%v):\n%s\nto\n%s", err, before, after)
	}
	if c.rounds%25 == 1 { // every blob of the tree is read back and hashed
		registrytest.VerifyTree(c.t, c.destination.Host())
	}
}

// recorded are the tags that the state has, journal included, with their
// digests, as "repository:tag". A state that does not open ends the campaign.
func (c *crashes) recorded() map[string]providers.Digest {
	c.t.Helper()
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	defer root.Close()
	state, err := statefile.Read(statefile.OS(root), "freightliner.state")
	if err != nil {
		c.failf("the state does not open: %v", err)
		c.t.FailNow()
	}
	tags := map[string]providers.Digest{}
	for record := range state.All() {
		if record.Kind == statefile.KindTag {
			tags[strings.TrimPrefix(record.Address[len(planner.BlockOf(record.Address)):], "/")] = record.Digest
		}
	}
	return tags
}

// believes: what the state says is done is done. A tag that it has is at the
// destination with that digest, or already with the one that it is to become,
// or gone if it is to go.
func (c *crashes) believes(want registrytest.Listing, how string, out *bytes.Buffer) {
	c.t.Helper()
	got := registrytest.Inventory(c.t, c.destination.Host()).Under("mirror")
	for name, digest := range c.recorded() {
		repository, tag, _ := strings.Cut(name, ":")
		is, to := got[repository][tag], want[repository][tag]
		if is != digest && is != to {
			c.failf("killed %s: the state says that %s is %s, it is %q and is to be %q\n%s", how, name, digest, is, to, out)
		}
	}
}

// repeated: no tag was written that the state before had as it is to be.
func (c *crashes) repeated(want registrytest.Listing, before map[string]providers.Digest, how string) {
	c.t.Helper()
	for _, name := range written(c.destination.Recorder) {
		name = strings.TrimPrefix(name, "mirror/")
		repository, tag, _ := strings.Cut(name, ":")
		if before[name] != "" && before[name] == want[repository][tag] {
			c.failf("%s: %s was finished before and was written again", how, name)
		}
	}
}

// inCompaction reports whether what the kill left shows that it struck while
// the journal was folded away: the journal is closed and still there, or the
// file that was to replace it is.
func (c *crashes) inCompaction() bool {
	names, err := filepath.Glob(filepath.Join(c.dir, ".freightliner.state.tmp-*"))
	if err != nil {
		c.t.Fatal(err)
	}
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	defer root.Close()
	state, err := statefile.Read(statefile.OS(root), "freightliner.state")
	if err != nil || !state.Exists() {
		return false // recorded tells of the error
	}
	_, open := state.Interrupted()
	return !state.Canonical() && (!open || len(names) > 0)
}

// shot is one way to be killed.
type shot struct {
	name       string
	compacting bool // by what it aims at; what it leaves behind may show it too
	traced     bool
	run        func(*crashes) (killed bool, out *bytes.Buffer)
}

// aim chooses the next shot, inside the compaction or anywhere. With closed the
// compaction is all that is left to do.
func (c *crashes) aim(inside, closed bool) shot {
	switch {
	case c.strace != "" && inside:
		// What only the compaction of an existing state does, in its order: drop
		// the second name of an older one, give it to the old file, rename, make
		// the name durable; and, if the journal needs no more syncs, make the new
		// file durable before all that.
		ops := []string{"unlinkat", "linkat", "/^rename", "fsync", "fdatasync"}
		if !closed {
			ops = ops[:4]
		}
		op := ops[c.random.IntN(len(ops))]
		return shot{"at the compaction's " + strings.TrimPrefix(op, "/^"), c.journalled(), true, traced(op, 1, "")}
	case c.strace != "" && c.random.IntN(10) < 4:
		op := []string{"write", "write", "fdatasync", "fallocate", "/^open"}[c.random.IntN(5)]
		file, when := "", 1
		if op == "write" || op == "/^open" {
			file, when = filepath.Join(c.dir, "freightliner.state"), 1+c.random.IntN(3)
		}
		return shot{"at a " + strings.TrimPrefix(op, "/^") + " of the state", false, true, traced(op, when, file)}
	case c.random.IntN(2) == 0:
		return shot{"at a request", false, false, atRequest(1+c.random.IntN(max(5, c.requests)), c.random.IntN(2) == 0)}
	}
	return shot{"at an instant", false, false, atInstant(time.Duration(c.random.Int64N(int64(c.duration))))}
}

// journalled reports that there is a state to be replaced, so that the
// operations aimed at are those of a compaction and not of a creation.
func (c *crashes) journalled() bool {
	_, err := os.Stat(filepath.Join(c.dir, "freightliner.state"))
	return err == nil
}

// traced kills at the entry of the nth such system call of a thread, on one
// file if that is named, by strace.
func traced(call string, nth int, file string) func(*crashes) (bool, *bytes.Buffer) {
	return func(c *crashes) (bool, *bytes.Buffer) {
		cmd, out := c.command(applyArgs...)
		args := []string{c.strace, "-f", "-qq", "-o", os.DevNull, "-e", "trace=" + call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, nth)}
		if file != "" {
			args = append(args, "-P", file)
		} else {
			args = append(args, "--seccomp-bpf") // stop at these calls alone; it does not know files
		}
		cmd.Args = append(append(args, cmd.Path), cmd.Args[1:]...)
		cmd.Path = c.strace
		_ = cmd.Run() // how it ended is what counts
		return c.ended(cmd, out), out
	}
}

// atRequest kills while the nth request to the destination is under way,
// before the registry has seen it or after it has done its work.
func atRequest(nth int, late bool) func(*crashes) (bool, *bytes.Buffer) {
	return func(c *crashes) (bool, *bytes.Buffer) {
		gate := registrytest.NewGate(c.t)
		c.destination.Faults.Add(registrytest.Fault{Nth: nth, Gate: gate, Late: late})
		defer c.destination.Faults.Clear()
		defer gate.Open()
		return c.killWhen(func() <-chan struct{} { return gate.Reached() })
	}
}

// atInstant kills so long after the start.
func atInstant(after time.Duration) func(*crashes) (bool, *bytes.Buffer) {
	return func(c *crashes) (bool, *bytes.Buffer) {
		return c.killWhen(func() <-chan struct{} {
			now := make(chan struct{})
			time.AfterFunc(after, func() { close(now) })
			return now
		})
	}
}

func (c *crashes) killWhen(signal func() <-chan struct{}) (bool, *bytes.Buffer) {
	cmd, out := c.command(applyArgs...)
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended is what counts
	}()
	select {
	case <-signal():
		_ = cmd.Process.Kill() // it may have ended this very moment
	case <-ended:
	}
	<-ended
	return c.ended(cmd, out), out
}

// ended reports whether the process was killed; one that was not must have
// done all its work.
func (c *crashes) ended(cmd *exec.Cmd, out *bytes.Buffer) (killed bool) {
	switch code := cmd.ProcessState.ExitCode(); code {
	case -1, 137: // by the signal, or strace telling of it
		return true
	case 0:
		return false
	default:
		c.failf("apply ended by itself with exit code %d\n%s", code, out)
		return false
	}
}

// TestFaultCampaign fails the system calls of the state's files in a real apply,
// by strace, once and for ever: exit code 0 only with everything recorded, else
// the error in the system's words; the state opens, and the next apply gets
// there.
func TestFaultCampaign(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Log("strace is not installed: nothing was made to fail; statefile's TestCampaignFaults does it on the disk in memory")
		return
	}
	source, destination := registrytest.Start(t), registrytest.Start(t)
	want := registrytest.Fill(t, source.Host(), registrytest.Tree{Repositories: 1, Tags: 2, Prefix: "acme"}).Under("acme")
	errnos := map[string]string{
		"ENOSPC": "no space left on device", "EIO": "input/output error", "EROFS": "read-only file system", "EDQUOT": "disk quota exceeded",
		"EMFILE": "too many open files", "EACCES": "permission denied", "EINTR": "",
	}
	type place struct {
		call string
		file bool // only on the state's own name
	}
	cases, failed := 0, 0
	for _, p := range []place{{"write", true}, {"/^open", true}, {"fdatasync", false}, {"fsync", false}, {"/^rename", false}, {"linkat", false}, {"unlinkat", false}, {"fallocate", false}, {"flock", false}} {
		for _, errno := range slices.Sorted(maps.Keys(errnos)) {
			for _, when := range []string{"1", "2", "1+"} {
				if errno == "EINTR" && when == "1+" {
					continue // a call that is interrupted for ever is tried for ever
				}
				if cases++; *campaign != "full" && cases%45 != 1 {
					continue
				}
				prefix := fmt.Sprintf("mirror/case%d", cases)
				m := newMirror(t, source.Host(), destination.Host())
				m.destination(prefix)
				m.run(0, "plan")
				args := []string{strace, "-f", "-qq", "-o", os.DevNull, "-e", "trace=" + p.call, "-e", fmt.Sprintf("inject=%s:error=%s:when=%s", p.call, errno, when)}
				if p.file {
					args = append(args, "-P", filepath.Join(m.dir, "freightliner.state"))
				} else {
					args = append(args, "--seccomp-bpf")
				}
				cmd, out := m.command("apply", "-auto-approve")
				cmd.Args, cmd.Path = append(append(args, cmd.Path), cmd.Args[1:]...), strace
				_ = cmd.Run() // the exit code is what counts
				code := cmd.ProcessState.ExitCode()
				what := fmt.Sprintf("%s fails with %s, when=%s", strings.TrimPrefix(p.call, "/^"), errno, when)
				recorded := m.finishedIfAny()
				switch {
				case code == 0 && len(recorded) != want.Tags():
					t.Errorf("%s: exit code 0, and the state has %v\n%s", what, recorded, out)
				case code < 0 || code > 7:
					t.Errorf("%s: exit code %d\n%s", what, code, out)
				case code > 0 && !strings.Contains(out.String(), errnos[errno]):
					t.Errorf("%s: exit code %d, and the error does not say so\n%s", what, code, out)
				}
				if code > 0 {
					failed++
				}
				m.run(0, "apply", "-auto-approve")
				if got := m.finished(); len(got) != want.Tags() {
					t.Errorf("%s: after the next apply the state has %v", what, got)
				}
				m.run(0, "plan", "-detailed-exitcode")
			}
		}
	}
	t.Logf("%s: %d system calls to fail, %d runs did not end with 0", *campaign, cases, failed)
}

// destination moves the tree's destination to another prefix.
func (m *mirror) destination(prefix string) {
	m.t.Helper()
	name := filepath.Join(m.dir, "main.hcl")
	text, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(name, bytes.Replace(text, []byte("/mirror\""), []byte("/"+prefix+"\""), 1), 0o600)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}
