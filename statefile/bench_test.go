package statefile_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	. "freightliner/statefile"
)

// big is a state of n tags in realistic repositories, about 150 bytes each,
// built by hand since that is faster than a run.
var big = sync.OnceValue(func() []byte { return bigState(700_000) })

func bigState(n int) []byte {
	lines := make([]string, 0, n)
	for i := range n {
		r := tag(fmt.Sprintf("team-%02d/service-%03d:v1.%d.%d", i%40, i%1000, i/1000, i%7), i)
		lines = append(lines, fmt.Sprintf(`{"a":"%s","k":"tag","d":"%s","p":"00000000","~":"00000000"}`, r.Address, r.Digest))
	}
	slices.Sort(lines)
	var b strings.Builder
	b.WriteString(`{"freightliner":"state","v":1,"lineage":"bench","features":[],"~":"00000000"}` + "\n")
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	b.WriteString(`{"end":"00000000"}` + "\n")
	return []byte(reseal(b.String()))
}

func onDisk(tb testing.TB, data []byte) FS {
	tb.Helper()
	root, err := os.OpenRoot(tb.TempDir())
	check(tb, "open", err)
	tb.Cleanup(func() { root.Close() })
	if data != nil {
		check(tb, "write", root.WriteFile(file, data, 0o600))
	}
	return OS(root)
}

// BenchmarkOpen100MB opens and fully verifies 700,000 tags; the limit is the
// SHA-256 of the machine and the page faults of reading.
func BenchmarkOpen100MB(b *testing.B) {
	data := big()
	fsys := onDisk(b, data)
	b.SetBytes(int64(len(data)))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var s *State
	for b.Loop() {
		s = mustRead(b, fsys)
	}
	b.StopTimer()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(data)), "live/size")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N)/float64(len(data)), "allocated/size")
	runtime.KeepAlive(s)
}

// BenchmarkAll decodes every record of a large state once.
func BenchmarkAll(b *testing.B) {
	s := mustRead(b, onDisk(b, big()))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for r := range s.All() {
			n += len(r.Digest)
		}
		if n == 0 {
			b.Fatal("no records")
		}
	}
	b.ReportMetric(float64(s.Len())*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkLookup(b *testing.B) {
	s := mustRead(b, onDisk(b, big()))
	all := records(s)
	i := 0
	for b.Loop() {
		r := all[i*7919%len(all)]
		if got, ok := s.Lookup(r.Address); !ok || got.Digest != r.Digest {
			b.Fatal("not found")
		}
		i++
	}
}

// BenchmarkJournalAppend writes done lines from 32 workers, with the sync every
// 100 ms or 1 MiB; the limit is the disk's sync and one write a batch.
func BenchmarkJournalAppend(b *testing.B) {
	l := mustLock(b, onDisk(b, nil))
	j, _, err := Begin(context.Background(), l, file, RunInfo{Run: "bench"}, Options{})
	check(b, "begin", err)
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := j.Done(Put(tag("team/api:1", 1))); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	check(b, "abandon", j.Abandon())
}

// BenchmarkJournalAppendOne is the same from one caller.
func BenchmarkJournalAppendOne(b *testing.B) {
	l := mustLock(b, onDisk(b, nil))
	j, _, err := Begin(context.Background(), l, file, RunInfo{Run: "bench"}, Options{})
	check(b, "begin", err)
	for b.Loop() {
		check(b, "done", j.Done(Put(tag("team/api:1", 1))))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	check(b, "abandon", j.Abandon())
}

// BenchmarkCompact folds one change into 700,000 tags: comparing the old file,
// writing, hashing and syncing the new one, renaming.
func BenchmarkCompact(b *testing.B) {
	data := big()
	fsys := onDisk(b, data)
	l := mustLock(b, fsys)
	n := 0
	for b.Loop() {
		b.StopTimer()
		n++
		j, _, err := Begin(context.Background(), l, file, RunInfo{Run: "bench"}, Options{})
		check(b, "begin", err)
		check(b, "done", j.Done(Put(tag("team-00/service-000:new", n))))
		b.StartTimer()
		check(b, "close", j.Close())
	}
	b.SetBytes(int64(len(data)))
}

// TestOneTagIsASmallDiff: a change of one tag among 10,000 rewrites one line, a
// new tag two.
func TestOneTagIsASmallDiff(t *testing.T) {
	data := bigState(10_000)
	fsys := onDisk(t, data)
	j, s, l := open(t, fsys, "r", testOptions())
	first := records(s)[4000]
	first.Digest = digest(-1)
	check(t, "done", j.Done(Put(first), Put(tag("team-20/new:1", 1))))
	check(t, "close", j.Close())
	check(t, "release", l.Release())
	old := map[string]bool{}
	for line := range bytes.Lines(data) {
		old[string(line)] = true
	}
	var fresh []string
	after, _, err := readAll(fsys)
	check(t, "read", err)
	for line := range bytes.Lines(after) {
		if !old[string(line)] {
			fresh = append(fresh, string(line))
		}
	}
	if len(fresh) != 3 {
		t.Fatalf("one changed and one new tag give %d new lines, want 3:\n%s", len(fresh), strings.Join(fresh, ""))
	}
}

func readAll(fsys FS) ([]byte, Info, error) {
	info, err := fsys.Lstat(file)
	if err != nil {
		return nil, info, err
	}
	f, err := fsys.OpenFile(file, os.O_RDONLY, 0)
	if err != nil {
		return nil, info, err
	}
	defer f.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(f)
	return b.Bytes(), info, err
}
