package registry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"freightliner/providers"
)

// Copier copies images and artifacts between repositories. All jobs of a run go
// through one Copier, from many goroutines: what one job has brought to a
// registry, the others mount. See [work.deliver] for the way of a blob.
type Copier struct {
	client *Client
	jobs   atomic.Int64

	mu    sync.Mutex
	lists map[manifestKey]*fallbackList
}

// NewCopier makes a Copier on c, whose knowledge it shares.
func NewCopier(c *Client) *Copier {
	return &Copier{client: c, lists: map[manifestKey]*fallbackList{}}
}

// Expect says that jobs from one repository's registry to the other's are going
// to come, until over is called. Both registries then keep a share of what they
// take at once for this pair, so that no other pair has everything when a
// registry stalls. Without it, pairs are known from their first transfer on.
func (c *Copier) Expect(from, to providers.Repository) (over func()) {
	source, err := c.client.remoteFor(from)
	if err != nil {
		return func() {} // the jobs will tell
	}
	destination, err := c.client.remoteFor(to)
	if err != nil || source == destination {
		return func() {}
	}
	one, two := source.gate.expect(to.Host), destination.gate.expect(from.Host)
	return func() { one(); two() }
}

// How much of one image is in motion at once; the gates of the registries bound
// the whole.
const (
	blobsAtOnce    = 16 // moving, of one job
	blobsInMind    = 64 // of one image: moving, or following another who moves them
	childrenAtOnce = 4
)

// work is one Job under way.
type work struct {
	copier   *Copier
	client   *Client
	job      Job
	from, to *remote
	flight   *flight // the whole job, for followers of its blobs
	// repairing: what we believed to be there was not, so nothing is mounted.
	repairing bool
	moving    *semaphore.Weighted // held for each blob, but not while it follows another job

	mu     sync.Mutex
	result Result
	wrote  map[providers.Digest]bool // manifests
	met    map[providers.Digest]bool // blobs
}

// Copy makes job.Root, with all it refers to, present in job.To, and then lets
// every tag of job.Tags point to it: blobs, then manifests, then indexes, then
// tags, so that no tag of ours ever leads to an incomplete image. It can be
// repeated at any time and moves only what is missing. On error the Result says
// how far it came.
//
// Errors: NotFound when something is gone from the source; Conflict when
// content does not match its digest or size, or the selection does not give
// job.Want; Denied, Throttled, Transient (after the tries within), Invalid,
// Unsupported as everywhere.
func (c *Copier) Copy(ctx context.Context, job Job) (Result, error) {
	w, err := c.begin(job)
	if err != nil {
		return Result{}, err
	}
	defer w.end()
	root, err := w.root(ctx)
	if err != nil {
		return w.result, err
	}
	if len(job.Tags) == 0 && !job.Fresh && !root.IsIndex() {
		if _, err := w.there(ctx, root.Digest); err != nil {
			return w.result, err
		}
	}
	if err := w.tree(ctx, root, 1); err != nil {
		return w.sum(), err
	}
	refs := job.Tags
	if len(refs) == 0 && job.From != job.To && !w.known().complete(job.To, root.Digest) {
		refs = []string{string(root.Digest)}
	}
	for _, ref := range refs {
		if err := w.put(ctx, root, ref); err != nil {
			return w.sum(), err
		}
	}
	w.result.Digest = root.Digest
	return w.sum(), nil
}

func (c *Copier) begin(job Job) (*work, error) {
	from, err := c.client.at("copy from", job.From, string(job.Root))
	if err != nil {
		return nil, err
	}
	to, err := c.client.at("copy to", job.To, "")
	if err != nil {
		return nil, err
	}
	for _, tag := range job.Tags {
		if err := CheckTag(tag); err != nil {
			return nil, &providers.Error{Class: providers.Invalid, Op: "copy to", On: job.To.String(), Err: err}
		}
	}
	return &work{copier: c, client: c.client, job: job, from: from, to: to, wrote: map[providers.Digest]bool{}, met: map[providers.Digest]bool{}, moving: semaphore.NewWeighted(blobsAtOnce),
		flight: &flight{done: make(chan struct{}), job: c.jobs.Add(1)}}, nil
}

// end lets go of everybody who follows this job.
func (w *work) end() {
	w.known().unleadAll(w.job.To.Host, w.flight)
	close(w.flight.done)
}

func (w *work) known() *knowledge { return w.client.known }

