package file

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/statefile/statefiletest"
)

// TestMembers come and go: who is added can read, who is removed can read
// nothing that is there then, and what he knew stays marked until it changes.
func TestMembers(t *testing.T) {
	s, d, c, _ := made(t)
	bob := newPerson(t)
	asBob := func() *Store { return opened(d, c, bob) }
	old := write(t, s, "old", "needle-old-1", "")
	old = write(t, s, "old", "needle-old-2", old.ID)
	gone := write(t, s, "gone", "needle-gone", "")
	_, err := s.Delete(t.Context(), "gone", secret.Deletion{Expect: gone.ID})
	check(t, "delete", err)

	_, err = read(t, asBob(), "old", "")
	class(t, "bob before", err, providers.Denied)
	if !strings.Contains(providers.HintOf(err), bob.recipient()) {
		t.Errorf("the hint does not say whom to add: %s", providers.HintOf(err))
	}
	check(t, "add", s.AddMember(t.Context(), Member{"bob", bob.recipient()}))
	check(t, "add again", s.AddMember(t.Context(), Member{"bob", bob.recipient()}))
	class(t, "add the name", s.AddMember(t.Context(), Member{"bob", newPerson(t).recipient()}), providers.Conflict)
	class(t, "add the recipient", s.AddMember(t.Context(), Member{"carl", bob.recipient()}), providers.Conflict)
	for _, bad := range []Member{{"", bob.recipient()}, {"a b", bob.recipient()}, {"x", "age1pq1x"}, {"x", bob.id.String()}, {"x", "ssh-ed25519 AAAA"}, {"x", ""}, {"a\nb", bob.recipient()}} {
		class(t, "add "+bad.Name, s.AddMember(t.Context(), bad), providers.Invalid)
	}
	if text, err := read(t, asBob(), "old", ""); err != nil || text != "needle-old-2" {
		t.Errorf("bob: %v", err)
	}
	if who, err := asBob().Principal(t.Context()); who != "bob" || err != nil {
		t.Errorf("bob is %q, %v", who, err)
	}
	fresh := write(t, asBob(), "fresh", "needle-fresh", "")

	class(t, "bob removes himself", second(asBob().RemoveMember(t.Context(), "bob")), providers.Invalid)
	class(t, "remove nobody", second(s.RemoveMember(t.Context(), "nobody")), providers.NotFound)
	copied := d.Clone() // what bob took along
	known, err := s.RemoveMember(t.Context(), "bob")
	check(t, "remove", err)
	if diff := cmp.Diff([]string{"fresh", "gone", "old"}, known); diff != "" {
		t.Error(diff)
	}
	_, err = read(t, asBob(), "old", "")
	class(t, "bob after", err, providers.Denied)
	// Nor with the key that he took along.
	key := opened(copied, c, bob)
	_, err = read(t, key, "old", "")
	check(t, "bob's copy", err)
	for _, file := range d.Files() {
		if strings.HasSuffix(file, ".age") {
			if plain, err := decrypt(d.Bytes(file), append(slices.Clone(key.open.ids), age.Identity(bob.id))...); err == nil {
				t.Errorf("bob's copy of the key opens %s (%d bytes)", file, len(plain))
			}
		}
	}
	// The ids stay, so the state sees no drift.
	for name, want := range map[string]string{"old": old.ID, "fresh": fresh.ID, "gone": gone.ID} {
		if info, err := s.Describe(t.Context(), name); err != nil || info.Version != want {
			t.Errorf("%s: %s %v, want %s", name, info.Version, err, want)
		}
	}
	if history, err := s.History(t.Context(), "old"); err != nil || len(history) != 2 {
		t.Errorf("%v %v", history, err)
	}
	m, err := s.Members(t.Context())
	check(t, "members", err)
	if m.Generation != 2 || len(m.Members) != 1 || m.Me != "ann" {
		t.Errorf("%+v", m)
	}
	isKnown := func() []string {
		var out []string
		found, err := s.Doctor(t.Context())
		check(t, "doctor", err)
		for _, f := range found {
			if strings.Contains(f.What, "known to the former member bob") {
				out = append(out, f.Path)
			}
		}
		return out
	}
	if diff := cmp.Diff([]string{"fresh", "gone", "old"}, isKnown()); diff != "" {
		t.Error(diff)
	}
	write(t, s, "old", "needle-rotated", old.ID)
	if diff := cmp.Diff([]string{"fresh", "gone"}, isKnown()); diff != "" {
		t.Error(diff)
	}
	class(t, "remove the last", second(s.RemoveMember(t.Context(), "ann")), providers.Invalid)
}

