package secret

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"

	"freightliner/providers"
)

// shelf is the smallest store that a Client can work with.
type shelf struct {
	Store
	payloads map[string]string
	touched  int
}

func (*shelf) Place() string  { return "shelf/one" }
func (*shelf) Limits() Limits { return Limits{Payload: 64} }

func (s *shelf) Principal(context.Context) (string, error) { return "me", nil }

func (s *shelf) Read(_ context.Context, refs []Ref, got func(Reading)) error {
	for _, ref := range refs {
		s.touched++
		r := Reading{Ref: ref, Version: Version{ID: "1"}}
		if text, found := s.payloads[ref.Name]; found {
			r.Value = NewValue([]byte(text))
		} else {
			r.Err = &providers.Error{Class: providers.NotFound, Op: "read secret", On: ref.Name}
		}
		got(r)
	}
	return nil
}

func (s *shelf) Write(_ context.Context, w Write) (Version, error) {
	s.touched++
	w.Value.Use(func(b []byte) { s.payloads[w.Name] = string(b) })
	return Version{ID: "2"}, nil
}

func (s *shelf) List(context.Context, string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for name := range s.payloads {
			if !yield(Info{Name: name}, nil) {
				return
			}
		}
	}
}

// book is an audit log in memory.
type book struct {
	lines          []string
	refuse, break_ bool
}

func (b *book) note(phase string, entries []Entry) {
	for _, e := range entries {
		b.lines = append(b.lines, strings.Join([]string{phase, string(e.Operation), e.Reason, e.Principal, e.Store, e.Name, e.Before, e.After, e.Class()}, " "))
	}
}

func (b *book) Intend(_ context.Context, entries ...Entry) error {
	if b.refuse {
		return errors.New("no room")
	}
	b.note("intent", entries)
	return nil
}

func (b *book) Outcome(_ context.Context, entries ...Entry) error {
	if b.break_ {
		return errors.New("no room")
	}
	b.note("outcome", entries)
	return nil
}

func client() (*Client, *shelf, *book) {
	s, b := &shelf{payloads: map[string]string{"a": `{"k":"` + needle + `","theirs":1}`}}, &book{}
	c := NewClient(Options{Audit: b})
	c.Add("s", func(context.Context) (Store, error) { return s, nil })
	return c, s, b
}

