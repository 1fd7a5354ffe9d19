package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"freightliner/providers"
)

// attestedImage is the annotation by which BuildKit says whose attestation a
// child of an index is.
const attestedImage = "vnd.docker.reference.digest"

// Select narrows an index to the platforms in want. Children without a platform
// are kept, since nothing says that they are not wanted; attestations stay with
// their image and go with it. The result is always the same for the same input,
// and when nothing is left out it is index itself, byte for byte. A manifest
// that is no index is returned as it is.
//
// The error, of class Conflict, says which platforms there are when none
// matches: an empty index is never made.
func Select(index *Manifest, want []providers.Platform) (*Manifest, error) {
	if !index.IsIndex() || len(want) == 0 {
		return index, nil
	}
	keep, err := chosen(index, want)
	if err != nil {
		return nil, &providers.Error{Class: providers.Conflict, Op: "select platforms of", On: string(index.Digest), Err: err}
	}
	if len(keep) == len(index.Manifests) {
		return index, nil
	}
	raw, err := rewrite(index.Raw, keep)
	if err != nil {
		return nil, &providers.Error{Class: providers.Invalid, Op: "select platforms of", On: string(index.Digest), Err: err}
	}
	narrowed, err := parseManifest(raw, index.MediaType)
	if err != nil {
		return nil, &providers.Error{Class: providers.Invalid, Op: "select platforms of", On: string(index.Digest), Err: err}
	}
	return narrowed, nil
}

// chosen are the positions of the children to keep, ascending.
func chosen(index *Manifest, want []providers.Platform) ([]int, error) {
	kept, left := map[providers.Digest]bool{}, map[providers.Digest]bool{}
	var there []string
	matched := 0
	for _, child := range index.Manifests {
		if !hasPlatform(child) {
			continue
		}
		there = append(there, child.Platform.String())
		if slices.ContainsFunc(want, child.Platform.Matches) {
			kept[child.Digest] = true
			matched++
		} else {
			left[child.Digest] = true
		}
	}
	if matched == 0 {
		return nil, fmt.Errorf("no image for %s; there are %s", platforms(want), orNone(there))
	}
	var keep []int
	for i, child := range index.Manifests {
		subject := providers.Digest(child.Annotations[attestedImage])
		switch {
		case hasPlatform(child):
			if kept[child.Digest] {
				keep = append(keep, i)
			}
		case left[subject] && !kept[subject]: // the attestation of an image that goes
		default:
			keep = append(keep, i)
		}
	}
	return keep, nil
}

// hasPlatform is false for "unknown/unknown" too, which is how attestations are
// marked.
func hasPlatform(d providers.Descriptor) bool {
	return d.Platform != nil && d.Platform.OS != "" && d.Platform.OS != "unknown"
}

func platforms(list []providers.Platform) string {
	var names []string
	for _, p := range list {
		names = append(names, p.String())
	}
	return strings.Join(names, ", ")
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none with a platform"
	}
	slices.Sort(names)
	return providers.Printable(strings.Join(slices.Compact(names), ", "), 400)
}

// rewrite keeps the members of an index in their order and, of "manifests", the
// elements at the positions keep; nothing inside an element changes.
func rewrite(raw []byte, keep []int) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	var out bytes.Buffer
	out.WriteByte('{')
	for first := true; d.More(); first = false {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		if key == "manifests" {
			var children, kept []json.RawMessage
			if err := json.Unmarshal(value, &children); err != nil {
				return nil, err
			}
			for _, i := range keep {
				kept = append(kept, children[i])
			}
			value = append(append([]byte{'['}, bytes.Join(raws(kept), []byte{','})...), ']')
		}
		if !first {
			out.WriteByte(',')
		}
		name, err := json.Marshal(key)
		if err != nil {
			return nil, err
		}
		out.Write(name)
		out.WriteByte(':')
		if err := json.Compact(&out, value); err != nil {
			return nil, err
		}
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

func raws(messages []json.RawMessage) [][]byte {
	list := make([][]byte, len(messages))
	for i, m := range messages {
		list[i] = m
	}
	return list
}
