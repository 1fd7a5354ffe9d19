// Package quay is Quay: quay.io and one's own.
//
//	/api/v1/repository?namespace=<ns>         list.go   by opaque page
//	/api/v1/repository/<ns>/<name>/tag/                 digests, sizes, times
//	_catalog                                            for robots
//
// The interface takes OAuth tokens and not the passwords of robots. So it lists
// repositories for those who have such a token, or no credential at all, and for
// everyone else the catalog does; it never lists what is public as if it were
// everything. Start reading at [Kind].
package quay
