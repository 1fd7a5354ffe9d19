package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"freightliner/providers"
)

// DefaultState is the path of the state file when none is written.
const DefaultState = "freightliner.state"

var defaultMaxDeletes = Limit{Set: true, Number: 10, Percent: true}

// Options are what Load needs besides the directory and the variables.
type Options struct {
	// Version is the running version, checked against required_version. When it
	// is empty or no semantic version (a build from a working copy), every
	// constraint is taken as met. The pre-release part does not count.
	Version string
	// ReadFile reads a file of Variables.Files, which people name relative to
	// where they are, not to the configuration directory. It may be nil when
	// Variables.Files is empty. More than 1 MiB is refused.
	ReadFile func(path string) ([]byte, error)
}

// Load reads all *.hcl and *.hcl.json files of a directory as one
// configuration, evaluates it with vars, and checks everything that can be
// checked without a network. Files whose names start with a dot and directories
// are left out.
//
// fsys is rooted at the directory; hand in os.Root.FS, so that no link leads out
// of it. dir is the directory as people named it and is only kept as Config.Dir.
//
// All mistakes are given at once, in file and line order. The Config is nil if
// one of them is an error. No diagnostic holds the value of a sensitive or
// ephemeral variable. Whatever the input, Load ends within bounded time and
// memory; see limits.go.
func Load(fsys fs.FS, dir string, vars Variables, options Options) (*Config, Diagnostics) {
	l := &loader{
		fsys:    fsys,
		options: options,
		found:   newFindings(),
		meter:   &meter{left: maxSteps},
		broken:  map[string]bool{},
		names:   map[string][]string{},
		config: &Config{
			Dir:      dir,
			State:    DefaultState,
			Defaults: Defaults{Retries: -1, MaxDeletes: defaultMaxDeletes},
		},
	}
	l.functions = l.meter.functionsFor(&functionEnv{meter: l.meter, fsys: fsys})
	l.load(vars)
	l.config.Sources = l.found.sources
	diags := l.found.sorted()
	if diags.HasErrors() {
		return nil, diags
	}
	return l.config, diags
}

// loader is one run of Load.
type loader struct {
	fsys      fs.FS
	options   Options
	found     *findings
	meter     *meter
	functions map[string]function.Function
	config    *Config
	tokens    int // of all files so far

	// incomplete is set when something could not be parsed: what seems to be
	// missing may be in there, so nothing is reported as missing.
	incomplete bool
	broken     map[string]bool // files with a syntax error
	tired      bool            // the budget is spent and that has been said

	variables      map[string]*variable
	locals         map[string]*named
	registries     map[string]*named
	stores         map[string]*namedStore
	registryScopes []namedScope
	names          map[string][]string // sorted, see known
	chain          []*named            // locals and registries under evaluation, for cycles
}

func (l *loader) load(vars Variables) {
	bodies := l.readDirectory()
	blocks := l.sortBlocks(bodies)
	if !l.checkVersion(blocks["freightliner"]) {
		return
	}
	l.loadVariables(blocks["variable"], vars)
	l.declareLocals(blocks["locals"])
	l.declareRegistries(blocks["registry"])
	l.declareStores(blocks["secret_store"])
	l.loadSettings(blocks["freightliner"])
	l.loadLocals()
	l.loadStores()
	l.loadRegistries()
	l.loadPlaced(blocks["tree"], blocks["image"], blocks["secret"])
}

const fileTooLarge = "A file may have 1 MiB, and all files of a configuration 16 MiB."

