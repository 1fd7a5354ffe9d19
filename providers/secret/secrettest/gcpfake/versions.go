package gcpfake

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func (s *Server) AddSecretVersion(_ context.Context, q *pb.AddSecretVersionRequest) (*pb.SecretVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, id, err := s.record(q.GetParent())
	if err != nil {
		return nil, err
	}
	data := q.GetPayload().GetData()
	if len(data) == 0 {
		return nil, invalid("Secret Payload cannot be empty.")
	}
	if len(data) > 64<<10 {
		return nil, invalid("The secret payload is larger than 65536 bytes.")
	}
	if q.GetPayload().DataCrc32C != nil && q.GetPayload().GetDataCrc32C() != Checksum(data) {
		return nil, invalid("The payload does not match its checksum.")
	}
	if err := s.usable(r); err != nil {
		return nil, err
	}
	v := &pb.SecretVersion{
		Name:       fmt.Sprintf("%s/secrets/%s/versions/%d", s.base(), id, len(r.versions)+1),
		CreateTime: timestamppb.New(s.clock.Now()), State: pb.SecretVersion_ENABLED, Etag: s.etag(),
		ClientSpecifiedPayloadChecksum: q.GetPayload().DataCrc32C != nil,
	}
	r.versions = append(r.versions, &kept{version: v, payload: bytes.Clone(data), hidden: s.lag})
	return proto.CloneOf(v), nil
}

// Checksum is the CRC-32C that goes beside a payload.
func Checksum(b []byte) int64 { return int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))) }

// usable fails when a KMS key of the secret does.
func (s *Server) usable(r *record) error {
	for _, key := range keys(r.secret) {
		if err := s.broken_[key]; err != nil {
			return err
		}
	}
	return nil
}

// version finds a version by number, alias or "latest".
func (s *Server) version(full string) (*record, *kept, error) {
	r, secretID, err := s.record(full)
	if err != nil {
		return nil, nil, err
	}
	id := full[strings.LastIndexByte(full, '/')+1:]
	none := status.Errorf(codes.NotFound, "Secret Version [%s/secrets/%s/versions/%s] not found.", s.base(), secretID, id)
	n, err := strconv.Atoi(id)
	switch alias, ok := r.secret.GetVersionAliases()[id]; {
	case err == nil:
	case ok:
		n = int(alias)
	case id == "latest":
		n = len(r.versions)
		for n > 0 && r.versions[n-1].hidden > 0 {
			r.versions[n-1].hidden--
			n--
		}
	default:
		return nil, nil, none
	}
	if n < 1 || n > len(r.versions) {
		return nil, nil, none
	}
	v := r.versions[n-1]
	if at := v.version.GetScheduledDestroyTime(); at != nil && !s.clock.Now().Before(at.AsTime()) {
		s.destroyed(v)
	}
	return r, v, nil
}

func (s *Server) GetSecretVersion(_ context.Context, q *pb.GetSecretVersionRequest) (*pb.SecretVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, v, err := s.version(q.GetName())
	if err != nil {
		return nil, err
	}
	return proto.CloneOf(v.version), nil
}

func (s *Server) AccessSecretVersion(_ context.Context, q *pb.AccessSecretVersionRequest) (*pb.AccessSecretVersionResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, v, err := s.version(q.GetName())
	if err != nil {
		return nil, err
	}
	if v.version.State != pb.SecretVersion_ENABLED {
		return nil, status.Errorf(codes.FailedPrecondition, "Secret Version [%s] is in %s state.", v.version.GetName(), v.version.State)
	}
	if err := s.usable(r); err != nil {
		return nil, err
	}
	sum := Checksum(v.payload)
	return &pb.AccessSecretVersionResponse{Name: v.version.Name, Payload: &pb.SecretPayload{Data: bytes.Clone(v.payload), DataCrc32C: &sum}}, nil
}

func (s *Server) ListSecretVersions(_ context.Context, q *pb.ListSecretVersionsRequest) (*pb.ListSecretVersionsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, _, err := s.record(q.GetParent())
	if err != nil {
		return nil, err
	}
	state, found := strings.CutPrefix(q.GetFilter(), "state:")
	if q.GetFilter() != "" && (!found || pb.SecretVersion_State_value[state] == 0) {
		return nil, invalid("The filter %q is not one that this fake knows.", q.GetFilter())
	}
	var all []*pb.SecretVersion
	for i := len(r.versions) - 1; i >= 0; i-- {
		v := r.versions[i]
		if v.hidden > 0 {
			v.hidden--
			continue
		}
		if state == "" || v.version.State.String() == state {
			all = append(all, proto.CloneOf(v.version))
		}
	}
	from, to, next, err := window(len(all), q.GetPageSize(), q.GetPageToken())
	if err != nil {
		return nil, err
	}
	return &pb.ListSecretVersionsResponse{Versions: all[from:to], NextPageToken: next, TotalSize: int32(len(all))}, nil
}

// change sets a version's state under its etag.
func (s *Server) change(name, etag string, to func(*record, *kept)) (*pb.SecretVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, v, err := s.version(name)
	if err != nil {
		return nil, err
	}
	if err := etagMatches(etag, v.version.GetEtag()); err != nil {
		return nil, err
	}
	if v.version.State == pb.SecretVersion_DESTROYED {
		return nil, status.Errorf(codes.FailedPrecondition, "Secret Version [%s] is in DESTROYED state.", v.version.GetName())
	}
	to(r, v)
	v.version.Etag = s.etag()
	return proto.CloneOf(v.version), nil
}

func (s *Server) DisableSecretVersion(_ context.Context, q *pb.DisableSecretVersionRequest) (*pb.SecretVersion, error) {
	return s.change(q.GetName(), q.GetEtag(), func(_ *record, v *kept) {
		v.version.State, v.version.ScheduledDestroyTime = pb.SecretVersion_DISABLED, nil
	})
}

func (s *Server) EnableSecretVersion(_ context.Context, q *pb.EnableSecretVersionRequest) (*pb.SecretVersion, error) {
	return s.change(q.GetName(), q.GetEtag(), func(_ *record, v *kept) {
		v.version.State, v.version.ScheduledDestroyTime = pb.SecretVersion_ENABLED, nil
	})
}

func (s *Server) DestroySecretVersion(_ context.Context, q *pb.DestroySecretVersionRequest) (*pb.SecretVersion, error) {
	return s.change(q.GetName(), q.GetEtag(), func(r *record, v *kept) {
		if ttl := r.secret.GetVersionDestroyTtl(); ttl.AsDuration() > 0 {
			v.version.State = pb.SecretVersion_DISABLED
			v.version.ScheduledDestroyTime = timestamppb.New(s.clock.Now().Add(ttl.AsDuration()))
			return
		}
		s.destroyed(v)
	})
}

func (s *Server) destroyed(v *kept) {
	v.version.State, v.version.ScheduledDestroyTime = pb.SecretVersion_DESTROYED, nil
	v.version.DestroyTime = timestamppb.New(s.clock.Now())
}
