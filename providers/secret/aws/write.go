package aws

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// ownLabel is the staging label that holds a version until it is current, so
// that the service does not collect it and whoever comes later finds it.
func ownLabel(token string) string { return "freightliner-" + token }

// standing is what a description says about a write.
type standing int

const (
	unseen  standing = iota // there is no such secret
	leaving                 // the secret waits for its deletion
	moved                   // another version than the expected one is current
	open                    // the expected version is current
	wasOurs                 // the write is done, and its version has been replaced since
	isOurs                  // the write is done
)

func stands(d *sm.DescribeSecretOutput, w secret.Write) standing {
	switch {
	case d == nil:
		return unseen
	case holder(d, current) == w.Token:
		return isOurs
	case holder(d, previous) == w.Token:
		// The service gives AWSPREVIOUS only to what was current.
		return wasOurs
	case d.DeletedDate != nil:
		return leaving
	case holder(d, current) == w.Expect:
		return open
	}
	return moved
}

// staged reports whether the version of a write is there and waits.
func staged(d *sm.DescribeSecretOutput, w secret.Write) bool {
	return d != nil && slices.Contains(d.VersionIdsToStages[w.Token], ownLabel(w.Token))
}

// look describes until the standing is enough or better. Anything else may come
// from a read that lags behind (also that the secret waits for a deletion which
// was just taken back), and is looked at again for about three seconds before it
// is believed.
func (s *Store) look(ctx context.Context, op string, w secret.Write, enough standing) (d *sm.DescribeSecretOutput, at standing, err error) {
	_, err = s.settled(ctx, question{op: op, name: w.Name}, func() (bool, error) {
		d, err = s.describe(ctx, op, w.Name)
		if providers.ClassOf(err) == providers.NotFound {
			d, err = nil, nil
		}
		at = stands(d, w)
		return at >= enough, err
	})
	return d, at, err
}

// Write makes a version of w.Value and makes it current; see [secret.Store] and
// the picture in doc.go. It can be killed between any two of its calls and be
// called again:
//
//   - before PutSecretValue or CreateSecret took effect, there is nothing;
//   - after it, the version carries our label, and the next call does not put
//     again but goes on with the swap;
//   - the swap happens once: it names the version that must lose AWSCURRENT, so
//     it fails when that was done already, and then the description says by whom;
//   - after it, only the label and the owner's tag are left to do.
//
// PutSecretValue with a token that is known "succeeds but does nothing", which
// includes that it gives no label: a repeated put never brings an older payload
// back, and nothing here takes its success for more than "the version is there".
//
// An error may come with the version: then the value is written, and what failed
// came after (a tag, a label, a replica).
func (s *Store) Write(ctx context.Context, w secret.Write) (secret.Version, error) {
	const op = "write secret"
	if err := s.checkWrite(op, w, true); err != nil {
		return secret.Version{}, err
	}
	if w.Create != nil {
		if v, made, err := s.create(ctx, op, w); made || err != nil {
			return v, err
		}
	}
	return s.change(ctx, op, w)
}

// create makes the secret with its value in one call. made is false when there
// is one of that name, or when it can not tell whose.
func (s *Store) create(ctx context.Context, op string, w secret.Write) (v secret.Version, made bool, err error) {
	tries := 0
	q := question{op: op, name: w.Name, action: "CreateSecret", payload: true, tries: &tries}
	in := &sm.CreateSecretInput{
		Name: &w.Name, ClientRequestToken: &w.Token, Description: w.Create.Description,
		Tags: tags(w.Create.Labels, owner(w)), AddReplicaRegions: regions(w.Create.Replicas),
	}
	if key := s.key(w.Create); key != "" {
		in.KmsKeyId = &key
	}
	var clean func()
	in.SecretString, in.SecretBinary, clean = payload(w.Value)
	defer clean()
	end := s.o.Clock.Now().Add(patience)
	for pause := time.Second; ; pause = min(2*pause, 10*time.Second) {
		_, err := call(ctx, s, q, in, s.client.CreateSecret)
		switch {
		case err == nil && tries == 1:
			v := secret.Version{ID: w.Token, State: secret.Current, Labels: []string{current}}
			return v, true, s.replicated(ctx, op, w.Name, w.Create.Replicas)
		case err == nil, said(err, "ResourceExistsException"):
			// An earlier try of ours or somebody else made it; and a known token
			// succeeds even if its version is not current any more.
			return v, false, nil
		case !is(err, deletion):
			return v, false, err
		}
		// A name is free some time after its secret was deleted by force.
		final := s.deletionDate(ctx, w.Name)
		if final.After(end) || s.o.Clock.Now().Add(pause).After(end) {
			return v, false, s.pending(op, w.Name, final)
		}
		if err := s.wait(ctx, q, pause); err != nil {
			return v, false, err
		}
	}
}

