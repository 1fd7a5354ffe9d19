package registrytest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"freightliner/providers"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
)

// Listing is what a registry holds by name: repository, tag, digest.
type Listing map[string]map[string]providers.Digest

// Under is the part below a prefix, with the prefix cut off: what two trees at
// different places are compared by.
func (l Listing) Under(prefix string) Listing {
	below := Listing{}
	for repository, tags := range l {
		if rest, ok := strings.CutPrefix(repository, prefix+"/"); ok {
			below[rest] = tags
		}
	}
	return below
}

var fallbackGrammar = regexp.MustCompile(`^(sha256|sha512)-[0-9a-f]{64}$`)

// WithoutFallback is l without the tags of the referrers tag schema: a
// registry with the referrers API has none, one without has them for the same
// referrers.
func (l Listing) WithoutFallback() Listing {
	rest := Listing{}
	for repository, tags := range l {
		rest[repository] = maps.Clone(tags)
		maps.DeleteFunc(rest[repository], func(tag string, _ providers.Digest) bool { return fallbackGrammar.MatchString(tag) })
	}
	return rest
}

// Tags is the number of tags.
func (l Listing) Tags() int {
	n := 0
	for _, tags := range l {
		n += len(tags)
	}
	return n
}

// Equal fails the test unless both hold the same tags with the same digests.
func Equal(t testing.TB, got, want Listing) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("the trees differ (-want +got):\n%s", diff)
	}
}

// Inventory reads every repository, tag and digest of a registry.
func Inventory(t testing.TB, host string) Listing {
	t.Helper()
	listing, err := behind(host).inventory()
	if err != nil {
		t.Fatalf("registrytest: inventory of %s: %v", host, err)
	}
	return listing
}

func (r *remote) inventory() (Listing, error) {
	repositories, err := r.pages("_catalog?n=1000", "repositories")
	if err != nil {
		return nil, err
	}
	listing := Listing{}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(8)
	for _, repository := range repositories {
		group.Go(func() error {
			tags, err := r.tags(repository)
			mu.Lock()
			defer mu.Unlock()
			listing[repository] = tags
			return err
		})
	}
	return listing, group.Wait()
}

func (r *remote) tags(repository string) (map[string]providers.Digest, error) {
	names, err := r.pages(repository+"/tags/list?n=1000", "tags")
	if err != nil {
		return nil, err
	}
	tags := map[string]providers.Digest{}
	for _, name := range names {
		digest, err := r.tag(repository, name)
		if err != nil {
			return nil, err
		}
		if digest != "" {
			tags[name] = digest
		}
	}
	return tags, nil
}

// tag is the digest of a listed tag; empty when it went away since. A delete
// goes on in the registry although its client was killed, so a tag that is
// listed and does not resolve is looked at until it is neither or both.
func (r *remote) tag(repository, name string) (providers.Digest, error) {
	var last error
	for range 1000 {
		answer, err := r.do(http.MethodHead, repository+"/manifests/"+name, acceptAll, nil)
		switch {
		case err != nil:
			return "", err
		case answer.status == http.StatusOK:
			digest, err := providers.ParseDigest(answer.header.Get("Docker-Content-Digest"))
			if err != nil {
				return "", fmt.Errorf("%s:%s: %w", repository, name, err)
			}
			return digest, nil
		}
		last = fmt.Errorf("HEAD %s:%s: %w", repository, name, unexpected(answer))
		if answer.status != http.StatusNotFound {
			return "", last
		}
		names, err := r.pages(repository+"/tags/list?n=1000", "tags")
		if err != nil || !slices.Contains(names, name) {
			return "", err
		}
	}
	return "", last
}

var linkNext = regexp.MustCompile(`^<([^>]*)>; rel="next"$`)

