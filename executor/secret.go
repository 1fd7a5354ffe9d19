package executor

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"freightliner/planner"
	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/statefile"
)

// A write of a secret can not be repeated blindly: a new version is a new
// version. So its token is journalled as an intent before the first call, and
// stays the same for every further try:
//
//	resolve value -> intent(token, expected version) -> write -> done(record)
//	                        |
//	                     crash, lost answer
//	                        v
//	next run: settle(token): made  -> done(record)
//	                         not   -> write with the same token
//
// The intent says where, after which version and for what the write was, since
// the block may be elsewhere or want something else by then.

// secretWork is what a write needs again when it is tried again.
type secretWork struct {
	token     string
	value     secret.Value
	source    string // version that was copied
	expect    string // the version to be replaced
	version   secret.Version
	written   bool
	announced bool // the journal has the token
	settled   bool // what an interrupted run left is known
}

// secret performs an action on a secret.
func (w *walk) secret(i int) result {
	a := &w.plan.Actions[i]
	c := a.Secret
	if w.secretRecorded(a) {
		return result{already: true} // an earlier apply of the same plan did it
	}
	if err := w.secretPrior(a); err != nil {
		return result{stale: true, err: err}
	}
	adopt, err := w.agreed(i)
	if err != nil {
		return result{stale: true, err: err}
	}
	if a.Verb == planner.Forget {
		return w.journal(result{}, w.plan.Change(i))
	}
	store, err := w.run.Secrets.Store(w.ctx, c.Store)
	if err != nil {
		return result{err: err}
	}
	if store.Place() != c.Place {
		return result{stale: true, err: w.secretChanged(a, "the store %s is %s now, the plan was made for %s", c.Store, store.Place(), c.Place)}
	}
	if !adopt {
		if r := w.belongs(a); r.err != nil {
			return r
		}
	}
	work := w.secretWorkOf(i)
	done, r := w.settle(i, work)
	if r.err != nil || done {
		return r
	}
	switch a.Verb {
	case planner.Delete:
		return w.deleteSecret(i, work)
	case planner.Adopt:
		return w.adoptSecret(i, work)
	}
	return w.putSecret(i, work)
}

func (w *walk) secretWorkOf(i int) *secretWork {
	w.mu.Lock()
	defer w.mu.Unlock()
	work := w.secretWork[i]
	if work == nil {
		work = &secretWork{expect: w.plan.Actions[i].Secret.Expect}
		w.secretWork[i] = work
	}
	return work
}

// secretRecorded is recorded for secrets: the version that a write makes is not
// known to the plan, only which one it was to replace.
func (w *walk) secretRecorded(a *planner.Action) bool {
	have, found := w.run.State.Lookup(a.Address)
	_, open := w.intents[a.Address]
	switch {
	case !w.plan.Saved || open: // what is open has to be settled, whatever the state says
		return false
	case a.Verb == planner.Delete || a.Verb == planner.Forget:
		return !found
	case !a.Secret.Write && a.Secret.Update:
		return false // the record may be the same before and after; the store tells
	}
	want := w.secretRecord(a, &secretWork{})
	have.Fingerprint = ""
	if a.Secret.Write {
		if have.Version == a.Secret.Prior || have.Version == a.Secret.Expect {
			return false
		}
		have.Version, have.At, want.Version, want.At = "", "", "", ""
	}
	if from := a.Secret.From; from != nil && from.Version == "" {
		have.Inputs, want.Inputs = "", "" // the plan could not know the version
	}
	return found && have == want
}

// secretRecord is the record after the action has succeeded, with the version
// that was written as the current one, or else the one that the plan saw.
func (w *walk) secretRecord(a *planner.Action, work *secretWork) statefile.Record {
	c, v := *a.Secret, work.version
	if c.From != nil && c.From.Version == "" && work.source != "" {
		c.Inputs = c.CopiedInputs(work.source)
	}
	if v.ID != "" {
		if v.Created.IsZero() {
			v.Created = w.opts.Clock.Now() // the store does not say; it was just now
		}
		c.Expect, c.At = v.ID, v.Created.UTC().Truncate(time.Second).Format(time.RFC3339)
	}
	return planner.SecretRecord(&w.plan.Blocks[a.Block], a.Address, &c)
}

