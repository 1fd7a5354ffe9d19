package statefile

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"

	"freightliner/providers"
	"freightliner/providers/disk"
)

// State is a state file as it was read: the snapshot's bytes with an index
// over them, and what the journal changed on top. It never changes and is safe
// for concurrent use. Records are decoded when they are asked for.
type State struct {
	snap   snapshot
	replay replay
	keys   []string // sorted addresses of replay.changes
	count  int
	exists bool
	base   providers.Digest // of the snapshot's bytes
	hash   hash.Hash        // SHA-256 of the bytes up to replay.end
	file   Info
	id     func() providers.Digest
}

// Read reads and fully verifies the state at path. It takes no lock and writes
// nothing: what a running apply has journalled so far is part of the result. A
// file that does not exist is the empty state.
//
// Errors wrap [ErrDamaged] (and the finer kinds), [ErrNewer], [ErrUnsafe] or
// an error of the file system.
func Read(fsys FS, path string) (*State, error) {
	s, err := read(fsys, path)
	if err != nil {
		return nil, failed("read state", path, err)
	}
	return s, nil
}

func read(fsys FS, path string) (*State, error) {
	buf, info, err := readFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return empty(), nil
	}
	if err != nil {
		return nil, err
	}
	s, bad := parse(buf)
	if bad != nil {
		return nil, bad
	}
	s.file = info
	return s, nil
}

// empty is the state of a file that is not there.
func empty() *State {
	return &State{id: func() providers.Digest { return "" }}
}

// parse reads a whole file that is in memory. It keeps buf, which nobody may
// write to any more.
func parse(buf []byte) (*State, *Damage) {
	s := &State{exists: true, hash: sha256.New()}
	// The digest of the snapshot takes about as long as checking it; both only
	// read, so in a large file they run side by side. Without a valid snapshot it
	// is thrown away.
	var hashing sync.WaitGroup
	hashed := 0
	if len(buf) > chunkSize {
		hashing.Go(func() {
			hashed = snapshotEnd(buf)
			s.hash.Write(buf[:hashed])
		})
	}
	snap, bad := parseSnapshot(buf)
	hashing.Wait()
	if bad != nil {
		return nil, bad
	}
	if len(buf) <= chunkSize {
		hashed = snap.end
		s.hash.Write(buf[:hashed])
	}
	if hashed != snap.end {
		panic("statefile: two searches for the end line disagree")
	}
	s.snap = snap
	s.base = providers.FromSum(s.hash.Sum(nil))
	s.replay, bad = parseJournal(&s.snap, s.base)
	if bad != nil {
		return nil, bad
	}
	s.hash.Write(buf[snap.end:s.replay.end])
	s.keys = s.replay.keys()
	s.count = len(snap.records)
	for _, address := range s.keys {
		_, before := s.inSnapshot(address)
		after := s.replay.changes[address].rest != ""
		switch {
		case after && !before:
			s.count++
		case before && !after:
			s.count--
		}
	}
	s.id = sync.OnceValue(s.identify)
	return s, nil
}

// snapshotEnd is where the snapshot in buf ends if it is valid.
func snapshotEnd(buf []byte) int {
	header := bytes.IndexByte(buf[:min(len(buf), maxLine)], '\n') + 1
	at, length := findEnd(buf, max(header, 1))
	return at + length
}

// readFile reads a plain file of ours whole.
func readFile(fsys FS, path string) ([]byte, Info, error) {
	f, info, err := disk.OpenPlain(fsys, path, os.O_RDONLY)
	if err != nil {
		return nil, Info{}, err
	}
	defer f.Close() // only read: closing can lose nothing
	if info.Size > maxFile {
		return nil, Info{}, fmt.Errorf("the file has %d bytes, at most %d are read", info.Size, int64(maxFile))
	}
	buf := make([]byte, info.Size)
	n, err := io.ReadFull(f, buf)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil // an apply cut a torn tail while we read; what we have is whole
	}
	return buf[:n], info, err
}

// Exists reports whether there is a file.
func (s *State) Exists() bool { return s.exists }

// ID is the state id: the SHA-256 of the canonical snapshot that a compaction
// would write now. For a file without a journal it is that of its bytes. Plans
// bind to it. Empty when there is no file.
func (s *State) ID() providers.Digest { return s.id() }

func (s *State) identify() providers.Digest {
	if len(s.keys) == 0 {
		return s.base
	}
	h := sha256.New()
	if _, err := s.writeCanonical(h); err != nil {
		panic("statefile: a hash can not fail: " + err.Error())
	}
	return providers.FromSum(h.Sum(nil))
}

// Lineage names this state among all others, from its creation on. Empty when
// there is no file.
func (s *State) Lineage() string { return s.snap.lineage }

// Len is the number of records.
func (s *State) Len() int { return s.count }

