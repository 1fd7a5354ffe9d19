package secrettest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// Conformance tells the story over worlds that open makes, one for each part.
func Conformance(t *testing.T, open func(t *testing.T) World) {
	for _, part := range []struct {
		name string
		tell func(*story)
	}{
		{"names and limits", limits},
		{"nothing is there", nothing},
		{"versions follow each other", versions},
		{"a token makes one version", oneToken},
		{"settle", settle},
		{"payloads come back as they were", payloads},
		{"many are read at once", many},
		{"lists", lists},
		{"metadata", metadata},
		{"a secret without a value", bare},
		{"deleted, restored, gone", deletion},
		{"concurrent writers", writers},
		{"concurrent creators", creators},
		{"a context that ended", ended},
		{"crashes make one version", crashes},
	} {
		t.Run(part.name, func(t *testing.T) {
			w := open(t)
			seen := &witness{Store: w.Store, t: t}
			w.Store = seen
			defer seen.verdict()
			part.tell(&story{T: t, World: w, seen: seen})
		})
	}
}

func limits(s *story) {
	l := s.Store.Limits()
	if place := s.Store.Place(); place == "" || place != s.Store.Place() {
		s.Errorf("place %q, then %q", place, s.Store.Place())
	}
	if l.Payload <= 0 || l.CheckName == nil || l.CheckMetadata == nil {
		s.Fatalf("limits %+v", l)
	}
	good := []string{s.name("a"), s.name("A-b_c9")}
	if s.Slashes {
		good = append(good, s.name("team/app/db"))
	}
	for _, name := range good {
		if err := l.CheckName(name); err != nil {
			s.Errorf("%s: %v", name, err)
		}
	}
	if err := l.CheckMetadata(secret.Metadata{}); err != nil {
		s.Errorf("no metadata: %v", err)
	}
	for _, name := range append([]string{""}, s.BadNames...) {
		if l.CheckName(name) == nil {
			s.Errorf("the name %q passes", name)
		}
		_, err := s.Store.Write(s.Context(), secret.Write{Name: name, Value: s.value("needle-bad-name"), Token: token(), Create: &secret.Metadata{}})
		s.class(fmt.Sprintf("write %q", name), err, providers.Invalid)
	}
	name := s.name("large")
	long := s.value(strings.Repeat("x", l.Payload+1))
	_, err := s.Store.Write(s.Context(), secret.Write{Name: name, Value: long, Token: token(), Create: &secret.Metadata{}})
	s.class("a payload over the limit", err, providers.Invalid)
	s.absent(name)
}

func nothing(s *story) {
	name := s.name("nobody")
	s.absent(name)
	_, err := s.Store.History(s.Context(), name)
	s.class("history", err, providers.NotFound)
	s.class("update", s.Store.Update(s.Context(), name, secret.Metadata{Owner: "secret.x"}, ""), providers.NotFound)
	_, err = s.Store.Delete(s.Context(), name, secret.Deletion{})
	s.class("delete", err, providers.NotFound)
	want := providers.NotFound
	if !s.Store.Limits().Undelete {
		want = providers.Unsupported
	}
	s.class("restore", s.Store.Restore(s.Context(), name), want)
	for _, expect := range []string{"", "1"} {
		_, err = s.Store.Write(s.Context(), secret.Write{Name: name, Value: s.value("needle-no-create"), Token: token(), Expect: expect})
		s.class("write without create, expecting "+expect, err, providers.Conflict)
	}
	if got := s.list(s.name("")); len(got) != 0 {
		s.Errorf("listed %v", got)
	}
	s.absent(name)
}

