package aws

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// The service's own staging labels.
const (
	current  = "AWSCURRENT"
	previous = "AWSPREVIOUS"
	waiting  = "AWSPENDING"
)

// List pages through ListSecrets, 100 at a time. Its entries name the current
// version, so nothing is described one by one; they do not tell of replicas
// (Metadata.Replicas is nil) nor when the current version was made.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[secret.Info, error] {
	return func(yield func(secret.Info, error) bool) {
		if prefix != "" && !nameForm().MatchString(prefix) {
			return // no name of AWS begins so
		}
		q := question{op: "list secrets", action: "ListSecrets"}
		in := &sm.ListSecretsInput{MaxResults: aws.Int32(100), IncludePlannedDeletion: aws.Bool(true)}
		if prefix != "" {
			in.Filters = []types.Filter{{Key: types.FilterNameStringTypeName, Values: []string{prefix}}}
		}
		for {
			page, err := call(ctx, s, q, in, s.client.ListSecrets)
			if err != nil {
				yield(secret.Info{}, err)
				return
			}
			for _, entry := range page.SecretList {
				if !strings.HasPrefix(aws.ToString(entry.Name), prefix) {
					continue
				}
				info, err := s.listed(ctx, entry)
				if !yield(info, err) || err != nil {
					return
				}
			}
			if aws.ToString(page.NextToken) == "" {
				return
			}
			in.NextToken = page.NextToken
		}
	}
}

// listed is an entry of a list. Entries that wait for their deletion may carry
// the day it was asked for instead of the day it becomes final (the reference
// of SecretListEntry and of DescribeSecret say different things); where that
// shows, Describe is asked.
func (s *Store) listed(ctx context.Context, e types.SecretListEntry) (secret.Info, error) {
	if e.DeletedDate != nil && !e.DeletedDate.After(s.o.Clock.Now()) {
		info, err := s.Describe(ctx, aws.ToString(e.Name))
		if providers.ClassOf(err) != providers.NotFound {
			return info, err
		}
	}
	return s.info(&sm.DescribeSecretOutput{
		ARN: e.ARN, Name: e.Name, Description: e.Description, KmsKeyId: e.KmsKeyId, Tags: e.Tags, DeletedDate: e.DeletedDate,
		LastAccessedDate: e.LastAccessedDate, OwningService: e.OwningService, Type: e.Type, RotationEnabled: e.RotationEnabled,
		VersionIdsToStages: e.SecretVersionsToStages, PrimaryRegion: e.PrimaryRegion,
	}), nil
}

// Describe asks for one secret.
func (s *Store) Describe(ctx context.Context, name string) (secret.Info, error) {
	d, err := s.describe(ctx, "describe secret", name)
	if err != nil {
		return secret.Info{}, err
	}
	info := s.info(d)
	info.Metadata.Replicas = []secret.Replica{}
	for _, r := range d.ReplicationStatus {
		info.Metadata.Replicas = append(info.Metadata.Replicas, secret.Replica{
			Region: aws.ToString(r.Region), KMSKey: aws.ToString(r.KmsKeyId), Status: replicaStatus(r),
		})
	}
	slices.SortFunc(info.Metadata.Replicas, func(a, b secret.Replica) int { return cmp.Compare(a.Region, b.Region) })
	return info, nil
}

func (s *Store) describe(ctx context.Context, op, name string) (*sm.DescribeSecretOutput, error) {
	if !nameForm().MatchString(name) {
		return nil, s.fail(providers.Invalid, op, name, "no name that AWS allows", "")
	}
	return call(ctx, s, question{op: op, name: name, action: "DescribeSecret"}, &sm.DescribeSecretInput{SecretId: &name}, s.client.DescribeSecret)
}

