package ecr

import (
	"context"
	"maps"
	"slices"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// create makes a repository. What the registry block does not set is the account's
// default
// (docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html).
func (c cloud) create(ctx context.Context, api *registry.API, path string) error {
	on := providers.Repository{Host: api.Host(), Path: path}.String()
	p, service, err := c.at(api, "create repository", on)
	if err != nil {
		return err
	}
	type scanning struct {
		OnPush bool `json:"scanOnPush"`
	}
	type encryption struct {
		Type string `json:"encryptionType"`
		Key  string `json:"kmsKey"`
	}
	in := struct {
		Registry   string      `json:"registryId"`
		Name       string      `json:"repositoryName"`
		Mutability string      `json:"imageTagMutability,omitempty"`
		Scanning   *scanning   `json:"imageScanningConfiguration,omitempty"`
		Encryption *encryption `json:"encryptionConfiguration,omitempty"`
		Tags       []Tag       `json:"tags,omitempty"`
	}{Registry: p.account, Name: path}
	settings := api.Settings().Created
	if settings.ImmutableTags {
		in.Mutability = "IMMUTABLE"
	}
	if settings.ScanOnPush {
		in.Scanning = &scanning{true}
	}
	if settings.KMSKey != "" {
		in.Encryption = &encryption{"KMS", settings.KMSKey}
	}
	in.Tags = Tags(settings.Labels)
	err = service.Ask(ctx, api, "create repository", on, "CreateRepository", "ecr:CreateRepository", in, nil)
	switch {
	case Has(err, "RepositoryAlreadyExistsException"):
		return nil
	case Has(err, "LimitExceededException"):
		return registry.Hint(err, "The account is at its quota of repositories in "+p.region+"; raise it or remove some.")
	}
	return err
}

// Tag is a tag of a resource, as both interfaces of the registries take it.
type Tag struct{ Key, Value string }

// Tags are labels in the order of their names.
func Tags(labels map[string]string) (tags []Tag) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		tags = append(tags, Tag{key, labels[key]})
	}
	return tags
}
