package registrytest

import "testing"

// Every personality passes the story, open and behind its own login.
func TestPersonalitiesConform(t *testing.T) {
	for _, p := range Personalities {
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
