package config

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"path"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/customdecode"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"

	"freightliner/providers"
)

// libraryFunction is one function of the language. None reads the environment,
// the clock or a random source, so that equal inputs give equal plans.
//
// All arguments are paid for by their size before a call, see meter.go. So a
// function needs a judge only when its work or its result can be larger than a
// small multiple of its arguments.
type libraryFunction struct {
	unifies bool // finds a common type for elements or arguments
	numeric bool // turns text into numbers
	make    func(env *functionEnv) function.Function
}

func (f *libraryFunction) bind(env *functionEnv) function.Function { return f.make(env) }

// functionEnv is what functions may use.
type functionEnv struct {
	meter *meter
	fsys  fs.FS
}

// std is a function of the cty library that needs no judge.
func std(fn function.Function) *libraryFunction {
	return &libraryFunction{make: func(*functionEnv) function.Function { return fn }}
}

func (f *libraryFunction) withNumbers() *libraryFunction { f.numeric = true; return f }
func (f *libraryFunction) withUnifying() *libraryFunction {
	f.unifies = true
	return f
}

// judged runs judge on the arguments before fn; they are unmarked, and known.
func judged(fn function.Function, judge func(env *functionEnv, args []cty.Value) error) *libraryFunction {
	return &libraryFunction{make: func(env *functionEnv) function.Function {
		spec := &function.Spec{
			Params:   fn.Params(),
			VarParam: fn.VarParam(),
			Type: func(args []cty.Value) (cty.Type, error) {
				if slices.ContainsFunc(args, func(v cty.Value) bool { return !v.IsWhollyKnown() }) {
					return cty.DynamicPseudoType, nil
				}
				if err := judge(env, args); err != nil {
					return cty.NilType, err
				}
				return fn.ReturnTypeForValues(args)
			},
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return fn.Call(args) },
		}
		return function.New(spec)
	}}
}

// library is every function by name. It is filled by init, since the metered
// tree needs it and some functions evaluate metered trees.
var library map[string]*libraryFunction

