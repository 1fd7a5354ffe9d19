package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"

	"freightliner/config"
	"freightliner/planner"
	"freightliner/providers"
)

// planFormat is the version of the JSON form of a plan (docs/plan-json.md): the
// minor number grows when members are added, the major when one changes.
const planFormat = "1.0"

// jsonChange is one change, in show -json and in the events planned_change and
// drift.
type jsonChange struct {
	Address      string           `json:"address"`
	Kind         string           `json:"kind"`
	Action       planner.Verb     `json:"action"`
	Cause        planner.Cause    `json:"cause"`
	Reason       string           `json:"reason"`
	Block        string           `json:"block"`
	Source       string           `json:"source,omitempty"`
	Destination  string           `json:"destination,omitempty"`
	SourceDigest providers.Digest `json:"source_digest,omitempty"`
	Digest       providers.Digest `json:"digest,omitempty"`
	Observed     providers.Digest `json:"observed_digest,omitempty"`
	Prior        providers.Digest `json:"prior_digest,omitempty"`
	Bytes        int64            `json:"bytes"`
	Present      int64            `json:"present_bytes"`
	Referrers    []jsonReferrer   `json:"referrers,omitempty"`
	Secret       *jsonSecret      `json:"secret,omitempty"`
}

type jsonReferrer struct {
	Digest  providers.Digest `json:"digest"`
	Subject providers.Digest `json:"subject"`
	Tag     string           `json:"tag,omitempty"`
}

func changeOf(p *planner.Plan, a *planner.Action) *jsonChange {
	c := &jsonChange{
		Address: a.Address, Kind: string(a.Kind), Action: a.Verb, Cause: a.Cause, Reason: a.Reason,
		Block: p.Blocks[a.Block].Address, Source: sourceName(a),
		SourceDigest: a.Pin, Digest: a.Want, Observed: a.Observed, Prior: a.Prior,
		Bytes: a.Bytes, Present: a.Present,
	}
	if a.Secret != nil {
		c.Destination, c.Secret = destination(a), secretOf(a.Secret)
	}
	if a.To != (providers.Repository{}) {
		c.Destination = destination(a)
	}
	for _, r := range a.Referrers {
		c.Referrers = append(c.Referrers, jsonReferrer(r))
	}
	return c
}

// jsonCounts is the summary of a plan, in show -json and in change_summary.
type jsonCounts struct {
	Actions    map[planner.Verb]int                   `json:"actions"`
	Causes     map[planner.Cause]map[planner.Verb]int `json:"causes"`
	Unchanged  int                                    `json:"unchanged"`
	Left       int                                    `json:"left"`
	Bytes      int64                                  `json:"bytes"`
	Present    int64                                  `json:"present_bytes"`
	Requests   int                                    `json:"requests"`
	Registries []string                               `json:"registries"`
	Failed     int                                    `json:"failed"`
	Blocked    int                                    `json:"blocked"`
}

func countsOf(t planner.Totals) *jsonCounts {
	c := &jsonCounts{
		Actions: map[planner.Verb]int{}, Causes: map[planner.Cause]map[planner.Verb]int{},
		Unchanged: t.Unchanged, Left: t.Left, Bytes: t.Bytes, Present: t.Present,
		Requests: t.Requests, Registries: append([]string{}, t.Registries...), Failed: t.Failed, Blocked: t.Blocked,
	}
	for _, verb := range planner.Verbs {
		c.Actions[verb] = t.Verbs[verb]
	}
	for _, cause := range planner.Causes {
		c.Causes[cause] = map[planner.Verb]int{}
		for _, verb := range planner.Verbs {
			c.Causes[cause][verb] = t.Counts[cause][verb]
		}
	}
	return c
}

// jsonDiagnostic is one mistake, warning or problem.
type jsonDiagnostic struct {
	Severity string     `json:"severity"`
	Summary  string     `json:"summary"`
	Detail   string     `json:"detail,omitempty"`
	Hint     string     `json:"hint,omitempty"`
	Class    string     `json:"class,omitempty"`
	Address  string     `json:"address,omitempty"`
	Guard    bool       `json:"guard,omitempty"`
	Range    *jsonRange `json:"range,omitempty"`
	Excerpt  string     `json:"excerpt,omitempty"`
}

type jsonRange struct {
	File  string       `json:"filename"`
	Start jsonPosition `json:"start"`
	End   jsonPosition `json:"end"`
}

type jsonPosition struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

func diagnosticOf(d *config.Diagnostic) *jsonDiagnostic {
	j := &jsonDiagnostic{Severity: "error", Summary: d.Summary, Detail: d.Detail, Hint: d.Hint, Range: rangeOf(d.Range), Excerpt: d.Excerpt}
	if d.Warning {
		j.Severity = "warning"
	}
	return j
}

