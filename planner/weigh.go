package planner

import (
	"cmp"
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
		if tag.err != nil || tag.want == "" || tag.fixed {
			continue
		}
		tag.nearby = tag.want != tag.dest && there[tag.want]
		group.Go(func() error { return o.swallow(ctx, o.weigh(ctx, l, fresh, tag), &tag.err) })
	}
	return group.Wait()
}

func (o *observer) weigh(ctx context.Context, l lookup, fresh bool, tag *tagWorld) error {
	var children []providers.Digest
	switch {
	case tag.want != tag.dest && !tag.nearby:
		content, err := o.content(ctx, l, tag)
		if err != nil {
			return err
		}
		children = content.children
		if !fresh {
			if tag.dest != "" {
				// The version before tells for few requests what is there of this one.
				if err := o.client.Recall(ctx, l.to, tag.dest, len(content.blobs)); err != nil {
					return err
				}
			}
			o.need(l.to, content.blobs)
		}
	case l.copy.Referrers && !o.looked(l, tag):
		index, err := o.client.Manifest(ctx, l.to, string(tag.want)) // it is there already
		if err != nil {
			return err
		}
		for _, child := range index.Manifests {
			children = append(children, child.Digest)
		}
	}
	if !l.copy.Referrers {
		return nil
	}
	return o.attachments(ctx, l, !fresh && (tag.dest != "" || tag.nearby), children, tag)
}

// looked reports whether the referrers of an index's images were seen to
// before. They go with the index once; afterwards only those of the tag's own
// digest are followed, since asking for every child of every tag would multiply
// the requests of a plan that has nothing to do. It is not so for content that
// the state does not have, or has with its referrers still owed: an earlier run
// may have been cut off between the image and its signatures.
func (o *observer) looked(l lookup, tag *tagWorld) bool {
	if l.records[tag.tag].Digest != tag.want {
		return false
	}
	owed, found := o.in.State.Lookup(subjectAddress(l.parent, tag.want))
	return !found || owed.Digest != ""
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
		// Manifests that disagree on a size must not make the plan depend on
		// which was read last.
		o.world.blobs[blob.Digest] = max(o.world.blobs[blob.Digest], blob.Size)
	}
	o.world.contents[tag.want] = c
	o.seen.Manifests += c.manifests
	return c, nil
}

// need notes that blobs are wanted in a repository that may have them.
func (o *observer) need(to providers.Repository, blobs []providers.Digest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, digest := range blobs {
		at := blobAt{to.Host, digest}
		if first, known := o.needed[at]; !known || to.Path < first.Path {
			o.needed[at] = to
		}
	}
}

