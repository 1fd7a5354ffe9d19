package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"freightliner/config"
	"freightliner/planner"
	"freightliner/providers"
	"freightliner/statefile"
)

func sha(s string) providers.Digest { return providers.SHA256([]byte(s)) }

// hostile is what a registry might put into an error to act on whoever reads it:
// terminal escapes, a CI command, Markdown, HTML, a mention, a direction trick.
const hostile = "\x1b[31mred\x1b[0m\n::error::forged\n##vso[task.complete]```\n</details><img src=https://evil.example/x> @admin [click](https://evil.example) \u202egnp.exe \u009b2J"

// samplePlan has every verb, every cause, every kind and every sort of problem.
func samplePlan() *planner.Plan {
	from, to := providers.Repository{Host: "ghcr.io", Path: "acme/api"}, providers.Repository{Host: "mirror.prod", Path: "acme/api"}
	web := providers.Repository{Host: "mirror.prod", Path: "acme/web"}
	p := &planner.Plan{
		State: sha("state"),
		Registries: []planner.Registry{
			{Config: config.Registry{Name: "up", Host: "ghcr.io", Kind: "ghcr"}, Touched: true},
			{Config: config.Registry{Name: "prod", Host: "mirror.prod", Kind: "generic"}, Auth: true, Touched: true},
		},
		Blocks: []planner.Block{
			{Address: "image.nginx", Kind: statefile.KindImage, Source: "docker.io/library/nginx:1.27", Destination: "mirror.prod/nginx:1.27",
				Copy: config.CopyOptions{Referrers: true, Overwrite: "always"}},
			{Address: "tree.gone", Kind: statefile.KindTree, OnRemove: "delete"},
			{Address: "tree.platform", Kind: statefile.KindTree, Source: "ghcr.io/acme", Destination: "mirror.prod/acme",
				Copy:    config.CopyOptions{Platforms: []providers.Platform{{OS: "linux", Architecture: "amd64"}}, Referrers: true, Overwrite: "managed"},
				Protect: true, After: []int{0}, Unchanged: 99871, Left: 3},
		},
		Actions: []planner.Action{
			{Address: "image.nginx", Kind: statefile.KindImage, Verb: planner.Create, Cause: planner.ByConfig, Reason: "new in the configuration", Block: 0,
				From: providers.Repository{Host: "docker.io", Path: "library/nginx"}, FromTag: "1.27", To: providers.Repository{Host: "mirror.prod", Path: "nginx"}, ToTag: "1.27",
				Pin: sha("nginx"), Want: sha("nginx"), Bytes: 120_400_000, Present: 20_000_000, Requests: 20},
			{Address: "tree.platform", Kind: statefile.KindTree, Verb: planner.Update, Cause: planner.ByConfig, Reason: "prevent_destroy is set", Block: 2},
			{Address: "tree.platform/api", Kind: statefile.KindRepo, Verb: planner.CreateRepository, Cause: planner.ByConfig, Reason: "not there yet", Block: 2, To: to},
			{Address: "tree.platform/api:1.3", Kind: statefile.KindTag, Verb: planner.Create, Cause: planner.ByUpstream, Reason: "new at the source", Block: 2,
				From: from, FromTag: "1.3", To: to, ToTag: "1.3", Pin: sha("1.3"), Want: sha("1.3"), Bytes: 4_100_000_000, Present: 61_000_000_000, Requests: 40, Needs: []int{2}},
			{Address: "tree.platform/api@" + string(sha("1.3")), Kind: statefile.KindReferrers, Verb: planner.Create, Cause: planner.ByUpstream, Reason: "new at the source", Block: 2,
				From: from, To: to, Want: sha("refs"), Referrers: []planner.Referrer{{Digest: sha("sig"), Subject: sha("1.3"), Tag: "sha256-abc.sig"}, {Digest: sha("sbom"), Subject: sha("1.3")}}, Bytes: 2048, Needs: []int{3}},
			{Address: "tree.platform/web:latest", Kind: statefile.KindTag, Verb: planner.Update, Cause: planner.ByUpstream, Reason: "moved at the source", Block: 2,
				From: providers.Repository{Host: "ghcr.io", Path: "acme/web"}, FromTag: "latest", To: web, ToTag: "latest", Pin: sha("new"), Want: sha("new"), Observed: sha("old"), Prior: sha("old"), Bytes: 999},
			{Address: "tree.platform/web:stable", Kind: statefile.KindTag, Verb: planner.Retag, Cause: planner.ByDrift, Reason: "deleted at the destination", Block: 2,
				From: providers.Repository{Host: "ghcr.io", Path: "acme/web"}, FromTag: "stable", To: web, ToTag: "stable", Pin: sha("new"), Want: sha("new"), Prior: sha("new")},
			{Address: "tree.platform/web:v1", Kind: statefile.KindTag, Verb: planner.Adopt, Cause: planner.ByConfig, Reason: "the same content is there", Block: 2,
				From: providers.Repository{Host: "ghcr.io", Path: "acme/web"}, FromTag: "v1", To: web, ToTag: "v1", Pin: sha("v1"), Want: sha("v1"), Observed: sha("v1")},
			{Address: "tree.gone/old:0.9", Kind: statefile.KindTag, Verb: planner.Forget, Cause: planner.ByConfig, Reason: "gone at the destination too", Block: 1,
				To: providers.Repository{Host: "mirror.prod", Path: "gone/old"}, ToTag: "0.9", Prior: sha("0.9")},
			{Address: "tree.gone/old:1.0", Kind: statefile.KindTag, Verb: planner.Delete, Cause: planner.ByConfig, Reason: "the block was removed, on_remove = delete", Block: 1,
				To: providers.Repository{Host: "mirror.prod", Path: "gone/old"}, ToTag: "1.0", Prior: sha("1.0"), Observed: sha("1.0")},
		},
		Problems: []planner.Problem{
			{Address: "tree.platform/broken", Class: providers.Denied, Summary: "list tags ghcr.io/acme/broken: " + hostile, Hint: "Log in with docker login ghcr.io."},
			{Address: "tree.platform/web:v2", Class: providers.Conflict, Summary: "mirror.prod/acme/web:v2 is not ours (overwrite = managed)", Blocked: true,
				Range: config.Range{File: "main.hcl", StartLine: 3, StartColumn: 3, EndLine: 3, EndColumn: 12}},
		},
	}
	return p
}

