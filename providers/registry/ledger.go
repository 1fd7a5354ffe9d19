package registry

import (
	"time"

	"freightliner/providers"
)

// Unfinished is an upload that a later run can take up in the middle. It holds
// no credential and no query of an address, so nothing signed.
type Unfinished struct {
	Host       string           `json:"host"` // of the registry block
	Repository string           `json:"repository"`
	Digest     providers.Digest `json:"digest"`
	Size       int64            `json:"size"`
	Location   string           `json:"location"` // path of the session at the registry's own origin
	Offset     int64            `json:"offset"`   // bytes that the registry has confirmed
	HashedAt   int64            `json:"hashed_at"`
	Hash       []byte           `json:"hash"`   // state of the digest after HashedAt bytes
	Source     string           `json:"source"` // for people
	Saved      time.Time        `json:"saved"`
}

// Ledger keeps unfinished uploads across runs. Losing an entry costs time,
// never content: whatever is odd about one makes the upload start again, and
// the digest of the whole is compared before the last byte is sent.
type Ledger interface {
	// Save replaces the entry of the same host, repository and digest.
	Save(u Unfinished) error
	// Load finds it; ok is false when there is none.
	Load(host, repository string, d providers.Digest) (u Unfinished, ok bool)
	// Remove forgets it, if there is one.
	Remove(host, repository string, d providers.Digest)
}

// unfinishedLife is how long an entry is tried: registries drop sessions after
// a week at the latest.
const unfinishedLife = 6 * 24 * time.Hour
