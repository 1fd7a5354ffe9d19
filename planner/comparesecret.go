package planner

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"freightliner/config"
	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/statefile"
)

// secret compares one secret:
//
//	exists | ours    | value            | action
//	no     | any     |                  | create
//	yes    | no      |                  | blocked, unless adopt = true or its owner tag names the block
//	yes    | yes     | same             | nothing; adopt where somebody wrote the same again; update where only metadata differs
//	yes    | yes     | differs          | update: config where the version is the one we wrote, else drift
//	yes    | yes     | not compared     | update where the inputs changed; where somebody else wrote it, blocked (or adopted where the value is generated)
//	not told         |                  | a problem: a refusal is never taken for absence
//
// Why this can not lose a value unseen: a write carries the version that was
// compared (Expect), and the store refuses it when another one is current. What
// was not compared and is not the version we wrote is not overwritten at all.
func (b *builder) secret(index int, u unit) {
	s, w := u.secret, b.world.secrets[index]
	side := &secretSide{builder: b, index: index, unit: u, s: s, w: w, expect: w.info.Version}
	side.block = b.block(Block{
		Address: s.Address, Kind: statefile.KindSecret, Source: wayOf(s), Destination: w.place + ":" + s.Name,
		OnRemove: onRemove(s.Lifecycle), Protect: s.Lifecycle.PreventDestroy, Selection: metadataOf(s).fingerprint(), After: u.after,
	})
	switch {
	case w.err != nil:
		b.failed(s.Address, w.err, s.Range)
		return
	case w.skip:
		return
	}
	side.prior, side.recorded = b.in.State.Lookup(s.Address)
	if side.recorded && (side.prior.Destination != w.place || side.prior.Name != s.Name) {
		side.prior, side.recorded = statefile.Record{}, false // it speaks of another secret, which is left alone
		side.moved = true
	}
	side.coming = b.coming(u)
	if w.absent != nil && !side.coming {
		b.failed(s.Address, w.absent, s.Range)
		return
	}
	side.compare()
}

// coming reports whether another block of this plan writes what u copies: then
// what is copied is what that makes, and not what is there now.
func (b *builder) coming(u unit) bool {
	return u.secret.Copy != nil && u.secret.Copy.Version == "" && slices.ContainsFunc(u.feeders, func(feeder int) bool {
		i, acts := b.secretActions[feeder]
		return acts && b.plan.Actions[i].Secret.Write
	})
}

// secretSide compares one secret.
type secretSide struct {
	*builder
	index    int
	unit     unit
	s        *config.SecretBlock
	w        *secretWorld
	block    int
	prior    statefile.Record
	recorded bool
	moved    bool   // the block managed another secret before
	coming   bool   // another block of this plan writes what it copies
	expect   string // version to be replaced
}

func wayOf(s *config.SecretBlock) string {
	switch {
	case s.Value != nil:
		return "value"
	case s.JSON != nil:
		return "json"
	case s.Generate != nil:
		return "generate"
	case s.Copy != nil:
		return "copy"
	}
	return ""
}

func (d *secretSide) compare() {
	info := d.w.info
	switch {
	case !d.w.found:
		d.create()
	case !info.Deletion.IsZero():
		d.blocked(fmt.Sprintf("it waits for its deletion on %s", info.Deletion.UTC().Format(time.DateOnly)),
			fmt.Sprintf("Take the deletion back with \"freightliner secret restore -store %s %s\".", d.s.Store, providers.Printable(d.s.Name, 200)))
	case info.ManagedBy != "" && d.s.Manage != "metadata":
		d.blocked(fmt.Sprintf("%s owns it and writes its values", providers.Printable(info.ManagedBy, 200)), "Use manage = \"metadata\".")
	case info.Rotates && d.s.Manage == "value" && d.s.Generate == nil:
		d.blocked("its store rotates it by itself, which would be undone with each apply", "Use manage = \"metadata\", or \"keys\" for those that are not rotated, or end the rotation.")
	case info.Owner != "" && info.Owner != d.s.Address && !d.recorded && !d.s.Adopt:
		d.blocked("it exists and belongs to "+providers.Printable(info.Owner, 200), "Remove it there first, or write adopt = true to take it over.")
	case info.Owner == "" && !d.recorded && !d.s.Adopt:
		d.blocked("it exists and freightliner did not make it", "Write adopt = true to take it over.")
	case d.s.Manage == "metadata":
		d.settle(false, "", "")
	case info.Version == "":
		d.settle(true, ByDrift, "it exists and has no value")
	case info.Trouble != "" && d.s.Generate != nil && d.recorded:
		d.blocked(fmt.Sprintf("its current version is %s, and a generated value can not be made again", info.Trouble), "Enable the version, or change version to make a new value.")
	case info.Trouble != "":
		d.settle(true, ByDrift, "its current version is "+info.Trouble)
	default:
		d.value()
	}
}

