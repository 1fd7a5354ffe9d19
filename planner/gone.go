package planner

import (
	"fmt"
	"strings"

	"freightliner/config"
	"freightliner/providers"
	"freightliner/statefile"
)

// gone plans the end of a block that only the state knows, or of everything
// when all is destroyed.
//
// Why this deletes nothing that is not ours, or that was not asked for: it
// deletes only what a record names, only when on_remove = "delete" was applied
// before the block went away or destroy was called, never below a record that
// says prevent_destroy, and only while the destination has exactly the recorded
// digest. Everything else is forgotten, which touches no registry.
func (b *builder) gone(g goneWorld) {
	if g.record.Kind == statefile.KindSecret {
		b.goneSecret(g)
		return
	}
	block := b.block(Block{
		Address: g.address, Kind: g.record.Kind, Destination: g.record.Destination,
		OnRemove: g.record.OnRemove, Protect: g.record.Protect,
	})
	if !g.found {
		b.plan.Blocks[block].Kind = statefile.Kind(g.address[:max(strings.IndexByte(g.address, '.'), 0)])
	}
	if g.record.Protect {
		b.problem(Problem{
			Address: g.address, Class: providers.Conflict, Guard: true,
			Summary: "it is protected: the state remembers prevent_destroy, also now that the block is gone",
			Hint:    "Put the block back with prevent_destroy = false, apply, and then remove it.",
		})
		return
	}
	reason := "removed from the configuration"
	if b.in.Destroy {
		reason = "destroy"
	}
	deletes := b.in.Destroy || g.record.OnRemove == "delete"
	complete := g.left == 0
	var last []int
	for _, m := range g.members {
		a := Action{
			Address: m.record.Address, Kind: m.record.Kind, Verb: Forget, Cause: ByConfig, Reason: reason, Block: block,
			To: m.to, ToTag: m.tag, Observed: m.dest, Prior: m.record.Digest,
		}
		by, claimed := "", false
		if deletes && m.tag != "" {
			by, claimed = b.wanted(m.to, m.tag, -1)
		}
		switch {
		case !deletes || m.tag == "":
		case claimed:
			a.Reason += ", and " + by + " writes it now"
		case m.to.Host == "":
			a.Reason += ", and its block's record is missing, so that nobody knows where it is"
		case m.err != nil:
			b.failed(a.Address, m.err, config.Range{})
			complete = false
			continue
		case m.dest == "":
			a.Reason += ", and is gone at the destination"
		case m.dest != m.record.Digest:
			a.Reason += ", and somebody put other content at the destination, which is left alone"
		case by != "":
			b.problem(Problem{
				Address: a.Address, Class: providers.Conflict, Blocked: true,
				Summary: fmt.Sprintf("%s is kept: %s may write it too, and was not looked at", m.to.Tag(m.tag), by),
			})
			complete = false
			continue
		default:
			a.Verb, a.Requests = Delete, 2
		}
		last = append(last, b.act(a))
	}
	// The block's record says where the others are and protects them: it goes
	// when nothing is left below it.
	if g.found && g.record.Kind == statefile.KindTree && complete && b.filter.wants(g.address) {
		b.act(Action{Address: g.address, Kind: statefile.KindTree, Verb: Forget, Cause: ByConfig, Reason: reason, Block: block, Prior: g.record.Digest, Needs: last})
	}
	b.ceiling(g, last)
}

// ceiling holds the deletes of a removed block to max_deletes; destroy lifts
// it, since deleting is what was asked.
func (b *builder) ceiling(g goneWorld, actions []int) {
	limit := b.in.Config.Defaults.MaxDeletes
	if b.in.MaxDeletes.Set {
		limit = b.in.MaxDeletes
	}
	if b.in.Destroy || !limit.Set || g.record.Kind != statefile.KindTree {
		return
	}
	deletes, managed := 0, 0
	for record := range b.in.State.Under(g.address + "/") {
		if record.Kind == statefile.KindTag {
			managed++
		}
	}
	for _, i := range actions {
		if b.plan.Actions[i].Verb == Delete {
			deletes++
		}
	}
	if ceiling := limit.Of(managed); deletes > ceiling {
		b.problem(Problem{
			Address: g.address, Class: providers.Conflict, Guard: true,
			Summary: fmt.Sprintf("the block is gone and on_remove = \"delete\": %d of %d tags would be deleted, more than max_deletes allows (%d)", deletes, managed, ceiling),
			Hint:    "If that is what you want, run once with -max-deletes 100%, or use freightliner destroy -target.",
		})
	}
}
