package embedded

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// catalogPage is how many repositories a catalog request without n gets, as on
// the distribution registry.
const catalogPage = 100

// serveCatalog lists repositories in the order of their path segments: "a/b"
// comes before "a-b", since that is how a tree is walked. The page after
// "last" starts behind it in that order, whether or not last exists.
func (g *registry) serveCatalog(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		return notAllowed(w, "GET")
	}
	n, err := pageSize(r, min(catalogPage, g.options.MaxPage))
	if err != nil {
		return err
	}
	if n > g.options.MaxPage {
		return failf(http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "n is at most %d", g.options.MaxPage)
	}
	found := []string{}
	if n > 0 {
		if err := g.walk("", strings.Split(r.URL.Query().Get("last"), "/"), n+1, &found); err != nil {
			return err
		}
	}
	found = nextPage(w, r, found, n)
	answer(w, r, http.StatusOK, "application/json", mustJSON(map[string]any{"repositories": found}))
	return nil
}

// walk appends to found the repositories below name that sort behind after,
// until limit are found. A folder before after is never entered.
func (g *registry) walk(name string, after []string, limit int, found *[]string) error {
	entries, err := g.store.List(strings.TrimSuffix(repositoryKey(name), "/"))
	if err != nil {
		return err
	}
	if name != "" && after == nil && slices.Contains(entries, "_manifests/") {
		*found = append(*found, name)
	}
	for _, entry := range entries {
		segment, folder := strings.CutSuffix(entry, "/")
		if !folder || segment[0] == '_' || len(*found) >= limit {
			continue
		}
		var deeper []string // nil once we are past "after"
		if len(after) > 0 {
			if segment < after[0] {
				continue
			}
			if segment == after[0] {
				deeper = after[1:] // empty, not nil, when the segment is the last
			}
		}
		if err := g.walk(strings.TrimPrefix(name+"/"+segment, "/"), deeper, limit, found); err != nil {
			return err
		}
	}
	return nil
}

// serveTags lists the tags of a repository in bytewise order.
func (g *registry) serveTags(w http.ResponseWriter, r *http.Request, name string) error {
	if r.Method != http.MethodGet {
		return notAllowed(w, "GET")
	}
	n, err := pageSize(r, -1)
	if err != nil {
		return err
	}
	tags, err := g.tags(name)
	if err != nil {
		return err
	}
	if len(tags) == 0 {
		if err := g.unknown(name, nil); err != nil {
			return err
		}
	}
	if last := r.URL.Query().Get("last"); last != "" {
		at, exact := slices.BinarySearch(tags, last)
		if exact {
			at++
		}
		tags = tags[at:]
	}
	if n >= 0 {
		tags = nextPage(w, r, tags, min(n, g.options.MaxPage))
	}
	answer(w, r, http.StatusOK, "application/json", mustJSON(map[string]any{"name": name, "tags": tags}))
	return nil
}

// tags are all tags of a repository, sorted; never nil.
func (g *registry) tags(name string) ([]string, error) {
	files, err := g.store.List(tagsKey(name))
	if err != nil {
		return nil, err
	}
	tags := make([]string, 0, len(files))
	for _, file := range files {
		if tag, ok := tagOf(file); ok {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags, nil
}

// pageSize reads n.
func pageSize(r *http.Request, fallback int) (int, error) {
	given := r.URL.Query().Get("n")
	if given == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(given)
	if err != nil || n < 0 {
		return 0, failf(http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "n is a number from 0")
	}
	return n, nil
}

// nextPage cuts entries to n and links to the rest, if there is a rest.
func nextPage(w http.ResponseWriter, r *http.Request, entries []string, n int) []string {
	if len(entries) <= n {
		return entries
	}
	entries = entries[:n]
	if n > 0 {
		query := url.Values{"n": {strconv.Itoa(n)}, "last": {entries[n-1]}}
		w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.EscapedPath(), query.Encode()))
	}
	return entries
}
