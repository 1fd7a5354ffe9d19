// Package disk is the edge towards the file system for everything that
// freightliner keeps: the state, the file store of secrets, the audit log.
//
// [FS] is the seam, small enough that a fake can make every operation fail and
// every crash happen (statefile/statefiletest); [OS] is the real one, within an
// os.Root. Files are opened by [OpenPlain], which follows no link and takes
// nothing of other users.
package disk
