package statefile

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"

	"freightliner/providers"
)

// Repair reads the state at path and keeps what can be believed, record by
// record, whatever is wrong around it:
//
//   - every record whose own checksum holds, wherever it stands; if two differ
//     at one address, the first (in a conflict: ours);
//   - on top of them every done line that chains with the line before it as
//     that line says of itself; a journal of another snapshot too, since each
//     line tells of something that was done.
//
// Line ends and byte order marks that a conversion put in are taken out first.
// What is dropped is listed with its line, and so are intents that were open.
// Nothing is written; see [Replace]. A dropped record is one that freightliner
// does not own any more: it will be found again by looking, and nothing is
// deleted because of it. A missing file is an error, as is a newer one.
func Repair(fsys FS, path string, random io.Reader) (*State, []Damage, error) {
	s, dropped, err := repair(fsys, path, random)
	return s, dropped, failed("repair state", path, err)
}

func repair(fsys FS, path string, random io.Reader) (*State, []Damage, error) {
	if random == nil {
		random = rand.Reader
	}
	buf, _, err := readFile(fsys, path)
	if err != nil {
		return nil, nil, err
	}
	buf = bytes.TrimPrefix(buf, []byte("\xef\xbb\xbf"))
	buf = bytes.ReplaceAll(buf, []byte("\r\n"), []byte("\n"))
	r := rescuer{buf: buf, records: map[string]entry{}, intents: map[string]Intent{}}
	r.lineage, _, _ = parseHeader(buf)
	if _, _, bad := parseHeader(buf); bad != nil {
		if bad.Kind == ErrNewer {
			return nil, nil, bad
		}
		if r.lineage, err = newLineage(random); err != nil {
			return nil, nil, err
		}
		r.drop(0, 1, bad.What+"; the state gets a new lineage")
	}
	for at, n := 0, 1; at < len(buf); n++ {
		line := lineAt(buf, at)
		if n > 1 || !bytes.HasPrefix(line, []byte(headerOpen)) {
			r.line(line, at, n)
		}
		at += len(line) + 1
	}
	for _, address := range slices.Sorted(maps.Keys(r.intents)) {
		r.dropped = append(r.dropped, Damage{Kind: ErrUndecided, Line: 0, What: fmt.Sprintf("intent %s at %s: look at what is there", r.intents[address].Op, providers.Printable(address, 0))})
	}
	s := &State{snap: snapshot{lineage: r.lineage}, replay: replay{changes: r.records}}
	s.keys = s.replay.keys()
	out, err := s.rewritten()
	if err != nil {
		return nil, nil, err
	}
	if err := out.writable(); err != nil {
		return nil, nil, err
	}
	return out, r.dropped, nil
}

func newLineage(random io.Reader) (string, error) {
	var lineage [16]byte
	if _, err := io.ReadFull(random, lineage[:]); err != nil {
		return "", fmt.Errorf("no randomness: %w", err)
	}
	return hex.EncodeToString(lineage[:]), nil
}

// rescuer collects what can be believed.
type rescuer struct {
	buf      []byte
	lineage  string
	records  map[string]entry
	intents  map[string]Intent
	previous uint32 // what the line before says is its checksum
	chained  bool   // the line before is an end line or a journal line
	dropped  []Damage
}

func (r *rescuer) drop(at, n int, what string) {
	r.dropped = append(r.dropped, Damage{Kind: ErrDamaged, Line: n, Offset: int64(at), What: what})
}

func (r *rescuer) line(line []byte, at, n int) {
	if last, ok := parseEnd(line); ok {
		r.previous, r.chained = last, true
		return
	}
	if bytes.HasPrefix(line, []byte(journalOpen)) {
		r.journal(line, at, n)
		return
	}
	r.chained = false
	if isMarker(line) {
		r.drop(at, n, "a conflict marker")
		return
	}
	address, _, _, what := parseRecord(line, new(Record))
	if what != "" {
		r.drop(at, n, what)
		return
	}
	e, _, _ := splitRecord(line)
	if old, ok := r.records[address]; ok && old != e {
		r.drop(at, n, "another record of "+providers.Printable(address, 0)+" stands before it")
		return
	}
	r.records[address] = e
}

