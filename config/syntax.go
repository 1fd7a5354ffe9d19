package config

import (
	"bytes"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"freightliner/providers"
)

// syntax records what the parser said about a file. The body is what it could
// make of the rest; nil for none.
func (f *findings) syntax(file *hcl.File, diags hcl.Diagnostics) {
	for i, diag := range diags {
		if i >= maxDiagnostics {
			return
		}
		f.hideDefault(diag)
		f.parser(diag, diag.Detail)
	}
}

// hideDefault keeps the line of a syntax error from being shown when it could
// be part of a variable's default: the parser may not have understood enough to
// tell whether the variable is sensitive. A line counts when a variable block
// begins on or above it and no line that begins with a closing brace is between.
func (f *findings) hideDefault(diag *hcl.Diagnostic) {
	if diag.Subject == nil {
		return
	}
	src := f.sources[diag.Subject.Filename]
	starts := f.lineStarts(diag.Subject.Filename, src)
	line := diag.Subject.Start.Line
	if line < 1 || line > len(starts) {
		return
	}
	above := src
	if line < len(starts) {
		above = src[:starts[line]]
	}
	begin := bytes.LastIndex(above, []byte("variable"))
	if begin < 0 || bytes.Contains(above[begin:], []byte("\n}")) && !strings.HasSuffix(diag.Subject.Filename, ".json") {
		return
	}
	f.hidden = append(f.hidden, hcl.Range{Filename: diag.Subject.Filename, Start: diag.Subject.Start, End: diag.Subject.Start})
}

// parser records a diagnostic of hcl in our form, with a detail that the caller
// has found safe to show. The suggestion hcl appends becomes the hint.
func (f *findings) parser(diag *hcl.Diagnostic, detail string) {
	at := hcl.Range{}
	if diag.Subject != nil {
		at = *diag.Subject
	}
	detail, hint := splitSuggestion(strings.Join(strings.Fields(detail), " "))
	f.add(Diagnostic{
		Warning: diag.Severity == hcl.DiagWarning,
		Summary: lowerFirst(diag.Summary),
		Detail:  detail,
		Hint:    hint,
		Range:   rangeOf(at),
	})
}

func splitSuggestion(detail string) (rest, hint string) {
	i := strings.LastIndex(detail, " Did you mean ")
	if i < 0 {
		return detail, ""
	}
	hint = strings.ReplaceAll(lowerFirst(detail[i+1:]), `"`, "`")
	return detail[:i], hint
}

