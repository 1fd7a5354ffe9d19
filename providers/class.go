package providers

import (
	"context"
	"errors"
	"time"
)

// Class says what kind of failure an error is. The class, never the text,
// decides about retrying, skipping and exit codes.
type Class uint8

const (
	// Unknown is an error nobody classified: it is not retried.
	Unknown Class = iota
	// NotFound: the repository, tag, manifest, blob or secret does not exist.
	NotFound
	// Conflict: the world is not what the plan saw, or content does not match its digest.
	Conflict
	// Denied: credentials are missing, wrong, or lack a right.
	Denied
	// Throttled: the other side asks us to slow down; retried after a pause.
	Throttled
	// Transient: network trouble, 5xx, timeouts; retried with backoff.
	Transient
	// Invalid: the request or the answer breaks the protocol; retrying can not help.
	Invalid
	// Unsupported: the other side can not do this at all.
	Unsupported
	// Canceled: our own context ended.
	Canceled
)

var classNames = [...]string{"unknown", "not_found", "conflict", "denied", "throttled", "transient", "invalid", "unsupported", "canceled"}

// String is the name used in the journal, in events and in reports.
func (c Class) String() string { return classNames[c] }

// Retryable reports whether trying the same thing again may succeed.
func (c Class) Retryable() bool { return c == Throttled || c == Transient }

// Error is a failure with a class, written for the person at three in the
// morning: what was tried, on what, what happened, and a hint if there is one.
type Error struct {
	Class Class
	Op    string        // what was tried: "read manifest", "upload blob"
	On    string        // on which address: "ghcr.io/acme/api:1.2"
	Err   error         // what happened
	Hint  string        // the way out, a whole sentence; often empty
	After time.Duration // earliest sensible retry, from Retry-After; 0 when not told
}

// Error is "op on: what happened", without the hint.
func (e *Error) Error() string {
	text := e.Op
	if e.On != "" {
		text += " " + e.On
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// ClassOf is the class of the outermost [Error] in err's chain; [Canceled] for
// a context that ended, [Unknown] for anything else.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Canceled
	}
	return Unknown
}

// HintOf is the first hint in err's chain; empty when nobody left one.
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
