package statefile

import (
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"
	"time"

	"freightliner/providers"
)

const (
	// syncAfter is how long a written line may wait to become durable, and so
	// what a lost machine loses at most.
	syncAfter = 100 * time.Millisecond
	// syncBytes is how many written bytes may wait.
	syncBytes = 1 << 20
)

// Journal records what a run has done, as it does it. It is safe for
// concurrent use.
//
//	Done, Intent, Fail ──> queue ──> one writer: encode, chain, one write
//	        ^                           │  sync: for an intent, after 100 ms, at 1 MiB
//	        └────── written / durable ──┘
//
// A line that Done or Fail wrote survives the end of the process at once, and
// the end of the machine after 100 ms. An intent survives both when Intent
// returns.
//
// A failed write or sync is final for the file it hit, since nobody knows what
// of it is on the disk. From then on every method returns an error that wraps
// [ErrNotDurable], so the run stops starting work. What running work still
// reports is kept: in a fresh complete file in the place of the state, else in
// the emergency file, else in memory until Close hands it to the last resort.
type Journal struct {
	fsys FS
	path string
	run  RunInfo
	opts Options

	mu       sync.Mutex
	queue    []*request
	closed   bool
	abandon  bool
	notes    []string
	closeErr error

	wake     chan struct{} // something is in the queue, or closed was set
	finished chan struct{} // the writer has ended

	// The rest belongs to the writer goroutine.

	state   *State            // of the beginning: the snapshot under the changes
	changes map[string]entry  // all the journal's changes, as in replay
	intents map[string]Intent // open ones
	base    providers.Digest  // of the snapshot that the file begins with

	file       File // nil when only memory is left
	where      Place
	away       bool // where is not the state's own path any more
	rescues    int  // places that were tried after a failure
	id         FileID
	offset     int64 // bytes in the file
	synced     int64 // of them durable, as far as this run knows
	chain      uint32
	hash       hash.Hash // SHA-256 of the file's bytes
	journalled bool      // there is a line behind the end line
	started    bool      // our run line is written
	n          int64
	done       int64
	failed     int64
	timer      <-chan time.Time // fires when unsynced bytes are due
	reserved   int64            // offset up to which the disk has set room aside
	noReserve  bool             // the disk does not do that
	err        error            // the first failed write or sync
}

// line is one line to be written.
type line struct {
	kind, addr, key string
	rest            string // done: of the record; empty for a removal
	op, token       string // intent
	class           string // fail
}

// request is a caller's lines and where the caller waits.
type request struct {
	lines   []line
	durable bool
	reply   chan error
}

// Done records that the changes have happened; it is called after the effect
// is confirmed. They are written together, in their order, one line each. It
// returns when the bytes have reached the kernel.
func (j *Journal) Done(changes ...Change) error {
	lines := make([]line, 0, len(changes))
	for i := range changes {
		c := &changes[i]
		l := line{kind: "done", addr: c.Address}
		if c.Removed {
			if err := checkAddress(c.Address); err != nil {
				return failed("journal", j.path, err)
			}
			l.key = text(appendString(nil, c.Address))
		} else {
			if c.Record.Address != c.Address {
				return failed("journal", j.path, fmt.Errorf("a change at %s with the record of %s", providers.Printable(c.Address, 0), providers.Printable(c.Record.Address, 0)))
			}
			e, err := encode(&c.Record)
			if err != nil {
				return failed("journal", j.path, err)
			}
			l.key, l.rest = e.key, e.rest
		}
		lines = append(lines, l)
	}
	return j.submit(lines, false)
}

// Intent announces work that must not be repeated blindly: op at address, with
// the idempotency token of the call, if the provider has such. It returns when
// the announcement is durable; on an error the work must not be started.
func (j *Journal) Intent(address, op, token string) error {
	for _, s := range [...]string{address, op} {
		if err := checkAddress(s); err != nil {
			return failed("journal", j.path, fmt.Errorf("intent %q at %q: %w", op, address, err))
		}
	}
	if token != "" {
		if err := checkAddress(token); err != nil {
			return failed("journal", j.path, fmt.Errorf("intent %q at %q: its token: %w", op, address, err))
		}
	}
	key := text(appendString(nil, address))
	return j.submit([]line{{kind: "intent", addr: address, key: key, op: op, token: token}}, true)
}

// Fail records that the action at address failed, with the class of its error.
// A class that leaves it open whether the effect happened (unknown, transient,
// canceled) leaves an intent at the address open; any other settles it.
func (j *Journal) Fail(address string, class providers.Class) error {
	if err := checkAddress(address); err != nil {
		return failed("journal", j.path, err)
	}
	key := text(appendString(nil, address))
	return j.submit([]line{{kind: "fail", addr: address, key: key, class: class.String()}}, false)
}

