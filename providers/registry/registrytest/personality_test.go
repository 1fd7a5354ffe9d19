package registrytest

import "testing"

// small is p with chunks that a test can afford to send many of. The bound is
// data, so it is the same code that refuses one byte less.
func small(p Personality) Personality {
	if p.Upload.MinChunk > 0 {
		p.Upload.MinChunk, p.Traits.MinChunk = 1<<10, 1<<10
	}
	return p
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
