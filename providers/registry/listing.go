package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"freightliner/providers"
)

const (
	maxPages   = 10_000
	maxEntries = 10_000_000
)

// listingEnd is what was learned about how a registry ends a listing. The
// specification has a Link header on every page but the last; some registries
// page without one, and taking their first page for the whole would make a
// mirror lose what follows. So the first page without a Link is checked, once
// per registry, by asking on behind its last entry.
type listingEnd struct {
	mu       sync.Mutex
	style    endStyle
	longest  int           // page seen
	checking chan struct{} // closed when the one check is over; nil while nobody checks
}

type endStyle uint8

const (
	endUnknown endStyle = iota
	endByLink           // no Link means the end
	endByEmpty          // pages come without Links; only an empty or repeated page is the end
	endChecked          // one page without Link was found to be the end
)

// goOn reports whether to ask for what follows a page of n entries that had no
// Link, when want were asked for. check is set for the one caller whose next
// page settles the question; it must call [listingEnd.learn]. The others wait.
func (e *listingEnd) goOn(ctx context.Context, n, want int) (on, check bool, err error) {
	for {
		e.mu.Lock()
		if n == 0 || e.style != endUnknown {
			break
		}
		if e.checking == nil {
			e.checking = make(chan struct{})
			e.longest = max(e.longest, n)
			e.mu.Unlock()
			return true, true, nil
		}
		checking := e.checking
		e.mu.Unlock()
		select {
		case <-checking:
		case <-ctx.Done():
			return false, false, ctx.Err()
		}
	}
	defer e.mu.Unlock()
	longest := e.longest
	e.longest = max(e.longest, n)
	switch {
	case n == 0 || e.style == endByLink:
		return false, false, nil
	case e.style == endByEmpty:
		return true, false, nil
	}
	// A page as long as a limit that the registry may have of its own.
	return n >= want || n >= 10 && n%5 == 0 && n >= longest, false, nil
}

// learn takes note of how the registry pages; check is set by the one who was
// told to check. endUnknown means that the check came to nothing.
func (e *listingEnd) learn(s endStyle, check bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.style == endUnknown || s == endByEmpty || s == endByLink {
		e.style = s
	}
	if check {
		close(e.checking)
		e.checking = nil
	}
}

// listing pages through a list of names. read takes the names out of a page.
type listing struct {
	remote *remote
	call   call
	end    *listingEnd
	read   func(body []byte) ([]string, error)
}

// each yields every name once, in the registry's order. The first error ends
// it: a listing that fails half-way is no listing.
func (l *listing) each(ctx context.Context, yield func(string) bool) error {
	r, want := l.remote, l.remote.profile.page
	base := l.call.url
	next := *base
	next.RawQuery = url.Values{"n": {strconv.Itoa(want)}}.Encode()
	seen, pages := map[string]bool{}, map[string]bool{}
	asked, check := false, false // asked: no Link leads to this page
	for page := 1; ; page++ {
		if page > maxPages || len(seen) > maxEntries {
			return l.broken("the listing does not end: %d pages, %d entries", page-1, len(seen))
		}
		if pages[next.String()] {
			return l.broken("page %d leads to a page that was there before", page-1)
		}
		pages[next.String()] = true
		names, link, err := l.page(ctx, next)
		if err != nil {
			if check {
				l.end.learn(endUnknown, true)
			}
			return err
		}
		count, last := len(names), ""
		if count > 0 {
			last = names[count-1]
		}
		fresh := slices.DeleteFunc(names, func(name string) bool {
			twice := seen[name]
			seen[name] = true
			return twice
		})
		if asked {
			l.end.learn(map[bool]endStyle{true: endByEmpty, false: endChecked}[len(fresh) > 0], check)
		}
		for _, name := range fresh {
			if !yield(name) {
				return nil
			}
		}
		asked, check = false, false
		if link != "" {
			l.end.learn(endByLink, false)
			u, _, err := r.resolve(&next, link, nil)
			if err != nil {
				return l.broken("the link to the next page: %w", err)
			}
			next = *u
			continue
		}
		if len(fresh) == 0 || r.profile.linkEnds {
			return nil
		}
		if asked, check, err = l.end.goOn(ctx, count, want); err != nil || !asked {
			return err
		}
		next = *base
		next.RawQuery = url.Values{"n": {strconv.Itoa(want)}, "last": {last}}.Encode()
	}
}

