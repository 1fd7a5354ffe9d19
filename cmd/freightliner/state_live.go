package main

import (
	"context"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"freightliner/config"
	"freightliner/planner"
	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/statefile"
)

// looksAtOnce bounds goroutines; how many requests go out at once is up to each
// registry's own gate.
const looksAtOnce = 16

// lookLive looks at the destination of every conflict and gives a way to settle
// those of which exactly one side says what is there. Records of blocks and of
// referrers stay open: no single look can decide them.
func (m *merging) lookLive(p *program, cmd *cobra.Command, f *stateFlags) (statefile.Resolve, error) {
	cfg, err := f.anyConfig(p, cmd)
	if err != nil {
		return nil, err
	}
	s := &session{program: p, command: "state merge", out: p.stdout}
	if s.vault, err = s.openVault(cfg); err != nil {
		return nil, err
	}
	client, err := s.newClient(cfg.Registries)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	at := eyes{client: client, vault: s.vault}
	ctx, end := p.cancelOnSignal(cmd.Context())
	defer end()
	chosen := map[string]*statefile.Record{}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(looksAtOnce)
	for _, c := range m.conflicts {
		group.Go(func() error {
			r, ok, err := m.look(ctx, at, c)
			if ctx.Err() != nil {
				return errInterrupted
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				m.notes = append(m.notes, "Could not look at "+c.Address+": "+err.Error())
			} else if ok {
				chosen[c.Address] = r
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return func(c statefile.Conflict) (*statefile.Record, bool) {
		r, ok := chosen[c.Address]
		return r, ok
	}, nil
}

// anyConfig is the configuration, or an empty one where there is none.
func (f *stateFlags) anyConfig(p *program, cmd *cobra.Command) (*config.Config, error) {
	if name, err := configured(); err != nil || name == "" {
		return &config.Config{}, err
	}
	return f.config(p, cmd)
}

// eyes look at registries and secret stores.
type eyes struct {
	client *registry.Client
	vault  *vault
}

// look gives the side of a conflict that says what is at the destination, if it
// is exactly one. Each side is held against the place that it speaks of; one that
// removed the record, against the place of the other.
func (m *merging) look(ctx context.Context, at eyes, c statefile.Conflict) (*statefile.Record, bool, error) {
	ours, err := at.says(ctx, c.Ours, m.ours, c.Theirs, m.theirs)
	if err != nil {
		return nil, false, err
	}
	theirs, err := at.says(ctx, c.Theirs, m.theirs, c.Ours, m.ours)
	switch {
	case err != nil || ours == theirs:
		return nil, false, err
	case ours:
		return c.Ours, true, nil
	}
	return c.Theirs, true, nil
}

// says reports whether a side's record, nil for removed, is how things are.
func (e eyes) says(ctx context.Context, r *statefile.Record, in *statefile.State, other *statefile.Record, otherIn *statefile.State) (bool, error) {
	at := r
	if r == nil {
		at, in = other, otherIn
	}
	if at.Kind == statefile.KindSecret {
		return e.secret(ctx, r, at)
	}
	block, ok := in.Lookup(planner.BlockOf(at.Address))
	if !ok {
		return false, nil
	}
	repo, tag := planner.Place(block, *at)
	if tag == "" {
		return false, nil
	}
	have, err := e.client.Head(ctx, repo, tag)
	absent := providers.ClassOf(err) == providers.NotFound
	switch {
	case err != nil && !absent:
		return false, err
	case r == nil:
		return absent, nil
	}
	return !absent && have.Digest == r.Digest, nil
}

// secret is says for a secret: the version that is current decides. at is where
// to look, r what the side says of it.
func (e eyes) secret(ctx context.Context, r, at *statefile.Record) (bool, error) {
	for _, name := range e.vault.client.Names() {
		store, err := e.vault.client.Store(ctx, name)
		if err != nil || store.Place() != at.Destination {
			continue
		}
		info, err := store.Describe(ctx, at.Name)
		absent := providers.ClassOf(err) == providers.NotFound
		switch {
		case err != nil && !absent:
			return false, err
		case r == nil:
			return absent, nil
		}
		return !absent && info.Version == r.Version, nil
	}
	return false, nil // no secret_store block leads there
}