// root reads the root and narrows it as the job says.
func (w *work) root(ctx context.Context) (*Manifest, error) {
	root, err := w.client.Manifest(ctx, w.job.From, string(w.job.Root))
	if err != nil {
		return nil, err
	}
	if root, err = Select(root, w.job.Select); err != nil {
		return nil, err
	}
	if w.job.Want != "" && root.Digest != w.job.Want {
		return nil, &providers.Error{Class: providers.Conflict, Op: "copy to", On: w.job.To.At(w.job.Want),
			Err: fmt.Errorf("the selection gives %s, the plan expects %s", root.Digest, w.job.Want)}
	}
	return root, nil
}

// tree makes everything below m present, not m itself.
func (w *work) tree(ctx context.Context, m *Manifest, depth int) error {
	if w.job.From == w.job.To || w.known().complete(w.job.To, m.Digest) {
		return nil
	}
	if err := checkShape(w.job.From, m, depth, 0, 0); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if m.IsIndex() {
		group.SetLimit(childrenAtOnce)
		for _, child := range once(m.Manifests) {
			group.Go(func() error { return w.child(ctx, child, depth+1) })
		}
		return group.Wait()
	}
	group.SetLimit(blobsInMind)
	for _, blob := range m.Blobs() {
		if !IsForeign(blob.MediaType) {
			group.Go(func() error { return w.deliver(ctx, blob) })
		}
	}
	return group.Wait()
}

// once drops repeated digests.
func once(list []providers.Descriptor) []providers.Descriptor {
	seen := map[providers.Digest]bool{}
	return slices.DeleteFunc(slices.Clone(list), func(d providers.Descriptor) bool {
		twice := seen[d.Digest]
		seen[d.Digest] = true
		return twice
	})
}

