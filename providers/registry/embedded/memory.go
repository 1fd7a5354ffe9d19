package embedded

import (
	"bytes"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Memory is a [Store] that lives as long as the process. The zero value is
// not usable; see [NewMemory].
type Memory struct {
	mu   sync.RWMutex
	root *node
}

// node is a folder when below is not nil, otherwise a value. A stored value is
// never changed in place, so readers need no lock once they hold it.
type node struct {
	below map[string]*node
	value []byte
}

// NewMemory makes an empty store.
func NewMemory() *Memory { return &Memory{root: &node{below: map[string]*node{}}} }

// Open implements [Store].
func (m *Memory) Open(key string) (io.ReadSeekCloser, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n := m.find(key)
	if n == nil || n.below != nil {
		return nil, &fs.PathError{Op: "open", Path: key, Err: fs.ErrNotExist}
	}
	return reading{bytes.NewReader(n.value)}, nil
}

type reading struct{ *bytes.Reader }

func (reading) Close() error { return nil }

// Write implements [Store].
func (m *Memory) Write(key string, value []byte) error {
	m.put(key, bytes.Clone(value), true)
	return nil
}

// Remove implements [Store].
func (m *Memory) Remove(key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	folder, name := split(key)
	parent := m.find(folder)
	if parent == nil || parent.below == nil || parent.below[name] == nil {
		return &fs.PathError{Op: "remove", Path: key, Err: fs.ErrNotExist}
	}
	delete(parent.below, name)
	return nil
}

// List implements [Store].
func (m *Memory) List(key string) ([]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n := m.find(key)
	if n == nil || n.below == nil {
		return nil, nil
	}
	names := slices.Sorted(maps.Keys(n.below))
	for i, name := range names {
		if n.below[name].below != nil {
			names[i] = name + "/"
		}
	}
	return names, nil
}

// Draft implements [Store].
func (m *Memory) Draft() (Draft, error) { return &memoryDraft{store: m}, nil }

type memoryDraft struct {
	store *Memory
	bytes []byte
}

func (d *memoryDraft) Write(p []byte) (int, error) {
	d.bytes = append(d.bytes, p...)
	return len(p), nil
}

func (d *memoryDraft) Open() (io.ReadCloser, error) {
	return reading{bytes.NewReader(d.bytes)}, nil
}

func (d *memoryDraft) Keep(key string) error {
	d.store.put(key, d.bytes, false)
	d.bytes = nil
	return nil
}

func (d *memoryDraft) Discard() error {
	d.bytes = nil
	return nil
}

// put places value under key, which from now on belongs to the store.
func (m *Memory) put(key string, value []byte, replace bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.root
	folder, name := split(key)
	for segment := range strings.SplitSeq(folder, "/") {
		next := n.below[segment]
		if next == nil {
			next = &node{below: map[string]*node{}}
			n.below[segment] = next
		}
		n = next
	}
	if n.below[name] == nil || replace {
		n.below[name] = &node{value: value}
	}
}

// find walks to key; nil when nothing is there. The caller holds the lock.
func (m *Memory) find(key string) *node {
	n := m.root
	for segment := range strings.SplitSeq(key, "/") {
		if n = n.below[segment]; n == nil {
			return nil
		}
	}
	return n
}

// split cuts a key before its last segment.
func split(key string) (folder, name string) {
	at := strings.LastIndexByte(key, '/')
	return key[:at], key[at+1:]
}
