package embedded

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var people = []User{
	{Name: "owner", Password: "canary-owner"},
	{Name: "reader", Password: "canary-reader", Grants: []Grant{{Repository: "team/", Actions: []string{"pull"}}}},
	{Name: "writer", Password: "canary-writer", Grants: []Grant{{Repository: "team/app", Actions: []string{"pull", "push"}}}},
	{Name: "lister", Password: "canary-lister", Grants: []Grant{{Repository: "registry:catalog", Actions: []string{"*"}}}},
	{Grants: []Grant{{Repository: "public/", Actions: []string{"pull"}}}},
}

// rights is who may do what, by basic authentication and by token.
var rights = []struct {
	method, target string
	needs          string // scope
	may            string // users, in the order of people; "-" is anonymous
}{
	{"GET", "/v2/team/app/tags/list", "repository:team/app:pull", "owner reader writer"},
	{"GET", "/v2/team/other/manifests/v1", "repository:team/other:pull", "owner reader"},
	{"GET", "/v2/team-b/app/tags/list", "repository:team-b/app:pull", "owner"},
	{"GET", "/v2/public/app/tags/list", "repository:public/app:pull", "owner -"},
	{"POST", "/v2/team/app/blobs/uploads/", "repository:team/app:pull,push", "owner writer"},
	{"PUT", "/v2/team/app/manifests/v1", "repository:team/app:pull,push", "owner writer"},
	{"DELETE", "/v2/team/app/manifests/v1", "repository:team/app:delete", "owner"},
	{"DELETE", "/v2/team/app/blobs/uploads/0123", "repository:team/app:push", "owner writer"},
	{"POST", "/v2/team/app/blobs/uploads/?mount=" + someDigest + "&from=team/other", "repository:team/app:pull,push repository:team/other:pull", "owner"},
	{"GET", "/v2/_catalog", "registry:catalog:*", "owner lister"},
}

func TestBasicAuthentication(t *testing.T) {
	c := caller{t, New(NewMemory(), Options{Users: people})}
	for _, right := range rights {
		for _, user := range people {
			t.Run(right.method+" "+right.target+" by "+user.Name, func(t *testing.T) {
				r := httptest.NewRequest(right.method, right.target, nil)
				if user.Name != "" {
					r.SetBasicAuth(user.Name, user.Password)
				}
				allowed := mentions(right.may, user.Name)
				got := c.status(r)
				if denied := got == http.StatusForbidden || got == http.StatusUnauthorized; denied == allowed {
					t.Errorf("status %d; may %v", got, allowed)
				}
			})
		}
	}
	for name, header := range map[string]string{"no credentials": "", "wrong password": basic("owner", "wrong"), "unknown user": basic("nobody", ""), "a token": "Bearer abc", "nonsense": "Basic !!!"} {
		w := c.ask(http.StatusUnauthorized, http.MethodGet, "/v2/", nil, "Authorization", header)
		if !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Basic realm=") {
			t.Errorf("%s: challenge %q", name, w.Header().Get("WWW-Authenticate"))
		}
	}
}

