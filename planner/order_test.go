package planner

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/config"
)

func treeBetween(name, source, destination string, after ...string) config.Tree {
	return config.Tree{
		Address: "tree." + name, Source: repositoryOf(source), Destination: repositoryOf(destination), DependsOn: after,
		Prune: "none", Copy: config.CopyOptions{Overwrite: "always"},
	}
}

func TestChainsAreOrdered(t *testing.T) {
	cfg := &config.Config{
		Trees: []config.Tree{
			treeBetween("a", "mid.example/team", "end.example/x"),
			treeBetween("b", "far.example", "mid.example/team/deep"),
			treeBetween("c", "far.example", "mid.example/team-b"), // not below "team"
			treeBetween("d", "far.example", "else.example", "tree.a"),
		},
	}
	sorted, diags := units(cfg)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	var got []string
	for _, u := range sorted {
		line := u.address
		for _, f := range u.feeders {
			line += " fed by " + sorted[f].address
		}
		for _, f := range u.after {
			line += " after " + sorted[f].address
		}
		got = append(got, line)
	}
	want := []string{"tree.b", "tree.a fed by tree.b", "tree.c", "tree.d after tree.a"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestCycleIsPrinted(t *testing.T) {
	cfg := &config.Config{
		Trees: []config.Tree{
			treeBetween("a", "one.example/x", "two.example/x"),
			treeBetween("b", "two.example/x/deep", "three.example"),
			treeBetween("c", "three.example/y", "one.example"),
		},
		Sources: map[string][]byte{},
	}
	_, diags := units(cfg)
	if len(diags) != 1 || !strings.Contains(diags[0].Detail, "tree.a -> tree.b -> tree.c -> tree.a") &&
		!strings.Contains(diags[0].Detail, "tree.b -> tree.c -> tree.a -> tree.b") {
		t.Fatalf("want one diagnostic that prints the cycle, got %+v", diags)
	}
}

func TestManyImagesAreOrderedQuickly(t *testing.T) {
	cfg := &config.Config{}
	for i := range 20000 {
		name := strings.Repeat("x", i%50) + string(rune('a'+i%26))
		cfg.Images = append(cfg.Images, config.Image{
			Address: "image." + name, Source: repositoryOf("far.example/" + name), SourceTag: "1",
			Destination: repositoryOf("near.example/" + name), DestinationTag: "1",
		})
	}
	if _, diags := units(cfg); len(diags) > 0 {
		t.Fatal(diags)
	}
}
