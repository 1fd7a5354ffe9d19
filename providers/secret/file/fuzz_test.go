package file

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// FuzzParse: what is inside an age file was written by somebody who knows the
// store's key, and may be anything still. What parses is what seal would write
// for it.
func FuzzParse(f *testing.F) {
	id, err := age.GenerateHybridIdentity()
	check(f, "identity", err)
	for _, payload := range []string{"", "value", strings.Repeat("x", 300)} {
		h := header{Store: "s", Name: "db", N: 3, Made: time.Unix(1, 0).UTC(), Prev: "2-aa", Token: "t", Salt: make([]byte, 32), Owner: "secret.db"}
		sealed, err := seal(id.Recipient(), h, []byte(payload))
		check(f, "seal", err)
		plain, err := decrypt(sealed, id)
		check(f, "decrypt", err)
		f.Add(plain)
		f.Add(plain[:len(plain)-1])
	}
	f.Add([]byte(magic + "\xff\xff\xff\xff"))
	f.Add([]byte(magic + "\x00\x00\x00\x02{}\x00\x00\x00\x01"))
	f.Add([]byte("freightliner-secret-2\n"))
	f.Fuzz(func(t *testing.T, plain []byte) {
		h, value, err := parse(plain)
		if err != nil {
			return
		}
		sealed, err := seal(id.Recipient(), h, value)
		check(t, "seal", err)
		again, err := decrypt(sealed, id)
		check(t, "decrypt", err)
		h2, value2, err := parse(again)
		if err != nil || !bytes.Equal(value, value2) || h.commit(value) != h2.commit(value2) {
			t.Fatalf("not the same again: %v", err)
		}
		if len(again)%step != 0 {
			t.Fatalf("%d bytes", len(again))
		}
	})
}

// FuzzKeyring: the inside of a key file never panics, nor does what is made of it.
func FuzzKeyring(f *testing.F) {
	id, err := age.GenerateHybridIdentity()
	check(f, "identity", err)
	good, err := json.Marshal(keyring{Format: 1, Store: "s", Generation: 1, Members: []Member{{"ann", id.Recipient().String()}}, Keys: []string{id.String()}})
	check(f, "marshal", err)
	f.Add(good)
	f.Add([]byte(`{"format":1,"store":"s","generation":1,"keys":["AGE-SECRET-KEY-PQ-1"]}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		k, err := parseKeyring(plain)
		if err == nil {
			_, err = k.use(nil)
			_ = k.render()
		}
		if err != nil && strings.Contains(strings.ToUpper(err.Error()), "AGE-SECRET-KEY-PQ-1") {
			t.Fatal("the error quotes a key")
		}
	})
}

// FuzzNames: a directory and a secret's name mean each other, or nothing.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"a", "prod/DB", "prod+!d!b", "a!", "con", "a+b", "..", "a.age"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if checkName(s) == nil {
			dir := dirOf(s)
			if back, ok := nameOf(dir); !ok || back != s {
				t.Fatalf("%q -> %q -> %q", s, dir, back)
			}
			if dir != strings.ToLower(dir) || strings.ContainsAny(dir, `/\:*?"<>|`) || strings.HasPrefix(dir, ".") || len(dir) > longest {
				t.Fatalf("%q gives the directory %q", s, dir)
			}
		}
		if name, ok := nameOf(s); ok && dirOf(name) != s {
			t.Fatalf("%q -> %q", s, name)
		}
	})
}
