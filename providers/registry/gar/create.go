package gar

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// create makes the top repository, of Docker images and in the location that the
// host names; what lies below it is made by the first push
// (docs.cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories/create).
// What the registry block does not set is Google's default. One that is there
// already answers 409.
func create(ctx context.Context, api *registry.API, path string) error {
	parts := strings.SplitN(path, "/", 3)
	q := registry.Request{Op: "create repository", On: api.Host() + "/" + strings.Join(parts[:min(2, len(parts))], "/"), Endpoint: "artifactregistry", Method: http.MethodPost,
		OK: []int{http.StatusOK, http.StatusConflict}, Header: http.Header{"Content-Type": {"application/json"}}}
	location, ok := strings.CutSuffix(strings.TrimSuffix(api.Host(), ":443"), "-docker.pkg.dev")
	if !ok || len(parts) < 2 {
		return q.Fail(providers.Unsupported, "Create it with gcloud artifacts repositories create; everything below it is made by the first push.",
			"only repositories at LOCATION-docker.pkg.dev/PROJECT/REPOSITORY can be created from here")
	}
	type docker struct {
		Immutable bool `json:"immutableTags"`
	}
	settings := api.Settings().Created
	in := struct {
		Format string            `json:"format"`
		Key    string            `json:"kmsKeyName,omitempty"`
		Labels map[string]string `json:"labels,omitempty"`
		Docker *docker           `json:"dockerConfig,omitempty"`
	}{Format: "DOCKER", Key: settings.KMSKey, Labels: settings.Labels}
	if settings.ImmutableTags {
		in.Docker = &docker{true}
	}
	var err error
	if q.Body, err = json.Marshal(in); err != nil {
		return err
	}
	parent := "/v1/projects/" + url.PathEscape(parts[0]) + "/locations/" + location
	q.URL = api.At(apiHost, parent+"/repositories", url.Values{"repositoryId": {parts[1]}})
	q.Authorize = authorize(api, &q, path)
	var op operation
	if _, err := api.Ask(ctx, q, &op); err != nil {
		if providers.ClassOf(err) == providers.Denied {
			err = registry.Hint(err, "The identity needs artifactregistry.repositories.create in "+parts[0]+", by Application Default Credentials; or create it with gcloud artifacts repositories create "+
				parts[1]+" --project="+parts[0]+" --location="+location+" --repository-format=docker.")
		}
		return err
	}
	return op.finish(ctx, api, q, parent)
}

// operation is work that Google goes on with after the answer
// (docs.cloud.google.com/artifact-registry/docs/reference/rest/Shared.Types/Operation).
type operation struct {
	Name  string `json:"name"`
	Done  bool   `json:"done"`
	Error *struct {
		Message string `json:"message"`
		Status  string `json:"status"`
	} `json:"error"`
}

var operationName = providers.Pattern(`^[A-Za-z0-9-]{1,100}$`)

const (
	lookAfter = 2 * time.Second
	looks     = 30
)

// finish waits for the end of an operation: seconds, as a rule. An error without a
// name is the answer that the repository is there already.
func (op operation) finish(ctx context.Context, api *registry.API, q registry.Request, parent string) error {
	op.Done = op.Done || op.Name == "" && op.Error != nil
	q.Method, q.Body, q.OK = http.MethodGet, nil, nil
	q.Aside = true // the same address is asked again, on purpose
	for n := 0; !op.Done; n++ {
		id, ours := strings.CutPrefix("/v1/"+op.Name, parent+"/operations/")
		if !ours || !operationName().MatchString(id) || n == looks {
			return q.Fail(providers.Transient, "", "the repository is not there yet, after %s", time.Duration(n)*lookAfter)
		}
		if err := api.Wait(ctx, lookAfter); err != nil {
			return err
		}
		q.URL = api.At(apiHost, parent+"/operations/"+id, nil)
		if _, err := api.Ask(ctx, q, &op); err != nil {
			return err
		}
	}
	if op.Error != nil && op.Error.Status != "ALREADY_EXISTS" {
		return q.Fail(providers.Invalid, "", "%s", providers.Printable(op.Error.Message, 300))
	}
	return nil
}
