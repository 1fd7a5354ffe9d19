package registry

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"freightliner/providers"
)

// remote is one registry block, or the defaults of one host: everything that
// is kept between requests to it.
type remote struct {
	client   *Client
	settings Settings
	kind     *Kind
	profile  profile
	id       int64 // order in which slots of two remotes are taken
	scheme   string
	apiHost  string // where the API is served, host[:port]
	origin   string

	gate      *gate
	slots     int
	rate      *pace          // requests, as configured
	published [actions]*pace // requests, as the registry's documentation says
	bandwidth *pace          // bytes
	creates   *pace          // repositories made
	counters  counters
	health    health
	lessons   lessons
	tagging   tagging
	looking   looking
	budget    budget
	auth      *authorizer

	own     http.RoundTripper // metadata at the registry's own origin
	bulk    http.RoundTripper // blobs at the registry's own origin, over several connections
	foreign func() (http.RoundTripper, error)

	// Learned during the run, for the host.
	tagEnds, catalogEnds listingEnd
	referrers            atomic.Int32   // referrersUnknown, referrersAPI, referrersTags
	probing              sync.Mutex     // held by the request that finds out about referrers
	bulkless             [2]atomic.Bool // the kind's bulk listing of repositories, of tags, is not to be had

	queue  chan struct{} // holds one: creations go one after the other
	making sync.Mutex
	made   map[string]time.Time // repositories made in this run, and when
}

var remoteIDs atomic.Int64

// defaultConcurrency is how many requests run at once at a registry that says
// nothing else. A registry that syncs every write is waited for more than it
// works: 32 at once were 3 to 14 % faster than 16 (two distribution registries on
// one disk), 64 no more.
const defaultConcurrency = 32

func (c *Client) newRemote(s Settings) (*remote, error) {
	if err := checkHost(s.Host); err != nil {
		return nil, err
	}
	kind := c.kindOf(s)
	apiHost := s.Host
	if kind.APIHost != nil {
		apiHost = cmp.Or(kind.APIHost(s.Host), s.Host)
	}
	slots := cmp.Or(s.Concurrency, defaultConcurrency)
	r := &remote{
		client:   c,
		settings: s,
		kind:     kind,
		profile:  kind.Profile.filled(),
		id:       remoteIDs.Add(1),
		scheme:   "https",
		apiHost:  apiHost,
		gate:     newGate(c.clock, slots),
		slots:    slots,
		counters: counters{requests: map[string]int64{}},
	}
	if s.PlainHTTP {
		r.scheme = "http"
	}
	r.origin = origin(&url.URL{Scheme: r.scheme, Host: r.apiHost})
	r.rate = newPace(c.clock, s.RequestsPerSecond, max(1, s.RequestsPerSecond/10))
	r.creates = newPace(c.clock, r.profile.CreatesPerSecond, 1)
	r.queue, r.made = make(chan struct{}, 1), map[string]time.Time{}
	for a, perSecond := range r.profile.rates {
		r.published[a] = newPace(c.clock, perSecond, max(1, perSecond/10))
	}
	r.bandwidth = newPace(c.clock, float64(s.MaxBandwidth), float64(min(s.MaxBandwidth, 256<<10)))
	r.auth = newAuthorizer(r)
	r.recall()
	return r, r.connect()
}

// connect makes the round trippers.
func (r *remote) connect() (err error) {
	if build := r.client.transport; build != nil {
		if r.own, err = build(r.settings); err != nil {
			return err
		}
		r.bulk = r.own
		r.foreign = sync.OnceValues(func() (http.RoundTripper, error) { return build(r.stranger()) })
		return nil
	}
	guard := newGuard(r.apiHost, r.client.proxy, r.client.resolver)
	trust, err := trustOf(r.settings)
	if err != nil {
		return err
	}
	r.own = guard.transport(trust, transportShape{conns: r.slots, h2: true})
	r.bulk = guard.transport(trust, transportShape{conns: r.slots})
	r.foreign = sync.OnceValues(func() (http.RoundTripper, error) {
		trust, err := trustOf(r.stranger())
		if err != nil {
			return nil, err
		}
		return guard.transport(trust, transportShape{conns: r.slots, foreign: true}), nil
	})
	return nil
}

