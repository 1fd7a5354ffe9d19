package secret

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const needle = "needle-6f1c9a2e"

// TestValueShowsNothing tries every way of printing and encoding that Go
// offers, on the value itself and inside other types.
func TestValueShowsNothing(t *testing.T) {
	v := NewValue([]byte(needle))
	type inside struct {
		hidden Value
		Shown  Value
		List   []Value
		Map    map[string]Value
		Ptr    *Value
		Any    any
	}
	forms := []any{v, &v, inside{v, v, []Value{v}, map[string]Value{"k": v}, &v, v}, []any{v}, fmt.Errorf("x: %v %s", v, v)}
	var out strings.Builder
	for _, form := range forms {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%t", "%08.3v"} {
			fmt.Fprintf(&out, verb+"\n", form)
		}
		if b, err := json.Marshal(form); err == nil {
			out.Write(b)
		}
		var b bytes.Buffer
		_ = gob.NewEncoder(&b).Encode(form)
		out.Write(b.Bytes())
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", form)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", form)
	}
	for _, shape := range []string{needle, fmt.Sprintf("%x", needle), fmt.Sprintf("%v", []byte(needle))} {
		if strings.Contains(out.String(), shape) {
			t.Fatalf("the value shows as %q", shape)
		}
	}
	for _, err := range []error{
		func() error { _, err := v.MarshalJSON(); return err }(), func() error { _, err := v.MarshalText(); return err }(),
		func() error { _, err := v.MarshalBinary(); return err }(), func() error { _, err := v.GobEncode(); return err }(),
	} {
		if err == nil {
			t.Fatal("a value was encoded")
		}
	}
}

func TestZeroReachesEveryCopy(t *testing.T) {
	b := []byte(needle)
	v := NewValue(b)
	copied, clone := v, v.Clone()
	v.Zero()
	copied.Use(func(got []byte) {
		if !bytes.Equal(got, make([]byte, len(needle))) {
			t.Error("a copy kept the bytes")
		}
	})
	clone.Use(func(got []byte) {
		if string(got) != needle {
			t.Error("the clone did not")
		}
	})
}

func TestEqual(t *testing.T) {
	text := func(s string) Value { return NewValue([]byte(s)) }
	for _, c := range []struct {
		a, b        Value
		plain, json bool
	}{
		{text("a"), text("a"), true, true},
		{text("a"), text("b"), false, false},
		{Value{}, Value{}, true, true},
		{Value{}, text(""), false, false},
		{text(`{"a":1,"b":{"d":1.10,"c":2}}`), text(` {"b": {"c":2,"d":1.10}, "a":1}`), false, true},
		{text(`{"a":1}`), text(`{"a":2}`), false, false},
		{text(`{"a":1.0}`), text(`{"a":1}`), false, false},
		{text(`{"a":1}`), text(`{"a":1} x`), false, false},
		{text(`[1]`), text(`[ 1]`), false, false},
	} {
		if got := c.a.Equal(c.b); got != c.plain {
			t.Errorf("Equal = %v, want %v", got, c.plain)
		}
		if got := c.a.EqualJSON(c.b); got != c.json {
			t.Errorf("EqualJSON = %v, want %v", got, c.json)
		}
	}
}

func TestMergeJSON(t *testing.T) {
	for _, c := range []struct {
		current, ours string
		drop          []string
		want          string
	}{
		{``, `{"a":1}`, nil, `{"a":1}`},
		{`{"theirs": 1.50, "a":0}`, `{"a":"<x>"}`, nil, `{"a":"<x>","theirs":1.50}`},
		{`{"theirs":1,"old":2}`, `{"a":1}`, []string{"old", "a", "never"}, `{"a":1,"theirs":1}`},
		{`not json`, `{"a":1}`, nil, ""},
		{`[]`, `{"a":1}`, nil, ""},
		{`null`, `{"a":1}`, nil, ""},
		{`{}`, `"x"`, nil, ""},
	} {
		got, err := MergeJSON(NewValue([]byte(c.current)), NewValue([]byte(c.ours)), c.drop)
		if (err != nil) != (c.want == "") {
			t.Errorf("%s + %s: %v", c.current, c.ours, err)
		}
		got.Use(func(b []byte) {
			if string(b) != c.want {
				t.Errorf("%s + %s = %s, want %s", c.current, c.ours, b, c.want)
			}
		})
	}
}

func TestMemberJSON(t *testing.T) {
	v := NewValue([]byte(`{"password":"p\"w","port":5432,"o":{"x":1}}`))
	for key, want := range map[string]string{"password": `p"w`, "port": "5432", "o": `{"x":1}`} {
		got, err := MemberJSON(v, key)
		if err != nil {
			t.Fatal(err)
		}
		got.Use(func(b []byte) {
			if string(b) != want {
				t.Errorf("%s = %s", key, b)
			}
		})
	}
	if _, err := MemberJSON(v, "nothing"); err == nil || strings.Contains(err.Error(), "password") {
		t.Errorf("err = %v", err)
	}
	if keys, err := JSONKeys(v); err != nil || strings.Join(keys, " ") != "o password port" {
		t.Errorf("keys %v %v", keys, err)
	}
}