func (r *rescuer) journal(line []byte, at, n int) {
	body, sum, ok := cutSum(line)
	holds := ok && r.chained && chained(r.previous, body) == sum
	r.previous, r.chained = sum, ok
	if !holds {
		r.drop(at, n, "the journal line does not hold, or not behind the line before it")
		return
	}
	l, ok := parseJournalLine(body)
	if !ok {
		r.drop(at, n, "this release does not know such a journal line")
		return
	}
	switch l.kind {
	case "done":
		delete(r.intents, l.addr)
		if l.rest == "" {
			delete(r.records, l.addr)
		} else {
			r.records[l.addr] = entry{key: l.key, rest: l.rest}
		}
	case "intent":
		r.intents[l.addr] = Intent{Address: l.addr, Op: l.op, Token: l.token}
	case "fail":
		if settles(l.class) {
			delete(r.intents, l.addr)
		}
	}
}

// Replace puts s, canonical, into the place of the state at path: the result of
// [Merge], [Repair] or [Build]. The old file is kept as .freightliner/NAME.bak.
// The lock must be held. was is the id of the file that s was made from, as
// [FileDigest] gives it, or empty if there must be none: a file that is another
// by now stays, and the error wraps [ErrReplaced]. So does a file that a newer
// release wrote; the error wraps [ErrNewer].
func Replace(ctx context.Context, lock *Lock, path string, was providers.Digest, s *State, opts Options) (notes []string, err error) {
	if opts.Rand == nil {
		opts.Rand = rand.Reader
	}
	if !lock.guards(path) {
		return nil, failed("replace state", path, errors.New("the lock of its directory is not held"))
	}
	if err := errors.Join(ctx.Err(), s.writable(), notNewer(lock.fsys, path)); err != nil {
		return nil, failed("replace state", path, err)
	}
	still := func() error {
		now, err := FileDigest(lock.fsys, path)
		if err == nil && now != was {
			err = ErrReplaced
		}
		return err
	}
	_, note, err := replace(lock.fsys, path, opts.Rand, s.fill, still, was != "")
	if note != "" {
		notes = append(notes, note)
	}
	return notes, failed("replace state", path, err)
}

// notNewer refuses a file that a newer release wrote, whatever is to be put in
// its place: what we do not understand we would lose. Any other file, a broken
// one too, may be replaced by whoever decided to.
func notNewer(fsys FS, path string) error {
	s, err := read(fsys, path)
	switch {
	case errors.Is(err, ErrNewer):
		return err
	case err == nil:
		return s.writable()
	}
	return nil // still judges what the caller knows of it
}

// FileDigest is the SHA-256 of all bytes of the file at path, whatever they
// are; empty when there is no file.
func FileDigest(fsys FS, path string) (providers.Digest, error) {
	buf, _, err := readFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return providers.SHA256(buf), nil
}

// Build makes a state out of records in any order, as for a rebuild from the
// live world. An empty lineage asks for a new one, out of random (nil: the
// machine's). Two different records at one address are an error.
func Build(lineage string, records iter.Seq[Record], random io.Reader) (*State, error) {
	if random == nil {
		random = rand.Reader
	}
	if lineage == "" {
		var err error
		if lineage, err = newLineage(random); err != nil {
			return nil, failed("build state", "", err)
		}
	}
	changes := map[string]entry{}
	for r := range records {
		e, err := encode(&r)
		if old, ok := changes[r.Address]; err == nil && ok && old != e {
			err = fmt.Errorf("two records at %s", providers.Printable(r.Address, 0))
		}
		if err != nil {
			return nil, failed("build state", "", err)
		}
		changes[r.Address] = e
	}
	s := &State{snap: snapshot{lineage: lineage}, replay: replay{changes: changes}}
	s.keys = s.replay.keys()
	out, err := s.rewritten()
	return out, failed("build state", "", err)
}
