package gcp_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/providers/secret/gcp"
	"freightliner/providers/secret/secrettest/gcpfake"
)

// TestGoldenCalls holds what single operations cost.
func TestGoldenCalls(t *testing.T) {
	server := served(t, gcpfake.Options{})
	s := opened(t, server)
	first := ""
	for _, c := range []struct {
		what string
		do   func()
		want map[string]int
	}{
		{"create", func() { first = mustWrite(t, s, creation("db", "needle-1")) },
			map[string]int{"CreateSecret": 1, "AddSecretVersion": 1, "AccessSecretVersion": 1}},
		{"write", func() {
			mustWrite(t, s, secret.Write{Name: "db", Value: text("needle-2"), Token: token(), Expect: first, Owner: "secret.test"})
		}, map[string]int{"GetSecret": 1, "GetSecretVersion": 1, "UpdateSecret": 1, "AddSecretVersion": 1, "AccessSecretVersion": 2}},
		{"read", func() { reading(t, s, secret.Ref{Name: "db"}) }, map[string]int{"AccessSecretVersion": 1}},
		{"describe", func() { s.Describe(t.Context(), "db") }, map[string]int{"GetSecret": 1, "GetSecretVersion": 1}},
		{"history", func() { s.History(t.Context(), "db") }, map[string]int{"GetSecret": 1, "ListSecretVersions": 1, "GetSecretVersion": 1}},
		{"update", func() { s.Update(t.Context(), "db", secret.Metadata{Labels: map[string]string{"a": "b"}}, "") }, map[string]int{"GetSecret": 1, "UpdateSecret": 1}},
		{"update of nothing", func() { s.Update(t.Context(), "db", secret.Metadata{Labels: map[string]string{"a": "b"}}, "") }, map[string]int{"GetSecret": 1}},
		{"delete for ever", func() {
			s.Delete(t.Context(), "db", secret.Deletion{Expect: "2", Force: true})
		}, map[string]int{"GetSecret": 1, "GetSecretVersion": 1, "AccessSecretVersion": 1, "DeleteSecret": 1}},
		{"delete", func() {
			mustWrite(t, s, creation("db", "needle-1"))
			server.Clock().Advance(time.Minute)
			server.ResetCalls()
			s.Delete(t.Context(), "db", secret.Deletion{Expect: "1"})
		}, map[string]int{"GetSecret": 2, "GetSecretVersion": 3, "AccessSecretVersion": 1, "ListSecretVersions": 2, "UpdateSecret": 1, "DisableSecretVersion": 1}},
	} {
		server.Clock().Advance(time.Minute)
		server.ResetCalls()
		c.do()
		if d := cmp.Diff(c.want, server.Calls()); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, d)
		}
	}
}

