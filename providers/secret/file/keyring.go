package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"filippo.io/age"
	"filippo.io/age/plugin"

	"freightliner/providers"
)

const (
	storeFile   = "store.toml"
	keyFile     = "store.key.age"
	secretsDir  = "secrets"
	lockFile    = ".lock"
	keyFormat   = 1
	maxKeyFile  = 4 << 20 // about 2 KiB a member
	maxIdentity = 1 << 20
)

// Recovery is the member that is not a person: an identity that was printed
// once and lies in a safe.
const Recovery = "recovery"

// Member is one who can open the store.
type Member struct {
	Name      string `json:"name"`
	Recipient string `json:"recipient"` // age1…
}

var memberName = providers.Pattern(`^[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}$`)

// check says what is wrong with a member.
func (m Member) check() error {
	if !memberName().MatchString(m.Name) {
		return errors.New("a member's name has up to 100 letters, digits and _ . @ -, and begins with a letter or digit")
	}
	_, err := parseRecipient(m.Recipient, nil)
	return err
}

// keyring is inside store.key.age, as JSON. It is the truth about the members:
// store.toml is in clear, and whoever can change it can not change this.
type keyring struct {
	Format     int      `json:"format"`
	Store      string   `json:"store"`      // 32 random hex digits
	Generation int      `json:"generation"` // of the store's key, from 1
	Members    []Member `json:"members"`    // sorted by name
	// Keys are the store's identities: the first is for all that is written.
	// While members are being removed there are two.
	Keys []string `json:"keys"`
	// Removed are the members for whose sake the key is being changed.
	Removed []string `json:"removed,omitempty"`
}

// unlocked is a keyring ready for use.
type unlocked struct {
	keyring
	sealed []byte // store.key.age, of which this is the inside
	ids    []age.Identity
	to     age.Recipient
	me     string // the member whose identity opened it; empty when it can not be told
}

// use prepares the keys.
func (k keyring) use(sealed []byte) (*unlocked, error) {
	u := &unlocked{keyring: k, sealed: sealed}
	for i, text := range k.Keys {
		id, err := age.ParseHybridIdentity(text)
		if err != nil {
			return nil, errors.New("the store's key can not be read")
		}
		u.ids = append(u.ids, id)
		if i == 0 {
			u.to = id.Recipient()
		}
	}
	return u, nil
}

func parseKeyring(plain []byte) (keyring, error) {
	var k keyring
	// No cause: its text may quote a key.
	if json.Unmarshal(plain, &k) != nil {
		return keyring{}, errors.New("what is inside is not the key of a store")
	}
	if k.Format > keyFormat {
		return keyring{}, fmt.Errorf("the store has format %d, this release reads up to %d", k.Format, keyFormat)
	}
	if k.Store == "" || len(k.Keys) == 0 || k.Generation < 1 {
		return keyring{}, errors.New("what is inside is not the key of a store")
	}
	return k, nil
}

// seal encrypts the keyring to its members.
func (k keyring) seal(ui *plugin.ClientUI) ([]byte, error) {
	var to []age.Recipient
	for _, m := range k.Members {
		r, err := parseRecipient(m.Recipient, ui)
		if err != nil {
			return nil, fmt.Errorf("member %s: %w", m.Name, err)
		}
		// A recipient names the program that encrypts to it, and may come out of a
		// pull request: none is run unless that is allowed.
		if _, external := r.(*plugin.Recipient); external && ui == nil {
			return nil, &providers.Error{Class: providers.Denied, Op: "encrypt to member", On: m.Name, Err: errNoPlugins}
		}
		to = append(to, r)
	}
	plain, err := json.Marshal(k)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	sealed, err := encrypt(plain, to...)
	if err != nil && mixed(k.Members) {
		return nil, fmt.Errorf("post-quantum recipients (age1pq1…) and classic ones can not be members of one store: %w", err)
	}
	return sealed, err
}

func mixed(members []Member) bool {
	return slices.ContainsFunc(members, Member.postQuantum) && slices.ContainsFunc(members, func(m Member) bool { return !m.postQuantum() })
}

func (m Member) postQuantum() bool { return strings.HasPrefix(m.Recipient, "age1pq1") }

var errNoPlugins = errors.New("it is for an age plugin, and plugins are not allowed here")

// parseRecipient reads age1pq1…, age1… and, for age plugins, age1name1….
func parseRecipient(text string, ui *plugin.ClientUI) (age.Recipient, error) {
	switch {
	case strings.HasPrefix(text, "age1pq1"):
		return age.ParseHybridRecipient(text)
	case strings.HasPrefix(text, "age1") && strings.Count(text, "1") > 1:
		if r, err := age.ParseX25519Recipient(text); err == nil {
			return r, nil
		}
		return plugin.NewRecipient(text, ui)
	case strings.HasPrefix(text, "age1"):
		return age.ParseX25519Recipient(text)
	case strings.HasPrefix(text, "AGE-SECRET-KEY-"):
		// Do not quote it.
		return nil, errors.New("this is a secret identity, not a recipient; make a new one, for this one has been shown")
	case strings.HasPrefix(text, "ssh-"):
		return nil, errors.New("SSH keys can not be members; use an age recipient (age1pq1…)")
	}
	return nil, errors.New("not an age recipient (age1…)")
}

// render is store.toml: canonical, one line for each member, sorted, so that
// text merges of two additions conflict only when they touch.
func (k keyring) render() []byte {
	var b strings.Builder
	b.WriteString("# A store of secrets. For people: the truth is inside store.key.age.\n")
	fmt.Fprintf(&b, "format = %d\nid = %q\ngeneration = %d\n\n[members]\n", k.Format, k.Store, k.Generation)
	for _, m := range k.Members {
		fmt.Fprintf(&b, "%s = %s\n", strconv.Quote(m.Name), strconv.Quote(m.Recipient))
	}
	return []byte(b.String())
}

func (k *keyring) sort() {
	slices.SortFunc(k.Members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
}

func (k keyring) member(name string) int {
	return slices.IndexFunc(k.Members, func(m Member) bool { return m.Name == name })
}
