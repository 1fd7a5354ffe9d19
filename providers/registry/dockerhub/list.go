package dockerhub

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// ask reads all pages of a list of the web interface. The pages are cut by
// number, so what is pushed or deleted meanwhile moves entries across their
// edges; seeing as many different names as the last page counts proves that none
// was lost, and a list that fails that is read again
// (docs.docker.com/reference/api/hub/latest, "List repository tags").
func ask[T any](ctx context.Context, api *registry.API, l *logins, op, path, list string, each func(T) (name string)) error {
	q := registry.Request{Op: op, On: providers.Repository{Host: api.Host(), Path: path}.String(), Endpoint: "web", Authorize: l.authorize(api, path)}
	if !serves(api.Host()) {
		return q.Fail(providers.Unsupported, "", "%s is not Docker Hub, so its web interface is not asked", api.Host())
	}
	seen := map[string]bool{}
	for number := 1; ; number++ {
		q.URL = api.At(webHost, list, url.Values{"page": {strconv.Itoa(number)}, "page_size": {"100"}})
		var page struct {
			Count   int     `json:"count"`
			Next    *string `json:"next"`
			Results []T     `json:"results"`
		}
		if _, err := api.Ask(ctx, q, &page); err != nil {
			return err
		}
		for _, entry := range page.Results {
			seen[each(entry)] = true
		}
		if page.Next != nil && *page.Next != "" {
			continue
		}
		if len(seen) != page.Count {
			return registry.ErrMoved
		}
		return nil
	}
}

// repositories are those of the namespace that prefix begins with.
func (l *logins) repositories(ctx context.Context, api *registry.API, prefix string) (names []string, err error) {
	const op = "list repositories of"
	space, _, _ := strings.Cut(prefix, "/")
	if space == "" {
		return nil, registry.Request{Op: op, On: api.Host()}.Fail(providers.Unsupported, "Name the namespace: docker.io/NAMESPACE.", "Docker Hub lists only by namespace")
	}
	type found struct {
		Name string `json:"name"`
	}
	err = ask(ctx, api, l, op, prefix, "/v2/namespaces/"+url.PathEscape(space)+"/repositories", func(r found) string {
		names = append(names, space+"/"+r.Name)
		return r.Name
	})
	return names, err
}

// untag takes one tag away. The registry itself deletes nothing, only the web
// interface does (github.com/docker/hub-feedback/issues/1759).
func (l *logins) untag(ctx context.Context, api *registry.API, path, tag string) error {
	q := registry.Request{Op: "delete", On: api.Host() + "/" + path + ":" + tag, Endpoint: "web", Method: http.MethodDelete,
		OK: []int{http.StatusNoContent, http.StatusOK, http.StatusAccepted}, Authorize: l.authorize(api, path)}
	if !serves(api.Host()) {
		return q.Fail(providers.Unsupported, "", "%s is not Docker Hub, so its web interface is not asked", api.Host())
	}
	space, name, _ := strings.Cut(path, "/")
	q.URL = api.At(webHost, "/v2/repositories/"+url.PathEscape(space)+"/"+url.PathEscape(name)+"/tags/"+url.PathEscape(tag)+"/", nil)
	_, err := api.Ask(ctx, q, nil)
	if providers.ClassOf(err) == providers.Denied && registry.Status(err) != 0 {
		return registry.Hint(err, "The access token for docker.io needs the right to delete.")
	}
	return err
}

// tags have the digest of the manifest or index that each points to. The tags of
// a repository that the web interface does not know are the registry's to tell.
func (l *logins) tags(ctx context.Context, api *registry.API, path string) (list registry.TagList, err error) {
	space, name, _ := strings.Cut(path, "/")
	type tag struct {
		Name    string    `json:"name"`
		Digest  string    `json:"digest"` // missing on old ones
		Size    int64     `json:"full_size"`
		Pushed  time.Time `json:"tag_last_pushed"`
		Updated time.Time `json:"last_updated"`
	}
	err = ask(ctx, api, l, "list tags of", path, "/v2/namespaces/"+url.PathEscape(space)+"/repositories/"+url.PathEscape(name)+"/tags", func(t tag) string {
		pushed := t.Pushed
		if pushed.IsZero() {
			pushed = t.Updated
		}
		list.Add(t.Name, registry.TagEntry{Digest: t.Digest, Pushed: pushed, Size: t.Size})
		return t.Name
	})
	return list, err
}
