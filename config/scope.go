package config

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"freightliner/providers"
)

// Marks that values carry through evaluation.
const (
	sensitiveMark = "sensitive"
	ephemeralMark = "ephemeral"
)

// scope reads the arguments of one block. Each of its methods reports what is
// wrong with an argument, once, and gives false for an argument that is absent,
// null or wrong; callers tell these apart only where they must, with has.
type scope struct {
	l        *loader
	kind     *blockType
	content  *hcl.BodyContent
	at       hcl.Range
	each     map[string]cty.Value // key and value of the instance; nil outside of for_each
	compiled map[string]hclsyntax.Expression
	inners   map[string]*scope
}

func (l *loader) scope(kind *blockType, block *hcl.Block, each map[string]cty.Value) *scope {
	content, meant := l.content(kind, block.Body)
	s := &scope{
		l: l, kind: kind, content: content, at: block.DefRange, each: each,
		compiled: map[string]hclsyntax.Expression{}, inners: map[string]*scope{},
	}
	if !l.broken[s.at.Filename] {
		s.checkRequired(meant)
	}
	s.readInner()
	return s
}

func (s *scope) checkRequired(meant []string) {
	for _, a := range s.kind.args {
		if a.required && !s.has(a.name) && !slices.Contains(meant, a.name) {
			s.l.found.errorAt(s.at, "missing argument "+a.name, fmt.Sprintf("A %s block needs %s.", s.kind.name, a.name), "")
		}
	}
}

// readInner reads the blocks inside that may be written once.
func (s *scope) readInner() {
	first := map[string]*hcl.Block{}
	for _, block := range s.content.Blocks {
		kind := s.kind.block(block.Type)
		if kind == nil {
			s.l.found.errorAt(block.DefRange, "compression is not available",
				"Images are copied as they are, byte by byte, so that digests and signatures stay valid.", "remove the compression block")
			continue
		}
		if kind.many {
			continue
		}
		if earlier := first[block.Type]; earlier != nil {
			s.l.found.errorAt(block.DefRange, "second "+block.Type+" block",
				fmt.Sprintf("It may be written once; the first is at %s.", rangeOf(earlier.DefRange)), "")
			continue
		}
		first[block.Type] = block
		s.inners[block.Type] = s.l.scope(kind, block, s.each)
	}
}

// inner is the scope of a block inside; nil when there is none.
func (s *scope) inner(name string) *scope { return s.inners[name] }

// instance is the same block for one element of for_each.
func (s *scope) instance(key string, value cty.Value) *scope {
	copied := *s
	copied.each = map[string]cty.Value{"key": cty.StringVal(key), "value": value}
	copied.inners = map[string]*scope{}
	for name, inner := range s.inners {
		c := *inner
		c.each = copied.each
		copied.inners[name] = &c
	}
	return &copied
}

func (s *scope) has(name string) bool { return s.content.Attributes[name] != nil }

// place is where an argument's value is written; the block when it is absent.
func (s *scope) place(name string) hcl.Range {
	if attr := s.content.Attributes[name]; attr != nil {
		return attr.Expr.Range()
	}
	return s.at
}

// evaluate gives the value of an argument, marks and all.
func (s *scope) evaluate(name string) (cty.Value, bool) {
	attr := s.content.Attributes[name]
	if attr == nil {
		return cty.NilVal, false
	}
	native, ok := s.compiled[name]
	if !ok {
		native, ok = s.l.compile(attr.Expr)
		if !ok {
			native = nil
		}
		s.compiled[name] = native
	}
	if native == nil {
		return cty.NilVal, false
	}
	return s.l.evaluate(native, s.each)
}

// value gives the value of an argument that is kept and shown, so that it may
// be neither sensitive nor ephemeral, as a value of a type.
func (s *scope) value(name string, want cty.Type, wanted string) (cty.Value, hcl.Range, bool) {
	at := s.place(name)
	v, ok := s.evaluate(name)
	if !ok || !s.l.open(v, at, name) {
		return cty.NilVal, at, false
	}
	if v.IsNull() && s.kind.required(name) {
		s.l.found.errorAt(at, name+" is null", fmt.Sprintf("A %s block needs %s.", s.kind.name, name), "")
		return cty.NilVal, at, false
	}
	v, ok = s.convert(v, want, wanted, at, name)
	return v, at, ok
}

// open reports whether v may be kept and shown, and reports it when not.
func (l *loader) open(v cty.Value, at hcl.Range, name string) bool {
	_, marks := v.UnmarkDeep()
	switch {
	case has(marks, ephemeralMark):
		l.found.errorAt(at, "ephemeral value in "+name, "An ephemeral value is never kept, so only arguments that are written and never read back take it: password and token of a registry's auth block, value and json of a secret.", "")
	case has(marks, sensitiveMark):
		l.found.errorAt(at, "sensitive value in "+name, "This argument ends in plans, state and logs, so it can not depend on a sensitive value. Only a registry's auth block, and value and json of a secret, take one.", "")
	default:
		return true
	}
	return false
}

