package planner

import (
	"fmt"
	"slices"
	"strings"

	"freightliner/config"
	"freightliner/providers"
)

// unit is a tree, an image or a secret while blocks are put in order.
type unit struct {
	address   string
	tree      *config.Tree
	image     *config.Image
	secret    *config.SecretBlock
	rng       config.Range
	dependsOn []string

	feeders   []int // units whose destination this one reads from
	read      bool  // another unit reads from its destination
	contested bool  // another unit's destination overlaps with its own
	after     []int // units named by depends_on
}

// units are the configured blocks in the order in which they are planned: a
// block comes after those that feed it and those it depends on, and else by
// address. A cycle has no order and is a diagnostic that prints it.
func units(cfg *config.Config) ([]unit, config.Diagnostics) {
	all := make([]unit, 0, len(cfg.Trees)+len(cfg.Images)+len(cfg.Secrets))
	for i := range cfg.Trees {
		t := &cfg.Trees[i]
		all = append(all, unit{address: t.Address, tree: t, rng: t.Range, dependsOn: t.DependsOn})
	}
	for i := range cfg.Images {
		m := &cfg.Images[i]
		all = append(all, unit{address: m.Address, image: m, rng: m.Range, dependsOn: m.DependsOn})
	}
	for i := range cfg.Secrets {
		s := &cfg.Secrets[i]
		all = append(all, unit{address: s.Address, secret: s, rng: s.Range, dependsOn: s.DependsOn})
	}
	slices.SortFunc(all, func(a, b unit) int { return strings.Compare(a.address, b.address) })
	linkFeeders(all)
	linkSecrets(all)
	linkDependencies(all)
	return sortUnits(cfg, all)
}

// linkFeeders finds chains: B reads from where A writes. Prefixes are looked up
// segment by segment, so that ten thousand blocks cost ten thousand look-ups
// and not their square.
func linkFeeders(all []unit) {
	written := map[string][]int{}   // a tree's destination prefix, or an image's destination with its tag
	readBelow := map[string][]int{} // a tree's source prefix
	for i, u := range all {
		if u.secret != nil {
			continue
		}
		if u.tree != nil {
			written[u.tree.Destination.String()] = append(written[u.tree.Destination.String()], i)
			readBelow[u.tree.Source.String()] = append(readBelow[u.tree.Source.String()], i)
		} else {
			to := u.image.Destination.Tag(u.image.DestinationTag)
			written[to] = append(written[to], i)
		}
	}
	feed := func(from, to int) {
		if from != to && !slices.Contains(all[to].feeders, from) {
			all[to].feeders = append(all[to].feeders, from)
			all[from].read = true
		}
	}
	contest := func(a, b int) {
		if a != b {
			all[a].contested, all[b].contested = true, true
		}
	}
	for i, u := range all {
		if u.secret != nil {
			continue
		}
		source, destination := u.places()
		for _, prefix := range prefixes(source) { // somebody writes a tree at or above what we read
			for _, from := range written[prefix] {
				feed(from, i)
			}
		}
		if u.image != nil && u.image.SourceTag != "" {
			for _, from := range written[source.Tag(u.image.SourceTag)] {
				feed(from, i)
			}
		}
		for _, prefix := range prefixes(destination) { // somebody reads a tree at or above what we write
			for _, to := range readBelow[prefix] {
				feed(i, to)
			}
			for _, other := range written[prefix] {
				contest(i, other)
			}
		}
	}
	for i := range all {
		slices.Sort(all[i].feeders)
	}
	for _, same := range written { // two images with one destination tag
		for _, other := range same[1:] {
			contest(same[0], other)
		}
	}
}

func (u unit) places() (source, destination providers.Repository) {
	if u.tree != nil {
		return u.tree.Source, u.tree.Destination
	}
	return u.image.Source, u.image.Destination
}

// prefixes are r and all that contain it: host/a/b, host/a, host.
func prefixes(r providers.Repository) []string {
	out := []string{r.String()}
	for r.Path != "" {
		r.Path = r.Path[:max(strings.LastIndexByte(r.Path, '/'), 0)]
		out = append(out, r.String())
	}
	return out
}

func linkDependencies(all []unit) {
	byName := map[string][]int{}
	for i, u := range all {
		name, _, _ := strings.Cut(u.address, "[")
		byName[name] = append(byName[name], i)
	}
	for i, u := range all {
		for _, name := range u.dependsOn {
			all[i].after = append(all[i].after, byName[name]...)
		}
		slices.Sort(all[i].after)
	}
}

// sortUnits is a depth-first topological sort that keeps address order among
// the independent.
func sortUnits(cfg *config.Config, all []unit) ([]unit, config.Diagnostics) {
	const (
		unseen = iota
		open
		closed
	)
	var (
		diags    config.Diagnostics
		mark     = make([]int, len(all))
		position = make([]int, len(all)) // old index to new
		sorted   []unit
		path     []int
	)
	var visit func(i int)
	visit = func(i int) {
		if mark[i] == closed {
			return
		}
		if mark[i] == open {
			diags = append(diags, cycle(cfg, all, path[slices.Index(path, i):]))
			return
		}
		mark[i] = open
		path = append(path, i)
		for _, before := range all[i].feeders {
			visit(before)
		}
		for _, before := range all[i].after {
			visit(before)
		}
		path = path[:len(path)-1]
		mark[i] = closed
		position[i] = len(sorted)
		sorted = append(sorted, all[i])
	}
	for i := range all {
		visit(i)
	}
	for i := range sorted {
		sorted[i].feeders = moved(sorted[i].feeders, position)
		sorted[i].after = moved(sorted[i].after, position)
	}
	return sorted, diags
}

func moved(old, position []int) []int {
	out := make([]int, len(old))
	for i, o := range old {
		out[i] = position[o]
	}
	return out
}

// cycle names the blocks of a cycle. path runs against the flow: each entry is
// fed by, or waits for, the next.
func cycle(cfg *config.Config, all []unit, path []int) config.Diagnostic {
	var names []string
	for _, i := range path {
		names = append(names, all[i].address)
	}
	names = append(names, names[0])
	slices.Reverse(names)
	first := all[path[0]]
	return config.Diagnostic{
		Summary: "blocks feed each other in a cycle",
		Detail: fmt.Sprintf("Each of these writes where the next one reads, or must come before it: %s. There is no order in which they could be applied.",
			strings.Join(names, " -> ")),
		Hint:    "Give one of them another destination or source, or remove a depends_on.",
		Range:   first.rng,
		Excerpt: excerpt(cfg, first.rng),
	}
}

// excerpt is the source line that r starts on.
func excerpt(cfg *config.Config, r config.Range) string {
	lines := strings.Split(string(cfg.Sources[r.File]), "\n")
	if r.StartLine < 1 || r.StartLine > len(lines) {
		return ""
	}
	return strings.TrimRight(lines[r.StartLine-1], "\r")
}

// crossCheck finds the mistakes that only several blocks together show.
func crossCheck(cfg *config.Config) config.Diagnostics {
	_, diags := units(cfg)
	return diags
}
