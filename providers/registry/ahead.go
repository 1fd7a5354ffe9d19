package registry

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// ahead reads a source in a goroutine of its own, a few buffers ahead, so that
// reading and hashing run beside writing:
//
//	source -> verified (hash) -> [ ][ ][ ][ ] -> request body
type ahead struct {
	source io.Reader
	full   chan piece
	free   chan []byte
	quit   chan struct{}
	done   chan struct{}
	hungry atomic.Bool // the reader waits for a piece
	now    []byte      // what is left of the piece being read
	whole  []byte      // the buffer it lies in
	err    error
	leave  func()
}

type piece struct {
	buffer []byte
	n      int
	err    error
}

const (
	// Large pieces, since each that changes hands wakes a thread: with 1 MiB in place
	// of 128 KiB a layer of 3 GiB costs a third fewer context switches.
	aheadBuffer = 1 << 20
	aheadCount  = 4
	// aheadMost bounds the buffers of all transfers together. Who finds none free
	// reads without: nobody ever waits for buffers that a stalled transfer holds.
	aheadMost = 8 << 20
)

var aheadBuffers = sync.Pool{New: func() any { return new([aheadBuffer]byte) }}

// readAhead is source read ahead when there is room. It is for large blobs, where
// one stream may be all that moves: among many small ones the processors have
// enough to do, and their buffers would be most of what the program holds.
// stop must be called, after the source can not block any more.
func readAhead(source io.Reader, room *semaphore.Weighted) (content io.Reader, stop func()) {
	if !room.TryAcquire(aheadBuffer * aheadCount) {
		return source, func() {}
	}
	a := &ahead{source: source, full: make(chan piece, aheadCount), free: make(chan []byte, aheadCount),
		quit: make(chan struct{}), done: make(chan struct{}), leave: func() { room.Release(aheadBuffer * aheadCount) }}
	buffers := make([]*[aheadBuffer]byte, aheadCount)
	for i := range buffers {
		buffers[i] = aheadBuffers.Get().(*[aheadBuffer]byte)
		a.free <- buffers[i][:]
	}
	go a.run()
	return a, func() {
		close(a.quit)
		<-a.done
		a.err = errors.New("the transfer is over")
		a.now = nil
		for _, b := range buffers {
			aheadBuffers.Put(b)
		}
		a.leave()
	}
}

func (a *ahead) run() {
	defer close(a.done)
	for {
		var p piece
		select {
		case p.buffer = <-a.free:
		case <-a.quit:
			return
		}
		// Small reads are gathered while nobody waits for them.
		for p.n < aheadBuffer*3/4 && p.err == nil && (p.n == 0 || !a.hungry.Load()) {
			var n int
			n, p.err = a.source.Read(p.buffer[p.n:])
			p.n += n
		}
		a.full <- p // has room for every buffer there is
		if p.err != nil {
			return
		}
	}
}

func (a *ahead) Read(p []byte) (int, error) {
	for len(a.now) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.whole != nil {
			a.free <- a.whole
			a.whole = nil
		}
		var next piece
		a.hungry.Store(true)
		select {
		case next = <-a.full:
		case <-a.done:
			select {
			case next = <-a.full:
			default:
				return 0, io.ErrUnexpectedEOF
			}
		}
		a.hungry.Store(false)
		a.whole, a.now, a.err = next.buffer, next.buffer[:next.n], next.err
	}
	n := copy(p, a.now)
	a.now = a.now[n:]
	return n, nil
}
