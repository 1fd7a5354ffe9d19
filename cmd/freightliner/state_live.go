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
	registries, err := f.registries(p, cmd)
	if err != nil {
		return nil, err
	}
	s := &session{program: p, command: "state merge", out: p.stdout}
	client, err := s.newClient(registries)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, end := p.cancelOnSignal(cmd.Context())
	defer end()
	chosen := map[string]*statefile.Record{}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(looksAtOnce)
	for _, c := range m.conflicts {
		group.Go(func() error {
			r, ok, err := m.look(ctx, client, c)
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

// registries are the configuration's, or none where there is no configuration.
func (f *stateFlags) registries(p *program, cmd *cobra.Command) ([]config.Registry, error) {
	if name, err := configured(); err != nil || name == "" {
		return nil, err
	}
	cfg, err := f.config(p, cmd)
	if err != nil {
		return nil, err
	}
	return cfg.Registries, nil
}

// look gives the side of a conflict that says what is at the destination, if it
// is exactly one. Each side is held against the place that it speaks of; one that
// removed the record, against the place of the other.
func (m *merging) look(ctx context.Context, client *registry.Client, c statefile.Conflict) (*statefile.Record, bool, error) {
	ours, err := says(ctx, client, c.Ours, m.ours, c.Theirs, m.theirs)
	if err != nil {
		return nil, false, err
	}
	theirs, err := says(ctx, client, c.Theirs, m.theirs, c.Ours, m.ours)
	switch {
	case err != nil || ours == theirs:
		return nil, false, err
	case ours:
		return c.Ours, true, nil
	}
	return c.Theirs, true, nil
}

// says reports whether a side's record, nil for removed, is how things are.
func says(ctx context.Context, client *registry.Client, r *statefile.Record, in *statefile.State, other *statefile.Record, otherIn *statefile.State) (bool, error) {
	at := r
	if r == nil {
		at, in = other, otherIn
	}
	block, ok := in.Lookup(planner.BlockOf(at.Address))
	if !ok {
		return false, nil
	}
	repo, tag := planner.Place(block, *at)
	if tag == "" {
		return false, nil
	}
	have, err := client.Head(ctx, repo, tag)
	absent := providers.ClassOf(err) == providers.NotFound
	switch {
	case err != nil && !absent:
		return false, err
	case r == nil:
		return absent, nil
	}
	return !absent && have.Digest == r.Digest, nil
}
