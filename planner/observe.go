package planner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"freightliner/config"
	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/statefile"
)

// Widths of the fan-out. They bound goroutines, not requests: each registry's
// own gate in the client does that. None is shared by registries, so that one
// that stalls holds up only what asks it.
const (
	repositoriesAtOnce = 32 // of one tree
	tagsAtOnce         = 32 // of one repository
	looksAtOnce        = 32 // at one host, at single tags and blobs
)

// observer looks at registries. Its methods run concurrently; what they share
// is behind mu.
type observer struct {
	in     Input
	filter filter
	client *registry.Client

	mu    sync.Mutex
	world *world
	seen  Observed
	ready []chan struct{} // by unit: closed when what it will write is known

	intents map[string]statefile.Intent     // left by interrupted runs, by address
	planned map[string]map[string]forecast  // destination repository -> tag -> what a block will write
	needed  map[blobAt]providers.Repository // the first repository, by name, that wants the blob and may have it
}

// forecast is the content that an earlier block is going to put under a tag.
type forecast struct {
	digest   providers.Digest
	from     providers.Repository // where its bytes can be read already
	attached *attached            // what is going to be attached to it; nil for nothing
	fresh    bool                 // its repository does not exist yet
	gone     bool                 // the tag is going to be deleted
}

// observe looks at the sources and destinations of all blocks once. Trees are
// looked at side by side, except that a tree that reads where another writes
// waits for that one. The only error is the context's: trouble with a registry
// is kept in the world, at the place it concerns.
func observe(ctx context.Context, in Input) (*world, error) {
	o := &observer{
		in: in, filter: newFilter(in.Targets, in.Exclude), client: in.Client,
		world: &world{
			trees: map[int]*treeWorld{}, image: map[int]*imageWorld{}, secrets: map[int]*secretWorld{},
			contents: map[providers.Digest]*content{}, blobs: map[providers.Digest]int64{}, present: map[blobAt]bool{},
		},
		planned: map[string]map[string]forecast{},
		needed:  map[blobAt]providers.Repository{},
		intents: map[string]statefile.Intent{},
	}
	if !in.Destroy {
		o.world.units, _ = units(in.Config)
	}
	for _, intent := range in.State.Intents() {
		o.intents[intent.Address] = intent
	}
	o.filter = o.filter.pull(o.world.units)
	o.ready = make([]chan struct{}, len(o.world.units))
	for i := range o.ready {
		o.ready[i] = make(chan struct{})
	}
	outer := ctx
	group, ctx := errgroup.WithContext(ctx)
	for i := range o.world.units {
		group.Go(func() error { return o.unit(ctx, i) })
	}
	group.Go(func() error { return o.gone(ctx) })
	group.Go(func() error { return o.secrets(ctx) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := o.look(outer); err != nil {
		return nil, err
	}
	o.report()
	return o.world, nil
}

func (o *observer) unit(ctx context.Context, i int) error {
	defer close(o.ready[i])
	u := o.world.units[i]
	for _, feeder := range u.feeders {
		select {
		case <-o.ready[feeder]:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if u.secret != nil {
		return nil // looked at store by store, see secrets
	}
	if u.tree != nil {
		w, err := o.tree(ctx, u)
		o.mu.Lock()
		defer o.mu.Unlock()
		o.world.trees[i] = w
		return err
	}
	w, err := o.image(ctx, u)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.world.image[i] = w
	return err
}

func (o *observer) tree(ctx context.Context, u unit) (*treeWorld, error) {
	t := u.tree
	w := &treeWorld{}
	if !o.filter.touches(t.Address) {
		return w, nil
	}
	if err := o.repositories(ctx, u, w); err != nil {
		return w, err
	}
	selector, err := newTagSelector(t.Tags)
	if err != nil {
		w.err = &providers.Error{Class: providers.Invalid, Op: "read the tag filter of", On: t.Address, Err: err}
		return w, nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(repositoriesAtOnce)
	for i := range w.repos {
		repo := &w.repos[i]
		group.Go(func() error {
			return o.swallow(ctx, o.repository(ctx, u, selector, repo), &repo.err)
		})
	}
	err = group.Wait()
	o.foretellTree(u, w)
	return w, err
}

// swallow keeps a registry's error where it belongs and lets only the end of
// the context through.
func (o *observer) swallow(ctx context.Context, err error, into *error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	*into = err
	o.count(Observed{Failed: 1})
	return nil
}

// repositories finds the repositories of a tree: those at the source that the
// filter selects, and those that only the state knows.
func (o *observer) repositories(ctx context.Context, u unit, w *treeWorld) error {
	t := u.tree
	selected := map[string]bool{} // by relative path
	if len(t.Repositories.Names) > 0 {
		for _, name := range t.Repositories.Names {
			selected[name] = true
		}
		w.complete = true
	} else if err := o.swallow(ctx, o.enumerate(ctx, u, selected, w), &w.err); err != nil || w.err != nil {
		return err
	}
	for record := range o.in.State.Under(t.Address + "/") {
		rel := repositoryPath(t.Address, record)
		if _, known := selected[rel]; !known {
			// A repository that a catalog does not name may still be there.
			selected[rel] = len(t.Repositories.Names) == 0 && selectsRepository(t.Repositories, rel)
		}
	}
	for _, rel := range slices.Sorted(maps.Keys(selected)) {
		if o.filter.touchesRepository(repoAddress(t.Address, rel)) {
			w.repos = append(w.repos, repoWorld{rel: rel, selected: selected[rel]})
		}
	}
	o.count(Observed{Repositories: len(w.repos)})
	return nil
}

// repositoryPath is the path of the repository that a record below the block is
// about.
func repositoryPath(block string, r statefile.Record) string {
	if r.Kind == statefile.KindTag {
		rel, _ := splitTag(block, r.Address)
		return rel
	}
	rel, _, _ := strings.Cut(strings.TrimPrefix(r.Address[len(block):], "/"), "@")
	return rel
}

func (o *observer) enumerate(ctx context.Context, u unit, found map[string]bool, w *treeWorld) error {
	t := u.tree
	any := false
	for path, err := range o.client.Repositories(ctx, t.Source.Host, t.Source.Path) {
		if err != nil {
			return err
		}
		repo := providers.Repository{Host: t.Source.Host, Path: path}
		if !repo.Under(t.Source) {
			continue
		}
		any = true
		if rel := repo.Rel(t.Source); selectsRepository(t.Repositories, rel) {
			found[rel] = true
		}
	}
	for _, repo := range o.forecastRepositories(t.Source) {
		any = true
		if rel := repo.Rel(t.Source); selectsRepository(t.Repositories, rel) {
			found[rel] = true
		}
	}
	w.complete, w.empty = true, !any
	return nil
}

func (o *observer) repository(ctx context.Context, u unit, selector tagSelector, w *repoWorld) error {
	t := u.tree
	from, to := t.Source.Join(w.rel), t.Destination.Join(w.rel)
	var (
		source      registry.TagList
		destination *registry.TagList // nil while it is not listed
		coming      map[string]forecast
	)
	recorded := o.recordedTags(t, w.rel)
	listDestination := func() error {
		list, err := o.client.Tags(ctx, to)
		if err != nil {
			return err
		}
		destination = &list
		if w.fresh = list.Missing; w.fresh {
			w.create, err = o.client.MustCreate(to)
		}
		return err
	}
	// Where only recorded tags may turn out to be wanted, the listing waits. It is
	// worth its request where it saves more than one for each tag: in bulk, and of
	// what is attached to images by tags.
	postponed := w.selected && len(recorded) > 0 && !o.client.ListsInBulk(to) && !o.attachedHere(t, w.rel)
	if err := both(func() (err error) {
		if !w.selected {
			return nil
		}
		if source, coming, err = o.sourceTags(ctx, u, from); err != nil {
			return err
		}
		if source.Missing && len(t.Repositories.Names) > 0 {
			return &providers.Error{
				Class: providers.NotFound, Op: "list tags of", On: from.String(), Err: errors.New("the repository does not exist"),
				Hint: "Take it out of names, or check the source and the rights of the credentials.",
			}
		}
		w.empty = len(source.Tags) == 0
		return nil
	}, func() error {
		if postponed || !w.selected && t.Prune != "managed" {
			return nil
		}
		return listDestination()
	}); err != nil {
		return err
	}
	picked := selector.pick(source.Tags)
	for _, tag := range picked {
		if o.filter.wants(tagAddress(t.Address, w.rel, tag)) {
			w.tags = append(w.tags, tagWorld{tag: tag})
		}
	}
	for tag := range recorded {
		if _, selected := slices.BinarySearch(picked, tag); !selected && o.filter.wants(tagAddress(t.Address, w.rel, tag)) {
			w.departed = append(w.departed, tagWorld{tag: tag})
		}
	}
	slices.SortFunc(w.departed, func(a, b tagWorld) int { return strings.Compare(a.tag, b.tag) })

	unrecorded := func(tag tagWorld) bool { _, ours := recorded[tag.tag]; return !ours }
	if postponed && (slices.ContainsFunc(w.tags, unrecorded) || t.Prune == "managed" && len(w.departed) > 0) {
		if err := listDestination(); err != nil {
			return err
		}
	}
	look := lookup{
		parent: repoAddress(t.Address, w.rel), from: from, to: to, copy: t.Copy,
		source: &source, coming: coming, destination: destination, records: recorded,
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(tagsAtOnce)
	for i := range w.tags {
		tag := &w.tags[i]
		group.Go(func() error {
			return o.swallow(gctx, o.tag(gctx, look, tag), &tag.err)
		})
	}
	for i := range w.departed {
		tag := &w.departed[i]
		if t.Prune != "managed" {
			continue // it is left alone: no need to look
		}
		group.Go(func() error {
			var err error
			tag.dest, err = o.head(gctx, to, tag.tag, destination)
			return o.swallow(gctx, err, &tag.err)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	// A tag that is there needs no listing. One that is not may be gone with its
	// repository, and one that could not be looked at may be its trouble as a whole.
	if destination == nil && slices.ContainsFunc(w.tags, func(tag tagWorld) bool { return tag.err != nil || tag.dest == "" }) {
		if err := listDestination(); err != nil {
			return err
		}
		look.destination = destination
	}
	return o.weighTags(ctx, look, w.fresh, w.tags)
}

// attachedHere reports whether the state has referrers in one repository of a tree.
func (o *observer) attachedHere(t *config.Tree, rel string) bool {
	for range o.in.State.Under(repoAddress(t.Address, rel) + "@") {
		return true
	}
	return false
}

// recordedTags are the records of one repository of a tree, by tag. There are
// none where the tree went somewhere else before.
func (o *observer) recordedTags(t *config.Tree, rel string) map[string]statefile.Record {
	recorded := map[string]statefile.Record{}
	if block, _ := o.in.State.Lookup(t.Address); block.Destination != t.Destination.String() {
		return recorded
	}
	for record := range o.in.State.Under(repoAddress(t.Address, rel) + ":") {
		_, tag := splitTag(t.Address, record.Address)
		recorded[tag] = record
	}
	return recorded
}

// sourceTags lists a source repository as it will be when the blocks that feed
// it are done.
func (o *observer) sourceTags(ctx context.Context, u unit, from providers.Repository) (registry.TagList, map[string]forecast, error) {
	list, err := o.client.Tags(ctx, from)
	if err != nil || len(u.feeders) == 0 {
		return list, nil, err
	}
	o.mu.Lock()
	coming := o.planned[from.String()]
	o.mu.Unlock()
	if len(coming) == 0 {
		return list, nil, nil
	}
	tags := slices.DeleteFunc(slices.Clone(list.Tags), func(tag string) bool { return coming[tag].gone })
	for tag, f := range coming {
		if !f.gone {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	list.Tags, list.Missing = slices.Compact(tags), false
	return list, coming, nil
}

// lookup is what is needed to look at the tags of one repository.
type lookup struct {
	parent              string // the address below which referrers are recorded
	from, to            providers.Repository
	copy                config.CopyOptions
	source, destination *registry.TagList           // nil: not listed
	coming              map[string]forecast         // by destination tag
	records             map[string]statefile.Record // by destination tag
}

func (o *observer) tag(ctx context.Context, l lookup, w *tagWorld) error {
	o.count(Observed{Tags: 1})
	var err error
	var known bool
	if w.dest, known = told(l.destination, w.tag); known {
		err = o.sourceTag(ctx, l, w)
	} else {
		err = both(func() error { return o.sourceTag(ctx, l, w) }, func() (err error) {
			w.dest, err = o.head(ctx, l.to, w.tag, nil)
			return err
		})
	}
	if err != nil {
		return err
	}
	if w.want, err = o.want(ctx, l, w); err != nil {
		return err
	}
	return o.fix(ctx, l, w)
}

// fix asks whether a tag that is to be moved can be: a registry that keeps it
// would refuse every apply.
func (o *observer) fix(ctx context.Context, l lookup, w *tagWorld) (err error) {
	_, recorded := l.records[w.tag]
	if w.dest != "" && w.dest != w.want && !keeps(l.copy, w, recorded) {
		w.fixed, err = o.client.Immutable(ctx, l.to, w.tag)
	}
	return err
}

// both looks at two registries at once. Of two errors it is the first's.
func both(one, two func() error) error {
	second := make(chan error, 1)
	go func() { second <- two() }()
	return cmp.Or(one(), <-second)
}

// sourceTag finds out what the source has under a tag. One that the destination
// does not have is read at once, as it will be anyhow.
func (o *observer) sourceTag(ctx context.Context, l lookup, w *tagWorld) (err error) {
	if f, ok := l.coming[w.tag]; ok {
		w.source, w.feeder = f.digest, true
		return nil
	}
	look := func() (providers.Digest, error) { return o.head(ctx, l.from, w.tag, l.source) }
	if d, known := told(l.destination, w.tag); known && d == "" && l.source.Digests[w.tag] == "" {
		look = func() (providers.Digest, error) { return found(o.client.Resolve(ctx, l.from, w.tag)) }
	}
	if w.source, err = look(); err == nil && w.source == "" {
		err = &providers.Error{Class: providers.NotFound, Op: "read manifest", On: l.from.Tag(w.tag), Err: errors.New("the tag is listed but does not exist")}
	}
	return err
}

// told is what a listing tells of a tag without a request: its digest, where the
// listing has digests, or that there is none, empty.
func told(list *registry.TagList, tag string) (d providers.Digest, known bool) {
	if list == nil {
		return "", false
	}
	if d, known = list.Digests[tag]; known {
		return d, true
	}
	_, listed := slices.BinarySearch(list.Tags, tag)
	return "", !listed
}

// found takes what does not exist for empty, and no error.
func found(d providers.Digest, err error) (providers.Digest, error) {
	if providers.ClassOf(err) == providers.NotFound {
		return "", nil
	}
	return d, err
}

// head is the digest of a tag, empty when it does not exist; list may save the
// request.
func (o *observer) head(ctx context.Context, repo providers.Repository, tag string, list *registry.TagList) (providers.Digest, error) {
	if d, known := told(list, tag); known {
		return d, nil
	}
	descriptor, err := o.client.Head(ctx, repo, tag)
	return found(descriptor.Digest, err)
}

// want is the digest that the destination should have: the source's, unless
// platforms are selected, which makes an index of its own. What the state
// remembers of the same source and selection is used without reading the index.
func (o *observer) want(ctx context.Context, l lookup, w *tagWorld) (providers.Digest, error) {
	if len(l.copy.Platforms) == 0 {
		return w.source, nil
	}
	if r := l.records[w.tag]; r.Selection == platforms(l.copy) && sourceOf(r) == w.source {
		return r.Digest, nil
	}
	if w.feeder {
		return "", &providers.Error{
			Class: providers.Unsupported, Op: "select platforms of", On: l.from.Tag(w.tag), Err: errors.New("another block is going to write it"),
			Hint: "Apply that block first (-target), then plan this one.",
		}
	}
	index, err := o.client.Manifest(ctx, l.from, string(w.source))
	if err != nil {
		return "", err
	}
	selected, err := registry.Select(index, l.copy.Platforms)
	if err != nil {
		return "", fmt.Errorf("%s: %w", l.from.Tag(w.tag), err)
	}
	return selected.Digest, nil
}

// sourceOf is the source digest that a record stands for.
func sourceOf(r statefile.Record) providers.Digest {
	if r.Source != "" {
		return r.Source
	}
	return r.Digest
}

func (o *observer) image(ctx context.Context, u unit) (*imageWorld, error) {
	m := u.image
	w := &imageWorld{tagWorld: tagWorld{tag: m.DestinationTag}}
	if !o.filter.wants(m.Address) {
		return w, nil
	}
	err := o.swallow(ctx, o.imageTag(ctx, u, w), &w.err)
	if w.err == nil && w.want != "" {
		record, recorded := o.in.State.Lookup(m.Address)
		if !keeps(m.Copy, &w.tagWorld, recorded && record.Destination == m.Destination.Tag(m.DestinationTag)) {
			o.foretell(m.Destination, m.DestinationTag, forecast{digest: w.want, from: m.Source, attached: w.attached, fresh: w.fresh})
		}
	}
	return w, err
}

func (o *observer) imageTag(ctx context.Context, u unit, w *imageWorld) error {
	m := u.image
	o.count(Observed{Tags: 1})
	l := lookup{parent: m.Address, from: m.Source, to: m.Destination, copy: m.Copy, records: map[string]statefile.Record{}}
	if record, _ := o.in.State.Lookup(m.Address); record.Destination == m.Destination.Tag(m.DestinationTag) {
		l.records[m.DestinationTag] = record
	}
	var err error
	if w.source = m.SourceDigest; w.source == "" {
		f, fed := o.imageForecast(u)
		if w.source, w.feeder = f.digest, fed; fed {
			l.coming = map[string]forecast{m.DestinationTag: f}
		} else {
			descriptor, err := o.client.Head(ctx, m.Source, m.SourceTag)
			if err != nil {
				return err
			}
			w.source = descriptor.Digest
		}
	}
	if w.dest, err = o.head(ctx, m.Destination, m.DestinationTag, nil); err != nil {
		return err
	}
	if w.want, err = o.want(ctx, l, &w.tagWorld); err != nil {
		return err
	}
	if err = o.fix(ctx, l, &w.tagWorld); err != nil {
		return err
	}
	if w.want != w.dest && w.dest == "" {
		list, err := o.client.Tags(ctx, m.Destination)
		if err != nil {
			return err
		}
		if w.fresh, l.destination = list.Missing, &list; w.fresh {
			if w.create, err = o.client.MustCreate(m.Destination); err != nil {
				return err
			}
		}
	}
	one := []tagWorld{w.tagWorld}
	err = o.weighTags(ctx, l, w.fresh, one)
	w.tagWorld = one[0]
	return err
}

// imageForecast is what an earlier block is going to put where an image is read.
func (o *observer) imageForecast(u unit) (f forecast, fed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f, fed = o.planned[u.image.Source.String()][u.image.SourceTag]
	return f, fed && !f.gone
}

// foretell notes what a block will write, for the blocks that read it.
func (o *observer) foretell(to providers.Repository, tag string, f forecast) {
	o.mu.Lock()
	defer o.mu.Unlock()
	tags := o.planned[to.String()]
	if tags == nil {
		tags = map[string]forecast{}
		o.planned[to.String()] = tags
	}
	tags[tag] = f
}

// foretellTree does so for a tree, and only where somebody reads it.
func (o *observer) foretellTree(u unit, w *treeWorld) {
	if !u.read {
		return
	}
	for i := range w.repos {
		repo := &w.repos[i]
		from, to := u.tree.Source.Join(repo.rel), u.tree.Destination.Join(repo.rel)
		recorded := o.recordedTags(u.tree, repo.rel)
		for j := range repo.tags {
			tag := &repo.tags[j]
			if _, ours := recorded[tag.tag]; tag.err == nil && tag.want != "" && !keeps(u.tree.Copy, tag, ours) {
				o.foretell(to, tag.tag, forecast{digest: tag.want, from: from, attached: tag.attached, fresh: repo.fresh})
			}
		}
		for j := range repo.departed {
			tag := &repo.departed[j]
			if tag.err == nil && u.tree.Prune == "managed" && prunable(w, repo, tag, recorded[tag.tag]) {
				o.foretell(to, tag.tag, forecast{gone: true})
			}
		}
	}
}

// keeps reports whether the destination keeps what it has: overwrite says so, or
// the registry does.
func keeps(c config.CopyOptions, w *tagWorld, recorded bool) bool {
	return w.dest != "" && w.dest != w.want && (w.fixed || c.Overwrite == "never" || c.Overwrite == "managed" && !recorded)
}

// prunable reports whether a departed tag may be deleted: it is recorded, the
// destination has exactly what is recorded, and the source was listed to its
// end and was not empty.
func prunable(tree *treeWorld, repo *repoWorld, w *tagWorld, record statefile.Record) bool {
	return w.dest != "" && w.dest == record.Digest && tree.complete && !tree.empty && !repo.empty
}

// forecastRepositories are the repositories below prefix that earlier blocks
// will write to.
func (o *observer) forecastRepositories(prefix providers.Repository) []providers.Repository {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []providers.Repository
	for name, tags := range o.planned {
		host, path, _ := strings.Cut(name, "/")
		repo := providers.Repository{Host: host, Path: path}
		if repo.Under(prefix) && writes(tags) {
			out = append(out, repo)
		}
	}
	return out
}

func writes(tags map[string]forecast) bool {
	for _, f := range tags {
		if !f.gone {
			return true
		}
	}
	return false
}

func (o *observer) count(more Observed) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen.Repositories += more.Repositories
	o.seen.Tags += more.Tags
	o.seen.Manifests += more.Manifests
	o.seen.Secrets += more.Secrets
	o.seen.Failed += more.Failed
	if o.in.Progress != nil {
		o.in.Progress(o.seen)
	}
}

func (o *observer) report() { o.count(Observed{}) }
