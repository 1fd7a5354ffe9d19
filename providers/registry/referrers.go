package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"freightliner/providers"
)

// How a registry keeps referrers, as learned during the run.
const (
	referrersUnknown = iota
	referrersAPI     // it has the referrers API of OCI distribution-spec 1.1
	referrersTags    // it has not: an index under the tag "sha256-<hex>" lists them
)

// learnSubject notes what an answer to a manifest with a subject says: a
// registry that keeps referrers itself must send OCI-Subject.
func (r *remote) learnSubject(keeps bool) {
	if keeps {
		r.referrers.Store(referrersAPI)
		return
	}
	r.referrers.CompareAndSwap(referrersUnknown, referrersTags)
}

// cosignSuffixes are the tags by which cosign attaches signatures, attestations
// and SBOMs.
var cosignSuffixes = []string{"att", "sbom", "sig"}

// FallbackTag is the tag under which registries without the referrers API keep
// the list of d's referrers (distribution-spec, "Referrers Tag Schema").
func FallbackTag(d providers.Digest) string {
	return d.Algorithm() + "-" + d.Hex()[:min(64, len(d.Hex()))]
}

// ParseReferrerTag takes a tag of the fallback or cosign scheme apart: the
// subject, and "sig", "att", "sbom", or empty for a fallback list. ok is false
// for an ordinary tag. Subjects of SHA-512 are cut to 64 digits in such tags, so
// only those of SHA-256 are recognised.
func ParseReferrerTag(tag string) (subject providers.Digest, suffix string, ok bool) {
	hex, found := strings.CutPrefix(tag, "sha256-")
	if !found {
		return "", "", false
	}
	hex, suffix, dotted := strings.Cut(hex, ".")
	if dotted != (suffix != "") || dotted && !slices.Contains(cosignSuffixes, suffix) {
		return "", "", false
	}
	subject, err := providers.ParseDigest("sha256:" + hex)
	return subject, suffix, err == nil
}

// maxReferrers bounds the walk over the referrers of one set of subjects.
const maxReferrers = 20_000

// Referrers lists what is attached to subject in repo: by the referrers API, or
// by the fallback tag where the registry has no API (found out once per
// registry), and by cosign's tags. When tags is the listing of repo, a tag that
// is not in it costs no request; with nil each is asked for. The list is sorted
// by digest, then tag.
func (c *Client) Referrers(ctx context.Context, repo providers.Repository, subject providers.Digest, tags *TagList) ([]Referrer, error) {
	r, err := c.at("list referrers of", repo, string(subject))
	if err != nil {
		return nil, err
	}
	var found []Referrer
	descriptors, err := c.subjectReferrers(ctx, r, repo, subject, tags)
	if err != nil {
		return nil, err
	}
	for _, d := range descriptors {
		found = append(found, Referrer{Descriptor: d, Subject: subject})
	}
	for _, suffix := range cosignSuffixes {
		tag := FallbackTag(subject) + "." + suffix
		if !mayHave(tags, tag) {
			continue
		}
		d, err := c.head(ctx, r, repo, tag, pull)
		if providers.ClassOf(err) == providers.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, Referrer{Descriptor: d, Subject: subject, Tag: tag})
	}
	slices.SortFunc(found, compareReferrers)
	return slices.CompactFunc(found, func(a, b Referrer) bool { return compareReferrers(a, b) == 0 }), nil
}

func compareReferrers(a, b Referrer) int {
	return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Digest, b.Digest), cmp.Compare(a.Tag, b.Tag))
}

func mayHave(tags *TagList, tag string) bool {
	if tags == nil {
		return true
	}
	_, ok := slices.BinarySearch(tags.Tags, tag)
	return ok
}

// subjectReferrers are the manifests that name subject as theirs.
func (c *Client) subjectReferrers(ctx context.Context, r *remote, repo providers.Repository, subject providers.Digest, tags *TagList) ([]providers.Descriptor, error) {
	list, answered, err := c.byAPI(ctx, r, repo, subject, tags)
	if answered || err != nil {
		return list, err
	}
	if !mayHave(tags, FallbackTag(subject)) {
		return nil, nil
	}
	m, err := c.fallback(ctx, r, repo, subject, pull)
	if m == nil || err != nil {
		return nil, err
	}
	return m.Manifests, nil
}

