package ecr

import (
	"context"

	"freightliner/providers"
	"freightliner/providers/registry"
)

type question struct {
	Registry   string  `json:"registryId"`
	Repository string  `json:"repositoryName,omitempty"`
	Filter     *filter `json:"filter,omitempty"`
	Most       int     `json:"maxResults"`
	Next       string  `json:"nextToken,omitempty"`
}

type filter struct {
	Status string `json:"tagStatus"`
}

// repositories pages through DescribeRepositories, 1,000 at a time. It takes no
// prefix (docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeRepositories.html).
func (c cloud) repositories(ctx context.Context, api *registry.API, prefix string) (names []string, err error) {
	on := providers.Repository{Host: api.Host(), Path: prefix}.String()
	p, service, err := c.at(api, "list repositories of", on)
	if err != nil {
		return nil, err
	}
	q := question{Registry: p.account, Most: 1000}
	for {
		var out struct {
			Repositories []struct {
				Name string `json:"repositoryName"`
			} `json:"repositories"`
			Next string `json:"nextToken"`
		}
		if err := service.Ask(ctx, api, "list repositories of", on, "DescribeRepositories", "ecr:DescribeRepositories", q, &out); err != nil {
			return nil, err
		}
		for _, r := range out.Repositories {
			names = append(names, r.Name)
		}
		if q.Next = out.Next; q.Next == "" {
			return names, nil
		}
	}
}

// tags pages through the tagged images of a repository, 1,000 at a time
// (docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImages.html).
func (c cloud) tags(ctx context.Context, api *registry.API, path string) (list registry.TagList, err error) {
	on := providers.Repository{Host: api.Host(), Path: path}.String()
	p, service, err := c.at(api, "list tags of", on)
	if err != nil {
		return list, err
	}
	q := question{Registry: p.account, Repository: path, Filter: &filter{"TAGGED"}, Most: 1000}
	for {
		var out struct {
			Images []struct {
				Digest string   `json:"imageDigest"`
				Tags   []string `json:"imageTags"`
				Size   int64    `json:"imageSizeInBytes"`
				Pushed float64  `json:"imagePushedAt"`
			} `json:"imageDetails"`
			Next string `json:"nextToken"`
		}
		err := service.Ask(ctx, api, "list tags of", on, "DescribeImages", "ecr:DescribeImages", q, &out)
		if Has(err, "RepositoryNotFoundException") && q.Next == "" {
			return registry.TagList{Missing: true}, nil
		}
		if err != nil {
			return registry.TagList{}, err
		}
		for _, image := range out.Images {
			for _, tag := range image.Tags {
				list.Add(tag, registry.TagEntry{Digest: image.Digest, Pushed: Moment(image.Pushed), Size: image.Size})
			}
		}
		if q.Next = out.Next; q.Next == "" {
			return list, nil
		}
	}
}
