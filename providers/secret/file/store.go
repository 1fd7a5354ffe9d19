package file

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"filippo.io/age"
	"filippo.io/age/plugin"

	"freightliner/providers"
	"freightliner/providers/disk"
	"freightliner/providers/secret"
)

// PluginUI is how an age plugin (a hardware key) talks to the user.
type PluginUI = plugin.ClientUI

// Options are what a store needs from outside.
type Options struct {
	// FS is the directory that holds the store's, at Path. Nothing is made
	// there before the first write.
	FS   disk.FS
	Path string // slash-separated, such as "secrets"

	Clock disk.Clock
	Rand  io.Reader // salts, names of temporary files; age has its own

	// Keys are asked in this order for the user's identities.
	Keys []KeySource
	// Home is asked last, at HomePath, and is where a new identity goes; nil
	// for none.
	Home     disk.FS
	HomePath string
	HomeName string // how messages call it; empty: HomePath
	// Passphrase asks for the passphrase of an identity file; nil refuses such
	// files. The bytes are the store's, which zeroes them.
	Passphrase func(ctx context.Context, what string) ([]byte, error)
	// Plugins is how age plugins talk to the user; nil refuses them.
	Plugins *PluginUI

	// AutoInit lets the first write make the store, and an identity if there is
	// none. Leave it off where the home directory does not outlive the run.
	AutoInit bool
	// User is the name of the first member in that case.
	User string
	// Recipients become members, too, when the first write makes the store.
	Recipients []string

	// Patience is how long to wait for another process that writes; 0 means 30 s.
	Patience time.Duration
}

// Store is a directory of secrets. Make one with [Open].
type Store struct {
	o Options

	// writing is held by whoever changes something; between processes there is
	// the lock besides. Readers hold nothing.
	writing sync.Mutex
	durable bool // the store's own files and directories were synced by us

	keys sync.Mutex // guards open, also while it is being opened
	open *unlocked

	asking sync.Mutex // guards own, also while the user is asked for it
	own    []age.Identity
}

var (
	_ secret.Store     = (*Store)(nil)
	_ secret.Principal = (*Store)(nil)
)

// Open is a store at o.Path. It reads and makes nothing yet.
func Open(o Options) *Store {
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	o.Path = path.Clean(o.Path)
	return &Store{o: o}
}

// Place is "file/" and the path.
func (s *Store) Place() string { return "file/" + s.o.Path }

const (
	maxPayload     = 64 << 10
	maxDescription = 2048
	maxLabels      = 64
	maxLabel       = 256
	defaultWindow  = 30 * 24 * time.Hour
)

// Limits are those that keep a secret movable to the clouds' stores.
func (s *Store) Limits() secret.Limits {
	return secret.Limits{Payload: maxPayload, CheckName: checkName, CheckMetadata: checkMetadata, Undelete: true}
}

func checkMetadata(m secret.Metadata) error {
	switch {
	case m.KMSKey != nil && *m.KMSKey != "":
		return errors.New("the file store has no KMS keys: its key is encrypted to the members")
	case len(m.Replicas) > 0:
		return errors.New("the file store has no replicas")
	case m.Description != nil && len(*m.Description) > maxDescription:
		return fmt.Errorf("the description has more than %d bytes", maxDescription)
	case len(m.Labels) > maxLabels:
		return fmt.Errorf("there are more than %d labels", maxLabels)
	}
	for key, value := range m.Labels {
		if key == "" || len(key) > maxLabel || len(value) > maxLabel {
			return fmt.Errorf("the label %s: keys have 1 to %d bytes, values up to %d", providers.Printable(key, 60), maxLabel, maxLabel)
		}
	}
	return nil
}

// in is a path of the store in Options.FS.
func (s *Store) in(parts ...string) string {
	return path.Join(append([]string{s.o.Path}, parts...)...)
}

func (s *Store) dir(name string) string { return s.in(secretsDir, dirOf(name)) }

// failed makes the error that a caller gets. What the operating system and age
// say never holds a payload: neither sees it before the encryption or after
// the decryption.
func (s *Store) failed(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var known *providers.Error
	if errors.As(err, &known) {
		return err
	}
	e := &providers.Error{Class: providers.Unknown, Op: op, On: s.Place(), Err: err}
	if name != "" {
		e.On += " " + providers.Printable(name, 200)
	}
	var noMatch *age.NoIdentityMatchError
	var identity *identityError
	var noPlugin *plugin.NotFoundError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		e.Class = providers.Canceled
	case errors.Is(err, errNoIdentity):
		e.Class = providers.Denied
		e.Hint = "Run 'freightliner secret init', or give your identity in identity_file, FREIGHTLINER_AGE_KEY, FREIGHTLINER_AGE_KEY_FILE or FREIGHTLINER_AGE_KEY_CMD."
	case errors.Is(err, errModes):
		e.Class = providers.Denied
		e.Hint = "Run 'chmod 600' on the identity file; if others could read it, make a new identity and rotate the secrets."
	case errors.As(err, &identity):
		e.Class = providers.Denied
	case errors.As(err, &noPlugin):
		e.Class = providers.Denied
		e.Hint = "Install age-plugin-" + providers.Printable(noPlugin.Name, 60) + ", or use another identity."
	case errors.As(err, &noMatch):
		e.Class = providers.Denied
		e.Err = errors.New("none of our identities is a member's")
		e.Hint = "Ask a member to run 'freightliner secret member add NAME RECIPIENT'" + s.recipientHint()
	case errors.Is(err, fs.ErrPermission), errors.Is(err, disk.ErrUnsafe):
		e.Class = providers.Denied
	case errors.Is(err, disk.ErrLocked):
		e.Class = providers.Transient
		e.Hint = "Another freightliner is writing to the store; try again when it is done."
	}
	return e
}