func second[T any](_ T, err error) error { return err }

// TestWhoEditsTheListInClear gets nothing: the truth is inside.
func TestWhoEditsTheListInClear(t *testing.T) {
	s, d, c, ann := made(t)
	write(t, s, "db", "needle", "")
	eve := newPerson(t)
	d.Edit("vault/store.toml", func(b []byte) []byte {
		return append(b, []byte(`"eve" = "`+eve.recipient()+"\"\n")...)
	})
	found, err := s.Doctor(t.Context())
	check(t, "doctor", err)
	if !slices.ContainsFunc(found, func(f Finding) bool { return f.Path == "vault/store.toml" }) {
		t.Errorf("the doctor says %+v", found)
	}
	bob := newPerson(t)
	check(t, "add", opened(d, c, ann).AddMember(t.Context(), Member{"bob", bob.recipient()}))
	_, err = read(t, opened(d, c, eve), "db", "")
	class(t, "eve", err, providers.Denied)
	if bytes.Contains(d.Bytes("vault/store.toml"), []byte(`"eve"`)) { // in quotes: a recipient may hold the letters
		t.Error("the list in clear was not put right")
	}
}

// TestRecovery opens the store when everybody lost everything.
func TestRecovery(t *testing.T) {
	d, c, ann := statefiletest.New(), newClock(), newPerson(t)
	s := opened(d, c, ann)
	done, err := s.Init(t.Context(), InitOptions{Member: "ann", Recovery: true})
	check(t, "init", err)
	write(t, s, "db", "needle", "")
	with := func(v secret.Value) *Store {
		text := ""
		v.Use(func(b []byte) { text = string(b) })
		return Open(Options{FS: d, Path: "vault", Clock: c, Rand: rand.Reader, Keys: []KeySource{{Name: "paper", Read: func(context.Context) ([]byte, error) { return []byte(text), nil }}}})
	}
	if text, err := read(t, with(done.Recovery), "db", ""); err != nil || text != "needle" {
		t.Errorf("recovery: %v", err)
	}
	for _, file := range d.Files() {
		done.Recovery.Use(func(b []byte) {
			if bytes.Contains(d.Bytes(file), b) {
				t.Errorf("%s has the recovery identity", file)
			}
		})
	}
	next, err := s.NewRecovery(t.Context())
	check(t, "new recovery", err)
	if text, err := read(t, with(next), "db", ""); err != nil || text != "needle" {
		t.Errorf("new recovery: %v", err)
	}
	_, err = read(t, with(done.Recovery), "db", "")
	class(t, "old recovery", err, providers.Denied)
	found, err := s.Doctor(t.Context())
	check(t, "doctor", err)
	for _, f := range found {
		if strings.Contains(f.What, "no recovery identity") {
			t.Errorf("%+v", f)
		}
	}
	class(t, "init again", second(s.Init(t.Context(), InitOptions{Member: "ann"})), providers.Conflict)
}

// TestTwoInits at once: the slower one says so, and shows no recovery identity
// that opens nothing.
func TestTwoInits(t *testing.T) {
	d, c, ann := statefiletest.New(), newClock(), newPerson(t)
	faster := false
	d.After(func(op statefiletest.Op) {
		if op.Verb == "mkdir" && !faster {
			faster = true
			_, err := opened(d, c, ann).Init(t.Context(), InitOptions{Member: "ann", Recovery: true})
			check(t, "the faster", err)
		}
	})
	done, err := opened(d, c, ann).Init(t.Context(), InitOptions{Member: "ann", Recovery: true})
	class(t, "the slower", err, providers.Conflict)
	if done.Recovery.Set() || !faster {
		t.Errorf("%+v, %v", done, faster)
	}
	for _, bad := range []string{"/abs", "../x", ".."} {
		s := Open(Options{FS: statefiletest.New(), Path: bad, Clock: c, Rand: rand.Reader, Keys: []KeySource{ann.key()}})
		class(t, bad, second(s.Init(t.Context(), InitOptions{Member: "ann"})), providers.Invalid)
	}
}

