package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench is one invocation.
type bench struct {
	dir, registry string
	programs      map[string]string
	versions      map[string]string
	tools         []tool
	names         []string // of the selected workloads; none: all
	runs          int
	count         bool
	parallel      int
	deep          bool
	scale         float64
	left          []string // folders of runs that are over
}

func main() {
	b := &bench{programs: map[string]string{}, versions: map[string]string{}}
	program := flag.String("program", ".build/freightliner", "the freightliner to measure")
	peerDir := flag.String("peers", ".build/peers", "where the peers' programs are kept")
	workloads := flag.String("workload", "", "only these, comma-separated: "+strings.Join(workloadNames(), ", "))
	toolList := flag.String("tools", "", "only these, comma-separated: "+strings.Join(toolNames(), ", "))
	output := flag.String("o", "", "write the tables to this file as well")
	flag.StringVar(&b.dir, "dir", filepath.Join(os.TempDir(), "freightliner-bench"), "corpora and registries live below this folder; corpora stay")
	flag.IntVar(&b.runs, "runs", 3, "timed runs of each tool; 0 counts only")
	flag.BoolVar(&b.count, "count", true, "count requests and bytes in a run of its own")
	flag.IntVar(&b.parallel, "parallel", 4, "processes of a peer side by side, and the base of their other settings")
	flag.BoolVar(&b.deep, "deep", false, "read and hash every blob at the destination, not only look for it")
	flag.Float64Var(&b.scale, "scale", 1, "sizes of layers, and the number of the tiny repositories, times this")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := b.run(ctx, *program, *peerDir, list(*workloads), list(*toolList), *output)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func workloadNames() []string {
	var names []string
	for _, ch := range chains {
		for _, w := range ch.workloads {
			names = append(names, w.name)
		}
	}
	return names
}

func toolNames() []string {
	var names []string
	for _, t := range tools {
		names = append(names, t.name)
	}
	return names
}

// selected reports whether a workload is wanted.
func (b *bench) selected(w workload) bool {
	return len(b.names) == 0 || slices.Contains(b.names, w.name)
}

func (b *bench) run(ctx context.Context, program, peerDir string, workloads, toolList []string, output string) error {
	for _, name := range workloads {
		if !slices.Contains(workloadNames(), name) {
			return fmt.Errorf("no workload %q; there are %s", name, strings.Join(workloadNames(), ", "))
		}
	}
	for _, name := range toolList {
		if !slices.Contains(toolNames(), name) {
			return fmt.Errorf("no tool %q; there are %s", name, strings.Join(toolNames(), ", "))
		}
	}
	b.names = workloads
	defer b.remove()
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	if err := b.install(ctx, program, peerDir, toolList); err != nil {
		return err
	}
	var tables bytes.Buffer
	out := io.MultiWriter(os.Stdout, &tables)
	b.header(out)
	for _, ch := range chains {
		if !slices.ContainsFunc(ch.workloads, b.selected) {
			continue
		}
		if err := b.compare(ctx, out, ch); err != nil {
			return err
		}
		if output == "" {
			continue
		}
		if err := os.WriteFile(output, tables.Bytes(), 0o644); err != nil { // what is done is kept if the next fails
			return err
		}
	}
	return nil
}

// install finds or builds all programs.
func (b *bench) install(ctx context.Context, program, peerDir string, toolList []string) (err error) {
	if peerDir, err = filepath.Abs(peerDir); err != nil {
		return err
	}
	if b.registry, err = installRegistry(ctx, peerDir); err != nil {
		return err
	}
	if b.programs[us], err = filepath.Abs(program); err != nil {
		return err
	}
	for _, t := range tools {
		if len(toolList) > 0 && !slices.Contains(toolList, t.name) || len(toolList) == 0 && t.optional {
			continue
		}
		if t.name != us {
			if b.programs[t.name], b.versions[t.name], err = install(ctx, peerDir, t.name); err != nil {
				return err
			}
		}
		if path := b.programs[t.name]; path == "" {
			continue
		} else if _, err := os.Stat(path); err != nil {
			return err
		}
		b.tools = append(b.tools, t)
	}
	if len(b.tools) == 0 {
		return errors.New("no tool is left to measure")
	}
	return nil
}

// compare runs one chain: the corpus, the counting runs, then the timed runs in
// turns, so that whatever changes on the machine meets everybody.
func (b *bench) compare(ctx context.Context, out io.Writer, ch chain) error {
	p, err := prepare(ctx, b.dir, b.registry, ch.corpus, b.scale)
	if err != nil {
		return err
	}
	storages := []string{p.storage}
	if p.moved != nil {
		storages = append(storages, p.moved.storage)
	}
	for _, storage := range storages {
		if err := warm(storage); err != nil {
			return err
		}
	}
	counted, timed := map[string][]result{}, map[string][]result{}
	round := func(label string, counting bool, list []tool, into map[string][]result) error {
		for _, t := range list {
			progress("%s %s %s …", ch.workloads[0].name, label, t.name)
			results, err := b.play(ctx, ch, p, t, counting)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			for _, r := range results {
				progress("%s %s %s: %s", r.workload, label, t.name, r.outcome)
			}
			into[t.name] = append(into[t.name], results...)
		}
		return nil
	}
	if b.count && !ch.wired {
		if err := round("counting", true, b.tools, counted); err != nil {
			return err
		}
	}
	list := b.tools
	for i := range b.runs {
		if err := round(fmt.Sprintf("run %d", i+1), false, list, timed); err != nil {
			return err
		}
		list = b.worthAgain(ch, timed)
	}
	b.report(out, ch, p, timed, counted)
	return nil
}

// outrun is how much slower than the fastest peer makes one run of a peer enough.
const outrun = 1.5

// worthAgain are the tools that are timed more than once: those that may be the
// fastest peer, which is what the bars speak of, in some workload of the chain.
// Where the bar is no peer but a number, one run of each peer shows enough.
func (b *bench) worthAgain(ch chain, timed map[string][]result) []tool {
	wall := func(name, workload string) time.Duration {
		i := slices.IndexFunc(timed[name], func(r result) bool { return r.workload == workload && r.err == nil })
		if i < 0 {
			return 0
		}
		return timed[name][i].wall
	}
	again := map[string]bool{us: true}
	for _, w := range ch.workloads {
		var fastest time.Duration
		for _, t := range b.tools {
			if d := wall(t.name, w.name); t.name != us && d > 0 && (fastest == 0 || d < fastest) {
				fastest = d
			}
		}
		for _, t := range b.tools {
			if d := wall(t.name, w.name); d > 0 && !ch.wired && float64(d) <= outrun*float64(fastest) {
				again[t.name] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(b.tools), func(t tool) bool { return !again[t.name] })
}

func (o outcome) String() string {
	if o.err != nil {
		return "FAILED: " + oneLine(o.err)
	}
	return fmt.Sprintf("%s, CPU %s, %s MiB", seconds(o.wall), seconds(o.cpu), whole(float64(o.peak)/(1<<20)))
}

// header says what was measured where, and under what load.
func (b *bench) header(out io.Writer) {
	fmt.Fprintf(out, "## %s\n\n", time.Now().UTC().Format(time.DateOnly))
	fmt.Fprintf(out, "- Machine: %s, %d processors, %s/%s, %s; load before the start: %s.\n", model(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), machineLoad())
	var versions []string
	for _, t := range b.tools {
		if v := b.versions[t.name]; v != "" {
			versions = append(versions, t.name+" "+v)
		}
	}
	if len(versions) == 0 {
		versions = []string{"none"}
	}
	fmt.Fprintf(out, "- Peers: %s; %d processes side by side where a tool takes one repository or tag at a time.\n", strings.Join(versions, ", "), b.parallel)
	fmt.Fprintf(out, "- Scale %g, %d timed runs in turns, medians; one run of a peer that is %g × slower than the fastest, and of each where the bar is a number.\n", b.scale, b.runs, outrun)
	if n := loadNumber(); n > 0.5 {
		fmt.Fprintf(out, "- **The machine was not idle: take requests and bytes from here, not times.**\n")
	}
}

// model is the processor's name, where the system tells.
func model() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	_, rest, found := strings.Cut(string(info), "model name")
	if !found {
		return "unknown processor"
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(strings.TrimLeft(line, "\t :"))
}

func machineLoad() string {
	info, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		if output, err := exec.Command("uptime").Output(); err == nil {
			return strings.TrimSpace(string(output))
		}
		return "unknown"
	}
	return strings.Join(strings.Fields(string(info))[:3], " ")
}

func loadNumber() float64 {
	var n float64
	fmt.Sscan(machineLoad(), &n)
	return n
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