// change makes a version of a secret that exists.
func (s *Store) change(ctx context.Context, op string, w secret.Write) (secret.Version, error) {
	d, at, err := s.look(ctx, op, w, open)
	switch {
	case err != nil:
		return secret.Version{}, err
	case at != open:
		return s.conclude(ctx, op, w, d, at, staged(d, w))
	}
	if err := s.writable(op, w.Name, d); err != nil {
		return secret.Version{}, err
	}
	if staged(d, w) {
		return s.promote(ctx, op, w, d)
	}
	in := &sm.PutSecretValueInput{SecretId: &w.Name, ClientRequestToken: &w.Token, VersionStages: []string{ownLabel(w.Token)}}
	var clean func()
	in.SecretString, in.SecretBinary, clean = payload(w.Value)
	defer clean()
	out, err := call(ctx, s, question{op: op, name: w.Name, action: "PutSecretValue", payload: true}, in, s.client.PutSecretValue)
	switch {
	case is(err, deletion):
		return secret.Version{}, s.pending(op, w.Name, s.deletionDate(ctx, w.Name))
	case said(err, "ResourceExistsException"):
		return secret.Version{}, s.fail(providers.Invalid, op, w.Name, "the token was used for another payload", "")
	case said(err, "ResourceNotFoundException"):
		return secret.Version{}, s.fail(providers.Conflict, op, w.Name, "the secret was deleted while it was written", "")
	case err != nil:
		return secret.Version{}, err
	case slices.Contains(out.VersionStages, current):
		// The first version of a secret is current from the start.
		return s.finish(ctx, op, w, d, isOurs)
	}
	return s.promote(ctx, op, w, d)
}

// promote swaps AWSCURRENT from the expected version to ours, if it still sits
// there: the compare-and-swap that makes writes conditional.
func (s *Store) promote(ctx context.Context, op string, w secret.Write, d *sm.DescribeSecretOutput) (secret.Version, error) {
	label := current
	in := &sm.UpdateSecretVersionStageInput{SecretId: &w.Name, VersionStage: &label, MoveToVersionId: &w.Token}
	if w.Expect != "" {
		in.RemoveFromVersionId = &w.Expect
	}
	_, err := call(ctx, s, question{op: op, name: w.Name, action: "UpdateSecretVersionStage"}, in, s.client.UpdateSecretVersionStage)
	switch {
	case err == nil:
		return s.finish(ctx, op, w, d, isOurs)
	case !refusedMove(err):
		return secret.Version{}, err
	}
	// Refused, so the expected version does not hold the label any more: it was
	// moved by a try of ours whose answer was lost, or by somebody else. Reads
	// show it sooner or later.
	d, at, err := s.look(ctx, op, w, wasOurs)
	if err != nil {
		return secret.Version{}, err
	}
	return s.conclude(ctx, op, w, d, at, true)
}

func refusedMove(err error) bool {
	return said(err, "InvalidParameterException", "InvalidRequestException", "ResourceNotFoundException")
}

// conclude ends a write that can not go on: it is done, or it must not be done.
// labelled is true when our label may be on its version.
func (s *Store) conclude(ctx context.Context, op string, w secret.Write, d *sm.DescribeSecretOutput, at standing, labelled bool) (secret.Version, error) {
	switch at {
	case isOurs, wasOurs:
		return s.finish(ctx, op, w, d, at)
	case leaving:
		// Labels can not be taken off now; the version goes with the secret.
		return secret.Version{}, s.pending(op, w.Name, aws.ToTime(d.DeletedDate))
	case unseen:
		if w.Create != nil {
			return secret.Version{}, s.fail(providers.Transient, op, w.Name, "the name is taken, but the secret does not show yet", "It was made or deleted just now; run it again.")
		}
		return secret.Version{}, s.fail(providers.Conflict, op, w.Name, "there is no such secret in "+s.o.Region, "It was deleted, or is in another region or account.")
	case open:
		return secret.Version{}, s.fail(providers.Transient, op, w.Name, "AWS refused to make the version current and does not show why yet", "Run it again: the version waits under its label, and is not made twice.")
	}
	if labelled {
		// The version never was what readers get. If this fails, settling the
		// write tries again.
		_ = s.unlabel(ctx, op, w.Name, w.Token)
	}
	return secret.Version{}, s.overtaken(op, w, d)
}

