package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// The parsers of hcl recurse without a limit, and Go can not recover from a
// stack that overflows. So every piece of source is judged here before it
// reaches a parser.
//
// Native syntax is judged on the tokens of hcl's own scanner, which keeps its
// stack on the heap: strings, comments, heredocs and templates are therefore
// understood exactly as the parser will understand them. Two things make the
// parser (and later the evaluator) recurse: a bracket or template that opens,
// and a chain of operators, traversals or conditionals. Each level of recursion
// consumes at least one token of its own, and a comma (or, directly in a body
// or an object, a line break) ends every chain of its bracket. The tokens since
// the last separator, summed over all open brackets, are thus an upper bound of
// the depth of the recursion.

// tooBig is a refusal by the guard.
type tooBig struct {
	at     hcl.Range
	detail string
}

const guardSummary = "configuration is too complex"

// guardNative judges HCL: a file, an expression (flag values) or a template
// (strings of JSON), depending on lex. It returns the number of tokens.
func guardNative(src []byte, file string, start hcl.Pos, lex func([]byte, string, hcl.Pos) (hclsyntax.Tokens, hcl.Diagnostics)) (int, *tooBig) {
	if n := roughTokens(src); n > maxTokens {
		return n, tooManyTokens(file)
	}
	tokens, _ := lex(src, file, start)
	n := nesting{stack: []bracket{{}}}
	for i := range tokens {
		if detail := n.next(tokens, i); detail != "" {
			return len(tokens), &tooBig{at: tokens[i].Range, detail: detail}
		}
	}
	return len(tokens) + n.copied/copiedToken, nil
}

func tooManyTokens(file string) *tooBig {
	return &tooBig{
		at:     hcl.Range{Filename: file},
		detail: fmt.Sprintf("A configuration may have %d tokens (words, numbers, signs) in all its files together.", maxTokens),
	}
}

// roughTokens is an upper bound of the tokens in src, found without making any:
// a token needs about 100 bytes, so a dense file would cost a hundred times its
// size before it could be refused.
func roughTokens(src []byte) int {
	count, word := 0, false
	for _, c := range src {
		letter := c >= 0x80 || c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && c != ' ' && c != '\t' && c != '\r' || letter && !word {
			count++
		}
		word = letter
	}
	return count
}

// bracket is an open bracket, quote, heredoc or template sequence.
type bracket struct {
	closer     hclsyntax.TokenType // zero for the file itself
	chain      int                 // tokens since the last separator
	directives int                 // %{if} and %{for} that are open, in a template
	pieces     int                 // tokens directly in a template
	text       int                 // bytes of the text since the last template sequence
}

type nesting struct {
	stack      []bracket
	chain      int // sum over the stack
	directives int // sum over the stack
	copied     int // bytes the parser will copy to join pieces of text
}

var closers = map[hclsyntax.TokenType]hclsyntax.TokenType{
	hclsyntax.TokenOBrace:          hclsyntax.TokenCBrace,
	hclsyntax.TokenOBrack:          hclsyntax.TokenCBrack,
	hclsyntax.TokenOParen:          hclsyntax.TokenCParen,
	hclsyntax.TokenOQuote:          hclsyntax.TokenCQuote,
	hclsyntax.TokenOHeredoc:        hclsyntax.TokenCHeredoc,
	hclsyntax.TokenTemplateInterp:  hclsyntax.TokenTemplateSeqEnd,
	hclsyntax.TokenTemplateControl: hclsyntax.TokenTemplateSeqEnd,
}

// next takes one token; the answer is empty, or says which bound is broken.
func (n *nesting) next(tokens hclsyntax.Tokens, i int) string {
	token := tokens[i]
	switch token.Type {
	case hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit:
		return n.piece(len(token.Bytes))
	case hclsyntax.TokenComment, hclsyntax.TokenEOF:
		// A comment at the end of a line holds the line break.
		if token.Type == hclsyntax.TokenComment && strings.HasSuffix(string(token.Bytes), "\n") {
			n.endLine()
		}
		return ""
	case hclsyntax.TokenNewline:
		n.endLine()
		return ""
	case hclsyntax.TokenComma:
		n.endChain()
		return ""
	case hclsyntax.TokenNumberLit:
		if !plainNumber(string(token.Bytes)) {
			return numberDetail
		}
	case hclsyntax.TokenTemplateControl:
		n.directive(tokens[i+1:])
	}
	if closer, ok := closers[token.Type]; ok {
		return n.open(closer)
	}
	if n.close(token.Type) {
		return ""
	}
	return n.grow()
}

// piece takes a piece of text: a line of a heredoc, or what stands between two
// signs of a quoted text. The parser joins neighbouring pieces one by one, and
// each time copies the text so far and moves the pieces that follow, so its time
// grows with the square of their number.
func (n *nesting) piece(size int) string {
	top := n.top()
	top.pieces++
	top.text += size
	n.copied += top.text + 16*top.pieces
	if n.copied > maxCopied {
		return "A text with so many lines or signs is slow to read here; read it with file()."
	}
	return ""
}

