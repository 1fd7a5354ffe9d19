package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"freightliner/providers"
)

// named is a local or a registry: something that others refer to by name and
// that may refer to others itself.
type named struct {
	address string // local.x or registry.x
	at      hcl.Range
	compute func() (cty.Value, bool)

	value   cty.Value
	ok      bool // false: its own mistake has been reported, so users of it stay silent
	done    bool
	running bool
}

// resolve computes n, and before it everything it refers to. A cycle is
// reported once, where it closes.
func (l *loader) resolve(n *named) (cty.Value, bool) {
	switch {
	case n.done:
		return n.value, n.ok
	case n.running:
		l.cycle(n)
		return cty.DynamicVal, false
	case len(l.chain) >= maxLocals:
		l.found.errorAt(n.at, guardSummary, fmt.Sprintf("Locals and registries may refer to each other in chains of %d.", maxLocals), "")
		n.done = true
		return cty.DynamicVal, false
	}
	n.running = true
	l.chain = append(l.chain, n)
	n.value, n.ok = n.compute()
	l.chain = l.chain[:len(l.chain)-1]
	n.running, n.done = false, true
	return n.value, n.ok
}

func (l *loader) cycle(n *named) {
	start := slices.Index(l.chain, n)
	ring := l.chain[start:]
	// Begin with the first name, so that the message does not depend on where
	// evaluation entered the cycle.
	first := 0
	for i := range ring {
		if ring[i].address < ring[first].address {
			first = i
		}
	}
	var names []string
	for i := range ring {
		names = append(names, ring[(first+i)%len(ring)].address)
	}
	names = append(names, ring[first].address)
	l.found.errorAt(ring[first].at, "cycle of references", fmt.Sprintf("Each of these needs the next: %s.", strings.Join(names, " -> ")), "")
}

func (l *loader) declareLocals(blocks hcl.Blocks) {
	l.locals = map[string]*named{}
	for _, block := range blocks {
		attrs, diags := block.Body.JustAttributes()
		for _, diag := range diags {
			l.found.parser(diag, diag.Detail)
		}
		for _, attr := range sortedAttributes(attrs) {
			if earlier := l.locals[attr.Name]; earlier != nil {
				l.found.errorAt(attr.NameRange, fmt.Sprintf("second local %q", attr.Name), fmt.Sprintf("The first is at %s.", rangeOf(earlier.at)), "")
				continue
			}
			l.locals[attr.Name] = &named{address: "local." + attr.Name, at: attr.NameRange, compute: func() (cty.Value, bool) {
				native, ok := l.compile(attr.Expr)
				if !ok {
					return cty.DynamicVal, false
				}
				return l.evaluate(native, nil)
			}}
		}
	}
}

func (l *loader) loadLocals() {
	for _, name := range slices.Sorted(maps.Keys(l.locals)) {
		l.resolve(l.locals[name])
	}
}

// sortedAttributes gives attributes in the order in which they are written.
func sortedAttributes(attrs hcl.Attributes) []*hcl.Attribute {
	list := slices.Collect(maps.Values(attrs))
	slices.SortFunc(list, func(a, b *hcl.Attribute) int { return a.NameRange.Start.Byte - b.NameRange.Start.Byte })
	return list
}

// evaluate checks the names in an expression, gathers their values, and
// evaluates. False means that a mistake has been reported, here or where a name
// was defined.
func (l *loader) evaluate(expr hclsyntax.Expression, each map[string]cty.Value) (cty.Value, bool) {
	ctx, ok := l.context(expr, each)
	if !l.checkFunctions(expr) || !ok {
		return cty.DynamicVal, false
	}
	return l.evaluateIn(expr, ctx)
}

func (l *loader) evaluateIn(expr hclsyntax.Expression, ctx *hcl.EvalContext) (cty.Value, bool) {
	v, diags, reason := l.meter.value(expr, ctx)
	if reason != "" {
		l.exhausted(expr.Range(), reason)
		return cty.DynamicVal, false
	}
	if !diags.HasErrors() {
		return v, true
	}
	l.reportEvaluation(expr, ctx, diags)
	return cty.DynamicVal, false
}

