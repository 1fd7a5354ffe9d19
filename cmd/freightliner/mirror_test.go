package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"freightliner/planner"
	"freightliner/providers/registry/registrytest"
	"freightliner/statefile"
)

// mirror is a directory with a configuration for one tree, and the program.
type mirror struct {
	t    testing.TB
	dir  string
	home string
}

func newMirror(t testing.TB, source, destination string) *mirror {
	t.Helper()
	m := &mirror{t: t, dir: t.TempDir(), home: t.TempDir()}
	text := fmt.Sprintf(`registry "source" {
  host       = %q
  plain_http = true
}

registry "destination" {
  host       = %q
  plain_http = true
}

tree "all" {
  source      = "${registry.source.host}/acme"
  destination = "${registry.destination.host}/mirror"
}
`, source, destination)
	if err := os.WriteFile(filepath.Join(m.dir, "main.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return m
}

// command prepares a run of the real program, as a process of its own.
func (m *mirror) command(args ...string) (*exec.Cmd, *bytes.Buffer) {
	m.t.Helper()
	program, err := exec.LookPath("freightliner") // TestMain put it there
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), "HOME="+m.home, "NO_PROXY=127.0.0.1")
	out := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

func (m *mirror) run(wantExit int, args ...string) string {
	m.t.Helper()
	cmd, out := m.command(args...)
	_ = cmd.Run() // the exit code is what counts
	if got := cmd.ProcessState.ExitCode(); got != wantExit {
		m.t.Fatalf("freightliner %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, wantExit, out)
	}
	return out.String()
}

// finished are the destination tags that the state has as done, journal
// included, as "repository:tag".
func (m *mirror) finished() map[string]bool {
	m.t.Helper()
	root, err := os.OpenRoot(m.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	defer root.Close()
	state, err := statefile.Read(statefile.OS(root), "freightliner.state")
	if err != nil {
		m.t.Fatal(err)
	}
	done := map[string]bool{}
	for record := range state.All() {
		if record.Kind == statefile.KindTag {
			done["mirror/"+strings.TrimPrefix(record.Address[len(planner.BlockOf(record.Address)):], "/")] = true
		}
	}
	return done
}

var manifestPut = regexp.MustCompile(`^/v2/(.+)/manifests/([^/:]+)$`)

// written are the tags that were written since the recorder was reset.
func written(r *registrytest.Recorder) []string {
	var tags []string
	for _, request := range r.Writes() {
		if match := manifestPut.FindStringSubmatch(request.Path); match != nil && request.Method == "PUT" && request.Status == 201 {
			tags = append(tags, match[1]+":"+match[2])
		}
	}
	return tags
}

// TestMirrorKilledTenTimes mirrors 40 repositories × 5 tags between two real
// registries, is killed at ten random moments, and ends with the same tree and
// without having written a finished tag twice.
func TestMirrorKilledTenTimes(t *testing.T) {
	source := registrytest.Distribution(t)
	destination := registrytest.Distribution(t, registrytest.WithRecorder())
	registrytest.Fill(t, source.Host(), registrytest.Tree{
		Repositories: 40, Tags: 5, Prefix: "acme", Indexes: true, LayerSize: 16 << 10, BaseSize: 256 << 10, Signed: true, SBOMs: true,
	})
	m := newMirror(t, source.Host(), destination.Host())
	random := rand.New(rand.NewPCG(1, uint64(os.Getpid())))
	killed := 0
	for killed < 10 {
		before := m.finishedIfAny()
		destination.Recorder.Reset()
		gate := registrytest.NewGate(t)
		method := []string{"POST", "PUT"}[random.IntN(2)]
		destination.Faults.Add(registrytest.Fault{Method: method, Nth: 1 + random.IntN(200), Gate: gate, Late: random.IntN(2) == 0})
		cmd, out := m.command("apply", "-auto-approve")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-gate.Reached():
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-ended
			killed++
		case err := <-ended: // finished before the write we waited for
			if err != nil {
				t.Fatalf("apply: %v\n%s", err, out)
			}
			t.Logf("finished after %d kills", killed)
			killed = 10
		}
		gate.Open()
		destination.Faults.Clear()
		for _, tag := range written(destination.Recorder) {
			if before[tag] {
				t.Errorf("kill %d: %s was finished before and was written again", killed, tag)
			}
		}
	}
	destination.Recorder.Reset()
	before := m.finished()
	m.run(0, "apply", "-auto-approve")
	for _, tag := range written(destination.Recorder) {
		if before[tag] {
			t.Errorf("%s was finished before and was written again", tag)
		}
	}
	destination.Recorder.Reset()
	m.run(0, "plan", "-detailed-exitcode")
	if writes := destination.Recorder.Writes(); len(writes) > 0 {
		t.Errorf("a plan wrote: %v", writes)
	}
	registrytest.Equal(t,
		registrytest.Inventory(t, destination.Host()).Under("mirror").WithoutFallback(),
		registrytest.Inventory(t, source.Host()).Under("acme").WithoutFallback())
	report := registrytest.VerifyTree(t, destination.Host())
	t.Logf("read back: %+v", report)
}

// finishedIfAny is finished, or nothing when there is no state yet.
func (m *mirror) finishedIfAny() map[string]bool {
	m.t.Helper()
	if _, err := os.Stat(filepath.Join(m.dir, "freightliner.state")); err != nil {
		return nil
	}
	return m.finished()
}
