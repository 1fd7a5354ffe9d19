package statefile_test

import (
	"context"
	"os"
	"testing"

	. "freightliner/statefile"
)

func TestSmoke(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	fsys := OS(root)
	lock, err := AcquireLock(context.Background(), fsys, "freightliner.state", Holder{Host: "h", PID: 1}, LockOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		j, s, err := Begin(context.Background(), lock, "freightliner.state", RunInfo{Run: "r1"}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(s.Len(), s.ID())
		if i == 0 {
			if err := j.Done(Put(Record{Address: "tree.a", Kind: KindTree, Destination: "x/y"}), Put(Record{Address: `tree.a["eu"]/x`, Kind: KindRepo, Created: true})); err != nil {
				t.Fatal(err)
			}
			if err := j.Intent("tree.a", "do", ""); err != nil {
				t.Fatal(err)
			}
			b, _ := root.ReadFile("freightliner.state")
			t.Logf("%s", b)
			if err := j.Done(Put(Record{Address: "tree.a", Kind: KindTree, Destination: "x/z"})); err != nil {
				t.Fatal(err)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		b, _ := root.ReadFile("freightliner.state")
		t.Logf("%s", b)
		t.Log(j.Notes())
	}
}