func (j *Journal) submit(lines []line, durable bool) error {
	if len(lines) == 0 {
		return nil
	}
	reply := make(chan error, 1)
	r := &request{lines: lines, durable: durable, reply: reply}
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return failed("journal", j.path, ErrClosed)
	}
	j.queue = append(j.queue, r)
	j.mu.Unlock()
	j.poke()
	return <-reply
}

func (j *Journal) poke() {
	select {
	case j.wake <- struct{}{}:
	default: // a signal is already waiting
	}
}

// Notes are what was found and put right on the way, for people.
func (j *Journal) Notes() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.notes)
}

func (j *Journal) note(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.notes = append(j.notes, fmt.Sprintf(format, args...))
}

// Close writes the close line, makes everything durable and folds the journal
// into the snapshot. When the run did nothing and the file was canonical, no
// byte changes. Open intents keep the journal in the file, which stays valid:
// the snapshot has no place for them and they must not be forgotten.
//
// An error never means that finished work was lost unseen: it says what could
// not be done and where everything is. [ErrReplaced]: somebody changed the
// file meanwhile, theirs is untouched and ours is beside it. [ErrNotDurable]:
// a write or sync failed at some point, even if saving worked in the end.
// Further calls return the same.
func (j *Journal) Close() error { return j.stop(false) }

// Abandon makes what was written durable and lets go of the file, without a
// close line and without compaction: for the moment when there is no time. The
// next run takes up from there.
func (j *Journal) Abandon() error { return j.stop(true) }

func (j *Journal) stop(abandon bool) error {
	j.mu.Lock()
	if !j.closed {
		j.closed, j.abandon = true, abandon
	}
	j.mu.Unlock()
	j.poke()
	<-j.finished
	return failed("save state", j.path, j.closeErr)
}

// work is the writer goroutine: the only one that touches the file.
func (j *Journal) work() {
	defer close(j.finished)
	for {
		select {
		case <-j.wake:
		case <-j.timer:
			j.timer = nil
			j.sync()
			continue
		}
		batch, closed := j.take()
		if len(batch) > 0 {
			j.write(batch)
		}
		if closed {
			j.closeErr = j.finish()
			return
		}
	}
}

// take empties the queue. Nothing is queued any more once closed is reported.
func (j *Journal) take() (batch []*request, closed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	batch, j.queue = j.queue, nil
	return batch, j.closed
}

// write encodes the batch, writes it at once and lets the callers go on: when
// it is written, or when it is durable for those who asked for that.
func (j *Journal) write(batch []*request) {
	var buf []byte
	durable := !j.started // so that the marks of later lines say something
	if !j.started {
		buf = j.appendRun(buf)
	}
	for _, r := range batch {
		durable = durable || r.durable
		for _, l := range r.lines {
			if l.kind == "intent" && j.err != nil {
				continue // it is refused below, so its work is not begun
			}
			buf = j.appendLine(buf, l)
			// Before the write: if it fails, the rescue has to know what was done.
			j.remember(l)
		}
	}
	j.append(buf)
	if durable || j.offset-j.synced >= syncBytes {
		// Who only waits for the write does not wait for the disk.
		j.release(batch, false)
		j.sync()
	} else if j.timer == nil && j.file != nil {
		j.timer = j.opts.Clock.After(syncAfter)
	}
	if j.err == nil {
		j.rememberIntents(batch)
	}
	j.release(batch, true)
}

// release answers the callers of a batch that are not answered yet.
func (j *Journal) release(batch []*request, durable bool) {
	if j.err != nil && !durable {
		return // a failed write is everybody's; the last release tells them
	}
	for _, r := range batch {
		if r.reply != nil && (durable || !r.durable) {
			r.reply <- j.notDurable()
			r.reply = nil
		}
	}
}

// remember applies a line to what the journal stands for.
func (j *Journal) remember(l line) {
	switch l.kind {
	case "done":
		j.changes[l.addr] = entry{key: l.key, rest: l.rest}
		delete(j.intents, l.addr)
	case "fail":
		if settles(l.class) {
			delete(j.intents, l.addr)
		}
	}
}

// rememberIntents opens the batch's intents once they are durable. When they
// are not, their callers are told so and never begin the work.
func (j *Journal) rememberIntents(batch []*request) {
	for _, r := range batch {
		for _, l := range r.lines {
			if l.kind == "intent" {
				j.intents[l.addr] = Intent{Address: l.addr, Op: l.op, Token: l.token}
			}
		}
	}
}

func (j *Journal) appendRun(b []byte) []byte {
	start := len(b)
	j.started, j.n, j.done, j.failed = true, 0, 0, 0
	b = j.appendOpen(b, "run")
	b = appendString(append(b, `,"run":`...), j.run.Run)
	if j.run.Plan != "" {
		b = appendString(append(b, `,"plan":`...), string(j.run.Plan))
	}
	b = appendString(append(b, `,"base":`...), string(j.base))
	b = appendString(append(b, `,"by":`...), j.run.By)
	b = appendString(append(b, `,"tool":`...), j.run.Tool)
	return j.chainLine(b, start)
}