// byAPI asks the referrers API, unless the registry is known not to have it.
// While that is not known only one request finds it out; a thousand subjects
// that are looked at side by side wait for its answer.
func (c *Client) byAPI(ctx context.Context, r *remote, repo providers.Repository, subject providers.Digest, tags *TagList) (list []providers.Descriptor, answered bool, err error) {
	if r.referrers.Load() == referrersUnknown {
		r.probing.Lock()
		if r.referrers.Load() == referrersUnknown {
			defer r.probing.Unlock() // this request is the one that finds out
		} else {
			r.probing.Unlock()
		}
	}
	if r.referrers.Load() == referrersTags {
		return nil, false, nil
	}
	list, err = c.askReferrers(ctx, r, repo, subject)
	if err == nil {
		r.referrers.Store(referrersAPI)
		return list, true, nil
	}
	if class := providers.ClassOf(err); class != providers.NotFound && class != providers.Unsupported || r.referrers.Load() == referrersAPI {
		return nil, false, err
	}
	// NAME_UNKNOWN may be about the path or about the repository; only for one
	// that is there does it mean that there is no API.
	if !hasCode(err, "NAME_UNKNOWN") || tags != nil && !tags.Missing {
		r.referrers.CompareAndSwap(referrersUnknown, referrersTags)
	}
	return nil, false, nil
}

// askReferrers pages through the referrers API.
func (c *Client) askReferrers(ctx context.Context, r *remote, repo providers.Repository, subject providers.Digest) ([]providers.Descriptor, error) {
	request := call{op: "list referrers of", on: repo.At(subject), method: http.MethodGet, endpoint: "referrers",
		scopes: []string{scope(repo.Path, pull)}, header: http.Header{"Accept": {ociIndex}, "Accept-Encoding": {acceptEncodings}}, ok: []int{http.StatusOK}}
	next := r.url(repo.Path+"/referrers/"+string(subject), nil)
	var list []providers.Descriptor
	visited := map[string]bool{}
	for next != nil {
		if visited[next.String()] || len(list) > maxReferrers {
			return nil, &providers.Error{Class: providers.Invalid, Op: request.op, On: request.on, Err: errors.New("the listing does not end")}
		}
		visited[next.String()] = true
		request.url = next
		err := r.exchange(ctx, &request, func(resp *http.Response) error {
			raw, err := readBody(resp, maxPage)
			if err != nil {
				return err
			}
			m, err := parseManifest(raw, resp.Header.Get("Content-Type"))
			if err != nil || !m.IsIndex() {
				return invalid("the list of referrers is no index: %w", err)
			}
			list = append(list, m.Manifests...)
			link := nextLink(resp.Header.Values("Link"))
			if link == "" {
				next = nil
				return nil
			}
			next, _, err = r.resolve(request.url, link, nil)
			if err != nil {
				return invalid("the link to the next page: %w", err)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// fallback reads the list under the fallback tag; nil when there is none.
func (c *Client) fallback(ctx context.Context, r *remote, repo providers.Repository, subject providers.Digest, actions string) (*Manifest, error) {
	m, err := c.getManifest(ctx, r, repo, FallbackTag(subject), actions)
	if providers.ClassOf(err) == providers.NotFound {
		return nil, nil
	}
	if err == nil && !m.IsIndex() {
		return nil, &providers.Error{Class: providers.Invalid, Op: "list referrers of", On: repo.At(subject),
			Err: fmt.Errorf("tag %s is %s, not an index", FallbackTag(subject), m.MediaType)}
	}
	return m, err
}

// ReferrerSet lists the referrers of all subjects, and theirs in turn, each
// once however they refer to each other. Sorted by subject, digest and tag, so
// that the sets of two repositories can be compared.
func (c *Client) ReferrerSet(ctx context.Context, repo providers.Repository, subjects []providers.Digest, tags *TagList) ([]Referrer, error) {
	set, err := c.walkReferrers(ctx, repo, subjects, tags)
	slices.SortFunc(set, compareReferrers)
	return set, err
}

// walkReferrers gives every referrer behind its subject.
func (c *Client) walkReferrers(ctx context.Context, repo providers.Repository, subjects []providers.Digest, tags *TagList) ([]Referrer, error) {
	var set []Referrer
	seen := map[providers.Digest]bool{}
	queue := slices.Compact(slices.Sorted(slices.Values(subjects)))
	for len(queue) > 0 {
		subject := queue[0]
		queue = queue[1:]
		if seen[subject] {
			continue
		}
		seen[subject] = true
		found, err := c.Referrers(ctx, repo, subject, tags)
		if err != nil {
			return nil, err
		}
		if len(set)+len(found) > maxReferrers {
			return nil, &providers.Error{Class: providers.Invalid, Op: "list referrers in", On: repo.String(), Err: fmt.Errorf("more than %d", maxReferrers)}
		}
		for _, f := range found {
			set = append(set, f)
			queue = append(queue, f.Digest)
		}
	}
	return set, nil
}