// TestClassicMembers have a classic recovery identity, and no post-quantum
// neighbours.
func TestClassicMembers(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	check(t, "identity", err)
	d, c := statefiletest.New(), newClock()
	s := Open(Options{FS: d, Path: "vault", Clock: c, Rand: rand.Reader, Keys: []KeySource{{Name: "test", Read: func(context.Context) ([]byte, error) { return []byte(id.String()), nil }}}})
	done, err := s.Init(t.Context(), InitOptions{Member: "ann", Recovery: true})
	check(t, "init", err)
	if !strings.HasPrefix(done.Members[1].Recipient, "age1") || done.Members[1].postQuantum() {
		t.Errorf("%+v", done.Members)
	}
	write(t, s, "db", "needle", "")
	err = s.AddMember(t.Context(), Member{"bob", newPerson(t).recipient()})
	if err == nil || !strings.Contains(err.Error(), "classic") {
		t.Errorf("mixed: %v", err)
	}
	found, err := s.Doctor(t.Context())
	check(t, "doctor", err)
	if !slices.ContainsFunc(found, func(f Finding) bool { return strings.Contains(f.What, "quantum") }) {
		t.Errorf("the doctor says %+v", found)
	}
}

// TestZeroSetup: the first write makes identity and store in one go, with the
// configured recipients as members; the next process finds both.
func TestZeroSetup(t *testing.T) {
	d, home, c, bob := statefiletest.New(), statefiletest.New(), newClock(), newPerson(t)
	open := func() *Store {
		return Open(Options{FS: d, Path: "a/b", Clock: c, Rand: rand.Reader, Home: home, HomePath: ".config/freightliner/identity.txt", AutoInit: true, User: "Ann Smith", Recipients: []string{bob.recipient()}})
	}
	write(t, open(), "db", "needle", "")
	if text, err := read(t, open(), "db", ""); err != nil || text != "needle" {
		t.Errorf("%v", err)
	}
	m, err := open().Members(t.Context())
	check(t, "members", err)
	if len(m.Members) != 2 || m.Members[0].Name != "Ann-Smith" || m.Members[1] != (Member{"recipient-1", bob.recipient()}) || m.Me != "Ann-Smith" {
		t.Errorf("%+v", m)
	}
	if info, err := home.Lstat(".config/freightliner/identity.txt"); err != nil || info.Mode.Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode, err)
	}
	if info, err := home.Lstat(".config/freightliner"); err != nil || info.Mode.Perm() != 0o700 {
		t.Errorf("%v %v", info.Mode, err)
	}
}

// TestIdentitiesAreNeverTorn: whatever crash there is while an identity and a
// store are made, the next write makes do with what is there.
func TestIdentitiesAreNeverTorn(t *testing.T) {
	home, c := statefiletest.New(), newClock()
	open := func(home *statefiletest.Disk, d *statefiletest.Disk) *Store {
		return Open(Options{FS: d, Path: "vault", Clock: c, Rand: rand.Reader, Home: home, HomePath: "freightliner/identity.txt", AutoInit: true, User: "ann"})
	}
	points := 0
	home.After(func(statefiletest.Op) {
		for crashed := range home.Crashes(64) {
			points++
			d := statefiletest.New()
			write(t, open(crashed, d), "db", "needle", "")
			if text, err := read(t, open(crashed, d), "db", ""); err != nil || text != "needle" {
				t.Errorf("%v", err)
			}
		}
	})
	write(t, open(home, statefiletest.New()), "db", "needle", "")
	if points < 10 {
		t.Errorf("only %d disks", points)
	}
}

