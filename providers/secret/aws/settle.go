package aws

import (
	"context"

	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// Settle goes by the token, which is the version's id. Reads may lag behind the
// write that is looked for, so "not there" is not taken from a read: putting our
// label on the version is a write, which the service answers from what is, and
// which fails without effect when there is no such version.
//
// A version that holds no label was withdrawn, or was current and has been
// replaced twice since. Nothing of it is in effect either way: made is false,
// and whoever plans again sees a version that is not the recorded one.
func (s *Store) Settle(ctx context.Context, w secret.Write) (secret.Version, bool, error) {
	const op = "settle the write of secret"
	none := secret.Version{}
	if err := s.checkWrite(op, w, false); err != nil {
		return none, false, err
	}
	d, err := s.describe(ctx, op, w.Name)
	if providers.ClassOf(err) == providers.NotFound {
		d, err = nil, nil
	}
	if err != nil {
		return none, false, err
	}
	if at := stands(d, w); at >= wasOurs {
		return made(s.finish(ctx, op, w, d, at))
	}
	if !staged(d, w) {
		if there, err := s.label(ctx, op, w); !there || err != nil {
			return none, false, err
		}
	}
	// The version is there and waits: finish what was begun, or withdraw it.
	d, at, err := s.look(ctx, op, w, open)
	if err != nil {
		return none, false, err
	}
	var v secret.Version
	if at == open {
		v, err = s.promote(ctx, op, w, d)
	} else {
		v, err = s.conclude(ctx, op, w, d, at, true)
	}
	if providers.ClassOf(err) == providers.Conflict {
		return none, false, nil // withdrawn
	}
	return made(v, err)
}

func made(v secret.Version, err error) (secret.Version, bool, error) { return v, err == nil, err }

// label puts our label on the version of a write, and says whether there is one.
func (s *Store) label(ctx context.Context, op string, w secret.Write) (bool, error) {
	label := ownLabel(w.Token)
	in := &sm.UpdateSecretVersionStageInput{SecretId: &w.Name, VersionStage: &label, MoveToVersionId: &w.Token}
	_, err := call(ctx, s, question{op: op, name: w.Name, action: "UpdateSecretVersionStage"}, in, s.client.UpdateSecretVersionStage)
	if refusedMove(err) {
		return false, nil
	}
	return err == nil, err
}