// secretPrior checks what the plan saw in the state. For a delete it is the
// proof of ownership: the state, not the plan file, says that this secret is
// ours, in this version, and that nobody protected it since.
func (w *walk) secretPrior(a *planner.Action) error {
	have, found := w.run.State.Lookup(a.Address)
	c := a.Secret
	if have.Destination != c.Place || have.Name != c.Name {
		if a.Verb == planner.Delete {
			return w.secretChanged(a, "the state does not say that %s:%s is ours", c.Place, c.Name)
		}
		have = statefile.Record{} // it speaks of another secret
	}
	switch {
	case have.Version != c.Prior && a.Verb != planner.Forget:
		return w.secretChanged(a, "the plan saw version %s in the state, now there is %s", orNone(c.Prior), orNone(have.Version))
	case a.Verb == planner.Delete && (!found || have.Protect):
		return w.secretChanged(a, "it is protected (prevent_destroy) or not ours")
	case a.Verb == planner.Delete && !w.plan.Destroy && have.OnRemove != "delete":
		return w.secretChanged(a, "the state does not say on_remove = \"delete\"")
	}
	var ours []string
	_ = json.Unmarshal([]byte(have.Keys), &ours) // "" is none
	for _, name := range dropped(c) {
		if !slices.Contains(ours, name) {
			return w.secretChanged(a, "it drops a key that the state does not call ours")
		}
	}
	return nil
}

// agreed holds an action of a saved plan against the configuration, see
// [planner.SecretAgreement]. adopt is true where the secret need not be ours.
func (w *walk) agreed(i int) (adopt bool, err error) {
	if !w.plan.Saved || w.run.Agrees == nil {
		return true, nil // the plan was made from the configuration just now
	}
	a := &w.plan.Actions[i]
	if adopt, err = w.run.Agrees(w.plan, i); err != nil {
		return false, w.secretChanged(a, "the plan does not agree with the configuration: %w", err)
	}
	return adopt, nil
}

// belongs looks whether a secret that the state does not know is ours, where a
// saved plan says so.
func (w *walk) belongs(a *planner.Action) result {
	c := a.Secret
	have, found := w.run.State.Lookup(a.Address)
	if a.Verb == planner.Create || found && have.Destination == c.Place && have.Name == c.Name {
		return result{} // a store makes no secret that is there
	}
	info, err := w.run.Secrets.DescribeSecret(w.ctx, c.Store, c.Name)
	switch {
	case err != nil:
		return result{err: err}
	case info.Owner != a.Address:
		return result{stale: true, err: w.secretChanged(a, "%s:%s is not ours, and the configuration does not say adopt = true", c.Place, c.Name)}
	}
	return result{}
}

func orNone(version string) string {
	if version == "" {
		return "none"
	}
	return version
}

func (w *walk) secretChanged(a *planner.Action, format string, args ...any) error {
	return &providers.Error{
		Class: providers.Conflict, Op: string(a.Verb) + " secret", On: a.Address, Err: fmt.Errorf(format, args...),
		Hint: "Something came between. Make a new plan.",
	}
}

