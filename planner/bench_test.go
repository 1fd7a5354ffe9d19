package planner

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"testing"

	"freightliner/config"
	"freightliner/providers"
	"freightliner/statefile"
)

// million is a world of n unchanged tags in repositories of 20, and the state
// that matches it.
func million(b *testing.B, n int) (Input, *world) {
	b.Helper()
	tree := oneTree()
	w := &treeWorld{complete: true}
	var changes []statefile.Change
	changes = append(changes, statefile.Put(treeRecord(tree)))
	for i := 0; i < n; i += 20 {
		repo := repoWorld{rel: fmt.Sprintf("team-%03d/service-%05d", i/20/100, i/20), selected: true}
		for j := range 20 {
			digest := providers.SHA256(fmt.Appendf(nil, "%d", i+j))
			tag := tagWorld{tag: fmt.Sprintf("v1.%d.0", j), source: digest, want: digest, dest: digest}
			repo.tags = append(repo.tags, tag)
			changes = append(changes, statefile.Put(statefile.Record{Address: tagAddress(tree.Address, repo.rel, tag.tag), Kind: statefile.KindTag, Digest: digest}))
		}
		w.repos = append(w.repos, repo)
	}
	dir := b.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { root.Close() })
	fsys := statefile.OS(root)
	lock, err := statefile.AcquireLock(b.Context(), fsys, "m.state", statefile.Holder{}, statefile.LockOptions{})
	if err != nil {
		b.Fatal(err)
	}
	journal, _, err := statefile.Begin(b.Context(), lock, "m.state", statefile.RunInfo{Run: "bench"}, statefile.Options{})
	if err != nil {
		b.Fatal(err)
	}
	if err := journal.Done(changes...); err != nil {
		b.Fatal(err)
	}
	if err := journal.Close(); err != nil {
		b.Fatal(err)
	}
	state, err := statefile.Read(fsys, "m.state")
	if err != nil {
		b.Fatal(err)
	}
	return Input{Config: &config.Config{Trees: []config.Tree{tree}}, State: state},
		&world{units: []unit{{address: tree.Address, tree: &tree}}, trees: map[int]*treeWorld{0: w}}
}

// BenchmarkCompareMillion plans 1,000,000 unchanged tags from observations that
// are at hand: DESIGN wants less than 10 s and 1 GB.
func BenchmarkCompareMillion(b *testing.B) {
	in, w := million(b, 1_000_000)
	b.ResetTimer()
	for b.Loop() {
		p := compare(in, w)
		if len(p.Actions) > 0 || p.Blocks[0].Unchanged != 1_000_000 {
			b.Fatalf("%d actions, %d unchanged", len(p.Actions), p.Blocks[0].Unchanged)
		}
	}
	b.StopTimer()
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/1e6, "MB-held")
	runtime.KeepAlive(w)
}

// BenchmarkPlanFile encodes and decodes a plan of 100,000 copies.
func BenchmarkPlanFile(b *testing.B) {
	in, w := million(b, 100_000)
	for i := range w.trees[0].repos {
		for j := range w.trees[0].repos[i].tags {
			w.trees[0].repos[i].tags[j].dest = ""
		}
	}
	p := compare(in, w)
	b.ResetTimer()
	size := 0
	for b.Loop() {
		var out bytes.Buffer
		if err := Encode(&out, p); err != nil {
			b.Fatal(err)
		}
		size = out.Len()
		if _, err := Decode(&out); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(size)/float64(len(p.Actions)), "B/action")
}
