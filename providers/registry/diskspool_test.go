package registry_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"freightliner/providers"
	"freightliner/providers/disk"
	"freightliner/providers/registry"
	"freightliner/providers/registry/registrytest"
)

// brokenDisk fails what touches files in the way that its fields say, and knows
// how much there is at most at any time.
type brokenDisk struct {
	disk.FS
	failWrite  error // after room bytes
	room       int64
	failRead   error
	reserveErr error // nil: it can not be asked

	mu   sync.Mutex
	size map[string]int64
	most int64
}

func (b *brokenDisk) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := b.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	broken := &brokenFile{File: f, disk: b, name: name}
	if b.reserveErr != nil {
		return reservingFile{broken}, nil
	}
	return broken, nil
}

func (b *brokenDisk) Remove(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.size, name)
	return b.FS.Remove(name)
}

type brokenFile struct {
	disk.File
	disk *brokenDisk
	name string
}

func (f *brokenFile) Read(p []byte) (int, error) {
	if f.disk.failRead != nil {
		return 0, f.disk.failRead
	}
	return f.File.Read(p)
}

func (f *brokenFile) Write(p []byte) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.failWrite != nil {
		if f.disk.room < int64(len(p)) {
			n, _ := f.File.Write(p[:f.disk.room])
			f.disk.room = 0
			return n, f.disk.failWrite
		}
		f.disk.room -= int64(len(p))
	}
	if f.disk.size == nil {
		f.disk.size = map[string]int64{}
	}
	f.disk.size[f.name] += int64(len(p))
	var all int64
	for _, n := range f.disk.size {
		all += n
	}
	f.disk.most = max(f.disk.most, all)
	return f.File.Write(p)
}

type reservingFile struct{ *brokenFile }

func (f reservingFile) Reserve(int64, int64) error { return f.disk.reserveErr }

// Nothing that goes wrong on the disk fails a copy; it is told once, and what was
// spooled does not stay.
func TestNoRoomForTheSpool(t *testing.T) {
	full := &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	broken := &fs.PathError{Op: "write", Path: "x", Err: syscall.EIO}
	for name, fsys := range map[string]*brokenDisk{
		"full from the start":     {failWrite: full},
		"full in the second blob": {failWrite: full, room: spoolLayer * 3 / 2},
		"written badly":           {failWrite: broken, room: 100_000},
		"read badly":              {failRead: broken},
		"no room to reserve":      {reserveErr: syscall.ENOSPC},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpoolTest(t, registrytest.GHCR, 3)
			fsys.FS = diskAt(t, s.dir)
			s.fsys = fsys
			for _, layer := range s.layers {
				s.nineTenths(layer, registrytest.Fault{})
			}
			s.copy(t)
			if n := strings.Count(s.log.String(), "the spool can not be used"); n != 1 {
				t.Errorf("told %d times:\n%s", n, s.log.String())
			}
			s.wantEmpty(t)
		})
	}
	t.Run("reserving is not known", func(t *testing.T) {
		s := newSpoolTest(t, registrytest.GHCR, 1)
		s.fsys = &brokenDisk{FS: diskAt(t, s.dir), reserveErr: syscall.ENOTSUP}
		s.nineTenths(s.layers[0], registrytest.Fault{})
		if got := s.copy(t); got.Spooled == 0 || s.log.Len() > 0 {
			t.Errorf("%d bytes spooled; told %s", got.Spooled, s.log.String())
		}
	})
}

// A link in the place of a file is not followed, not written through and not
// removed; the blob goes without the spool.
func TestSpoolFollowsNoLinks(t *testing.T) {
	for name, place := range map[string]func(t *testing.T, s *spoolTest, file string) (kept string){
		"out of the directory": func(t *testing.T, s *spoolTest, file string) string {
			target := filepath.Join(t.TempDir(), "precious")
			symlink(t, target, file)
			return target
		},
		"within the directory": func(t *testing.T, s *spoolTest, file string) string {
			symlink(t, "../precious", file)
			return filepath.Join(s.dir, "precious")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpoolTest(t, registrytest.GHCR, 1)
			if err := os.Mkdir(filepath.Join(s.dir, "spool"), 0o700); err != nil {
				t.Fatal(err)
			}
			target := place(t, s, s.file(s.layers[0]))
			if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			s.nineTenths(s.layers[0], registrytest.Fault{})
			s.copy(t)
			if b, err := os.ReadFile(target); err != nil || string(b) != "precious" {
				t.Errorf("the target holds %.20q, %v", b, err)
			}
			if names, _ := s.left(t); len(names) != 1 {
				t.Errorf("%v in the spool, want the link", names)
			}
			if n := strings.Count(s.log.String(), "the spool can not be used"); n != 1 {
				t.Errorf("told %d times:\n%s", n, s.log.String())
			}
		})
	}
	for name, make := range map[string]func(dir string) error{
		"the folder is a link": func(dir string) error { return os.Symlink(".", filepath.Join(dir, "spool")) },
		"the folder is a file": func(dir string) error { return os.WriteFile(filepath.Join(dir, "spool"), nil, 0o600) },
		"the folder is everyone's": func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "spool"), 0o700), os.Chmod(filepath.Join(dir, "spool"), 0o777))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := make(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := registry.SpoolOnDisk(diskAt(t, dir), 1000); !errors.Is(err, disk.ErrUnsafe) {
				t.Errorf("error %v, want unsafe", err)
			}
		})
	}
}

