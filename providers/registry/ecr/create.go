package ecr

import (
	"context"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// create makes a repository with the account's defaults: scanning, encryption and
// mutability are what its creation templates and registry settings say
// (docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html).
func (c cloud) create(ctx context.Context, api *registry.API, path string) error {
	on := providers.Repository{Host: api.Host(), Path: path}.String()
	p, service, err := c.at(api, "create repository", on)
	if err != nil {
		return err
	}
	in := struct {
		Registry string `json:"registryId"`
		Name     string `json:"repositoryName"`
	}{p.account, path}
	err = service.Ask(ctx, api, "create repository", on, "CreateRepository", "ecr:CreateRepository", in, nil)
	switch {
	case Has(err, "RepositoryAlreadyExistsException"):
		return nil
	case Has(err, "LimitExceededException"):
		return registry.Hint(err, "The account is at its quota of repositories in "+p.region+"; raise it or remove some.")
	}
	return err
}
