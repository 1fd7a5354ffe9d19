package file

import (
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"

	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/statefile/statefiletest"
)

// step is one intended change. It may be repeated after a failure, as the
// executor does, with what the steps before it gave.
type change struct {
	name string
	do   func(t *testing.T, s *Store, ids map[string]string) error
	want string // what the store looks like after it, by picture
}

// life is a secret's, and a member's, with everything that changes files.
func life(bob person) []change {
	first, second, third := token(), token(), token()
	write := func(key string, w secret.Write) func(*testing.T, *Store, map[string]string) error {
		return func(t *testing.T, s *Store, ids map[string]string) error {
			w := w
			w.Expect = ids[w.Expect]
			w.Name, w.Value, w.Owner = "app/db", secret.NewValue([]byte("needle-"+key)), "secret.db"
			v, err := s.Write(t.Context(), w)
			if err == nil {
				ids[key] = v.ID
			}
			return err
		}
	}
	words := "words"
	deletion := func(force bool) func(*testing.T, *Store, map[string]string) error {
		return func(t *testing.T, s *Store, ids map[string]string) error {
			_, err := s.Delete(t.Context(), "app/db", secret.Deletion{Expect: ids["two"], Force: force})
			if force && providers.ClassOf(err) == providers.NotFound {
				return nil // done before
			}
			return err
		}
	}
	return []change{
		{"create", write("one", secret.Write{Token: first, Create: &secret.Metadata{}}), "1 needle-one  [ann]"},
		{"write", write("two", secret.Write{Token: second, Expect: "one"}), "2 needle-two  [ann]"},
		{"update", func(t *testing.T, s *Store, _ map[string]string) error {
			return s.Update(t.Context(), "app/db", secret.Metadata{Description: &words}, "")
		}, "2 needle-two words [ann]"},
		{"delete", deletion(false), "deleted [ann]"},
		{"restore", func(t *testing.T, s *Store, _ map[string]string) error {
			return s.Restore(t.Context(), "app/db")
		}, "2 needle-two words [ann]"},
		{"add member", func(t *testing.T, s *Store, _ map[string]string) error {
			return s.AddMember(t.Context(), Member{"bob", bob.recipient()})
		}, "2 needle-two words [ann bob]"},
		{"remove member", func(t *testing.T, s *Store, _ map[string]string) error {
			_, err := s.RemoveMember(t.Context(), "bob")
			if providers.ClassOf(err) == providers.NotFound {
				return nil // done before
			}
			return err
		}, "2 needle-two words [ann]"},
		{"delete for ever", deletion(true), "absent [ann]"},
		{"create again", write("three", secret.Write{Token: third, Create: &secret.Metadata{}}), "1 needle-three  [ann]"},
	}
}

// picture is what a reader sees.
func picture(t *testing.T, s *Store) string {
	t.Helper()
	members := ""
	m, err := s.Members(t.Context())
	switch {
	case providers.ClassOf(err) == providers.NotFound:
		return "nothing"
	case err != nil:
		t.Fatal(err)
	}
	for _, one := range m.Members {
		members += " " + one.Name
	}
	members = "[" + strings.TrimSpace(members) + "]"
	info, err := s.Describe(t.Context(), "app/db")
	switch {
	case providers.ClassOf(err) == providers.NotFound:
		return "absent " + members
	case err != nil:
		t.Fatal(err)
	case !info.Deletion.IsZero():
		return "deleted " + members
	}
	text, err := read(t, s, "app/db", info.Version)
	check(t, "read", err)
	history, err := s.History(t.Context(), "app/db")
	check(t, "history", err)
	return fmt.Sprintf("%d %s %s %s", len(history), text, *info.Metadata.Description, members)
}

// TestEveryCrash takes the power after each file operation of a life. Whatever
// the disk kept, a reader sees the state before the step or the one after it,
// and repeating the step ends as if nothing had happened.
func TestEveryCrash(t *testing.T) {
	d, c, ann, bob := statefiletest.New(), newClock(), newPerson(t), newPerson(t)
	s := opened(d, c, ann)
	ids := map[string]string{}
	points, disks := 0, 0
	before := "nothing"
	for _, step := range life(bob) {
		d.After(func(op statefiletest.Op) {
			points++
			for crashed := range d.Crashes(512) {
				disks++
				next := opened(crashed, c, ann)
				where := fmt.Sprintf("%s, after %v", step.name, op)
				switch got := picture(t, next); {
				case got == before, got == step.want:
				case step.name == "create" && got == "absent [ann]": // the store is made first
				default:
					t.Fatalf("%s: %q, want %q or %q", where, got, before, step.want)
				}
				later := maps.Clone(ids)
				if err := step.do(t, next, later); err != nil {
					t.Fatalf("%s: again: %v", where, err)
				}
				if got := picture(t, next); got != step.want {
					t.Fatalf("%s: again: %q, want %q", where, got, step.want)
				}
				tidy(t, where, next, crashed)
			}
		})
		check(t, step.name, step.do(t, s, ids))
		d.After(nil)
		if before = picture(t, s); before != step.want {
			t.Fatalf("%s: %q, want %q", step.name, before, step.want)
		}
	}
	t.Logf("%d points, %d disks", points, disks)
}

// tidy wants nothing severe, and no file that should not be there.
func tidy(t *testing.T, where string, s *Store, d *statefiletest.Disk) {
	t.Helper()
	found, err := s.Doctor(t.Context())
	check(t, where, err)
	for _, f := range found {
		if strings.Contains(f.What, "is known to the former member bob") {
			continue
		}
		if f.Severe || strings.Contains(f.What, "none of the store's files") {
			t.Fatalf("%s: %+v\n%v", where, f, d)
		}
	}
}

// TestEveryFault makes each file operation of a life fail: once, until the step
// has failed, or half-way. The next try, of the same process or the next
// one, ends as if nothing had happened.
func TestEveryFault(t *testing.T) {
	bob, ann := newPerson(t), newPerson(t)
	run := func(fault *statefiletest.Fault, sameProcess bool) (failed int, ops int) {
		d, c := statefiletest.New(), newClock()
		d.Fail(fault)
		s := opened(d, c, ann)
		ids := map[string]string{}
		for _, step := range life(bob) {
			err := step.do(t, s, ids)
			if err != nil {
				failed++
				d.Fail(nil)
				if !sameProcess {
					s = opened(d, c, ann)
				}
				if err := step.do(t, s, ids); err != nil {
					t.Fatalf("%+v: %s again: %v", fault, step.name, err)
				}
			}
		}
		d.Fail(nil)
		if got := picture(t, s); got != "1 needle-three  [ann]" {
			t.Fatalf("%+v: %q", fault, got)
		}
		return failed, d.Ops()
	}
	_, ops := run(nil, true)
	cases, failures := 0, 0
	for at := 1; at <= ops; at++ {
		// In turn, since a life costs a hundred operations of age: neighbours are
		// of one kind, so each kind meets each fault.
		f := statefiletest.Fault{At: at, Err: syscall.ENOSPC, Always: at%3 == 1, Short: at%3 == 2}
		failed, _ := run(&f, at%2 == 0)
		cases, failures = cases+1, failures+failed
	}
	if failures < cases/2 {
		t.Errorf("only %d of %d faults made a step fail", failures, cases)
	}
	t.Logf("%d operations, %d cases", ops, cases)
}
