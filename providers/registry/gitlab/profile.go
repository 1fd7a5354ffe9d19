package gitlab

import (
	"strings"

	"freightliner/providers/registry"
)

// Kind is GitLab. env may be nil, which leaves it with what docker login has left.
func Kind(env func(name string) string) registry.Kind {
	k := registry.Kind{
		Name: "gitlab",
		Profile: registry.Profile{
			Page:    100,
			Catalog: registry.CatalogNone, // only an administrator's token has it
			Uploads: []registry.Upload{registry.UploadPut, registry.UploadChunks},
			Look:    registry.LookMount,
			// docs.gitlab.com/administration/packages/container_registry_metadata_database:
			// the referrers API depends on the version.
			Referrers: registry.ReferrersProbe,
		},
		Serves: hosted,
		TokenHosts: func(host string) []string {
			if hosted(host) {
				return []string{"gitlab.com"}
			}
			return nil
		},
		Pairs:        pairs,
		Repositories: repositories,
	}
	if env != nil {
		k.Serves = func(host string) bool {
			return hosted(host) || host != "" && host == env("CI_REGISTRY") && env("GITLAB_CI") != ""
		}
		k.Credential = job(env)
	}
	return k
}

func hosted(host string) bool { return strings.TrimSuffix(host, ":443") == "registry.gitlab.com" }

// pairs are where the interface is: for one's own GitLab the host that issues the
// registry's tokens, which the registry block names.
func pairs(s registry.Settings) []string {
	if hosted(s.Host) {
		return []string{"gitlab.com"}
	}
	return s.TokenHosts
}