// settle finds out what became of the write that an interrupted run left, before
// anything else is done with the secret. done means that nothing is left to do.
func (w *walk) settle(i int, work *secretWork) (done bool, r result) {
	a := &w.plan.Actions[i]
	intent, open := w.intents[a.Address]
	if !open || work.settled {
		return false, result{}
	}
	was, ours := planner.ParseSecretIntent(intent.Op)
	if !ours {
		return false, result{err: w.secretChanged(a, "an interrupted run announced %q, which this release does not know", providers.Printable(intent.Op, 80))}
	}
	c, expect := a.Secret, was.Expect
	if was.Place != c.Place || was.Name != c.Name {
		work.settled = true // the block named another secret then, which is left alone
		return false, result{}
	}
	intended := was.Purpose == c.Purpose()
	write := secret.Write{Name: c.Name, Expect: expect, Token: intent.Token, Owner: a.Address}
	if intended && (c.Way == "value" || c.Way == "json") && !c.Merge {
		write.Value, _ = w.payload(i, work) // without it the store goes by the token alone
	}
	if expect == "" && c.Metadata != nil {
		m := c.Metadata.Provider(owner(a))
		write.Create = &m
	}
	v, made, err := w.run.Secrets.Settle(w.ctx, secret.Why{Reason: "apply", Address: a.Address}, c.Store, write)
	if err != nil {
		return false, result{err: err}
	}
	if !made {
		work.settled = true
		if expect == c.Expect && intended && a.Verb != planner.Delete {
			work.token = intent.Token // the interrupted call may still be on its way: it and ours stay one
		}
		return false, result{}
	}
	seen := c.Expect == expect || c.Expect == v.ID // else somebody wrote after it, and the plan knows theirs
	same := seen && a.Verb != planner.Delete
	if same && c.Write {
		if same, err = w.wroteTheSame(i, work, v, intended); err != nil {
			return false, result{err: err}
		}
	}
	work.settled = true
	if !same {
		// What the interrupted run wrote is ours, but it is not what is wanted
		// now: the record must not say so, or nobody would ever write it.
		if seen {
			work.expect = v.ID
		}
		prior, _ := w.run.State.Lookup(a.Address)
		record := w.secretRecord(a, &secretWork{version: v})
		record.Inputs, record.Keys, record.Selection, record.Fingerprint = prior.Inputs, prior.Keys, prior.Selection, ""
		return false, w.journal(result{}, statefile.Put(record))
	}
	work.version, work.written = v, true
	r = w.finishSecret(i, work)
	r.note = "an interrupted run had written it"
	return true, r
}

// wroteTheSame reports whether the version v of an interrupted run is what this
// plan would write. intended is true when that run wrote for the same inputs. A
// generated value is then what is wanted, whatever it is; others are compared,
// and where nobody may read them it goes by the inputs.
func (w *walk) wroteTheSame(i int, work *secretWork, v secret.Version, intended bool) (bool, error) {
	a := &w.plan.Actions[i]
	c := a.Secret
	if c.Way == "generate" {
		return intended, nil
	}
	wanted, err := w.payload(i, work)
	if err != nil {
		return false, err
	}
	have, _, err := w.run.Secrets.GetSecret(w.ctx, secret.Why{Reason: "apply", Address: a.Address}, c.Store, c.Name, v.ID)
	defer have.Zero()
	switch {
	case providers.ClassOf(err) == providers.Denied:
		return intended, nil
	case err != nil:
		return false, err
	case c.Merge:
		merged, err := secret.MergeJSON(have, wanted, dropped(c))
		if err != nil {
			return false, nil // not an object: the write says so
		}
		defer merged.Zero()
		return merged.EqualJSON(have), nil
	case c.Way == "json":
		return wanted.EqualJSON(have), nil
	}
	return wanted.Equal(have), nil
}

func dropped(c *planner.SecretChange) []string {
	var names []string
	_ = json.Unmarshal([]byte(c.Drop), &names) // checked when the plan was read; "" is none
	return names
}

// failureClass is what the journal is told. A write of a secret whose token was
// announced may have happened whatever the last error was, unless the store
// said that the world is not what was expected: the intent stays open, and the
// next run settles it. So does an intent of an earlier run that this one did not
// come to settle, whatever kept it from that.
func (w *walk) failureClass(i int, err error) providers.Class {
	class := providers.ClassOf(err)
	a, work := &w.plan.Actions[i], w.secretWork[i]
	_, open := w.intents[a.Address]
	switch {
	case a.Secret == nil:
	case open && (work == nil || !work.settled):
		return providers.Unknown
	case work != nil && work.announced && !work.written && class != providers.Conflict:
		return providers.Unknown
	}
	return class
}