// overtaken says that somebody else's version is current.
func (s *Store) overtaken(op string, w secret.Write, d *sm.DescribeSecretOutput) error {
	by, _ := fromTags(d.Tags)
	whose := "with no tag of freightliner"
	if by != "" {
		whose = "with the tag of " + providers.Printable(by, 300)
	}
	now := providers.Printable(holder(d, current), 64)
	switch {
	case w.Create != nil:
		return s.fail(providers.Conflict, op, w.Name, "the secret exists already, "+whose, "Take it over with adopt = true, or an import block; or choose another name.")
	case now == "":
		return s.fail(providers.Conflict, op, w.Name, "the secret has no current version, expected "+w.Expect, "It was made anew; plan again.")
	case w.Expect == "":
		return s.fail(providers.Conflict, op, w.Name, "the secret has a current version, "+now+", and none was expected; the secret is "+whose, "Plan again, to see what would be overwritten.")
	}
	return s.fail(providers.Conflict, op, w.Name, "the current version is "+now+", expected "+w.Expect+"; the secret is "+whose, "Somebody else wrote it. Plan again, to see what would be overwritten.")
}

// finish does what is left when the version is, or was, current. It takes the
// label off even if d does not show it, since d may lag behind.
func (s *Store) finish(ctx context.Context, op string, w secret.Write, d *sm.DescribeSecretOutput, at standing) (secret.Version, error) {
	v := secret.Version{ID: w.Token, State: secret.Current, Labels: []string{current}}
	if at == wasOurs {
		v.State, v.Labels = secret.Previous, []string{previous}
	}
	labelled := []string{w.Token}
	for _, before := range []string{holder(d, current), holder(d, previous)} {
		// A label on a version that got this far holds nothing any more. It stays
		// when a write is repeated that made the secret's first version.
		if before != w.Token && staged(d, secret.Write{Token: before}) {
			labelled = append(labelled, before)
		}
	}
	for _, id := range labelled {
		if err := s.unlabel(ctx, op, w.Name, id); err != nil {
			return v, err
		}
	}
	if by, _ := fromTags(d.Tags); owner(w) == "" || by == owner(w) || at == wasOurs {
		return v, nil
	}
	return v, s.tag(ctx, op, w.Name, nil, owner(w))
}

// unlabel takes our label off the version of a write. A refusal means that it is
// not there, or that the secret is going away: both is what is wanted.
func (s *Store) unlabel(ctx context.Context, op, name, token string) error {
	label := ownLabel(token)
	in := &sm.UpdateSecretVersionStageInput{SecretId: &name, VersionStage: &label, RemoveFromVersionId: &token}
	_, err := call(ctx, s, question{op: op, name: name, action: "UpdateSecretVersionStage"}, in, s.client.UpdateSecretVersionStage)
	if refusedMove(err) {
		return nil
	}
	return err
}

// writable refuses what must not be written although it could be.
func (s *Store) writable(op, name string, d *sm.DescribeSecretOutput) error {
	if service := aws.ToString(d.OwningService); service != "" {
		return s.fail(providers.Unsupported, op, name, "the secret is owned by "+providers.Printable(service, 80), ownedHint)
	}
	if partner := aws.ToString(d.Type); partner != "" {
		return s.fail(providers.Unsupported, op, name, "the secret belongs to the partner "+providers.Printable(partner, 80), ownedHint)
	}
	return s.primary(op, name, d)
}

func (s *Store) primary(op, name string, d *sm.DescribeSecretOutput) error {
	if region := aws.ToString(d.PrimaryRegion); region != "" && region != s.o.Region {
		return s.fail(providers.Conflict, op, name, "in "+s.o.Region+" the secret is a replica", "Only its primary region can change it: set region = \""+providers.Printable(region, 40)+"\" in the secret_store.")
	}
	return nil
}

// deletionDate is when a secret goes away; zero when it is not known.
func (s *Store) deletionDate(ctx context.Context, name string) time.Time {
	d, err := s.describe(ctx, "describe secret", name)
	if err != nil {
		return time.Time{}
	}
	return aws.ToTime(d.DeletedDate)
}

func owner(w secret.Write) string {
	if w.Owner == "" && w.Create != nil {
		return w.Create.Owner
	}
	return w.Owner
}

func (s *Store) key(m *secret.Metadata) string {
	if m.KMSKey != nil {
		return *m.KMSKey
	}
	return s.o.KMSKey
}
