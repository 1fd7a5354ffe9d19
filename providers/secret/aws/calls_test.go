package aws_test

import (
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/providers/secret/secrettest/awsfake"
)

var serial int

// tokenOf is a token that no other change of this test binary has.
func tokenOf() string {
	serial++
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", serial)
}

func text(s string) secret.Value { return secret.NewValue([]byte(s)) }

// put makes or changes a secret, and fails the test if it does not work.
func put(t testing.TB, s secret.Store, name, payload, expect string) secret.Version {
	t.Helper()
	w := secret.Write{Name: name, Value: text(payload), Token: tokenOf(), Expect: expect, Owner: "secret.db"}
	if expect == "" {
		w.Create = &secret.Metadata{Owner: "secret.db"}
	}
	v, err := s.Write(t.Context(), w)
	if err != nil {
		t.Fatalf("write %s: %v (%s)", name, err, providers.HintOf(err))
	}
	return v
}

// TestCalls holds the number of calls of each operation: a change of these
// numbers is a change of what users pay and wait for.
func TestCalls(t *testing.T) {
	f := awsfake.New("eu-west-1")
	s := open(t, f)
	is := func(what string, want map[string]int) {
		t.Helper()
		if diff := cmp.Diff(want, f.Calls()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		f.ResetCalls()
	}
	v := put(t, s, "db", "one", "")
	is("create", map[string]int{"CreateSecret": 1})
	v = put(t, s, "db", "two", v.ID)
	is("write", map[string]int{"DescribeSecret": 1, "PutSecretValue": 1, "UpdateSecretVersionStage": 2})
	f.Bare("empty")
	if _, err := s.Write(t.Context(), secret.Write{Name: "empty", Value: text("first"), Token: tokenOf()}); err != nil {
		t.Fatal(err)
	}
	is("first value", map[string]int{"DescribeSecret": 1, "PutSecretValue": 1, "UpdateSecretVersionStage": 1})
	w := secret.Write{Name: "db", Token: v.ID, Expect: "gone"}
	if _, made, err := s.Settle(t.Context(), w); !made || err != nil {
		t.Fatal(made, err)
	}
	is("settle what was made", map[string]int{"DescribeSecret": 1, "UpdateSecretVersionStage": 1})
	w.Token = tokenOf()
	if _, made, err := s.Settle(t.Context(), w); made || err != nil {
		t.Fatal(made, err)
	}
	is("settle what was not", map[string]int{"DescribeSecret": 1, "UpdateSecretVersionStage": 1})
	words := "words"
	if err := s.Update(t.Context(), "db", secret.Metadata{Description: &words, Labels: map[string]string{"a": "b"}, Owner: "secret.db"}, ""); err != nil {
		t.Fatal(err)
	}
	is("update", map[string]int{"DescribeSecret": 1, "UpdateSecret": 1, "TagResource": 1})
	if err := s.Update(t.Context(), "db", secret.Metadata{Description: &words, Labels: map[string]string{"a": "b"}, Owner: "secret.db"}, ""); err != nil {
		t.Fatal(err)
	}
	is("update without a difference", map[string]int{"DescribeSecret": 1})
	if err := s.Read(t.Context(), []secret.Ref{{Name: "db"}}, func(r secret.Reading) { r.Value.Zero() }); err != nil {
		t.Fatal(err)
	}
	is("read one", map[string]int{"GetSecretValue": 1})
	if _, err := s.Delete(t.Context(), "db", secret.Deletion{Expect: v.ID}); err != nil {
		t.Fatal(err)
	}
	is("delete", map[string]int{"DescribeSecret": 2, "DeleteSecret": 1})
	if err := s.Restore(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	is("restore", map[string]int{"RestoreSecret": 1})
	for range 2 {
		if who, err := s.Principal(t.Context()); err != nil || who != f.Principal() {
			t.Errorf("principal %q %v", who, err)
		}
	}
	is("principal, twice", map[string]int{"GetCallerIdentity": 1})
}

// TestTwoThousandInSync lists and reads 2,000 secrets against the rates that AWS
// has: 20 lists and 100 batches, nothing refused, in less than five seconds of
// waiting.
func TestTwoThousandInSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 2000
		f := awsfake.New("eu-west-1")
		f.Clock = awsfake.PassingClock()
		want := map[string]string{}
		for i := range n {
			name := fmt.Sprintf("team/app-%d/db", i)
			want[name] = fmt.Sprintf("payload of %d", i)
			f.Foreign(name, want[name])
		}
		f.Rates = true
		s := open(t, f)
		started := time.Now()
		var refs []secret.Ref
		for info, err := range s.List(t.Context(), "team/") {
			if err != nil || info.Version == "" {
				t.Fatal(info, err)
			}
			refs = append(refs, secret.Ref{Name: info.Name})
		}
		got := map[string]string{}
		err := s.Read(t.Context(), refs, func(r secret.Reading) {
			if r.Err != nil {
				t.Error(r.Err)
			}
			r.Value.Use(func(b []byte) { got[r.Ref.Name] = string(b) })
			r.Value.Zero()
		})
		if err != nil || !maps.Equal(got, want) {
			t.Fatalf("%v; %d of %d payloads", err, len(got), n)
		}
		took := time.Since(started)
		t.Logf("%v of waiting for the budgets", took)
		if took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if diff := cmp.Diff(map[string]int{"ListSecrets": 20, "BatchGetSecretValue": 100}, f.Calls()); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

// TestBudgets writes from many goroutines at once: below the rates of AWS
// nothing is refused.
func TestBudgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := awsfake.New("eu-west-1")
		f.Clock = awsfake.PassingClock()
		for i := range 200 {
			f.Bare(fmt.Sprintf("s%d", i))
		}
		f.Rates = true
		s := open(t, f)
		started := time.Now()
		var all sync.WaitGroup
		for i := range 200 {
			w := secret.Write{Name: fmt.Sprintf("s%d", i), Value: text("payload"), Token: tokenOf()}
			all.Go(func() {
				if _, err := s.Write(t.Context(), w); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		// 400 calls of a group of 50 a second, at 80 %: ten seconds, less the burst.
		if took := time.Since(started); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("took %v", took)
		}
		want := map[string]int{"DescribeSecret": 200, "PutSecretValue": 200, "UpdateSecretVersionStage": 200}
		if diff := cmp.Diff(want, f.Calls()); diff != "" {
			t.Errorf("calls (-want +got), more means that some were refused:\n%s", diff)
		}
	})
}

// TestThrottled: others use the account's rate up. The calls slow down, wait,
// and end well; with no end to it, they give up within their patience.
func TestThrottled(t *testing.T) {
	f := awsfake.New("eu-west-1")
	s := open(t, f)
	f.Foreign("db", "payload")
	f.Inject(func(c awsfake.Call) awsfake.Fault {
		if c.N <= 6 {
			return awsfake.Fault{Kind: awsfake.Throttle}
		}
		return awsfake.Fault{}
	})
	started := f.Clock.Now()
	if _, err := s.Describe(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	if waited := f.Clock.Now().Sub(started); waited < 3*time.Second {
		t.Errorf("six refusals, and only %v of waiting", waited)
	}
	f.Inject(func(awsfake.Call) awsfake.Fault { return awsfake.Fault{Kind: awsfake.Throttle} })
	started = f.Clock.Now()
	_, err := s.Describe(t.Context(), "db")
	if providers.ClassOf(err) != providers.Throttled || providers.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	if waited := f.Clock.Now().Sub(started); waited > 61*time.Second {
		t.Errorf("gave up after %v", waited)
	}
}
