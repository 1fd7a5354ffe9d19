package secret

import (
	"context"

	"freightliner/providers"
)

// Audit is where every read and write of a payload is recorded, before and
// after. It never learns a payload, a length or a key name.
type Audit interface {
	// Intend records durably what is about to be done. On an error it must not
	// be done.
	Intend(ctx context.Context, entries ...Entry) error
	// Outcome records how it ended. The effect has happened: an error here is
	// told, and takes nothing back.
	Outcome(ctx context.Context, entries ...Entry) error
}

// Operation is what is done with a secret.
type Operation string

const (
	OpRead    Operation = "read"
	OpWrite   Operation = "write"
	OpUpdate  Operation = "update"
	OpDelete  Operation = "delete"
	OpRestore Operation = "restore"
)

// Entry is one line's worth of what is done.
type Entry struct {
	Operation Operation
	Reason    string // why: "plan", "apply", "copy", "registry credential", "secret get"
	Address   string // the block; empty for direct commands
	Store     string // Store.Place
	Principal string // who the store takes us for; empty when it does not tell
	Name      string
	Before    string // version id before, where known
	After     string // version id read or made; only in an outcome
	Token     string // of a write
	// Failure is why it did not succeed; only in an outcome, nil for success.
	Failure error
}

// Class is the class of the failure; "" for success.
func (e Entry) Class() string {
	if e.Failure == nil {
		return ""
	}
	return providers.ClassOf(e.Failure).String()
}