// readFile reads a regular file of at most maxFile bytes. Links are refused
// where the file system can tell: an fs.FS made from a plain directory would
// follow them to anywhere.
func readFile(fsys fs.FS, name string) ([]byte, error) {
	for i, c := range name + "/" {
		if c != '/' {
			continue
		}
		info, err := fs.Lstat(fsys, name[:i])
		if err != nil {
			return nil, readError(err)
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return nil, errors.New("links are not followed")
		}
		if i == len(name) && !info.Mode().IsRegular() {
			return nil, errors.New("it is not a regular file")
		}
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, readError(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, readError(err)
	}
	if len(b) > maxFile {
		return nil, errors.New("it is larger than 1 MiB")
	}
	return b, nil
}

// readError leaves out the path, which differs between file systems.
func readError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("there is no such file")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("reading it is not permitted")
	}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

// readDirectory reads and parses the files, in the order of their names.
func (l *loader) readDirectory() []hcl.Body {
	entries, err := fs.ReadDir(l.fsys, ".")
	if err != nil {
		l.incomplete = true
		l.found.errorAt(hcl.Range{}, "can not read the configuration directory", sentence(readError(err).Error()), "")
		return nil
	}
	var names []string
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || strings.HasPrefix(name, ".") {
			continue
		}
		if strings.HasSuffix(name, ".hcl") || strings.HasSuffix(name, ".hcl.json") {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		l.incomplete = true
		l.found.errorAt(hcl.Range{}, "no configuration here", "The directory has no file that ends in .hcl or .hcl.json.", "`freightliner init` writes a starter file; -chdir names another directory.")
		return nil
	}
	if len(names) > maxFiles {
		l.incomplete = true
		l.found.errorAt(hcl.Range{}, guardSummary, fmt.Sprintf("A configuration may have %d files.", maxFiles), "")
		return nil
	}
	slices.Sort(names)
	var bodies []hcl.Body
	total := 0
	for _, name := range names {
		src, err := readFile(l.fsys, name)
		if err != nil {
			l.incomplete = true
			l.found.errorAt(hcl.Range{Filename: name}, "can not read file", sentence(err.Error()), "")
			continue
		}
		if total += len(src); total > maxTotal {
			l.incomplete = true
			l.found.errorAt(hcl.Range{Filename: name}, "configuration is too large", fileTooLarge, "")
			return bodies
		}
		l.found.sources[name] = src
		if body := l.parse(src, name); body != nil {
			bodies = append(bodies, body)
		}
		if l.tokens > maxTokens {
			return bodies // said by parse; the rest would only cost more
		}
	}
	return bodies
}

// parse guards and parses one file. After a syntax error the body holds what
// could be understood.
func (l *loader) parse(src []byte, name string) hcl.Body {
	isJSON := strings.HasSuffix(name, ".json")
	guard := func() (int, *tooBig) { return guardNative(src, name, hcl.InitialPos, hclsyntax.LexConfig) }
	if isJSON {
		guard = func() (int, *tooBig) { return guardJSON(src, name) }
	}
	if !l.admit(guard) {
		return nil
	}
	parse := func() (*hcl.File, hcl.Diagnostics) { return hclsyntax.ParseConfig(src, name, hcl.InitialPos) }
	if isJSON {
		parse = func() (*hcl.File, hcl.Diagnostics) { return json.Parse(src, name) }
	}
	file, diags := parse()
	if diags.HasErrors() {
		l.incomplete = true
		l.broken[name] = true
		l.found.syntax(file, diags)
	}
	if file == nil {
		return nil
	}
	return file.Body
}

// admit runs a guard and keeps count of the tokens of the whole configuration.
func (l *loader) admit(guard func() (int, *tooBig)) bool {
	count, refusal := guard()
	l.tokens += count
	if refusal == nil && l.tokens > maxTokens {
		refusal = tooManyTokens("")
	}
	if refusal == nil {
		return true
	}
	l.incomplete = true
	l.found.errorAt(refusal.at, guardSummary, refusal.detail, "")
	return false
}

// sortBlocks gathers the top-level blocks of all files by type.
func (l *loader) sortBlocks(bodies []hcl.Body) map[string]hcl.Blocks {
	blocks := map[string]hcl.Blocks{}
	for _, body := range bodies {
		content, _ := l.content(schema, body)
		for _, block := range content.Blocks {
			blocks[block.Type] = append(blocks[block.Type], block)
		}
	}
	return blocks
}

