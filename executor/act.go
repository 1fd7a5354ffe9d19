package executor

import (
	"fmt"

	"freightliner/planner"
	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/statefile"
)

// try performs one action once: precondition, effect, record.
func (w *walk) try(i int) result {
	a := &w.plan.Actions[i]
	if full := w.whyFull(a); full != "" {
		return result{because: full}
	}
	w.emit(Event{Type: Started, Action: i, Attempt: w.attempt(i)})
	if a.Kind == statefile.KindSecret {
		return w.secret(i)
	}
	if w.recorded(i) {
		return result{already: true} // an earlier apply of the same plan did it
	}
	if err := w.priorHolds(i); err != nil {
		return result{stale: true, err: err}
	}
	switch {
	case a.Kind == statefile.KindTree:
		return w.block(i)
	case a.Verb == planner.CreateRepository:
		return w.createRepository(i)
	case a.Verb == planner.Forget:
		return w.record(i, result{})
	case a.Verb == planner.Delete:
		return w.delete(i)
	case a.Kind == statefile.KindReferrers:
		return w.referrers(i)
	case a.Verb == planner.Adopt:
		return w.adopt(i)
	}
	return w.copy(i)
}

// whyFull is the action that found a's repository full, when a would add to it: it
// would meet the same refusal, after its bytes were sent.
func (w *walk) whyFull(a *planner.Action) string {
	switch a.Verb {
	case planner.Delete, planner.Forget, planner.Adopt:
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.full[a.To]
}

func (w *walk) attempt(i int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.attempts[i]
}

// prior is what the state says at the action's address. A record counts only
// while its block is where the plan has it: below a block that went to another
// destination, records speak of the old one.
func (w *walk) prior(a *planner.Action) (r statefile.Record, found bool) {
	planned := &w.plan.Blocks[a.Block]
	block, _ := w.run.State.Lookup(planned.Address)
	if a.Kind != statefile.KindTree && block.Destination != planned.Destination {
		return statefile.Record{}, false
	}
	return w.run.State.Lookup(a.Address)
}

// recorded reports whether an earlier apply of the same saved plan did what
// action i does: the state says already what it would make it say. Where that
// is what the state said when the plan was made, as in the repair of a drift,
// it tells nothing, and the destination is looked at.
func (w *walk) recorded(i int) bool {
	a := &w.plan.Actions[i]
	if !w.plan.Saved {
		return false
	}
	have, found := w.prior(a)
	switch {
	case a.Verb == planner.Delete || a.Verb == planner.Forget:
		return !found
	case a.Kind != statefile.KindTree && a.Prior == a.Want:
		return false
	}
	return found && have == w.plan.Change(i).Record
}

// priorHolds checks what the plan saw in the state. Another apply may have
// come between: then the record is its word against ours, and the newer wins.
//
// For a delete it is the proof of ownership: the state, not the plan file, says
// that exactly this tag is ours, with exactly this digest, and that nobody has
// protected its block since.
func (w *walk) priorHolds(i int) error {
	a := &w.plan.Actions[i]
	changed := func(format string, args ...any) error {
		return &providers.Error{
			Class: providers.Conflict, Op: string(a.Verb), On: a.Address, Err: fmt.Errorf(format, args...),
			Hint: "Another apply came between. Make a new plan.",
		}
	}
	have, found := w.prior(a)
	owed := a.Kind == statefile.KindReferrers && have.Digest == "" // an earlier apply of this plan was cut off before them
	if a.Kind != statefile.KindTree && have.Digest != a.Prior && !owed {
		return changed("the plan saw %s in the state, now there is %s", orNothing(a.Prior), orNothing(have.Digest))
	}
	block, _ := w.run.State.Lookup(w.plan.Blocks[a.Block].Address)
	removes := a.Verb == planner.Delete || a.Verb == planner.Forget && a.Kind == statefile.KindTree
	if removes && block.Protect {
		return changed("%s is protected (prevent_destroy)", block.Address)
	}
	if a.Verb != planner.Delete {
		return nil
	}
	if repo, tag := planner.Place(block, have); !found || repo != a.To || tag != a.ToTag {
		return changed("the state does not say that %s is ours", a.To.Tag(a.ToTag))
	}
	return nil
}

func orNothing(d providers.Digest) string {
	if d == "" {
		return "nothing"
	}
	return d.Short()
}

// record writes what is true now. It runs after the effect is confirmed, so a
// crash in between repeats work and never invents a record.
func (w *walk) record(i int, r result) result {
	a := &w.plan.Actions[i]
	if a.Verb == planner.Delete || a.Verb == planner.Forget || a.Kind == statefile.KindReferrers {
		return w.journal(r, w.plan.Change(i))
	}
	return w.journal(r, append(w.owed(i), w.plan.Change(i))...)
}

// owed are the records that say, together with an image's own, that referrers
// which go with it are not there yet. A run that ends in between would forget
// those of an index's images, which are looked for only once. Records of
// referrers at the place where an image was before are dropped.
func (w *walk) owed(i int) []statefile.Change {
	a := &w.plan.Actions[i]
	var changes []statefile.Change
	if prior, found := w.run.State.Lookup(a.Address); found && a.Kind == statefile.KindImage && prior.Destination != w.plan.Blocks[a.Block].Destination {
		for record := range w.run.State.Under(a.Address + "@") {
			changes = append(changes, statefile.Remove(record.Address))
		}
	}
	for _, next := range w.graph.dependents(i) {
		if int(next) >= len(w.plan.Actions) {
			continue
		}
		if n := &w.plan.Actions[next]; n.Kind == statefile.KindReferrers && n.Block == a.Block && n.Verb != planner.Adopt {
			changes = append(changes, statefile.Put(statefile.Record{Address: n.Address, Kind: n.Kind}))
		}
	}
	return changes
}

func (w *walk) journal(r result, changes ...statefile.Change) result {
	err := w.run.Journal.Done(changes...)
	if err == nil {
		return r
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.journalFailed(err)
	r.err = err
	return r
}

// block records a block's rules. When the block goes to another destination,
// or nobody knows where it went before, the records below it do not speak of
// this one: they are dropped first, in the same batch, so that no cut of the journal leaves a record that names a place
// where we put nothing.
func (w *walk) block(i int) result {
	a := &w.plan.Actions[i]
	var changes []statefile.Change
	next := w.plan.Change(i)
	prior, found := w.run.State.Lookup(a.Address)
	if !next.Removed && (!found || prior.Destination != next.Record.Destination) {
		for record := range w.run.State.Under(a.Address + "/") {
			changes = append(changes, statefile.Remove(record.Address))
		}
	}
	return w.journal(result{}, append(changes, next)...)
}

// createRepository makes a repository. It is no error that somebody was faster:
// an empty repository of the right name is what was wanted.
func (w *walk) createRepository(i int) result {
	if err := w.run.Client.CreateRepository(w.ctx, w.plan.Actions[i].To); err != nil {
		return result{err: err}
	}
	return w.record(i, result{})
}

// copy brings one tag to its pinned content.
//
// Why it overwrites nothing unseen: where the destination tag had content, or
// time has passed since the plan, it is read again just before, and anything
// but the planned or the wanted digest makes the action stale. Registries offer
// no conditional write of a tag, so the moment between this look and the write
// remains; docs/design.md says so.
func (w *walk) copy(i int) result {
	a := &w.plan.Actions[i]
	r := result{}
	if w.plan.Saved || a.Observed != "" {
		current, err := w.current(a)
		switch {
		case err != nil:
			return result{err: err}
		case current == a.Want:
			return w.record(i, result{already: true})
		case current != a.Observed:
			return stale(a, current)
		}
	}
	if w.plan.Saved && a.FromTag != "" {
		r.note = w.sourceMoved(a)
	}
	if err := w.transfer(i, a); err != nil {
		if w.pinGone(a, err) {
			return result{stale: true, err: &providers.Error{
				Class: providers.Conflict, Op: "copy " + a.From.At(a.Pin) + " to", On: a.To.Tag(a.ToTag), Err: err,
				Hint: "The planned content is gone at the source. Make a new plan.",
			}}
		}
		return result{err: err}
	}
	return w.record(i, r)
}

// pinGone reports whether the copy failed because the source no longer has the
// planned content, rather than because the destination lacks something.
func (w *walk) pinGone(a *planner.Action, err error) bool {
	if providers.ClassOf(err) != providers.NotFound {
		return false
	}
	_, err = w.run.Client.Head(w.ctx, a.From, string(a.Pin))
	return providers.ClassOf(err) == providers.NotFound
}

func (w *walk) transfer(i int, a *planner.Action) error {
	job := registry.Job{
		From: a.From, To: a.To, Root: a.Pin, Want: a.Want, Select: w.plan.Blocks[a.Block].Copy.Platforms,
		Tags: []string{a.ToTag}, Fresh: a.Fresh && !w.plan.Saved, Progress: w.progress(i),
	}
	if a.Verb == planner.Retag {
		within := job
		within.From, within.Root, within.Select = a.To, a.Want, nil
		_, err := w.copier.Copy(w.ctx, within)
		if providers.ClassOf(err) != providers.NotFound {
			return err
		}
		// The other tag's content went away since the plan: copy it after all.
	}
	_, err := w.copier.Copy(w.ctx, job)
	return err
}

func (w *walk) progress(i int) func(registry.Progress) {
	return func(p registry.Progress) {
		w.mu.Lock()
		w.summary.Bytes += p.Bytes
		w.summary.Present += p.Mounted + p.Skipped
		w.mu.Unlock()
		w.emit(Event{Type: Moved, Action: i, Bytes: p.Bytes, Present: p.Mounted + p.Skipped})
	}
}

// current is the digest of the destination tag; empty when there is none.
func (w *walk) current(a *planner.Action) (providers.Digest, error) {
	d, err := w.run.Client.Head(w.ctx, a.To, a.ToTag)
	if providers.ClassOf(err) == providers.NotFound {
		return "", nil
	}
	return d.Digest, err
}

// sourceMoved says so when the source tag is no longer what was planned. The
// copy goes ahead: what was reviewed is what is applied.
func (w *walk) sourceMoved(a *planner.Action) string {
	d, err := w.run.Client.Head(w.ctx, a.From, a.FromTag)
	switch {
	case providers.ClassOf(err) == providers.NotFound:
		return fmt.Sprintf("%s is gone at the source; copied the planned %s", a.From.Tag(a.FromTag), a.Pin.Short())
	case err != nil || d.Digest == a.Pin:
		return ""
	}
	return fmt.Sprintf("%s moved to %s since the plan; copied the planned %s", a.From.Tag(a.FromTag), d.Digest.Short(), a.Pin.Short())
}

func stale(a *planner.Action, current providers.Digest) result {
	return result{stale: true, err: &providers.Error{
		Class: providers.Conflict, Op: string(a.Verb), On: a.To.Tag(a.ToTag),
		Err:  fmt.Errorf("the plan saw %s at the destination, now there is %s", orNothing(a.Observed), orNothing(current)),
		Hint: "Somebody changed it after the plan was made. Make a new plan.",
	}}
}

// adopt records content that is there already.
func (w *walk) adopt(i int) result {
	a := &w.plan.Actions[i]
	if w.plan.Saved {
		current, err := w.current(a)
		if err != nil {
			return result{err: err}
		}
		if current != a.Want {
			return stale(a, current)
		}
	}
	return w.record(i, result{already: true})
}

// delete removes one tag.
//
// Why it cannot delete what is not ours: the planner found the tag recorded in
// the state with exactly the digest that the destination had, and that is
// checked once more here, always. A tag that has other content now is left
// alone. Only the tag is deleted, never a manifest by digest, so that other
// tags on the same content keep it.
func (w *walk) delete(i int) result {
	a := &w.plan.Actions[i]
	current, err := w.current(a)
	switch {
	case err != nil:
		return result{err: err}
	case current == "":
		return w.record(i, result{already: true})
	case current != a.Prior || a.Prior == "":
		return stale(a, current)
	}
	if err := w.run.Client.Delete(w.ctx, a.To, a.ToTag); err != nil && providers.ClassOf(err) != providers.NotFound {
		return result{err: err}
	}
	return w.record(i, result{})
}

// referrers copies what refers to a subject, after the subject.
func (w *walk) referrers(i int) result {
	a := &w.plan.Actions[i]
	if a.Verb == planner.Adopt {
		return w.record(i, result{already: true})
	}
	job := registry.ReferrersJob{From: a.From, To: a.To, Progress: w.progress(i), Fresh: a.Fresh && !w.plan.Saved}
	for _, r := range a.Referrers {
		job.Pinned = append(job.Pinned, registry.Referrer{Descriptor: providers.Descriptor{Digest: r.Digest}, Subject: r.Subject, Tag: r.Tag})
	}
	if _, err := w.copier.CopyReferrers(w.ctx, job); err != nil {
		return result{err: err}
	}
	return w.record(i, result{})
}
