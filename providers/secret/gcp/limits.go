package gcp

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"freightliner/providers"
	"freightliner/providers/secret"
)

const (
	payloadLimit     = 64 << 10
	labelsLimit      = 64
	labelBytes       = 128
	annotationsLimit = 16 << 10
	// annotationsOurs is what our own annotations may need besides description
	// and address: claim and deletion.
	annotationsOurs = 5 << 10
)

// Limits are the service's (https://cloud.google.com/secret-manager/quotas and
// the API's description of Secret).
func (s *Store) Limits() secret.Limits {
	return secret.Limits{
		Payload:       payloadLimit,
		CheckName:     checkName,
		CheckMetadata: s.checkMetadata,
		Undelete:      true,
	}
}

func checkName(name string) error {
	if name == "" {
		return errors.New("a secret's name is not empty")
	}
	if len(name) > 255 {
		return errors.New("a secret's name has at most 255 characters")
	}
	if i := strings.IndexFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_')
	}); i >= 0 {
		r, _ := utf8.DecodeRuneInString(name[i:])
		return fmt.Errorf("a secret's name has letters, digits, - and _ only, not %s", providers.Printable(fmt.Sprintf("%q", r), 20))
	}
	return nil
}

func (s *Store) checkMetadata(m secret.Metadata) error {
	if len(m.Labels) > labelsLimit-1 {
		return fmt.Errorf("a secret has at most %d labels, one of them is freightliner's own", labelsLimit)
	}
	for k, v := range m.Labels {
		if k == labelManaged {
			return fmt.Errorf("the label %s is freightliner's own", labelManaged)
		}
		first, _ := utf8.DecodeRuneInString(k)
		if !unicode.In(first, unicode.Ll, unicode.Lo) || !labelText(k) {
			return fmt.Errorf("the label %s: a key has 1 to 63 lower-case letters, digits, - and _, and begins with a letter", providers.Printable(fmt.Sprintf("%q", k), 100))
		}
		if !labelText(v) {
			return fmt.Errorf("the label %s: a value has at most 63 lower-case letters, digits, - and _", k)
		}
	}
	size := len(annAddress) + len(m.Owner)
	if m.Description != nil {
		size += len(annDescription) + len(*m.Description)
		if !utf8.ValidString(*m.Description) {
			return errors.New("the description is not UTF-8")
		}
	}
	if size > annotationsLimit-annotationsOurs {
		return fmt.Errorf("description and address are kept as annotations and have at most %d bytes together", annotationsLimit-annotationsOurs)
	}
	return s.checkKeys(m)
}

func (s *Store) checkKeys(m secret.Metadata) error {
	if m.KMSKey != nil && *m.KMSKey != "" {
		if len(m.Replicas) > 0 {
			return errors.New("kms_key is for secrets without replicas; give each replica its own")
		}
		if !kmsKey(*m.KMSKey) {
			return errors.New("kms_key: " + strings.TrimSuffix(kmsForm, "."))
		}
	}
	if len(m.Replicas) > 0 && s.options.Location != "" {
		return fmt.Errorf("secrets of the location %s stay there: no replicas", s.options.Location)
	}
	seen, keys := map[string]bool{}, 0
	for _, r := range m.Replicas {
		if !segment(r.Region) {
			return fmt.Errorf("%q is no region", providers.Printable(r.Region, 80))
		}
		if seen[r.Region] {
			return fmt.Errorf("the region %s is named twice", r.Region)
		}
		seen[r.Region] = true
		if r.KMSKey != "" {
			keys++
			if !kmsKey(r.KMSKey) {
				return errors.New("kms_key of the replica in " + r.Region + ": " + kmsForm)
			}
			if location := strings.Split(r.KMSKey, "/")[3]; location != r.Region {
				return fmt.Errorf("the replica in %s has a KMS key of %s; it must be of the same region", r.Region, location)
			}
		}
	}
	if keys != 0 && keys != len(m.Replicas) {
		return errors.New("either all replicas have a KMS key or none has")
	}
	return nil
}

func labelText(s string) bool {
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > 63 || len(s) > labelBytes {
		return false
	}
	for _, r := range s {
		if !unicode.In(r, unicode.Ll, unicode.Lo, unicode.N) && r != '_' && r != '-' {
			return false
		}
	}
	return true
}

const kmsForm = "A KMS key is projects/P/locations/L/keyRings/R/cryptoKeys/K."

var kmsPattern = providers.Pattern(`^projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+/cryptoKeys/[^/\s]+$`)

func kmsKey(s string) bool { return len(s) < 500 && kmsPattern().MatchString(s) }
