package file

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// Delete writes deleted.age beside the versions: one file, so that a crash
// leaves the secret or its deletion. The versions stay until the deletion is
// final and somebody writes to the name or calls [Store.Purge]; Force does both
// at once.
func (s *Store) Delete(ctx context.Context, name string, d secret.Deletion) (secret.Deleted, error) {
	const op = "delete secret"
	window := d.Window
	if window <= 0 {
		window = defaultWindow
	}
	var done secret.Deleted
	err := s.locked(ctx, op, name, func(u *unlocked, r *record) error {
		if r.current.id != d.Expect {
			return s.refused(providers.Conflict, op, name, "", "its current version is %s, expected was %s", r.current.id, providers.Printable(d.Expect, 60))
		}
		now := s.o.Clock.Now().UTC()
		h := header{Store: u.Store, Name: name, Made: now, Of: r.current.id, Final: now.Add(window).Truncate(time.Second), Salt: make([]byte, 32)}
		if d.Force {
			h.Final = now
		} else if r.gone != nil {
			done.Final = r.gone.Final // as it was
			return nil
		}
		if _, err := io.ReadFull(s.o.Rand, h.Salt); err != nil {
			return err
		}
		sealed, err := seal(u.to, h, nil)
		if err != nil {
			return err
		}
		if err := s.put(s.o.FS, path.Join(s.dir(name), tombstone), sealed); err != nil {
			return err
		}
		if d.Force {
			return s.purge(name, r)
		}
		done.Final = h.Final
		return nil
	})
	return done, err
}

// purge removes the files of a secret whose deletion is final. The older
// versions go first, then the one that was current, then the deletion, each
// only when the disk has forgotten those before it: a crash on the way leaves
// the current version with its deletion, or the deletion alone, and brings
// nothing back.
func (s *Store) purge(name string, r *record) error {
	dir := s.dir(name)
	remove := func(file string) error {
		err := s.o.FS.Remove(path.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	for i, n := range r.numbers {
		if i == len(r.numbers)-1 { // the one that the deletion is of
			if err := s.o.FS.SyncDir(dir); err != nil {
				return err
			}
		}
		if err := remove(fileOf(n)); err != nil {
			return err
		}
	}
	if err := s.o.FS.SyncDir(dir); err != nil {
		return err
	}
	if err := remove(tombstone); err != nil {
		return err
	}
	if err := s.o.FS.SyncDir(dir); err != nil {
		return err
	}
	// An empty directory is no secret. It stays if something foreign lies there.
	if names, err := s.names(dir); err == nil && len(names) == 0 {
		_ = s.o.FS.Remove(dir)
	}
	return nil
}

// Restore removes deleted.age.
func (s *Store) Restore(ctx context.Context, name string) error {
	return s.locked(ctx, "restore secret", name, func(_ *unlocked, r *record) error {
		if r.gone == nil {
			return nil
		}
		if err := s.o.FS.Remove(path.Join(s.dir(name), tombstone)); err != nil {
			return err
		}
		return s.o.FS.SyncDir(s.dir(name))
	})
}

// Purge removes what is left of secrets whose deletion is final, and returns
// their names.
func (s *Store) Purge(ctx context.Context) (purged []string, err error) {
	const op = "purge secrets"
	err = s.admin(ctx, op, func(u *unlocked) error {
		names, err := s.dirs()
		if err != nil {
			return err
		}
		for _, name := range names {
			files, err := s.names(s.dir(name))
			if err != nil {
				return err
			}
			if !slices.Contains(files, tombstone) {
				continue
			}
			r, err := s.look(u, name, nil)
			if err != nil {
				return err
			}
			if r.exists() && (r.gone == nil || r.pending(s.o.Clock.Now())) {
				continue
			}
			if err := s.purge(name, r); err != nil {
				return err
			}
			purged = append(purged, name)
		}
		return nil
	})
	return purged, err
}
