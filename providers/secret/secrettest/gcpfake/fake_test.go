package gcpfake

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const db = "projects/acme/secrets/db"

func client(t *testing.T, s *Server) pb.SecretManagerServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///fake", grpc.WithContextDialer(s.Dial), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); s.Close() })
	return pb.NewSecretManagerServiceClient(conn)
}

func automatic() *pb.Secret {
	return &pb.Secret{Replication: &pb.Replication{Replication: &pb.Replication_Automatic_{Automatic: &pb.Replication_Automatic{}}}}
}

func payload(text string) *pb.SecretPayload { return &pb.SecretPayload{Data: []byte(text)} }

func update(sec *pb.Secret, paths ...string) *pb.UpdateSecretRequest {
	sec.Name = db
	return &pb.UpdateSecretRequest{Secret: sec, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}}
}

// TestRules are the service's rules as its documentation states them: a call,
// and the code of its answer.
func TestRules(t *testing.T) {
	s := New(Options{Project: "acme", NoQuotas: true})
	c, ctx := client(t, s), t.Context()
	wrong := int64(7)
	create := func(id string, edit func(*pb.Secret)) func() error {
		return func() error {
			sec := automatic()
			edit(sec)
			_, err := c.CreateSecret(ctx, &pb.CreateSecretRequest{Parent: "projects/acme", SecretId: id, Secret: sec})
			return err
		}
	}
	plain := func(*pb.Secret) {}
	add := func(p *pb.SecretPayload) func() error {
		return func() error {
			_, err := c.AddSecretVersion(ctx, &pb.AddSecretVersionRequest{Parent: db, Payload: p})
			return err
		}
	}
	access := func(id string) func() error {
		return func() error {
			_, err := c.AccessSecretVersion(ctx, &pb.AccessSecretVersionRequest{Name: db + "/versions/" + id})
			return err
		}
	}
	patch := func(q *pb.UpdateSecretRequest) func() error {
		return func() error { _, err := c.UpdateSecret(ctx, q); return err }
	}
	state := func(what, id, etag string) func() error {
		return func() (err error) {
			name := db + "/versions/" + id
			switch what {
			case "disable":
				_, err = c.DisableSecretVersion(ctx, &pb.DisableSecretVersionRequest{Name: name, Etag: etag})
			case "enable":
				_, err = c.EnableSecretVersion(ctx, &pb.EnableSecretVersionRequest{Name: name, Etag: etag})
			case "destroy":
				_, err = c.DestroySecretVersion(ctx, &pb.DestroySecretVersionRequest{Name: name, Etag: etag})
			}
			return err
		}
	}
	labels := map[string]string{}
	for i := range 65 {
		labels[fmt.Sprintf("l%d", i)] = ""
	}
	for i, step := range []struct {
		what string
		do   func() error
		want codes.Code
	}{
		{"access before it is there", access("latest"), codes.NotFound},
		{"add before it is there", add(payload("x")), codes.NotFound},
		{"a name with a slash", create("a/b", plain), codes.InvalidArgument},
		{"65 labels", create("db", func(s *pb.Secret) { s.Labels = labels }), codes.InvalidArgument},
		{"an upper-case label", create("db", func(s *pb.Secret) { s.Labels = map[string]string{"A": ""} }), codes.InvalidArgument},
		{"16 KiB of annotations", create("db", func(s *pb.Secret) { s.Annotations = map[string]string{"a": strings.Repeat("x", 16<<10)} }), codes.InvalidArgument},
		{"no replication", create("db", func(s *pb.Secret) { s.Replication = nil }), codes.InvalidArgument},
		{"a regional key", create("db", func(s *pb.Secret) {
			s.CustomerManagedEncryption = &pb.CustomerManagedEncryption{KmsKeyName: "projects/p/locations/global/keyRings/r/cryptoKeys/k"}
		}), codes.InvalidArgument},
		{"create", create("db", plain), codes.OK},
		{"create again", create("db", plain), codes.AlreadyExists},
		{"access without versions", access("latest"), codes.NotFound},
		{"no payload", add(nil), codes.InvalidArgument},
		{"64 KiB and one", add(payload(strings.Repeat("x", 64<<10+1))), codes.InvalidArgument},
		{"a wrong checksum", add(&pb.SecretPayload{Data: []byte("x"), DataCrc32C: &wrong}), codes.InvalidArgument},
		{"add", add(payload("one")), codes.OK},
		{"access by number", access("1"), codes.OK},
		{"access latest", access("latest"), codes.OK},
		{"access a version that is not there", access("2"), codes.NotFound},
		{"a mask is needed", patch(update(&pb.Secret{})), codes.InvalidArgument},
		{"replication stays", patch(update(&pb.Secret{}, "replication")), codes.InvalidArgument},
		{"an alias of nothing", patch(update(&pb.Secret{VersionAliases: map[string]int64{"a": 2}}, "version_aliases")), codes.InvalidArgument},
		{"latest is no alias", patch(update(&pb.Secret{VersionAliases: map[string]int64{"latest": 1}}, "version_aliases")), codes.InvalidArgument},
		{"an alias", patch(update(&pb.Secret{VersionAliases: map[string]int64{"live": 1}}, "version_aliases")), codes.OK},
		{"access by alias", access("live"), codes.OK},
		{"a wrong etag", patch(update(&pb.Secret{Etag: `"1"`}, "labels")), codes.FailedPrecondition},
		{"disable under a wrong etag", state("disable", "1", `"1"`), codes.FailedPrecondition},
		{"disable", state("disable", "1", ""), codes.OK},
		{"access what is disabled", access("latest"), codes.FailedPrecondition},
		{"enable", state("enable", "1", ""), codes.OK},
		{"destroy", state("destroy", "1", ""), codes.OK},
		{"access what is destroyed", access("1"), codes.FailedPrecondition},
		{"enable what is destroyed", state("enable", "1", ""), codes.FailedPrecondition},
		{"add a second", add(payload("two")), codes.OK},
		{"delay destruction", patch(update(&pb.Secret{VersionDestroyTtl: durationpb.New(24 * time.Hour)}, "version_destroy_ttl")), codes.OK},
		{"destroy later", state("destroy", "2", ""), codes.OK},
		{"disabled until then", access("2"), codes.FailedPrecondition},
		{"enable cancels it", state("enable", "2", ""), codes.OK},
		{"and it can be read", access("2"), codes.OK},
		{"another project", func() error {
			_, err := c.GetSecret(ctx, &pb.GetSecretRequest{Name: "projects/other/secrets/db"})
			return err
		}, codes.PermissionDenied},
		{"a regional name", func() error {
			_, err := c.GetSecret(ctx, &pb.GetSecretRequest{Name: "projects/acme/locations/europe-west3/secrets/db"})
			return err
		}, codes.InvalidArgument},
		{"delete under a wrong etag", func() error {
			_, err := c.DeleteSecret(ctx, &pb.DeleteSecretRequest{Name: db, Etag: `"1"`})
			return err
		}, codes.FailedPrecondition},
		{"expire", patch(update(&pb.Secret{Expiration: &pb.Secret_ExpireTime{ExpireTime: timestamppb.New(s.Clock().Now().Add(time.Hour))}}, "expire_time")), codes.OK},
		{"until then", access("2"), codes.OK},
		{"then", func() error { s.Clock().Advance(2 * time.Hour); return access("2")() }, codes.NotFound},
		{"the name is free", create("db", plain), codes.OK},
	} {
		if err := step.do(); status.Code(err) != step.want {
			t.Fatalf("step %d, %s: %v, want %v", i, step.what, err, step.want)
		}
	}
	if made := s.Made("db"); len(made) != 2 || made[0].State != pb.SecretVersion_DESTROYED || made[1].Payload != "two" {
		t.Errorf("%+v", made)
	}
	if strings.Contains(s.Visible(), "two") {
		t.Error("a payload is visible")
	}
}

