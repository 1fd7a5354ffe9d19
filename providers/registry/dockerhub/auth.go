package dockerhub

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// logins are the tokens of the web interface, kept for the run.
type logins struct {
	mu     sync.Mutex
	user   string
	secret string
	token  string
	until  time.Time
}

// life is how long a token is used: they are good for 10 minutes.
const life = 8 * time.Minute

// authorize makes q speak for the user of the registry, if there is one
// (docs.docker.com/reference/api/hub/latest, "Create access token"). Without one,
// the web interface tells what is public, which is all that can be pulled then.
func (l *logins) authorize(api *registry.API, path string) func(context.Context, *http.Request) error {
	return func(ctx context.Context, req *http.Request) error {
		c, err := api.Credential(ctx, path)
		if err != nil {
			return err
		}
		if c.Secret() == "" {
			return nil
		}
		token, err := l.login(ctx, api, c)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		return nil
	}
}

func (l *logins) login(ctx context.Context, api *registry.API, c registry.Credential) (string, error) {
	q := registry.Request{Op: "log in at", On: webHost, Endpoint: "login", Method: http.MethodPost, Aside: true, URL: api.At(webHost, "/v2/auth/token", nil),
		Header: http.Header{"Content-Type": {"application/json"}}}
	if c.Username == "" || c.Password == nil {
		return "", q.Fail(providers.Denied, "Log in to Docker Hub with a user name and an access token.", "the credential for docker.io is a token of the registry, which the web interface does not take")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	secret := c.Password()
	if l.token != "" && l.user == c.Username && l.secret == secret && api.Now().Before(l.until) {
		return l.token, nil
	}
	var err error
	if q.Body, err = json.Marshal(map[string]string{"identifier": c.Username, "secret": secret}); err != nil {
		return "", err
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	if _, err := api.Ask(ctx, q, &answer); providers.ClassOf(err) == providers.Denied {
		return "", registry.Hint(err, "The web interface of Docker Hub does not take the credential for docker.io; use a user name and a personal access token.")
	} else if err != nil {
		return "", err
	}
	if answer.Token == "" {
		return "", q.Fail(providers.Invalid, "", "the answer has no token")
	}
	l.user, l.secret, l.token, l.until = c.Username, secret, answer.Token, api.Now().Add(life)
	return l.token, nil
}
