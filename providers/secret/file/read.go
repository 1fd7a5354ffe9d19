package file

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

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
		names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })
		for some := range slices.Chunk(names, 256) {
			infos, errs := make([]secret.Info, len(some)), make([]error, len(some))
			spread(len(some), func(i int) { infos[i], errs[i] = s.Describe(ctx, some[i]) })
			for i, err := range errs {
				if providers.ClassOf(err) == providers.NotFound {
					continue // its deletion is final
				}
				if !yield(infos[i], err) || err != nil {
					return
				}
			}
		}
	}
}

// spread calls do for 0 to n-1, on as many processors as there are: all the
// time goes into decrypting.
func spread(n int, do func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				do(i)
			}
		})
	}
	all.Wait()
}

// listed are the names, if the store can be opened at all.
func (s *Store) listed(ctx context.Context) ([]string, error) {
	if u, err := s.unlock(ctx); err != nil || u == nil {
		return nil, err
	}
	return s.dirs()
}

// reading runs do on a secret that is there, without a lock: again if another
// process changes the store's key meanwhile.
func (s *Store) reading(ctx context.Context, op, name string, keep *[]byte, do func(u *unlocked, r *record) error) error {
	for again := 0; ; again++ {
		u, r, err := s.found(ctx, op, name, keep)
		if err == nil {
			err = s.failed(op, name, do(u, r))
		}
		if !errors.Is(err, errKeyChanged) || again == 3 {
			return err
		}
	}
}

// found is a secret that is there, or the error that it is not.
func (s *Store) found(ctx context.Context, op, name string, keep *[]byte) (*unlocked, *record, error) {
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
	r, err := s.load(u, name, keep)
	if err != nil {
		return nil, nil, s.failed(op, name, err)
	}
	if r == nil {
		return nil, nil, s.refused(providers.NotFound, op, name, "", "there is no such secret")
	}
	return u, r, nil
}

// Describe opens the current version for its metadata.
func (s *Store) Describe(ctx context.Context, name string) (info secret.Info, err error) {
	err = s.reading(ctx, "describe secret", name, nil, func(_ *unlocked, r *record) error {
		info = r.current.info(s, name)
		if r.gone != nil {
			info.Deletion = r.gone.Final
		}
		return nil
	})
	return info, err
}

// Read opens each version that is asked for.
func (s *Store) Read(ctx context.Context, refs []secret.Ref, got func(secret.Reading)) error {
	var one sync.Mutex
	spread(len(refs), func(i int) {
		if ctx.Err() != nil {
			return
		}
		r := secret.Reading{Ref: refs[i]}
		r.Value, r.Version, r.Err = s.read(ctx, refs[i])
		one.Lock()
		defer one.Unlock()
		got(r)
	})
	return s.failed("read secrets", "", ctx.Err())
}

func (s *Store) read(ctx context.Context, ref secret.Ref) (value secret.Value, version secret.Version, err error) {
	const op = "read secret"
	var current []byte
	defer func() { clear(current) }()
	err = s.reading(ctx, op, ref.Name, &current, func(u *unlocked, r *record) error {
		if r.gone != nil {
			return s.waits(op, ref.Name, r)
		}
		id, state := ref.Version, secret.Previous
		if id == "" || id == r.current.id {
			id, state = r.current.id, secret.Current
		}
		if state == secret.Current {
			value, version = secret.NewValue(current), r.current.version(state)
			current = nil // it has an owner
			return nil
		}
		n, ok := versionNumber(id)
		if !ok {
			return s.refused(providers.Invalid, op, ref.Name, "", "%s is not the id of a version", providers.Printable(id, 60))
		}
		h, payload, err := s.version(u, ref.Name, n)
		if errors.Is(err, fs.ErrNotExist) {
			return s.refused(providers.NotFound, op, ref.Name, "", "it has no version %d", n)
		}
		if err != nil {
			return err
		}
		if h.id != id {
			clear(payload)
			return s.refused(providers.Conflict, op, ref.Name, "Compare the file with git's history: somebody put another in its place, or rolled it back.", "version %d is not the one that is asked for", n)
		}
		value, version = secret.NewValue(payload), h.version(state)
		return nil
	})
	return value, version, err
}

func (h header) version(state secret.VersionState) secret.Version {
	return secret.Version{ID: h.id, Created: h.Made, State: state}
}

// waits is the refusal of a secret that waits for its deletion.
func (s *Store) waits(op, name string, r *record) error {
	return s.refused(providers.Conflict, op, name, "Restore it, or wait until the deletion is final.", "it is deleted, for good on %s", r.gone.Final.UTC().Format("2006-01-02 15:04 MST"))
}

// History opens all versions.
func (s *Store) History(ctx context.Context, name string) (versions []secret.Version, err error) {
	err = s.reading(ctx, "list versions of secret", name, nil, func(u *unlocked, r *record) error {
		versions = nil
		for _, n := range slices.Backward(r.numbers) {
			state, h := secret.Current, r.current
			if n != r.current.N {
				state = secret.Previous
				var err error
				if h, err = s.header(u, name, n); err != nil {
					return err
				}
			}
			versions = append(versions, h.version(state))
		}
		return nil
	})
	return versions, err
}
