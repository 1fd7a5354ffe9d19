package config

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// Evaluation runs under a budget of steps. hcl's evaluator has no bound of its
// own: nested for expressions multiply, templates and locals double, and some
// operations of cty need time exponential in the depth of a type.
//
// How: before an expression is evaluated, its tree is copied with a metered
// node around every node. A metered node pays before it lets its node work, and
// pays for what came out. Why that is sound:
//
//   - Time. The evaluator does a bounded amount of work per visit of a node,
//     apart from loops whose every turn visits a child (for, splat, template)
//     and apart from operations on whole values. A turn of a loop pays through
//     the child. An operation on a whole value (function, operator,
//     conditional, template) has its operands paid for by their size before
//     it starts, see operand, and where cty unifies types by the estimate of
//     that too, see unifying.
//   - Memory. References share what they refer to. Whatever makes a new value
//     pays for its size as a tree; its operands were paid for before, so it can
//     not be larger than they together. Functions that can give more than they
//     got are judged before they run, see functions.go.
//   - Values are trees of at most maxValue levels and maxSteps nodes, even where
//     memory is shared, so that walking one is cheap.
//   - Numbers have at most maxBits of exponent, so that turning one into digits
//     or into an integer is cheap; text that would become a larger number is
//     refused where it could be turned into one.
//
// When the budget is spent, evaluation is aborted by a panic with [spent], which
// only [meter.value] recovers. try() and can() can not swallow it: cty turns a
// panic inside a function into an error, but the meter stays spent and the next
// metered node panics again.
type meter struct {
	left   int
	reason string // why it is spent; empty while it is not
}

// spent is the panic that aborts an evaluation.
type spent struct{}

func (m *meter) abort(reason string) {
	m.reason = reason
	panic(spent{})
}

func (m *meter) pay(steps int) {
	if m.reason != "" {
		panic(spent{})
	}
	if steps > m.left {
		m.left = 0
		m.abort(fmt.Sprintf("Evaluating the configuration takes more than the %d steps it may take.", maxSteps))
	}
	m.left -= steps
}

// value evaluates under the budget. The second result is why the budget is
// spent; empty when it is not.
func (m *meter) value(expr hclsyntax.Expression, ctx *hcl.EvalContext) (v cty.Value, diags hcl.Diagnostics, reason string) {
	defer func() {
		switch r := recover(); {
		case r == nil && m.reason == "":
		case r == nil, r == any(spent{}):
			v, diags, reason = cty.DynamicVal, nil, m.reason
		default:
			panic(r)
		}
	}()
	v, diags = m.wrap(expr, plain, nil).Value(ctx)
	return v, diags, ""
}

// guarded runs work on values under the budget, such as a conversion.
func (m *meter) guarded(work func()) (reason string) {
	defer func() {
		if r := recover(); r != nil && r != any(spent{}) {
			panic(r)
		}
		reason = m.reason
	}()
	work()
	return ""
}

// role is what the parent of a node does with its value.
type role uint8

const (
	plain   role = iota // passes it on
	operand             // works on all of it
	numeric             // works on all of it, perhaps after turning text into numbers
)

// metered pays for one node. It embeds the node, because hclsyntax.Expression
// can not be implemented outside of its package.
type metered struct {
	hclsyntax.Expression                      // the copy, whose children are metered
	original             hclsyntax.Expression // as parsed, for static analysis
	meter                *meter
	role                 role
	makes                bool // the node makes a new value
	unifies              bool // the parent unifies types
	upfront              int  // steps of the node's own work, known from its syntax
}

// Variables is asked by try() and can(). The copy would not see its leaves.
func (e *metered) Variables() []hcl.Traversal { return e.original.Variables() }

func (e *metered) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	e.meter.pay(1 + e.upfront)
	v, diags := e.Expression.Value(ctx)
	if e.makes || e.role != plain {
		e.meter.payFor(v)
	}
	if e.role == numeric {
		e.meter.refuseHugeNumbers(v)
	}
	if e.unifies {
		e.meter.payForUnifying(v)
	}
	return v, diags
}

