package embedded

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestWithinStandsBehindTheDoor(t *testing.T) {
	var saw []string
	c := caller{t, New(NewMemory(), Options{
		Users: people,
		Within: func(endpoints http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				saw = append(saw, r.Method+" "+r.URL.Path)
				if strings.HasSuffix(r.URL.Path, "/manifests/teapot") {
					w.WriteHeader(http.StatusTeapot)
					return
				}
				endpoints.ServeHTTP(w, r)
			})
		},
	})}
	owner := basic("owner", "canary-owner")
	c.ask(http.StatusUnauthorized, http.MethodGet, "/v2/", nil)
	c.ask(http.StatusForbidden, http.MethodGet, "/v2/other/manifests/v1", nil, "Authorization", basic("reader", "canary-reader"))
	c.ask(http.StatusBadRequest, http.MethodGet, "/v2/UPPER/manifests/v1", nil, "Authorization", owner)
	c.ask(http.StatusNotFound, http.MethodGet, "/elsewhere", nil, "Authorization", owner)
	c.ask(http.StatusOK, http.MethodGet, "/v2/", nil, "Authorization", owner)
	c.ask(http.StatusNotFound, http.MethodGet, "/v2/app/manifests/v1", nil, "Authorization", owner)
	c.ask(http.StatusTeapot, http.MethodGet, "/v2/app/manifests/teapot", nil, "Authorization", owner)
	if got, want := strings.Join(saw, ", "), "GET /v2/, GET /v2/app/manifests/v1, GET /v2/app/manifests/teapot"; got != want {
		t.Errorf("what stands within saw %s; want %s", got, want)
	}
}

func TestSparseIndexes(t *testing.T) {
	index := `{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[{"mediaType":"` + ociManifest + `","digest":"` + someDigest + `","size":2}]}`
	for sparse, want := range map[bool]int{false: http.StatusBadRequest, true: http.StatusCreated} {
		c := caller{t, New(NewMemory(), Options{SparseIndexes: sparse})}
		c.ask(want, http.MethodPut, "/v2/app/manifests/v1", strings.NewReader(index), "Content-Type", ociIndex)
	}
}

func TestLoginInPlaceOfUsers(t *testing.T) {
	login := func(name, password string) (User, bool) { return User{Name: name}, password == "of the hour" }
	c := caller{t, New(NewMemory(), Options{Users: people, Login: login})}
	c.ask(http.StatusOK, http.MethodGet, "/v2/", nil, "Authorization", basic("anybody", "of the hour"))
	c.ask(http.StatusUnauthorized, http.MethodGet, "/v2/", nil, "Authorization", basic("owner", "canary-owner"))

	tokens := newTokens(t, TokenOptions{Users: people, Login: login, Path: "/oauth2/token", NoExpiry: true})
	c = caller{t, New(NewMemory(), Options{Tokens: tokens})}
	challenge := c.ask(http.StatusUnauthorized, http.MethodGet, "/v2/", nil).Header().Get("WWW-Authenticate")
	if !strings.Contains(challenge, `realm="http://example.com/oauth2/token"`) {
		t.Errorf("challenge %q", challenge)
	}
	c.ask(http.StatusUnauthorized, http.MethodGet, "/oauth2/token", nil, "Authorization", basic("owner", "canary-owner"))
	body := c.ask(http.StatusOK, http.MethodGet, "/oauth2/token", nil, "Authorization", basic("anybody", "of the hour")).Body.String()
	if strings.Contains(body, "expires_in") || strings.Contains(body, "issued_at") || !strings.Contains(body, `"token"`) {
		t.Errorf("token answer %s", body)
	}
}

func TestTokensForOtherInterfaces(t *testing.T) {
	now := &clock{now: time.Unix(1_700_000_000, 0)}
	tokens := newTokens(t, TokenOptions{Users: people, Now: now.Now, Life: time.Minute})
	c := caller{t, New(NewMemory(), Options{Tokens: tokens, Now: now.Now})}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.Refresh("owner")}, "scope": {"repository:app:metadata_read"}}
	body := c.ask(http.StatusOK, http.MethodPost, TokenPath, strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded").Body.Bytes()
	token := c.parse(body).Access
	if token == "" {
		t.Fatalf("no access token in %s", body)
	}
	allows := func(authorization, name, action string) bool {
		r, err := http.NewRequest(http.MethodGet, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", authorization)
		return tokens.Allows(r, "repository", name, action)
	}
	for _, test := range []struct {
		authorization, name, action string
		want                        bool
	}{
		{"Bearer " + token, "app", "metadata_read", true},
		{"Bearer " + token, "app", "pull", false},
		{"Bearer " + token, "other", "metadata_read", false},
		{"Basic " + token, "app", "metadata_read", false},
		{"Bearer " + token + "x", "app", "metadata_read", false},
	} {
		if got := allows(test.authorization, test.name, test.action); got != test.want {
			t.Errorf("%s on %s with %.12s…: %v, want %v", test.action, test.name, test.authorization, got, test.want)
		}
	}
	now.advance(time.Minute)
	if allows("Bearer "+token, "app", "metadata_read") {
		t.Error("the token outlived its minute")
	}
}
