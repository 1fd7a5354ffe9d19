package quay

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// repositories are those of the namespace that prefix begins with
// (docs.quay.io/api/swagger, "listRepos").
func repositories(ctx context.Context, api *registry.API, prefix string) (names []string, err error) {
	q := registry.Request{Op: "list repositories of", On: providers.Repository{Host: api.Host(), Path: prefix}.String(), Endpoint: "quay"}
	q.Authorize = authorize(api, &q, prefix, true)
	space, _, _ := strings.Cut(prefix, "/")
	if space == "" {
		return nil, q.Fail(providers.Unsupported, "Name the namespace: "+api.Host()+"/NAMESPACE.", "Quay lists by namespace")
	}
	query := url.Values{"namespace": {space}, "public": {"true"}}
	for {
		q.URL = api.URL("/api/v1/repository", query)
		var page struct {
			Repositories []struct {
				Namespace string `json:"namespace"`
				Name      string `json:"name"`
			} `json:"repositories"`
			Next string `json:"next_page"`
		}
		if _, err := api.Ask(ctx, q, &page); err != nil {
			return nil, err
		}
		for _, r := range page.Repositories {
			names = append(names, r.Namespace+"/"+r.Name)
		}
		if page.Next == "" {
			return names, nil
		}
		query.Set("next_page", page.Next)
	}
}

// tags are the live ones, 100 a page (docs.quay.io/api/swagger,
// "listRepoTags"). The pages are cut by number, and nothing tells how many there
// are, so beyond one page the names are the registry's to tell.
func tags(ctx context.Context, api *registry.API, path string) (list registry.TagList, err error) {
	q := registry.Request{Op: "list tags of", On: providers.Repository{Host: api.Host(), Path: path}.String(), Endpoint: "quay"}
	q.Authorize = authorize(api, &q, path, false)
	for number := 1; ; number++ {
		q.URL = api.URL("/api/v1/repository/"+path+"/tag/", url.Values{"limit": {"100"}, "page": {strconv.Itoa(number)}, "onlyActiveTags": {"true"}})
		var page struct {
			Tags []struct {
				Name   string `json:"name"`
				Digest string `json:"manifest_digest"`
				Size   int64  `json:"size"`
				Start  int64  `json:"start_ts"`
			} `json:"tags"`
			More bool `json:"has_additional"`
		}
		if _, err := api.Ask(ctx, q, &page); err != nil {
			return registry.TagList{}, err
		}
		for _, t := range page.Tags {
			entry := registry.TagEntry{Digest: t.Digest, Size: t.Size}
			if t.Start > 0 {
				entry.Pushed = time.Unix(t.Start, 0).UTC()
			}
			list.Add(t.Name, entry)
		}
		if !page.More {
			list.Unsure = number > 1
			return list, nil
		}
	}
}
