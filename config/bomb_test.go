//go:build !race

package config

// Nothing here runs in more than one goroutine. The race detector would find
// nothing and multiply the times that are measured, so these tests do not take
// part in a run with it.

import (
	"flag"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// bombs are configurations that cost far more than their size when nobody
// watches. Each must end in an error (or, where noted, do no harm).
func bombs() map[string]fstest.MapFS {
	one := func(name, text string) fstest.MapFS { return fstest.MapFS{name: {Data: []byte(text)}} }
	hcl := func(text string) fstest.MapFS { return one("main.hcl", text) }
	local := func(text string) fstest.MapFS { return hcl("locals {\n  x = " + text + "\n}\n") }
	rep := strings.Repeat
	all := map[string]fstest.MapFS{
		"brackets":             hcl("x = " + rep("[", 100_000)),
		"brackets closed":      local(rep("[", 100_000) + rep("]", 100_000)),
		"parentheses":          local(rep("(", 100_000) + "1" + rep(")", 100_000)),
		"braces":               local(rep("{a=", 100_000) + "1" + rep("}", 100_000)),
		"blocks":               hcl(rep("a {\n", 100_000)),
		"mixed":                local(rep("[(", 50_000)),
		"wrong closers":        local(rep("[)", 100_000)),
		"wrong closers 2":      local(rep("([)", 100_000)),
		"functions":            local(rep("upper(", 100_000)),
		"index":                local("a" + rep("[a", 100_000)),
		"index chain":          local("[]" + rep("[0+0]", 100_000)),
		"splat chain":          local("[]" + rep("[*]", 100_000)),
		"attribute splats":     local("[]" + rep(".*.a", 100_000)),
		"templates":            local(`"` + rep(`${"`, 100_000)),
		"templates closed":     local(rep(`"${`, 50_000) + "1" + rep(`}"`, 50_000)),
		"heredocs":             local(rep("<<A\n${", 50_000)),
		"directives":           local(`"` + rep("%{if true}", 50_000) + rep("%{endif}", 50_000) + `"`),
		"for directives":       local(`"` + rep("%{for a in [1]}", 50_000) + rep("%{endfor}", 50_000) + `"`),
		"not":                  local(rep("!", 200_000) + "true"),
		"minus":                local(rep("-", 200_000) + "1"),
		"plus":                 local("1" + rep("+1", 200_000)),
		"and":                  local("true" + rep("&&true", 100_000)),
		"conditionals":         local(rep("true?1:", 100_000) + "1"),
		"conditionals inner":   local(rep("true?", 100_000) + "1" + rep(":1", 100_000)),
		"nested for":           local(rep("[for a in [1]: ", 50_000) + "1" + rep("]", 50_000)),
		"for square":           local("[for a in range(1000): [for b in range(1000): a]]"),
		"for cube":             local("[for a in range(1000): [for b in range(1000): [for c in range(1000): c]]]"),
		"for objects":          local("{for a in range(1000): a => {for b in range(1000): b => b}}"),
		"for empty":            local("[for a in range(1000): [for b in range(1000): b if false]]"),
		"for grouped":          local("{for a in range(1000): \"x\" => [for b in range(1000): b]...}"),
		"condition twice":      local(rep("[for a in [1]: a if length(", 45) + "[]" + rep(")==0]", 45)),
		"splat in for":         local("[for a in range(1000): range(1000)[*]]"),
		"splat of references":  hcl("locals {\n a = range(1000)\n b = [for x in local.a: local.a]\n c = [for x in local.b: local.b]\n}"),
		"try in for":           local("[for a in range(1000): try([for b in range(1000): b/0], [for b in range(1000): b], 1)]"),
		"nested try":           local(rep("try(", 90) + "[][0]" + rep(",[][0])", 90)),
		"nested can":           local(rep("can(", 90) + "[][0]" + rep(")", 90)), // harmless
		"width":                local(`format("%1000000000d", 1)`),
		"precision":            local(`format("%.1000000000f", 1)`),
		"width many":           local(`format("` + rep("%999d", 10_000) + `", 1)`),
		"format repeats":       hcl("locals {\n a = \"" + rep("a", 100_000) + "\"\n b = format(\"" + rep("%[1]s", 10_000) + "\", local.a)\n}"),
		"formatlist":           hcl("locals {\n a = \"" + rep("a", 100_000) + "\"\n b = formatlist(\"%s%s\", range(1000), local.a)\n}"),
		"exponent":             local("1e999999999"),
		"negative exponent":    local("1e-999999999"),
		"exponent overflow":    local("1e99999999999999999999999999"),
		"exponent as text":     local(`"1e999999999" + 1`),
		"exponent as argument": local(`max("1e600000000", 1)`),
		"exponent as index":    local(`[1]["1e600000000"]`),
		"exponent to number":   local(`tonumber("1e600000000")`),
		"exponent in format":   local(`format("%d", "1e600000000")`),
		"exponent in JSON":     local(`jsondecode("1e600000000")`),
		"exponent in setting":  hcl("freightliner {\n defaults { parallelism = \"1e600000000\" }\n}"),
		"exponent in default":  hcl("variable \"a\" {\n type = list(number)\n default = [\"1e600000000\"]\n}"),
		"digits":               local(rep("9", 900_000)),
		"digits as text":       local(`tonumber("` + rep("9", 900_000) + `")`),
		"parseint":             local(`parseint("` + rep("9", 900_000) + `", 10)`),
		"squares":              hcl("locals {\n n0 = 1e300\n" + chain(60, "n%d = local.n%d * local.n%d") + "}"),
		"doubling text":        hcl("locals {\n n0 = \"" + rep("a", 64) + "\"\n" + chain(60, `n%d = "${local.n%d}${local.n%d}"`) + "}"),
		"doubling join":        hcl("locals {\n n0 = \"" + rep("a", 64) + "\"\n" + chain(60, `n%d = join("", [local.n%d, local.n%d])`) + "}"),
		"doubling format":      hcl("locals {\n n0 = \"" + rep("a", 64) + "\"\n" + chain(60, `n%d = format("%%s%%s", local.n%d, local.n%d)`) + "}"),
		"doubling replace":     hcl("locals {\n n0 = \"aa\"\n" + chain(60, `n%d = replace(local.n%d, "a", local.n%d)`) + "}"),
		"doubling regex":       hcl("locals {\n n0 = \"aa\"\n" + chain(60, `n%d = replace(local.n%d, "/./", local.n%d)`) + "}"),
		"doubling lists":       hcl("locals {\n n0 = [1]\n" + chain(60, "n%d = [local.n%d, local.n%d]") + "}"),
		"doubling concat":      hcl("locals {\n n0 = [1]\n" + chain(60, "n%d = concat(local.n%d, local.n%d)") + "}"),
		"doubling objects":     hcl("locals {\n n0 = {}\n" + chain(60, "n%d = { a = local.n%d, b = local.n%d }") + "}"),
		"doubling json":        hcl("locals {\n n0 = \"\\\"\"\n" + chain(60, "n%d = jsonencode([local.n%d, local.n%d])") + "}"),
		"deep locals":          hcl("locals {\n n0 = 1\n" + chain(400, "n%d = [local.n%d, local.n%d]") + "}"),
		"long chain of locals": hcl("locals {\n n0 = 1\n" + chain(20_000, "n%d = local.n%d + local.n%d") + "}"),
		"join separator":       hcl("locals {\n a = \"" + rep("a", 500_000) + "\"\n b = join(local.a, range(1000))\n}"),
		"replace everything":   hcl("locals {\n a = \"" + rep("a", 500_000) + "\"\n b = replace(local.a, \"\", local.a)\n}"),
		"indent":               local(`indent(1000000000, "a\nb")`),
		"product":              local("setproduct(range(1000), range(1000), range(1000))"),
		"split":                hcl("locals {\n a = \"" + rep("a", 1_000_000) + "\"\n b = split(\"\", local.a)\n}"),
		"trim":                 hcl("locals {\n a = \"" + rep("é", 200_000) + "\"\n b = trim(local.a, \"" + rep("ü", 200_000) + "\")\n}"),
		"regex program":        local(`regex("((((a{9}){9}){9}){9}){9}", "a")`),
		"regex text":           hcl("locals {\n a = \"" + rep("a", 200_000) + "\"\n b = regexall(\"a.*b|a\", local.a)\n}"),
		"regex groups":         hcl("locals {\n a = \"" + rep("a", 200_000) + "\"\n b = regexall(\"" + rep("()", 400) + "\", local.a)\n}"),
		"distinct":             local("distinct(" + manyTexts(100_000) + ")"),
		"unify types":          local("tolist([" + rep("true, 1, ", 20_000) + "])"),
		"unify depth":          local("tolist([" + rep("{a=", 60) + "[]" + rep("}", 60) + "," + rep("{a=", 60) + "{}" + rep("}", 60) + "])"),
		"conditional depth":    local("true ? " + rep("{a=", 60) + "[]" + rep("}", 60) + " : " + rep("{a=", 60) + "{}" + rep("}", 60)),
		"coalesce depth":       local("coalesce(" + rep("{a=", 60) + "[]" + rep("}", 60) + "," + rep("{a=", 60) + "{}" + rep("}", 60) + ")"),
		"JSON text brackets":   local(`jsondecode("` + rep("[", 100_000) + `")`),
		"many tokens":          hcl("locals {\n x = [" + rep("0,", 500_000) + "]\n}"),
		"for_each":             hcl("tree \"a\" {\n for_each = toset(formatlist(\"%s\", setproduct(range(100), range(100), range(3))))\n source = \"a.b/c\"\n destination = \"a.b/d\"\n}"),
		"for_each instances":   hcl("tree \"a\" {\n for_each = {for a in range(1000): \"k${a}\" => range(1000)}\n source = \"a.b/${join(\",\", [for b in range(1000): b])}\"\n destination = \"a.b/d\"\n}"),
		"type depth":           hcl("variable \"a\" {\n type = " + rep("list(", 50_000) + "any" + rep(")", 50_000) + "\n}"),
		"JSON brackets":        one("main.hcl.json", `{"locals":{"x":`+rep("[", 100_000)),
		"JSON objects":         one("main.hcl.json", rep(`{"a":`, 100_000)),
		"JSON numbers":         one("main.hcl.json", `{"locals":{"x":1e999999999}}`),
		"JSON templates":       one("main.hcl.json", `{"locals":{"x":"`+rep("${[", 100_000)+`"}}`),
		"JSON keys":            one("main.hcl.json", `{"locals":{"x":{"`+rep("${[", 100_000)+`":1}}}`),
		"JSON type":            one("main.hcl.json", `{"variable":{"x":{"type":"`+rep("list(", 100_000)+`"}}}`),
		"JSON depends_on":      one("main.hcl.json", `{"tree":{"x":{"source":"a.b/c","destination":"d.e/f","depends_on":["`+rep("(", 100_000)+`"]}}}`),
		"JSON newline strings": one("main.hcl.json", `{"a":"`+rep("\n[", 100_000)),
		"one line of errors":   hcl(rep("= ", 400_000)),
		"lines of errors":      hcl(rep("=\n", 300_000)),
		"unknown arguments":    hcl(manyLines(60_000, "a%d = 1")),
		"unknown blocks":       hcl(manyLines(40_000, "tre%d \"a\" {}")),
		"unknown names":        hcl(manyLines(15_000, "variable \"v%d\" {}") + "locals {\n" + manyLines(15_000, "l%d = var.w%[1]d") + "}\n"),
		"undeclared":           hcl("locals {\n" + manyLines(30_000, "l%d = local.looking_for%[1]d_this") + "}\n"),
		"sensitive":            hcl(manyLines(5000, "variable \"v%d\" {\n sensitive = true\n default = \"secret-%[1]d\"\n validation {\n condition = false\n error_message = \"no\"\n }\n}")),
		"percents":             local(`"` + rep("%a", 400_000) + `"`),
		"dollars":              local(`"` + rep("$a", 400_000) + `"`),
		"escapes":              local(`"` + rep("$${", 300_000) + `"`),
		"heredoc lines":        local("<<A\n" + rep("a\n", 400_000) + "A"),
		"heredoc parts":        local("<<A\n" + rep("${1}\n", 60_000) + "A"),
		"many trees":           hcl(manyLines(10_000, "tree \"t%d\" {\n source = \"a.b/c%[1]d\"\n destination = \"a.b/c%[1]d\"\n}")),
		"large file":           hcl(rep("# comment\n", 200_000)),
	}
	many := fstest.MapFS{}
	for i := range 20 {
		many[fmt.Sprintf("f%02d.hcl", i)] = &fstest.MapFile{Data: []byte(rep("# comment\n", 100_000))}
	}
	all["many files"] = many
	dense := fstest.MapFS{}
	for i := range 16 {
		dense[fmt.Sprintf("f%02d.hcl", i)] = &fstest.MapFile{Data: []byte(fmt.Sprintf("locals {\n x%d = [%s]\n}\n", i, rep("0,", 150_000)))}
	}
	all["dense files"] = dense
	return all
}

// chain is a series of locals, each made of the one before, twice.
func chain(n int, line string) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "  "+line+"\n", i, i-1, i-1)
	}
	return b.String()
}

