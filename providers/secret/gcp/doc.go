// Package gcp is the room of Google Cloud Secret Manager.
//
//	open.go      options, the connection
//	call.go      one call: pace, deadline, what is safe to repeat
//	pace.go      token buckets per quota group
//	write.go     one version for one intended change; settle.go looks after a crash
//	claim.go     the annotation that says who is at work
//	look.go      what stands after the expected version
//	read.go list.go history.go metadata.go delete.go limits.go errors.go
//
// AddSecretVersion takes neither an etag nor an idempotency token, and a secret's
// etag does not move when a version is added. A write is therefore made of a
// claim and an add:
//
//	GetSecret            etag, the last claim
//	GetSecretVersion(n)  the expected version is there (numbers start again
//	                     when a secret was made anew)
//	Access(n+1)          nothing newer is there: by number, since only that is
//	                     strongly consistent, lists and "latest" are not
//	UpdateSecret(etag)   the claim: our token, n, and until when our add can
//	                     still arrive. A conflict: somebody else is at work
//	AddSecretVersion     with a deadline at that moment, and CRC-32C
//	Access(n+2)          no second delivery of our add
//
// An add is repeated only when the service said that it did nothing, or when
// its time is over and n+1 is still not there. Whoever comes after a crash finds
// the claim and waits for the same moment. What one writer can not exclude is a
// foreign one that takes no claims and adds between our look at n+1 and our add:
// the number that comes back tells, and the answer is a conflict.
//
// The generated messages and stub of cloud.google.com/go/secretmanager are used,
// and not its client: that one writes whole requests and answers, payloads
// included, to standard error when GOOGLE_SDK_GO_LOGGING_LEVEL asks for it, and
// repeats reads by a clock of its own.
//
// The package refuses to take "permission denied (or it may not exist)" for
// absence, to delete for ever unless told, and to send a token in plain text.
package gcp
