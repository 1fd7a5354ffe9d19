package registry

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"freightliner/providers"
)

// Disk is a [Ledger] and a [Learned] in one directory, usually .freightliner:
//
//	uploads/<digest of host, repository and blob>.json    one unfinished upload
//	lessons/<digest of host>.json                         one registry's lessons
//
// The files are 0600, replaced by rename, and hold no credential. None of them
// is needed: one that is lost, torn or edited costs some bytes or requests. So
// nothing is synced, and what can not be read counts as not there.
type Disk struct{ root *os.Root }

const (
	uploadsFolder = "uploads"
	lessonsFolder = "lessons"
	maxEntry      = 16 << 10
)

// OnDisk uses the directory root, which stays the caller's to close. Uploads
// that nobody will take up any more, being older than the sessions of
// registries live, are removed, and what nobody came back for in a spool
// ([DiskSpool]) as well.
func OnDisk(root *os.Root, now time.Time) (*Disk, error) {
	d := &Disk{root}
	for _, folder := range []string{uploadsFolder, lessonsFolder} {
		if err := root.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("keep unfinished uploads: %w", err)
		}
	}
	d.sweep(uploadsFolder, now)
	d.sweep(spoolFolder, now)
	return d, nil
}

func (d *Disk) sweep(name string, now time.Time) {
	folder, err := d.root.Open(name)
	if err != nil {
		return
	}
	defer folder.Close()
	entries, err := folder.ReadDir(-1)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && now.Sub(info.ModTime()) > unfinishedLife {
			d.root.Remove(name + "/" + e.Name()) // if it stays, it is tried next time
		}
	}
}

// Save keeps u.
func (d *Disk) Save(u Unfinished) error {
	return d.write(uploadFile(u.Host, u.Repository, u.Digest), u)
}

// Load finds an unfinished upload.
func (d *Disk) Load(host, repository string, blob providers.Digest) (u Unfinished, ok bool) {
	return u, d.read(uploadFile(host, repository, blob), &u) == nil
}

// Remove forgets an unfinished upload.
func (d *Disk) Remove(host, repository string, blob providers.Digest) {
	d.root.Remove(uploadFile(host, repository, blob)) // most often it is not there
}

// Lessons are those of a host.
func (d *Disk) Lessons(host string) Lessons {
	var l Lessons
	if d.read(lessonFile(host), &l) != nil {
		return Lessons{}
	}
	return l
}

// Learn keeps the lessons of a host.
func (d *Disk) Learn(host string, l Lessons) error { return d.write(lessonFile(host), l) }

// The names are digests, so that nothing a registry or a configuration says
// becomes part of a path.
func uploadFile(host, repository string, blob providers.Digest) string {
	return uploadsFolder + "/" + name(host, repository, string(blob))
}

func lessonFile(host string) string { return lessonsFolder + "/" + name(host) }

func name(parts ...string) string {
	return providers.SHA256([]byte(strings.Join(parts, "\n"))).Hex()[:32] + ".json"
}

func (d *Disk) write(file string, entry any) (err error) {
	body, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	var random [8]byte
	rand.Read(random[:])
	half := file + "." + hex.EncodeToString(random[:])
	f, err := d.root.OpenFile(half, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.root.Remove(half)
		}
	}()
	_, err = f.Write(append(body, '\n'))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return d.root.Rename(half, file)
}

func (d *Disk) read(file string, entry any) error {
	f, err := d.root.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxEntry))
	if err != nil {
		return err
	}
	return json.Unmarshal(body, entry)
}
