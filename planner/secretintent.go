package planner

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// SecretIntent is what is announced in the journal before a version is written:
// enough for the next run to find out what became of it, wherever the block has
// gone meanwhile, and nothing of the value.
type SecretIntent struct {
	Purpose string // see [SecretChange.Purpose]
	Place   string
	Name    string
	Expect  string // version to be replaced; empty: none
}

// Op is the intent as the journal keeps it:
//
//	write secret PURPOSE of PLACE:NAME after EXPECT
//
// Purposes are hexadecimal, no name of a secret has a colon, and no version's
// id a space.
func (i SecretIntent) Op() string {
	return fmt.Sprintf("write secret %s of %s:%s after %s", i.Purpose, i.Place, i.Name, i.Expect)
}

// ParseSecretIntent reads what Op wrote; ok is false for anything else.
func ParseSecretIntent(op string) (i SecretIntent, ok bool) {
	rest, begins := strings.CutPrefix(op, "write secret ")
	purpose, rest, of := strings.Cut(rest, " of ")
	end := strings.LastIndex(rest, " after ")
	if !begins || !of || end < 0 {
		return SecretIntent{}, false
	}
	colon := strings.LastIndexByte(rest[:end], ':')
	if colon <= 0 || colon+1 == end {
		return SecretIntent{}, false
	}
	return SecretIntent{purpose, rest[:colon], rest[colon+1 : end], rest[end+len(" after "):]}, true
}

// Intent is what is announced before the change writes a version after expect.
func (c *SecretChange) Intent(expect string) SecretIntent {
	return SecretIntent{c.Purpose(), c.Place, c.Name, expect}
}

// Purpose tells writes for different wishes apart: it is made of the inputs and,
// with a fingerprint_key, of the value's keyed fingerprint. All of that stands in
// the state or the plan as well.
func (c *SecretChange) Purpose() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %t %q %q", c.Inputs, c.Merge, c.Drop, c.Check))
	return hex.EncodeToString(sum[:8])
}
