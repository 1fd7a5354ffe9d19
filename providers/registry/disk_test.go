package registry

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers/registry/registrytest"
)

func openDisk(t *testing.T, dir string) *Disk {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	d, err := OnDisk(root, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir)
	u := Unfinished{Host: "../../x", Repository: "a/b", Digest: digestA, Size: 9, Location: "/v2/u", Offset: 5, HashedAt: 4, Hash: []byte{1}, Source: "y/z", Saved: time.Unix(1, 0).UTC()}
	l := Lessons{Refused: []Upload{UploadPut}, MaxBody: 7, Until: time.Unix(2, 0).UTC()}
	for range 2 {
		if err := d.Save(u); err != nil {
			t.Fatal(err)
		}
		if err := d.Learn("h:1", l); err != nil {
			t.Fatal(err)
		}
	}
	d = openDisk(t, dir)
	got, ok := d.Load(u.Host, u.Repository, u.Digest)
	if diff := cmp.Diff(u, got); !ok || diff != "" {
		t.Errorf("loaded %t (-want +got):\n%s", ok, diff)
	}
	if diff := cmp.Diff(l, d.Lessons("h:1")); diff != "" {
		t.Errorf("lessons (-want +got):\n%s", diff)
	}
	all := files(t, dir)
	if len(all) != 2 {
		t.Errorf("files %v, want two", all)
	}
	for _, f := range all {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f, info.Mode())
		}
		if err := os.WriteFile(f, []byte(`{"size":`), 0o600); err != nil { // torn
			t.Fatal(err)
		}
	}
	if _, ok := d.Load(u.Host, u.Repository, u.Digest); ok {
		t.Error("a torn entry was loaded")
	}
	if diff := cmp.Diff(Lessons{}, d.Lessons("h:1")); diff != "" {
		t.Errorf("lessons of a torn file:\n%s", diff)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := OnDisk(root, time.Now().Add(8*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if all := files(t, dir); len(all) != 1 || !strings.Contains(all[0], lessonsFolder) {
		t.Errorf("a week later there are %v, want only the lessons", all)
	}
}

// Between real registries, with credentials, over a restart: the blob is taken
// up, and no secret is in the files.
func TestTakeUpOnDisk(t *testing.T) {
	l := newLane(t, registrytest.WithBasicAuth())
	dir := t.TempDir()
	l.ledger = openDisk(t, dir)
	l.login = true
	l.breakOff(t, 10)
	all := files(t, dir)
	if len(all) != 1 {
		t.Fatalf("files %v, want one", all)
	}
	body, err := os.ReadFile(all[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range registrytest.Canaries() {
		if strings.Contains(string(body), secret) {
			t.Errorf("the ledger holds a credential: %s", body)
		}
	}
	l.ledger = openDisk(t, dir)
	l.copy(t)
	if sent := l.sent(); sent > l.size()*12/100 {
		t.Errorf("%d of %d bytes sent again", sent, l.size())
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("files left: %v", left)
	}
}

// The same with the real registry, which signs its state into the address of a
// session.
func TestTakeUpAtDistribution(t *testing.T) {
	source := registrytest.Start(t)
	dest := registrytest.Distribution(t, registrytest.WithRecorder())
	l := &laneTest{source: source, layer: registrytest.Layer(7, blobSize), clock: newQuick()}
	l.image = registrytest.Image(1, l.layer)
	registrytest.Push(t, source.Host(), "a", "1", l.image)
	l.job = Job{From: repo(source.Host(), "a"), To: repo(dest.Host(), "b"), Root: l.image.Digest(), Tags: []string{"1"}, Fresh: true}
	l.dest = &registrytest.Server{Recorder: dest.Recorder, Faults: dest.Faults}
	l.at = dest.Host()
	dir := t.TempDir()
	l.ledger = openDisk(t, dir)
	l.breakOff(t, 10)
	if body, err := os.ReadFile(files(t, dir)[0]); err != nil || strings.Contains(string(body), "_state") {
		t.Errorf("%v; the ledger holds a signed address: %s", err, body)
	}
	result := mustCopy(t, NewCopier(l.client(t)), l.job)
	if sent := l.sent(); sent > l.size()*12/100 {
		t.Errorf("%d of %d bytes sent again: %+v", sent, l.size(), result)
	}
	dest.Faults.Add(registrytest.Fault{Method: "PATCH", Nth: 2, CutRequest: 30_000}, registrytest.Fault{Method: "PATCH", Nth: 5, Late: true, Drop: true})
	l.job.To.Path = "c"
	dest.Recorder.Reset()
	cut := NewCopier(l.client(t))
	cut.client.known = newKnowledge()
	mustCopy(t, cut, l.job)
	registrytest.VerifyTree(t, dest.Host())
	if again := l.sent() - l.size(); again > l.size()*12/100 {
		t.Errorf("%d of %d bytes sent again after two cuts", again, l.size())
	}
}
