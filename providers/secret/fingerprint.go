package secret

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/argon2"
)

// FingerprintKey makes keyed fingerprints of payloads: the opt-in way to see
// that a wish changed without the right to read the store. The key stays
// outside of git; without it a fingerprint tells nothing, not even that two
// payloads are equal, since each has its own salt.
//
//	key id . salt . HMAC-SHA-256(key, "freightliner/fp/v1" | address | kind | salt | payload)
//
// each part with its length in front. Payloads that people chose first pass
// argon2id (RFC 9106, 64 MiB, one pass), so that a stolen key still makes
// guessing slow; generated ones do not need it.
type FingerprintKey struct {
	key Value
	id  string
}

// Kinds of fingerprints.
const (
	fpChosen    = "chosen"
	fpGenerated = "generated"
)

// MinFingerprintKey is the least length of a fingerprint key, in bytes.
const MinFingerprintKey = 16

// NewFingerprintKey takes the key over.
func NewFingerprintKey(key Value) (*FingerprintKey, error) {
	if !key.Longer(MinFingerprintKey - 1) {
		return nil, fmt.Errorf("a fingerprint key needs at least %d bytes", MinFingerprintKey)
	}
	k := &FingerprintKey{key: key}
	k.id = hex.EncodeToString(k.mac([]byte("freightliner/fp/key-id"))[:4])
	return k, nil
}

// Make is a fingerprint of v under a fresh salt.
func (k *FingerprintKey) Make(random io.Reader, address string, v Value, generated bool) (string, error) {
	salt := make([]byte, 16)
	if _, err := io.ReadFull(random, salt); err != nil {
		return "", fmt.Errorf("make a salt: %w", err)
	}
	return k.with(salt, address, v, generated), nil
}

// Same compares v with a fingerprint. known is false when the fingerprint was
// made with another key, or is none: then nobody can tell.
func (k *FingerprintKey) Same(fingerprint, address string, v Value, generated bool) (same, known bool) {
	id, rest, _ := strings.Cut(fingerprint, ".")
	text, _, found := strings.Cut(rest, ".")
	salt, err := base64.RawURLEncoding.DecodeString(text)
	if !found || err != nil || id != k.id || len(salt) != 16 {
		return false, false
	}
	return hmac.Equal([]byte(k.with(salt, address, v, generated)), []byte(fingerprint)), true
}

func (k *FingerprintKey) with(salt []byte, address string, v Value, generated bool) string {
	kind := fpChosen
	if generated {
		kind = fpGenerated
	}
	var sum []byte
	v.Use(func(b []byte) {
		if !generated {
			b = argon2.IDKey(b, salt, 1, 64<<10, 2, 32)
			defer clear(b)
		}
		sum = k.mac([]byte("freightliner/fp/v1"), []byte(address), []byte(kind), salt, b)
	})
	return k.id + "." + base64.RawURLEncoding.EncodeToString(salt) + "." + base64.RawURLEncoding.EncodeToString(sum)
}

func (k *FingerprintKey) mac(parts ...[]byte) []byte {
	var sum []byte
	k.key.Use(func(key []byte) {
		m := hmac.New(sha256.New, key)
		for _, part := range parts {
			m.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
			m.Write(part)
		}
		sum = m.Sum(nil)
	})
	return sum
}

// Planned is a fingerprint of a value that people chose, for a plan: equal
// values at one address have equal fingerprints, so that equal inputs give
// equal plans. It is no more secret than the key keeps it.
func (k *FingerprintKey) Planned(address string, v Value) string {
	return k.with(k.mac([]byte("freightliner/fp/plan"), []byte(address))[:16], address, v, false)
}
