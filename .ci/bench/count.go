package main

import (
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
)

// counts is what passed a proxy.
type counts struct {
	requests map[string]int // by method and endpoint, such as "GET blob", and " 404" for a failure
	total    int
	up, down int64          // bytes at the client's sockets, headers and all
	read     map[string]int // blob digests, how often GET
	sent     map[string]int // blob digests, how often they ended an upload
}

// repeats is how many transfers of blobs were not the first of their blob.
func repeats(transfers map[string]int) int {
	n := 0
	for _, times := range transfers {
		n += times - 1
	}
	return n
}

// counter is an HTTP proxy that counts. It passes the Host header on, so that the
// registry's Locations lead back through it.
type counter struct {
	address  string
	server   *http.Server
	up, down atomic.Int64

	mu   sync.Mutex
	seen counts
}

func startCounter(target string) (*counter, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &counter{address: listener.Addr().String()}
	c.reset()
	silent := log.New(io.Discard, "", 0)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: target})
			r.Out.Host = r.In.Host
		},
		Transport:      &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
		FlushInterval:  -1,
		ErrorLog:       silent,
		ModifyResponse: c.note,
	}
	c.server = &http.Server{Handler: proxy, ErrorLog: silent}
	go c.server.Serve(&countedListener{listener, c})
	return c, nil
}

func (c *counter) stop() { c.server.Close() }

func (c *counter) note(response *http.Response) error {
	request := response.Request
	kind := endpoint(request)
	if response.StatusCode >= 400 {
		kind += " " + response.Status[:3]
	}
	if kind == "POST mount" && response.StatusCode == http.StatusAccepted {
		kind = "POST mount refused"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen.requests[kind]++
	c.seen.total++
	switch {
	case kind == "GET blob":
		c.seen.read[request.URL.Path[strings.LastIndexByte(request.URL.Path, '/')+1:]]++
	case strings.HasSuffix(kind, " upload") && request.URL.Query().Get("digest") != "":
		c.seen.sent[request.URL.Query().Get("digest")]++
	}
	return nil
}

// endpoint is the method and what it is asked of.
func endpoint(r *http.Request) string {
	path := r.URL.Path
	switch {
	case path == "/v2/" || path == "/v2":
		return r.Method + " ping"
	case strings.HasSuffix(path, "/_catalog"):
		return r.Method + " catalog"
	case strings.HasSuffix(path, "/tags/list"):
		return r.Method + " tags"
	case strings.Contains(path, "/referrers/"):
		return r.Method + " referrers"
	case strings.Contains(path, "/manifests/"):
		return r.Method + " manifest"
	case strings.Contains(path, "/blobs/uploads") && r.URL.Query().Get("mount") != "":
		return r.Method + " mount"
	case strings.Contains(path, "/blobs/uploads"):
		return r.Method + " upload"
	case strings.Contains(path, "/blobs/"):
		return r.Method + " blob"
	}
	return r.Method + " other"
}

// take gives what was counted since the last time.
func (c *counter) take() counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.seen
	seen.requests = maps.Clone(seen.requests)
	seen.up, seen.down = c.up.Swap(0), c.down.Swap(0)
	c.reset()
	return seen
}

func (c *counter) reset() {
	c.seen = counts{requests: map[string]int{}, read: map[string]int{}, sent: map[string]int{}}
}

type countedListener struct {
	net.Listener
	c *counter
}

func (l *countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countedConn{conn, l.c}, nil
}

type countedConn struct {
	net.Conn
	c *counter
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.c.up.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.c.down.Add(int64(n))
	return n, err
}
