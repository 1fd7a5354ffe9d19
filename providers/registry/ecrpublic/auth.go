package ecrpublic

import (
	"context"
	"sync"

	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/providers/registry/ecr"
)

// cloud is ECR Public with keys for its own interface.
type cloud struct {
	service ecr.Service

	mu      sync.Mutex
	aliases map[string]string // of our own registries, to their ids; nil until asked
}

// credential asks for the password of the token server. Without AWS keys there
// is none, and pulls go without a name, which is slower
// (docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/API_GetAuthorizationToken.html).
func (c *cloud) credential(ctx context.Context, api *registry.API, _ providers.Repository) (registry.Credential, error) {
	const op = "get a password for"
	if _, err := c.service.Keys(ctx, c.service.Region); err != nil {
		return registry.NoCredential("the AWS SDK chain: " + err.Error()), nil
	}
	var out struct {
		Data ecr.Authorization `json:"authorizationData"`
	}
	if err := c.service.Ask(ctx, api, op, api.Host(), "GetAuthorizationToken", "ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken", struct{}{}, &out); err != nil {
		return registry.Credential{}, err
	}
	return out.Data.Credential(op, api.Host(), "AWS SDK credential chain (ecr-public:GetAuthorizationToken)")
}
