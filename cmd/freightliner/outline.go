package main

import (
	"strings"

	"freightliner/planner"
	"freightliner/providers"
	"freightliner/statefile"
)

// outline is a plan arranged for a reader: deletes apart, all else by block and
// repository. The text and the Markdown view are drawn from it.
type outline struct {
	plan    *planner.Plan
	totals  planner.Totals
	deletes []int // indices into plan.Actions
	blocks  []outlineBlock
}

type outlineBlock struct {
	*planner.Block
	rules   bool // the block's own record changes
	repos   []*outlineRepo
	sum     tallied
	deletes int
}

// outlineRepo is one destination repository of a block.
type outlineRepo struct {
	name    string // below the block's destination; the destination itself when that is the repository
	actions []int
	sum     tallied
}

// tallied counts actions.
type tallied struct {
	verbs          map[planner.Verb]int
	tags, subjects int // subjects: images whose referrers are copied
	secrets        int
	bytes, present int64
}

func (t *tallied) add(a *planner.Action) {
	if t.verbs == nil {
		t.verbs = map[planner.Verb]int{}
	}
	t.verbs[a.Verb]++
	switch a.Kind {
	case statefile.KindTag, statefile.KindImage:
		t.tags++
	case statefile.KindReferrers:
		t.subjects++
	case statefile.KindSecret:
		t.secrets++
	}
	t.bytes += a.Bytes
	t.present += a.Present
}

// arrange keeps the plan's order within a repository, and the order in which
// repositories first appear within a block.
func arrange(p *planner.Plan) *outline {
	o := &outline{plan: p, totals: p.Totals(), blocks: make([]outlineBlock, len(p.Blocks))}
	for i := range p.Blocks {
		o.blocks[i].Block = &p.Blocks[i]
	}
	byName := make([]map[string]*outlineRepo, len(p.Blocks))
	for i := range p.Actions {
		a := &p.Actions[i]
		b := &o.blocks[a.Block]
		switch {
		case a.Verb == planner.Delete:
			o.deletes = append(o.deletes, i)
			b.deletes++
			continue
		case a.Kind == statefile.KindTree:
			b.rules = true
			continue
		}
		name := repoName(b.Block, a)
		repo := byName[a.Block][name]
		if repo == nil {
			repo = &outlineRepo{name: name}
			if byName[a.Block] == nil {
				byName[a.Block] = map[string]*outlineRepo{}
			}
			byName[a.Block][name] = repo
			b.repos = append(b.repos, repo)
		}
		repo.actions = append(repo.actions, i)
		repo.sum.add(a)
		b.sum.add(a)
	}
	return o
}

// counted reports whether the totals count an action: not the records of
// blocks, which nobody outside sees.
func counted(a *planner.Action) bool { return a.Kind != statefile.KindTree }

// repoName is the repository of an action as its block's reader knows it.
func repoName(b *planner.Block, a *planner.Action) string {
	if a.Secret != nil {
		return b.Destination
	}
	rest, ok := strings.CutPrefix(a.Address, b.Address+"/")
	if !ok || rest == "" {
		return a.To.String()
	}
	name, _, _ := strings.Cut(rest, "@")
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		name = name[:i]
	}
	if name == "" {
		return a.To.String()
	}
	return name
}

// label is what an action is about, within its repository.
func label(a *planner.Action) string {
	switch {
	case a.Secret != nil:
		return secretLabel(a)
	case a.Kind == statefile.KindRepo:
		return "repository"
	case a.Kind == statefile.KindReferrers:
		_, subject, _ := strings.Cut(a.Address, "@")
		return "@" + providers.Digest(subject).Short() + " (" + plural(len(a.Referrers), "referrer") + ")"
	case a.ToTag != "":
		return a.ToTag
	}
	return a.Address
}

// destination is the full name of what an action writes.
func destination(a *planner.Action) string {
	switch {
	case a.Secret != nil:
		return a.Secret.Place + ":" + a.Secret.Name
	case a.ToTag != "":
		return a.To.Tag(a.ToTag)
	case a.Kind == statefile.KindReferrers:
		_, subject, _ := strings.Cut(a.Address, "@")
		return a.To.String() + "@" + subject
	case a.To != (providers.Repository{}):
		return a.To.String()
	}
	return a.Address
}

// sourceName is the full name of what an action copies; empty when it copies nothing.
func sourceName(a *planner.Action) string {
	switch {
	case a.From == (providers.Repository{}):
		return ""
	case a.FromTag != "":
		return a.From.Tag(a.FromTag)
	case a.Pin != "":
		return a.From.At(a.Pin)
	}
	return a.From.String()
}

// movement is the change of content in short digests.
func movement(a *planner.Action) string {
	if a.Secret != nil {
		return secretMovement(a.Secret)
	}
	was, will := a.Observed.Short(), a.Want.Short()
	switch {
	case a.Verb == planner.Delete || a.Verb == planner.Forget:
		if was == "" {
			was = a.Prior.Short()
		}
		return was
	case was != "" && will != "" && was != will:
		return was + " -> " + will
	case will != "":
		return will
	}
	return was
}

// verbPhrase is "2 to delete, 3 to update", in the order of planner.Verbs.
func verbPhrase(verbs map[planner.Verb]int) string {
	var parts []string
	for _, verb := range planner.Verbs {
		n := verbs[verb]
		switch {
		case n == 0:
		case verb == planner.CreateRepository:
			parts = append(parts, plural(n, "repository")+" to create")
		default:
			parts = append(parts, count(n)+" to "+verbWords[verb])
		}
	}
	return strings.Join(parts, ", ")
}

// phrase is a group in one line: "212 tags to create, 4.1 GB to move", or
// "212 tags: 210 to create, 2 to update".
func (t *tallied) phrase() string {
	var things []string
	if t.tags > 0 {
		things = append(things, plural(t.tags, "tag"))
	}
	if t.subjects > 0 {
		things = append(things, "referrers of "+plural(t.subjects, "image"))
	}
	if t.secrets > 0 {
		things = append(things, plural(t.secrets, "secret"))
	}
	text := verbPhrase(t.verbs)
	switch verb, all := only(t.verbs); {
	case all && t.tags > 0 && t.subjects == 0:
		text = plural(t.tags, "tag") + " to " + verbWords[verb]
	case len(things) > 0:
		text = list(things) + ": " + text
	}
	if t.bytes > 0 {
		text += ", " + size(t.bytes) + " to move"
	}
	if t.present > 0 {
		text += ", " + size(t.present) + " there already"
	}
	return text
}

// only is the one verb of all, if it is one.
func only(verbs map[planner.Verb]int) (planner.Verb, bool) {
	for verb := range verbs {
		return verb, len(verbs) == 1
	}
	return "", false
}

// unobservable reports whether the plan says nothing at all: everything it
// looked at failed.
func unobservable(p *planner.Plan, t planner.Totals) bool {
	return t.Failed > 0 && len(p.Actions) == 0 && t.Unchanged == 0 && t.Left == 0
}
