package statefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"freightliner/providers"
)

// A record is a line of the snapshot:
//
//	{"a":"tree.platform/api:1.2","k":"tag","d":"sha256:…","p":"8e11c0de","~":"c0ffee12"}
//	     └──── key ────────────┘ └──────── rest ────────┘     │              │
//	                                      link of the key before it     checksum of the line
//
// and in the journal its rest stands alone, as {"k":"tag","d":"sha256:…"}.
// Both parts are kept as bytes and decoded when somebody asks.
type entry struct {
	key  string // the JSON text of the address, with its quotation marks
	rest string // the members from "k" on, without "p" and "~"
}

// recordOpen is how every record's line begins.
const recordOpen = `{"a":`

// appendRecord appends the snapshot line of e after a key whose link is prev.
func appendRecord(b []byte, e entry, prev uint32) []byte {
	start := len(b)
	b = append(b, recordOpen...)
	b = append(b, e.key...)
	b = append(b, ',')
	b = append(b, e.rest...)
	b = append(b, prevOpen...)
	b = appendHex(b, prev)
	b = append(b, '"')
	return appendSum(b, checksum(b[start:]))
}

// member is one member behind "k": its name with the comma and colon around
// it, and where it lives in a Record. Their order here is their order on disk.
type member struct {
	open string
	text func(*Record) *string
	hash func(*Record) *providers.Digest
	flag func(*Record) *bool
}

var members = [...]member{
	{open: `,"to":`, text: func(r *Record) *string { return &r.Destination }},
	{open: `,"d":`, hash: func(r *Record) *providers.Digest { return &r.Digest }},
	{open: `,"s":`, hash: func(r *Record) *providers.Digest { return &r.Source }},
	{open: `,"sel":`, text: func(r *Record) *string { return &r.Selection }},
	{open: `,"on_remove":`, text: func(r *Record) *string { return &r.OnRemove }},
	{open: `,"protect":`, flag: func(r *Record) *bool { return &r.Protect }},
	{open: `,"created":`, flag: func(r *Record) *bool { return &r.Created }},
	{open: `,"name":`, text: func(r *Record) *string { return &r.Name }},
	{open: `,"ver":`, text: func(r *Record) *string { return &r.Version }},
	{open: `,"at":`, text: func(r *Record) *string { return &r.At }},
	{open: `,"in":`, text: func(r *Record) *string { return &r.Inputs }},
	{open: `,"keys":`, text: func(r *Record) *string { return &r.Keys }},
	{open: `,"fp":`, text: func(r *Record) *string { return &r.Fingerprint }},
	{open: `,"window":`, text: func(r *Record) *string { return &r.Window }},
}

// encode checks r and gives its parts. It refuses what this release could not
// read back the same: that is a mistake of the caller, not of the disk.
func encode(r *Record) (entry, error) {
	if err := checkAddress(r.Address); err != nil {
		return entry{}, err
	}
	if !r.Kind.known() || r.Unknown != "" {
		return entry{}, fmt.Errorf("record %s of kind %q: %w", providers.Printable(r.Address, 0), r.Kind, ErrNewer)
	}
	b := make([]byte, 0, len(r.Address)+len(r.Destination)+len(r.Digest)+len(r.Source)+len(r.Selection)+64)
	b = appendString(b, r.Address)
	cut := len(b)
	b = append(b, `"k":`...)
	b = appendString(b, string(r.Kind))
	for _, m := range members {
		switch {
		case m.text != nil && *m.text(r) != "":
			s := *m.text(r)
			if !utf8.ValidString(s) {
				return entry{}, fmt.Errorf("record %s: %q is not UTF-8", providers.Printable(r.Address, 0), s)
			}
			b = appendString(append(b, m.open...), s)
		case m.hash != nil && *m.hash(r) != "":
			d := *m.hash(r)
			if !isDigest(string(d)) {
				return entry{}, fmt.Errorf("record %s: %w: %s", providers.Printable(r.Address, 0), providers.ErrDigest, providers.Printable(string(d), 80))
			}
			b = appendString(append(b, m.open...), string(d))
		case m.flag != nil && *m.flag(r):
			b = append(append(b, m.open...), "true"...)
		}
	}
	if len(b) > maxLine/2 {
		return entry{}, fmt.Errorf("record %s: %d bytes, at most %d fit a line", providers.Printable(r.Address, 0), len(b), maxLine/2)
	}
	return entry{key: text(b[:cut]), rest: text(b[cut:])}, nil
}

