package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// maxSlice bounds how much of one file goes into a layer, so that a large
// library does not fill it.
const maxSlice = 4 << 20

// files are the machine's files that layers are made of: programs, libraries,
// sources and documents, so that layers compress as real ones do.
type files struct {
	paths []string
}

// findFiles lists regular files below the usual folders and the Go
// installation, in lexical order. What can not be read is left out.
func findFiles() (*files, error) {
	roots := []string{"/usr/lib", "/usr/share"}
	if root, err := exec.Command("go", "env", "GOROOT").Output(); err == nil {
		roots = append(roots, strings.TrimSpace(string(root)))
	}
	f := &files{}
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				if entry != nil && entry.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			if entry.Type().IsRegular() {
				f.paths = append(f.paths, path)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(f.paths) < 1000 {
		return nil, fmt.Errorf("only %d files below %s, too few for a corpus", len(f.paths), strings.Join(roots, ", "))
	}
	return f, nil
}

// writeLayer writes a tar of files to w, gzipped, until size bytes are out, and
// gives the layer's diff ID. The same name gives the same layer as long as the
// machine's files do not change; two names share files, never a layer.
func (f *files) writeLayer(w io.Writer, name string, size int64) (diffID string, err error) {
	out := &counted{w: w}
	zipped, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return "", err
	}
	plain := sha256.New()
	tarred := tar.NewWriter(io.MultiWriter(plain, zipped))
	at := int(number(name) % uint64(len(f.paths)))
	for n := 0; n == 0 || out.n < size; at++ {
		path := f.paths[at%len(f.paths)]
		// Not much more than what is missing, or a layer of 2 kB gets 4 MiB.
		content, err := readSlice(path, min(maxSlice, max(4096, 2*(size-out.n))))
		if err != nil || len(content) == 0 {
			continue // gone, or not ours to read
		}
		header := &tar.Header{Name: name + path, Mode: 0o644, Size: int64(len(content)), Format: tar.FormatPAX}
		if err := tarred.WriteHeader(header); err != nil {
			return "", err
		}
		if _, err := tarred.Write(content); err != nil {
			return "", err
		}
		if size < 64<<10 { // otherwise it stays in gzip's window, and the count lags
			if err := zipped.Flush(); err != nil {
				return "", err
			}
		}
		n++
	}
	if err := tarred.Close(); err != nil {
		return "", err
	}
	return sum(plain), zipped.Close()
}

func readSlice(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, limit))
}

// writeNoise writes a gzipped tar with one file of size bytes that no
// compressor makes smaller; gzip stores them as they are. It is a stream:
// nothing of it is kept.
func writeNoise(w io.Writer, name string, size int64) (diffID string, err error) {
	zipped, err := gzip.NewWriterLevel(w, gzip.NoCompression)
	if err != nil {
		return "", err
	}
	plain := sha256.New()
	tarred := tar.NewWriter(io.MultiWriter(plain, zipped))
	if err := tarred.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Format: tar.FormatPAX}); err != nil {
		return "", err
	}
	noise := rand.NewChaCha8(sha256.Sum256([]byte(name)))
	if _, err := io.CopyBuffer(struct{ io.Writer }{tarred}, io.LimitReader(noise, size), make([]byte, 256<<10)); err != nil {
		return "", err
	}
	if err := tarred.Close(); err != nil {
		return "", err
	}
	return sum(plain), zipped.Close()
}

// spread makes the sizes of layers differ: between half of size and one and a
// half of it, always the same for one name.
func spread(name string, size int64) int64 {
	return size/2 + int64(number("size of "+name)%uint64(max(1, size)))
}

// number is a number from a name.
func number(name string) uint64 {
	h := fnv.New64a()
	io.WriteString(h, name)
	// FNV alone keeps names that differ in the last letter close together.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}

func sum(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }

// counted counts what is written.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	if err == nil && n < len(p) {
		err = errors.New("short write")
	}
	return n, err
}