func symlink(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

// Several blobs at once never take more than the limit; those that have no room
// go without, and the others are spooled.
func TestSpoolLimit(t *testing.T) {
	s := newSpoolTest(t, registrytest.GHCR, 5)
	fsys := &brokenDisk{FS: diskAt(t, s.dir)}
	s.fsys, s.limit = fsys, 2*spoolLayer+spoolLayer/2
	s.interrupted(t) // when all five have nine tenths
	if fsys.most > s.limit {
		t.Errorf("%d bytes at most, of %d", fsys.most, s.limit)
	}
	names, n := s.left(t)
	if len(names) != 2 || n < 2*spoolLayer*9/10 {
		t.Errorf("%v left, of %d bytes; want two with nine tenths each", names, n)
	}
	s.limit *= 10 // else one of the others may come first, and make room of these
	if got := s.copy(t); got.Spooled != n {
		t.Errorf("%d bytes spooled, of %d", got.Spooled, n)
	}
	s.wantEmpty(t)

	s = newSpoolTest(t, registrytest.GHCR, 1)
	s.limit = spoolLayer / 2
	s.nineTenths(s.layers[0], registrytest.Fault{})
	if got := s.copy(t); got.Spooled != 0 || s.log.Len() > 0 {
		t.Errorf("%d bytes spooled of a blob that is too large; told %q", got.Spooled, s.log.String())
	}
}

// Two destinations want the same blob at once: one of them spools it.
func TestSpoolOfTwoDestinations(t *testing.T) {
	s := newSpoolTest(t, registrytest.GHCR, 1)
	other := newSpoolTest(t, registrytest.GHCR, 1)
	gate := registrytest.NewGate(t)
	s.nineTenths(s.layers[0], registrytest.Fault{Gate: gate})
	s.nineTenths(s.layers[0], registrytest.Fault{Nth: 2})
	other.nineTenths(s.layers[0], registrytest.Fault{})
	spool := s.open(t)
	var group errgroup.Group
	group.Go(func() error {
		_, err := registry.NewCopier(s.clientWith(t, spool)).Copy(t.Context(), s.job)
		return err
	})
	<-gate.Reached()
	// The first has the entry now, and keeps it until the second is done.
	c := other.clientWith(t, spool)
	if _, err := registry.NewCopier(c).Copy(t.Context(), other.job); err != nil {
		t.Error(err)
	}
	if got := c.Stats()[other.source.Host()]; got.Spooled != 0 {
		t.Errorf("%d bytes of an entry that another upload has", got.Spooled)
	}
	gate.Open()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	registrytest.VerifyTree(t, s.dest.Host())
	registrytest.VerifyTree(t, other.dest.Host())
	s.wantEmpty(t)
}

// spoolFile is where a digest is kept.
func spoolFile(dir string, d providers.Digest) string {
	return filepath.Join(dir, "spool", strings.Replace(string(d), ":", "-", 1)+".partial")
}

// put leaves n bytes of a blob, as an earlier run that ended age ago.
func put(t *testing.T, dir string, d providers.Digest, n int, age time.Duration) {
	t.Helper()
	file := spoolFile(dir, d)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, make([]byte, n), 0o600)); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-age)
	if err := os.Chtimes(file, at, at); err != nil {
		t.Fatal(err)
	}
}

// take fills n bytes behind what is there of a blob of size.
func take(t *testing.T, s *registry.DiskSpool, d providers.Digest, size int64, n int) registry.SpoolEntry {
	t.Helper()
	e, err := s.Take(d, size)
	if err != nil || e == nil {
		t.Fatalf("take %s: %v, %v", d.Short(), e, err)
	}
	held, err := e.Rewind()
	if err != nil {
		t.Fatal(err)
	}
	if read, err := io.CopyN(io.Discard, e, held); err != nil || read != held {
		t.Fatalf("read %d of %d: %v", read, held, err)
	}
	if _, err := e.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	return e
}

