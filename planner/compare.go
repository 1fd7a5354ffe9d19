package planner

import (
	"fmt"
	"slices"

	"freightliner/config"
	"freightliner/providers"
	"freightliner/statefile"
)

// builder collects a Plan. compare is a pure function of its inputs; builder is
// only its scratch paper.
type builder struct {
	in     Input
	filter filter
	world  *world
	plan   *Plan

	owner map[string]claim // by destination "host/path:tag", where destinations overlap
	write map[string]int   // destination "host/path:tag" -> index of the action that writes it, where a chain reads it
	moved map[blobAt]bool
}

// claim is who writes a destination tag, and from where.
type claim struct{ address, source string }

// compare is the heart of the plan: desired (configuration applied to the
// source), prior (state) and observed (destination) for every tag.
func compare(in Input, w *world) *Plan {
	b := &builder{
		in: in, filter: newFilter(in.Targets, in.Exclude), world: w,
		plan:  &Plan{Destroy: in.Destroy},
		owner: map[string]claim{}, write: map[string]int{}, moved: map[blobAt]bool{},
	}
	if in.State.Exists() {
		b.plan.State = in.State.ID()
	}
	for i, u := range w.units {
		if u.tree != nil {
			b.tree(i, u)
		} else {
			b.image(i, u)
		}
	}
	for _, g := range w.gone {
		b.gone(g)
	}
	b.registries()
	return b.plan
}

// block opens a block of the plan.
func (b *builder) block(block Block) int {
	b.plan.Blocks = append(b.plan.Blocks, block)
	return len(b.plan.Blocks) - 1
}

// act appends an action and returns its index.
func (b *builder) act(a Action) int {
	b.plan.Actions = append(b.plan.Actions, a)
	return len(b.plan.Actions) - 1
}

func (b *builder) problem(p Problem) { b.plan.Problems = append(b.plan.Problems, p) }

func (b *builder) failed(address string, err error, rng config.Range) {
	b.problem(Problem{Address: address, Class: providers.ClassOf(err), Summary: err.Error(), Hint: providers.HintOf(err), Range: rng})
}

func (b *builder) tree(index int, u unit) {
	t, w := u.tree, b.world.trees[index]
	block := b.block(Block{
		Address: t.Address, Kind: statefile.KindTree, Source: t.Source.String(), Destination: t.Destination.String(),
		Copy: t.Copy, OnRemove: onRemove(t.Lifecycle), Protect: t.Lifecycle.PreventDestroy,
		Selection: selection(*t), After: u.after,
	})
	if w.err != nil {
		b.failed(t.Address, w.err, t.Range)
		return
	}
	if len(w.repos) == 0 && !b.filter.wants(t.Address) {
		return
	}
	if w.empty {
		b.problem(Problem{
			Address: t.Address, Class: providers.NotFound, Blocked: true, Range: t.Range,
			Summary: fmt.Sprintf("no repository was found below %s", t.Source),
			Hint:    "An empty listing often means that the credentials may not list. Nothing is deleted because of it. Name the repositories with repositories { names = [...] } where the registry does not list them.",
		})
	}
	side := &treeSide{builder: b, unit: index, tree: t, block: block}
	side.prior, side.known = b.in.State.Lookup(t.Address)
	side.record()
	for i := range w.repos {
		side.repository(&w.repos[i])
	}
	side.prune(w)
}

// treeSide compares one tree.
type treeSide struct {
	*builder
	unit      int
	tree      *config.Tree
	block     int
	prior     statefile.Record
	known     bool  // the block has a record
	needs     []int // what every action of the block needs: the block's own action
	elsewhere bool  // the recorded destination is another one: the records below say nothing about this one
	managed   int   // tags that we have recorded
	deletes   []Action
}

