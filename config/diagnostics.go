package config

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"

	"freightliner/providers"
)

// maxDiagnostics is how many mistakes are kept; a hostile file has no end of them.
const maxDiagnostics = 500

// maxExcerpt is the longest excerpt shown, in bytes.
const maxExcerpt = 200

// HasErrors reports whether any diagnostic is more than a warning.
func (d Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(d, func(one Diagnostic) bool { return !one.Warning })
}

// Error is the text of all diagnostics, for people: summary, place, excerpt
// with the place marked, detail, hint; separated by empty lines.
func (d Diagnostics) Error() string {
	texts := make([]string, len(d))
	for i, one := range d {
		texts[i] = one.String()
	}
	return strings.Join(texts, "\n\n")
}

// String is the text of one diagnostic, without a final line break.
func (d Diagnostic) String() string {
	var b strings.Builder
	word := "error"
	if d.Warning {
		word = "warning"
	}
	fmt.Fprintf(&b, "%s: %s", word, d.Summary)
	if d.Range.File != "" {
		fmt.Fprintf(&b, "\n  at %s", d.Range)
	}
	if d.Excerpt != "" {
		number := fmt.Sprint(d.Range.StartLine)
		fmt.Fprintf(&b, "\n  %s | %s\n  %*s | %s", number, d.Excerpt, len(number), "", d.marker())
	}
	if d.Detail != "" {
		fmt.Fprintf(&b, "\n  %s", d.Detail)
	}
	if d.Hint != "" {
		fmt.Fprintf(&b, "\n  hint: %s", d.Hint)
	}
	return b.String()
}

// marker underlines the part of the excerpt that the range covers.
func (d Diagnostic) marker() string {
	width := utf8.RuneCountInString(d.Excerpt)
	start := min(max(d.Range.StartColumn, 1), width+1)
	end := width + 1
	if d.Range.EndLine == d.Range.StartLine {
		end = min(d.Range.EndColumn, end)
	}
	return strings.Repeat(" ", start-1) + strings.Repeat("^", max(end-start, 1))
}

// String is "file:line:column", or "file" for a place that is a whole file.
func (r Range) String() string {
	file := providers.Printable(r.File, 0)
	if r.StartLine == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d:%d", file, r.StartLine, r.StartColumn)
}

// rangeOf translates a range of the parser.
func rangeOf(r hcl.Range) Range {
	return Range{
		File:      r.Filename,
		StartLine: r.Start.Line, StartColumn: r.Start.Column,
		EndLine: r.End.Line, EndColumn: r.End.Column,
	}
}

// findings gathers diagnostics. Everything that leaves the package as a
// diagnostic passes through add, which is where text is made safe to show.
type findings struct {
	sources map[string][]byte
	hidden  []hcl.Range // places whose text must not be shown: values of sensitive variables
	secrets map[string]bool
	forms   []string // see secretForms
	list    Diagnostics
	seen    map[Diagnostic]bool
	starts  map[string][]int // byte offsets of line starts, by file
}

func newFindings() *findings {
	return &findings{
		sources: map[string][]byte{}, seen: map[Diagnostic]bool{},
		secrets: map[string]bool{}, starts: map[string][]int{},
	}
}

// add records a diagnostic once.
func (f *findings) add(d Diagnostic) {
	if len(f.list) >= maxDiagnostics {
		return
	}
	key := Diagnostic{Summary: d.Summary, Detail: d.Detail, Range: d.Range}
	if f.seen[key] {
		return
	}
	f.seen[key] = true
	f.list = append(f.list, d)
}

// errorAt records an error at a place. The summary is one line, the detail whole
// sentences.
func (f *findings) errorAt(at hcl.Range, summary, detail, hint string) {
	f.add(Diagnostic{Summary: summary, Detail: detail, Hint: hint, Range: rangeOf(at)})
}

// warningAt records a warning at a place.
func (f *findings) warningAt(at hcl.Range, summary, detail, hint string) {
	f.add(Diagnostic{Warning: true, Summary: summary, Detail: detail, Hint: hint, Range: rangeOf(at)})
}

