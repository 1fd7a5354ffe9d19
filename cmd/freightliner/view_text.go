package main

import (
	"fmt"
	"io"
	"strings"

	"freightliner/planner"
	"freightliner/statefile"
)

// Beyond these many lines a group is told in one, unless -full asks for all.
const (
	repoLines  = 20 // of one repository
	blockLines = 60 // of one block: then one line a repository
	blockRepos = 60 // of one block: then one line for all of it
)

// planText writes a plan for people. It says everything that would be changed
// and no time, so that equal plans read equal.
type planText struct {
	w    io.Writer
	p    palette
	full bool
}

func (v planText) write(o *outline) {
	if len(o.plan.Actions) == 0 {
		v.nothing(o)
		return
	}
	v.legend(o)
	v.deletes(o)
	for i := range o.blocks {
		v.block(o, &o.blocks[i])
	}
	v.table(o.totals)
	v.totals(o)
}

func (v planText) nothing(o *outline) {
	t := o.totals
	switch {
	case t.Failed > 0 && t.Unchanged == 0:
		fmt.Fprintln(v.w, v.p.paint(bold, "No plan: nothing could be observed."))
	case t.Failed > 0:
		fmt.Fprintln(v.w, v.p.paint(bold, "No changes among what could be observed."))
	case o.plan.Destroy && o.plan.Blocked():
		fmt.Fprintln(v.w, v.p.paint(bold, "No plan:")+" a guard holds everything back.")
	case o.plan.Destroy:
		fmt.Fprintln(v.w, v.p.paint(bold, "No changes.")+" Nothing is recorded in the state, so there is nothing to destroy.")
	case t.Blocked > 0:
		fmt.Fprintf(v.w, "%s %s left alone, for the reasons given.\n", v.p.paint(bold, "No changes."), isAre(t.Blocked, "thing"))
	default:
		fmt.Fprintln(v.w, v.p.paint(bold, "No changes.")+" "+theWorld(o.plan)+" match the configuration.")
	}
	if t.Unchanged > 0 {
		fmt.Fprintf(v.w, "\n%s.\n", asTheyShouldBe(t))
	}
	v.left(t)
}

func isAre(n int, noun string) string {
	if n == 1 {
		return plural(n, noun) + " is"
	}
	return plural(n, noun) + " are"
}

func (v planText) left(t planner.Totals) {
	if t.Left > 0 {
		fmt.Fprintf(v.w, "%s no longer at the source and kept at the destination (prune = \"none\").\n", isAre(t.Left, "tag"))
	}
}

// legend explains the symbols that this plan uses.
func (v planText) legend(o *outline) {
	fmt.Fprint(v.w, "Freightliner will perform the following actions:\n\n")
	if len(o.totals.Verbs) == 0 {
		return
	}
	for _, verb := range planner.Verbs {
		if o.totals.Verbs[verb] > 0 {
			m := marks[verb]
			fmt.Fprintf(v.w, "  %s %s\n", v.p.paint(m.colour, m.symbol), meaning(o.plan, verb))
		}
	}
	fmt.Fprintln(v.w)
}

// deletes come first and in full, however many: they are what a reviewer must
// not miss.
func (v planText) deletes(o *outline) {
	if len(o.deletes) == 0 {
		return
	}
	fmt.Fprintln(v.w, v.p.paint(red, plural(len(o.deletes), "delete")+":"))
	rows := make([][]string, 0, len(o.deletes))
	for _, i := range o.deletes {
		a := &o.plan.Actions[i]
		rows = append(rows, []string{clean(destination(a)), movement(a), why(a)})
	}
	v.rows(planner.Delete, "  ", rows)
	fmt.Fprintln(v.w)
}

func why(a *planner.Action) string { return string(a.Cause) + ": " + clean(a.Reason) }

// rows prints aligned columns behind a verb's symbol.
func (v planText) rows(verb planner.Verb, indent string, rows [][]string) {
	verbs := make([]planner.Verb, len(rows))
	for i := range verbs {
		verbs[i] = verb
	}
	v.mixedRows(verbs, indent, rows)
}

func (v planText) mixedRows(verbs []planner.Verb, indent string, rows [][]string) {
	widths := columnWidths(rows)
	for i, row := range rows {
		m := marks[verbs[i]]
		line := indent + v.p.paint(m.colour, m.symbol)
		for c, cell := range row {
			line += " " + pad(cell, widths[c])
			if c < len(row)-1 && widths[c] > 0 {
				line += " "
			}
		}
		fmt.Fprintln(v.w, strings.TrimRight(line, " "))
	}
}