// found describes a secret until a description is good. One that is not, and that
// there is no such secret, may come from a read that lags behind, and is looked
// at again for about three seconds before it is believed.
func (s *Store) found(ctx context.Context, op, name string, good func(*sm.DescribeSecretOutput) bool) (d *sm.DescribeSecretOutput, isGood bool, err error) {
	var missing error
	isGood, err = s.settled(ctx, question{op: op, name: name}, func() (bool, error) {
		var err error
		if d, err = s.describe(ctx, op, name); providers.ClassOf(err) == providers.NotFound {
			missing = err
			return false, nil
		}
		missing = nil
		return err == nil && good(d), err
	})
	if err == nil {
		err = missing
	}
	return d, isGood, err
}

// info is what a description tells.
func (s *Store) info(d *sm.DescribeSecretOutput) secret.Info {
	version := holder(d, current)
	info := secret.Info{
		Name: aws.ToString(d.Name), ID: aws.ToString(d.ARN), Version: version,
		Deletion: aws.ToTime(d.DeletedDate), ManagedBy: aws.ToString(d.OwningService),
		Rotates: aws.ToBool(d.RotationEnabled), LastRead: aws.ToTime(d.LastAccessedDate),
	}
	if info.ManagedBy == "" && aws.ToString(d.Type) != "" {
		info.ManagedBy = "partner " + aws.ToString(d.Type)
	}
	for _, label := range d.VersionIdsToStages[version] {
		if label != current && label != previous && label != waiting {
			info.Labels = append(info.Labels, label)
		}
	}
	slices.Sort(info.Labels)
	info.Owner, info.Metadata.Labels = fromTags(d.Tags)
	info.Metadata.Owner = info.Owner
	info.Metadata.Description = aws.String(aws.ToString(d.Description))
	info.Metadata.KMSKey = aws.String(aws.ToString(d.KmsKeyId))
	return info
}

// holder is the version that a staging label sits on; empty for none.
func holder(d *sm.DescribeSecretOutput, label string) string {
	for id, labels := range d.VersionIdsToStages {
		if slices.Contains(labels, label) {
			return id
		}
	}
	return ""
}

// History asks for all versions that are still kept, also those without a label.
func (s *Store) History(ctx context.Context, name string) ([]secret.Version, error) {
	q := question{op: "list versions of secret", name: name, action: "ListSecretVersionIds"}
	if !nameForm().MatchString(name) {
		return nil, s.fail(providers.Invalid, q.op, name, "no name that AWS allows", "")
	}
	in := &sm.ListSecretVersionIdsInput{SecretId: &name, IncludeDeprecated: aws.Bool(true), MaxResults: aws.Int32(100)}
	seen := map[string]secret.Version{}
	for {
		page, err := call(ctx, s, q, in, s.client.ListSecretVersionIds)
		if err != nil {
			return nil, err
		}
		for _, v := range page.Versions {
			id := aws.ToString(v.VersionId)
			seen[id] = version(id, v.CreatedDate, v.VersionStages)
		}
		if aws.ToString(page.NextToken) == "" {
			break
		}
		in.NextToken = page.NextToken
	}
	// Versions of one second are told apart by their labels: the current one is
	// the newest.
	rank := map[secret.VersionState]int{secret.Pending: 0, secret.Current: 1, secret.Previous: 2, secret.Deprecated: 3}
	return slices.SortedFunc(maps.Values(seen), func(a, b secret.Version) int {
		return cmp.Or(b.Created.Compare(a.Created), rank[a.State]-rank[b.State], len(b.Labels)-len(a.Labels), strings.Compare(a.ID, b.ID))
	}), nil
}

// version is a version by its labels. One that only has a label of a write of
// ours or of a rotation waits to become current.
func version(id string, created *time.Time, labels []string) secret.Version {
	v := secret.Version{ID: id, Created: aws.ToTime(created), State: secret.Previous, Labels: slices.Sorted(slices.Values(labels))}
	switch {
	case slices.Contains(labels, current):
		v.State = secret.Current
	case slices.Contains(labels, previous):
	case len(labels) == 0:
		v.State = secret.Deprecated
	case slices.Contains(labels, waiting), slices.Contains(labels, ownLabel(id)):
		v.State = secret.Pending
	}
	return v
}
