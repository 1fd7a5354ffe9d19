package file

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	"freightliner/providers/disk"
	"freightliner/providers/secret"
	"freightliner/statefile/statefiletest"
)

// class wants an error of this class that does not show the needle.
func class(t *testing.T, what string, err error, want providers.Class) {
	t.Helper()
	if err == nil || providers.ClassOf(err) != want {
		t.Errorf("%s: class %v (%v), want %v", what, providers.ClassOf(err), err, want)
	}
	if said := fmt.Sprintf("%v %+v %s", err, err, providers.HintOf(err)); strings.Contains(said, "needle") || strings.Contains(said, "AGE-SECRET-KEY-PQ-1") {
		t.Errorf("%s: the error shows what it must not", what)
	}
}

// TestNothingIsMadeBeforeTheFirstWrite, also not by asking for what is not there.
func TestNothingIsMadeBeforeTheFirstWrite(t *testing.T) {
	d := statefiletest.New()
	s := Open(Options{FS: d, Path: "vault", Clock: newClock(), Rand: rand.Reader})
	_, err := s.Describe(t.Context(), "db")
	class(t, "describe", err, providers.NotFound)
	_, err = read(t, s, "db", "")
	class(t, "read", err, providers.NotFound)
	for _, err := range s.List(t.Context(), "") {
		t.Errorf("listed something, or %v", err)
	}
	w := secret.Write{Name: "db", Value: secret.NewValue([]byte("needle")), Token: token()}
	if _, made, err := s.Settle(t.Context(), w); made || err != nil {
		t.Errorf("settle: %v %v", made, err)
	}
	_, err = s.Write(t.Context(), w)
	class(t, "write", err, providers.Conflict)
	w.Create = &secret.Metadata{}
	_, err = s.Write(t.Context(), w)
	class(t, "create without AutoInit", err, providers.Invalid)
	if who, err := s.Principal(t.Context()); who != "" || err != nil {
		t.Errorf("principal %q %v", who, err)
	}
	if len(d.Files()) != 0 || d.Bytes("vault") != nil {
		t.Errorf("made %v", d)
	}
}

// TestLayout holds the names of the files, and what is in clear.
func TestLayout(t *testing.T) {
	s, d, _, ann := made(t)
	v := write(t, s, "prod/DB", "needle-one", "")
	write(t, s, "prod/DB", "needle-two", v.ID)
	files := d.Files()
	slices.Sort(files)
	if diff := cmp.Diff([]string{"vault/.gitattributes", "vault/.gitignore", "vault/.lock", "vault/secrets/prod+!d!b/1.age", "vault/secrets/prod+!d!b/2.age", "vault/store.key.age", "vault/store.toml"}, files); diff != "" {
		t.Error(diff)
	}
	m, err := s.Members(t.Context())
	check(t, "members", err)
	want := fmt.Sprintf("# A store of secrets. For people: the truth is inside store.key.age.\nformat = 1\nid = %q\ngeneration = 1\n\n[members]\n\"ann\" = %q\n", m.Store, ann.recipient())
	if diff := cmp.Diff(want, string(d.Bytes("vault/store.toml"))); diff != "" {
		t.Error(diff)
	}
	key := s.open.Keys[0]
	for _, file := range files {
		if info, err := d.Lstat(file); err != nil || info.Mode.Perm() != 0o600 {
			t.Errorf("%s: mode %v %v", file, info.Mode, err)
		}
		b := d.Bytes(file)
		for _, hidden := range []string{"needle", "prod/DB", "secret.test", key, s.open.ids[0].(*age.HybridIdentity).Recipient().String(), ann.id.String()} {
			if bytes.Contains(b, []byte(hidden)) {
				t.Errorf("%s shows %.20s…", file, hidden)
			}
		}
	}
	// Twice `age -d` gives the value, without freightliner: the layout is no trap.
	plain, err := decrypt(d.Bytes("vault/store.key.age"), ann.id)
	check(t, "key", err)
	k, err := parseKeyring(plain)
	check(t, "key", err)
	id, err := age.ParseHybridIdentity(k.Keys[0])
	check(t, "identity", err)
	plain, err = decrypt(d.Bytes("vault/secrets/prod+!d!b/2.age"), id)
	check(t, "secret", err)
	if !bytes.Contains(plain, []byte("\x00\x00\x00\x0aneedle-two\x00")) {
		t.Errorf("the payload is not where envelope.go says")
	}
}

