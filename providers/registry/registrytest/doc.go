// Package registrytest is the harness for tests that need a registry: the
// embedded one in memory, with the manners of any kind of registry, or the
// real distribution registry as a process; with a recorder of every request,
// scripted faults, generated images, and one conformance story that every
// registry here must pass.
//
//	Start ─────────> Ledger ─ Recorder ─ Faults ─ Personality ─ embedded.New(memory or directory)
//	Distribution ──> Recorder ─ Faults ─ reverse proxy ─ registry process       ^
//	                    ^          (only when WithRecorder is given)            │ back door
//	Fill, Push ─────────┴───────────────────────────────────────────────────────┘
//	Inventory, VerifyTree, Equal, Conformance read it all back
//
// # Personalities
//
// Start(t, As(ECR)) is a registry with the quirks of Amazon's: what uploads
// look like, when a mount works, what must be created first, which tags may
// move, what can be deleted, how listings page, and the registry's own
// interface beside the distribution's, on the same address. A [Personality] is
// data that the middleware in rules*.go reads; the embedded registry below is
// the same for all. Without [WithLogin] it is open to anybody.
//
// What a test fills in or reads back with this package goes by the back door:
// it is not recorded, meets no rule and no login, and creates what has to
// exist first. Only [Conformance] and the client under test use the front.
//
// A test sets a world with [Server.CreateRepository], [Server.Protect],
// [Server.Backdate], [Server.AllowMounts], [Server.CollectGarbage], [WithLag],
// [WithPullLimit] and a clock in [WithOptions], and breaks it with
// [Server.Faults].
//
// To add one:
//
//  1. Write <kind>.go with one Personality: Traits say what Conformance is to
//     expect, the rules make it so, and a comment at each says where it is
//     known from. What is not known stays zero, which is what the embedded
//     registry does, or is said to be a guess.
//  2. If the registry has an interface of its own, answer it from what the site
//     has written down (repositories, places), in a function for the field api.
//  3. Name it in [Personalities], so that it is held to Conformance, open and
//     with a login.
//  4. Pin each quirk by a row in quirks_test.go.
//
// # Attacks
//
// [Attacks] are answers that lead a client elsewhere, to be armed in a server's
// faults; [Evil] is a server that takes what it is given, [Trap] an address
// that fails the test when anybody comes, and a [Ledger] keeps what all of them
// received and finds a [Canary] in it, however it was encoded.
//
// It imports the providers package and the embedded registry, never the
// client, so that the client's own tests can import it. It refuses to skip: a
// registry that can not be built or started fails the test. It is no
// emulator: of an interface there is what a mirror needs.
//
// Everything that fails calls t.Fatal, so call it from the test's goroutine.
//
// Start reading at [Start], then [Personality], [Distribution] and [Fill].
package registrytest
