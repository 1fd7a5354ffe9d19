package gcpfake

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

func (s *Server) base() string {
	base := "projects/" + number
	if s.options.Location != "" {
		base += "/locations/" + s.options.Location
	}
	return base
}

func (s *Server) etag() string {
	s.etags++
	return fmt.Sprintf("%q", strconv.FormatInt(int64(0x1621874b4d4b7e+s.etags), 16))
}

// record finds a secret; one that has expired is deleted now.
func (s *Server) record(resource string) (*record, string, error) {
	id, err := s.place(resource)
	if err != nil {
		return nil, "", err
	}
	r := s.secrets[id]
	if r != nil {
		if at := r.secret.GetExpireTime(); at != nil && !s.clock.Now().Before(at.AsTime()) {
			s.drop(id)
			r = nil
		}
	}
	if r == nil {
		return nil, id, status.Errorf(codes.NotFound, "Secret [%s/secrets/%s] not found.", s.base(), id)
	}
	return r, id, nil
}

func (s *Server) drop(id string) {
	s.gone[id] = append(s.gone[id], s.secrets[id])
	delete(s.secrets, id)
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)

func (s *Server) CreateSecret(_ context.Context, q *pb.CreateSecretRequest) (*pb.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id, err := s.place(q.GetParent()); err != nil || id != "" {
		return nil, invalid("The parent %q is none.", q.GetParent())
	}
	id := q.GetSecretId()
	if !idPattern.MatchString(id) {
		return nil, invalid("The secret id %q is not valid.", id)
	}
	sec := proto.CloneOf(q.GetSecret())
	if sec == nil {
		return nil, invalid("A secret is required.")
	}
	if err := s.check(sec); err != nil {
		return nil, err
	}
	regional := s.options.Location != ""
	if regional == (sec.GetReplication().GetReplication() != nil) {
		return nil, invalid("Replication is required for global secrets, and not known to regional ones.")
	}
	if !regional && sec.GetCustomerManagedEncryption() != nil {
		return nil, invalid("customer_managed_encryption is for regional secrets.")
	}
	if len(sec.GetVersionAliases()) > 0 {
		return nil, invalid("There are no versions to give aliases to.")
	}
	if sec.GetTtl() != nil {
		sec.Expiration = &pb.Secret_ExpireTime{ExpireTime: timestamppb.New(s.clock.Now().Add(sec.GetTtl().AsDuration()))}
	}
	if _, _, err := s.record(s.base() + "/secrets/" + id); err == nil {
		return nil, status.Errorf(codes.AlreadyExists, "Secret [%s/secrets/%s] already exists.", s.base(), id)
	}
	sec.Name, sec.Etag, sec.CreateTime = s.base()+"/secrets/"+id, s.etag(), timestamppb.New(s.clock.Now())
	s.secrets[id] = &record{secret: sec, hidden: s.lag}
	return proto.CloneOf(sec), nil
}

func (s *Server) GetSecret(_ context.Context, q *pb.GetSecretRequest) (*pb.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, _, err := s.record(q.GetName())
	if err != nil {
		return nil, err
	}
	if r.stale > 0 {
		r.stale--
		return proto.CloneOf(r.before), nil
	}
	return proto.CloneOf(r.secret), nil
}

func (s *Server) UpdateSecret(_ context.Context, q *pb.UpdateSecretRequest) (*pb.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, _, err := s.record(q.GetSecret().GetName())
	if err != nil {
		return nil, err
	}
	if err := etagMatches(q.GetSecret().GetEtag(), r.secret.GetEtag()); err != nil {
		return nil, err
	}
	if len(q.GetUpdateMask().GetPaths()) == 0 {
		return nil, invalid("An update mask is required.")
	}
	next, in := proto.CloneOf(r.secret), proto.CloneOf(q.GetSecret())
	for _, path := range q.GetUpdateMask().GetPaths() {
		switch path {
		case "labels":
			next.Labels = in.Labels
		case "annotations":
			next.Annotations = in.Annotations
		case "version_aliases":
			for alias, n := range in.GetVersionAliases() {
				if n < 1 || int(n) > len(r.versions) {
					return nil, invalid("The alias %q points to version %d, which is not there.", alias, n)
				}
			}
			next.VersionAliases = in.VersionAliases
		case "replication":
			if places(in.GetReplication()) != places(next.GetReplication()) {
				return nil, invalid("The replication policy of a secret can not be changed.")
			}
			next.Replication = in.Replication
		case "customer_managed_encryption":
			if s.options.Location == "" {
				return nil, invalid("customer_managed_encryption is for regional secrets.")
			}
			next.CustomerManagedEncryption = in.CustomerManagedEncryption
		case "version_destroy_ttl":
			next.VersionDestroyTtl = in.VersionDestroyTtl
		case "expire_time":
			next.Expiration = nil
			if in.GetExpireTime() != nil {
				next.Expiration = &pb.Secret_ExpireTime{ExpireTime: in.GetExpireTime()}
			}
		default:
			return nil, invalid("The path %q of the update mask can not be updated.", path)
		}
	}
	if err := s.check(next); err != nil {
		return nil, err
	}
	next.Etag = s.etag()
	r.before, r.stale = r.secret, s.stale
	r.secret = next
	return proto.CloneOf(next), nil
}