// TestLengthsAreHidden in steps.
func TestLengthsAreHidden(t *testing.T) {
	s, d, _, _ := made(t)
	sizes := map[int]bool{}
	for i, n := range []int{0, 1, 8, 16, 20} {
		name := fmt.Sprintf("s%d", i)
		write(t, s, name, strings.Repeat("x", n), "")
		sizes[len(d.Bytes("vault/secrets/"+name+"/1.age"))] = true
	}
	if len(sizes) != 1 {
		t.Errorf("lengths from 0 to 20 give files of %v bytes", sizes)
	}
}

// TestIDsTellNothing: the same payload has another id each time, so the state
// can not be searched for a guess.
func TestIDsTellNothing(t *testing.T) {
	s, _, _, _ := made(t)
	seen := map[string]bool{}
	expect := ""
	for range 50 {
		expect = write(t, s, "pin", "1234", expect).ID
		_, mac, _ := strings.Cut(expect, "-")
		if len(mac) != 32 || seen[mac] {
			t.Fatalf("id %s", expect)
		}
		seen[mac] = true
	}
}

// TestFilesInTheWrongPlace are errors, never values and never absence.
func TestFilesInTheWrongPlace(t *testing.T) {
	dir := "vault/secrets/"
	for what, tamper := range map[string]func(t *testing.T, d *statefiletest.Disk){
		"another secret's": func(_ *testing.T, d *statefiletest.Disk) { d.Put(dir+"db/2.age", d.Bytes(dir+"other/2.age"), 0o600) },
		"another number":   func(_ *testing.T, d *statefiletest.Disk) { d.Put(dir+"db/2.age", d.Bytes(dir+"db/1.age"), 0o600) },
		"renamed":          func(_ *testing.T, d *statefiletest.Disk) { d.Put(dir+"db/3.age", d.Bytes(dir+"db/1.age"), 0o600) },
		"another store's": func(t *testing.T, d *statefiletest.Disk) {
			s2, d2, _, _ := made(t)
			v := write(t, s2, "db", "needle-foreign", "")
			write(t, s2, "db", "needle-foreign", v.ID)
			d.Put(dir+"db/2.age", d2.Bytes(dir+"db/2.age"), 0o600)
		},
		"forged to the members": func(t *testing.T, d *statefiletest.Disk) {
			// The members' recipients are public: whoever knows them can encrypt to
			// them, and still not to the store.
			text := string(d.Bytes("vault/store.toml"))
			at := strings.Index(text, "age1pq1")
			r, err := age.ParseHybridRecipient(text[at : at+strings.Index(text[at:], `"`)])
			check(t, "recipient", err)
			sealed, err := seal(r, header{Store: "x", Name: "db", N: 2, Salt: make([]byte, 32)}, []byte("needle-forged"))
			check(t, "seal", err)
			d.Put(dir+"db/2.age", sealed, 0o600)
		},
		"empty":   func(_ *testing.T, d *statefiletest.Disk) { d.Put(dir+"db/2.age", nil, 0o600) },
		"not age": func(_ *testing.T, d *statefiletest.Disk) { d.Put(dir+"db/2.age", []byte("needle"), 0o600) },
		"truncated": func(_ *testing.T, d *statefiletest.Disk) {
			d.Edit(dir+"db/2.age", func(b []byte) []byte { return b[:len(b)-1] })
		},
		"longer": func(_ *testing.T, d *statefiletest.Disk) {
			d.Edit(dir+"db/2.age", func(b []byte) []byte { return append(b, 0) })
		},
	} {
		s, d, _, _ := made(t)
		v := write(t, s, "db", "needle-one", "")
		write(t, s, "db", "needle-two", v.ID)
		o := write(t, s, "other", "needle-other", "")
		write(t, s, "other", "needle-other-2", o.ID)
		tamper(t, d)
		text, err := read(t, s, "db", "")
		class(t, what+": read", err, providers.Conflict)
		if text != "" {
			t.Errorf("%s: a value", what)
		}
		_, err = s.Describe(t.Context(), "db")
		class(t, what+": describe", err, providers.Conflict)
		_, err = s.Write(t.Context(), secret.Write{Name: "db", Value: secret.NewValue([]byte("needle-x")), Token: token(), Create: &secret.Metadata{}})
		class(t, what+": create", err, providers.Conflict)
		var listErr error
		for _, err := range s.List(t.Context(), "") {
			listErr = err
		}
		if listErr == nil {
			// The list may end with the good ones first; the error must be in it.
			t.Errorf("%s: the list is silent", what)
		}
		found, err := s.Doctor(t.Context())
		check(t, "doctor", err)
		if !slices.ContainsFunc(found, func(f Finding) bool { return f.Severe && strings.HasPrefix(f.Path, dir+"db/") }) {
			t.Errorf("%s: the doctor says %+v", what, found)
		}
	}
}

