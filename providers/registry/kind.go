package registry

import (
	"context"
	"errors"
	"slices"
	"time"

	"freightliner/providers"
)

// Kind is one kind of registry: how it differs from the specification, as data,
// and what it can do beyond it. Each lives in a folder of its own, and the list
// of them is handed in by Options, so that this package knows none by name.
// Everything but the name may be left out.
//
// The functions are safe for concurrent use. They send requests only through
// the API they are given, which lets them reach the registry itself and the
// hosts of Pairs, nothing else.
type Kind struct {
	Name    string // as in a registry block: "ecr"
	Profile Profile

	// Serves reports whether host[:port] is a registry of this kind beyond doubt:
	// an exact match of the parsed host, so that neither "ghcr.io.example.com" nor
	// "evil-ghcr.io" is GitHub's. It gives hosts without a kind theirs, and is what
	// Credential depends on. nil for none.
	Serves func(host string) bool
	// APIHost gives the host[:port] where the distribution API of host is served,
	// when that is another; empty otherwise.
	APIHost func(host string) string
	// TokenHosts are token servers on other hosts that belong to the registry at
	// host: a credential for the one is made for the other.
	TokenHosts func(host string) []string
	// Pairs are other hosts with interfaces that belong to the registry: a
	// credential for the one is made for the other. Always https.
	Pairs func(s Settings) []string

	// Credential is the cloud's own chain, asked after the auth block and the
	// credential files, and only for hosts that Serves accepts. A zero Credential
	// means that there is nothing to be had here; its Origin says where it looked.
	Credential func(ctx context.Context, api *API, repo providers.Repository) (Credential, error)

	// Repositories lists the repositories at or below prefix, in any order; names
	// beyond it are dropped by the caller. It is all or an error, never a part.
	// [ErrMoved] means that the list changed under the reader.
	Repositories func(ctx context.Context, api *API, prefix string) ([]string, error)
	// Tags lists the tags of a repository, with what else a bulk listing tells.
	// All or an error, as above.
	//
	// When the first request of either fails with Denied, NotFound, Unsupported,
	// Throttled or Transient, the interface is not to be had, and the registry's own
	// API is asked instead, where that tells everything. For tags it always does.
	Tags func(ctx context.Context, api *API, path string) (TagList, error)
	// Missing reports whether a repository whose tags were denied does not exist,
	// for registries that deny where others say that there is none. An error means
	// that it is not known.
	Missing func(ctx context.Context, api *API, path string) (bool, error)
	// Untag takes a tag away and nothing else, for registries whose DELETE by tag is
	// refused, or takes the manifest with all its other tags. NotFound when there is
	// none. nil for the DELETE of the specification, which takes the tag alone.
	Untag func(ctx context.Context, api *API, path, tag string) error
	// Immutable reports whether the registry keeps a tag that is there from being
	// moved to other content. nil where it can not be asked.
	Immutable func(ctx context.Context, api *API, path, tag string) (bool, error)
	// Create makes what must exist before a push to path. It is no error when it
	// exists already.
	Create func(ctx context.Context, api *API, path string) error
}

// ErrMoved says that a list changed while its pages were read, so that an entry
// may have slipped from a page to one that was read before.
var ErrMoved = errors.New("the list changed while it was read")

// kindOf is the kind of s: the one it names, else the one that serves its host.
// The name "generic", or none that is known, is the specification alone.
func (c *Client) kindOf(s Settings) *Kind {
	for i := range c.kinds {
		k := &c.kinds[i]
		if s.Kind == k.Name || s.Kind == "" && k.Serves != nil && k.Serves(s.Host) {
			return k
		}
	}
	if i := slices.IndexFunc(c.kinds, func(k Kind) bool { return k.Name == "generic" }); i >= 0 {
		return &c.kinds[i]
	}
	return &Kind{Name: "generic"}
}

// serves reports whether s is beyond doubt a registry of k.
func (k *Kind) serves(s Settings) bool {
	return k.Serves != nil && !s.PlainHTTP && k.Serves(s.Host)
}

func (k *Kind) tokenHosts(s Settings) []string {
	if k.TokenHosts == nil {
		return nil
	}
	return k.TokenHosts(s.Host)
}

func (k *Kind) pairs(s Settings) []string {
	if k.Pairs == nil {
		return nil
	}
	return k.Pairs(s)
}

// Add takes one tag in. A digest that is none is left out, so that it is asked
// for; of a tag that is there with two digests, neither is believed. A zero time
// or a size of 0 means not told.
func (l *TagList) Add(tag string, entry TagEntry) {
	if l.Digests == nil {
		l.Digests = map[string]providers.Digest{}
	}
	d, err := providers.ParseDigest(entry.Digest)
	before, twice := l.Digests[tag]
	switch {
	case slices.Contains(l.doubtful, tag):
	case twice && before != d:
		delete(l.Digests, tag)
		l.doubtful = append(l.doubtful, tag)
	case err == nil:
		l.Digests[tag] = d
	}
	l.Tags = append(l.Tags, tag)
	if !entry.Pushed.IsZero() {
		if l.Pushed == nil {
			l.Pushed = map[string]time.Time{}
		}
		l.Pushed[tag] = entry.Pushed
	}
	if entry.Size > 0 {
		if l.Sizes == nil {
			l.Sizes = map[string]int64{}
		}
		l.Sizes[tag] = entry.Size
	}
}

// TagEntry is what a bulk listing tells about a tag.
type TagEntry struct {
	Digest string    // as the registry gave it; it is checked
	Pushed time.Time // when this was pushed, or tagged, as far as the registry keeps it
	Size   int64     // bytes of one image, compressed, as the registry counts
}

// check brings a list into order, and refuses it whole when a name in it can
// not be a tag: leaving one out would make the list look complete.
func (l *TagList) check() error {
	slices.Sort(l.Tags)
	l.Tags = slices.Compact(l.Tags)
	for _, tag := range l.Tags {
		if err := CheckTag(tag); err != nil {
			return invalid("%w", err)
		}
	}
	if len(l.Digests) == 0 {
		l.Digests = nil
	}
	l.doubtful = nil
	return nil
}
