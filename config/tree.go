package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/bmatcuk/doublestar/v4"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"freightliner/providers"
)

// placed is a tree, image or secret block, read but not yet expanded.
type placed struct {
	address string
	scope   *scope
	depends []string
}

func (l *loader) loadPlaced(trees, images, secrets hcl.Blocks) {
	blocks := map[string]*placed{}
	treeBlocks := l.declarePlaced("tree", treeBlock, trees, blocks)
	imageBlocks := l.declarePlaced("image", imageBlock, images, blocks)
	secretBlocks := l.declarePlaced("secret", secretBlock, secrets, blocks)
	l.readDependencies(blocks)
	for _, p := range treeBlocks {
		l.expand(p, func(address string, s *scope) { l.tree(address, s, p.depends) })
	}
	for _, p := range imageBlocks {
		l.expand(p, func(address string, s *scope) { l.image(address, s, p.depends) })
	}
	for _, p := range secretBlocks {
		l.expand(p, func(address string, s *scope) { l.secret(address, s, p.depends) })
	}
	l.onePlacePerSecret()
	slices.SortFunc(l.config.Secrets, func(a, b SecretBlock) int { return strings.Compare(a.Address, b.Address) })
	slices.SortFunc(l.config.Trees, func(a, b Tree) int { return strings.Compare(a.Address, b.Address) })
	slices.SortFunc(l.config.Images, func(a, b Image) int { return strings.Compare(a.Address, b.Address) })
}

func (l *loader) declarePlaced(word string, kind *blockType, blocks hcl.Blocks, all map[string]*placed) []*placed {
	var list []*placed
	for _, block := range blocks {
		address := word + "." + block.Labels[0]
		if earlier := all[address]; earlier != nil {
			l.found.errorAt(block.DefRange, fmt.Sprintf("second %s %q", word, block.Labels[0]), fmt.Sprintf("The first is at %s.", rangeOf(earlier.scope.at)), "")
			continue
		}
		if !l.goodName(block) {
			continue
		}
		p := &placed{address: address, scope: l.scope(kind, block, nil)}
		all[address] = p
		list = append(list, p)
	}
	return list
}

// readDependencies reads every depends_on and refuses cycles among them.
func (l *loader) readDependencies(blocks map[string]*placed) {
	addresses := slices.Sorted(maps.Keys(blocks))
	for _, address := range addresses {
		p := blocks[address]
		attr := p.scope.content.Attributes["depends_on"]
		if attr == nil {
			continue
		}
		expr, ok := l.static(attr.Expr)
		if !ok {
			continue
		}
		items, diags := hcl.ExprList(expr)
		if diags.HasErrors() {
			l.found.errorAt(attr.Expr.Range(), "depends_on must be a list of blocks", "", "write something like [tree.base, image.tools]")
			continue
		}
		for _, item := range items {
			if name, ok := l.dependency(item, blocks, addresses); ok {
				p.depends = append(p.depends, name)
			}
		}
		slices.Sort(p.depends)
		p.depends = slices.Compact(p.depends)
	}
	l.dependencyCycles(blocks, addresses)
}

func (l *loader) dependency(item hcl.Expression, blocks map[string]*placed, known []string) (string, bool) {
	traversal, diags := hcl.AbsTraversalForExpr(item)
	if !diags.HasErrors() && len(traversal) == 2 {
		if step, ok := traversal[1].(hcl.TraverseAttr); ok {
			address := traversal.RootName() + "." + step.Name
			if blocks[address] != nil {
				return address, true
			}
			if l.incomplete {
				return "", false
			}
			l.found.errorAt(item.Range(), fmt.Sprintf("unknown block %s", address), "", l.found.didYouMean(address, "", known))
			return "", false
		}
	}
	l.found.errorAt(item.Range(), "depends_on names whole blocks", "An entry is tree.NAME, image.NAME or secret.NAME, without an instance key and without quotes.", "")
	return "", false
}

