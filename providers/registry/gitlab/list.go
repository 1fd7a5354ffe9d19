package gitlab

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// repositories asks for the group that prefix is, with all below it, else for the
// project that it is, else for the project that it lies in, going up
// (docs.gitlab.com/api/container_registry, "List registry repositories").
func repositories(ctx context.Context, api *registry.API, prefix string) ([]string, error) {
	q := registry.Request{Op: "list repositories of", On: providers.Repository{Host: api.Host(), Path: prefix}.String(), Endpoint: "gitlab",
		Authorize: authorize(api, prefix)}
	hosts := pairs(api.Settings())
	if len(hosts) == 0 {
		return nil, q.Fail(providers.Unsupported, "Name the host of GitLab itself in token_hosts in the registry block of "+api.Host()+", or name the repositories.",
			"where the GitLab of this registry is, is not known")
	}
	if prefix == "" {
		return nil, q.Fail(providers.Unsupported, "Name the group or project: "+api.Host()+"/GROUP.", "GitLab lists by group and project")
	}
	names, err := list(ctx, api, q, hosts[0], "groups", prefix)
	for project := prefix; providers.ClassOf(err) == providers.NotFound && strings.Contains(project, "/"); {
		names, err = list(ctx, api, q, hosts[0], "projects", project)
		project = project[:strings.LastIndexByte(project, '/')]
	}
	if class := providers.ClassOf(err); class == providers.NotFound || class == providers.Denied && registry.Status(err) != 0 {
		err = registry.Hint(err, "A token with read_api sees groups and projects; deploy tokens and the token of a job see less. Or name the repositories with repositories { names = [...] }.")
	}
	return names, err
}

// list reads all pages. They are cut by number, so seeing as many different names
// as X-Total says proves that none was lost; GitLab leaves it out above 10,000.
func list(ctx context.Context, api *registry.API, q registry.Request, host, what, path string) (names []string, err error) {
	seen := map[string]bool{}
	for page := "1"; page != ""; {
		q.URL = api.At(host, "/api/v4/"+what+"/"+url.PathEscape(path)+"/registry/repositories", url.Values{"per_page": {"100"}, "page": {page}})
		var found []struct {
			Path string `json:"path"`
		}
		header, err := api.Ask(ctx, q, &found)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			seen[f.Path] = true
			names = append(names, f.Path)
		}
		page = header.Get("X-Next-Page")
		total, err := strconv.Atoi(header.Get("X-Total"))
		if page == "" && err == nil && total != len(seen) {
			return nil, registry.ErrMoved
		}
	}
	return names, nil
}