// record plans the block's own record: where it goes, what it selects, how it
// is protected. It comes before everything else in the block, so that what the
// other records mean is never in doubt.
func (s *treeSide) record() {
	b := s.plan.Blocks[s.block]
	want := statefile.Record{
		Address: b.Address, Kind: statefile.KindTree, Destination: b.Destination,
		Selection: b.Selection, OnRemove: b.OnRemove, Protect: b.Protect,
	}
	if s.known && s.prior == want {
		return
	}
	a := Action{Address: b.Address, Kind: statefile.KindTree, Verb: Create, Cause: ByConfig, Reason: "new in the configuration", Block: s.block}
	if s.known {
		a.Verb, a.Reason = Update, changedRules(s.prior, want)
		s.elsewhere = s.prior.Destination != want.Destination
	}
	s.needs = []int{s.act(a)}
}

// changedRules says which rules of a block changed.
func changedRules(prior, want statefile.Record) string {
	switch {
	case prior.Destination != want.Destination:
		return "its destination was " + prior.Destination + "; what is there is left alone"
	case prior.Selection != want.Selection:
		return "what it selects changed"
	}
	return "its lifecycle rules changed"
}

func (s *treeSide) repository(w *repoWorld) {
	address := repoAddress(s.tree.Address, w.rel)
	if w.err != nil {
		s.failed(address, w.err, s.tree.Range)
		return
	}
	var copies []int
	for i := range w.tags {
		copies = s.tag(w, &w.tags[i], copies)
	}
	for i := range w.departed {
		s.departed(w, &w.departed[i], copies)
	}
}

func (s *treeSide) tag(repo *repoWorld, w *tagWorld, copies []int) []int {
	address := tagAddress(s.tree.Address, repo.rel, w.tag)
	record, recorded := s.lookup(address)
	if recorded {
		s.managed++
	}
	if w.err != nil {
		s.failed(address, w.err, s.tree.Range)
		return copies
	}
	from, to := s.tree.Source.Join(repo.rel), s.tree.Destination.Join(repo.rel)
	if !s.claim(s.unit, to, w.tag, from.Tag(w.tag)) {
		return copies
	}
	a := Action{
		Address: address, Kind: statefile.KindTag, Block: s.block,
		From: from, FromTag: w.tag, To: to, ToTag: w.tag, Fresh: repo.fresh, Needs: s.needs,
	}
	i := s.decide(a, w, decision{
		record: record, recorded: recorded, news: s.known && s.prior.Selection == s.plan.Blocks[s.block].Selection,
		copy: s.tree.Copy, rng: s.tree.Range, read: s.world.units[s.unit].read,
	})
	if i >= 0 && s.plan.Actions[i].Verb != Adopt {
		copies = append(copies, i)
	}
	return s.referrers(repoAddress(s.tree.Address, repo.rel), a, w, i, copies)
}

// lookup is the record of an address, unless the block has moved to another
// destination: then what is recorded speaks of the old one.
func (s *treeSide) lookup(address string) (statefile.Record, bool) {
	if s.elsewhere {
		return statefile.Record{}, false
	}
	return s.in.State.Lookup(address)
}

// claim reserves a destination tag. Two sources for one tag would overwrite
// each other for ever, so the second is refused and both are named.
func (b *builder) claim(unit int, to providers.Repository, tag, source string) bool {
	u := b.world.units[unit]
	if !u.contested {
		return true // nobody else writes there: a million tags need no table
	}
	destination := to.Tag(tag)
	first, taken := b.owner[destination]
	if !taken {
		b.owner[destination] = claim{u.address, source}
		return true
	}
	b.problem(Problem{
		Address: u.address, Class: providers.Invalid, Guard: true, Range: u.rng,
		Summary: fmt.Sprintf("%s has two sources: %s (%s) and %s (%s)", destination, first.source, first.address, source, u.address),
		Hint:    "Give one of the blocks another destination, or exclude the repository or tag from one of them.",
	})
	return false
}

