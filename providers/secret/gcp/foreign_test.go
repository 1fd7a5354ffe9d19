package gcp_test

import (
	"context"
	"strings"
	"testing"
	"time"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"freightliner/providers/secret/secrettest/gcpfake"
)

// foreign is somebody else who uses the service without us.
type foreign struct {
	t      testing.TB
	api    pb.SecretManagerServiceClient
	server *gcpfake.Server
}

func stranger(t testing.TB, server *gcpfake.Server) foreign {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///fake", grpc.WithContextDialer(server.Dial), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return foreign{t, pb.NewSecretManagerServiceClient(conn), server}
}

// with gives the context that the fake's manners ask for.
func (f foreign) with(resource string) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	f.t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, "x-goog-request-params", "name="+strings.ReplaceAll(resource, "/", "%2F"))
}

func (f foreign) add(name, payload string) string {
	f.t.Helper()
	parent := "projects/acme/secrets/" + name
	v, err := f.api.AddSecretVersion(f.with(parent), &pb.AddSecretVersionRequest{Parent: parent, Payload: &pb.SecretPayload{Data: []byte(payload)}})
	if err != nil {
		f.t.Fatal(err)
	}
	return v.GetName()[strings.LastIndexByte(v.GetName(), '/')+1:]
}

func bare(t testing.TB, server *gcpfake.Server, name string) {
	t.Helper()
	f := stranger(t, server)
	secret := &pb.Secret{Replication: &pb.Replication{Replication: &pb.Replication_Automatic_{Automatic: &pb.Replication_Automatic{}}}}
	parent := "projects/acme"
	if _, err := f.api.CreateSecret(f.with(parent), &pb.CreateSecretRequest{Parent: parent, SecretId: name, Secret: secret}); err != nil {
		parent += "/locations/europe-west3"
		secret.Replication = nil
		if _, err := f.api.CreateSecret(f.with(parent), &pb.CreateSecretRequest{Parent: parent, SecretId: name, Secret: secret}); err != nil {
			t.Fatal(err)
		}
	}
}

// wait lets the quotas of single secrets and versions recover.
func (f foreign) wait() { f.server.Clock().Advance(time.Minute) }

func (f foreign) update(sec *pb.Secret, paths ...string) {
	f.t.Helper()
	ctx := f.with(sec.GetName())
	if _, err := f.api.UpdateSecret(ctx, &pb.UpdateSecretRequest{Secret: sec, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}}); err != nil {
		f.t.Fatal(err)
	}
}

func (f foreign) get(name string) *pb.Secret {
	f.t.Helper()
	full := "projects/acme/secrets/" + name
	sec, err := f.api.GetSecret(f.with(full), &pb.GetSecretRequest{Name: full})
	if err != nil {
		f.t.Fatal(err)
	}
	return sec
}
