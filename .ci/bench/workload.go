package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// workload is one row of the comparison: what is done, and what freightliner is
// to reach (issue "The copy engine").
type workload struct {
	name, title, bar string
}

// chain is workloads that follow each other on the same registries: what the
// first leaves at the destination is where the next begins.
type chain struct {
	corpus    string
	workloads []workload
	run       func(ctx context.Context, s *stage, selected func(workload) bool) []result
	wired     bool // measured through a wire, which counts bytes; no counting run
}

var chains = []chain{{
	corpus: treeCorpus,
	workloads: []workload{
		{"cold", "cold mirror, 40 repositories × 5 tags", "wall ≤ 0.60 × the fastest peer; CPU ≤ the lowest peer's; requests within 3 % of the minimum on both sides; every blob moved exactly once; at most 64 MiB"},
		{"again", "the same again, nothing to do", "one HEAD per tag and side plus listings, no GET of a manifest or blob; wall ≤ the fastest peer"},
		{"moved", "5 % of the tags moved", "wall ≤ 1.0 × the fastest peer; only the moved bytes sent"},
	},
	run: runPlain,
}, {
	corpus: manyCorpus,
	workloads: []workload{
		{"many", "1,000 repositories × 3 tags of tiny images, cold", "wall ≤ 0.78 × the fastest peer; requests within 3 % of the minimum; at most 128 MiB"},
		{"many-again", "the same, nothing to do", "wall ≤ 1.0 × the fastest peer"},
	},
	run: runPlain,
}, {
	corpus:    layerCorpus,
	workloads: []workload{{"layer", "one image with a 3 GiB layer", "wall ≤ 1.0 × the fastest peer while hashing everything; at most 64 MiB"}},
	run:       runPlain,
}, {
	corpus:    treeCorpus,
	workloads: []workload{{"far", "the cold mirror, destination 20 ms away, 200 Mbit/s", "wall ≤ 1.1 × bytes ÷ bandwidth"}},
	run:       runFar,
	wired:     true,
}, {
	corpus:    layerCorpus,
	workloads: []workload{{"killed", "kill -9 at 90 % of a 3 GiB layer, then again", "less than 12 % of the layer is sent again"}},
	run:       runKilled,
	wired:     true,
}, {
	corpus:    layerCorpus,
	workloads: []workload{{"cut", "a 3 GiB layer, all connections cut ten times", "less than 12 % of the layer is sent again"}},
	run:       runCut,
	wired:     true,
}}

// The line of the workload "far".
const (
	farTrip = 20 * time.Millisecond
	farBits = 200e6
)

// result is one workload done once by one tool.
type result struct {
	workload string
	outcome
	counted *[2]counts // source, destination; of a counting run
	wire    *wireBytes // of a chain with a wire
}

type wireBytes struct {
	read, sent int64 // from the source, 0 where it has no wire; to the destination
	least      int64 // of blobs
}

// stage is one run of a chain by one tool: two registries, and the proxies
// before them.
type stage struct {
	bench       *bench
	tool        tool
	chain       chain
	prepared    *prepared
	arena       *arena
	source      *process
	destination *process
	counters    []*counter // source, destination; none in timed runs
	wires       []*wire
	dir         string
}

// play runs a chain once, in a folder that is emptied afterwards.
func (b *bench) play(ctx context.Context, ch chain, p *prepared, t tool, counting bool) ([]result, error) {
	dir, err := os.MkdirTemp(b.dir, "run-")
	if err != nil {
		return nil, err
	}
	s := &stage{bench: b, tool: t, chain: ch, prepared: p, dir: dir}
	defer s.close()
	if s.source, err = startRegistry(ctx, b.registry, p.storage, ""); err != nil {
		return nil, err
	}
	if s.destination, err = startRegistry(ctx, b.registry, filepath.Join(dir, "destination"), ""); err != nil {
		return nil, err
	}
	s.arena = &arena{source: s.source.address, destination: s.destination.address, corpus: p.corpus,
		dir: filepath.Join(dir, "tool"), parallel: b.parallel, program: b.programs[t.name]}
	if counting {
		for _, address := range []*string{&s.arena.source, &s.arena.destination} {
			c, err := startCounter(*address)
			if err != nil {
				return nil, err
			}
			s.counters = append(s.counters, c)
			*address = c.address
		}
	}
	if err := os.MkdirAll(s.arena.dir, 0o700); err != nil {
		return nil, err
	}
	return ch.run(ctx, s, b.selected), nil
}

func (s *stage) close() {
	for _, c := range s.counters {
		c.stop()
	}
	for _, w := range s.wires {
		w.stop()
	}
	for _, p := range []*process{s.source, s.destination} {
		if p != nil {
			p.stop()
		}
	}
	s.bench.empty(s.dir)
}

// empty gives the room of a run back, but leaves its files where they are until the
// end: an ext4 without journal looks, for each new file, through those that were
// deleted in the last minutes, so as not to take their places (fs/ext4/ialloc.c,
// recently_deleted). A run after the thousands of files of another were removed paid
// for them, up to a quarter of its time, and a short one most. Nothing in
// dir is linked to a corpus.
func (b *bench) empty(dir string) {
	b.left = append(b.left, dir)
	filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil
		}
		if info, err := entry.Info(); err == nil && info.Size() > 64<<10 {
			os.Truncate(path, 0) // else it takes room until the end
		}
		return nil
	})
}

func (b *bench) remove() {
	for _, dir := range b.left {
		os.RemoveAll(dir)
	}
}

// work lets the tool do its work once.
func (s *stage) work(ctx context.Context) outcome {
	atOnce := 1
	if s.tool.atOnce != nil {
		atOnce = s.tool.atOnce(s.arena)
	}
	return measure(ctx, s.tool.commands(s.arena), atOnce, s.source, s.destination)
}

