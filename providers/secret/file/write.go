package file

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"

	"freightliner/providers"
	"freightliner/providers/disk"
	"freightliner/providers/secret"
)

var tokenForm = providers.Pattern(`^[A-Za-z0-9-]{32,64}$`)

// hold takes the lock of a store that exists, and opens it again under the
// lock. What a process that died left half done is finished first.
func (s *Store) hold(ctx context.Context) (*unlocked, func(), error) {
	free, err := disk.Lock(ctx, s.o.FS, s.o.Clock, s.in(lockFile), s.o.Patience)
	if err != nil {
		return nil, nil, err
	}
	release := func() { _ = free() } // closing a file that nothing was written to
	u, err := s.unlock(ctx)
	if err == nil && u == nil {
		err = errors.New("the store went away")
	}
	if err == nil {
		u, err = s.settled(ctx, u)
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return u, release, nil
}

// settled makes what is there durable once for each process, and finishes a
// change of the key. Without the first, a key file that was renamed into place
// and never synced could be lost after secrets were encrypted with it.
func (s *Store) settled(ctx context.Context, u *unlocked) (*unlocked, error) {
	if !s.durable {
		for _, dir := range []string{path.Dir(s.o.Path), s.o.Path} {
			if err := s.o.FS.SyncDir(dir); err != nil {
				return nil, err
			}
		}
		if err := s.furnish(u.keyring); err != nil {
			return nil, err
		}
		s.durable = true
	}
	if len(u.Keys) > 1 {
		return s.rekey(ctx, u)
	}
	return u, nil
}

// random is 16 random bytes as hex.
func (s *Store) random() (string, error) {
	var b [16]byte
	_, err := io.ReadFull(s.o.Rand, b[:])
	return hex.EncodeToString(b[:]), err
}

// Write makes the file of the next number, which is the one step that counts:
// before the rename there is no new version, after it there is.
func (s *Store) Write(ctx context.Context, w secret.Write) (secret.Version, error) {
	const op = "write secret"
	if err := s.checkWrite(op, w); err != nil {
		return secret.Version{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	u, err := s.unlock(ctx)
	if err == nil && u == nil {
		if w.Create == nil {
			return secret.Version{}, s.refused(providers.Conflict, op, w.Name, "", "there is no such secret, nor a store yet")
		}
		err = s.autoInit(ctx)
	}
	if err != nil {
		return secret.Version{}, s.failed(op, w.Name, err)
	}
	u, release, err := s.hold(ctx)
	if err != nil {
		return secret.Version{}, s.failed(op, w.Name, err)
	}
	defer release()
	v, err := s.write(op, u, w)
	return v, s.failed(op, w.Name, err)
}

func (s *Store) checkWrite(op string, w secret.Write) error {
	err := checkName(w.Name)
	switch {
	case err != nil:
	case !w.Value.Set():
		err = errors.New("there is no value to write")
	case w.Value.Longer(maxPayload):
		err = errors.New("the value has more than 65536 bytes")
	case !tokenForm().MatchString(w.Token):
		err = errors.New("the token must have 32 to 64 letters, digits and hyphens")
	case w.Create != nil:
		err = checkMetadata(*w.Create)
	}
	if err != nil {
		return s.refused(providers.Invalid, op, w.Name, "", "%w", err)
	}
	return nil
}

// write runs under the lock.
func (s *Store) write(op string, u *unlocked, w secret.Write) (secret.Version, error) {
	r, err := s.look(u, w.Name, nil)
	if err != nil {
		return secret.Version{}, err
	}
	dir := s.dir(w.Name)
	if err := s.sweep(dir, r.names); err != nil {
		return secret.Version{}, err
	}
	if slices.Contains(r.names, tombstone) {
		if r.pending(s.o.Clock.Now()) {
			return secret.Version{}, s.waits(op, w.Name, r)
		}
		if err := s.purge(w.Name, r); err != nil {
			return secret.Version{}, err
		}
		r = &record{}
	}
	if h, made, err := s.byToken(u, r, w); err != nil || made {
		if err == nil {
			// Made by a call that did not see its end: the name may not be on the disk yet.
			err = s.syncSecret(dir)
		}
		return h.version(stateOf(h, r)), err
	}
	switch {
	case r.current.id != w.Expect && !r.exists():
		return secret.Version{}, s.refused(providers.Conflict, op, w.Name, "", "there is no such secret, expected was version %s", providers.Printable(w.Expect, 60))
	case r.current.id != w.Expect && w.Expect == "":
		return secret.Version{}, s.refused(providers.Conflict, op, w.Name, "", "it exists already, as version %s of %s", r.current.id, r.current.Made.UTC().Format("2006-01-02 15:04 MST"))
	case r.current.id != w.Expect:
		return secret.Version{}, s.refused(providers.Conflict, op, w.Name, "", "its current version is %s of %s, expected was %s", r.current.id, r.current.Made.UTC().Format("2006-01-02 15:04 MST"), providers.Printable(w.Expect, 60))
	case !r.exists() && w.Create == nil:
		return secret.Version{}, s.refused(providers.Conflict, op, w.Name, "", "there is no such secret")
	}
	h, err := s.next(u, r, w)
	if err != nil {
		return secret.Version{}, err
	}
	var sealed []byte
	w.Value.Use(func(b []byte) {
		h.id = h.commit(b)
		sealed, err = seal(u.to, h, b)
	})
	if err != nil {
		return secret.Version{}, err
	}
	if err := s.makeDir(dir); err != nil {
		return secret.Version{}, err
	}
	// The rename below would replace a file of this name. Nobody who keeps to
	// the lock makes one; what a checkout brings in this instant is looked for.
	file := path.Join(dir, fileOf(h.N))
	if _, err := s.o.FS.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = s.refused(providers.Conflict, op, w.Name, "", "version %d came into being meanwhile", h.N)
		}
		return secret.Version{}, err
	}
	if err := s.put(s.o.FS, file, sealed); err != nil {
		return secret.Version{}, err
	}
	return h.version(secret.Current), nil
}

// next is the header of the version after r.
func (s *Store) next(u *unlocked, r *record, w secret.Write) (header, error) {
	h := header{
		Store: u.Store, Name: w.Name, N: r.current.N + 1, Made: s.o.Clock.Now().UTC(), Prev: r.current.id, Token: w.Token, Salt: make([]byte, 32),
		Description: r.current.Description, Labels: r.current.Labels, Owner: r.current.Owner, Rev: r.current.Rev,
	}
	if _, err := io.ReadFull(s.o.Rand, h.Salt); err != nil {
		return header{}, err
	}
	var err error
	if !r.exists() {
		h.apply(*w.Create)
		h.Rev, err = s.random()
	}
	if w.Owner != "" {
		h.Owner = w.Owner
	}
	return h, err
}

// apply sets what m has set, and reports whether that changed anything.
func (h *header) apply(m secret.Metadata) (changed bool) {
	before := *h
	if m.Description != nil {
		h.Description = *m.Description
	}
	if m.Labels != nil {
		h.Labels = maps.Clone(m.Labels)
	}
	if m.Owner != "" {
		h.Owner = m.Owner
	}
	return h.Description != before.Description || !maps.Equal(h.Labels, before.Labels) || h.Owner != before.Owner
}

// byToken looks for the version that this write made before. It can only be a
// successor of the expected one, so the current version being that is an
// answer without opening any other.
func (s *Store) byToken(u *unlocked, r *record, w secret.Write) (header, bool, error) {
	expected, _ := versionNumber(w.Expect)
	for _, n := range slices.Backward(r.numbers) {
		if n <= expected {
			break
		}
		h := r.current
		if n != h.N {
			var err error
			if h, err = s.header(u, w.Name, n); err != nil {
				return header{}, false, err
			}
		}
		if h.Token == w.Token {
			return h, true, nil
		}
	}
	return header{}, false, nil
}

func stateOf(h header, r *record) secret.VersionState {
	if h.N == r.current.N {
		return secret.Current
	}
	return secret.Previous
}

// makeDir makes the directory of a secret, durably.
func (s *Store) makeDir(dir string) error {
	err := s.o.FS.Mkdir(dir, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.o.FS.SyncDir(path.Dir(dir))
}

func (s *Store) syncSecret(dir string) error {
	if err := s.o.FS.SyncDir(path.Dir(dir)); err != nil {
		return err
	}
	return s.o.FS.SyncDir(dir)
}

// Settle looks for the token. The lock tells that nobody is still writing.
func (s *Store) Settle(ctx context.Context, w secret.Write) (secret.Version, bool, error) {
	const op = "settle secret"
	if err := checkName(w.Name); err != nil {
		return secret.Version{}, false, s.refused(providers.Invalid, op, w.Name, "", "%w", err)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	u, err := s.unlock(ctx)
	if err != nil || u == nil {
		return secret.Version{}, false, s.failed(op, w.Name, err)
	}
	u, release, err := s.hold(ctx)
	if err != nil {
		return secret.Version{}, false, s.failed(op, w.Name, err)
	}
	defer release()
	r, err := s.look(u, w.Name, nil)
	if err != nil {
		return secret.Version{}, false, s.failed(op, w.Name, err)
	}
	h, made, err := s.byToken(u, r, w)
	if err == nil && made {
		err = s.syncSecret(s.dir(w.Name))
	}
	if err != nil || !made {
		return secret.Version{}, false, s.failed(op, w.Name, err)
	}
	return h.version(stateOf(h, r)), true, nil
}

// locked runs do on a secret that is there, under the lock.
func (s *Store) locked(ctx context.Context, op, name string, do func(u *unlocked, r *record) error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if _, _, err := s.found(ctx, op, name, nil); err != nil && !errors.Is(err, errKeyChanged) {
		return err // without a lock, since there may be no directory for it
	}
	_, release, err := s.hold(ctx)
	if err != nil {
		return s.failed(op, name, err)
	}
	defer release()
	u, r, err := s.found(ctx, op, name, nil)
	if err != nil {
		return err
	}
	if err := s.sweep(s.dir(name), r.names); err != nil {
		return s.failed(op, name, err)
	}
	return s.failed(op, name, do(u, r))
}

// Update writes the current version's file again, with other metadata: the same
// version, for its id does not cover them.
func (s *Store) Update(ctx context.Context, name string, m secret.Metadata, expect string) error {
	const op = "update secret"
	if err := checkMetadata(m); err != nil {
		return s.refused(providers.Invalid, op, name, "", "%w", err)
	}
	return s.locked(ctx, op, name, func(u *unlocked, r *record) error {
		if r.gone != nil {
			return s.waits(op, name, r)
		}
		if expect != "" && expect != r.current.Rev {
			return s.refused(providers.Conflict, op, name, "", "its description, labels or owner were changed meanwhile")
		}
		return s.reseal(u, name, r.current.N, func(h *header) (bool, error) {
			if !h.apply(m) {
				return false, nil
			}
			var err error
			h.Rev, err = s.random()
			return true, err
		})
	})
}

// reseal replaces a file by the same version with another header around it.
func (s *Store) reseal(u *unlocked, name string, n int, change func(*header) (bool, error)) error {
	h, payload, err := s.version(u, name, n)
	if err != nil {
		return err
	}
	defer clear(payload)
	if changed, err := change(&h); err != nil || !changed {
		return err
	}
	sealed, err := seal(u.to, h, payload)
	if err != nil {
		return err
	}
	file := tombstone
	if n > 0 {
		file = fileOf(n)
	}
	return s.put(s.o.FS, path.Join(s.dir(name), file), sealed)
}
