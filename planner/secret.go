package planner

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"freightliner/config"
	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/statefile"
)

// SecretChange is what an action on a secret does. It holds no payload, no
// length and nothing that one can be guessed from.
type SecretChange struct {
	Store string `json:"store,omitempty"` // name of the secret_store block; empty where only the state knows the secret
	Place string `json:"place"`           // the store's identity, see secret.Store.Place
	Name  string `json:"name"`            // in the store

	Way    string `json:"way,omitempty"`    // where the value comes from: "value", "json", "generate", "copy"; empty: only metadata
	Write  bool   `json:"write,omitempty"`  // makes a new version
	Merge  bool   `json:"merge,omitempty"`  // sets only the keys of the JSON object
	Drop   string `json:"drop,omitempty"`   // keys that were ours and are not wanted any more, as a JSON array
	Expect string `json:"expect,omitempty"` // current version that the plan saw; empty: none
	Etag   string `json:"etag,omitempty"`   // of the metadata that the plan saw, where the store has such
	Prior  string `json:"prior,omitempty"`  // version in the state's record; empty: none
	At     string `json:"at,omitempty"`     // when Expect was made
	Found  bool   `json:"found,omitempty"`  // the secret exists, perhaps without a value
	Settle bool   `json:"settle,omitempty"` // an interrupted run left a write of which nobody saw the end

	Update   bool            `json:"update,omitempty"`   // makes the metadata as wanted
	Metadata *SecretMetadata `json:"metadata,omitempty"` // as wanted; set with Update and Create

	Recipe *secret.Recipe `json:"recipe,omitempty"` // way generate
	From   *SecretSource  `json:"from,omitempty"`   // way copy
	Check  string         `json:"check,omitempty"`  // keyed fingerprint of the value that was planned, with a fingerprint_key
	Inputs string         `json:"inputs,omitempty"` // for the record
	Keys   string         `json:"keys,omitempty"`   // for the record
	Window int            `json:"window,omitempty"` // days for which a deletion can be taken back; 0: the store's default
}

// SecretSource is where a copied value comes from. Version is the one that the
// plan saw, which is what apply copies; it is empty where another block is
// going to write it.
type SecretSource struct {
	Store   string `json:"store"`
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
}