// pages reads a listing to its end. A repository whose tags are all gone is
// 404 on the distribution registry; that is an empty list.
func (r *remote) pages(target, field string) ([]string, error) {
	var all []string
	for target != "" {
		answer, err := r.do(http.MethodGet, target, nil, nil)
		if err != nil {
			return nil, err
		}
		if answer.status == http.StatusNotFound && field == "tags" {
			return nil, nil
		}
		if answer.status != http.StatusOK {
			return nil, fmt.Errorf("GET %s: %w", target, unexpected(answer))
		}
		var body map[string]json.RawMessage
		var entries []string
		if err := json.Unmarshal(answer.body, &body); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(body[field], &entries); err != nil {
			return nil, err
		}
		all = append(all, entries...)
		if target, err = r.next(answer); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// next is the absolute address of the next page; empty on the last.
func (r *remote) next(answer reply) (string, error) {
	link := answer.header.Get("Link")
	if link == "" {
		return "", nil
	}
	match := linkNext.FindStringSubmatch(link)
	if match == nil {
		return "", fmt.Errorf("link header %q", link)
	}
	base, err := url.Parse(r.base())
	if err != nil {
		return "", err
	}
	next, err := base.Parse(match[1])
	if err != nil {
		return "", err
	}
	return next.String(), nil
}

// Report is what [VerifyTree] read.
type Report struct {
	Repositories, Tags int
	Manifests, Blobs   int // per repository, each once
	Referrers          int
	Bytes              int64
}

// VerifyTree reads every tag, manifest, referrer and blob of a registry from
// each repository it belongs to, and fails the test unless each is there and
// hashes to its digest, with the size its descriptor says.
func VerifyTree(t testing.TB, host string) Report {
	t.Helper()
	report, err := behind(host).verify()
	if err != nil {
		t.Fatalf("registrytest: verify %s: %v", host, err)
	}
	return report
}

func (r *remote) verify() (Report, error) {
	listing, err := r.inventory()
	if err != nil {
		return Report{}, err
	}
	total := Report{Repositories: len(listing)}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(8)
	for repository, tags := range listing {
		group.Go(func() error {
			v := verifier{remote: r, repository: repository, seen: map[providers.Digest]bool{}}
			for _, tag := range slices.Sorted(maps.Keys(tags)) {
				if err := v.manifest(tags[tag], -1); err != nil {
					return fmt.Errorf("%s:%s: %w", repository, tag, err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			total.Tags += len(tags)
			total.Manifests += v.Manifests
			total.Blobs += v.Blobs
			total.Referrers += v.Referrers
			total.Bytes += v.Bytes
			return nil
		})
	}
	return total, group.Wait()
}

// verifier walks one repository.
type verifier struct {
	Report
	remote     *remote
	repository string
	seen       map[providers.Digest]bool
}

type reference struct {
	Digest string   `json:"digest"`
	Size   int64    `json:"size"`
	URLs   []string `json:"urls"`
}

// manifest checks one manifest and all below it; size is -1 when unknown.
func (v *verifier) manifest(d providers.Digest, size int64) error {
	if v.seen[d] {
		return nil
	}
	v.seen[d] = true
	body, err := v.read("manifests", d, size)
	if err != nil {
		return err
	}
	v.Manifests++
	var m struct {
		Config    *reference  `json:"config"`
		Layers    []reference `json:"layers"`
		Manifests []reference `json:"manifests"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return fmt.Errorf("manifest %s: %w", d, err)
	}
	for _, child := range m.Manifests {
		if err := v.below(child, v.manifest); err != nil {
			return err
		}
	}
	if m.Config != nil {
		m.Layers = append(m.Layers, *m.Config)
	}
	for _, layer := range m.Layers {
		if err := v.below(layer, v.blob); err != nil {
			return err
		}
	}
	return v.referrers(d)
}

// below checks one thing a manifest refers to; foreign layers are elsewhere.
func (v *verifier) below(to reference, check func(providers.Digest, int64) error) error {
	d, err := providers.ParseDigest(to.Digest)
	if err != nil || len(to.URLs) > 0 {
		return err
	}
	return check(d, to.Size)
}

func (v *verifier) blob(d providers.Digest, size int64) error {
	if v.seen[d] {
		return nil
	}
	v.seen[d] = true
	v.Blobs++
	_, err := v.read("blobs", d, size)
	return err
}

// referrers checks what refers to d through the referrers API, where there is
// one; under the fallback tag they are found as a tag.
func (v *verifier) referrers(d providers.Digest) error {
	answer, err := v.remote.do(http.MethodGet, v.repository+"/referrers/"+string(d), nil, nil)
	if err != nil || answer.status == http.StatusNotFound {
		return err
	}
	if answer.status != http.StatusOK {
		return unexpected(answer)
	}
	var index struct {
		Manifests []reference `json:"manifests"`
	}
	if err := json.Unmarshal(answer.body, &index); err != nil {
		return err
	}
	for _, referrer := range index.Manifests {
		v.Referrers++
		if err := v.below(referrer, v.manifest); err != nil {
			return err
		}
	}
	return nil
}

// read gets content and checks its length and hash.
func (v *verifier) read(kind string, d providers.Digest, size int64) ([]byte, error) {
	answer, err := v.remote.do(http.MethodGet, v.repository+"/"+kind+"/"+string(d), acceptAll, nil)
	if err != nil {
		return nil, err
	}
	if answer.status != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %w", kind, d, unexpected(answer))
	}
	if got := d.Of(answer.body); got != d {
		return nil, fmt.Errorf("%s %s: the %d bytes hash to %s", kind, d, len(answer.body), got)
	}
	if size >= 0 && size != int64(len(answer.body)) {
		return nil, fmt.Errorf("%s %s: %d bytes, the descriptor says %d", kind, d, len(answer.body), size)
	}
	v.Bytes += int64(len(answer.body))
	return answer.body, nil
}
