package planner

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/statefile"
)

// weighTags finds out what copying the tags of one destination repository
// costs, and which referrers go with them. Only tags that differ from their
// source are read; what is read stays in the client's cache for the apply.
func (o *observer) weighTags(ctx context.Context, l lookup, fresh bool, tags []tagWorld) error {
	there := map[providers.Digest]bool{}
	for _, tag := range tags {
		there[tag.dest] = true
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(tagsAtOnce)
	for i := range tags {
		tag := &tags[i]
		if tag.err != nil || tag.want == "" {
			continue
		}
		tag.nearby = tag.want != tag.dest && there[tag.want]
		group.Go(func() error { return o.swallow(ctx, o.weigh(ctx, l, fresh, tag), &tag.err) })
	}
	return group.Wait()
}

func (o *observer) weigh(ctx context.Context, l lookup, fresh bool, tag *tagWorld) error {
	subjects := []providers.Digest{}
	if tag.want == tag.source {
		subjects = append(subjects, tag.source)
	}
	if tag.want != tag.dest && !tag.nearby {
		content, err := o.content(ctx, l, tag)
		if err != nil {
			return err
		}
		// Children's referrers are copied with the image; afterwards only the
		// root's are followed, since asking for every child of every tag would
		// multiply the requests of a plan that has nothing to do.
		subjects = append(subjects, content.children...)
		if !fresh {
			if err := o.look(ctx, l.to, content.blobs); err != nil {
				return err
			}
		}
	}
	if !l.copy.Referrers || tag.feeder {
		return nil
	}
	return o.referrers(ctx, l, fresh, subjects, tag)
}

// content reads what tag consists of; it is kept by the digest at the
// destination, so that a chained block finds what its feeder will write.
func (o *observer) content(ctx context.Context, l lookup, tag *tagWorld) (*content, error) {
	from := l.from
	if f, ok := l.coming[tag.tag]; ok {
		o.mu.Lock()
		known := o.world.contents[f.digest]
		o.mu.Unlock()
		if known != nil {
			return known, nil
		}
		from = f.from
	}
	o.mu.Lock()
	known := o.world.contents[tag.want]
	o.mu.Unlock()
	if known != nil {
		return known, nil
	}
	read, err := o.client.Contents(ctx, from, tag.source, l.copy.Platforms)
	if err != nil {
		return nil, err
	}
	c := &content{manifests: len(read.Manifests)}
	for _, m := range read.Manifests {
		if m.Digest != read.Root.Digest {
			c.children = append(c.children, m.Digest)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, blob := range read.Blobs {
		c.blobs = append(c.blobs, blob.Digest)
		o.world.blobs[blob.Digest] = blob.Size
	}
	o.world.contents[tag.want] = c
	o.seen.Manifests += c.manifests
	return c, nil
}

// look asks which of the blobs are in the repository already. A blob that was
// seen anywhere at that registry is not asked for again: it is mounted.
func (o *observer) look(ctx context.Context, to providers.Repository, blobs []providers.Digest) error {
	for _, digest := range blobs {
		at := blobAt{to.Host, digest}
		o.mu.Lock()
		q, asked := o.asked[at]
		if !asked {
			q = &question{done: make(chan struct{})}
			o.asked[at] = q
		}
		o.mu.Unlock()
		if asked {
			select {
			case <-q.done:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		err := o.ask(ctx, to, at)
		close(q.done)
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *observer) ask(ctx context.Context, to providers.Repository, at blobAt) error {
	has, err := o.client.HasBlob(ctx, to, at.digest)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.world.present[at] = has
	return nil
}

// referrers finds what refers to the subjects at the source, and whether the
// destination has it. A destination is only asked when there is something to
// compare.
func (o *observer) referrers(ctx context.Context, l lookup, fresh bool, subjects []providers.Digest, tag *tagWorld) error {
	for _, subject := range subjects {
		source, err := o.referrersOf(ctx, l.from, subject, l.source)
		if err != nil {
			return err
		}
		if len(source) == 0 {
			continue
		}
		w := subjectWorld{digest: subject, referrers: source}
		if !fresh && (tag.dest != "" || tag.nearby) {
			destination, err := o.referrersOf(ctx, l.to, subject, l.destination)
			if err != nil {
				return err
			}
			w.present = containsAll(destination, source)
		}
		tag.subject = append(tag.subject, w)
	}
	slices.SortFunc(tag.subject, func(a, b subjectWorld) int { return compareDigests(a.digest, b.digest) })
	return nil
}

// referrersOf lists the referrers of one subject.
func (o *observer) referrersOf(ctx context.Context, repo providers.Repository, subject providers.Digest, tags *registry.TagList) ([]Referrer, error) {
	found, err := o.client.ReferrerSet(ctx, repo, []providers.Digest{subject}, tags)
	if err != nil {
		return nil, err
	}
	var out []Referrer
	for _, r := range found {
		out = append(out, Referrer{Digest: r.Digest, Subject: r.Subject, Tag: r.Tag})
	}
	return out, nil
}

func containsAll(have, want []Referrer) bool {
	for _, r := range want {
		if !slices.Contains(have, r) {
			return false
		}
	}
	return true
}

func compareDigests(a, b providers.Digest) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// gone looks at what only the state knows: the blocks that the configuration
// no longer has, or everything when all is to be destroyed. The destination is
// asked only where a delete is considered.
func (o *observer) gone(ctx context.Context) error {
	configured := map[string]bool{}
	for _, u := range o.world.units {
		configured[u.address] = true
	}
	var gone []goneWorld
	at := map[string]int{} // block to index: records of a-b sort between those of a
	for record := range o.in.State.All() {
		block := BlockOf(record.Address)
		if configured[block] || !o.filter.wants(record.Address) {
			continue
		}
		i, known := at[block]
		if !known {
			i = len(gone)
			at[block] = i
			gone = append(gone, o.goneBlock(block))
		}
		if record.Kind != statefile.KindTree {
			m := goneMember{record: record}
			m.to, m.tag = Place(gone[i].record, record)
			gone[i].members = append(gone[i].members, m)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(repositoriesAtOnce)
	for i := range gone {
		if !o.deletes(gone[i]) {
			continue
		}
		for j := range gone[i].members {
			m := &gone[i].members[j]
			if m.tag == "" {
				continue
			}
			group.Go(func() error {
				var err error
				m.dest, err = o.head(ctx, m.to, m.tag, nil)
				return o.swallow(ctx, err, &m.err)
			})
		}
	}
	err := group.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.world.gone = gone
	return err
}

func (o *observer) goneBlock(address string) goneWorld {
	record, found := o.in.State.Lookup(address)
	return goneWorld{address: address, record: record, found: found}
}

// deletes reports whether what the block left behind is to be deleted.
func (o *observer) deletes(g goneWorld) bool {
	return !g.record.Protect && (o.in.Destroy || g.record.OnRemove == "delete")
}
