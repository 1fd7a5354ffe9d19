package embedded

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// TokenPath is where a registry with [Options.Tokens] serves its issuer.
const TokenPath = "/token"

// TokenOptions say what tokens are issued.
type TokenOptions struct {
	Users []User
	// Login finds a user by name and password, in place of Users; nil for Users.
	Login   func(name, password string) (User, bool)
	Service string        // audience; empty for "freightliner"
	Life    time.Duration // 0 for 5 minutes, as Docker Hub
	// Now is the clock; nil for [time.Now].
	Now func() time.Time
	// Realm is the address clients are sent to; empty for [TokenPath] on the
	// host they talked to.
	Realm string
	// Path is where the issuer is served; empty for [TokenPath].
	Path string
	// Field names the answer's field: "token" (the default), "access_token", or
	// "both", as issuers in the field differ.
	Field string
	// NoExpiry leaves expires_in and issued_at out of the answer, as GHCR does.
	NoExpiry bool
}

// Tokens issues and checks bearer tokens as Docker's token protocol has them
// (distribution, docs/content/spec/auth): signed statements of who may do what
// until when. It is the http.Handler of the token endpoint, on its own for
// another registry that trusts [Tokens.KeySet], or inside [New].
type Tokens struct {
	options TokenOptions
	private ed25519.PrivateKey
	keyID   string

	mu      sync.Mutex
	refresh map[string]string // refresh token to user name
	issued  int
}

// NewTokens makes an issuer with a fresh key. The key lives in memory, so
// tokens end with the process.
func NewTokens(options TokenOptions) (*Tokens, error) {
	if options.Service == "" {
		options.Service = "freightliner"
	}
	if options.Path == "" {
		options.Path = TokenPath
	}
	if options.Life == 0 {
		options.Life = 5 * time.Minute
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a token key: %w", err)
	}
	return &Tokens{
		options: options,
		private: private,
		keyID:   hex.EncodeToString(public[:8]),
		refresh: map[string]string{},
	}, nil
}

// Path is where the registry serves the issuer.
func (t *Tokens) Path() string { return t.options.Path }

// Service is the audience of the tokens.
func (t *Tokens) Service() string { return t.options.Service }

// Issuer is the "iss" claim of the tokens.
func (t *Tokens) Issuer() string { return "freightliner" }

// Issued is how many access tokens were issued so far.
func (t *Tokens) Issued() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.issued
}

// KeySet is the public key as a JSON Web Key Set (RFC 7517, RFC 8037).
func (t *Tokens) KeySet() []byte {
	public := t.private.Public().(ed25519.PublicKey)
	return mustJSON(map[string]any{"keys": []map[string]string{{
		"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
		"kid": t.keyID, "x": encode(public),
	}}})
}

// grant is one entry of a token's "access" claim.
type grant struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

type claims struct {
	Issuer    string  `json:"iss"`
	Subject   string  `json:"sub"`
	Audience  string  `json:"aud"`
	Expires   int64   `json:"exp"`
	NotBefore int64   `json:"nbf"`
	IssuedAt  int64   `json:"iat"`
	ID        string  `json:"jti"`
	Access    []grant `json:"access"`
}

// ServeHTTP issues a token: GET with basic authentication, or POST with a
// form as OAuth2 has it (grant types "password" and "refresh_token"). A scope
// the user has no right to is left out, not refused: the registry will say
// what is missing.
func (t *Tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		answerError(w, r, notAllowed(w, "GET, POST"))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		answerError(w, r, failf(http.StatusBadRequest, "UNSUPPORTED", "the form can not be read"))
		return
	}
	user, ok := t.login(r)
	if !ok {
		answerError(w, r, failf(http.StatusUnauthorized, "UNAUTHORIZED", "user name or password is wrong"))
		return
	}
	now := t.options.Now()
	token := t.sign(claims{
		Issuer: t.Issuer(), Subject: user.Name, Audience: t.options.Service,
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(t.options.Life).Unix(),
		ID: random(), Access: granted(user, r.Form["scope"]),
	})
	body := map[string]any{
		"expires_in": int(t.options.Life / time.Second),
		"issued_at":  now.UTC().Format(time.RFC3339),
	}
	if t.options.NoExpiry {
		clear(body)
	}
	if t.options.Field != "access_token" {
		body["token"] = token
	}
	if t.options.Field == "access_token" || t.options.Field == "both" || r.Method == http.MethodPost {
		body["access_token"] = token
	}
	if r.Form.Get("offline_token") == "true" || r.Form.Get("access_type") == "offline" {
		body["refresh_token"] = t.remember(user)
	}
	t.mu.Lock()
	t.issued++
	t.mu.Unlock()
	w.Header().Set("Cache-Control", "no-store")
	answer(w, r, http.StatusOK, "application/json", mustJSON(body))
}

// login finds out who asks.
func (t *Tokens) login(r *http.Request) (User, bool) {
	if r.Method == http.MethodPost {
		switch r.PostForm.Get("grant_type") {
		case "password":
			return lookup(t.options.Login, t.options.Users, r.PostForm.Get("username"), r.PostForm.Get("password"))
		case "refresh_token":
			return t.recall(r.PostForm.Get("refresh_token"))
		}
		return User{}, false
	}
	if name, password, given := r.BasicAuth(); given {
		return lookup(t.options.Login, t.options.Users, name, password)
	}
	if user, ok := anonymous(t.options.Users); ok {
		return user, true
	}
	// A token without rights: it logs in and can do nothing, like a public
	// registry's answer to somebody it does not know.
	return User{Grants: []Grant{}}, true
}

