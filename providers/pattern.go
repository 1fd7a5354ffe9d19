package providers

import (
	"regexp"
	"sync"
)

// Pattern is a regular expression that is compiled when it is first asked for: the
// program has dozens, of which a run uses few, and compiling them all took 5 ms of
// every start. expr must be valid: it panics otherwise, like [regexp.MustCompile],
// at that moment.
func Pattern(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