// appendOpen begins a line; the first one of a write carries the sync mark.
func (j *Journal) appendOpen(b []byte, kind string) []byte {
	first := len(b) == 0
	b = appendString(append(b, `{"j":`...), kind)
	if first && j.synced > 0 {
		b = fmt.Appendf(b, `,"sync":%d`, j.synced)
	}
	return b
}

func (j *Journal) appendLine(b []byte, l line) []byte {
	start := len(b)
	j.n++
	b = j.appendOpen(b, l.kind)
	b = fmt.Appendf(b, `,"n":%d,"a":`, j.n)
	b = append(b, l.key...)
	switch l.kind {
	case "done":
		j.done++
		if l.rest == "" {
			b = append(b, `,"r":null`...)
			break
		}
		b = append(append(append(b, `,"r":{`...), l.rest...), '}')
	case "intent":
		b = appendString(append(b, `,"op":`...), l.op)
		if l.token != "" {
			b = appendString(append(b, `,"idem":`...), l.token)
		}
	case "fail":
		j.failed++
		b = appendString(append(b, `,"class":`...), l.class)
	}
	return j.chainLine(b, start)
}

func (j *Journal) appendClose(b []byte) []byte {
	start := len(b)
	b = j.appendOpen(b, "close")
	b = fmt.Appendf(b, `,"done":%d,"failed":%d`, j.done, j.failed)
	return j.chainLine(b, start)
}

// chainLine closes the line that began at start.
func (j *Journal) chainLine(b []byte, start int) []byte {
	j.chain = chained(j.chain, b[start:])
	return appendSum(b, j.chain)
}

// append writes buf at the end of the file.
func (j *Journal) append(buf []byte) {
	if j.file == nil || len(buf) == 0 {
		return
	}
	j.reserve(len(buf))
	if _, err := j.file.Write(buf); err != nil {
		j.rescue(fmt.Errorf("write %s: %w", j.where.Path, err))
		return
	}
	j.offset += int64(len(buf))
	j.hash.Write(buf)
	j.journalled = true
}

// sync makes everything written durable.
func (j *Journal) sync() {
	if j.file == nil || j.synced == j.offset {
		return
	}
	if err := j.file.Sync(); err != nil {
		j.rescue(fmt.Errorf("sync %s: %w", j.where.Path, err))
		return
	}
	j.synced = j.offset
	j.timer = nil
}

// notDurable is the error that callers get once a write or sync has failed.
func (j *Journal) notDurable() error {
	if j.err == nil {
		return nil
	}
	return failed("journal", j.path, j.err)
}

// finish ends the journal, in the writer goroutine, after the last batch.
func (j *Journal) finish() error {
	if j.started {
		// The lines become durable before the close line says so, so that its
		// sync mark covers all of them.
		j.sync()
	}
	if j.started && !j.abandon {
		j.append(j.appendClose(nil))
		j.sync()
	}
	if j.file == nil {
		return errors.Join(j.err, j.lastResort())
	}
	if err := j.letGo(); err != nil {
		return errors.Join(j.err, fmt.Errorf("close %s: %w", j.where.Path, err))
	}
	if j.abandon || j.away || !j.journalled || len(j.intents) > 0 {
		return j.err
	}
	return errors.Join(j.err, j.compact())
}

// letGo closes the file. Everything in it has been synced, or the failure is
// known already.
func (j *Journal) letGo() error {
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}

// compact folds the journal into the snapshot. Until the rename the file with
// its journal stays as it is: valid, durable and complete.
func (j *Journal) compact() error {
	now := j.current()
	note, err := j.replaceState(now, false)
	if err == nil || !errors.Is(err, ErrReplaced) {
		if err != nil {
			err = fmt.Errorf("the journal in %s is complete, but was not folded into the snapshot: %w", j.path, err)
		}
		if note != "" {
			j.note("%s", note)
		}
		return err
	}
	// Their file stays untouched, and ours is not lost.
	for _, place := range j.otherPlaces() {
		_, saveErr := saveNew(place, now)
		if saveErr == nil {
			return fmt.Errorf("%w; what this run did is in %s", err, place.Path)
		}
		err = errors.Join(err, saveErr)
	}
	return errors.Join(err, j.lastResort())
}

// replaceState puts s into the place of the state file, if that is still what
// was read and written; with longer, bytes of a failed write may follow.
func (j *Journal) replaceState(s *State, longer bool) (note string, err error) {
	still := func() error { return sameBytes(j.fsys, j.path, j.id, j.offset, j.hash.Sum(nil), longer) }
	info, note, err := replace(j.fsys, j.path, j.opts.Rand, s.fill, still, true)
	if err == nil {
		s.file = info
	}
	return note, err
}

// current is the state with everything this run has done.
func (j *Journal) current() *State {
	s := &State{snap: j.state.snap, replay: replay{changes: j.changes}}
	s.keys = s.replay.keys()
	return s
}