// Lookup is the record at address.
func (s *State) Lookup(address string) (Record, bool) {
	e, ok := s.replay.changes[address]
	if !ok {
		e, ok = s.inSnapshot(address)
	}
	if !ok || e.rest == "" {
		return Record{}, false
	}
	var r Record
	e.into(&r, address)
	return r, true
}

// All is every record, sorted by the bytes of its address.
func (s *State) All() iter.Seq[Record] { return s.Under("") }

// Under is every record whose address begins with prefix, sorted.
func (s *State) Under(prefix string) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		var r Record // decoded into again and again: yield gets a copy
		for address, e := range s.merged(prefix) {
			if !strings.HasPrefix(address, prefix) {
				return
			}
			e.into(&r, address)
			if !yield(r) {
				return
			}
		}
	}
}

// merged is the snapshot with the journal's changes on top, sorted, from the
// first address that is not before from.
func (s *State) merged(from string) iter.Seq2[string, entry] {
	return func(yield func(string, entry) bool) {
		w := s.walk(from)
		for address, e, ok := w.next(); ok && yield(address, e); address, e, ok = w.next() {
		}
	}
}

// walk is a place in the snapshot and the one in the journal's changes that
// goes with it. Several states are walked side by side this way.
type walk struct {
	s    *State
	i, k int // the next record of the snapshot, and of the sorted changes
}

func (s *State) walk(from string) walk {
	k, _ := slices.BinarySearch(s.keys, from)
	return walk{s, s.search(from), k}
}

// next is the next record that the journal did not remove, false at the end.
func (w *walk) next() (address string, e entry, ok bool) {
	for w.i < len(w.s.snap.records) || w.k < len(w.s.keys) {
		if w.i < len(w.s.snap.records) {
			e = w.s.entry(w.i)
			address = w.s.address(w.i)
		}
		switch {
		case w.i == len(w.s.snap.records) || w.k < len(w.s.keys) && w.s.keys[w.k] < address:
			address = w.s.keys[w.k]
			e = w.s.replay.changes[address]
			w.k++
		case w.k < len(w.s.keys) && w.s.keys[w.k] == address:
			e = w.s.replay.changes[address]
			w.i, w.k = w.i+1, w.k+1
		default:
			w.i++
		}
		if e.rest != "" {
			return address, e, true
		}
	}
	return "", entry{}, false
}

// entry is the i-th record of the snapshot.
func (s *State) entry(i int) entry {
	line := lineAt(s.snap.buf, int(s.snap.records[i]))
	members := text(line[len(recordOpen) : len(line)-sumLength-prevLength])
	c := cursor{rest: members}
	inner, _ := c.raw()
	return entry{key: members[:len(inner)+2], rest: members[len(inner)+3:]}
}

// search is the index of the first snapshot record whose address is not before
// address.
func (s *State) search(address string) int {
	return sort.Search(len(s.snap.records), func(i int) bool { return s.address(i) >= address })
}

// address is that of the i-th record, without looking at the rest of its line:
// a search over a hundred megabytes touches as little memory as it can.
func (s *State) address(i int) string {
	inner := s.snap.buf[int(s.snap.records[i])+len(recordOpen)+1:]
	inner = inner[:bytes.IndexByte(inner, '"')]
	if bytes.IndexByte(inner, '\\') >= 0 {
		return s.entry(i).address()
	}
	return text(inner)
}

func (s *State) inSnapshot(address string) (entry, bool) {
	if i := s.search(address); i < len(s.snap.records) && s.address(i) == address {
		return s.entry(i), true
	}
	return entry{}, false
}

// Intents are the announced actions of which nobody knows the outcome, sorted
// by address. Whoever resumes looks at the world before doing them again.
func (s *State) Intents() []Intent {
	out := make([]Intent, 0, len(s.replay.intents))
	for _, i := range s.replay.intents {
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b Intent) int { return strings.Compare(a.Address, b.Address) })
	return out
}

// Interrupted is the last run, if it was cut off before it could close its
// journal. Its finished actions are part of this state.
func (s *State) Interrupted() (RunInfo, bool) { return s.replay.run, s.replay.open }

// Torn is how many bytes at the end of the file a crash left half written, and
// which are not part of this state. [Begin] cuts them.
func (s *State) Torn() int { return s.replay.torn }

// Canonical reports that the file is the snapshot alone, as it should be
// committed: no journal, no torn tail. A missing file is canonical.
func (s *State) Canonical() bool { return len(s.snap.buf) == s.snap.end }

// Writable says why this release must not write the state or put another in its
// place: it has records or members that only a newer one knows, and the error
// wraps [ErrNewer]. Nil when it may.
func (s *State) Writable() error { return failed("write state", "", s.writable()) }

func (s *State) writable() error {
	f := s.snap.newer
	if f == nil {
		f = s.replay.newer
	}
	if f == nil {
		return nil
	}
	return place(s.snap.buf, ErrNewer, *f)
}