// reportEvaluation records what the evaluator said. Its messages quote values,
// so nothing of them is kept when the expression has seen a marked one.
func (l *loader) reportEvaluation(expr hclsyntax.Expression, ctx *hcl.EvalContext, diags hcl.Diagnostics) {
	secret := len(marksUsed(expr.Variables(), ctx)) > 0
	for _, diag := range diags {
		detail := diag.Detail
		if secret {
			detail = "The expression uses a sensitive or ephemeral value, so the reason is not shown."
		}
		l.found.parser(diag, detail)
	}
}

// exhausted reports a spent budget, once: everything after it fails as well.
func (l *loader) exhausted(at hcl.Range, reason string) {
	if l.tired {
		return
	}
	l.tired = true
	l.incomplete = true
	l.found.errorAt(at, guardSummary, reason, "")
}

// context holds the values of exactly the names that expr uses.
func (l *loader) context(expr hclsyntax.Expression, each map[string]cty.Value) (*hcl.EvalContext, bool) {
	roots := map[string]map[string]cty.Value{}
	good := true
	for _, traversal := range expr.Variables() {
		root := traversal.RootName()
		name, ok := l.member(traversal, each != nil)
		if !ok {
			good = false
			continue
		}
		if roots[root] == nil {
			roots[root] = map[string]cty.Value{}
		}
		if _, known := roots[root][name]; known {
			continue
		}
		v, ok := l.lookup(root, name, each, traversal.SourceRange())
		good = good && ok
		if ok && root == "registry" && len(traversal) > 2 {
			if step, is := traversal[2].(hcl.TraverseAttr); is && step.Name != "host" {
				l.found.errorAt(traversal.SourceRange(), fmt.Sprintf("a registry has no %s", step.Name), "Only its host can be referred to.", fmt.Sprintf("did you mean `registry.%s.host`?", name))
				good = false
			}
		}
		roots[root][name] = v
	}
	ctx := &hcl.EvalContext{Variables: map[string]cty.Value{}, Functions: l.functions}
	for root, members := range roots {
		ctx.Variables[root] = cty.ObjectVal(members)
	}
	return ctx, good
}

// member is the name behind the first dot of a reference.
func (l *loader) member(traversal hcl.Traversal, each bool) (string, bool) {
	root := traversal.RootName()
	known := []string{"var", "local", "registry", "secret_store"}
	if each {
		known = append(known, "each")
	}
	if !slices.Contains(known, root) {
		l.unknownRoot(traversal, known)
		return "", false
	}
	if len(traversal) > 1 {
		switch step := traversal[1].(type) {
		case hcl.TraverseAttr:
			return step.Name, true
		case hcl.TraverseIndex:
			if step.Key.Type() == cty.String && step.Key.IsKnown() && !step.Key.IsNull() {
				return step.Key.AsString(), true
			}
		}
	}
	l.found.errorAt(traversal.SourceRange(), fmt.Sprintf("incomplete reference %s", root), fmt.Sprintf("Write %s.NAME.", root), "")
	return "", false
}

func (l *loader) unknownRoot(traversal hcl.Traversal, known []string) {
	root := traversal.RootName()
	at := traversal.SourceRange()
	switch {
	case root == "each":
		l.found.errorAt(at, "each outside of for_each", "each.key and each.value exist only in a block that has for_each.", "")
	case root == "tree" || root == "image" || root == "secret":
		l.found.errorAt(at, fmt.Sprintf("unknown name %q", root), "Trees, images and secrets have no values here; only depends_on refers to them.", "")
	case len(traversal) == 1 && l.variables[root] != nil:
		l.found.errorAt(at, fmt.Sprintf("unknown name %q", root), "", fmt.Sprintf("did you mean `var.%s`?", root))
	case len(traversal) == 1 && l.locals[root] != nil:
		l.found.errorAt(at, fmt.Sprintf("unknown name %q", root), "", fmt.Sprintf("did you mean `local.%s`?", root))
	default:
		hint := l.found.didYouMean(root, "", known)
		if hint == "" && len(traversal) == 1 {
			hint = fmt.Sprintf("text is written in quotes: \"%s\"", root)
		}
		l.found.errorAt(at, fmt.Sprintf("unknown name %q", root), fmt.Sprintf("Known here: %s.", strings.Join(known, ", ")), hint)
	}
}

