package gitlab

import (
	"context"
	"net/http"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// job is the credential of a CI job, for the registry that the job names and no
// other (docs.gitlab.com/user/packages/container_registry/authenticate_with_container_registry).
func job(env func(string) string) func(context.Context, *registry.API, providers.Repository) (registry.Credential, error) {
	return func(_ context.Context, api *registry.API, _ providers.Repository) (registry.Credential, error) {
		none := registry.NoCredential("CI_REGISTRY_USER with CI_REGISTRY_PASSWORD, CI_JOB_TOKEN: not a job of the GitLab of this registry")
		if env("CI_REGISTRY") != api.Host() {
			return none, nil
		}
		user, password, origin := env("CI_REGISTRY_USER"), env("CI_REGISTRY_PASSWORD"), "CI_REGISTRY_PASSWORD of the environment"
		if user == "" || password == "" {
			user, password, origin = jobUser, env("CI_JOB_TOKEN"), "CI_JOB_TOKEN of the environment"
		}
		if password == "" {
			return none, nil
		}
		return registry.Credential{Username: user, Password: func() string { return password }, Origin: origin}, nil
	}
}

const jobUser = "gitlab-ci-token"

// authorize is the same password as the interface takes it: a job's token has a
// header of its own (docs.gitlab.com/api/rest/authentication). Without one, it
// tells what is public.
func authorize(api *registry.API, path string) func(context.Context, *http.Request) error {
	return func(ctx context.Context, req *http.Request) error {
		c, err := api.Credential(ctx, path)
		if err != nil {
			return err
		}
		switch {
		case c.Secret() == "":
		case c.Username == jobUser:
			req.Header.Set("Job-Token", c.Secret())
		default:
			req.Header.Set("Private-Token", c.Secret())
		}
		return nil
	}
}
