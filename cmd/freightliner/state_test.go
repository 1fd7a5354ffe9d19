package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/statefile"
)

func TestParseAddress(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	for text, want := range map[string]string{ // the shape, or "" for no address
		"tree.platform":                 "a tree block",
		`tree.a["eu west"]`:             "a tree block",
		`tree.a["a\"]/b"]/api:1`:        "a tag",
		"image.nginx":                   "an image block",
		"tree.größe":                    "a tree block",
		"tree.a/":                       "a repository",
		"tree.a/team/api":               "a repository",
		"tree.a/team/api:v1":            "a tag",
		"tree.a/:v1":                    "a tag",
		"tree.a/api@" + digest:          "a subject",
		"image.nginx@" + digest:         "a subject",
		"":                              "",
		"tree":                          "",
		"tree.":                         "",
		"tree.1a":                       "",
		"platform":                      "",
		"registry.a":                    "",
		"tree.a[eu]":                    "",
		`tree.a[""]`:                    "",
		`tree.a["\u0065u"]`:             "",
		"tree.a:v1":                     "",
		"tree.a/API":                    "",
		"tree.a/api:":                   "",
		"tree.a/api:v 1":                "",
		"tree.a/api@sha256:0":           "",
		"tree.a//api":                   "",
		"image.nginx/x":                 "",
		"tree.a/api:v1\x1b[2J":          "",
		"tree.a/../b":                   "",
		"tree.a/api:v1@" + digest + "0": "",
	} {
		got := ""
		if a, err := parseAddress(text); err == nil {
			got = a.shape()
		}
		if got != want {
			t.Errorf("parseAddress(%q) is %q, want %q", text, got, want)
		}
	}
}

func TestJoined(t *testing.T) {
	for _, test := range [][3]string{
		{"tree.b", "", "tree.b"},
		{"tree.b", "/api:1", "tree.b/api:1"},
		{"tree.b", `["eu"]/api:1`, `tree.b["eu"]/api:1`},
		{"tree.b/", ":1", "tree.b/:1"},
		{"tree.b/", "/api:1", "tree.b/api:1"},
		{"tree.b/", "api:1", "tree.b/api:1"},
		{"tree.b/team", "api:1", "tree.b/team/api:1"},
		{"tree.b/team", ":1", "tree.b/team:1"},
	} {
		if got := joined(test[0], test[1]); got != test[2] {
			t.Errorf("joined(%q, %q) = %q, want %q", test[0], test[1], got, test[2])
		}
	}
}

func TestUnmarked(t *testing.T) {
	tests := map[string]struct{ text, ours, theirs string }{
		"none":      {"a\nb\n", "a\nb\n", "a\nb\n"},
		"two":       {"a\n<<<<<<< o\nb\n=======\nc\n>>>>>>> t\nd\n<<<<<<< o\n=======\ne\n>>>>>>> t\n", "a\nb\nd\n", "a\nc\nd\ne\n"},
		"diff3":     {"<<<<<<< o\nb\n||||||| base\nx\n=======\nc\n>>>>>>> t\n", "b\n", "c\n"},
		"no end":    {"a\n<<<<<<< o\nb\n=======\nc\n", "", ""},
		"no middle": {"a\n<<<<<<< o\nb\n>>>>>>> t\n", "", ""},
	}
	for name, test := range tests {
		ours, theirs, err := unmarked([]byte(test.text))
		if wrong := test.ours == ""; (err != nil) != wrong || string(ours) != test.ours || !wrong && string(theirs) != test.theirs {
			t.Errorf("%s: %q, %q, %v", name, ours, theirs, err)
		}
	}
}

