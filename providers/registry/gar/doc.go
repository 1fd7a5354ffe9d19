// Package gar is Google's Artifact Registry and what is left of Container
// Registry.
//
//	Token (Application Default Credentials, handed in) ── password of "oauth2accesstoken"
//	tags/list ── "manifest": digests, sizes, times of all tags in one answer
//	          └─ "child": what lies below, walked for the repositories
//	artifactregistry.googleapis.com ── repositories and images, 1,000 a page; creation
//
// It refuses to offer a token to any host but <location>-docker.pkg.dev and
// gcr.io with its regions, to believe the catalog, which may be empty whatever
// there is, and to take a list for whole that is as long as the longest answer.
// Start reading at [Kind].
package gar