func TestEveryUseIsAudited(t *testing.T) {
	c, s, b := client()
	ctx := t.Context()
	v, _, err := c.GetSecret(ctx, Why{"plan", "secret.a"}, "s", "a", "")
	if err != nil || !v.Set() {
		t.Fatal(err)
	}
	if _, _, err := c.GetSecret(ctx, Why{"plan", "secret.b"}, "s", "b", ""); providers.ClassOf(err) != providers.NotFound {
		t.Fatalf("err = %v", err)
	}
	w := Write{Name: "a", Value: NewValue([]byte(`{"k":"new"}`)), Expect: "1", Token: "t"}
	if _, err := c.PutJSONSecret(ctx, Why{"apply", "secret.a"}, "s", w, nil); err != nil {
		t.Fatal(err)
	}
	if s.payloads["a"] != `{"k":"new","theirs":1}` {
		t.Errorf("merged to %s", s.payloads["a"])
	}
	want := `intent read plan me shelf/one a   
outcome read plan me shelf/one a  1 
intent read plan me shelf/one b   
outcome read plan me shelf/one b  1 not_found
intent read apply me shelf/one a 1  
outcome read apply me shelf/one a 1 1 
intent write apply me shelf/one a 1  
outcome write apply me shelf/one a 1 2 `
	if got := strings.Join(b.lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if strings.Contains(strings.Join(b.lines, ""), needle) {
		t.Error("the audit log has the payload")
	}
}

// TestNoLineNoEffect: without its intent nothing is done, and after a lost
// outcome nothing further is.
func TestNoLineNoEffect(t *testing.T) {
	c, s, b := client()
	b.refuse = true
	put := func() error {
		_, err := c.PutSecret(t.Context(), Why{}, "s", Write{Name: "a", Value: NewValue([]byte("x"))})
		return err
	}
	if err := put(); err == nil || s.touched != 0 {
		t.Fatalf("err %v, %d effects", err, s.touched)
	}
	b.refuse, b.break_ = false, true
	if err := put(); err != nil || s.touched != 1 || c.AuditErr() == nil {
		t.Fatalf("err %v, %d effects, audit %v", err, s.touched, c.AuditErr())
	}
	if err := put(); err == nil || s.touched != 1 {
		t.Fatalf("after a lost line: err %v, %d effects", err, s.touched)
	}
}

func TestTooLongIsNotSaidHowLong(t *testing.T) {
	c, s, _ := client()
	_, err := c.PutSecret(t.Context(), Why{}, "s", Write{Name: "a", Value: NewValue(bytes.Repeat([]byte("x"), 65))})
	if err == nil || s.touched != 0 || strings.Contains(err.Error(), "65 ") || !strings.Contains(err.Error(), "64 bytes") {
		t.Fatalf("err = %v", err)
	}
}

func TestGenerate(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	for _, charset := range []string{"lower", "lower+upper+digits+symbols", "hex", "base64url", "digits+symbols"} {
		counts := map[byte]int{}
		for range 2000 {
			v, err := Generate(random, Recipe{Length: 16, Charset: charset})
			if err != nil {
				t.Fatal(err)
			}
			v.Use(func(b []byte) {
				if len(b) != 16 || !hasAll(b, charset) {
					t.Fatalf("%s made %q", charset, b)
				}
				for _, c := range b {
					counts[c]++
				}
			})
		}
		alphabet := Recipe{Charset: charset}.alphabet()
		if len(counts) != len(alphabet) {
			t.Errorf("%s: %d of %d characters seen", charset, len(counts), len(alphabet))
		}
		for c := range counts {
			if strings.IndexByte(alphabet, c) < 0 {
				t.Errorf("%s made %q", charset, c)
			}
		}
	}
	for _, bad := range []Recipe{{7, "lower"}, {5000, "lower"}, {16, "hex+lower"}, {16, "lower+lower"}, {16, ""}, {16, "runes"}} {
		if _, err := Generate(random, bad); err == nil {
			t.Errorf("%v was made", bad)
		}
	}
	if _, err := Generate(bytes.NewReader(nil), Recipe{16, "hex"}); err == nil {
		t.Error("a value without randomness")
	}
	if got := (Recipe{32, "hex"}).Entropy(); got != 128 {
		t.Errorf("32 hex digits have %d bits", got)
	}
}

func TestFingerprint(t *testing.T) {
	random := rand.NewChaCha8([32]byte{2})
	if _, err := NewFingerprintKey(NewValue([]byte("short"))); err == nil {
		t.Fatal("a short key was taken")
	}
	k, _ := NewFingerprintKey(NewValue(bytes.Repeat([]byte("k"), 16)))
	other, _ := NewFingerprintKey(NewValue(bytes.Repeat([]byte("o"), 16)))
	v, w := NewValue([]byte("1234")), NewValue([]byte("4321"))
	for _, generated := range []bool{true, false} {
		a, _ := k.Make(random, "secret.a", v, generated)
		b, _ := k.Make(random, "secret.a", v, generated)
		if a == b {
			t.Error("equal payloads have equal fingerprints")
		}
		for _, c := range []struct {
			name        string
			same, known bool
			got         func() (bool, bool)
		}{
			{"same", true, true, func() (bool, bool) { return k.Same(a, "secret.a", v, generated) }},
			{"other value", false, true, func() (bool, bool) { return k.Same(a, "secret.a", w, generated) }},
			{"other address", false, true, func() (bool, bool) { return k.Same(a, "secret.b", v, generated) }},
			{"other kind", false, true, func() (bool, bool) { return k.Same(a, "secret.a", v, !generated) }},
			{"other key", false, false, func() (bool, bool) { return other.Same(a, "secret.a", v, generated) }},
			{"damaged", false, false, func() (bool, bool) { return k.Same("x."+a, "secret.a", v, generated) }},
			{"none", false, false, func() (bool, bool) { return k.Same("", "secret.a", v, generated) }},
		} {
			if same, known := c.got(); same != c.same || known != c.known {
				t.Errorf("%s: %v %v", c.name, same, known)
			}
		}
	}
}

// stuck is a store that is asked who we are and does not answer.
type stuck struct {
	shelf
	asked, until chan struct{}
}

func (s *stuck) Principal(context.Context) (string, error) {
	close(s.asked)
	<-s.until
	return "late", nil
}

// TestAStuckStoreHoldsUpNoOther: also not while it is asked who we are.
func TestAStuckStoreHoldsUpNoOther(t *testing.T) {
	slow := &stuck{shelf{payloads: map[string]string{"a": "1"}}, make(chan struct{}), make(chan struct{})}
	c := NewClient(Options{Audit: &forgetful{}})
	c.Add("slow", func(context.Context) (Store, error) { return slow, nil })
	c.Add("quick", func(context.Context) (Store, error) { return &shelf{payloads: map[string]string{"a": "2"}}, nil })
	done := make(chan error)
	go func() {
		_, _, err := c.GetSecret(context.Background(), Why{}, "slow", "a", "")
		done <- err
	}()
	<-slow.asked
	if _, _, err := c.GetSecret(t.Context(), Why{}, "quick", "a", ""); err != nil {
		t.Error(err)
	}
	close(slow.until)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// forgetful is an audit log that remembers nothing.
type forgetful struct{}

func (*forgetful) Intend(context.Context, ...Entry) error  { return nil }
func (*forgetful) Outcome(context.Context, ...Entry) error { return nil }