// wrap copies the tree below expr with every node metered. A node of a type
// that is not listed here could do unmetered work, so it is refused.
func (m *meter) wrap(expr hclsyntax.Expression, r role, fn *libraryFunction) hclsyntax.Expression {
	if expr == nil {
		return nil
	}
	in := func(e hclsyntax.Expression, r role) hclsyntax.Expression { return m.wrap(e, r, nil) }
	out := &metered{original: expr, meter: m, role: r, unifies: fn != nil && fn.unifies, makes: true}
	switch e := expr.(type) {
	case *hclsyntax.LiteralValueExpr, *hclsyntax.ExprSyntaxError:
		out.Expression = e
	case *hclsyntax.ScopeTraversalExpr:
		m.refuseHugeIndexes(e.Traversal)
		out.Expression, out.makes = e, false
	case *hclsyntax.AnonSymbolExpr:
		out.Expression, out.makes = e, false
	case *hclsyntax.RelativeTraversalExpr:
		m.refuseHugeIndexes(e.Traversal)
		c := *e
		c.Source = in(e.Source, plain)
		out.Expression, out.makes = &c, false
	case *hclsyntax.IndexExpr:
		c := *e
		c.Collection, c.Key = in(e.Collection, plain), in(e.Key, numeric)
		out.Expression, out.makes = &c, false
	case *hclsyntax.ParenthesesExpr:
		c := *e
		c.Expression = in(e.Expression, plain)
		out.Expression, out.makes = &c, false
	case *hclsyntax.TemplateWrapExpr:
		c := *e
		c.Wrapped = in(e.Wrapped, plain)
		out.Expression, out.makes = &c, false
	case *hclsyntax.ObjectConsKeyExpr:
		c := *e
		c.Wrapped = in(e.Wrapped, operand)
		// The node looks at its child's syntax to tell a bare word from an
		// expression, so a child that is a bare word stays as it is.
		if hcl.ExprAsKeyword(e.Wrapped) != "" {
			c.Wrapped = e.Wrapped
		}
		out.Expression = &c
	case *hclsyntax.UnaryOpExpr:
		c := *e
		c.Val = in(e.Val, numeric)
		out.Expression = &c
	case *hclsyntax.BinaryOpExpr:
		c := *e
		r := numeric
		if e.Op == hclsyntax.OpEqual || e.Op == hclsyntax.OpNotEqual {
			r = operand
		}
		c.LHS, c.RHS = in(e.LHS, r), in(e.RHS, r)
		out.Expression = &c
	case *hclsyntax.ConditionalExpr:
		c := *e
		branch := &libraryFunction{unifies: true}
		c.Condition = in(e.Condition, operand)
		c.TrueResult, c.FalseResult = m.wrap(e.TrueResult, operand, branch), m.wrap(e.FalseResult, operand, branch)
		out.Expression = &c
	case *hclsyntax.FunctionCallExpr:
		c := *e
		f := library[e.Name]
		r := operand
		if f != nil && f.numeric {
			r = numeric
		}
		c.Args = make([]hclsyntax.Expression, len(e.Args))
		for i, arg := range e.Args {
			c.Args[i] = m.wrap(arg, r, f)
		}
		if f != nil && f.unifies {
			out.upfront = len(e.Args) * len(e.Args) / 32
		}
		out.Expression = &c
	case *hclsyntax.ForExpr:
		c := *e
		c.CollExpr, c.KeyExpr = in(e.CollExpr, plain), in(e.KeyExpr, operand)
		c.ValExpr, c.CondExpr = in(e.ValExpr, plain), in(e.CondExpr, operand)
		out.Expression = &c
	case *hclsyntax.SplatExpr:
		c := *e
		c.Source, c.Each = in(e.Source, plain), in(e.Each, plain)
		out.Expression = &c
	case *hclsyntax.TemplateExpr:
		c := *e
		c.Parts = make([]hclsyntax.Expression, len(e.Parts))
		for i, part := range e.Parts {
			c.Parts[i] = in(part, operand)
		}
		out.Expression = &c
	case *hclsyntax.TemplateJoinExpr:
		c := *e
		c.Tuple = in(e.Tuple, operand)
		out.Expression = &c
	case *hclsyntax.TupleConsExpr:
		c := *e
		c.Exprs = make([]hclsyntax.Expression, len(e.Exprs))
		for i, item := range e.Exprs {
			c.Exprs[i] = in(item, plain)
		}
		out.Expression = &c
	case *hclsyntax.ObjectConsExpr:
		c := *e
		c.Items = make([]hclsyntax.ObjectConsItem, len(e.Items))
		for i, item := range e.Items {
			c.Items[i] = hclsyntax.ObjectConsItem{KeyExpr: in(item.KeyExpr, plain), ValueExpr: in(item.ValueExpr, plain)}
		}
		out.Expression = &c
	default:
		m.abort(fmt.Sprintf("There is an expression of a kind (%T) that is not known here.", expr))
	}
	return out
}

