package gar

import (
	"freightliner/providers"
	"freightliner/providers/registry"
)

// Kind is Artifact Registry. token may be nil, which leaves it with what docker
// login has left.
func Kind(token Token) registry.Kind {
	k := registry.Kind{
		Name: "gar",
		Profile: registry.Profile{
			Page:     longest,
			LinkEnds: true, // one answer with everything
			PageCap:  64 << 20,
			Catalog:  registry.CatalogNone, // may be empty with valid credentials
			// cloud.google.com/artifact-registry/docs/docker/pushing-and-pulling: no chunks.
			Uploads: []registry.Upload{registry.UploadPut},
			Resume:  registry.ResumeNever,
			Create:  registry.CreateTop,
			Top:     2, // PROJECT/REPOSITORY
			// One repository each two seconds (cloud.google.com/artifact-registry/quotas).
			CreatesPerSecond: 0.5,
			Referrers:        registry.ReferrersAPI,
			// The same page: 60,000 requests and 18,000 writes a minute.
			Rates: registry.Rates{Listings: 1000, Looks: 1000, Reads: 1000, Pulls: 1000, Opens: 300, Pushes: 300, Writes: 300, Deletes: 300},
		},
		Serves:       serves,
		Pairs:        pairs,
		Repositories: repositories,
		Tags:         tags,
		Create:       create,
		Immutable:    immutable,
	}
	if token != nil {
		k.Credential = token.credential
	}
	return k
}

// cloud.google.com/artifact-registry/docs/repositories/repo-locations and
// cloud.google.com/container-registry/docs/overview.
var hosts = providers.Pattern(`^(?:[a-z0-9]+(?:-[a-z0-9]+)*-docker\.pkg\.dev|(?:(?:us|eu|asia|marketplace|k8s|mirror|l|launcher)\.)?gcr\.io)(?::443)?$`)

const apiHost = "artifactregistry.googleapis.com"

func pairs(s registry.Settings) []string {
	if serves(s.Host) {
		return []string{apiHost}
	}
	return nil
}

func serves(host string) bool { return hosts().MatchString(host) }