func versions(s *story) {
	name := s.name("db")
	first := s.create(name, "needle-one")
	s.holds(name, "needle-one", first.ID)
	second := s.write(name, "needle-two", first.ID)
	s.holds(name, "needle-two", second.ID)
	// Back to the first payload: a third change, a third version.
	third := s.write(name, "needle-one", second.ID)
	s.holds(name, "needle-one", third.ID)
	if first.ID == second.ID || second.ID == third.ID || first.ID == third.ID {
		s.Fatalf("ids repeat: %s %s %s", first.ID, second.ID, third.ID)
	}
	// The version before stays readable by its id.
	r, text := s.read(secret.Ref{Name: name, Version: second.ID})
	if r.Err != nil || text != "needle-two" || r.Version.ID != second.ID || r.Version.State != secret.Previous {
		s.Errorf("the version before reads as %+v", r.Version)
	}
	r, _ = s.read(secret.Ref{Name: name, Version: strings.Repeat("0", 36)})
	s.class("read of a version that never was", r.Err, providers.NotFound, providers.Invalid, providers.Conflict)

	for _, old := range []string{"", first.ID, second.ID} {
		_, err := s.Store.Write(s.Context(), secret.Write{Name: name, Value: s.value("needle-late"), Token: token(), Expect: old})
		s.class("write expecting an old version", err, providers.Conflict)
	}
	_, err := s.Store.Write(s.Context(), secret.Write{Name: name, Value: s.value("needle-late"), Token: token(), Create: &secret.Metadata{}})
	s.class("create of what is there", err, providers.Conflict)
	s.holds(name, "needle-one", third.ID)

	s.eventually("history", func() error {
		h := s.history(name)
		if len(h) == 0 || h[0].ID != third.ID || h[0].State != secret.Current {
			return fmt.Errorf("it begins with %+v, want the current %s", h, third.ID)
		}
		i := slices.IndexFunc(h, func(v secret.Version) bool { return v.ID == second.ID })
		if i < 1 || h[i].State != secret.Previous {
			return fmt.Errorf("%+v lacks %s as previous", h, second.ID)
		}
		if n := effective(h[1:]); n > 2 || slices.ContainsFunc(h[1:], func(v secret.Version) bool { return v.State == secret.Current }) {
			return fmt.Errorf("%+v: three versions were made", h)
		}
		return nil
	})
}

func oneToken(s *story) {
	name := s.name("once")
	create := secret.Write{Name: name, Value: s.value("needle-first"), Token: token(), Create: &secret.Metadata{Owner: "secret.story"}, Owner: "secret.story"}
	first, err := s.Store.Write(s.Context(), create)
	s.ok("create", err)
	for range 3 {
		again, err := s.Store.Write(s.Context(), create)
		s.ok("create again with the same token", err)
		if again.ID != first.ID {
			s.Fatalf("a second version %s of one token", again.ID)
		}
	}
	change := secret.Write{Name: name, Value: s.value("needle-second"), Token: token(), Expect: first.ID, Owner: "secret.story"}
	second, err := s.Store.Write(s.Context(), change)
	s.ok("write", err)
	for range 3 {
		again, err := s.Store.Write(s.Context(), change)
		s.ok("write again with the same token", err)
		if again.ID != second.ID {
			s.Fatalf("a second version %s of one token", again.ID)
		}
	}
	// A late repetition of the older change does not bring it back.
	if late, err := s.Store.Write(s.Context(), create); err == nil && late.ID != first.ID {
		s.Fatalf("the old token made %s", late.ID)
	} else if err != nil {
		s.class("the old token again", err, providers.Conflict)
	}
	s.holds(name, "needle-second", second.ID)
	if n := effective(s.history(name)); n != 2 {
		s.Errorf("%d versions of two changes", n)
	}
}

func settle(s *story) {
	name := s.name("settled")
	w := secret.Write{Name: name, Value: s.value("needle-settle"), Token: token(), Create: &secret.Metadata{}}
	if v, made, err := s.Store.Settle(s.Context(), w); err != nil || made {
		s.Fatalf("settle of what never was: %v %v %v", v, made, err)
	}
	s.absent(name)
	first, err := s.Store.Write(s.Context(), w)
	s.ok("write", err)
	for _, value := range []secret.Value{w.Value, {}} {
		w.Value = value
		if v, made, err := s.Store.Settle(s.Context(), w); err != nil || !made || v.ID != first.ID {
			s.Fatalf("settle of what was made: %v %v %v, want %s", v, made, err, first.ID)
		}
	}
	other := secret.Write{Name: name, Value: s.value("needle-other"), Token: token(), Expect: first.ID}
	if v, made, err := s.Store.Settle(s.Context(), other); err != nil || made {
		s.Fatalf("settle of another token: %v %v %v", v, made, err)
	}
	s.holds(name, "needle-settle", first.ID)
	second, err := s.Store.Write(s.Context(), other)
	s.ok("write after settle", err)
	if v, made, err := s.Store.Settle(s.Context(), other); err != nil || !made || v.ID != second.ID {
		s.Fatalf("settle: %v %v %v, want %s", v, made, err, second.ID)
	}
	if n := effective(s.history(name)); n != 2 {
		s.Errorf("%d versions of two changes", n)
	}
}