// value decides about a secret that has a current, readable version.
func (d *secretSide) value() {
	w, s := d.w, d.s
	foreign := !d.recorded || d.prior.Version != w.info.Version
	inputs := inputsOf(s, w.source.ID)
	changed := d.recorded && d.prior.Inputs != inputs
	told := d.recorded && versionIn(d.prior.Inputs) != s.Version
	somebody := "written by somebody else" + versionNote(w.info)
	if d.rolledBack() {
		somebody = "an older version was made current again" + versionNote(w.info)
	}
	switch {
	case d.coming:
		d.settle(true, ByConfig, "its source is going to be written")
	case w.verdict == same:
		d.settle(false, "", "")
	case w.verdict == differs && !d.recorded:
		d.settle(true, ByConfig, "replaces a value that freightliner did not write")
	case w.verdict == differs && foreign:
		d.settle(true, ByDrift, "the value differs; "+somebody)
	case w.verdict == differs && s.Copy != nil:
		d.settle(true, ByUpstream, "the source has a new version")
	case w.verdict == differs:
		d.settle(true, ByConfig, "the value changed")
	case s.Generate != nil:
		d.generated(foreign, told, somebody)
	case !d.recorded && s.Adopt || !d.recorded && w.info.Owner == s.Address:
		d.settle(false, "", "") // taken over as it is: its value can not be compared
	case foreign && !told && d.recorded && w.settle:
		d.expect = d.prior.Version // which the interrupted run replaced, or else somebody did, and the store refuses
		d.settle(true, ByConfig, "an interrupted run was about to write it")
	case foreign && !told:
		d.unseen(somebody)
	case told:
		d.settle(true, ByConfig, "its version changed in the configuration")
	case w.wish == differs:
		d.settle(true, ByConfig, "the value changed")
	case changed && s.Copy != nil:
		d.settle(true, ByUpstream, "the source has a new version")
	case changed:
		d.settle(true, ByConfig, "its value comes from elsewhere now")
	default:
		d.settle(false, "", "")
	}
}

// rolledBack reports whether the version that is current is older than the one
// that we wrote. Times come from the store or, where it told none, from our
// clock, so that a few minutes tell nothing.
func (d *secretSide) rolledBack() bool {
	wrote, err := time.Parse(time.RFC3339, d.prior.At)
	changed := d.w.info.Changed
	return err == nil && !changed.IsZero() && d.prior.Version != d.w.info.Version && changed.Before(wrote.Add(-5*time.Minute))
}

// generated decides about a generated value. It is made once: what somebody
// else wrote over it is kept, since putting a new random value in its place
// helps nobody.
func (d *secretSide) generated(foreign, told bool, somebody string) {
	switch {
	case told:
		d.settle(true, ByConfig, "its version changed in the configuration")
	case d.w.due && !foreign:
		d.settle(true, ByConfig, "it is older than rotate_after")
	case foreign && d.recorded && d.w.settle:
		d.settle(false, "", "")
	case foreign && d.recorded:
		d.settle(false, ByDrift, somebody+"; a generated value is made once, so it is kept")
	case d.recorded && d.prior.Inputs != inputsOf(d.s, d.w.source.ID):
		d.settle(false, ByConfig, "its recipe changed; the value is kept until its version changes or rotate_after is over")
	default:
		d.settle(false, "", "")
	}
}

// unseen keeps a version of somebody else that could not be compared.
func (d *secretSide) unseen(somebody string) {
	if d.s.Adopt {
		d.settle(false, ByDrift, somebody)
		return
	}
	d.blocked(somebody+", and values are not compared here (verify = \"blind\")", "Change version to write ours again, or write adopt = true to keep theirs.")
}

