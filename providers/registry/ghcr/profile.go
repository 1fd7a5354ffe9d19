package ghcr

import "freightliner/providers/registry"

// Kind is GitHub's registry. env may be nil, which leaves it with what docker
// login has left.
func Kind(env func(name string) string) registry.Kind {
	k := registry.Kind{
		Name: "ghcr",
		Profile: registry.Profile{
			MinParts: 2, // OWNER/NAME
			Page:     100,
			Catalog:  registry.CatalogNone, // oras-project/oras-go #621
			// A ranged PATCH above 4 MiB is refused with 416 (ocx-sh/ocx #237,
			// oras-project/rust-oci-client #35). An upload has 10 minutes and 10 GB
			// (docs.github.com/packages/working-with-a-github-packages-registry/working-with-the-container-registry).
			Uploads:   []registry.Upload{registry.UploadPut, registry.UploadPatch},
			MaxChunk:  4 << 20,
			Resume:    registry.ResumeNever,
			Referrers: registry.ReferrersProbe,
		},
		Serves:       serves,
		Pairs:        pairs,
		Repositories: repositories,
		Tags:         tags,
		Untag:        untag,
	}
	if env != nil {
		k.Credential = workflow(env)
	}
	return k
}

const apiHost = "api.github.com"

func serves(host string) bool { return host == "ghcr.io" || host == "ghcr.io:443" }

func pairs(s registry.Settings) []string {
	if serves(s.Host) {
		return []string{apiHost}
	}
	return nil
}