func columnWidths(rows [][]string) []int {
	var widths []int
	for _, row := range rows {
		for c, cell := range row {
			if c == len(widths) {
				widths = append(widths, 0)
			}
			widths[c] = max(widths[c], len([]rune(cell)))
		}
	}
	return widths
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-len([]rune(s))))
}

func (v planText) block(o *outline, b *outlineBlock) {
	if len(b.repos) == 0 && !b.rules {
		return
	}
	fmt.Fprintln(v.w, v.p.paint(bold, clean(b.Address))+blockRoute(b.Block))
	if b.rules {
		fmt.Fprintln(v.w, "  the rules of this block are recorded in the state")
	}
	lines := 0
	for _, repo := range b.repos {
		lines += min(len(repo.actions), repoLines) + 1
	}
	switch {
	case v.full || lines <= blockLines:
		for _, repo := range b.repos {
			v.repo(o, repo, !v.full && len(repo.actions) > repoLines)
		}
	case len(b.repos) <= blockRepos:
		for _, repo := range b.repos {
			v.repo(o, repo, true)
		}
	default:
		fmt.Fprintf(v.w, "  %s, %s\n  (-full lists them)\n", plural(len(b.repos), "repository"), b.sum.phrase())
	}
	fmt.Fprintln(v.w)
}

// blockRoute is ": ghcr.io/acme -> mirror.prod/acme".
func blockRoute(b *planner.Block) string {
	if b.Kind == statefile.KindSecret && b.Source != "" {
		return ": " + secretSource[b.Source] + " -> " + clean(b.Destination)
	}
	if b.Kind == statefile.KindSecret && !strings.HasPrefix(b.Destination, ":") && b.Selection != "" {
		return ": metadata of " + clean(b.Destination)
	}
	if b.Source == "" {
		return ": no longer in the configuration"
	}
	return ": " + clean(b.Source) + " -> " + clean(b.Destination)
}

func (v planText) repo(o *outline, repo *outlineRepo, collapsed bool) {
	if collapsed {
		fmt.Fprintf(v.w, "  %s: %s\n", clean(repo.name), repo.sum.phrase())
		return
	}
	fmt.Fprintf(v.w, "  %s\n", clean(repo.name))
	var verbs []planner.Verb
	var rows [][]string
	for _, i := range repo.actions {
		a := &o.plan.Actions[i]
		verbs = append(verbs, a.Verb)
		rows = append(rows, []string{clean(label(a)), movement(a), cost(a), why(a)})
	}
	v.mixedRows(verbs, "    ", rows)
}

// cost is what moves for an action: nothing for all that copies nothing.
func cost(a *planner.Action) string {
	if a.Bytes == 0 {
		return ""
	}
	return size(a.Bytes)
}

// table counts actions by cause: the three questions a reviewer has.
func (v planText) table(t planner.Totals) {
	head := []string{""}
	var verbs []planner.Verb
	for _, verb := range planner.Verbs {
		if t.Verbs[verb] > 0 {
			verbs = append(verbs, verb)
			head = append(head, verbWords[verb])
		}
	}
	if len(verbs) == 0 {
		return
	}
	rows := [][]string{head}
	for _, cause := range planner.Causes {
		row := []string{causeWords[cause]}
		for _, verb := range verbs {
			row = append(row, count(t.Counts[cause][verb]))
		}
		rows = append(rows, row)
	}
	widths := columnWidths(rows)
	for _, row := range rows {
		line := "  " + pad(row[0], widths[0])
		for c := 1; c < len(row); c++ {
			line += strings.Repeat(" ", widths[c]-len([]rune(row[c]))+2) + row[c]
		}
		fmt.Fprintln(v.w, strings.TrimRight(line, " "))
	}
	fmt.Fprintln(v.w)
}

func (v planText) totals(o *outline) {
	t := o.totals
	phrase := verbPhrase(t.Verbs)
	if phrase == "" {
		phrase = "only rules of blocks to record"
	}
	fmt.Fprintf(v.w, "%s %s, %s unchanged.\n", v.p.paint(bold, "Plan:"), phrase, count(t.Unchanged))
	if t.Requests > 0 || t.Bytes > 0 || t.Present > 0 {
		fmt.Fprintln(v.w, transferLine(t))
	}
	v.left(t)
}

// transferLine is what the plan costs.
func transferLine(t planner.Totals) string {
	line := fmt.Sprintf("Transfer: %s to move, %s there already; about %s", size(t.Bytes), size(t.Present), plural(t.Requests, "request"))
	if len(t.Registries) > 0 {
		line += " to " + clean(list(t.Registries))
	}
	return line + "."
}
