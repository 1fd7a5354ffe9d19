package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

const us = "freightliner"

// report writes the tables of one chain.
func (b *bench) report(out io.Writer, ch chain, p *prepared, timed, counted map[string][]result) {
	before := &corpus{}
	after := p.corpus
	for i, w := range ch.workloads {
		switch {
		case w.name == "moved":
			before, after = p.corpus, p.moved.corpus
		case i > 0:
			before = p.corpus
		}
		if !b.selected(w) {
			continue
		}
		m := least(before, after)
		fmt.Fprintf(out, "\n### `%s`: %s\n\nBar: %s.\n", w.name, w.title, w.bar)
		fmt.Fprintf(out, "Corpus: %d repositories, %d tags; to move %d blobs with %s MB.\n", len(after.Repositories), after.tags(), m.blobs, megabytes(m.bytes))
		rows := b.rows(w, timed)
		if b.runs > 0 {
			b.timeTable(out, rows, m, ch)
		}
		if ch.wired {
			wireTable(out, rows)
		}
		if len(counted) > 0 {
			b.countTable(out, w, counted, m)
		}
		b.failures(out, w, timed, counted)
	}
}

// row is all runs of one workload by one tool.
type row struct {
	tool    string
	good    []result
	failed  int
	partial []result // failed ones that have bytes to show
}

func (b *bench) rows(w workload, timed map[string][]result) []row {
	var rows []row
	for _, t := range b.tools {
		r := row{tool: t.name}
		for _, one := range timed[t.name] {
			switch {
			case one.workload != w.name:
			case one.err != nil:
				r.failed++
				r.partial = append(r.partial, one)
			default:
				r.good = append(r.good, one)
			}
		}
		rows = append(rows, r)
	}
	return rows
}

func (b *bench) timeTable(out io.Writer, rows []row, m minimum, ch chain) {
	var fastest time.Duration // of the peers
	for _, r := range rows {
		if r.tool != us && len(r.good) > 0 {
			if wall := median(r.good, func(o result) time.Duration { return o.wall }); fastest == 0 || wall < fastest {
				fastest = wall
			}
		}
	}
	far := ch.wired && ch.workloads[0].name == "far"
	fmt.Fprint(out, "\n| tool | wall, median (range) | ÷ fastest peer | client CPU | largest process | registries' CPU | processors busy |")
	rule := "\n| --- | --: | --: | --: | --: | --: | --: |"
	if far {
		fmt.Fprint(out, " wall ÷ (bytes ÷ bandwidth) |")
		rule += " --: |"
	}
	fmt.Fprintln(out, rule)
	for _, r := range rows {
		if len(r.good) == 0 {
			fmt.Fprintf(out, "| %s | failed | – | – | – | – | – |\n", r.tool)
			continue
		}
		wall := median(r.good, func(o result) time.Duration { return o.wall })
		cpu := median(r.good, func(o result) time.Duration { return o.cpu })
		registries := median(r.good, func(o result) time.Duration { return o.registries })
		peak := median(r.good, func(o result) int64 { return o.peak })
		first := slices.MinFunc(r.good, func(a, b result) int { return cmp.Compare(a.wall, b.wall) }).wall
		last := slices.MaxFunc(r.good, func(a, b result) int { return cmp.Compare(a.wall, b.wall) }).wall
		fmt.Fprintf(out, "| %s | %s (%s–%s) | %s | %s | %s MiB%s | %s | %.1f |", r.label(), seconds(wall), seconds(first), seconds(last),
			ratio(float64(wall), float64(fastest)), seconds(cpu), whole(float64(peak)/(1<<20)), b.several(r.tool), seconds(registries), float64(cpu+registries)/float64(wall))
		if far {
			fmt.Fprintf(out, " %s |", ratio(wall.Seconds(), float64(m.bytes)*8/farBits))
		}
		fmt.Fprintln(out)
	}
}

// several says how many processes of a tool run side by side.
func (b *bench) several(name string) string {
	for _, t := range b.tools {
		if t.name == name && t.atOnce != nil {
			if n := t.atOnce(&arena{parallel: b.parallel}); n > 1 {
				return fmt.Sprintf(", of %d", n)
			}
		}
	}
	return ""
}