func init() {
	library = map[string]*libraryFunction{
		"abs":             std(stdlib.AbsoluteFunc).withNumbers(),
		"base64decode":    std(base64decode),
		"base64encode":    std(text("base64encode", func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) })),
		"can":             {make: canFunction},
		"ceil":            std(stdlib.CeilFunc).withNumbers(),
		"chomp":           std(stdlib.ChompFunc),
		"chunklist":       std(stdlib.ChunklistFunc).withNumbers().withUnifying(),
		"coalesce":        std(stdlib.CoalesceFunc).withUnifying(),
		"coalescelist":    std(stdlib.CoalesceListFunc).withUnifying(),
		"compact":         std(stdlib.CompactFunc),
		"concat":          std(stdlib.ConcatFunc).withUnifying(),
		"contains":        std(stdlib.ContainsFunc).withUnifying(),
		"distinct":        {make: distinctFunction},
		"element":         std(stdlib.ElementFunc).withNumbers(),
		"endswith":        std(affix("suffix", strings.HasSuffix)),
		"file":            {make: fileFunction},
		"flatten":         std(stdlib.FlattenFunc),
		"floor":           std(stdlib.FloorFunc).withNumbers(),
		"format":          judged(stdlib.FormatFunc, judgeFormat),
		"formatlist":      judged(stdlib.FormatListFunc, judgeFormat),
		"indent":          judged(stdlib.IndentFunc, judgeIndent).withNumbers(),
		"index":           std(indexFunction),
		"join":            judged(stdlib.JoinFunc, judgeJoin),
		"jsondecode":      judged(stdlib.JSONDecodeFunc, judgeJSON),
		"jsonencode":      std(stdlib.JSONEncodeFunc),
		"keys":            std(stdlib.KeysFunc),
		"length":          std(lengthFunction),
		"log":             std(stdlib.LogFunc).withNumbers(),
		"lookup":          std(lookupFunction).withUnifying(),
		"lower":           std(stdlib.LowerFunc),
		"max":             std(stdlib.MaxFunc).withNumbers(),
		"merge":           std(stdlib.MergeFunc),
		"min":             std(stdlib.MinFunc).withNumbers(),
		"one":             std(oneFunction),
		"parseint":        judged(stdlib.ParseIntFunc, judgeParseInt).withNumbers(),
		"pow":             std(stdlib.PowFunc).withNumbers(),
		"range":           std(stdlib.RangeFunc).withNumbers(),
		"regex":           judged(stdlib.RegexFunc, judgeRegex(1, 0, false)),
		"regexall":        judged(stdlib.RegexAllFunc, judgeRegex(1, 0, true)),
		"regexreplace":    judged(stdlib.RegexReplaceFunc, judgeRegexReplace),
		"replace":         {make: replaceFunction},
		"reverse":         std(stdlib.ReverseListFunc).withUnifying(),
		"setintersection": std(stdlib.SetIntersectionFunc).withUnifying(),
		"setproduct":      judged(stdlib.SetProductFunc, judgeProduct).withUnifying(),
		"setsubtract":     std(stdlib.SetSubtractFunc).withUnifying(),
		"setunion":        std(stdlib.SetUnionFunc).withUnifying(),
		"sha256": std(text("sha256", func(s string) string {
			sum := sha256.Sum256([]byte(s))
			return hex.EncodeToString(sum[:])
		})),
		"signum":     std(stdlib.SignumFunc).withNumbers(),
		"slice":      std(stdlib.SliceFunc).withNumbers(),
		"sort":       std(stdlib.SortFunc),
		"split":      judged(stdlib.SplitFunc, judgeSplit),
		"startswith": std(affix("prefix", strings.HasPrefix)),
		"strrev":     std(stdlib.ReverseFunc),
		"substr":     std(stdlib.SubstrFunc).withNumbers(),
		"sum":        std(sumFunction).withNumbers(),
		"title":      std(stdlib.TitleFunc),
		"tobool":     std(toFunction("tobool", cty.Bool)),
		"tolist":     {make: toListFunction},
		"tomap":      std(toFunction("tomap", cty.Map(cty.DynamicPseudoType))).withUnifying(),
		"tonumber":   std(toFunction("tonumber", cty.Number)).withNumbers(),
		"toset":      {make: toSetFunction},
		"tostring":   std(toFunction("tostring", cty.String)),
		"trim":       judged(stdlib.TrimFunc, judgeTrim),
		"trimprefix": std(stdlib.TrimPrefixFunc),
		"trimspace":  std(stdlib.TrimSpaceFunc),
		"trimsuffix": std(stdlib.TrimSuffixFunc),
		"try":        {make: tryFunction},
		"upper":      std(stdlib.UpperFunc),
		"values":     std(stdlib.ValuesFunc),
		"zipmap":     std(stdlib.ZipmapFunc),
	}
}

// absent says of functions that people know from elsewhere what they would
// read. They do not exist, since plans must be repeatable.
var absent = map[string]string{
	"timestamp":       "the clock",
	"plantimestamp":   "the clock",
	"now":             "the clock",
	"env":             "the environment",
	"getenv":          "the environment",
	"get_env":         "the environment",
	"uuid":            "a random source",
	"bcrypt":          "a random source",
	"random":          "a random source",
	"http":            "the network",
	"exec":            "the output of a program",
	"run_cmd":         "the output of a program",
	"pathexpand":      "the home directory",
	"abspath":         "the working directory",
	"fileexists":      "the file system beyond one file",
	"fileset":         "the file system beyond one file",
	"nonsensitive":    "a sensitive value and show it",
	"ephemeralasnull": "an ephemeral value and keep it",
}

func text(name string, change func(string) string) function.Function {
	return function.New(&function.Spec{
		Description: name,
		Params:      []function.Parameter{{Name: "text", Type: cty.String}},
		Type:        function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.StringVal(change(args[0].AsString())), nil
		},
	})
}

func affix(name string, has func(s, affix string) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}, {Name: name, Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(has(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

var base64decode = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "text", Type: cty.String}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		b, err := base64.StdEncoding.DecodeString(args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgErrorf(0, "not base64 with the standard alphabet and padding")
		}
		if !utf8.Valid(b) {
			return cty.NilVal, function.NewArgErrorf(0, "what it decodes to is not UTF-8 text")
		}
		return cty.StringVal(string(b)), nil
	},
})

var anyValue = function.Parameter{Name: "value", Type: cty.DynamicPseudoType, AllowNull: true}

// toFunction converts to a fixed type. An error does not quote the value.
func toFunction(name string, to cty.Type) function.Function {
	return function.New(&function.Spec{
		Description: name,
		Params:      []function.Parameter{anyValue},
		Type: func(args []cty.Value) (cty.Type, error) {
			v, err := convert.Convert(args[0], to)
			if err != nil {
				return cty.NilType, function.NewArgError(0, err)
			}
			return v.Type(), nil
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return convert.Convert(args[0], to) },
	})
}

