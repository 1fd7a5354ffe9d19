//go:build unix

package file

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"
	"filippo.io/age/plugin"

	"freightliner/providers"
	"freightliner/statefile/statefiletest"
)

const pluginName = "freightlinertest"

// TestMain is an age plugin when it is run by that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "age-plugin-"+pluginName {
		runPlugin()
	}
	os.Exit(m.Run())
}

// runPlugin keeps an ordinary identity and asks for a PIN before it uses it.
func runPlugin() {
	p, err := plugin.New(pluginName)
	if err != nil {
		panic(err)
	}
	p.HandleRecipient(func(data []byte) (age.Recipient, error) { return age.ParseHybridRecipient(string(data)) })
	p.HandleIdentity(func(data []byte) (age.Identity, error) {
		id, err := age.ParseHybridIdentity(string(data))
		return pinned{p, id}, err
	})
	os.Args[0] = pluginName
	os.Exit(p.Main())
}

type pinned struct {
	p  *plugin.Plugin
	id *age.HybridIdentity
}

func (i pinned) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if pin, err := i.p.RequestValue("PIN", true); err != nil || pin != "1234" {
		return nil, age.ErrIncorrectIdentity
	}
	return i.id.Unwrap(stanzas)
}

// TestPlugin: a member whose identity is in a plugin opens the store with one
// question, beside members with ordinary identities.
func TestPlugin(t *testing.T) {
	self, err := os.Executable()
	check(t, "executable", err)
	dir := t.TempDir()
	check(t, "link", os.Symlink(self, filepath.Join(dir, "age-plugin-"+pluginName)))
	t.Setenv("PATH", dir)

	asked, pin := 0, "1234"
	ui := &PluginUI{
		RequestValue: func(string, string, bool) (string, error) { asked++; return pin, nil },
		WaitTimer:    func(string) {},
	}
	d, c, ann, bob := statefiletest.New(), newClock(), newPerson(t), newPerson(t)
	identity := plugin.EncodeIdentity(pluginName, []byte(bob.id.String()))
	recipient := plugin.EncodeRecipient(pluginName, []byte(bob.recipient()))
	open := func(ui *PluginUI) *Store {
		return Open(Options{FS: d, Path: "vault", Clock: c, Rand: rand.Reader, Plugins: ui, Keys: []KeySource{{Name: "test", Read: func(context.Context) ([]byte, error) { return []byte(identity), nil }}}})
	}
	s := Open(Options{FS: d, Path: "vault", Clock: c, Rand: rand.Reader, Plugins: ui, Keys: []KeySource{ann.key()}})
	_, err = s.Init(t.Context(), InitOptions{Member: "ann", Others: []Member{{"bob", recipient}}})
	check(t, "init", err)
	write(t, s, "db", "needle", "")

	bobs := open(ui)
	for range 3 {
		if text, err := read(t, bobs, "db", ""); err != nil || text != "needle" {
			t.Fatalf("%v", err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	// Where plugins are not allowed, none is run: not for a recipient either, which
	// may come out of a pull request.
	elsewhere := Open(Options{FS: d, Path: "elsewhere", Clock: c, Rand: rand.Reader, Keys: []KeySource{ann.key()}})
	_, err = elsewhere.Init(t.Context(), InitOptions{Member: "ann", Others: []Member{{"bob", recipient}}})
	class(t, "a plugin's recipient in a new store", err, providers.Denied)
	_, err = elsewhere.Init(t.Context(), InitOptions{Member: "ann"})
	check(t, "init without it", err)
	class(t, "a plugin's recipient as a new member", elsewhere.AddMember(t.Context(), Member{"bob", recipient}), providers.Denied)
	write(t, elsewhere, "db", "needle", "")

	pin = "0000"
	_, err = read(t, open(ui), "db", "")
	class(t, "a wrong PIN", err, providers.Denied)
	_, err = read(t, open(nil), "db", "")
	class(t, "plugins not allowed", err, providers.Denied)
	t.Setenv("PATH", t.TempDir())
	_, err = read(t, open(ui), "db", "")
	class(t, "without the plugin's program", err, providers.Denied)
}
