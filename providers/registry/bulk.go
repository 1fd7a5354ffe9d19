package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"freightliner/providers"
)

// The two bulk listings that a kind may have, as indexes of remote.bulkless.
const (
	bulkOfRepositories = iota
	bulkOfTags
)

// bulkRepositories lists by the kind's own interface. done is unset when there
// is none to be had and the catalog tells everything; err then says why, if it was
// asked.
func (r *remote) bulkRepositories(ctx context.Context, base providers.Repository) (names []string, done bool, err error) {
	if r.kind.Repositories == nil {
		return nil, false, nil
	}
	whole := r.profile.Catalog == CatalogWhole
	if whole && r.bulkless[bulkOfRepositories].Load() {
		return nil, false, nil
	}
	var why error
	err = r.twice(func() (missing error, err error) {
		api := &API{remote: r}
		names, err = r.kind.Repositories(ctx, api, base.Path)
		why = err
		return r.missing(api, err, whole, bulkOfRepositories), err
	})
	if errors.Is(err, errBulkless) {
		return nil, false, why
	}
	if err != nil {
		err = r.failure(ctx, &call{op: "list repositories of", on: base.String()}, err)
		switch providers.ClassOf(err) {
		case providers.Denied, providers.NotFound, providers.Unsupported:
			if providers.HintOf(err) == "" {
				err = Hint(err, nameThem)
			}
		}
		return nil, true, err
	}
	slices.Sort(names)
	names = slices.DeleteFunc(slices.Compact(names), func(name string) bool { return !below(name, base.Path) })
	for _, name := range names {
		if err := CheckRepository(name); err != nil {
			return nil, true, &providers.Error{Class: providers.Invalid, Op: "list repositories of", On: base.String(), Err: err}
		}
	}
	return names, true, nil
}

// nameThem is the way out of a listing that is not to be had.
const nameThem = "Name the repositories with repositories { names = [...] }."

// neither is the error when the catalog failed as well as the bulk listing before
// it, whose words are the more useful ones.
func neither(catalog, bulk error) error {
	if catalog == nil || bulk == nil {
		return catalog
	}
	return amend(bulk, func(e *providers.Error) {
		e.Class = providers.ClassOf(catalog)
		e.Err = fmt.Errorf("%w; and %w", e.Err, catalog)
		if e.Hint == "" {
			e.Hint = nameThem
		}
	})
}

// bulkTags lists by the kind's own interface. done is unset when there is none
// to be had; the registry's own list of tags is always complete.
func (r *remote) bulkTags(ctx context.Context, repo providers.Repository) (list TagList, done bool, err error) {
	if r.kind.Tags == nil || r.bulkless[bulkOfTags].Load() {
		return TagList{}, false, nil
	}
	err = r.twice(func() (missing error, err error) {
		api := &API{remote: r}
		if list, err = r.kind.Tags(ctx, api, repo.Path); err == nil {
			err = list.check()
		}
		return r.missing(api, err, true, bulkOfTags), err
	})
	if errors.Is(err, ErrMoved) {
		r.client.log.Debug("the bulk listing does not stand still, asking the registry's own API", "repository", repo.String())
		return TagList{}, false, nil
	}
	if errors.Is(err, errBulkless) {
		return TagList{}, false, nil
	}
	if err != nil {
		return TagList{}, true, r.failure(ctx, &call{op: "list tags of", on: repo.String()}, err)
	}
	return list, true, nil
}

// errBulkless says to go another way.
var errBulkless = errors.New("no bulk listing")

// twice lists again from the start when the list moved under the reader, once.
func (r *remote) twice(list func() (missing, err error)) error {
	for n := 1; ; n++ {
		missing, err := list()
		if missing != nil {
			return missing
		}
		if !errors.Is(err, ErrMoved) {
			return err
		}
		if n == 2 {
			return &providers.Error{Class: providers.Transient, Err: err}
		}
	}
}

// missing decides whether a bulk listing that failed is not to be had here, which
// only its first page can say: what fails later has told a part, and is an error.
// other says that there is another way that tells everything.
func (r *remote) missing(api *API, err error, other bool, of int) error {
	if err == nil || !other || api.begun() {
		return nil
	}
	class := providers.ClassOf(err)
	switch class {
	case providers.Denied, providers.Unsupported, providers.Transient:
		r.bulkless[of].Store(true) // it will say so every time, or cost four tries
	case providers.NotFound, providers.Throttled:
	default:
		return nil
	}
	r.client.log.Debug("the bulk listing is not to be had, asking the registry's own API", "registry", r.settings.Host, "class", class.String(), "error", err.Error())
	return errBulkless
}