// elementsOfOneType gives the elements of v when all have one type, which is
// the usual case, and one for which cty would need quadratic time.
func elementsOfOneType(v cty.Value) ([]cty.Value, bool) {
	if v.IsNull() || !v.IsKnown() || !v.CanIterateElements() || v.Type().IsMapType() || v.Type().IsObjectType() {
		return nil, false
	}
	var elements []cty.Value
	for it := v.ElementIterator(); it.Next(); {
		_, element := it.Element()
		if len(elements) > 0 && !element.Type().Equals(elements[0].Type()) {
			return nil, false
		}
		elements = append(elements, element)
	}
	return elements, len(elements) > 0 && elements[0].Type() != cty.DynamicPseudoType
}

// collection is a function from a collection to a list or set of its elements.
func collection(env *functionEnv, to cty.Type, build func([]cty.Value) cty.Value) function.Function {
	work := func(v cty.Value) (cty.Value, error) {
		if to.IsSetType() {
			env.meter.paySet(v)
		}
		if elements, ok := elementsOfOneType(v); ok {
			return build(elements), nil
		}
		env.meter.payForUnifying(v)
		list, err := convert.Convert(v, to)
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		if elements, ok := elementsOfOneType(list); ok {
			return build(elements), nil
		}
		return list, nil
	}
	return function.New(&function.Spec{
		Params: []function.Parameter{anyValue},
		Type:   function.StaticReturnType(cty.DynamicPseudoType),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if !args[0].IsWhollyKnown() {
				return cty.DynamicVal, nil
			}
			return work(args[0])
		},
	})
}

func toListFunction(env *functionEnv) function.Function {
	return collection(env, cty.List(cty.DynamicPseudoType), cty.ListVal)
}

func toSetFunction(env *functionEnv) function.Function {
	return collection(env, cty.Set(cty.DynamicPseudoType), cty.SetVal)
}

func distinctFunction(env *functionEnv) function.Function {
	return collection(env, cty.List(cty.DynamicPseudoType), func(elements []cty.Value) cty.Value {
		return cty.ListVal(distinct(env.meter, elements))
	})
}

// distinct keeps the first of equal elements. Comparing only within one hash
// keeps it linear, and collisions are paid for.
func distinct(m *meter, elements []cty.Value) []cty.Value {
	buckets := map[int][]cty.Value{}
	var kept []cty.Value
	for _, element := range elements {
		h := element.Hash()
		m.pay(len(buckets[h]) / 4)
		if slices.ContainsFunc(buckets[h], element.RawEquals) {
			continue
		}
		buckets[h] = append(buckets[h], element)
		kept = append(kept, element)
	}
	return kept
}

var lengthFunction = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType}},
	Type: func(args []cty.Value) (cty.Type, error) {
		ty := args[0].Type()
		if ty == cty.DynamicPseudoType || ty == cty.String || ty.IsCollectionType() || ty.IsTupleType() || ty.IsObjectType() {
			return cty.Number, nil
		}
		return cty.NilType, function.NewArgErrorf(0, "a text, list, set, map, tuple or object is required")
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		switch ty := args[0].Type(); {
		case ty == cty.String:
			return stdlib.Strlen(args[0])
		case ty.IsTupleType():
			return cty.NumberIntVal(int64(len(ty.TupleElementTypes()))), nil
		case ty.IsObjectType():
			return cty.NumberIntVal(int64(len(ty.AttributeTypes()))), nil
		}
		return args[0].Length(), nil
	},
})

var indexFunction = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}, {Name: "value", Type: cty.DynamicPseudoType}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if ty := args[0].Type(); !ty.IsListType() && !ty.IsTupleType() {
			return cty.NilVal, function.NewArgErrorf(0, "a list or tuple is required")
		}
		i := int64(0)
		for it := args[0].ElementIterator(); it.Next(); i++ {
			if _, element := it.Element(); element.RawEquals(args[1]) {
				return cty.NumberIntVal(i), nil
			}
		}
		return cty.NilVal, errors.New("the list does not contain the value")
	},
})