func payloads(s *story) {
	random := rand.New(rand.NewPCG(6, 7))
	noise := make([]byte, 4096)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	limit := s.Store.Limits().Payload
	texts := []string{
		"x", "line one\nline two\n", "\n", " \t ", "café ☕ \U0001F512", "with \"quotes\", 'these', `those`, 100%d, $HOME, \\n",
		`{"user":"app","password":"p\"w","port":5432}`, string(all), string(noise), "\xff\xfe\x00\x80", "\x00",
		"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n",
		strings.Repeat("k", limit), string(noise[:1]) + strings.Repeat("\xfe", limit-1),
	}
	if s.Empty {
		texts = append(texts, "")
	}
	for i, text := range texts {
		name := s.name(fmt.Sprintf("payload-%d", i))
		v := s.create(name, text)
		s.holds(name, text, v.ID)
	}
	// One secret through all forms, so that none depends on its predecessor's.
	name := s.name("forms")
	v := s.create(name, "needle-start")
	for _, text := range texts[:min(len(texts), 12)] {
		v = s.write(name, text, v.ID)
		s.holds(name, text, v.ID)
	}
}

func many(s *story) {
	const n = 45
	want := map[string]string{}
	var refs []secret.Ref
	for i := range n {
		name := s.name(fmt.Sprintf("many-%02d", i))
		text := fmt.Sprintf("needle-many-%d", i)
		s.create(name, text)
		want[name] = text
		refs = append(refs, secret.Ref{Name: name})
	}
	refs = append(refs, secret.Ref{Name: s.name("many-absent")})
	s.eventually("read of many", func() error {
		got := map[string]string{}
		var inside atomic.Int32
		err := s.Store.Read(s.Context(), refs, func(r secret.Reading) {
			if inside.Add(1) != 1 {
				s.Error("two readings at once")
			}
			defer inside.Add(-1)
			if _, twice := got[r.Ref.Name]; twice {
				s.Errorf("%s twice", r.Ref.Name)
			}
			got[r.Ref.Name] = providers.ClassOf(r.Err).String()
			r.Value.Use(func(b []byte) { got[r.Ref.Name] = string(b) })
			r.Value.Zero()
		})
		s.ok("read", err)
		if len(got) != len(refs) {
			s.Fatalf("%d readings of %d", len(got), len(refs))
		}
		if got[s.name("many-absent")] != "not_found" {
			s.Fatalf("the absent one is %s", got[s.name("many-absent")])
		}
		delete(got, s.name("many-absent"))
		if !maps.Equal(got, want) {
			return fmt.Errorf("wrong payloads")
		}
		return nil
	})
	s.ok("read of nothing", s.Store.Read(s.Context(), nil, func(secret.Reading) { s.Error("a reading of nothing") }))
}

func lists(s *story) {
	names := []string{"team-a", "team-b", "teamster", "x-team-a", "TEAM-c"}
	if s.Slashes {
		names = append(names, "team/one", "team/two/three", "other/team/one")
	}
	ids := map[string]string{}
	for _, n := range names {
		ids[s.name(n)] = s.create(s.name(n), "needle-list").ID
	}
	for _, prefix := range []string{"", "team", "team-", "team/", "team-a", "x", "none"} {
		s.eventually("list "+prefix, func() error {
			got := s.list(s.name(prefix))
			for name, id := range ids {
				info, found := got[name]
				if found != strings.HasPrefix(name, s.name(prefix)) {
					return fmt.Errorf("%s listed: %v", name, found)
				}
				if found && (info.Version != id && !info.VersionUnknown || info.Owner != "secret.story" || info.Trouble != "" || !info.Deletion.IsZero()) {
					return fmt.Errorf("%s is listed as %+v, want version %s", name, info, id)
				}
			}
			return nil
		})
	}
	for range s.Store.List(s.Context(), s.name("")) {
		break // whoever has seen enough may leave
	}
}

