package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"freightliner/providers"
)

// EnvironmentPrefix is what the names of environment variables that set
// variables begin with; cmd strips it for Variables.Environment.
const EnvironmentPrefix = "FREIGHTLINER_VAR_"

// variable is one variable block.
type variable struct {
	name      string
	at        hcl.Range
	want      cty.Type
	defaults  *typeexpr.Defaults
	fallback  *hcl.Attribute
	sensitive bool
	ephemeral bool
	nullable  bool
	checks    []*scope

	value cty.Value // with its marks
	ok    bool
}

func (v *variable) secret() bool { return v.sensitive || v.ephemeral }

// given is a value from outside, with the place it came from.
type given struct {
	text   string               // of a flag or the environment, not yet read
	expr   hclsyntax.Expression // of a file
	at     hcl.Range
	source string // for messages: "-var region"
}

func (l *loader) loadVariables(blocks hcl.Blocks, vars Variables) {
	l.variables = map[string]*variable{}
	for _, block := range blocks {
		l.declareVariable(block)
	}
	values := l.givenValues(vars)
	for _, name := range slices.Sorted(maps.Keys(l.variables)) {
		v := l.variables[name]
		from, set := values[name]
		v.value, v.ok = l.variableValue(v, from, set)
		if v.ok {
			l.validate(v)
		}
	}
}

func (l *loader) declareVariable(block *hcl.Block) {
	name := block.Labels[0]
	if earlier := l.variables[name]; earlier != nil {
		l.found.errorAt(block.DefRange, fmt.Sprintf("second variable %q", name), fmt.Sprintf("The first is at %s.", rangeOf(earlier.at)), "")
		return
	}
	if !l.goodName(block) {
		return
	}
	s := l.scope(variableBlock, block, nil)
	v := &variable{name: name, at: block.DefRange, want: cty.DynamicPseudoType, fallback: s.content.Attributes["default"]}
	l.variables[name] = v
	v.sensitive = s.literalBool("sensitive", false)
	v.ephemeral = s.literalBool("ephemeral", false)
	v.nullable = s.literalBool("nullable", true)
	if v.secret() && v.fallback != nil {
		l.found.hidden = append(l.found.hidden, v.fallback.Range)
	}
	if s.has("description") {
		s.text("description")
	}
	if attr := s.content.Attributes["type"]; attr != nil {
		v.want, v.defaults = l.typeOf(attr)
	}
	for _, inner := range s.content.Blocks {
		if inner.Type == "validation" {
			v.checks = append(v.checks, l.scope(variableBlock.block("validation"), inner, nil))
		}
	}
}

// literalBool reads an argument that says how a variable is handled. When it
// can not be read, a variable counts as sensitive rather than not.
func (s *scope) literalBool(name string, fallback bool) bool {
	attr := s.content.Attributes[name]
	if attr == nil {
		return fallback
	}
	v, failed := hclLiteral(s.l, attr.Expr)
	if failed || v.Type() != cty.Bool || v.IsNull() || !v.IsKnown() {
		s.l.found.errorAt(attr.Expr.Range(), name+" must be true or false", "It can not refer to anything.", "")
		return true
	}
	return v.True()
}

// goodName checks the label of a block.
func (l *loader) goodName(block *hcl.Block) bool {
	name := block.Labels[0]
	if len(name) <= 128 && hclsyntax.ValidIdentifier(name) {
		return true
	}
	l.found.errorAt(block.LabelRanges[0], fmt.Sprintf("bad name %q", providers.Printable(name, 80)),
		"A name begins with a letter or _, and goes on with letters, digits, _ and -.", "")
	return false
}

func (l *loader) typeOf(attr *hcl.Attribute) (cty.Type, *typeexpr.Defaults) {
	expr, ok := l.static(attr.Expr)
	if !ok {
		return cty.DynamicPseudoType, nil
	}
	want, defaults, diags := typeexpr.TypeConstraintWithDefaults(expr)
	if !diags.HasErrors() {
		return want, defaults
	}
	words := []string{"string", "number", "bool", "any", "list", "set", "map", "object", "tuple"}
	for _, diag := range diags {
		d := *diag
		if word := hcl.ExprAsKeyword(expr); word != "" && !slices.Contains(words, word) {
			d.Detail += " Did you mean " + suggest(word, words) + "?"
		}
		l.found.parser(&d, d.Detail)
	}
	return cty.DynamicPseudoType, nil
}

