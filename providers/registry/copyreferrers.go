package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"freightliner/providers"
)

// CopyReferrers copies what is attached to the subjects, and what is attached
// to that in turn, byte for byte. Attachments by cosign's tags keep their tags.
// Where the destination has no referrers API, the list under the fallback tag is
// read, merged and written; entries of others stay in it.
//
// Errors: as [Copier.Copy]; Conflict when another writer keeps changing a list.
func (c *Copier) CopyReferrers(ctx context.Context, job ReferrersJob) (Result, error) {
	var total Result
	set := job.Pinned
	if len(set) == 0 {
		var err error
		if set, err = c.client.walkReferrers(ctx, job.From, job.Subjects, job.FromTags); err != nil {
			return total, err
		}
	}
	for len(set) > 0 {
		subject := set[0].Subject
		n := slices.IndexFunc(set, func(r Referrer) bool { return r.Subject != subject })
		if n < 0 {
			n = len(set)
		}
		done, err := c.copyAttached(ctx, job, set[:n])
		total.Progress = total.plus(done.Progress)
		total.Manifests += done.Manifests
		if err != nil {
			return total, err
		}
		set = set[n:]
	}
	return total, nil
}

// copyAttached copies the referrers of one subject, and then lists them.
func (c *Copier) copyAttached(ctx context.Context, job ReferrersJob, attached []Referrer) (total Result, err error) {
	results := make([]Result, len(attached))
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(childrenAtOnce)
	var listed []providers.Digest
	for i, a := range attached {
		one := Job{From: job.From, To: job.To, Root: a.Digest, Fresh: job.Fresh, Progress: job.Progress}
		if a.Tag != "" {
			one.Tags = []string{a.Tag}
		} else {
			listed = append(listed, a.Digest)
		}
		group.Go(func() (err error) {
			results[i], err = c.Copy(within, one)
			return err
		})
	}
	err = group.Wait()
	for _, r := range results {
		total.Progress = total.plus(r.Progress)
		total.Manifests += r.Manifests
	}
	if err != nil || len(listed) == 0 {
		return total, err
	}
	wrote, err := c.list(ctx, job, attached[0].Subject, listed)
	if wrote {
		total.Manifests++
	}
	return total, err
}

// list makes sure that a destination without the referrers API lists the
// manifests under the subject's fallback tag.
func (c *Copier) list(ctx context.Context, job ReferrersJob, subject providers.Digest, manifests []providers.Digest) (wrote bool, err error) {
	to, err := c.client.at("list referrers of", job.To, string(subject))
	if err != nil {
		return false, err
	}
	if to.referrers.Load() == referrersUnknown {
		// Nothing with a subject was written yet that would have told.
		if _, err := c.client.subjectReferrers(ctx, to, job.To, subject, &TagList{}); err != nil {
			return false, err
		}
	}
	if to.referrers.Load() == referrersAPI {
		return false, nil
	}
	entries, err := c.entries(ctx, job.From, manifests)
	if err != nil {
		return false, err
	}
	lock, written := c.lockList(job.To, subject)
	lock.Lock()
	defer lock.Unlock()
	tag := FallbackTag(subject)
	look := *written || !job.Fresh && mayHave(job.ToTags, tag)
	for range 3 {
		var old *Manifest
		if look {
			if old, err = c.client.fallback(ctx, to, job.To, subject, pullPush); err != nil {
				return wrote, err
			}
		}
		merged, err := mergeList(old, entries)
		if err != nil || merged == nil {
			return wrote, err
		}
		if err := c.client.PutManifest(ctx, job.To, tag, merged); err != nil {
			return wrote, err
		}
		wrote, look, *written = true, true, true
		// No registry we know writes on a condition, so another writer's list may
		// have replaced ours in between: look, and merge again.
		now, err := c.client.head(ctx, to, job.To, tag, pullPush)
		if err != nil || now.Digest == merged.Digest {
			return wrote, err
		}
	}
	return wrote, &providers.Error{Class: providers.Conflict, Op: "list referrers under", On: job.To.Tag(tag),
		Err: errors.New("another writer keeps changing the list")}
}

// fallbackList is one fallback tag that this run may write.
type fallbackList struct {
	sync.Mutex
	written bool // by this run, so it is there whatever an older listing says
}

func (c *Copier) lockList(repo providers.Repository, subject providers.Digest) (lock sync.Locker, written *bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := manifestKey{repo, subject}
	l := c.lists[key]
	if l == nil {
		l = &fallbackList{}
		c.lists[key] = l
	}
	return l, &l.written
}

// listEntry is a descriptor in a list of referrers (OCI image-spec,
// descriptor.md; the fields that the referrers API gives).
type listEntry struct {
	MediaType    string            `json:"mediaType"`
	Digest       providers.Digest  `json:"digest"`
	Size         int64             `json:"size"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

func (c *Copier) entries(ctx context.Context, from providers.Repository, manifests []providers.Digest) ([]listEntry, error) {
	var entries []listEntry
	for _, d := range manifests {
		m, err := c.client.Manifest(ctx, from, string(d))
		if err != nil {
			return nil, err
		}
		e := listEntry{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Raw)), Annotations: m.Annotations, ArtifactType: m.ArtifactType}
		if e.ArtifactType == "" && m.Config != nil {
			e.ArtifactType = m.Config.MediaType
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b listEntry) int { return cmp.Compare(a.Digest, b.Digest) })
	return entries, nil
}

// mergeList is old with the entries that it lacks; nil when it lacks none. What
// is in it stays, byte for byte and in its place.
func mergeList(old *Manifest, entries []listEntry) (*Manifest, error) {
	list := struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []json.RawMessage `json:"manifests"`
		Annotations   json.RawMessage   `json:"annotations,omitempty"`
	}{}
	there := map[providers.Digest]bool{}
	if old != nil {
		if err := json.Unmarshal(old.Raw, &list); err != nil {
			return nil, err
		}
		for _, d := range old.Manifests {
			there[d.Digest] = true
		}
	}
	list.SchemaVersion, list.MediaType = 2, ociIndex
	changed := false
	for _, e := range entries {
		if there[e.Digest] {
			continue
		}
		raw, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		list.Manifests = append(list.Manifests, raw)
		changed = true
	}
	if !changed {
		return nil, nil
	}
	raw, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	return parseManifest(raw, ociIndex)
}
