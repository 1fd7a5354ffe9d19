package file

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"

	"freightliner/providers"
)

// What is inside the age file of a version, or of a deletion:
//
//	freightliner-secret-1\n
//	length of the header, 4 bytes, big endian
//	header                                    JSON
//	length of the payload, 4 bytes, big endian
//	payload
//	zeros up to a multiple of 256 bytes
//
// age neither binds a file to its place nor hides its length; the header does
// the one and the zeros the other.

const (
	magic    = "freightliner-secret-1\n"
	step     = 256
	macBytes = 16

	// most of an age file: the largest payload, a header within its limits,
	// age's own (about 2 KiB for a hybrid recipient).
	maxFile = 1 << 20
)

// header is everything about a version but its payload.
type header struct {
	Store string    `json:"store"`
	Name  string    `json:"name"`
	N     int       `json:"n"`    // 0 for a deletion
	Made  time.Time `json:"made"` // of the version, or the deletion
	Prev  string    `json:"prev,omitempty"`
	Token string    `json:"token,omitempty"`
	Salt  []byte    `json:"salt"` // 32 random bytes, the key of the commitment

	// Of and Final are a deletion's: the current version then, and when it
	// becomes final.
	Of    string    `json:"of,omitempty"`
	Final time.Time `json:"final,omitzero"`

	// What follows may change without a new version, and is not in the id.
	Description string            `json:"description,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Owner       string            `json:"owner,omitempty"`
	Rev         string            `json:"rev,omitempty"`   // random, new with each change of the metadata
	Known       []string          `json:"known,omitempty"` // former members who could read this version

	id string
}

// commit is the id of a version: its number, and an HMAC-SHA-256 of what it is
// under its salt, cut to 128 bits. The salt is inside the envelope only, so the
// id tells nothing of the payload to whoever can not read the payload itself,
// and it stays when the store's key is changed. With the salt it fits this
// content alone, so a file that was exchanged shows.
func (h *header) commit(payload []byte) string {
	mac := hmac.New(sha256.New, h.Salt)
	field := func(b []byte) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(b)))
		mac.Write(n[:])
		mac.Write(b)
	}
	field([]byte("freightliner/file/version/1"))
	for _, text := range []string{h.Store, h.Name, fmt.Sprint(h.N), h.Made.UTC().Format(time.RFC3339Nano), h.Prev, h.Token, h.Of, h.Final.UTC().Format(time.RFC3339Nano)} {
		field([]byte(text))
	}
	field(payload)
	return fmt.Sprintf("%d-%s", h.N, hex.EncodeToString(mac.Sum(nil)[:macBytes]))
}

// seal encrypts a version to the store's key. The plain text is zeroed.
func seal(to age.Recipient, h header, payload []byte) ([]byte, error) {
	head, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	size := len(magic) + 4 + len(head) + 4 + len(payload)
	plain := make([]byte, 0, (size+step-1)/step*step) // its capacity is enough: no copy is left behind
	defer func() { clear(plain[:cap(plain)]) }()
	plain = append(plain, magic...)
	plain = binary.BigEndian.AppendUint32(plain, uint32(len(head)))
	plain = append(plain, head...)
	plain = binary.BigEndian.AppendUint32(plain, uint32(len(payload)))
	plain = append(plain, payload...)
	return encrypt(plain[:cap(plain)], to)
}

func encrypt(plain []byte, to ...age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// decrypt gives the plain text in one buffer, which the caller zeroes.
func decrypt(sealed []byte, ids ...age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), ids...)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(sealed)) // longer than the plain text: it is never grown and copied
	n, err := io.ReadFull(r, plain)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(plain)
		return nil, err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) && !endsCleanly(r) {
		clear(plain)
		return nil, io.ErrUnexpectedEOF
	}
	return plain[:n], nil
}

// endsCleanly tells age's own end from a truncated file: io.ReadFull gives the
// same error for both.
func endsCleanly(r io.Reader) bool {
	_, err := r.Read(make([]byte, 1))
	return err == io.EOF
}

// errEnvelope is a file that age opens and that is none of ours.
var errEnvelope = errors.New("what is inside is not a secret of freightliner")

// open decrypts a version of name and checks that it lies where it belongs.
// The payload is the caller's to zero.
func open(ids []age.Identity, sealed []byte, store, name string, n int) (h header, payload []byte, err error) {
	plain, err := decrypt(sealed, ids...)
	var noMatch *age.NoIdentityMatchError
	switch {
	case errors.As(err, &noMatch):
		return header{}, nil, err
	case err != nil:
		// Not age's own words: they quote what is in the file, and who knows what
		// somebody put there.
		return header{}, nil, errors.New("it is damaged, or no age file")
	}
	defer clear(plain)
	h, value, err := parse(plain)
	if err != nil {
		return header{}, nil, err
	}
	switch {
	case h.Store != store:
		err = errors.New("it belongs to another store")
	case h.Name != name:
		err = fmt.Errorf("it belongs to the secret %s: the file was moved", providers.Printable(h.Name, 200))
	case h.N != n:
		err = fmt.Errorf("it holds number %d: the file was renamed, or rolled back", h.N)
	}
	if err != nil {
		return header{}, nil, err
	}
	h.id = h.commit(value)
	return h, bytes.Clone(value), nil
}

// parse reads the plain text; value is a part of it.
func parse(plain []byte) (h header, value []byte, err error) {
	rest, found := bytes.CutPrefix(plain, []byte(magic))
	if !found {
		if bytes.HasPrefix(plain, []byte("freightliner-secret-")) {
			return header{}, nil, errors.New("it was written by a newer freightliner")
		}
		return header{}, nil, errEnvelope
	}
	head, rest, found := cut(rest)
	if !found {
		return header{}, nil, errEnvelope
	}
	value, rest, found = cut(rest)
	if !found || len(plain)%step != 0 || len(rest) >= step || len(bytes.Trim(rest, "\x00")) != 0 {
		return header{}, nil, errEnvelope
	}
	// The text of a JSON error can quote the header, not the payload; still it
	// says nothing that helps.
	if json.Unmarshal(head, &h) != nil || len(h.Salt) != 32 {
		return header{}, nil, errEnvelope
	}
	return h, value, nil
}

// cut takes a part with its length before it.
func cut(b []byte) (part, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint32(b))
	if b = b[4:]; n < 0 || n > len(b) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}
