package ecr

import (
	"context"
	"path"
	"strings"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// immutable asks for the mode of the repository: immutable, mutable, or either
// with tags that are not
// (docs.aws.amazon.com/AmazonECR/latest/userguide/image-tag-mutability.html).
func (c cloud) immutable(ctx context.Context, api *registry.API, name, tag string) (bool, error) {
	const op = "look up"
	on := providers.Repository{Host: api.Host(), Path: name}.Tag(tag)
	p, service, err := c.at(api, op, on)
	if err != nil {
		return false, err
	}
	in := struct {
		Registry string   `json:"registryId"`
		Names    []string `json:"repositoryNames"`
	}{p.account, []string{name}}
	var out struct {
		Repositories []struct {
			Mode    string `json:"imageTagMutability"`
			Filters []struct {
				Filter string `json:"filter"` // letters, digits, . _ - and *
			} `json:"imageTagMutabilityExclusionFilters"`
		} `json:"repositories"`
	}
	if err := service.Ask(ctx, api, op, on, "DescribeRepositories", "ecr:DescribeRepositories", in, &out); err != nil || len(out.Repositories) != 1 {
		return false, err
	}
	found := out.Repositories[0]
	excluded := false
	for _, f := range found.Filters {
		matches, err := path.Match(f.Filter, tag)
		excluded = excluded || matches && err == nil
	}
	return strings.HasPrefix(found.Mode, "IMMUTABLE") != excluded, nil
}