// decision is what decide needs besides the tag itself.
type decision struct {
	record   statefile.Record
	recorded bool
	news     bool // what is selected did not change: something unknown is news from the source
	copy     config.CopyOptions
	rng      config.Range
	read     bool // another block reads the destination
	rules    bool // the record's lifecycle rules have to change too
}

// decide compares one destination tag. It returns the index of the action that
// it planned, or -1 where there is nothing to do.
//
// Why this cannot lose data: it never deletes; it overwrites only content that
// is not what the source has, only with what was read at the source, and not at
// all where overwrite forbids it. The action carries Observed, and the executor
// acts only while the destination still has exactly that.
func (b *builder) decide(a Action, w *tagWorld, d decision) int {
	a.Pin, a.Want, a.Observed = w.source, w.want, w.dest
	if d.recorded {
		a.Prior = d.record.Digest
	}
	if w.dest == w.want {
		return b.settled(a, d)
	}
	a.Cause, a.Reason = why(w, d)
	switch {
	case w.dest == "":
		a.Verb = Create
	case d.copy.Overwrite == "never", d.copy.Overwrite == "managed" && !d.recorded:
		b.problem(Problem{
			Address: a.Address, Class: providers.Conflict, Blocked: true, Range: d.rng,
			Summary: fmt.Sprintf("%s has %s, the source has %s, and overwrite = %q keeps it", a.To.Tag(a.ToTag), w.dest.Short(), w.want.Short(), d.copy.Overwrite),
		})
		return -1
	default:
		a.Verb = Update
	}
	if w.nearby {
		a.Verb, a.Requests = Retag, 2
	} else {
		b.weigh(&a)
	}
	if w.feeder {
		if from, ok := b.write[a.From.Tag(a.FromTag)]; ok {
			a.Needs = append(slices.Clone(a.Needs), from)
		}
	}
	i := b.act(a)
	if d.read {
		b.write[a.To.Tag(a.ToTag)] = i
	}
	return i
}

// settled is decide for a destination that has what it should have.
func (b *builder) settled(a Action, d decision) int {
	if d.recorded && d.record.Digest == a.Want && sourceOf(d.record) == a.Pin && d.record.Selection == selectionOf(a, d.copy) && !d.rules {
		b.plan.Blocks[a.Block].Unchanged++
		return -1
	}
	a.Verb, a.Cause, a.Reason = Adopt, ByConfig, "identical content is there already"
	if d.recorded {
		a.Cause, a.Reason = ByUpstream, "the source moved, and the destination has the new content already"
		if d.record.Digest == a.Want {
			a.Cause, a.Reason = ByConfig, "only what is recorded of it changes"
		}
	}
	return b.act(a)
}

// selectionOf is the platform selection as it is recorded: only where it made
// another digest, or where it had to be applied to find that it does not.
func selectionOf(_ Action, c config.CopyOptions) string { return platforms(c) }

// why is the cause of a difference between destination and source.
func why(w *tagWorld, d decision) (Cause, string) {
	moved := d.recorded && sourceOf(d.record) != w.source
	switch {
	case !d.recorded && w.dest != "":
		return ByConfig, "replaces content that freightliner did not put there"
	case !d.recorded && d.news:
		return ByUpstream, "new at the source"
	case !d.recorded:
		return ByConfig, "new in the configuration"
	case w.dest == "" && moved:
		return ByDrift, "deleted at the destination; the source moved too"
	case w.dest == "":
		return ByDrift, "deleted at the destination"
	case w.dest != d.record.Digest && moved:
		return ByDrift, "changed at the destination; the source moved too"
	case w.dest != d.record.Digest:
		return ByDrift, "changed at the destination"
	case moved:
		return ByUpstream, "moved at the source"
	}
	return ByConfig, "the platforms selected changed"
}