func (l *listing) broken(format string, args ...any) error {
	return &providers.Error{Class: providers.Invalid, Op: l.call.op, On: l.call.on, Err: fmt.Errorf(format, args...)}
}

func (l *listing) page(ctx context.Context, at url.URL) (names []string, link string, err error) {
	c := l.call
	c.url = &at
	err = l.remote.exchange(ctx, &c, func(resp *http.Response) error {
		body, err := readBody(resp, l.remote.profile.pageCap)
		if err != nil {
			return err
		}
		if err := checkJSON(body); err != nil {
			return invalid("the listing: %w", err)
		}
		if names, err = l.read(body); err != nil {
			return invalid("the listing is not as specified")
		}
		link = nextLink(resp.Header.Values("Link"))
		return nil
	})
	return names, link, err
}

// Repositories lists the repositories of host at or below prefix (by whole path
// segments; empty for all) by the bulk listing of its kind, or by the catalog where
// that is complete. Each is yielded once, in the
// registry's order. An error ends the sequence and means that it is incomplete:
// nothing may be deleted on its word.
func (c *Client) Repositories(ctx context.Context, host, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		repo := providers.Repository{Host: host, Path: prefix}
		if err := c.repositories(ctx, repo, func(name string) bool { return yield(name, nil) }); err != nil {
			yield("", err)
		}
	}
}

func (c *Client) repositories(ctx context.Context, base providers.Repository, yield func(string) bool) error {
	on := base.String()
	if base.Path != "" {
		if err := CheckRepository(base.Path); err != nil {
			return &providers.Error{Class: providers.Invalid, Op: "list repositories of", On: providers.Printable(on, 300), Err: err}
		}
	}
	r, err := c.remoteFor(base)
	if err != nil {
		return err
	}
	names, done, bulk := r.bulkRepositories(ctx, base)
	if done {
		for i := 0; bulk == nil && i < len(names) && yield(names[i]); i++ {
		}
		return bulk
	}
	if r.profile.Catalog == CatalogNone {
		return &providers.Error{Class: providers.Unsupported, Op: "list repositories of", On: on,
			Err:  errors.New("registries of the kind " + r.kind.Name + " have no complete catalog"),
			Hint: nameThem}
	}
	var bad error
	l := &listing{remote: r, end: &r.catalogEnds,
		call: call{op: "list repositories of", on: on, method: http.MethodGet, endpoint: "catalog", url: r.url("_catalog", nil),
			scopes: []string{"registry:catalog:*"}, header: http.Header{"Accept-Encoding": {acceptEncodings}}, ok: []int{http.StatusOK}}}
	l.read = func(body []byte) ([]string, error) {
		var answer struct {
			Repositories []string `json:"repositories"`
		}
		err := json.Unmarshal(body, &answer)
		return answer.Repositories, err
	}
	err = l.each(ctx, func(name string) bool {
		if !below(name, base.Path) {
			return true
		}
		if err := CheckRepository(name); err != nil {
			bad = l.broken("%w", err)
			return false
		}
		return yield(name)
	})
	if bad != nil {
		return bad
	}
	return neither(catalogHint(err, base.Host), bulk)
}

// catalogHint explains why a catalog is not to be had.
func catalogHint(err error, host string) error {
	return amend(err, func(e *providers.Error) {
		switch statusOf(err) {
		case http.StatusUnauthorized, http.StatusForbidden:
			e.Hint = "Listing the catalog of " + host + " needs the right registry:catalog:*, often an administrator's; or name the repositories with repositories { names = [...] }."
		case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
			e.Class = providers.Unsupported
			e.Hint = host + " has no catalog; name the repositories with repositories { names = [...] }."
		}
	})
}

