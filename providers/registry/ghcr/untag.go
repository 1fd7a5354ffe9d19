package ghcr

import (
	"context"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// untag refuses: GitHub deletes only whole versions, with all tags that point to
// one, and an image that an index lists with them
// (docs.github.com/rest/packages/packages, "Delete package version"). Nothing
// tells that a version is listed by no index, so no tag can be taken away without
// the risk for another.
func untag(_ context.Context, api *registry.API, path, tag string) error {
	return registry.Request{Op: "delete", On: api.Host() + "/" + path + ":" + tag}.Fail(providers.Unsupported,
		"Delete the version at GitHub by hand, or set prune = \"none\".",
		"GitHub deletes only a whole version, with every tag that points to it")
}
