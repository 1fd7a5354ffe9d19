package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"freightliner/config"
	"freightliner/planner"
	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/statefile"
)

// planFlags are the flags of every verb that makes a plan.
type planFlags struct {
	variableFlags
	state       string
	targets     []string
	exclude     []string
	maxDeletes  string
	parallelism int
	full        bool
	json        bool
	jsonInto    string
}

func (f *planFlags) add(cmd *cobra.Command) {
	f.variableFlags.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.state, "state", "", "the state file is `FILE`, whatever the configuration says")
	flags.StringArrayVar(&f.targets, "target", nil, "only addresses that match `GLOB`, such as tree.platform/team/**; may be repeated")
	flags.StringArrayVar(&f.exclude, "exclude", nil, "no addresses that match `GLOB`; may be repeated")
	flags.StringVar(&f.maxDeletes, "max-deletes", "", "refuse a plan that deletes more than `N` or N% of a block's tags")
	flags.BoolVar(&f.full, "full", false, "list every change, however many")
	f.addOutput(cmd)
}

func (f *planFlags) addOutput(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.json, "json", false, "print the event stream (docs/events.md) instead of text")
	cmd.Flags().StringVar(&f.jsonInto, "json-into", "", "write the event stream to `FILE` as well")
}

// check reads what cobra can not check.
func (f *planFlags) check(cmd *cobra.Command, env map[string]string) (config.Variables, config.Limit, error) {
	vars, err := f.variables(cmd, env)
	if err != nil {
		return vars, config.Limit{}, err
	}
	if f.parallelism < 0 {
		return vars, config.Limit{}, &usageError{cmd, "flag -parallelism: must not be negative", ""}
	}
	limit, err := parseLimit(f.maxDeletes)
	if err != nil {
		return vars, limit, &usageError{cmd, "flag -max-deletes: " + err.Error(), ""}
	}
	return vars, limit, nil
}

// parseLimit reads "5" or "10%"; empty is not set.
func parseLimit(s string) (config.Limit, error) {
	if s == "" {
		return config.Limit{}, nil
	}
	digits, percent := strings.CutSuffix(s, "%")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || percent && n > 100 {
		return config.Limit{}, fmt.Errorf("want a number or a percentage from 0%% to 100%%, not %s", quoted(s))
	}
	return config.Limit{Set: true, Number: n, Percent: percent}, nil
}

