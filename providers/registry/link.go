package registry

import "strings"

// nextLink is the target of the first link with rel="next" in the Link headers
// of an answer (RFC 8288); empty when there is none.
func nextLink(lines []string) string {
	for _, line := range lines {
		if len(line) > 64<<10 {
			continue
		}
		for {
			line = strings.TrimLeft(line, " \t,")
			if !strings.HasPrefix(line, "<") {
				break
			}
			target, rest, ok := strings.Cut(line[1:], ">")
			if !ok {
				break
			}
			next, rest := linkIsNext(rest)
			if next {
				return strings.TrimSpace(target)
			}
			line = rest
		}
	}
	return ""
}

// linkIsNext reads the parameters of one link and gives what follows them.
func linkIsNext(text string) (next bool, rest string) {
	s := scanner{rest: text}
	for {
		s.skip(" \t")
		if !strings.HasPrefix(s.rest, ";") {
			return next, s.rest
		}
		s.skip("; \t")
		name := s.token()
		s.skip(" \t")
		if !strings.HasPrefix(s.rest, "=") {
			if name == "" {
				return next, ""
			}
			continue
		}
		s.rest = s.rest[1:]
		s.skip(" \t")
		value, ok := "", true
		if strings.HasPrefix(s.rest, `"`) {
			s.rest = s.rest[1:]
			value, ok = s.quoted()
		} else {
			value = s.token()
		}
		if !ok {
			return next, ""
		}
		if strings.EqualFold(name, "rel") {
			for _, relation := range strings.Fields(value) {
				next = next || strings.EqualFold(relation, "next")
			}
		}
	}
}
