package registrytest

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"freightliner/providers/registry/embedded"
)

// settle puts the personality into the options of the embedded registry.
func (s *site) settle(t testing.TB, with *settings) {
	t.Helper()
	with.Within = s.within
	with.NoReferrers = with.NoReferrers || s.NoReferrers
	with.SparseIndexes = with.SparseIndexes || s.Manifest.Sparse
	if s.storage = with.storage; s.storage != nil {
		s.storage.site = s
	}
	s.locked = with.login || with.basic || with.tokenLife > 0
	if !s.locked {
		return
	}
	life := cmp.Or(with.tokenLife, s.Login.Life, 5*time.Minute)
	s.Login.Life = life
	owner := with.owner(s.user())
	s.secret = owner.Password
	s.users = append(s.users, owner)
	if s.Login.Password {
		s.passwords[s.secret] = s.now().Add(life)
	}
	if s.Login.Basic {
		with.Login = s.enter
		return
	}
	tokens, err := embedded.NewTokens(embedded.TokenOptions{
		Users: s.users, Login: s.enter, Service: s.Login.Service, Life: life, Now: with.Now,
		Path: s.tokenPath(), Field: s.Login.Field, NoExpiry: s.Login.NoExpiry,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.tokens, with.Tokens = tokens, tokens
}

func (s *site) user() string { return cmp.Or(s.Login.User, CanaryUser) }

// enter finds who has this name and password. Passwords that an API gives out
// end after the login's life.
func (s *site) enter(name, password string) (embedded.User, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if end, given := s.passwords[password]; given {
		return embedded.User{Name: s.user()}, (name == s.user() || name == ACRTokenUser) && s.now().Before(end)
	}
	for _, u := range s.users {
		if u.Name == name && u.Password == password && !s.Login.Password {
			return u, true
		}
	}
	return embedded.User{}, false
}

// give makes a password that an API hands out. It contains the owner's, so
// that a search for that one finds it.
func (s *site) give() (password string, ends time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	password = fmt.Sprintf("%s-%d", cmp.Or(s.secret, CanaryPassword), len(s.passwords))
	ends = s.now().Add(s.Login.Life)
	s.passwords[password] = ends
	return password, ends
}

// knows reports whether a request to the registry's own interface brings
// credentials: basic, or the password as a bearer token.
func (s *site) knows(r *http.Request) bool {
	if !s.locked {
		return true
	}
	if name, password, given := r.BasicAuth(); given {
		_, ok := s.enter(name, password)
		return ok
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return ok && s.isPassword(token)
}

// isPassword reports whether the text is the password of any user.
func (s *site) isPassword(text string) bool {
	for _, u := range s.users {
		if u.Password != "" && u.Password == text {
			return true
		}
	}
	return false
}

// CreateRepository makes what a push to the repository needs: the repository
// itself at ECR, the project at Harbor, nothing where a push creates. Only for
// a server with a personality.
func (s *Server) CreateRepository(repository string) {
	if s.site.Create.Place != nil {
		s.site.create(s.site.Create.Place(repository), nil)
	}
}

// Protect makes tags of a repository (or of what it belongs to: a project)
// immutable, or mutable again. Only for a server with a personality.
func (s *Server) Protect(repository string, guard Protection) {
	s.CreateRepository(repository)
	s.site.mu.Lock()
	defer s.site.mu.Unlock()
	at := s.site.placeOf(repository)
	if at == nil {
		at = &place{created: s.site.now()}
		s.site.places[repository] = at
	}
	at.guard = guard
}

// AllowMounts switches mounts on where an account must ask for them (ECR).
func (s *Server) AllowMounts() {
	s.site.mu.Lock()
	defer s.site.mu.Unlock()
	s.site.mounts = true
}

// Pulls is how many GETs of manifests were counted. Only for a personality
// that counts them.
func (s *Server) Pulls() int {
	s.site.mu.Lock()
	defer s.site.mu.Unlock()
	return s.site.pulls
}

// Backdate sets when a tag, and the manifest it points at, were pushed: for
// listings that tell times. Only for a server with a personality.
func (s *Server) Backdate(t testing.TB, repository, tag string, pushed time.Time) {
	t.Helper()
	s.site.mu.Lock()
	defer s.site.mu.Unlock()
	known := s.site.repositories[repository]
	if known == nil || known.tags[tag] == nil {
		t.Fatalf("registrytest: %s has no tag %s", repository, tag)
	}
	at := known.tags[tag]
	at.created, at.moved = pushed, pushed
	known.manifests[at.digest].pushed = pushed
}

// CollectGarbage unlinks every blob that no manifest of its repository refers
// to, a fresh mount included, and gives their number. Only for a server with a
// personality.
func (s *Server) CollectGarbage() int {
	g := s.site
	g.mu.Lock()
	var targets []string
	for name, known := range g.repositories {
		used := map[string]bool{}
		for _, m := range known.manifests {
			for _, b := range m.blobs {
				used[string(b)] = true
			}
		}
		for b := range known.blobs {
			if !used[string(b)] {
				targets = append(targets, "/v2/"+name+"/blobs/"+string(b))
			}
		}
	}
	g.mu.Unlock()
	gone := 0
	for _, target := range targets {
		request, err := http.NewRequest(http.MethodDelete, target, http.NoBody)
		if err == nil && capture(g.open, request).Code == http.StatusAccepted {
			gone++
		}
	}
	return gone
}
