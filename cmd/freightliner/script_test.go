package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/testscript"

	"freightliner/providers/registry/registrytest"
	"freightliner/statefile"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"freightliner": main})
}

// TestScripts runs the stories in testdata/script, each against registries of
// its own. A story is one file: copy one to add one.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			w := &world{t: storyTB{TB: t}, registries: map[string]*site{}}
			testscript.Run(t, testscript.Params{
				Files: []string{file}, Setup: w.setup, Cmds: w.commands(), UpdateScripts: *update, RequireExplicitExec: true,
				Condition: func(name string) (bool, error) { return name == "root" && mayMount(), nil },
			})
		})
	}
}

// storyTB lets the registry harness fail the story that runs, at its line, while
// what it starts lives as long as the test around it.
type storyTB struct {
	testing.TB
	ts *testscript.TestScript
}

func (s storyTB) Helper()                           {}
func (s storyTB) Fatal(args ...any)                 { s.ts.Fatalf("%s", fmt.Sprint(args...)) }
func (s storyTB) Fatalf(format string, args ...any) { s.ts.Fatalf(format, args...) }
func (s storyTB) Error(args ...any)                 { s.ts.Fatalf("%s", fmt.Sprint(args...)) }
func (s storyTB) Errorf(format string, args ...any) { s.ts.Fatalf(format, args...) }
func (s storyTB) FailNow()                          { s.ts.Fatalf("the harness failed") }

// world is what the commands of one story share.
type world struct {
	t storyTB

	registries map[string]*site
	finished   []string // tags that the state said were done, after a kill
	values     []string // of secrets, in all forms; nothing may say them
}

// site is one registry of a story.
type site struct {
	host     string
	recorder *registrytest.Recorder
	faults   *registrytest.Faults
	stop     func()
	gate     *registrytest.Gate
}

func (w *world) setup(env *testscript.Env) error {
	home := filepath.Join(env.WorkDir, ".home")
	env.Setenv("HOME", home)
	env.Setenv("USER", "tester")
	env.Setenv("NO_PROXY", "127.0.0.1")
	env.Setenv("CANARY", registrytest.CanaryPassword)
	env.Setenv("STATES", docs("../statefile/testdata"))
	return os.Mkdir(home, 0o700)
}

func (w *world) commands() map[string]func(*testscript.TestScript, bool, []string) {
	plain := func(do func(ts *testscript.TestScript, args []string)) func(*testscript.TestScript, bool, []string) {
		return func(ts *testscript.TestScript, neg bool, args []string) {
			if neg {
				ts.Fatalf("this command can not be negated")
			}
			w.t.ts = ts
			do(ts, args)
		}
	}
	return map[string]func(*testscript.TestScript, bool, []string){
		"registry":    plain(w.registry),
		"fill":        plain(w.fill),
		"push":        plain(w.push),
		"untag":       plain(w.untag),
		"down":        plain(w.down),
		"fault":       plain(w.fault),
		"heal":        plain(w.heal),
		"gate":        plain(w.gate),
		"reached":     plain(w.reached),
		"open":        plain(w.open),
		"same":        plain(w.same),
		"verifytree":  plain(w.verifyTree),
		"requests":    plain(w.requests),
		"forget":      plain(w.forget),
		"nowrites":    plain(w.noWrites),
		"remember":    plain(w.remember),
		"notrepeated": plain(w.notRepeated),
		"holdlock":    plain(w.holdLock),
		"login":       plain(w.login),
		"readonly":    plain(w.readOnly),
		"fulldisk":    plain(w.fullDisk),
		"edit":        plain(edit),
		"noleftovers": plain(noLeftovers),
		"nosecret":    plain(w.noSecret),
		"value":       plain(w.value),
		"recipient":   plain(recipient),
		"head":        plain(head),
		"auditlog":    plain(auditLog),
		"exit":        w.exitIs,
		"validstream": plain(validStream),
	}
}

func (w *world) site(ts *testscript.TestScript, name string) *site {
	s := w.registries[name]
	if s == nil {
		ts.Fatalf("no registry %q in this story", name)
	}
	return s
}

// registry NAME [embedded|distribution] [basic]: starts a registry and sets NAME,
// and the variable of the configuration, to its host.
func (w *world) registry(ts *testscript.TestScript, args []string) {
	name, kind := args[0], "embedded"
	var options []registrytest.Option
	for _, arg := range args[1:] {
		switch arg {
		case "basic":
			options = append(options, registrytest.WithBasicAuth())
		case "tokens":
			options = append(options, registrytest.WithTokens(time.Minute))
		default:
			kind = arg
		}
	}
	s := &site{}
	switch kind {
	case "embedded":
		r := registrytest.Start(w.t, options...)
		*s = site{host: r.Host(), recorder: r.Recorder, faults: r.Faults, stop: r.Stop}
	case "distribution":
		r := registrytest.Distribution(w.t, append(options, registrytest.WithRecorder())...)
		*s = site{host: r.Host(), recorder: r.Recorder, faults: r.Faults, stop: r.Stop}
	default:
		ts.Fatalf("no kind of registry %q", kind)
	}
	w.registries[name] = s
	ts.Setenv(name, s.host)
	ts.Setenv(variablePrefix+name, s.host)
}