func versionNote(info secret.Info) string {
	note := fmt.Sprintf(" (version %s", providers.Printable(info.Version, 80))
	if !info.Changed.IsZero() {
		note += " of " + info.Changed.UTC().Format("2006-01-02 15:04 MST")
	}
	return note + ")"
}

func (d *secretSide) create() {
	if d.s.Manage == "metadata" {
		d.blocked("it does not exist, and manage = \"metadata\" makes no secret", "Make it first, or give it a value here.")
		return
	}
	cause, reason := ByConfig, "new in the configuration"
	switch {
	case d.recorded && d.emptied():
		d.blocked("it is gone from the store, and so is all else that the state knows there, generated values among it, which can not be made again",
			"Look whether this is the store (a path, a checkout, an account). If it was emptied, drop the records with \"freightliner state rm\", and new values are made.")
		return
	case d.recorded:
		cause, reason = ByDrift, "it is gone from the store"
		if d.s.Generate != nil {
			reason += "; its value is lost and a new one is made"
		}
	case d.moved:
		reason = "the block names another secret now; the old one is left alone"
	}
	c := d.change()
	c.Write, c.Metadata = true, metadataOf(d.s)
	d.add(Create, cause, reason, c)
}

// emptied reports whether of all secrets that the state knows in this store, and
// that were looked at, none is there, there were several, and values would be
// lost by making them anew. That looks less
// like secrets that were deleted than like another store in the place of ours: a
// directory that was not checked out, another account's keys.
func (d *secretSide) emptied() bool {
	empty, counted := d.empty[d.w.place]
	if !counted {
		empty = d.missing(d.w.place) > 1
		d.empty[d.w.place] = empty
	}
	return empty
}

// missing counts the recorded secrets of a store if none of them is there and
// one of them was generated.
func (b *builder) missing(place string) int {
	n, generated := 0, false
	for i, u := range b.world.units {
		w := b.world.secrets[i]
		if u.secret == nil || w.place != place {
			continue
		}
		if w.found || w.err != nil {
			return 0
		}
		if r, recorded := b.in.State.Lookup(u.address); recorded && r.Destination == place && r.Name == u.secret.Name {
			n++
			generated = generated || u.secret.Generate != nil
		}
	}
	if !generated {
		return 0
	}
	return n
}

// settle plans what is left once it is known whether the value has to be
// written: metadata that differs, a record that differs, or nothing.
func (d *secretSide) settle(write bool, cause Cause, reason string) {
	c := d.change()
	c.Write = write
	metaCause, metaReason := d.metadata()
	c.Update = metaReason != ""
	if c.Update {
		c.Metadata = metadataOf(d.s)
	}
	switch {
	case write && c.Update:
		d.add(Update, cause, reason+"; "+metaReason, c)
	case write:
		d.add(Update, cause, reason, c)
	case c.Update:
		d.add(Update, metaCause, metaReason, c)
	case d.w.settle:
		d.add(Adopt, ByConfig, "an interrupted run was about to write it", c)
	case d.recorded && d.prior == d.record(c):
		d.plan.Blocks[d.block].Unchanged++
	case reason != "":
		d.add(Adopt, cause, reason, c)
	case !d.recorded:
		d.add(Adopt, ByConfig, "it is there already", c)
	case d.prior.Version != d.w.info.Version && d.s.Manage != "metadata":
		d.add(Adopt, ByDrift, "written again with the same value"+versionNote(d.w.info), c)
	default:
		d.add(Adopt, ByConfig, "only what is recorded of it changes", c)
	}
}

// metadata compares what the configuration says besides the value; the reason
// is empty where nothing differs.
func (d *secretSide) metadata() (Cause, string) {
	what := metadataOf(d.s).differs(d.s.Address, wayOf(d.s), d.w.info)
	switch {
	case what == "":
		return "", ""
	case what == anotherOwner:
		return ByConfig, what
	case what == theReplicas && slices.ContainsFunc(d.w.info.Metadata.Replicas, failedReplica):
		i := slices.IndexFunc(d.w.info.Metadata.Replicas, failedReplica)
		r := d.w.info.Metadata.Replicas[i]
		return ByDrift, fmt.Sprintf("the replica in %s %s", providers.Printable(r.Region, 80), providers.Printable(r.Status, 200))
	case d.recorded && d.prior.Selection == d.plan.Blocks[d.block].Selection:
		return ByDrift, what + " changed in the store"
	}
	return ByConfig, what + " changed"
}