// TestIdentitiesAreNotReplaced: of two processes that both find none, the
// slower takes the faster one's, whose store would be lost otherwise.
func TestIdentitiesAreNotReplaced(t *testing.T) {
	home, c := statefiletest.New(), newClock()
	open := func(d *statefiletest.Disk) *Store {
		return Open(Options{FS: d, Path: "vault", Clock: c, Rand: rand.Reader, Home: home, HomePath: "freightliner/identity.txt", AutoInit: true, User: "ann"})
	}
	slow, fast := statefiletest.New(), statefiletest.New()
	once := false
	home.After(func(op statefiletest.Op) {
		if op.Verb == "sync" && !once {
			once = true
			write(t, open(fast), "db", "needle-fast", "")
		}
	})
	write(t, open(slow), "db", "needle-slow", "")
	if !once {
		t.Fatal("nobody was faster")
	}
	for want, d := range map[string]*statefiletest.Disk{"needle-fast": fast, "needle-slow": slow} {
		if text, err := read(t, open(d), "db", ""); err != nil || text != want {
			t.Errorf("%s: %v", want, err)
		}
	}
	if files := home.Files(); len(files) != 1 {
		t.Errorf("left %v", files)
	}
}

// TestReadersSeeTheKeyChange: a member is removed by another process between a
// reader's look at the key and its look at the secret.
func TestReadersSeeTheKeyChange(t *testing.T) {
	for _, verb := range []string{"names", "read"} {
		s, d, c, ann := made(t)
		v := write(t, s, "db", "needle-one", "")
		write(t, s, "db", "needle-two", v.ID)
		check(t, "add", s.AddMember(t.Context(), Member{"bob", newPerson(t).recipient()}))
		removed := false
		d.After(func(op statefiletest.Op) {
			if op.Verb == verb && !removed {
				removed = true
				_, err := opened(d, c, ann).RemoveMember(t.Context(), "bob")
				check(t, "remove", err)
			}
		})
		if text, err := read(t, s, "db", v.ID); err != nil || text != "needle-one" || !removed {
			t.Errorf("%s: %v, removed %v", verb, err, removed)
		}
	}
}

// TestDoctor finds what is put in a store's way.
func TestDoctor(t *testing.T) {
	s, d, _, ann := made(t)
	write(t, s, "db", "needle", "")
	quiet := map[string]bool{"there is no recovery identity: if the members lose theirs, the secrets are lost": true}
	look := func() map[string]Finding {
		t.Helper()
		found, err := s.Doctor(t.Context())
		check(t, "doctor", err)
		out := map[string]Finding{}
		for _, f := range found {
			if strings.Contains(f.What+f.Hint, "needle") {
				t.Errorf("it shows a value: %+v", f)
			}
			if !quiet[f.What] {
				out[f.Path] = f
			}
		}
		return out
	}
	if found := look(); len(found) != 0 {
		t.Fatalf("a fresh store: %+v", found)
	}
	d.Put("vault/keys/mine.txt", []byte("# mine\n"+ann.id.String()), 0o600)
	d.Place("vault/keys", fs.ModeDir|0o755)
	d.Put("vault/secrets/db/notes.txt", []byte("x"), 0o644)
	d.Put("vault/secrets/Not OK/1.age", []byte("x"), 0o644)
	d.Place("vault/secrets/Not OK", fs.ModeDir|0o755)
	d.Put("vault/store.toml", []byte("x"), 0o644)
	found := look()
	for path, severe := range map[string]bool{"vault/keys/mine.txt": true, "vault/secrets/db/notes.txt": false, "vault/secrets/Not OK": false, "vault/store.toml": false} {
		if f, there := found[path]; !there || f.Severe != severe || f.Hint == "" {
			t.Errorf("%s: %+v", path, f)
		}
	}
	if len(found) != 4 {
		t.Errorf("%v", slices.Sorted(maps.Keys(found)))
	}
	// A store without its key is damaged, and not empty.
	check(t, "remove", d.Remove("vault/store.key.age"))
	_, err := s.Describe(t.Context(), "db")
	class(t, "describe without the key", err, providers.Invalid)
	_, err = s.Write(t.Context(), secret.Write{Name: "new", Value: secret.NewValue([]byte("needle")), Token: token(), Create: &secret.Metadata{}})
	class(t, "write without the key", err, providers.Invalid)
	if f := look()["vault/store.key.age"]; !f.Severe {
		t.Errorf("%+v", f)
	}
}

