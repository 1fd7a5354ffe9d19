package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freightliner/executor"
	"freightliner/providers/registry"
	"freightliner/providers/registry/registrytest"
)

// sampleCounters have every number.
func sampleCounters() map[string]registry.Counters {
	return map[string]registry.Counters{
		"mirror.prod": {Requests: map[string]int64{"POST upload": 2, "PUT upload": 1}, BytesReceived: 7, BytesSent: 1000,
			Retries: 3, Throttled: 1, Mismatched: 2, Resumed: 40, Mounted: 30, Present: 20},
		"ghcr.io": {Requests: map[string]int64{"GET blob": 2744}, BytesReceived: 1300, Spooled: 900},
		"quay.io": {Requests: map[string]int64{}},
	}
}

// The conclusion has a line for each registry that was asked, in order, and at
// most ten. What a host is called can do nothing.
func TestWireLines(t *testing.T) {
	conclude := func(counters map[string]registry.Counters) string {
		var out bytes.Buffer
		s := &session{program: testProgram(), command: "apply", stats: func() map[string]registry.Counters { return counters }}
		a := &application{session: s, plan: samplePlan(), summary: &executor.Summary{Done: 3, Duration: time.Second}}
		a.plan.Problems = nil
		conclusion{&out, false, a}.write()
		return out.String()
	}
	want := `Apply complete! 3 done; 0 B moved, 0 B there already, in 1s.
  ghcr.io: 2,744 requests, 1.3 kB received, 900 B from the spool
  mirror.prod: 3 requests, 1.0 kB sent, 7 B received, 30 B mounted, 20 B there already, 40 B resumed, 3 retries, 1 throttled, 2 with wrong content
`
	if diff := cmp.Diff(want, conclude(sampleCounters())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	many := map[string]registry.Counters{hostile: {Requests: map[string]int64{"GET tags": 1}}}
	for i := range 1211 {
		many[fmt.Sprintf("r%04d.example.com", i)] = registry.Counters{Requests: map[string]int64{"GET tags": 1}}
	}
	got := conclude(many)
	if lines := strings.Count(got, "\n"); lines != 1+mostHosts+1 || !strings.HasSuffix(got, "  r0008.example.com: 1 request\n  and 1,202 more; -report=FILE lists all\n") {
		t.Errorf("got %d lines:\n%s", lines, got)
	}
	safeText(t, got)
	if got, want := conclude(nil), "Apply complete! 3 done; 0 B moved, 0 B there already, in 1s.\n"; got != want {
		t.Errorf("without a registry: %q, want %q", got, want)
	}
}

// toldCounts are what a stream says of registries.
type toldCounts struct {
	progress []map[string]wireProgress
	summary  map[string]wireReport
	done     summaryEvent
	retries  int // of actions
}

func toldIn(t *testing.T, stream []byte) (c toldCounts) {
	t.Helper()
	lines := bufio.NewScanner(bytes.NewReader(stream))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if problems := loadSchema().check(lines.Bytes()); problems != nil {
			t.Errorf("%v\n%s", problems, lines.Bytes())
		}
		var e struct {
			Progress *progressEvent
			Summary  *summaryEvent
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%v in %s", err, lines.Bytes())
		}
		if e.Progress != nil {
			c.progress, c.retries = append(c.progress, e.Progress.Registries), e.Progress.Retries
		}
		if e.Summary != nil {
			c.summary, c.done = e.Summary.Registries, *e.Summary
		}
	}
	if c.summary == nil {
		t.Fatal("no summary")
	}
	return c
}

// saw compares the counts of one registry with what it saw itself. Unread are the
// bytes that it was sent and answered without reading.
func (c toldCounts) saw(t *testing.T, s *registrytest.Server, what string, unread int64) wireReport {
	t.Helper()
	got := c.summary[s.Host()]
	want := map[string]int64{}
	for _, r := range s.Recorder.All() {
		if strings.Contains(r.Query, "mount=") {
			r.Kind = "mount"
		}
		want[r.Method+" "+r.Kind]++
	}
	if diff := cmp.Diff(want, got.Requests); diff != "" {
		t.Errorf("%s: requests (-seen +counted):\n%s", what, diff)
	}
	if in, out := s.Recorder.Bytes(); got.Sent != in+unread || got.Received != out {
		t.Errorf("%s: %d bytes sent and %d received, but it read %d, was sent %d more, and wrote %d", what, got.Sent, got.Received, in, unread, out)
	}
	return got
}

