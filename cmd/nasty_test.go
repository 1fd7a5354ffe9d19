package cmd

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	caseRow  = regexp.MustCompile(`(?m)^\| ([0-9]+) \| .* \| ([^|]*) \|$`)
	caseTest = regexp.MustCompile("`([^` ]+) ((?:Test|Fuzz)[^`/]+)(?:/([^`]+))?`")
)

// TestNastyCases holds the table of the nasty cases in docs/testing.md to the
// source: every case is there once, in order, and every test that it names exists.
func TestNastyCases(t *testing.T) { holdTable(t, "The 100 nasty cases", 100) }

// TestAttackTable does so for the table of attacks. There is no queue (32), and no
// release to attack (33), so these rows name no test.
func TestAttackTable(t *testing.T) { holdTable(t, "Attacks", 33, "32", "33") }

func holdTable(t *testing.T, heading string, rows int, without ...string) {
	t.Helper()
	text, err := os.ReadFile("../docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		t.Fatal("no table")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	packages := map[string]*testNames{}
	last := 0
	for _, row := range caseRow.FindAllStringSubmatch(table, -1) {
		if n, _ := strconv.Atoi(row[1]); n != last+1 {
			t.Errorf("case %d comes after case %d", n, last)
		} else {
			last = n
		}
		tests := caseTest.FindAllStringSubmatch(row[2], -1)
		if (len(tests) == 0) != slices.Contains(without, row[1]) {
			t.Errorf("case %s names %d tests", row[1], len(tests))
		}
		for _, test := range tests {
			folder := test[1]
			if packages[folder] == nil {
				packages[folder] = testsIn(t, folder)
			}
			if !packages[folder].have(test[2], test[3]) {
				t.Errorf("case %s: there is no %s in %s", row[1], strings.TrimSuffix(test[2]+"/"+test[3], "/"), folder)
			}
		}
	}
	if last != rows {
		t.Errorf("the last case is %d", last)
	}
}

// testNames are the tests of a folder, and what the cases within may be called.
type testNames struct {
	functions []string
	texts     []string // string literals, and files of testdata without their ending
}

func testsIn(t *testing.T, folder string) *testNames {
	t.Helper()
	names := &testNames{}
	files, err := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil {
					names.functions = append(names.functions, n.Name.Name)
				}
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					names.texts = append(names.texts, text)
				}
			}
			return true
		})
	}
	for _, pattern := range []string{"testdata/*.txtar", "testdata/script/*.txtar"} {
		stories, err := filepath.Glob(filepath.Join("..", folder, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, story := range stories {
			names.texts = append(names.texts, strings.TrimSuffix(filepath.Base(story), ".txtar"))
		}
	}
	return names
}

// have looks for a case by the literal that its name is, or ends with: names of
// cases are put together at run time.
func (names *testNames) have(test, within string) bool {
	return slices.Contains(names.functions, test) && (within == "" || slices.ContainsFunc(names.texts, func(text string) bool {
		return text != "" && (text == within || strings.HasSuffix(within, "/"+text))
	}))
}
