package ghcr

import (
	"context"
	"net/http"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// workflow is the token of a job of GitHub Actions, which its permissions block
// bounds (docs.github.com/actions/security-guides/automatic-token-authentication).
// The registry looks at the token alone, whatever the user name is. It is taken
// only inside a job of github.com: a token found elsewhere may be for anything, and
// that of a GitHub Enterprise server is none of ghcr.io's business.
func workflow(env func(string) string) func(context.Context, *registry.API, providers.Repository) (registry.Credential, error) {
	return func(context.Context, *registry.API, providers.Repository) (registry.Credential, error) {
		token, server := env("GITHUB_TOKEN"), env("GITHUB_SERVER_URL")
		if token == "" || env("GITHUB_ACTIONS") != "true" || server != "" && server != "https://github.com" {
			return registry.NoCredential("GITHUB_TOKEN inside a workflow of github.com, which passes it on with env and permissions packages: read or write"), nil
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