// TestCountsAreWhatRegistriesSaw applies with a blob that breaks off and is read
// on, a mount, an image that is there in part, a request that is tried again and
// an action that is: the events, the report and both registries have the same numbers.
func TestCountsAreWhatRegistriesSaw(t *testing.T) {
	source, dest := registrytest.Start(t), registrytest.Start(t)
	large, shared, old := registrytest.Layer(1, 3<<20), registrytest.Layer(2, 50_000), registrytest.Layer(3, 40_000)
	a, c := registrytest.Image(1, large, shared), registrytest.Image(3, old)
	registrytest.Push(t, source.Host(), "acme/a", "1", a)
	registrytest.Push(t, source.Host(), "acme/b", "1", registrytest.Image(2, shared))
	registrytest.Push(t, source.Host(), "acme/c", "1", c)
	registrytest.Push(t, dest.Host(), "mirror/c", "before", registrytest.Image(4, old))
	const cut = 2 << 20
	source.Faults.Add(registrytest.Fault{Method: "GET", Path: string(large.Digest()), CutResponse: cut})
	dest.Faults.Add(
		registrytest.Fault{Method: "PUT", Path: "mirror/a/manifests/1", Status: 503},
		// All tries of the first round, so that the action fails and comes again.
		registrytest.Fault{Method: "PUT", Path: "mirror/c/manifests/1", Status: 503, Times: 4},
	)
	m := newMirror(t, source.Host(), dest.Host())
	run := func(args ...string) toldCounts {
		t.Helper()
		source.Recorder.Reset()
		dest.Recorder.Reset()
		cmd, _ := m.command(append(args, "-json")...)
		var out, errors bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errors
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v: %v\n%s%s", args, err, &errors, &out)
		}
		return toldIn(t, out.Bytes())
	}

	plan := run("plan")
	plan.saw(t, source, "plan, source", 0)
	plan.saw(t, dest, "plan, destination", 0)

	apply := run("apply", "-auto-approve", "-report=report.json")
	from, to := apply.saw(t, source, "apply, source", 0), apply.saw(t, dest, "apply, destination", int64(len(a.Raw)+4*len(c.Raw)))
	if from.Resumed != cut || from.Retries != 1 || from.Sent != 0 {
		t.Errorf("source: %+v, want one retry that resumed behind %d bytes, and nothing sent", from, cut)
	}
	// The second round of c finds its layer again, and the config that the first one brought.
	present := int64(2*len(old.Data) + len(c.Blobs[0].Data))
	if to.Mounted != int64(len(shared.Data)) || to.Present != present || to.Retries != 1+3 || to.Resumed != 0 {
		t.Errorf("destination: %+v, want %d bytes mounted, %d there already, four retries", to, len(shared.Data), present)
	}
	if apply.retries != 1 {
		t.Errorf("%d actions were tried again, want one", apply.retries)
	}
	if apply.done.Present != to.Mounted+to.Present || apply.done.Bytes >= to.Sent {
		t.Errorf("the actions moved %d bytes and found %d, on the wire were %d, and %d did not have to be", apply.done.Bytes, apply.done.Present, to.Sent, to.Mounted+to.Present)
	}
	written, err := os.ReadFile(filepath.Join(m.dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var told report
	if err := json.Unmarshal(written, &told); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(apply.summary, told.Registries, cmp.AllowUnexported(wireReport{})); diff != "" || told.Retries != apply.retries || told.Summary.Registries != nil {
		t.Errorf("the report is not as the summary, or has it twice (-summary +report):\n%s", diff)
	}
	last := apply.progress[len(apply.progress)-1]
	for host, sum := range apply.summary {
		n := int64(0)
		for _, of := range sum.Requests {
			n += of
		}
		if want := (wireProgress{n, sum.wireCounts}); last[host] != want {
			t.Errorf("%s: the last progress has %+v, the summary %+v", host, last[host], want)
		}
	}

	for _, args := range [][]string{{"drift"}, {"destroy", "-auto-approve"}} {
		c := run(args...)
		c.saw(t, dest, args[0]+", destination", 0)
		if args[0] == "drift" {
			c.saw(t, source, "drift, source", 0)
		} else if len(c.summary) != 1 {
			t.Errorf("destroy asked %v", c.summary)
		}
	}
}