// look asks which of the needed blobs are there already, each in one repository
// only: from there it is mounted. Which one is settled by name and not by who
// asks first, so that a plan does not depend on timing. It is an estimate: where
// a look fails, the bytes count as to be moved, and apply meets the trouble.
func (o *observer) look(ctx context.Context) error {
	byHost := map[string][]blobAt{}
	for at := range o.needed {
		byHost[at.host] = append(byHost[at.host], at)
	}
	return registry.EachHost(ctx, looksAtOnce, byHost, func(ctx context.Context, at blobAt) error {
		has, err := o.client.HasBlob(ctx, o.needed[at], at.digest)
		if err != nil {
			return ctx.Err()
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.world.present[at] = has
		return nil
	})
}

// attachments finds what is attached to an image and its children at the
// source, and whether the destination, where the image is there, has it too. An
// index that was rewritten has no referrers of its own: they speak of other
// bytes.
func (o *observer) attachments(ctx context.Context, l lookup, there bool, children []providers.Digest, tag *tagWorld) error {
	coming := &attached{}
	if f := l.coming[tag.tag]; f.attached != nil {
		coming = f.attached
	}
	var (
		found           attached
		rootPresent     = true
		childrenPresent = true
		err             error
	)
	if tag.want == tag.source {
		if found.root, rootPresent, err = o.attachedTo(ctx, l, there, tag, []providers.Digest{tag.source}, coming.root); err != nil {
			return err
		}
	}
	if len(children) > 0 {
		if found.children, childrenPresent, err = o.attachedTo(ctx, l, there, tag, children, coming.children); err != nil {
			return err
		}
	}
	if len(found.root)+len(found.children) > 0 {
		found.present = rootPresent && childrenPresent
		tag.attached = &found
	}
	return nil
}

// attachedTo lists the referrers of the subjects, those that an earlier block is
// going to bring included. A destination is only asked when there is something
// to compare.
func (o *observer) attachedTo(ctx context.Context, l lookup, there bool, tag *tagWorld, subjects []providers.Digest, coming []Referrer) (list []Referrer, present bool, err error) {
	list = slices.Clone(coming)
	have := map[Referrer]bool{}
	for _, subject := range subjects {
		var found []Referrer
		if !l.coming[tag.tag].fresh {
			if found, err = o.referrersOf(ctx, l.from, subject, l.source); err != nil {
				return nil, false, err
			}
		}
		list = append(list, found...)
		if !there || len(found)+len(coming) == 0 {
			continue
		}
		destination, err := o.referrersOf(ctx, l.to, subject, l.destination)
		if err != nil {
			return nil, false, err
		}
		for _, r := range destination {
			have[r] = true
		}
	}
	list = sortReferrers(list)
	return list, !slices.ContainsFunc(list, func(r Referrer) bool { return !have[r] }), nil
}

// sortReferrers sorts by subject, as the copy wants them, and drops repetitions.
func sortReferrers(list []Referrer) []Referrer {
	slices.SortFunc(list, func(a, b Referrer) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Digest, b.Digest), cmp.Compare(a.Tag, b.Tag))
	})
	return slices.Compact(list)
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
	left := map[string]int{}
	for record := range o.in.State.All() {
		block := BlockOf(record.Address)
		if configured[block] {
			continue
		}
		if !o.filter.wants(record.Address) {
			left[block]++
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
	for i := range gone {
		gone[i].left = left[gone[i].address]
	}
	gone = append(gone, o.interrupted(configured)...)
	byHost := map[string][]*goneMember{}
	for i := range gone {
		if !o.deletes(gone[i]) {
			continue
		}
		for j := range gone[i].members {
			if m := &gone[i].members[j]; m.tag != "" && m.to.Host != "" {
				byHost[m.to.Host] = append(byHost[m.to.Host], m)
			}
		}
	}
	err := registry.EachHost(ctx, looksAtOnce, byHost, func(ctx context.Context, m *goneMember) error {
		var err error
		m.dest, err = o.head(ctx, m.to, m.tag, nil)
		return o.swallow(ctx, err, &m.err)
	})
	if err == nil {
		err = o.goneSecrets(ctx, gone)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.world.gone = gone
	return err
}

func (o *observer) goneBlock(address string) goneWorld {
	record, found := o.in.State.Lookup(address)
	return goneWorld{address: address, record: record, found: found}
}

// interrupted are secrets that a run was about to make when it was cut off, of
// which nothing is recorded, and whose blocks are gone since.
func (o *observer) interrupted(configured map[string]bool) []goneWorld {
	var gone []goneWorld
	for _, intent := range o.in.State.Intents() {
		was, ours := ParseSecretIntent(intent.Op)
		_, recorded := o.in.State.Lookup(intent.Address)
		if ours && !recorded && !configured[intent.Address] && o.filter.wants(intent.Address) {
			gone = append(gone, goneWorld{address: intent.Address, record: statefile.Record{
				Address: intent.Address, Kind: statefile.KindSecret, Destination: was.Place, Name: was.Name,
			}})
		}
	}
	return gone
}

// deletes reports whether what the block left behind is to be deleted.
func (o *observer) deletes(g goneWorld) bool {
	return !g.record.Protect && (o.in.Destroy || g.record.OnRemove == "delete")
}
