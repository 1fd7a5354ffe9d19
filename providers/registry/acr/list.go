package acr

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// untag takes one tag away. By the distribution API Azure deletes only by digest,
// and all tags with it (learn.microsoft.com/rest/api/containerregistry/tag/delete).
func untag(ctx context.Context, api *registry.API, path, tag string) error {
	q := registry.Request{
		Op: "delete", On: api.Host() + "/" + path + ":" + tag, Endpoint: "tags", Method: http.MethodDelete,
		URL: api.URL("/acr/v1/"+path+"/_tags/"+tag, nil), OK: []int{http.StatusAccepted},
		Scopes: []string{"repository:" + path + ":delete"},
	}
	_, err := api.Ask(ctx, q, nil)
	if registry.Status(err) == http.StatusMethodNotAllowed {
		return registry.Hint(err, "The tag or its repository is locked (az acr repository update --delete-enabled true).")
	}
	return err
}

// immutable asks for the lock of a tag
// (learn.microsoft.com/azure/container-registry/container-registry-image-lock).
func immutable(ctx context.Context, api *registry.API, path, tag string) (bool, error) {
	var out struct {
		Tag struct {
			Attributes struct {
				Write *bool `json:"writeEnabled"`
			} `json:"changeableAttributes"`
		} `json:"tag"`
	}
	_, err := api.Ask(ctx, registry.Request{
		Op: "look up", On: api.Host() + "/" + path + ":" + tag, Endpoint: "tags",
		URL: api.URL("/acr/v1/"+path+"/_tags/"+tag, nil), Scopes: []string{"repository:" + path + ":metadata_read"},
	}, &out)
	write := out.Tag.Attributes.Write
	return write != nil && !*write, err
}

// tags pages through /acr/v1/<name>/_tags, which needs the right metadata_read
// (learn.microsoft.com/rest/api/containerregistry/tag/get-list).
func tags(ctx context.Context, api *registry.API, path string) (list registry.TagList, err error) {
	q := registry.Request{
		Op: "list tags of", On: providers.Repository{Host: api.Host(), Path: path}.String(), Endpoint: "tags",
		URL:    api.URL("/acr/v1/"+path+"/_tags", url.Values{"n": {"100"}}),
		Scopes: []string{"repository:" + path + ":metadata_read"},
	}
	for first := true; ; first = false {
		var page struct {
			Tags []struct {
				Name    string    `json:"name"`
				Digest  string    `json:"digest"`
				Created time.Time `json:"createdTime"`
				Updated time.Time `json:"lastUpdateTime"`
			} `json:"tags"`
		}
		header, err := api.Ask(ctx, q, &page)
		if first && slices.Contains(registry.Codes(err), "NAME_UNKNOWN") {
			return registry.TagList{Missing: true}, nil
		}
		if err != nil {
			return registry.TagList{}, err
		}
		for _, t := range page.Tags {
			pushed := t.Updated
			if pushed.IsZero() {
				pushed = t.Created
			}
			list.Add(t.Name, registry.TagEntry{Digest: t.Digest, Pushed: pushed})
		}
		next, err := api.Next(q.URL, header)
		if err != nil || next == nil {
			return list, err
		}
		q.URL = next
	}
}
