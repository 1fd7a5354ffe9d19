package statefiletest

import (
	"iter"
	"maps"
	"math/rand/v2"
)

// Crashes is every disk that a power cut at this instant may leave, within
// these bounds, which hold for the file systems in use (ext4, XFS, btrfs, APFS,
// NTFS): the size of a file and its bytes reach the disk at different times,
// in blocks of sector bytes; a block that did not make it reads as zero;
// bytes never become other bytes.
//
//   - Of the changes of names that were not synced, any prefix happened, or all
//     but one.
//   - Of the unsynced writes of each file: none; any prefix; any prefix and a
//     part of the next one, cut at each sector boundary, shorter or filled up
//     with zeros; all but one, which reads as zeros. A truncation may be the
//     one: then what it cut stands behind, and under, what was written after it.
//
// The disks are independent of each other and of d, durable and unlocked.
func (d *Disk) Crashes(sector int) iter.Seq[*Disk] {
	return func(yield func(*Disk) bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, names := range d.nameStates() {
			var dirty []*node
			seen := map[*node]bool{}
			for _, n := range names {
				if len(n.pending) > 0 && !seen[n] {
					seen[n] = true
					dirty = append(dirty, n)
				}
			}
			if !d.contents(names, dirty, map[*node][]byte{}, sector, yield) {
				return
			}
		}
	}
}

// nameStates is what the names may be after a crash.
func (d *Disk) nameStates() []map[string]*node {
	var out []map[string]*node
	apply := func(changes ...[]rename) {
		names := maps.Clone(d.durable)
		for _, list := range changes {
			for _, r := range list {
				r.apply(names)
			}
		}
		out = append(out, names)
	}
	for i := range len(d.pending) + 1 {
		apply(d.pending[:i])
	}
	for i := 0; i+1 < len(d.pending); i++ {
		apply(d.pending[:i], d.pending[i+1:])
	}
	return out
}

// contents goes through all combinations of what the dirty files may hold.
func (d *Disk) contents(names map[string]*node, dirty []*node, chosen map[*node][]byte, sector int, yield func(*Disk) bool) bool {
	if len(dirty) == 0 {
		return yield(d.clone(names, func(n *node) []byte {
			if b, ok := chosen[n]; ok {
				return b
			}
			return n.durable
		}))
	}
	for _, b := range dirty[0].states(sector) {
		chosen[dirty[0]] = b
		if !d.contents(names, dirty[1:], chosen, sector, yield) {
			return false
		}
	}
	return true
}

// states is what the file may hold after a crash.
func (n *node) states(sector int) [][]byte {
	var out [][]byte
	fresh := func() []byte { return append([]byte(nil), n.durable...) }
	for i := range len(n.pending) + 1 {
		b := fresh()
		for _, w := range n.pending[:i] {
			b = w.apply(b)
		}
		out = append(out, b)
		if i == len(n.pending) || n.pending[i].truncate {
			continue
		}
		w := n.pending[i]
		for cut := (w.at/sector + 1) * sector; cut < w.at+len(w.bytes); cut += sector {
			part := write{at: w.at, bytes: w.bytes[:cut-w.at]}
			short := part.apply(append([]byte(nil), b...))
			filled := append(append([]byte(nil), short...), make([]byte, w.at+len(w.bytes)-cut)...)
			tail := write{at: cut, bytes: w.bytes[cut-w.at:]}.apply(append([]byte(nil), b...))
			out = append(out, short, filled, tail)
		}
	}
	for skip := range n.pending {
		b := fresh()
		for i, w := range n.pending {
			if i == skip && w.truncate {
				continue
			}
			if i == skip {
				w = write{at: w.at, bytes: make([]byte, len(w.bytes))}
			}
			b = w.apply(b)
		}
		out = append(out, b)
	}
	return out
}

// Crash is one disk that a power cut at this instant may leave, chosen by
// random. It may lose more than [Disk.Crashes] enumerates: of the bytes that
// were not synced, any set of sectors was written, the rest reads as zeros, and
// the file may end at any sector behind its durable end; of the changes of
// names, any prefix happened. Truncations are taken as ordered with the writes.
func (d *Disk) Crash(random *rand.Rand, sector int) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := maps.Clone(d.durable)
	for _, r := range d.pending[:random.IntN(len(d.pending)+1)] {
		r.apply(names)
	}
	return d.clone(names, func(n *node) []byte { return n.crash(random, sector) })
}

func (n *node) crash(random *rand.Rand, sector int) []byte {
	b := append([]byte(nil), n.durable...)
	for _, w := range n.pending[:random.IntN(len(n.pending)+1)] {
		if w.truncate {
			b = w.apply(b)
			continue
		}
		b = write{at: w.at, bytes: make([]byte, len(w.bytes))}.apply(b)
		lossy := random.IntN(3) // nothing, half, all but little of it is lost
		for at := w.at; at < w.at+len(w.bytes); {
			next := min((at/sector+1)*sector, w.at+len(w.bytes))
			if random.IntN(8) >= 3*lossy {
				copy(b[at:next], w.bytes[at-w.at:next-w.at])
			}
			at = next
		}
	}
	if len(b) > len(n.durable) && random.IntN(3) == 0 {
		cut := len(n.durable) + random.IntN(len(b)-len(n.durable))
		b = b[:max(len(n.durable), cut/sector*sector)]
	}
	return b
}