// Room is made of what earlier runs left, the oldest first, and of nothing else.
func TestSpoolMakesRoom(t *testing.T) {
	blob := func(name string) providers.Digest { return providers.SHA256([]byte(name)) }
	sha512 := providers.FromSum(bytes.Repeat([]byte{7}, 64))
	dir := t.TempDir()
	put(t, dir, blob("old"), 300, 5*time.Hour)
	put(t, dir, blob("older"), 300, 6*time.Hour)
	put(t, dir, sha512, 300, 4*time.Hour)
	put(t, dir, blob("new"), 300, time.Hour)
	other := filepath.Join(dir, "spool", "notes.partial")
	if err := os.WriteFile(other, make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	there := func(want ...providers.Digest) {
		t.Helper()
		var got []string
		entries, err := os.ReadDir(filepath.Join(dir, "spool"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			got = append(got, filepath.Join(dir, "spool", e.Name()))
		}
		expected := []string{other}
		for _, d := range want {
			expected = append(expected, spoolFile(dir, d))
		}
		slices.Sort(expected)
		if !slices.Equal(got, expected) {
			t.Errorf("there are %v, want %v", got, expected)
		}
	}
	s, err := registry.SpoolOnDisk(diskAt(t, dir), 1000)
	if err != nil {
		t.Fatal(err)
	}
	there(blob("old"), sha512, blob("new")) // the oldest did not fit any more

	if e, err := s.Take(blob("huge"), 1001); e != nil || err != nil {
		t.Errorf("a blob beyond the limit: %v, %v", e, err)
	}
	there(blob("old"), sha512, blob("new"))

	mine := take(t, s, blob("old"), 400, 50) // 300 of 400 are there
	there(blob("old"), sha512, blob("new"))
	if again, err := s.Take(blob("old"), 400); again != nil || err != nil {
		t.Errorf("taken twice: %v, %v", again, err)
	}
	next := take(t, s, blob("next"), 600, 10) // 400 + 600: nothing else stays
	there(blob("old"), blob("next"))
	if e, err := s.Take(blob("more"), 1); e != nil || err != nil {
		t.Errorf("taken without room: %v, %v", e, err)
	}
	if err := errors.Join(mine.Release(true), next.Release(true)); err != nil {
		t.Fatal(err)
	}
	// What this run left stays until the end: 350 + 10 + 640.
	if e, err := s.Take(blob("more"), 641); e != nil || err != nil {
		t.Errorf("room was made of this run's own: %v, %v", e, err)
	}
	if err := take(t, s, blob("more"), 640, 640).Release(false); err != nil {
		t.Fatal(err)
	}
	there(blob("old"), blob("next"))
	if info, err := os.Stat(spoolFile(dir, blob("old"))); err != nil || info.Size() != 350 {
		t.Errorf("%v, %v; want 350 bytes", info, err)
	}

	// An entry that is longer than its blob is none, and takes no more than the blob.
	put(t, dir, blob("long"), 500, time.Hour)
	if s, err = registry.SpoolOnDisk(diskAt(t, dir), 1000); err != nil {
		t.Fatal(err)
	}
	long, err := s.Take(blob("long"), 100)
	if err != nil || long == nil {
		t.Fatal(long, err)
	}
	if held, err := long.Rewind(); held != 0 || err != nil {
		t.Errorf("held %d, %v", held, err)
	}
	if _, err := long.Write(make([]byte, 101)); err == nil {
		t.Error("more than the blob was taken")
	}
	if err := long.Release(false); err != nil {
		t.Error(err)
	}
	if s.Trouble() != nil {
		t.Error(s.Trouble())
	}
	if info, err := os.Stat(other); err != nil || info.Size() != 5000 {
		t.Errorf("somebody's file: %v, %v", info, err)
	}
}

// Nobody comes back for a spool that is a week old, whether it is in use or not.
func TestOldSpoolGoes(t *testing.T) {
	dir := t.TempDir()
	old, young := providers.SHA256([]byte("old")), providers.SHA256([]byte("young"))
	put(t, dir, old, 10, 7*24*time.Hour)
	put(t, dir, young, 10, time.Hour)
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := registry.OnDisk(root, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(spoolFile(dir, old)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old one: %v", err)
	}
	if _, err := os.Stat(spoolFile(dir, young)); err != nil {
		t.Error(err)
	}
}
