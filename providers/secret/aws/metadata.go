package aws

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// Our own tags: that a secret is ours, and which block wrote it last.
const (
	tagManaged = "managed-by"
	tagOwner   = "freightliner-address"
	product    = "freightliner"
)

func ours(key string) bool { return key == tagManaged || key == tagOwner }

// ownerTag writes an address with what a tag may hold: anything else becomes
// "=" and two hexadecimal digits a byte.
func ownerTag(address string) string {
	var b strings.Builder
	for i := range len(address) {
		c := address[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(" +-._:/@", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

func fromOwnerTag(tag string) string {
	var b strings.Builder
	for i := 0; i < len(tag); i++ {
		if tag[i] == '=' && i+3 <= len(tag) {
			if c, err := strconv.ParseUint(tag[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(tag[i])
	}
	return b.String()
}

// tags are labels and owner as AWS keeps them, sorted.
func tags(labels map[string]string, owner string) []types.Tag {
	all := maps.Clone(labels)
	if all == nil {
		all = map[string]string{}
	}
	if owner != "" {
		all[tagManaged], all[tagOwner] = product, ownerTag(owner)
	}
	var out []types.Tag
	for _, key := range slices.Sorted(maps.Keys(all)) {
		out = append(out, types.Tag{Key: aws.String(key), Value: aws.String(all[key])})
	}
	return out
}

// fromTags takes tags apart. The owner counts only beside managed-by: a tag that
// somebody copied alone says nothing.
func fromTags(tags []types.Tag) (owner string, labels map[string]string) {
	labels = map[string]string{}
	managed := false
	for _, t := range tags {
		key, value := aws.ToString(t.Key), aws.ToString(t.Value)
		switch {
		case key == tagManaged:
			if managed = value == product; !managed {
				labels[key] = value // another tool's
			}
		case key == tagOwner:
			owner = fromOwnerTag(value)
		case !strings.HasPrefix(key, "aws:"):
			labels[key] = value
		}
	}
	if !managed {
		owner = ""
	}
	return owner, labels
}

func (s *Store) tag(ctx context.Context, op, name string, labels map[string]string, owner string) error {
	_, err := call(ctx, s, question{op: op, name: name, action: "TagResource"}, &sm.TagResourceInput{SecretId: &name, Tags: tags(labels, owner)}, s.client.TagResource)
	return err
}

// Update changes what differs: description and key by UpdateSecret without a
// value, which makes no version, then tags, then replicas, which hand the secret
// on and so come last. AWS names no state of the metadata, so Info.Metadata.Etag
// is empty and expect has nothing to be compared with.
func (s *Store) Update(ctx context.Context, name string, m secret.Metadata, expect string) error {
	const op = "update secret"
	if err := s.checkMetadata(m); err != nil {
		return &providers.Error{Class: providers.Invalid, Op: op, On: s.on(name), Err: err}
	}
	if expect != "" {
		return s.fail(providers.Unsupported, op, name, "AWS has no etags to compare with", "")
	}
	d, _, err := s.found(ctx, op, name, func(d *sm.DescribeSecretOutput) bool { return d.DeletedDate == nil })
	if err != nil {
		return err
	}
	if d.DeletedDate != nil {
		return s.pending(op, name, *d.DeletedDate)
	}
	if err := s.primary(op, name, d); err != nil {
		return err
	}
	if err := s.updateItself(ctx, op, name, m, d); err != nil {
		return err
	}
	if err := s.updateTags(ctx, op, name, m, d); err != nil {
		return err
	}
	return s.updateReplicas(ctx, op, name, m, d)
}

func (s *Store) updateItself(ctx context.Context, op, name string, m secret.Metadata, d *sm.DescribeSecretOutput) error {
	in := &sm.UpdateSecretInput{SecretId: &name}
	if m.Description != nil && *m.Description != aws.ToString(d.Description) {
		in.Description = m.Description
	}
	if m.KMSKey != nil && *m.KMSKey != aws.ToString(d.KmsKeyId) {
		in.KmsKeyId = m.KMSKey // empty: back to aws/secretsmanager
	}
	if in.Description == nil && in.KmsKeyId == nil {
		return nil
	}
	_, err := call(ctx, s, question{op: op, name: name, action: "UpdateSecret"}, in, s.client.UpdateSecret)
	return err
}

func (s *Store) updateTags(ctx context.Context, op, name string, m secret.Metadata, d *sm.DescribeSecretOutput) error {
	owner, labels := fromTags(d.Tags)
	set := map[string]string{}
	for key, value := range m.Labels {
		if old, found := labels[key]; !found || old != value {
			set[key] = value
		}
	}
	if m.Owner == owner {
		m.Owner = ""
	}
	var drop []string
	if m.Labels != nil {
		for key := range labels {
			// Another tool's managed-by is replaced by taking over, not dropped as a label.
			if _, keep := m.Labels[key]; !keep && !ours(key) {
				drop = append(drop, key)
			}
		}
	}
	slices.Sort(drop)
	if len(drop) > 0 { // first, so that the number of tags stays within its limit
		in := &sm.UntagResourceInput{SecretId: &name, TagKeys: drop}
		if _, err := call(ctx, s, question{op: op, name: name, action: "UntagResource"}, in, s.client.UntagResource); err != nil {
			return err
		}
	}
	if len(set) == 0 && m.Owner == "" {
		return nil
	}
	return s.tag(ctx, op, name, set, m.Owner)
}

func regions(replicas []secret.Replica) []types.ReplicaRegionType {
	var out []types.ReplicaRegionType
	for _, r := range replicas {
		add := types.ReplicaRegionType{Region: aws.String(r.Region)}
		if r.KMSKey != "" {
			add.KmsKeyId = aws.String(r.KMSKey)
		}
		out = append(out, add)
	}
	slices.SortFunc(out, func(a, b types.ReplicaRegionType) int { return cmp.Compare(*a.Region, *b.Region) })
	return out
}

// updateReplicas removes what is not wanted, adds what is missing or has failed,
// and waits until all are in sync. A replica whose key changes is removed and
// made again, since AWS can not change it. A secret of the same name in another
// region is never overwritten.
func (s *Store) updateReplicas(ctx context.Context, op, name string, m secret.Metadata, d *sm.DescribeSecretOutput) error {
	if m.Replicas == nil {
		return nil
	}
	wanted := map[string]secret.Replica{}
	for _, r := range m.Replicas {
		wanted[r.Region] = r
	}
	var drop []string
	for _, r := range d.ReplicationStatus {
		region := aws.ToString(r.Region)
		want, keep := wanted[region]
		failed := r.Status == types.StatusTypeFailed
		if !keep || failed || want.KMSKey != "" && want.KMSKey != aws.ToString(r.KmsKeyId) {
			drop = append(drop, region)
		} else {
			delete(wanted, region)
		}
	}
	if err := s.unreplicate(ctx, op, name, drop); err != nil {
		return err
	}
	if len(wanted) > 0 {
		in := &sm.ReplicateSecretToRegionsInput{SecretId: &name, AddReplicaRegions: regions(slices.Collect(maps.Values(wanted)))}
		_, err := call(ctx, s, question{op: op, name: name, action: "ReplicateSecretToRegions"}, in, s.client.ReplicateSecretToRegions)
		// Asked again after a lost answer, AWS finds the replicas there already:
		// what became of them is looked at below.
		if err != nil && !said(err, "InvalidParameterException", "InvalidRequestException") {
			return err
		}
	}
	return s.replicated(ctx, op, name, m.Replicas)
}

// unreplicate removes replicas, which deletes them at once and for good, and
// waits until they are gone: a primary that is deleted before leaves copies that
// nobody can delete.
func (s *Store) unreplicate(ctx context.Context, op, name string, drop []string) error {
	if len(drop) == 0 {
		return nil
	}
	slices.Sort(drop)
	in := &sm.RemoveRegionsFromReplicationInput{SecretId: &name, RemoveReplicaRegions: drop}
	q := question{op: op, name: name, action: "RemoveRegionsFromReplication"}
	_, refusal := call(ctx, s, q, in, s.client.RemoveRegionsFromReplication)
	if refusal != nil && !said(refusal, "InvalidParameterException", "InvalidRequestException") {
		return refusal
	}
	done, err := s.watch(ctx, op, name, func(d *sm.DescribeSecretOutput) (bool, error) {
		return !slices.ContainsFunc(d.ReplicationStatus, func(r types.ReplicationStatusType) bool { return slices.Contains(drop, aws.ToString(r.Region)) }), nil
	})
	switch {
	case err != nil || done:
		return err
	case refusal != nil:
		return refusal
	}
	return s.fail(providers.Transient, op, name, "the replicas in "+strings.Join(drop, ", ")+" are not gone yet", "AWS still removes them; run it again later.")
}

// replicated waits until the replicas are in sync; one that failed is an error
// that says why.
func (s *Store) replicated(ctx context.Context, op, name string, want []secret.Replica) error {
	if len(want) == 0 {
		return nil
	}
	missing := ""
	done, err := s.watch(ctx, op, name, func(d *sm.DescribeSecretOutput) (bool, error) {
		missing = ""
		for _, r := range want {
			i := slices.IndexFunc(d.ReplicationStatus, func(have types.ReplicationStatusType) bool { return aws.ToString(have.Region) == r.Region })
			if i >= 0 && d.ReplicationStatus[i].Status == types.StatusTypeFailed {
				return false, s.failedReplica(op, name, d.ReplicationStatus[i])
			}
			if i < 0 || d.ReplicationStatus[i].Status != types.StatusTypeInSync {
				missing = r.Region
			}
		}
		return missing == "", nil
	})
	if err == nil && !done {
		err = s.fail(providers.Transient, op, name, "the replica in "+missing+" is not in sync yet", "AWS still copies it; the secret itself is done. Run it again later.")
	}
	return err
}

func (s *Store) failedReplica(op, name string, r types.ReplicationStatusType) error {
	why := providers.Printable(aws.ToString(r.StatusMessage), 300)
	region := providers.Printable(aws.ToString(r.Region), 40)
	e := &providers.Error{Class: providers.Conflict, Op: op, On: s.on(name), Err: fmt.Errorf("the replica in %s failed: %s", region, why)}
	low := strings.ToLower(why)
	switch {
	case strings.Contains(low, "kms") || strings.Contains(low, "denied") || strings.Contains(low, "authorized"):
		e.Class = providers.Denied
		e.Hint = "Allow kms:Decrypt on the key in " + s.o.Region + " and kms:GenerateDataKey and kms:Encrypt on the key in " + region + "; keys of one region do not work in another. The secret in " + s.o.Region + " is done."
	case strings.Contains(low, "exist"):
		e.Hint = "A secret of this name is in " + region + " already. Delete or rename it there; freightliner never overwrites it. The secret in " + s.o.Region + " is done."
	default:
		e.Hint = "The secret in " + s.o.Region + " is done. Run it again to make the replica anew."
	}
	return e
}

// watch describes a secret until done, for at most the patience.
func (s *Store) watch(ctx context.Context, op, name string, look func(*sm.DescribeSecretOutput) (done bool, err error)) (bool, error) {
	end := s.o.Clock.Now().Add(patience)
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, backoffMost) {
		d, err := s.describe(ctx, op, name)
		// A secret that was made just now may not show yet.
		if err != nil && providers.ClassOf(err) != providers.NotFound {
			return false, err
		}
		if err == nil {
			if done, err := look(d); done || err != nil {
				return done, err
			}
		}
		if s.o.Clock.Now().Add(pause).After(end) {
			return false, nil
		}
		if err := s.wait(ctx, question{op: op, name: name}, pause); err != nil {
			return false, err
		}
	}
}

func replicaStatus(r types.ReplicationStatusType) string {
	switch r.Status {
	case types.StatusTypeInSync:
		return "in sync"
	case types.StatusTypeInProgress, types.StatusTypePending:
		return "in progress"
	case types.StatusTypeFailed:
		return "failed: " + providers.Printable(aws.ToString(r.StatusMessage), 300)
	}
	return strings.ToLower(providers.Printable(string(r.Status), 40))
}
