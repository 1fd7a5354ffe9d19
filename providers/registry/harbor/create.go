package harbor

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// create makes the project, private; repositories in it come with the first push
// (github.com/goharbor/harbor/blob/main/api/v2.0/swagger.yaml, createProject).
// One that is there already answers 409, also to those who may not create any.
func create(ctx context.Context, api *registry.API, path string) error {
	project, _, _ := strings.Cut(path, "/")
	q := registry.Request{Op: "create project", On: api.Host() + "/" + project, Endpoint: "project", Method: http.MethodPost,
		URL: api.URL("/api/v2.0/projects", nil), OK: []int{http.StatusCreated, http.StatusConflict},
		Header: http.Header{"Content-Type": {"application/json"}}, Authorize: authorize(api, path)}
	metadata := map[string]string{"public": "false"}
	if api.Settings().Created.ScanOnPush {
		metadata["auto_scan"] = "true"
	}
	body, err := json.Marshal(map[string]any{"project_name": project, "metadata": metadata})
	if err != nil {
		return err
	}
	q.Body = body
	_, err = api.Ask(ctx, q, nil)
	if providers.ClassOf(err) == providers.Denied {
		return registry.Hint(err, "The user needs the right to create projects; a robot has it only at system level.")
	}
	return err
}