func rangeOf(r config.Range) *jsonRange {
	if r.File == "" {
		return nil
	}
	return &jsonRange{r.File, jsonPosition{r.StartLine, r.StartColumn}, jsonPosition{r.EndLine, r.EndColumn}}
}

func problemOf(p *planner.Problem) *jsonDiagnostic {
	j := &jsonDiagnostic{
		Severity: "error", Summary: p.Summary, Hint: cmp.Or(p.Hint, classHints[p.Class]), Class: p.Class.String(),
		Address: p.Address, Guard: p.Guard, Range: rangeOf(p.Range),
	}
	if p.Blocked && !p.Guard {
		j.Severity = "warning"
	}
	return j
}

// jsonBlock is one tree or image of a plan.
type jsonBlock struct {
	Address     string   `json:"address"`
	Kind        string   `json:"kind"`
	Source      string   `json:"source,omitempty"`
	Destination string   `json:"destination,omitempty"`
	Platforms   []string `json:"platforms"`
	Referrers   bool     `json:"referrers"`
	Overwrite   string   `json:"overwrite,omitempty"`
	OnRemove    string   `json:"on_remove"`
	Protected   bool     `json:"prevent_destroy"`
	After       []string `json:"after"`
	Unchanged   int      `json:"unchanged"`
	Left        int      `json:"left"`
}

func blockOf(p *planner.Plan, b *planner.Block) *jsonBlock {
	j := &jsonBlock{
		Address: b.Address, Kind: string(b.Kind), Source: b.Source, Destination: b.Destination,
		Platforms: []string{}, Referrers: b.Copy.Referrers, Overwrite: b.Copy.Overwrite,
		OnRemove: "forget", Protected: b.Protect, After: []string{}, Unchanged: b.Unchanged, Left: b.Left,
	}
	if b.OnRemove != "" {
		j.OnRemove = b.OnRemove
	}
	for _, platform := range b.Copy.Platforms {
		j.Platforms = append(j.Platforms, platform.String())
	}
	for _, after := range b.After {
		j.After = append(j.After, p.Blocks[after].Address)
	}
	return j
}

// jsonHead is what comes before the lists of a plan.
type jsonHead struct {
	Format   string           `json:"format_version"`
	Plan     providers.Digest `json:"plan"`
	State    providers.Digest `json:"state,omitempty"`
	Destroy  bool             `json:"destroy"`
	Complete bool             `json:"complete"`
	Refused  bool             `json:"refused"`
	Summary  *jsonCounts      `json:"summary"`
}

// writePlanJSON writes a plan for programs, as docs/plan-json.md has it: one
// document, with each block, change and problem on a line of its own, so that a
// plan of a million changes streams and can be searched by line.
func writePlanJSON(w io.Writer, p *planner.Plan) error {
	totals := p.Totals()
	e := &lineEncoder{w: w}
	e.object(jsonHead{
		Format: planFormat, Plan: p.ID(), State: p.State, Destroy: p.Destroy,
		Complete: totals.Failed == 0, Refused: p.Blocked(), Summary: countsOf(totals),
	})
	writeList(e, "blocks", p.Blocks, func(b *planner.Block) any { return blockOf(p, b) })
	writeList(e, "changes", p.Actions, func(a *planner.Action) any { return changeOf(p, a) })
	writeList(e, "problems", p.Problems, func(problem *planner.Problem) any { return problemOf(problem) })
	e.raw([]byte("}\n"))
	return e.err
}

// lineEncoder remembers the first error, so that its callers read straight on.
type lineEncoder struct {
	w   io.Writer
	err error
}

func (e *lineEncoder) raw(b []byte) {
	if e.err == nil {
		_, e.err = e.w.Write(ascii(b))
	}
}

// object writes a JSON object and leaves it open for lists to follow.
func (e *lineEncoder) object(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		e.err = err
		return
	}
	e.raw(b[:len(b)-1])
}

func writeList[T any](e *lineEncoder, name string, items []T, view func(*T) any) {
	e.raw(fmt.Appendf(nil, ",\n%q:[", name))
	for i := range items {
		b, err := json.Marshal(view(&items[i]))
		if err != nil && e.err == nil {
			e.err = err
		}
		if i > 0 {
			e.raw([]byte(","))
		}
		e.raw([]byte("\n"))
		e.raw(b)
	}
	e.raw([]byte("]"))
}

// ascii writes every character of a JSON text that is not plain ASCII as \u
// escapes, and DEL, and the second of two number signs, with which some CI
// commands begin anywhere in a line. Programs read the same strings; a terminal
// or CI log that the stream passes through sees nothing that could act on it.
func ascii(b []byte) []byte {
	b = bytes.ReplaceAll(b, []byte("##"), []byte(`#\u0023`))
	if !bytes.ContainsFunc(b, func(r rune) bool { return r >= 0x7f }) {
		return b
	}
	var out bytes.Buffer
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r < 0x7f:
			out.WriteByte(b[0])
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
		b = b[n:]
	}
	return out.Bytes()
}