// weigh fills in the bytes of a copy. A blob counts once per destination
// registry, at the first action that needs it; everywhere else it is mounted.
func (b *builder) weigh(a *Action) {
	content := b.world.contents[a.Want]
	if content == nil {
		return
	}
	a.Requests = 2 * content.manifests // each is read and written
	for _, digest := range content.blobs {
		at := blobAt{a.To.Host, digest}
		size := b.world.blobs[digest]
		if b.moved[at] || b.world.present[at] || a.From.Host == a.To.Host {
			a.Present += size
			a.Requests++ // the mount, or the look
			continue
		}
		b.moved[at] = true
		a.Bytes += size
		a.Requests += 3 // read, open the upload, finish it
	}
}

// referrers plans what refers to the content of a tag. parent is the address
// below which they are recorded; i is the tag's own action, or -1.
func (b *builder) referrers(parent string, tag Action, w *tagWorld, i int, copies []int) []int {
	for _, subject := range w.subject {
		address := subjectAddress(parent, subject.digest)
		record, recorded := b.in.State.Lookup(address)
		want := fingerprint(subject.referrers)
		if subject.present && recorded && record.Digest == want {
			continue
		}
		if slices.ContainsFunc(copies, func(j int) bool { return b.plan.Actions[j].Address == address }) {
			continue // two tags share the subject
		}
		a := Action{
			Address: address, Kind: statefile.KindReferrers, Verb: Create, Cause: ByUpstream, Reason: "attached at the source",
			Block: tag.Block, From: tag.From, To: tag.To, Pin: want, Want: want, Prior: record.Digest,
			Referrers: subject.referrers, Fresh: tag.Fresh, Needs: tag.Needs,
		}
		switch {
		case i >= 0 && b.plan.Actions[i].Verb != Adopt:
			a.Cause, a.Reason, a.Needs = b.plan.Actions[i].Cause, "goes with its image", []int{i}
		case subject.present:
			a.Verb, a.Reason = Adopt, "identical content is there already"
		case recorded && record.Digest == want:
			a.Cause, a.Reason = ByDrift, "deleted at the destination"
		}
		if recorded && a.Verb == Create {
			a.Verb = Update
		}
		if a.Verb != Adopt {
			a.Requests = 3 * len(a.Referrers)
		}
		copies = append(copies, b.act(a))
	}
	return copies
}

// departed compares a tag that we made and that is no longer selected.
//
// Why the delete it may plan cannot lose data that is not ours: it needs
// prune = "managed", a record of our own, a destination that still has exactly
// the recorded digest, and a listing of the source that ran to its end and was
// not empty. The ceiling on deletes is checked over the whole tree in prune,
// and the executor checks the digest once more just before it deletes.
func (s *treeSide) departed(repo *repoWorld, w *tagWorld, copies []int) {
	address := tagAddress(s.tree.Address, repo.rel, w.tag)
	record, recorded := s.lookup(address)
	if !recorded {
		return
	}
	s.managed++
	if s.tree.Prune != "managed" {
		s.plan.Blocks[s.block].Left++
		return
	}
	if w.err != nil {
		s.failed(address, w.err, s.tree.Range)
		return
	}
	to := s.tree.Destination.Join(repo.rel)
	a := Action{
		Address: address, Kind: statefile.KindTag, Block: s.block, Cause: ByUpstream, Reason: "left the source",
		To: to, ToTag: w.tag, Observed: w.dest, Prior: record.Digest, Needs: slices.Concat(s.needs, copies),
	}
	if s.known && s.prior.Selection != s.plan.Blocks[s.block].Selection {
		a.Cause, a.Reason = ByConfig, "no longer selected"
	}
	switch {
	case w.dest == "":
		a.Verb, a.Reason = Forget, a.Reason+", and is gone at the destination"
		s.act(a)
	case w.dest != record.Digest:
		a.Verb, a.Reason = Forget, a.Reason+", and somebody put other content at the destination"
		s.act(a)
	case repo.empty:
		s.problem(Problem{
			Address: address, Class: providers.Conflict, Blocked: true, Range: s.tree.Range,
			Summary: fmt.Sprintf("%s is kept: its source listed no tag at all", to.Tag(w.tag)),
			Hint:    "An empty listing is no reason to delete. If the repository is really gone, exclude it in the configuration.",
		})
		s.plan.Blocks[s.block].Left++
	default:
		a.Verb, a.Requests = Delete, 2
		s.deletes = append(s.deletes, a)
	}
}

