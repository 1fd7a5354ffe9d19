package harbor

import (
	"context"
	"net/url"

	"freightliner/providers/registry"
)

// immutable asks whether a rule of the project holds for the tag
// (github.com/goharbor/harbor/blob/main/api/v2.0/swagger.yaml, listTags).
func immutable(ctx context.Context, api *registry.API, path, tag string) (bool, error) {
	var found []struct {
		Name      string `json:"name"`
		Immutable bool   `json:"immutable"`
	}
	_, err := api.Ask(ctx, registry.Request{
		Op: "look up", On: api.Host() + "/" + path + ":" + tag, Endpoint: "harbor", Authorize: authorize(api, path),
		URL: api.URL(artifacts(path)+"/"+url.PathEscape(tag)+"/tags", url.Values{"with_immutable_status": {"true"}, "page_size": {"100"}}),
	}, &found)
	for _, f := range found {
		if f.Name == tag {
			return f.Immutable, err
		}
	}
	return false, err
}
