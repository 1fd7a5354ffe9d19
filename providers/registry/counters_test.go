package registry

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers/registry/registrytest"
)

// sameRequests compares what was counted with what the registry saw.
func sameRequests(t *testing.T, c *Client, s *registrytest.Server) Counters {
	t.Helper()
	counted := c.Stats()[s.Host()]
	seen := map[string]int64{}
	for name, n := range s.Recorder.Counts() {
		seen[name] = int64(n)
	}
	if diff := cmp.Diff(seen, counted.Requests); diff != "" {
		t.Errorf("requests (-seen +counted):\n%s", diff)
	}
	return counted
}

// A request that net/http repeats on its own, since its connection ended, is on
// the wire twice and counts twice.
func TestSilentRepeatsAreCounted(t *testing.T) {
	s := registrytest.Start(t)
	image := registrytest.Image(1)
	registrytest.Push(t, s.Host(), "a", "1", image)
	s.Recorder.Reset()
	c := plainClient(t, s.Host())
	s.Faults.Add(registrytest.Fault{Nth: 2, Drop: true})
	for range 3 {
		if _, err := c.Head(t.Context(), repo(s.Host(), "a"), "1"); err != nil {
			t.Fatal(err)
		}
	}
	if counted := sameRequests(t, c, s); counted.Requests["HEAD manifest"] != 4 || counted.Retries != 1 {
		t.Errorf("counted %+v, want 4 requests, one of them a retry", counted)
	}
}

// Whatever breaks, requests and bytes are those that the registries saw. What a
// cut connection swallowed was sent, though nobody read it.
func TestCountersOfBrokenTransfers(t *testing.T) {
	layer := registrytest.Layer(7, blobSize)
	blob := "/blobs/" + string(layer.Digest())
	for _, tt := range []struct {
		name             string
		source, dest     []registrytest.Fault
		fromSource, kept int64 // resumed at the source, at the destination
		retries          int64 // at both
		lost             bool  // the destination did not read all that was sent
	}{
		{name: "nothing"},
		{name: "the source, twice", source: []registrytest.Fault{{Method: "GET", Path: blob, CutResponse: 100_000, Times: 2}}, fromSource: 100_000 + 200_000, retries: 2},
		{name: "a source without ranges", source: []registrytest.Fault{
			{Method: "GET", Path: blob, CutResponse: 100_000},
			{Method: "GET", Path: blob, Nth: 2, Status: 200, Body: string(layer.Data)},
		}, retries: 1},
		{name: "a chunk", dest: []registrytest.Fault{{Method: "PATCH", Nth: 4, CutRequest: 10_000}},
			fromSource: 3 * small.chunk, kept: 3*small.chunk + 10_000, retries: 1, lost: true},
		{name: "the end", dest: []registrytest.Fault{{Method: "PUT", Path: "digest=sha256%3A" + layer.Digest().Hex(), Status: 503}},
			kept: int64(len(layer.Data)), retries: 1},
		{name: "and the session is gone", dest: []registrytest.Fault{{Method: "PATCH", Nth: 4, Status: 503}, {Method: "PATCH", Nth: 6, Status: http.StatusNotFound}},
			fromSource: 3 * small.chunk, retries: 2, lost: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLane(t)
			c := l.client(t)
			l.source.Faults.Add(tt.source...)
			l.dest.Faults.Add(tt.dest...)
			mustCopy(t, NewCopier(c), l.job)
			from, to := sameRequests(t, c, l.source), sameRequests(t, c, l.dest)
			in, out := l.dest.Recorder.Bytes()
			if _, read := l.source.Recorder.Bytes(); !tt.lost && from.BytesReceived != read {
				t.Errorf("%d bytes received of the source, which wrote %d", from.BytesReceived, read)
			}
			if to.BytesReceived > out || to.BytesSent < in || !tt.lost && to.BytesSent != in {
				t.Errorf("%d bytes sent and %d received, the destination read %d and wrote %d", to.BytesSent, to.BytesReceived, in, out)
			}
			if from.Resumed != tt.fromSource || to.Resumed != tt.kept {
				t.Errorf("resumed %d and %d, want %d and %d", from.Resumed, to.Resumed, tt.fromSource, tt.kept)
			}
			if n := from.Retries + to.Retries; n != tt.retries {
				t.Errorf("%d retries, want %d", n, tt.retries)
			}
		})
	}
}
