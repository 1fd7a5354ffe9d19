package main

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"freightliner/planner"
	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/statefile"
)

// covers reports whether address is top or lies below it, by whole segments.
func covers(top, address string) bool {
	rest, ok := strings.CutPrefix(address, top)
	return ok && (rest == "" || strings.ContainsRune("/:@[", rune(rest[0])) || strings.HasSuffix(top, "/"))
}

// stateAddress is an address taken apart, as far as mv has to know it.
type stateAddress struct {
	text  string
	block string         // tree.platform["eu"]
	kind  statefile.Kind // of the block
	keyed bool           // the block is an instance
	rest  string         // behind the block; empty for the block itself

	path   string // of a repository, or the beginning of several
	tag    string
	digest string // the subject
}

var blockPattern = providers.Pattern(`^(tree|image)\.[\p{L}_][\p{L}\p{N}_-]*(\[(".*")\])?$`)

// parseAddress reads an address that a state could hold.
func parseAddress(text string) (stateAddress, error) {
	a := stateAddress{text: text, block: planner.BlockOf(text)}
	a.rest = text[len(a.block):]
	m := blockPattern().FindStringSubmatch(a.block)
	if m == nil || providers.Printable(text, 1<<20) != text {
		return a, fmt.Errorf("%s is not an address: want tree.NAME or image.NAME, and what is below", quoted(text))
	}
	a.kind, a.keyed = statefile.Kind(m[1]), m[2] != ""
	if key, err := strconv.Unquote(m[3]); a.keyed && (err != nil || key == "" || fmt.Sprintf("%q", key) != m[3]) {
		return a, fmt.Errorf("%s is not an address: the key is not written as in [\"key\"]", quoted(text))
	}
	if a.rest == "" {
		return a, nil
	}
	return a, a.parseRest()
}

func (a *stateAddress) parseRest() error {
	rest, digest, isSubject := strings.Cut(a.rest, "@")
	a.digest = digest
	if isSubject {
		if _, err := providers.ParseDigest(digest); err != nil {
			return fmt.Errorf("%s is not an address: %w", quoted(a.text), err)
		}
	}
	if a.kind == statefile.KindImage {
		if rest != "" {
			return fmt.Errorf("%s is not an address: an image has no repositories below it", quoted(a.text))
		}
		return nil
	}
	rest, ok := strings.CutPrefix(rest, "/")
	if !ok {
		return fmt.Errorf("%s is not an address: want a path behind %s", quoted(a.text), quoted(a.block+"/"))
	}
	var isTag bool
	if a.path, a.tag, isTag = strings.Cut(rest, ":"); isTag {
		if err := registry.CheckTag(a.tag); err != nil {
			return fmt.Errorf("%s is not an address: %w", quoted(a.text), err)
		}
	}
	if a.path != "" {
		if err := registry.CheckRepository(a.path); err != nil {
			return fmt.Errorf("%s is not an address: %w", quoted(a.text), err)
		}
	}
	return nil
}

// shape is what kind of thing an address names.
func (a *stateAddress) shape() string {
	switch {
	case a.rest == "" && a.kind == statefile.KindImage:
		return "an image block"
	case a.rest == "":
		return "a tree block"
	case a.digest != "":
		return "a subject"
	case a.tag != "":
		return "a tag"
	}
	return "a repository"
}

// where names what an address below a tree block speaks of, given the block's
// destination.
func (a *stateAddress) where(destination string) string {
	name := path.Join(destination, a.path)
	switch {
	case a.tag != "":
		name += ":" + a.tag
	case a.digest != "":
		name += "@" + a.digest
	}
	return name
}
