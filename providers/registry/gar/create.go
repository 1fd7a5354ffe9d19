package gar

import (
	"context"
	"strings"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// create can not make the top repository, which has a format and a location to be
// chosen; what lies below it is made by the first push
// (cloud.google.com/artifact-registry/docs/repositories/create-repos).
func create(_ context.Context, api *registry.API, path string) error {
	parts := strings.SplitN(path, "/", 3)
	top := strings.Join(parts[:min(2, len(parts))], "/")
	hint := "Create it with gcloud artifacts repositories create; everything below it is made by the first push."
	location, ok := strings.CutSuffix(strings.TrimSuffix(api.Host(), ":443"), "-docker.pkg.dev")
	if ok && len(parts) > 1 {
		hint = "Create it with gcloud artifacts repositories create " + parts[1] + " --project=" + parts[0] + " --location=" + location +
			" --repository-format=docker; everything below it is made by the first push."
	}
	return registry.Request{Op: "create repository", On: api.Host() + "/" + path}.Fail(providers.Unsupported, hint,
		"the repository %s must exist in Artifact Registry, and only its owner can choose its location and format", top)
}