// payload is the value to be written. It is resolved once and kept until the
// action has ended, so that a further try writes the same.
func (w *walk) payload(i int, work *secretWork) (secret.Value, error) {
	a := &w.plan.Actions[i]
	c := a.Secret
	if work.value.Set() {
		return work.value, nil
	}
	var value secret.Value
	var from secret.Version
	var err error
	switch c.Way {
	case "generate":
		value, err = secret.Generate(w.run.Rand, *c.Recipe)
	case "copy":
		value, from, err = w.run.Secrets.GetSecret(w.ctx, secret.Why{Reason: "copy", Address: a.Address}, c.From.Store, c.From.Name, c.From.Version)
	case "value", "json":
		value, err = w.run.Value(a.Address)
	default:
		err = errors.New("the action has no value")
	}
	if err == nil {
		err = w.sealed(a, value)
	}
	if err != nil {
		value.Zero() // not kept: no later call may take it for one that was checked
		return secret.Value{}, err
	}
	work.value, work.source = value, from.ID
	return value, nil
}

// sealed holds a value against the fingerprint in the plan: what was reviewed
// is what is written.
func (w *walk) sealed(a *planner.Action, v secret.Value) error {
	c := a.Secret
	if c.Check == "" {
		return nil
	}
	key := w.run.FingerprintKeys[c.Store]
	if key == nil {
		return w.secretChanged(a, "the plan binds the value with a fingerprint_key, and the configuration has none now")
	}
	if key.Planned(a.Address, v) != c.Check {
		return w.secretChanged(a, "the value is not the one that was planned")
	}
	return nil
}

// putSecret writes a new version, the metadata, or both.
//
// Why no version of somebody else is overwritten unseen: the write carries the
// version that the plan compared, and the store makes the new one current only
// while that is the current one. Why no change makes two versions: every try,
// in this run and the next, carries the token that was journalled before the
// first.
func (w *walk) putSecret(i int, work *secretWork) result {
	a := &w.plan.Actions[i]
	c := a.Secret
	if c.Write && !work.written {
		if r := w.writeSecret(i, work); r.err != nil {
			return r
		}
	}
	if !c.Write && w.plan.Saved {
		if r := w.secretIsAsPlanned(i); r.err != nil || r.already {
			return r
		}
	}
	return w.finishSecret(i, work)
}

// owner is whom a secret's owner tag is to name. Where only metadata is managed
// the value is somebody else's, and so is the tag.
func owner(a *planner.Action) string {
	if a.Secret.Way == "" {
		return ""
	}
	return a.Address
}

// finishSecret brings the metadata along and records what is true.
func (w *walk) finishSecret(i int, work *secretWork) result {
	a := &w.plan.Actions[i]
	c := a.Secret
	if c.Update {
		etag := c.Etag
		if work.written {
			etag = "" // our own write may have changed it
		}
		if err := w.run.Secrets.UpdateSecret(w.ctx, secret.Why{Reason: "apply", Address: a.Address}, c.Store, c.Name, c.Metadata.Provider(owner(a)), etag); err != nil {
			return w.halfDone(i, work, err)
		}
	}
	record := w.secretRecord(a, work)
	record.Fingerprint = w.fingerprint(a, work)
	work.value.Zero()
	return w.journal(result{}, statefile.Put(record))
}

// halfDone records a version that was written although its metadata could not
// be: the next plan sees only the metadata differ.
func (w *walk) halfDone(i int, work *secretWork, err error) result {
	a := &w.plan.Actions[i]
	if !work.written {
		return result{err: err}
	}
	record := w.secretRecord(a, work)
	prior, _ := w.run.State.Lookup(a.Address)
	record.Selection, record.Fingerprint = prior.Selection, w.fingerprint(a, work)
	if r := w.journal(result{}, statefile.Put(record)); r.err != nil {
		return r
	}
	return result{err: err, stale: providers.ClassOf(err) == providers.Conflict}
}

func (w *walk) fingerprint(a *planner.Action, work *secretWork) string {
	key := w.run.FingerprintKeys[a.Secret.Store]
	prior, _ := w.run.State.Lookup(a.Address)
	value := work.value
	if a.Verb == planner.Adopt && !value.Set() && (a.Secret.Way == "value" || a.Secret.Way == "json") {
		var err error
		if value, err = w.run.Value(a.Address); err != nil {
			return prior.Fingerprint
		}
		defer value.Zero()
	}
	if key == nil || !value.Set() {
		return prior.Fingerprint
	}
	text, err := key.Make(w.run.Rand, a.Address, value, a.Secret.Way == "generate")
	if err != nil {
		return ""
	}
	return text
}

