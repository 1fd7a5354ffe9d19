package gar

import (
	"context"
	"errors"
	"time"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// Token gives an access token from Application Default Credentials: a key file,
// gcloud's login, workload identity federation, or the metadata server. source
// says which, in words. [ErrNone] means that none of these is there.
type Token func(ctx context.Context) (token string, expires time.Time, source string, err error)

// tokenUser is the name that goes with an access token as password.
const tokenUser = "oauth2accesstoken"

// ErrNone says that there are no Application Default Credentials at all, as
// opposed to such that do not work.
var ErrNone = errors.New("no Application Default Credentials")

// credential is the token as a password
// (cloud.google.com/artifact-registry/docs/docker/authentication, "Access token").
// Without credentials there are still public images, so that is no error.
func (t Token) credential(ctx context.Context, api *registry.API, _ providers.Repository) (registry.Credential, error) {
	token, expires, source, err := t(ctx)
	if errors.Is(err, ErrNone) {
		return registry.NoCredential("GOOGLE_APPLICATION_CREDENTIALS, the login of gcloud, Google's metadata server"), nil
	}
	if err != nil {
		return registry.Credential{}, registry.Request{Op: "get a Google access token for", On: api.Host()}.Fail(providers.Denied,
			"Renew them with gcloud auth application-default login, or check GOOGLE_APPLICATION_CREDENTIALS and the service account that it names.",
			"Application Default Credentials do not work: %s", providers.Printable(err.Error(), 400))
	}
	return registry.Credential{Username: tokenUser, Password: func() string { return token }, Expires: expires,
		Origin: "Google Application Default Credentials: " + source}, nil
}
