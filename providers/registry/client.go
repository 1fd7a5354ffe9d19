package registry

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/semaphore"

	"freightliner/providers"
)

// Options make a [Client]. The zero value talks to any registry anonymously
// with the system's certificates.
type Options struct {
	Registries []Settings // hosts that are not named here get the defaults
	Kinds      []Kind     // what is known about kinds of registries; nil for the specification alone
	// Transport makes the round tripper for one registry. It is asked again, with
	// the client certificate taken out, for the other hosts that a registry sends
	// us to. nil for our own, which judges addresses when it dials.
	Transport func(Settings) (http.RoundTripper, error)
	// Proxy chooses an HTTP proxy, as http.Transport.Proxy; nil for none. Behind
	// a proxy only host names can be judged: the proxy resolves them.
	Proxy     func(*http.Request) (*url.URL, error)
	Keychain  CredentialFunc // for registries without a Credential; nil for anonymous
	Clock     Clock          // nil for the machine's
	Rand      func() float64 // in [0,1), for jitter; nil for math/rand
	Log       hclog.Logger   // nil for none
	UserAgent string         // "freightliner" when empty
	Learned   Learned        // what earlier runs learned about uploads; nil for none
	Ledger    Ledger         // uploads that a later run can take up in the middle; nil for none
	Spool     Spool          // what was read of blobs whose upload can not; nil for none
	// ManifestCache is the most bytes of manifests kept in memory; 0 for 32 MiB.
	ManifestCache int64
}

// Client reads and writes registries. One Client lives for the whole run and
// serves all hosts, so that connections, tokens, manifests and what was learned
// about hosts are kept. It is safe for concurrent use.
type Client struct {
	settings  []Settings // longest path first
	kinds     []Kind
	transport func(Settings) (http.RoundTripper, error)
	proxy     func(*http.Request) (*url.URL, error)
	resolver  *net.Resolver // nil for the system's
	keychain  CredentialFunc
	clock     Clock
	random    func() float64
	log       hclog.Logger
	userAgent string
	learned   Learned
	ledger    Ledger
	spool     Spool
	sizes     sizes
	idle      time.Duration // longest time without progress of a body
	answer    time.Duration // longest time until the headers of an answer
	commit    time.Duration // the same for the end of an upload, which the registry may hash again

	cache *manifestCache
	known *knowledge
	// buffers is the room for reading ahead, in bytes, of all transfers together.
	buffers *semaphore.Weighted

	forgetful sync.Once // tells that the ledger can not be written
	spoolless sync.Once // and that the spool can not be used

	mu      sync.Mutex
	remotes map[remoteKey]*remote
}

type remoteKey struct{ host, path string }

// New makes a Client. Nothing is sent before the first call.
func New(o Options) *Client {
	c := &Client{
		settings:  slices.Clone(o.Registries),
		kinds:     o.Kinds,
		transport: o.Transport,
		proxy:     o.Proxy,
		keychain:  o.Keychain,
		clock:     o.Clock,
		random:    o.Rand,
		log:       o.Log,
		userAgent: cmp.Or(o.UserAgent, "freightliner"),
		idle:      time.Minute,
		answer:    time.Minute,
		commit:    15 * time.Minute,
		cache:     newManifestCache(cmp.Or(o.ManifestCache, 32<<20)),
		known:     newKnowledge(),
		learned:   o.Learned,
		ledger:    o.Ledger,
		spool:     o.Spool,
		sizes:     usualSizes,
		buffers:   semaphore.NewWeighted(aheadMost),
		remotes:   map[remoteKey]*remote{},
	}
	if c.clock == nil {
		c.clock = SystemClock{}
	}
	if c.random == nil {
		c.random = rand.Float64
	}
	if c.log == nil {
		c.log = hclog.NewNullLogger()
	}
	slices.SortStableFunc(c.settings, func(a, b Settings) int { return len(b.Path) - len(a.Path) })
	return c
}

// Close ends idle connections. The Client must not be used afterwards.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.remotes {
		r.close()
	}
}

// Stats are the counters of every registry that was talked to, by the host as
// users name it.
func (c *Client) Stats() map[string]Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	stats := map[string]Counters{}
	for key, r := range c.remotes {
		stats[key.host] = r.counters.add(stats[key.host])
	}
	return stats
}

// remoteFor is the remote that serves repo: the one of the longest matching
// registry block, or of the host's defaults.
func (c *Client) remoteFor(repo providers.Repository) (*remote, error) {
	settings := Settings{Host: repo.Host}
	for _, s := range c.settings {
		if s.Host == repo.Host && below(repo.Path, s.Path) {
			settings = s
			break
		}
	}
	key := remoteKey{settings.Host, settings.Path}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.remotes[key]; ok {
		return r, nil
	}
	r, err := c.newRemote(settings)
	if err != nil {
		return nil, &providers.Error{Class: providers.Invalid, Op: "set up registry", On: repo.Host, Err: err}
	}
	c.remotes[key] = r
	return r, nil
}

// at checks the names and finds the remote: what every call begins with.
func (c *Client) at(op string, repo providers.Repository, ref string) (*remote, error) {
	on := repo.String()
	err := CheckRepository(repo.Path)
	if err == nil && ref != "" {
		on = address(repo, ref)
		err = checkReference(ref)
	}
	if err != nil {
		return nil, &providers.Error{Class: providers.Invalid, Op: op, On: providers.Printable(on, 300), Err: err}
	}
	r, err := c.remoteFor(repo)
	if err != nil {
		return nil, err
	}
	if err := r.checkParts(repo.Path); err != nil {
		return nil, &providers.Error{Class: providers.Invalid, Op: op, On: on, Err: err}
	}
	return r, nil
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now is time.Now.
func (SystemClock) Now() time.Time { return time.Now() }

// Wait returns after d, or with ctx's error when that ends first.
func (SystemClock) Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waitFor waits until done is closed or d is over, whichever comes first, and
// reports whether done was closed.
func waitFor(ctx context.Context, clock Clock, done <-chan struct{}, d time.Duration) (bool, error) {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	over := make(chan error, 1)
	go func() { over <- clock.Wait(waiting, d) }()
	select {
	case <-done:
		return true, nil
	case err := <-over:
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			return false, err
		}
		select {
		case <-done:
			return true, nil
		default:
			return false, nil
		}
	}
}
