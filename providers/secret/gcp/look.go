package gcp

import (
	"context"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// ahead is how many versions after the expected one are looked at: an add is the
// first of them, unless others came in the same second.
const ahead = 16

// sight is a version that stands after the expected one.
type sight struct {
	number  int64
	created time.Time // only when the payload could not be read
	value   secret.Value
}

// look gathers the versions after number after, by number, since only that is
// strongly consistent. Whoever calls it zeroes the values.
func (s *Store) look(ctx context.Context, op, name string, after int64) ([]sight, error) {
	var seen []sight
	for n := after + 1; n <= after+ahead; n++ {
		found, there, err := s.lookAt(ctx, op, name, n)
		if err != nil {
			blind(seen)
			return nil, err
		}
		if !there {
			return seen, nil
		}
		seen = append(seen, found)
	}
	return seen, nil
}

// lookAt looks at one version.
func (s *Store) lookAt(ctx context.Context, op, name string, n int64) (sight, bool, error) {
	value, _, err := s.access(ctx, name, strconv.FormatInt(n, 10))
	switch {
	case err == nil:
		s.noted(name, n)
		return sight{number: n, value: value}, true, nil
	case status.Code(err) == codes.NotFound:
		return sight{}, false, nil
	case status.Code(err) != codes.PermissionDenied && status.Code(err) != codes.FailedPrecondition:
		return sight{}, false, s.explain(ctx, op, name, accessVersion, err)
	}
	// Disabled, or we may not read payloads: then its metadata tells.
	v, err := s.version(ctx, name, strconv.FormatInt(n, 10))
	if status.Code(err) == codes.NotFound {
		return sight{}, false, nil
	}
	if err != nil {
		return sight{}, false, s.explain(ctx, op, name, getVersion, err)
	}
	return sight{number: n, created: v.created}, true, nil
}

// blind zeroes what was seen.
func blind(seen []sight) {
	for _, v := range seen {
		v.value.Zero()
	}
}

// ours picks from what stands after the expected version what a write made:
//
//   - what equals its value; of several the newest is it, and the others are
//     surplus: deliveries of the same add. Disabling them loses nothing, for the
//     payload stays readable under the newest, and a disabled version can be
//     enabled again
//   - without a value, or without the right to read, only a claim of ours speaks
//     for it: then it is the one version that has come to be while the claim
//     held, or the newest of several that are equal. Unequal ones: nobody can tell
func ours(seen []sight, value secret.Value, c claim, mine bool) (made int64, surplus []int64, err error) {
	var equal, unread []sight
	for _, v := range seen {
		switch {
		case !v.value.Set():
			unread = append(unread, v)
		case !value.Set() || v.value.Equal(value):
			equal = append(equal, v)
		}
	}
	if !value.Set() {
		if !mine {
			return 0, nil, nil
		}
		for _, v := range equal {
			if !v.value.Equal(equal[0].value) {
				return 0, nil, fmt.Errorf("versions %d and %d were both written in its time, and without the value nobody can tell which is ours", equal[0].number, v.number)
			}
		}
	}
	if len(equal) > 0 {
		for _, v := range equal[:len(equal)-1] {
			surplus = append(surplus, v.number)
		}
		return equal[len(equal)-1].number, surplus, nil
	}
	unread = slices.DeleteFunc(unread, func(v sight) bool { return !mine || !c.covers(v.created) })
	switch len(unread) {
	case 0:
		return 0, nil, nil
	case 1:
		return unread[0].number, nil, nil
	}
	return 0, nil, fmt.Errorf("%d versions were written in its time, and none of them can be read to tell which is ours", len(unread))
}

// access is AccessSecretVersion with its checksum verified. The error is the
// call's own.
func (s *Store) access(ctx context.Context, name, id string) (secret.Value, int64, error) {
	full := s.versionName(name, id)
	answer, err := read(ctx, s, accessVersion, "name", full, s.api.AccessSecretVersion, &pb.AccessSecretVersionRequest{Name: full})
	if err != nil {
		return secret.Value{}, 0, err
	}
	data := answer.GetPayload().GetData()
	number, err := numberOf(answer.GetName(), name)
	// An emulator may leave the checksum out; the service never does.
	if err == nil && answer.GetPayload().DataCrc32C != nil && answer.GetPayload().GetDataCrc32C() != checksum(data) {
		err = status.Error(codes.DataLoss, "the payload does not match its checksum")
	}
	if err != nil {
		clear(data)
		return secret.Value{}, 0, err
	}
	return secret.NewValue(data), number, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum goes over the wire beside the payload and nowhere else: it has no
// key, so a payload can be guessed from it.
func checksum(b []byte) int64 { return int64(crc32.Checksum(b, castagnoli)) }

// version is GetSecretVersion. The error is the call's own.
func (s *Store) version(ctx context.Context, name, id string) (version, error) {
	full := s.versionName(name, id)
	v, err := read(ctx, s, getVersion, "name", full, s.api.GetSecretVersion, &pb.GetSecretVersionRequest{Name: full})
	if err != nil {
		return version{}, err
	}
	number, err := numberOf(v.GetName(), name)
	if err != nil {
		return version{}, err
	}
	s.noted(name, number)
	return version{number: number, created: v.GetCreateTime().AsTime(), state: v.GetState(), etag: v.GetEtag()}, nil
}

// numberOf is the number in the name of a version of this secret. Answers name
// the project by its number, not by its id.
func numberOf(full, name string) (int64, error) {
	part := strings.Split(full, "/")
	if len(part) >= 4 && part[len(part)-2] == "versions" && part[len(part)-3] == name {
		if n, err := strconv.ParseInt(part[len(part)-1], 10, 64); err == nil && n > 0 {
			return n, nil
		}
	}
	return 0, status.Error(codes.DataLoss, "the answer is about another version than the one that was asked for")
}

// noted remembers the highest number of a secret.
func (s *Store) noted(name string, number int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest[name] = max(s.newest[name], number)
}

func (s *Store) known(name string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest[name]
}

func (s *Store) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.newest, name)
}

