package main

import (
	"encoding/json"
	"fmt"
	"html"
	"io"
	"strings"

	"freightliner/planner"
	"freightliner/providers"
)

// commentBudget is what a Markdown plan may have, in characters: GitHub takes
// 65,536 in a comment, and people add their own words around ours.
const commentBudget = 60_000

// commentHeader is the hidden first line, by which a pipeline finds its comment
// again and learns what it shows.
type commentHeader struct {
	Version  int              `json:"v"`
	Target   string           `json:"target,omitempty"`
	Plan     providers.Digest `json:"plan"`
	State    providers.Digest `json:"state,omitempty"`
	Complete bool             `json:"complete"`
}

// planMarkdown writes a plan for a pull request. It stays under its budget by
// telling groups in one line, never by cutting text: first the changes inside
// repositories go, then the repositories of each block, last the single
// deletes, and then the header says that the comment is not complete.
type planMarkdown struct {
	title  string // "plan", "drift"
	target string // what -chdir named; empty for the working directory
	budget int
}

// Levels of detail, from all to least.
const (
	everyAction = iota
	everyRepository
	everyBlock
	noBlocks
)

func (v planMarkdown) write(w io.Writer, o *outline) error {
	text := ""
	for level := everyAction; level <= noBlocks; level++ {
		if text = v.render(o, level, true); len([]rune(text)) <= v.budget {
			break
		}
	}
	if len([]rune(text)) > v.budget {
		text = v.render(o, noBlocks, false)
	}
	_, err := io.WriteString(w, text)
	return err
}

// render draws the whole comment at one level of detail.
func (v planMarkdown) render(o *outline, level int, allDeletes bool) string {
	var b strings.Builder
	problems, allProblems := v.problems(o)
	v.header(&b, o, allDeletes && allProblems)
	fmt.Fprintf(&b, "### %s\n\n", v.verdict(o))
	v.table(&b, o.totals)
	v.deletes(&b, o, allDeletes)
	b.WriteString(problems)
	if level < noBlocks {
		for i := range o.blocks {
			v.block(&b, o, &o.blocks[i], level)
		}
		if level == everyBlock {
			b.WriteByte('\n')
		}
	}
	v.totals(&b, o)
	if level > everyAction {
		b.WriteString("\nGroups are told in one line to keep this comment short; the saved plan has every change.\n")
	}
	v.footer(&b, o)
	return b.String()
}

func (v planMarkdown) header(b *strings.Builder, o *outline, complete bool) {
	// json.Marshal writes < and > as escapes, so nothing in here ends the comment.
	head, _ := json.Marshal(commentHeader{1, v.target, o.plan.ID(), o.plan.State, complete})
	fmt.Fprintf(b, "<!-- freightliner %s -->\n", ascii(head))
}

func (v planMarkdown) verdict(o *outline) string {
	title := "freightliner " + v.title
	if v.target != "" {
		title += " · " + code(v.target)
	}
	var parts []string
	for _, verb := range []planner.Verb{planner.CreateRepository, planner.Create, planner.Update, planner.Retag, planner.Adopt, planner.Forget, planner.Delete} {
		n := o.totals.Verbs[verb]
		switch {
		case n == 0:
		case verb == planner.CreateRepository:
			parts = append(parts, plural(n, "repository")+" to create")
		case verb == planner.Delete:
			parts = append(parts, "**"+count(n)+" to delete**")
		default:
			parts = append(parts, count(n)+" to "+verbWords[verb])
		}
	}
	if o.plan.Blocked() {
		parts = append(parts, "**refused by a guard**")
	}
	if o.totals.Failed > 0 {
		parts = append(parts, plural(o.totals.Failed, "part")+" not observed")
	}
	switch {
	case len(parts) > 0:
		return title + " · " + strings.Join(parts, ", ")
	case len(o.plan.Actions) > 0:
		return title + " · only rules of blocks to record"
	}
	return title + " · no changes"
}

