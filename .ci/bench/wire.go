package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// wire is a TCP proxy in front of a registry: a line with a length and a width,
// and one that can be cut. The line is made here and not with network namespaces
// and tc, since the kernels of many build machines have no netem, and tbf alone
// gives a width but no length.
//
//	client ──> read ──> wait for the line ──> queue, half a round trip ──> registry
//
// What it does not imitate is TCP's slow start: a new connection has the whole
// line at once. That favours tools which open many.
type wire struct {
	address  string
	target   string
	listener net.Listener
	trip     time.Duration // of a round trip; half of it each way
	up, down *line         // nil: as wide as loopback
	sent     atomic.Int64  // bytes from clients
	received atomic.Int64  // bytes to clients
	onSent   func(total int64)

	mu    sync.Mutex
	conns map[*net.TCPConn]bool
}

// line has a width, shared by all connections in one direction.
type line struct {
	bytesPerSecond float64
	mu             sync.Mutex
	free           time.Time
}

// slack is how far behind the clock a line may catch up, so that a sleep that
// takes too long does not narrow it.
const slack = 5 * time.Millisecond

// pass is when n bytes are through.
func (l *line) pass(n int) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if earliest := time.Now().Add(-slack); l.free.Before(earliest) {
		l.free = earliest
	}
	l.free = l.free.Add(time.Duration(float64(n) / l.bytesPerSecond * float64(time.Second)))
	return l.free
}

// startWire listens for connections to target. bitsPerSecond 0 is no bound.
func startWire(target string, trip time.Duration, bitsPerSecond float64, onSent func(total int64)) (*wire, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &wire{address: listener.Addr().String(), target: target, listener: listener, trip: trip, onSent: onSent, conns: map[*net.TCPConn]bool{}}
	if bitsPerSecond > 0 {
		w.up, w.down = &line{bytesPerSecond: bitsPerSecond / 8}, &line{bytesPerSecond: bitsPerSecond / 8}
	}
	go w.accept()
	return w, nil
}

func (w *wire) stop() {
	w.listener.Close()
	w.cut()
}

// cut ends every connection at once, as a line that breaks does.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for conn := range w.conns {
		conn.SetLinger(0)
		conn.Close()
	}
}

func (w *wire) accept() {
	for {
		conn, err := w.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		go w.connect(conn.(*net.TCPConn))
	}
}

func (w *wire) connect(client *net.TCPConn) {
	defer client.Close()
	time.Sleep(w.trip) // the handshake
	conn, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	registry := conn.(*net.TCPConn)
	defer registry.Close()
	w.hold(client, registry)
	defer w.release(client, registry)
	var both sync.WaitGroup
	both.Go(func() {
		w.pump(registry, client, w.up, func(n int) {
			total := w.sent.Add(int64(n))
			if w.onSent != nil {
				w.onSent(total)
			}
		})
	})
	both.Go(func() { w.pump(client, registry, w.down, func(n int) { w.received.Add(int64(n)) }) })
	both.Wait()
}

func (w *wire) hold(conns ...*net.TCPConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, conn := range conns {
		w.conns[conn] = true
	}
}

func (w *wire) release(conns ...*net.TCPConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, conn := range conns {
		delete(w.conns, conn)
	}
}

// parcel is data on its way, and when it arrives.
type parcel struct {
	data []byte
	due  time.Time
}

// window bounds what is on its way in one direction of a connection: 128
// parcels of at most 16 KiB, eight times what 200 Mbit/s hold in 10 ms.
const window, parcelSize = 128, 16 << 10

// pump moves what comes from from to to. Its end is passed on as an end.
func (w *wire) pump(to, from *net.TCPConn, through *line, passed func(n int)) {
	if through == nil && w.trip == 0 {
		w.pumpPlain(to, from, passed)
		return
	}
	queue := make(chan parcel, window)
	go func() {
		defer close(queue)
		for {
			data := make([]byte, parcelSize)
			n, err := from.Read(data)
			if n > 0 {
				due := time.Now()
				if through != nil {
					due = through.pass(n)
					time.Sleep(time.Until(due))
				}
				queue <- parcel{data[:n], due.Add(w.trip / 2)}
			}
			if err != nil {
				return
			}
		}
	}()
	broken := false
	for p := range queue {
		if broken {
			continue // lets the reader go
		}
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.data); err != nil {
			broken = true
			from.Close()
			continue
		}
		passed(len(p.data))
	}
	to.CloseWrite()
}

func (w *wire) pumpPlain(to, from *net.TCPConn, passed func(n int)) {
	buffer := make([]byte, 256<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				from.Close()
				return
			}
			passed(n)
		}
		if err == io.EOF {
			to.CloseWrite()
			return
		}
		if err != nil {
			to.Close()
			return
		}
	}
}