// TestRollbackIsSeen by whoever knows the version id, as the state does.
func TestRollbackIsSeen(t *testing.T) {
	s, d, c, ann := made(t)
	one := write(t, s, "db", "needle-one", "")
	fork := d.Clone()
	two := write(t, s, "db", "needle-two", one.ID)
	forked := write(t, opened(fork, c, ann), "db", "needle-fork", one.ID)

	// Exchanged by a version with the same number, of the same store, of another
	// branch: sound in itself, and not the one that is known.
	d.Put("vault/secrets/db/2.age", fork.Bytes("vault/secrets/db/2.age"), 0o600)
	_, err := read(t, s, "db", two.ID)
	class(t, "read of what was exchanged", err, providers.Conflict)
	info, err := s.Describe(t.Context(), "db")
	check(t, "describe", err)
	if info.Version != forked.ID || info.Version == two.ID {
		t.Errorf("described as %s", info.Version)
	}
	_, err = s.Write(t.Context(), secret.Write{Name: "db", Value: secret.NewValue([]byte("needle-3")), Token: token(), Expect: two.ID})
	class(t, "write over what was exchanged", err, providers.Conflict)

	// Rolled back by removing the newest.
	check(t, "remove", d.Remove("vault/secrets/db/2.age"))
	_, err = read(t, s, "db", two.ID)
	class(t, "read of what was rolled back", err, providers.NotFound)
	if info, err = s.Describe(t.Context(), "db"); err != nil || info.Version != one.ID {
		t.Errorf("described as %s, %v", info.Version, err)
	}
	// A later version that does not follow the earlier one is told.
	fork3 := write(t, opened(fork, c, ann), "db", "needle-fork-3", forked.ID)
	again := write(t, s, "db", "needle-two-again", one.ID)
	d.Put("vault/secrets/db/3.age", fork.Bytes("vault/secrets/db/3.age"), 0o600)
	found, err := s.Doctor(t.Context())
	check(t, "doctor", err)
	if !slices.ContainsFunc(found, func(f Finding) bool { return f.Severe && strings.Contains(f.What, "does not follow version 2") }) {
		t.Errorf("%s after %s: the doctor says %+v", fork3.ID, again.ID, found)
	}
}

// TestDeletedOnOneBranchWrittenOnAnother: the merge of the two loses nothing by
// itself, however long it lies.
func TestDeletedOnOneBranchWrittenOnAnother(t *testing.T) {
	s, d, c, ann := made(t)
	one := write(t, s, "db", "needle-one", "")
	branch := d.Clone()
	_, err := opened(branch, c, ann).Delete(t.Context(), "db", secret.Deletion{Expect: one.ID})
	check(t, "delete", err)
	two := write(t, s, "db", "needle-two", one.ID)
	d.Put("vault/secrets/db/deleted.age", branch.Bytes("vault/secrets/db/deleted.age"), 0o600)
	for range 2 {
		_, err = s.Describe(t.Context(), "db")
		class(t, "describe", err, providers.Conflict)
		_, err = s.Write(t.Context(), secret.Write{Name: "db", Value: secret.NewValue([]byte("needle-3")), Token: token(), Create: &secret.Metadata{}})
		class(t, "create", err, providers.Conflict)
		if purged, err := s.Purge(t.Context()); len(purged) != 0 || err == nil {
			t.Errorf("purged %v, %v", purged, err)
		}
		c.advance(365 * 24 * time.Hour)
	}
	check(t, "remove", d.Remove("vault/secrets/db/deleted.age"))
	if text, err := read(t, s, "db", two.ID); err != nil || text != "needle-two" {
		t.Errorf("%v", err)
	}
}

