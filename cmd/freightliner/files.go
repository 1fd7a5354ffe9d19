package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"freightliner/providers/secret"
)

// Permissions of what we write. Plans name what an organisation runs and are
// what approvals bind to, so only their owner reads them.
const (
	private fs.FileMode = 0o600
	public  fs.FileMode = 0o644
)

// draft is a file that appears under its name only when it is whole: written
// beside, synced, renamed. A reader sees the old file or the new one.
//
// It is opened through [os.Root]: inside the working directory no link leads
// out of it; elsewhere the directory that the user named is the root. A target
// that exists and is no regular file (a pipe, /dev/stderr) can not be replaced,
// so it is written as it is, unless the caller needs a file.
type draft struct {
	name  string // as the user wrote it
	root  *os.Root
	base  string // below root
	temp  string // below root; empty when written in place
	file  *os.File
	buf   *bufio.Writer
	ended bool

	filter *secret.Filter // nil for what can hold no foreign text
}

// newDraft starts name. mustReplace refuses targets that are no regular files.
func newDraft(name string, mode fs.FileMode, mustReplace bool) (*draft, error) {
	d := &draft{name: name}
	dir := "."
	d.base = filepath.Clean(name)
	if !filepath.IsLocal(name) {
		dir, d.base = filepath.Dir(d.base), filepath.Base(d.base)
	}
	var err error
	if d.root, err = os.OpenRoot(dir); err != nil {
		return nil, d.failed(err)
	}
	if err = d.open(mode, mustReplace); err != nil {
		d.root.Close()
		return nil, d.failed(err)
	}
	d.buf = bufio.NewWriterSize(d.file, 64<<10)
	return d, nil
}

func (d *draft) open(mode fs.FileMode, mustReplace bool) error {
	info, err := d.root.Lstat(d.base)
	if err == nil && !info.Mode().IsRegular() {
		if mustReplace || info.IsDir() {
			return errors.New("it exists and is not a regular file")
		}
		// Not through the root: /dev/stdout and /dev/fd/N are links that lead out
		// by nature, and nothing is created or replaced here.
		d.file, err = os.OpenFile(d.name, os.O_WRONLY, 0)
		return err
	}
	d.temp = d.base + "." + rand.Text()[:8] + ".tmp"
	d.file, err = d.root.OpenFile(d.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	return err
}

func (d *draft) Write(p []byte) (int, error) {
	if _, err := d.buf.Write(d.filter.Clean(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush hands what was written to the operating system, for readers that follow.
func (d *draft) Flush() error { return d.buf.Flush() }

// commit makes the file appear. On an error nothing of it is left.
func (d *draft) commit() error {
	if d.ended {
		return nil
	}
	err := d.buf.Flush()
	if err == nil && d.temp != "" {
		err = d.file.Sync()
	}
	if err != nil {
		d.drop()
		return d.failed(err)
	}
	d.ended = true
	defer d.root.Close()
	if err := d.file.Close(); err != nil {
		d.remove()
		return d.failed(err)
	}
	if d.temp == "" {
		return nil
	}
	if err := d.root.Rename(d.temp, d.base); err != nil {
		d.remove()
		return d.failed(err)
	}
	return nil
}

// drop gives the draft up and removes it; harmless after commit.
func (d *draft) drop() {
	if d.ended {
		return
	}
	d.ended = true
	d.file.Close()
	d.remove()
	d.root.Close()
}

func (d *draft) remove() {
	if d.temp != "" {
		d.root.Remove(d.temp)
	}
}

// failed words an error as one line, without the temporary name.
func (d *draft) failed(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		err = link.Err
	}
	told := fmt.Errorf("write %s: %w", clean(d.name), err)
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return hinted(told, "Free some space and run the command again; nothing was left half-written.")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return hinted(told, "Check who may write to "+clean(filepath.Dir(d.name))+", or name another place.")
	case strings.Contains(err.Error(), "path escapes"):
		return hinted(told, "A link leads out of the working directory; name the place itself.")
	}
	return told
}

// writeFile writes one whole file; see [draft].
func writeFile(name string, mode fs.FileMode, mustReplace bool, fill func(io.Writer) error) error {
	d, err := newDraft(name, mode, mustReplace)
	if err != nil {
		return err
	}
	if err := fill(d); err != nil {
		d.drop()
		return d.failed(err)
	}
	return d.commit()
}
