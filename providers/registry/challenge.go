package registry

import (
	"errors"
	"strings"
)

// challenge is one entry of a WWW-Authenticate header (RFC 9110, 11.6.1).
type challenge struct {
	scheme string            // lower case
	params map[string]string // by lower-case name; the first of a repeated name wins
}

// maxChallenges bounds what one answer can make us look at.
const maxChallenges = 16

// parseChallenges reads all challenges of all header lines, in order. What is
// not well formed ends its line: the challenges before it still count.
func parseChallenges(lines []string) []challenge {
	var all []challenge
	for _, line := range lines {
		if len(line) > 16<<10 {
			continue
		}
		s := scanner{rest: line}
		for len(all) < maxChallenges {
			s.skip(" \t,")
			scheme := s.token()
			if scheme == "" {
				break
			}
			c := challenge{scheme: strings.ToLower(scheme), params: map[string]string{}}
			ok := s.params(&c)
			all = append(all, c)
			if !ok {
				break
			}
		}
	}
	return all
}

// choose takes bearer before basic, the first of each.
func choose(challenges []challenge) (challenge, error) {
	var names []string
	for _, scheme := range []string{"bearer", "basic"} {
		for _, c := range challenges {
			if c.scheme == scheme && (scheme == "basic" || c.params["realm"] != "") {
				return c, nil
			}
		}
	}
	for _, c := range challenges {
		names = append(names, c.scheme)
	}
	if len(names) == 0 {
		return challenge{}, errors.New("it does not say how to authenticate")
	}
	return challenge{}, errors.New("it offers only " + strings.Join(names, ", ") + ", we know bearer and basic")
}

// scanner reads the words of a header.
type scanner struct{ rest string }

func (s *scanner) skip(chars string) { s.rest = strings.TrimLeft(s.rest, chars) }

// token reads an RFC 9110 token; empty when there is none.
func (s *scanner) token() string {
	n := 0
	for n < len(s.rest) && isTokenByte(s.rest[n]) {
		n++
	}
	word := s.rest[:n]
	s.rest = s.rest[n:]
	return word
}

// quoted reads a quoted string behind its opening quote.
func (s *scanner) quoted() (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			s.rest = s.rest[i+1:]
			return b.String(), true
		case c == '\\' && i+1 < len(s.rest):
			i++
			b.WriteByte(s.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// params reads name=value pairs until the next challenge begins or the line
// ends. It reports false when the line makes no sense from here on.
func (s *scanner) params(c *challenge) bool {
	for {
		s.skip(" \t,")
		before := s.rest
		name := s.token()
		if name == "" {
			return s.rest == ""
		}
		s.skip(" \t")
		if !strings.HasPrefix(s.rest, "=") {
			s.rest = before // the scheme of the next challenge
			return true
		}
		s.rest = s.rest[1:]
		s.skip(" \t")
		value, ok := "", true
		if strings.HasPrefix(s.rest, `"`) {
			s.rest = s.rest[1:]
			value, ok = s.quoted()
		} else {
			value = s.token()
			s.skip("=") // the padding of a token68
		}
		if !ok {
			return false
		}
		name = strings.ToLower(name)
		if _, repeated := c.params[name]; !repeated {
			c.params[name] = value
		}
	}
}

func isTokenByte(c byte) bool {
	return c > ' ' && c < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, rune(c))
}
