// Package registrytest is the harness for tests that need a registry: the
// embedded one in memory, or the real distribution registry as a process, with
// a recorder of every request, scripted faults, generated images, and one
// conformance story that every registry here must pass.
//
//	Start ─────────> Recorder ─ Faults ─ embedded.New(memory or directory)
//	Distribution ──> Recorder ─ Faults ─ reverse proxy ─ registry process
//	                    ^          (only when WithRecorder is given)
//	Fill, Push ─────────┘
//	Inventory, VerifyTree, Equal, Conformance read it all back
//
// It imports the providers package and the embedded registry, never the
// client, so that the client's own tests can import it. It refuses to skip: a
// registry that can not be built or started fails the test.
//
// Everything that fails calls t.Fatal, so call it from the test's goroutine.
//
// Start reading at [Start], then [Distribution] and [Fill].
package registrytest
