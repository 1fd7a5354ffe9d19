package planner

import (
	"cmp"
	"maps"
	"slices"

	"freightliner/config"
	"freightliner/statefile"
)

// Blocked reports that a guard refuses the plan as a whole.
func (p *Plan) Blocked() bool {
	return slices.ContainsFunc(p.Problems, func(q Problem) bool { return q.Guard })
}

// Empty reports that there is nothing to apply.
func (p *Plan) Empty() bool { return len(p.Actions) == 0 }

// Totals counts the plan. It reads every action once.
func (p *Plan) Totals() Totals {
	t := Totals{Counts: Counts{}, Verbs: map[Verb]int{}}
	for _, cause := range Causes {
		t.Counts[cause] = map[Verb]int{}
	}
	for i := range p.Actions {
		a := &p.Actions[i]
		t.Bytes += a.Bytes
		t.Present += a.Present
		if a.Kind != statefile.KindSecret { // a transfer is of images
			t.Requests += a.Requests
		}
		if a.Kind == statefile.KindTree {
			continue
		}
		t.Counts[a.Cause][a.Verb]++
		t.Verbs[a.Verb]++
	}
	for _, b := range p.Blocks {
		t.Unchanged += b.Unchanged
		if b.Kind == statefile.KindSecret {
			t.Secrets += b.Unchanged
		}
		t.Left += b.Left
	}
	for _, q := range p.Problems {
		if q.Blocked || q.Guard {
			t.Blocked++
		} else {
			t.Failed++
		}
	}
	for _, r := range p.Registries {
		if r.Touched {
			t.Registries = append(t.Registries, r.Config.Host)
		}
	}
	t.Registries = slices.Compact(t.Registries)
	return t
}

// registries lists the settings that applying the plan needs, and marks the
// hosts that an action reads from or writes to.
func (b *builder) registries() {
	touched := map[string]bool{}
	for i := range b.plan.Actions {
		a := &b.plan.Actions[i]
		if a.Verb == Forget || a.Kind == statefile.KindTree || a.Kind == statefile.KindSecret {
			continue
		}
		if a.From.Host != "" && a.Verb != Adopt {
			touched[a.From.Host] = true
		}
		touched[a.To.Host] = true
	}
	described := map[string]bool{}
	for _, r := range b.in.Config.Registries {
		described[r.Host] = true
		kept := Registry{Config: r, Auth: r.Auth != nil, Touched: touched[r.Host]}
		kept.Config.Auth, kept.Config.Range = nil, config.Range{}
		b.plan.Registries = append(b.plan.Registries, kept)
	}
	for _, host := range slices.Sorted(maps.Keys(touched)) {
		if !described[host] {
			b.plan.Registries = append(b.plan.Registries, Registry{Config: config.Registry{Host: host, Kind: "generic"}, Touched: true})
		}
	}
	slices.SortStableFunc(b.plan.Registries, func(x, y Registry) int {
		return cmp.Or(cmp.Compare(x.Config.Host, y.Config.Host), cmp.Compare(x.Config.Path, y.Config.Path))
	})
}

// Change is what the state says differently once action i has succeeded: a
// record, or that there is none any more.
func (p *Plan) Change(i int) statefile.Change {
	a := &p.Actions[i]
	if a.Verb == Delete || a.Verb == Forget {
		return statefile.Remove(a.Address)
	}
	block := &p.Blocks[a.Block]
	if a.Kind == statefile.KindSecret {
		return statefile.Put(SecretRecord(block, a.Address, a.Secret))
	}
	r := statefile.Record{Address: a.Address, Kind: a.Kind}
	switch a.Kind {
	case statefile.KindTree:
		r.Destination, r.Selection, r.OnRemove, r.Protect = block.Destination, block.Selection, block.OnRemove, block.Protect
		return statefile.Put(r)
	case statefile.KindImage:
		r.Destination, r.OnRemove, r.Protect = block.Destination, block.OnRemove, block.Protect
	case statefile.KindRepo:
		r.Destination, r.Created = a.To.String(), true
		return statefile.Put(r)
	case statefile.KindReferrers:
		if a.Want == "" { // only images of an index had any: nothing to compare with later
			return statefile.Remove(a.Address)
		}
		r.Digest = a.Want
		return statefile.Put(r)
	}
	r.Digest, r.Selection = a.Want, platforms(block.Copy)
	if a.Pin != a.Want {
		r.Source = a.Pin
	}
	return statefile.Put(r)
}