// TestEtags: every change of a resource moves its etag, also one that changes
// nothing; adding a version does not move the secret's.
func TestEtags(t *testing.T) {
	s := New(Options{Project: "acme", NoQuotas: true})
	c, ctx := client(t, s), t.Context()
	sec, err := c.CreateSecret(ctx, &pb.CreateSecretRequest{Parent: "projects/acme", SecretId: "db", Secret: automatic()})
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.AddSecretVersion(ctx, &pb.AddSecretVersionRequest{Parent: db, Payload: payload("x")})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := c.GetSecret(ctx, &pb.GetSecretRequest{Name: db}); got.GetEtag() != sec.GetEtag() || !strings.HasPrefix(got.GetEtag(), `"`) {
		t.Errorf("etag %s after %s", got.GetEtag(), sec.GetEtag())
	}
	next, err := c.UpdateSecret(ctx, update(&pb.Secret{Etag: sec.GetEtag()}, "labels"))
	if err != nil || next.GetEtag() == sec.GetEtag() {
		t.Errorf("the etag stays: %v", err)
	}
	w, err := c.EnableSecretVersion(ctx, &pb.EnableSecretVersionRequest{Name: db + "/versions/1", Etag: v.GetEtag()})
	if err != nil || w.GetEtag() == v.GetEtag() {
		t.Errorf("the version's etag stays: %v", err)
	}
	if got, _ := c.GetSecret(ctx, &pb.GetSecretRequest{Name: db}); got.GetEtag() != next.GetEtag() {
		t.Error("a version's change moved the secret's etag")
	}
}

