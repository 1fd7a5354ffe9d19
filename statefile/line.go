package statefile

import (
	"hash/crc32"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// Every line but the end line closes with its checksum, a suffix of fixed
// length, so that a line is checked without being parsed:
//
//	… ,"~":"5d0c1f2a"}
//
// The checksum is the CRC-32C of the line's bytes before the suffix; in the
// journal the eight digits of the line before come first (see replay.go).
const (
	sumOpen   = `,"~":"`
	sumClose  = `"}`
	sumLength = len(sumOpen) + 8 + len(sumClose)

	prevOpen   = `,"p":"`
	prevLength = len(prevOpen) + 8 + len(`"`)

	endOpen = `{"end":"`

	// maxLine bounds a line in bytes, its line feed included: no address, path
	// or selection is near it, and a reader may rely on it.
	maxLine = 1 << 20
	// maxAddress bounds an address, and the other names in a journal line, so
	// that with every byte escaped they still fit a line.
	maxAddress = 1 << 16
	// maxFile bounds a state file: offsets are kept in 32 bits.
	maxFile = 1<<32 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is the CRC-32C (RFC 3720, appendix B.4) of b.
func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// link is the checksum of a key as the key chain has it: of the address's
// bytes, not of its JSON text. The link of no key at all is 0.
func link(address string) uint32 { return checksum(view(address)) }

const hexDigits = "0123456789abcdef"

// appendHex appends the eight lower-case digits of sum.
func appendHex(b []byte, sum uint32) []byte {
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, hexDigits[sum>>shift&15])
	}
	return b
}

// parseHex reads exactly eight lower-case digits.
func parseHex(b []byte) (uint32, bool) {
	if len(b) != 8 {
		return 0, false
	}
	var sum uint32
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			sum = sum<<4 | uint32(c-'0')
		case 'a' <= c && c <= 'f':
			sum = sum<<4 | uint32(c-'a'+10)
		default:
			return 0, false
		}
	}
	return sum, true
}

// appendSum closes a line whose bytes so far are line with their checksum sum,
// and ends it.
func appendSum(line []byte, sum uint32) []byte {
	line = append(line, sumOpen...)
	line = appendHex(line, sum)
	return append(line, sumClose+"\n"...)
}

// cutSum splits a line, without its line feed, into its body and the checksum
// that it claims.
func cutSum(line []byte) (body []byte, sum uint32, ok bool) {
	at := len(line) - sumLength
	if at < 0 || string(line[at:at+len(sumOpen)]) != sumOpen || string(line[len(line)-len(sumClose):]) != sumClose {
		return nil, 0, false
	}
	sum, ok = parseHex(line[at+len(sumOpen) : at+len(sumOpen)+8])
	return line[:at], sum, ok
}

// text is b as a string that shares its memory. It is only used on buffers
// that nobody writes to any more: a loaded file, an encoded line. The string
// keeps the buffer alive, so it can never point at anything else.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// view is s as bytes that share its memory, for hashing: never written to,
// never kept.
func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// appendString appends s as a JSON string in the one form this format has:
// quotation mark and backslash escaped by a backslash, control characters
// below U+0020 as \u00xx in lower case, everything else as it is. The string
// must be valid UTF-8.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// cursor reads a line's members from the left, in their fixed order. The first
// thing that is not as this format writes it ends the reading.
type cursor struct {
	rest string
	bad  bool
}

// skip consumes word, which must stand next.
func (c *cursor) skip(word string) {
	if !c.try(word) {
		c.bad = true
	}
}

// try consumes word if it stands next.
func (c *cursor) try(word string) bool {
	if c.bad || !strings.HasPrefix(c.rest, word) {
		return false
	}
	c.rest = c.rest[len(word):]
	return true
}

// quoted consumes a JSON string in the form of appendString and gives its
// value, which shares the line's memory unless something in it is escaped.
func (c *cursor) quoted() string {
	raw, escaped := c.raw()
	if !escaped {
		return raw
	}
	value, ok := unescape(raw)
	if !ok {
		c.bad = true
	}
	return value
}

// raw consumes a JSON string and gives what is between its quotation marks.
func (c *cursor) raw() (inner string, escaped bool) {
	s := c.rest
	if c.bad || s == "" || s[0] != '"' {
		c.bad = true
		return "", false
	}
	wide := false
	for i := 1; i < len(s); i++ {
		switch b := s[i]; {
		case b == '"':
			inner = s[1:i]
			c.rest = s[i+1:]
			if wide && !utf8.ValidString(inner) {
				c.bad = true
			}
			return inner, escaped
		case b == '\\':
			escaped = true
			i++
		case b < 0x20:
			c.bad = true
			return "", false
		case b >= 0x80:
			wide = true
		}
	}
	c.bad = true
	return "", false
}

// unescape undoes appendString and accepts nothing that it would not write.
func unescape(raw string) (string, bool) {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			continue
		}
		rest := raw[i+1:]
		switch {
		case rest != "" && (rest[0] == '"' || rest[0] == '\\'):
			out = append(out, rest[0])
			i++
		case len(rest) >= 5 && rest[:3] == "u00" && (rest[3] == '0' || rest[3] == '1') && strings.IndexByte(hexDigits, rest[4]) >= 0:
			out = append(out, (rest[3]-'0')<<4|byte(strings.IndexByte(hexDigits, rest[4])))
			i += 5
		default:
			return "", false
		}
	}
	return string(out), true
}

// number consumes a whole number without sign or leading zeros, below 2^53 so
// that every JSON reader holds it exactly.
func (c *cursor) number() int64 {
	var n int64
	digits := 0
	for digits < len(c.rest) && digits < 16 && '0' <= c.rest[digits] && c.rest[digits] <= '9' {
		n = n*10 + int64(c.rest[digits]-'0')
		digits++
	}
	if c.bad || digits == 0 || digits > 1 && c.rest[0] == '0' || n >= 1<<53 {
		c.bad = true
		return 0
	}
	c.rest = c.rest[digits:]
	return n
}

// end reports whether everything was read and everything was in order.
func (c *cursor) end() bool { return !c.bad && c.rest == "" }