// TestTwoThousandInSync is the refresh of a large store: all listed, all read.
// The fake's clock says what the rates alone cost.
func TestTwoThousandInSync(t *testing.T) {
	const n = 2000
	fill := gcpfake.New(gcpfake.Options{Project: "acme", NoQuotas: true})
	defer fill.Close()
	s := opened(t, fill, func(o *gcp.Options) { o.Clock = quick{fill.Clock()} })
	var names sync.WaitGroup
	for w := range 8 {
		names.Go(func() {
			for i := w; i < n; i += 8 {
				name := "s-" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + "-" + time.Duration(i).String()
				name = strings.ReplaceAll(strings.ReplaceAll(name, ".", "_"), "µ", "u")
				w := secret.Write{Name: name, Value: text("needle"), Token: strings.Repeat("t", 40), Create: &secret.Metadata{Owner: "secret.many"}}
				if _, err := s.Write(context.Background(), w); err != nil {
					t.Error(err)
				}
			}
		})
	}
	names.Wait()
	fill.Limit() // from here on the quotas are the service's
	s = opened(t, fill)
	fill.ResetCalls()
	began := fill.Clock().Now()
	var refs []secret.Ref
	for info, err := range s.List(t.Context(), "s-") {
		if err != nil {
			t.Fatal(err)
		}
		if !info.VersionUnknown || info.Version != "" || info.Owner != "secret.many" {
			t.Fatalf("%+v", info)
		}
		refs = append(refs, secret.Ref{Name: info.Name})
	}
	read := 0
	if err := s.Read(t.Context(), refs, func(r secret.Reading) {
		if r.Err != nil || r.Version.ID != "1" || !r.Value.Set() {
			t.Errorf("%+v", r)
		}
		r.Value.Zero()
		read++
	}); err != nil {
		t.Fatal(err)
	}
	if read != n {
		t.Errorf("%d read", read)
	}
	if d := cmp.Diff(map[string]int{"ListSecrets": 2, "AccessSecretVersion": n}, fill.Calls()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if waited := fill.Clock().Now().Sub(began); waited > time.Second || fill.Refused() > 0 {
		t.Errorf("the rates cost %v, %d calls went over a quota", waited, fill.Refused())
	}
}

// quick is a clock on which waiting takes no time at all.
type quick struct{ *gcpfake.Clock }

func (quick) Wait(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// TestForeignBetween: somebody who takes no claims adds between our look and our
// add. It is seen, both versions stay, and a repetition says the same.
func TestForeignBetween(t *testing.T) {
	server := served(t, gcpfake.Options{NoQuotas: true})
	s, they := opened(t, server), stranger(t, server)
	first := mustWrite(t, s, creation("db", "needle-1"))
	done := false
	server.Script(func(c gcpfake.Call) gcpfake.Fault {
		if c.Method == "AddSecretVersion" && !done {
			done = true
			they.add("db", "theirs")
		}
		return gcpfake.Fault{}
	})
	w := secret.Write{Name: "db", Value: text("needle-2"), Token: token(), Expect: first}
	_, err := s.Write(t.Context(), w)
	wants(t, err, providers.Conflict, "somebody else wrote version 2", "ours is version 3", "Both versions are kept")
	if got := made(server, "db"); got != "1:enabled:needle-1 2:enabled:theirs 3:enabled:needle-2" {
		t.Error(got)
	}
	v, ours, err := s.Settle(t.Context(), w)
	if err != nil || !ours || v.ID != "3" {
		t.Errorf("settled as %v %v %v", v, ours, err)
	}
	// Without the value nobody can tell 2 and 3 apart.
	w.Value = secret.Value{}
	_, _, err = s.Settle(t.Context(), w)
	wants(t, err, providers.Conflict, "nobody can tell")
}

func TestForeignNewerIsNotOverwritten(t *testing.T) {
	server := served(t, gcpfake.Options{})
	s, they := opened(t, server), stranger(t, server)
	first := mustWrite(t, s, creation("db", "needle-1"))
	they.add("db", "theirs")
	server.Lag(100) // the lists do not show it
	server.ResetCalls()
	_, err := s.Write(t.Context(), secret.Write{Name: "db", Value: text("needle-2"), Token: token(), Expect: first})
	wants(t, err, providers.Conflict, "version 2 is newer than the expected 1")
	if calls := server.Calls(); calls["AddSecretVersion"]+calls["UpdateSecret"] > 0 {
		t.Errorf("it wrote: %v", calls)
	}
	// Made anew by somebody: the numbers begin again, and version 1 is another.
	if _, err := s.Delete(t.Context(), "db", secret.Deletion{Expect: "2", Force: true}); err != nil {
		t.Fatal(err)
	}
	bare(t, server, "db")
	_, err = s.Write(t.Context(), secret.Write{Name: "db", Value: text("needle-2"), Token: token(), Expect: "2"})
	wants(t, err, providers.Conflict, "version 2 is not there", "made anew")
	if info, err := s.Describe(t.Context(), "db"); err != nil || info.Version != "" {
		t.Errorf("%+v %v", info, err)
	}
	server.Lag(0)
	they.add("db", "theirs")
	if _, id, err := reading(t, s, secret.Ref{Name: "db"}); err != nil || id != "1" {
		t.Errorf("read as %s %v", id, err)
	}
}

// TestAnotherRunIsAtWork: the add of one process stands at the service's door.
// Another process neither writes nor deletes in the meantime.
func TestAnotherRunIsAtWork(t *testing.T) {
	server := served(t, gcpfake.Options{})
	one, two := opened(t, server), opened(t, server)
	first := mustWrite(t, one, creation("db", "needle-1"))
	gate, arrived := make(chan struct{}), make(chan struct{})
	on(server, "AddSecretVersion", 1, gcpfake.Fault{Gate: gate, Arrived: arrived})
	done := make(chan error)
	go func() {
		_, err := one.Write(t.Context(), secret.Write{Name: "db", Value: text("needle-2"), Token: strings.Repeat("1", 40), Expect: first})
		done <- err
	}()
	<-arrived
	_, err := two.Write(t.Context(), secret.Write{Name: "db", Value: text("needle-3"), Token: strings.Repeat("2", 40), Expect: first})
	wants(t, err, providers.Conflict, "another run is writing it")
	for _, force := range []bool{false, true} {
		_, err = two.Delete(t.Context(), "db", secret.Deletion{Expect: first, Force: force})
		wants(t, err, providers.Conflict, "another run is writing it")
	}
	close(gate)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := made(server, "db"); got != "1:enabled:needle-1 2:enabled:needle-2" {
		t.Error(got)
	}
}

// TestRace: six processes write at once; exactly one wins.
func TestRace(t *testing.T) {
	for round := range 20 {
		server := served(t, gcpfake.Options{NoQuotas: true})
		expect := ""
		if round%2 == 0 {
			expect = mustWrite(t, opened(t, server), creation("db", "needle-0"))
		}
		won := make(chan string, 6)
		var all sync.WaitGroup
		for i := range 6 {
			s := opened(t, server)
			w := secret.Write{Name: "db", Value: text(strings.Repeat("p", i+1)), Token: strings.Repeat(string(rune('a'+i)), 40), Expect: expect}
			if expect == "" {
				w.Create = &secret.Metadata{}
			}
			all.Go(func() {
				v, err := s.Write(context.Background(), w)
				if err == nil {
					won <- v.ID
				} else if providers.ClassOf(err) != providers.Conflict {
					t.Error(err)
				}
			})
		}
		all.Wait()
		close(won)
		if len(won) != 1 || strings.Count(made(server, "db"), ":") != 2*(1+(round+1)%2) {
			t.Fatalf("%d winners: %s", len(won), made(server, "db"))
		}
	}
}

// TestInFlight: a process died while its add was on the way. Whoever comes next
// waits until it has landed, or can not any more.
func TestInFlight(t *testing.T) {
	for _, c := range []struct {
		delay time.Duration
		made  bool
	}{{20 * time.Second, true}, {24 * time.Hour, false}} {
		for _, value := range []bool{true, false} {
			server := served(t, gcpfake.Options{})
			first := mustWrite(t, opened(t, server), creation("db", "needle-1"))
			ctx, die := context.WithCancel(t.Context())
			on(server, "AddSecretVersion", 1, gcpfake.Fault{Kind: gcpfake.Late, Delay: c.delay, After: die})
			w := secret.Write{Name: "db", Value: text("needle-2"), Token: token(), Expect: first}
			_, err := opened(t, server).Write(ctx, w)
			wants(t, err, providers.Canceled)
			if !value {
				w.Value = secret.Value{}
			}
			// What the next process reads is out of date, too.
			server.Stale(1)
			next := opened(t, server)
			began := server.Clock().Now()
			v, ours, err := next.Settle(t.Context(), w)
			if err != nil || ours != c.made || c.made && v.ID != "2" {
				t.Fatalf("%v: settled as %v %v %v", c.delay, v, ours, err)
			}
			if waited := server.Clock().Now().Sub(began); waited > 40*time.Second {
				t.Errorf("it waited for %v", waited)
			}
		}
	}
}

// TestSettleReadsWhatIsOutOfDate: the claim of the dead process is not seen at
// first, and its add has not landed.
func TestSettleReadsWhatIsOutOfDate(t *testing.T) {
	server := served(t, gcpfake.Options{})
	first := mustWrite(t, opened(t, server), creation("db", "needle-1"))
	server.Stale(1)
	ctx, die := context.WithCancel(t.Context())
	on(server, "AddSecretVersion", 1, gcpfake.Fault{Kind: gcpfake.Late, Delay: 5 * time.Second, After: die})
	w := secret.Write{Name: "db", Value: text("needle-2"), Token: token(), Expect: first}
	_, err := opened(t, server).Write(ctx, w)
	wants(t, err, providers.Canceled)
	v, ours, err := opened(t, server).Settle(t.Context(), w)
	if err != nil || !ours || v.ID != "2" {
		t.Fatalf("settled as %v %v %v", v, ours, err)
	}
}

// TestConnectionsBreak: real broken connections, with and without the effect.
func TestConnectionsBreak(t *testing.T) {
	for _, kind := range []gcpfake.Kind{gcpfake.Refuse, gcpfake.Lost} {
		server := served(t, gcpfake.Options{})
		s := opened(t, server)
		first := mustWrite(t, s, creation("db", "needle-1"))
		on(server, "AddSecretVersion", 1, gcpfake.Fault{Kind: kind, Cut: true})
		if id := mustWrite(t, s, secret.Write{Name: "db", Value: text("needle-2"), Token: token(), Expect: first}); id != "2" {
			t.Errorf("version %s", id)
		}
		if got := made(server, "db"); got != "1:enabled:needle-1 2:enabled:needle-2" {
			t.Error(got)
		}
	}
}

// TestSurplusIsTold: a second delivery of an add is disabled, and that is told;
// readers of "latest" and of an alias are not disturbed.
func TestSurplusIsTold(t *testing.T) {
	server := served(t, gcpfake.Options{NoQuotas: true})
	var notices []string
	s := opened(t, server, func(o *gcp.Options) { o.Notice = func(text string) { notices = append(notices, text) } })
	first := mustWrite(t, s, creation("db", "needle-1"))
	server.Clock().Advance(time.Minute)
	on(server, "AddSecretVersion", 1, gcpfake.Fault{Kind: gcpfake.Twice})
	if id := mustWrite(t, s, secret.Write{Name: "db", Value: text("needle-2"), Token: token(), Expect: first}); id != "3" {
		t.Errorf("version %s", id)
	}
	if got := made(server, "db"); got != "1:enabled:needle-1 2:disabled:needle-2 3:enabled:needle-2" {
		t.Error(got)
	}
	if len(notices) != 1 || !strings.Contains(notices[0], "version 2 holds the same payload as 3 and was disabled") {
		t.Errorf("%q", notices)
	}
	h, err := s.History(t.Context(), "db")
	if err != nil || len(h) != 3 || h[0].State != secret.Current || h[1].State != secret.Disabled || h[2].State != secret.Previous {
		t.Errorf("%+v %v", h, err)
	}
}

// TestBlind: without the right to read payloads everything but reading works.
func TestBlind(t *testing.T) {
	server := served(t, gcpfake.Options{})
	server.Deny("secretmanager.versions.access", "")
	s := opened(t, server)
	w := creation("db", "needle-1")
	first := mustWrite(t, s, w)
	w.Value = secret.Value{}
	if v, ours, err := opened(t, server).Settle(t.Context(), w); err != nil || !ours || v.ID != first {
		t.Fatal(v, ours, err)
	}
	ctx, die := context.WithCancel(t.Context())
	on(server, "AddSecretVersion", 1, gcpfake.Fault{Kind: gcpfake.Lost, After: die})
	w = secret.Write{Name: "db", Value: text("needle-2"), Token: token(), Expect: first}
	_, err := s.Write(ctx, w)
	wants(t, err, providers.Canceled)
	if v, ours, err := opened(t, server).Settle(t.Context(), w); err != nil || !ours || v.ID != "2" {
		t.Fatal(v, ours, err)
	}
	if info, err := s.Describe(t.Context(), "db"); err != nil || info.Version != "2" {
		t.Errorf("%+v %v", info, err)
	}
	_, _, err = reading(t, s, secret.Ref{Name: "db"})
	wants(t, err, providers.Denied, "secretmanager.versions.access", "roles/secretmanager.secretAccessor")
	// A version that came long after the claim is not ours, whatever the claim says.
	w = secret.Write{Name: "db", Value: text("needle-3"), Token: token(), Expect: "2"}
	ctx, die = context.WithCancel(t.Context())
	on(server, "AddSecretVersion", 1, gcpfake.Fault{Kind: gcpfake.Refuse, After: die})
	_, err = s.Write(ctx, w)
	wants(t, err, providers.Canceled)
	server.Clock().Advance(time.Hour)
	stranger(t, server).add("db", "theirs")
	if v, ours, err := opened(t, server).Settle(t.Context(), w); err != nil || ours {
		t.Errorf("settled as %v %v %v", v, ours, err)
	}
}

// TestChecksums: what was changed on the way is not stored, and not believed.
func TestChecksums(t *testing.T) {
	server := served(t, gcpfake.Options{})
	s := opened(t, server)
	first := mustWrite(t, s, creation("db", "needle-1"))
	on(server, "AddSecretVersion", 1, gcpfake.Fault{Request: func(r any) { r.(*pb.AddSecretVersionRequest).Payload.Data[0] ^= 1 }})
	_, err := s.Write(t.Context(), secret.Write{Name: "db", Value: text("needle-2"), Token: token(), Expect: first})
	wants(t, err, providers.Invalid, "checksum")
	on(server, "AccessSecretVersion", 1, gcpfake.Fault{Answer: func(a any) { a.(*pb.AccessSecretVersionResponse).Payload.Data[0] ^= 1 }})
	_, _, err = reading(t, s, secret.Ref{Name: "db"})
	wants(t, err, providers.Invalid, "checksum")
	on(server, "AccessSecretVersion", 1, gcpfake.Fault{Answer: func(a any) {
		a.(*pb.AccessSecretVersionResponse).Name = "projects/1/secrets/other/versions/1"
	}})
	_, _, err = reading(t, s, secret.Ref{Name: "db"})
	wants(t, err, providers.Invalid, "another version")
	if got := made(server, "db"); got != "1:enabled:needle-1" {
		t.Error(got)
	}
}

// TestThrottling: calls are repeated, slower; in the end the class says why.
func TestThrottling(t *testing.T) {
	server := served(t, gcpfake.Options{})
	s := opened(t, server)
	n := 0
	server.Script(func(c gcpfake.Call) gcpfake.Fault {
		if n++; n <= 3 {
			return gcpfake.Fault{Kind: gcpfake.Refuse, Code: codes.ResourceExhausted, Message: "Quota exceeded."}
		}
		return gcpfake.Fault{}
	})
	began := server.Clock().Now()
	mustWrite(t, s, creation("db", "needle-1"))
	if waited := server.Clock().Now().Sub(began); waited < 3500*time.Millisecond || waited > 10*time.Second {
		t.Errorf("it waited for %v, want 0.5 to 1 of each of 1, 2 and 4 s", waited)
	}
	for code, class := range map[codes.Code]providers.Class{codes.ResourceExhausted: providers.Throttled, codes.Unavailable: providers.Transient} {
		server.Script(func(gcpfake.Call) gcpfake.Fault { return gcpfake.Fault{Kind: gcpfake.Refuse, Code: code} })
		began = server.Clock().Now()
		_, err := s.Describe(t.Context(), "db")
		wants(t, err, class)
		_, err = s.Write(t.Context(), secret.Write{Name: "db", Value: text("needle-2"), Token: token(), Expect: "1"})
		wants(t, err, class)
		if waited := server.Clock().Now().Sub(began); waited < 3*time.Minute || waited > 5*time.Minute {
			t.Errorf("patience of %v for two operations", waited)
		}
	}
	// Throttled at the add itself, it is added again without a wait for a
	// landing: the service said that it did nothing.
	server.Clock().Advance(time.Hour)
	on(server, "AddSecretVersion", 1, gcpfake.Fault{Kind: gcpfake.Refuse, Code: codes.ResourceExhausted})
	began = server.Clock().Now()
	mustWrite(t, s, secret.Write{Name: "db", Value: text("needle-2"), Token: token(), Expect: "1"})
	if waited := server.Clock().Now().Sub(began); waited > 8*time.Second {
		t.Errorf("it waited for %v", waited)
	}
}

// TestQuotasAreKept: many writes of one secret and of many, and nothing goes over
// a quota.
func TestQuotasAreKept(t *testing.T) {
	server := served(t, gcpfake.Options{})
	s := opened(t, server)
	began := server.Clock().Now()
	version := ""
	for i := range 300 {
		w := secret.Write{Name: "db", Value: text(strings.Repeat("v", i+1)), Token: token(), Expect: version}
		if version == "" {
			w.Create = &secret.Metadata{}
		}
		version = mustWrite(t, s, w)
	}
	if server.Refused() > 0 {
		t.Errorf("%d calls went over a quota", server.Refused())
	}
	t.Logf("300 writes of one secret took %v of the fake's clock", server.Clock().Now().Sub(began))
	began = server.Clock().Now()
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 125 {
				name := strings.Repeat("n", w+1) + strings.Repeat("m", i+1)
				if _, err := s.Write(t.Context(), secret.Write{Name: name, Value: text("needle"), Token: strings.Repeat("t", 40), Create: &secret.Metadata{}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if server.Refused() > 0 {
		t.Errorf("%d calls went over a quota", server.Refused())
	}
	t.Logf("1,000 creates took %v of it", server.Clock().Now().Sub(began))
}

// TestOwnWritesAreRead: this process knows its own newest version, whatever
// "latest" says; and that a name was deleted and made anew, too.
func TestOwnWritesAreRead(t *testing.T) {
	server := served(t, gcpfake.Options{NoQuotas: true})
	server.Lag(1000)
	s := opened(t, server)
	v := ""
	for i, payload := range []string{"needle-1", "needle-2"} {
		w := secret.Write{Name: "db", Value: text(payload), Token: token(), Expect: v}
		if i == 0 {
			w = creation("db", payload)
		}
		v = mustWrite(t, s, w)
		if got, id, err := reading(t, s, secret.Ref{Name: "db"}); err != nil || got != payload || id != v {
			t.Errorf("read %s as version %s %v", got, id, err)
		}
	}
	if _, err := opened(t, server).Delete(t.Context(), "db", secret.Deletion{Expect: v, Force: true}); err != nil {
		t.Fatal(err)
	}
	_, _, err := reading(t, s, secret.Ref{Name: "db"})
	wants(t, err, providers.NotFound)
}