// Whichever side of each conflict is kept, the file is valid; and it says at
// every address what was chosen there.
func TestEveryChoiceIsValid(t *testing.T) {
	t.Chdir(t.TempDir())
	random := rand.New(rand.NewPCG(1, 2))
	conflicts := 0
	for round := range 60 {
		base, ours, theirs := map[string]int{}, map[string]int{}, map[string]int{}
		for i := range 12 {
			address := fmt.Sprintf("tree.a/api:%02d", i)
			for _, side := range []map[string]int{base, ours, theirs} {
				if n := random.IntN(4); n > 0 {
					side[address] = n
				}
			}
		}
		m := &merging{base: stateOfTags(t, base), ours: stateOfTags(t, ours), theirs: stateOfTags(t, theirs)}
		if err := m.decide(nil, nil, nil, ""); err != nil {
			t.Fatal(err)
		}
		if len(m.conflicts) == 0 {
			continue
		}
		conflicts += len(m.conflicts)
		if err := (&driver{ours: "merged", markers: 7}).writeConflicts(m); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile("merged")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readState("merged"); err == nil {
			t.Fatalf("round %d: a file with conflicts is read as a state", round)
		}
		hunks := bytes.Count(text, []byte("<<<<<<< ours\n"))
		for try := range 4 {
			keep := make([]bool, hunks) // ours
			for i := range keep {
				keep[i] = random.IntN(2) == 0
			}
			if err := os.WriteFile("chosen", chosen(text, keep), 0o600); err != nil {
				t.Fatal(err)
			}
			state, err := readState("chosen")
			if err != nil {
				t.Fatalf("round %d.%d: keeping ours %v: %v\n%s", round, try, keep, err, text)
			}
			for d := range statefile.Diff(state, m.ours) {
				record, _ := m.theirs.Lookup(d.Address)
				if (d.Old == nil) != (record.Address == "") || d.Old != nil && *d.Old != record {
					t.Fatalf("round %d.%d: %s is of neither side", round, try, d.Address)
				}
			}
		}
	}
	if conflicts == 0 {
		t.Fatal("no round had a conflict")
	}
}

// chosen keeps one side of each conflict.
func chosen(text []byte, ours []bool) []byte {
	var out []byte
	n, side := -1, 0
	for line := range bytes.Lines(text) {
		switch {
		case bytes.HasPrefix(line, []byte("<<<<<<<")):
			n, side = n+1, 1
		case bytes.HasPrefix(line, []byte("=======")):
			side = 2
		case bytes.HasPrefix(line, []byte(">>>>>>>")):
			side = 0
		case side == 0 || (side == 1) == ours[n]:
			out = append(out, line...)
		}
	}
	return out
}

func stateOfTags(t *testing.T, tags map[string]int) *statefile.State {
	t.Helper()
	state, err := statefile.Build("one", func(yield func(statefile.Record) bool) {
		for address, n := range tags {
			if !yield(statefile.Record{Address: address, Kind: statefile.KindTag, Digest: sha(fmt.Sprint(n))}) {
				return
			}
		}
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// Only a whole "yes" from a person lets the state be changed.
func TestConfirm(t *testing.T) {
	for answer, want := range map[string]string{
		"yes\n": "", "yes\r\n": "", "y\n": "cancelled; nothing was changed", "": "cancelled", "yes please\n": "cancelled",
	} {
		p := testProgram()
		p.stdin, p.terminal.stdin = strings.NewReader(answer), true
		h := &heldState{session: &session{program: p, command: "state rm", out: io.Discard}, ctx: context.Background()}
		err := h.confirm("Do you want this?")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", answer, err, want)
		}
	}
	ended, end := context.WithCancel(context.Background())
	end()
	p := testProgram()
	hands, _ := io.Pipe() // never answers
	p.stdin, p.terminal.stdin = hands, true
	h := &heldState{session: &session{program: p, command: "state rm", out: io.Discard}, ctx: ended}
	if code := codeOf(h.confirm("Do you want this?")); code != exitInterrupted {
		t.Errorf("interrupted: exit %d, want %d", code, exitInterrupted)
	}
}

func TestAttributePattern(t *testing.T) {
	got := []string{}
	names := []string{"live", "a/./b.json", "with blank", `q"uote`, "st*r[1]?"}
	for _, name := range names {
		got = append(got, attributePattern(name))
	}
	want := []string{"/live", "/a/b.json", `"/with blank"`, `"/q\"uote"`, `/st\*r\[1]\?`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("patterns of %q (-want +got):\n%s", slices.Clone(names), diff)
	}
}
