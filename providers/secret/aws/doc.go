// Package aws is AWS Secrets Manager behind [secret.Store].
//
//	open.go ──> Store ──> call.go   one question: pace, try, judge, try again
//	              |         |──> pace.go    budgets per quota group
//	              |         └──> errors.go  classes and hints
//	   list.go read.go write.go settle.go metadata.go delete.go limits.go
//
// A change of a value is two steps, since the service has no conditional put:
//
//	PutSecretValue(token, label freightliner-<token>)       a version nobody reads
//	UpdateSecretVersionStage(AWSCURRENT, expected -> token)  fails unless expected still is current
//
// The token is the version's id, so each step can be repeated, and whoever comes
// after a crash sees how far it went. Reads of the service lag behind its writes;
// nothing here concludes from one read that something is absent or has moved,
// where a write depends on it.
//
// The package refuses to keep payloads, to show what an answer says about a call
// that carried one, to let the SDK log or repeat requests, and to read the
// environment: keys, transport, clock and randomness are handed in.
//
// Start reading at [New], then Write in write.go.
package aws
