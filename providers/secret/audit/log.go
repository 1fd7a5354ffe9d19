package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"freightliner/providers"
	"freightliner/providers/disk"
	"freightliner/providers/secret"
)

// Options are where a log is and what stands in each of its lines.
type Options struct {
	FS        disk.FS // the directory for logs; nobody else should be able to read it
	Clock     disk.Clock
	Workspace string // which configuration: names the files
	Run       string
	Host      string
	Version   string // of freightliner
	Actor     string // git identity
	Job       string // URL of the CI job

	// Patience is how long to wait for another process that appends; 0 means 30 s.
	Patience time.Duration
}

// Log appends to the log of one workspace. It is safe for concurrent use, also
// by several processes; what is recorded at the same time is synced once.
type Log struct {
	o Options

	mu      sync.Mutex // guards waiting and head
	waiting *batch
	head    Head

	turn chan struct{} // whoever holds it writes
	file disk.File     // open between batches
	name string
	id   disk.FileID
	scan scanner
}

var _ secret.Audit = (*Log)(nil)

// batch is what is written and synced together.
type batch struct {
	lines []line
	done  chan struct{}
	err   error
}

// Open is the log of a workspace. It reads and makes nothing yet.
func Open(o Options) *Log {
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	return &Log{o: o, turn: make(chan struct{}, 1)}
}

// Intend appends and syncs. After an error what was intended must not be done.
func (l *Log) Intend(ctx context.Context, entries ...secret.Entry) error {
	return l.record(ctx, intent, entries)
}

// Outcome appends and syncs, also when ctx has ended: what happened, happened.
func (l *Log) Outcome(ctx context.Context, entries ...secret.Entry) error {
	return l.record(context.WithoutCancel(ctx), outcome, entries)
}

// Head is the end of the log behind what was last recorded here; zero before
// that.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Close gives the file back. What was recorded is on the disk already.
func (l *Log) Close() error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	return l.forget()
}

func (l *Log) forget() error {
	f := l.file
	l.file, l.scan = nil, scanner{}
	if f == nil {
		return nil
	}
	return f.Close()
}

func (l *Log) record(ctx context.Context, phase string, entries []secret.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return l.failed(err)
	}
	l.mu.Lock()
	b, first := l.waiting, false
	if b == nil {
		b, first = &batch{done: make(chan struct{})}, true
		l.waiting = b
	}
	for _, e := range entries {
		now := line{Time: l.o.Clock.Now().UTC(), Phase: phase}
		now.fill(e)
		b.lines = append(b.lines, now)
	}
	l.mu.Unlock()
	if !first {
		<-b.done // the first one never gives up before it has written
		return b.err
	}
	l.turn <- struct{}{}
	l.mu.Lock()
	l.waiting = nil // whoever comes now is in the next batch
	l.mu.Unlock()
	b.err = l.failed(l.write(b.lines))
	close(b.done)
	<-l.turn
	return b.err
}

func (l *Log) failed(err error) error {
	if err == nil {
		return nil
	}
	e := &providers.Error{Class: providers.Unknown, Op: "write audit log", On: l.o.Workspace, Err: err, Hint: "No secret is read or written without its line in the audit log."}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		e.Class = providers.Canceled
	case errors.Is(err, fs.ErrPermission), errors.Is(err, disk.ErrUnsafe):
		e.Class = providers.Denied
	case errors.Is(err, disk.ErrLocked):
		e.Class = providers.Transient
	}
	return e
}

// write appends a batch under the lock. It is not given up when one of those
// who wait for it is: the others count on it.
func (l *Log) write(lines []line) (err error) {
	free, err := disk.Lock(context.Background(), l.o.FS, l.o.Clock, lockName(l.o.Workspace), l.o.Patience)
	if err != nil {
		return err
	}
	defer func() { _ = free() }() // nothing was written to the lock
	if err := l.reach(); err != nil {
		return errors.Join(err, l.forget())
	}
	text, last, err := l.chain(lines)
	if err != nil {
		return err
	}
	before := l.scan.end
	_, err = l.file.Write(text)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		// Nobody may build on bytes of which nobody knows whether they reached
		// the disk: take them back. If that fails, too, the next one to append
		// finds a torn end or whole lines of things that were not done.
		err = errors.Join(err, l.file.Truncate(before), l.file.Sync(), l.forget())
		return err
	}
	l.scan.last, l.scan.end, l.scan.at = last, before+int64(len(text)), before+int64(len(text))
	l.mu.Lock()
	l.head = Head{last.Seq, last.Hash}
	l.mu.Unlock()
	return nil
}