func text(s string) *string { return &s }

func metadata(s *story) {
	name := s.name("described")
	made := secret.Metadata{Owner: "secret.one"}
	made.Description = text("the first words")
	if s.Labels {
		made.Labels = map[string]string{"team": "a", "tier": "gold"}
	}
	s.ok("check", s.Store.Limits().CheckMetadata(made))
	v, err := s.Store.Write(s.Context(), secret.Write{Name: name, Value: s.value("needle-meta"), Token: token(), Create: &made, Owner: made.Owner})
	s.ok("create", err)
	is := func(what, description string, labels map[string]string, owner string) secret.Info {
		s.Helper()
		var info secret.Info
		s.eventually(what, func() (err error) {
			if info, err = s.Store.Describe(s.Context(), name); err != nil {
				return err
			}
			got := ""
			if info.Metadata.Description != nil {
				got = *info.Metadata.Description
			}
			if got != description || !maps.Equal(info.Metadata.Labels, labels) || info.Owner != owner || info.Version != v.ID {
				return fmt.Errorf("%q %v owner %q version %q, want %q %v %q %q", got, info.Metadata.Labels, info.Owner, info.Version, description, labels, owner, v.ID)
			}
			return nil
		})
		return info
	}
	before := is("as made", "the first words", made.Labels, "secret.one")
	s.ok("update", s.Store.Update(s.Context(), name, secret.Metadata{Description: text("other words"), Owner: "secret.two"}, before.Metadata.Etag))
	is("description and owner", "other words", made.Labels, "secret.two")
	if s.Etags {
		if before.Metadata.Etag == "" {
			s.Error("no etag")
		}
		s.class("update with an old etag", s.Store.Update(s.Context(), name, secret.Metadata{Description: text("late words")}, before.Metadata.Etag), providers.Conflict)
	}
	labels := made.Labels
	if s.Labels {
		labels = map[string]string{"team": "b"}
		s.ok("labels", s.Store.Update(s.Context(), name, secret.Metadata{Labels: labels}, ""))
		is("labels", "other words", labels, "secret.two")
	}
	s.ok("nothing", s.Store.Update(s.Context(), name, secret.Metadata{}, ""))
	is("as it was", "other words", labels, "secret.two")
	// A new version leaves the metadata, and takes the owner.
	v, err = s.Store.Write(s.Context(), secret.Write{Name: name, Value: s.value("needle-meta-2"), Token: token(), Expect: v.ID, Owner: "secret.three"})
	s.ok("write", err)
	is("after a write", "other words", labels, "secret.three")
	s.ok("clear", s.Store.Update(s.Context(), name, secret.Metadata{Description: text(""), Labels: map[string]string{}}, ""))
	is("cleared", "", nil, "secret.three")
	s.holds(name, "needle-meta-2", v.ID)
	if n := effective(s.history(name)); n != 2 {
		s.Errorf("metadata made versions: %d of two changes", n)
	}
}

func bare(s *story) {
	if s.Bare == nil {
		return // no such thing in this world
	}
	name := s.name("bare")
	s.Bare(s.T, name)
	info, err := s.Store.Describe(s.Context(), name)
	if err != nil || info.Version != "" {
		s.Fatalf("described as %+v, %v", info, err)
	}
	r, _ := s.read(secret.Ref{Name: name})
	if r.Err == nil {
		s.Error("a reading without a value")
	}
	_, err = s.Store.Write(s.Context(), secret.Write{Name: name, Value: s.value("needle-bare"), Token: token(), Expect: strings.Repeat("1", 36)})
	s.class("write expecting a version", err, providers.Conflict)
	v, err := s.Store.Write(s.Context(), secret.Write{Name: name, Value: s.value("needle-bare"), Token: token(), Create: &secret.Metadata{Owner: "secret.story"}, Owner: "secret.story"})
	s.ok("its first value", err)
	s.holds(name, "needle-bare", v.ID)
}

