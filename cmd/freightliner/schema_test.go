package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// schema is as much of JSON Schema (draft 2020-12) as docs/events.schema.json
// uses; a keyword that is not here would be ignored silently, so reading is strict.
type schema struct {
	Schema      string             `json:"$schema"`
	Title       string             `json:"title"`
	Description string             `json:"description"`
	Defs        map[string]*schema `json:"$defs"`
	Ref         string             `json:"$ref"`
	OneOf       []*schema          `json:"oneOf"`
	Type        string             `json:"type"`
	Enum        []any              `json:"enum"`
	Pattern     string             `json:"pattern"`
	Minimum     *float64           `json:"minimum"`
	Items       *schema            `json:"items"`
	Properties  map[string]*schema `json:"properties"`
	Required    []string           `json:"required"`
	Additional  *additional        `json:"additionalProperties"`
}

// additional says what members without a name in the schema are: none (false), or
// all of one kind.
type additional struct{ each *schema }

func (a *additional) UnmarshalJSON(b []byte) error {
	if string(b) == "false" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(&a.each)
}

// docs is the folder of documents, wherever the test's working directory is.
func docs(name string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "docs", name)
}

var loadSchema = sync.OnceValue(func() *schema {
	b, err := os.ReadFile(docs("events.schema.json"))
	if err != nil {
		panic(err)
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	s := &schema{}
	if err := d.Decode(s); err != nil {
		panic(err)
	}
	return s
})

// check gives what is wrong with one line.
func (s *schema) check(line []byte) []string {
	var v any
	if err := json.Unmarshal(line, &v); err != nil {
		return []string{err.Error()}
	}
	var e struct {
		Type string `json:"type"`
	}
	json.Unmarshal(line, &e)
	for _, option := range s.OneOf {
		if option.Properties["type"].Enum[0] == e.Type {
			return option.problems(s, "", v)
		}
	}
	return []string{"unknown type " + e.Type}
}

func (s *schema) problems(root *schema, at string, v any) []string {
	if s.Ref != "" {
		return root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")].problems(root, at, v)
	}
	var out []string
	fail := func(format string, args ...any) { out = append(out, at+": "+fmt.Sprintf(format, args...)) }
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		fail("%v is none of %v", v, s.Enum)
	}
	switch v := v.(type) {
	case string:
		if s.Type != "string" || s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v) {
			fail("%q is no %s %s", v, s.Type, s.Pattern)
		}
	case bool:
		if s.Type != "boolean" {
			fail("%v is no %s", v, s.Type)
		}
	case float64:
		if s.Type != "number" && (s.Type != "integer" || v != math.Trunc(v)) || s.Minimum != nil && v < *s.Minimum {
			fail("%v is no %s of at least %v", v, s.Type, s.Minimum)
		}
	case []any:
		if s.Type != "array" {
			fail("a list is no %s", s.Type)
			break
		}
		for i := range v {
			out = append(out, s.Items.problems(root, fmt.Sprintf("%s[%d]", at, i), v[i])...)
		}
	case map[string]any:
		if s.Type != "object" {
			fail("an object is no %s", s.Type)
			break
		}
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				fail("%s is missing", name)
			}
		}
		for name, member := range v {
			described := s.Properties[name]
			if described == nil && s.Additional != nil {
				described = s.Additional.each
			}
			if described == nil {
				fail("%s is not described", name)
				continue
			}
			out = append(out, described.problems(root, at+"."+name, member)...)
		}
	default:
		fail("unexpected %T", v)
	}
	return out
}

// Every type and every member is described in docs/events.md.
func TestEventDocument(t *testing.T) {
	b, err := os.ReadFile(docs("events.md"))
	if err != nil {
		t.Fatal(err)
	}
	text, s := string(b), loadSchema()
	var types []string
	for _, option := range s.OneOf {
		types = append(types, option.Properties["type"].Enum[0].(string))
	}
	want := []string{
		typeVersion, typeDiagnostic, typeObserve, typePlanned, typeDrift, typeCounts, typeStart, typeProgress,
		typeComplete, typeErrored, typeCheckpoint, typeSummary,
	}
	if diff := cmp.Diff(want, types); diff != "" {
		t.Errorf("types of the program and the schema (-program +schema):\n%s", diff)
	}
	for _, name := range types {
		if !strings.Contains(text, "| `"+name+"` |") {
			t.Errorf("events.md does not describe the type %s", name)
		}
	}
	for name, def := range s.Defs {
		_, section, found := strings.Cut(text, "\n## `"+name+"`\n")
		section, _, _ = strings.Cut(section, "\n## ")
		if !found {
			t.Errorf("events.md has no section for %s", name)
		}
		for member := range def.Properties {
			if !strings.Contains(section, "| `"+member+"`") {
				t.Errorf("events.md does not describe %s.%s", name, member)
			}
		}
	}
}

// The schema can tell wrong from right; otherwise the other tests prove nothing.
func TestSchemaRefuses(t *testing.T) {
	good := `{"@level":"info","@message":"m","@module":"freightliner.ui","@timestamp":"2026-01-02T03:04:05.000000Z","type":"version","version":{"freightliner":"1","schema":"1.0","command":"plan"}}`
	if problems := loadSchema().check([]byte(good)); problems != nil {
		t.Fatalf("a good line: %v", problems)
	}
	for _, change := range [][2]string{
		{`"info"`, `"loud"`}, {`"type":"version"`, `"type":"verse"`}, {`"schema":"1.0"`, `"schema":1`},
		{`"schema":"1.0",`, ``}, {`"schema":"1.0"`, `"schema":"1.0","more":1`}, {`000000Z`, `Z`}, {`"version":{`, `"diagnostic":{`},
	} {
		if problems := loadSchema().check([]byte(strings.Replace(good, change[0], change[1], 1))); problems == nil {
			t.Errorf("%s for %s passes", change[1], change[0])
		}
	}
}