// Refresh makes a refresh token for the user with that name, as a login with
// something else than a password would.
func (t *Tokens) Refresh(name string) string { return t.remember(User{Name: name}) }

// Allows reports whether the request brings a token of ours that is good for
// the action on the resource ("repository", "library/nginx", "pull").
func (t *Tokens) Allows(r *http.Request, kind, name, action string) bool {
	raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return false
	}
	c, ok := t.verify(raw)
	return ok && c.covers(access{kind, name, action})
}

func (t *Tokens) remember(u User) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	token := random()
	t.refresh[token] = u.Name
	return token
}

func (t *Tokens) recall(token string) (User, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name, ok := t.refresh[token]
	at := slices.IndexFunc(t.options.Users, func(u User) bool { return u.Name == name })
	if !ok || at < 0 {
		return User{}, false
	}
	return t.options.Users[at], true
}

// granted is the part of the scopes asked for that the user has.
func granted(u User, scopes []string) []grant {
	access := []grant{}
	for _, scope := range scopes {
		for one := range strings.FieldsSeq(scope) {
			if g, ok := parseScope(one); ok {
				g.Actions = slices.DeleteFunc(g.Actions, func(action string) bool { return !u.may(g, action) })
				if len(g.Actions) > 0 {
					access = append(access, g)
				}
			}
		}
	}
	return access
}

// parseScope reads "repository:<name>:pull,push".
func parseScope(s string) (grant, bool) {
	head, actions, ok := cutAtLast(s, ":")
	kind, name, ok2 := strings.Cut(head, ":")
	if !ok || !ok2 || kind == "" || name == "" || actions == "" {
		return grant{}, false
	}
	return grant{Type: kind, Name: name, Actions: strings.Split(actions, ",")}, true
}

func cutAtLast(s, separator string) (before, after string, found bool) {
	at := strings.LastIndex(s, separator)
	if at < 0 {
		return s, "", false
	}
	return s[:at], s[at+len(separator):], true
}

func (u User) may(g grant, action string) bool {
	return u.allows(access{g.Type, g.Name, action})
}

// check lets a request with a good token pass, and challenges any other.
func (t *Tokens) check(w http.ResponseWriter, r *http.Request, wanted []access) error {
	raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		t.challenge(w, r, wanted, "")
		return failf(http.StatusUnauthorized, "UNAUTHORIZED", "a bearer token is needed")
	}
	c, ok := t.verify(raw)
	if !ok {
		t.challenge(w, r, wanted, "invalid_token")
		return failf(http.StatusUnauthorized, "UNAUTHORIZED", "the token is not valid here, or no longer")
	}
	for _, a := range wanted {
		if !c.covers(a) {
			t.challenge(w, r, wanted, "insufficient_scope")
			return failf(http.StatusUnauthorized, "UNAUTHORIZED", "the token does not allow to %s %s", a.action, a.name)
		}
	}
	return nil
}

func (c claims) covers(a access) bool {
	return slices.ContainsFunc(c.Access, func(g grant) bool {
		return g.Type == a.kind && g.Name == a.name &&
			(slices.Contains(g.Actions, a.action) || slices.Contains(g.Actions, "*"))
	})
}

// challenge tells where to get which token (RFC 6750, section 3). All actions
// on one repository form one scope.
func (t *Tokens) challenge(w http.ResponseWriter, r *http.Request, wanted []access, problem string) {
	realm := t.options.Realm
	if realm == "" {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		realm = scheme + "://" + r.Host + t.options.Path
	}
	value := fmt.Sprintf("Bearer realm=%q,service=%q", realm, t.options.Service)
	if scope := scopeOf(wanted); scope != "" {
		value += fmt.Sprintf(",scope=%q", scope)
	}
	if problem != "" {
		value += fmt.Sprintf(",error=%q", problem)
	}
	w.Header().Set("WWW-Authenticate", value)
}

func scopeOf(wanted []access) string {
	var scopes []string
	for i, a := range wanted {
		if i > 0 && wanted[i-1].kind == a.kind && wanted[i-1].name == a.name {
			scopes[len(scopes)-1] += "," + a.action
			continue
		}
		scopes = append(scopes, a.kind+":"+a.name+":"+a.action)
	}
	return strings.Join(scopes, " ")
}

// sign makes a JSON Web Token with EdDSA (RFC 7519, RFC 8037).
func (t *Tokens) sign(c claims) string {
	header := bytes.TrimSpace(mustJSON(map[string]string{"alg": "EdDSA", "typ": "JWT", "kid": t.keyID}))
	signed := encode(header) + "." + encode(bytes.TrimSpace(mustJSON(c)))
	return signed + "." + encode(ed25519.Sign(t.private, []byte(signed)))
}

// verify checks a token of ours. The header is not looked at: there is one key
// and one algorithm, so there is nothing in it that could be chosen.
func (t *Tokens) verify(raw string) (claims, bool) {
	signed, signature, ok := cutAtLast(raw, ".")
	if !ok {
		return claims{}, false
	}
	sum, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || !ed25519.Verify(t.private.Public().(ed25519.PublicKey), []byte(signed), sum) {
		return claims{}, false
	}
	_, body, _ := strings.Cut(signed, ".")
	payload, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return claims{}, false
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return claims{}, false
	}
	now := t.options.Now().Unix()
	return c, c.Audience == t.options.Service && now >= c.NotBefore && now < c.Expires
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func random() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
