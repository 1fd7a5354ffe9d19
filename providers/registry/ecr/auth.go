package ecr

import (
	"context"
	"encoding/base64"
	"strings"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// cloud is ECR with keys for its own interface.
type cloud struct{ keys Keys }

func (c cloud) service(p place) Service {
	return Service{Host: p.api, Region: p.region, Name: "ecr", Target: "AmazonEC2ContainerRegistry_V20150921", Keys: c.keys}
}

// at is the registry that api is for; for another host there is no interface.
func (c cloud) at(api *registry.API, op, on string) (place, Service, error) {
	p, ok := parse(api.Host())
	if !ok || api.Settings().PlainHTTP {
		q := registry.Request{Op: op, On: on}
		return place{}, Service{}, q.Fail(providers.Unsupported, "", "%s is no ECR host, so AWS is not asked", api.Host())
	}
	return p, c.service(p), nil
}

// credential asks for the password that docker login takes. It lives 12 hours
// (docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html).
func (c cloud) credential(ctx context.Context, api *registry.API, _ providers.Repository) (registry.Credential, error) {
	const op = "get an ECR password for"
	_, service, err := c.at(api, op, api.Host())
	if err != nil {
		return registry.Credential{}, err
	}
	var out struct {
		Data []Authorization `json:"authorizationData"`
	}
	if err := service.Ask(ctx, api, op, api.Host(), "GetAuthorizationToken", "ecr:GetAuthorizationToken", struct{}{}, &out); err != nil {
		return registry.Credential{}, err
	}
	if len(out.Data) == 0 {
		return registry.Credential{}, registry.Request{Op: op, On: api.Host()}.Fail(providers.Invalid, "", "AWS gave none")
	}
	return out.Data[0].Credential(op, api.Host(), "AWS SDK credential chain (ecr:GetAuthorizationToken)")
}

// Authorization is a password as AWS gives it.
type Authorization struct {
	Token   string  `json:"authorizationToken"` // base64 of user:password
	Expires float64 `json:"expiresAt"`
}

// Credential takes it apart.
func (a Authorization) Credential(op, on, origin string) (registry.Credential, error) {
	plain, err := base64.StdEncoding.DecodeString(a.Token)
	user, password, ok := strings.Cut(string(plain), ":")
	if err != nil || !ok || password == "" {
		return registry.Credential{}, registry.Request{Op: op, On: on}.Fail(providers.Invalid, "", "the token that AWS gave is not base64 of user:password")
	}
	return registry.Credential{Username: user, Password: func() string { return password }, Origin: origin, Expires: Moment(a.Expires)}, nil
}
