package gcp

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// History asks for the secret, for its aliases, for the list of versions, and
// whether there is one more.
func (s *Store) History(ctx context.Context, name string) ([]secret.Version, error) {
	const op = "list versions"
	sec, err := s.get(ctx, op, name)
	if err != nil {
		return nil, err
	}
	all, err := s.versions(ctx, op, name)
	if err != nil {
		return nil, err
	}
	var out []secret.Version
	for i, v := range all {
		entry := secret.Version{ID: strconv.FormatInt(v.number, 10), Created: v.created, Labels: aliases(sec, v.number)}
		switch {
		case v.state == pb.SecretVersion_DESTROYED:
			entry.State = secret.Destroyed
		case v.state == pb.SecretVersion_DISABLED:
			entry.State = secret.Disabled
		case i == 0:
			entry.State = secret.Current // "latest" is the newest one, whatever its state
		default:
			entry.State = secret.Previous
		}
		out = append(out, entry)
	}
	return out, nil
}

// versions are all versions of a secret, newest first. The list may lack the
// newest ones; they are asked for by number until there is none.
func (s *Store) versions(ctx context.Context, op, name string) ([]version, error) {
	var all []version
	full := s.secretName(name)
	for token := ""; ; {
		answer, err := read(ctx, s, listVersions, "parent", full, s.api.ListSecretVersions,
			&pb.ListSecretVersionsRequest{Parent: full, PageSize: page, PageToken: token})
		if err != nil {
			return nil, s.explain(ctx, op, name, listVersions, err)
		}
		for _, v := range answer.GetVersions() {
			n, err := numberOf(v.GetName(), name)
			if err != nil {
				return nil, s.explain(ctx, op, name, listVersions, err)
			}
			all = append(all, version{number: n, created: v.GetCreateTime().AsTime(), state: v.GetState(), etag: v.GetEtag()})
		}
		next := answer.GetNextPageToken()
		if next == "" {
			break
		}
		if next == token {
			return nil, s.fail(providers.Invalid, op, name, "", "the service gives the same page again and again")
		}
		token = next
	}
	listed := int64(0)
	for _, v := range all {
		listed = max(listed, v.number)
	}
	for n := listed + 1; ; n++ {
		v, err := s.version(ctx, name, strconv.FormatInt(n, 10))
		if status.Code(err) == codes.NotFound {
			break
		}
		if err != nil {
			return nil, s.explain(ctx, op, name, getVersion, err)
		}
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b version) int { return cmp.Compare(b.number, a.number) })
	return all, nil
}
