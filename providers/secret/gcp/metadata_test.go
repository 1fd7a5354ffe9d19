package gcp_test

import (
	"strings"
	"testing"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/providers/secret/gcp"
	"freightliner/providers/secret/secrettest/gcpfake"
)

func kms(location, key string) string {
	return "projects/p/locations/" + location + "/keyRings/r/cryptoKeys/" + key
}

func pointer(s string) *string { return &s }

// TestKeysAndReplication: where copies are is chosen once, their keys can change.
func TestKeysAndReplication(t *testing.T) {
	server := served(t, gcpfake.Options{})
	s, they := opened(t, server, func(o *gcp.Options) { o.KMSKey = kms("global", "default") }), stranger(t, server)
	mustWrite(t, s, creation("plain", "needle"))
	own := creation("own", "needle")
	own.Create.KMSKey = pointer(kms("global", "own"))
	mustWrite(t, s, own)
	regions := creation("regions", "needle")
	regions.Create.Replicas = []secret.Replica{{Region: "europe-west3", KMSKey: kms("europe-west3", "a")}, {Region: "us-east1", KMSKey: kms("us-east1", "b")}}
	mustWrite(t, s, regions)
	for name, want := range map[string]string{"plain": kms("global", "default"), "own": kms("global", "own")} {
		if info, err := s.Describe(t.Context(), name); err != nil || *info.Metadata.KMSKey != want {
			t.Errorf("%s: %+v %v", name, info, err)
		}
	}
	info, err := s.Describe(t.Context(), "regions")
	if err != nil || len(info.Metadata.Replicas) != 2 || info.Metadata.Replicas[1] != (secret.Replica{Region: "us-east1", KMSKey: kms("us-east1", "b"), Status: "in sync"}) {
		t.Errorf("%+v %v", info, err)
	}
	they.wait()
	if err := s.Update(t.Context(), "own", secret.Metadata{KMSKey: pointer("")}, ""); err != nil {
		t.Fatal(err)
	}
	if c := they.get("own").GetReplication().GetAutomatic().GetCustomerManagedEncryption(); c != nil {
		t.Errorf("the key stayed: %v", c)
	}
	regions.Create.Replicas[0].KMSKey = kms("europe-west3", "new")
	if err := s.Update(t.Context(), "regions", secret.Metadata{Replicas: regions.Create.Replicas}, ""); err != nil {
		t.Fatal(err)
	}
	if got := they.get("regions").GetReplication().GetUserManaged().GetReplicas()[0].GetCustomerManagedEncryption().GetKmsKeyName(); got != kms("europe-west3", "new") {
		t.Error(got)
	}
	for _, m := range []secret.Metadata{{Replicas: []secret.Replica{{Region: "us-east1"}}}, {Replicas: []secret.Replica{{Region: "us-east1"}, {Region: "us-west1"}}}, {KMSKey: pointer(kms("global", "x"))}} {
		wants(t, s.Update(t.Context(), "regions", m, ""), providers.Unsupported, "Replication is chosen when a secret is made")
	}

	local := served(t, gcpfake.Options{Location: "europe-west3"})
	r := opened(t, local, func(o *gcp.Options) { o.Location = "europe-west3" })
	w := creation("db", "needle")
	w.Create.KMSKey = pointer(kms("europe-west3", "k"))
	mustWrite(t, r, w)
	if info, err := r.Describe(t.Context(), "db"); err != nil || *info.Metadata.KMSKey != kms("europe-west3", "k") || info.ID != "projects/acme/locations/europe-west3/secrets/db" {
		t.Errorf("%+v %v", info, err)
	}
	if err := r.Update(t.Context(), "db", secret.Metadata{KMSKey: pointer(kms("europe-west3", "k2"))}, ""); err != nil {
		t.Fatal(err)
	}
	if info, _ := r.Describe(t.Context(), "db"); *info.Metadata.KMSKey != kms("europe-west3", "k2") {
		t.Errorf("%+v", info)
	}
	// The wrong endpoint for the location.
	_, err = opened(t, local).Describe(t.Context(), "db")
	wants(t, err, providers.Invalid, "Check location")
}

