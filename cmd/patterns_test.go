package cmd

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPatterns compiles every expression that the program compiles only when it is
// first used, so that a wrong one fails here and not in somebody's run.
func TestPatterns(t *testing.T) {
	call := regexp.MustCompile("providers\\.Pattern\\((`[^`]*`)?")
	n := 0
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, found := range call.FindAllSubmatch(source, -1) {
			n++
			if len(found[1]) == 0 {
				t.Errorf("%s: a pattern that is no raw string can not be held", path)
			} else if _, err := regexp.Compile(strings.Trim(string(found[1]), "`")); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 20 {
		t.Errorf("%d patterns found: the search does not find them any more", n)
	}
}
