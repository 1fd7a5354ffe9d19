package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"filippo.io/age"

	"freightliner/providers"
	"freightliner/providers/disk"
	"freightliner/providers/secret"
)

// InitOptions say who is in a new store.
type InitOptions struct {
	Member    string // our own name in it
	Recipient string // our public half; empty: that of our identity, which is made if there is none
	Others    []Member
	Recovery  bool // make an identity for the safe
}

// Initialized is what [Store.Init] did.
type Initialized struct {
	Store       string // its id
	Members     []Member
	NewIdentity string // name of the identity that was made, as Options.HomeName; empty: there was one
	// Recovery is the identity for the safe, to be shown once and zeroed. It is
	// nowhere else.
	Recovery secret.Value
}

// Init makes a store. One that is there is a Conflict, and stays as it is.
func (s *Store) Init(ctx context.Context, o InitOptions) (Initialized, error) {
	const op = "make store"
	s.writing.Lock()
	defer s.writing.Unlock()
	out, err := s.init(ctx, o)
	if err != nil {
		out.Recovery.Zero()
		return Initialized{}, s.failed(op, "", err)
	}
	return out, nil
}

func (s *Store) init(ctx context.Context, o InitOptions) (out Initialized, err error) {
	if err := ctx.Err(); err != nil {
		return out, err
	}
	if _, err := s.o.FS.Lstat(s.in(keyFile)); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = &providers.Error{Class: providers.Conflict, Op: "make store", On: s.Place(), Err: errThere}
		}
		return out, err
	}
	me := Member{Name: o.Member, Recipient: o.Recipient}
	if me.Recipient == "" {
		if me.Recipient, out.NewIdentity, err = s.ownRecipient(ctx); err != nil {
			return out, err
		}
	}
	out.Members = append([]Member{me}, o.Others...)
	if o.Recovery {
		m, value, err := newRecovery(out.Members)
		if err != nil {
			return out, err
		}
		out.Recovery = value
		out.Members = append(out.Members, m)
	}
	if err := checkMembers(out.Members); err != nil {
		return out, &providers.Error{Class: providers.Invalid, Op: "make store", On: s.Place(), Err: err}
	}
	k, made, err := s.create(ctx, out.Members)
	if err == nil && !made {
		err = errThere // and our recovery identity is none of its members
	}
	if errors.Is(err, errThere) {
		err = &providers.Error{Class: providers.Conflict, Op: "make store", On: s.Place(), Err: errThere}
	}
	out.Store, out.Members = k.Store, k.Members
	return out, err
}

var errThere = errors.New("there is one already")

func checkMembers(members []Member) error {
	names, recipients := map[string]bool{}, map[string]bool{}
	for _, m := range members {
		if err := m.check(); err != nil {
			return fmt.Errorf("member %s: %w", providers.Printable(m.Name, 60), err)
		}
		if names[m.Name] || recipients[m.Recipient] {
			return fmt.Errorf("member %s is named twice", m.Name)
		}
		names[m.Name], recipients[m.Recipient] = true, true
	}
	return nil
}

// Recipient is the public half of the user's first identity, for a member to let
// him in. Where he has none, one is made in Options.Home, and made is its name, as Options.HomeName.
// The store itself is not touched.
func (s *Store) Recipient(ctx context.Context) (recipient, made string, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if recipient, made, err = s.ownRecipient(ctx); err != nil {
		err = s.failed("make an identity for", "", err)
	}
	return recipient, made, err
}

// ownRecipient is the public half of our first identity.
func (s *Store) ownRecipient(ctx context.Context) (recipient, made string, err error) {
	ids, err := s.identities(ctx)
	if errors.Is(err, errNoIdentity) && s.o.Home != nil {
		id, err := s.newIdentity()
		if errors.Is(err, fs.ErrExist) { // another process was faster: that one, then
			return s.ownRecipient(ctx)
		}
		if err != nil {
			return "", "", fmt.Errorf("make identity %s: %w", s.homeName(), err)
		}
		s.asking.Lock()
		s.own = []age.Identity{id}
		s.asking.Unlock()
		return id.Recipient().String(), s.homeName(), nil
	}
	if err != nil {
		return "", "", err
	}
	for _, id := range ids {
		if r := recipientOf(id); r != "" {
			return r, "", nil
		}
	}
	return "", "", errors.New("our identity is an age plugin's: say which recipient (age1…) belongs to it")
}

