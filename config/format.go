package config

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Format gives src in the canonical layout, as `freightliner fmt` writes it:
// indentation and spaces only, never a token. A file with a syntax error is
// returned unchanged together with its mistakes, and so is JSON (by the name's
// .json ending), since its layout belongs to whatever wrote it.
func Format(src []byte, filename string) ([]byte, Diagnostics) {
	if strings.HasSuffix(filename, ".json") {
		return src, nil
	}
	found := newFindings()
	found.sources[filename] = src
	if len(src) > maxFile {
		found.errorAt(hcl.Range{Filename: filename}, "file is too large", fileTooLarge, "")
		return src, found.sorted()
	}
	if _, refusal := guardNative(src, filename, hcl.InitialPos, hclsyntax.LexConfig); refusal != nil {
		found.errorAt(refusal.at, guardSummary, refusal.detail, "")
		return src, found.sorted()
	}
	file, diags := hclsyntax.ParseConfig(src, filename, hcl.InitialPos)
	if diags.HasErrors() {
		found.syntax(file, diags)
		return src, found.sorted()
	}
	return hclwrite.Format(src), nil
}