// ListsInBulk reports whether listing the tags of repo tells more than their
// names, as digests, which saves looking at each.
func (c *Client) ListsInBulk(repo providers.Repository) bool {
	r, err := c.remoteFor(repo)
	return err == nil && r.kind.Tags != nil
}

// Tags lists the tags of repo, sorted. A repository that does not exist is no
// error but Missing. A name that can not be a tag makes the whole listing
// Invalid, since leaving it out would make the list look complete.
func (c *Client) Tags(ctx context.Context, repo providers.Repository) (TagList, error) {
	r, err := c.at("list tags of", repo, "")
	if err != nil {
		return TagList{}, err
	}
	bulk, done, err := r.bulkTags(ctx, repo)
	if done && !bulk.Unsure {
		return bulk, err
	}
	l := &listing{remote: r, end: &r.tagEnds,
		call: call{op: "list tags of", on: repo.String(), method: http.MethodGet, endpoint: "tags", url: r.url(repo.Path+"/tags/list", nil),
			scopes: []string{scope(repo.Path, pull)}, header: http.Header{"Accept-Encoding": {acceptEncodings}}, ok: []int{http.StatusOK}}}
	list := TagList{}
	digests := map[string]providers.Digest{}
	l.read = func(body []byte) ([]string, error) {
		var answer tagPage
		if err := json.Unmarshal(body, &answer); err != nil {
			return nil, err
		}
		maps.Copy(digests, answer.digests())
		return answer.Tags, nil
	}
	var bad error
	err = l.each(ctx, func(tag string) bool {
		if bad = CheckTag(tag); bad != nil {
			bad = l.broken("%w", bad)
			return false
		}
		list.Tags = append(list.Tags, tag)
		return true
	})
	if bad != nil {
		return TagList{}, bad
	}
	if providers.ClassOf(err) == providers.Denied && len(list.Tags) == 0 && r.kind.Missing != nil {
		if missing, unknown := r.kind.Missing(ctx, &API{remote: r}, repo.Path); unknown == nil && missing {
			return TagList{Missing: true}, nil
		}
	}
	if providers.ClassOf(err) == providers.NotFound && len(list.Tags) == 0 {
		if codesOf(err) != nil {
			return TagList{Missing: true}, nil
		}
		return TagList{}, amend(err, func(e *providers.Error) {
			e.Hint = "The answer does not look like a registry's; check the host " + repo.Host + "."
		})
	}
	if err != nil {
		return TagList{}, err
	}
	slices.Sort(list.Tags)
	if len(digests) > 0 {
		list.Digests = digests
	}
	if bulk.Unsure {
		list.Digests, list.Pushed, list.Sizes = among(list.Tags, bulk.Digests), among(list.Tags, bulk.Pushed), among(list.Tags, bulk.Sizes)
	}
	return list, nil
}

// among keeps what is known about tags; nil for nothing.
func among[V any](tags []string, known map[string]V) map[string]V {
	kept := map[string]V{}
	for _, tag := range tags {
		if v, ok := known[tag]; ok {
			kept[tag] = v
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return kept
}

// tagPage is an answer to tags/list. Google's registries add what each manifest
// is and which tags it has.
type tagPage struct {
	Tags     []string                     `json:"tags"` // null where all tags are gone
	Manifest map[string]googleTagManifest `json:"manifest"`
}

type googleTagManifest struct {
	Tag []string `json:"tag"`
}

// digests are the digests by tag that the page gives, as far as they are well
// formed.
func (p *tagPage) digests() map[string]providers.Digest {
	found := map[string]providers.Digest{}
	for text, m := range p.Manifest {
		d, err := providers.ParseDigest(text)
		if err != nil {
			continue
		}
		for _, tag := range m.Tag {
			if CheckTag(tag) == nil {
				found[tag] = d
			}
		}
	}
	return found
}
