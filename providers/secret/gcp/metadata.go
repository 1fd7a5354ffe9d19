package gcp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// What a secret of ours carries.
const (
	labelManaged   = "managed-by" // = freightliner
	managed        = "freightliner"
	annAddress     = "freightliner-address"     // of the block
	annDescription = "freightliner-description" // the service has no description of its own
	annWrite       = "freightliner-write"       // a claim
	annDeletion    = "freightliner-deletion"    // see deletion
)

// Describe asks for the secret and its newest version.
func (s *Store) Describe(ctx context.Context, name string) (secret.Info, error) {
	const op = "describe"
	sec, err := s.get(ctx, op, name)
	if err != nil {
		return secret.Info{}, err
	}
	info := s.info(sec, name)
	v, err := s.latest(ctx, op, name)
	if err != nil {
		if providers.ClassOf(err) == providers.NotFound {
			return info, nil // it exists and has no value
		}
		return secret.Info{}, err
	}
	info.Version, info.Changed = fmt.Sprint(v.number), v.created
	info.Labels = aliases(sec, v.number)
	switch v.state {
	case pb.SecretVersion_DISABLED:
		info.Trouble = "disabled"
	case pb.SecretVersion_DESTROYED:
		info.Trouble = "destroyed"
	}
	return info, nil
}

// get is GetSecret.
func (s *Store) get(ctx context.Context, op, name string) (*pb.Secret, error) {
	if err := s.named(op, name); err != nil {
		return nil, err
	}
	full := s.secretName(name)
	sec, err := read(ctx, s, getSecret, "name", full, s.api.GetSecret, &pb.GetSecretRequest{Name: full})
	if err != nil {
		return nil, s.explain(ctx, op, name, getSecret, err)
	}
	return sec, nil
}

func (s *Store) named(op, name string) error {
	if err := checkName(name); err != nil {
		return s.fail(providers.Invalid, op, name, "", "%w", err)
	}
	return nil
}

// info is what a Secret tells. A list tells the same, and no version.
func (s *Store) info(sec *pb.Secret, name string) secret.Info {
	info := secret.Info{Name: name, ID: s.secretName(name), Deletion: deletionOf(sec).final}
	a := sec.GetAnnotations()
	m := &info.Metadata
	if d, ok := a[annDescription]; ok {
		m.Description = &d
	}
	if sec.GetLabels()[labelManaged] == managed {
		info.Owner = a[annAddress]
		m.Owner = info.Owner
	}
	m.Labels = maps.Clone(sec.GetLabels())
	if m.Labels[labelManaged] == managed {
		delete(m.Labels, labelManaged)
	}
	if key := keyOf(sec); key != "" {
		m.KMSKey = &key
	}
	for _, r := range sec.GetReplication().GetUserManaged().GetReplicas() {
		m.Replicas = append(m.Replicas, secret.Replica{Region: r.GetLocation(), KMSKey: r.GetCustomerManagedEncryption().GetKmsKeyName(), Status: "in sync"})
	}
	m.Etag = etag(sec)
	if sec.GetRotation().GetManagedRotationStatus().GetState() == pb.Rotation_ManagedRotationStatus_ACTIVE {
		info.ManagedBy, info.Rotates = "managed rotation of "+strings.ToLower(sec.GetSecretType().String()), true
	}
	return info
}

// keyOf is the KMS key of a secret without replicas of its own.
func keyOf(sec *pb.Secret) string {
	if key := sec.GetCustomerManagedEncryption().GetKmsKeyName(); key != "" {
		return key
	}
	return sec.GetReplication().GetAutomatic().GetCustomerManagedEncryption().GetKmsKeyName()
}