// manyPlan has n tags in each of r repositories, and d deletes.
func manyPlan(r, n, d int) *planner.Plan {
	p := &planner.Plan{State: sha("state"), Blocks: []planner.Block{{Address: "tree.big", Kind: statefile.KindTree, Source: "ghcr.io/big", Destination: "mirror.prod/big"}}}
	for i := range r {
		name := fmt.Sprintf("repo-%04d", i)
		for j := range n {
			tag := fmt.Sprintf("v%d", j)
			p.Actions = append(p.Actions, planner.Action{
				Address: "tree.big/" + name + ":" + tag, Kind: statefile.KindTag, Verb: planner.Create, Cause: planner.ByUpstream, Reason: "new at the source",
				From: providers.Repository{Host: "ghcr.io", Path: "big/" + name}, FromTag: tag, To: providers.Repository{Host: "mirror.prod", Path: "big/" + name}, ToTag: tag,
				Pin: sha(tag), Want: sha(tag), Bytes: 1_000_000,
			})
		}
	}
	for i := range d {
		tag := fmt.Sprintf("old-%06d", i)
		p.Actions = append(p.Actions, planner.Action{
			Address: "tree.big/gone:" + tag, Kind: statefile.KindTag, Verb: planner.Delete, Cause: planner.ByUpstream, Reason: "left the source, prune = managed",
			To: providers.Repository{Host: "mirror.prod", Path: "big/gone"}, ToTag: tag, Prior: sha(tag), Observed: sha(tag),
		})
	}
	return p
}

func planAsText(p *planner.Plan, colours palette, full bool) string {
	var b bytes.Buffer
	planText{&b, colours, full}.write(arrange(p))
	return b.String()
}

func TestPlanText(t *testing.T) {
	golden(t, "plan.txt", []byte(planAsText(samplePlan(), false, false)))
	golden(t, "plan_colour.txt", []byte(planAsText(samplePlan(), true, false)))
	golden(t, "plan_empty.txt", []byte(planAsText(&planner.Plan{Blocks: []planner.Block{{Address: "tree.a", Unchanged: 12, Left: 1}}}, false, false)))
	golden(t, "plan_long_repository.txt", []byte(planAsText(manyPlan(1, 212, 0), false, false)))
	golden(t, "plan_many_repositories.txt", []byte(planAsText(manyPlan(50, 3, 2), false, false)))
	golden(t, "plan_huge.txt", []byte(planAsText(manyPlan(1000, 3, 0), false, false)))
	full := planAsText(manyPlan(100, 3, 0), false, true)
	if got := strings.Count(full, "\n    + v"); got != 300 {
		t.Errorf("with -full %d of 300 changes are listed:\n%s", got, full)
	}
}

