package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"freightliner/providers"
)

// tagging writes several tags of one manifest by one request, where a registry
// takes that: PUT manifests/<digest>?tag=a&tag=b, whose answer names in OCI-Tag
// each tag that it set (opencontainers/distribution-spec #600; project-zot/zot
// #3885, quay/quay endpoints/v2/manifest.py). It is a group commit: what comes
// while a request for the same manifest is under way goes out together when that
// is over, and nobody waits for company that may not come.
//
//	first    PUT manifests/a ------> 201
//	                b c d wait         PUT manifests/<digest>?tag=b&tag=c&tag=d ------> OCI-Tag: b, c, d
//
// A tag that the answer does not name was not set, for all we know, and neither
// is any after an error: each of their callers then writes its own, as without
// all this, with its own retries, repairs and refusals. Writing the same digest
// under the same tag twice changes nothing. So a registry that does not know the
// query, and stores the manifest without a tag, costs one request in a run.
//
// Why no tag is written for a caller that has given up: who goes along is
// settled when nothing else is left to wait for, and those whose context has
// ended are left out then. Who gives up later does not know the outcome, as with
// any request whose answer is lost.
type tagging struct {
	mu     sync.Mutex
	taken  tagsTaken
	queues map[tagKey]*tagQueue
}

// tagsTaken is what is known about a registry's several tags in one request.
type tagsTaken uint8

const (
	tagsUnknown  tagsTaken = iota
	tagsTogether           // an answer named some of those that were asked for
	tagsSingly             // it does not take them; not tried again in this run
)

// tagsAtOnce is how many tags go into one request: what every registry that takes
// several has to take; more may be answered with 414.
const tagsAtOnce = 10

type tagKey struct {
	path      string
	digest    providers.Digest
	mediaType string
}

// tagQueue is a manifest while a request for a tag of it is under way.
type tagQueue struct {
	key      tagKey
	repo     providers.Repository
	manifest *Manifest
	waiting  []*tagCaller // for the next request
	out      []*tagCaller // in the request under way
	cancel   func()       // ends the request under way; nil while that is a caller's own
}

// tagCaller waits until others have written its tag, or for its turn. Its
// context is kept so that it can be left out the moment that it ends.
type tagCaller struct {
	ctx  context.Context
	tag  string
	turn chan tagTurn // holds one
}

type tagTurn uint8

const (
	tagIsSet  tagTurn = iota
	tagAlone          // the caller writes its own, beside others
	tagInTurn         // the same, and others wait until it is over
)

// errNoCompany is a request for several tags that is not sent, since fewer than
// two are left to write.
var errNoCompany = errors.New("nobody else has a tag to write")

// putTag writes m under tag, together with others where that can be.
func (r *remote) putTag(ctx context.Context, repo providers.Repository, tag string, m *Manifest) error {
	q, caller := r.tagging.join(ctx, repo, tag, m)
	if q == nil {
		return r.putManifest(ctx, repo, tag, m)
	}
	if caller != nil {
		switch turn, err := r.await(q, caller); {
		case err != nil:
			return r.failure(ctx, manifestPut(r, repo, tag, m), err)
		case turn == tagIsSet:
			return nil
		case turn == tagAlone:
			return r.putManifest(ctx, repo, tag, m)
		}
	}
	err := r.putManifest(ctx, repo, tag, m)
	r.over(q, err)
	return err
}

// join takes part in the writing of m's tags. A nil queue is for writing alone,
// and a nil caller for the one whom others wait for from now on.
func (t *tagging) join(ctx context.Context, repo providers.Repository, tag string, m *Manifest) (*tagQueue, *tagCaller) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// A registry may know content by its sha256 alone, so a tag that is written by
	// another digest need not lead to what the tag itself would have got.
	if t.taken == tagsSingly || m.Digest.Algorithm() != "sha256" {
		return nil, nil
	}
	key := tagKey{repo.Path, m.Digest, m.MediaType}
	q := t.queues[key]
	if q == nil {
		if t.queues == nil {
			t.queues = map[tagKey]*tagQueue{}
		}
		q = &tagQueue{key: key, repo: repo, manifest: m}
		t.queues[key] = q
		return q, nil
	}
	c := &tagCaller{ctx: ctx, tag: tag, turn: make(chan tagTurn, 1)}
	q.waiting = append(q.waiting, c)
	return q, c
}

// await gives what has become of the caller's tag; the only error is that of its
// context.
func (r *remote) await(q *tagQueue, c *tagCaller) (tagTurn, error) {
	select {
	case turn := <-c.turn:
		return turn, nil
	case <-c.ctx.Done():
	}
	t := &r.tagging
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := func(other *tagCaller) bool { return other == c }
	q.waiting, q.out = slices.DeleteFunc(q.waiting, mine), slices.DeleteFunc(q.out, mine)
	select {
	case turn := <-c.turn:
		if turn == tagInTurn {
			r.next(q)
		}
	default:
		if q.cancel != nil && len(q.waiting) == 0 && len(q.out) == 0 {
			q.cancel() // nobody is left who wants to know
		}
	}
	return 0, c.ctx.Err()
}

