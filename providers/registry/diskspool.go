package registry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"freightliner/providers"
	"freightliner/providers/disk"
)

// DiskSpool is a [Spool] in one directory, usually .freightliner, of at most a
// given size:
//
//	spool/sha256-<hex>.partial    the first bytes of that blob
//
// The length of a file is all that is known about it. It is not synced and has
// nothing beside it: after a kill the system still has every byte that was
// written, and after a power cut the end of a file may be zeros, which costs one
// try and no content (see [Spool]). Syncing would cost every blob of every run.
//
// The sizes of all files together stay below the limit: a blob that is being
// read counts whole, before its first byte. Where that needs room, files that
// earlier runs left and this one has not used go, the oldest first. Only names
// of that form are counted and removed.
//
// One process uses the directory: the state's lock, which whoever applies holds,
// is a kernel's lock in the same directory. Where a file system has no such locks
// two of them could add to one file, which then does not match.
type DiskSpool struct {
	fsys  disk.FS
	limit int64

	mu      sync.Mutex
	entries map[string]*diskEntry // by file
	room    int64                 // of all entries
	trouble error                 // the first; nothing is taken after it
}

const (
	spoolFolder = "spool"
	spoolSuffix = ".partial"
)

// diskEntry is one file. What is below its line belongs to who took it.
type diskEntry struct {
	spool    *DiskSpool
	file     string
	room     int64 // what counts against the limit
	modified time.Time
	known    bool // used in this run
	taken    bool

	// ----
	size     int64 // of the blob
	length   int64 // of the file
	at       int64 // in the file
	reserved bool
	open     disk.File // nil until the first Rewind
}

// SpoolOnDisk uses fsys, which stays the caller's, for at most limit bytes. What
// earlier runs left beyond that is removed.
func SpoolOnDisk(fsys disk.FS, limit int64) (*DiskSpool, error) {
	s := &DiskSpool{fsys: fsys, limit: limit, entries: map[string]*diskEntry{}}
	if err := s.openFolder(); err != nil {
		return nil, fmt.Errorf("open the spool: %w", err)
	}
	if err := s.list(); err != nil {
		return nil, fmt.Errorf("open the spool: %w", err)
	}
	return s, nil
}

