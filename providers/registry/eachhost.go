package registry

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// EachHost calls do for all of work, which is sorted by host, at most atOnce of
// each host at once. Hosts do not wait for each other: what a registry that
// stalls holds up is its own. The first error ends the context of the others
// and is returned.
func EachHost[T any](ctx context.Context, atOnce int, work map[string][]T, do func(context.Context, T) error) error {
	hosts, ctx := errgroup.WithContext(ctx)
	for _, list := range work {
		hosts.Go(func() error {
			group, ctx := errgroup.WithContext(ctx)
			group.SetLimit(atOnce)
			for _, one := range list {
				group.Go(func() error { return do(ctx, one) })
			}
			return group.Wait()
		})
	}
	return hosts.Wait()
}
