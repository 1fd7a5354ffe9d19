package quay

import (
	"context"
	"net/http"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// oauth is the user name under which docker login takes an OAuth token
// (docs.quay.io/api).
const oauth = "$oauthtoken"

// token is what the interface takes of a credential: an OAuth token, or nothing.
// sees reports whether it shows there all that the credential sees.
func token(c registry.Credential) (token string, sees bool) {
	switch {
	case c.Bearer != nil:
		return c.Bearer(), true
	case c.Username == oauth && c.Password != nil:
		return c.Password(), true
	}
	return "", c.Secret() == ""
}

// authorize sets the token. With whole, a credential that the interface can not
// take is Unsupported, since the answer would be a part.
func authorize(api *registry.API, q *registry.Request, path string, whole bool) func(context.Context, *http.Request) error {
	return func(ctx context.Context, req *http.Request) error {
		c, err := api.Credential(ctx, path)
		if err != nil {
			return err
		}
		t, sees := token(c)
		if whole && !sees {
			return q.Fail(providers.Unsupported, "Log in as "+oauth+" with an OAuth token of an application, or name the repositories.",
				"Quay's interface does not take the password of %s", providers.Printable(c.Username, 100))
		}
		if t != "" {
			req.Header.Set("Authorization", "Bearer "+t)
		}
		return nil
	}
}
