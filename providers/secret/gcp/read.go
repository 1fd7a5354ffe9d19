package gcp

import (
	"context"
	"strconv"
	"sync"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// readers is how many payloads are asked for at once.
const readers = 32

// Read makes one AccessSecretVersion for each ref, several at once.
func (s *Store) Read(ctx context.Context, refs []secret.Ref, got func(secret.Reading)) error {
	work := make(chan secret.Ref)
	var workers sync.WaitGroup
	var one sync.Mutex
	for range min(readers, len(refs)) {
		workers.Go(func() {
			for ref := range work {
				r := s.readOne(ctx, ref)
				one.Lock()
				got(r)
				one.Unlock()
			}
		})
	}
	for _, ref := range refs {
		work <- ref
	}
	close(work)
	workers.Wait()
	return s.explain(ctx, "read", "", accessVersion, ctx.Err())
}

func (s *Store) readOne(ctx context.Context, ref secret.Ref) secret.Reading {
	const op = "read"
	r := secret.Reading{Ref: ref}
	if r.Err = s.named(op, ref.Name); r.Err != nil {
		return r
	}
	id := "latest"
	if ref.Version != "" {
		n, err := strconv.ParseInt(ref.Version, 10, 64)
		if err != nil || n <= 0 || strconv.FormatInt(n, 10) != ref.Version {
			r.Err = s.fail(providers.Invalid, op, ref.Name, "", "versions are numbers")
			return r
		}
		id = ref.Version
	}
	value, number, err := s.access(ctx, ref.Name, id)
	if known := s.known(ref.Name); id == "latest" && known > 0 && (err == nil && number < known || status.Code(err) == codes.NotFound) {
		// Out of date, unless the secret was made anew or is gone.
		newer, n, errNewer := s.access(ctx, ref.Name, strconv.FormatInt(known, 10))
		if status.Code(errNewer) == codes.NotFound {
			s.forget(ref.Name)
		} else {
			value.Zero()
			value, number, err = newer, n, errNewer
		}
	}
	if err != nil {
		r.Err = s.unread(ctx, ref, id, err)
		return r
	}
	s.noted(ref.Name, number)
	r.Value = value
	r.Version = secret.Version{ID: strconv.FormatInt(number, 10), State: secret.Current}
	if number < s.known(ref.Name) {
		r.Version.State = secret.Previous
	}
	return r
}

// unread says why a payload could not be read, with what helps.
func (s *Store) unread(ctx context.Context, ref secret.Ref, id string, err error) error {
	const op = "read"
	switch status.Code(err) {
	case codes.NotFound:
		// Of the secret, or only of a version? Only the first is absence.
		sec, errSecret := s.get(ctx, op, ref.Name)
		if errSecret != nil {
			return errSecret
		}
		if d := deletionOf(sec); !d.final.IsZero() {
			return s.waits(op, ref.Name, d)
		}
		if ref.Version != "" {
			return s.fail(providers.Conflict, op, ref.Name, "", "the secret is there and has no version %s", ref.Version)
		}
		return s.fail(providers.Conflict, op, ref.Name, "", "the secret is there and has no value yet")
	case codes.FailedPrecondition:
		if about(status.Convert(err).Message(), "kms", "cryptokey") {
			break
		}
		return s.unusable(ctx, ref.Name, id)
	}
	return s.explain(ctx, op, ref.Name, accessVersion, err)
}

func (s *Store) waits(op, name string, d deletion) error {
	return s.fail(providers.Conflict, op, name, "Restore it, or delete it for ever.", "it waits for its deletion on %s and its versions are disabled", d.final.Format("2006-01-02"))
}

// unusable is about a version that is disabled or destroyed, and names the
// newest one that is not.
func (s *Store) unusable(ctx context.Context, name, id string) error {
	const op = "read"
	if sec, err := s.get(ctx, op, name); err == nil {
		if d := deletionOf(sec); !d.final.IsZero() {
			return s.waits(op, name, d)
		}
	}
	state, number := "disabled or destroyed", id
	if v, err := s.version(ctx, name, id); err == nil {
		number = strconv.FormatInt(v.number, 10)
		switch v.state {
		case pb.SecretVersion_DISABLED:
			state = "disabled"
		case pb.SecretVersion_DESTROYED:
			state = "destroyed"
		}
	}
	hint := "No version of it can be read."
	full := s.secretName(name)
	answer, err := read(ctx, s, listVersions, "parent", full, s.api.ListSecretVersions,
		&pb.ListSecretVersionsRequest{Parent: full, PageSize: 1, Filter: "state:ENABLED"})
	if err != nil {
		hint = ""
	} else if len(answer.GetVersions()) > 0 {
		if n, err := numberOf(answer.Versions[0].GetName(), name); err == nil {
			hint = "The newest version that can be read is " + strconv.FormatInt(n, 10) + "."
		}
	}
	if state == "disabled" {
		hint += " `gcloud secrets versions enable " + number + " --secret " + name + "` makes it readable."
	}
	return s.fail(providers.Conflict, op, name, hint, "version %s is %s", number, state)
}
