package ecrpublic

import (
	"context"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// untag takes a tag away; the image goes with its last one. The registry's own API
// deletes nothing
// (docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/API_BatchDeleteImage.html).
func (c *cloud) untag(ctx context.Context, api *registry.API, path, tag string) error {
	const op = "delete"
	on := providers.Repository{Host: api.Host(), Path: path}.Tag(tag)
	id, _, name, err := c.own(ctx, api, op, path)
	if err != nil {
		return err
	}
	type image struct {
		Tag string `json:"imageTag"`
	}
	in := struct {
		Registry   string  `json:"registryId"`
		Repository string  `json:"repositoryName"`
		Images     []image `json:"imageIds"`
	}{id, name, []image{{tag}}}
	var out struct {
		Failures []struct {
			Code   string `json:"failureCode"`
			Reason string `json:"failureReason"`
		} `json:"failures"`
	}
	if err := c.service.Ask(ctx, api, op, on, "BatchDeleteImage", "ecr-public:BatchDeleteImage", in, &out); err != nil || len(out.Failures) == 0 {
		return err
	}
	failed, class := out.Failures[0], providers.Conflict
	if failed.Code == "ImageNotFound" {
		class = providers.NotFound
	}
	return registry.Request{Op: op, On: on}.Fail(class, "", "%s: %s", providers.Printable(failed.Code, 100), providers.Printable(failed.Reason, 300))
}
