package statefile

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"

	"freightliner/providers"
)

// ErrLineage: two states are not versions of one another, so nothing can be
// concluded from a record that only one of them has.
var ErrLineage = errors.New("the states have different lineages")

// Conflict is an address at which both sides of a merge changed the record, in
// different ways. A side without a record there has a nil.
type Conflict struct {
	Address            string
	Base, Ours, Theirs *Record
}

// String says what each side did, for people.
func (c Conflict) String() string {
	return fmt.Sprintf("%s: ours %s, theirs %s", providers.Printable(c.Address, 0), did(c.Base, c.Ours), did(c.Base, c.Theirs))
}

func did(base, now *Record) string {
	switch {
	case now == nil && base == nil:
		return "does not have it" // the ancestor is not known
	case now == nil:
		return "removed it"
	case base == nil:
		return "added it" + at(now)
	}
	return "changed it" + at(now)
}

func at(r *Record) string {
	what := cmp.Or(r.Digest.Short(), r.Version, r.Destination)
	if what == "" {
		return ""
	}
	return " (" + providers.Printable(what, 200) + ")"
}

// Resolve decides a conflict: the record that shall stand, or nil for none. It
// reports false when it can not decide.
type Resolve func(Conflict) (*Record, bool)

// Merge is the three-way merge by record: at each address the side that
// changed it wins; equal changes collapse; different ones are asked of
// resolve, which may be nil, and are returned as conflicts, sorted, when they
// stay open. The result is nil if there are conflicts. A base that does not
// exist stands for two sides that began apart.
//
// Journals are folded in. Errors: [ErrLineage]; [ErrNewer] for a side that
// this release can not write; [ErrUndecided] for a side with open intents,
// which a merged state could not hold.
func Merge(base, ours, theirs *State, resolve Resolve) (*State, []Conflict, error) {
	for _, s := range [...]*State{base, ours, theirs} {
		if s.exists && s.Lineage() != ours.Lineage() {
			return nil, nil, failed("merge states", "", fmt.Errorf("%w: %s and %s", ErrLineage, providers.Printable(s.Lineage(), 80), providers.Printable(ours.Lineage(), 80)))
		}
		if err := s.writable(); err != nil {
			return nil, nil, failed("merge states", "", err)
		}
		if s != base && len(s.replay.intents) > 0 {
			return nil, nil, failed("merge states", "", ErrUndecided)
		}
	}
	changes := maps.Clone(ours.replay.changes)
	if changes == nil {
		changes = map[string]entry{}
	}
	var conflicts []Conflict
	for address, side := range sides(base, ours, theirs) {
		b, o, t := side[0], side[1], side[2]
		switch {
		case o == t || t == b:
			continue // ours stands
		case o == b:
			changes[address] = orRemoval(t, address)
			continue
		}
		c := Conflict{Address: address, Base: b.decoded(address), Ours: o.decoded(address), Theirs: t.decoded(address)}
		chosen, err := ask(resolve, c)
		if err != nil {
			return nil, nil, failed("merge states", address, err)
		}
		if chosen == nil {
			conflicts = append(conflicts, c)
			continue
		}
		changes[address] = *chosen
	}
	if len(conflicts) > 0 {
		return nil, conflicts, nil
	}
	merged := &State{snap: ours.snap, replay: replay{changes: changes}}
	merged.keys = merged.replay.keys()
	out, err := merged.rewritten()
	return out, nil, failed("merge states", "", err)
}

// ask gives the entry that resolve decided for, nil when it did not.
func ask(resolve Resolve, c Conflict) (*entry, error) {
	if resolve == nil {
		return nil, nil
	}
	r, ok := resolve(c)
	switch {
	case !ok:
		return nil, nil
	case r == nil:
		removed := orRemoval(entry{}, c.Address)
		return &removed, nil
	case r.Address != c.Address:
		return nil, fmt.Errorf("resolved by the record of %s", providers.Printable(r.Address, 0))
	}
	e, err := encode(r)
	return &e, err
}

// orRemoval is e, or the removal of the record at address when there is none.
func orRemoval(e entry, address string) entry {
	if e.rest == "" {
		e.key = text(appendString(nil, address))
	}
	return e
}

// decoded is e's record, nil when there is none.
func (e entry) decoded(address string) *Record {
	if e.rest == "" {
		return nil
	}
	var r Record
	e.into(&r, address)
	return &r
}

// sides walks three states at once: every address that one of them has,
// sorted, with its entry in each, or a zero one.
func sides(states ...*State) iter.Seq2[string, [3]entry] {
	return func(yield func(string, [3]entry) bool) {
		type head struct {
			walk    walk
			address string
			e       entry
			ok      bool
		}
		heads := make([]head, len(states))
		for i, s := range states {
			h := &heads[i]
			h.walk = s.walk("")
			h.address, h.e, h.ok = h.walk.next()
		}
		for {
			first := -1
			for i, h := range heads {
				if h.ok && (first < 0 || h.address < heads[first].address) {
					first = i
				}
			}
			if first < 0 {
				return
			}
			address := heads[first].address
			var side [3]entry
			for i := range heads {
				h := &heads[i]
				if h.ok && h.address == address {
					side[i] = h.e
					h.address, h.e, h.ok = h.walk.next()
				}
			}
			if !yield(address, side) {
				return
			}
		}
	}
}

// Difference is an address at which two states differ. A state without a
// record there has a nil.
type Difference struct {
	Address  string
	Old, New *Record
}

// Diff is every difference from old to new, sorted by address.
func Diff(old, new *State) iter.Seq[Difference] {
	return func(yield func(Difference) bool) {
		for address, side := range sides(old, new) {
			if side[0] != side[1] && !yield(Difference{address, side[0].decoded(address), side[1].decoded(address)}) {
				return
			}
		}
	}
}

// WriteCanonical writes the state as a file without a journal: for a merge
// driver, which hands git a file and not a place. Whatever shall stay in the
// place of a state goes there by [Replace].
func (s *State) WriteCanonical(w io.Writer) error {
	if err := s.writable(); err != nil {
		return err
	}
	return s.fill(w)
}