// TestLagQuotasAndPages are what makes it unlike a map.
func TestLagQuotasAndPages(t *testing.T) {
	s := New(Options{Project: "acme"})
	c, ctx := client(t, s), t.Context()
	for i := range 5 {
		if _, err := c.CreateSecret(ctx, &pb.CreateSecretRequest{Parent: "projects/acme", SecretId: fmt.Sprintf("s%d", i), Secret: automatic()}); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for token := ""; ; {
		page, err := c.ListSecrets(ctx, &pb.ListSecretsRequest{Parent: "projects/acme", PageSize: 2, PageToken: token, Filter: "name:S"})
		if err != nil {
			t.Fatal(err)
		}
		for _, sec := range page.GetSecrets() {
			names = append(names, sec.GetName()[strings.LastIndex(sec.GetName(), "/")+1:])
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if strings.Join(names, " ") != "s0 s1 s2 s3 s4" {
		t.Error(names)
	}
	s.Lag(1)
	add := func() error {
		_, err := c.AddSecretVersion(ctx, &pb.AddSecretVersionRequest{Parent: "projects/acme/secrets/s0", Payload: payload("x")})
		return err
	}
	if err := add(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []codes.Code{codes.NotFound, codes.OK} {
		if _, err := c.AccessSecretVersion(ctx, &pb.AccessSecretVersionRequest{Name: "projects/acme/secrets/s0/versions/latest"}); status.Code(err) != want {
			t.Errorf("latest: %v, want %v", err, want)
		}
	}
	if err := add(); err != nil {
		t.Fatal(err)
	}
	if err := add(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a third write within a second: %v", err)
	}
	s.Clock().Advance(time.Second)
	if err := add(); err != nil {
		t.Error(err)
	}
	over := 0
	for range 700 {
		if _, err := c.GetSecret(ctx, &pb.GetSecretRequest{Name: "projects/acme/secrets/s0"}); status.Code(err) == codes.ResourceExhausted {
			over++
		}
	}
	if over != 700-ReadPerMinute+3 { // three pages were read before
		t.Errorf("%d reads went over the quota", over)
	}
}

// TestFaults: what each kind does to the effect and to the answer.
func TestFaults(t *testing.T) {
	for _, k := range []struct {
		f    Fault
		now  int // versions right after
		then int // when all has landed
		err  codes.Code
	}{
		{Fault{}, 1, 1, codes.OK},
		{Fault{Kind: Refuse}, 0, 0, codes.Unavailable},
		{Fault{Kind: Refuse, Code: codes.Internal}, 0, 0, codes.Internal},
		{Fault{Kind: Lost}, 1, 1, codes.Unavailable},
		{Fault{Kind: Lost, Cut: true}, 1, 1, codes.Unavailable},
		{Fault{Kind: Late, Delay: time.Minute}, 0, 1, codes.DeadlineExceeded},
		{Fault{Kind: Twice}, 2, 2, codes.OK},
		{Fault{Kind: TwiceSecond}, 2, 2, codes.OK},
	} {
		s := New(Options{Project: "acme"})
		c := client(t, s)
		if _, err := c.CreateSecret(t.Context(), &pb.CreateSecretRequest{Parent: "projects/acme", SecretId: "db", Secret: automatic()}); err != nil {
			t.Fatal(err)
		}
		s.Script(func(call Call) Fault {
			if call.Method != "AddSecretVersion" || call.Resource != db || call.N != 2 || call.Of != 1 {
				t.Errorf("%+v", call)
			}
			return k.f
		})
		_, err := c.AddSecretVersion(context.Background(), &pb.AddSecretVersionRequest{Parent: db, Payload: payload("x")})
		if status.Code(err) != k.err {
			t.Errorf("%+v: %v", k.f, err)
		}
		if n := len(s.Made("db")); n != k.now {
			t.Errorf("%+v: %d versions", k.f, n)
		}
		s.Land()
		if n := len(s.Made("db")); n != k.then {
			t.Errorf("%+v: %d versions in the end", k.f, n)
		}
	}
}