func lowerFirst(s string) string {
	if s == "" || len(s) > 1 && s[1] >= 'A' && s[1] <= 'Z' {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// quotedName finds the name in hcl's messages about what is not expected.
var quotedName = providers.Pattern(`^(?:An argument named|Blocks of type|No argument or block type is named) "([^"]*)"`)

// unexpected records a diagnostic about a body that does not fit its schema,
// with our own suggestion: hcl's are only about the same sort of thing, and
// people also write arguments as blocks. The result is the name that was most
// likely meant, so that it is not reported as missing too.
func (f *findings) unexpected(b *blockType, diag *hcl.Diagnostic) (meant string) {
	if len(f.list) >= maxDiagnostics {
		return ""
	}
	match := quotedName().FindStringSubmatch(diag.Detail)
	if match == nil {
		f.parser(diag, diag.Detail)
		return ""
	}
	name := match[1]
	where := "at the top of a file"
	if b.name != "" {
		where = "in " + article(b.name) + " block"
	}
	at := hcl.Range{}
	if diag.Subject != nil {
		at = *diag.Subject
	}
	hint := f.didYouMean(name, "", b.names())
	if hint == "" {
		hint = "expected here: " + strings.Join(b.names(), ", ")
	}
	for _, outer := range schema.blocks {
		for _, inner := range append(outer.blocks, outer) {
			if outer == b && inner != b && inner.takes(name) {
				hint = "it belongs in " + inner.name + " { … }"
			}
		}
	}
	kind := "argument"
	if strings.HasPrefix(diag.Detail, "Blocks") {
		kind = "block"
	}
	f.errorAt(at, "unknown "+kind+" "+name+" "+where, "", hint)
	return suggest(name, b.names())
}

// hclLiteral evaluates an expression that may not refer to anything. The second
// result is true when it does, or fails; nothing is reported.
func hclLiteral(l *loader, expr hcl.Expression) (cty.Value, bool) {
	native, ok := l.compile(expr)
	if !ok || len(native.Variables()) > 0 {
		return cty.DynamicVal, true
	}
	v, diags, reason := l.meter.value(native, &hcl.EvalContext{})
	return v, diags.HasErrors() || reason != ""
}

// compile turns an expression of either syntax into native syntax trees, so
// that there is one way to analyse and to meter them. The texts in JSON are
// templates; each is guarded before it is parsed.
func (l *loader) compile(expr hcl.Expression) (hclsyntax.Expression, bool) {
	if native, ok := expr.(hclsyntax.Expression); ok {
		return native, true
	}
	at := expr.Range()
	if items, diags := hcl.ExprList(expr); !diags.HasErrors() {
		return l.compileList(items, at)
	}
	if pairs, diags := hcl.ExprMap(expr); !diags.HasErrors() {
		return l.compileMap(pairs, at)
	}
	v, diags := expr.Value(nil) // without a context: the text as it is
	if diags.HasErrors() {
		return nil, false
	}
	if v.IsNull() || v.Type() != cty.String {
		return &hclsyntax.LiteralValueExpr{Val: v, SrcRange: at}, true
	}
	return l.compileText(v.AsString(), at, hclsyntax.LexTemplate, hclsyntax.ParseTemplate)
}

func (l *loader) compileList(items []hcl.Expression, at hcl.Range) (hclsyntax.Expression, bool) {
	list := &hclsyntax.TupleConsExpr{SrcRange: at, OpenRange: at}
	for _, item := range items {
		native, ok := l.compile(item)
		if !ok {
			return nil, false
		}
		list.Exprs = append(list.Exprs, native)
	}
	return list, true
}

func (l *loader) compileMap(pairs []hcl.KeyValuePair, at hcl.Range) (hclsyntax.Expression, bool) {
	object := &hclsyntax.ObjectConsExpr{SrcRange: at, OpenRange: at}
	for _, pair := range pairs {
		key, ok := l.compile(pair.Key)
		if !ok {
			return nil, false
		}
		value, ok := l.compile(pair.Value)
		if !ok {
			return nil, false
		}
		object.Items = append(object.Items, hclsyntax.ObjectConsItem{
			KeyExpr:   &hclsyntax.ObjectConsKeyExpr{Wrapped: key, ForceNonLiteral: true},
			ValueExpr: value,
		})
	}
	return object, true
}

type (
	lexer  = func([]byte, string, hcl.Pos) (hclsyntax.Tokens, hcl.Diagnostics)
	reader = func([]byte, string, hcl.Pos) (hclsyntax.Expression, hcl.Diagnostics)
)

// compileText guards and parses a text found at a place: a template or an
// expression.
func (l *loader) compileText(text string, at hcl.Range, lex lexer, read reader) (hclsyntax.Expression, bool) {
	start := hcl.Pos{Line: at.Start.Line, Column: at.Start.Column + 1, Byte: at.Start.Byte + 1}
	src := []byte(text)
	if !l.admit(func() (int, *tooBig) { return guardNative(src, at.Filename, start, lex) }) {
		return nil, false
	}
	expr, diags := read(src, at.Filename, start)
	if diags.HasErrors() {
		for _, diag := range diags {
			f := *diag
			f.Subject = &at
			l.found.parser(&f, diag.Detail)
		}
		return nil, false
	}
	return expr, true
}

// static gives an expression that is analysed and never evaluated (types,
// block addresses) in native syntax: in JSON it is the text of one.
func (l *loader) static(expr hcl.Expression) (hclsyntax.Expression, bool) {
	if native, ok := expr.(hclsyntax.Expression); ok {
		return native, true
	}
	at := expr.Range()
	if items, diags := hcl.ExprList(expr); !diags.HasErrors() {
		list := &hclsyntax.TupleConsExpr{SrcRange: at, OpenRange: at}
		for _, item := range items {
			native, ok := l.static(item)
			if !ok {
				return nil, false
			}
			list.Exprs = append(list.Exprs, native)
		}
		return list, true
	}
	v, diags := expr.Value(nil)
	if diags.HasErrors() || v.IsNull() || v.Type() != cty.String {
		l.found.errorAt(at, "text expected", "In JSON this is written as text, like \"list(string)\" or \"tree.base\".", "")
		return nil, false
	}
	return l.compileText(v.AsString(), at, hclsyntax.LexExpression, hclsyntax.ParseExpression)
}
