package registrytest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// pageOf reads "page" and "per_page" (or "page_size"): fallback when there is
// none, at most limit.
func pageOf(r *http.Request, fallback, limit int) (page, size int) {
	query := r.URL.Query()
	page, size = 1, fallback
	if n, err := strconv.Atoi(query.Get("page")); err == nil && n > 0 {
		page = n
	}
	for _, name := range []string{"per_page", "page_size", "limit"} {
		if n, err := strconv.Atoi(query.Get(name)); err == nil && n > 0 {
			size = min(n, limit)
		}
	}
	return page, size
}

// cut is one page of the entries, counted from 1.
func cut[T any](entries []T, page, size int) []T {
	first := min((page-1)*size, len(entries))
	return entries[first:min(first+size, len(entries))]
}

// pageLink is the request's own address with another page.
func pageLink(r *http.Request, page int) string {
	query := r.URL.Query()
	query.Set("page", strconv.Itoa(page))
	return r.URL.EscapedPath() + "?" + query.Encode()
}

// numbered is the page that the request asks for, with a Link header of whole
// addresses to the next and the last one, as GitHub and GitLab give it.
func numbered[T any](w http.ResponseWriter, r *http.Request, entries []T, fallback, limit int) []T {
	page, size := pageOf(r, fallback, limit)
	last := max(1, (len(entries)+size-1)/size)
	if page < last {
		w.Header().Set("Link", strings.Join([]string{
			fmt.Sprintf(`<%s%s>; rel="next"`, origin(r), pageLink(r, page+1)),
			fmt.Sprintf(`<%s%s>; rel="last"`, origin(r), pageLink(r, last)),
		}, ", "))
	}
	return cut(entries, page, size)
}

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}