// openFolder makes the folder, or makes sure that it is a directory of ours into
// which nobody else can put files.
func (s *DiskSpool) openFolder() error {
	if err := s.fsys.Mkdir(spoolFolder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := s.fsys.Lstat(spoolFolder)
	if err != nil {
		return err
	}
	if !info.Mode.IsDir() || !info.Ours || info.Mode.Perm()&0o022 != 0 {
		return fmt.Errorf("%w: %s is not a directory of ours alone", disk.ErrUnsafe, spoolFolder)
	}
	return nil
}

// list finds what earlier runs left. A link or anything else that is not a file
// of ours is left alone, and refused when its blob comes.
func (s *DiskSpool) list() error {
	names, err := s.fsys.Names(spoolFolder)
	if err != nil {
		return err
	}
	for _, name := range names {
		text, ok := strings.CutSuffix(name, spoolSuffix)
		if !ok {
			continue
		}
		if _, err := providers.ParseDigest(strings.Replace(text, "-", ":", 1)); err != nil {
			continue
		}
		file := spoolFolder + "/" + name
		info, err := s.fsys.Lstat(file)
		if err != nil {
			return err
		}
		if disk.Plain(info) != nil {
			continue
		}
		s.entries[file] = &diskEntry{spool: s, file: file, room: info.Size, length: info.Size, modified: info.ModTime}
		s.room += info.Size
	}
	_, err = s.makeRoom(nil, 0)
	return err
}

// Trouble is why the spool could not be used any more; nil when it could.
func (s *DiskSpool) Trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

// fail keeps the first trouble, after which the disk is left alone.
func (s *DiskSpool) fail(err error) error {
	if s.trouble == nil {
		s.trouble = err
	}
	return err
}

// Take implements [Spool].
func (s *DiskSpool) Take(d providers.Digest, size int64) (SpoolEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	file := spoolFolder + "/" + strings.Replace(string(d), ":", "-", 1) + spoolSuffix
	e := s.entries[file]
	if e == nil {
		e = &diskEntry{spool: s, file: file}
	}
	if s.trouble != nil || e.taken || size > s.limit {
		return nil, nil
	}
	if ok, err := s.makeRoom(e, size-e.room); !ok {
		return nil, err
	}
	s.entries[file] = e
	s.room += size - e.room
	e.room, e.size, e.known, e.taken = size, size, true, true
	return e, nil
}

// makeRoom removes what nobody of this run used, the oldest first, until need
// more bytes are within the limit. It removes nothing when that is not enough:
// what is there may serve its own blob yet. The caller holds the lock.
func (s *DiskSpool) makeRoom(except *diskEntry, need int64) (ok bool, err error) {
	missing := s.room + need - s.limit
	var old []*diskEntry
	var most int64
	for _, e := range s.entries {
		if e != except && !e.known {
			old = append(old, e)
			most += e.room
		}
	}
	if most < missing {
		return false, nil
	}
	slices.SortFunc(old, func(a, b *diskEntry) int { return a.modified.Compare(b.modified) })
	for _, e := range old {
		if missing <= 0 {
			break
		}
		missing -= e.room
		if err := s.remove(e); err != nil {
			return false, err
		}
	}
	return true, nil
}

// remove deletes the file of e, whose name has the form of ours: what it held can
// be read again from where it came from. The caller holds the lock.
func (s *DiskSpool) remove(e *diskEntry) error {
	if err := s.fsys.Remove(e.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.fail(err)
	}
	s.forget(e)
	return nil
}

func (s *DiskSpool) forget(e *diskEntry) {
	s.room -= e.room
	delete(s.entries, e.file)
}

// Rewind implements [SpoolEntry].
func (e *diskEntry) Rewind() (held int64, err error) {
	if err := e.close(); err != nil {
		return 0, e.fail(err)
	}
	if e.open, err = e.openFile(); err != nil {
		return 0, e.fail(err)
	}
	info, err := e.open.Stat()
	if err == nil && info.Size > e.size {
		info.Size = 0 // not the beginning of this blob
		err = e.open.Truncate(0)
	}
	if err != nil {
		return 0, e.fail(err)
	}
	e.at, e.length = 0, info.Size
	return e.length, e.reserve()
}

// openFile opens the file, or makes it. It is never reached through a link.
func (e *diskEntry) openFile() (disk.File, error) {
	f, _, err := disk.OpenPlain(e.spool.fsys, e.file, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return e.spool.fsys.OpenFile(e.file, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", e.file, err)
	}
	return f, nil
}

// reserve asks the disk for the room of the whole blob where it can be asked: a
// disk that is too small for it is not filled to the last byte, which the state
// may need. Blocks that a killed run reserved are used or given back by the next
// one that takes the entry.
func (e *diskEntry) reserve() error {
	r, ok := e.open.(interface{ Reserve(from, size int64) error })
	if !ok || e.length == e.size {
		return nil
	}
	err := r.Reserve(e.length, e.size-e.length)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return e.fail(fmt.Errorf("reserve room in %s: %w", e.file, err))
	}
	e.reserved = err == nil // other errors: it is a precaution
	return nil
}

// Read implements [SpoolEntry].
func (e *diskEntry) Read(p []byte) (int, error) {
	n, err := e.open.Read(p)
	e.at += int64(n)
	switch {
	case err == io.EOF && e.at < e.length:
		return n, e.fail(fmt.Errorf("%s became shorter: %w", e.file, io.ErrUnexpectedEOF))
	case err != nil && err != io.EOF:
		return n, e.fail(err)
	}
	return n, err
}

// Write implements [SpoolEntry].
func (e *diskEntry) Write(p []byte) (int, error) {
	if e.at != e.length || e.at+int64(len(p)) > e.size {
		return 0, fmt.Errorf("%s: written at %d of %d bytes, beyond its end or the %d of the blob", e.file, e.at, e.length, e.size)
	}
	n, err := e.open.Write(p)
	if err != nil {
		return n, e.fail(err)
	}
	e.at += int64(n)
	e.length = e.at
	return n, nil
}

// Release implements [SpoolEntry]. What could not be opened is not removed: it is
// a link, or somebody else's.
func (e *diskEntry) Release(keep bool) error {
	opened := e.open != nil
	var err error
	if keep && e.reserved {
		err = e.open.Truncate(e.length) // gives back what lies behind
	}
	err = errors.Join(err, e.close())
	s := e.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	e.taken = false
	switch {
	case err == nil && keep && e.length > 0:
		s.room -= e.room - e.length
		e.room = e.length
		return nil
	case !opened:
		s.forget(e)
		return err
	case err != nil:
		s.fail(err)
	}
	return errors.Join(err, s.remove(e))
}

func (e *diskEntry) close() error {
	if e.open == nil {
		return nil
	}
	f := e.open
	e.open, e.reserved = nil, false
	return f.Close()
}

func (e *diskEntry) fail(err error) error {
	e.spool.mu.Lock()
	defer e.spool.mu.Unlock()
	return e.spool.fail(err)
}
