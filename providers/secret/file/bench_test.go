package file

import (
	"crypto/rand"
	"fmt"
	"testing"

	"freightliner/providers/disk"
	"freightliner/providers/secret"
)

// BenchmarkSecrets lists and reads 2,000 secrets of a real directory, as a plan
// of as many in sync does. The limit is the decryption: one hybrid key each.
func BenchmarkSecrets(b *testing.B) {
	const n = 2000
	root := openRoot(b, b.TempDir())
	ann := newPerson(b)
	open := func() *Store {
		return Open(Options{FS: disk.OS(root), Path: "vault", Clock: realClock{}, Rand: rand.Reader, Keys: []KeySource{ann.key()}, AutoInit: true, User: "ann"})
	}
	var refs []secret.Ref
	s := open()
	for i := range n {
		name := fmt.Sprintf("team-%d/app-%d", i%20, i)
		write(b, s, name, "a payload of usual size", "")
		refs = append(refs, secret.Ref{Name: name})
	}
	for _, c := range []struct {
		name string
		do   func(s *Store) int
	}{
		{"list", func(s *Store) (got int) {
			for _, err := range s.List(b.Context(), "") {
				check(b, "list", err)
				got++
			}
			return got
		}},
		{"read", func(s *Store) (got int) {
			check(b, "read", s.Read(b.Context(), refs, func(r secret.Reading) {
				check(b, "read", r.Err)
				r.Value.Zero()
				got++
			}))
			return got
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if got := c.do(open()); got != n {
					b.Fatalf("%d of %d", got, n)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/2000")
		})
	}
}
