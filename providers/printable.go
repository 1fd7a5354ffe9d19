package providers

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable makes untrusted text safe for a terminal, a CI log or a file:
// control characters (C0, DEL, C1), bidirectional and zero-width characters,
// line and paragraph separators, tag characters and invalid UTF-8 become
// visible escapes. Text beyond limit bytes is cut and marked with "…"; a limit
// of 0 means 4096. A line break is escaped too, so untrusted text never starts
// a line of its own and can not forge a CI log command.
func Printable(s string, limit int) string {
	if limit <= 0 {
		limit = 4096
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if b.Len() >= limit {
			b.WriteString("…")
			break
		}
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case hidden(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
		i += size
	}
	return b.String()
}

// hidden reports characters that are not seen, or that change how others are.
func hidden(r rune) bool {
	return unicode.Is(unicode.C, r) || r == '\u2028' || r == '\u2029' ||
		r == '\u034f' || r == '\u115f' || r == '\u1160' || r == '\u3164' || r == '\uffa0' ||
		unicode.Is(unicode.Variation_Selector, r)
}
