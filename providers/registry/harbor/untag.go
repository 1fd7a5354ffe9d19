package harbor

import (
	"context"
	"net/http"
	"net/url"

	"freightliner/providers/registry"
)

// untag takes one tag from its artifact, which keeps its others. By the
// distribution API Harbor deletes only by digest, and all tags with it
// (github.com/goharbor/harbor/blob/main/api/v2.0/swagger.yaml, deleteTag).
func untag(ctx context.Context, api *registry.API, path, tag string) error {
	q := registry.Request{Op: "delete", On: api.Host() + "/" + path + ":" + tag, Endpoint: "harbor", Method: http.MethodDelete,
		URL: api.URL(artifacts(path)+"/"+url.PathEscape(tag)+"/tags/"+url.PathEscape(tag), nil), Authorize: authorize(api, path)}
	if _, err := api.Ask(ctx, q, nil); err != nil {
		return refusedUntag(err)
	}
	return nil
}

func refusedUntag(err error) error {
	switch registry.Status(err) {
	case http.StatusUnauthorized, http.StatusForbidden:
		return registry.Hint(err, "The user or robot needs the right to delete tags in the project.")
	case http.StatusPreconditionFailed:
		return registry.Hint(err, "A rule of the project keeps the tag as it is.")
	}
	return err
}
