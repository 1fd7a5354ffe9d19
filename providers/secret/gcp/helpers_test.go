package gcp_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/providers/secret/secrettest/gcpfake"
)

func text(s string) secret.Value { return secret.NewValue([]byte(s)) }

var tokens int

func token() string {
	tokens++
	return fmt.Sprintf("%040d", tokens)
}

func creation(name, payload string) secret.Write {
	return secret.Write{Name: name, Value: text(payload), Token: token(), Create: &secret.Metadata{Owner: "secret.test"}, Owner: "secret.test"}
}

func mustWrite(t testing.TB, s secret.Store, w secret.Write) string {
	t.Helper()
	v, err := s.Write(context.Background(), w)
	if err != nil {
		t.Fatalf("%v (%s)", err, providers.HintOf(err))
	}
	return v.ID
}

// reading is the current payload as text, or the error.
func reading(t testing.TB, s secret.Store, ref secret.Ref) (text, id string, err error) {
	t.Helper()
	if e := s.Read(context.Background(), []secret.Ref{ref}, func(r secret.Reading) {
		r.Value.Use(func(b []byte) { text = string(b) })
		id, err = r.Version.ID, r.Err
	}); e != nil {
		t.Fatal(e)
	}
	return text, id, err
}

// wants an error of a class, whose text and hint say all the words.
func wants(t testing.TB, err error, class providers.Class, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("succeeded, want class %v", class)
	}
	said := err.Error() + " | " + providers.HintOf(err)
	if providers.ClassOf(err) != class {
		t.Errorf("class %v, want %v: %s", providers.ClassOf(err), class, said)
	}
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Errorf("%q lacks %q", said, w)
		}
	}
}

// made is "number:state:payload" of each version of the latest life.
func made(server *gcpfake.Server, name string) string {
	var out []string
	all := server.Made(name)
	for _, m := range all {
		if m.Life == all[len(all)-1].Life {
			out = append(out, fmt.Sprintf("%d:%s:%s", m.Number, strings.ToLower(m.State.String()), m.Payload))
		}
	}
	return strings.Join(out, " ")
}

// on breaks the n-th call of a method from now on.
func on(server *gcpfake.Server, method string, n int, f gcpfake.Fault) {
	server.ResetCalls()
	server.Script(func(c gcpfake.Call) gcpfake.Fault {
		if c.Method == method && c.Of == n {
			return f
		}
		return gcpfake.Fault{}
	})
}
