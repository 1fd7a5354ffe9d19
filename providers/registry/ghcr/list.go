package ghcr

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// ask reads all pages of a list of the packages interface, by Link. The owner is
// an organisation or a user, which only asking tells
// (docs.github.com/rest/packages/packages).
func ask[T any](ctx context.Context, api *registry.API, op, path, rest string, query url.Values, each func(T)) (pages int, err error) {
	owner, _, _ := strings.Cut(path, "/")
	q := registry.Request{Op: op, On: providers.Repository{Host: api.Host(), Path: path}.String(), Endpoint: "packages",
		Header: http.Header{"Accept": {"application/vnd.github+json"}, "X-Github-Api-Version": {"2022-11-28"}}}
	q.Authorize = authorize(api, &q, path)
	if !serves(api.Host()) {
		return 0, q.Fail(providers.Unsupported, "", "%s is not ghcr.io, so GitHub is not asked", api.Host())
	}
	var header http.Header
	page := []T{}
	for _, kind := range []string{"orgs", "users"} {
		q.URL = api.At(apiHost, "/"+kind+"/"+url.PathEscape(owner)+"/packages"+rest, query)
		if header, err = api.Ask(ctx, q, &page); providers.ClassOf(err) != providers.NotFound {
			break
		}
	}
	for pages = 1; ; pages++ {
		if err != nil {
			if providers.ClassOf(err) == providers.Denied && registry.Status(err) != 0 {
				err = registry.Hint(err, "The token for ghcr.io needs the scope read:packages, and the owner's single sign-on where there is one.")
			}
			return pages, err
		}
		for _, entry := range page {
			each(entry)
		}
		next, failed := api.Next(q.URL, header)
		if failed != nil || next == nil {
			return pages, failed
		}
		q.URL, page = next, nil
		header, err = api.Ask(ctx, q, &page)
	}
}

// repositories are the packages of the owner that prefix begins with. The pages
// are cut by number and nothing tells how many entries there are, so a list of
// several pages is read twice: one that stood still lost none.
func repositories(ctx context.Context, api *registry.API, prefix string) ([]string, error) {
	const op = "list repositories of"
	owner, _, _ := strings.Cut(prefix, "/")
	if owner == "" {
		return nil, registry.Request{Op: op, On: api.Host()}.Fail(providers.Unsupported, "Name the owner: ghcr.io/OWNER.", "GitHub lists packages only by owner")
	}
	type found struct {
		Name string `json:"name"`
	}
	read := func() (names []string, pages int, err error) {
		pages, err = ask(ctx, api, op, prefix, "", url.Values{"package_type": {"container"}, "per_page": {"100"}}, func(p found) {
			names = append(names, owner+"/"+p.Name)
		})
		slices.Sort(names)
		return names, pages, err
	}
	names, pages, err := read()
	if err != nil || pages == 1 {
		return names, err
	}
	api.Restart()
	again, _, err := read()
	if err == nil && !slices.Equal(names, again) {
		err = registry.ErrMoved
	}
	return names, err
}

// tags are the versions of a package: each is a manifest, named by its digest,
// with the tags that point there (docs.github.com/rest/packages/packages,
// "List package versions"). The tags of one that does not exist are the
// registry's to tell.
func tags(ctx context.Context, api *registry.API, path string) (list registry.TagList, err error) {
	_, name, _ := strings.Cut(path, "/")
	type version struct {
		Name     string    `json:"name"`
		Updated  time.Time `json:"updated_at"`
		Metadata struct {
			Container struct {
				Tags []string `json:"tags"`
			} `json:"container"`
		} `json:"metadata"`
	}
	pages, err := ask(ctx, api, "list tags of", path, "/container/"+url.PathEscape(name)+"/versions", url.Values{"per_page": {"100"}}, func(v version) {
		for _, tag := range v.Metadata.Container.Tags {
			list.Add(tag, registry.TagEntry{Digest: v.Name, Pushed: v.Updated})
		}
	})
	list.Unsure = pages > 1 // cut by number, as above
	return list, err
}
