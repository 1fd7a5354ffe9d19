package registrytest

import (
	"bytes"
	"compress/gzip"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"freightliner/providers"
)

// Ledger keeps everything that servers received, so that "the credential went
// nowhere else" is a search. Several servers share one. Safe for concurrent
// use; the zero value is ready.
type Ledger struct {
	mu      sync.Mutex
	entries []*entry
}

// entry is one request, or what arrived on a bare connection.
type entry struct {
	server string
	target string // "GET /v2/ HTTP/1.1", for messages
	head   []byte
	body   []byte
}

// Sighting is where a secret was seen.
type Sighting struct {
	Server   string // as given to [Ledger.Wrap]
	Request  string
	Where    string // "head" or "body"
	Encoding string // "as it is", "base64", …
}

// String is "evil: GET /token HTTP/1.1 (head, base64)".
func (s Sighting) String() string {
	return fmt.Sprintf("%s: %s (%s, %s)", s.Server, s.Request, s.Where, s.Encoding)
}

// WithLedger keeps what the server receives under a name. Only for [Start].
func WithLedger(l *Ledger, name string) Option {
	return func(s *settings) { s.ledger, s.ledgerName = l, name }
}

// Wrap is next with every request kept under the server's name: its first
// line, its headers, and the part of the body that next reads.
func (l *Ledger) Wrap(server string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var head bytes.Buffer
		fmt.Fprintf(&head, "%s %s %s\r\nHost: %s\r\n", r.Method, r.RequestURI, r.Proto, r.Host)
		if err := r.Header.Write(&head); err != nil {
			panic(err) // a buffer takes everything
		}
		e := &entry{server: server, target: r.Method + " " + r.RequestURI + " " + r.Proto, head: head.Bytes()}
		l.mu.Lock()
		l.entries = append(l.entries, e)
		l.mu.Unlock()
		r.Body = &keptBody{ReadCloser: r.Body, ledger: l, entry: e}
		next.ServeHTTP(w, r)
	})
}

type keptBody struct {
	io.ReadCloser
	ledger *Ledger
	entry  *entry
}

func (b *keptBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ledger.mu.Lock()
	b.entry.body = append(b.entry.body, p[:n]...)
	b.ledger.mu.Unlock()
	return n, err
}

// raw keeps bytes of a bare connection.
func (l *Ledger) raw(server, from string, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, &entry{server: server, target: "connection from " + from, head: data})
}

// Requests is how many requests, or bare connections, a server received.
func (l *Ledger) Requests(server string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.entries {
		if e.server == server {
			n++
		}
	}
	return n
}

// Find searches everything for the secret, in every encoding of [Sightings].
func (l *Ledger) Find(secret string) []Sighting {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []Sighting
	for _, e := range l.entries {
		for where, data := range map[string][]byte{"head": e.head, "body": e.body} {
			for _, encoding := range Sightings(data, secret) {
				found = append(found, Sighting{e.server, e.target, where, encoding})
			}
		}
	}
	return found
}

// Clean fails the test when a secret was seen at a server that is not among
// its homes.
func (l *Ledger) Clean(t testing.TB, secret string, homes ...string) {
	t.Helper()
	for _, s := range l.Find(secret) {
		if !slices.Contains(homes, s.Server) {
			t.Errorf("the secret left its home: %s", s)
		}
	}
}

// Sightings names the encodings in which data holds the secret: as it is,
// base64 in both alphabets at any offset, base32, hex, percent-encoded,
// escaped for JSON, reversed, and any of these in gzip. A test passes its
// outputs and files through it, too.
func Sightings(data []byte, secret string) []string {
	if len(secret) < 8 {
		panic("registrytest: a secret of less than 8 bytes is found by accident")
	}
	var found []string
	for _, e := range encodings(secret) {
		if slices.ContainsFunc(e.forms, func(form string) bool { return bytes.Contains(data, []byte(form)) }) {
			found = append(found, e.name)
		}
	}
	if at := bytes.Index(data, []byte{0x1f, 0x8b, 8}); at >= 0 {
		if plain := unzip(data[at:]); len(plain) > 0 {
			for _, name := range Sightings(plain, secret) {
				found = append(found, name+" in gzip")
			}
		}
	}
	return found
}

// unzip is as much of a gzip stream as can be read, 16 MiB at most.
func unzip(data []byte) []byte {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	plain, _ := io.ReadAll(io.LimitReader(z, 16<<20)) // a stream that breaks off still counts up to there
	return plain
}

type encoding struct {
	name  string
	forms []string
}

func encodings(secret string) []encoding {
	b := []byte(secret)
	percent, unicode := "", ""
	for _, c := range b {
		percent += fmt.Sprintf("%%%02X", c)
		unicode += fmt.Sprintf(`\u%04x`, c)
	}
	reversed := slices.Clone(b)
	slices.Reverse(reversed)
	return []encoding{
		{"as it is", []string{secret}},
		{"query-escaped", differing(secret, url.QueryEscape(secret), url.PathEscape(secret))},
		{"percent-encoded", []string{percent, strings.ToLower(percent)}},
		{"base64", shifted(base64.RawStdEncoding, b)},
		{"base64 for addresses", slices.DeleteFunc(shifted(base64.RawURLEncoding, b), func(form string) bool { return slices.Contains(shifted(base64.RawStdEncoding, b), form) })},
		{"base32", []string{strings.TrimRight(base32.StdEncoding.EncodeToString(b), "=")}},
		{"hex", []string{hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b))}},
		{"escaped for JSON", []string{unicode}},
		{"reversed", []string{string(reversed)}},
	}
}

func differing(from string, forms ...string) []string {
	return slices.DeleteFunc(forms, func(form string) bool { return form == from })
}

// shifted are the forms of b inside longer text: base64 depends on how many
// bytes came before, modulo three, so the characters that mix with neighbours
// are cut off.
func shifted(e *base64.Encoding, b []byte) []string {
	var forms []string
	for before := range 3 {
		text := e.EncodeToString(append(make([]byte, before), b...))
		first := []int{0, 2, 3}[before]
		last := len(text)
		if (before+len(b))%3 != 0 {
			last--
		}
		forms = append(forms, text[first:last])
	}
	return forms
}

// Canary makes a password for one server that looks like no other's, for
// [WithPassword]: two servers with their own show which way a leak went.
func Canary(server string) string {
	return "canary-" + server + "-" + providers.SHA256([]byte("canary " + server)).Hex()[:16]
}

// WithPassword gives the owner of this server a password of its own in place
// of [CanaryPassword].
func WithPassword(password string) Option { return func(s *settings) { s.password = password } }