// child makes a child of an index present, with all below it. Jobs that share
// children in one repository bring each once.
func (w *work) child(ctx context.Context, d providers.Descriptor, depth int) error {
	key := flightKey{manifestKey: manifestKey{w.job.To, d.Digest}}
	for {
		if w.known().complete(w.job.To, d.Digest) {
			return nil
		}
		f, lead := w.known().join(key, w.flight.job)
		if lead {
			err := w.bringChild(ctx, d, depth)
			w.known().leave(key, f)
			return err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *work) bringChild(ctx context.Context, d providers.Descriptor, depth int) error {
	if !w.job.Fresh && !IsIndexType(d.MediaType) && !w.lacks(d.Digest) {
		if there, err := w.there(ctx, d.Digest); there || err != nil {
			return err
		}
	}
	m, err := w.client.child(ctx, w.job.From, d)
	if err != nil {
		return err
	}
	if err := w.tree(ctx, m, depth); err != nil {
		return err
	}
	return w.put(ctx, m, string(m.Digest))
}

// lacks reports whether the image d is known not to be at the destination, since
// a blob of it is not.
func (w *work) lacks(d providers.Digest) bool {
	m := w.client.cache.get(d)
	return m != nil && slices.ContainsFunc(m.Blobs(), func(b providers.Descriptor) bool { return w.known().isMissing(w.job.To, b.Digest) })
}

// there asks whether the image manifest d is at the destination. A registry that
// has taken it has what is below it.
func (w *work) there(ctx context.Context, d providers.Digest) (bool, error) {
	if w.known().complete(w.job.To, d) {
		return true, nil
	}
	_, err := w.client.head(ctx, w.to, w.job.To, string(d), pullPush)
	if providers.ClassOf(err) == providers.NotFound {
		return false, nil
	}
	return err == nil, err
}

// maxRepairs is how often a manifest is written again after the registry missed
// something that we took to be there, and maxLooks how often that is looked for
// before it counts as gone.
const maxRepairs, maxLooks = 2, 3

// put writes m. What we know is a hint: when the registry misses something, the
// hints are dropped, everything is looked for, and what is missing is sent. The
// pause before is for replicas: one may not know yet what another took.
func (w *work) put(ctx context.Context, m *Manifest, ref string) error {
	for repairs := 0; ; repairs++ {
		err := w.client.PutManifest(ctx, w.job.To, ref, m)
		if err == nil || w.tookBefore(ctx, m, ref, err) {
			w.known().committed(w.job.To, m.Blobs())
			w.known().addComplete(w.job.To, m.Digest)
			w.wroteManifest(m.Digest)
			return nil
		}
		if repairs == maxRepairs || !lacksContent(err) {
			return err
		}
		w.client.log.Debug("content is missing, looking again", "at", address(w.job.To, ref), "error", err.Error())
		if err := w.client.clock.Wait(ctx, w.to.backoff(repairs+1, nil)); err != nil {
			return err
		}
		if err := w.repair(ctx, m); err != nil {
			return err
		}
	}
}

// lacksContent reports whether a registry refused a manifest since something that
// it refers to is not there.
func lacksContent(err error) bool {
	return hasCode(err, "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN")
}

// tookBefore reports whether a tag leads to m although the registry refused to
// write it. Where tags are immutable even the same content is refused
// (aws/containers-roadmap #2179), so the refusal may be the answer to our second
// try after the first one's answer was lost.
func (w *work) tookBefore(ctx context.Context, m *Manifest, ref string, err error) bool {
	switch class := providers.ClassOf(err); {
	case strings.Contains(ref, ":") || statusOf(err) == 0:
		return false
	case class != providers.Invalid && class != providers.Conflict && class != providers.Unsupported:
		return false
	}
	d, err := w.client.head(ctx, w.to, w.job.To, ref, pullPush)
	return err == nil && d.Digest == m.Digest
}

// repair brings what m needs and the destination turns out not to have, with a
// look at each. Foreign layers count here too: this registry wants them.
func (w *work) repair(ctx context.Context, m *Manifest) error {
	again := &work{copier: w.copier, client: w.client, job: w.job, from: w.from, to: w.to, flight: w.flight, repairing: true, moving: w.moving, wrote: map[providers.Digest]bool{}, met: map[providers.Digest]bool{}}
	again.job.Fresh = false
	defer w.merge(again)
	w.known().forgetManifest(w.job.To, m.Digest)
	for _, child := range once(m.Manifests) {
		w.known().forgetManifest(w.job.To, child.Digest)
		if err := again.child(ctx, child, 2); err != nil {
			return err
		}
	}
	gone, err := w.gone(ctx, m.Blobs())
	if err != nil {
		return err
	}
	if len(gone) > 0 {
		w.to.looking.settle(lookByHead) // one of them may have been found by a mount that was none
	}
	for _, blob := range gone {
		err := again.deliver(ctx, blob)
		if err != nil && (!IsForeign(blob.MediaType) || providers.ClassOf(err) != providers.NotFound) {
			return err
		}
	}
	return nil
}

// gone are those of blobs that are not at the destination. What we took to be
// there may be behind a replica that does not show it yet (Azure/acr #588, about
// one push in ten), so it is looked for again before it is sent again.
func (w *work) gone(ctx context.Context, blobs []providers.Descriptor) (gone []providers.Descriptor, err error) {
	for n := 1; ; n++ {
		var again []providers.Descriptor
		for _, blob := range blobs {
			believed := n > 1 || w.known().hasBlob(w.job.To, blob.Digest)
			w.known().forgetBlob(w.job.To, blob.Digest)
			there, err := w.client.headBlob(ctx, w.to, w.job.To, blob.Digest, pullPush)
			switch {
			case err != nil:
				return nil, err
			case !there && believed && n < maxLooks:
				again = append(again, blob)
			case !there:
				gone = append(gone, blob)
			}
		}
		if blobs = again; len(blobs) == 0 {
			return gone, nil
		}
		if err := w.client.clock.Wait(ctx, w.to.backoff(n, nil)); err != nil {
			return nil, err
		}
	}
}

// merge adds what other did to what w did.
func (w *work) merge(other *work) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result.Progress = w.result.plus(other.result.Progress)
	maps.Copy(w.wrote, other.wrote)
	w.result.Manifests = len(w.wrote)
}

// step reports progress and adds it up.
func (w *work) step(p Progress) {
	w.flight.moved.Add(1)
	w.mu.Lock()
	w.result.Progress = w.result.plus(p)
	w.mu.Unlock()
	if w.job.Progress != nil {
		w.job.Progress(p)
	}
}

// found is a step that moved nothing; the destination's counters have it too.
func (w *work) found(p Progress) {
	w.to.counters.found(p.Mounted, p.Skipped)
	w.step(p)
}

func (p Progress) plus(q Progress) Progress {
	return Progress{Bytes: p.Bytes + q.Bytes, Mounted: p.Mounted + q.Mounted, Skipped: p.Skipped + q.Skipped, Blobs: p.Blobs + q.Blobs}
}

func (w *work) wroteManifest(d providers.Digest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrote[d] = true
	w.result.Manifests = len(w.wrote)
}

func (w *work) sum() Result {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.result
}
