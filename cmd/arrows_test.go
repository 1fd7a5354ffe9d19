// Package cmd only holds the test of the import arrows.
package cmd

import (
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// arrows says what each folder may import of ours (docs/design.md). A folder
// that is not named may import nothing of ours.
var arrows = map[string][]string{
	"providers":          {},
	"providers/registry": {"providers"},
	"providers/secret":   {"providers"},
	"config":             {"providers"},
	"statefile":          {"providers"},
	"planner":            {"config", "statefile", "providers"},
	"executor":           {"planner", "statefile", "providers"},
	"cmd":                {"config", "planner", "executor", "statefile", "providers"},
	"examples":           {"providers"},
}

// onlyIn says which libraries stay in one place.
var onlyIn = map[string]string{
	"github.com/hashicorp/hcl/v2":   "config",
	"github.com/zclconf/go-cty/cty": "config",
	"github.com/spf13/cobra":        "cmd",
	"filippo.io/age":                "providers/secret/file",
	"github.com/vbauerster/mpb/v8":  "cmd",
}

func TestImportArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "freightliner/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	packages := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages++
		folder := strings.TrimPrefix(p.ImportPath, "freightliner/")
		for _, imported := range p.Imports {
			checkImport(t, folder, imported)
		}
	}
	if packages < 7 {
		t.Fatalf("go list named only %d packages", packages)
	}
}

func checkImport(t *testing.T, folder, imported string) {
	if strings.Contains(imported, "flag") && (imported == "flag" || strings.HasSuffix(imported, "/pflag")) && !within(folder, "cmd") && !within(folder, "examples") {
		t.Errorf("%s imports %s: only cmd reads flags", folder, imported)
	}
	// Layers are moved, never unpacked: what can not be read can not be escaped from.
	if (strings.HasPrefix(imported, "archive/") || strings.HasPrefix(imported, "github.com/google/go-containerregistry/pkg/v1/tarball")) && folder != "providers/registry/registrytest" {
		t.Errorf("%s imports %s: layers are not unpacked", folder, imported)
	}
	for library, home := range onlyIn {
		if (imported == library || strings.HasPrefix(imported, library+"/")) && !within(folder, home) {
			t.Errorf("%s imports %s, which belongs to %s", folder, imported, home)
		}
	}
	ours, found := strings.CutPrefix(imported, "freightliner/")
	if !found {
		return
	}
	if within(ours, room(folder)) {
		return // a room's own sub-packages
	}
	for _, allowed := range arrows[room(folder)] {
		if within(ours, allowed) {
			return
		}
	}
	t.Errorf("%s imports %s, against the arrows of docs/design.md", folder, ours)
}

// room is the entry of arrows that a folder belongs to: the longest one.
func room(folder string) string {
	best := ""
	for name := range arrows {
		if within(folder, name) && len(name) > len(best) {
			best = name
		}
	}
	return best
}

func within(folder, room string) bool {
	return folder == room || strings.HasPrefix(folder, room+"/")
}
