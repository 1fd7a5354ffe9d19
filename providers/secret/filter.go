package secret

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"io"
	"net/url"
	"slices"
	"sync"
)

// Filter is the last net below the design: it replaces payloads that are in
// memory right now wherever they turn up in output, raw or encoded. It holds
// each payload only as long as it is watched. A payload of less than
// [FilterMin] bytes is not watched: it would be found everywhere.
//
// The zero Filter is ready. It is safe for concurrent use.
type Filter struct {
	mu     sync.RWMutex
	starts map[[FilterMin]byte][]*form
}

// FilterMin is the length from which a payload is watched, in bytes.
const FilterMin = 6

// form is one way in which a payload may appear.
type form struct{ text []byte }

// Watch adds a payload and each of its lines, and gives what ends the watch and
// zeroes what was kept for it.
func (f *Filter) Watch(v Value) (end func()) {
	if f == nil {
		return func() {}
	}
	var forms []*form
	v.Use(func(b []byte) {
		for _, part := range append([][]byte{b}, bytes.Split(b, []byte{'\n'})...) {
			if part = bytes.TrimSpace(part); len(part) >= FilterMin {
				forms = appendForms(forms, part)
			}
		}
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.starts == nil {
		f.starts = map[[FilterMin]byte][]*form{}
	}
	for _, one := range forms {
		start := [FilterMin]byte(one.text)
		f.starts[start] = append(f.starts[start], one)
	}
	var once sync.Once
	return func() { once.Do(func() { f.drop(forms) }) }
}

func (f *Filter) drop(forms []*form) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range forms {
		start := [FilterMin]byte(one.text)
		left := slices.DeleteFunc(f.starts[start], func(other *form) bool { return other == one })
		if f.starts[start] = left; len(left) == 0 {
			delete(f.starts, start)
		}
		clear(one.text)
	}
}

// appendForms adds the encodings in which programs like ours print bytes. Of
// base64 the part that does not depend on what stands before and after is
// watched, for each of the three alignments.
func appendForms(forms []*form, b []byte) []*form {
	var texts [][]byte
	quoted, _ := json.Marshal(string(b))
	texts = append(texts, bytes.Clone(b), []byte(hex.EncodeToString(b)), bytes.ToUpper([]byte(hex.EncodeToString(b))),
		[]byte(url.QueryEscape(string(b))), []byte(url.PathEscape(string(b))), []byte(html.EscapeString(string(b))),
		quoted[1:len(quoted)-1], bytes.Trim(base32.StdEncoding.AppendEncode(nil, b), "="))
	for shift := range 3 {
		padded := append(make([]byte, shift), b...)
		for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := alphabet.AppendEncode(nil, padded)
			texts = append(texts, text[(shift*8+5)/6:(shift+len(b))*8/6])
		}
		clear(padded)
	}
	for _, text := range texts {
		if len(text) >= FilterMin && !slices.ContainsFunc(forms, func(f *form) bool { return bytes.Equal(f.text, text) }) {
			forms = append(forms, &form{text})
		}
	}
	return forms
}

// Clean is p with every watched payload replaced. It returns p itself where
// there is none, and never changes it. A nil Filter finds nothing.
func (f *Filter) Clean(p []byte) []byte {
	if f == nil {
		return p
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	if len(f.starts) == 0 || len(p) < FilterMin {
		return p
	}
	var out []byte
	kept := 0
	for i := 0; i+FilterMin <= len(p); {
		n := f.at(p[i:])
		if n == 0 {
			i++
			continue
		}
		out = append(append(out, p[kept:i]...), hidden...)
		i += n
		kept = i
	}
	if kept == 0 {
		return p
	}
	return append(out, p[kept:]...)
}

// Writer cleans what is written to w, each piece by itself.
func (f *Filter) Writer(w io.Writer) io.Writer { return cleaner{f, w} }

type cleaner struct {
	filter *Filter
	w      io.Writer
}

func (c cleaner) Write(p []byte) (int, error) {
	if _, err := c.w.Write(c.filter.Clean(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// at is the length of the longest watched form that p begins with.
func (f *Filter) at(p []byte) int {
	longest := 0
	for _, one := range f.starts[[FilterMin]byte(p)] {
		if len(one.text) > longest && bytes.HasPrefix(p, one.text) {
			longest = len(one.text)
		}
	}
	return longest
}