// givenValues merges the sources, the weakest first. Names that are not
// declared are mistakes, except in the environment, which is shared with others.
func (l *loader) givenValues(vars Variables) map[string]given {
	values := map[string]given{}
	for name, text := range vars.Environment {
		values[name] = given{text: text, source: EnvironmentPrefix + name}
	}
	for _, file := range vars.Files {
		for name, value := range l.readVariableFile(file) {
			l.expectVariable(name, value)
			values[name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(vars.Flags)) {
		value := given{text: vars.Flags[name], source: "-var " + name}
		l.expectVariable(name, value)
		values[name] = value
	}
	return values
}

func (l *loader) expectVariable(name string, value given) {
	if l.variables[name] != nil || l.incomplete {
		return
	}
	known := slices.Sorted(maps.Keys(l.variables))
	name = providers.Printable(name, 80)
	l.found.errorAt(value.at, fmt.Sprintf("unknown variable %q", name),
		fmt.Sprintf("%s gives a value, but no variable of this name is declared.", providers.Printable(value.source, 200)), l.found.didYouMean(name, "", known))
}

// readVariableFile reads name = value lines, or a JSON object. Nothing of its
// text is ever shown: any line may hold a secret.
func (l *loader) readVariableFile(name string) map[string]given {
	at := hcl.Range{Filename: name}
	fail := func(err error) map[string]given {
		l.incomplete = true
		l.found.errorAt(at, "can not read variable file", sentence(err.Error()), "")
		return nil
	}
	if l.options.ReadFile == nil {
		return fail(errors.New("variable files can not be read here"))
	}
	src, err := l.options.ReadFile(name)
	if err != nil {
		return fail(readError(err))
	}
	if len(src) > maxFile {
		return fail(errors.New("it is larger than 1 MiB"))
	}
	isJSON := strings.HasSuffix(name, ".json")
	if !l.admit(func() (int, *tooBig) {
		if isJSON {
			return guardJSON(src, name)
		}
		return guardNative(src, name, hcl.InitialPos, hclsyntax.LexConfig)
	}) {
		return nil
	}
	parse := func() (*hcl.File, hcl.Diagnostics) { return hclsyntax.ParseConfig(src, name, hcl.InitialPos) }
	if isJSON {
		parse = func() (*hcl.File, hcl.Diagnostics) { return json.Parse(src, name) }
	}
	file, diags := parse()
	if !diags.HasErrors() {
		var attrs hcl.Attributes
		attrs, diags = file.Body.JustAttributes()
		if !diags.HasErrors() {
			return l.variableFileValues(name, attrs)
		}
	}
	l.incomplete = true
	for _, diag := range diags {
		l.found.parser(diag, "A variable file has lines like name = value, or is a JSON object. The text is not shown, as it may be secret.")
	}
	return nil
}

func (l *loader) variableFileValues(name string, attrs hcl.Attributes) map[string]given {
	values := map[string]given{}
	for _, attr := range sortedAttributes(attrs) {
		expr, ok := l.compile(attr.Expr)
		if !ok {
			continue
		}
		values[attr.Name] = given{expr: expr, at: attr.Expr.Range(), source: "-var-file " + name}
	}
	return values
}

// variableValue finds the value of a variable, converts it to its type and marks it.
func (l *loader) variableValue(v *variable, from given, set bool) (cty.Value, bool) {
	var value cty.Value
	ok := false
	switch {
	case set:
		value, ok = l.readGiven(v, from)
	case v.fallback != nil:
		from = given{at: v.fallback.Expr.Range(), source: "the default"}
		value, ok = l.constant(v, v.fallback.Expr, from)
	default:
		l.found.errorAt(v.at, fmt.Sprintf("variable %q has no value", v.name), "It has no default and none was given.",
			fmt.Sprintf("set it with -var %s=VALUE, in a file given with -var-file, or as %s%s in the environment", v.name, EnvironmentPrefix, v.name))
	}
	if !ok {
		return cty.DynamicVal, false
	}
	value, ok = l.convertVariable(v, value, from)
	if !ok {
		return cty.DynamicVal, false
	}
	if v.secret() {
		l.rememberSecret(value)
	}
	if v.sensitive {
		value = value.Mark(sensitiveMark)
	}
	if v.ephemeral {
		value = value.Mark(ephemeralMark)
	}
	return value, true
}

// rememberSecret lets the findings cut the texts in v out of every message.
func (l *loader) rememberSecret(v cty.Value) {
	l.meter.guarded(func() {
		l.meter.visit(v, 0, func(leaf cty.Value) {
			if leaf.Type() == cty.String && len(leaf.AsString()) >= 4 && len(l.found.secrets) < 1000 {
				l.found.secrets[leaf.AsString()] = true
			}
		})
	})
}

// readGiven reads a value from outside. Text for a variable of a primitive type,
// or of any type, is taken as it is; for the others it is an expression.
func (l *loader) readGiven(v *variable, from given) (cty.Value, bool) {
	if from.expr != nil {
		return l.constantNative(v, from.expr, from)
	}
	if len(from.text) > maxFile {
		return l.badValue(v, from, "It is larger than 1 MiB.")
	}
	if v.want.IsPrimitiveType() || v.want == cty.DynamicPseudoType {
		return cty.StringVal(from.text), true
	}
	src := []byte(from.text)
	count, refusal := guardNative(src, "", hcl.InitialPos, hclsyntax.LexExpression)
	if l.tokens += count; refusal != nil || l.tokens > maxTokens {
		return l.badValue(v, from, "It is nested too deep or too long.")
	}
	expr, diags := hclsyntax.ParseExpression(src, "", hcl.InitialPos)
	if diags.HasErrors() {
		return l.badValue(v, from, fmt.Sprintf("The text of a variable of type %s is an expression, like [\"a\", \"b\"], and this can not be parsed.", friendlyType(v.want)))
	}
	return l.constantNative(v, expr, from)
}

// badValue reports a value that can not be used, without showing it.
func (l *loader) badValue(v *variable, from given, detail string) (cty.Value, bool) {
	at := from.at
	if at.Filename == "" {
		at = v.at
	}
	l.found.errorAt(at, fmt.Sprintf("bad value for variable %q", v.name),
		fmt.Sprintf("It comes from %s. %s", providers.Printable(from.source, 200), detail), "")
	return cty.DynamicVal, false
}

func (l *loader) constant(v *variable, expr hcl.Expression, from given) (cty.Value, bool) {
	native, ok := l.compile(expr)
	if !ok {
		return cty.DynamicVal, false
	}
	return l.constantNative(v, native, from)
}

// constantNative evaluates a value that may not refer to anything.
func (l *loader) constantNative(v *variable, expr hclsyntax.Expression, from given) (cty.Value, bool) {
	if len(expr.Variables()) > 0 {
		return l.badValue(v, from, "It can not refer to anything; text is written in quotes.")
	}
	value, diags, reason := l.meter.value(expr, &hcl.EvalContext{})
	switch {
	case reason != "":
		l.exhausted(expr.Range(), reason)
		return cty.DynamicVal, false
	case diags.HasErrors() && v.secret():
		return l.badValue(v, from, "The reason is not shown, since the variable is sensitive.")
	case diags.HasErrors():
		return l.badValue(v, from, sentence(strings.TrimSuffix(diags[0].Detail, ".")))
	case !value.IsWhollyKnown():
		return cty.DynamicVal, false
	}
	return value, true
}

func (l *loader) convertVariable(v *variable, value cty.Value, from given) (cty.Value, bool) {
	var err error
	reason := l.meter.guarded(func() {
		if v.want != cty.String && v.want != cty.DynamicPseudoType {
			l.meter.refuseHugeNumbers(value)
		}
		l.meter.payFor(value)
		if !v.want.IsPrimitiveType() && v.want != cty.DynamicPseudoType {
			l.payForConversion(v.want, value)
		}
		if v.defaults != nil && !value.IsNull() {
			value = v.defaults.Apply(value)
			l.meter.payFor(value)
		}
		value, err = convert.Convert(value, v.want)
	})
	switch {
	case reason != "":
		l.exhausted(v.at, reason)
		return cty.DynamicVal, false
	case err != nil && v.secret():
		return l.badValue(v, from, fmt.Sprintf("It does not fit the type %s.", typeexpr.TypeString(v.want.WithoutOptionalAttributesDeep())))
	case err != nil:
		return l.badValue(v, from, fmt.Sprintf("It does not fit the type %s: %s.", typeexpr.TypeString(v.want.WithoutOptionalAttributesDeep()), conversionText(err)))
	case value.IsNull() && !v.nullable:
		if v.fallback != nil && from.source != "the default" {
			return l.constant(v, v.fallback.Expr, given{at: v.fallback.Expr.Range(), source: "the default"})
		}
		return l.badValue(v, from, "It is null, and the variable is not nullable.")
	}
	return value, true
}

// payForConversion pays for sets always, and for finding a common type only
// when the wanted type leaves one open.
func (l *loader) payForConversion(want cty.Type, v cty.Value) {
	l.meter.paySet(v)
	if want.HasDynamicTypes() {
		l.meter.payForUnifying(v)
	}
}

// conversionText is the error with the path to the part that does not fit.
func conversionText(err error) string {
	var pathError cty.PathError
	if !errors.As(err, &pathError) || len(pathError.Path) == 0 {
		return err.Error()
	}
	var b strings.Builder
	for _, step := range pathError.Path {
		switch step := step.(type) {
		case cty.GetAttrStep:
			b.WriteString("." + step.Name)
		case cty.IndexStep:
			if step.Key.Type() == cty.String && step.Key.IsKnown() {
				fmt.Fprintf(&b, "[%q]", step.Key.AsString())
			} else if step.Key.Type() == cty.Number && step.Key.IsKnown() {
				fmt.Fprintf(&b, "[%s]", step.Key.AsBigFloat().Text('f', 0))
			}
		}
	}
	return fmt.Sprintf("at %s, %s", strings.TrimPrefix(b.String(), "."), err.Error())
}

// validate runs the validation blocks of a variable.
func (l *loader) validate(v *variable) {
	for _, check := range v.checks {
		if !check.has("condition") || !check.has("error_message") {
			continue
		}
		if !l.refersOnlyTo(v, check, "condition") || !l.refersOnlyTo(v, check, "error_message") {
			continue
		}
		condition, ok := check.evaluate("condition")
		if !ok {
			continue
		}
		condition, _ = condition.UnmarkDeep()
		met, err := convert.Convert(condition, cty.Bool)
		if err != nil || met.IsNull() || !met.IsKnown() {
			l.found.errorAt(check.place("condition"), "condition must be true or false", "", "")
			continue
		}
		if met.False() {
			l.found.errorAt(v.at, fmt.Sprintf("bad value for variable %q", v.name), l.validationMessage(v, check),
				fmt.Sprintf("the condition is at %s", rangeOf(check.place("condition"))))
		}
	}
}

// refersOnlyTo keeps validation to the variable itself, so that variables need
// no order among themselves.
func (l *loader) refersOnlyTo(v *variable, check *scope, name string) bool {
	native, ok := l.compile(check.content.Attributes[name].Expr)
	if !ok {
		return false
	}
	for _, traversal := range native.Variables() {
		if traversal.RootName() != "var" {
			continue // an unknown name, or refused below
		}
		if member, ok := l.member(traversal, false); !ok || member != v.name {
			l.found.errorAt(traversal.SourceRange(), "validation refers to something else", fmt.Sprintf("It may refer to var.%s only.", v.name), "")
			return false
		}
	}
	for _, traversal := range native.Variables() {
		if root := traversal.RootName(); root == "local" || root == "registry" {
			l.found.errorAt(traversal.SourceRange(), "validation refers to something else", fmt.Sprintf("It may refer to var.%s only.", v.name), "")
			return false
		}
	}
	return true
}

// validationMessage is the author's text, unless it could show a secret.
func (l *loader) validationMessage(v *variable, check *scope) string {
	message, ok := check.evaluate("error_message")
	if !ok {
		return "The value does not meet its condition."
	}
	message, marks := message.UnmarkDeep()
	if len(marks) > 0 {
		return "The value does not meet its condition. The message uses the value, which is sensitive, so it is not shown."
	}
	if message.IsNull() || !message.IsKnown() || message.Type() != cty.String {
		return "The value does not meet its condition."
	}
	return sentence(providers.Printable(message.AsString(), 1000))
}
