package ecrpublic

import (
	"context"
	"errors"
	"strings"

	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/providers/registry/ecr"
)

type question struct {
	Registry   string `json:"registryId,omitempty"`
	Repository string `json:"repositoryName,omitempty"`
	Most       int    `json:"maxResults"`
	Next       string `json:"nextToken,omitempty"`
}

// own finds the registry of the alias that path begins with, among ours. Someone
// else's is NotFound: the interface does not tell about it
// (docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/API_DescribeRegistries.html).
func (c *cloud) own(ctx context.Context, api *registry.API, op, path string) (id, alias, rest string, err error) {
	on := providers.Repository{Host: api.Host(), Path: path}.String()
	q := registry.Request{Op: op, On: on}
	if !serves(api.Host()) || api.Settings().PlainHTTP {
		return "", "", "", q.Fail(providers.Unsupported, "", "%s is not public.ecr.aws, so AWS is not asked", api.Host())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.aliases == nil {
		if c.aliases, err = c.registries(ctx, api, op, on); err != nil {
			return "", "", "", err
		}
	}
	alias, rest, _ = strings.Cut(path, "/")
	if id = c.aliases[alias]; id == "" {
		return "", "", "", q.Fail(providers.NotFound, "Name the repositories with repositories { names = [...] }.", "%w", errForeign)
	}
	return id, alias, rest, nil
}

var errForeign = errors.New("AWS tells only about registries of one's own account")

func (c *cloud) registries(ctx context.Context, api *registry.API, op, on string) (map[string]string, error) {
	aliases := map[string]string{}
	service := c.service
	service.Aside = true
	q := question{Most: 1000}
	for {
		var out struct {
			Registries []struct {
				ID      string `json:"registryId"`
				Aliases []struct {
					Name string `json:"name"`
				} `json:"aliases"`
			} `json:"registries"`
			Next string `json:"nextToken"`
		}
		if err := service.Ask(ctx, api, op, on, "DescribeRegistries", "ecr-public:DescribeRegistries", q, &out); err != nil {
			return nil, err
		}
		for _, r := range out.Registries {
			for _, a := range r.Aliases {
				aliases[a.Name] = r.ID
			}
		}
		if q.Next = out.Next; q.Next == "" {
			return aliases, nil
		}
	}
}

func (c *cloud) repositories(ctx context.Context, api *registry.API, prefix string) (names []string, err error) {
	const op = "list repositories of"
	on := providers.Repository{Host: api.Host(), Path: prefix}.String()
	id, alias, _, err := c.own(ctx, api, op, prefix)
	if err != nil {
		return nil, err
	}
	q := question{Registry: id, Most: 1000}
	for {
		var out struct {
			Repositories []struct {
				Name string `json:"repositoryName"`
			} `json:"repositories"`
			Next string `json:"nextToken"`
		}
		if err := c.service.Ask(ctx, api, op, on, "DescribeRepositories", "ecr-public:DescribeRepositories", q, &out); err != nil {
			return nil, err
		}
		for _, r := range out.Repositories {
			names = append(names, alias+"/"+r.Name)
		}
		if q.Next = out.Next; q.Next == "" {
			return names, nil
		}
	}
}

// tags pages through DescribeImageTags
// (docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/API_DescribeImageTags.html).
func (c *cloud) tags(ctx context.Context, api *registry.API, path string) (list registry.TagList, err error) {
	const op = "list tags of"
	on := providers.Repository{Host: api.Host(), Path: path}.String()
	id, _, name, err := c.own(ctx, api, op, path)
	if err != nil {
		return list, err
	}
	q := question{Registry: id, Repository: name, Most: 1000}
	for {
		var out struct {
			Tags []struct {
				Name    string  `json:"imageTag"`
				Created float64 `json:"createdAt"`
				Image   struct {
					Digest string  `json:"imageDigest"`
					Size   int64   `json:"imageSizeInBytes"`
					Pushed float64 `json:"imagePushedAt"`
				} `json:"imageDetail"`
			} `json:"imageTagDetails"`
			Next string `json:"nextToken"`
		}
		err := c.service.Ask(ctx, api, op, on, "DescribeImageTags", "ecr-public:DescribeImageTags", q, &out)
		if ecr.Has(err, "RepositoryNotFoundException") && q.Next == "" {
			return registry.TagList{Missing: true}, nil
		}
		if err != nil {
			return registry.TagList{}, err
		}
		for _, t := range out.Tags {
			pushed := ecr.Moment(t.Image.Pushed)
			if pushed.IsZero() {
				pushed = ecr.Moment(t.Created)
			}
			list.Add(t.Name, registry.TagEntry{Digest: t.Image.Digest, Pushed: pushed, Size: t.Image.Size})
		}
		if q.Next = out.Next; q.Next == "" {
			return list, nil
		}
	}
}
