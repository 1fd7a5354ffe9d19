package aws

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// What the service allows (API reference of CreateSecret, and the quotas page of
// the user guide).
const (
	largestPayload     = 65536
	longestName        = 512
	longestDescription = 2048
	longestTagKey      = 128
	longestTagValue    = 256
	mostTags           = 50
	longestKey         = 2048
)

// Limits are the service's rules.
func (s *Store) Limits() secret.Limits {
	return secret.Limits{
		Payload: largestPayload, CheckName: checkName, CheckMetadata: s.checkMetadata,
		WriteEvery: 10 * time.Minute, Undelete: true,
	}
}

var (
	nameForm  = providers.Pattern(`^[A-Za-z0-9/_+=.@-]+$`)
	nameTail  = providers.Pattern(`-[A-Za-z0-9]{6}$`)
	tokenForm = providers.Pattern(`^[A-Za-z0-9-]{32,64}$`)
)

func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > longestName:
		return fmt.Errorf("the name has %d characters, AWS allows %d", len(name), longestName)
	case !nameForm().MatchString(name):
		return errors.New("AWS allows only letters, digits and /_+=.@- in a name")
	case nameTail().MatchString(name):
		return errors.New("the name ends in a hyphen and six characters, which AWS can not tell from the end of an ARN")
	}
	return nil
}

func (s *Store) checkMetadata(m secret.Metadata) error {
	if m.Description != nil && utf8.RuneCountInString(*m.Description) > longestDescription {
		return fmt.Errorf("the description has more than %d characters", longestDescription)
	}
	if m.KMSKey != nil && len(*m.KMSKey) > longestKey {
		return fmt.Errorf("the KMS key has more than %d characters", longestKey)
	}
	if n := len(m.Labels) + 2; n > mostTags {
		return fmt.Errorf("%d labels are too many: AWS keeps %d tags, two of them are freightliner's", len(m.Labels), mostTags)
	}
	for key, value := range m.Labels {
		if err := checkTag(key, value); err != nil {
			return fmt.Errorf("label %s: %w", providers.Printable(key, longestTagKey), err)
		}
	}
	if len(ownerTag(m.Owner)) > longestTagValue {
		return fmt.Errorf("the address of the block is longer than a tag of AWS can hold (%d characters)", longestTagValue)
	}
	seen := map[string]bool{}
	for _, r := range m.Replicas {
		switch {
		case !regionForm().MatchString(r.Region):
			return fmt.Errorf("replica: %q is no AWS region", providers.Printable(r.Region, 40))
		case r.Region == s.o.Region:
			return fmt.Errorf("replica: %s is the secret's own region", r.Region)
		case seen[r.Region]:
			return fmt.Errorf("replica: %s is named twice", r.Region)
		case len(r.KMSKey) > longestKey:
			return fmt.Errorf("replica %s: the KMS key has more than %d characters", r.Region, longestKey)
		}
		seen[r.Region] = true
	}
	return nil
}

func checkTag(key, value string) error {
	switch {
	case key == "" || utf8.RuneCountInString(key) > longestTagKey:
		return fmt.Errorf("AWS wants 1 to %d characters", longestTagKey)
	case utf8.RuneCountInString(value) > longestTagValue:
		return fmt.Errorf("its value has more than %d characters", longestTagValue)
	case strings.HasPrefix(strings.ToLower(key), "aws:"):
		return errors.New("AWS keeps names that begin with aws: for itself")
	case ours(key):
		return errors.New("freightliner itself sets this one")
	case strings.ContainsFunc(key+value, notInTag):
		return errors.New("AWS allows only letters, digits, spaces and + - = . _ : / @")
	}
	return nil
}

func notInTag(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != ' ' && !strings.ContainsRune("+-=._:/@", r)
}

// checkWrite refuses what the service would refuse, before anything is sent.
func (s *Store) checkWrite(op string, w secret.Write, value bool) error {
	bad := func(err error) error {
		return &providers.Error{Class: providers.Invalid, Op: op, On: s.on(w.Name), Err: err}
	}
	if err := checkName(w.Name); err != nil {
		return bad(err)
	}
	if !tokenForm().MatchString(w.Token) {
		return bad(errors.New("the token must be 32 to 64 letters, digits and hyphens"))
	}
	if w.Create != nil {
		if w.Expect != "" {
			return bad(errors.New("a secret that is to be made can have no current version"))
		}
		if err := s.checkMetadata(*w.Create); err != nil {
			return bad(err)
		}
	}
	if err := s.checkMetadata(secret.Metadata{Owner: w.Owner}); err != nil {
		return bad(err)
	}
	switch {
	case !value:
		return nil
	case !w.Value.Set():
		return bad(errors.New("there is no value"))
	case !w.Value.Longer(0):
		return bad(errors.New("AWS keeps no empty payload"))
	case w.Value.Longer(largestPayload):
		return bad(fmt.Errorf("the payload is larger than %d bytes, the most that AWS keeps", largestPayload))
	}
	return nil
}