func manyLines(n int, line string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, line+"\n", i)
	}
	return b.String()
}

func manyTexts(n int) string {
	var b strings.Builder
	b.WriteString("[")
	for i := range n {
		fmt.Fprintf(&b, "\"%d\",", i)
	}
	b.WriteString("]")
	return b.String()
}

var harmless = map[string]bool{"nested can": true}

func TestBombs(t *testing.T) {
	for name, fsys := range bombs() {
		t.Run(name, func(t *testing.T) {
			c, diags, elapsed, growth := measured(fsys)
			for tries := 1; elapsed > time.Second && tries < 3; tries++ {
				// Other work on the machine only ever makes it slower.
				_, _, again, _ := measured(fsys)
				elapsed = min(elapsed, again)
			}
			if (c == nil) == harmless[name] {
				t.Errorf("config is nil: %t, diagnostics:\n%.2000s", c == nil, diags.Error())
			}
			if elapsed > time.Second {
				t.Errorf("took %v", elapsed)
			}
			if growth > 256<<20 {
				t.Errorf("the heap grew by %d MiB", growth>>20)
			}
			if testing.Verbose() {
				t.Logf("%v, %d MiB, %d diagnostics, first: %.300s", elapsed.Round(time.Millisecond), growth>>20, len(diags), diags.Error())
			}
		})
	}
}

