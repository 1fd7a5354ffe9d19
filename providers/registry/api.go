package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"freightliner/providers"
)

// API is how a kind sends requests for one registry: to the registry itself and
// to the hosts that belong to it, with the retries, rates, caps and counters of
// every other request. One API serves one listing, creation or credential, and
// refuses to read the same page twice.
//
// No credential gets out of it to anywhere else: an address whose origin is
// neither the registry's nor one of the kind's pairs is refused before anything
// is sent, https is required of the pairs, and redirects are not followed.
type API struct {
	remote *remote
	held   bool // the caller holds a slot of the gate

	mu      sync.Mutex
	pages   map[string]bool
	earlier bool // pages were read before a restart
}

// Request is one question to an interface of JSON.
type Request struct {
	Op, On   string // for messages: "list repositories of", "ghcr.io/acme"
	Endpoint string // for counters: "packages"
	Method   string // empty for GET
	URL      *url.URL
	Header   http.Header
	Body     []byte
	OK       []int // statuses that are an answer; nil for 200

	// Scopes are rights in the registry's own scheme of tokens or passwords, which
	// is then used as for any request of the distribution API. Only for addresses
	// of the registry itself.
	Scopes []string
	// Authorize sets the headers that say who we are, before each try; nil for
	// none. Not with Scopes.
	Authorize func(ctx context.Context, req *http.Request) error
	// Aside: the answer is no page of the listing, so that what comes after it may
	// still find that there is no listing to be had.
	Aside bool
	// Class gives the class of a refusal where the status does not tell it.
	Class func(status int, codes []string) (class providers.Class, known bool)
}

// Host is the registry as users name it, host[:port].
func (a *API) Host() string { return a.remote.settings.Host }

// Settings are those of the registry block.
func (a *API) Settings() Settings { return a.remote.settings }

// Now is the time by the clock of the client.
func (a *API) Now() time.Time { return a.remote.client.clock.Now() }

// Wait returns after d by the clock of the client, or with ctx's error when that
// ends first.
func (a *API) Wait(ctx context.Context, d time.Duration) error {
	return a.remote.client.clock.Wait(ctx, d)
}

// URL is an address at the registry itself. The path is escaped already.
func (a *API) URL(path string, query url.Values) *url.URL {
	return escaped(a.remote.scheme, a.remote.apiHost, path, query)
}

// At is an address at another host, by https. The path is escaped already.
func (a *API) At(host, path string, query url.Values) *url.URL {
	return escaped("https", host, path, query)
}

func escaped(scheme, host, path string, query url.Values) *url.URL {
	u := &url.URL{Scheme: scheme, Host: host, RawQuery: query.Encode()}
	u.Path, u.RawPath = path, path
	if plain, err := url.PathUnescape(path); err == nil {
		u.Path = plain
	}
	return u
}

// Credential is what the registry is asked with: the auth block's, the credential
// files', or the cloud's. The zero Credential is anonymous.
func (a *API) Credential(ctx context.Context, path string) (Credential, error) {
	return a.remote.auth.ask(ctx, []string{scope(path, pull)})
}

// Secret is the password or token of c; empty when it has neither.
func (c Credential) Secret() string {
	for _, get := range []func() string{c.Password, c.Bearer, c.Identity} {
		if get != nil {
			return get()
		}
	}
	return ""
}

// Ask sends q and decodes the JSON of its answer into the pointer into, which
// may be nil. Tries are repeated by class, as everywhere.
func (a *API) Ask(ctx context.Context, q Request, into any) (http.Header, error) {
	r := a.remote
	c := &call{op: q.Op, on: q.On, method: q.Method, endpoint: q.Endpoint, url: q.URL, scopes: q.Scopes,
		header: http.Header{"Accept-Encoding": {acceptEncodings}}, body: q.Body, ok: q.OK, held: a.held}
	if c.method == "" {
		c.method = http.MethodGet
	}
	if c.ok == nil {
		c.ok = []int{http.StatusOK}
	}
	for name, values := range q.Header {
		c.header[name] = values
	}
	c.foreign = origin(q.URL) != r.origin
	if err := a.allowed(c); err != nil {
		return nil, r.failure(ctx, c, err)
	}
	var header http.Header
	read := func(resp *http.Response) error {
		header = resp.Header
		return a.read(resp, c, into, q.Aside)
	}
	var err error
	if q.Authorize == nil && q.Scopes != nil {
		err = r.exchange(ctx, c, read)
	} else {
		err = r.again(ctx, func() error { return a.try(ctx, c, q.Authorize, read) })
	}
	if status := statusOf(err); status != 0 && q.Class != nil {
		if class, known := q.Class(status, codesOf(err)); known {
			err = amend(err, func(e *providers.Error) { e.Class = class })
		}
	}
	return header, err
}

