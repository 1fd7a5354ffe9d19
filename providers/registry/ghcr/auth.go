package ghcr

import (
	"context"
	"net/http"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// workflow is the token of a job of GitHub Actions, which its permissions block
// bounds (docs.github.com/actions/security-guides/automatic-token-authentication).
// The registry looks at the token alone, whatever the user name is.
func workflow(env func(string) string) func(context.Context, *registry.API, providers.Repository) (registry.Credential, error) {
	return func(context.Context, *registry.API, providers.Repository) (registry.Credential, error) {
		token := env("GITHUB_TOKEN")
		if token == "" {
			return registry.NoCredential("GITHUB_TOKEN, which a workflow passes on with env and permissions packages: read or write"), nil
		}
		user := env("GITHUB_ACTOR")
		if user == "" {
			user = "x-access-token"
		}
		return registry.Credential{Username: user, Password: func() string { return token }, Origin: "GITHUB_TOKEN of the environment"}, nil
	}
}

// authorize is the same token for the packages interface.
func authorize(api *registry.API, q *registry.Request, path string) func(context.Context, *http.Request) error {
	return func(ctx context.Context, req *http.Request) error {
		c, err := api.Credential(ctx, path)
		if err != nil {
			return err
		}
		if c.Secret() == "" {
			return q.Fail(providers.Denied, "Log in to ghcr.io with a token that has the scope read:packages, or name the repositories with repositories { names = [...] }.",
				"GitHub's packages interface wants a token, and there is none")
		}
		req.Header.Set("Authorization", "Bearer "+c.Secret())
		return nil
	}
}
