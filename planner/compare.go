package planner

import (
	"fmt"
	"slices"
	"strings"

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

	owner   map[string]claim // by destination "host/path:tag", where destinations overlap
	write   map[string]int   // destination "host/path:tag" or "host/path@subject" -> index of the action that writes it, where a chain reads it
	writers map[string][]int // units by destination: a tree's "host/prefix", an image's "host/path:tag"
	moved   map[blobAt]bool

	secretActions map[int]int     // unit to its action
	empty         map[string]bool // stores by place: nothing of what the state knows is there
}

// claim is who writes a destination tag, and from where.
type claim struct{ address, source string }

// compare is the heart of the plan: desired (configuration applied to the
// source), prior (state) and observed (destination) for every tag.
func compare(in Input, w *world) *Plan {
	b := &builder{
		in: in, filter: newFilter(in.Targets, in.Exclude).pull(w.units), world: w,
		plan:  &Plan{Destroy: in.Destroy},
		owner: map[string]claim{}, write: map[string]int{}, secretActions: map[int]int{}, empty: map[string]bool{}, writers: writers(w.units), moved: map[blobAt]bool{},
	}
	if in.State.Exists() {
		b.plan.State = in.State.ID()
	}
	for i, u := range w.units {
		switch {
		case u.tree != nil:
			b.tree(i, u)
		case u.image != nil:
			b.image(i, u)
		default:
			b.secret(i, u)
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

// problem appends a problem. What a registry or a file name contributes may be no
// UTF-8, which a plan file can not hold.
func (b *builder) problem(p Problem) {
	for _, text := range []*string{&p.Summary, &p.Hint, &p.Range.File} {
		*text = strings.ToValidUTF8(*text, "\uFFFD")
	}
	b.plan.Problems = append(b.plan.Problems, p)
}

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
	elsewhere bool  // the recorded destination is another one, or none: the records below say nothing about this one
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
	s.elsewhere = s.prior.Destination != want.Destination
	if s.known {
		a.Verb, a.Reason = Update, changedRules(s.prior, want)
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
	side := &repoSide{treeSide: s, address: address, world: w, planned: map[string]int{}, alive: map[string]bool{}, needs: s.needs}
	if w.create && slices.ContainsFunc(w.tags, func(tag tagWorld) bool { return tag.err == nil }) {
		made := s.createRepository(address, s.block, s.tree.Destination.Join(w.rel), s.needs)
		side.needs = append(slices.Clone(s.needs), made)
	}
	for i := range w.tags {
		side.tag(&w.tags[i])
	}
	for i := range w.departed {
		side.departed(&w.departed[i])
	}
	side.deadReferrers()
}

// createRepository plans the making of a repository that the registry does not
// make by itself on the first push.
func (b *builder) createRepository(address string, block int, to providers.Repository, needs []int) int {
	return b.act(Action{
		Address: address, Kind: statefile.KindRepo, Verb: CreateRepository, Cause: ByConfig, Block: block, To: to, Needs: needs,
		Reason: "it does not exist, and the registry does not make it on the first push", Requests: 1,
	})
}

// repoSide compares one repository of a tree.
type repoSide struct {
	*treeSide
	address string
	world   *repoWorld
	needs   []int           // what every copy into the repository needs
	copies  []int           // actions that write to the repository: deletes come after them
	last    []int           // what its deletes need
	planned map[string]int  // referrers' addresses that are alive, and their actions or -1
	alive   map[string]bool // referrers' addresses of tags that stay although nothing is known of them now
}

// keep leaves a tag and what is recorded below it as they are.
func (s *repoSide) keep(record statefile.Record) {
	if record.Digest != "" {
		s.alive[subjectAddress(s.address, record.Digest)] = true
	}
}

func (s *repoSide) tag(w *tagWorld) {
	address := tagAddress(s.tree.Address, s.world.rel, w.tag)
	record, recorded := s.lookup(address)
	if w.err != nil {
		s.failed(address, w.err, s.tree.Range)
		s.keep(record)
		return
	}
	from, to := s.tree.Source.Join(s.world.rel), s.tree.Destination.Join(s.world.rel)
	if !s.claim(s.unit, to, w.tag, from.Tag(w.tag)) {
		s.keep(record)
		return
	}
	a := Action{
		Address: address, Kind: statefile.KindTag, Block: s.block,
		From: from, FromTag: w.tag, To: to, ToTag: w.tag, Fresh: s.world.fresh, Needs: s.needs,
	}
	read := s.builder.world.units[s.unit].read
	i, settled := s.decide(a, w, decision{
		record: record, recorded: recorded, news: s.known && s.prior.Selection == s.plan.Blocks[s.block].Selection,
		copy: s.tree.Copy, rng: s.tree.Range, read: read,
	})
	if !settled {
		s.keep(record)
		return
	}
	if i >= 0 && s.plan.Actions[i].Verb != Adopt {
		s.copies = append(s.copies, i)
	}
	s.referrers(a, w, i, read)
}

// referrers plans what is attached to a tag's content, once for all tags that
// share it.
func (s *repoSide) referrers(tag Action, w *tagWorld, i int, read bool) {
	if w.attached == nil {
		return
	}
	address := subjectAddress(s.address, w.want)
	if _, done := s.planned[address]; done {
		return
	}
	record, recorded := s.lookup(address)
	j := s.attach(address, tag, w, i, record, recorded, read)
	s.planned[address] = j
	if j >= 0 && s.plan.Actions[j].Verb != Adopt {
		s.copies = append(s.copies, j)
	}
}

// deadReferrers forgets what is recorded of the referrers of content that no
// tag leads to any more, or that has none any more. It touches no registry.
func (s *repoSide) deadReferrers() {
	if s.elsewhere || !s.filter.all() {
		return // not every tag was looked at: a plan of everything does it
	}
	for record := range s.in.State.Under(s.address + "@") {
		if _, planned := s.planned[record.Address]; !planned && !s.alive[record.Address] {
			s.forgetReferrers(record, s.block, s.needs)
		}
	}
}

func (b *builder) forgetReferrers(record statefile.Record, block int, needs []int) {
	b.act(Action{
		Address: record.Address, Kind: record.Kind, Verb: Forget, Cause: ByUpstream, Reason: "its image is gone or has no referrers any more",
		Block: block, Prior: record.Digest, Needs: needs,
	})
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
// it planned, or -1 where there is nothing to do; settled is false where the
// destination keeps what it has, although the source has something else.
//
// Why this cannot lose data: it never deletes; it overwrites only content that
// is not what the source has, only with what was read at the source, and not at
// all where overwrite forbids it. The action carries Observed, and the executor
// acts only while the destination still has exactly that.
func (b *builder) decide(a Action, w *tagWorld, d decision) (i int, settled bool) {
	a.Pin, a.Want, a.Observed = w.source, w.want, w.dest
	if d.recorded {
		a.Prior = d.record.Digest
	}
	if w.dest == w.want {
		return b.settled(a, d), true
	}
	a.Cause, a.Reason = why(w, d)
	switch {
	case w.dest == "":
		a.Verb = Create
	case keeps(d.copy, w, d.recorded):
		p := Problem{Address: a.Address, Class: providers.Conflict, Blocked: true, Range: d.rng}
		because := fmt.Sprintf("overwrite = %q keeps it", d.copy.Overwrite)
		if w.fixed {
			because = "the registry keeps it: the tag is immutable there"
			p.Hint = "Leave the tag out, or let it move at " + a.To.Host + "."
		}
		p.Summary = fmt.Sprintf("%s has %s, the source has %s, and %s", a.To.Tag(a.ToTag), w.dest.Short(), w.want.Short(), because)
		b.problem(p)
		return -1, false
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
	i = b.act(a)
	if d.read {
		b.write[a.To.Tag(a.ToTag)] = i
	}
	return i, true
}

// settled is decide for a destination that has what it should have.
func (b *builder) settled(a Action, d decision) int {
	if d.recorded && d.record.Digest == a.Want && sourceOf(d.record) == a.Pin && d.record.Selection == platforms(d.copy) && !d.rules {
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

// attach plans what refers to the content of a tag. i is the tag's own action,
// or -1. What is recorded are the referrers of the content itself; those of an
// index's images come along while the index is new here.
func (b *builder) attach(address string, tag Action, w *tagWorld, i int, record statefile.Record, recorded, read bool) int {
	want := fingerprint(w.attached.root)
	if w.attached.present && record.Digest == want && recorded == (want != "") {
		return -1
	}
	a := Action{
		Address: address, Kind: statefile.KindReferrers, Verb: Create, Cause: ByUpstream, Reason: "attached at the source",
		Block: tag.Block, From: tag.From, To: tag.To, Pin: want, Want: want, Prior: record.Digest,
		Referrers: sortReferrers(slices.Concat(w.attached.root, w.attached.children)), Fresh: tag.Fresh, Needs: tag.Needs,
	}
	switch {
	case w.attached.present:
		a.Verb, a.Reason = Adopt, "identical content is there already"
	case i >= 0:
		a.Cause, a.Reason = b.plan.Actions[i].Cause, "goes with its image"
	case recorded && record.Digest == want && want != "":
		a.Cause, a.Reason = ByDrift, "deleted at the destination"
	}
	if i >= 0 {
		a.Needs = []int{i}
	}
	if from, ok := b.write[a.From.At(w.source)]; ok && w.feeder {
		a.Needs = append(slices.Clone(a.Needs), from)
	}
	if recorded && a.Verb == Create {
		a.Verb = Update
	}
	if a.Verb != Adopt {
		a.Requests = 3 * len(a.Referrers)
	}
	j := b.act(a)
	if read {
		b.write[a.To.At(w.want)] = j
	}
	return j
}

// departed compares a tag that we made and that is no longer selected.
//
// Why the delete it may plan cannot lose data that is not ours: it needs
// prune = "managed", a record of our own, a destination that still has exactly
// the recorded digest, and a listing of the source that ran to its end and was
// not empty. The ceiling on deletes is checked over the whole tree in prune,
// and the executor checks the digest once more just before it deletes.
func (s *repoSide) departed(w *tagWorld) {
	address := tagAddress(s.tree.Address, s.world.rel, w.tag)
	record, recorded := s.lookup(address)
	if !recorded {
		return
	}
	if s.tree.Prune != "managed" {
		s.leave(record)
		return
	}
	if w.err != nil {
		s.failed(address, w.err, s.tree.Range)
		s.keep(record)
		return
	}
	from, to := s.tree.Source.Join(s.world.rel), s.tree.Destination.Join(s.world.rel)
	a := Action{
		Address: address, Kind: statefile.KindTag, Verb: Forget, Block: s.block, Cause: ByUpstream, Reason: "left the source",
		To: to, ToTag: w.tag, Observed: w.dest, Prior: record.Digest, Needs: s.needs,
	}
	if !s.world.selected || s.known && s.prior.Selection != s.plan.Blocks[s.block].Selection {
		a.Cause, a.Reason = ByConfig, "no longer selected"
	}
	by, claimed := s.wanted(to, w.tag, s.unit)
	switch {
	case claimed:
		a.Reason += ", and " + by + " writes it now"
		s.act(a)
	case w.dest == "":
		a.Reason += ", and is gone at the destination"
		s.act(a)
	case w.dest != record.Digest:
		a.Reason += ", and somebody put other content at the destination"
		s.act(a)
	case by != "":
		s.problem(Problem{
			Address: address, Class: providers.Conflict, Blocked: true, Range: s.tree.Range,
			Summary: fmt.Sprintf("%s is kept: %s may write it too, and was not looked at", to.Tag(w.tag), by),
		})
		s.leave(record)
	case s.world.empty:
		s.problem(Problem{
			Address: address, Class: providers.Conflict, Blocked: true, Range: s.tree.Range,
			Summary: fmt.Sprintf("%s is kept: its source listed no tag at all", to.Tag(w.tag)),
			Hint:    "An empty listing is no reason to delete. If the repository is really gone, exclude it in the configuration.",
		})
		s.leave(record)
	default:
		a.Verb, a.Requests = Delete, 2
		if s.last == nil {
			s.last = slices.Concat(s.needs, s.copies) // shared: many deletes and many copies are not multiplied
		}
		a.Needs = s.last
		if before, ok := s.write[from.Tag(w.tag)]; ok {
			a.Needs = append(slices.Clone(a.Needs), before) // the block that feeds this one deletes it too
		}
		s.deletes = append(s.deletes, a)
	}
}

// leave keeps a departed tag and its record.
func (s *repoSide) leave(record statefile.Record) {
	s.keep(record)
	s.plan.Blocks[s.block].Left++
}

// writers are the units by what they write.
func writers(all []unit) map[string][]int {
	by := map[string][]int{}
	for i, u := range all {
		if u.secret != nil {
			continue
		}
		_, to := u.places()
		place := to.String()
		if u.image != nil {
			place = to.Tag(u.image.DestinationTag)
		}
		by[place] = append(by[place], i)
	}
	return by
}

// wanted looks for another block that writes a destination tag, so that a tag
// that went from one block to another is handed over and not deleted. It
// returns that block's address, and claimed where it is sure to write the tag;
// an address alone means that the block could not be looked at.
func (b *builder) wanted(to providers.Repository, tag string, self int) (by string, claimed bool) {
	for _, i := range b.writers[to.Tag(tag)] {
		if i != self && b.world.units[i].image != nil {
			return b.world.units[i].address, true
		}
	}
	for _, prefix := range prefixes(to) {
		for _, i := range b.writers[prefix] {
			u := b.world.units[i]
			if i == self || u.tree == nil {
				continue
			}
			switch yes, sure := b.treeWants(b.world.trees[i], to.Rel(u.tree.Destination), tag); {
			case yes:
				return u.address, true
			case !sure:
				by = u.address
			}
		}
	}
	return by, false
}

func (b *builder) treeWants(w *treeWorld, rel, tag string) (yes, sure bool) {
	if w == nil || w.err != nil {
		return false, false
	}
	i, found := slices.BinarySearchFunc(w.repos, rel, func(r repoWorld, rel string) int { return strings.Compare(r.rel, rel) })
	if !found {
		return false, b.filter.all()
	}
	if w.repos[i].err != nil {
		return false, false
	}
	_, yes = slices.BinarySearchFunc(w.repos[i].tags, tag, func(t tagWorld, tag string) int { return strings.Compare(t.tag, tag) })
	return yes, yes || b.filter.all()
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
	managed := s.managed()
	switch ceiling := limit.Of(managed); {
	case !w.complete || w.empty:
		s.held("the source's repositories were not listed to the end")
		return
	case s.tree.Lifecycle.PreventDestroy:
		s.problem(Problem{
			Address: s.tree.Address, Class: providers.Conflict, Guard: true, Range: s.tree.Range,
			Summary: fmt.Sprintf("%d tags would be deleted, and the block is protected (prevent_destroy)", len(s.deletes)),
			Hint:    "Set prevent_destroy = false and apply that first, or set prune = \"none\".",
		})
	case s.prior.Protect:
		s.held("the block was protected (prevent_destroy) until now; the plan after this one deletes them")
		return
	case len(s.deletes) > ceiling:
		s.problem(Problem{
			Address: s.tree.Address, Class: providers.Conflict, Guard: true, Range: s.tree.Range,
			Summary: fmt.Sprintf("%d of %d tags would be deleted, more than max_deletes allows (%d)", len(s.deletes), managed, ceiling),
			Hint:    "If that is what you want, raise it for this run with -max-deletes, or in the lifecycle block.",
		})
	}
	for _, a := range s.deletes {
		i := s.act(a)
		if s.world.units[s.unit].read {
			s.write[a.To.Tag(a.ToTag)] = i
		}
	}
}

// managed counts the tags that the state has of the tree, whatever part of it
// -target leaves in the plan: max_deletes is a share of the tree.
func (s *treeSide) managed() int {
	n := 0
	for record := range s.in.State.Under(s.tree.Address + "/") {
		if record.Kind == statefile.KindTag {
			n++
		}
	}
	return n
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
	if w.create {
		a.Needs = []int{b.createRepository(repoAddress(m.Address, ""), block, m.Destination, nil)}
	}
	i, settled := b.decide(a, &w.tagWorld, decision{record: record, recorded: recorded, copy: m.Copy, rng: m.Range, read: u.read, rules: rules})
	if !settled {
		return
	}
	alive := subjectAddress(m.Address, w.want)
	if w.attached != nil {
		attached, found := statefile.Record{}, false
		if recorded {
			attached, found = b.in.State.Lookup(alive)
		}
		b.attach(alive, a, &w.tagWorld, i, attached, found, u.read)
	}
	if !recorded {
		return // records below it speak of another place, and go with the image's own record
	}
	for r := range b.in.State.Under(m.Address + "@") {
		if w.attached == nil || r.Address != alive {
			b.forgetReferrers(r, block, nil)
		}
	}
}

func onRemove(l config.Lifecycle) string {
	if l.OnRemove == "delete" {
		return "delete"
	}
	return ""
}
