package generic

import "freightliner/providers/registry"

// Kind is the distribution-spec as it stands.
func Kind() registry.Kind {
	return registry.Kind{
		Name: "generic",
		Profile: registry.Profile{
			Page:    1000, // distribution refuses more, it does not cut (registry/handlers/catalog.go)
			Uploads: []registry.Upload{registry.UploadPut, registry.UploadChunks, registry.UploadPatch},
			Look:    registry.LookMount,
		},
		TokenHosts: tokenHosts,
	}
}

// tokenHosts are token servers beside registries that have no kind.
func tokenHosts(host string) []string {
	switch host {
	case "nvcr.io": // docs.nvidia.com/ngc
		return []string{"authn.nvidia.com"}
	case "docker.elastic.co":
		return []string{"docker-auth.elastic.co"}
	}
	return nil
}
