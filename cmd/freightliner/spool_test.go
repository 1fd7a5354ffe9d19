package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"freightliner/providers/registry/registrytest"
)

// spoolLayer is more than what counts as a large blob.
const spoolLayer = 66 << 20

// newSpoolMirror is a mirror of one image with a large layer, to a registry that
// takes no chunks.
func newSpoolMirror(t *testing.T) (m *mirror, source, destination *registrytest.Server, layer registrytest.Blob) {
	t.Helper()
	layer = registrytest.Blob{MediaType: "application/vnd.oci.image.layer.v1.tar", Data: make([]byte, spoolLayer)}
	rand.NewChaCha8([32]byte{7}).Read(layer.Data)
	p := registrytest.Generic
	p.Upload.NoRange, p.Upload.Chunked = true, registrytest.Refusal{Status: 405, Code: "UNSUPPORTED"}
	source, destination = registrytest.Start(t), registrytest.Start(t, registrytest.As(p))
	registrytest.Push(t, source.Host(), "acme/app", "1", registrytest.Image(1, layer))
	return newMirror(t, source.Host(), destination.Host()), source, destination, layer
}

// spooledFiles are the names in the spool of m.
func spooledFiles(t *testing.T, m *mirror) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(m.dir, ".freightliner", "spool"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestSpoolOverAKill kills the program when the destination has nine tenths of a
// layer: the next apply sends all of it again, and reads only the rest.
func TestSpoolOverAKill(t *testing.T) {
	m, source, destination, layer := newSpoolMirror(t)
	gate := registrytest.NewGate(t)
	destination.Faults.Add(registrytest.Fault{Method: "PUT", Path: layer.Digest().Hex(), Gate: gate, GateAt: spoolLayer * 9 / 10})
	cmd, out := m.command("apply", "-auto-approve", "-spool", "200MB")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it was killed
	}()
	select {
	case <-gate.Reached():
	case <-ended:
		t.Fatalf("it ended by itself:\n%s", out)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	gate.Open()
	destination.Faults.Clear()
	file := filepath.Join(m.dir, ".freightliner", "spool", "sha256-"+layer.Digest().Hex()+".partial")
	if names := spooledFiles(t, m); len(names) != 1 || names[0] != filepath.Base(file) {
		t.Fatalf("the spool holds %v", names)
	}
	info, err := os.Stat(file)
	if err != nil || info.Size() < spoolLayer*9/10 {
		t.Fatalf("%v, %v; want nine tenths of %d", info, err, spoolLayer)
	}
	if err := os.Truncate(file, spoolLayer*9/10); err != nil { // some was in flight
		t.Fatal(err)
	}

	source.Recorder.Reset()
	m.run(exitDone, "apply", "-auto-approve", "-spool", "200MB", "-report", "report.json")
	registrytest.VerifyTree(t, destination.Host())
	reads := source.Recorder.Where(func(r registrytest.Request) bool { return r.Method == "GET" && r.Reference == string(layer.Digest()) })
	if len(reads) != 1 || reads[0].Header.Get("Range") != fmt.Sprintf("bytes=%d-", spoolLayer*9/10) {
		t.Errorf("the source was read by %v", reads)
	}
	var r report
	if b, err := os.ReadFile(filepath.Join(m.dir, "report.json")); err != nil || json.Unmarshal(b, &r) != nil {
		t.Fatalf("no report: %v", err)
	}
	if got := r.Registries[source.Host()]; got.Spooled != spoolLayer*9/10 || got.Received > spoolLayer*11/100 {
		t.Errorf("reported: %d bytes from the spool, %d received", got.Spooled, got.Received)
	}
	if names := spooledFiles(t, m); len(names) != 0 {
		t.Errorf("left in the spool: %v", names)
	}
}