// etag names the metadata. The service's own etag also moves with every claim
// and every change that changes nothing, so a write between plan and update
// would look like somebody else's work.
func etag(sec *pb.Secret) string {
	c := proto.CloneOf(sec)
	c.Etag, c.CreateTime = "", nil
	delete(c.Annotations, annWrite)
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		return "" // a message that was just read can always be written
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

func aliases(sec *pb.Secret, number int64) []string {
	var out []string
	for alias, n := range sec.GetVersionAliases() {
		if n == number {
			out = append(out, alias)
		}
	}
	slices.Sort(out)
	return out
}

// Update patches under the service's etag, so that nothing is undone which
// somebody did since the secret was read.
func (s *Store) Update(ctx context.Context, name string, m secret.Metadata, expect string) error {
	const op = "update"
	if err := s.checkMetadata(m); err != nil {
		return s.fail(providers.Invalid, op, name, "", "%w", err)
	}
	return s.patch(ctx, op, name, func(sec *pb.Secret) ([]string, error) {
		before := proto.CloneOf(sec)
		if err := s.apply(sec, m); err != nil {
			return nil, s.fail(providers.Unsupported, op, name, "Replication is chosen when a secret is made: delete it and make it anew to change it.", "%w", err)
		}
		mask := changed(before, sec)
		// It may be so already by our own hand, when an answer was lost.
		if len(mask) > 0 && expect != "" && etag(before) != expect {
			return nil, s.fail(providers.Conflict, op, name, "Plan again.", "its metadata was changed since the plan")
		}
		return mask, nil
	})
}

// apply makes sec what m says.
func (s *Store) apply(sec *pb.Secret, m secret.Metadata) error {
	if sec.Labels == nil {
		sec.Labels = map[string]string{}
	}
	if sec.Annotations == nil {
		sec.Annotations = map[string]string{}
	}
	if m.Labels != nil {
		ours := sec.Labels[labelManaged]
		sec.Labels = maps.Clone(m.Labels)
		if ours != "" {
			sec.Labels[labelManaged] = ours
		}
	}
	if m.Description != nil {
		sec.Annotations[annDescription] = *m.Description
		if *m.Description == "" {
			delete(sec.Annotations, annDescription)
		}
	}
	own(sec, m.Owner)
	return s.protect(sec, m)
}

// own marks a secret as the block's; it needs its maps.
func own(sec *pb.Secret, owner string) {
	if owner != "" {
		sec.Labels[labelManaged], sec.Annotations[annAddress] = managed, owner
	}
}

// protect sets keys; the regions of a secret that exists can not be changed.
func (s *Store) protect(sec *pb.Secret, m secret.Metadata) error {
	if len(m.Replicas) > 0 {
		have := sec.GetReplication().GetUserManaged().GetReplicas()
		keys := map[string]string{}
		for _, r := range m.Replicas {
			keys[r.Region] = r.KMSKey
		}
		if len(have) != len(keys) {
			return fmt.Errorf("it is replicated to other regions")
		}
		for _, r := range have {
			key, ok := keys[r.Location]
			if !ok {
				return fmt.Errorf("it is replicated to other regions, among them %s", r.Location)
			}
			r.CustomerManagedEncryption = cmek(key)
		}
		return nil
	}
	if m.KMSKey == nil {
		return nil
	}
	switch {
	case s.options.Location != "":
		sec.CustomerManagedEncryption = cmek(*m.KMSKey)
	case sec.GetReplication().GetAutomatic() != nil:
		sec.Replication.GetAutomatic().CustomerManagedEncryption = cmek(*m.KMSKey)
	default:
		return fmt.Errorf("it is replicated to regions, each with a KMS key of its own")
	}
	return nil
}

func cmek(key string) *pb.CustomerManagedEncryption {
	if key == "" {
		return nil
	}
	return &pb.CustomerManagedEncryption{KmsKeyName: key}
}

// fresh is a secret that is to be made.
func (s *Store) fresh(m secret.Metadata) *pb.Secret {
	sec := &pb.Secret{Labels: map[string]string{}, Annotations: map[string]string{}}
	key := s.options.KMSKey
	if m.KMSKey != nil {
		key = *m.KMSKey
	}
	maps.Copy(sec.Labels, m.Labels)
	if m.Description != nil && *m.Description != "" {
		sec.Annotations[annDescription] = *m.Description
	}
	own(sec, m.Owner)
	switch {
	case s.options.Location != "":
		sec.CustomerManagedEncryption = cmek(key)
	case len(m.Replicas) > 0:
		user := &pb.Replication_UserManaged{}
		for _, r := range m.Replicas {
			user.Replicas = append(user.Replicas, &pb.Replication_UserManaged_Replica{Location: r.Region, CustomerManagedEncryption: cmek(r.KMSKey)})
		}
		sec.Replication = &pb.Replication{Replication: &pb.Replication_UserManaged_{UserManaged: user}}
	default:
		sec.Replication = &pb.Replication{Replication: &pb.Replication_Automatic_{Automatic: &pb.Replication_Automatic{CustomerManagedEncryption: cmek(key)}}}
	}
	return sec
}

// changed is the field mask between two forms of a secret.
func changed(before, after *pb.Secret) []string {
	var paths []string
	if !maps.Equal(before.GetLabels(), after.GetLabels()) {
		paths = append(paths, "labels")
	}
	if !maps.Equal(before.GetAnnotations(), after.GetAnnotations()) {
		paths = append(paths, "annotations")
	}
	if !proto.Equal(before.GetReplication(), after.GetReplication()) {
		paths = append(paths, "replication")
	}
	if !proto.Equal(before.GetCustomerManagedEncryption(), after.GetCustomerManagedEncryption()) {
		paths = append(paths, "customer_managed_encryption")
	}
	return paths
}

// patch reads a secret, lets edit change it, and writes the fields that edit
// names under the etag that was read, so that it can not undo somebody's change.
// When the etag moved in between, or nobody knows whether the call arrived, it
// begins again; edit sees what is there then.
func (s *Store) patch(ctx context.Context, op, name string, edit func(*pb.Secret) (mask []string, err error)) error {
	p := s.patience()
	for {
		sec, err := s.get(ctx, op, name)
		if err != nil {
			return err
		}
		mask, err := edit(sec)
		if err != nil || len(mask) == 0 {
			return err
		}
		if err := s.paces.ofSecret(ctx, name, 1); err != nil {
			return s.explain(ctx, op, name, updateSecret, err)
		}
		if _, err = s.update(ctx, sec, name, mask); err == nil {
			return nil
		}
		if !moved(err) && !again(ctx, err) {
			return s.explain(ctx, op, name, updateSecret, err)
		}
		if waited := p.wait(ctx, updateSecret, err); waited != nil {
			return s.explain(ctx, op, name, updateSecret, waited)
		}
	}
}

// update is one UpdateSecret, with the etag that sec was read with.
func (s *Store) update(ctx context.Context, sec *pb.Secret, name string, mask []string) (*pb.Secret, error) {
	out := &pb.Secret{Name: s.secretName(name), Etag: sec.Etag}
	for _, path := range mask {
		switch path {
		case "labels":
			out.Labels = sec.Labels
		case "annotations":
			out.Annotations = sec.Annotations
		case "replication":
			out.Replication = sec.Replication
		case "customer_managed_encryption":
			out.CustomerManagedEncryption = sec.CustomerManagedEncryption
		}
	}
	return call(ctx, s, "secret.name", out.Name, callPatience, s.api.UpdateSecret, &pb.UpdateSecretRequest{Secret: out, UpdateMask: &fieldmaskpb.FieldMask{Paths: mask}})
}

// moved reports that an etag was not the current one.
func moved(err error) bool {
	return status.Code(err) == codes.FailedPrecondition && about(status.Convert(err).Message(), "etag") || status.Code(err) == codes.Aborted
}

// version is a version as the service tells it.
type version struct {
	number  int64
	created time.Time
	state   pb.SecretVersion_State
	etag    string
}