func mentions(names, name string) bool {
	if name == "" {
		name = "-"
	}
	for one := range strings.FieldsSeq(names) {
		if one == name {
			return true
		}
	}
	return false
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func (c caller) status(r *http.Request) int {
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	return w.Code
}

func newTokens(t *testing.T, options TokenOptions) *Tokens {
	t.Helper()
	options.Users = people
	tokens, err := NewTokens(options)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

type tokenAnswer struct {
	Token     string `json:"token"`
	Access    string `json:"access_token"`
	Refresh   string `json:"refresh_token"`
	ExpiresIn int    `json:"expires_in"`
}

func (c caller) token(query string, header ...string) tokenAnswer {
	c.Helper()
	w := c.ask(http.StatusOK, http.MethodGet, TokenPath+"?"+query, nil, header...)
	return c.parse(w.Body.Bytes())
}

func (c caller) parse(body []byte) tokenAnswer {
	c.Helper()
	var answer tokenAnswer
	if err := json.Unmarshal(body, &answer); err != nil {
		c.Fatal(err)
	}
	return answer
}

func TestTokenAuthentication(t *testing.T) {
	c := caller{t, New(NewMemory(), Options{Tokens: newTokens(t, TokenOptions{})})}
	for _, right := range rights {
		challenge := c.ask(http.StatusUnauthorized, right.method, right.target, nil).Header().Get("WWW-Authenticate")
		want := `Bearer realm="http://example.com/token",service="freightliner",scope="` + right.needs + `"`
		if diff := cmp.Diff(want, challenge); diff != "" {
			t.Errorf("%s %s: challenge (-want +got):\n%s", right.method, right.target, diff)
		}
		query := url.Values{"service": {"freightliner"}, "scope": strings.Fields(right.needs)}.Encode()
		for _, user := range people {
			header := []string{"Authorization", basic(user.Name, user.Password)}
			if user.Name == "" {
				header = nil
			}
			r := httptest.NewRequest(right.method, right.target, nil)
			r.Header.Set("Authorization", "Bearer "+c.token(query, header...).Token)
			allowed := mentions(right.may, user.Name)
			if got := c.status(r); got == http.StatusUnauthorized == allowed {
				t.Errorf("%s %s by %q: status %d; may %v", right.method, right.target, user.Name, got, allowed)
			}
		}
	}
	c.ask(http.StatusUnauthorized, http.MethodGet, TokenPath, nil, "Authorization", basic("owner", "wrong"))
	c.ask(http.StatusMethodNotAllowed, http.MethodPut, TokenPath, nil)
}

func TestTokensEnd(t *testing.T) {
	clock := &clock{now: day}
	tokens := newTokens(t, TokenOptions{Life: time.Minute, Now: clock.Now})
	c := caller{t, New(NewMemory(), Options{Tokens: tokens})}
	answer := c.token("scope=repository:team/app:pull", "Authorization", basic("owner", "canary-owner"))
	if answer.ExpiresIn != 60 {
		t.Errorf("expires_in %d, want 60", answer.ExpiresIn)
	}
	ask := func(status int, token, problem string) {
		t.Helper()
		w := c.ask(status, http.MethodGet, "/v2/team/app/tags/list", nil, "Authorization", "Bearer "+token)
		if problem != "" && !strings.Contains(w.Header().Get("WWW-Authenticate"), `error="`+problem+`"`) {
			t.Errorf("challenge %q, want error %s", w.Header().Get("WWW-Authenticate"), problem)
		}
	}
	const found = http.StatusNotFound // let in; there is no such repository
	ask(found, answer.Token, "")
	clock.advance(59 * time.Second)
	ask(found, answer.Token, "")
	clock.advance(time.Second)
	ask(http.StatusUnauthorized, answer.Token, "invalid_token")
	if got := tokens.Issued(); got != 1 {
		t.Errorf("%d tokens issued, want 1", got)
	}
}

func TestTokensThatAreNotOurs(t *testing.T) {
	c := caller{t, New(NewMemory(), Options{Tokens: newTokens(t, TokenOptions{})})}
	login := []string{"Authorization", basic("owner", "canary-owner")}
	good := c.token("scope=repository:team/app:pull", login...).Token
	parts := strings.Split(good, ".")
	forged := base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"freightliner","aud":"freightliner","exp":99999999999,"access":[{"type":"repository","name":"team/app","actions":["pull"]}]}`))
	other := caller{t, New(NewMemory(), Options{Tokens: newTokens(t, TokenOptions{})})}
	elsewhere := caller{t, newTokens(t, TokenOptions{Service: "elsewhere"})}
	for name, token := range map[string]string{
		"empty":            "",
		"nonsense":         "nonsense",
		"no signature":     parts[0] + "." + parts[1] + ".",
		"changed claims":   parts[0] + "." + forged + "." + parts[2],
		"algorithm none":   base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + forged + ".",
		"another issuer":   other.token("scope=repository:team/app:pull", login...).Token,
		"another audience": elsewhere.token("scope=repository:team/app:pull", login...).Token,
	} {
		w := c.ask(http.StatusUnauthorized, http.MethodGet, "/v2/team/app/tags/list", nil, "Authorization", "Bearer "+token)
		if !strings.Contains(w.Header().Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("%s: challenge %q", name, w.Header().Get("WWW-Authenticate"))
		}
	}
	w := c.ask(http.StatusUnauthorized, http.MethodGet, "/v2/team/other/tags/list", nil, "Authorization", "Bearer "+good)
	if !strings.Contains(w.Header().Get("WWW-Authenticate"), `error="insufficient_scope"`) {
		t.Errorf("a token for another repository: challenge %q", w.Header().Get("WWW-Authenticate"))
	}
}

func TestTokensByForm(t *testing.T) {
	c := caller{t, New(NewMemory(), Options{Tokens: newTokens(t, TokenOptions{Field: "both"})})}
	post := func(status int, form url.Values) tokenAnswer {
		t.Helper()
		w := c.ask(status, http.MethodPost, TokenPath, strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
		if status != http.StatusOK {
			return tokenAnswer{}
		}
		return c.parse(w.Body.Bytes())
	}
	scope := "repository:team/app:pull,push repository:team/other:pull"
	first := post(http.StatusOK, url.Values{"grant_type": {"password"}, "username": {"owner"}, "password": {"canary-owner"}, "scope": {scope}, "access_type": {"offline"}})
	if first.Refresh == "" || first.Access == "" || first.Access != first.Token {
		t.Errorf("answer has refresh %v, access %v, both equal %v", first.Refresh != "", first.Access != "", first.Access == first.Token)
	}
	second := post(http.StatusOK, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first.Refresh}, "scope": {scope}})
	for _, token := range []string{first.Access, second.Access} {
		c.ask(http.StatusAccepted, http.MethodPost, "/v2/team/app/blobs/uploads/", nil, "Authorization", "Bearer "+token)
		c.ask(http.StatusNotFound, http.MethodGet, "/v2/team/other/tags/list", nil, "Authorization", "Bearer "+token)
	}
	post(http.StatusUnauthorized, url.Values{"grant_type": {"password"}, "username": {"owner"}, "password": {"wrong"}})
	post(http.StatusUnauthorized, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"unknown"}})
	post(http.StatusUnauthorized, url.Values{"grant_type": {"other"}})
}

func TestTokenFields(t *testing.T) {
	for field, want := range map[string][2]bool{"": {true, false}, "token": {true, false}, "access_token": {false, true}, "both": {true, true}} {
		c := caller{t, newTokens(t, TokenOptions{Field: field})}
		answer := c.token("")
		if got := [2]bool{answer.Token != "", answer.Access != ""}; got != want {
			t.Errorf("field %q: token and access_token present: %v, want %v", field, got, want)
		}
	}
}
