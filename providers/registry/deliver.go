package registry

import (
	"context"
	"fmt"
	"time"

	"freightliner/providers"
)

// followLimit is how long a follower watches a leader that moves no byte before
// it helps itself.
const followLimit = time.Minute

// deliver makes d present in the job's destination. Within a run each blob is
// brought to a repository once, whoever else wants it there:
//
//	known there? ------------------------------> nothing to do
//	on its way to this repository by another? -> wait for it
//	in another repository of the registry? ----> mount            (POST)
//	   refused: go on in the session it opened
//	on its way to another repository? ---------> wait, then mount
//	the repository is not new? ----------------> look            (HEAD, or a POST: see [looking])
//	not there --------------------------------> upload           (POST unless it was, GET -> PUT)
func (w *work) deliver(ctx context.Context, d providers.Descriptor) error {
	if err := w.moving.Acquire(ctx, 1); err != nil {
		return err
	}
	defer w.moving.Release(1)
	key := flightKey{manifestKey{w.job.To, d.Digest}, true}
	for {
		if w.known().hasBlob(w.job.To, d.Digest) {
			if w.first(d.Digest) {
				w.found(Progress{Skipped: d.Size, Blobs: 1})
			}
			return nil
		}
		f, lead := w.known().join(key, w.flight.job)
		if lead {
			w.first(d.Digest) // whoever of this job finds it there afterwards does not count it again
			err := w.bring(ctx, d, f)
			w.known().leave(key, f)
			return err
		}
		finished, err := w.await(ctx, f)
		if err != nil {
			return err
		}
		if !finished {
			return w.bring(ctx, d, &flight{done: make(chan struct{}), job: w.flight.job})
		}
	}
}

// first reports whether this job has not met d before: images of one index
// share layers, and progress counts each once.
func (w *work) first(d providers.Digest) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	met := w.met[d]
	w.met[d] = true
	return !met
}

// await follows f while it makes progress. Meanwhile another blob of this job
// may move: who follows holds nothing.
func (w *work) await(ctx context.Context, f *flight) (finished bool, err error) {
	w.moving.Release(1)
	// Without regard to the end of ctx, so that each deliver gives back what it
	// took; those that hold the places end with ctx themselves.
	defer w.moving.Acquire(context.WithoutCancel(ctx), 1)
	for {
		before := f.moved.Load()
		finished, err := waitFor(ctx, w.client.clock, f.done, followLimit)
		if finished || err != nil || f.moved.Load() == before {
			return finished, err
		}
	}
}

// bring is deliver without the regard for others who bring d to the same
// repository; f is what they watch.
func (w *work) bring(ctx context.Context, d providers.Descriptor, f *flight) error {
	open, done, err := w.mountOrLead(ctx, d, f)
	if err != nil || done {
		return err
	}
	if !w.to.profile.commitFirst {
		defer w.known().unlead(w.job.To.Host, d.Digest, f)
	}
	if !w.job.Fresh && !w.known().isMissing(w.job.To, d.Digest) {
		there, opened, err := w.look(ctx, d, open)
		if err != nil {
			return err
		}
		open = opened
		if there {
			if !w.repairing { // what is found then was counted when it came
				w.found(Progress{Skipped: d.Size, Blobs: 1})
			}
			return nil
		}
	}
	if err := w.upload(ctx, d, f, open); err != nil {
		return err
	}
	w.known().addBlob(w.job.To, d.Digest)
	w.step(Progress{Blobs: 1})
	return nil
}

// mountOrLead tries every way that moves no bytes. Otherwise the caller is to
// move them: in the session, if a refused mount opened one, and as the leader
// that others of the same registry watch.
//
// Waiting can not go in a circle. Where a mount needs no commit, a leader is
// uploading and waits for nobody. Where it does, a leader is a whole job that
// may wait itself, so jobs wait only for elder ones.
func (w *work) mountOrLead(ctx context.Context, d providers.Descriptor, f *flight) (open *session, done bool, err error) {
	leader := f
	if w.to.profile.commitFirst {
		leader = w.flight
	}
	tried := map[string]bool{}
	for {
		if from := w.mountSource(d); from != "" && !tried[from] {
			tried[from] = true
			open, done, err = w.mount(ctx, d, from)
			if done || err != nil || open != nil {
				return open, done, err
			}
			continue
		}
		other := w.known().lead(w.job.To.Host, d.Digest, leader)
		if other == leader || w.to.profile.commitFirst && other.job > w.flight.job || tried[fmt.Sprint("job ", other.job)] {
			return nil, false, nil
		}
		finished, err := w.await(ctx, other)
		if err != nil || !finished {
			return nil, false, err
		}
		if w.to.profile.commitFirst {
			tried[fmt.Sprint("job ", other.job)] = true
		}
	}
}

// mountSource is where d can be mounted from: the source itself when it is on
// the same registry, else a repository that is known to have it.
func (w *work) mountSource(d providers.Descriptor) string {
	if w.repairing {
		return ""
	}
	from, to := w.job.From, w.job.To
	if from.Host == to.Host && from.Path != to.Path && w.known().mayMount(to.Host, from.Path, to.Path) {
		return from.Path
	}
	return w.known().mountSource(to, d.Digest, w.to.profile.commitFirst)
}

// mount asks for d out of the repository from. A refusal with a session (202)
// is an offer to upload into it; any other refusal is remembered for the pair
// of repositories, and the blob goes the plain way.
func (w *work) mount(ctx context.Context, d providers.Descriptor, from string) (open *session, done bool, err error) {
	open, mounted, err := w.client.openUpload(ctx, w.to, w.job.To, d.Digest, from)
	switch class := providers.ClassOf(err); {
	case err == nil && mounted:
		w.known().addBlob(w.job.To, d.Digest)
		w.found(Progress{Mounted: d.Size, Blobs: 1})
		return nil, true, nil
	case err == nil:
		return open, false, nil
	case class == providers.Denied, class == providers.NotFound, class == providers.Unsupported, class == providers.Invalid:
		w.known().refuseMount(w.job.To.Host, from, w.job.To.Path)
		w.client.log.Debug("mount refused", "from", from, "to", w.job.To.String(), "error", err.Error())
		return nil, false, nil
	}
	return nil, false, err
}

// hold takes a slot at the source and one at the destination, always in the
// same order, so that copies in opposite directions can not each hold what the
// other waits for. At a registry that asked for a pause, waiting comes first.
func hold(ctx context.Context, from, to *remote) (release func(), err error) {
	if from == to || from == nil {
		p := pass{actions: []action{pushes}, slots: 1}
		if from == to {
			p = pass{actions: []action{pulls, pushes}, slots: 2}
		}
		return to.gate.enter(ctx, p)
	}
	type step struct {
		*remote
		pass
	}
	steps := []step{
		{from, pass{actions: []action{pulls}, slots: 1, lane: to.settings.Host}},
		{to, pass{actions: []action{pushes}, slots: 1, lane: from.settings.Host}},
	}
	if from.id > to.id {
		steps[0], steps[1] = steps[1], steps[0]
	}
	first, err := steps[0].gate.enter(ctx, steps[0].pass)
	if err != nil {
		return nil, err
	}
	second, err := steps[1].gate.enter(ctx, steps[1].pass)
	if err != nil {
		first()
		return nil, err
	}
	return func() { second(); first() }, nil
}