// prune adds the tree's deletes, after all else in the tree and only when no
// guard objects.
func (s *treeSide) prune(w *treeWorld) {
	if len(s.deletes) == 0 {
		return
	}
	limit := s.tree.MaxDeletes
	if s.in.MaxDeletes.Set {
		limit = s.in.MaxDeletes
	}
	switch ceiling := limit.Of(s.managed); {
	case !w.complete || w.empty:
		s.held("the source's repositories were not listed to the end")
		return
	case len(s.deletes) > ceiling:
		s.problem(Problem{
			Address: s.tree.Address, Class: providers.Conflict, Guard: true, Range: s.tree.Range,
			Summary: fmt.Sprintf("%d of %d tags would be deleted, more than max_deletes allows (%d)", len(s.deletes), s.managed, ceiling),
			Hint:    "If that is what you want, raise it for this run with -max-deletes, or in the lifecycle block.",
		})
	case s.tree.Lifecycle.PreventDestroy, s.prior.Protect:
		s.problem(Problem{
			Address: s.tree.Address, Class: providers.Conflict, Guard: true, Range: s.tree.Range,
			Summary: fmt.Sprintf("%d tags would be deleted, and the block is protected (prevent_destroy)", len(s.deletes)),
			Hint:    "Set prevent_destroy = false and apply that first, or set prune = \"none\".",
		})
	}
	for _, a := range s.deletes {
		s.act(a)
	}
}

// held reports deletes that are not planned.
func (s *treeSide) held(because string) {
	s.plan.Blocks[s.block].Left += len(s.deletes)
	s.problem(Problem{
		Address: s.tree.Address, Class: providers.Conflict, Blocked: true, Range: s.tree.Range,
		Summary: fmt.Sprintf("%d tags are kept although they left the source: %s", len(s.deletes), because),
	})
}

func (b *builder) image(index int, u unit) {
	m, w := u.image, b.world.image[index]
	source := m.Source.Tag(m.SourceTag)
	if m.SourceDigest != "" {
		source = m.Source.At(m.SourceDigest)
	}
	destination := m.Destination.Tag(m.DestinationTag)
	block := b.block(Block{
		Address: m.Address, Kind: statefile.KindImage, Source: source, Destination: destination,
		Copy: m.Copy, OnRemove: onRemove(m.Lifecycle), Protect: m.Lifecycle.PreventDestroy, After: u.after,
	})
	if w.err != nil {
		b.failed(m.Address, w.err, m.Range)
		return
	}
	if w.want == "" || !b.claim(index, m.Destination, m.DestinationTag, source) {
		return
	}
	record, recorded := b.in.State.Lookup(m.Address)
	rules := recorded && (record.OnRemove != onRemove(m.Lifecycle) || record.Protect != m.Lifecycle.PreventDestroy)
	if recorded && record.Destination != destination {
		record, recorded = statefile.Record{}, false // it speaks of another place, which is left alone
	}
	a := Action{
		Address: m.Address, Kind: statefile.KindImage, Block: block,
		From: m.Source, FromTag: m.SourceTag, To: m.Destination, ToTag: m.DestinationTag, Fresh: w.fresh,
	}
	i := b.decide(a, &w.tagWorld, decision{record: record, recorded: recorded, copy: m.Copy, rng: m.Range, read: u.read, rules: rules})
	b.referrers(m.Address, a, &w.tagWorld, i, nil)
}

func onRemove(l config.Lifecycle) string {
	if l.OnRemove == "delete" {
		return "delete"
	}
	return ""
}
