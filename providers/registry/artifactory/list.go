package artifactory

import (
	"context"
	"net/url"
	"strings"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// repositories are the images of the key that prefix begins with, or of all keys
// that can be seen.
func repositories(ctx context.Context, api *registry.API, prefix string) (names []string, err error) {
	q := registry.Request{Op: "list repositories of", On: providers.Repository{Host: api.Host(), Path: prefix}.String(), Endpoint: "artifactory",
		Authorize: authorize(api, prefix)}
	keys := []string{}
	if key, _, _ := strings.Cut(prefix, "/"); key != "" {
		keys = append(keys, key)
	} else if keys, err = all(ctx, api, q); err != nil {
		return nil, err
	}
	for _, key := range keys {
		images, err := catalog(ctx, api, q, key)
		if err != nil {
			return nil, err
		}
		names = append(names, images...)
	}
	return names, nil
}

// all gives the keys of Docker repositories, in one answer
// (jfrog.com/help/r/jfrog-rest-apis/get-repositories).
func all(ctx context.Context, api *registry.API, q registry.Request) (keys []string, err error) {
	q.URL = api.URL("/artifactory/api/repositories", url.Values{"packageType": {"docker"}})
	var found []struct {
		Key string `json:"key"`
	}
	if _, err := api.Ask(ctx, q, &found); err != nil {
		return nil, hint(err)
	}
	for _, f := range found {
		keys = append(keys, f.Key)
	}
	return keys, nil
}

// catalog pages through the images of one key, from the last name on, until a
// page says nothing new: a short page is not the end
// (jfrog.com/help/r/jfrog-rest-apis/list-docker-repositories).
func catalog(ctx context.Context, api *registry.API, q registry.Request, key string) (names []string, err error) {
	seen := map[string]bool{}
	base := "/artifactory/api/docker/" + url.PathEscape(key) + "/v2/_catalog"
	q.URL = api.URL(base, url.Values{"n": {"100"}})
	for {
		var page struct {
			Repositories []string `json:"repositories"`
		}
		header, err := api.Ask(ctx, q, &page)
		if err != nil {
			return nil, hint(err)
		}
		fresh := false
		for _, name := range page.Repositories {
			if !seen[name] {
				seen[name], fresh = true, true
				names = append(names, key+"/"+name)
			}
		}
		next, err := api.Next(q.URL, header)
		if err != nil {
			return nil, err
		}
		if next == nil && !fresh {
			return names, nil
		}
		if next == nil {
			next = api.URL(base, url.Values{"n": {"100"}, "last": {page.Repositories[len(page.Repositories)-1]}})
		}
		q.URL = next
	}
}

// missing asks for the folder of an image, since the registry says 403 for what
// is not there as for what may not be seen
// (jfrog.com/help/r/jfrog-rest-apis/folder-info).
func missing(ctx context.Context, api *registry.API, path string) (bool, error) {
	q := registry.Request{Op: "look for", On: providers.Repository{Host: api.Host(), Path: path}.String(), Endpoint: "artifactory",
		URL: api.URL("/artifactory/api/storage/"+path, nil), Authorize: authorize(api, path)}
	_, err := api.Ask(ctx, q, nil)
	if providers.ClassOf(err) == providers.NotFound {
		return true, nil
	}
	return false, err
}

func hint(err error) error {
	if providers.ClassOf(err) != providers.Denied || registry.Status(err) == 0 {
		return err
	}
	return registry.Hint(err, "Artifactory's interface wants a user with the right to read the repository; name the repositories with repositories { names = [...] } otherwise.")
}
