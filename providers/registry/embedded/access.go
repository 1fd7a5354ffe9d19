package embedded

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// User may come in with a name and a password. A user without a name is what
// anonymous requests may do.
type User struct {
	Name     string
	Password string
	Grants   []Grant // nil for everything, everywhere
}

// Grant allows actions ("pull", "push", "delete", "*" for all) on repositories:
// one by its exact name, all below a prefix that ends in "/", or all with "*".
// The catalog asks for "*" on the resource type "registry"; a grant on
// "registry:catalog" gives it.
type Grant struct {
	Repository string
	Actions    []string
}

// access is one right a request needs, in the words of the token protocol:
// type, name and action ("repository", "library/nginx", "pull").
type access struct {
	kind, name, action string
}

// allows reports whether u may do what a asks.
func (u User) allows(a access) bool {
	if u.Grants == nil {
		return true
	}
	name := a.name
	if a.kind != "repository" {
		name = a.kind + ":" + a.name
	}
	for _, grant := range u.Grants {
		covered := grant.Repository == name || grant.Repository == "*" ||
			strings.HasSuffix(grant.Repository, "/") && strings.HasPrefix(name, grant.Repository)
		if covered && (slices.Contains(grant.Actions, a.action) || slices.Contains(grant.Actions, "*")) {
			return true
		}
	}
	return false
}

// find gives the user whose name and password these are. Both sides are hashed
// first, so that the comparison takes the same time whatever is wrong.
func find(users []User, name, password string) (User, bool) {
	given := sha256.Sum256([]byte(name + "\x00" + password))
	for _, u := range users {
		want := sha256.Sum256([]byte(u.Name + "\x00" + u.Password))
		if u.Name != "" && subtle.ConstantTimeCompare(given[:], want[:]) == 1 {
			return u, true
		}
	}
	return User{}, false
}

// lookup asks login, when there is one, or searches users.
func lookup(login func(name, password string) (User, bool), users []User, name, password string) (User, bool) {
	if login != nil {
		return login(name, password)
	}
	return find(users, name, password)
}

// anonymous is what a request without credentials may do; false when nothing.
func anonymous(users []User) (User, bool) {
	at := slices.IndexFunc(users, func(u User) bool { return u.Name == "" })
	if at < 0 {
		return User{}, false
	}
	return users[at], true
}

// needs lists the rights a request needs.
func needs(r *http.Request, at address) []access {
	switch at.endpoint {
	case base:
		return nil
	case catalog:
		return []access{{"registry", "catalog", "*"}}
	}
	wanted := []access{{"repository", at.name, "pull"}}
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		wanted = append(wanted, access{"repository", at.name, "push"})
	case http.MethodDelete:
		wanted = []access{{"repository", at.name, "delete"}}
		if at.endpoint == upload { // giving up one's own upload deletes nothing
			wanted[0].action = "push"
		}
	}
	// A mount reads another repository; without this, it would be a way around
	// the right to pull from there.
	if query := r.URL.Query(); at.endpoint == uploads && query.Get("mount") != "" && validName(query.Get("from")) {
		wanted = append(wanted, access{"repository", query.Get("from"), "pull"})
	}
	return wanted
}

// authorize lets a request pass or says why not: 401 with a challenge when
// credentials are missing or wrong, 403 when they are right but do not cover
// what is asked. With tokens, too narrow a scope is a 401 again, with a
// challenge that names the scope to ask for.
func (g *registry) authorize(w http.ResponseWriter, r *http.Request, at address) error {
	wanted := needs(r, at)
	if g.options.Tokens != nil {
		return g.options.Tokens.check(w, r, wanted)
	}
	if len(g.options.Users) == 0 && g.options.Login == nil {
		return nil
	}
	name, password, given := r.BasicAuth()
	user, known := lookup(g.options.Login, g.options.Users, name, password)
	if !given {
		user, known = anonymous(g.options.Users)
		known = known && at.endpoint != base // clients learn from /v2/ how to log in
	}
	if !known {
		w.Header().Set("WWW-Authenticate", `Basic realm="freightliner", charset="UTF-8"`)
		return failf(http.StatusUnauthorized, "UNAUTHORIZED", "log in with a user name and password")
	}
	for _, a := range wanted {
		if !user.allows(a) {
			return failf(http.StatusForbidden, "DENIED", "%s may not %s %s", printableUser(user), a.action, a.name)
		}
	}
	return nil
}

func printableUser(u User) string {
	if u.Name == "" {
		return "an anonymous user"
	}
	return fmt.Sprintf("user %s", u.Name)
}
