package gar

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// longest is the most entries that an answer has.
const longest = 10_000

// page is tags/list with what Google adds to it.
type page struct {
	Children  []string            `json:"child"`
	Manifests map[string]manifest `json:"manifest"`
	Tags      []string            `json:"tags"`
}

type manifest struct {
	Tags     []string `json:"tag"`
	Size     string   `json:"imageSizeBytes"`
	Uploaded string   `json:"timeUploadedMs"`
}

// list reads tags/list of a path, which may be a repository, a folder of them, or
// both. As many entries as an answer can have may be fewer than there are.
func list(ctx context.Context, api *registry.API, op, path string) (page, error) {
	q := registry.Request{
		Op: op, On: providers.Repository{Host: api.Host(), Path: path}.String(), Endpoint: "tags",
		URL:    api.URL("/v2/"+path+"/tags/list", url.Values{"n": {strconv.Itoa(longest)}}),
		Scopes: []string{"repository:" + path + ":pull"},
	}
	var p page
	header, err := api.Ask(ctx, q, &p)
	if err != nil {
		return page{}, err
	}
	if max(len(p.Manifests), len(p.Children), len(p.Tags)) >= longest || header.Get("Link") != "" {
		return page{}, q.Fail(providers.Invalid, "Clean up old images there, or split the repository.",
			"the answer has as many entries as an answer can have (%d), so there may be more", longest)
	}
	return p, nil
}

// tags needs one answer for everything.
func tags(ctx context.Context, api *registry.API, path string) (found registry.TagList, err error) {
	p, err := list(ctx, api, "list tags of", path)
	if providers.ClassOf(err) == providers.NotFound && registry.Codes(err) != nil {
		return registry.TagList{Missing: true}, nil
	}
	if err != nil {
		return registry.TagList{}, err
	}
	for digest, m := range p.Manifests {
		size, _ := strconv.ParseInt(m.Size, 10, 64)
		var pushed time.Time
		if ms, err := strconv.ParseInt(m.Uploaded, 10, 64); err == nil && ms > 0 {
			pushed = time.UnixMilli(ms).UTC()
		}
		for _, tag := range m.Tags {
			found.Add(tag, registry.TagEntry{Digest: digest, Pushed: pushed, Size: size})
		}
	}
	found.Tags = append(found.Tags, p.Tags...) // of remote repositories, whose manifests are not told
	return found, nil
}

// repositories walks the tree below prefix: an answer for each folder and
// repository. A path that holds manifests is a repository.
func repositories(ctx context.Context, api *registry.API, prefix string) (names []string, err error) {
	if prefix == "" {
		return nil, registry.Request{Op: "list repositories of", On: api.Host()}.Fail(providers.Unsupported,
			"Name the project: "+api.Host()+"/PROJECT or "+api.Host()+"/PROJECT/REPOSITORY.", "the registry of all of Google has no list")
	}
	for todo := []string{prefix}; len(todo) > 0; todo = todo[1:] {
		at := todo[0]
		p, err := list(ctx, api, "list repositories of", at)
		if err != nil {
			return nil, err
		}
		if len(p.Manifests) > 0 || len(p.Tags) > 0 {
			names = append(names, at)
		}
		for _, child := range p.Children {
			todo = append(todo, at+"/"+strings.Trim(child, "/"))
		}
	}
	return names, nil
}