// fill NAME PREFIX REPOSITORIES TAGS [indexes] [signed] [sboms] [layer=BYTES]
func (w *world) fill(ts *testscript.TestScript, args []string) {
	tree := registrytest.Tree{Prefix: args[1], Repositories: number(ts, args[2]), Tags: number(ts, args[3])}
	for _, arg := range args[4:] {
		switch {
		case arg == "indexes":
			tree.Indexes = true
		case arg == "signed":
			tree.Signed = true
		case arg == "sboms":
			tree.SBOMs = true
		case strings.HasPrefix(arg, "layer="):
			tree.LayerSize = number(ts, strings.TrimPrefix(arg, "layer="))
		default:
			ts.Fatalf("fill: %q", arg)
		}
	}
	registrytest.Fill(w.t, w.site(ts, args[0]).host, tree)
}

func number(ts *testscript.TestScript, s string) int {
	n, err := strconv.Atoi(s)
	ts.Check(err)
	return n
}

// push NAME REPOSITORY TAG SEED [LAYER]...: makes or moves a tag. The layers are
// made of their seeds.
func (w *world) push(ts *testscript.TestScript, args []string) {
	var layers []registrytest.Blob
	for _, seed := range args[4:] {
		layers = append(layers, registrytest.Layer(uint64(number(ts, seed)), 1000))
	}
	registrytest.Push(w.t, w.site(ts, args[0]).host, args[1], args[2], registrytest.Image(uint64(number(ts, args[3])), layers...))
}

// untag NAME REPOSITORY TAG: deletes behind our back.
func (w *world) untag(ts *testscript.TestScript, args []string) {
	registrytest.Delete(w.t, w.site(ts, args[0]).host, args[1], args[2])
}

// down NAME: nobody answers there any more.
func (w *world) down(ts *testscript.TestScript, args []string) { w.site(ts, args[0]).stop() }

// fault NAME METHOD PATH STATUS [BODY]: from now on such requests are answered like
// that, always.
func (w *world) fault(ts *testscript.TestScript, args []string) {
	body := `{"errors":[{"code":"UNKNOWN","message":"broken on purpose"}]}`
	if len(args) > 4 {
		body = args[4]
	}
	w.site(ts, args[0]).faults.Add(registrytest.Fault{
		Method: args[1], Path: args[2], Status: number(ts, args[3]), Times: -1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: body,
	})
}

func (w *world) heal(ts *testscript.TestScript, args []string) { w.site(ts, args[0]).faults.Clear() }

// gate NAME METHOD KIND NTH: the nth such request, and all after it, stand still
// until open.
func (w *world) gate(ts *testscript.TestScript, args []string) {
	s := w.site(ts, args[0])
	s.gate = registrytest.NewGate(w.t)
	s.faults.Add(registrytest.Fault{Method: args[1], Kind: args[2], Nth: number(ts, args[3]), Times: -1, Gate: s.gate})
}

// reached NAME: waits until a request stands at the gate.
func (w *world) reached(ts *testscript.TestScript, args []string) {
	select {
	case <-w.site(ts, args[0]).gate.Reached():
	case <-time.After(30 * time.Second):
		ts.Fatalf("no request came to the gate of %s within 30 s", args[0])
	}
}

func (w *world) open(ts *testscript.TestScript, args []string) {
	w.site(ts, args[0]).gate.Open()
	w.site(ts, args[0]).faults.Clear()
}

// same NAME PREFIX NAME PREFIX: both trees hold the same tags with the same
// digests. The lists of the referrers tag schema are not compared: each registry's
// client writes its own.
func (w *world) same(ts *testscript.TestScript, args []string) {
	got := registrytest.Inventory(w.t, w.site(ts, args[2]).host).Under(args[3]).WithoutFallback()
	want := registrytest.Inventory(w.t, w.site(ts, args[0]).host).Under(args[1]).WithoutFallback()
	if len(want) == 0 {
		ts.Fatalf("nothing below %s in %s", args[1], args[0])
	}
	registrytest.Equal(w.t, got, want)
}

// verifytree NAME: everything in it is read and hashed again.
func (w *world) verifyTree(ts *testscript.TestScript, args []string) {
	report := registrytest.VerifyTree(w.t, w.site(ts, args[0]).host)
	if report.Tags == 0 {
		ts.Fatalf("%s is empty", args[0])
	}
	ts.Logf("%+v", report)
}