func checkAddress(address string) error {
	switch {
	case address == "":
		return errors.New("a record without an address")
	case !utf8.ValidString(address):
		return fmt.Errorf("address %q is not UTF-8", address)
	case len(address) > maxAddress:
		return fmt.Errorf("address %s: %d bytes, at most %d are allowed", providers.Printable(address, 80), len(address), maxAddress)
	}
	return nil
}

// isDigest is [providers.ParseDigest] without its error text: it runs once a
// record over files of many megabytes.
func isDigest(s string) bool {
	if len(s) == 71 && s[:7] == "sha256:" {
		return isHex(s[7:])
	}
	return len(s) == 135 && s[:7] == "sha512:" && isHex(s[7:])
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// address is the value of a key.
func (e entry) address() string {
	c := cursor{rest: e.key}
	return c.quoted()
}

// into decodes e, which was checked when it was loaded, into r.
func (e entry) into(r *Record, address string) {
	*r = Record{Address: address}
	if decode(e.rest, r) == unreadable {
		panic("statefile: a record that was checked can not be read: " + e.key)
	}
}

// verdict is what a reader may do with a record.
type verdict uint8

const (
	unreadable verdict = iota // not a record as any release would write it
	readable                  // to be shown; this release does not know all of it
	writable                  // this release would write the same bytes
)

// decode reads the members from "k" on into r.
func decode(rest string, r *Record) verdict {
	c := cursor{rest: rest}
	c.skip(`"k":`)
	r.Kind = Kind(c.quoted())
	for i := range members {
		m := &members[i]
		if c.rest == "" {
			break // most records have few members
		}
		if !c.try(m.open) {
			continue
		}
		switch {
		case m.text != nil:
			s := c.quoted()
			*m.text(r) = s
			c.bad = c.bad || s == ""
		case m.hash != nil:
			s := c.quoted()
			*m.hash(r) = providers.Digest(s)
			c.bad = c.bad || !isDigest(s)
		default:
			c.skip("true")
			*m.flag(r) = true
		}
	}
	switch {
	case r.Kind == "":
		return unreadable
	case !c.end():
		return decodeNewer(rest, r)
	case !r.Kind.known():
		return readable
	}
	return writable
}

// decodeNewer reads a record with members that this release does not know.
// They may stand anywhere behind "k"; the known ones keep their order and
// form. Anything else was not written by freightliner.
func decodeNewer(rest string, r *Record) verdict {
	*r = Record{Address: r.Address, Kind: r.Kind}
	d := json.NewDecoder(strings.NewReader("{" + rest + "}"))
	d.UseNumber()
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return unreadable
	}
	var all, known, unknown, names []string
	for d.More() {
		token, err := d.Token()
		name, isName := token.(string)
		if err != nil || !isName || slices.Contains(names, name) || name == "a" || name == "p" || name == "~" {
			return unreadable
		}
		names = append(names, name)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return unreadable
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, value); err != nil || compact.Len() != len(value) {
			return unreadable
		}
		written := string(appendString(nil, name)) + ":" + string(value)
		all = append(all, written)
		if name == "k" || slices.ContainsFunc(members[:], func(m member) bool { return m.open == `,"`+name+`":` }) {
			known = append(known, written)
		} else {
			unknown = append(unknown, written)
		}
	}
	if token, err := d.Token(); err != nil || token != json.Delim('}') || len(unknown) == 0 {
		return unreadable
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return unreadable
	}
	if strings.Join(all, ",") != rest || decode(strings.Join(known, ","), r) == unreadable {
		return unreadable
	}
	r.Unknown = strings.Join(unknown, ",")
	return readable
}