func TestProblemsText(t *testing.T) {
	var b bytes.Buffer
	diagnosticText{&b, false}.write(problemDiagnostics(samplePlan(), map[string][]byte{"main.hcl": []byte("a\nb\n\toverwrite = \"managed\" # ü\n")}))
	golden(t, "problems.txt", b.Bytes())
	safeText(t, b.String())
}

func TestDiagnosticText(t *testing.T) {
	var b bytes.Buffer
	v := diagnosticText{&b, false}
	v.one(&config.Diagnostic{Summary: "unknown block type", Detail: "Blocks of type \"treee\" are not known.", Hint: "Did you mean \"tree\"?",
		Range: config.Range{File: "main.hcl", StartLine: 3, StartColumn: 1, EndLine: 3, EndColumn: 6}, Excerpt: `treee "x" {`})
	v.one(&config.Diagnostic{Warning: true, Summary: "a whole file", Range: config.Range{File: "x.hcl"}})
	v.one(&config.Diagnostic{Summary: "at the end", Range: config.Range{File: "x.hcl", StartLine: 12, StartColumn: 4, EndLine: 13, EndColumn: 1}, Excerpt: "a ="})
	v.one(&config.Diagnostic{Summary: "a long line", Range: config.Range{File: "x.hcl", StartLine: 1, StartColumn: 151, EndLine: 1, EndColumn: 154}, Excerpt: strings.Repeat("x", 150) + "yyy" + strings.Repeat("z", 150)})
	v.one(&config.Diagnostic{Summary: hostile, Detail: hostile, Hint: hostile, Range: config.Range{File: hostile, StartLine: 1, StartColumn: 2, EndLine: 1, EndColumn: 4}, Excerpt: hostile})
	golden(t, "diagnostics.txt", b.Bytes())
	safeText(t, b.String())
}

// safeText fails when untrusted text could act on a terminal or a CI log.
func safeText(t *testing.T, text string) {
	t.Helper()
	for i, line := range strings.Split(text, "\n") {
		for _, r := range line {
			if r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u202e' {
				t.Errorf("line %d has the control character %U: %q", i+1, r, line)
			}
		}
		if strings.HasPrefix(strings.TrimSpace(line), "::") || strings.Contains(line, "##vso[") {
			t.Errorf("line %d is a CI command: %q", i+1, line)
		}
	}
}

