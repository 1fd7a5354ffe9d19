package gcp

import (
	"context"
	"errors"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// Settle looks for the claim. While an add under it can still arrive, it waits,
// up to half a minute. When nothing was made it takes the claim away; the etag
// makes sure that nobody's later claim goes with it.
//
// Without the value, or without the right to read, a foreign version that came
// within the seconds of the claim in place of ours would be taken for ours.
func (s *Store) Settle(ctx context.Context, w secret.Write) (secret.Version, bool, error) {
	const op = "settle"
	c, err := s.change(op, w)
	if err != nil {
		return secret.Version{}, false, err
	}
	leave, err := s.locks.take(ctx, w.Name)
	if err != nil {
		return secret.Version{}, false, s.explain(ctx, op, w.Name, accessVersion, err)
	}
	defer leave()
	var v secret.Version
	made := false
	err = s.patch(ctx, op, w.Name, func(sec *pb.Secret) (mask []string, err error) {
		before := claimOf(sec)
		mine := before.token == c.Token && before.expect == c.expect
		if mine {
			v, made, err = s.await(ctx, c, before, sec)
		} else {
			v, made, err = s.found(ctx, c, before, false, sec)
		}
		if made || errors.Is(err, errForeign) {
			return nil, nil // there is the answer: ours, or only others'
		}
		if err != nil {
			return nil, err
		}
		if mine {
			delete(sec.Annotations, annWrite)
		} else if before.token != "" && before.expect == c.expect && !before.over(s.options.Clock.Now()) {
			return nil, nil // another run is at it
		}
		// That nothing is there was read from what may be out of date. That the
		// etag is still the current one says that no claim of ours was missed.
		return []string{"annotations"}, nil
	})
	if providers.ClassOf(err) == providers.NotFound {
		return secret.Version{}, false, nil // without a secret there is no version
	}
	return v, made, err
}