func (w *walk) writeSecret(i int, work *secretWork) result {
	a := &w.plan.Actions[i]
	c := a.Secret
	value, err := w.payload(i, work)
	if err != nil {
		return result{err: err, stale: providers.ClassOf(err) == providers.Conflict}
	}
	if err := w.announce(a, work); err != nil {
		return result{err: err}
	}
	write := secret.Write{Name: c.Name, Value: value, Expect: work.expect, Token: work.token, Owner: a.Address}
	if c.Metadata != nil && work.expect == "" {
		m := c.Metadata.Provider(owner(a))
		write.Create = &m
	}
	why := secret.Why{Reason: "apply", Address: a.Address}
	var v secret.Version
	if c.Merge {
		v, err = w.run.Secrets.PutJSONSecret(w.ctx, why, c.Store, write, dropped(c))
	} else {
		v, err = w.run.Secrets.PutSecret(w.ctx, why, c.Store, write)
	}
	if v.ID != "" {
		work.version, work.written = v, true
	}
	switch {
	case err != nil && work.written: // what failed came after the value: a tag, a replica
		return w.halfDone(i, work, err)
	case err != nil:
		return result{err: err, stale: providers.ClassOf(err) == providers.Conflict}
	}
	return result{}
}

// announce journals the token before the first call that carries it.
func (w *walk) announce(a *planner.Action, work *secretWork) error {
	if work.token != "" && work.announced {
		return nil
	}
	if work.token == "" {
		token, err := w.run.Secrets.NewToken()
		if err != nil {
			return err
		}
		work.token = token
	}
	if err := w.run.Journal.Intent(a.Address, a.Secret.Intent(work.expect).Op(), work.token); err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.journalFailed(err)
		return err
	}
	work.announced = true
	return nil
}

// adoptSecret records a version that is there already.
func (w *walk) adoptSecret(i int, work *secretWork) result {
	if w.plan.Saved {
		if r := w.secretIsAsPlanned(i); r.err != nil {
			return r
		}
	}
	r := w.finishSecret(i, work)
	r.already = r.err == nil
	return r
}

// secretIsAsPlanned looks once more where time has passed since the plan.
func (w *walk) secretIsAsPlanned(i int) result {
	a := &w.plan.Actions[i]
	c := a.Secret
	info, err := w.run.Secrets.DescribeSecret(w.ctx, c.Store, c.Name)
	switch {
	case err != nil:
		return result{err: err}
	case info.Version != c.Expect:
		return result{stale: true, err: w.secretChanged(a, "the plan saw version %s, now there is %s", orNone(c.Expect), orNone(info.Version))}
	case c.Update && c.Metadata.Holds(a.Address, c.Way, info):
		// An earlier apply of the same plan did it, if it is recorded as well.
		have, found := w.run.State.Lookup(a.Address)
		have.Fingerprint = ""
		return result{already: found && have == w.secretRecord(a, &secretWork{})}
	}
	return result{}
}

// deleteSecret deletes a secret as softly as its store can.
//
// Why it can not delete what is not ours: the state says that this secret is,
// in the version that the store has; the store checks the version once more;
// and nothing protected gets here (secretPrior).
func (w *walk) deleteSecret(i int, work *secretWork) result {
	a := &w.plan.Actions[i]
	c := a.Secret
	d := secret.Deletion{Expect: work.expect, Window: time.Duration(c.Window) * 24 * time.Hour}
	deleted, err := w.run.Secrets.DeleteSecret(w.ctx, secret.Why{Reason: "apply", Address: a.Address}, c.Store, c.Name, d)
	r := result{}
	switch class := providers.ClassOf(err); {
	case err == nil && !deleted.Final.IsZero():
		r.note = "the deletion can be taken back until " + deleted.Final.UTC().Format(time.DateOnly)
	case err == nil:
	case class == providers.NotFound:
		r.already = true
	case class == providers.Conflict:
		if info, look := w.run.Secrets.DescribeSecret(w.ctx, c.Store, c.Name); look == nil && !info.Deletion.IsZero() {
			r.already = true // a try whose answer was lost did it
			break
		}
		return result{stale: true, err: err}
	default:
		return result{err: err}
	}
	return w.journal(r, statefile.Remove(a.Address))
}