// stranger is r's settings as they apply to other hosts: the same roots, but
// our client certificate stays at home.
func (r *remote) stranger() Settings {
	s := r.settings
	s.Certificate, s.CertificateKey, s.Credential = nil, nil, nil
	return s
}

func (r *remote) close() {
	for _, rt := range []http.RoundTripper{r.own, r.bulk} {
		if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	}
	if rt, err := r.foreign(); err == nil {
		if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	}
}

// url is an address of the distribution API. The parts have passed the
// grammars, so nothing needs escaping.
func (r *remote) url(path string, query url.Values) *url.URL {
	return &url.URL{Scheme: r.scheme, Host: r.apiHost, Path: "/v2/" + path, RawQuery: query.Encode()}
}

// origin is scheme, host and port of u in one spelling: what credentials are
// bound to.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// checkHost refuses what is no host[:port].
func checkHost(host string) error {
	u, err := url.Parse("//" + host)
	if err != nil || u.Host != host || u.Hostname() == "" || u.User != nil || strings.ContainsAny(host, "/?#@\\ ") {
		return fmt.Errorf("%q is no host[:port]", providers.Printable(host, 100))
	}
	return nil
}

var errElsewhere = errors.New("leads to another host")

// resolve makes an absolute address of a Location, Link or realm that the
// registry sent while answering base. The registry's own origin is always fine.
// Another host is only when it is in allowed, and foreign is true then, which
// means that no credential may go there.
func (r *remote) resolve(base *url.URL, text string, allowed []string) (u *url.URL, foreign bool, err error) {
	u, err = absolute(base, text)
	if err != nil {
		return nil, false, err
	}
	if origin(u) == r.origin {
		return u, false, nil
	}
	if listed(allowed, u) {
		return u, true, nil
	}
	return nil, false, fmt.Errorf("address %s: %w than %s", providers.Printable(withoutQuery(text), 200), errElsewhere, r.apiHost)
}

// absolute makes an absolute http(s) address of a reference found in an answer
// to base. http where base is https: the misconfigured proxy in front of the
// same host is forgiven by upgrading, and nothing is ever sent in the clear.
func absolute(base *url.URL, text string) (*url.URL, error) {
	shown := providers.Printable(withoutQuery(text), 200)
	if text == "" {
		return nil, errors.New("the answer has no address")
	}
	if len(text) > 16<<10 || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return nil, fmt.Errorf("address %s: not a URL", shown)
	}
	ref, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("address %s: not a URL", shown)
	}
	u := base.ResolveReference(ref)
	u.Fragment, u.RawFragment = "", ""
	if u.User != nil || u.Hostname() == "" || u.Opaque != "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("address %s: want http(s)://host/path", shown)
	}
	if u.Scheme == "http" && base.Scheme == "https" {
		if !strings.EqualFold(u.Hostname(), base.Hostname()) || (u.Port() != "" && u.Port() != "80" && u.Port() != base.Port()) {
			return nil, fmt.Errorf("address %s: goes from https to http", shown)
		}
		u.Scheme, u.Host = "https", base.Host
	}
	return u, nil
}

// listed reports whether hosts names u's host: with a port exactly that port,
// without one the default port of u's scheme.
func listed(hosts []string, u *url.URL) bool {
	for _, h := range hosts {
		if origin(&url.URL{Scheme: u.Scheme, Host: h}) == origin(u) {
			return true
		}
	}
	return false
}

// withoutQuery cuts what may hold a signature or a token: query, fragment and
// user info.
func withoutQuery(text string) string {
	text, _, _ = strings.Cut(text, "?")
	text, _, _ = strings.Cut(text, "#")
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		authority, path, _ := strings.Cut(rest, "/")
		if i := strings.LastIndex(authority, "@"); i >= 0 {
			return scheme + "://" + authority[i+1:] + "/" + path
		}
	}
	return text
}