func (s *stage) prepare() error {
	if s.tool.prepare == nil {
		return nil
	}
	return s.tool.prepare(s.arena)
}

// checked is o, failed unless the destination holds c.
func (s *stage) checked(ctx context.Context, o outcome, c *corpus, deep bool) outcome {
	if o.err == nil {
		if err := verify(ctx, s.destination.address, c, deep); err != nil {
			o.err = fmt.Errorf("the destination is wrong: %w", err)
		}
	}
	return o
}

// runPlain does the workloads of a chain one after the other, as far as they
// are wanted. After a failure the rest has no ground to stand on.
func runPlain(ctx context.Context, s *stage, selected func(workload) bool) []result {
	var results []result
	last := 0
	for i, w := range s.chain.workloads {
		if selected(w) {
			last = i
		}
	}
	err := s.prepare()
	for i, w := range s.chain.workloads[:last+1] {
		if err != nil {
			results = append(results, result{workload: w.name, outcome: outcome{err: err}})
			continue
		}
		expected := s.prepared.corpus
		if w.name == "moved" {
			expected = s.prepared.moved.corpus
			err = s.moveSource(ctx)
		}
		r := result{workload: w.name, outcome: outcome{err: err}}
		if err == nil {
			r.outcome = s.checked(ctx, s.work(ctx), expected, s.bench.deep)
			if s.counters != nil {
				r.counted = &[2]counts{s.counters[0].take(), s.counters[1].take()}
			}
		}
		if r.err != nil {
			err = fmt.Errorf("after %q failed", s.chain.workloads[i].name)
		}
		results = append(results, r)
	}
	return results
}

// moveSource puts the storage with moved tags in the place of the source's.
func (s *stage) moveSource(ctx context.Context) error {
	address := s.source.address
	s.source.stop()
	moved, err := startRegistry(ctx, s.bench.registry, s.prepared.moved.storage, address)
	if err == nil {
		s.source = moved
	}
	return err
}

// front puts a wire before a registry of the arena.
func (s *stage) front(address *string, trip time.Duration, bitsPerSecond float64, onSent func(int64)) (*wire, error) {
	w, err := startWire(*address, trip, bitsPerSecond, onSent)
	if err != nil {
		return nil, err
	}
	s.wires = append(s.wires, w)
	*address = w.address
	return w, nil
}

// runFar is the cold mirror over a long and narrow line to the destination.
func runFar(ctx context.Context, s *stage, _ func(workload) bool) []result {
	r := result{workload: "far"}
	line, err := s.front(&s.arena.destination, farTrip, farBits, nil)
	if err == nil {
		err = s.prepare()
	}
	if err != nil {
		r.err = err
		return []result{r}
	}
	o := s.work(ctx)
	r.wire = &wireBytes{sent: line.sent.Load(), least: least(&corpus{}, s.prepared.corpus).bytes}
	r.outcome = s.checked(ctx, o, s.prepared.corpus, s.bench.deep)
	return []result{r}
}

// runKilled kills the tool when 90 % of the large layer went to the
// destination, and lets it work again in the same folder. Its time is that of
// the second run; the bytes are those of both.
func runKilled(ctx context.Context, s *stage, _ func(workload) bool) []result {
	r := result{workload: "killed"}
	wanted := least(&corpus{}, s.prepared.corpus).bytes
	killing, kill := context.WithCancel(ctx)
	defer kill()
	dead := make(chan struct{})
	source, destination, err := s.bothWires(func(total int64) {
		if total >= wanted/10*9 {
			kill()
			<-dead // or a fast tool is done before the signal meets it
		}
	})
	if err != nil {
		r.err = err
		return []result{r}
	}
	first := s.work(killing)
	close(dead)
	if killing.Err() == nil || first.err == nil {
		r.err = errors.New("it ended before 90 % of the layer was sent: " + first.String())
		return []result{r}
	}
	r.outcome = s.checked(ctx, s.work(ctx), s.prepared.corpus, true)
	r.wire = &wireBytes{read: source.received.Load(), sent: destination.sent.Load(), least: wanted}
	return []result{r}
}

// runCut breaks every connection ten times, evenly over the bytes sent, in turn
// those to the destination and those to the source. What still works after
// that is left to the tool's own retries.
func runCut(ctx context.Context, s *stage, _ func(workload) bool) []result {
	r := result{workload: "cut"}
	wanted := least(&corpus{}, s.prepared.corpus).bytes
	var source, destination *wire
	var mu sync.Mutex
	cuts := 0
	ready := make(chan struct{})
	source, destination, err := s.bothWires(func(total int64) {
		<-ready
		mu.Lock()
		defer mu.Unlock()
		if cuts == 10 || total < int64(cuts+1)*wanted/11 {
			return
		}
		cuts++
		if cuts%2 == 1 {
			destination.cut()
		} else {
			source.cut()
		}
	})
	close(ready)
	if err != nil {
		r.err = err
		return []result{r}
	}
	o := s.work(ctx)
	r.wire = &wireBytes{read: source.received.Load(), sent: destination.sent.Load(), least: wanted}
	r.outcome = s.checked(ctx, o, s.prepared.corpus, true)
	return []result{r}
}

func (s *stage) bothWires(onSent func(int64)) (source, destination *wire, err error) {
	if source, err = s.front(&s.arena.source, 0, 0, nil); err != nil {
		return nil, nil, err
	}
	if destination, err = s.front(&s.arena.destination, 0, 0, onSent); err != nil {
		return nil, nil, err
	}
	return source, destination, s.prepare()
}
