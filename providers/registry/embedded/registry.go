package embedded

import (
	"errors"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"freightliner/providers"
)

// Options change how a registry behaves. The zero value is an open registry
// with everything the distribution-spec 1.1 offers.
type Options struct {
	// Now is the clock, for uploads and tokens that expire; nil for [time.Now].
	Now func() time.Time

	// NoReferrers switches the referrers API off, as on registries that speak
	// distribution-spec 1.0: clients then keep the fallback tag.
	NoReferrers bool
	// SparseIndexes takes an index although manifests it lists are missing. The
	// spec leaves the choice to the registry ("Pushing Manifests").
	SparseIndexes bool
	// NoDelete refuses every DELETE of a blob, manifest or tag with 405.
	NoDelete bool

	// MaxPage is the most entries one page of a listing holds; 0 for 1000. A
	// catalog request for more is refused, a tag list is cut and continued,
	// both as the distribution registry does.
	MaxPage int
	// ReferrersPage is the most descriptors in one answer of the referrers
	// API; 0 for all at once.
	ReferrersPage int

	// MaxUploads is the most upload sessions open at once; 0 for 1000.
	MaxUploads int
	// UploadIdle is how long a session lives without a request; 0 for an hour.
	UploadIdle time.Duration
	// MaxBlob is the largest blob in bytes; 0 for 1 TiB.
	MaxBlob int64

	// Users are who may come in, and to do what; empty for an open registry.
	Users []User
	// Login finds a user by name and password, in place of Users; for passwords
	// that come and go. Nil for Users.
	Login func(name, password string) (User, bool)
	// Tokens makes the registry ask for bearer tokens of this issuer instead
	// of basic authentication, and serves it at [TokenPath]. Its users count,
	// not those above.
	Tokens *Tokens

	// Within stands between the door and the endpoints: it sees every request
	// of the distribution API whose name was checked and that access allows.
	// What it passes on is answered without asking for access again. Nil for
	// nothing; tests give registries their peculiarities here.
	Within func(endpoints http.Handler) http.Handler
}

// ManifestLimit is the largest manifest accepted, in bytes (distribution-spec
// 1.1, "Pushing Manifests": registries should take at least 4 MiB).
const ManifestLimit = 4 << 20

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxPage == 0 {
		o.MaxPage = 1000
	}
	if o.MaxUploads == 0 {
		o.MaxUploads = 1000
	}
	if o.UploadIdle == 0 {
		o.UploadIdle = time.Hour
	}
	if o.MaxBlob == 0 {
		o.MaxBlob = 1 << 40
	}
	return o
}

// registry is the handler.
type registry struct {
	store    Store
	options  Options
	sessions *sessions

	// deleting is held shared while a manifest is checked and written, and
	// alone while something is deleted. So a manifest is never accepted
	// because of a blob that goes away before the manifest is there.
	deleting sync.RWMutex

	endpoints http.Handler // nil without Options.Within
}

// New is the registry on store as an http.Handler, safe for concurrent use.
func New(store Store, options Options) http.Handler {
	options = options.withDefaults()
	g := &registry{store: store, options: options, sessions: newSessions(options)}
	if options.Within != nil {
		g.endpoints = options.Within(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := g.dispatch(w, r, parseAddress(r.URL.Path)); err != nil {
				answerError(w, r, err)
			}
		}))
	}
	return g
}

func (g *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if g.options.Tokens != nil && r.URL.Path == g.options.Tokens.Path() {
		g.options.Tokens.ServeHTTP(w, r)
		return
	}
	if err := g.serve(w, r); err != nil {
		answerError(w, r, err)
	}
}

// serve finds out what is wanted, whether it is allowed, and does it. Nothing
// has been written to w when it returns an error.
func (g *registry) serve(w http.ResponseWriter, r *http.Request) error {
	at := parseAddress(r.URL.Path)
	if at.endpoint == nowhere {
		return failf(http.StatusNotFound, "NAME_UNKNOWN", "this is no path of the distribution API")
	}
	if at.name != "" && !validName(at.name) {
		return failf(http.StatusBadRequest, "NAME_INVALID", "a repository name is lower-case letters, digits and . _ - between slashes, at most %d bytes", nameLimit)
	}
	if err := g.authorize(w, r, at); err != nil {
		return err
	}
	if g.endpoints != nil {
		g.endpoints.ServeHTTP(w, r)
		return nil
	}
	return g.dispatch(w, r, at)
}

// dispatch answers at the endpoint that at names. Nothing has been written to
// w when it returns an error.
func (g *registry) dispatch(w http.ResponseWriter, r *http.Request, at address) error {
	switch at.endpoint {
	case nowhere:
		return failf(http.StatusNotFound, "NAME_UNKNOWN", "this is no path of the distribution API")
	case base:
		return g.serveBase(w, r)
	case catalog:
		return g.serveCatalog(w, r)
	case tagList:
		return g.serveTags(w, r, at.name)
	case manifest:
		return g.serveManifest(w, r, at)
	case blob:
		return g.serveBlob(w, r, at)
	case uploads:
		return g.serveUploads(w, r, at.name)
	case upload:
		return g.serveUpload(w, r, at)
	default:
		return g.serveReferrers(w, r, at)
	}
}

func (g *registry) serveBase(w http.ResponseWriter, r *http.Request) error {
	if !reads(r) {
		return notAllowed(w, "GET, HEAD")
	}
	answer(w, r, http.StatusOK, "application/json", []byte("{}\n"))
	return nil
}

func reads(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead
}

func notAllowed(w http.ResponseWriter, allowed string) error {
	w.Header().Set("Allow", allowed)
	return unsupported("this path takes %s", allowed)
}

// known reports whether the repository was ever written to.
func (g *registry) known(name string) (bool, error) {
	entries, err := g.store.List(repositoryKey(name))
	if err != nil {
		return false, err
	}
	for _, entry := range entries {
		if entry[0] == '_' {
			return true, nil
		}
	}
	return false, nil
}

// unknown is the answer for something missing in name: the repository itself
// when it was never written to, otherwise missing.
func (g *registry) unknown(name string, missing error) error {
	known, err := g.known(name)
	if err != nil {
		return err
	}
	if !known {
		return nameUnknown(name)
	}
	return missing
}

func parseDigest(s string) (providers.Digest, error) {
	d, err := providers.ParseDigest(s)
	if err != nil {
		return "", digestInvalid(err)
	}
	return d, nil
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
