package file

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"freightliner/providers"
)

// A name must give the same file on every file system that a checkout may lie
// on. A slash becomes "+", so that every secret is one directory, and a capital
// letter "!" and the small one, so that names which differ only in case do not
// meet on macOS and Windows.

var segment = providers.Pattern(`^[A-Za-z0-9_][A-Za-z0-9_.@=-]*$`)

// reserved are names that Windows keeps for devices, also with an extension.
var reserved = providers.Pattern(`(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)`)

// longest is the length of a directory's name that all file systems take
// (eCryptfs: 143 bytes), with room for none of ours.
const longest = 140

// checkName says in words what is wrong with a name.
func checkName(name string) error {
	if name == "" {
		return errors.New("the name is empty")
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "":
			return errors.New("the name has an empty part: no slash may begin or end it, or follow another")
		case !segment().MatchString(part):
			return fmt.Errorf("a part of the name is %s: it may have letters, digits and _ . @ = -, and begins with a letter, digit or _", providers.Printable(strconv.Quote(part), 80))
		case strings.HasSuffix(part, "."):
			return errors.New("a part of the name ends with a dot, which Windows drops")
		case reserved().MatchString(part):
			return fmt.Errorf("a part of the name is %s, which Windows keeps for a device", part)
		}
	}
	if len(dirOf(name)) > longest {
		return fmt.Errorf("the name is too long: at most %d characters, capital letters count twice", longest)
	}
	return nil
}

// dirOf is the directory of a secret below secrets/.
func dirOf(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		switch {
		case c == '/':
			b.WriteByte('+')
		case c >= 'A' && c <= 'Z':
			b.WriteByte('!')
			b.WriteByte(c - 'A' + 'a')
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// nameOf is the secret whose directory this is; false for a directory that is
// none of ours.
func nameOf(dir string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(dir); i++ {
		switch c := dir[i]; {
		case c == '+':
			b.WriteByte('/')
		case c == '!':
			i++
			if i == len(dir) || dir[i] < 'a' || dir[i] > 'z' {
				return "", false
			}
			b.WriteByte(dir[i] - 'a' + 'A')
		default:
			b.WriteByte(c)
		}
	}
	name := b.String()
	return name, checkName(name) == nil && dirOf(name) == dir
}

const (
	suffix    = ".age"
	tombstone = "deleted" + suffix
	tempStart = ".tmp-"
)

// numberOf is the version that a file of this name holds.
func numberOf(file string) (n int, ok bool) {
	digits, found := strings.CutSuffix(file, suffix)
	if !found {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && n > 0 && strconv.Itoa(n) == digits
}

func fileOf(n int) string { return strconv.Itoa(n) + suffix }

// versionNumber is the number in a version id, "7-<32 hex>".
func versionNumber(id string) (n int, ok bool) {
	digits, mac, found := strings.Cut(id, "-")
	n, err := strconv.Atoi(digits)
	return n, found && err == nil && n > 0 && len(mac) == 2*macBytes
}
