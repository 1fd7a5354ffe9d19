package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"freightliner/planner"
	"freightliner/providers"
)

// clean is the one way by which text that we did not write reaches a terminal
// or a log: names, reasons, errors, hints. Beyond what [providers.Printable]
// does it breaks "##", since Azure Pipelines (##vso[…]), GitHub (##[…]) and
// TeamCity obey such a command anywhere in a line.
func clean(s string) string {
	return strings.ReplaceAll(providers.Printable(s, 0), "##", `#\u{23}`)
}

// size is a number of bytes as people say it, in decimal units as disks and
// networks are sold: "512 B", "4.1 GB".
func size(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, unit := float64(n), -1
	for value >= 999.95 && unit < 5 {
		value /= 1000
		unit++
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + " " + string("kMGTPE"[unit]) + "B"
}

// count is n with a comma every three digits.
func count(n int) string {
	digits := strconv.Itoa(n)
	start := len(digits) % 3
	if n < 0 {
		start = (len(digits)-1)%3 + 1
	}
	var b strings.Builder
	b.WriteString(digits[:start])
	for i := start; i < len(digits); i += 3 {
		if b.Len() > 0 && digits[:i] != "-" {
			b.WriteByte(',')
		}
		b.WriteString(digits[i : i+3])
	}
	return b.String()
}

// plural is "1 tag", "2 tags", "3 repositories".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		return count(n) + " " + stem + "ies"
	}
	return count(n) + " " + noun + "s"
}

// span is a duration as people say it: "850ms", "12s", "3m05s", "2h10m".
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// list is "a", "a and b", "a, b and c".
func list(items []string) string {
	switch len(items) {
	case 0:
		return ""
	case 1:
		return items[0]
	}
	last := len(items) - 1
	return strings.Join(items[:last], ", ") + " and " + items[last]
}

// causeWords answer "who changed it".
var causeWords = map[planner.Cause]string{
	planner.ByConfig:   "your config",
	planner.ByUpstream: "moved upstream",
	planner.ByDrift:    "drift at destination",
}

// verbWords say what happens to a tag, as in "3 to update".
var verbWords = map[planner.Verb]string{
	planner.CreateRepository: "create-repository",
	planner.Create:           "create",
	planner.Update:           "update",
	planner.Retag:            "retag",
	planner.Adopt:            "adopt",
	planner.Delete:           "delete",
	planner.Forget:           "forget",
}

// mark is a verb's symbol at the start of a line, its colour, and what it means.
type mark struct {
	symbol  string
	colour  colour
	meaning string
}

var marks = map[planner.Verb]mark{
	planner.Delete:           {"-", red, "delete at the destination"},
	planner.CreateRepository: {"+", green, "create a repository"},
	planner.Create:           {"+", green, "copy to a tag that does not exist"},
	planner.Update:           {"~", yellow, "copy over a tag that has other content"},
	planner.Retag:            {"~", yellow, "point a tag at content that is there already"},
	planner.Adopt:            {"=", cyan, "record identical content that is there already"},
	planner.Forget:           {".", plainColour, "forget: drop the record, leave the destination alone"},
}

// colour is an SGR number; 0 is none.
type colour int

const (
	plainColour colour = 0
	bold        colour = 1
	red         colour = 31
	green       colour = 32
	yellow      colour = 33
	cyan        colour = 36
)

// palette paints, or does not: only where a person looks and wants it.
type palette bool

func (p palette) paint(c colour, s string) string {
	if !p || c == plainColour {
		return s
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", c, s)
}