// SecretMetadata is what the configuration says about a secret; nil members are
// not managed.
type SecretMetadata struct {
	Description *string           `json:"description,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Unlabelled  bool              `json:"unlabelled,omitempty"` // labels are managed, and there are to be none
	KMSKey      *string           `json:"kms_key,omitempty"`
	Replicas    []config.Replica  `json:"replicas,omitempty"`
	Alone       bool              `json:"alone,omitempty"` // replicas are managed, and there are to be none
}

// Provider is the metadata in the words of the stores, owned by address.
func (m *SecretMetadata) Provider(address string) secret.Metadata {
	out := secret.Metadata{Description: m.Description, Labels: m.Labels, KMSKey: m.KMSKey, Owner: address}
	if m.Unlabelled {
		out.Labels = map[string]string{}
	}
	if m.Alone {
		out.Replicas = []secret.Replica{}
	}
	for _, r := range m.Replicas {
		out.Replicas = append(out.Replicas, secret.Replica{Region: r.Region, KMSKey: r.KMSKey})
	}
	return out
}

func metadataOf(s *config.SecretBlock) *SecretMetadata {
	return &SecretMetadata{
		Description: s.Description, Labels: s.Labels, Unlabelled: s.Labels != nil && len(s.Labels) == 0,
		KMSKey: s.KMSKey, Replicas: s.Replicas, Alone: s.Replicas != nil && len(s.Replicas) == 0,
	}
}

// fingerprint names what the configuration says about the metadata, none of
// which is secret.
func (m *SecretMetadata) fingerprint() string {
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // plain data
	}
	if string(text) == "{}" {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// verdict is the answer of comparing the wanted value with the one in the store.
type verdict uint8

const (
	notCompared verdict = iota
	same
	differs
)

// secretWorld is what observing found of one secret.
type secretWorld struct {
	err   error // it could not be observed: nothing is known, least of all that it is absent
	skip  bool  // not a part of this plan
	place string
	info  secret.Info
	found bool

	verdict verdict
	wish    verdict // the wanted value against the one that was written last, by its fingerprint
	check   string  // keyed fingerprint of the wanted value
	keys    string  // the JSON keys of the wanted value
	source  secret.Version
	absent  error // the source can not be copied as it is; another block may be going to write it
	due     bool  // a generated value is older than rotate_after
	settle  bool  // an interrupted run left a write of which nobody saw the end
}

// secrets looks at all secrets, store by store. Stores are looked at side by
// side; a store that is down or denies costs the others nothing.
func (o *observer) secrets(ctx context.Context) error {
	byStore := map[string][]int{}
	for i, u := range o.world.units {
		if u.secret == nil {
			continue
		}
		w := &secretWorld{skip: !o.filter.wants(u.address)}
		o.world.secrets[i] = w
		if !w.skip {
			byStore[u.secret.Store] = append(byStore[u.secret.Store], i)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for store, units := range byStore {
		group.Go(func() error { return o.store(ctx, store, units) })
	}
	err := group.Wait()
	slices.SortFunc(o.world.mistakes, func(a, b config.Diagnostic) int {
		return cmp.Or(strings.Compare(a.Range.File, b.Range.File), cmp.Compare(a.Range.StartLine, b.Range.StartLine), strings.Compare(a.Summary, b.Summary))
	})
	return err
}

func (o *observer) store(ctx context.Context, name string, units []int) error {
	store, err := o.in.Secrets.Store(ctx, name)
	if err != nil {
		for _, i := range units {
			if err := o.swallow(ctx, err, &o.world.secrets[i].err); err != nil {
				return err
			}
		}
		return nil
	}
	for _, i := range units {
		o.world.secrets[i].place = store.Place()
		o.checkSecret(o.world.units[i].secret, store.Limits())
	}
	if err := o.describe(ctx, name, units); err != nil {
		return err
	}
	if err := o.ages(ctx, name, units); err != nil {
		return err
	}
	if err := o.sources(ctx, units); err != nil {
		return err
	}
	return o.compareValues(ctx, name, units)
}

// checkSecret finds the mistakes that the store would refuse, while there is
// still a place in the configuration to point at.
func (o *observer) checkSecret(s *config.SecretBlock, limits secret.Limits) {
	mistake := func(summary, detail string) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.world.mistakes = append(o.world.mistakes, config.Diagnostic{Summary: summary, Detail: detail, Range: s.Range})
	}
	if err := limits.CheckName(s.Name); err != nil {
		mistake(fmt.Sprintf("%s can not have the name %s", s.Address, providers.Printable(s.Name, 200)), sentence(err.Error()))
	}
	if err := limits.CheckMetadata(metadataOf(s).Provider(s.Address)); err != nil {
		mistake(s.Address+" asks for something that its store can not do", sentence(err.Error()))
	}
	wanted := wantedValue(s)
	defer wanted.Zero()
	if wanted.Longer(limits.Payload) {
		mistake(fmt.Sprintf("the value of %s is too long", s.Address), fmt.Sprintf("The store takes %d bytes.", limits.Payload))
	}
	if s.Generate != nil && s.Generate.Length > limits.Payload {
		mistake(fmt.Sprintf("the value of %s is too long", s.Address), fmt.Sprintf("The store takes %d bytes.", limits.Payload))
	}
}

func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// wantedValue is the value that the configuration gives; not set where it
// comes from elsewhere.
func wantedValue(s *config.SecretBlock) secret.Value {
	switch {
	case s.Value != nil:
		return secret.NewValue([]byte(s.Value()))
	case s.JSON != nil:
		return secret.NewValue([]byte(s.JSON()))
	}
	return secret.Value{}
}

// listFrom is how many secrets of one store make a listing cheaper than a look
// at each.
const listFrom = 16

// describe finds the metadata. A list is only ever believed about what it has and
// what is no news: everything else is asked for by name.
func (o *observer) describe(ctx context.Context, store string, units []int) error {
	listed := map[string]secret.Info{}
	if len(units) >= listFrom {
		names := make([]string, len(units))
		for n, i := range units {
			names[n] = o.world.units[i].secret.Name
		}
		for info, err := range o.in.Secrets.ListSecrets(ctx, store, commonPrefix(names)) {
			if err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if class := providers.ClassOf(err); class.Retryable() || class == providers.Invalid {
					return o.storeIsDown(units, err) // the store has been patient already, once for all
				}
				clear(listed) // each is asked for by name, and says itself what is wrong
				break
			}
			listed[info.Name] = info
		}
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(tagsAtOnce)
	for _, i := range units {
		s, w := o.world.units[i].secret, o.world.secrets[i]
		if intent, open := o.intents[s.Address]; open {
			was, ours := ParseSecretIntent(intent.Op)
			w.settle = !ours || was.Place == w.place && was.Name == s.Name
		}
		info, found := listed[s.Name]
		if found && s.Replicas == nil && !(info.VersionUnknown && !o.reads(i)) && !o.doubtful(i, info) {
			w.info, w.found = info, true
			continue
		}
		group.Go(func() error {
			var err error
			w.info, err = o.in.Secrets.DescribeSecret(gctx, store, s.Name)
			if providers.ClassOf(err) == providers.NotFound {
				return nil
			}
			w.found = err == nil
			return o.swallow(gctx, err, &w.err)
		})
	}
	return group.Wait()
}

// storeIsDown gives every secret of a store the error of the one call that found
// it down.
func (o *observer) storeIsDown(units []int, err error) error {
	for _, i := range units {
		o.world.secrets[i].err = err
	}
	o.count(Observed{Failed: len(units)})
	return nil
}

// doubtful reports whether what a list says is news: lists lag behind, and what
// we changed a moment ago must not look as if somebody had changed it back.
func (o *observer) doubtful(i int, info secret.Info) bool {
	s, prior := o.world.units[i].secret, o.prior(i)
	return prior.Address != "" && (!info.VersionUnknown && prior.Version != "" && info.Version != prior.Version ||
		!info.Deletion.IsZero() || metadataOf(s).differs(s.Address, wayOf(s), info) != "")
}

// reads reports whether the payload of a secret is read for this plan anyway.
func (o *observer) reads(i int) bool {
	s := o.world.units[i].secret
	return (s.Value != nil || s.JSON != nil) && !o.blind(s.Store)
}

func (o *observer) blind(store string) bool {
	i := slices.IndexFunc(o.in.Config.Stores, func(s config.SecretStore) bool { return s.Name == store })
	return i >= 0 && o.in.Config.Stores[i].Verify == "blind"
}

func commonPrefix(names []string) string {
	low, high := slices.Min(names), slices.Max(names)
	n := 0
	for n < len(low) && n < len(high) && low[n] == high[n] {
		n++
	}
	return low[:n]
}

// ages asks when a version was made, where that decides something or has to be
// told, and neither the metadata nor the state knows it.
func (o *observer) ages(ctx context.Context, store string, units []int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(tagsAtOnce)
	for _, i := range units {
		s, w, prior := o.world.units[i].secret, o.world.secrets[i], o.prior(i)
		if w.err != nil || w.info.Version == "" || !w.info.Changed.IsZero() || o.reads(i) {
			continue
		}
		if w.info.Version == prior.Version {
			w.info.Changed, _ = time.Parse(time.RFC3339, prior.At) // what is no time is unknown
		}
		foreign := prior.Version != "" && prior.Version != w.info.Version
		if !w.info.Changed.IsZero() || !foreign && (s.Generate == nil || s.Generate.RotateAfter == 0) {
			continue
		}
		group.Go(func() error {
			versions, err := o.in.Secrets.History(ctx, store, s.Name)
			for _, v := range versions {
				if v.ID == w.info.Version {
					w.info.Changed = v.Created
				}
			}
			return o.swallow(ctx, err, &w.err)
		})
	}
	return group.Wait()
}

// sources finds out which version a copy would take.
func (o *observer) sources(ctx context.Context, units []int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(tagsAtOnce)
	for _, i := range units {
		u, w := o.world.units[i], o.world.secrets[i]
		if u.secret.Copy == nil || w.err != nil {
			continue
		}
		from := u.secret.Copy
		if from.Version != "" {
			w.source = secret.Version{ID: from.Version}
			continue
		}
		group.Go(func() error {
			info, err := o.in.Secrets.DescribeSecret(ctx, from.Store, from.Name)
			w.source = secret.Version{ID: info.Version}
			switch {
			case err == nil && info.Version == "":
				err = &providers.Error{Class: providers.NotFound, Op: "copy from", On: from.Store + ":" + from.Name, Err: errors.New("it has no value")}
			case err == nil && info.Trouble != "":
				err = &providers.Error{Class: providers.Conflict, Op: "copy from", On: from.Store + ":" + from.Name, Err: fmt.Errorf("its current version is %s", info.Trouble)}
			}
			if err != nil && ctx.Err() == nil && len(u.feeders) > 0 {
				w.absent = err // unless another block of this plan is going to make it
				return nil
			}
			return o.swallow(ctx, err, &w.err)
		})
	}
	return group.Wait()
}

// compareValues reads what has to be read and compares it in memory. A payload
// is zeroed as soon as it was compared.
func (o *observer) compareValues(ctx context.Context, store string, units []int) error {
	key := o.in.FingerprintKeys[store]
	var requests []secret.Request
	byName := map[string]int{}
	ask := map[int]error{} // listed without a version, and none could be read
	for _, i := range units {
		s, w := o.world.units[i].secret, o.world.secrets[i]
		if w.err != nil {
			continue
		}
		o.judge(i, key)
		if o.reads(i) && w.found && (w.info.Version != "" || w.info.VersionUnknown) && w.info.Trouble == "" && w.info.Deletion.IsZero() {
			requests = append(requests, secret.Request{Ref: secret.Ref{Name: s.Name}, Address: s.Address})
			byName[s.Name] = i
		}
	}
	err := o.in.Secrets.GetSecrets(ctx, "plan", store, requests, func(r secret.Request, got secret.Reading) {
		i := byName[r.Name]
		w := o.world.secrets[i]
		defer got.Value.Zero()
		o.count(Observed{Secrets: 1})
		switch {
		case got.Err != nil && w.info.VersionUnknown && unusable(got.Err):
			ask[i] = got.Err
		case got.Err != nil:
			w.err = got.Err
		default:
			w.info.Version, w.info.VersionUnknown = got.Version.ID, false
			if w.info.Changed.IsZero() {
				w.info.Changed = got.Version.Created
			}
			w.verdict = o.equal(i, got.Value)
		}
	})
	if err != nil && ctx.Err() == nil {
		for _, i := range byName {
			if o.world.secrets[i].verdict == notCompared {
				o.world.secrets[i].err = err
			}
		}
		return nil
	}
	if err != nil {
		return err
	}
	for i, unread := range ask {
		if err := o.describeUnread(ctx, store, i, unread); err != nil {
			return err
		}
	}
	for _, i := range units {
		o.seal(i, key)
	}
	return o.compareCopies(ctx, store, units)
}

// unusable reports an answer that a secret without a value, or with a newest
// version that is disabled, may have given.
func unusable(err error) bool {
	class := providers.ClassOf(err)
	return class == providers.NotFound || class == providers.Conflict
}

// describeUnread asks about a secret that the list had without its version and
// that gave no payload: it may have none, or a version that is disabled. If it
// says neither, the reading's error stands.
func (o *observer) describeUnread(ctx context.Context, store string, i int, unread error) error {
	w := o.world.secrets[i]
	info, err := o.in.Secrets.DescribeSecret(ctx, store, o.world.units[i].secret.Name)
	switch {
	case providers.ClassOf(err) == providers.NotFound:
		w.info, w.found = secret.Info{}, false // deleted since it was listed
		return nil
	case err != nil:
		return o.swallow(ctx, err, &w.err)
	}
	w.info = info
	if info.Version != "" && info.Trouble == "" && info.Deletion.IsZero() {
		w.err = unread
	}
	return nil
}

// equal compares the wanted value with what the store has.
func (o *observer) equal(i int, have secret.Value) verdict {
	s := o.world.units[i].secret
	wanted := wantedValue(s)
	defer wanted.Zero()
	if s.Manage == "keys" {
		merged, err := secret.MergeJSON(have, wanted, dropped(o.prior(i), o.world.secrets[i].keys))
		if err != nil {
			return differs // not an object: apply says so
		}
		defer merged.Zero()
		wanted = merged
	}
	equal := wanted.Equal(have)
	if s.JSON != nil {
		equal = wanted.EqualJSON(have)
	}
	if equal {
		return same
	}
	return differs
}

// prior is the record of a secret, if it speaks of the same secret.
func (o *observer) prior(i int) statefile.Record {
	r, _ := o.in.State.Lookup(o.world.units[i].address)
	if r.Destination != o.world.secrets[i].place || r.Name != o.world.units[i].secret.Name {
		return statefile.Record{}
	}
	return r
}

// dropped are the keys that a record says were ours and that are not in keys.
func dropped(prior statefile.Record, keys string) []string {
	var before, now []string
	_ = json.Unmarshal([]byte(prior.Keys), &before) // "" is none
	_ = json.Unmarshal([]byte(keys), &now)
	return slices.DeleteFunc(before, func(key string) bool { return slices.Contains(now, key) })
}

// judge does what can be done without the store's value: fingerprints, the keys
// of a JSON object, the age of a generated one.
func (o *observer) judge(i int, key *secret.FingerprintKey) {
	s, w := o.world.units[i].secret, o.world.secrets[i]
	wanted := wantedValue(s)
	defer wanted.Zero()
	if s.Manage == "keys" {
		names, err := secret.JSONKeys(wanted)
		if err != nil {
			w.err = &providers.Error{Class: providers.Invalid, Op: "read the keys of", On: s.Address, Err: err}
			return
		}
		text, _ := json.Marshal(names)
		w.keys = string(text)
	}
	if g := s.Generate; g != nil && g.RotateAfter > 0 && !w.info.Changed.IsZero() {
		w.due = !o.in.Now.Before(w.info.Changed.Add(g.RotateAfter))
	}
	if key == nil || !wanted.Set() || !o.blind(s.Store) {
		return // where values are compared, no fingerprint is needed
	}
	if equal, known := key.Same(o.prior(i).Fingerprint, s.Address, wanted, false); known && equal {
		w.wish = same
	} else if known {
		w.wish = differs
	}
}

// seal makes the fingerprint that binds a planned write to its value.
func (o *observer) seal(i int, key *secret.FingerprintKey) {
	s, w := o.world.units[i].secret, o.world.secrets[i]
	wanted := wantedValue(s)
	defer wanted.Zero()
	if key != nil && wanted.Set() && w.err == nil && w.verdict != same && w.wish != same {
		w.check = key.Planned(s.Address, wanted)
	}
}

// compareCopies compares a copy with its source where somebody else wrote one
// of them; where both have the versions that the state knows, no payload is
// read at all.
func (o *observer) compareCopies(ctx context.Context, store string, units []int) error {
	for _, i := range units {
		s, w := o.world.units[i].secret, o.world.secrets[i]
		prior := o.prior(i)
		if s.Copy == nil || w.err != nil || w.absent != nil || !w.found || w.info.Version == "" || w.info.Trouble != "" || !w.info.Deletion.IsZero() {
			continue
		}
		if prior.Version == w.info.Version && prior.Inputs == inputsOf(s, w.source.ID) {
			w.verdict = same
			continue
		}
		if o.blind(store) || o.blind(s.Copy.Store) {
			continue
		}
		why := secret.Why{Reason: "plan", Address: s.Address}
		have, _, err := o.in.Secrets.GetSecret(ctx, why, store, s.Name, w.info.Version)
		if err == nil {
			var wanted secret.Value
			wanted, _, err = o.in.Secrets.GetSecret(ctx, why, s.Copy.Store, s.Copy.Name, w.source.ID)
			if w.verdict = differs; wanted.Equal(have) {
				w.verdict = same
			}
			wanted.Zero()
		}
		have.Zero()
		o.count(Observed{Secrets: 1})
		if err := o.swallow(ctx, err, &w.err); err != nil {
			return err
		}
	}
	return nil
}

// inputsOf says what decides the value, without the value. source is the version
// that a copy takes; empty where it is not known yet.
func inputsOf(s *config.SecretBlock, source string) string {
	text := ""
	switch {
	case s.Value != nil:
		text = "value"
	case s.JSON != nil:
		text = "json"
	case s.Generate != nil:
		text = fmt.Sprintf("generate length=%d charset=%s", s.Generate.Length, s.Generate.Charset)
	case s.Copy != nil:
		text = copyInputs(s.Copy.Store, s.Copy.Name, source)
	default:
		return "metadata"
	}
	return text + toldInputs(s.Version)
}

func copyInputs(store, name, version string) string {
	return fmt.Sprintf("copy %s:%s@%s", store, name, version)
}

func toldInputs(version string) string {
	if version == "" {
		return ""
	}
	return " version=" + version
}

// CopiedInputs are the inputs of a copy whose source was written by the same
// plan, once its version is known.
func (c *SecretChange) CopiedInputs(version string) string {
	return copyInputs(c.From.Store, c.From.Name, version) + toldInputs(versionIn(c.Inputs))
}

// versionIn is the part of inputs that the configuration's version argument is.
func versionIn(inputs string) string {
	_, version, _ := strings.Cut(inputs, " version=")
	return version
}

// timeText is a time as the state keeps it.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Truncate(time.Second).Format(time.RFC3339)
}

// linkSecrets finds copies whose source another block writes.
func linkSecrets(all []unit) {
	type place struct{ store, name string }
	writes := map[place]int{}
	for i, u := range all {
		if u.secret != nil {
			writes[place{u.secret.Store, u.secret.Name}] = i
		}
	}
	for i, u := range all {
		if u.secret == nil || u.secret.Copy == nil {
			continue
		}
		if from, ok := writes[place{u.secret.Copy.Store, u.secret.Copy.Name}]; ok && from != i {
			all[i].feeders = append(all[i].feeders, from)
			all[from].read = true
		}
	}
}

// goneSecrets looks at the secrets whose blocks are gone and that are to be
// deleted.
func (o *observer) goneSecrets(ctx context.Context, gone []goneWorld) error {
	deletes := func(g *goneWorld) bool {
		return g.record.Kind == statefile.KindSecret && g.record.Version != "" && o.deletes(*g)
	}
	if !slices.ContainsFunc(gone, func(g goneWorld) bool { return deletes(&g) }) {
		return nil
	}
	places := map[string][]string{} // place to the names of its stores: two accounts have one place
	for _, s := range o.in.Config.Stores {
		if store, err := o.in.Secrets.Store(ctx, s.Name); err == nil {
			places[store.Place()] = append(places[store.Place()], s.Name)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(tagsAtOnce)
	for i := range gone {
		g := &gone[i]
		if !deletes(g) {
			continue
		}
		g.secret = &secretWorld{place: g.record.Destination}
		stores := places[g.record.Destination]
		if len(stores) == 0 {
			g.secret.err = &providers.Error{
				Class: providers.Invalid, Op: "delete secret", On: g.record.Destination + ":" + g.record.Name, Err: errors.New("no secret_store block leads there"),
				Hint: "Put the secret_store block back, or drop the record with \"freightliner state rm\".",
			}
			continue
		}
		group.Go(func() error {
			for _, store := range stores {
				info, err := o.in.Secrets.DescribeSecret(ctx, store, g.record.Name)
				if providers.ClassOf(err) == providers.NotFound {
					continue
				}
				if err != nil {
					return o.swallow(ctx, err, &g.secret.err)
				}
				if !g.secret.found || info.Version == g.record.Version {
					g.store, g.secret.info, g.secret.found = store, info, true
				}
			}
			_, g.secret.settle = o.intents[g.address]
			return nil
		})
	}
	return group.Wait()
}
