package registry

import (
	"fmt"
	"io"
	"testing"
	"time"

	"freightliner/providers"
	"freightliner/providers/registry/registrytest"
)

// noise is n bytes that do not compress and cost next to nothing to make.
type noise struct {
	n, at int64
}

func (s *noise) Read(p []byte) (int, error) {
	if s.at == s.n {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.n-s.at)]
	for i := range p {
		x := uint64(s.at) + uint64(i)
		p[i] = byte(x) ^ byte(x>>8)*31 ^ byte(x>>20)
	}
	s.at += int64(len(p))
	return len(p), nil
}

// BenchmarkLayer copies one layer between two real distribution registries on
// this machine, whose disks and CPU are the limit. With -benchtime=1x and
// -cpuprofile, it shows what the client spends per GB.
//
//	go test -run=^$ -bench=Layer -benchtime=3x -cpuprofile=cpu.out ./providers/registry
func BenchmarkLayer(b *testing.B) {
	const size = 512 << 20
	source, dest := registrytest.Distribution(b), registrytest.Distribution(b)
	d := seedLayer(b, source.Host(), "a", size)
	for _, way := range []struct {
		name  string
		kind  Kind
		chunk int64
	}{
		{"put", Kind{Name: "bench", Profile: Profile{Resume: ResumeNever}}, 0},
		{"chunks of 32 MiB", Kind{Name: "bench"}, 32 << 20},
		{"chunks of 64 MiB", Kind{Name: "bench"}, 64 << 20},
		{"chunks of 256 MiB", Kind{Name: "bench"}, 256 << 20},
		{"one chunk", Kind{Name: "bench"}, 1 << 40},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.SetBytes(size)
			for i := range b.N {
				c := New(Options{Kinds: []Kind{way.kind}, Registries: []Settings{{Host: source.Host(), PlainHTTP: true}, {Host: dest.Host(), PlainHTTP: true, Kind: "bench"}}})
				c.sizes.chunk, c.sizes.longest = way.chunk, way.chunk
				w, err := NewCopier(c).begin(Job{From: repo(source.Host(), "a"), To: repo(dest.Host(), fmt.Sprintf("%d/%d/%d-%d", way.chunk, b.N, i, time.Now().UnixNano())), Root: d.Digest, Fresh: true})
				if err != nil {
					b.Fatal(err)
				}
				if err := w.deliver(b.Context(), d); err != nil {
					b.Fatal(err)
				}
				w.end()
				c.Close()
			}
		})
	}
}

// seedLayer puts size bytes of noise into a repository.
func seedLayer(b testing.TB, host, name string, size int64) providers.Descriptor {
	b.Helper()
	h := providers.Digest(digestA).Hash()
	if _, err := io.Copy(h, &noise{n: size}); err != nil {
		b.Fatal(err)
	}
	d := providers.Descriptor{Digest: providers.FromSum(h.Sum(nil)), Size: size}
	c := New(Options{Registries: []Settings{{Host: host, PlainHTTP: true}}})
	defer c.Close()
	r, err := c.remoteFor(repo(host, name))
	if err != nil {
		b.Fatal(err)
	}
	s, _, err := c.openUpload(b.Context(), r, repo(host, name), d.Digest, "")
	if err == nil {
		err = c.putBlob(b.Context(), r, repo(host, name), d.Digest, s, &noise{n: size}, size)
	}
	if err != nil {
		b.Fatal(err)
	}
	return d
}