func (n *nesting) top() *bracket { return &n.stack[len(n.stack)-1] }

func (n *nesting) open(closer hclsyntax.TokenType) string {
	detail := n.grow()
	n.top().pieces++
	n.top().text = 0
	n.stack = append(n.stack, bracket{closer: closer})
	if len(n.stack)+n.directives > maxDepth {
		return fmt.Sprintf("Brackets, templates and template directives may be nested %d deep.", maxDepth)
	}
	return detail
}

// close ends the innermost bracket of this type and all that were left open
// inside it. A closer without an opener changes nothing, so that a wrong closer
// can not hide depth.
func (n *nesting) close(closer hclsyntax.TokenType) bool {
	for i := len(n.stack) - 1; i > 0; i-- {
		if n.stack[i].closer != closer {
			continue
		}
		for _, b := range n.stack[i:] {
			n.chain -= b.chain
			n.directives -= b.directives
		}
		n.stack = n.stack[:i]
		return true
	}
	return false
}

func (n *nesting) grow() string {
	top := n.top()
	if top.closer == hclsyntax.TokenCQuote || top.closer == hclsyntax.TokenCHeredoc {
		return "" // the parts of a template stand side by side
	}
	top.chain++
	n.chain++
	if n.chain > maxChain {
		return fmt.Sprintf("An expression may be a chain of %d operators, names and brackets.", maxChain)
	}
	return ""
}

func (n *nesting) endChain() {
	n.chain -= n.top().chain
	n.top().chain = 0
}

// endLine ends a chain where a line break does: in bodies and objects.
func (n *nesting) endLine() {
	if c := n.top().closer; c == 0 || c == hclsyntax.TokenCBrace {
		n.endChain()
	}
}

// directive counts %{if} and %{for} that are open, which nest without brackets.
func (n *nesting) directive(rest hclsyntax.Tokens) {
	if len(rest) == 0 || rest[0].Type != hclsyntax.TokenIdent {
		return
	}
	switch string(rest[0].Bytes) {
	case "if", "for":
		n.top().directives++
		n.directives++
	case "endif", "endfor":
		if n.top().directives > 0 {
			n.top().directives--
			n.directives--
		}
	}
}

const numberDetail = "A number may have 300 digits and a decimal exponent between -999 and 999."

// plainNumber reports whether s, if it is read as a number, is one that costs
// nothing to keep. Text that is no number at all is plain. The exponent is what
// matters: adding 1 to 1e999999999 needs a number of 400 MB.
func plainNumber(s string) bool {
	if len(s) > maxDigits {
		return strings.Trim(s, "0123456789abcdefABCDEFxXpP_.+-nNiItTyY") != ""
	}
	e := strings.LastIndexAny(s, "eEpP")
	if e < 0 {
		return true
	}
	exponent, err := strconv.ParseInt(s[e+1:], 10, 64)
	if err != nil {
		// Out of range is a huge exponent, anything else is no number.
		return strings.Trim(s[e+1:], "0123456789+-") != "" || s[e+1:] == ""
	}
	return exponent >= -maxExponent && exponent <= maxExponent
}

// guardJSON judges JSON syntax: brackets outside of strings, and numbers. The
// strings are templates; they are judged one by one when they are read.
//
// This scanner and that of the parser could disagree about text that is no
// JSON, so brackets are also counted without regard to strings, with a bound
// that is generous but safe for the parser.
func guardJSON(src []byte, file string) (int, *tooBig) {
	count := roughTokens(src)
	if count > maxTokens {
		return count, tooManyTokens(file)
	}
	depth, blind, line := 0, 0, 1
	inString := false
	for i := 0; i < len(src); i++ {
		c := src[i]
		if c == '\n' {
			line++
		}
		at := hcl.Range{Filename: file, Start: hcl.Pos{Line: line, Column: 1, Byte: i}, End: hcl.Pos{Line: line, Column: 1, Byte: i}}
		switch {
		case c == '[' || c == '{':
			blind++
		case (c == ']' || c == '}') && blind > 0:
			blind--
		}
		if blind > 50*maxDepth {
			return count, &tooBig{at: at, detail: fmt.Sprintf("Brackets may be nested %d deep.", maxDepth)}
		}
		if inString {
			switch c {
			case '\\':
				i++
			case '"', '\n':
				inString = false
			}
			continue
		}
		switch {
		case c == '"':
			inString = true
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case c >= '0' && c <= '9' || c == '-':
			end := i
			for end < len(src) && strings.IndexByte("0123456789+-.eE", src[end]) >= 0 {
				end++
			}
			if !plainNumber(string(src[i:end])) {
				return count, &tooBig{at: at, detail: numberDetail}
			}
			i = end - 1
		}
		if depth > maxDepth {
			return count, &tooBig{at: at, detail: fmt.Sprintf("Brackets may be nested %d deep.", maxDepth)}
		}
	}
	return count, nil
}
