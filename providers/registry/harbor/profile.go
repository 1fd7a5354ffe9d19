package harbor

import "freightliner/providers/registry"

// Kind is Harbor. No host tells that it is one, so the registry block has to.
func Kind() registry.Kind {
	return registry.Kind{
		Name: "harbor",
		Profile: registry.Profile{
			MinParts: 2,   // PROJECT/NAME
			Page:     100, // goharbor/harbor #17787
			PageCap:  32 << 20,
			Uploads:  []registry.Upload{registry.UploadPut, registry.UploadChunks},
			// Harbor writes down the tag in the path alone, whatever the registry
			// underneath makes of a query (goharbor/harbor src/server/registry/manifest.go).
			Tags: registry.TagsSingly,
			// A HEAD keeps a blob from the garbage collection, a mount does not.
			Look:   registry.LookHead,
			Create: registry.CreateTop,
			// 403 DENIED since 2.0 (goharbor/harbor #11527), 412 before.
			Full: []string{"will exceed the configured upper limit"},
			// Harbor has no published ceiling; each project is a few rows.
			CreatesPerSecond: 5,
			Referrers:        registry.ReferrersAPI, // since 2.9
		},
		Repositories: repositories,
		Tags:         tags,
		Untag:        untag,
		Immutable:    immutable,
		Create:       create,
	}
}