// measured is one Load, its time, and how far the heap grew.
func measured(fsys fstest.MapFS) (*Config, Diagnostics, time.Duration, int64) {
	runtime.GC()
	before := heap()
	peak := watchHeap()
	start := cpuTime()
	c, diags := Load(fsys, ".", Variables{}, Options{})
	elapsed := cpuTime() - start
	return c, diags, elapsed, int64(peak()) - int64(before)
}

// heap is the size of all objects that are not yet collected, garbage included.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// watchHeap looks at the heap every millisecond until the result is called,
// which gives the largest size that was seen.
func watchHeap() func() uint64 {
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		largest := heap()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				largest = max(largest, heap())
			case <-stop:
				peak <- max(largest, heap())
				return
			}
		}
	}()
	return func() uint64 {
		close(stop)
		return <-peak
	}
}

func TestFormatBombs(t *testing.T) {
	for name, fsys := range bombs() {
		for file, content := range fsys {
			elapsed := time.Hour
			for tries := 0; elapsed > time.Second && tries < 3; tries++ {
				start := cpuTime()
				Format(content.Data, file)
				elapsed = min(elapsed, cpuTime()-start)
			}
			if elapsed > time.Second {
				t.Errorf("%s: Format took %v", name, elapsed)
			}
		}
	}
}