// sorted gives the diagnostics in file and line order, with excerpts, and with
// no trace of a secret. The excerpts are cut here, at the end, because only
// then is it known which variables are sensitive.
func (f *findings) sorted() Diagnostics {
	for i := range f.list {
		d := &f.list[i]
		d.Excerpt = f.excerpt(d.Range)
		d.Summary = f.clean(d.Summary)
		d.Detail = f.clean(d.Detail)
		d.Hint = f.clean(d.Hint)
		d.Excerpt = f.redact(d.Excerpt)
	}
	slices.SortStableFunc(f.list, func(a, b Diagnostic) int {
		return cmp.Or(
			strings.Compare(a.Range.File, b.Range.File),
			cmp.Compare(a.Range.StartLine, b.Range.StartLine),
			cmp.Compare(a.Range.StartColumn, b.Range.StartColumn),
			strings.Compare(a.Summary, b.Summary),
			strings.Compare(a.Detail, b.Detail))
	})
	return f.list
}

func (f *findings) clean(s string) string {
	return f.redact(providers.Printable(s, 2000))
}

// redact is the second net below the marks of cty: should a value have found
// its way into a message after all, it is cut out. Values of fewer than four
// bytes are left to the marks, since cutting them would garble every text. A
// long value may have been cut short in the text, so its beginning is enough,
// and then nothing of the text is kept.
func (f *findings) redact(s string) string {
	if f.forms == nil {
		f.forms = secretForms(f.secrets)
	}
	for _, form := range f.forms {
		switch {
		case len(form) == longSecret && strings.Contains(s, form):
			return "(sensitive)"
		case len(form) < longSecret:
			s = strings.ReplaceAll(s, form, "(sensitive)")
		}
	}
	return s
}

const longSecret = 64

// secretForms are the values as they would look in a message, the longest
// first, so that one value inside another leaves no rest.
func secretForms(secrets map[string]bool) []string {
	forms := []string{}
	for secret := range secrets {
		printable := providers.Printable(secret, 2*longSecret)
		forms = append(forms, secret[:min(len(secret), longSecret)], printable[:min(len(printable), longSecret)])
	}
	slices.SortFunc(forms, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b))
	})
	return slices.Compact(forms)
}

// excerpt is the line that r starts on, made printable. It is empty for places
// outside the configuration files and for lines that carry a hidden value.
func (f *findings) excerpt(r Range) string {
	src, ok := f.sources[r.File]
	if !ok || r.StartLine < 1 {
		return ""
	}
	for _, h := range f.hidden {
		if h.Filename == r.File && h.Start.Line <= r.StartLine && r.StartLine <= h.End.Line {
			return ""
		}
	}
	starts := f.lineStarts(r.File, src)
	if r.StartLine > len(starts) {
		return ""
	}
	line := src[starts[r.StartLine-1]:]
	line = line[:min(len(line), 4*maxExcerpt)]
	if end := bytes.IndexByte(line, '\n'); end >= 0 {
		line = line[:end]
	}
	text := strings.ReplaceAll(strings.TrimRight(string(line), "\r"), "\t", " ")
	return providers.Printable(text, maxExcerpt)
}

func (f *findings) lineStarts(file string, src []byte) []int {
	if starts, ok := f.starts[file]; ok {
		return starts
	}
	starts := []int{0}
	for i, c := range src {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	f.starts[file] = starts
	return starts
}

// suggest is the entry of known that name was most likely meant to be, or "".
// A third of the letters may differ. The work is bounded: long names and long
// lists of names are not compared.
func suggest(name string, known []string) string {
	if len(name) > 40 {
		return ""
	}
	best, distance := "", max(len(name)/3, 1)+1
	for _, candidate := range known[:min(len(known), 2000)] {
		if len(candidate) > len(name)+distance || len(candidate)+distance < len(name) {
			continue
		}
		d := levenshtein.Distance(strings.ToLower(name), strings.ToLower(candidate), nil)
		if d < distance {
			best, distance = candidate, d
		}
	}
	return best
}

// didYouMean is the hint for a name that is not in known; empty when nothing is
// near, and after the first hundred diagnostics, where nobody reads it.
func (f *findings) didYouMean(name, prefix string, known []string) string {
	if len(f.list) > 100 {
		return ""
	}
	if s := suggest(name, known); s != "" {
		return fmt.Sprintf("did you mean `%s%s`?", prefix, s)
	}
	return ""
}