// lookup gives the value behind root.name.
func (l *loader) lookup(root, name string, each map[string]cty.Value, at hcl.Range) (cty.Value, bool) {
	switch root {
	case "var":
		if v := l.variables[name]; v != nil {
			return v.value, v.ok
		}
		return l.unknownName("variable", "var.", name, l.known("var"), at)
	case "local":
		if n := l.locals[name]; n != nil {
			return l.resolve(n)
		}
		return l.unknownName("local", "local.", name, l.known("local"), at)
	case "registry":
		if n := l.registries[name]; n != nil {
			return l.resolve(n)
		}
		return l.unknownName("registry", "registry.", name, l.known("registry"), at)
	case "secret_store":
		if l.stores[name] != nil {
			return cty.StringVal(name), true
		}
		return l.unknownName("secret store", "secret_store.", name, l.known("secret_store"), at)
	}
	if v, ok := each[name]; ok {
		return v, true
	}
	return l.unknownName("member", "each.", name, []string{"key", "value"}, at)
}

// known are the names below a root, for suggestions. They are all declared
// before the first is looked up, so they are sorted once.
func (l *loader) known(root string) []string {
	if names, ok := l.names[root]; ok {
		return names
	}
	var names []string
	switch root {
	case "var":
		names = slices.Sorted(maps.Keys(l.variables))
	case "local":
		names = slices.Sorted(maps.Keys(l.locals))
	case "registry":
		names = slices.Sorted(maps.Keys(l.registries))
	case "secret_store":
		names = slices.Sorted(maps.Keys(l.stores))
	}
	l.names[root] = names
	return names
}

func (l *loader) unknownName(what, prefix, name string, known []string, at hcl.Range) (cty.Value, bool) {
	if l.incomplete && what != "member" {
		return cty.DynamicVal, false
	}
	detail := ""
	hint := l.found.didYouMean(name, prefix, known)
	if hint == "" && len(known) == 0 {
		detail = fmt.Sprintf("No %s is declared.", what)
	}
	l.found.errorAt(at, fmt.Sprintf("unknown %s %s%s", what, prefix, providers.Printable(name, 80)), detail, hint)
	return cty.DynamicVal, false
}

// checkFunctions reports calls of functions that do not exist, before
// evaluation, so that all of them are found and try() hides none.
func (l *loader) checkFunctions(expr hclsyntax.Expression) bool {
	good := true
	walker := &callWalker{visit: func(call *hclsyntax.FunctionCallExpr) {
		if library[call.Name] != nil {
			return
		}
		good = false
		name := providers.Printable(call.Name, 80)
		if what, ok := absent[call.Name]; ok {
			l.found.errorAt(call.NameRange, "there is no function "+name,
				fmt.Sprintf("It would read %s. Equal files and variables must give equal plans, and a pull request must not learn what it was not given.", what),
				"pass the value in as a variable")
			return
		}
		hint := l.found.didYouMean(call.Name, "", functionNames())
		l.found.errorAt(call.NameRange, "there is no function "+name, "", hint)
	}}
	hclsyntax.Walk(expr, walker)
	return good
}

type callWalker struct {
	visit func(*hclsyntax.FunctionCallExpr)
}

func (w *callWalker) Enter(node hclsyntax.Node) hcl.Diagnostics {
	if call, ok := node.(*hclsyntax.FunctionCallExpr); ok {
		w.visit(call)
	}
	return nil
}

func (w *callWalker) Exit(hclsyntax.Node) hcl.Diagnostics { return nil }