func (v planMarkdown) table(b *strings.Builder, t planner.Totals) {
	var verbs []planner.Verb
	for _, verb := range planner.Verbs {
		if t.Verbs[verb] > 0 {
			verbs = append(verbs, verb)
		}
	}
	if len(verbs) == 0 {
		return
	}
	b.WriteString("|  |")
	rule := "|---|"
	for _, verb := range verbs {
		b.WriteString(" " + verbWords[verb] + " |")
		rule += "--:|"
	}
	fmt.Fprintf(b, "\n%s\n", rule)
	for _, cause := range planner.Causes {
		b.WriteString("| " + causeWords[cause] + " |")
		for _, verb := range verbs {
			b.WriteString(" " + count(t.Counts[cause][verb]) + " |")
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
}

// deletes stand before everything else and in full while there is any room.
func (v planMarkdown) deletes(b *strings.Builder, o *outline, all bool) {
	if len(o.deletes) == 0 {
		return
	}
	fmt.Fprintf(b, "> [!CAUTION]\n> %s:\n", plural(len(o.deletes), "deletion"))
	if !all {
		for i := range o.blocks {
			if n := o.blocks[i].deletes; n > 0 {
				fmt.Fprintf(b, "> - %s: %s\n", code(o.blocks[i].Address), plural(n, "deletion"))
			}
		}
		b.WriteString(">\n> There are too many to show each one here. Read the saved plan before you approve it.\n\n")
		return
	}
	for _, i := range o.deletes {
		a := &o.plan.Actions[i]
		fmt.Fprintf(b, "> - %s %s (%s)\n", code(destination(a)), code(movement(a)), code(why(a)))
	}
	b.WriteByte('\n')
}

// problemBudget keeps what could not be observed from filling the comment.
const problemBudget = 50

func (v planMarkdown) problems(o *outline) (text string, all bool) {
	var b strings.Builder
	groups := groupProblems(o.plan.Problems)
	shown := groups[:min(len(groups), problemBudget)]
	if len(shown) == 0 {
		return "", true
	}
	b.WriteString("> [!WARNING]\n")
	for _, problem := range shown {
		what := "not observed"
		switch {
		case problem.Guard:
			what = "refused"
		case problem.Blocked:
			what = "held back"
		}
		fmt.Fprintf(&b, "> - %s %s: %s\n", what, code(problem.concerns()), code(providers.Printable(problem.Summary, 400)))
	}
	if more := len(groups) - len(shown); more > 0 {
		fmt.Fprintf(&b, "> - %s more\n", count(more))
	}
	b.WriteByte('\n')
	return b.String(), len(shown) == len(groups)
}

func (v planMarkdown) block(b *strings.Builder, o *outline, block *outlineBlock, level int) {
	if len(block.repos) == 0 {
		return
	}
	if level >= everyBlock {
		fmt.Fprintf(b, "- %s: %s, %s\n", code(block.Address), plural(len(block.repos), "repository"), block.sum.phrase())
		return
	}
	fmt.Fprintf(b, "<details><summary>%s: %s</summary>\n\n", htmlCode(block.Address), html.EscapeString(block.sum.phrase()))
	for _, repo := range block.repos {
		fmt.Fprintf(b, "- %s: %s\n", code(repo.name), repo.sum.phrase())
		if level > everyAction {
			continue
		}
		for _, i := range repo.actions {
			a := &o.plan.Actions[i]
			line := "  - " + verbWords[a.Verb] + " " + code(label(a))
			if m := movement(a); m != "" {
				line += " " + code(m)
			}
			if c := cost(a); c != "" {
				line += ", " + c
			}
			fmt.Fprintf(b, "%s (%s)\n", line, code(why(a)))
		}
	}
	b.WriteString("\n</details>\n\n")
}

func (v planMarkdown) totals(b *strings.Builder, o *outline) {
	t := o.totals
	line := fmt.Sprintf("%s to move, %s there already; about %s", size(t.Bytes), size(t.Present), plural(t.Requests, "request"))
	if len(t.Registries) > 0 {
		var hosts []string
		for _, host := range t.Registries {
			hosts = append(hosts, code(host))
		}
		line += " to " + list(hosts)
	}
	fmt.Fprintf(b, "%s. %s unchanged.\n", line, unchangedThings(t))
	if t.Left > 0 {
		fmt.Fprintf(b, "%s no longer at the source and kept.\n", isAre(t.Left, "tag"))
	}
}

func (v planMarkdown) footer(b *strings.Builder, o *outline) {
	id := o.plan.ID()
	if v.title != "plan" || len(o.plan.Actions) == 0 || o.plan.Blocked() {
		return
	}
	fmt.Fprintf(b, "\nPlan `%s` · approve with `freightliner apply FILE -approve %s`\n", id.Short(), id)
}

// code shows untrusted text as a code span, in which Markdown has no links,
// images, mentions, autolinks or HTML. The fence is longer than any run of
// backticks inside (CommonMark 6.1), and line breaks are escapes by then.
func code(s string) string {
	s = clean(s)
	if strings.TrimSpace(s) == "" {
		return "` `"
	}
	longest, run := 0, 0
	for _, r := range s {
		if r != '`' {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	fence := strings.Repeat("`", longest+1)
	if longest > 0 || s[0] == ' ' || s[len(s)-1] == ' ' {
		s = " " + s + " "
	}
	return fence + s + fence
}

// htmlCode is code for the inside of an HTML line, where Markdown is not read.
func htmlCode(s string) string {
	return "<code>" + html.EscapeString(clean(s)) + "</code>"
}