// content matches a body against the schema and reports what is not expected.
// The second result holds the names that were most likely meant.
func (l *loader) content(b *blockType, body hcl.Body) (*hcl.BodyContent, []string) {
	content, diags := body.Content(b.body())
	var meant []string
	for _, diag := range diags {
		meant = append(meant, l.found.unexpected(b, diag))
	}
	return content, meant
}

// checkVersion checks required_version before anything else, since a
// configuration for another version may be full of what looks like mistakes. It
// reports whether to go on.
func (l *loader) checkVersion(blocks hcl.Blocks) bool {
	running, err := semver.NewVersion(l.options.Version)
	if err == nil {
		bare, _ := running.SetPrerelease("")
		running = &bare
	}
	for _, block := range blocks {
		content, _, _ := block.Body.PartialContent(settingsBlock.body())
		attr := content.Attributes["required_version"]
		if attr == nil {
			continue
		}
		v, diags := hclLiteral(l, attr.Expr)
		if diags || v.Type() != cty.String || v.IsNull() || !v.IsKnown() {
			l.found.errorAt(attr.Expr.Range(), "required_version must be plain text", "It is read before everything else, so it can not refer to anything.", "")
			continue
		}
		constraint, parseErr := semver.NewConstraint(v.AsString())
		if parseErr != nil {
			l.found.errorAt(attr.Expr.Range(), "not a version constraint", sentence(parseErr.Error()), "write something like `>= 0.1.0, < 2`")
			continue
		}
		if err == nil && !constraint.Check(running) {
			l.found.list = nil
			l.found.seen = map[Diagnostic]bool{}
			l.found.errorAt(attr.Expr.Range(), "this version of freightliner can not read the configuration",
				fmt.Sprintf("The configuration requires %s, and this is %s.", providers.Printable(v.AsString(), 100), l.options.Version), "")
			return false
		}
	}
	return true
}

// loadSettings reads freightliner blocks.
func (l *loader) loadSettings(blocks hcl.Blocks) {
	l.once(blocks)
	for _, block := range blocks {
		s := l.scope(settingsBlock, block, nil)
		if inner := s.inner("state"); inner != nil {
			if text, at, ok := inner.text("path"); ok {
				l.setState(text, at)
			}
		}
		if inner := s.inner("defaults"); inner != nil {
			d := &l.config.Defaults
			if n, ok := inner.integer("parallelism", 1, 10_000); ok {
				d.Parallelism = int(n)
			}
			if n, ok := inner.integer("retry", 0, 100); ok {
				d.Retries = int(n)
			}
			if limit, ok := inner.limit("max_deletes"); ok {
				d.MaxDeletes = limit
			}
		}
	}
}

func (l *loader) setState(text string, at hcl.Range) {
	switch {
	case text == "" || strings.ContainsRune(text, 0) || strings.HasSuffix(text, "/"):
		l.found.errorAt(at, "not a path of a file", "The state is kept in one file.", "")
	case strings.HasSuffix(path.Base(text), ".hcl") || strings.HasSuffix(path.Base(text), ".hcl.json"):
		l.found.errorAt(at, "the state can not be a configuration file", "A name that ends in .hcl or .hcl.json would be read as configuration.", "")
	default:
		l.config.State = text
	}
}

// once reports a second block of a type that may be written once.
func (l *loader) once(blocks hcl.Blocks) {
	for i, block := range blocks {
		if i > 0 {
			l.found.errorAt(block.DefRange, fmt.Sprintf("second %s block", block.Type),
				fmt.Sprintf("It may be written once; the first is at %s.", rangeOf(blocks[0].DefRange)), "")
		}
	}
}

// sentence makes an error text a sentence.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}
