package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// line is one line of the file, members in this order.
type line struct {
	Seq   int64     `json:"seq"`             // from 1, over all files of the workspace
	Batch int64     `json:"batch"`           // seq of the first line of those that were synced together
	Opens bool      `json:"opens,omitempty"` // it is the first of its file
	Time  time.Time `json:"time"`            // UTC

	Run       string `json:"run"`
	Host      string `json:"host,omitempty"`
	Version   string `json:"version,omitempty"` // of freightliner
	Actor     string `json:"actor,omitempty"`   // git identity
	Job       string `json:"job,omitempty"`     // of CI, a URL
	Workspace string `json:"workspace"`

	Action    string `json:"action"`
	Phase     string `json:"phase"` // intent, outcome; note for what the log says of itself
	Reason    string `json:"reason,omitempty"`
	Address   string `json:"address,omitempty"`
	Store     string `json:"store,omitempty"`
	Principal string `json:"principal,omitempty"` // who the store takes us for
	Name      string `json:"name,omitempty"`
	Before    string `json:"before,omitempty"` // version ids
	After     string `json:"after,omitempty"`
	Token     string `json:"token,omitempty"`
	Class     string `json:"class,omitempty"` // of the failure; an outcome without is a success

	Prev string `json:"prev"` // hash of the line before, 64 hex digits; zeros for the first
	// Hash comes last, so that all before it is what it is of.
	Hash string `json:"hash"`
}

const (
	intent  = "intent"
	outcome = "outcome"
	note    = "note"

	maxLine  = 64 << 10
	hashMark = `,"hash":"`
	hashTail = len(hashMark) + 2*sha256.Size + len(`"}`)
)

// genesis is before the first line.
var genesis = strings.Repeat("0", 2*sha256.Size)

func (l *line) fill(e secret.Entry) {
	l.Action, l.Reason, l.Address, l.Store, l.Principal = string(e.Operation), e.Reason, e.Address, e.Store, e.Principal
	l.Name, l.Before, l.After, l.Token, l.Class = e.Name, e.Before, e.After, e.Token, e.Class()
}

// encode writes the line and its hash.
func (l *line) encode() ([]byte, error) {
	l.Hash = ""
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(l); err != nil {
		return nil, err
	}
	body, found := bytes.CutSuffix(b.Bytes(), []byte(hashMark+"\"}\n"))
	if !found {
		return nil, errors.New("the hash is not the last member")
	}
	l.Hash = sum(l.Prev, body)
	out := fmt.Appendf(body, "%s%s\"}\n", hashMark, l.Hash)
	if len(out) > maxLine {
		return nil, fmt.Errorf("a line would have %d bytes, at most %d are written", len(out), maxLine)
	}
	return out, nil
}

// sum is SHA-256(prev | body).
func sum(prev string, body []byte) string {
	h := sha256.New()
	raw, _ := hex.DecodeString(prev) // what is not hex was never written by us, and gives another hash
	h.Write(raw)
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

var errLine = errors.New("it is not a line of this log")

// errEdited is a line whose hash is not of it.
var errEdited = errors.New("it was changed: its hash is not that of its text")

// decode reads a line without its line break. It is whole in itself when there
// is no error; whether it follows the one before it, the caller sees.
func decode(text []byte) (line, error) {
	at := len(text) - hashTail
	if at < 0 || !bytes.HasPrefix(text[at:], []byte(hashMark)) {
		return line{}, errLine
	}
	var l line
	if json.Unmarshal(text, &l) != nil || l.Seq < 1 || l.Batch < 1 || l.Batch > l.Seq || !isHash(l.Prev) || !isHash(l.Hash) {
		return line{}, errLine
	}
	if string(text[at+len(hashMark):len(text)-2]) != l.Hash || sum(l.Prev, text[:at]) != l.Hash {
		return l, errEdited
	}
	return l, nil
}

var hashForm = providers.Pattern(`^[0-9a-f]{64}$`)

func isHash(s string) bool { return hashForm().MatchString(s) }

// Head is the end of a log at some time: if it is kept elsewhere, nothing up to
// it can be changed unseen.
type Head struct {
	Seq  int64
	Hash string
}

// String is "41:07ab…", as people copy it.
func (h Head) String() string {
	if h.Seq == 0 {
		return ""
	}
	return fmt.Sprintf("%d:%s", h.Seq, h.Hash)
}

// ParseHead reads what [Head.String] wrote.
func ParseHead(s string) (Head, error) {
	digits, hash, _ := strings.Cut(s, ":")
	seq, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || seq < 1 || !isHash(hash) {
		return Head{}, errors.New("a head is a number, a colon and 64 hex digits")
	}
	return Head{seq, hash}, nil
}

// fileName is the file of a month, "2026-03".
func fileName(workspace, month string) string { return safe(workspace) + "." + month + ".jsonl" }

func lockName(workspace string) string { return safe(workspace) + ".lock" }

var (
	monthForm = providers.Pattern(`^[0-9]{4}-(0[1-9]|1[0-2])$`)
	plainName = providers.Pattern(`^[a-z0-9][a-z0-9_-]{0,79}$`)
	notPlain  = providers.Pattern(`[^a-z0-9_-]+`)
)

// safe is the workspace as a part of a file's name on any file system. What had
// to be changed gets a part of its digest, so that two workspaces never share
// a file.
func safe(workspace string) string {
	if plainName().MatchString(workspace) {
		return workspace
	}
	digest := sha256.Sum256([]byte(workspace))
	short := strings.Trim(notPlain().ReplaceAllString(strings.ToLower(workspace), "-"), "-_")
	return strings.Trim(short[max(0, len(short)-60):], "-_") + "." + hex.EncodeToString(digest[:6])
}

// monthOf is the month of a file, if it is one of the workspace.
func monthOf(workspace, file string) (month string, ok bool) {
	rest, found := strings.CutPrefix(file, safe(workspace)+".")
	if !found {
		return "", false
	}
	month, found = strings.CutSuffix(rest, ".jsonl")
	return month, found && monthForm().MatchString(month)
}
