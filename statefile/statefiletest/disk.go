package statefiletest

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"strings"
	"sync"

	"freightliner/statefile"
)

// Op is one operation that a caller made.
type Op struct {
	N    int    // from 1, over the life of the disk
	Verb string // open create read write truncate chmod sync lock stat close lstat rename link remove mkdir names syncdir
	Path string
	Size int // bytes, of a read or write
	Err  error
}

// String is one line of a trace.
func (o Op) String() string {
	out := fmt.Sprintf("%d %s %s", o.N, o.Verb, o.Path)
	if o.Size > 0 {
		out += fmt.Sprintf(" (%d bytes)", o.Size)
	}
	if o.Err != nil {
		out += ": " + o.Err.Error()
	}
	return out
}

// Fault makes operations fail. A failed sync loses the bytes it was for.
type Fault struct {
	At     int    // number of the operation, as in Op.N
	Verb   string // only operations of this verb are counted for At; empty: all
	Err    error
	Always bool // that one and all after it
	Short  bool // a write writes half of its bytes before it fails
}

// Disk is a file system in memory. It is safe for concurrent use.
type Disk struct {
	mu      sync.Mutex
	names   map[string]*node // as callers see them
	durable map[string]*node
	pending []rename // in order
	next    uint64
	count   int
	perVerb map[string]int
	fault   *Fault
	trace   []Op
	after   func(Op)
}

var _ statefile.FS = (*Disk)(nil)

// node is a file, a directory, or something that is neither.
type node struct {
	id      uint64
	mode    fs.FileMode
	foreign bool
	data    []byte // as callers see it
	durable []byte
	pending []write // in order; what makes data out of durable
	locked  *handle
}

// write is one write or truncation that is not durable.
type write struct {
	at       int
	bytes    []byte
	truncate bool // to at
}

// rename is one change of a name that is not durable: the name now means node,
// or nothing. A rename is one of these for two names.
type rename struct {
	dir     string
	set     string
	node    *node
	removed string
}

// New is an empty disk: one directory.
func New() *Disk {
	d := &Disk{names: map[string]*node{}, durable: map[string]*node{}, perVerb: map[string]int{}}
	root := d.node(fs.ModeDir | 0o755)
	d.names["."], d.durable["."] = root, root
	return d
}

func (d *Disk) node(mode fs.FileMode) *node {
	d.next++
	return &node{id: d.next, mode: mode}
}

// Put places a durable plain file with these bytes and mode.
func (d *Disk) Put(name string, data []byte, mode fs.FileMode) {
	d.Place(name, mode)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[name].data = append([]byte(nil), data...)
	d.names[name].durable = append([]byte(nil), data...)
}

// Place places a durable file of any type by its mode: fs.ModeSymlink,
// fs.ModeNamedPipe, fs.ModeDir.
func (d *Disk) Place(name string, mode fs.FileMode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.node(mode)
	d.names[name], d.durable[name] = n, n
}

// GiveAway makes the file belong to somebody else.
func (d *Disk) GiveAway(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[name].foreign = true
}

// Bytes is what reading the file would show; nil when there is none.
func (d *Disk) Bytes(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.names[name]; n != nil {
		return append([]byte{}, n.data...)
	}
	return nil
}

// Files are the names of everything but directories, in no order.
func (d *Disk) Files() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for name, n := range d.names {
		if !n.mode.IsDir() {
			out = append(out, name)
		}
	}
	return out
}

// Edit changes a file's bytes in place, durably, behind everybody's back, as
// an editor would.
func (d *Disk) Edit(name string, change func([]byte) []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.names[name]
	n.data = change(append([]byte(nil), n.data...))
	n.durable, n.pending = append([]byte(nil), n.data...), nil
}

// Fail arms a fault; nil disarms.
func (d *Disk) Fail(f *Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
	clear(d.perVerb)
}

// After calls do after every operation, in the caller's goroutine and without
// the disk's own lock, so do may look at the disk.
func (d *Disk) After(do func(Op)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.after = do
}

// Ops is how many operations were made so far.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count
}

// Trace is every operation so far.
func (d *Disk) Trace() []Op {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Op(nil), d.trace...)
}

// do runs one operation: it counts it, fails it if that is due, records it.
// run gets the error that it is to fail with, and may do half of its work.
func (d *Disk) do(verb, name string, size int, run func(fail error, short bool) error) error {
	d.mu.Lock()
	d.count++
	d.perVerb[verb]++
	d.perVerb[""]++
	var fail error
	short := false
	if f := d.fault; f != nil && (f.Verb == "" || f.Verb == verb) {
		at := d.perVerb[f.Verb]
		if at == f.At || f.Always && at > f.At {
			fail, short = &fs.PathError{Op: verb, Path: name, Err: f.Err}, f.Short
		}
	}
	err := run(fail, short)
	op := Op{N: d.count, Verb: verb, Path: name, Size: size, Err: err}
	d.trace = append(d.trace, op)
	after := d.after
	d.mu.Unlock()
	if after != nil {
		after(op)
	}
	return err
}

