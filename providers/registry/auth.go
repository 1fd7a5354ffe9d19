package registry

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"freightliner/providers"
)

// authorizer proves who we are to one registry. It learns how from the first
// 401, keeps tokens by their scopes until a fraction of their life is over, and
// lets one refresh serve all workers. Credentials leave it only towards the
// registry's own origin and the token server that the origin is allowed to name.
type authorizer struct {
	remote *remote

	mu        sync.Mutex
	state     authState
	learning  chan struct{} // closed when the answer is in that all wait for; nil when nobody does
	challenge challenge
	realm     *url.URL
	elsewhere bool // the realm is on another, allowed host

	credential *Credential
	renewAt    time.Time     // when to ask for its successor; zero for never
	asking     chan struct{} // closed when the credential is there; nil when nobody asks
	worked     atomic.Bool   // a proof was accepted, so a refusal is about rights, not about the credential
	refused    error         // the credential is no good: every call fails with this
	lacking    map[string]error
	wider      map[string][]string // scopes the registry named for what we asked, by key
	tokens     map[string]*token
	flights    map[string]*tokenFlight
}

type authState uint8

const (
	authUnknown authState = iota
	authOpen              // the registry answered without asking who we are
	authBasic
	authBearer
)

const (
	tokenLife     = 60 * time.Second // when the server does not say; the Docker token specification's default
	tokenFraction = 0.8              // of its life after which a token is renewed
)

type token struct {
	value string
	renew time.Time
}

type tokenFlight struct {
	done  chan struct{}
	value string
	err   error
}

func newAuthorizer(r *remote) *authorizer {
	return &authorizer{remote: r, lacking: map[string]error{}, wider: map[string][]string{}, tokens: map[string]*token{}, flights: map[string]*tokenFlight{}}
}

// Rights, as the scopes of the Docker token specification write them.
const (
	pull     = "pull"
	pullPush = "pull,push"
)

func scope(path, actions string) string { return "repository:" + path + ":" + actions }

// proof is what goes into the Authorization header of one request.
type proof struct {
	auth   *authorizer
	header string
	state  authState
	scopes []string
	key    string
	value  string // the token or the basic pair in use
	first  bool   // this request finds out for all others
}

// proof gives the header for a request that needs scopes. While nobody knows
// yet whether the registry asks at all, and then whether it takes what we have,
// one request finds out and all others wait for it: a start of many workers costs
// one 401, and a wrong password is sent once, not as often as locks an account.
func (a *authorizer) proof(ctx context.Context, scopes []string) (*proof, error) {
	scopes = slices.Compact(slices.Sorted(slices.Values(scopes)))
	p := &proof{auth: a, scopes: scopes, key: strings.Join(scopes, " ")}
	for {
		a.mu.Lock()
		if a.learning == nil || a.known() {
			break
		}
		learning := a.learning
		a.mu.Unlock()
		select {
		case <-learning:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	p.state = a.state
	if !a.known() {
		a.learning, p.first = make(chan struct{}), true
	}
	refused, lacking := a.refused, a.lacking[p.key]
	a.mu.Unlock()
	err := cmp.Or(refused, lacking)
	if err == nil {
		err = a.fill(ctx, p)
	}
	if err != nil {
		p.unused()
		return nil, err
	}
	return p, nil
}

// known reports whether requests can go side by side: the registry asks nothing,
// takes what we have, or has turned it down for good. The caller holds mu.
func (a *authorizer) known() bool { return a.state == authOpen || a.worked.Load() || a.refused != nil }

// fill makes the header. Before the first challenge there is none: nothing
// secret is sent to a host that did not ask.
func (a *authorizer) fill(ctx context.Context, p *proof) error {
	if p.state != authBasic && p.state != authBearer {
		return nil
	}
	credential, err := a.ask(ctx, p.scopes)
	if err != nil {
		return err
	}
	switch {
	case p.state == authBasic && credential.Username == "" && credential.Password == nil:
		have := "there are none"
		if !credential.empty() {
			have = "there is only a token"
		}
		return a.denied(errors.New("it wants a user name and a password, and "+have), a.where(credential))
	case p.state == authBasic:
		p.value = basic(credential)
		p.header = "Basic " + p.value
	case credential.Bearer != nil:
		p.value = credential.Bearer()
		p.header = "Bearer " + p.value
	default:
		p.value, err = a.token(ctx, p.key, p.scopes, credential)
		p.header = "Bearer " + p.value
	}
	return err
}

func basic(c Credential) string {
	password := ""
	if c.Password != nil {
		password = c.Password()
	}
	return base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + password))
}