// requests NAME "METHOD KIND" N: that many since forget.
func (w *world) requests(ts *testscript.TestScript, args []string) {
	if got := w.site(ts, args[0]).recorder.Count(args[1]); got != number(ts, args[2]) {
		ts.Fatalf("%s saw %d times %q, want %s; all: %v", args[0], got, args[1], args[2], w.site(ts, args[0]).recorder.Counts())
	}
}

func (w *world) forget(ts *testscript.TestScript, args []string) {
	w.site(ts, args[0]).recorder.Reset()
}

// nowrites NAME: nothing that could change the registry was sent since forget.
func (w *world) noWrites(ts *testscript.TestScript, args []string) {
	if writes := w.site(ts, args[0]).recorder.Writes(); len(writes) > 0 {
		ts.Fatalf("%s saw %d writes, the first is %v", args[0], len(writes), writes[0])
	}
}

// remember STATE MIN: keeps which tags the state says are done, of which there
// must be MIN at least, but not all.
func (w *world) remember(ts *testscript.TestScript, args []string) {
	root, err := os.OpenRoot(ts.MkAbs("."))
	ts.Check(err)
	defer root.Close()
	state, err := statefile.Read(statefile.OS(root), args[0])
	ts.Check(err)
	w.finished = nil
	for r := range state.All() {
		if r.Kind == statefile.KindTag {
			_, rel, _ := strings.Cut(r.Address, "/")
			w.finished = append(w.finished, rel)
		}
	}
	if len(w.finished) < number(ts, args[1]) {
		ts.Fatalf("only %d tags are done in %s", len(w.finished), args[0])
	}
	ts.Logf("%d tags are done", len(w.finished))
}

// notrepeated NAME PREFIX: since forget no tag that was remembered was written again.
func (w *world) notRepeated(ts *testscript.TestScript, args []string) {
	written := 0
	for _, r := range w.site(ts, args[0]).recorder.Where(func(r registrytest.Request) bool { return r.Method == "PUT" && r.Kind == "manifest" }) {
		written++
		if tag := strings.TrimPrefix(r.Repository, args[1]+"/") + ":" + r.Reference; slices.Contains(w.finished, tag) {
			ts.Fatalf("%s was done and was written again", tag)
		}
	}
	if written == 0 {
		ts.Fatalf("the resumed run wrote nothing")
	}
}

// holdlock STATE: somebody else holds the state's lock until the story ends.
func (w *world) holdLock(ts *testscript.TestScript, args []string) {
	root, err := os.OpenRoot(ts.MkAbs("."))
	ts.Check(err)
	who := statefile.Holder{Host: "runner-7", PID: 4711, Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), By: "nightly"}
	lock, err := statefile.AcquireLock(context.Background(), statefile.OS(root), args[0], who, statefile.LockOptions{})
	ts.Check(err)
	ts.Defer(func() {
		ts.Check(errors.Join(lock.Release(), root.Close()))
	})
}

// login NAME: docker login, right or wrong.
func (w *world) login(ts *testscript.TestScript, args []string) {
	password := registrytest.CanaryPassword
	if len(args) > 1 {
		password = args[1]
	}
	dir := ts.MkAbs(".docker")
	ts.Check(os.MkdirAll(dir, 0o700))
	registrytest.WriteDockerConfig(w.t, dir, w.site(ts, args[0]).host, registrytest.CanaryUser, password)
	ts.Setenv("DOCKER_CONFIG", ".docker")
}

// edit FILE OLD NEW: replaces text, which must be there; \n in NEW is a line break.
func edit(ts *testscript.TestScript, args []string) {
	path := ts.MkAbs(args[0])
	old, err := os.ReadFile(path)
	ts.Check(err)
	if !bytes.Contains(old, []byte(args[1])) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(path, bytes.Replace(old, []byte(args[1]), []byte(strings.ReplaceAll(args[2], `\n`, "\n")), 1), 0o600))
}

// noleftovers [DIR]: no temporary file is left in a directory.
func noLeftovers(ts *testscript.TestScript, args []string) {
	dir := "."
	if len(args) > 0 {
		dir = args[0]
	}
	entries, err := os.ReadDir(ts.MkAbs(dir))
	ts.Check(err)
	for _, entry := range entries {
		if entry.Name() != ".tmp" && strings.Contains(entry.Name(), ".tmp") {
			ts.Fatalf("%s is left in %s", entry.Name(), dir)
		}
	}
}

