package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"
)

// trustOf is the TLS configuration of one registry. Each has its own, with its
// own session cache or none, so that a session made under one trust is never
// resumed under another.
func trustOf(s Settings) (*tls.Config, error) {
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.RootCAs != nil {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool() // no system's to be had: what is named is all
		}
		if !pool.AppendCertsFromPEM(s.RootCAs) {
			return nil, errors.New("the CA file holds no PEM certificate")
		}
		trust.RootCAs = pool
	}
	if s.Certificate != nil || s.CertificateKey != nil {
		pair, err := tls.X509KeyPair(s.Certificate, s.CertificateKey)
		if err != nil {
			return nil, fmt.Errorf("the client certificate and its key do not fit together: %w", err)
		}
		trust.Certificates = []tls.Certificate{pair}
	}
	return trust, nil
}

// guard judges addresses at the moment they are dialled, after resolution, so
// that a name that resolves differently the second time gains nothing. Link
// local and metadata addresses are always refused. Loopback and private ones
// are fine for the registry that the user configured; another host, which only
// an answer named, may be there only when the registry itself is.
type guard struct {
	home     string // the registry's API host[:port]
	proxy    func(*http.Request) (*url.URL, error)
	resolver *net.Resolver

	lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	mu      sync.Mutex
	proxies map[string]bool // dial addresses of proxies: the user's choice, not judged
	met     bool            // home was connected to
	reach   reach           // of the farthest address that it was met at
}

// reach says how far from us an address is.
type reach uint8

const (
	public   reach = iota
	private        // RFC 1918, RFC 4193, RFC 6598
	loopback       // this machine
	never          // link-local, metadata services, multicast, unspecified
)

// newGuard guards the addresses of home, in the eyes of resolver: nil is the system's.
func newGuard(home string, proxy func(*http.Request) (*url.URL, error), resolver *net.Resolver) *guard {
	return &guard{home: home, proxy: proxy, resolver: resolver, proxies: map[string]bool{},
		lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return resolver.LookupNetIP(ctx, "ip", host)
		}}
}

var (
	shared = netip.MustParsePrefix("100.64.0.0/10")
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	// Metadata services that are not link-local: AWS over IPv6, Alibaba, Azure's wire server.
	metadata = []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("168.63.129.16")}
)

func reachOf(a netip.Addr) reach {
	a = a.Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	for _, m := range metadata {
		if a == m {
			return never
		}
	}
	switch {
	case a.IsLoopback():
		return loopback
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return never
	case a.IsPrivate() || shared.Contains(a) || a.Is4() && a.As4()[0] == 0:
		return private
	}
	return public
}

// judge decides about one resolved address.
func (g *guard) judge(ctx context.Context, address string, foreign bool) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("refused to connect to %s: not an address", address)
	}
	far := reachOf(ap.Addr())
	if far == never {
		return &refusal{fmt.Sprintf("refused to connect to %s: link-local, metadata and multicast addresses are never a registry", ap.Addr())}
	}
	if far == public || !foreign {
		return nil
	}
	if g.homeReach(ctx) < far {
		return &refusal{fmt.Sprintf("refused to connect to %s: %s is not on this network, so it must not send us there", ap.Addr(), g.home)}
	}
	return nil
}

// refusal is our own decision not to connect: trying again changes nothing, and
// it says nothing about the health of a host.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

// homeReach says where the registry is: at the farthest of the addresses that we
// were connected to. What its name resolves to is only asked when there was no
// connection of ours, as behind a proxy, and then, too, the farthest counts: whoever owns
// the name can let it have our loopback address beside the one that answers.
func (g *guard) homeReach(ctx context.Context) reach {
	g.mu.Lock()
	met, far := g.met, g.reach
	g.mu.Unlock()
	if met {
		return far
	}
	host := (&url.URL{Host: g.home}).Hostname()
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{a}
	} else if addrs, err = g.lookup(ctx, host); err != nil || len(addrs) == 0 {
		return public
	}
	far = never
	for _, a := range addrs {
		far = min(far, reachOf(a))
	}
	return far
}

// meet takes note that home was connected to at an address.
func (g *guard) meet(address net.Addr) {
	ap, err := netip.ParseAddrPort(address.String())
	if err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if at := reachOf(ap.Addr()); !g.met || at < g.reach {
		g.met, g.reach = true, at
	}
}

// transportShape is what our round trippers differ in.
type transportShape struct {
	conns   int  // connections kept
	h2      bool // one connection for everything: right for small requests, slow for blobs
	foreign bool
}