func deletion(s *story) {
	l := s.Store.Limits()
	name := s.name("doomed")
	first := s.create(name, "needle-old")
	v := s.write(name, "needle-doomed", first.ID)
	for _, old := range []string{"", first.ID} {
		_, err := s.Store.Delete(s.Context(), name, secret.Deletion{Expect: old})
		s.class("delete expecting "+old, err, providers.Conflict)
	}
	s.holds(name, "needle-doomed", v.ID)
	done, err := s.Store.Delete(s.Context(), name, secret.Deletion{Expect: v.ID, Window: 8 * 24 * time.Hour})
	s.ok("delete", err)
	if done.Final.IsZero() == l.Undelete {
		s.Fatalf("final at %v, undelete %v", done.Final, l.Undelete)
	}
	if !l.Undelete {
		s.absent(name)
		s.class("restore", s.Store.Restore(s.Context(), name), providers.Unsupported)
	} else {
		pending(s, name, done.Final)
		s.ok("restore", s.Store.Restore(s.Context(), name))
		s.holds(name, "needle-doomed", v.ID)
		if info, err := s.Store.Describe(s.Context(), name); err != nil || !info.Deletion.IsZero() {
			s.Errorf("after restore: %+v %v", info, err)
		}
		v = s.write(name, "needle-doomed-2", v.ID)
		_, err := s.Store.Delete(s.Context(), name, secret.Deletion{Expect: v.ID, Force: true})
		s.ok("delete for ever", err)
		s.absent(name)
		s.class("restore of what is gone", s.Store.Restore(s.Context(), name), providers.NotFound)
	}
	s.eventually("the name is free", func() error {
		w := secret.Write{Name: name, Value: s.value("needle-reborn"), Token: token(), Create: &secret.Metadata{Owner: "secret.story"}, Owner: "secret.story"}
		v, err = s.Store.Write(s.Context(), w)
		return err
	})
	s.holds(name, "needle-reborn", v.ID)
	if l.Undelete && s.Advance != nil {
		done, err := s.Store.Delete(s.Context(), name, secret.Deletion{Expect: v.ID})
		s.ok("delete", err)
		pending(s, name, done.Final)
		s.Advance(400 * 24 * time.Hour)
		s.absent(name)
		v = s.create(name, "needle-third-life")
		s.holds(name, "needle-third-life", v.ID)
	}
}

// pending is a secret that waits for its deletion.
func pending(s *story, name string, final time.Time) {
	s.Helper()
	s.eventually("it waits", func() error {
		info, err := s.Store.Describe(s.Context(), name)
		if err != nil {
			return err
		}
		if d := info.Deletion.Sub(final).Abs(); info.Deletion.IsZero() || d > time.Minute {
			return fmt.Errorf("deletion at %v, told %v", info.Deletion, final)
		}
		listed, found := s.list(s.name(""))[name]
		if !found || listed.Deletion.IsZero() {
			return fmt.Errorf("listed as %+v (%v)", listed, found)
		}
		return nil
	})
	r, _ := s.read(secret.Ref{Name: name})
	if r.Err == nil || providers.ClassOf(r.Err) == providers.NotFound || providers.ClassOf(r.Err) == providers.Unknown {
		s.Errorf("read while it waits: class %v (%v)", providers.ClassOf(r.Err), r.Err)
	}
	_, err := s.Store.Write(s.Context(), secret.Write{Name: name, Value: s.value("needle-undead"), Token: token(), Create: &secret.Metadata{}})
	s.class("create while it waits", err, providers.Conflict)
}

func writers(s *story) {
	name := s.name("raced")
	first := s.create(name, "needle-race")
	race(s, name, func(i int) secret.Write {
		return secret.Write{Expect: first.ID}
	})
	if n := effective(s.history(name)); n > 2 {
		s.Errorf("%d versions of two changes", n)
	}
}