func (s *Store) recipientHint() string {
	s.asking.Lock()
	defer s.asking.Unlock()
	for _, id := range s.own {
		if r := recipientOf(id); r != "" {
			return ". Our recipient is " + r
		}
	}
	return "."
}

func (s *Store) refused(class providers.Class, op, name, hint, format string, args ...any) error {
	return &providers.Error{Class: class, Op: op, On: s.Place() + " " + providers.Printable(name, 200), Err: fmt.Errorf(format, args...), Hint: hint}
}

// unlock opens the store's key; nil when there is no store.
func (s *Store) unlock(ctx context.Context) (*unlocked, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sealed, err := disk.ReadFile(s.o.FS, s.in(keyFile), maxKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		// Without its key a store that has secrets is damaged, and not empty.
		if dirs, _ := s.dirs(); len(dirs) > 0 {
			return nil, &providers.Error{Class: providers.Invalid, Op: "open store", On: s.Place(), Err: fmt.Errorf("there are secrets, and no %s", keyFile), Hint: "Take " + keyFile + " back from git; without it nobody can read the secrets."}
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s.keys.Lock()
	defer s.keys.Unlock()
	if s.open != nil && bytes.Equal(s.open.sealed, sealed) {
		return s.open, nil
	}
	ids, err := s.identities(ctx)
	if err != nil {
		return nil, err
	}
	plain, err := decrypt(sealed, ids...)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	k, err := parseKeyring(plain)
	if err != nil {
		return nil, err
	}
	u, err := k.use(sealed)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		r := recipientOf(id)
		if i := slices.IndexFunc(k.Members, func(m Member) bool { return m.Recipient == r }); i >= 0 && u.me == "" {
			u.me = k.Members[i].Name
		}
	}
	s.open = u
	return u, nil
}

// Principal is the name of the member whose identity we have; empty when there
// is no store yet, or when only a plugin knows.
func (s *Store) Principal(ctx context.Context) (string, error) {
	u, err := s.unlock(ctx)
	if err != nil || u == nil {
		return "", s.failed("open store", "", err)
	}
	return u.me, nil
}

// names lists a directory; none when there is no such.
func (s *Store) names(dir string) ([]string, error) {
	names, err := s.o.FS.Names(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

// dirs are the directories of secrets, by secret.
func (s *Store) dirs() ([]string, error) {
	found, err := s.names(s.in(secretsDir))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, dir := range found {
		if name, ok := nameOf(dir); ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// put replaces a file in one step: whatever happens, there is the old one or
// the new. On an error after the rename it may be either, and the next sync of
// the directory settles it.
func (s *Store) put(fsys disk.FS, name string, b []byte) error {
	dir := path.Dir(name)
	temp, err := disk.RandomName(s.o.Rand, path.Join(dir, tempStart))
	if err != nil {
		return err
	}
	_, err = disk.WriteNew(fsys, temp, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
	if err != nil {
		return err
	}
	if err := fsys.Rename(temp, name); err != nil {
		return errors.Join(err, fsys.Remove(temp))
	}
	return fsys.SyncDir(dir)
}

// putNew makes a file that must not exist, whole or not at all: a link, unlike a
// rename, does not replace what another process has made meanwhile.
func (s *Store) putNew(fsys disk.FS, name string, b []byte) error {
	fill := func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
	dir := path.Dir(name)
	temp, err := disk.RandomName(s.o.Rand, path.Join(dir, tempStart))
	if err != nil {
		return err
	}
	if _, err := disk.WriteNew(fsys, temp, fill); err != nil {
		return err
	}
	linked := fsys.Link(temp, name)
	if err := fsys.Remove(temp); err != nil {
		return err
	}
	if errors.Is(linked, fs.ErrExist) {
		return linked
	}
	if linked != nil { // a file system without links: the file may be torn, and replaces none
		if _, err := disk.WriteNew(fsys, name, fill); err != nil {
			return err
		}
	}
	return fsys.SyncDir(dir)
}

// sweep removes temporary files of processes that died. The lock is held, so
// none is in use.
func (s *Store) sweep(dir string, names []string) error {
	for _, name := range names {
		random, found := strings.CutPrefix(name, tempStart)
		if _, err := hex.DecodeString(random); !found || err != nil || len(random) != 16 {
			continue
		}
		if err := s.o.FS.Remove(path.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// record is one secret as its directory shows it.
type record struct {
	numbers []int    // of the versions, ascending
	names   []string // all that lies there
	current header   // of the last version; only when there is one
	gone    *header  // its deletion
}

func (r *record) exists() bool { return r != nil && len(r.numbers) > 0 }

// pending is a deletion that can be taken back.
func (r *record) pending(now time.Time) bool { return r.gone != nil && now.Before(r.gone.Final) }

// load looks at a secret; nil when there is none. A deletion that has become
// final is a secret that is not there, whatever is left of its files. keep gets
// the payload of the current version, to be zeroed also after an error; nil
// when nobody wants it.
func (s *Store) load(u *unlocked, name string, keep *[]byte) (*record, error) {
	r, err := s.look(u, name, keep)
	if err != nil || !r.exists() || r.gone != nil && !r.pending(s.o.Clock.Now()) {
		return nil, err
	}
	return r, nil
}

// look is load without judgement of deletions. Readers hold no lock, so a file
// that was listed may be gone when it is opened: then they look again.
func (s *Store) look(u *unlocked, name string, keep *[]byte) (r *record, err error) {
	for range 5 {
		r, err = s.lookOnce(u, name, keep)
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return r, err
}

func (s *Store) lookOnce(u *unlocked, name string, keep *[]byte) (*record, error) {
	names, err := s.names(s.dir(name))
	if err != nil {
		return nil, err
	}
	r := &record{names: names}
	for _, file := range names {
		if n, ok := numberOf(file); ok {
			r.numbers = append(r.numbers, n)
		}
	}
	if len(r.numbers) == 0 {
		return r, nil // or what a purge left that was cut off
	}
	slices.Sort(r.numbers)
	var payload []byte
	if r.current, payload, err = s.version(u, name, r.numbers[len(r.numbers)-1]); err != nil {
		return nil, err
	}
	if keep != nil {
		clear(*keep) // of an earlier look
		*keep = payload
	} else {
		clear(payload)
	}
	if slices.Contains(names, tombstone) {
		gone, err := s.header(u, name, 0)
		if err != nil {
			return nil, err
		}
		// Also when it is final: a branch that deleted and one that wrote, merged,
		// must not end in the loss of what was written.
		if gone.Of != r.current.id {
			return nil, s.refused(providers.Conflict, "open deletion of", name, "If the secret is to stay, remove its "+tombstone+"; if not, remove its directory.", "it is the deletion of another version than the current %s", r.current.id)
		}
		r.gone = &gone
	}
	return r, nil
}

// errKeyChanged: another process gave the store a new key while we looked.
var errKeyChanged = errors.New("the store's key was changed meanwhile")

// header opens version n and drops its payload.
func (s *Store) header(u *unlocked, name string, n int) (header, error) {
	h, payload, err := s.version(u, name, n)
	clear(payload)
	return h, err
}

// version opens version n; 0 is the deletion.
func (s *Store) version(u *unlocked, name string, n int) (header, []byte, error) {
	file := tombstone
	if n > 0 {
		file = fileOf(n)
	}
	sealed, err := disk.ReadFile(s.o.FS, path.Join(s.dir(name), file), maxFile)
	if err != nil {
		return header{}, nil, err
	}
	h, payload, err := open(u.ids, sealed, u.Store, name, n)
	if err != nil {
		if now, keyErr := disk.ReadFile(s.o.FS, s.in(keyFile), maxKeyFile); keyErr == nil && !bytes.Equal(now, u.sealed) {
			return header{}, nil, errKeyChanged
		}
		return header{}, nil, s.damaged(name, n, err)
	}
	return h, payload, nil
}

// damaged is a file that is there and can not be what it should be. That is
// never "not found".
func (s *Store) damaged(name string, n int, err error) error {
	what := "deletion"
	if n > 0 {
		what = fmt.Sprintf("version %d", n)
	}
	var noMatch *age.NoIdentityMatchError
	if errors.As(err, &noMatch) {
		err = errors.New("it is not encrypted with the store's key: it was made before a member was removed, or by somebody else")
	}
	return &providers.Error{
		Class: providers.Conflict, Op: "open " + what + " of", On: s.Place() + " " + providers.Printable(name, 200), Err: err,
		Hint: "Run 'freightliner secret doctor', and take the file back from git.",
	}
}

func (h header) info(s *Store, name string) secret.Info {
	description := h.Description
	return secret.Info{
		Name: name, ID: s.dir(name), Version: h.id, Changed: h.Made, Owner: h.Owner,
		Metadata: secret.Metadata{Description: &description, Labels: h.Labels, Etag: h.Rev},
	}
}
