package audit

import (
	"bytes"
	"testing"

	"freightliner/statefile/statefiletest"
)

// FuzzVerify: whatever lies in the file, reading it does not panic, nothing but
// the log itself, with whole lines behind it, passes against its head, and
// appending to it leaves whole lines.
func FuzzVerify(f *testing.F) {
	d := statefiletest.New()
	head := filled(f, d, 2).Head()
	good := d.Bytes(file)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(good[:len(good)/2])
	f.Add(append(bytes.Clone(good), make([]byte, 600)...))
	f.Add(bytes.Replace(good, []byte(`"seq":2`), []byte(`"seq":9`), 1))
	f.Add([]byte("{}\n\n\x00\n"))
	f.Add(bytes.Repeat([]byte("x"), 2*maxLine))
	f.Fuzz(func(t *testing.T, text []byte) {
		d := statefiletest.New()
		d.Put(file, text, 0o600)
		r, err := Verify(t.Context(), d, "prod", head)
		if err != nil {
			t.Fatal(err)
		}
		if r.OK() && !bytes.HasPrefix(text, good) {
			t.Fatal("another text passes for the log")
		}
		l := opened(d, newClock())
		if err := l.Intend(t.Context(), entry("after")); err != nil {
			t.Fatal(err)
		}
		after, err := Verify(t.Context(), d, "prod", head, l.Head())
		if err != nil || after.Torn || after.OK() != r.OK() {
			t.Fatalf("before %+v, after %+v, %v", r, after, err)
		}
	})
}