// over ends a caller's own request. When it failed, so would theirs who wait, or
// it says nothing about them: each finds out alone.
func (r *remote) over(q *tagQueue, err error) {
	t := &r.tagging
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.disperse(q)
		return
	}
	r.next(q)
}

// next lets those who wait go on, after the request that they waited for. The
// caller holds the lock.
func (r *remote) next(q *tagQueue) {
	t := &r.tagging
	switch {
	case t.taken == tagsSingly || len(q.waiting) == 0:
		t.disperse(q)
	case len(q.waiting) == 1:
		q.waiting[0].turn <- tagInTurn
		q.waiting = nil
	default:
		ctx, cancel := context.WithCancel(context.WithoutCancel(q.waiting[0].ctx))
		q.cancel = cancel
		go func() {
			defer cancel()
			r.putTags(ctx, q)
		}()
	}
}

// disperse ends a queue: whoever waits writes alone. The caller holds the lock.
func (t *tagging) disperse(q *tagQueue) {
	for _, c := range q.waiting {
		c.turn <- tagAlone
	}
	q.waiting = nil
	delete(t.queues, q.key)
}

// putTags writes the tags of those who wait, and tells them.
func (r *remote) putTags(ctx context.Context, q *tagQueue) {
	var asked, set []string
	request := manifestPut(r, q.repo, string(q.manifest.Digest), q.manifest)
	request.settle = func() (err error) {
		if asked, err = r.tagging.depart(q); err == nil {
			request.url = r.url(q.repo.Path+"/manifests/"+string(q.manifest.Digest), url.Values{"tag": asked})
		}
		return err
	}
	// One try: after an error each caller has its own.
	resp, err := r.open(ctx, request)
	if err == nil {
		defer resp.Body.Close()
		if err = r.tookManifest(resp, q.manifest); err != nil {
			err = r.failure(ctx, request, err)
		} else {
			set = tagsSet(resp.Header.Values("OCI-Tag"), asked)
		}
	}
	t := &r.tagging
	t.mu.Lock()
	defer t.mu.Unlock()
	q.cancel = nil
	if errors.Is(err, errNoCompany) {
		q.waiting, q.out = append(q.out, q.waiting...), nil
		r.next(q)
		return
	}
	if t.learn(set, err) {
		r.client.log.Debug("learned about tags", "registry", r.settings.Host, "together", t.taken == tagsTogether, "asked", asked, "set", set, "error", err)
	}
	for _, c := range q.out {
		if slices.Contains(set, c.tag) {
			c.turn <- tagIsSet
		} else {
			c.turn <- tagAlone
		}
	}
	q.out = nil
	r.next(q)
}

// depart settles which tags go into the request that is about to be sent.
func (t *tagging) depart(q *tagQueue) ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	gone := func(c *tagCaller) bool { return c.ctx.Err() != nil }
	q.out, q.waiting = slices.DeleteFunc(q.out, gone), slices.DeleteFunc(q.waiting, gone)
	n := min(len(q.waiting), tagsAtOnce-len(q.out))
	q.out = append(q.out, q.waiting[:n]...)
	q.waiting = slices.Clone(q.waiting[n:])
	var tags []string
	for _, c := range q.out {
		if !slices.Contains(tags, c.tag) {
			tags = append(tags, c.tag)
		}
	}
	if len(tags) < 2 {
		return nil, &providers.Error{Class: providers.Canceled, Err: errNoCompany}
	}
	return tags, nil
}

// learn takes the lesson of a request for several tags, of which set were set. It
// reports whether there was one.
//
// Content that is missing, a pause that is asked for, and an answer that did not
// come say nothing. Any other refusal is taken for one of the query, unless the
// registry took it before: then it is about these tags.
func (t *tagging) learn(set []string, err error) bool {
	before := t.taken
	switch {
	case t.taken == tagsSingly:
	case err == nil && len(set) > 0:
		t.taken = tagsTogether
	case err == nil:
		t.taken = tagsSingly
	case t.taken == tagsUnknown && statusOf(err) != 0 && statusOf(err) != http.StatusServiceUnavailable &&
		providers.ClassOf(err) != providers.Throttled && !lacksContent(err):
		t.taken = tagsSingly
	}
	return t.taken != before
}

// tagsSet are those of asked that the OCI-Tag headers name, in one list or in
// several headers.
func tagsSet(headers, asked []string) (set []string) {
	for _, header := range headers {
		for name := range strings.SplitSeq(header, ",") {
			if name = strings.TrimSpace(name); slices.Contains(asked, name) && !slices.Contains(set, name) {
				set = append(set, name)
			}
		}
	}
	return set
}
