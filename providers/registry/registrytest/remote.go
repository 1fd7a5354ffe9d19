package registrytest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"freightliner/providers/registry/embedded"
)

// remote is the least of a registry client, for filling and reading back. It
// is on purpose not the client under test: what both agree on is checked twice.
type remote struct {
	host string
	peer peer

	mu     sync.Mutex
	tokens map[string]string // by repository
}

// plain serves hosts that nobody introduced.
var plain = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}

// dial talks to a registry started here as its owner, and to any other as
// nobody, over plain HTTP.
func dial(host string) *remote {
	known, ok := peers.Load(host)
	if !ok {
		known = peer{}
	}
	p := known.(peer)
	if p.client == nil {
		p.client = plain
	}
	return &remote{host: host, peer: p, tokens: map[string]string{}}
}

// behind talks to a registry with a personality through its back door, where
// no rule is in the way and nothing is recorded; to any other it is dial.
func behind(host string) *remote {
	r := dial(host)
	if r.peer.back != nil {
		r.peer.client, r.peer.login = r.peer.back, false
	}
	return r
}

// prepare creates what must be there before a push.
func (r *remote) prepare(repository string) {
	if r.peer.prepare != nil {
		r.peer.prepare(repository)
	}
}

// reply is an answer whose body has been read.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// location is the Location header as an absolute address.
func (r *remote) location(answer reply) string {
	at, err := url.Parse(r.base() + "/")
	if err != nil {
		return ""
	}
	next, err := at.Parse(answer.header.Get("Location"))
	if err != nil {
		return ""
	}
	return next.String()
}

func (r *remote) base() string {
	if r.peer.tls {
		return "https://" + r.host
	}
	return "http://" + r.host
}

// do sends a request to a path below /v2/, or to a whole address, and reads
// the answer. A bearer challenge is answered once. The header
// "Transfer-Encoding: chunked" sends the body without a length.
func (r *remote) do(method, target string, header map[string]string, body []byte) (reply, error) {
	if !strings.HasPrefix(target, "http") {
		target = r.base() + "/v2/" + target
	}
	answer, err := r.send(method, target, header, body)
	if err != nil || answer.status != http.StatusUnauthorized || !r.peer.login {
		return answer, err
	}
	if answer.header.Get("WWW-Authenticate") == "" {
		return answer, nil // refused for good, not asked to log in
	}
	if err := r.login(answer.header.Get("WWW-Authenticate"), target); err != nil {
		return reply{}, err
	}
	return r.send(method, target, header, body)
}

func (r *remote) send(method, target string, header map[string]string, body []byte) (reply, error) {
	request, err := http.NewRequest(method, target, bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if header["Transfer-Encoding"] == "chunked" {
		request.ContentLength = -1
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	r.mu.Lock()
	token := r.tokens[repositoryOf(target)]
	r.mu.Unlock()
	switch {
	case header["Authorization"] != "": // the caller knows better
	case token != "":
		request.Header.Set("Authorization", "Bearer "+token)
	case r.peer.login:
		request.SetBasicAuth(cmp.Or(r.peer.user, CanaryUser), cmp.Or(r.peer.password, CanaryPassword))
	}
	response, err := r.peer.client.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		return reply{}, fmt.Errorf("%s %s: %w", method, target, err)
	}
	return reply{response.StatusCode, response.Header, read}, nil
}

var challengePart = regexp.MustCompile(`(realm|service|scope)="([^"]*)"`)

// login gets a token for what the challenge asks, and for everything else in
// the same repository, so that one token does.
func (r *remote) login(challenge, target string) error {
	if !strings.HasPrefix(challenge, "Bearer ") {
		return fmt.Errorf("%s: the credentials are not taken: %s", r.host, challenge)
	}
	parts := map[string]string{}
	for _, match := range challengePart.FindAllStringSubmatch(challenge, -1) {
		parts[match[1]] = match[2]
	}
	repository := repositoryOf(target)
	query := url.Values{"service": {parts["service"]}, "scope": strings.Fields(parts["scope"])}
	if repository != "" {
		query.Add("scope", "repository:"+repository+":pull,push,delete")
	}
	request, err := http.NewRequest(http.MethodGet, parts["realm"]+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	request.SetBasicAuth(cmp.Or(r.peer.user, CanaryUser), cmp.Or(r.peer.password, CanaryPassword))
	response, err := r.peer.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct {
		Token  string `json:"token"`
		Access string `json:"access_token"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: token endpoint answered %d: %w", r.host, response.StatusCode, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens[repository] = cmp.Or(answer.Token, answer.Access)
	return nil
}

// repositoryOf is the repository a request address is about, if any.
func repositoryOf(target string) string {
	at, err := url.Parse(target)
	if err != nil {
		return ""
	}
	path := at.Path
	if !strings.HasPrefix(path, "/v2/") { // an upload's address may lie elsewhere
		path = "/v2/" + strings.TrimLeft(strings.TrimPrefix(path, garUploads), "/")
	}
	_, repository, _ := embedded.Endpoint(path)
	return repository
}
