package artifactory

import (
	"freightliner/providers"
	"freightliner/providers/registry"
)

// Kind is Artifactory.
func Kind() registry.Kind {
	return registry.Kind{
		Name: "artifactory",
		Profile: registry.Profile{
			Page:    100,
			Catalog: registry.CatalogNone, // one for each key; the registry's own is that of none or one
			// Older versions refuse a single PUT (containerd/containerd #3533).
			Uploads:   []registry.Upload{registry.UploadPatch, registry.UploadPut, registry.UploadChunks},
			Create:    registry.CreateTop,
			Referrers: registry.ReferrersProbe,
		},
		Serves:       hosts().MatchString,
		Repositories: repositories,
		Missing:      missing,
	}
}

// <name>.jfrog.io (jfrog.com/help, "Get Started with the JFrog Platform").
var hosts = providers.Pattern(`^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.jfrog\.io(?::443)?$`)