// TestOthersMetadataStays: what we do not manage is carried over by every call.
func TestOthersMetadataStays(t *testing.T) {
	server := served(t, gcpfake.Options{})
	s, they := opened(t, server), stranger(t, server)
	bare(t, server, "db")
	they.update(&pb.Secret{Name: "projects/acme/secrets/db", Labels: map[string]string{"team": "a"}, Annotations: map[string]string{"theirs": "x"}}, "labels", "annotations")
	if info, err := s.Describe(t.Context(), "db"); err != nil || info.Owner != "" {
		t.Fatalf("%+v %v", info, err)
	}
	they.wait()
	before, err := s.Describe(t.Context(), "db")
	if err != nil {
		t.Fatal(err)
	}
	v := mustWrite(t, s, secret.Write{Name: "db", Value: text("needle-1"), Token: token(), Owner: "secret.db"})
	they.wait()
	// A write is no change of the metadata that was planned against, but the
	// owner is.
	wants(t, s.Update(t.Context(), "db", secret.Metadata{Description: pointer("d")}, before.Metadata.Etag), providers.Conflict)
	mine, err := s.Describe(t.Context(), "db")
	if err != nil || mine.Owner != "secret.db" {
		t.Fatalf("%+v %v", mine, err)
	}
	mustWrite(t, s, secret.Write{Name: "db", Value: text("needle-2"), Token: token(), Expect: v, Owner: "secret.db"})
	they.wait()
	if err := s.Update(t.Context(), "db", secret.Metadata{Description: pointer("d")}, mine.Metadata.Etag); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Delete(t.Context(), "db", secret.Deletion{Expect: "2"}); err != nil {
		t.Fatal(err)
	}
	they.wait()
	if err := s.Restore(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	sec := they.get("db")
	if d := cmp.Diff(map[string]string{"team": "a", "managed-by": "freightliner"}, sec.GetLabels()); d != "" {
		t.Error(d)
	}
	claim := sec.GetAnnotations()["freightliner-write"]
	delete(sec.Annotations, "freightliner-write")
	if d := cmp.Diff(map[string]string{"theirs": "x", "freightliner-address": "secret.db", "freightliner-description": "d"}, sec.GetAnnotations()); d != "" {
		t.Error(d)
	}
	if part := strings.Fields(claim); len(part) != 4 || part[1] != "1" {
		t.Errorf("the claim is %q", claim)
	}
	// An answer that was lost is no reason to take one's own change for another's.
	they.wait()
	mine, _ = s.Describe(t.Context(), "db")
	on(server, "UpdateSecret", 1, gcpfake.Fault{Kind: gcpfake.Lost})
	if err := s.Update(t.Context(), "db", secret.Metadata{Description: pointer("e")}, mine.Metadata.Etag); err != nil {
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	server := served(t, gcpfake.Options{})
	s := opened(t, server)
	many := map[string]string{}
	for i := range 64 {
		many["k"+strings.Repeat("x", i%60)+string(rune('a'+i%26))] = "v"
	}
	for what, m := range map[string]secret.Metadata{
		"upper-case key":      {Labels: map[string]string{"Team": "a"}},
		"key of a digit":      {Labels: map[string]string{"1": "a"}},
		"empty key":           {Labels: map[string]string{"": "a"}},
		"long value":          {Labels: map[string]string{"a": strings.Repeat("x", 64)}},
		"value with a space":  {Labels: map[string]string{"a": "b c"}},
		"our label":           {Labels: map[string]string{"managed-by": "me"}},
		"long description":    {Description: pointer(strings.Repeat("x", 16<<10))},
		"broken description":  {Description: pointer("\xff")},
		"no key":              {KMSKey: pointer("alias/x")},
		"key beside replicas": {KMSKey: pointer(kms("global", "k")), Replicas: []secret.Replica{{Region: "us-east1"}}},
		"region twice":        {Replicas: []secret.Replica{{Region: "us-east1"}, {Region: "us-east1"}}},
		"no region":           {Replicas: []secret.Replica{{Region: "a/b"}}},
		"key of elsewhere":    {Replicas: []secret.Replica{{Region: "us-east1", KMSKey: kms("global", "k")}}},
		"one key of two":      {Replicas: []secret.Replica{{Region: "us-east1", KMSKey: kms("us-east1", "k")}, {Region: "us-west1"}}},
		"sixty-four and ours": {Labels: many},
	} {
		if what == "sixty-four and ours" && len(many) < 64 {
			t.Fatalf("%d labels", len(many))
		}
		if err := s.Limits().CheckMetadata(m); err == nil {
			t.Errorf("%s passes", what)
		}
		w := creation("db", "needle")
		w.Create = &m
		_, err := s.Write(t.Context(), w)
		wants(t, err, providers.Invalid)
	}
	if n := server.Calls()["CreateSecret"]; n > 0 {
		t.Errorf("%d calls were made for what is refused", n)
	}
	delete(many, "ka")
	w := creation("db", strings.Repeat("x", 64<<10))
	w.Create.Labels, w.Create.Description = many, pointer(strings.Repeat("d", 10<<10))
	mustWrite(t, s, w)
	for what, w := range map[string]secret.Write{
		"empty payload": {Name: "x", Value: text(""), Token: token(), Create: &secret.Metadata{}},
		"no payload":    {Name: "x", Token: token(), Create: &secret.Metadata{}},
		"short token":   {Name: "x", Value: text("v"), Token: "short", Create: &secret.Metadata{}},
		"odd token":     {Name: "x", Value: text("v"), Token: strings.Repeat(" ", 40), Create: &secret.Metadata{}},
		"create of 1":   {Name: "x", Value: text("v"), Token: token(), Expect: "1", Create: &secret.Metadata{}},
	} {
		if _, err := s.Write(t.Context(), w); providers.ClassOf(err) != providers.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
}
