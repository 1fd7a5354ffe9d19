package planner

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/config"
	"freightliner/providers"
	"freightliner/statefile"
)

// digest makes a digest out of a letter, so that tables stay readable: D("a").
func D(letter string) providers.Digest {
	if letter == "" {
		return ""
	}
	return providers.Digest("sha256:" + strings.Repeat(letter, 64))
}

// stateOf writes records to a real state file and reads it back.
func stateOf(t *testing.T, records ...statefile.Record) *statefile.State {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	fsys := statefile.OS(root)
	if len(records) > 0 {
		lock, err := statefile.AcquireLock(context.Background(), fsys, "test.state", statefile.Holder{}, statefile.LockOptions{})
		if err != nil {
			t.Fatal(err)
		}
		journal, _, err := statefile.Begin(context.Background(), lock, "test.state", statefile.RunInfo{Run: "test"}, statefile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var changes []statefile.Change
		for _, r := range records {
			changes = append(changes, statefile.Put(r))
		}
		if err := journal.Done(changes...); err != nil {
			t.Fatal(err)
		}
		if err := journal.Close(); err != nil {
			t.Fatal(err)
		}
		if err := lock.Release(); err != nil {
			t.Fatal(err)
		}
	}
	state, err := statefile.Read(fsys, "test.state")
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// oneTree is the configuration of most cases: src.example/acme to
// dst.example/m/acme.
func oneTree() config.Tree {
	tree := treeBetween("p", "src.example/acme", "dst.example/m/acme")
	tree.MaxDeletes = config.Limit{Set: true, Number: 10, Percent: true}
	tree.Lifecycle.OnRemove = "forget"
	return tree
}

func treeRecord(tree config.Tree) statefile.Record {
	return statefile.Record{
		Address: tree.Address, Kind: statefile.KindTree, Destination: tree.Destination.String(), Selection: selection(tree),
		OnRemove: onRemove(tree.Lifecycle), Protect: tree.Lifecycle.PreventDestroy,
	}
}

func tagRecord(address, digest string) statefile.Record {
	return statefile.Record{Address: address, Kind: statefile.KindTag, Digest: D(digest)}
}

// planOf compares one tree that has one repository, "api".
func planOf(t *testing.T, tree config.Tree, repo repoWorld, records ...statefile.Record) *Plan {
	t.Helper()
	repo.rel, repo.selected = "api", true
	w := &world{
		units: []unit{{address: tree.Address, tree: &tree}},
		trees: map[int]*treeWorld{0: {complete: true, repos: []repoWorld{repo}}},
	}
	return compare(Input{Config: &config.Config{Trees: []config.Tree{tree}}, State: stateOf(t, records...)}, w)
}

// lines shows a plan the way a test can compare it.
func lines(p *Plan) []string {
	var out []string
	for _, a := range p.Actions {
		out = append(out, fmt.Sprintf("%s %s %s: %s", a.Verb, a.Address, a.Cause, a.Reason))
	}
	for _, q := range p.Problems {
		kind := "failed"
		if q.Blocked {
			kind = "blocked"
		}
		if q.Guard {
			kind = "guard"
		}
		out = append(out, fmt.Sprintf("%s %s: %s", kind, q.Address, q.Summary))
	}
	return out
}

func TestThreeWay(t *testing.T) {
	const address = "tree.p/api:1"
	for _, c := range []struct {
		name                   string
		recorded, source, dest string
		overwrite              string
		fixed                  bool // at the registry
		firstTime              bool // the tree itself is not recorded yet
		want                   []string
		unchanged              int
	}{
		{name: "in sync", recorded: "a", source: "a", dest: "a", unchanged: 1},
		{name: "first time", source: "a", firstTime: true, want: []string{
			"create tree.p config: new in the configuration", "create tree.p/api:1 config: new in the configuration"}},
		{name: "new tag upstream", source: "a", want: []string{"create tree.p/api:1 upstream: new at the source"}},
		{name: "identical is adopted", source: "a", dest: "a", want: []string{"adopt tree.p/api:1 config: identical content is there already"}},
		{name: "foreign content is replaced", source: "a", dest: "b", want: []string{"update tree.p/api:1 config: replaces content that freightliner did not put there"}},
		{name: "foreign content is kept by managed", source: "a", dest: "b", overwrite: "managed", want: []string{
			`blocked tree.p/api:1: dst.example/m/acme/api:1 has bbbbbbbbbbbb, the source has aaaaaaaaaaaa, and overwrite = "managed" keeps it`}},
		{name: "never keeps even ours", recorded: "b", source: "a", dest: "b", overwrite: "never", want: []string{
			`blocked tree.p/api:1: dst.example/m/acme/api:1 has bbbbbbbbbbbb, the source has aaaaaaaaaaaa, and overwrite = "never" keeps it`}},
		{name: "the registry keeps an immutable tag", recorded: "b", source: "a", dest: "b", fixed: true, want: []string{
			`blocked tree.p/api:1: dst.example/m/acme/api:1 has bbbbbbbbbbbb, the source has aaaaaaaaaaaa, and the registry keeps it: the tag is immutable there`}},
		{name: "managed replaces ours", recorded: "b", source: "a", dest: "b", overwrite: "managed", want: []string{"update tree.p/api:1 upstream: moved at the source"}},
		{name: "moved upstream", recorded: "b", source: "a", dest: "b", want: []string{"update tree.p/api:1 upstream: moved at the source"}},
		{name: "deleted behind our back", recorded: "a", source: "a", want: []string{"create tree.p/api:1 drift: deleted at the destination"}},
		{name: "changed behind our back", recorded: "a", source: "a", dest: "c", want: []string{"update tree.p/api:1 drift: changed at the destination"}},
		{name: "both moved", recorded: "b", source: "a", dest: "c", want: []string{"update tree.p/api:1 drift: changed at the destination; the source moved too"}},
		{name: "both moved, deleted", recorded: "b", source: "a", want: []string{"create tree.p/api:1 drift: deleted at the destination; the source moved too"}},
		{name: "somebody was faster", recorded: "b", source: "a", dest: "a", want: []string{
			"adopt tree.p/api:1 upstream: the source moved, and the destination has the new content already"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := oneTree()
			if c.overwrite != "" {
				tree.Copy.Overwrite = c.overwrite
			}
			var records []statefile.Record
			if !c.firstTime {
				records = append(records, treeRecord(tree))
			}
			if c.recorded != "" {
				records = append(records, tagRecord(address, c.recorded))
			}
			p := planOf(t, tree, repoWorld{tags: []tagWorld{{tag: "1", source: D(c.source), want: D(c.source), dest: D(c.dest), fixed: c.fixed}}}, records...)
			if diff := cmp.Diff(c.want, lines(p)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			if got := p.Blocks[0].Unchanged; got != c.unchanged {
				t.Errorf("unchanged: %d, want %d", got, c.unchanged)
			}
			for i, a := range p.Actions {
				if a.Kind == statefile.KindTag && (a.Pin != D(c.source) || a.Observed != D(c.dest) || a.Prior != D(c.recorded)) {
					t.Errorf("action %d does not carry its preconditions: %+v", i, a)
				}
			}
		})
	}
}

func TestDepartedTags(t *testing.T) {
	departed := func(tag, dest string) tagWorld { return tagWorld{tag: tag, dest: D(dest)} }
	kept := tagWorld{tag: "keep", source: D("a"), want: D("a"), dest: D("a")}
	for _, c := range []struct {
		name   string
		change func(*config.Tree)
		repo   repoWorld
		want   []string
		left   int
	}{
		{name: "left alone without prune", change: func(t *config.Tree) { t.Prune = "none" },
			repo: repoWorld{tags: []tagWorld{kept}, departed: []tagWorld{departed("1", "b")}}, left: 1},
		{name: "deleted with prune", repo: repoWorld{tags: []tagWorld{kept}, departed: []tagWorld{departed("1", "b")}},
			want: []string{"delete tree.p/api:1 upstream: left the source"}},
		{name: "already gone", repo: repoWorld{tags: []tagWorld{kept}, departed: []tagWorld{departed("1", "")}},
			want: []string{"forget tree.p/api:1 upstream: left the source, and is gone at the destination"}},
		{name: "not ours any more", repo: repoWorld{tags: []tagWorld{kept}, departed: []tagWorld{departed("1", "c")}},
			want: []string{"forget tree.p/api:1 upstream: left the source, and somebody put other content at the destination"}},
		{name: "an empty listing deletes nothing", repo: repoWorld{empty: true, departed: []tagWorld{departed("1", "b")}}, left: 1,
			want: []string{"blocked tree.p/api:1: dst.example/m/acme/api:1 is kept: its source listed no tag at all"}},
		{name: "the ceiling holds", repo: repoWorld{tags: []tagWorld{kept}, departed: []tagWorld{departed("1", "b"), departed("2", "b")}},
			want: []string{
				"delete tree.p/api:1 upstream: left the source", "delete tree.p/api:2 upstream: left the source",
				"guard tree.p: 2 of 3 tags would be deleted, more than max_deletes allows (1)"}},
		{name: "protected", change: func(t *config.Tree) { t.Lifecycle.PreventDestroy = true },
			repo: repoWorld{tags: []tagWorld{kept}, departed: []tagWorld{departed("1", "b")}},
			want: []string{
				"delete tree.p/api:1 upstream: left the source",
				"guard tree.p: 1 tags would be deleted, and the block is protected (prevent_destroy)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := oneTree()
			tree.Prune = "managed"
			if c.change != nil {
				c.change(&tree)
			}
			records := []statefile.Record{treeRecord(tree), tagRecord("tree.p/api:keep", "a"), tagRecord("tree.p/api:1", "b"), tagRecord("tree.p/api:2", "b")}
			p := planOf(t, tree, c.repo, records...)
			if diff := cmp.Diff(c.want, lines(p)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			if p.Blocks[0].Left != c.left {
				t.Errorf("left: %d, want %d", p.Blocks[0].Left, c.left)
			}
		})
	}
}

func TestIncompleteListingDeletesNothing(t *testing.T) {
	tree := oneTree()
	tree.Prune = "managed"
	w := &world{
		units: []unit{{address: tree.Address, tree: &tree}},
		trees: map[int]*treeWorld{0: {repos: []repoWorld{{rel: "api", selected: true, departed: []tagWorld{{tag: "1", dest: D("b")}}}}}},
	}
	p := compare(Input{Config: &config.Config{}, State: stateOf(t, treeRecord(tree), tagRecord("tree.p/api:1", "b"))}, w)
	want := []string{"blocked tree.p: 1 tags are kept although they left the source: the source's repositories were not listed to the end"}
	if diff := cmp.Diff(want, lines(p)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

func TestTwoSourcesForOneTag(t *testing.T) {
	one, two := oneTree(), treeBetween("q", "other.example/acme", "dst.example/m/acme")
	tag := []tagWorld{{tag: "1", source: D("a"), want: D("a")}}
	w := &world{
		units: []unit{{address: one.Address, tree: &one, contested: true}, {address: two.Address, tree: &two, contested: true}},
		trees: map[int]*treeWorld{
			0: {complete: true, repos: []repoWorld{{rel: "api", tags: tag}}},
			1: {complete: true, repos: []repoWorld{{rel: "api", tags: tag}}},
		},
	}
	p := compare(Input{Config: &config.Config{}, State: stateOf(t)}, w)
	if !p.Blocked() {
		t.Error("the plan is not refused")
	}
	want := "guard tree.q: dst.example/m/acme/api:1 has two sources: src.example/acme/api:1 (tree.p) and other.example/acme/api:1 (tree.q)"
	if got := lines(p)[len(lines(p))-1]; got != want {
		t.Errorf("problem:\n got %s\nwant %s", got, want)
	}
}

func TestBytesCountOncePerRegistry(t *testing.T) {
	tree := oneTree()
	w := &world{
		units: []unit{{address: tree.Address, tree: &tree}},
		trees: map[int]*treeWorld{0: {complete: true, repos: []repoWorld{
			{rel: "api", tags: []tagWorld{{tag: "1", source: D("a"), want: D("a")}}},
			{rel: "web", tags: []tagWorld{{tag: "1", source: D("b"), want: D("b")}}},
		}}},
		contents: map[providers.Digest]*content{
			D("a"): {manifests: 1, blobs: []providers.Digest{D("1"), D("2")}},
			D("b"): {manifests: 1, blobs: []providers.Digest{D("2"), D("3"), D("4")}},
		},
		blobs:   map[providers.Digest]int64{D("1"): 1, D("2"): 20, D("3"): 300, D("4"): 4000},
		present: map[blobAt]bool{{"dst.example", D("4")}: true},
	}
	p := compare(Input{Config: &config.Config{}, State: stateOf(t)}, w)
	got := [][2]int64{}
	for _, a := range p.Actions[1:] {
		got = append(got, [2]int64{a.Bytes, a.Present})
	}
	if diff := cmp.Diff([][2]int64{{21, 0}, {300, 4020}}, got); diff != "" {
		t.Errorf("bytes to move and present (-want +got):\n%s", diff)
	}
}

func TestRemovedBlocks(t *testing.T) {
	member := func(address, digest, dest string) goneMember {
		return goneMember{record: tagRecord(address, digest), to: repositoryOf("dst.example/m/acme/api"), tag: "1", dest: D(dest)}
	}
	block := statefile.Record{Address: "tree.p", Kind: statefile.KindTree, Destination: "dst.example/m/acme"}
	for _, c := range []struct {
		name    string
		change  func(*statefile.Record)
		destroy bool
		members []goneMember
		want    []string
	}{
		{name: "forgotten by default", members: []goneMember{member("tree.p/api:1", "a", "")}, want: []string{
			"forget tree.p/api:1 config: removed from the configuration", "forget tree.p config: removed from the configuration"}},
		{name: "deleted when asked before", change: func(r *statefile.Record) { r.OnRemove = "delete" }, members: []goneMember{member("tree.p/api:1", "a", "a")}, want: []string{
			"delete tree.p/api:1 config: removed from the configuration", "forget tree.p config: removed from the configuration"}},
		{name: "other content is left alone", change: func(r *statefile.Record) { r.OnRemove = "delete" }, members: []goneMember{member("tree.p/api:1", "a", "b")}, want: []string{
			"forget tree.p/api:1 config: removed from the configuration, and somebody put other content at the destination, which is left alone",
			"forget tree.p config: removed from the configuration"}},
		{name: "destroy", destroy: true, members: []goneMember{member("tree.p/api:1", "a", "a")}, want: []string{
			"delete tree.p/api:1 config: destroy", "forget tree.p config: destroy"}},
		{name: "protection outlives the block", destroy: true, change: func(r *statefile.Record) { r.Protect = true }, members: []goneMember{member("tree.p/api:1", "a", "a")}, want: []string{
			"guard tree.p: it is protected: the state remembers prevent_destroy, also now that the block is gone"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			record := block
			if c.change != nil {
				c.change(&record)
			}
			w := &world{gone: []goneWorld{{address: "tree.p", record: record, found: true, members: c.members}}}
			p := compare(Input{Config: &config.Config{}, State: stateOf(t, record), Destroy: c.destroy}, w)
			if diff := cmp.Diff(c.want, lines(p)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}
