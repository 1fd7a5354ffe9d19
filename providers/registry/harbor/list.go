package harbor

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"freightliner/providers"
	"freightliner/providers/registry"
)

const (
	base    = "/api/v2.0/"
	perPage = 100 // the most
)

// ask reads all pages of a list. They are cut by number, so entries may cross
// their edges while we read: as many different names as X-Total-Count says prove
// that none was lost (github.com/goharbor/harbor/blob/main/api/v2.0/swagger.yaml).
func ask[T any](ctx context.Context, api *registry.API, op, path, list string, query url.Values, each func(T) (name string)) error {
	q := registry.Request{Op: op, On: providers.Repository{Host: api.Host(), Path: path}.String(), Endpoint: "harbor", Authorize: authorize(api, path)}
	query.Set("page_size", strconv.Itoa(perPage))
	seen := map[string]bool{}
	for number := 1; ; number++ {
		query.Set("page", strconv.Itoa(number))
		q.URL = api.URL(list, query)
		var page []T
		header, err := api.Ask(ctx, q, &page)
		if err != nil {
			return hint(err)
		}
		for _, entry := range page {
			seen[each(entry)] = true
		}
		total, err := strconv.Atoi(header.Get("X-Total-Count"))
		switch {
		case err != nil && len(page) == 0, err == nil && len(seen) == total:
			return nil
		case err == nil && (len(page) == 0 || number*perPage >= total):
			return registry.ErrMoved
		}
	}
}

func hint(err error) error {
	if providers.ClassOf(err) != providers.Denied || registry.Status(err) == 0 {
		return err
	}
	return registry.Hint(err, "The user or robot needs the rights to list repositories and artifacts of the project.")
}

// repositories are those of the project that prefix begins with, or of all that
// can be seen.
func repositories(ctx context.Context, api *registry.API, prefix string) (names []string, err error) {
	const op = "list repositories of"
	type found struct {
		Name string `json:"name"`
	}
	projects := []string{}
	if project, _, _ := strings.Cut(prefix, "/"); project != "" {
		projects = append(projects, project)
	} else if err := ask(ctx, api, op, prefix, base+"projects", url.Values{}, func(p found) string {
		projects = append(projects, p.Name)
		return p.Name
	}); err != nil {
		return nil, err
	}
	for _, project := range projects {
		err := ask(ctx, api, op, prefix, base+"projects/"+url.PathEscape(project)+"/repositories", url.Values{}, func(r found) string {
			names = append(names, r.Name) // with the project
			return r.Name
		})
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// artifacts is the address of a repository's artifacts. A slash in its name is
// escaped twice, as the interface wants it.
func artifacts(path string) string {
	project, name, _ := strings.Cut(path, "/")
	return base + "projects/" + url.PathEscape(project) + "/repositories/" + url.PathEscape(url.PathEscape(name)) + "/artifacts"
}

// tags come with the artifacts; those without a tag are passed over.
func tags(ctx context.Context, api *registry.API, path string) (list registry.TagList, err error) {
	type artifact struct {
		Digest string    `json:"digest"`
		Size   int64     `json:"size"`
		Pushed time.Time `json:"push_time"`
		Tags   []struct {
			Name   string    `json:"name"`
			Pushed time.Time `json:"push_time"`
		} `json:"tags"`
	}
	err = ask(ctx, api, "list tags of", path, artifacts(path),
		url.Values{"with_tag": {"true"}}, func(a artifact) string {
			for _, t := range a.Tags {
				pushed := t.Pushed
				if pushed.IsZero() {
					pushed = a.Pushed
				}
				list.Add(t.Name, registry.TagEntry{Digest: a.Digest, Pushed: pushed, Size: a.Size})
			}
			return a.Digest
		})
	return list, err
}