// value NAME TEXT: a value of a secret, in the file .values/NAME, to be read as
// standard input, and in the environment as NAME. From now on no program that exit
// runs may say it, but for one with -reveal.
func (w *world) value(ts *testscript.TestScript, args []string) {
	name, text := args[0], args[1]
	ts.Check(os.MkdirAll(ts.MkAbs(".values"), 0o700))
	ts.Check(os.WriteFile(ts.MkAbs(filepath.Join(".values", name)), []byte(text), 0o600))
	ts.Setenv(name, text)
	// Of an object its texts are what must not be seen.
	texts := []string{text}
	var members map[string]string
	if json.Unmarshal([]byte(text), &members) == nil {
		texts = nil
		for _, member := range members {
			texts = append(texts, member)
		}
	}
	for _, text := range texts {
		if len(text) < 8 {
			ts.Fatalf("%q is too short to be looked for", text)
		}
		quoted, err := json.Marshal(text)
		ts.Check(err)
		w.values = append(w.values, text, strings.Trim(string(quoted), `"`), url.QueryEscape(text), hex.EncodeToString([]byte(text)),
			base64.StdEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text)))
	}
}

// recipient FILE NAME: sets NAME to the age recipient in it.
func recipient(ts *testscript.TestScript, args []string) {
	found := regexp.MustCompile(`age1[0-9a-z]+`).FindString(ts.ReadFile(args[0]))
	if found == "" {
		ts.Fatalf("no recipient in %s", args[0])
	}
	ts.Setenv(args[1], found)
}

// head FILE: sets head to the head of an audit log that is told in it.
func head(ts *testscript.TestScript, args []string) {
	found := regexp.MustCompile(`[0-9]+:[0-9a-f]{64}`).FindString(ts.ReadFile(args[0]))
	if found == "" {
		ts.Fatalf("no head in %s", args[0])
	}
	ts.Setenv("head", found)
}

// auditlog DIR [cut | edit OLD NEW]: takes its last line away, or replaces text in
// it, and copies the one audit log in DIR to audit.jsonl.
func auditLog(ts *testscript.TestScript, args []string) {
	files, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "*.jsonl"))
	ts.Check(err)
	if len(files) != 1 {
		ts.Fatalf("%d audit logs in %s", len(files), args[0])
	}
	log, err := os.ReadFile(files[0])
	ts.Check(err)
	changed := log
	switch {
	case len(args) > 1 && args[1] == "cut":
		changed = log[:bytes.LastIndexByte(log[:len(log)-1], '\n')+1]
	case len(args) > 1:
		changed = bytes.Replace(log, []byte(args[2]), []byte(args[3]), 1)
	}
	if len(args) > 1 && bytes.Equal(changed, log) {
		ts.Fatalf("nothing in the audit log to %s", args[1])
	}
	ts.Check(os.WriteFile(files[0], changed, 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("audit.jsonl"), changed, 0o600))
}

// nosecret: in none of the files of the story is a credential or a value, in any
// form in which it travels; saved plans are looked into uncompressed.
func (w *world) noSecret(ts *testscript.TestScript, args []string) {
	ts.Check(filepath.WalkDir(ts.MkAbs("."), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == ".values" {
			return fs.SkipDir
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, ".flplan") {
			plain, err := zstd.NewReader(bytes.NewReader(b))
			if err != nil {
				return err
			}
			defer plain.Close()
			if b, err = io.ReadAll(plain); err != nil {
				return err
			}
		}
		for _, canary := range append(registrytest.Canaries(), w.values...) {
			if canary != registrytest.CanaryUser && bytes.Contains(b, []byte(canary)) {
				ts.Fatalf("%s holds a credential", path)
			}
		}
		return nil
	}))
}

// exit CODE PROGRAM ARGS...: runs it and wants that exit code, and that no value
// is said.
func (w *world) exitIs(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("name the exit code that is wanted")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var failed interface{ ExitCode() int }
	if errors.As(err, &failed) {
		got = failed.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != number(ts, args[0]) {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
	for _, value := range w.values {
		for _, stream := range []string{"stdout", "stderr"} {
			if (stream == "stderr" || !slices.Contains(args, "-reveal")) && strings.Contains(ts.ReadFile(stream), value) {
				ts.Fatalf("%s holds a value", stream)
			}
		}
	}
}

// validstream FILE: an event stream, each line as the schema says, from a version
// to a summary.
func validStream(ts *testscript.TestScript, args []string) {
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile(args[0]), "\n"), "\n")
	for i, line := range lines {
		if problems := loadSchema().check([]byte(line)); len(problems) > 0 {
			ts.Fatalf("line %d is not as the schema says: %v\n%s", i+1, problems, line)
		}
	}
	first, last := lines[0], lines[len(lines)-1]
	if !strings.Contains(first, `"type":"version"`) || !strings.Contains(last, `"type":"summary"`) {
		ts.Fatalf("the stream begins with\n%s\nand ends with\n%s", first, last)
	}
}
