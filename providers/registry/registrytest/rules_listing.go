package registrytest

import (
	"cmp"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"freightliner/providers"
)

// ruleCatalog serves the catalog, pages of it, or a refusal.
func (s *site) ruleCatalog(w http.ResponseWriter, r *http.Request) {
	switch {
	case s.Listing.Catalog.set():
		s.Listing.Catalog.answer(w)
	case s.Listing.Empty:
		writeJSON(w, http.StatusOK, map[string]any{"repositories": []string{}})
	case s.Listing.Page == 0:
		s.open.ServeHTTP(w, r)
	default:
		s.mu.Lock()
		var names []string
		for _, name := range s.names("") {
			if len(s.repositories[name].manifests) > 0 || s.places[name] != nil {
				names = append(names, name)
			}
		}
		s.mu.Unlock()
		page, ok := s.page(w, r, names, s.Listing.Page)
		if ok {
			writeJSON(w, http.StatusOK, map[string]any{"repositories": s.list(page)})
		}
	}
}

// list is a list as the registry writes it when it is empty.
func (s *site) list(entries []string) any {
	switch {
	case len(entries) > 0:
		return entries
	case s.Listing.NilTags:
		return nil
	}
	return []string{}
}

// ruleTags serves the tag list.
func (s *site) ruleTags(w http.ResponseWriter, r *http.Request, name string) {
	if s.Listing.Page == 0 && !s.Listing.Whole {
		s.open.ServeHTTP(w, r)
		return
	}
	s.mu.Lock()
	known := s.repositories[name]
	var tags []string
	var google map[string]any
	if known == nil && s.Listing.Maps && len(s.names(name+"/")) > 0 {
		known = &repository{} // nothing but what is below it
	}
	if known != nil {
		for tag := range known.tags {
			tags = append(tags, tag)
		}
		slices.Sort(tags)
		if s.Listing.Maps {
			google = s.googleMaps(name, known)
		}
	}
	s.mu.Unlock()
	if known == nil || s.stillUnseen("repository", s.placeName(name)) {
		Refusal{Status: http.StatusNotFound, Code: "NAME_UNKNOWN", Text: "repository " + name + " is not known here"}.answer(w)
		return
	}
	body := map[string]any{"name": name}
	for key, value := range google {
		body[key] = value
	}
	if !s.Listing.Whole {
		whole := s.Listing.Page
		if s.Listing.Full {
			whole = max(1, len(tags))
		}
		var ok bool
		if tags, ok = s.page(w, r, tags, whole); !ok {
			return
		}
	}
	if cut := s.Listing.Cut; s.Listing.Whole && cut > 0 && len(tags) > cut {
		tags = tags[:cut]
	}
	body["tags"] = s.list(tags)
	writeJSON(w, http.StatusOK, body)
}

// page cuts entries to what was asked for and links to the rest; false when it
// refused.
func (s *site) page(w http.ResponseWriter, r *http.Request, entries []string, whole int) ([]string, bool) {
	rules := s.Listing
	query := r.URL.Query()
	n, given := whole, query.Get("n")
	if given != "" {
		var err error
		if n, err = strconv.Atoi(given); err != nil || n < 0 {
			Refusal{Status: http.StatusBadRequest, Code: "PAGINATION_NUMBER_INVALID", Text: "n is a number from 0"}.answer(w)
			return nil, false
		}
		if n > rules.Max && rules.OverMax.set() {
			rules.OverMax.answer(w)
			return nil, false
		}
		n = min(n, rules.Max)
	}
	param := cmp.Or(rules.Param, "last")
	last := query.Get(param)
	if rules.Token && last != "" {
		token, err := base64.RawURLEncoding.DecodeString(last)
		if err != nil || !strings.HasPrefix(string(token), "next:") {
			Refusal{Status: http.StatusBadRequest, Code: "UNSUPPORTED", Text: "Invalid parameter at '" + param + "'"}.answer(w)
			return nil, false
		}
		last = strings.TrimPrefix(string(token), "next:")
	}
	order := strings.Compare
	if rules.Unsorted {
		order = func(a, b string) int { return strings.Compare(shuffled(a), shuffled(b)) }
		slices.SortFunc(entries, order)
	}
	if last != "" {
		if at := slices.IndexFunc(entries, func(entry string) bool { return order(entry, last) > 0 }); at >= 0 {
			entries = entries[at:]
		} else {
			entries = nil
		}
	}
	if len(entries) <= n {
		return entries, true
	}
	entries = entries[:n]
	if n > 0 {
		next := entries[n-1]
		if rules.Token {
			next = base64.RawURLEncoding.EncodeToString([]byte("next:" + next))
		}
		link := r.URL.EscapedPath() + "?" + url.Values{"n": {strconv.Itoa(n)}, param: {next}}.Encode()
		if rules.Absolute {
			link = origin(r) + link
		}
		w.Header().Set("Link", "<"+link+`>; rel="next"`)
	}
	return entries, true
}

// shuffled is what an unsorted listing is sorted by.
func shuffled(name string) string { return string(providers.SHA256([]byte(name))) }

// googleMaps are the additions of Google's registries to a tag list: every
// manifest with its size, tags and times in milliseconds as text, and the
// repositories below. (go-containerregistry, pkg/v1/google/list.go, reads
// them: imageSizeBytes, mediaType, timeCreatedMs, timeUploadedMs, tag.) The
// caller holds mu.
func (s *site) googleMaps(name string, known *repository) map[string]any {
	manifests := map[string]any{}
	for _, m := range known.inOrder() {
		pushed := strconv.FormatInt(m.pushed.UnixMilli(), 10)
		manifests[string(m.digest)] = map[string]any{
			"imageSizeBytes": strconv.FormatInt(known.size(m)+m.size, 10), "layerId": "", "mediaType": m.mediaType,
			"tag": known.named(m.digest), "timeCreatedMs": pushed, "timeUploadedMs": pushed,
		}
	}
	children := []string{}
	for _, below := range s.names(name + "/") {
		segment, _, _ := strings.Cut(strings.TrimPrefix(below, name+"/"), "/")
		if !slices.Contains(children, segment) {
			children = append(children, segment)
		}
	}
	return map[string]any{"manifest": manifests, "child": children}
}