var lookupFunction = function.New(&function.Spec{
	Params:   []function.Parameter{{Name: "map", Type: cty.DynamicPseudoType}, {Name: "key", Type: cty.String}},
	VarParam: &function.Parameter{Name: "default", Type: cty.DynamicPseudoType, AllowNull: true},
	Type:     function.StaticReturnType(cty.DynamicPseudoType),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		ty, key := args[0].Type(), args[1].AsString()
		switch {
		case len(args) > 3:
			return cty.NilVal, errors.New("lookup takes a map, a key and at most one default")
		case ty.IsObjectType() && ty.HasAttribute(key):
			return args[0].GetAttr(key), nil
		case ty.IsMapType() && args[0].HasIndex(args[1]).True():
			return args[0].Index(args[1]), nil
		case !ty.IsObjectType() && !ty.IsMapType():
			return cty.NilVal, function.NewArgErrorf(0, "a map or object is required")
		case len(args) == 3 && ty.IsMapType():
			v, err := convert.Convert(args[2], ty.ElementType())
			if err != nil {
				return cty.NilVal, function.NewArgError(2, err)
			}
			return v, nil
		case len(args) == 3:
			return args[2], nil
		}
		return cty.NilVal, errors.New("the map has no such key, and no default is given")
	},
})

var oneFunction = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}},
	Type:   function.StaticReturnType(cty.DynamicPseudoType),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		ty := args[0].Type()
		if !ty.IsListType() && !ty.IsSetType() && !ty.IsTupleType() {
			return cty.NilVal, function.NewArgErrorf(0, "a list, set or tuple is required")
		}
		switch args[0].LengthInt() {
		case 0:
			return cty.NullVal(cty.DynamicPseudoType), nil
		case 1:
			it := args[0].ElementIterator()
			it.Next()
			_, element := it.Element()
			return element, nil
		}
		return cty.NilVal, function.NewArgErrorf(0, "it must have no or one element")
	},
})

var sumFunction = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "numbers", Type: cty.DynamicPseudoType}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if !args[0].CanIterateElements() || args[0].Type().IsMapType() || args[0].Type().IsObjectType() {
			return cty.NilVal, function.NewArgErrorf(0, "a list or set of numbers is required")
		}
		total := cty.Zero
		for it := args[0].ElementIterator(); it.Next(); {
			_, element := it.Element()
			n, err := convert.Convert(element, cty.Number)
			if err != nil || n.IsNull() {
				return cty.NilVal, function.NewArgErrorf(0, "every element must be a number")
			}
			total = total.Add(n)
		}
		return total, nil
	},
})

// tryFunction gives the first argument that can be evaluated. The result
// carries the marks of all values that decided which one that is: whether an
// expression on a secret fails tells something about the secret.
func tryFunction(*functionEnv) function.Function {
	return function.New(&function.Spec{
		VarParam: &function.Parameter{Name: "expressions", Type: customdecode.ExpressionClosureType},
		Type:     function.StaticReturnType(cty.DynamicPseudoType),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			marks := cty.ValueMarks{}
			for _, arg := range args {
				closure := customdecode.ExpressionClosureFromVal(arg)
				collectMarks(closure, marks)
				if v, diags := closure.Value(); !diags.HasErrors() {
					return v.WithMarks(marks), nil
				}
			}
			return cty.NilVal, errors.New("none of the expressions can be evaluated")
		},
	})
}

func canFunction(*functionEnv) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "expression", Type: customdecode.ExpressionClosureType}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			marks := cty.ValueMarks{}
			closure := customdecode.ExpressionClosureFromVal(args[0])
			collectMarks(closure, marks)
			v, diags := closure.Value()
			if !diags.HasErrors() && !v.IsWhollyKnown() {
				return cty.UnknownVal(cty.Bool).WithMarks(marks), nil
			}
			return cty.BoolVal(!diags.HasErrors()).WithMarks(marks), nil
		},
	})
}

func collectMarks(closure *customdecode.ExpressionClosure, into cty.ValueMarks) {
	for mark := range marksUsed(closure.Expression.Variables(), closure.EvalContext) {
		into[mark] = struct{}{}
	}
}

// marksUsed are the marks of all values that the traversals lead through.
func marksUsed(traversals []hcl.Traversal, ctx *hcl.EvalContext) cty.ValueMarks {
	marks := cty.ValueMarks{}
	for _, traversal := range traversals {
		v, diags := traversal.TraverseAbs(ctx)
		if diags.HasErrors() && len(traversal) > 1 {
			v, diags = traversal[:2].TraverseAbs(ctx)
		}
		if diags.HasErrors() {
			v, diags = traversal[:1].TraverseAbs(ctx)
		}
		if diags.HasErrors() {
			continue
		}
		_, found := v.UnmarkDeep()
		for mark := range found {
			marks[mark] = struct{}{}
		}
	}
	return marks
}