// TestKeySources: the first that has an identity is taken, and one that is not
// as it should be ends the search.
func TestKeySources(t *testing.T) {
	s, d, c, ann := made(t)
	write(t, s, "db", "needle", "")
	stranger := newPerson(t)
	home := statefiletest.New()
	home.Put("mine", []byte(ann.id.String()), 0o600)
	home.Put("theirs", []byte(stranger.id.String()), 0o600)
	home.Put("open", []byte(ann.id.String()), 0o640)
	home.Place("link", fs.ModeSymlink|0o777)
	home.Put("empty", []byte("# nothing\n\n"), 0o600)
	home.Put("odd", []byte("needle-not-a-key"), 0o600)
	home.Put("bad", []byte("AGE-SECRET-KEY-PQ-1QQQQ"), 0o600)
	home.Put("plugin", []byte("AGE-PLUGIN-YUBIKEY-1QQQQ"), 0o600)
	home.Put("both", []byte("# old and new\n"+stranger.id.String()+"\n\n"+ann.id.String()+"\r\n"), 0o600)
	for files, works := range map[string]bool{
		"mine": true, "both": true, "none mine": true, "mine theirs": true, "mine open": true,
		"theirs mine": false, "open mine": false, "link mine": false, "none": false,
		"empty mine": false, "odd mine": false, "bad mine": false, "plugin mine": false,
	} {
		var keys []KeySource
		for _, name := range strings.Fields(files) {
			keys = append(keys, FromFile(name, home, name))
		}
		s := Open(Options{FS: d, Path: "vault", Clock: c, Rand: rand.Reader, Keys: keys})
		text, err := read(t, s, "db", "")
		if !works {
			class(t, files, err, providers.Denied)
		} else if err != nil || text != "needle" {
			t.Errorf("%s: %v", files, err)
		}
	}
	boom := errors.New("boom")
	s = Open(Options{FS: d, Path: "vault", Clock: c, Rand: rand.Reader, Keys: []KeySource{{Name: "cmd", Read: func(context.Context) ([]byte, error) { return nil, boom }}, ann.key()}})
	if _, err := read(t, s, "db", ""); !errors.Is(err, boom) {
		t.Errorf("%v", err)
	}
}

// TestPassphrase opens an identity file that is encrypted, armored or not, and
// asks once.
func TestPassphrase(t *testing.T) {
	s, d, c, ann := made(t)
	write(t, s, "db", "needle", "")
	r, err := age.NewScryptRecipient("correct horse")
	check(t, "recipient", err)
	r.SetWorkFactor(10)
	locked, err := encrypt([]byte(ann.id.String()+"\n"), r)
	check(t, "encrypt", err)
	for _, form := range [][]byte{locked, armored(t, locked)} {
		home := statefiletest.New()
		home.Put("id", form, 0o600)
		asked, phrase := 0, "correct horse"
		open := func(ask bool) *Store {
			o := Options{FS: d, Path: "vault", Clock: c, Rand: rand.Reader, Keys: []KeySource{FromFile("id", home, "id")}}
			if ask {
				o.Passphrase = func(_ context.Context, what string) ([]byte, error) {
					asked++
					if what != "id" {
						t.Errorf("asked for %s", what)
					}
					return []byte(phrase), nil
				}
			}
			return Open(o)
		}
		s := open(true)
		for range 3 {
			if text, err := read(t, s, "db", ""); err != nil || text != "needle" {
				t.Errorf("%v", err)
			}
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		phrase = "wrong"
		if _, err := read(t, open(true), "db", ""); err == nil || !strings.Contains(err.Error(), "the passphrase does not open it") {
			t.Errorf("%v", err)
		}
		if _, err := read(t, open(false), "db", ""); err == nil || !strings.Contains(err.Error(), "nobody is here to be asked") {
			t.Errorf("%v", err)
		}
	}
}
