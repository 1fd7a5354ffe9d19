package secret

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Recipe says how a value is generated.
type Recipe struct {
	Length  int    // characters, MinLength to MaxLength
	Charset string // class names joined by "+", see [CheckRecipe]
}

// Bounds of a recipe's length, in characters.
const (
	MinLength = 8
	MaxLength = 4096
)

// DefaultCharset is what a recipe without one uses.
const DefaultCharset = "lower+upper+digits"

// classes are sets of characters. Those that look alike in common fonts (0 O o,
// 1 I l |, and quotes that shells and people trip over) are left out; a class
// that is a fixed alphabet keeps all of its characters.
var classes = map[string]string{
	"lower":     "abcdefghijkmnpqrstuvwxyz",
	"upper":     "ABCDEFGHJKLMNPQRSTUVWXYZ",
	"digits":    "23456789",
	"symbols":   "!#$%&()*+,-./:;<=>?@[]^_{}~",
	"hex":       "0123456789abcdef",
	"base64url": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
}

// fixed are classes that stand alone: the value is meant to be one word of that
// alphabet.
var fixed = []string{"hex", "base64url"}

// CheckRecipe says in words what is wrong with a recipe; nil for a good one.
// Charset is "hex", "base64url", or one or more of "lower", "upper", "digits",
// "symbols" joined by "+"; a value has at least one character of each.
func CheckRecipe(r Recipe) error {
	if r.Length < MinLength || r.Length > MaxLength {
		return fmt.Errorf("length must be %d to %d characters", MinLength, MaxLength)
	}
	names := strings.Split(r.Charset, "+")
	for i, name := range names {
		switch {
		case classes[name] == "":
			return fmt.Errorf("charset has classes lower, upper, digits and symbols, joined by +, or is hex or base64url; %q is none of them", name)
		case slices.Contains(names[:i], name):
			return fmt.Errorf("charset names %s twice", name)
		case len(names) > 1 && slices.Contains(fixed, name):
			return fmt.Errorf("%s stands alone", name)
		}
	}
	return nil
}

// Entropy is the number of bits that guessing a value of the recipe takes,
// rounded down; the demand for one character of each class, which takes a
// fraction of a bit, is not counted.
func (r Recipe) Entropy() int {
	return int(float64(r.Length) * math.Log2(float64(len(r.alphabet()))))
}

func (r Recipe) alphabet() string {
	var all strings.Builder
	for name := range strings.SplitSeq(r.Charset, "+") {
		all.WriteString(classes[name])
	}
	return all.String()
}

// Generate makes a value. Each character is drawn by rejection, so that all are
// equally likely; a value that lacks a class is thrown away whole, so that the
// values that remain stay equally likely too.
func Generate(random io.Reader, r Recipe) (Value, error) {
	if err := CheckRecipe(r); err != nil {
		return Value{}, err
	}
	alphabet := r.alphabet()
	limit := 256 / len(alphabet) * len(alphabet)
	out := make([]byte, 0, r.Length)
	pool := make([]byte, 256)
	defer clear(pool)
	for range 10_000 {
		out = out[:0]
		for len(out) < r.Length {
			if _, err := io.ReadFull(random, pool); err != nil {
				clear(out)
				return Value{}, fmt.Errorf("generate a value: %w", err)
			}
			for _, b := range pool {
				if int(b) < limit && len(out) < r.Length {
					out = append(out, alphabet[int(b)%len(alphabet)])
				}
			}
		}
		if hasAll(out, r.Charset) {
			return NewValue(out), nil
		}
	}
	clear(out)
	return Value{}, errors.New("generate a value: the source of randomness is broken")
}

func hasAll(out []byte, charset string) bool {
	if slices.Contains(fixed, charset) {
		return true
	}
	for name := range strings.SplitSeq(charset, "+") {
		if !slices.ContainsFunc(out, func(c byte) bool { return strings.IndexByte(classes[name], c) >= 0 }) {
			return false
		}
	}
	return true
}
