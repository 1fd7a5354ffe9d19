package file

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// List opens the current version of each secret whose name begins with prefix.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[secret.Info, error] {
	return func(yield func(secret.Info, error) bool) {
		names, err := s.listed(ctx)
		if err != nil {
			yield(secret.Info{}, s.failed("list secrets", prefix, err))
			return
		}
		for _, name := range names {
			if !strings.HasPrefix(name, prefix) {
				continue
			}
			info, err := s.Describe(ctx, name)
			if providers.ClassOf(err) == providers.NotFound {
				continue // its deletion is final
			}
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// listed are the names, if the store can be opened at all.
func (s *Store) listed(ctx context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u, err := s.unlock(ctx); err != nil || u == nil {
		return nil, err
	}
	return s.dirs()
}

// found is a secret that is there, or the error that it is not.
func (s *Store) found(ctx context.Context, op, name string) (*unlocked, *record, error) {
	if err := checkName(name); err != nil {
		return nil, nil, s.refused(providers.Invalid, op, name, "", "%w", err)
	}
	u, err := s.unlock(ctx)
	if err != nil {
		return nil, nil, s.failed(op, name, err)
	}
	if u == nil {
		return nil, nil, s.refused(providers.NotFound, op, name, "", "there is no such secret, nor a store yet")
	}
	r, err := s.load(u, name)
	if err != nil {
		return nil, nil, s.failed(op, name, err)
	}
	if r == nil {
		return nil, nil, s.refused(providers.NotFound, op, name, "", "there is no such secret")
	}
	return u, r, nil
}

// Describe opens the current version for its metadata.
func (s *Store) Describe(ctx context.Context, name string) (secret.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, r, err := s.found(ctx, "describe secret", name)
	if err != nil {
		return secret.Info{}, err
	}
	info := r.current.info(s, name)
	if r.gone != nil {
		info.Deletion = r.gone.Final
	}
	return info, nil
}

// Read opens each version that is asked for.
func (s *Store) Read(ctx context.Context, refs []secret.Ref, got func(secret.Reading)) error {
	for _, ref := range refs {
		if err := ctx.Err(); err != nil {
			return s.failed("read secrets", "", err)
		}
		r := secret.Reading{Ref: ref}
		r.Value, r.Version, r.Err = s.read(ctx, ref)
		got(r)
	}
	return nil
}

func (s *Store) read(ctx context.Context, ref secret.Ref) (secret.Value, secret.Version, error) {
	const op = "read secret"
	s.mu.Lock()
	defer s.mu.Unlock()
	u, r, err := s.found(ctx, op, ref.Name)
	if err != nil {
		return secret.Value{}, secret.Version{}, err
	}
	if r.gone != nil {
		return secret.Value{}, secret.Version{}, s.waits(op, ref.Name, r)
	}
	id, state := ref.Version, secret.Previous
	if id == "" || id == r.current.id {
		id, state = r.current.id, secret.Current
	}
	n, ok := versionNumber(id)
	if !ok {
		return secret.Value{}, secret.Version{}, s.refused(providers.Invalid, op, ref.Name, "", "%s is not the id of a version", providers.Printable(id, 60))
	}
	h, payload, err := s.version(u, ref.Name, n)
	if errors.Is(err, fs.ErrNotExist) {
		return secret.Value{}, secret.Version{}, s.refused(providers.NotFound, op, ref.Name, "", "it has no version %d", n)
	}
	if err != nil {
		return secret.Value{}, secret.Version{}, s.failed(op, ref.Name, err)
	}
	if h.id != id {
		clear(payload)
		return secret.Value{}, secret.Version{}, s.refused(providers.Conflict, op, ref.Name, "Compare the file with git's history: somebody put another in its place, or rolled it back.", "version %d is not the one that is asked for", n)
	}
	return secret.NewValue(payload), h.version(state), nil
}

func (h header) version(state secret.VersionState) secret.Version {
	return secret.Version{ID: h.id, Created: h.Made, State: state}
}

// waits is the refusal of a secret that waits for its deletion.
func (s *Store) waits(op, name string, r *record) error {
	return s.refused(providers.Conflict, op, name, "Restore it, or wait until the deletion is final.", "it is deleted, for good on %s", r.gone.Final.UTC().Format("2006-01-02 15:04 MST"))
}

// History opens all versions.
func (s *Store) History(ctx context.Context, name string) ([]secret.Version, error) {
	const op = "list versions of secret"
	s.mu.Lock()
	defer s.mu.Unlock()
	u, r, err := s.found(ctx, op, name)
	if err != nil {
		return nil, err
	}
	var out []secret.Version
	for _, n := range slices.Backward(r.numbers) {
		state, h := secret.Current, r.current
		if n != r.current.N {
			state = secret.Previous
			if h, err = s.header(u, name, n); err != nil {
				return nil, s.failed(op, name, err)
			}
		}
		out = append(out, h.version(state))
	}
	return out, nil
}
