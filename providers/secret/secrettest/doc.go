// Package secrettest is the story that every [secret.Store] passes: operations
// in order, with the answers that are expected of all kinds of stores. A store
// is done when [Conformance] passes over it.
//
//	func TestConformance(t *testing.T) {
//		secrettest.Conformance(t, func(t *testing.T) secrettest.World { … })
//	}
//
// What differs between kinds of stores is data in a [World], not another story.
// Every error that a store returned on the way is searched for the payloads
// that were used.
package secrettest