func missing(verb, name string) error {
	return &fs.PathError{Op: verb, Path: name, Err: fs.ErrNotExist}
}

func exists(verb, name string) error {
	return &fs.PathError{Op: verb, Path: name, Err: fs.ErrExist}
}

// OpenFile implements statefile.FS. A directory, link or FIFO opens, so that
// the caller's own look at it is what refuses it.
func (d *Disk) OpenFile(name string, flag int, perm fs.FileMode) (statefile.File, error) {
	name = path.Clean(name)
	verb := "open"
	if flag&os.O_CREATE != 0 {
		verb = "create"
	}
	var h *handle
	err := d.do(verb, name, 0, func(fail error, _ bool) error {
		if fail != nil {
			return fail
		}
		n := d.names[name]
		switch {
		case n == nil && flag&os.O_CREATE == 0:
			return missing(verb, name)
		case n == nil && d.names[path.Dir(name)] == nil:
			return missing(verb, name)
		case n != nil && flag&os.O_EXCL != 0:
			return exists(verb, name)
		case n == nil:
			n = d.node(perm.Perm())
			d.rename(rename{dir: path.Dir(name), set: name, node: n})
		}
		h = &handle{disk: d, node: n, name: name, flag: flag}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// rename applies a change of names to what callers see.
func (d *Disk) rename(r rename) {
	r.apply(d.names)
	d.pending = append(d.pending, r)
}

func (r rename) apply(names map[string]*node) {
	if r.removed != "" {
		delete(names, r.removed)
	}
	if r.set != "" {
		names[r.set] = r.node
	}
}

// Lstat implements statefile.FS.
func (d *Disk) Lstat(name string) (info statefile.Info, err error) {
	name = path.Clean(name)
	err = d.do("lstat", name, 0, func(fail error, _ bool) error {
		n := d.names[name]
		if fail == nil && n == nil {
			fail = missing("lstat", name)
		}
		if fail == nil {
			info = d.info(n)
		}
		return fail
	})
	return info, err
}

func (d *Disk) info(n *node) statefile.Info {
	var links uint64
	for _, other := range d.names {
		if other == n {
			links++
		}
	}
	return statefile.Info{
		Mode: n.mode, Size: int64(len(n.data)), Links: links, Ours: !n.foreign,
		ID: statefile.FileID{Volume: 1, File: n.id},
	}
}

// Rename implements statefile.FS.
func (d *Disk) Rename(oldName, newName string) error {
	return d.do("rename", oldName+" -> "+newName, 0, func(fail error, _ bool) error {
		n := d.names[oldName]
		if fail == nil && n == nil {
			fail = missing("rename", oldName)
		}
		if fail == nil {
			d.rename(rename{dir: path.Dir(newName), set: newName, node: n, removed: oldName})
		}
		return fail
	})
}

// Link implements statefile.FS.
func (d *Disk) Link(oldName, newName string) error {
	return d.do("link", oldName+" -> "+newName, 0, func(fail error, _ bool) error {
		n := d.names[oldName]
		switch {
		case fail != nil:
		case n == nil || d.names[path.Dir(newName)] == nil:
			fail = missing("link", oldName)
		case d.names[newName] != nil:
			fail = exists("link", newName)
		default:
			d.rename(rename{dir: path.Dir(newName), set: newName, node: n})
		}
		return fail
	})
}

// Remove implements statefile.FS.
func (d *Disk) Remove(name string) error {
	return d.do("remove", name, 0, func(fail error, _ bool) error {
		if fail == nil && d.names[name] == nil {
			fail = missing("remove", name)
		}
		if fail == nil {
			d.rename(rename{dir: path.Dir(name), removed: name})
		}
		return fail
	})
}

// Mkdir implements statefile.FS.
func (d *Disk) Mkdir(name string, perm fs.FileMode) error {
	name = path.Clean(name)
	return d.do("mkdir", name, 0, func(fail error, _ bool) error {
		if fail == nil && d.names[name] != nil {
			fail = exists("mkdir", name)
		}
		if fail == nil {
			d.rename(rename{dir: path.Dir(name), set: name, node: d.node(fs.ModeDir | perm.Perm())})
		}
		return fail
	})
}

// Names implements statefile.FS.
func (d *Disk) Names(dir string) (names []string, err error) {
	dir = path.Clean(dir)
	err = d.do("names", dir, 0, func(fail error, _ bool) error {
		if fail != nil {
			return fail
		}
		for name := range d.names {
			if name != "." && path.Dir(name) == dir {
				names = append(names, path.Base(name))
			}
		}
		return nil
	})
	return names, err
}

// SyncDir implements statefile.FS.
func (d *Disk) SyncDir(dir string) error {
	dir = path.Clean(dir)
	return d.do("syncdir", dir, 0, func(fail error, _ bool) error {
		if fail != nil {
			return fail
		}
		var left []rename
		for _, r := range d.pending {
			if r.dir == dir {
				r.apply(d.durable)
			} else {
				left = append(left, r)
			}
		}
		d.pending = left
		return nil
	})
}

// handle is an open file.
type handle struct {
	disk   *Disk
	node   *node
	name   string
	flag   int
	at     int
	closed bool
}

func (h *handle) do(verb string, size int, run func(fail error, short bool) error) error {
	return h.disk.do(verb, h.name, size, func(fail error, short bool) error {
		if h.closed {
			return &fs.PathError{Op: verb, Path: h.name, Err: fs.ErrClosed}
		}
		return run(fail, short)
	})
}

func (h *handle) Read(p []byte) (n int, err error) {
	err = h.do("read", len(p), func(fail error, _ bool) error {
		if fail != nil {
			return fail
		}
		if h.at >= len(h.node.data) {
			return io.EOF
		}
		n = copy(p, h.node.data[h.at:])
		h.at += n
		return nil
	})
	return n, err
}

func (h *handle) Write(p []byte) (n int, err error) {
	err = h.do("write", len(p), func(fail error, short bool) error {
		if h.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
			return &fs.PathError{Op: "write", Path: h.name, Err: fs.ErrPermission}
		}
		n = len(p)
		if fail != nil {
			n = 0
			if short {
				n = len(p) / 2
			}
		}
		if h.flag&os.O_APPEND != 0 {
			h.at = len(h.node.data)
		}
		if n > 0 {
			w := write{at: h.at, bytes: append([]byte(nil), p[:n]...)}
			h.node.data = w.apply(h.node.data)
			h.node.pending = append(h.node.pending, w)
			h.at += n
		}
		return fail
	})
	return n, err
}

// apply does the write to b and returns it. A gap before it is zero.
func (w write) apply(b []byte) []byte {
	if w.truncate {
		if w.at <= len(b) {
			return b[:w.at]
		}
		return append(b, make([]byte, w.at-len(b))...)
	}
	end := w.at + len(w.bytes)
	if end > len(b) {
		b = append(b, make([]byte, end-len(b))...)
	}
	copy(b[w.at:end], w.bytes)
	return b
}

func (h *handle) Stat() (info statefile.Info, err error) {
	err = h.do("stat", 0, func(fail error, _ bool) error {
		if fail == nil {
			info = h.disk.info(h.node)
		}
		return fail
	})
	return info, err
}

func (h *handle) Truncate(size int64) error {
	return h.do("truncate", 0, func(fail error, _ bool) error {
		if fail == nil {
			w := write{at: int(size), truncate: true}
			h.node.data = w.apply(h.node.data)
			h.node.pending = append(h.node.pending, w)
		}
		return fail
	})
}

func (h *handle) Chmod(mode fs.FileMode) error {
	return h.do("chmod", 0, func(fail error, _ bool) error {
		if fail == nil {
			h.node.mode = h.node.mode.Type() | mode.Perm()
		}
		return fail
	})
}

// Sync makes the file's bytes durable. When it fails, the bytes since the last
// sync never will be, although reading shows them still.
func (h *handle) Sync() error {
	return h.do("sync", 0, func(fail error, _ bool) error {
		if fail == nil {
			for _, w := range h.node.pending {
				h.node.durable = w.apply(h.node.durable)
			}
		}
		h.node.pending = nil
		return fail
	})
}

func (h *handle) TryLock() (got bool, err error) {
	err = h.do("lock", 0, func(fail error, _ bool) error {
		if fail == nil && (h.node.locked == nil || h.node.locked == h) {
			h.node.locked, got = h, true
		}
		return fail
	})
	return got, err
}

func (h *handle) Close() error {
	return h.do("close", 0, func(fail error, _ bool) error {
		h.closed = true
		if h.node.locked == h {
			h.node.locked = nil
		}
		return fail
	})
}

// Clone is a disk with the same files, all durable, nobody's locks, no fault.
func (d *Disk) Clone() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.clone(d.names, func(n *node) []byte { return n.data })
}

// clone makes a disk of names, with bytes as content says. Hard links stay
// links.
func (d *Disk) clone(names map[string]*node, content func(*node) []byte) *Disk {
	out := &Disk{names: map[string]*node{}, perVerb: map[string]int{}, next: d.next}
	copies := map[*node]*node{}
	for name, n := range names {
		// A directory whose own name did not survive takes its files with it.
		if dir := path.Dir(name); name != "." && names[dir] == nil {
			continue
		}
		c := copies[n]
		if c == nil {
			data := content(n)
			c = &node{id: n.id, mode: n.mode, foreign: n.foreign, data: append([]byte(nil), data...), durable: append([]byte(nil), data...)}
			copies[n] = c
		}
		out.names[name] = c
	}
	out.durable = maps.Clone(out.names)
	return out
}

// String lists the files and their sizes, for failure messages.
func (d *Disk) String() string {
	var b strings.Builder
	for _, name := range d.Files() {
		fmt.Fprintf(&b, "%s (%d bytes) ", name, len(d.Bytes(name)))
	}
	return b.String()
}
