package statefile_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "freightliner/statefile"
)

// TestOneTagIsAtMostThreeLinesForGit: at 10,000 records a changed tag is one line
// of `git diff`, a new or removed one at most three, deleted and added lines
// counted apart.
func TestOneTagIsAtMostThreeLinesForGit(t *testing.T) {
	data := bigState(10_000)
	all := records(mustParse(t, data))
	changed := all[4000]
	changed.Digest = digest(-1)
	for name, c := range map[string]struct {
		change Change
		want   string // added, removed
	}{
		"changed":      {Put(changed), "1\t1"},
		"new":          {Put(tag("team-20/new:1", 1)), "2\t1"},
		"new, first":   {Put(tag("a:1", 1)), "2\t1"},
		"new, last":    {Put(tag("z:1", 1)), "2\t1"},
		"removed":      {Remove(all[7000].Address), "1\t2"},
		"last removed": {Remove(all[len(all)-1].Address), "1\t2"},
	} {
		fsys := onDisk(t, data)
		j, _, l := open(t, fsys, "r", testOptions())
		check(t, "done", j.Done(c.change))
		check(t, "close", j.Close())
		check(t, "release", l.Release())
		after, _, err := readAll(fsys)
		check(t, "read", err)
		dir := t.TempDir()
		check(t, "write", os.WriteFile(filepath.Join(dir, "old"), data, 0o600))
		check(t, "write", os.WriteFile(filepath.Join(dir, "new"), after, 0o600))
		cmd := exec.Command("git", "diff", "--no-index", "--numstat", "old", "new")
		cmd.Dir = dir
		out, _ := cmd.Output() // it ends with 1 since they differ
		if !strings.HasPrefix(string(out), c.want+"\t") {
			t.Errorf("%s: git counts %q lines added and removed, want %q", name, out, c.want)
		}
	}
}

// BenchmarkOpenPeak opens and verifies 100 MB and watches the heap meanwhile:
// its highest point is to stay under 2.5 times the file.
func BenchmarkOpenPeak(b *testing.B) {
	data := big()
	size := len(data)
	fsys := onDisk(b, data)
	var peak atomic.Uint64
	var base runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&base)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		var now runtime.MemStats
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				runtime.ReadMemStats(&now)
				peak.Store(max(peak.Load(), now.HeapInuse-min(now.HeapInuse, base.HeapInuse)))
			}
		}
	}()
	var s *State
	for b.Loop() {
		s = nil
		b.StopTimer()
		runtime.GC() // one open, as in a process that has just begun
		b.StartTimer()
		s = mustRead(b, fsys)
	}
	close(stop)
	<-stopped
	b.SetBytes(int64(size))
	b.ReportMetric(float64(peak.Load())/float64(size), "peak/size")
	if s.Len() == 0 {
		b.Fatal("no records")
	}
}
