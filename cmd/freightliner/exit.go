package main

import (
	"errors"
	"fmt"

	"freightliner/providers"
)

// The exit codes, part of the contract with pipelines: 0, 1 and 2 mean what
// they mean in Terraform.
const (
	exitDone        = 0
	exitError       = 1
	exitChanges     = 2   // plan -detailed-exitcode, or drift found by drift
	exitPartial     = 3   // some actions failed; state saved, run again to resume
	exitStale       = 4   // preconditions no longer held
	exitLocked      = 5   // lock not obtained
	exitState       = 6   // state damaged, or from a newer version
	exitRefused     = 7   // a guard refused
	exitInterrupted = 130 // interrupted; state saved
)

// exit is an error that names its exit code. With a nil err everything was
// told already and only the code is left to say.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// hinted is an error with a way out, for failures that no provider met.
func hinted(err error, hint string) error {
	return &problem{err: err, hint: hint}
}

type problem struct {
	err  error
	hint string
}

func (p *problem) Error() string { return p.err.Error() }
func (p *problem) Unwrap() error { return p.err }

// hintOf finds the way out in err's chain, ours first.
func hintOf(err error) string {
	var p *problem
	if errors.As(err, &p) && p.hint != "" {
		return p.hint
	}
	return providers.HintOf(err)
}
