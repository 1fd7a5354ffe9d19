package ecr

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// Keys gives AWS keys for a region from the chain of the AWS SDK: environment,
// shared files and SSO, web identity, container and instance roles. The chain
// caches and renews them itself.
type Keys func(ctx context.Context, region string) (aws.Credentials, error)

// Service is one of AWS's interfaces that speak JSON 1.1 with signature version
// 4 (docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html).
type Service struct {
	Host   string // of the endpoint
	Region string
	Name   string // as signatures have it: "ecr"
	Target string // before the action in X-Amz-Target
	Keys   Keys
	Aside  bool // see registry.Request
}

// Ask calls an action. right is the permission it needs, for the hint of a
// refusal; what there is to be had of keys is Denied when there is nothing.
func (s Service) Ask(ctx context.Context, api *registry.API, op, on, action, right string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	q := registry.Request{
		Op: op, On: on, Endpoint: action, Method: http.MethodPost, URL: api.At(s.Host, "/", nil), Body: body, Class: class, Aside: s.Aside,
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}, "X-Amz-Target": {s.Target + "." + action}},
	}
	q.Authorize = func(ctx context.Context, req *http.Request) error {
		keys, err := s.Keys(ctx, s.Region)
		if err != nil {
			return q.Fail(providers.Denied, NoKeys, "the AWS chain has no keys: %s", providers.Printable(err.Error(), 400))
		}
		return v4.NewSigner().SignHTTP(ctx, keys, req, hex.EncodeToString(sum[:]), s.Name, s.Region, api.Now())
	}
	_, err = api.Ask(ctx, q, out)
	if providers.ClassOf(err) == providers.Denied && registry.Status(err) != 0 {
		return registry.Hint(err, "The AWS identity in use needs "+right+" there.")
	}
	return err
}

// NoKeys is the way out when there are no keys.
const NoKeys = "Set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, run where a role is attached, or log in with docker."

// class reads the exception, since AWS says nearly everything with 400
// (docs.aws.amazon.com/AmazonECR/latest/APIReference/CommonErrors.html).
func class(_ int, codes []string) (providers.Class, bool) {
	for _, code := range codes {
		switch code {
		case "ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded":
			return providers.Throttled, true
		case "AccessDeniedException", "AccessDenied", "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException",
			"InvalidClientTokenId", "IncompleteSignature", "MissingAuthenticationToken", "MissingAuthenticationTokenException", "NotAuthorized", "OptInRequired":
			return providers.Denied, true
		case "RepositoryNotFoundException", "RegistryNotFoundException":
			return providers.NotFound, true
		case "ServerException", "ServiceUnavailable", "InternalFailure":
			return providers.Transient, true
		case "UnsupportedCommandTypeException", "UnknownOperationException":
			return providers.Unsupported, true
		}
	}
	return 0, false
}

// Has reports whether err carries the exception.
func Has(err error, exception string) bool {
	for _, code := range registry.Codes(err) {
		if code == exception {
			return true
		}
	}
	return false
}

// Moment reads a time as AWS's JSON has it: seconds since 1970.
func Moment(seconds float64) time.Time {
	if seconds <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(seconds * 1000)).UTC()
}