// fileFunction reads a file of the configuration directory.
func fileFunction(env *functionEnv) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := path.Clean(args[0].AsString())
			if !fs.ValidPath(name) || strings.ContainsAny(name, `\:`) {
				return cty.NilVal, function.NewArgErrorf(0, "file reads only inside the configuration directory: the path must be relative, with / between its parts, and may not lead upwards")
			}
			b, err := readFile(env.fsys, name)
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			env.meter.pay(len(b) / stringStep)
			if !utf8.Valid(b) {
				return cty.NilVal, function.NewArgErrorf(0, "the file is not UTF-8 text")
			}
			return cty.StringVal(string(b)), nil
		},
	})
}

// roomFor refuses a text of n bytes before it is made.
func roomFor(env *functionEnv, n int) error {
	if n > maxString {
		return fmt.Errorf("the result could have %d bytes; a text may have %d", n, maxString)
	}
	env.meter.pay(n / stringStep)
	return nil
}

var formatVerb = providers.Pattern(`%[-+ #0]*(\d*)(?:\.(\d*))?(?:\[\d+\])?([a-zA-Z%]?)`)

// judgeFormat bounds widths and precisions (cty does not), the number of times
// an argument can be repeated, and numbers made from text.
func judgeFormat(env *functionEnv, args []cty.Value) error {
	if args[0].IsNull() {
		return nil
	}
	layout := args[0].AsString()
	verbs := formatVerb().FindAllStringSubmatch(layout, -1)
	room := len(layout)
	for _, verb := range verbs {
		for _, digits := range verb[1:3] {
			if len(strings.TrimLeft(digits, "0")) > 3 {
				return function.NewArgErrorf(0, "a width or precision may be 999 at most")
			}
		}
		if strings.ContainsAny(verb[3], "bdoxXeEfgG") {
			for _, arg := range args[1:] {
				env.meter.refuseHugeNumbers(arg)
			}
		}
		room += 2000
	}
	if strings.Count(layout, "%") == 0 {
		return nil
	}
	largest, longest := 0, 1
	for _, arg := range args[1:] {
		largest = max(largest, roughBytes(arg))
		if !arg.IsNull() && arg.CanIterateElements() && !arg.Type().IsObjectType() {
			longest = max(longest, arg.LengthInt())
		}
	}
	room += strings.Count(layout, "%") * largest
	env.meter.pay(room / stringStep)
	if room > 4*maxString {
		return roomFor(env, room)
	}
	env.meter.pay(longest * (1 + len(layout)/stringStep))
	return nil
}

// roughBytes is an upper bound of the bytes that v takes as text or JSON.
func roughBytes(v cty.Value) int {
	if v.IsNull() || !v.IsKnown() {
		return 8
	}
	if v.Type() == cty.String {
		return 6*len(v.AsString()) + 8
	}
	if !v.CanIterateElements() {
		return 2000
	}
	n := 8
	for it := v.ElementIterator(); it.Next(); {
		key, element := it.Element()
		if key.Type() == cty.String {
			n += 6 * len(key.AsString())
		}
		n += roughBytes(element) + 8
	}
	return n
}

func judgeIndent(env *functionEnv, args []cty.Value) error {
	spaces, _ := args[0].AsBigFloat().Float64()
	if spaces < 0 || spaces > 1000 {
		return function.NewArgErrorf(0, "the indentation may be 0 to 1000 spaces")
	}
	s := args[1].AsString()
	return roomFor(env, len(s)+int(spaces)*strings.Count(s, "\n"))
}

func judgeJoin(env *functionEnv, args []cty.Value) error {
	room, count := 0, 0
	for _, list := range args[1:] {
		for it := list.ElementIterator(); it.Next(); count++ {
			if _, element := it.Element(); !element.IsNull() {
				room += len(element.AsString())
			}
		}
	}
	return roomFor(env, room+count*len(args[0].AsString()))
}

func judgeJSON(env *functionEnv, args []cty.Value) error {
	src := []byte(args[0].AsString())
	count, refusal := guardJSON(src, "")
	if refusal != nil {
		return function.NewArgErrorf(0, "the JSON text is too complex: %s", strings.TrimSuffix(refusal.detail, "."))
	}
	env.meter.pay(count)
	return nil
}

