package statefile

import (
	"bytes"
	"fmt"
	"strings"

	"freightliner/providers"
)

// The header is the first line:
//
//	{"freightliner":"state","v":1,"lineage":"<32 hex digits>","features":[],"~":"5d0c1f2a"}
//
// Its opening through the version's digits and its closing checksum are the
// same in every version, for ever: a reader of any age can tell a newer file
// from a broken one. It never changes in the life of a state, so merges do not
// meet in it.
const (
	headerOpen = `{"freightliner":"state","v":`
	version    = 1
)

// appendHeader appends the header line of a state of this lineage.
func appendHeader(b []byte, lineage string) []byte {
	start := len(b)
	b = fmt.Appendf(b, `%s%d,"lineage":`, headerOpen, version)
	b = appendString(b, lineage)
	b = append(b, `,"features":[]`...)
	return appendSum(b, checksum(b[start:]))
}

// appendEnd appends the end line after a last key whose link is last.
func appendEnd(b []byte, last uint32) []byte {
	b = append(b, endOpen...)
	b = appendHex(b, last)
	return append(b, `"}`+"\n"...)
}

// parseEnd reads an end line without its line feed.
func parseEnd(line []byte) (last uint32, ok bool) {
	if len(line) != len(endOpen)+8+2 || string(line[:len(endOpen)]) != endOpen || string(line[len(line)-2:]) != `"}` {
		return 0, false
	}
	return parseHex(line[len(endOpen) : len(endOpen)+8])
}

// parseHeader reads the first line and gives the lineage and the length of the
// line with its line feed.
func parseHeader(buf []byte) (lineage string, length int, bad *Damage) {
	damage := func(kind error, what string, args ...any) (string, int, *Damage) {
		return "", 0, &Damage{Kind: kind, Line: 1, What: fmt.Sprintf(what, args...)}
	}
	switch {
	case len(buf) == 0:
		return damage(ErrTruncated, "the file is empty")
	case bytes.HasPrefix(buf, []byte("\xef\xbb\xbf")):
		return damage(ErrConverted, "it begins with a UTF-8 byte order mark")
	case bytes.HasPrefix(buf, []byte("\xff\xfe")) || bytes.HasPrefix(buf, []byte("\xfe\xff")):
		return damage(ErrConverted, "it begins with a UTF-16 byte order mark")
	}
	length = bytes.IndexByte(buf[:min(len(buf), maxLine)], '\n') + 1
	if length == 0 {
		if len(buf) < maxLine && (bytes.HasPrefix(buf, []byte(headerOpen)) || strings.HasPrefix(headerOpen, text(buf))) {
			return damage(ErrTruncated, "the header has no end")
		}
		return damage(ErrDamaged, "this is not the header of a freightliner state")
	}
	line := buf[:length-1]
	if bytes.HasSuffix(line, []byte("\r")) {
		return damage(ErrConverted, "the line ends with a carriage return")
	}
	body, sum, ok := cutSum(line)
	if !ok || !bytes.HasPrefix(body, []byte(headerOpen)) {
		return damage(ErrDamaged, "this is not the header of a freightliner state")
	}
	if want := checksum(body); want != sum {
		return damage(ErrDamaged, "the header's checksum is %08x, its bytes give %08x", sum, want)
	}
	c := cursor{rest: text(body[len(headerOpen):])}
	v := c.number()
	if c.bad || v == 0 {
		return damage(ErrDamaged, "the header has no version")
	}
	if v > version {
		return damage(ErrNewer, "it has format version %d, this release reads version %d", v, version)
	}
	c.skip(`,"lineage":`)
	lineage = c.quoted()
	c.skip(`,"features":[`)
	features := c.rest
	if c.bad || lineage == "" || !strings.HasSuffix(features, "]") {
		return damage(ErrDamaged, "the header is not as version %d writes it", version)
	}
	if features != "]" {
		return damage(ErrNewer, "it needs features that this release does not have: %s", providers.Printable(strings.TrimSuffix(features, "]"), 200))
	}
	return lineage, length, nil
}
