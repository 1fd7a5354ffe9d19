package statefile

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"unicode/utf8"

	"freightliner/providers"
	"freightliner/providers/disk"
)

// Options are what a journal needs from outside. The zero value uses the
// machine's clock and randomness and has no emergency path.
type Options struct {
	Clock Clock
	Rand  io.Reader // for the lineage and for names of temporary files

	// Emergency is where the whole state goes when neither its own file nor one
	// beside it can be written; nil for nowhere. The path must not exist.
	Emergency *Place
	// LastResort gets the whole state when that fails too; nil for nobody.
	LastResort io.Writer
}

// Place is a path in a file system.
type Place struct {
	FS   FS
	Path string
}

// Begin opens the state at path for a run: it reads and verifies it as [Read]
// does, cuts a torn tail, removes what killed runs left beside it, and creates
// the file, with a new lineage, when there is none. The lock must be held and
// stay held until the journal is closed.
//
// The returned State is that of the beginning and does not follow the journal.
// Nothing is appended before the first change, so a run that does nothing
// changes no byte. The caller ends with exactly one of [Journal.Close] and
// [Journal.Abandon].
//
// Besides the errors of Read: [ErrNewer] for a state that this release can
// show but not write, [ErrUnsafe] for a file with a second name.
func Begin(ctx context.Context, lock *Lock, path string, run RunInfo, opts Options) (*Journal, *State, error) {
	j, s, err := begin(ctx, lock, path, run, opts)
	if err != nil {
		return nil, nil, failed("open state", path, err)
	}
	go j.work()
	return j, s, nil
}

func begin(ctx context.Context, lock *Lock, path string, run RunInfo, opts Options) (*Journal, *State, error) {
	if opts.Clock == nil {
		opts.Clock = SystemClock{}
	}
	if opts.Rand == nil {
		opts.Rand = rand.Reader
	}
	if !lock.guards(path) {
		return nil, nil, errors.New("the lock of its directory is not held")
	}
	if err := checkRun(run); err != nil {
		return nil, nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	j := &Journal{fsys: lock.fsys, path: path, run: run, opts: opts, wake: make(chan struct{}, 1), finished: make(chan struct{})}
	s, err := read(j.fsys, path)
	if err != nil {
		return nil, nil, err
	}
	if err := s.writable(); err != nil {
		return nil, nil, err
	}
	removed, err := removeLeftovers(j.fsys, path)
	if err != nil {
		return nil, nil, err
	}
	if removed > 0 {
		j.note("removed %d temporary files that killed runs left", removed)
	}
	if !s.exists {
		if s, err = j.create(); err != nil {
			return nil, nil, err
		}
	}
	if err := j.prepare(s); err != nil {
		return nil, nil, err
	}
	j.where = Place{j.fsys, path}
	j.file, err = openAppend(j.where, s.file.ID, int64(s.replay.end))
	if err != nil {
		return nil, nil, err
	}
	j.extend(s)
	return j, s, nil
}

func checkRun(run RunInfo) error {
	for _, s := range [...]string{run.Run, run.By, run.Tool} {
		if !utf8.ValidString(s) || len(s) > maxAddress {
			return fmt.Errorf("run %s: its id and names must be UTF-8 of at most %d bytes", providers.Printable(run.Run, 80), maxAddress)
		}
	}
	if run.Run == "" {
		return errors.New("a run without an id")
	}
	if run.Plan != "" && !isDigest(string(run.Plan)) {
		return fmt.Errorf("run %s: plan %s: %w", providers.Printable(run.Run, 80), providers.Printable(string(run.Plan), 80), providers.ErrDigest)
	}
	return nil
}

// create makes an empty state under a new lineage. It appears whole or not at
// all.
func (j *Journal) create() (*State, error) {
	lineage, err := newLineage(j.opts.Rand)
	if err != nil {
		return nil, err
	}
	fill := func(w io.Writer) error {
		_, err := w.Write(appendEnd(appendHeader(nil, lineage), 0))
		return err
	}
	still := func() error {
		_, err := j.fsys.Lstat(j.path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("%w: it appeared while it was created", ErrReplaced)
		}
		return err
	}
	if _, _, err := replace(j.fsys, j.path, j.opts.Rand, fill, still, false); err != nil {
		return nil, err
	}
	return read(j.fsys, j.path)
}

// prepare makes the file on disk what s says it is, and private.
func (j *Journal) prepare(s *State) error {
	f, info, err := disk.OpenPlain(j.fsys, j.path, os.O_RDWR)
	if err != nil {
		return err
	}
	err = j.tidy(f, info, s)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (j *Journal) tidy(f File, info Info, s *State) error {
	if info.ID != s.file.ID || info.Size != int64(len(s.snap.buf)) {
		return fmt.Errorf("%w: it changed while it was opened", ErrReplaced)
	}
	if info.Links > 1 {
		if err := j.dropSecondName(info); err != nil {
			return err
		}
	}
	if wide := info.Mode.Perm() & 0o077; wide != 0 {
		if err := f.Chmod(0o600); err != nil {
			return fmt.Errorf("take away the rights of others: %w", err)
		}
		j.note("mode changed from %04o to 0600", info.Mode.Perm())
	}
	if s.replay.torn == 0 {
		return nil
	}
	// The torn bytes were never acknowledged, see replay.tail. The cut is made
	// durable before anything is appended, so that old and new bytes can not mix.
	if err := f.Truncate(int64(s.replay.end)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	j.note("cut %d bytes that a crash left half written", s.replay.torn)
	return nil
}

// dropSecondName removes the backup's name from a file that a crash left with
// both. Any other second name would be written through, so it is refused.
func (j *Journal) dropSecondName(info Info) error {
	bak, err := j.fsys.Lstat(backupName(j.path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it has %d names (hard links), and whether one is our backup can not be seen: %w", info.Links, err)
	}
	if err == nil && bak.ID == info.ID && info.Links == 2 {
		return j.fsys.Remove(backupName(j.path))
	}
	return fmt.Errorf("%w: it has %d names (hard links)", ErrUnsafe, info.Links)
}

// openAppend opens the file for appending and makes sure that it is the file
// id with size bytes.
func openAppend(at Place, id FileID, size int64) (File, error) {
	f, info, err := disk.OpenPlain(at.FS, at.Path, os.O_WRONLY|os.O_APPEND)
	if err != nil {
		return nil, err
	}
	if info.ID != id || info.Size != size {
		return nil, errors.Join(fmt.Errorf("%w: it changed while it was opened", ErrReplaced), f.Close())
	}
	return f, nil
}

// extend sets the journal up to continue behind the lines of s.
func (j *Journal) extend(s *State) {
	j.state = s
	j.id = s.file.ID
	j.offset = int64(s.replay.end)
	j.chain = s.replay.chain
	j.base = s.base
	j.hash = s.hash
	j.changes = maps.Clone(s.replay.changes)
	j.intents = maps.Clone(s.replay.intents)
	j.journalled = s.replay.lines > 0
	j.reserved = 0
}
