package secrettest

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// World is one store in which nothing of the story exists yet, and what sets
// its kind apart.
type World struct {
	Store secret.Store
	// Prefix begins every name that the story uses, so that it can run over an
	// account that is used by others too. Only letters, digits and "-".
	Prefix string

	Slashes  bool     // names may have slashes
	Labels   bool     // keeps Metadata.Labels
	Etags    bool     // Update compares Metadata.Etag
	Empty    bool     // can keep the empty payload
	BadNames []string // what Limits.CheckName must refuse, besides the empty name

	// Bare makes a secret without a value, behind the store's back; nil where
	// there is no such thing.
	Bare func(t *testing.T, name string)
	// Advance lets the world's time pass; nil where it can not be moved.
	Advance func(time.Duration)
	// Crash makes the n-th step (request, file operation) from now on and all
	// after it fail, the n-th one with its effect done if lost is true, as for
	// a process that is killed there. The function that it returns ends this,
	// and gives the store as the next process opens it. Nil where the world
	// can not do it.
	Crash func(n int, lost bool) (again func() secret.Store)
	// Patience is how long an answer may be out of date; zero for a world in
	// which every write is seen at once.
	Patience time.Duration
}

// story is one world while a part of the story is told in it.
type story struct {
	*testing.T
	World
	seen *witness
}

func (s *story) name(rest string) string { return s.Prefix + rest }

// eventually repeats check until it has nothing to say or the patience is over.
func (s *story) eventually(what string, check func() error) {
	s.Helper()
	// Only worlds that are out of date for a while wait; those whose time can be
	// moved wait in that time, so that a slow machine makes no difference.
	now, wait := time.Now, time.Sleep
	if s.Advance != nil {
		var moved time.Duration
		start := time.Now()
		now = func() time.Time { return start.Add(moved) }
		wait = func(d time.Duration) { moved += d; s.Advance(d) }
	}
	deadline := now().Add(s.Patience)
	for n := 1; ; n++ {
		err := check()
		if err == nil {
			return
		}
		// On a slow machine ten looks may take longer than the patience.
		if s.Patience == 0 || n > 10 && !now().Before(deadline) {
			s.Fatalf("%s: %v", what, err)
		}
		wait(min(time.Second, s.Patience/10))
	}
}

// class wants an error of this class.
func (s *story) class(what string, err error, want ...providers.Class) {
	s.Helper()
	if err == nil {
		s.Fatalf("%s: succeeded, want an error of class %v", what, want)
	}
	for _, c := range want {
		if providers.ClassOf(err) == c {
			return
		}
	}
	s.Fatalf("%s: class %v (%v), want %v", what, providers.ClassOf(err), err, want)
}

func (s *story) ok(what string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v (%s)", what, err, providers.HintOf(err))
	}
}

// value makes a payload that the witness watches for.
func (s *story) value(text string) secret.Value {
	s.seen.watch(text)
	return secret.NewValue([]byte(text))
}

// tokens are unlike each other over all runs, as the contract asks.
var tokens struct {
	sync.Mutex
	n int
}

func token() string {
	tokens.Lock()
	defer tokens.Unlock()
	tokens.n++
	return fmt.Sprintf("%016x-%08d-%08d", time.Now().UnixNano(), tokens.n, tokens.n*7919)
}

// create makes a secret that there is not.
func (s *story) create(name, text string) secret.Version {
	s.Helper()
	v, err := s.Store.Write(s.Context(), secret.Write{Name: name, Value: s.value(text), Token: token(), Create: &secret.Metadata{Owner: "secret.story"}, Owner: "secret.story"})
	s.ok("create "+name, err)
	s.versioned(v)
	return v
}

// write replaces the version expect.
func (s *story) write(name, text, expect string) secret.Version {
	s.Helper()
	v, err := s.Store.Write(s.Context(), secret.Write{Name: name, Value: s.value(text), Token: token(), Expect: expect, Owner: "secret.story"})
	s.ok("write "+name, err)
	s.versioned(v)
	return v
}

func (s *story) versioned(v secret.Version) {
	s.Helper()
	if v.ID == "" {
		s.Fatal("a version without an id")
	}
	if v.State != secret.Current {
		s.Fatalf("the version that was just written is %q", v.State)
	}
}

func (s *story) read(ref secret.Ref) (secret.Reading, string) {
	s.Helper()
	var out []secret.Reading
	text := ""
	err := s.Store.Read(s.Context(), []secret.Ref{ref}, func(r secret.Reading) {
		r.Value.Use(func(b []byte) { text = string(b) })
		r.Value.Zero()
		out = append(out, r)
	})
	s.ok("read", err)
	if len(out) != 1 || out[0].Ref != ref {
		s.Fatalf("read %v gave %v", ref, out)
	}
	if out[0].Err != nil && out[0].Value.Set() {
		s.Fatal("an error and a value")
	}
	return out[0], text
}

