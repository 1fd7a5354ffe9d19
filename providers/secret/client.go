package secret

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"

	"freightliner/providers"
)

// Client is what the rest of freightliner works with: stores by the name that
// the configuration gives them, with an audit line before and after each use of
// a payload. It is safe for concurrent use.
type Client struct {
	audit  Audit
	rand   io.Reader
	filter *Filter

	mu     sync.Mutex
	stores map[string]*lazy
	broken error // the audit log failed: no payload is touched any more
}

// lazy is a store that is opened when it is first used, so that a run that
// needs no secret needs no credentials for one.
type lazy struct {
	once  sync.Once
	open  func(context.Context) (Store, error)
	store Store
	err   error

	mu  sync.Mutex // of this store alone: one that does not answer holds up no other
	who string
}

// Options are what a Client needs from outside.
type Options struct {
	Audit  Audit     // required
	Filter *Filter   // watches each payload while it is read or written; nil for none
	Rand   io.Reader // for tokens; nil for crypto/rand
}

// NewClient makes a Client without stores.
func NewClient(o Options) *Client {
	c := &Client{audit: o.Audit, rand: o.Rand, filter: o.Filter, stores: map[string]*lazy{}}
	if c.filter == nil {
		c.filter = &Filter{}
	}
	if c.rand == nil {
		c.rand = rand.Reader
	}
	return c
}

// Add registers a store under the name of its block. open is called at most
// once, when the store is first needed.
func (c *Client) Add(name string, open func(context.Context) (Store, error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stores[name] = &lazy{open: open}
}

// Has reports whether there is a store of that name.
func (c *Client) Has(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stores[name] != nil
}

// Names are the names of all stores, sorted.
func (c *Client) Names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := make([]string, 0, len(c.stores))
	for name := range c.stores {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Store opens the store of that name. Use it for what touches no payload;
// everything else goes through the Client's own methods, which audit.
func (c *Client) Store(ctx context.Context, name string) (Store, error) {
	l, err := c.lazy(ctx, name)
	if err != nil {
		return nil, err
	}
	return l.store, nil
}

func (c *Client) lazy(ctx context.Context, name string) (*lazy, error) {
	c.mu.Lock()
	l := c.stores[name]
	c.mu.Unlock()
	if l == nil {
		return nil, &providers.Error{Class: providers.Invalid, Op: "open secret store", On: name, Err: errors.New("the configuration has no such secret_store block")}
	}
	l.once.Do(func() { l.store, l.err = l.open(ctx) })
	return l, l.err
}

// Why says for the audit log what an operation is for.
type Why struct {
	Reason  string // "plan", "apply", "copy", "registry credential", "secret get"
	Address string // the block; empty for direct commands
}

// principal asks once who the store takes us for. Not to know is no reason to
// stop: the audit line then has the run and the machine's user.
func (l *lazy) principal(ctx context.Context) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, can := l.store.(Principal); can && l.who == "" {
		if l.who, _ = p.Principal(ctx); l.who == "" {
			l.who = "unknown"
		}
	}
	return l.who
}

// fail makes the client refuse all further use of payloads: it is called when
// the audit log lost a line.
func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		c.broken = err
	}
}

// AuditErr is why the audit log could not record an outcome; nil when it
// recorded everything. The effects have happened.
func (c *Client) AuditErr() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

// intend records what is about to happen. No line, no effect.
func (c *Client) intend(ctx context.Context, entries ...Entry) error {
	if err := c.AuditErr(); err != nil {
		return auditError(err)
	}
	if err := c.audit.Intend(ctx, entries...); err != nil {
		return auditError(err)
	}
	return nil
}

func auditError(err error) error {
	return &providers.Error{
		Class: providers.Invalid, Op: "write the audit log", Err: err,
		Hint: "Without its audit line no secret is read or written. Make room, or put the log elsewhere.",
	}
}

// concluded records how it ended; the effect has happened by now, so what
// fails here only stops what comes after.
func (c *Client) concluded(ctx context.Context, entries ...Entry) {
	if err := c.audit.Outcome(context.WithoutCancel(ctx), entries...); err != nil {
		c.fail(err)
	}
}

