package gcp

import (
	"context"
	"iter"
	"strings"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// page is how many entries one answer of a list may have; the service allows
// 25,000, which would not keep below answerCap.
const page = 1000

// List walks the pages of ListSecrets, a call for a thousand secrets. The list
// does not tell versions: Info.VersionUnknown is set.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[secret.Info, error] {
	const op = "list"
	return func(yield func(secret.Info, error) bool) {
		filter := ""
		if prefix != "" && checkName(prefix) == nil {
			filter = "name:" + prefix // a part of the name, anywhere
		}
		for token := ""; ; {
			answer, err := read(ctx, s, listSecrets, "parent", s.parent, s.api.ListSecrets,
				&pb.ListSecretsRequest{Parent: s.parent, PageSize: page, PageToken: token, Filter: filter})
			if err != nil {
				if status.Code(err) == codes.NotFound { // the project; says nothing about a secret
					err = s.fail(providers.Invalid, op, "", "Check project and location.", "%s is not found", s.parent)
				}
				yield(secret.Info{}, s.explain(ctx, op, "", listSecrets, err))
				return
			}
			for _, sec := range answer.GetSecrets() {
				name := sec.GetName()[strings.LastIndexByte(sec.GetName(), '/')+1:]
				if checkName(name) != nil || !strings.HasPrefix(name, prefix) {
					continue
				}
				info := s.info(sec, name)
				info.VersionUnknown = true
				if !yield(info, nil) {
					return
				}
			}
			next := answer.GetNextPageToken()
			if next == "" {
				return
			}
			if next == token {
				yield(secret.Info{}, s.fail(providers.Invalid, op, "", "", "the service gives the same page again and again"))
				return
			}
			token = next
		}
	}
}