// TestHonestSizes shows that the bounds leave room for large configurations.
func TestHonestSizes(t *testing.T) {
	var b strings.Builder
	b.WriteString("registry \"a\" { host = \"registry.example.com\" }\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "tree \"t%d\" {\n  source = \"ghcr.io/acme/t%d\"\n  destination = \"${registry.a.host}/mirror/t%d\"\n  tags {\n    include = [\"v*\"]\n    semver = \">= 1.2\"\n  }\n}\n", i, i, i)
	}
	b.WriteString("locals {\n  names = " + manyTexts(2000) + "\n  teams = { for n in local.names : \"team-${n}\" => upper(n) }\n}\n")
	b.WriteString("image \"i\" {\n  for_each = local.teams\n  source = \"docker.io/nginx:${each.value}\"\n  destination = \"${registry.a.host}/${each.key}/nginx:1\"\n}\n")
	b.WriteString("image \"s\" {\n  for_each = toset(local.names)\n  source = \"docker.io/nginx:${each.value}\"\n  destination = \"${registry.a.host}/s/${each.key}:1\"\n}\n")
	c, diags := load(t, b.String(), nil)
	if diags.HasErrors() {
		t.Fatalf("%.2000s", diags.Error())
	}
	if len(c.Trees) != 1000 || len(c.Images) != 4000 {
		t.Errorf("%d trees, %d images", len(c.Trees), len(c.Images))
	}
}