func (r row) label() string {
	label := r.tool
	if len(r.good) == 1 {
		label += " (1 run)"
	}
	if r.failed > 0 {
		label += fmt.Sprintf(" (%d runs failed)", r.failed)
	}
	return label
}

func wireTable(out io.Writer, rows []row) {
	fmt.Fprintln(out, "\n| tool | MB to the destination | sent again | MB from the source | outcome |\n| --- | --: | --: | --: | --- |")
	for _, r := range rows {
		list, outcome := r.good, "right"
		if len(list) == 0 {
			list, outcome = r.partial, "failed"
		}
		list = slices.DeleteFunc(slices.Clone(list), func(o result) bool { return o.wire == nil })
		if len(list) == 0 {
			fmt.Fprintf(out, "| %s | – | – | – | failed |\n", r.tool)
			continue
		}
		sent := median(list, func(o result) int64 { return o.wire.sent })
		read := "–"
		if n := median(list, func(o result) int64 { return o.wire.read }); n > 0 {
			read = megabytes(n)
		}
		again := "–" // of a transfer that came to no end
		if len(r.good) > 0 {
			again = fmt.Sprintf("%.1f %%", 100*float64(sent-list[0].wire.least)/float64(list[0].wire.least))
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", r.label(), megabytes(sent), again, read, outcome)
	}
}

func (b *bench) countTable(out io.Writer, w workload, counted map[string][]result, m minimum) {
	fmt.Fprintln(out, "\n| tool | requests, source | ÷ minimum | requests, destination | ÷ minimum | MB from the source | MB to the destination | blobs read again | blobs sent again |\n| --- | --: | --: | --: | --: | --: | --: | --: | --: |")
	fmt.Fprintf(out, "| *minimum* | %d | 1 | %d | 1 | %s | %s | 0 | 0 |\n", m.source, m.destination, megabytes(m.bytes), megabytes(m.bytes))
	var details strings.Builder
	for _, t := range b.tools {
		for _, r := range counted[t.name] {
			if r.workload != w.name || r.counted == nil {
				continue
			}
			source, destination := r.counted[0], r.counted[1]
			name := t.name
			if r.err != nil {
				name += " (failed)"
			}
			fmt.Fprintf(out, "| %s | %d | %s | %d | %s | %s | %s | %d | %d |\n", name,
				source.total, ratio(float64(source.total), float64(m.source)), destination.total, ratio(float64(destination.total), float64(m.destination)),
				megabytes(source.down), megabytes(destination.up), repeats(source.read), repeats(destination.sent))
			fmt.Fprintf(&details, "- %s, source: %s; destination: %s\n", t.name, requests(source), requests(destination))
		}
	}
	fmt.Fprintf(out, "\nRequests by kind:\n\n%s", details.String())
}

// requests lists the kinds, the most frequent first.
func requests(c counts) string {
	kinds := slices.SortedFunc(maps.Keys(c.requests), func(a, b string) int {
		return cmp.Or(cmp.Compare(c.requests[b], c.requests[a]), strings.Compare(a, b))
	})
	var parts []string
	for _, kind := range kinds {
		parts = append(parts, fmt.Sprintf("%d %s", c.requests[kind], kind))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// failures names what went wrong, once per tool.
func (b *bench) failures(out io.Writer, w workload, lists ...map[string][]result) {
	first := true
	for _, t := range b.tools {
		for _, list := range lists {
			i := slices.IndexFunc(list[t.name], func(r result) bool { return r.workload == w.name && r.err != nil })
			if i < 0 {
				continue
			}
			if first {
				fmt.Fprintln(out, "\nFailures:")
				fmt.Fprintln(out)
				first = false
			}
			fmt.Fprintf(out, "- %s: `%s`\n", t.name, strings.ReplaceAll(oneLine(list[t.name][i].err), "`", "'"))
			break
		}
	}
}

// oneLine is an error's text for a list; what tools print has many lines.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// median is the middle of what of gives, the lower of two.
func median[T cmp.Ordered](list []result, of func(result) T) T {
	values := make([]T, len(list))
	for i, r := range list {
		values[i] = of(r)
	}
	slices.Sort(values)
	return values[(len(values)-1)/2]
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func megabytes(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1e6) }

func whole(f float64) string {
	if f == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f", f)
}

func ratio(a, b float64) string {
	if b == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", a/b)
}
