package ecrpublic

import (
	"context"

	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/providers/registry/ecr"
)

// create makes a repository in a registry of ours
// (docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/API_CreateRepository.html).
// The interface takes no registry: it is the one of the keys' account.
func (c *cloud) create(ctx context.Context, api *registry.API, path string) error {
	const op = "create repository"
	on := providers.Repository{Host: api.Host(), Path: path}.String()
	_, _, name, err := c.own(ctx, api, op, path)
	if err != nil {
		return err
	}
	in := struct {
		Name string    `json:"repositoryName"`
		Tags []ecr.Tag `json:"tags,omitempty"`
	}{name, ecr.Tags(api.Settings().Created.Labels)}
	err = c.service.Ask(ctx, api, op, on, "CreateRepository", "ecr-public:CreateRepository", in, nil)
	if ecr.Has(err, "RepositoryAlreadyExistsException") {
		return nil
	}
	return err
}
