package embedded

import (
	"errors"
	"io"
	"io/fs"
)

// Store keeps values under keys of the form "a/b/c", and lets big ones grow
// first. The registry builds every key from parts it has checked: segments are
// never empty, "." or "..", and hold only lower-case letters, digits and
// "._-=%". All methods are safe for concurrent use. An error for a key
// that holds nothing wraps [fs.ErrNotExist].
type Store interface {
	// Open gives the value under key for reading; the caller closes it.
	Open(key string) (io.ReadSeekCloser, error)
	// Write puts value under key, as a whole or not at all, replacing what is there.
	Write(key string, value []byte) error
	// Remove takes the value under key away.
	Remove(key string) error
	// List names what lies directly below key, sorted bytewise; "/" is appended
	// to a name that has more below it, and does not count in the order.
	// Nothing below is an empty list, not an error.
	List(key string) ([]string, error)
	// Draft starts a value that is not visible under any key yet.
	Draft() (Draft, error)
}

// Draft is a growing value. It is used by one goroutine at a time.
type Draft interface {
	io.Writer // appends
	// Open reads what has been written so far, from the start.
	Open() (io.ReadCloser, error)
	// Keep makes the draft the value under key and ends the draft. Content is
	// addressed by its digest, so a value that is already there stays.
	Keep(key string) error
	// Discard ends the draft and forgets its bytes.
	Discard() error
}

// read is the whole value under key.
func read(s Store, key string) ([]byte, error) {
	content, err := s.Open(key)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	return io.ReadAll(content)
}

// has reports whether key holds a value.
func has(s Store, key string) (bool, error) {
	content, err := s.Open(key)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, content.Close()
}