// FuzzLoad looks for input that panics or takes more than a second.
func FuzzLoad(f *testing.F) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		f.Fatalf("no cases: %v", err)
	}
	for _, name := range cases {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if strings.HasSuffix(file.Name, ".hcl") || strings.HasSuffix(file.Name, ".json") {
				f.Add(file.Data, strings.HasSuffix(file.Name, ".json"))
			}
		}
	}
	for _, fsys := range bombs() {
		for name, file := range fsys {
			if len(file.Data) < 300 { // larger ones would keep the fuzzer from trying much
				f.Add(file.Data, strings.HasSuffix(name, ".json"))
			}
		}
	}
	bound := 2 * time.Second // a second, and one for what else the machine does
	if mode := flag.Lookup("test.fuzz"); mode != nil && mode.Value.String() != "" {
		bound *= 10 // the code is instrumented and several workers share the machine
	}
	f.Fuzz(func(t *testing.T, src []byte, isJSON bool) {
		name := "main.hcl"
		if isJSON {
			name += ".json"
		}
		start := cpuTime()
		c, diags := Load(fstest.MapFS{name: {Data: src}}, ".", Variables{Flags: map[string]string{"region": string(src)}}, Options{Version: "1.0.0"})
		if elapsed := cpuTime() - start; elapsed > bound {
			t.Errorf("took %v", elapsed)
		}
		if (c == nil) != diags.HasErrors() {
			t.Errorf("config is nil: %t, has errors: %t", c == nil, diags.HasErrors())
		}
		for line := range strings.SplitSeq(diags.Error(), "\n") {
			if strings.ContainsAny(line, "\x1b\r\x00") {
				t.Errorf("unsafe character in %q", line)
			}
		}
	})
}

// FuzzFormat checks that formatting is stable and changes nothing but layout.
func FuzzFormat(f *testing.F) {
	f.Add([]byte("a   =  1\nbb = [1,2\n]\n"))
	f.Add([]byte("tree \"a\" {\nsource=\"x\"\n}\n"))
	f.Add([]byte("x = <<EOT\n  a\nEOT\n"))
	f.Add([]byte("/* c */ a = b ? 1 : 2 // d\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		once, diags := Format(src, "main.hcl")
		if diags.HasErrors() {
			if string(once) != string(src) {
				t.Errorf("a file with mistakes was changed to %q", once)
			}
			return
		}
		twice, diags := Format(once, "main.hcl")
		if diags.HasErrors() {
			t.Fatalf("the formatted file has mistakes: %s\n%q", diags.Error(), once)
		}
		if string(once) != string(twice) {
			t.Errorf("not stable:\n%q\n%q", once, twice)
		}
		if squeeze(once) != squeeze(src) {
			t.Errorf("tokens changed:\n%q\n%q", src, once)
		}
	})
}

// squeeze leaves out what layout may change.
func squeeze(src []byte) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '\t' || r == '\n' || r == '\r' {
			return -1
		}
		return r
	}, string(src))
}
