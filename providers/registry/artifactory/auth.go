package artifactory

import (
	"context"
	"net/http"

	"freightliner/providers/registry"
)

// authorize is the registry's own credential, as Artifactory's interface takes it
// (jfrog.com/help/r/jfrog-rest-apis/introduction-to-the-artifactory-rest-apis).
func authorize(api *registry.API, path string) func(context.Context, *http.Request) error {
	return func(ctx context.Context, req *http.Request) error {
		c, err := api.Credential(ctx, path)
		if err != nil {
			return err
		}
		switch {
		case c.Password != nil:
			req.SetBasicAuth(c.Username, c.Password())
		case c.Secret() != "":
			req.Header.Set("Authorization", "Bearer "+c.Secret())
		}
		return nil
	}
}
