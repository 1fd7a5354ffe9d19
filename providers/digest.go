package providers

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
)

// Digest names content by its hash, in the form "sha256:<64 hex>" or
// "sha512:<128 hex>", always lower case (OCI image-spec, descriptor.md,
// "Digests"). The zero value means "no digest". A Digest made by
// [ParseDigest] or [SHA256] is safe to place in a URL or a file name.
type Digest string

// ErrDigest is wrapped by every error of [ParseDigest].
var ErrDigest = errors.New("not a digest")

// ParseDigest checks s strictly: a known algorithm, lower-case hex, the exact
// length. Digests from the wire pass through here before any other use, since
// they end in URLs and comparisons. Errors wrap [ErrDigest].
func ParseDigest(s string) (Digest, error) {
	algorithm, sum, _ := strings.Cut(s, ":")
	want := 0
	switch algorithm {
	case "sha256":
		want = 2 * sha256.Size
	case "sha512":
		want = 2 * sha512.Size
	default:
		return "", fmt.Errorf("%w: %s: the algorithm must be sha256 or sha512", ErrDigest, Printable(s, 80))
	}
	if len(sum) != want {
		return "", fmt.Errorf("%w: %s: %s has %d hex digits, this has %d", ErrDigest, Printable(s, 80), algorithm, want, len(sum))
	}
	for i := range len(sum) {
		if c := sum[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", fmt.Errorf("%w: %s: only 0-9 and a-f may follow the colon", ErrDigest, Printable(s, 80))
		}
	}
	return Digest(s), nil
}

// SHA256 is the digest of b.
func SHA256(b []byte) Digest {
	sum := sha256.Sum256(b)
	return FromSum(sum[:])
}

// FromSum is the digest whose raw hash is sum: 32 bytes are SHA-256, 64 bytes
// SHA-512. Any other length is a programming error and panics.
func FromSum(sum []byte) Digest {
	switch len(sum) {
	case sha256.Size:
		return Digest("sha256:" + hex.EncodeToString(sum))
	case sha512.Size:
		return Digest("sha512:" + hex.EncodeToString(sum))
	}
	panic(fmt.Sprintf("providers: a hash of %d bytes", len(sum)))
}

// Algorithm is "sha256" or "sha512"; empty for the zero Digest.
func (d Digest) Algorithm() string {
	algorithm, _, _ := strings.Cut(string(d), ":")
	return algorithm
}

// Hex is the part behind the colon.
func (d Digest) Hex() string {
	_, sum, _ := strings.Cut(string(d), ":")
	return sum
}

// Short is the first 12 hex digits, as people write them. Only for display.
func (d Digest) Short() string {
	sum := d.Hex()
	return sum[:min(12, len(sum))]
}

// Hash starts the hash that d was made with.
func (d Digest) Hash() hash.Hash {
	if d.Algorithm() == "sha512" {
		return sha512.New()
	}
	return sha256.New()
}

// Of is the digest of b under d's own algorithm, to be compared with d.
func (d Digest) Of(b []byte) Digest {
	h := d.Hash()
	h.Write(b)
	return FromSum(h.Sum(nil))
}
