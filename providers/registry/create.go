package registry

import (
	"context"
	"errors"
	"strings"
	"time"

	"freightliner/providers"
)

const (
	// A repository that we made may be unknown to the next request for a moment:
	// it is asked for again after visibleAfter, by the usual number of tries, as
	// long as it is younger than visibleFor.
	visibleAfter = time.Second
	visibleFor   = 2 * time.Minute
)

// MustCreate reports whether repo has to be made by [Client.CreateRepository]
// before a push when it does not exist: its kind does not make it on the first
// push, and the registry block has create_repositories.
func (c *Client) MustCreate(repo providers.Repository) (bool, error) {
	r, err := c.at("create repository", repo, "")
	if err != nil {
		return false, err
	}
	return r.settings.CreateRepositories && r.profile.Create != CreateOnPush, nil
}

// CreateRepository makes what must exist before a push to repo: the repository
// itself, or the project above it. It is no error when it exists already, and
// nothing is sent where the first push makes it. Creations go one after the
// other, at the rate of the kind.
//
// Errors: Unsupported when the registry block has no create_repositories, or the
// kind has no way to do it; Denied, with the right that is missing.
func (c *Client) CreateRepository(ctx context.Context, repo providers.Repository) error {
	const op = "create repository"
	r, err := c.at(op, repo, "")
	if err != nil || r.profile.Create == CreateOnPush {
		return err
	}
	refuse := func(hint, text string) error {
		return &providers.Error{Class: providers.Unsupported, Op: op, On: repo.String(), Hint: hint, Err: errors.New(text)}
	}
	if !r.settings.CreateRepositories {
		return refuse("Say create_repositories = true in the registry block of "+repo.Host+", or create it there by hand.",
			"it does not exist, and its registry block does not allow to create it")
	}
	if r.kind.Create == nil {
		return refuse("Create it at "+repo.Host+" by hand.", "registries of the kind "+r.kind.Name+" have no way to create one from here")
	}
	select {
	case r.queue <- struct{}{}:
		defer func() { <-r.queue }()
	case <-ctx.Done():
		return ctx.Err()
	}
	place := repo.Path
	if r.profile.Create == CreateTop {
		parts := strings.Split(repo.Path, "/")
		place = strings.Join(parts[:min(max(1, r.profile.Top), len(parts))], "/")
	}
	if r.wasMade(place) {
		return nil
	}
	if err := r.creates.take(ctx, 1); err != nil {
		return err
	}
	if err := r.kind.Create(ctx, &API{remote: r}, repo.Path); err != nil {
		return err
	}
	r.making.Lock()
	defer r.making.Unlock()
	r.made[place] = c.clock.Now()
	return nil
}

func (r *remote) wasMade(place string) bool {
	r.making.Lock()
	defer r.making.Unlock()
	_, ok := r.made[place]
	return ok
}

// madeLately reports whether path, of the distribution API, is about a repository
// that this run has just made.
func (r *remote) madeLately(path string, now time.Time) bool {
	r.making.Lock()
	defer r.making.Unlock()
	for place, at := range r.made {
		if strings.HasPrefix(path, "/v2/"+place+"/") && now.Sub(at) < visibleFor {
			return true
		}
	}
	return false
}
