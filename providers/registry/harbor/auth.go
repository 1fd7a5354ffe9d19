package harbor

import (
	"context"
	"net/http"

	"freightliner/providers/registry"
)

// authorize is basic authentication by the registry's own credential
// (goharbor.io/docs/latest/working-with-projects/project-configuration/create-robot-accounts):
// the interface does not take the registry's bearer tokens. Without a credential
// it tells what is public.
func authorize(api *registry.API, path string) func(context.Context, *http.Request) error {
	return func(ctx context.Context, req *http.Request) error {
		c, err := api.Credential(ctx, path)
		if err != nil {
			return err
		}
		switch {
		case c.Password != nil:
			req.SetBasicAuth(c.Username, c.Password())
		case c.Bearer != nil:
			req.Header.Set("Authorization", "Bearer "+c.Bearer())
		}
		return nil
	}
}