// TestPurge removes what is final and nothing else.
func TestPurge(t *testing.T) {
	s, d, c, _ := made(t)
	for _, name := range []string{"kept", "waiting", "final"} {
		v := write(t, s, name, "needle", "")
		if name != "kept" {
			_, err := s.Delete(t.Context(), name, secret.Deletion{Expect: v.ID, Window: map[string]time.Duration{"waiting": 30 * time.Hour, "final": time.Hour}[name]})
			check(t, "delete", err)
		}
	}
	c.advance(2 * time.Hour)
	purged, err := s.Purge(t.Context())
	check(t, "purge", err)
	if diff := cmp.Diff([]string{"final"}, purged); diff != "" {
		t.Error(diff)
	}
	if d.Bytes("vault/secrets/final/1.age") != nil || d.Bytes("vault/secrets/waiting/1.age") == nil || d.Bytes("vault/secrets/kept/1.age") == nil {
		t.Errorf("left %v", d)
	}
}

// TestSeveralProcesses write to one directory of a real file system: of those
// who expect the same version, one wins.
func TestSeveralProcesses(t *testing.T) {
	root := openRoot(t, t.TempDir())
	ann := newPerson(t)
	process := func() *Store {
		s := opened(disk.OS(root), realClock{}, ann)
		return s
	}
	expect := ""
	for round := range 8 {
		const n = 3
		var all sync.WaitGroup
		versions, errs := make([]secret.Version, n), make([]error, n)
		for i := range n {
			s := process()
			w := secret.Write{Name: "db", Value: secret.NewValue([]byte(fmt.Sprint("needle-", round, i))), Token: token(), Expect: expect}
			if expect == "" {
				w.Create = &secret.Metadata{}
			}
			all.Go(func() { versions[i], errs[i] = s.Write(context.Background(), w) })
		}
		all.Wait()
		wins := 0
		for i, err := range errs {
			if err == nil {
				wins++
				expect = versions[i].ID
			} else {
				class(t, "a loser", err, providers.Conflict)
			}
		}
		if wins != 1 {
			t.Fatalf("round %d: %d won: %v", round, wins, errs)
		}
	}
	history, err := process().History(t.Context(), "db")
	check(t, "history", err)
	if len(history) != 8 {
		t.Errorf("%d versions of 8 rounds", len(history))
	}
	entries, err := os.ReadDir(path.Join(root.Name(), "vault/secrets/db"))
	check(t, "dir", err)
	if len(entries) != 8 {
		t.Errorf("left %v", entries)
	}
}

// realClock is the machine's.
type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }

func (realClock) Wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func TestNames(t *testing.T) {
	dirs := map[string]string{}
	for _, name := range []string{"a", "A", "aA", "Aa", "prod/db", "prod/DB", "prod/d/b", "a.b", "a=b", "a@b", "_x", "0", "1.age", "a-b", "deleted.age", strings.Repeat("x", 140), strings.Repeat("X", 70)} {
		if err := checkName(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		dir := dirOf(name)
		if other, twice := dirs[strings.ToLower(dir)]; twice {
			t.Errorf("%s and %s meet in %s", name, other, dir)
		}
		dirs[strings.ToLower(dir)] = name
		if back, ok := nameOf(dir); !ok || back != name {
			t.Errorf("%s -> %s -> %s", name, dir, back)
		}
	}
	for _, bad := range append(slices.Clone(badNames), strings.Repeat("x", 141), strings.Repeat("X", 71)) {
		if checkName(bad) == nil {
			t.Errorf("%q passes", bad)
		}
	}
	for _, dir := range []string{"", ".tmp-0123456789abcdef", "A", "a!", "a!A", "a!1", "+a", "a++b", "con", "a.", ".x"} {
		if name, ok := nameOf(dir); ok {
			t.Errorf("%s is taken for the secret %s", dir, name)
		}
	}
}
