package registry

import (
	"context"
	"net/http"
	"sync"

	"freightliner/providers"
)

// looking is how blobs are looked for at one registry that are to be sent when
// they are not there.
//
//	HEAD blob             200: there      404 -> POST, PUT
//	POST mount from self  201: there      202 -> PUT in the session that it opened
//
// The second is a request less for each blob that is missing. Its 202 also is how
// a registry answers that mounts nothing, and to take that for "missing" would
// send again what is there. So a registry is first asked to mount a blob that is
// known to be in the repository, once in a run, and only one that says 201 to
// that is believed afterwards.
type looking struct {
	mu    sync.Mutex
	way   lookWay
	under chan struct{} // closed when the request that finds out is over; nil for none
}

type lookWay uint8

const (
	lookUnknown lookWay = iota
	lookByHead
	lookByMount
)

// look asks whether d is in the job's destination. When it is not, opened is a
// session to send it in: open, which a refused mount left, or one that the look
// has opened, or nil.
func (w *work) look(ctx context.Context, d providers.Descriptor, open *session) (there bool, opened *session, err error) {
	if open == nil && w.mayLookByMount(ctx, d) {
		s, there, err := w.client.openUpload(ctx, w.to, w.job.To, d.Digest, w.job.To.Path)
		switch {
		case err == nil && there:
			w.known().addBlob(w.job.To, d.Digest)
			return true, nil, nil
		case err == nil:
			w.known().missing(w.job.To, d.Digest)
			return false, s, nil
		case !saysNo(err):
			return false, nil, err
		}
		w.to.looking.settle(lookByHead)
		w.client.log.Debug("a look by mount was refused", "registry", w.to.settings.Host, "error", err.Error())
	}
	there, err = w.client.headBlob(ctx, w.to, w.job.To, d.Digest, pullPush)
	return there, open, err
}

// mayLookByMount reports whether the session that a look by mount may open is
// wanted and its answer can be believed. A large blob whose upload an earlier
// run has begun has a session; and what a repair looks for was believed wrongly
// before.
func (w *work) mayLookByMount(ctx context.Context, d providers.Descriptor) bool {
	if w.to.profile.Look != LookMount || w.repairing || w.begun(d) {
		return false
	}
	l := &w.to.looking
	for {
		l.mu.Lock()
		way, under := l.way, l.under
		sample := w.known().sample(w.job.To)
		if way == lookUnknown && under == nil && sample != "" {
			l.under = make(chan struct{})
			l.mu.Unlock()
			way = w.tryMount(ctx, sample)
			l.found(way)
			return way == lookByMount
		}
		l.mu.Unlock()
		if way != lookUnknown || under == nil {
			return way == lookByMount
		}
		select {
		case <-under:
		case <-ctx.Done():
			return false // the HEAD says why
		}
	}
}

// begun reports whether an earlier run may have left a session for d.
func (w *work) begun(d providers.Descriptor) bool {
	if w.client.ledger == nil || d.Size < w.client.sizes.large || w.to.profile.Resume == ResumeNever {
		return false
	}
	_, ok := w.client.ledger.Load(w.to.settings.Host, w.job.To.Path, d.Digest)
	return ok
}

// tryMount asks to mount a blob that is known to be in the destination from
// there. Whatever is not a 201 means that looks by mount are not for this
// registry, or not now.
func (w *work) tryMount(ctx context.Context, d providers.Digest) lookWay {
	_, there, err := w.client.openUpload(ctx, w.to, w.job.To, d, w.job.To.Path)
	switch {
	case err == nil && there:
		return lookByMount
	case ctx.Err() != nil:
		return lookUnknown
	}
	w.client.log.Debug("blobs are looked for by HEAD", "registry", w.to.settings.Host, "error", err)
	return lookByHead
}

// found ends the request that finds out.
func (l *looking) found(way lookWay) {
	l.settle(way)
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.under)
	l.under = nil
}

// settle decides the way; HEAD is for good.
func (l *looking) settle(way lookWay) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.way != lookByHead {
		l.way = way
	}
}

// saysNo reports whether err is an answer to the request that was asked, rather
// than trouble that a HEAD would meet as well.
func saysNo(err error) bool {
	switch class := providers.ClassOf(err); class {
	case providers.Throttled, providers.Canceled:
		return false
	case providers.Invalid: // also an answer that is none, as another digest
		return true
	}
	status := statusOf(err)
	return status != 0 && status != http.StatusServiceUnavailable
}