func (p *program) planCommand() *cobra.Command {
	var f planFlags
	var out, markdown string
	var detailed, destroy bool
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what would be done, and what it costs",
		Long: `Looks at the registries and shows what apply would do, and why: each change names
its cause, which is your configuration, a move upstream, or drift at the
destination. It changes nothing and takes no lock.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			vars, limit, err := f.check(cmd, p.env)
			if err != nil {
				return err
			}
			if markdown == "-" && f.json {
				return &usageError{cmd, "-markdown=- and -json both want standard output", ""}
			}
			if out == "-" {
				return &usageError{cmd, "flag -out: a plan is saved to a file, not to standard output", ""}
			}
			s, err := p.startSession("plan", f.json, f.jsonInto)
			if err != nil {
				return err
			}
			if markdown == "-" {
				s.out = io.Discard
			}
			return s.finish(s.plan(cmd.Context(), f, vars, limit, planWish{out, markdown, detailed, destroy}), plainSummary)
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&out, "out", "", "save the plan to `FILE`, for apply")
	flags.StringVar(&markdown, "markdown", "", "write the plan as Markdown to `FILE`, for a pull request; - is standard output")
	flags.BoolVar(&detailed, "detailed-exitcode", false, "exit 2 when there are changes")
	flags.BoolVar(&destroy, "destroy", false, "plan to delete all that the state records")
	flags.IntVar(&f.parallelism, "parallelism", 0, "send at most `N` requests at once to each registry")
	return cmd
}

// planWish is what plan alone does with a plan.
type planWish struct {
	out, markdown     string
	detailed, destroy bool
}

func (s *session) plan(parent context.Context, f planFlags, vars config.Variables, limit config.Limit, wish planWish) error {
	ctx, end := s.cancelOnSignal(parent)
	defer end()
	cfg, state, err := s.configAndState(vars, f.state)
	if err != nil {
		return err
	}
	client, err := s.newClient(limited(cfg, f.parallelism))
	if err != nil {
		return err
	}
	defer client.Close()
	plan, err := s.makePlan(ctx, planner.Input{
		Config: cfg, State: state, Client: client, Destroy: wish.destroy,
		Targets: f.targets, Exclude: f.exclude, MaxDeletes: limit,
	})
	if err != nil {
		return err
	}
	s.showPlan(plan, cfg.Sources, f.full)
	return s.endSecrets(s.keepPlan(plan, wish))
}

// limited are the registries with a ceiling of n requests at once: those with a
// block, and every other host that a tree or an image names.
func limited(cfg *config.Config, n int) []config.Registry {
	if n == 0 {
		return cfg.Registries
	}
	out := slices.Clone(cfg.Registries)
	whole := map[string]bool{}
	for i := range out {
		if out[i].Concurrency == 0 || out[i].Concurrency > n {
			out[i].Concurrency = n
		}
		whole[out[i].Host] = whole[out[i].Host] || out[i].Path == ""
	}
	add := func(repo providers.Repository) {
		if !whole[repo.Host] {
			whole[repo.Host] = true
			out = append(out, config.Registry{Host: repo.Host, Kind: "generic", Concurrency: n})
		}
	}
	for i := range cfg.Trees {
		add(cfg.Trees[i].Source)
		add(cfg.Trees[i].Destination)
	}
	for i := range cfg.Images {
		add(cfg.Images[i].Source)
		add(cfg.Images[i].Destination)
	}
	return out
}

// makePlan observes and compares, telling how far it has come.
func (s *session) makePlan(ctx context.Context, in planner.Input) (*planner.Plan, error) {
	report, stop := s.watchObserving()
	in.Progress, in.Now = report, s.clock.Now()
	if s.vault == nil { // the configuration was loaded elsewhere
		var err error
		if s.vault, err = s.openVault(in.Config); err != nil {
			stop()
			return nil, err
		}
	}
	in.Secrets, in.FingerprintKeys = s.vault.client, s.vault.keys
	plan, diags, err := planner.New(ctx, in)
	stop()
	s.tellStats(in.Client)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, errInterrupted
	case err != nil:
		return nil, err
	}
	s.diagnose(withExcerpts(diags, in.Config.Sources))
	if plan == nil || diags.HasErrors() {
		return nil, &exit{code: exitError}
	}
	return plan, nil
}

func withExcerpts(diags config.Diagnostics, sources map[string][]byte) config.Diagnostics {
	for i := range diags {
		if diags[i].Excerpt == "" {
			diags[i].Excerpt = excerptOf(sources, diags[i].Range)
		}
	}
	return diags
}

// tellStats logs what went over the wire.
func (s *session) tellStats(client *registry.Client) {
	if !s.log.IsInfo() {
		return
	}
	for host, c := range client.Stats() {
		s.log.Info("requests so far", "registry", host, "requests", c.Requests, "retries", c.Retries, "throttled", c.Throttled, "received", c.BytesReceived, "sent", c.BytesSent, "mounted", c.Mounted, "present", c.Present, "resumed", c.Resumed, "spooled", c.Spooled)
	}
}

// showPlan tells a plan to people and streams.
func (s *session) showPlan(plan *planner.Plan, sources map[string][]byte, full bool) {
	s.eachStream(func(e *eventStream) { e.plan(plan, sources) })
	if s.json {
		return
	}
	diagnosticText{s.stderr, s.colour(s.terminal.stderr)}.write(problemDiagnostics(plan, sources))
	planText{s.out, s.colour(s.terminal.stdout), full}.write(arrange(plan))
}

// keepPlan writes the files that were asked for and settles the exit code.
func (s *session) keepPlan(plan *planner.Plan, wish planWish) error {
	if wish.markdown != "" {
		if err := s.writeMarkdown(wish.markdown, "plan", plan); err != nil {
			return err
		}
	}
	if wish.out != "" {
		if err := savePlan(wish.out, plan); err != nil {
			return err
		}
		if !plan.Blocked() && !plan.Empty() {
			fmt.Fprintf(s.out, "\nSaved the plan to %s. To do exactly this, run:\n    freightliner apply %s\n", clean(wish.out), clean(wish.out))
			fmt.Fprintf(s.out, "An approval binds to its id: -approve %s\n", plan.ID())
		} else {
			fmt.Fprintf(s.out, "\nSaved the plan to %s.\n", clean(wish.out))
		}
	} else if !plan.Empty() && !plan.Blocked() {
		fmt.Fprint(s.out, "\nThis plan was not saved. \"freightliner apply\" makes a new one and asks before it starts.\n")
	}
	return planExit(plan, wish.detailed)
}

// planExit is the exit code of a plan.
func planExit(plan *planner.Plan, detailed bool) error {
	totals := plan.Totals()
	switch {
	case plan.Blocked():
		return &exit{code: exitRefused}
	case unobservable(plan, totals):
		return &exit{code: exitError}
	case totals.Failed > 0:
		return &exit{code: exitPartial}
	case detailed && !plan.Empty():
		return &exit{code: exitChanges}
	}
	return nil
}

func savePlan(name string, plan *planner.Plan) error {
	return writeFile(name, private, true, func(w io.Writer) error { return planner.Encode(w, plan) })
}

func (s *session) writeMarkdown(name, title string, plan *planner.Plan) error {
	v := planMarkdown{title: title, target: s.global.chdir, budget: commentBudget}
	if name == "-" {
		return v.write(s.stdout, arrange(plan))
	}
	return writeFile(name, public, false, func(w io.Writer) error { return v.write(s.filter.Writer(w), arrange(plan)) })
}

// loadPlan reads a saved plan.
func loadPlan(name string) (*planner.Plan, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the plan %w", pathless(err, name))
	}
	defer f.Close()
	plan, err := planner.Decode(f)
	switch {
	case errors.Is(err, planner.ErrDamaged), errors.Is(err, planner.ErrVersion):
		return nil, hinted(fmt.Errorf("read the plan %s: %w", clean(name), err), "Make a new plan with: freightliner plan -out="+clean(name))
	case err != nil:
		return nil, fmt.Errorf("read the plan %w", pathless(err, name))
	}
	return plan, nil
}

// approves reports whether given, a whole plan id or at least eight hex digits
// of its beginning, names id.
func approves(given string, id providers.Digest) (bool, error) {
	digits := strings.TrimPrefix(strings.ToLower(given), "sha256:")
	if len(digits) < 8 || len(digits) > len(id.Hex()) || strings.Trim(digits, "0123456789abcdef") != "" {
		return false, fmt.Errorf("%s is not a plan id: want sha256:… or at least 8 hex digits of it", quoted(given))
	}
	return strings.HasPrefix(id.Hex(), digits), nil
}

// stateOf is what show and the state commands read.
func stateOf(flag string, cfg *config.Config) (*statefile.State, string, error) {
	name := stateName(flag, cfg)
	state, err := readState(name)
	return state, name, err
}