// accepted notes that a request went through.
func (p *proof) accepted() {
	if p.header != "" {
		p.auth.worked.Store(true)
	}
	p.learned(authOpen)
}

// unused notes that a request did not reach the registry.
func (p *proof) unused() { p.learned(authUnknown) }

func (p *proof) learned(state authState) {
	if !p.first {
		return
	}
	a := p.auth
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == authUnknown {
		a.state = state
	}
	close(a.learning)
	a.learning, p.first = nil, false
}

// rejected takes a 401; earlier is how many proofs were refused before in the
// same call. nil means that there is reason to try again with a new proof. The
// answer's body is closed.
func (a *authorizer) rejected(ctx context.Context, p *proof, resp *http.Response, earlier int) error {
	answer := readRefusal(resp, a.redact)
	resp.Body.Close()
	err := a.learn(p, resp)
	defer p.unused() // when it is known what the refusal means
	switch {
	case errors.Is(err, errElsewhere):
		return a.denied(err, "If that token server is right, name it in token_hosts in the registry block of "+a.remote.settings.Host+".")
	case err != nil:
		return a.denied(err, "")
	case p.header == "":
		return nil // the first challenge
	case earlier == 0:
		return a.renew(ctx, p, answer)
	}
	return a.final(p, answer)
}

// learn takes the challenge of a 401 over.
func (a *authorizer) learn(p *proof, resp *http.Response) error {
	c, err := choose(parseChallenges(resp.Header.Values("WWW-Authenticate")))
	if err != nil {
		return err
	}
	var realm *url.URL
	elsewhere := false
	if c.scheme == "bearer" {
		allowed := append(slices.Clone(a.remote.settings.TokenHosts), a.remote.kind.tokenHosts(a.remote.settings)...)
		base := &url.URL{Scheme: a.remote.scheme, Host: a.remote.apiHost, Path: "/v2/"}
		if realm, elsewhere, err = a.remote.resolve(base, c.params["realm"], allowed); err != nil {
			return fmt.Errorf("token server: %w", err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.realm != nil && realm != nil && origin(a.realm) != origin(realm) {
		return fmt.Errorf("token server: was %s, now it should be %s", a.realm.Host, realm.Host)
	}
	a.challenge, a.realm, a.elsewhere = c, realm, elsewhere
	a.state = authBasic
	if realm != nil {
		a.state = authBearer
	}
	if scopes := widen(p.scopes, strings.Fields(c.params["scope"])); scopes != nil {
		a.wider[p.key] = scopes
	}
	return nil
}

// widen takes the scopes that a registry named in place of ours when they are
// about the same repositories: it may know an action by another name. Scopes
// for anything else are not asked for on its word.
func widen(ours, theirs []string) []string {
	if len(theirs) == 0 || len(theirs) > 8 {
		return nil
	}
	same := map[string]bool{}
	for _, s := range ours {
		same[s[:strings.LastIndex(s, ":")]] = true
	}
	scopes := slices.Clone(ours)
	for _, s := range theirs {
		i := strings.LastIndex(s, ":")
		if i < 0 || !same[s[:i]] || len(s) > 400 {
			return nil
		}
		scopes = append(scopes, s)
	}
	slices.Sort(scopes)
	scopes = slices.Compact(scopes)
	if slices.Equal(scopes, ours) {
		return nil
	}
	return scopes
}

// renew makes the next proof a new one after the first refusal: a token may
// have been withdrawn before its time, a password replaced.
func (a *authorizer) renew(ctx context.Context, p *proof, answer error) error {
	if p.state == authUnknown || p.state == authOpen {
		return nil
	}
	a.mu.Lock()
	held := a.tokens[p.key]
	if held != nil && held.value == p.value {
		delete(a.tokens, p.key)
	}
	a.mu.Unlock()
	if p.state == authBearer && held != nil {
		return nil
	}
	changed, err := a.reask(ctx, p)
	if err != nil || changed {
		return err
	}
	return a.final(p, answer)
}

// reask drops the credential that the proof was made of, asks for it anew, and
// reports whether it is another one now.
func (a *authorizer) reask(ctx context.Context, p *proof) (changed bool, err error) {
	a.mu.Lock()
	if a.credential != nil && p.madeOf(*a.credential) {
		a.credential = nil
	}
	a.mu.Unlock()
	credential, err := a.ask(ctx, p.scopes)
	return err == nil && !p.madeOf(credential), err
}

func (p *proof) madeOf(c Credential) bool {
	if p.state == authBasic {
		return basic(c) == p.value
	}
	return c.Bearer != nil && c.Bearer() == p.value
}

// final gives up. A password that was never taken is no good for the whole
// registry; a token, or a password that was taken elsewhere, lacks rights here.
func (a *authorizer) final(p *proof, answer error) error {
	a.mu.Lock()
	credential := Credential{}
	if a.credential != nil {
		credential = *a.credential
	}
	a.mu.Unlock()
	if (p.state == authBearer || a.worked.Load()) && !a.worthless(credential) {
		err := a.denied(fmt.Errorf("no access with %s: %w", strings.Join(p.scopes, " "), answer), a.where(credential))
		a.mu.Lock()
		defer a.mu.Unlock()
		a.lacking[p.key] = err
		return err
	}
	return a.giveUp(answer, credential)
}

// worthless reports whether the registry said of a ready-made token that it is
// none at all (RFC 6750, 3.1), rather than that it lacks a right.
func (a *authorizer) worthless(credential Credential) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return credential.Bearer != nil && a.challenge.params["error"] == "invalid_token" && !a.worked.Load()
}

// giveUp makes every further call to the registry fail with the same error.
func (a *authorizer) giveUp(cause error, credential Credential) error {
	err := a.denied(cause, a.where(credential))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused = err
	return err
}

func (a *authorizer) denied(err error, hint string) error {
	return &providers.Error{Class: providers.Denied, Op: "authenticate at", On: a.remote.settings.Host, Err: err, Hint: hint}
}

// nowhere begins the Origin of a Credential that was not found; what follows
// says where a kind looked.
const nowhere = "nowhere: tried "

// NoCredential is what a kind gives when its cloud's chain has nothing: anonymous,
// and words about where it looked.
func NoCredential(tried string) Credential { return Credential{Origin: nowhere + tried} }

// where says what was tried, without a value.
func (a *authorizer) where(c Credential) string {
	host := a.remote.settings.Host
	if c.empty() {
		tried := ""
		if c.Origin != "" && !strings.HasPrefix(c.Origin, "nowhere") {
			return host + " is asked without a credential, as " + providers.Printable(c.Origin, 200) + " says."
		}
		if places, ok := strings.CutPrefix(c.Origin, nowhere); ok {
			tried = " (also tried: " + providers.Printable(places, 400) + ")"
		}
		return "No credential was found for " + host + tried + "; add an auth block to its registry block or log in with docker or podman."
	}
	from := c.Origin
	if from == "" {
		from = "the configured source"
	}
	return "The credential for " + host + " comes from " + providers.Printable(from, 200) + "; check that it is right and not expired."
}

// missing names the rights that a 403 may be about.
func (a *authorizer) missing(scopes []string) string {
	if len(scopes) == 0 {
		return ""
	}
	return "The request needs " + strings.Join(scopes, " and ") + " at " + a.remote.settings.Host + "; check what the credential may do there."
}

// ask finds the credential, once for all workers, and another when the one we
// have is near its end.
func (a *authorizer) ask(ctx context.Context, scopes []string) (Credential, error) {
	for {
		a.mu.Lock()
		if a.refused != nil {
			defer a.mu.Unlock()
			return Credential{}, a.refused
		}
		now := a.remote.client.clock.Now()
		if a.credential != nil && (a.renewAt.IsZero() || now.Before(a.renewAt)) {
			defer a.mu.Unlock()
			return *a.credential, nil
		}
		if asking := a.asking; asking != nil {
			a.mu.Unlock()
			select {
			case <-asking:
				continue
			case <-ctx.Done():
				return Credential{}, ctx.Err()
			}
		}
		a.asking = make(chan struct{})
		held := a.credential
		a.mu.Unlock()

		credential, err := a.find(ctx, scopes)
		if err != nil && held != nil && now.Before(held.Expires) && providers.ClassOf(err).Retryable() {
			credential, err = *held, nil // it still works, and is tried again when 80 % of what is left is over
		}
		a.mu.Lock()
		close(a.asking)
		a.asking = nil
		if err == nil {
			a.credential, a.renewAt = &credential, renewal(now, credential.Expires)
		} else {
			err = a.notFound(err)
		}
		a.mu.Unlock()
		if err != nil {
			return Credential{}, err
		}
		a.remote.client.log.Debug("credential", "registry", a.remote.settings.Host, "from", credential.Origin)
		return credential, nil
	}
}

// renewal is when to ask for the successor of what ends at expires.
func renewal(now, expires time.Time) time.Time {
	if expires.IsZero() {
		return time.Time{}
	}
	return now.Add(seconds(max(expires.Sub(now).Seconds()*tokenFraction, 1)))
}

// notFound is the error for a search that failed. Unless the failure may pass,
// it is the answer to everyone from now on: a helper that hangs, or a cloud that
// refuses, is asked once for a registry and not once for each repository. The
// caller holds mu.
func (a *authorizer) notFound(err error) error {
	switch providers.ClassOf(err) {
	case providers.Canceled:
		return err
	case providers.Transient, providers.Throttled:
		return amend(err, func(e *providers.Error) { e.Err = fmt.Errorf("authenticate at %s: %w", a.remote.settings.Host, e.Err) })
	}
	a.refused = a.denied(err, "")
	return a.refused
}

func (a *authorizer) find(ctx context.Context, scopes []string) (Credential, error) {
	s := a.remote.settings
	repo := providers.Repository{Host: s.Host, Path: s.Path}
	for _, name := range scopes {
		if rest, ok := strings.CutPrefix(name, "repository:"); ok {
			repo.Path, _, _ = strings.Cut(rest, ":")
			break
		}
	}
	if s.Credential != nil {
		return s.Credential(ctx, repo)
	}
	found := Credential{}
	if keychain := a.remote.client.keychain; keychain != nil {
		var err error
		if found, err = keychain(ctx, repo); err != nil || !found.empty() {
			return found, err
		}
	}
	// The cloud's own chain: only for a host that is that cloud's beyond doubt.
	if k := a.remote.kind; k.Credential != nil && k.serves(s) {
		return k.Credential(ctx, &API{remote: a.remote, held: true}, repo)
	}
	return found, nil
}

// empty reports whether c is anonymous.
func (c Credential) empty() bool {
	return c.Username == "" && c.Password == nil && c.Identity == nil && c.Bearer == nil
}

// token gives a token for scopes, from the cache or by one exchange that all
// workers share. A token for pull,push serves for pull as well.
func (a *authorizer) token(ctx context.Context, key string, scopes []string, credential Credential) (string, error) {
	for {
		a.mu.Lock()
		now := a.remote.client.clock.Now()
		if len(scopes) == 1 && strings.HasSuffix(key, ":"+pull) {
			if t := a.tokens[key[:len(key)-len(pull)]+pullPush]; t != nil && now.Before(t.renew) {
				a.mu.Unlock()
				return t.value, nil
			}
		}
		if t := a.tokens[key]; t != nil && now.Before(t.renew) {
			a.mu.Unlock()
			return t.value, nil
		}
		if f := a.flights[key]; f != nil {
			a.mu.Unlock()
			select {
			case <-f.done:
			case <-ctx.Done():
				return "", ctx.Err()
			}
			if f.err != nil && providers.ClassOf(f.err) == providers.Canceled {
				continue // the one who asked was stopped, we were not
			}
			return f.value, f.err
		}
		f := &tokenFlight{done: make(chan struct{})}
		a.flights[key] = f
		if wider := a.wider[key]; wider != nil {
			scopes = wider
		}
		a.mu.Unlock()

		t, err := a.fetch(ctx, scopes, credential)
		if statusOf(err) == http.StatusUnauthorized && a.worked.Load() {
			if fresh, changed := a.replaced(ctx, scopes, credential); changed {
				t, err = a.fetch(ctx, scopes, fresh)
			}
		}
		a.mu.Lock()
		delete(a.flights, key)
		if f.err = err; err == nil {
			f.value = t.value
			a.keep(key, t)
		}
		a.mu.Unlock()
		close(f.done)
		return f.value, f.err
	}
}

// replaced asks for the credential anew after one that used to work was refused,
// as a refresh token is after some hours, and reports whether it is another one.
func (a *authorizer) replaced(ctx context.Context, scopes []string, old Credential) (fresh Credential, changed bool) {
	a.mu.Lock()
	if a.credential != nil && same(*a.credential, old) {
		a.credential = nil
	}
	a.mu.Unlock()
	fresh, err := a.ask(ctx, scopes)
	return fresh, err == nil && !same(fresh, old)
}

func same(a, b Credential) bool {
	value := func(f func() string) string {
		if f == nil {
			return ""
		}
		return f()
	}
	return a.Username == b.Username && value(a.Password) == value(b.Password) && value(a.Identity) == value(b.Identity) && value(a.Bearer) == value(b.Bearer)
}

// keep stores a token, and forgets dead ones when there are many.
func (a *authorizer) keep(key string, t *token) {
	if len(a.tokens) >= 4096 {
		now := a.remote.client.clock.Now()
		for k, old := range a.tokens {
			if !now.Before(old.renew) {
				delete(a.tokens, k)
			}
		}
	}
	a.tokens[key] = t
}

// fetch asks the token server: with the refresh token by POST as in OAuth2 when
// there is one, else by GET with the user name and password, if any. The
// address has been checked when the challenge was learned; redirects are not
// followed, so the credential goes there and nowhere else.
func (a *authorizer) fetch(ctx context.Context, scopes []string, credential Credential) (*token, error) {
	a.mu.Lock()
	realm, service, elsewhere := *a.realm, a.challenge.params["service"], a.elsewhere
	a.mu.Unlock()
	c := &call{op: "get a token from", on: realm.Host, method: http.MethodGet, endpoint: "token", url: &realm, foreign: elsewhere,
		header: http.Header{"Accept-Encoding": {acceptEncodings}}, ok: []int{http.StatusOK}}
	authorization := ""
	if credential.Identity != nil {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {credential.Identity()}, "service": {service},
			"scope": {strings.Join(scopes, " ")}, "client_id": {a.remote.client.userAgent}}
		c.method, c.body = http.MethodPost, []byte(form.Encode())
		c.header.Set("Content-Type", "application/x-www-form-urlencoded")
	} else {
		query := realm.Query()
		if service != "" {
			query.Set("service", service)
		}
		for _, s := range scopes {
			query.Add("scope", s)
		}
		realm.RawQuery = query.Encode()
		if credential.Username != "" || credential.Password != nil {
			authorization = "Basic " + basic(credential)
		}
	}
	asked := a.remote.client.clock.Now()
	resp, err := a.remote.trip(ctx, c, c.method, c.endpoint, &realm, authorization, elsewhere)
	if err != nil {
		return nil, a.remote.failure(ctx, c, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, a.notGiven(c, resp, credential)
	}
	t, err := readToken(resp, asked)
	if err != nil {
		return nil, a.remote.failure(ctx, c, err)
	}
	return t, nil
}

// notGiven is the error for a token server that refuses. A credential that was
// never taken is no good for the whole registry; one that was lacks the rights
// that were asked for, which is how some servers answer a mount.
func (a *authorizer) notGiven(c *call, resp *http.Response, credential Credential) error {
	err := a.remote.unwanted(c, resp)
	if providers.ClassOf(err) != providers.Denied {
		return err
	}
	if resp.StatusCode == http.StatusUnauthorized && (credential.Username != "" || credential.Identity != nil) && !a.worked.Load() {
		return a.giveUp(err, credential)
	}
	return a.denied(err, a.where(credential))
}

// readToken reads a token answer. Its life counts from when we asked, by our
// own clock: issued_at is the server's, and clocks differ.
func readToken(resp *http.Response, asked time.Time) (*token, error) {
	body, err := readBody(resp, maxToken)
	if err != nil {
		return nil, err
	}
	if err := checkJSON(body); err != nil {
		return nil, invalid("the token answer: %w", err)
	}
	var answer struct {
		Token   string  `json:"token"`
		Access  string  `json:"access_token"`
		Expires float64 `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, invalid("the token answer is not as specified")
	}
	value := answer.Token
	if value == "" {
		value = answer.Access
	}
	if value == "" || strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return nil, invalid("the token answer has no usable token")
	}
	life := tokenLife
	if answer.Expires > 0 {
		life = seconds(min(answer.Expires, 24*3600))
	}
	return &token{value: value, renew: asked.Add(seconds(life.Seconds() * tokenFraction))}, nil
}

// redact takes our own secrets out of text that a registry sent, in case it
// echoes a header.
func (a *authorizer) redact(text string) string {
	a.mu.Lock()
	var secrets []string
	if c := a.credential; c != nil {
		for _, get := range []func() string{c.Password, c.Identity, c.Bearer} {
			if get != nil {
				secrets = append(secrets, get())
			}
		}
		if c.Password != nil {
			secrets = append(secrets, basic(*c))
		}
	}
	for _, t := range a.tokens {
		secrets = append(secrets, t.value)
	}
	a.mu.Unlock()
	for _, secret := range secrets {
		if len(secret) >= 4 {
			text = strings.ReplaceAll(text, secret, "[redacted]")
			text = strings.ReplaceAll(text, url.QueryEscape(secret), "[redacted]")
		}
	}
	return text
}
