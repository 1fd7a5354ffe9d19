package aws

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// What AWS allows as recovery window (API reference of DeleteSecret).
const (
	day           = 24 * time.Hour
	shortestDays  = 7
	longestDays   = 30
	deletionNotes = "A recovery window is 7 to 30 whole days."
)

// Delete schedules the deletion, 30 days ahead unless d says otherwise. Replicas
// are removed first, at once and for good: AWS deletes no secret that has some.
//
// DeleteSecret takes no condition, but a secret that is scheduled takes no
// writes: so the current version is looked at once more after the schedule, and
// if it is not the expected one, the deletion is taken back. A forced deletion,
// which nothing brings back, is scheduled and looked at in the same way before
// it is forced. So no version that the caller has not seen is lost.
func (s *Store) Delete(ctx context.Context, name string, del secret.Deletion) (secret.Deleted, error) {
	const op = "delete secret"
	days := int64(shortestDays)
	if !del.Force {
		if del.Window == 0 {
			del.Window = longestDays * day
		}
		days = int64(del.Window / day)
		if del.Window%day != 0 || days < shortestDays || days > longestDays {
			return secret.Deleted{}, s.fail(providers.Invalid, op, name, fmt.Sprintf("a recovery window of %v is none of AWS's", del.Window), deletionNotes)
		}
	}
	d, same, err := s.found(ctx, op, name, func(d *sm.DescribeSecretOutput) bool { return holder(d, current) == del.Expect })
	switch {
	case err != nil:
		return secret.Deleted{}, err
	case !same:
		return secret.Deleted{}, s.overtaken(op, secret.Write{Name: name, Expect: del.Expect}, d)
	}
	if service := aws.ToString(d.OwningService); service != "" {
		return secret.Deleted{}, s.fail(providers.Unsupported, op, name, "the secret is owned by "+providers.Printable(service, 80), "Delete it in that service.")
	}
	if err := s.primary(op, name, d); err != nil {
		return secret.Deleted{}, err
	}
	final, err := s.schedule(ctx, op, name, days, d)
	switch {
	case providers.ClassOf(err) == providers.NotFound && del.Force:
		return secret.Deleted{}, nil // it was there, and is gone now
	case err != nil:
		return secret.Deleted{}, err
	}
	// Nobody writes it any more: what a read shows that shows the schedule too is
	// what is deleted.
	d, fresh, err := s.found(ctx, op, name, func(d *sm.DescribeSecretOutput) bool { return d.DeletedDate != nil })
	switch {
	case providers.ClassOf(err) == providers.NotFound && del.Force:
		return secret.Deleted{}, nil
	case err != nil:
		return secret.Deleted{}, err
	case fresh && holder(d, current) != del.Expect:
		if err := s.Restore(ctx, name); err != nil {
			return secret.Deleted{}, err
		}
		return secret.Deleted{}, s.overtaken(op, secret.Write{Name: name, Expect: del.Expect}, d)
	case !del.Force:
		return secret.Deleted{Final: final}, nil
	case !fresh:
		return secret.Deleted{}, s.fail(providers.Transient, op, name, "AWS does not show the scheduled deletion yet, and it is not forced unseen", "Run it again.")
	}
	// Forcing succeeds also when there is nothing left, so it may be repeated.
	in := &sm.DeleteSecretInput{SecretId: &name, ForceDeleteWithoutRecovery: aws.Bool(true)}
	_, err = call(ctx, s, question{op: op, name: name, action: "DeleteSecret"}, in, s.client.DeleteSecret)
	if err != nil && !said(err, "ResourceNotFoundException") {
		return secret.Deleted{}, err
	}
	// AWS does it in the background. It is as good as done, so that it still
	// shows after a while is no error; Write waits for the name itself.
	_, err = s.settled(ctx, question{op: op, name: name}, func() (bool, error) {
		_, err := s.describe(ctx, op, name)
		if providers.ClassOf(err) == providers.NotFound {
			return true, nil
		}
		return false, err
	})
	return secret.Deleted{}, err
}

// schedule asks for the deletion and says when it becomes final. It asks whatever
// d says of a deletion, since d may lag behind a restore.
func (s *Store) schedule(ctx context.Context, op, name string, days int64, d *sm.DescribeSecretOutput) (time.Time, error) {
	var copies []string
	for _, r := range d.ReplicationStatus {
		copies = append(copies, aws.ToString(r.Region))
	}
	if err := s.unreplicate(ctx, op, name, copies); err != nil {
		return time.Time{}, err
	}
	in := &sm.DeleteSecretInput{SecretId: &name, RecoveryWindowInDays: &days}
	out, err := call(ctx, s, question{op: op, name: name, action: "DeleteSecret"}, in, s.client.DeleteSecret)
	if err == nil {
		return aws.ToTime(out.DeletionDate), nil
	}
	if !is(err, deletion) {
		return time.Time{}, err
	}
	// Scheduled already, by a try of ours whose answer was lost.
	d, _, err = s.found(ctx, op, name, func(d *sm.DescribeSecretOutput) bool { return d.DeletedDate != nil })
	if err != nil {
		return time.Time{}, err
	}
	return aws.ToTime(d.DeletedDate), nil
}

// Restore takes a scheduled deletion back.
func (s *Store) Restore(ctx context.Context, name string) error {
	const op = "restore secret"
	if !nameForm().MatchString(name) {
		return s.fail(providers.Invalid, op, name, "no name that AWS allows", "")
	}
	_, err := call(ctx, s, question{op: op, name: name, action: "RestoreSecret"}, &sm.RestoreSecretInput{SecretId: &name}, s.client.RestoreSecret)
	return err
}
