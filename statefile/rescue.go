package statefile

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"

	"freightliner/providers/disk"
)

// rescue answers a failed write or sync. The file is not trusted any more:
// after a failed sync the kernel may show pages that are not on the disk, and
// after a failed write its end is unknown. So the whole state, with everything
// remembered, goes into a new file, out of memory, and the journal continues
// there:
//
//  1. in the place of the state, if that still is the file we know;
//  2. beside it, under a name of its own;
//  3. at the emergency path;
//  4. in memory, for Close to hand to the last resort.
//
// The journal's error stays set whichever of them works, and each is tried
// once in a run: a disk that failed twice is not asked a third time.
func (j *Journal) rescue(cause error) {
	if j.err == nil {
		j.err = fmt.Errorf("%w: %w", ErrNotDurable, cause)
	} else {
		j.err = errors.Join(j.err, cause)
	}
	j.timer = nil
	if err := j.letGo(); err != nil {
		j.err = errors.Join(j.err, err)
	}
	s, err := j.current().rewritten()
	if err != nil {
		j.err = errors.Join(j.err, err)
		return
	}
	intents := maps.Clone(j.intents)
	places := append([]Place{{j.fsys, j.path}}, j.otherPlaces()...)
	for j.rescues < len(places) {
		place := places[j.rescues]
		j.rescues++
		if j.rescues == 1 {
			err = j.restart(s, intents)
		} else {
			err = j.moveOut(s, place, intents)
		}
		if err == nil {
			j.err = fmt.Errorf("%w; everything done is saved in %s, written anew", j.err, place.Path)
			return
		}
		j.err = errors.Join(j.err, err)
	}
}

// rewritten is s without a journal, in memory of its own.
func (s *State) rewritten() (*State, error) {
	var out bytes.Buffer
	if err := s.fill(&out); err != nil {
		return nil, err
	}
	fresh, bad := parse(out.Bytes())
	if bad != nil {
		return nil, fmt.Errorf("the state in memory does not hold: %w", bad)
	}
	return fresh, nil
}

// fill writes the whole state, canonical.
func (s *State) fill(w io.Writer) error {
	_, err := s.writeCanonical(w)
	return err
}

// otherPlaces are where a state goes that can not go to its own place.
func (j *Journal) otherPlaces() []Place {
	var places []Place
	if name, err := disk.RandomName(j.opts.Rand, j.path+".saved-"); err == nil {
		places = append(places, Place{j.fsys, name})
	}
	if j.opts.Emergency != nil {
		places = append(places, *j.opts.Emergency)
	}
	return places
}

// restart writes s into the state's own place and continues there.
func (j *Journal) restart(s *State, intents map[string]Intent) error {
	note, err := j.replaceState(s, true)
	if note != "" {
		j.note("%s", note)
	}
	if err != nil {
		return err
	}
	return j.continueIn(s, Place{j.fsys, j.path}, intents)
}

// moveOut writes s to another place and continues there.
func (j *Journal) moveOut(s *State, to Place, intents map[string]Intent) error {
	info, err := saveNew(to, s)
	if err != nil {
		return err
	}
	s.file = info
	j.away = true
	return j.continueIn(s, to, intents)
}

// saveNew writes s to a new file, whose name is durable too: a run that ends
// tells its user to look there.
func saveNew(to Place, s *State) (Info, error) {
	info, err := disk.WriteNew(to.FS, to.Path, s.fill)
	if err == nil {
		err = to.FS.SyncDir(path.Dir(to.Path))
	}
	return info, err
}

// continueIn goes on behind a fresh snapshot: with a run line, since the file
// has none, and the open intents, since the snapshot can not hold them.
func (j *Journal) continueIn(s *State, where Place, intents map[string]Intent) error {
	size := int64(len(s.snap.buf))
	file, err := openAppend(where, s.file.ID, size)
	if err != nil {
		return err
	}
	j.extend(s)
	j.file, j.where, j.synced = file, where, size
	// Only what follows makes the file a journal; a failure here leaves j.hash
	// and j.offset those of the bytes that are certain.
	buf := j.appendRun(nil)
	for _, address := range slices.Sorted(maps.Keys(intents)) {
		i := intents[address]
		buf = j.appendLine(buf, line{kind: "intent", addr: address, key: text(appendString(nil, address)), op: i.Op, token: i.Token})
	}
	j.intents = intents
	_, err = file.Write(buf)
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		return errors.Join(err, j.letGo())
	}
	j.offset += int64(len(buf))
	j.synced = j.offset
	j.hash.Write(buf)
	j.journalled = true
	return nil
}

// lastResort hands the whole state to the writer of the options, when no file
// has it.
func (j *Journal) lastResort() error {
	if j.opts.LastResort == nil {
		return errors.New("no file could take the state of this run")
	}
	if err := j.current().fill(j.opts.LastResort); err != nil {
		return fmt.Errorf("print the state: %w", err)
	}
	return errors.New("no file could take the state of this run, so it was printed")
}

// sameBytes makes sure that the file at name is the file id and has exactly
// the size bytes whose SHA-256 is sum; with longer, more may follow. An editor
// or a git checkout may have changed it, in place or by a new file of the same
// name: then the error wraps [ErrReplaced].
func sameBytes(fsys FS, name string, id FileID, size int64, sum []byte, longer bool) error {
	if err := hasBytes(fsys, name, id, size, sum, longer); err != nil {
		return err
	}
	// Hashing took its time, so the name is looked at once more, as the very last
	// thing: what stands between this and the caller's rename is the gap in which
	// a file of somebody else would be overwritten unseen.
	now, err := fsys.Lstat(name)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrReplaced, err)
	}
	if now.ID != id {
		return fmt.Errorf("%w: there is another file in its place", ErrReplaced)
	}
	return nil
}

func hasBytes(fsys FS, name string, id FileID, size int64, sum []byte, longer bool) error {
	f, info, err := disk.OpenPlain(fsys, name, os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrReplaced, err)
	}
	defer f.Close() // only read: closing can lose nothing
	if info.ID != id {
		return fmt.Errorf("%w: there is another file in its place", ErrReplaced)
	}
	if info.Size != size && (!longer || info.Size < size) {
		return fmt.Errorf("%w: it has %d bytes, it had %d", ErrReplaced, info.Size, size)
	}
	h := sha256.New()
	if _, err := io.CopyBuffer(h, io.LimitReader(onlyReader{f}, size), make([]byte, writeBuffer)); err != nil {
		return err
	}
	if !bytes.Equal(h.Sum(nil), sum) {
		return fmt.Errorf("%w: its bytes are not those that were read and written", ErrReplaced)
	}
	return nil
}

// onlyReader hides every method but Read, so that io.Copy uses our buffer.
type onlyReader struct{ io.Reader }