const (
	anotherOwner = "its owner tag names another owner or none"
	theReplicas  = "the replicas"
)

// Holds reports whether a secret has the metadata that the block at address,
// whose value comes by way, wants.
func (m *SecretMetadata) Holds(address, way string, info secret.Info) bool {
	return m.differs(address, way, info) == ""
}

// differs names what differs first; empty for nothing.
func (m *SecretMetadata) differs(address, way string, info secret.Info) string {
	have, want := info.Metadata, m.Provider(address)
	switch {
	case want.Description != nil && *want.Description != deref(have.Description):
		return "the description"
	case want.Labels != nil && !maps.Equal(want.Labels, have.Labels):
		return "the labels"
	case want.KMSKey != nil && *want.KMSKey != deref(have.KMSKey):
		return "the key"
	case want.Replicas != nil && !sameReplicas(want.Replicas, have.Replicas):
		return theReplicas
	case info.Owner != address && way != "":
		return anotherOwner
	}
	return ""
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// sameReplicas compares regions and, where the configuration names one, keys.
func sameReplicas(want, have []secret.Replica) bool {
	if len(want) != len(have) {
		return false
	}
	for _, r := range want {
		if !slices.ContainsFunc(have, func(h secret.Replica) bool {
			return h.Region == r.Region && (r.KMSKey == "" || r.KMSKey == h.KMSKey) && !failedReplica(h)
		}) {
			return false
		}
	}
	return true
}

func failedReplica(r secret.Replica) bool { return len(r.Status) >= 6 && r.Status[:6] == "failed" }

// change is what every action on this secret has in common.
func (d *secretSide) change() *SecretChange {
	w, s := d.w, d.s
	c := &SecretChange{
		Store: s.Store, Place: w.place, Name: s.Name, Way: wayOf(s), Merge: s.Manage == "keys",
		Expect: d.expect, Etag: w.info.Metadata.Etag, Prior: d.prior.Version, At: timeText(w.info.Changed), Found: w.found, Settle: w.settle,
		Check: w.check, Inputs: inputsOf(s, w.source.ID), Keys: w.keys, Window: s.RecoveryDays,
	}
	if drop := dropped(d.prior, w.keys); s.Manage == "keys" && len(drop) > 0 {
		text, _ := json.Marshal(drop)
		c.Drop = string(text)
	}
	if s.Generate != nil {
		c.Recipe = &secret.Recipe{Length: s.Generate.Length, Charset: s.Generate.Charset}
	}
	if s.Copy != nil {
		c.From = &SecretSource{Store: s.Copy.Store, Name: s.Copy.Name, Version: w.source.ID}
		if d.coming {
			c.From.Version, c.Inputs = "", inputsOf(s, "")
		}
	}
	return c
}

func (d *secretSide) record(c *SecretChange) statefile.Record {
	r := SecretRecord(&d.plan.Blocks[d.block], d.s.Address, c)
	r.Fingerprint = d.prior.Fingerprint // of the same value: a fresh salt is no change
	if r.Version == d.prior.Version {
		r.At = d.prior.At // of the same version: stores and clocks differ by a little
	}
	return r
}

// SecretRecord is what the state says of a secret whose current version is
// c.Expect.
func SecretRecord(block *Block, address string, c *SecretChange) statefile.Record {
	r := statefile.Record{
		Address: address, Kind: statefile.KindSecret, Destination: c.Place, Name: c.Name, Selection: block.Selection,
		OnRemove: block.OnRemove, Protect: block.Protect, Inputs: c.Inputs, Keys: c.Keys, Version: c.Expect, At: c.At,
	}
	if c.Window > 0 {
		r.Window = fmt.Sprint(c.Window)
	}
	if c.Way == "" {
		r.Version, r.At = "", "" // the value is somebody else's
	}
	return r
}

func (d *secretSide) add(verb Verb, cause Cause, reason string, c *SecretChange) {
	a := Action{Address: d.s.Address, Kind: statefile.KindSecret, Verb: verb, Cause: cause, Reason: reason, Block: d.block, Secret: c}
	switch {
	case verb == Create:
		a.Requests = 1
	case verb == Update:
		a.Requests = 3
	}
	for _, feeder := range d.unit.feeders {
		if from, ok := d.secretActions[feeder]; ok {
			a.Needs = append(a.Needs, from)
		}
	}
	d.secretActions[d.index] = d.act(a)
}

// blocked keeps a secret as it is and says why.
func (d *secretSide) blocked(why, hint string) {
	d.problem(Problem{
		Address: d.s.Address, Class: providers.Conflict, Blocked: true, Range: d.s.Range,
		Drift:   d.recorded, // it was ours and as it should be when that was written
		Summary: fmt.Sprintf("secret %s:%s is left alone: %s", d.w.place, providers.Printable(d.s.Name, 200), why), Hint: hint,
	})
}

// goneSecret plans the end of a secret whose block is gone. It deletes only
// what the state says is ours, in the version that was written last, when
// on_remove = "delete" was applied before the block went away or destroy was
// called, and never what is protected; everything else is forgotten, which
// touches no store.
func (b *builder) goneSecret(g goneWorld) {
	r := g.record
	deletes := b.in.Destroy || r.OnRemove == "delete"
	block := b.block(Block{Address: g.address, Kind: statefile.KindSecret, Destination: r.Destination + ":" + r.Name, OnRemove: r.OnRemove, Protect: r.Protect})
	if deletes && r.Protect {
		b.problem(Problem{
			Address: g.address, Class: providers.Conflict, Guard: true,
			Summary: "it is protected: a secret is, unless its lifecycle block says prevent_destroy = false",
			Hint:    "Write prevent_destroy = false, apply, and then remove it; or drop only the record with \"freightliner state rm\".",
		})
		return
	}
	reason := "removed from the configuration"
	if b.in.Destroy {
		reason = "destroy"
	}
	c := &SecretChange{Place: r.Destination, Name: r.Name, Prior: r.Version, Store: g.store}
	a := Action{Address: g.address, Kind: statefile.KindSecret, Verb: Forget, Cause: ByConfig, Reason: reason, Block: block, Secret: c}
	if r.Window != "" {
		_, _ = fmt.Sscan(r.Window, &c.Window) // what is no number is the store's default
	}
	w := g.secret
	by, certain := "", true
	if deletes {
		by, certain = b.claimed(r)
	}
	switch {
	case !g.found:
		a.Reason = "an interrupted run was about to make it, and its block is gone; what there is of it is left alone"
	case !deletes:
	case r.Version == "":
		a.Reason += "; its value is not ours"
	case by != "" && certain:
		a.Reason += ", and " + by + " has it now"
	case by != "":
		b.problem(Problem{
			Address: g.address, Class: providers.Conflict, Blocked: true,
			Summary: fmt.Sprintf("secret %s:%s is kept: %s may be the same, and was not looked at", r.Destination, providers.Printable(r.Name, 200), by),
		})
		return
	case w.err != nil:
		b.failed(g.address, w.err, config.Range{})
		return
	case !w.found:
		a.Reason += ", and is gone from the store"
	case !w.info.Deletion.IsZero():
		a.Reason += ", and waits for its deletion already"
	case w.info.Version != r.Version && !w.settle:
		b.problem(Problem{
			Address: g.address, Class: providers.Conflict, Blocked: true, Drift: true,
			Summary: fmt.Sprintf("secret %s:%s is kept: it was written by somebody else%s", r.Destination, providers.Printable(r.Name, 200), versionNote(w.info)),
			Hint:    "Delete it by hand, or drop the record with \"freightliner state rm\".",
		})
		return
	default:
		// Where an interrupted run was about to write it, the executor finds out
		// whether the version that is there is ours.
		a.Verb, a.Requests, c.Expect, c.Found = Delete, 1, r.Version, true
		if !w.info.LastRead.IsZero() {
			a.Reason += "; last read on " + w.info.LastRead.UTC().Format(time.DateOnly)
		}
	}
	b.act(a)
}

// claimed is the block of the configuration that has the secret of a record;
// certain is false where its store was not looked at.
func (b *builder) claimed(r statefile.Record) (address string, certain bool) {
	for i, u := range b.world.units {
		if u.secret == nil || u.secret.Name != r.Name {
			continue
		}
		switch b.world.secrets[i].place {
		case r.Destination:
			return u.address, true
		case "":
			address = u.address
		}
	}
	return address, false
}