func (g *guard) transport(trust *tls.Config, shape transportShape) *http.Transport {
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialer := net.Dialer{Timeout: 20 * time.Second, KeepAlive: 30 * time.Second, Resolver: g.resolver}
			judged := !g.isProxy(address)
			if judged {
				dialer.ControlContext = func(ctx context.Context, _, resolved string, _ syscall.RawConn) error {
					return g.judge(ctx, resolved, shape.foreign)
				}
			}
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			if judged && !shape.foreign {
				g.meet(conn.RemoteAddr())
			}
			return &listening{Conn: conn, ended: make(chan struct{})}, nil
		},
		TLSClientConfig:        trust,
		TLSHandshakeTimeout:    20 * time.Second,
		DisableCompression:     true, // sizes and digests are of the bytes as stored
		MaxIdleConns:           0,
		MaxIdleConnsPerHost:    max(64, 2*shape.conns),
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		// Per connection, of which there are many. Blobs pass them by: bodies are read
		// straight into the reader's buffer, and after the headers written past this one.
		WriteBufferSize:   8 << 10,
		ReadBufferSize:    8 << 10,
		ForceAttemptHTTP2: shape.h2,
	}
	if !shape.h2 {
		t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	if g.proxy != nil {
		t.Proxy = func(req *http.Request) (*url.URL, error) { return g.throughProxy(req, shape.foreign) }
	}
	return t
}

// throughProxy asks for the proxy of a request. The proxy resolves the name, so
// all that can be judged is a name that is an address already.
func (g *guard) throughProxy(req *http.Request, foreign bool) (*url.URL, error) {
	proxy, err := g.proxy(req)
	if err != nil || proxy == nil {
		return proxy, err
	}
	host := req.URL.Hostname()
	if a, err := netip.ParseAddr(host); err == nil {
		if err := g.judge(req.Context(), netip.AddrPortFrom(a, 0).String(), foreign); err != nil {
			return nil, err
		}
	}
	if foreign && (host == "localhost" || host == "metadata.google.internal") {
		return nil, &refusal{fmt.Sprintf("refused to connect to %s through the proxy", host)}
	}
	port := proxy.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[proxy.Scheme]
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.proxies[net.JoinHostPort(proxy.Hostname(), port)] = true
	return proxy, nil
}

func (g *guard) isProxy(address string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.proxies[address]
}

// listening is a connection on which a server can refuse a body that it has not
// read to the end. It answers, and resets what is still being sent; net/http then
// reports the failed write and drops the answer, unless that was read before. So a
// write that fails waits for the reading side, which ends by itself.
type listening struct {
	net.Conn
	ended chan struct{} // closed when nothing more can be read
	once  sync.Once
}

// lastWords is the longest wait of a failed write, for a peer that has closed only
// one direction.
const lastWords = time.Second

func (c *listening) end() { c.once.Do(func() { close(c.ended) }) }

func (c *listening) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.end()
	}
	return n, err
}

func (c *listening) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		timer := time.NewTimer(lastWords)
		defer timer.Stop()
		select {
		case <-c.ended:
		case <-timer.C:
		}
	}
	return n, err
}

// Bodies go out in writes of up to bodyBuffer bytes, each from up to bodyReads reads.
// net/http's own copy makes one of 32 KiB from each read: a cold mirror over
// loopback took a tenth longer with it. Not more reads, since those of a slow source
// wait, and what came should not wait for long.
const (
	bodyBuffer = 128 << 10
	bodyReads  = 4
)

var bodyBuffers = sync.Pool{New: func() any { return new([bodyBuffer]byte) }}

// ReadFrom sends r to its end. net/http comes here with bodies, except over TLS.
func (c *listening) ReadFrom(r io.Reader) (sent int64, err error) {
	buffer := bodyBuffers.Get().(*[bodyBuffer]byte)
	defer bodyBuffers.Put(buffer)
	for err == nil {
		held := 0
		for reads := 0; reads < bodyReads && held < bodyBuffer*3/4 && err == nil; reads++ {
			var n int
			n, err = r.Read(buffer[held:])
			held += n
		}
		if held == 0 {
			continue
		}
		n, failed := c.Write(buffer[:held])
		sent += int64(n)
		if failed != nil {
			return sent, failed
		}
	}
	if err == io.EOF {
		err = nil
	}
	return sent, err
}

func (c *listening) Close() error {
	c.end()
	return c.Conn.Close()
}
