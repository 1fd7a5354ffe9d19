package gcp_test

import (
	"testing"
	"time"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"

	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/providers/secret/secrettest/gcpfake"
)

// TestDeletionWaits is a soft deletion from mark to end: versions that somebody
// had disabled before stay so when it is taken back, nothing happens before the
// date, and at the date only when somebody asks.
func TestDeletionWaits(t *testing.T) {
	server := served(t, gcpfake.Options{})
	s, they := opened(t, server), stranger(t, server)
	v := mustWrite(t, s, creation("db", "needle-1"))
	for _, p := range []string{"needle-2", "needle-3", "needle-4"} {
		v = mustWrite(t, s, secret.Write{Name: "db", Value: text(p), Token: token(), Expect: v})
	}
	they.disable("db", "1")
	they.disable("db", "2")
	began := server.Clock().Now()
	server.Lag(5)
	done, err := s.Delete(t.Context(), "db", secret.Deletion{Expect: "4"})
	if err != nil {
		t.Fatal(err)
	}
	if days := done.Final.Sub(began).Hours() / 24; days < 29.9 || days > 30.1 {
		t.Errorf("%v days", days)
	}
	if got := made(server, "db"); got != "1:disabled:needle-1 2:disabled:needle-2 3:disabled:needle-3 4:disabled:needle-4" {
		t.Error(got)
	}
	info, err := s.Describe(t.Context(), "db")
	if err != nil || !info.Deletion.Equal(done.Final) || info.Trouble != "disabled" || info.Version != "4" {
		t.Errorf("%+v %v", info, err)
	}
	_, _, err = reading(t, s, secret.Ref{Name: "db"})
	wants(t, err, providers.Conflict, "waits for its deletion", "Restore")
	again, err := s.Delete(t.Context(), "db", secret.Deletion{Expect: "4", Window: time.Hour})
	if err != nil || !again.Final.Equal(done.Final) {
		t.Errorf("again: %v %v", again, err)
	}
	if err := s.Restore(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	if got := made(server, "db"); got != "1:disabled:needle-1 2:disabled:needle-2 3:enabled:needle-3 4:enabled:needle-4" {
		t.Error(got)
	}
	if err := s.Restore(t.Context(), "db"); err != nil {
		t.Errorf("restore of what does not wait: %v", err)
	}

	if done, err = s.Delete(t.Context(), "db", secret.Deletion{Expect: "4", Window: 7 * 24 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	server.Clock().Advance(8 * 24 * time.Hour)
	if info, err := s.Describe(t.Context(), "db"); err != nil || info.Deletion.IsZero() {
		t.Fatalf("the date is over, and nobody asked: %+v %v", info, err)
	}
	// Somebody uses it in the meantime: what they wrote does not go with it.
	they.add("db", "theirs")
	_, err = s.Delete(t.Context(), "db", secret.Deletion{Expect: "4"})
	wants(t, err, providers.Conflict, "version 5 is newer")
	if done, err = s.Delete(t.Context(), "db", secret.Deletion{Expect: "5"}); err != nil || !done.Final.IsZero() {
		t.Fatal(done, err)
	}
	_, err = s.Describe(t.Context(), "db")
	wants(t, err, providers.NotFound)
}

// TestDeletionMeetsAChange: what was changed since it was looked at is not
// deleted for ever.
func TestDeletionMeetsAChange(t *testing.T) {
	for _, force := range []bool{true, false} {
		server := served(t, gcpfake.Options{})
		s := opened(t, server)
		mustWrite(t, s, creation("db", "needle-1"))
		server.Clock().Advance(time.Minute)
		they := opened(t, server)
		done := false
		server.Script(func(c gcpfake.Call) gcpfake.Fault {
			if c.Method == "AccessSecretVersion" && !done {
				done = true
				if err := they.Update(t.Context(), "db", secret.Metadata{Labels: map[string]string{"keep": "me"}}, ""); err != nil {
					t.Error(err)
				}
			}
			return gcpfake.Fault{}
		})
		_, err := s.Delete(t.Context(), "db", secret.Deletion{Expect: "1", Force: force})
		wants(t, err, providers.Conflict, "changed")
		if got := made(server, "db"); got != "1:enabled:needle-1" {
			t.Error(got)
		}
	}
}

// TestTroubleIsTold: a newest version that can not be read.
func TestTroubleIsTold(t *testing.T) {
	server := served(t, gcpfake.Options{})
	s, they := opened(t, server), stranger(t, server)
	mustWrite(t, s, creation("db", "needle-1"))
	they.add("db", "needle-2")
	they.wait()
	they.add("db", "needle-3")
	they.disable("db", "3")
	_, _, err := reading(t, s, secret.Ref{Name: "db"})
	wants(t, err, providers.Conflict, "version 3 is disabled", "newest version that can be read is 2", "versions enable 3")
	they.destroy("db", "3")
	_, _, err = reading(t, s, secret.Ref{Name: "db"})
	wants(t, err, providers.Conflict, "version 3 is destroyed", "newest version that can be read is 2")
	if info, err := s.Describe(t.Context(), "db"); err != nil || info.Trouble != "destroyed" || info.Version != "3" {
		t.Errorf("%+v %v", info, err)
	}
	_, _, err = reading(t, s, secret.Ref{Name: "db", Version: "9"})
	wants(t, err, providers.Conflict, "no version 9")
	// It is still the expected one of the next write.
	if id := mustWrite(t, s, secret.Write{Name: "db", Value: text("needle-4"), Token: token(), Expect: "3"}); id != "4" {
		t.Error(id)
	}
	they.aliases("db", map[string]int64{"live": 2, "next": 4, "new": 4})
	info, err := s.Describe(t.Context(), "db")
	if err != nil || len(info.Labels) != 2 || info.Labels[0] != "new" || info.Trouble != "" {
		t.Errorf("%+v %v", info, err)
	}
	h, err := s.History(t.Context(), "db")
	if err != nil || len(h) != 4 || len(h[0].Labels) != 2 || h[2].Labels[0] != "live" || h[1].State != secret.Destroyed || h[2].State != secret.Previous {
		t.Errorf("%+v %v", h, err)
	}
}

func (f foreign) disable(name, version string) {
	f.t.Helper()
	full := "projects/acme/secrets/" + name + "/versions/" + version
	if _, err := f.api.DisableSecretVersion(f.with(full), &pb.DisableSecretVersionRequest{Name: full}); err != nil {
		f.t.Fatal(err)
	}
}

func (f foreign) destroy(name, version string) {
	f.t.Helper()
	full := "projects/acme/secrets/" + name + "/versions/" + version
	f.wait()
	if _, err := f.api.DestroySecretVersion(f.with(full), &pb.DestroySecretVersionRequest{Name: full}); err != nil {
		f.t.Fatal(err)
	}
}

func (f foreign) aliases(name string, aliases map[string]int64) {
	f.t.Helper()
	full := "projects/acme/secrets/" + name
	f.wait()
	f.update(&pb.Secret{Name: full, VersionAliases: aliases}, "version_aliases")
}
