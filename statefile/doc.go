// Package statefile keeps what freightliner knows and owns: one file, sorted
// JSON Lines, made to be committed to git, which doubles as the checkpoint of
// an apply that was cut off.
//
//	{"freightliner":"state","v":1,…}      header        ┐
//	{"a":"image.nginx","k":"image",…}     records,      │ the snapshot: canonical,
//	{"a":"tree.platform/api:1",…}         sorted by a   │ the same bytes for the same facts
//	{"end":"1f0c9a3e"}                    end line      ┘
//	{"j":"run",…}                         ┐ the journal: appended while an
//	{"j":"done",…}                        │ apply runs, folded into the
//	{"j":"close",…}                       ┘ snapshot when it ends
//
//	Read ──> *State (plan, drift, show: no lock, never writes)
//
//	AcquireLock ──> Begin ──> *Journal ── Done, Intent, Fail ──> Close
//	                  └────> *State
//
// The rules, as docs/state-format.md has them to the byte: every line carries
// a CRC-32C; every record names the checksum of the key before it, so that a
// lost, repeated or moved line is found and an ordinary three-way text merge
// gives a valid file or none; the file is only ever appended to or replaced
// whole by rename; a failed write or sync is final for the file it hit.
//
// The package refuses to guess: what is damaged, newer or merged wrongly is an
// error that names line and offset, and the file stays as it is. It refuses to
// hold secrets: no record has a place for one. It does not print, does not
// read the environment, and reaches the disk, the clock and randomness only
// through what it is handed ([FS], [Clock], an io.Reader).
//
// Start reading at [Record] and docs/state-format.md, then [Read], [Begin].
package statefile