func judgeParseInt(_ *functionEnv, args []cty.Value) error {
	if args[0].Type() == cty.String && len(args[0].AsString()) > maxDigits {
		return function.NewArgErrorf(0, "a number may have %d digits", maxDigits)
	}
	return nil
}

func judgeProduct(env *functionEnv, args []cty.Value) error {
	product := 1
	for _, arg := range args {
		if !arg.CanIterateElements() {
			return nil
		}
		product *= max(arg.LengthInt(), 1)
		if product > maxSteps {
			break
		}
	}
	env.meter.pay(product * len(args))
	return nil
}

func judgeSplit(env *functionEnv, args []cty.Value) error {
	env.meter.pay(strings.Count(args[1].AsString(), args[0].AsString()))
	return nil
}

// judgeTrim bounds a search that takes time by the product of both texts.
func judgeTrim(env *functionEnv, args []cty.Value) error {
	if len(args[1].AsString()) > 1000 {
		return function.NewArgErrorf(1, "the set of characters may have 1000 bytes")
	}
	env.meter.pay(len(args[0].AsString()) * len(args[1].AsString()) / 500)
	return nil
}

// compileRegex compiles with a bound on the compiled program, since x{1000} is
// short to write.
func compileRegex(pattern string) (*regexp.Regexp, int, error) {
	if len(pattern) > 1000 {
		return nil, 0, errors.New("a pattern may have 1000 bytes")
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, 0, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, 0, err
	}
	if len(program.Inst) > 10_000 {
		return nil, 0, errors.New("the pattern is too complex")
	}
	re, err := regexp.Compile(pattern)
	return re, len(program.Inst), err
}

// payForRegex pays for a search of RE2: program times text for one match. For
// all matches a pattern can be written that looks through the whole rest of the
// text at every match, so the text counts twice.
func payForRegex(m *meter, instructions, text int, all bool) {
	m.pay(instructions / 4)
	if text > maxString {
		return
	}
	cost := (text + 1) * instructions
	if all {
		cost = min(cost, 1<<40) * (text + 1)
	}
	m.pay(min(cost/50, maxSteps+1))
}

func judgeRegex(textArg, patternArg int, all bool) func(*functionEnv, []cty.Value) error {
	return func(env *functionEnv, args []cty.Value) error {
		_, instructions, err := compileRegex(args[patternArg].AsString())
		if err != nil {
			return function.NewArgError(patternArg, err)
		}
		payForRegex(env.meter, instructions, len(args[textArg].AsString()), all)
		return nil
	}
}

// judgeRegexReplace also bounds the result: every position may match, and every
// $1 of the replacement may be as long as the text.
func judgeRegexReplace(env *functionEnv, args []cty.Value) error {
	if err := judgeRegex(0, 1, true)(env, args); err != nil {
		return err
	}
	s, replacement := args[0].AsString(), args[2].AsString()
	return roomFor(env, len(s)+(len(s)+1)*len(replacement)+len(s)*strings.Count(replacement, "$"))
}

// replaceFunction is Terraform's: a pattern between slashes is a regular
// expression, anything else is plain text.
func replaceFunction(env *functionEnv) function.Function {
	param := func(name string) function.Parameter { return function.Parameter{Name: name, Type: cty.String} }
	return function.New(&function.Spec{
		Params: []function.Parameter{param("text"), param("pattern"), param("replacement")},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			s, pattern, replacement := args[0].AsString(), args[1].AsString(), args[2].AsString()
			if len(pattern) > 1 && pattern[0] == '/' && pattern[len(pattern)-1] == '/' {
				args = []cty.Value{args[0], cty.StringVal(pattern[1 : len(pattern)-1]), args[2]}
				if err := judgeRegexReplace(env, args); err != nil {
					return cty.NilVal, err
				}
				return stdlib.RegexReplaceFunc.Call(args)
			}
			if err := roomFor(env, len(s)+strings.Count(s, pattern)*len(replacement)); err != nil {
				return cty.NilVal, err
			}
			return cty.StringVal(strings.ReplaceAll(s, pattern, replacement)), nil
		},
	})
}

// wholeNumber is v as an integer, when it is one.
func wholeNumber(f *big.Float) (int64, bool) {
	if !f.IsInt() {
		return 0, false
	}
	n, accuracy := f.Int64()
	return n, accuracy == big.Exact
}
