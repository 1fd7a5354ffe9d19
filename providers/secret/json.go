package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
)

// errJSON says nothing of the payload: the texts of encoding/json quote it.
var errJSON = errors.New("the payload is not a JSON object")

// canonicalJSON is a payload that is a JSON object with sorted keys and
// without white space, at any depth. Numbers keep their digits.
func (v Value) canonicalJSON() (Value, error) {
	var object map[string]any
	ok := false
	v.Use(func(b []byte) {
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if d.Decode(&object) != nil || object == nil {
			return
		}
		_, err := d.Token()
		ok = err == io.EOF
	})
	if !ok {
		return Value{}, errJSON
	}
	return encodeJSON(object)
}

func encodeJSON(v any) (Value, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return Value{}, errJSON
	}
	return NewValue(bytes.TrimSuffix(b.Bytes(), []byte{'\n'})), nil
}

// object is the payload's top-level members, as they are written.
func (v Value) object() (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	bad := true
	v.Use(func(b []byte) { bad = json.Unmarshal(b, &members) != nil || members == nil })
	if bad {
		return nil, errJSON
	}
	return members, nil
}

// JSONKeys are the names of a JSON object's members, sorted. The error never
// quotes the payload.
func JSONKeys(v Value) ([]string, error) {
	members, err := v.object()
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(members)), nil
}

// MergeJSON is current, a JSON object, with ours' members set and those named
// by drop removed; a member in both is set. Members of current that nobody
// names keep their bytes. An unset or empty current counts as {}.
func MergeJSON(current, ours Value, drop []string) (Value, error) {
	merged := map[string]json.RawMessage{}
	empty := true
	current.Use(func(b []byte) { empty = len(bytes.TrimSpace(b)) == 0 })
	if !empty {
		members, err := current.object()
		if err != nil {
			return Value{}, err
		}
		merged = members
	}
	set, err := ours.object()
	if err != nil {
		return Value{}, err
	}
	for _, name := range drop {
		delete(merged, name)
	}
	maps.Copy(merged, set)
	return encodeJSON(merged)
}

// TextJSON is one member of a JSON object that is a text.
func TextJSON(v Value, key string) (Value, error) {
	members, err := v.object()
	if err != nil {
		return Value{}, err
	}
	var text *string
	if json.Unmarshal(members[key], &text) != nil || text == nil {
		return Value{}, errors.New("the key holds no text")
	}
	return NewValue([]byte(*text)), nil
}

// MemberJSON is one member of a JSON object: the text of a string, the JSON of
// anything else. The error never quotes the payload.
func MemberJSON(v Value, key string) (Value, error) {
	members, err := v.object()
	if err != nil {
		return Value{}, err
	}
	raw, found := members[key]
	if !found {
		return Value{}, errors.New("the secret has no such key")
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return NewValue([]byte(text)), nil
	}
	return NewValue(bytes.Clone(raw)), nil
}