// places is a replication policy without its keys.
func places(r *pb.Replication) string {
	if r.GetAutomatic() != nil {
		return "automatic"
	}
	var regions []string
	for _, replica := range r.GetUserManaged().GetReplicas() {
		regions = append(regions, replica.GetLocation())
	}
	slices.Sort(regions)
	return strings.Join(regions, " ")
}

func (s *Server) DeleteSecret(_ context.Context, q *pb.DeleteSecretRequest) (*emptypb.Empty, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, id, err := s.record(q.GetName())
	if err != nil {
		return nil, err
	}
	if err := etagMatches(q.GetEtag(), r.secret.GetEtag()); err != nil {
		return nil, err
	}
	s.drop(id)
	return &emptypb.Empty{}, nil
}

func (s *Server) ListSecrets(_ context.Context, q *pb.ListSecretsRequest) (*pb.ListSecretsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	part, err := nameFilter(q.GetFilter())
	if err != nil {
		return nil, err
	}
	var all []*pb.Secret
	for _, id := range slices.Sorted(maps.Keys(s.secrets)) {
		r, _, err := s.record(s.base() + "/secrets/" + id)
		if err != nil || !strings.Contains(strings.ToLower(id), strings.ToLower(part)) {
			continue
		}
		if r.hidden > 0 {
			r.hidden--
			continue
		}
		all = append(all, proto.CloneOf(r.secret))
	}
	from, to, next, err := window(len(all), q.GetPageSize(), q.GetPageToken())
	if err != nil {
		return nil, err
	}
	answer := &pb.ListSecretsResponse{Secrets: all[from:to], NextPageToken: next}
	if q.GetFilter() == "" {
		answer.TotalSize = int32(len(all))
	}
	return answer, nil
}

func nameFilter(filter string) (string, error) {
	if filter == "" {
		return "", nil
	}
	part, found := strings.CutPrefix(filter, "name:")
	if !found || !idPattern.MatchString(part) {
		return "", invalid("The filter %q is not one that this fake knows.", filter)
	}
	return part, nil
}

// window is a page of n entries.
func window(n int, size int32, token string) (from, to int, next string, err error) {
	if size < 0 {
		return 0, 0, "", invalid("The page size is negative.")
	}
	if size == 0 {
		size = 100
	}
	if token != "" {
		if from, err = strconv.Atoi(strings.TrimPrefix(token, "page-")); err != nil || !strings.HasPrefix(token, "page-") || from > n {
			return 0, 0, "", invalid("The page token is not valid.")
		}
	}
	to = min(n, from+int(min(size, 25_000)))
	if to < n {
		next = "page-" + strconv.Itoa(to)
	}
	return from, to, next, nil
}

func etagMatches(given, current string) error {
	if given != "" && given != current {
		return status.Error(codes.FailedPrecondition, "The etag that was given does not match the current etag of the resource.")
	}
	return nil
}

var (
	annotationKey = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?$`)
	aliasPattern  = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,62}$`)
	keyPattern    = regexp.MustCompile(`^projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+$`)
)

// check holds the limits of a secret's metadata.
func (s *Server) check(sec *pb.Secret) error {
	if len(sec.GetLabels()) > 64 {
		return invalid("More than 64 labels.")
	}
	for k, v := range sec.GetLabels() {
		first, _ := utf8.DecodeRuneInString(k)
		if !unicode.In(first, unicode.Ll, unicode.Lo) || !labelText(k) || !labelText(v) {
			return invalid("The label %q is not valid.", k)
		}
	}
	size := 0
	for k, v := range sec.GetAnnotations() {
		if !annotationKey.MatchString(k) {
			return invalid("The annotation %q is not valid.", k)
		}
		size += len(k) + len(v)
	}
	if size >= 16<<10 {
		return invalid("The annotations have 16 KiB or more.")
	}
	if len(sec.GetVersionAliases()) > 50 {
		return invalid("More than 50 aliases.")
	}
	for alias := range sec.GetVersionAliases() {
		if !aliasPattern.MatchString(alias) || alias == "latest" || alias == "NEW" {
			return invalid("The alias %q is not valid.", alias)
		}
	}
	for place, key := range keys(sec) {
		m := keyPattern.FindStringSubmatch(key)
		if place == "" {
			place = s.options.Location
		}
		if m == nil || m[1] != place {
			return invalid("The KMS key %q is not one in %s.", key, place)
		}
	}
	return nil
}

// keys are the KMS keys of a secret by where they must be; "" is the endpoint's
// location.
func keys(sec *pb.Secret) map[string]string {
	out := map[string]string{}
	add := func(place string, c *pb.CustomerManagedEncryption) {
		if c != nil {
			out[place] = c.GetKmsKeyName()
		}
	}
	add("", sec.GetCustomerManagedEncryption())
	add("global", sec.GetReplication().GetAutomatic().GetCustomerManagedEncryption())
	for _, r := range sec.GetReplication().GetUserManaged().GetReplicas() {
		add(r.GetLocation(), r.GetCustomerManagedEncryption())
	}
	return out
}

func labelText(text string) bool {
	if utf8.RuneCountInString(text) > 63 || len(text) > 128 {
		return false
	}
	for _, r := range text {
		if !unicode.In(r, unicode.Ll, unicode.Lo, unicode.N) && r != '_' && r != '-' {
			return false
		}
	}
	return true
}