// allowed refuses an address that does not belong to the registry.
func (a *API) allowed(c *call) error {
	if !c.foreign {
		return nil
	}
	pairs := a.remote.kind.pairs(a.remote.settings)
	if c.url.Scheme == "https" && listed(pairs, c.url) && c.scopes == nil {
		return nil
	}
	return invalid("%s: %w than %s", providers.Printable(c.url.Host, 100), errElsewhere, a.remote.apiHost)
}

// try is one request. Redirects are not followed, so what Authorize sets goes to
// the one address that was checked.
func (a *API) try(ctx context.Context, c *call, authorize func(context.Context, *http.Request) error, read func(*http.Response) error) error {
	r, attempt := a.remote, *c
	attempt.header = c.header.Clone()
	if authorize != nil {
		req, err := http.NewRequestWithContext(ctx, c.method, c.url.String(), nil)
		if err != nil {
			return invalid("address: %w", err)
		}
		req.Header = attempt.header
		if err := authorize(ctx, req); err != nil {
			return r.failure(ctx, c, err)
		}
		attempt.redact = hide(attempt.header)
	}
	leave, err := r.enter(ctx, &attempt)
	if err != nil {
		return err
	}
	defer leave()
	resp, err := r.trip(ctx, &attempt, c.method, c.endpoint, c.url, "", c.foreign)
	if err != nil {
		return r.failure(ctx, c, err)
	}
	defer resp.Body.Close()
	if !slices.Contains(c.ok, resp.StatusCode) {
		return r.unwanted(&attempt, resp)
	}
	if err := read(resp); err != nil {
		return r.failure(ctx, c, err)
	}
	return nil
}

// hide takes the values of the headers that say who we are out of a text, in
// case an answer echoes them.
func hide(header http.Header) func(string) string {
	var secrets []string
	for _, name := range []string{"Authorization", "Private-Token", "Job-Token", "X-Amz-Security-Token"} {
		for _, value := range header[name] {
			secrets = append(secrets, value)
			if _, after, ok := strings.Cut(value, " "); ok {
				secrets = append(secrets, after)
			}
		}
	}
	return func(text string) string {
		for _, secret := range secrets {
			if len(secret) >= 4 {
				text = strings.ReplaceAll(text, secret, "[redacted]")
			}
		}
		return text
	}
}

func (a *API) read(resp *http.Response, c *call, into any, aside bool) error {
	body, err := readBody(resp, a.remote.profile.pageCap)
	if err != nil || into == nil {
		return err
	}
	if err := checkJSON(body); err != nil {
		return invalid("the answer: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(into); err != nil {
		return invalid("the answer is not as documented")
	}
	if aside {
		return nil
	}
	return a.turn(c)
}

// turn counts a page that was read. A page that comes back would never end.
func (a *API) turn(c *call) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := c.method + " " + c.url.String() + " " + string(c.body)
	switch {
	case a.pages[key]:
		return invalid("page %d leads to a page that was there before", len(a.pages))
	case len(a.pages) >= maxPages:
		return invalid("the listing does not end: %d pages", len(a.pages))
	}
	if a.pages == nil {
		a.pages = map[string]bool{}
	}
	a.pages[key] = true
	return nil
}

// Restart forgets which pages were read, for a list that is read twice to see
// that it stood still.
func (a *API) Restart() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pages = map[string]bool{}
	a.earlier = true
}

// begun reports whether a page was read.
func (a *API) begun() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.earlier || len(a.pages) > 0
}

// Next is the address of the next page that an answer to base names in its Link
// header; nil at the end. It must have the origin of base.
func (a *API) Next(base *url.URL, header http.Header) (*url.URL, error) {
	link := nextLink(header.Values("Link"))
	if link == "" {
		return nil, nil
	}
	u, err := absolute(base, link)
	if err != nil {
		return nil, invalid("the link to the next page: %w", err)
	}
	if origin(u) != origin(base) {
		return nil, invalid("the link to the next page: %s: %w than %s", providers.Printable(u.Host, 100), errElsewhere, base.Host)
	}
	return u, nil
}

// Fail is an error about q, in the words of every other.
func (q Request) Fail(class providers.Class, hint, format string, args ...any) error {
	return &providers.Error{Class: class, Op: q.Op, On: q.On, Hint: hint, Err: fmt.Errorf(format, args...)}
}

// Hint leaves words about the way out in err.
func Hint(err error, hint string) error {
	return amend(err, func(e *providers.Error) { e.Hint = hint })
}

// Status is the HTTP status of the refusal in err; 0 when it is something else.
func Status(err error) int { return statusOf(err) }

// Codes are the error codes that the refusal in err gave: of the
// distribution-spec, or the exception of an AWS interface.
func Codes(err error) []string { return codesOf(err) }
