package registrytest

import (
	"net/http"
	"testing"
)

// small is p with chunks that a test can afford to send many of. The bound is
// data, so it is the same code that refuses one byte less.
func small(p Personality) Personality {
	if p.Upload.MinChunk > 0 {
		p.Upload.MinChunk, p.Traits.MinChunk = 1<<10, 1<<10
	}
	return p
}

// What becomes of several tags at once is the registry's own matter.
func TestSeveralTagsConform(t *testing.T) {
	for name, rules := range map[string]TagRules{
		"a header for each": {Together: true, Most: 46}, // zot
		"one header":        {Together: true, Listed: true, Skips: true},
		"refused":           {Refusal: Refusal{Status: http.StatusBadRequest, Code: "MANIFEST_INVALID"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := Generic
			p.Manifest.Tags = rules
			p.Traits.TagsTogether, p.Traits.TagsRefused = rules.Together, rules.Refusal.Status
			Conformance(t, Start(t, As(p)).Host(), p.Traits)
		})
	}
}

// Every personality passes the story, open and behind its own login.
func TestPersonalitiesConform(t *testing.T) {
	for _, p := range Personalities {
		p = small(p)
		t.Run(p.Kind, func(t *testing.T) {
			t.Parallel()
			Conformance(t, Start(t, As(p)).Host(), p.Traits)
		})
		t.Run(p.Kind+" with a login", func(t *testing.T) {
			t.Parallel()
			Conformance(t, Start(t, As(p), WithLogin()).Host(), p.Traits)
		})
	}
}
