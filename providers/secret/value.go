package secret

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Value is a payload. Its bytes sit behind a closure, the one form that fmt
// (all verbs), encoding/json, encoding/gob, log/slog and reflection-based
// printers were measured not to reach. A Value is used with [Value.Use] and
// ended with [Value.Zero]. The zero Value is "no value", which is not the empty
// payload. Two Values can not be compared with ==.
//
// Copies of a Value share the bytes: zeroing one zeroes all. A Value is safe
// for concurrent use until it is zeroed.
type Value struct {
	use func(func([]byte))
}

// NewValue takes b over: the caller must not use b any more.
func NewValue(b []byte) Value {
	if b == nil {
		b = []byte{}
	}
	return Value{use: func(f func([]byte)) { f(b) }}
}

// Set reports whether v is a value at all.
func (v Value) Set() bool { return v.use != nil }

// Use calls f with the bytes. They are f's only until it returns, and f must
// not change them. Without a value f is not called.
func (v Value) Use(f func([]byte)) {
	if v.use != nil {
		v.use(f)
	}
}

// Zero overwrites the bytes. What was copied out of them (by a client library,
// by TLS) is out of reach; see docs/secrets.md.
func (v Value) Zero() { v.Use(func(b []byte) { clear(b) }) }

// Clone is an independent copy, to be zeroed by itself.
func (v Value) Clone() Value {
	if v.use == nil {
		return Value{}
	}
	var c Value
	v.use(func(b []byte) { c = NewValue(bytes.Clone(b)) })
	return c
}

// Longer reports whether the payload has more than limit bytes. The length
// itself is nobody's business.
func (v Value) Longer(limit int) bool {
	longer := false
	v.Use(func(b []byte) { longer = len(b) > limit })
	return longer
}

// Equal compares payloads byte by byte, under a key that lives as long as the
// process, so that neither time nor length tells anything. No value equals only
// no value.
func (v Value) Equal(w Value) bool {
	if v.use == nil || w.use == nil {
		return v.use == nil && w.use == nil
	}
	return hmac.Equal(v.sum(), w.sum())
}

// EqualJSON compares payloads as JSON objects by their keys and values, so that
// the order of keys and white space make no difference. Payloads that are no
// JSON are compared byte by byte.
func (v Value) EqualJSON(w Value) bool {
	a, errA := v.canonicalJSON()
	b, errB := w.canonicalJSON()
	defer a.Zero()
	defer b.Zero()
	if errA != nil || errB != nil {
		return v.Equal(w)
	}
	return a.Equal(b)
}

var comparisonKey = func() []byte {
	key := make([]byte, 32)
	rand.Read(key) // never fails: crypto/rand.Read
	return key
}()

func (v Value) sum() []byte {
	mac := hmac.New(sha256.New, comparisonKey)
	v.Use(func(b []byte) { mac.Write(b) })
	return mac.Sum(nil)
}

// errHidden is what every encoder gets.
var errHidden = errors.New("a secret value can not be encoded")

// hidden is what every printer gets.
const hidden = "(sensitive)"

// String is the same for every value.
func (Value) String() string { return hidden }

// GoString is the same for every value.
func (Value) GoString() string { return hidden }

// Format prints the same for every value and verb.
func (Value) Format(f fmt.State, _ rune) { io.WriteString(f, hidden) }

// LogValue is the same for every value.
func (Value) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalJSON always fails.
func (Value) MarshalJSON() ([]byte, error) { return nil, errHidden }

// MarshalText always fails.
func (Value) MarshalText() ([]byte, error) { return nil, errHidden }

// MarshalBinary always fails.
func (Value) MarshalBinary() ([]byte, error) { return nil, errHidden }

// GobEncode always fails.
func (Value) GobEncode() ([]byte, error) { return nil, errHidden }

var (
	_ json.Marshaler = Value{}
	_ fmt.Formatter  = Value{}
	_ slog.LogValuer = Value{}
)
