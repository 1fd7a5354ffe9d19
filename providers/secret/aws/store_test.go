package aws_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	"freightliner/providers/secret"
	. "freightliner/providers/secret/aws"
	"freightliner/providers/secret/secrettest/awsfake"
)

// readAll reads and gives texts, or classes of errors.
func readAll(t *testing.T, s secret.Store, refs ...secret.Ref) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := s.Read(t.Context(), refs, func(r secret.Reading) {
		got[r.Ref.Name+"@"+r.Ref.Version] = providers.ClassOf(r.Err).String()
		r.Value.Use(func(b []byte) { got[r.Ref.Name+"@"+r.Ref.Version] = string(b) })
		r.Value.Zero()
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestReturnToAnOlderPayload: a repeated put "succeeds but does nothing", also
// not to the labels. A late repetition of the first change must not bring its
// payload back, and a third change with the first payload must.
func TestReturnToAnOlderPayload(t *testing.T) {
	f := awsfake.New("eu-west-1")
	s := open(t, f)
	start := put(t, s, "db", "start", "")
	first := secret.Write{Name: "db", Value: text("A"), Token: tokenOf(), Expect: start.ID}
	a, err := s.Write(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	b := put(t, s, "db", "B", a.ID)
	again, err := s.Write(t.Context(), first)
	if err != nil || again.ID != a.ID || again.State != secret.Previous {
		t.Errorf("the first change again: %+v %v", again, err)
	}
	if got, _ := f.Payload("db"); got != "B" {
		t.Fatalf("it is %s", got)
	}
	put(t, s, "db", "A", b.ID)
	if got, _ := f.Payload("db"); got != "A" {
		t.Fatalf("it is %s", got)
	}
	// Now the first change's version has no label any more.
	if _, err := s.Write(t.Context(), first); providers.ClassOf(err) != providers.Conflict {
		t.Errorf("the first change once more: %v", err)
	}
	if _, made, err := s.Settle(t.Context(), first); made || err != nil {
		t.Errorf("settle of a replaced version: %v %v", made, err)
	}
	if n := len(f.Made("db")); n != 4 {
		t.Errorf("%d versions of four changes", n)
	}
	for id, labels := range f.Labels("db") {
		if slices.ContainsFunc(labels, func(l string) bool { return strings.HasPrefix(l, "freightliner-") }) {
			t.Errorf("%s keeps %v", id, labels)
		}
	}
}

// TestSettleFinishesOrWithdraws: the process died between put and swap.
func TestSettleFinishesOrWithdraws(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		f := awsfake.New("eu-west-1")
		s := open(t, f)
		v := put(t, s, "db", "before", "")
		w := secret.Write{Name: "db", Value: text("after"), Token: tokenOf(), Expect: v.ID}
		f.Inject(func(c awsfake.Call) awsfake.Fault {
			if c.Operation == "UpdateSecretVersionStage" {
				return awsfake.Fault{Kind: awsfake.Cut}
			}
			return awsfake.Fault{}
		})
		if _, err := s.Write(t.Context(), w); providers.ClassOf(err) != providers.Transient {
			t.Fatal(err)
		}
		if labels := f.Labels("db")[w.Token]; !slices.Equal(labels, []string{"freightliner-" + w.Token}) {
			t.Fatalf("labels %v", labels)
		}
		f.Inject(nil)
		want := "after"
		if foreign {
			f.Foreign("db", "theirs")
			want = "theirs"
		}
		w.Value = secret.Value{} // by the token alone
		settled, made, err := s.Settle(t.Context(), w)
		if err != nil || made == foreign || made && settled.ID != w.Token {
			t.Errorf("foreign %v: %+v %v %v", foreign, settled, made, err)
		}
		if got, _ := f.Payload("db"); got != want {
			t.Errorf("foreign %v: it is %s", foreign, got)
		}
		labels := f.Labels("db")[w.Token]
		if foreign && len(labels) > 0 || !foreign && !slices.Equal(labels, []string{"AWSCURRENT"}) {
			t.Errorf("foreign %v: labels %v", foreign, labels)
		}
	}
}

// TestRepeatedCreate: the answer to a creation was lost, somebody else wrote at
// once, and the repetition "succeeds" since its token is known. That is not
// taken for being current.
func TestRepeatedCreate(t *testing.T) {
	f := awsfake.New("eu-west-1")
	s := open(t, f)
	f.Inject(func(c awsfake.Call) awsfake.Fault {
		if c.N == 1 {
			return awsfake.Fault{Kind: awsfake.Lost}
		}
		if c.N == 2 {
			f.Foreign("db", "theirs")
		}
		return awsfake.Fault{}
	})
	v, err := s.Write(t.Context(), secret.Write{Name: "db", Value: text("ours"), Token: tokenOf(), Create: &secret.Metadata{}})
	if err != nil || v.State != secret.Previous {
		t.Errorf("%+v %v", v, err)
	}
}

// TestRepeatedWrite: a version that waits is not sent again.
func TestRepeatedWrite(t *testing.T) {
	f := awsfake.New("eu-west-1")
	s := open(t, f)
	v := put(t, s, "db", "before", "")
	w := secret.Write{Name: "db", Value: text("after"), Token: tokenOf(), Expect: v.ID}
	f.Deny("UpdateSecretVersionStage", "db")
	if _, err := s.Write(t.Context(), w); providers.ClassOf(err) != providers.Denied {
		t.Fatal(err)
	}
	f.Allow()
	if got, err := s.Write(t.Context(), w); err != nil || got.State != secret.Current {
		t.Errorf("%+v %v", got, err)
	}
	if n := f.Calls()["PutSecretValue"]; n != 1 {
		t.Errorf("the payload was sent %d times", n)
	}
}

// TestDeleteUnseen: somebody writes between the look and the deletion. The
// deletion is taken back, also one that was to be forced.
func TestDeleteUnseen(t *testing.T) {
	for _, force := range []bool{false, true} {
		f := awsfake.New("eu-west-1")
		s := open(t, f)
		v := put(t, s, "db", "seen", "")
		f.Inject(func(c awsfake.Call) awsfake.Fault {
			if c.Operation == "DeleteSecret" {
				f.Foreign("db", "unseen")
			}
			return awsfake.Fault{}
		})
		_, err := s.Delete(t.Context(), "db", secret.Deletion{Expect: v.ID, Force: force})
		if providers.ClassOf(err) != providers.Conflict {
			t.Errorf("force %v: %v", force, err)
		}
		f.Inject(nil)
		info, err := s.Describe(t.Context(), "db")
		if err != nil || !info.Deletion.IsZero() {
			t.Errorf("force %v: %+v %v", force, info, err)
		}
		if got, _ := f.Payload("db"); got != "unseen" {
			t.Errorf("force %v: it is %q", force, got)
		}
	}
}

func TestDelete(t *testing.T) {
	f := awsfake.New("eu-west-1")
	f.ReplicaDelay = 2
	s := open(t, f)
	w := secret.Write{Name: "db", Value: text("x"), Token: tokenOf(), Create: &secret.Metadata{Replicas: []secret.Replica{{Region: "us-east-1"}, {Region: "us-west-2"}}}}
	v, err := s.Write(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []time.Duration{time.Hour, 6 * 24 * time.Hour, 31 * 24 * time.Hour, 7*24*time.Hour + 1, -1} {
		if _, err := s.Delete(t.Context(), "db", secret.Deletion{Expect: v.ID, Window: bad}); providers.ClassOf(err) != providers.Invalid {
			t.Errorf("window %v: %v", bad, err)
		}
	}
	now := f.Clock.Now()
	done, err := s.Delete(t.Context(), "db", secret.Deletion{Expect: v.ID})
	if err != nil || done.Final.Sub(now).Round(time.Hour) != 30*24*time.Hour {
		t.Fatalf("%v %v", done, err)
	}
	again, err := s.Delete(t.Context(), "db", secret.Deletion{Expect: v.ID, Window: 7 * 24 * time.Hour})
	if err != nil || !again.Final.Equal(done.Final) {
		t.Errorf("again: %v %v, first %v", again, err, done)
	}
	if _, err := s.Delete(t.Context(), "db", secret.Deletion{Expect: v.ID, Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Describe(t.Context(), "db"); providers.ClassOf(err) != providers.NotFound {
		t.Errorf("after force: %v", err)
	}
	f.Foreign("owned", "x")
	f.Own("owned", "rds")
	info, _ := s.Describe(t.Context(), "owned")
	if _, err := s.Delete(t.Context(), "owned", secret.Deletion{Expect: info.Version}); providers.ClassOf(err) != providers.Unsupported {
		t.Errorf("a service's secret: %v", err)
	}
}

// TestMadeAnewAfterForce: a name stays taken for a while.
func TestMadeAnewAfterForce(t *testing.T) {
	f := awsfake.New("eu-west-1")
	f.ForceDelay = 20 * time.Second
	s := open(t, f)
	v := put(t, s, "db", "old", "")
	if _, err := s.Delete(t.Context(), "db", secret.Deletion{Expect: v.ID, Force: true}); err != nil {
		t.Fatal(err)
	}
	put(t, s, "db", "new", "")
	if got, _ := f.Payload("db"); got != "new" {
		t.Errorf("it is %q", got)
	}
}

func TestReplicas(t *testing.T) {
	f := awsfake.New("eu-west-1")
	f.ReplicaDelay = 3
	s := open(t, f)
	put(t, s, "db", "x", "")
	update := func(replicas ...secret.Replica) error {
		if replicas == nil {
			replicas = []secret.Replica{}
		}
		return s.Update(t.Context(), "db", secret.Metadata{Replicas: replicas}, "")
	}
	is := func(want ...secret.Replica) {
		t.Helper()
		info, err := s.Describe(t.Context(), "db")
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = []secret.Replica{}
		}
		if diff := cmp.Diff(want, info.Metadata.Replicas); diff != "" {
			t.Errorf("replicas (-want +got):\n%s", diff)
		}
	}
	east, west := secret.Replica{Region: "us-east-1"}, secret.Replica{Region: "us-west-2", KMSKey: "alias/west"}
	if err := update(east, west); err != nil {
		t.Fatal(err)
	}
	synced := func(r secret.Replica) secret.Replica { r.Status = "in sync"; return r }
	is(synced(east), synced(west))
	// Another key: removed and made again. The other stays.
	f.ResetCalls()
	west.KMSKey = "alias/other"
	if err := update(east, west); err != nil {
		t.Fatal(err)
	}
	is(synced(east), synced(west))
	if c := f.Calls(); c["ReplicateSecretToRegions"] != 1 || c["RemoveRegionsFromReplication"] != 1 {
		t.Errorf("calls %v", c)
	}
	// One that fails says why, and heals when it is asked for again.
	f.FailReplicas("eu-north-1", "Replication failed: Secret name db already exists in region eu-north-1.")
	north := secret.Replica{Region: "eu-north-1"}
	err := update(east, west, north)
	if providers.ClassOf(err) != providers.Conflict || !strings.Contains(err.Error(), "already exists") {
		t.Errorf("%v", err)
	}
	is(secret.Replica{Region: "eu-north-1", Status: "failed: Replication failed: Secret name db already exists in region eu-north-1."}, synced(east), synced(west))
	f.FailReplicas("eu-north-1", "")
	if err := update(east, west, north); err != nil {
		t.Fatal(err)
	}
	is(synced(north), synced(east), synced(west))
	if err := update(); err != nil {
		t.Fatal(err)
	}
	is()
	// Lost answers change nothing of it.
	for _, kind := range []awsfake.Kind{awsfake.Lost, awsfake.Twice} {
		met := map[string]bool{}
		f.Inject(func(c awsfake.Call) awsfake.Fault {
			if (c.Operation == "ReplicateSecretToRegions" || c.Operation == "RemoveRegionsFromReplication") && !met[c.Operation] {
				met[c.Operation] = true
				return awsfake.Fault{Kind: kind}
			}
			return awsfake.Fault{}
		})
		if err := update(east); err != nil {
			t.Errorf("fault %v: %v", kind, err)
		}
		is(synced(east))
		if err := update(); err != nil {
			t.Errorf("fault %v: %v", kind, err)
		}
		is()
	}
	// It takes longer than anybody waits: said, and no failure of the secret.
	f.Inject(nil)
	f.ReplicaDelay = 1000
	if err := update(east); providers.ClassOf(err) != providers.Transient {
		t.Errorf("%v", err)
	}
}

// TestTags: other people's tags stay, ours are not shown as labels.
func TestTags(t *testing.T) {
	f := awsfake.New("eu-west-1")
	s := open(t, f)
	address := `secret.db["prod/ä"]`
	create := secret.Metadata{Labels: map[string]string{"team": "a", "tier": "gold"}, Owner: address, KMSKey: new(string)}
	if _, err := s.Write(t.Context(), secret.Write{Name: "db", Value: text("x"), Token: tokenOf(), Create: &create, Owner: address}); err != nil {
		t.Fatal(err)
	}
	if seen := f.Visible(); !strings.Contains(seen, "managed-by:freightliner") || !strings.Contains(seen, "freightliner-address:secret.db=5B=22prod/=C3=A4=22=5D") {
		t.Errorf("tags: %s", seen)
	}
	is := func(owner string, labels map[string]string) {
		t.Helper()
		info, err := s.Describe(t.Context(), "db")
		if err != nil || info.Owner != owner || !maps.Equal(info.Metadata.Labels, labels) {
			t.Errorf("owner %q labels %v %v, want %q %v", info.Owner, info.Metadata.Labels, err, owner, labels)
		}
	}
	is(address, create.Labels)
	if err := s.Update(t.Context(), "db", secret.Metadata{Labels: map[string]string{"team": "b"}}, ""); err != nil {
		t.Fatal(err)
	}
	is(address, map[string]string{"team": "b"})
	// Another tool takes it: then it is not ours, whatever the address says.
	f.Retag("db", "managed-by", "terraform")
	is("", map[string]string{"team": "b", "managed-by": "terraform"})
	if err := s.Update(t.Context(), "db", secret.Metadata{Labels: map[string]string{}}, ""); err != nil {
		t.Fatal(err)
	}
	is("", map[string]string{"managed-by": "terraform"})
	if err := s.Update(t.Context(), "db", secret.Metadata{Owner: "secret.db"}, ""); err != nil {
		t.Fatal(err)
	}
	is("secret.db", nil)
}

func TestKMSKey(t *testing.T) {
	f := awsfake.New("eu-west-1")
	s := open(t, f, func(o *Options) { o.KMSKey = "alias/store" })
	key := func(name string) string {
		t.Helper()
		info, err := s.Describe(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return *info.Metadata.KMSKey
	}
	own := "alias/own"
	put(t, s, "plain", "x", "")
	if _, err := s.Write(t.Context(), secret.Write{Name: "own", Value: text("x"), Token: tokenOf(), Create: &secret.Metadata{KMSKey: &own}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(t.Context(), secret.Write{Name: "default", Value: text("x"), Token: tokenOf(), Create: &secret.Metadata{KMSKey: new(string)}}); err != nil {
		t.Fatal(err)
	}
	if got := []string{key("plain"), key("own"), key("default")}; !slices.Equal(got, []string{"alias/store", "alias/own", ""}) {
		t.Errorf("keys %q", got)
	}
	if err := s.Update(t.Context(), "own", secret.Metadata{KMSKey: new(string)}, ""); err != nil || key("own") != "" {
		t.Errorf("back to the default key: %v %q", err, key("own"))
	}
	if n := len(f.Made("own")); n != 1 {
		t.Errorf("a change of the key made a version: %d", n)
	}
}

// TestRead: batches, what they refuse, versions, and both forms of payloads.
func TestRead(t *testing.T) {
	f := awsfake.New("eu-west-1")
	s := open(t, f)
	var refs []secret.Ref
	want := map[string]string{}
	for i := range 30 {
		name := fmt.Sprintf("s%d", i)
		payload := fmt.Sprintf("payload %d", i)
		if i%2 == 0 {
			payload += "\xff\x00"
		}
		put(t, s, name, payload, "")
		refs = append(refs, secret.Ref{Name: name})
		want[name+"@"] = payload
	}
	f.Deny("GetSecretValue", "s3")
	want["s3@"] = "denied"
	refs = append(refs, secret.Ref{Name: "nobody"}, secret.Ref{Name: "no name"}, secret.Ref{Name: "s5", Version: f.Made("s5")[0]})
	want["nobody@"], want["no name@"], want["s5@"+f.Made("s5")[0]] = "not_found", "invalid", want["s5@"]
	f.ResetCalls()
	if diff := cmp.Diff(want, readAll(t, s, refs...)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Two batches; the refused and the absent one are asked for singly.
	if c := f.Calls(); c["BatchGetSecretValue"] != 2 || c["GetSecretValue"] != 3 {
		t.Errorf("calls %v", c)
	}
	// One name asked for twice is two readings of one answer.
	twice := 0
	err := s.Read(t.Context(), []secret.Ref{{Name: "s1"}, {Name: "s1"}}, func(r secret.Reading) {
		r.Value.Use(func(b []byte) {
			if string(b) == want["s1@"] {
				twice++
			}
		})
		r.Value.Zero()
	})
	if err != nil || twice != 2 {
		t.Errorf("%d readings, %v", twice, err)
	}
	// Without the right to batches, and with it to each secret, all are read.
	f.Allow()
	f.Deny("BatchGetSecretValue", "*")
	want["s3@"] = "payload 3"
	s = open(t, f)
	f.ResetCalls()
	for range 2 {
		if diff := cmp.Diff(want, readAll(t, s, refs...)); diff != "" {
			t.Errorf("without batches (-want +got):\n%s", diff)
		}
	}
	if c := f.Calls(); c["BatchGetSecretValue"] > 2 || c["GetSecretValue"] != 64 {
		t.Errorf("calls %v", c)
	}
}

func TestList(t *testing.T) {
	f := awsfake.New("eu-west-1")
	s := open(t, f)
	v := put(t, s, "team/db", "x", "")
	f.Foreign("team/owned", "x")
	f.Own("team/owned", "rds")
	f.Rotate("team/owned")
	f.Bare("team/empty")
	f.Foreign("team/doomed", "x")
	info, _ := s.Describe(t.Context(), "team/doomed")
	done, err := s.Delete(t.Context(), "team/doomed", secret.Deletion{Expect: info.Version})
	if err != nil {
		t.Fatal(err)
	}
	f.Foreign("other", "x")
	got := map[string]secret.Info{}
	for info, err := range s.List(t.Context(), "team/") {
		if err != nil {
			t.Fatal(err)
		}
		got[info.Name] = info
	}
	if len(got) != 4 || got["team/db"].Version != v.ID || got["team/db"].Owner != "secret.db" {
		t.Errorf("%+v", got)
	}
	if o := got["team/owned"]; o.ManagedBy != "rds" || !o.Rotates || o.Owner != "" {
		t.Errorf("owned: %+v", o)
	}
	if e := got["team/empty"]; e.Version != "" || e.ID == "" {
		t.Errorf("empty: %+v", e)
	}
	if d := got["team/doomed"]; !d.Deletion.Equal(done.Final) {
		t.Errorf("doomed: %+v, want %v", d, done)
	}
	for info := range s.List(t.Context(), "no name of aws ") {
		t.Errorf("listed %v", info)
	}
	// An error in the middle ends the list.
	for i := range 250 {
		f.Foreign(fmt.Sprintf("many/%d", i), "x")
	}
	pages := 0
	f.Inject(func(c awsfake.Call) awsfake.Fault {
		if c.Operation == "ListSecrets" {
			if pages++; pages > 2 {
				return awsfake.Fault{Kind: awsfake.Proxied}
			}
		}
		return awsfake.Fault{}
	})
	n, failed := 0, error(nil)
	for _, err := range s.List(t.Context(), "many/") {
		if failed != nil {
			t.Fatal("more after an error")
		}
		if failed = err; err == nil {
			n++
		}
	}
	if n != 200 || providers.ClassOf(failed) != providers.Invalid {
		t.Errorf("%d entries, then %v", n, failed)
	}
}

func TestHistory(t *testing.T) {
	f := awsfake.New("eu-west-1")
	s := open(t, f)
	v := put(t, s, "db", "0", "")
	for i := range 130 {
		f.Clock.Advance(time.Minute)
		v = put(t, s, "db", fmt.Sprint(i+1), v.ID)
	}
	got, err := s.History(t.Context(), "db")
	if err != nil || len(got) != 131 {
		t.Fatalf("%d versions, %v", len(got), err)
	}
	made := f.Made("db")
	slices.Reverse(made)
	for i, v := range got {
		want := secret.Deprecated
		if i < 2 {
			want = []secret.VersionState{secret.Current, secret.Previous}[i]
		}
		if v.ID != made[i] || v.State != want {
			t.Fatalf("at %d: %+v, want %s %s", i, v, made[i], want)
		}
	}
}

func TestLimits(t *testing.T) {
	l := open(t, awsfake.New("eu-west-1")).Limits()
	many := map[string]string{}
	for i := range 49 {
		many[fmt.Sprint("label", i)] = "x"
	}
	long := func(n int) *string { s := strings.Repeat("ü", n); return &s }
	for name, m := range map[string]secret.Metadata{
		"a long description":    {Description: long(2049)},
		"many labels":           {Labels: many},
		"a label of AWS":        {Labels: map[string]string{"AWS:x": "y"}},
		"a label of ours":       {Labels: map[string]string{"managed-by": "y"}},
		"another label of ours": {Labels: map[string]string{"freightliner-address": "y"}},
		"an empty label":        {Labels: map[string]string{"": "y"}},
		"a long label":          {Labels: map[string]string{*long(129): "y"}},
		"a long value":          {Labels: map[string]string{"x": *long(257)}},
		"an odd label":          {Labels: map[string]string{"x": "a\nb"}},
		"its own region":        {Replicas: []secret.Replica{{Region: "eu-west-1"}}},
		"a region twice":        {Replicas: []secret.Replica{{Region: "us-east-1"}, {Region: "us-east-1"}}},
		"no region":             {Replicas: []secret.Replica{{Region: "the moon"}}},
		"a long address":        {Owner: *long(200)},
	} {
		if l.CheckMetadata(m) == nil {
			t.Errorf("%s passes", name)
		}
	}
	delete(many, "label0")
	good := secret.Metadata{Description: long(2048), Labels: many, Replicas: []secret.Replica{{Region: "us-gov-east-1"}}, Owner: `secret.db["a"]`}
	good.Labels[*long(128)] = *long(256)
	delete(good.Labels, "label1")
	if err := l.CheckMetadata(good); err != nil {
		t.Error(err)
	}
}