// payFor pays for the size of v as a tree.
func (m *meter) payFor(v cty.Value) {
	m.visit(v, 0, func(leaf cty.Value) {
		switch leaf.Type() {
		case cty.String:
			s := leaf.AsString()
			if len(s) > maxString {
				m.abort(fmt.Sprintf("A text may have %d bytes.", maxString))
			}
			m.pay(len(s) / stringStep)
		case cty.Number:
			f := leaf.AsBigFloat()
			if f.IsInf() {
				return
			}
			if e := f.MantExp(nil); e > maxBits || e < -maxBits || f.Prec() > maxBits {
				m.abort("A number is too large or too small.")
			}
		}
	})
}

// refuseHugeNumbers aborts when some text in v would become a huge number.
func (m *meter) refuseHugeNumbers(v cty.Value) {
	m.visit(v, 0, func(leaf cty.Value) {
		if leaf.Type() == cty.String && !plainNumber(leaf.AsString()) {
			m.abort(numberDetail)
		}
	})
}

// refuseHugeIndexes does the same for literal keys, which the parser folds into
// traversals.
func (m *meter) refuseHugeIndexes(traversal hcl.Traversal) {
	for _, step := range traversal {
		if index, ok := step.(hcl.TraverseIndex); ok {
			m.refuseHugeNumbers(index.Key)
		}
	}
}

// visit calls leaf for every known primitive in v, whatever its marks, and pays
// one step for each node.
func (m *meter) visit(v cty.Value, depth int, leaf func(cty.Value)) {
	m.pay(1)
	v, _ = v.Unmark()
	if v == cty.NilVal || v.IsNull() || !v.IsKnown() {
		return
	}
	if !v.CanIterateElements() {
		if v.Type().IsPrimitiveType() {
			leaf(v)
		}
		return
	}
	if depth >= maxValue {
		m.abort(fmt.Sprintf("A value may have %d collections inside each other.", maxValue))
	}
	for it := v.ElementIterator(); it.Next(); {
		key, element := it.Element()
		if key.Type() == cty.String && !v.Type().IsSetType() {
			key, _ = key.Unmark()
			m.pay(len(key.AsString()) / stringStep)
		}
		m.visit(element, depth+1, leaf)
	}
}

// payForUnifying pays for what cty may do to find one type for the elements of
// the collections in v. It compares the types of all elements in pairs; when
// siblings differ it does so again with the elements of all siblings together;
// and at each level it tries up to three ways (as it is, as a map or list, the
// elements one by one). A comparison takes about 15 ns, a step about 500.
func (m *meter) payForUnifying(v cty.Value) {
	before := m.left
	depth := m.paySet(v)
	if depth == 0 {
		return
	}
	size := before - m.left
	cost := size * size / 32
	for range depth - 1 {
		if cost *= 3; cost > maxSteps {
			break
		}
	}
	m.pay(cost)
}

// paySet pays for making a set of v's elements, at every level: elements with
// equal hashes are compared in pairs, and the hash is one that can be forged.
// The result is the depth of v in collections.
func (m *meter) paySet(v cty.Value) int {
	m.pay(1)
	v, _ = v.Unmark()
	if v == cty.NilVal || v.IsNull() || !v.IsKnown() || !v.CanIterateElements() {
		return 0
	}
	depth := 0
	buckets := map[int]int{}
	for it := v.ElementIterator(); it.Next(); {
		_, element := it.Element()
		depth = max(depth, m.paySet(element))
		if bare, _ := element.UnmarkDeep(); v.Type().IsTupleType() || v.Type().IsListType() {
			h := bare.Hash()
			m.pay(buckets[h] / 4)
			buckets[h]++
		}
	}
	return depth + 1
}

// functionsFor binds the library to this meter, so that the functions that can
// give more than they got can pay beforehand.
func (m *meter) functionsFor(env *functionEnv) map[string]function.Function {
	bound := make(map[string]function.Function, len(library))
	for name, f := range library {
		bound[name] = f.bind(env)
	}
	return bound
}