func (l *loader) dependencyCycles(blocks map[string]*placed, addresses []string) {
	const (
		unseen = iota
		open
		closed
	)
	state := map[string]int{}
	// An explicit stack: the length of a chain is only bounded by the number of blocks.
	for _, start := range addresses {
		type frame struct {
			address string
			next    int
		}
		if state[start] != unseen {
			continue
		}
		stack := []frame{{start, 0}}
		state[start] = open
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			p := blocks[top.address]
			if top.next == len(p.depends) {
				state[top.address] = closed
				stack = stack[:len(stack)-1]
				continue
			}
			to := p.depends[top.next]
			top.next++
			switch state[to] {
			case unseen:
				state[to] = open
				stack = append(stack, frame{to, 0})
			case open:
				var ring []string
				for i := len(stack) - 1; ; i-- {
					ring = append(ring, stack[i].address)
					if stack[i].address == to {
						break
					}
				}
				slices.Reverse(ring)
				l.found.errorAt(blocks[to].scope.place("depends_on"), "cycle of depends_on", fmt.Sprintf("Each of these waits for the next: %s.", strings.Join(append(ring, to), " -> ")), "")
			}
		}
	}
}

// expand calls build for each instance of a block. Instances that can not be
// known because for_each is wrong are left out; their mistake has been reported.
func (l *loader) expand(p *placed, build func(address string, s *scope)) {
	if !p.scope.has("for_each") {
		build(p.address, p.scope)
		return
	}
	at := p.scope.place("for_each")
	v, ok := p.scope.evaluate("for_each")
	if !ok || !l.open(v, at, "for_each") || !v.IsWhollyKnown() {
		return
	}
	ty := v.Type()
	isSet := ty.IsSetType() && ty.ElementType() == cty.String
	switch {
	case v.IsNull():
		l.found.errorAt(at, "for_each is null", "It must be a map or a set of text; an empty one makes no instance.", "")
		return
	case ty.IsTupleType() || ty.IsListType():
		l.found.errorAt(at, "for_each must be a map or a set of text", "A list has no keys to name the instances by.", "did you mean `toset(…)`?")
		return
	case ty.IsSetType() && v.LengthInt() == 0:
		return
	case !ty.IsMapType() && !ty.IsObjectType() && !isSet:
		l.found.errorAt(at, "for_each must be a map or a set of text", fmt.Sprintf("This is %s.", article(friendlyType(ty))), "")
		return
	}
	if v.LengthInt() > maxInstances {
		l.found.errorAt(at, "too many instances", fmt.Sprintf("for_each may have %d elements.", maxInstances), "")
		return
	}
	for it := v.ElementIterator(); it.Next(); {
		key, element := it.Element()
		if isSet {
			key = element
		}
		if !l.goodKey(key, at) {
			continue
		}
		build(fmt.Sprintf("%s[%q]", p.address, key.AsString()), p.scope.instance(key.AsString(), element))
	}
}

// goodKey refuses keys that could not stand in an address on one line.
func (l *loader) goodKey(key cty.Value, at hcl.Range) bool {
	detail := ""
	switch {
	case key.IsNull():
		detail = "It is null."
	case key.AsString() == "":
		detail = "It is empty."
	case len(key.AsString()) > maxKey:
		detail = fmt.Sprintf("It may have %d bytes.", maxKey)
	case providers.Printable(key.AsString(), 1<<20) != key.AsString():
		detail = "It has characters that can not be seen."
	default:
		return true
	}
	l.found.errorAt(at, "bad key in for_each", detail, "")
	return false
}

