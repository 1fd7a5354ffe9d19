// Package ghcr is GitHub's registry, ghcr.io.
//
//	api.github.com/orgs|users/<owner>/packages ── repositories        list.go
//	                              …/versions   ── digests and tags
//	GITHUB_TOKEN of a workflow                 ── password            auth.go
//
// The packages interface wants a token with read:packages, whatever the
// visibility; without one, tags come from the registry and repositories have to be
// named. It refuses to offer the token of a workflow to any host but ghcr.io.
// Start reading at [Kind].
package ghcr