// NewToken makes a token for one intended change.
func (c *Client) NewToken() (string, error) {
	b := make([]byte, 16)
	if _, err := io.ReadFull(c.rand, b); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // the form of a UUID, version 4 (RFC 9562, section 5.4)
	t := hex.EncodeToString(b)
	return strings.Join([]string{t[:8], t[8:12], t[12:16], t[16:20], t[20:]}, "-"), nil
}

// readsPerLine bounds how many reads are announced at once, so that a run that
// is killed has not announced much that it never did.
const readsPerLine = 500

// Request is one payload to be read, with what it is for.
type Request struct {
	Ref
	Address string
}

// GetSecrets reads many payloads of one store, with batch calls where the API
// has them. got is called once for each request, never twice at once, and owns
// the Value. The error is ctx's, or that nothing may be read.
func (c *Client) GetSecrets(ctx context.Context, reason, store string, requests []Request, got func(Request, Reading)) error {
	l, err := c.lazy(ctx, store)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(requests, readsPerLine) {
		entries := make([]Entry, len(part))
		refs := make([]Ref, len(part))
		waiting := map[Ref][]int{}
		for i, r := range part {
			entries[i] = Entry{
				Operation: OpRead, Reason: reason, Address: r.Address, Store: l.store.Place(),
				Principal: l.principal(ctx), Name: r.Name, Before: r.Version,
			}
			refs[i] = r.Ref
			waiting[r.Ref] = append(waiting[r.Ref], i)
		}
		if err := c.intend(ctx, entries...); err != nil {
			return err
		}
		for i := range entries {
			entries[i].Failure = errUnread
		}
		err := l.store.Read(ctx, refs, func(reading Reading) {
			i := waiting[reading.Ref][0]
			waiting[reading.Ref] = waiting[reading.Ref][1:]
			entries[i].After, entries[i].Failure = reading.Version.ID, reading.Err
			end := c.filter.Watch(reading.Value)
			defer end()
			got(part[i], reading)
		})
		c.concluded(ctx, entries...)
		if err != nil {
			return err
		}
	}
	return nil
}

// errUnread is the outcome of a read that was announced and cut off.
var errUnread = &providers.Error{Class: providers.Canceled, Op: "read secret", Err: errors.New("the run ended first")}

// GetSecret reads one payload, which the caller zeroes; an empty version is the
// current one.
func (c *Client) GetSecret(ctx context.Context, why Why, store, name, version string) (Value, Version, error) {
	var answer Reading
	err := c.GetSecrets(ctx, why.Reason, store, []Request{{Ref{name, version}, why.Address}}, func(_ Request, r Reading) { answer = r })
	if err == nil {
		err = answer.Err
	}
	return answer.Value, answer.Version, err
}

// PutSecret makes one new version; see [Store.Write] for what w says and what
// is promised.
func (c *Client) PutSecret(ctx context.Context, why Why, store string, w Write) (Version, error) {
	l, err := c.lazy(ctx, store)
	if err != nil {
		return Version{}, err
	}
	limits := l.store.Limits()
	if w.Value.Longer(limits.Payload) {
		return Version{}, TooLong(store, w.Name, limits)
	}
	e := Entry{
		Operation: OpWrite, Reason: why.Reason, Address: why.Address, Store: l.store.Place(),
		Principal: l.principal(ctx), Name: w.Name, Before: w.Expect, Token: w.Token,
	}
	if err := c.intend(ctx, e); err != nil {
		return Version{}, err
	}
	defer c.filter.Watch(w.Value)()
	v, err := l.store.Write(ctx, w)
	e.After, e.Failure = v.ID, err
	c.concluded(ctx, e)
	return v, err
}

// TooLong is the error for a payload beyond a store's limit. It names the
// limit, never the length.
func TooLong(store, name string, limits Limits) error {
	return &providers.Error{
		Class: providers.Invalid, Op: "write secret", On: store + ":" + name,
		Err:  fmt.Errorf("the value is longer than the %d bytes that the store takes", limits.Payload),
		Hint: "Keep large values elsewhere, and only the key to them in the store.",
	}
}

