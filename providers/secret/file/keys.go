package file

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"filippo.io/age/plugin"

	"freightliner/providers/disk"
)

// KeySource is one place where the user's age identities may be.
type KeySource struct {
	// Name is for messages: "identity_file", "FREIGHTLINER_AGE_KEY".
	Name string
	// Read gives the text of an identity file: one identity a line, comments
	// behind "#", or the same encrypted with a passphrase. An error that is
	// fs.ErrNotExist lets the next source be asked, any other ends the search.
	// The bytes are the store's, which zeroes them.
	Read func(ctx context.Context) ([]byte, error)
}

// FromFile is an identity file. It must be a plain file of ours that nobody
// else can read; anything else is an error, and no reason to ask further.
func FromFile(label string, fsys disk.FS, name string) KeySource {
	return KeySource{Name: label, Read: func(context.Context) ([]byte, error) { return readIdentity(fsys, name) }}
}

func readIdentity(fsys disk.FS, name string) ([]byte, error) {
	f, info, err := disk.OpenPlain(fsys, name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read: closing can lose nothing
	if info.Mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: other users can read or change it (mode %04o)", errModes, info.Mode.Perm())
	}
	if info.Size > maxIdentity {
		return nil, fmt.Errorf("it has %d bytes, at most %d are read", info.Size, maxIdentity)
	}
	b := make([]byte, info.Size)
	if _, err := io.ReadFull(f, b); err != nil {
		clear(b)
		return nil, err
	}
	return b, nil
}

var errModes = errors.New("not a private file")

// identityError is a source that has something, which is of no use.
type identityError struct {
	source string
	err    error
}

func (e *identityError) Error() string { return e.source + ": " + e.err.Error() }
func (e *identityError) Unwrap() error { return e.err }

// errNoIdentity: nobody gave us a key at all.
var errNoIdentity = errors.New("there is no age identity")

// identities are the user's own. They are looked for once, when first needed.
func (s *Store) identities(ctx context.Context) ([]age.Identity, error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	if len(s.own) > 0 {
		return s.own, nil
	}
	var asked []string
	for _, source := range s.sources() {
		text, err := source.Read(ctx)
		if errors.Is(err, fs.ErrNotExist) {
			asked = append(asked, source.Name)
			continue
		}
		if err != nil {
			return nil, &identityError{source.Name, err}
		}
		ids, err := s.parseIdentities(ctx, source.Name, text)
		clear(text)
		if err != nil {
			return nil, &identityError{source.Name, err}
		}
		s.own = ids
		return ids, nil
	}
	return nil, fmt.Errorf("%w (looked at: %s)", errNoIdentity, strings.Join(asked, ", "))
}

func (s *Store) sources() []KeySource {
	if s.o.Home == nil {
		return s.o.Keys
	}
	return append(s.o.Keys[:len(s.o.Keys):len(s.o.Keys)], FromFile(s.homeName(), s.o.Home, s.o.HomePath))
}

func (s *Store) homeName() string { return cmp.Or(s.o.HomeName, s.o.HomePath) }

// parseIdentities never quotes what it reads.
func (s *Store) parseIdentities(ctx context.Context, what string, text []byte) ([]age.Identity, error) {
	if locked, err := encryptedIdentity(text); err != nil || locked != nil {
		if err != nil {
			return nil, err
		}
		return s.unlockIdentity(ctx, what, locked)
	}
	var ids []age.Identity
	n := 0
	for line := range bytes.Lines(text) {
		n++
		line := strings.TrimSpace(string(line))
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, err := s.parseIdentity(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, errors.New("it has no identity")
	}
	return ids, nil
}

func (s *Store) parseIdentity(line string) (age.Identity, error) {
	malformed := errors.New("it is not an age identity")
	switch {
	case strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1"):
		if id, err := age.ParseHybridIdentity(line); err == nil {
			return id, nil
		}
	case strings.HasPrefix(line, "AGE-SECRET-KEY-1"):
		if id, err := age.ParseX25519Identity(line); err == nil {
			return id, nil
		}
	case strings.HasPrefix(line, "AGE-PLUGIN-"):
		if s.o.Plugins == nil {
			return nil, errNoPlugins
		}
		if id, err := plugin.NewIdentity(line, s.o.Plugins); err == nil {
			return id, nil
		}
	}
	return nil, malformed
}

// encryptedIdentity is the age file when text is one, armored or not.
func encryptedIdentity(text []byte) ([]byte, error) {
	trimmed := bytes.TrimSpace(text)
	if bytes.HasPrefix(trimmed, []byte(armor.Header)) {
		return io.ReadAll(io.LimitReader(armor.NewReader(bytes.NewReader(trimmed)), maxIdentity))
	}
	if bytes.HasPrefix(text, []byte("age-encryption.org/v1\n")) {
		return text, nil
	}
	return nil, nil
}

func (s *Store) unlockIdentity(ctx context.Context, what string, locked []byte) ([]age.Identity, error) {
	if s.o.Passphrase == nil {
		return nil, errors.New("it is protected by a passphrase, and nobody is here to be asked for it")
	}
	phrase, err := s.o.Passphrase(ctx, what)
	if err != nil {
		return nil, err
	}
	id, err := age.NewScryptIdentity(string(phrase))
	clear(phrase)
	if err != nil {
		return nil, err
	}
	plain, err := decrypt(locked, id)
	if err != nil {
		return nil, errors.New("the passphrase does not open it")
	}
	defer clear(plain)
	if again, err := encryptedIdentity(plain); err != nil || again != nil {
		return nil, errors.New("it is encrypted twice")
	}
	return s.parseIdentities(ctx, what, plain)
}

// recipientOf is the public half, where it can be told.
func recipientOf(id age.Identity) string {
	switch id := id.(type) {
	case *age.HybridIdentity:
		return id.Recipient().String()
	case *age.X25519Identity:
		return id.Recipient().String()
	}
	return ""
}

// newIdentity makes the user's identity file. It never replaces one: then the
// error is fs.ErrExist.
func (s *Store) newIdentity() (*age.HybridIdentity, error) {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, err
	}
	if !fs.ValidPath(s.o.HomePath) {
		return nil, errors.New("the path leads out of the directory")
	}
	var made []string
	for dir := path.Dir(s.o.HomePath); dir != "."; dir = path.Dir(dir) {
		made = append(made, dir)
	}
	for i := len(made) - 1; i >= 0; i-- {
		if err := s.o.Home.Mkdir(made[i], 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if err := s.o.Home.SyncDir(path.Dir(made[i])); err != nil {
			return nil, err
		}
	}
	text := []byte("# public key: " + id.Recipient().String() + "\n" + id.String() + "\n")
	defer clear(text)
	if err := s.putNew(s.o.Home, s.o.HomePath, text); err != nil {
		return nil, err
	}
	return id, nil
}
