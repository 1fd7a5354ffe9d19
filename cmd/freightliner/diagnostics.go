package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"freightliner/config"
	"freightliner/planner"
	"freightliner/providers"
)

// diagnosticText writes mistakes as Terraform does, with a caret under the
// place so that it is found without colour too.
type diagnosticText struct {
	w io.Writer
	p palette
}

func (v diagnosticText) write(diags config.Diagnostics) {
	for i := range diags {
		v.one(&diags[i])
	}
}

func (v diagnosticText) one(d *config.Diagnostic) {
	fmt.Fprintf(v.w, "%s %s\n", v.severity(d.Warning), v.p.paint(bold, clean(d.Summary)))
	v.place(d.Range, d.Excerpt)
	if d.Detail != "" {
		fmt.Fprintf(v.w, "\n%s\n", wrapped(clean(d.Detail)))
	}
	if d.Hint != "" {
		fmt.Fprintf(v.w, "\n%s\n", wrapped(clean(sentence(d.Hint))))
	}
	fmt.Fprintln(v.w)
}

func (v diagnosticText) severity(warning bool) string {
	if warning {
		return v.p.paint(yellow, "Warning:")
	}
	return v.p.paint(red, "Error:")
}

// sentence begins with a capital letter; hints come with and without.
func sentence(s string) string {
	if s != "" && s[0] >= 'a' && s[0] <= 'z' {
		return string(s[0]-'a'+'A') + s[1:]
	}
	return s
}

// place is the file, the line and a caret under what is wrong.
func (v diagnosticText) place(r config.Range, excerpt string) {
	if r.File == "" {
		return
	}
	if r.StartLine == 0 {
		fmt.Fprintf(v.w, "\n  on %s\n", clean(r.File))
		return
	}
	fmt.Fprintf(v.w, "\n  on %s line %d:\n", clean(r.File), r.StartLine)
	if strings.TrimSpace(excerpt) == "" {
		return
	}
	number := fmt.Sprintf("%4d: ", r.StartLine)
	line, before, under := excerptLine(excerpt, r)
	fmt.Fprintf(v.w, "%s%s\n", number, line)
	if under > 0 {
		fmt.Fprintf(v.w, "%s%s%s\n", strings.Repeat(" ", len(number)), strings.Repeat(" ", before), v.p.paint(red, strings.Repeat("^", under)))
	}
}

// excerptWidth is the longest source line that is shown; a longer one is shown
// around the place.
const excerptWidth = 120

// excerptLine makes a source line printable and says how many characters stand
// before the place and how many it spans. Escapes widen characters, so each
// part is made printable by itself.
func excerptLine(excerpt string, r config.Range) (line string, before, under int) {
	runes := []rune(strings.ReplaceAll(strings.TrimRight(excerpt, "\r\n"), "\t", " "))
	start := min(max(r.StartColumn-1, 0), len(runes))
	end := len(runes)
	if r.EndLine == r.StartLine && r.EndColumn > r.StartColumn {
		end = min(r.EndColumn-1, len(runes))
	}
	lead, tail := "", ""
	if len(runes) > excerptWidth {
		from := max(0, min(start-excerptWidth/3, len(runes)-excerptWidth))
		to := from + excerptWidth
		if from > 0 {
			lead = "…"
		}
		if to < len(runes) {
			tail = "…"
		}
		runes, start, end = runes[from:to], start-from, min(end, to)-from
	}
	head, middle, rest := lead+clean(string(runes[:start])), clean(string(runes[start:end])), clean(string(runes[end:]))
	under = max(1, len([]rune(middle)))
	return head + middle + rest + tail, len([]rune(head)), under
}

// wrapped breaks a paragraph at 78 columns. No line begins with a colon: the
// text may quote a registry, and GitHub takes a line that begins with "::" for
// a command.
func wrapped(text string) string {
	var b strings.Builder
	column := 0
	if strings.HasPrefix(strings.TrimSpace(text), ":") {
		text = `\u{3a}` + strings.TrimSpace(text)[1:]
	}
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case column+1+n > 78 && word[0] != ':':
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}

// problemDiagnostics are a plan's problems as diagnostics. What a rule holds
// back is a warning: the rest goes on; what could not be seen, and a guard, are
// errors.
func problemDiagnostics(p *planner.Plan, sources map[string][]byte) config.Diagnostics {
	var diags config.Diagnostics
	for _, problem := range groupProblems(p.Problems) {
		d := config.Diagnostic{
			Warning: problem.Blocked && !problem.Guard,
			Summary: problem.Summary,
			Hint:    cmp.Or(problem.Hint, classHints[problem.Class]),
			Range:   problem.Range,
			Excerpt: excerptOf(sources, problem.Range),
		}
		if problem.Address != "" && !strings.Contains(problem.Summary, problem.Address) {
			d.Detail = "Concerns " + problem.concerns() + "."
		}
		diags = append(diags, d)
	}
	return diags
}

// problemGroup is a problem with all others that say the same: a registry that
// refuses a credential does so for each of its repositories.
type problemGroup struct {
	*planner.Problem
	more int
}

func (g problemGroup) concerns() string {
	if g.more == 0 {
		return g.Address
	}
	return fmt.Sprintf("%s and %s more", g.Address, count(g.more))
}

// groupProblems joins what says the same about the same block, for people; events
// and reports have each.
func groupProblems(problems []planner.Problem) []problemGroup {
	type saying struct {
		summary, hint  string
		at             config.Range
		class          providers.Class
		blocked, guard bool
	}
	var groups []problemGroup
	said := map[saying]int{}
	for i := range problems {
		p := &problems[i]
		key := saying{p.Summary, p.Hint, p.Range, p.Class, p.Blocked, p.Guard}
		if at, twice := said[key]; twice {
			groups[at].more++
			continue
		}
		said[key] = len(groups)
		groups = append(groups, problemGroup{Problem: p})
	}
	return groups
}

// classHints are the way out where nobody below knew a better one.
var classHints = map[providers.Class]string{
	providers.NotFound: "Check the names of the repository and the tag. Some registries say the same when a credential is missing.",
	providers.Denied:   "Log in with docker login, or write an auth block in the registry block.",
}

func excerptOf(sources map[string][]byte, r config.Range) string {
	lines := strings.Split(string(sources[r.File]), "\n")
	if r.StartLine < 1 || r.StartLine > len(lines) {
		return ""
	}
	return strings.TrimRight(lines[r.StartLine-1], "\r")
}