// chain numbers, chains and encodes.
func (l *Log) chain(lines []line) (text []byte, last line, err error) {
	last = l.scan.last
	first := last.Seq + 1
	for i, next := range lines {
		next.Opens = i == 0 && l.scan.end == 0
		next.Seq, next.Batch, next.Prev = last.Seq+1, first, last.Hash
		if next.Prev == "" {
			next.Prev = genesis
		}
		next.Run, next.Host, next.Version, next.Actor, next.Job, next.Workspace = l.o.Run, l.o.Host, l.o.Version, l.o.Actor, l.o.Job, l.o.Workspace
		one, err := next.encode()
		if err != nil {
			return nil, line{}, err
		}
		text = append(text, one...)
		last = next
	}
	return text, last, nil
}

// reach brings l.file and l.scan to the end of the newest file. The lock is held.
func (l *Log) reach() error {
	months, err := months(l.o.FS, l.o.Workspace)
	if err != nil {
		return err
	}
	month := l.o.Clock.Now().UTC().Format("2006-01")
	if n := len(months); n > 0 && months[n-1] > month {
		month = months[n-1] // the clock went back; the chain does not
	}
	name := fileName(l.o.Workspace, month)
	if l.file != nil {
		info, err := l.o.FS.Lstat(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil || l.name != name || info.ID != l.id || info.Size < l.scan.at {
			if err := l.forget(); err != nil {
				return err
			}
		}
	}
	if l.file == nil {
		if err := l.open(name, months); err != nil {
			return err
		}
	}
	if err := l.scan.read(l.file, nil); err != nil {
		return err
	}
	if l.scan.torn() {
		return l.mend(name)
	}
	return nil
}

// open opens the file, or makes it. A new one carries on from the last line of
// the one before it.
func (l *Log) open(name string, months []string) error {
	var carried line
	for _, month := range slices.Backward(months) {
		older := fileName(l.o.Workspace, month)
		if older == name {
			continue
		}
		s, err := scanFile(l.o.FS, older, nil)
		if err != nil {
			return err
		}
		if s.last.Seq > 0 {
			carried = s.last
			break
		}
	}
	f, info, err := disk.OpenPlain(l.o.FS, name, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = l.o.FS.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return err
		}
		if info, err = f.Stat(); err == nil {
			err = l.o.FS.SyncDir(".")
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err != nil {
		return err
	}
	if info.Mode.Perm()&0o077 != 0 {
		return errors.Join(fmt.Errorf("%w: other users can read or change %s (mode %04o)", disk.ErrUnsafe, name, info.Mode.Perm()), f.Close())
	}
	l.file, l.name, l.id, l.scan = f, name, info.ID, scanner{last: carried}
	return nil
}

// mend cuts off the end that a crash tore, and says so in a line of the log.
// Nothing that was acknowledged is cut: see scanner.
func (l *Log) mend(name string) error {
	cut := l.scan.at - l.scan.end
	if err := l.file.Truncate(l.scan.end); err != nil {
		return err
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	last, end := l.scan.last, l.scan.end
	if err := l.forget(); err != nil {
		return err
	}
	// Open again: a file has no way back in it.
	f, info, err := disk.OpenPlain(l.o.FS, name, os.O_RDWR)
	if err != nil {
		return err
	}
	s := scanner{last: last}
	if err := s.read(f, nil); err != nil || s.torn() || s.at != end {
		return errors.Join(err, errors.New("the log changed while its end was mended"), f.Close())
	}
	l.file, l.name, l.id, l.scan = f, name, info.ID, s
	mark := line{Time: l.o.Clock.Now().UTC(), Action: "mend", Phase: note, Reason: fmt.Sprintf("an end of %d bytes that a crash tore was cut off", cut)}
	text, last, err := l.chain([]line{mark})
	if err != nil {
		return err
	}
	if _, err := l.file.Write(text); err != nil {
		return err
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	l.scan.last, l.scan.end, l.scan.at = last, end+int64(len(text)), end+int64(len(text))
	return nil
}

// months of the workspace that have a file, sorted.
func months(fsys disk.FS, workspace string) ([]string, error) {
	names, err := fsys.Names(".")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range names {
		if month, ok := monthOf(workspace, name); ok {
			out = append(out, month)
		}
	}
	slices.Sort(out)
	return out, nil
}

// scanFile reads a file from its start.
func scanFile(fsys disk.FS, name string, each func(line, int, []badLine)) (scanner, error) {
	f, _, err := disk.OpenPlain(fsys, name, os.O_RDONLY)
	if err != nil {
		return scanner{}, err
	}
	defer f.Close() // only read: closing can lose nothing
	var s scanner
	return s, s.read(f, each)
}