// newRecovery is of the members' kind, since age does not mix kinds.
func newRecovery(members []Member) (Member, secret.Value, error) {
	if slices.ContainsFunc(members, func(m Member) bool { return !m.postQuantum() }) {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			return Member{}, secret.Value{}, err
		}
		return Member{Recovery, id.Recipient().String()}, secret.NewValue([]byte(id.String())), nil
	}
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return Member{}, secret.Value{}, err
	}
	return Member{Recovery, id.Recipient().String()}, secret.NewValue([]byte(id.String())), nil
}

// create makes the store's directory and key, unless another process has just
// made them. s.writing is held.
func (s *Store) create(ctx context.Context, members []Member) (k keyring, made bool, err error) {
	if !fs.ValidPath(s.o.Path) {
		return keyring{}, false, &providers.Error{Class: providers.Invalid, Op: "make store", On: s.Place(), Err: errors.New("the path leads out of the directory")}
	}
	var dirs []string
	for dir := s.o.Path; dir != "."; dir = path.Dir(dir) {
		dirs = append(dirs, dir)
	}
	for _, dir := range slices.Backward(dirs) {
		// Readable like any directory of a checkout: what lies in it is encrypted.
		if err := s.o.FS.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return keyring{}, false, err
		}
		if err := s.o.FS.SyncDir(path.Dir(dir)); err != nil {
			return keyring{}, false, err
		}
	}
	free, err := disk.Lock(ctx, s.o.FS, s.o.Clock, s.in(lockFile), s.o.Patience)
	if err != nil {
		return keyring{}, false, err
	}
	defer free()
	if u, err := s.unlock(ctx); err != nil || u != nil {
		if u != nil {
			k = u.keyring
		}
		return k, false, err
	}
	if err := s.makeDir(s.in(secretsDir)); err != nil {
		return keyring{}, false, err
	}
	id, err := s.random()
	if err != nil {
		return keyring{}, false, err
	}
	key, err := age.GenerateHybridIdentity()
	if err != nil {
		return keyring{}, false, err
	}
	k = keyring{Format: keyFormat, Store: id, Generation: 1, Members: members, Keys: []string{key.String()}}
	u, err := s.writeKeyring(k)
	if err != nil {
		return keyring{}, false, err
	}
	return u.keyring, true, nil
}

// writeKeyring puts the key first, and what people read after it.
func (s *Store) writeKeyring(k keyring) (*unlocked, error) {
	k.Members = slices.Clone(k.Members)
	k.sort()
	sealed, err := k.seal(s.o.Plugins)
	if err != nil {
		return nil, err
	}
	u, err := k.use(sealed)
	if err != nil {
		return nil, err
	}
	s.keys.Lock()
	if s.open != nil {
		u.me = s.open.me
	}
	s.keys.Unlock()
	s.durable = false // until all of it is
	if err := s.put(s.o.FS, s.in(keyFile), sealed); err != nil {
		return nil, err
	}
	if err := s.furnish(k); err != nil {
		return nil, err
	}
	s.durable = true
	return u, nil
}

// gitFiles are written once and then the user's.
var gitFiles = map[string]string{
	".gitattributes": "*.age binary\nstore.toml text eol=lf\n",
	".gitignore":     ".lock\n.tmp-*\n/identity*\n/keys.txt\n",
}

