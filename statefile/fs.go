package statefile

import (
	"os"

	"freightliner/providers/disk"
)

// The file system that states lie on, under the names that this package's
// callers know.
type (
	FS     = disk.FS
	File   = disk.File
	Info   = disk.Info
	FileID = disk.FileID
)

// OS is the directory root on the machine's disk; see [disk.OS].
func OS(root *os.Root) FS { return disk.OS(root) }