// tree reads one tree or one instance of it.
func (l *loader) tree(address string, s *scope, depends []string) {
	t := Tree{Address: address, DependsOn: depends, Range: rangeOf(s.at)}
	source, sourceOK := s.prefix("source")
	destination, destinationOK := s.prefix("destination")
	t.Source, t.Destination = source, destination
	if sourceOK && destinationOK {
		l.refuseSelf(s, source, destination)
	}
	if inner := s.inner("repositories"); inner != nil {
		t.Repositories = inner.repositoryFilter()
	}
	if inner := s.inner("tags"); inner != nil {
		t.Tags = inner.tagFilter()
	}
	t.Copy = s.copyOptions()
	t.Prune = s.oneOf("prune", prunes, "none")
	t.MaxDeletes = l.config.Defaults.MaxDeletes
	t.Lifecycle = s.lifecycle()
	if inner := s.inner("lifecycle"); inner != nil {
		if limit, ok := inner.limit("max_deletes"); ok {
			t.MaxDeletes = limit
		}
	}
	l.config.Trees = append(l.config.Trees, t)
}

// refuseSelf refuses a tree that would find its own copies at its source: each
// run would copy them again, one level deeper.
func (l *loader) refuseSelf(s *scope, source, destination providers.Repository) {
	if !destination.Under(source) {
		return
	}
	detail := fmt.Sprintf("The destination %s lies below the source %s (at %s), so every run would mirror its own copies.", destination, source, rangeOf(s.place("source")))
	if source == destination {
		detail = fmt.Sprintf("Source (at %s) and destination are both %s.", rangeOf(s.place("source")), source)
	}
	l.found.errorAt(s.place("destination"), "tree mirrors into itself", detail, "")
}

// prefix reads an end of a tree.
func (s *scope) prefix(name string) (providers.Repository, bool) {
	text, at, ok := s.text(name)
	if !ok {
		return providers.Repository{}, false
	}
	place, err := parsePlace(text)
	if err != nil {
		s.l.found.errorAt(at, "bad "+name, sentence(err.Error()), hintOf(err))
		return providers.Repository{}, false
	}
	return place, true
}

func (s *scope) repositoryFilter() RepositoryFilter {
	f := RepositoryFilter{Include: s.globs("include"), Exclude: s.globs("exclude")}
	names, at, ok := s.texts("names")
	if !ok {
		return f
	}
	if s.has("include") || s.has("exclude") {
		s.l.found.errorAt(at, "names excludes include and exclude", "An explicit list is taken as it is.", "remove names, or include and exclude")
	}
	if len(names) == 0 {
		s.l.found.errorAt(at, "names is empty", "It would select nothing.", "")
	}
	for _, name := range names {
		if err := parsePath(name); err != nil {
			s.l.found.errorAt(at, "bad repository name in names", sentence(err.Error()), hintOf(err))
		}
	}
	f.Names = names
	return f
}

// globs reads a list of patterns. An empty include would select nothing, which
// nobody means.
func (s *scope) globs(name string) []string {
	list, at, ok := s.texts(name)
	if !ok {
		return nil
	}
	if name == "include" && len(list) == 0 {
		s.l.found.errorAt(at, "include is empty", "It would select nothing.", "remove it to select everything")
	}
	for _, pattern := range list {
		if pattern == "" || len(pattern) > 1000 || !doublestar.ValidatePattern(pattern) {
			s.l.found.errorAt(at, fmt.Sprintf("bad glob %q in %s", providers.Printable(pattern, 80), name),
				"A glob has * and ?, [a-z] and {a,b}, and ** across path segments; brackets must be closed.", "")
		}
	}
	return list
}

func (s *scope) tagFilter() TagFilter {
	f := TagFilter{Include: s.globs("include"), Exclude: s.globs("exclude")}
	if text, at, ok := s.text("match"); ok {
		f.Match = text
		if _, _, err := compileRegex(text); err != nil {
			s.l.found.errorAt(at, "bad regular expression in match", sentence(strings.TrimPrefix(err.Error(), "error parsing regexp: ")), "the syntax is that of RE2: https://github.com/google/re2/wiki/Syntax")
		}
	}
	if text, at, ok := s.text("semver"); ok {
		f.Semver = text
		_, err := semver.NewConstraint(text)
		if err != nil || len(text) > 1000 {
			s.l.found.errorAt(at, "bad version constraint in semver", fmt.Sprintf("%q is no list of version constraints.", providers.Printable(text, 80)), "write something like `>= 1.20.0, < 2`")
		}
	}
	if n, ok := s.integer("newest", 1, 1_000_000); ok {
		f.Newest = int(n)
	}
	return f
}

