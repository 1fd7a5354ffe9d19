package statefile

import (
	"errors"
	"fmt"

	"freightliner/providers"
	"freightliner/providers/disk"
)

// What a state file can be instead of valid. Every error of reading wraps one
// of these, as a [*Damage] inside a [*providers.Error] with a hint. All but
// ErrNewer and ErrUnsafe also match ErrDamaged.
var (
	ErrDamaged         = errors.New("the state is damaged")
	ErrTruncated       = errors.New("the state is truncated")
	ErrConflictMarkers = errors.New("the state has conflict markers")
	ErrConverted       = errors.New("the state went through a text conversion")
	ErrForeignJournal  = errors.New("the journal belongs to another snapshot")

	// ErrNewer: a newer release wrote the file, by its version, a required
	// feature, or members and kinds that writing would lose.
	ErrNewer = errors.New("the state was written by a newer release")

	// ErrUnsafe: the file is not a plain file of ours: a link, a FIFO, a
	// directory, another user's file.
	ErrUnsafe = disk.ErrUnsafe
)

// What can happen to a state while it is held.
var (
	// ErrLocked: somebody else has the lock; a [*LockedError] names the holder.
	ErrLocked = errors.New("the state is locked")

	// ErrReplaced: the file under a running apply was replaced or edited. What
	// the run did was saved beside it, and the error says where.
	ErrReplaced = errors.New("the state file was changed by somebody else during the run")

	// ErrNotDurable: a write or sync of the journal failed. The run must stop
	// starting work; the error says where what was done is saved.
	ErrNotDurable = errors.New("the journal could not be written")

	// ErrUndecided: intents are open, so the journal can not be folded away.
	ErrUndecided = errors.New("the journal has intents that nobody looked at")

	// ErrClosed: the journal was used after Close or Abandon.
	ErrClosed = errors.New("the journal is closed")
)

// Damage says where a state file stops making sense, and how.
type Damage struct {
	Kind   error  // ErrDamaged, ErrTruncated, ErrConflictMarkers, ErrConverted, ErrForeignJournal or ErrNewer
	Line   int    // from 1
	Offset int64  // of the line's first byte, from 0
	What   string // what is wrong with it
}

// Error is "line 7 (byte 1032): what is wrong".
func (d *Damage) Error() string {
	return fmt.Sprintf("%v: line %d (byte %d): %s", d.Kind, d.Line, d.Offset, d.What)
}

// Is makes every damage match its kind, and all kinds but ErrNewer match
// ErrDamaged.
func (d *Damage) Is(target error) bool {
	return target == d.Kind || target == ErrDamaged && d.Kind != ErrNewer
}

// hint is the way out of each kind of damage.
func (d *Damage) hint() string {
	switch d.Kind {
	case ErrTruncated:
		return "Restore the file from git or from .freightliner, or run 'freightliner state repair' to keep the records that are whole."
	case ErrConflictMarkers:
		return "Run 'freightliner state merge' on the two sides, or check out one side and apply again."
	case ErrConverted:
		return "Keep git from converting it: 'freightliner init' writes the .gitattributes line; then check the file out again."
	case ErrForeignJournal:
		return "The snapshot was changed while a journal was attached. Run 'freightliner state repair', or restore the file that the journal belongs to."
	case ErrNewer:
		return "Use the release of freightliner that wrote it, or a later one."
	}
	return "Run 'freightliner state verify' to see every bad line, 'freightliner state repair' to keep the records that are whole."
}

func (d *Damage) class() providers.Class {
	switch d.Kind {
	case ErrNewer:
		return providers.Unsupported
	case ErrConflictMarkers, ErrForeignJournal:
		return providers.Conflict
	}
	return providers.Invalid
}

// failed wraps err for the edge: what was tried, on which file.
func failed(op, path string, err error) error {
	if err == nil {
		return nil
	}
	out := &providers.Error{Class: providers.ClassOf(err), Op: op, On: path, Err: err}
	var d *Damage
	if errors.As(err, &d) {
		out.Class, out.Hint = d.class(), d.hint()
	}
	switch {
	case errors.Is(err, ErrReplaced):
		out.Class = providers.Conflict
		out.Hint = "Run 'freightliner state merge' on the two files, or apply again: what is already done is recognised."
	case errors.Is(err, ErrUnsafe):
		out.Class = providers.Denied
		out.Hint = "Replace it by a plain file that belongs to you; freightliner does not write through links or into other people's files."
		if op == "lock state" {
			out.Hint = "The directory " + privateDir + " beside the state must be yours alone (chmod 700), with a plain file for the lock; you may remove it when no run is under way."
		}
	case errors.Is(err, ErrNotDurable):
		out.Hint = "Check the disk and its free space, then apply again: what was saved is recognised, the rest is looked at."
	case errors.Is(err, ErrUndecided):
		out.Class = providers.Conflict
		out.Hint = "Apply again: the next run looks at them first."
	case errors.Is(err, ErrLineage):
		out.Class = providers.Conflict
		out.Hint = "They were created apart: keep one of them, or run 'freightliner state rebuild'."
	}
	return out
}