func planAsMarkdown(t *testing.T, p *planner.Plan) string {
	t.Helper()
	var b strings.Builder
	if err := (planMarkdown{title: "plan", target: "prod", budget: commentBudget}).write(&b, arrange(p)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPlanMarkdown(t *testing.T) {
	text := planAsMarkdown(t, samplePlan())
	golden(t, "plan.md", []byte(text))
	safeText(t, text)
	golden(t, "plan_empty.md", []byte(planAsMarkdown(t, &planner.Plan{Blocks: []planner.Block{{Address: "tree.a", Unchanged: 12}}})))
}

// Whatever the size, the comment stays in its budget, deletes are complete or
// the header says that they are not, and no details block is cut open.
func TestPlanMarkdownBudget(t *testing.T) {
	tests := []struct {
		name                    string
		repos, tags, deletes    int
		wantComplete, wantLists bool
	}{
		{"small", 3, 3, 2, true, true},
		{"many tags", 20, 200, 5, true, false},
		{"many repositories", 3000, 2, 5, true, false},
		{"some hundred deletes", 3000, 2, 300, true, false},
		{"too many deletes", 10, 2, 5000, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			text := planAsMarkdown(t, manyPlan(test.repos, test.tags, test.deletes))
			if n := len([]rune(text)); n > commentBudget {
				t.Errorf("%d characters, the budget is %d", n, commentBudget)
			}
			head, _, _ := strings.Cut(text, "\n")
			var header commentHeader
			if err := json.Unmarshal([]byte(strings.TrimSuffix(strings.TrimPrefix(head, "<!-- freightliner "), " -->")), &header); err != nil {
				t.Fatalf("header %q: %v", head, err)
			}
			if header.Complete != test.wantComplete {
				t.Errorf("complete is %v in %q", header.Complete, head)
			}
			if shown := strings.Count(text, "> - `mirror.prod/big/gone:"); test.wantComplete && shown != test.deletes {
				t.Errorf("%d of %d deletes are shown", shown, test.deletes)
			}
			if listed := strings.Contains(text, "  - create `v1`"); listed != test.wantLists {
				t.Errorf("single changes listed: %v, want %v", listed, test.wantLists)
			}
			if open, closed := strings.Count(text, "<details>"), strings.Count(text, "</details>"); open != closed {
				t.Errorf("%d details opened, %d closed", open, closed)
			}
		})
	}
}

// Nothing untrusted is anything but a code span, so it can be no link, image,
// mention, HTML or fence.
func TestMarkdownCode(t *testing.T) {
	tests := map[string]string{
		"plain":         "`plain`",
		"":              "` `",
		"a`b":           "`` a`b ``",
		"```x":          "```` ```x ````",
		"@admin":        "`@admin`",
		"a\nb":          "`a\\nb`",
		"<img src=x>":   "`<img src=x>`",
		" led":          "`  led `",
		"##vso[x]":      "`#\\u{23}vso[x]`",
		"[x](http://y)": "`[x](http://y)`",
	}
	for in, want := range tests {
		if got := code(in); got != want {
			t.Errorf("code(%q) = %q, want %q", in, got, want)
		}
	}
	if got, want := htmlCode("</summary><b>\x1b"), `<code>&lt;/summary&gt;&lt;b&gt;\u{1b}</code>`; got != want {
		t.Errorf("htmlCode = %q, want %q", got, want)
	}
}

func TestPlanJSON(t *testing.T) {
	var b bytes.Buffer
	if err := writePlanJSON(&b, samplePlan()); err != nil {
		t.Fatal(err)
	}
	golden(t, "plan.json", b.Bytes())
	var back struct {
		Problems []jsonDiagnostic `json:"problems"`
		Changes  []jsonChange     `json:"changes"`
	}
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Changes) != len(samplePlan().Actions) {
		t.Errorf("%d changes, want %d", len(back.Changes), len(samplePlan().Actions))
	}
	if got, want := back.Problems[0].Summary, samplePlan().Problems[0].Summary; got != want {
		t.Errorf("a program reads %q, want %q", got, want)
	}
	for _, c := range b.Bytes() {
		if c >= 0x7f || c < 0x20 && c != '\n' {
			t.Fatalf("byte %#x reaches whoever looks at the JSON", c)
		}
	}
}

// Equal plans are drawn equal: nothing in a view depends on map order or time.
func TestViewsAreStable(t *testing.T) {
	draw := func() string {
		var b bytes.Buffer
		if err := writePlanJSON(&b, samplePlan()); err != nil {
			t.Fatal(err)
		}
		return planAsText(samplePlan(), true, true) + planAsMarkdown(t, samplePlan()) + b.String()
	}
	first := draw()
	for range 20 {
		if draw() != first {
			t.Fatal("the same plan is drawn differently")
		}
	}
}

func TestDriftText(t *testing.T) {
	var b bytes.Buffer
	driftText{planText{w: &b}}.write(samplePlan())
	golden(t, "drift.txt", b.Bytes())
	b.Reset()
	driftText{planText{w: &b}}.write(&planner.Plan{Blocks: []planner.Block{{Address: "tree.a", Unchanged: 7}}})
	golden(t, "drift_none.txt", b.Bytes())
}

func TestWords(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 4_100_000_000: "4.1 GB", 1 << 62: "4.6 EB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 12: "12", 999: "999", 1000: "1,000", 99871: "99,871", 1234567: "1,234,567", -1234: "-1,234", -999: "-999"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{850 * time.Millisecond: "850ms", 12 * time.Second: "12s", 185 * time.Second: "3m05s", 130 * time.Minute: "2h10m"} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
	if got := plural(2, "repository") + "/" + plural(1, "tag") + "/" + plural(1000, "tag"); got != "2 repositories/1 tag/1,000 tags" {
		t.Errorf("plural: %q", got)
	}
}