func has(marks cty.ValueMarks, mark string) bool {
	_, ok := marks[mark]
	return ok
}

// convert gives v, which has no marks, as a known value of a type; false for null.
func (s *scope) convert(v cty.Value, want cty.Type, wanted string, at hcl.Range, name string) (cty.Value, bool) {
	if !v.IsWhollyKnown() {
		return cty.NilVal, false // something it needs was wrong, and that has been said
	}
	if v.IsNull() {
		return cty.NilVal, false
	}
	var converted cty.Value
	var err error
	reason := s.l.meter.guarded(func() {
		if want != cty.String {
			s.l.meter.refuseHugeNumbers(v)
		}
		s.l.meter.paySet(v)
		converted, err = convert.Convert(v, want)
	})
	if reason != "" {
		s.l.exhausted(at, reason)
		return cty.NilVal, false
	}
	if err != nil {
		s.l.found.errorAt(at, fmt.Sprintf("%s must be %s", name, wanted), fmt.Sprintf("This is %s.", article(friendlyType(v.Type()))), "")
		return cty.NilVal, false
	}
	return converted, true
}

func article(what string) string {
	if what == "text" {
		return what
	}
	if strings.ContainsRune("aeio", rune(what[0])) {
		return "an " + what
	}
	return "a " + what
}

// friendlyType is the name of a type without its insides.
func friendlyType(ty cty.Type) string {
	switch {
	case ty == cty.String:
		return "text"
	case ty.IsObjectType():
		return "object"
	case ty.IsTupleType(), ty.IsListType():
		return "list"
	case ty.IsMapType():
		return "map"
	case ty.IsSetType():
		return "set"
	}
	return ty.FriendlyName()
}

func (s *scope) text(name string) (string, hcl.Range, bool) {
	v, at, ok := s.value(name, cty.String, "text")
	if !ok {
		return "", at, false
	}
	return v.AsString(), at, true
}

func (s *scope) boolean(name string, fallback bool) bool {
	v, _, ok := s.value(name, cty.Bool, "true or false")
	if !ok {
		return fallback
	}
	return v.True()
}

func (s *scope) integer(name string, lowest, highest int64) (int64, bool) {
	v, at, ok := s.value(name, cty.Number, "a number")
	if !ok {
		return 0, false
	}
	n, whole := wholeNumber(v.AsBigFloat())
	if !whole || n < lowest || n > highest {
		s.l.found.errorAt(at, fmt.Sprintf("%s out of range", name), fmt.Sprintf("It must be a whole number from %d to %d.", lowest, highest), "")
		return 0, false
	}
	return n, true
}

func (s *scope) positive(name string) (float64, bool) {
	v, at, ok := s.value(name, cty.Number, "a number")
	if !ok {
		return 0, false
	}
	f, _ := v.AsBigFloat().Float64()
	if f <= 0 || math.IsInf(f, 0) {
		s.l.found.errorAt(at, name+" out of range", "It must be greater than 0.", "")
		return 0, false
	}
	return f, true
}

// texts gives a list of texts; a set gives them in order.
func (s *scope) texts(name string) ([]string, hcl.Range, bool) {
	v, at, ok := s.value(name, cty.List(cty.String), "a list of text")
	if !ok {
		return nil, at, false
	}
	var list []string
	for it := v.ElementIterator(); it.Next(); {
		_, element := it.Element()
		if element.IsNull() {
			s.l.found.errorAt(at, name+" must be a list of text", "One of its elements is null.", "")
			return nil, at, false
		}
		list = append(list, element.AsString())
	}
	return list, at, true
}

// oneOf gives a text that must be one of a few words.
func (s *scope) oneOf(name string, words []string, fallback string) string {
	text, at, ok := s.text(name)
	if !ok {
		return fallback
	}
	if !slices.Contains(words, text) {
		hint := s.l.found.didYouMean(text, "", words)
		s.l.found.errorAt(at, fmt.Sprintf("unknown %s %q", name, providers.Printable(text, 60)), fmt.Sprintf("It must be one of %s.", strings.Join(words, ", ")), hint)
		return fallback
	}
	return text
}

// limit reads a number or a percentage.
func (s *scope) limit(name string) (Limit, bool) {
	text, at, ok := s.text(name)
	if !ok {
		return Limit{}, false
	}
	digits, percent := strings.CutSuffix(text, "%")
	n := -1
	if len(digits) > 0 && len(digits) < 10 && strings.Trim(digits, "0123456789") == "" {
		n = 0
		for _, c := range digits {
			n = 10*n + int(c-'0')
		}
	}
	if n < 0 || percent && n > 100 {
		s.l.found.errorAt(at, name+" is no limit", `It must be a whole number like 5, or a percentage like "10%", from 0 to 100.`, "")
		return Limit{}, false
	}
	return Limit{Set: true, Number: n, Percent: percent}, true
}