// latest is the newest version: what the service takes for it, unless this
// process has seen a newer one.
func (s *Store) latest(ctx context.Context, op, name string) (version, error) {
	v, err := s.version(ctx, name, "latest")
	if known := s.known(name); err == nil && v.number < known || status.Code(err) == codes.NotFound && known > 0 {
		// Numbers begin again when somebody made the secret anew: then the one
		// that we know is not there, and the service is right.
		newer, errNewer := s.version(ctx, name, strconv.FormatInt(known, 10))
		if status.Code(errNewer) == codes.NotFound {
			s.forget(name)
		} else {
			v, err = newer, errNewer
		}
	}
	return v, s.explain(ctx, op, name, getVersion, err)
}

// current tells whether number expect is the newest version; 0 means that there
// is none.
func (s *Store) current(ctx context.Context, op, name string, expect int64) error {
	if expect > 0 {
		if _, err := s.version(ctx, name, strconv.FormatInt(expect, 10)); status.Code(err) == codes.NotFound {
			return s.fail(providers.Conflict, op, name, "Plan again: the secret may have been deleted and made anew.", "version %d is not there", expect)
		} else if err != nil {
			return s.explain(ctx, op, name, getVersion, err)
		}
	}
	v, there, err := s.lookAt(ctx, op, name, expect+1)
	v.value.Zero()
	switch {
	case err != nil:
		return err
	case there && expect == 0:
		return s.fail(providers.Conflict, op, name, "Plan again.", "it has a version already")
	case there:
		return s.fail(providers.Conflict, op, name, "Plan again: somebody else wrote it.", "version %d is newer than the expected %d", expect+1, expect)
	}
	return nil
}