func creators(s *story) {
	name := s.name("raced-new")
	race(s, name, func(i int) secret.Write {
		return secret.Write{Create: &secret.Metadata{Owner: "secret.story"}}
	})
}

// race lets six writers write at once: exactly one wins, and what it wrote is
// current.
func race(s *story, name string, write func(i int) secret.Write) {
	s.Helper()
	const n = 6
	versions, errs := make([]secret.Version, n), make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		w := write(i)
		w.Name, w.Value, w.Token, w.Owner = name, s.value(fmt.Sprintf("needle-racer-%d", i)), token(), "secret.story"
		all.Go(func() { versions[i], errs[i] = s.Store.Write(s.Context(), w) })
	}
	all.Wait()
	winner := -1
	for i, err := range errs {
		if err != nil {
			s.class("a loser", err, providers.Conflict)
			continue
		}
		if winner >= 0 {
			s.Fatalf("%d and %d both won", winner, i)
		}
		winner = i
	}
	if winner < 0 {
		s.Fatalf("nobody won: %v", errs)
	}
	s.holds(name, fmt.Sprintf("needle-racer-%d", winner), versions[winner].ID)
}

func ended(s *story) {
	name := s.name("ended")
	v := s.create(name, "needle-ended")
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	_, err := s.Store.Describe(ctx, name)
	s.class("describe", err, providers.Canceled)
	s.class("read", s.Store.Read(ctx, []secret.Ref{{Name: name}}, func(r secret.Reading) { r.Value.Zero() }), providers.Canceled)
	_, err = s.Store.Write(ctx, secret.Write{Name: name, Value: s.value("needle-after"), Token: token(), Expect: v.ID})
	s.class("write", err, providers.Canceled)
	for _, err := range s.Store.List(ctx, s.name("")) {
		s.class("list", err, providers.Canceled)
	}
	s.holds(name, "needle-ended", v.ID)
}

// crashes kills a process at each step of a write, with and without the step's
// effect. Whatever was left behind, the next process finds out by Settle, and
// repeats the write if it made nothing: one change, one version.
func crashes(s *story) {
	if s.Crash == nil {
		return // this world can not be broken
	}
	kinds := []string{"create", "write"}
	for _, kind := range kinds {
		for _, lost := range []bool{false, true} {
			for _, repeat := range []string{"settle", "write"} {
				for n := 1; crash(s, kind, lost, repeat, n); n++ {
					if n > 1000 {
						s.Fatal("a write of more than 1000 steps")
					}
				}
			}
		}
	}
}

// crash reports whether the n-th step of the write was reached.
func crash(s *story, kind string, lost bool, repeat string, n int) (reached bool) {
	where := fmt.Sprintf("%s-%v-%s-%03d", kind, lost, repeat, n)
	name, want := s.name(where), 1
	w := secret.Write{Name: name, Value: s.value("needle-" + where), Token: token(), Owner: "secret.story"}
	if kind == "create" {
		w.Create = &secret.Metadata{Owner: "secret.story"}
	} else {
		w.Expect, want = s.create(name, "needle-before-"+where).ID, 2
	}
	again := s.Crash(n, lost)
	v, err := s.Store.Write(s.Context(), w)
	s.seen.Store = again()
	reached = err != nil
	ctx := s.Context()
	if repeat == "settle" {
		settled, made, settleErr := s.Store.Settle(ctx, w)
		s.ok(where+": settle", settleErr)
		if !reached && (!made || settled.ID != v.ID) {
			s.Fatalf("%s: written as %s, settled as %v %v", where, v.ID, settled, made)
		}
		if made {
			s.holds(name, "needle-"+where, settled.ID)
		} else if info, err := s.Store.Describe(ctx, name); err == nil && info.Version != w.Expect {
			s.Fatalf("%s: nothing was made, and the version is %s", where, info.Version)
		}
	}
	v, err = s.Store.Write(ctx, w)
	s.ok(where+": again", err)
	s.holds(name, "needle-"+where, v.ID)
	if got := effective(s.history(name)); got != want {
		s.Fatalf("%s: %d versions of %d changes", where, got, want)
	}
	return reached
}
