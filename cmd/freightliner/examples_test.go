package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"freightliner/config"
)

// Every example can be copied as it is: it is valid with nothing but its variables
// given, draws no warning, and is formatted. The first lines that the README shows
// are one of them.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob(docs("../examples/*/*.hcl"))
	if err != nil || len(files) < 3 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	given := config.Variables{Environment: map[string]string{
		"robot_token": "x", "database_password": "x", "sentry_dsn": "x", "fingerprint_key": strings.Repeat("x", 32),
	}}
	for _, file := range files {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			_, diags := config.Load(os.DirFS(dir), dir, given, config.Options{Version: buildVersion(), ReadFile: readSmallFile})
			for _, d := range diags {
				t.Errorf("line %d: %s: %s", d.Range.StartLine, d.Summary, d.Detail)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if formatted, _ := config.Format(text, file); !bytes.Equal(formatted, text) {
				t.Error("it is not formatted as \"freightliner fmt\" does")
			}
			readme, err := os.ReadFile(docs("../README.md"))
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Base(dir) == "quickstart" && !bytes.Contains(readme, text) {
				t.Error("README.md shows other lines")
			}
		})
	}
}

// What a page shows as configuration is one when all of it is put together.
func TestShownConfigurations(t *testing.T) {
	for _, page := range []string{"../README.md", "secrets.md"} {
		text, err := os.ReadFile(docs(page))
		if err != nil {
			t.Fatal(err)
		}
		var shown strings.Builder
		blocks := strings.Split(string(text), "\n```hcl\n")[1:]
		for _, block := range blocks {
			lines, _, _ := strings.Cut(block, "\n```")
			shown.WriteString(lines + "\n")
		}
		if len(blocks) < 2 {
			t.Errorf("%s shows %d pieces of configuration", page, len(blocks))
		}
		fsys := fstest.MapFS{"main.hcl": {Data: []byte(shown.String())}}
		_, diags := config.Load(fsys, ".", config.Variables{}, config.Options{Version: buildVersion(), ReadFile: readSmallFile})
		for _, d := range diags {
			t.Errorf("%s: %s: %s\n%s", page, d.Summary, d.Detail, d.Excerpt)
		}
	}
}
