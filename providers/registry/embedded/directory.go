package embedded

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Directory is a [Store] in a folder of the file system. Every access goes
// through [os.Root], so that no key, and no link somebody planted in the
// folder, leads outside. Values are written beside, synced and renamed: after
// a power cut a key holds its old value or its new one, never half of one.
type Directory struct {
	root *os.Root
}

// drafts is where values grow; what is left there by a crash is removed when
// the directory is opened the next day.
const (
	drafts   = "drafts"
	draftAge = 24 * time.Hour
)

// OpenDirectory opens the store at dir, creating the folder when it is
// missing. The caller closes it. Two processes may read one directory at a
// time; only one may write.
func OpenDirectory(dir string, now time.Time) (*Directory, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open registry directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open registry directory: %w", err)
	}
	d := &Directory{root: root}
	if err := d.sweep(now); err != nil {
		root.Close()
		return nil, fmt.Errorf("open registry directory %s: %w", dir, err)
	}
	return d, nil
}

// Close releases the directory. No other method may be called after it.
func (d *Directory) Close() error { return d.root.Close() }

// sweep removes drafts nobody has written to for a day. A draft never has a
// name that a reader knows, so nothing that was ever acknowledged goes away.
func (d *Directory) sweep(now time.Time) error {
	if err := d.root.MkdirAll(drafts, 0o700); err != nil {
		return err
	}
	entries, err := fs.ReadDir(d.root.FS(), drafts)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || now.Sub(info.ModTime()) < draftAge {
			continue
		}
		if err := d.root.Remove(path.Join(drafts, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Open implements [Store].
func (d *Directory) Open(key string) (io.ReadSeekCloser, error) {
	file, err := d.root.Open(key)
	if err != nil {
		return nil, absent(err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	if !info.Mode().IsRegular() {
		file.Close()
		return nil, &fs.PathError{Op: "open", Path: key, Err: fs.ErrNotExist}
	}
	return file, nil
}

// Write implements [Store].
func (d *Directory) Write(key string, value []byte) error {
	draft, err := d.draft()
	if err != nil {
		return err
	}
	if _, err := draft.Write(value); err != nil {
		return errors.Join(err, draft.Discard())
	}
	return draft.place(key)
}

// Remove implements [Store].
func (d *Directory) Remove(key string) error {
	if err := d.root.Remove(key); err != nil {
		return absent(err)
	}
	return d.syncFolder(path.Dir(key))
}

// List implements [Store].
func (d *Directory) List(key string) ([]string, error) {
	folder, err := d.root.Open(key)
	if err != nil {
		if errors.Is(absent(err), fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	defer folder.Close()
	entries, err := folder.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() {
			name += "/"
		}
		names = append(names, name)
	}
	return names, nil
}

// Draft implements [Store].
func (d *Directory) Draft() (Draft, error) { return d.draft() }

func (d *Directory) draft() (*directoryDraft, error) {
	var id [16]byte
	rand.Read(id[:])
	name := path.Join(drafts, hex.EncodeToString(id[:]))
	file, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &directoryDraft{store: d, name: name, File: file}, nil
}

// directoryDraft is a file in the drafts folder.
type directoryDraft struct {
	*os.File // Write appends: nothing else moves the offset
	store    *Directory
	name     string
}

func (f *directoryDraft) Open() (io.ReadCloser, error) { return f.store.root.Open(f.name) }

// Keep implements [Draft]. A value that is there already has the same digest
// and was synced when it came, so the draft can go.
func (f *directoryDraft) Keep(key string) error {
	if _, err := f.store.root.Stat(key); err == nil {
		return f.Discard()
	}
	return f.place(key)
}

// place syncs the draft and renames it to key.
func (f *directoryDraft) place(key string) error {
	err := f.Sync()
	if closing := f.Close(); err == nil {
		err = closing
	}
	folder := path.Dir(key)
	if err == nil {
		err = f.store.root.MkdirAll(folder, 0o700)
	}
	if err == nil {
		err = f.store.root.Rename(f.name, key)
	}
	if err != nil {
		return errors.Join(err, f.store.root.Remove(f.name))
	}
	return f.store.syncFolder(folder)
}

func (f *directoryDraft) Discard() error {
	return errors.Join(f.Close(), f.store.root.Remove(f.name))
}

// syncFolder makes a rename in the folder durable. Windows has no such call;
// there the rename is atomic and the order of two renames is the file
// system's business.
func (d *Directory) syncFolder(name string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	folder, err := d.root.Open(name)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

// absent turns "a part of the path is a file" into "does not exist", as the
// contract of [Store] has one word for both.
func absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) || !errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	return errors.Join(fs.ErrNotExist, err)
}