func (s *scope) copyOptions() CopyOptions {
	o := CopyOptions{Referrers: s.boolean("referrers", true), Overwrite: s.oneOf("overwrite", overwrites, "always")}
	list, at, ok := s.texts("platforms")
	if ok && len(list) == 0 {
		s.l.found.errorAt(at, "platforms is empty", "It would copy nothing.", "remove it to copy all platforms")
	}
	for _, text := range list {
		p, err := providers.ParsePlatform(text)
		if err != nil {
			s.l.found.errorAt(at, "bad platform", sentence(err.Error()), "")
			continue
		}
		if slices.Contains(o.Platforms, p) {
			s.l.found.errorAt(at, "platform written twice", fmt.Sprintf("%s is there already.", p), "")
			continue
		}
		o.Platforms = append(o.Platforms, p)
	}
	return o
}

func (s *scope) lifecycle() Lifecycle {
	c := Lifecycle{OnRemove: "forget"}
	if inner := s.inner("lifecycle"); inner != nil {
		c.PreventDestroy = inner.boolean("prevent_destroy", false)
		c.OnRemove = inner.oneOf("on_remove", removals, "forget")
	}
	return c
}

// image reads one image or one instance of it.
func (l *loader) image(address string, s *scope, depends []string) {
	m := Image{Address: address, DependsOn: depends, Range: rangeOf(s.at), Copy: s.copyOptions(), Lifecycle: s.lifecycle()}
	sourceOK, destinationOK := false, false
	if text, at, ok := s.text("source"); ok {
		sourceOK = s.l.imageSource(&m, text, at)
	}
	if text, at, ok := s.text("destination"); ok {
		destinationOK = s.l.imageDestination(&m, text, at)
	}
	if sourceOK && destinationOK && m.Source == m.Destination && m.SourceTag == m.DestinationTag {
		l.found.errorAt(s.place("destination"), "image is copied onto itself",
			fmt.Sprintf("Source (at %s) and destination are both %s.", rangeOf(s.place("source")), m.Destination.Tag(m.DestinationTag)), "")
	}
	l.config.Images = append(l.config.Images, m)
}

func (l *loader) imageSource(m *Image, text string, at hcl.Range) bool {
	var err error
	m.Source, m.SourceTag, m.SourceDigest, err = parseImage(text)
	switch {
	case err != nil:
		l.found.errorAt(at, "bad source", sentence(err.Error()), hintOf(err))
		return false
	case m.SourceTag == "" && m.SourceDigest == "":
		l.found.errorAt(at, "source has no tag and no digest", "An image is one reference, not a repository.", fmt.Sprintf("did you mean `%s`?", m.Source.Tag("latest")))
		return false
	}
	return true
}

func (l *loader) imageDestination(m *Image, text string, at hcl.Range) bool {
	repository, tag, digest, err := parseImage(text)
	m.Destination, m.DestinationTag = repository, tag
	switch {
	case err != nil:
		l.found.errorAt(at, "bad destination", sentence(err.Error()), hintOf(err))
		return false
	case digest != "":
		l.found.errorAt(at, "destination has a digest", "The destination is a tag; what it will point at is decided by the source.", "")
		return false
	case tag == "":
		hint := ""
		if m.SourceTag != "" {
			hint = fmt.Sprintf("did you mean `%s`?", repository.Tag(m.SourceTag))
		}
		l.found.errorAt(at, "destination has no tag", "An image is copied to one tag.", hint)
		return false
	}
	return true
}
