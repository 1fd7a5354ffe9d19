package statefile_test

import (
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/providers"
	. "freightliner/statefile"
	"freightliner/statefile/statefiletest"
)

// example is the code block behind a marker in docs/state-format.md.
func example(t *testing.T, page, marker string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, "<!-- "+marker+" -->\n```\n")
	block, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatalf("docs/state-format.md has no block %q", marker)
	}
	return block
}

// TestTheDocumentedExample: the page's example is a state, its checksums are
// those that the page's rules give, and what the page says about it is so.
func TestTheDocumentedExample(t *testing.T) {
	text, err := os.ReadFile("../docs/state-format.md")
	check(t, "read the page", err)
	page := string(text)
	first, compacted := example(t, page, "example"), example(t, page, "compacted")
	for _, block := range []string{first, compacted} {
		if diff := cmp.Diff(block, reseal(block)); diff != "" {
			t.Errorf("the page's rules give other checksums (-page +rules):\n%s", diff)
		}
	}
	d := statefiletest.New()
	d.Put(file, []byte(first), 0o600)
	s := mustRead(t, d)
	run, interrupted := s.Interrupted()
	if s.Len() != 3 || !interrupted || run.Run != "42" || len(s.Intents()) != 0 || s.Torn() != 0 {
		t.Errorf("%d records, run %v %v, intents %v, torn %d", s.Len(), run, interrupted, s.Intents(), s.Torn())
	}
	l := mustLock(t, d)
	_, err = Compact(t.Context(), l, file, testOptions())
	check(t, "compact", err)
	if diff := cmp.Diff(compacted, string(d.Bytes(file))); diff != "" {
		t.Errorf("compaction (-page +ours):\n%s", diff)
	}
	crc := crc32.MakeTable(crc32.Castagnoli)
	for _, said := range []string{
		string(s.ID()),
		fmt.Sprintf("`%08x` in the third line", crc32.Checksum([]byte("tree.web"), crc)),
		fmt.Sprintf("`%08x` in the end line", crc32.Checksum([]byte("tree.web/:1.0"), crc)),
		fmt.Sprintf("The CRC-32C of `123456789`\n  is `%08x`", crc32.Checksum([]byte("123456789"), crc)),
		fmt.Sprintf("`%08x…` is the SHA-256 of the first five lines", sum4(first[:strings.Index(first, `{"j"`)])),
		fmt.Sprintf("%d bytes, through the first done line", strings.Index(first, `{"j":"intent"`)),
	} {
		if !strings.Contains(page, said) {
			t.Errorf("the page does not say %q", said)
		}
	}
	for class := providers.Unknown; class <= providers.Canceled; class++ {
		if !strings.Contains(page, "`"+class.String()+"`") {
			t.Errorf("the page does not name the class %v", class)
		}
	}
}

func sum4(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:4]
}