// PutJSONSecret sets the members of w.Value, a JSON object, in the secret's
// current JSON object and removes those named by drop; all others stay as they
// are. It reads, merges and writes on condition that nobody wrote in between
// (w.Expect is what was read).
func (c *Client) PutJSONSecret(ctx context.Context, why Why, store string, w Write, drop []string) (Version, error) {
	var current Value
	if w.Expect != "" {
		var err error
		if current, _, err = c.GetSecret(ctx, why, store, w.Name, w.Expect); err != nil {
			return Version{}, err
		}
	}
	defer current.Zero()
	merged, err := MergeJSON(current, w.Value, drop)
	if err != nil {
		return Version{}, &providers.Error{
			Class: providers.Invalid, Op: "set keys of secret", On: store + ":" + w.Name, Err: err,
			Hint: "Only a JSON object has keys. To replace the whole value, write it whole.",
		}
	}
	defer merged.Zero()
	w.Value = merged
	return c.PutSecret(ctx, why, store, w)
}

// Settle finds out what became of a write; see [Store.Settle].
func (c *Client) Settle(ctx context.Context, why Why, store string, w Write) (Version, bool, error) {
	l, err := c.lazy(ctx, store)
	if err != nil {
		return Version{}, false, err
	}
	e := Entry{
		Operation: OpWrite, Reason: why.Reason + ", settling an interrupted write", Address: why.Address, Store: l.store.Place(),
		Principal: l.principal(ctx), Name: w.Name, Before: w.Expect, Token: w.Token,
	}
	if err := c.intend(ctx, e); err != nil {
		return Version{}, false, err
	}
	defer c.filter.Watch(w.Value)()
	v, made, err := l.store.Settle(ctx, w)
	e.After, e.Failure = v.ID, err
	c.concluded(ctx, e)
	return v, made, err
}

// UpdateSecret makes the metadata what m says; see [Store.Update].
func (c *Client) UpdateSecret(ctx context.Context, why Why, store, name string, m Metadata, expect string) error {
	return c.effect(ctx, OpUpdate, why, store, name, "", func(s Store) error { return s.Update(ctx, name, m, expect) })
}

// DeleteSecret deletes a secret; see [Store.Delete].
func (c *Client) DeleteSecret(ctx context.Context, why Why, store, name string, d Deletion) (deleted Deleted, err error) {
	err = c.effect(ctx, OpDelete, why, store, name, d.Expect, func(s Store) error {
		deleted, err = s.Delete(ctx, name, d)
		return err
	})
	return deleted, err
}

// RestoreSecret takes a deletion back; see [Store.Restore].
func (c *Client) RestoreSecret(ctx context.Context, why Why, store, name string) error {
	return c.effect(ctx, OpRestore, why, store, name, "", func(s Store) error { return s.Restore(ctx, name) })
}

func (c *Client) effect(ctx context.Context, op Operation, why Why, store, name, before string, do func(Store) error) error {
	l, err := c.lazy(ctx, store)
	if err != nil {
		return err
	}
	e := Entry{
		Operation: op, Reason: why.Reason, Address: why.Address, Store: l.store.Place(),
		Principal: l.principal(ctx), Name: name, Before: before,
	}
	if err := c.intend(ctx, e); err != nil {
		return err
	}
	e.Failure = do(l.store)
	c.concluded(ctx, e)
	return e.Failure
}

// ListSecrets gives the metadata of all secrets of a store whose names begin
// with prefix; see [Store.List].
func (c *Client) ListSecrets(ctx context.Context, store, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		s, err := c.Store(ctx, store)
		if err != nil {
			yield(Info{}, err)
			return
		}
		for info, err := range s.List(ctx, prefix) {
			if !yield(info, err) {
				return
			}
		}
	}
}

// DescribeSecret is the metadata of one secret; see [Store.Describe].
func (c *Client) DescribeSecret(ctx context.Context, store, name string) (Info, error) {
	s, err := c.Store(ctx, store)
	if err != nil {
		return Info{}, err
	}
	return s.Describe(ctx, name)
}

// History lists the versions of a secret, newest first.
func (c *Client) History(ctx context.Context, store, name string) ([]Version, error) {
	s, err := c.Store(ctx, store)
	if err != nil {
		return nil, err
	}
	return s.History(ctx, name)
}
