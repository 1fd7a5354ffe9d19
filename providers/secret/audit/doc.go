// Package audit is the log of who read and wrote which secret: JSON Lines, one
// file for each workspace and month, each line chained to the one before it.
//
//	Client ── Intend ──> append, sync ── then the secret is touched ── Outcome ──> append, sync
//
//	prod.2026-02.jsonl   …
//	prod.2026-03.jsonl   {"seq":41,…,"prev":"9c1e…","hash":"07ab…"}
//	prod.lock            the kernel's lock of whoever appends
//
// The hash of a line is SHA-256(prev | the line up to its hash), so a line
// that was edited, dropped, repeated or moved is found by [Verify]. A chain
// alone can be made anew from any point on by whoever can write the file: only
// a [Head] that was kept somewhere else (the output of a run, the state) shows
// that, and that the end was cut off.
//
// A line never holds a payload, its length, a key inside it or anything
// computed from it.
//
// Start reading at [Open] and [Log.Intend]; line.go has the format.
package audit
