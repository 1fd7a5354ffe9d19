package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// A long and narrow line delivers every byte in order, not before the time that
// its length and width ask for, and counts them.
func TestWire(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() { // echoes when it has everything
		conn, err := server.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		all, _ := io.ReadAll(conn)
		conn.Write(all)
	}()
	const trip, bits = 20 * time.Millisecond, 80e6
	w, err := startWire(server.Addr().String(), trip, bits, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.stop()

	want := make([]byte, 500_000)
	rand.NewChaCha8([32]byte{}).Read(want)
	started := time.Now()
	conn, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(started)
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back, and not those that were sent", len(got))
	}
	// The handshake, a trip there and back, and twice 50 ms for the width, less
	// the slack of both lines.
	if least := 2*trip + 100*time.Millisecond - 2*slack; took < least {
		t.Errorf("it took %s, less than %s", took, least)
	}
	if w.sent.Load() != int64(len(want)) || w.received.Load() != int64(len(want)) {
		t.Errorf("counted %d there and %d back, not %d", w.sent.Load(), w.received.Load(), len(want))
	}
}