// holds wants the current version to be v with this payload.
func (s *story) holds(name, text, version string) {
	s.Helper()
	s.eventually(name+" holds", func() error {
		r, got := s.read(secret.Ref{Name: name})
		switch {
		case r.Err != nil:
			return r.Err
		case got != text:
			return fmt.Errorf("another payload than was written")
		case r.Version.ID != version:
			return fmt.Errorf("version %q, want %q", r.Version.ID, version)
		}
		info, err := s.Store.Describe(s.Context(), name)
		if err != nil {
			return err
		}
		if info.Name != name || info.Version != version || info.ID == "" {
			return fmt.Errorf("described as %+v, want version %q", info, version)
		}
		return nil
	})
}

func (s *story) absent(name string) {
	s.Helper()
	s.eventually(name+" is absent", func() error {
		if _, err := s.Store.Describe(s.Context(), name); providers.ClassOf(err) != providers.NotFound {
			return fmt.Errorf("describe: class %v (%v), want not_found", providers.ClassOf(err), err)
		}
		if r, _ := s.read(secret.Ref{Name: name}); providers.ClassOf(r.Err) != providers.NotFound {
			return fmt.Errorf("read: class %v (%v), want not_found", providers.ClassOf(r.Err), r.Err)
		}
		return nil
	})
}

func (s *story) history(name string) []secret.Version {
	s.Helper()
	versions, err := s.Store.History(s.Context(), name)
	s.ok("history "+name, err)
	return versions
}

// effective counts the versions that readers ever got: what was withdrawn
// before it became current is none.
func effective(versions []secret.Version) (n int) {
	for _, v := range versions {
		if v.State == secret.Current || v.State == secret.Previous {
			n++
		}
	}
	return n
}

func (s *story) list(prefix string) map[string]secret.Info {
	s.Helper()
	out := map[string]secret.Info{}
	for info, err := range s.Store.List(s.Context(), prefix) {
		s.ok("list "+prefix, err)
		if _, twice := out[info.Name]; twice {
			s.Fatalf("%s is listed twice", info.Name)
		}
		out[info.Name] = info
	}
	return out
}

// witness is a store that looks at every error on its way.
type witness struct {
	secret.Store
	t        *testing.T
	mu       sync.Mutex
	payloads []string
	texts    []string
}

func (w *witness) watch(payload string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(payload) >= 6 { // a shorter one is found everywhere
		w.payloads = append(w.payloads, payload)
	}
}

func (w *witness) look(err error) error {
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.texts = append(w.texts, err.Error(), providers.HintOf(err), fmt.Sprintf("%+v %#v", err, err))
	}
	return err
}

// verdict searches all that was said for all that was hidden.
func (w *witness) verdict() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, said := range w.texts {
		for _, p := range w.payloads {
			p = p[:min(len(p), 64)]
			for _, form := range []string{p, fmt.Sprintf("%q", p), hex.EncodeToString([]byte(p)), base64.StdEncoding.EncodeToString([]byte(p)), fmt.Sprint([]byte(p))} {
				if strings.Contains(said, form) {
					w.t.Errorf("an error shows a payload: %d bytes of text", len(said))
				}
			}
		}
	}
}

func (w *witness) List(ctx context.Context, prefix string) iter.Seq2[secret.Info, error] {
	return func(yield func(secret.Info, error) bool) {
		for info, err := range w.Store.List(ctx, prefix) {
			if !yield(info, w.look(err)) {
				return
			}
		}
	}
}

func (w *witness) Describe(ctx context.Context, name string) (secret.Info, error) {
	info, err := w.Store.Describe(ctx, name)
	return info, w.look(err)
}

func (w *witness) Read(ctx context.Context, refs []secret.Ref, got func(secret.Reading)) error {
	return w.look(w.Store.Read(ctx, refs, func(r secret.Reading) { w.look(r.Err); got(r) }))
}

func (w *witness) Write(ctx context.Context, write secret.Write) (secret.Version, error) {
	v, err := w.Store.Write(ctx, write)
	return v, w.look(err)
}

func (w *witness) Settle(ctx context.Context, write secret.Write) (secret.Version, bool, error) {
	v, made, err := w.Store.Settle(ctx, write)
	return v, made, w.look(err)
}

func (w *witness) Update(ctx context.Context, name string, m secret.Metadata, expect string) error {
	return w.look(w.Store.Update(ctx, name, m, expect))
}

func (w *witness) Delete(ctx context.Context, name string, d secret.Deletion) (secret.Deleted, error) {
	done, err := w.Store.Delete(ctx, name, d)
	return done, w.look(err)
}

func (w *witness) Restore(ctx context.Context, name string) error {
	return w.look(w.Store.Restore(ctx, name))
}

func (w *witness) History(ctx context.Context, name string) ([]secret.Version, error) {
	versions, err := w.Store.History(ctx, name)
	return versions, w.look(err)
}