// furnish writes what lies in clear beside the key, where it is not right.
func (s *Store) furnish(k keyring) error {
	toml, err := disk.ReadFile(s.o.FS, s.in(storeFile), maxKeyFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if string(toml) != string(k.render()) {
		if err := s.put(s.o.FS, s.in(storeFile), k.render()); err != nil {
			return err
		}
	}
	for _, name := range []string{".gitattributes", ".gitignore"} {
		_, err := s.o.FS.Lstat(s.in(name))
		if errors.Is(err, fs.ErrNotExist) {
			err = s.put(s.o.FS, s.in(name), []byte(gitFiles[name]))
		}
		if err != nil {
			return err
		}
	}
	names, err := s.names(s.o.Path)
	if err != nil {
		return err
	}
	return s.sweep(s.o.Path, names)
}

// autoInit makes the store for the first write, where that is allowed.
func (s *Store) autoInit(ctx context.Context) error {
	if !s.o.AutoInit {
		return &providers.Error{Class: providers.Invalid, Op: "open store", On: s.Place(), Err: errors.New("there is no store yet"), Hint: "Run 'freightliner secret init' once, and commit what it makes."}
	}
	recipient, _, err := s.ownRecipient(ctx)
	if err != nil {
		return err
	}
	members := []Member{{Name: asMember(s.o.User), Recipient: recipient}}
	for i, r := range s.o.Recipients {
		if r != recipient {
			members = append(members, Member{Name: fmt.Sprintf("recipient-%d", i+1), Recipient: r})
		}
	}
	if err := checkMembers(members); err != nil {
		return &providers.Error{Class: providers.Invalid, Op: "make store", On: s.Place(), Err: err}
	}
	_, _, err = s.create(ctx, members) // made by another process will do, if we are a member of it
	return err
}

var notInNames = providers.Pattern(`[^A-Za-z0-9_.@-]+`)

// asMember makes a member's name of a user's.
func asMember(user string) string {
	name := strings.TrimLeft(notInNames().ReplaceAllString(user, "-"), "-._@")
	if name == "" || name == Recovery {
		name = "owner"
	}
	return name[:min(len(name), 100)]
}

// admin runs do under the lock of a store that exists.
func (s *Store) admin(ctx context.Context, op string, do func(u *unlocked) error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	u, err := s.unlock(ctx)
	if err == nil && u == nil {
		return s.noStore(op)
	}
	if err != nil {
		return s.failed(op, "", err)
	}
	u, release, err := s.hold(ctx)
	if err != nil {
		return s.failed(op, "", err)
	}
	defer release()
	return s.failed(op, "", do(u))
}

func (s *Store) noStore(op string) error {
	return &providers.Error{Class: providers.NotFound, Op: op, On: s.Place(), Err: errors.New("there is no store"), Hint: "Run 'freightliner secret init'."}
}

// Membership is who can open a store.
type Membership struct {
	Store      string
	Generation int // of the store's key
	Members    []Member
	Me         string // whose identity we have
}

// Members are those to whom the store's key is encrypted.
func (s *Store) Members(ctx context.Context) (Membership, error) {
	const op = "list members"
	u, err := s.unlock(ctx)
	if err != nil {
		return Membership{}, s.failed(op, "", err)
	}
	if u == nil {
		return Membership{}, s.noStore(op)
	}
	return Membership{Store: u.Store, Generation: u.Generation, Members: slices.Clone(u.Members), Me: u.me}, nil
}

// AddMember encrypts the store's key to one more. The same member again is no
// change.
func (s *Store) AddMember(ctx context.Context, m Member) error {
	const op = "add member"
	if err := m.check(); err != nil {
		return s.refused(providers.Invalid, op, m.Name, "", "%w", err)
	}
	return s.admin(ctx, op, func(u *unlocked) error {
		for _, other := range u.Members {
			if other == m {
				return nil
			}
			if other.Name == m.Name || other.Recipient == m.Recipient {
				return s.refused(providers.Conflict, op, m.Name, "", "the name or the recipient is that of the member %s", other.Name)
			}
		}
		k := u.keyring
		k.Members = append(slices.Clone(k.Members), m)
		_, err := s.writeKeyring(k)
		return err
	})
}

// NewRecovery makes an identity for the safe, in place of an older one, which
// opens the store no more. It is to be shown once and zeroed.
func (s *Store) NewRecovery(ctx context.Context) (secret.Value, error) {
	var value secret.Value
	_, err := s.removeMember(ctx, "make recovery identity", Recovery, func(k *keyring) error {
		m, v, err := newRecovery(k.Members)
		value = v
		k.Members = append(k.Members, m)
		return err
	})
	if err != nil {
		value.Zero()
		return secret.Value{}, err
	}
	return value, nil
}

// RemoveMember makes a new key for the store, encrypts it to the members that
// are left and every secret with it. It returns the secrets that the former
// member could read until then: encrypting them again takes nothing back, so
// they stay marked until they get a new version.
//
// It can be cut off anywhere: the store stays readable, and whoever writes to
// it next finishes it.
func (s *Store) RemoveMember(ctx context.Context, name string) (known []string, err error) {
	return s.removeMember(ctx, "remove member", name, nil)
}

func (s *Store) removeMember(ctx context.Context, op, name string, then func(*keyring) error) (known []string, err error) {
	err = s.admin(ctx, op, func(u *unlocked) error {
		k := u.keyring
		at := k.member(name)
		switch {
		case at < 0 && then != nil:
			if err := then(&k); err != nil { // nothing to be replaced
				return err
			}
			_, err := s.writeKeyring(k)
			return err
		case at < 0:
			return s.refused(providers.NotFound, op, name, "", "there is no such member")
		case name == u.me:
			return s.refused(providers.Invalid, op, name, "", "nobody removes himself: another member has to, since a removal that is cut off is finished by whoever is left")
		}
		k.Members = slices.Delete(slices.Clone(k.Members), at, at+1)
		if then == nil && !slices.ContainsFunc(k.Members, func(m Member) bool { return m.Name != Recovery }) {
			return s.refused(providers.Invalid, op, name, "", "nobody but the recovery identity would be left")
		}
		if then != nil {
			if err := then(&k); err != nil {
				return err
			}
		}
		key, err := age.GenerateHybridIdentity()
		if err != nil {
			return err
		}
		k.Generation++
		k.Keys = append([]string{key.String()}, k.Keys...)
		k.Removed = append(slices.Clone(k.Removed), name)
		u2, err := s.writeKeyring(k)
		if err != nil {
			return err
		}
		if u2, err = s.rekey(ctx, u2); err != nil {
			return err
		}
		known, err = s.knownTo(u2, name)
		return err
	})
	return known, err
}

// rekey encrypts everything with the first key and forgets the others. A file
// that no key opens stays as it is, for the doctor to tell: it must not keep
// everybody from writing.
func (s *Store) rekey(ctx context.Context, u *unlocked) (*unlocked, error) {
	names, err := s.dirs()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		files, err := s.names(s.dir(name))
		if err != nil {
			return nil, err
		}
		if err := s.sweep(s.dir(name), files); err != nil {
			return nil, err
		}
		for _, file := range files {
			n, ok := numberOf(file)
			if !ok && file != tombstone {
				continue
			}
			err := s.reseal(u, name, n, func(h *header) (bool, error) {
				for _, former := range u.Removed {
					if n > 0 && !slices.Contains(h.Known, former) {
						h.Known = append(h.Known, former)
					}
				}
				return true, nil
			})
			if err != nil && providers.ClassOf(err) != providers.Conflict {
				return nil, err
			}
		}
	}
	k := u.keyring
	k.Keys, k.Removed = k.Keys[:1], nil
	return s.writeKeyring(k)
}

// knownTo are the secrets whose current version a former member could read.
func (s *Store) knownTo(u *unlocked, former string) ([]string, error) {
	names, err := s.dirs()
	if err != nil {
		return nil, err
	}
	var known []string
	for _, name := range names {
		r, err := s.load(u, name, nil)
		if err != nil && providers.ClassOf(err) != providers.Conflict {
			return nil, err
		}
		if r != nil && slices.Contains(r.current.Known, former) {
			known = append(known, name)
		}
	}
	return known, nil
}
