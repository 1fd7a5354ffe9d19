// Package kinds is the list of the kinds of registries. A kind is one folder
// beside this one and one line in [All].
//
//	cmd ── Outside ──> All ──> registry.Options.Kinds
//	                    └ ecr ecrpublic gar acr ghcr dockerhub harbor quay gitlab artifactory generic
//
// It refuses to read the environment, files or the metadata of a cloud by itself:
// all of that is in Outside.
package kinds
