package aws

import (
	"context"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"golang.org/x/sync/errgroup"

	"freightliner/providers"
	"freightliner/providers/secret"
)

const (
	batchSize   = 20 // the most that BatchGetSecretValue takes
	batchesOnce = 8
	singlesOnce = 16
)

// Read gets current payloads by BatchGetSecretValue, 20 a call, and single and
// named versions by GetSecretValue. What a batch does not give is asked for
// singly, so that one refusal spoils nothing; where the batch call itself is
// refused, all are.
func (s *Store) Read(ctx context.Context, refs []secret.Ref, got func(secret.Reading)) error {
	var one sync.Mutex
	give := func(r secret.Reading) {
		one.Lock()
		defer one.Unlock()
		if ctx.Err() != nil {
			r.Value.Zero()
			return
		}
		got(r)
	}
	var names []string // of current payloads, each once
	wanted := map[string][]secret.Ref{}
	var singles []secret.Ref
	for _, ref := range refs {
		switch {
		case !nameForm().MatchString(ref.Name):
			give(secret.Reading{Ref: ref, Err: s.fail(providers.Invalid, "read secret", ref.Name, "no name that AWS allows", "")})
		case ref.Version != "":
			singles = append(singles, ref)
		default:
			if wanted[ref.Name] == nil {
				names = append(names, ref.Name)
			}
			wanted[ref.Name] = append(wanted[ref.Name], ref)
		}
	}
	left := names
	if len(names) > 1 && !s.noBatch.Load() {
		left = s.readBatches(ctx, names, wanted, give)
	}
	var group errgroup.Group
	group.SetLimit(singlesOnce)
	for _, name := range left {
		group.Go(func() error {
			s.hand(s.readOne(ctx, wanted[name][0]), wanted[name], give)
			return nil
		})
	}
	for _, ref := range singles {
		group.Go(func() error {
			give(s.readOne(ctx, ref))
			return nil
		})
	}
	_ = group.Wait() // its functions give no error: every failure is a reading's
	if err := ctx.Err(); err != nil {
		return s.wait(ctx, question{op: "read secrets"}, 0)
	}
	return nil
}

// hand gives a reading to everybody who asked for it.
func (s *Store) hand(r secret.Reading, refs []secret.Ref, give func(secret.Reading)) {
	for _, ref := range refs[1:] {
		copied := r
		copied.Ref, copied.Value = ref, r.Value.Clone()
		give(copied)
	}
	give(r)
}

// readBatches gives what batches give, and returns the names that are left.
func (s *Store) readBatches(ctx context.Context, names []string, wanted map[string][]secret.Ref, give func(secret.Reading)) []string {
	var mu sync.Mutex
	var left []string
	var group errgroup.Group
	group.SetLimit(batchesOnce)
	for batch := range slices.Chunk(names, batchSize) {
		group.Go(func() error {
			given := map[string]bool{}
			if !s.noBatch.Load() {
				q := question{op: "read secrets", action: "BatchGetSecretValue"}
				out, err := call(ctx, s, q, &sm.BatchGetSecretValueInput{SecretIdList: batch}, s.client.BatchGetSecretValue)
				if providers.ClassOf(err) == providers.Denied {
					s.noBatch.Store(true)
				}
				if err == nil {
					for _, e := range out.SecretValues {
						name := aws.ToString(e.Name)
						if refs := wanted[name]; refs != nil && !given[name] && slices.Contains(batch, name) {
							given[name] = true
							r := secret.Reading{Ref: refs[0], Version: version(aws.ToString(e.VersionId), e.CreatedDate, e.VersionStages)}
							r.Value, r.Err = s.value(name, e.SecretString, e.SecretBinary)
							s.hand(r, refs, give)
						}
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for _, name := range batch {
				if !given[name] {
					left = append(left, name)
				}
			}
			return nil
		})
	}
	_ = group.Wait() // its functions give no error
	return left
}

func (s *Store) readOne(ctx context.Context, ref secret.Ref) secret.Reading {
	q := question{op: "read secret", name: ref.Name, action: "GetSecretValue"}
	in := &sm.GetSecretValueInput{SecretId: &ref.Name}
	if ref.Version == "" {
		in.VersionStage = aws.String(current)
	} else {
		in.VersionId = &ref.Version
	}
	out, err := call(ctx, s, q, in, s.client.GetSecretValue)
	if err != nil {
		if is(err, deletion) {
			err = s.pending(q.op, ref.Name, s.deletionDate(ctx, ref.Name))
		}
		return secret.Reading{Ref: ref, Err: err}
	}
	r := secret.Reading{Ref: ref, Version: version(aws.ToString(out.VersionId), out.CreatedDate, out.VersionStages)}
	r.Value, r.Err = s.value(ref.Name, out.SecretString, out.SecretBinary)
	return r
}

// value takes a payload over from an answer. The bytes of a binary one are the
// answer's own, and zeroed with the Value; the text of a string can not be.
func (s *Store) value(name string, text *string, binary []byte) (secret.Value, error) {
	switch {
	case text != nil:
		return secret.NewValue([]byte(*text)), nil
	case binary != nil:
		return secret.NewValue(binary), nil
	}
	return secret.Value{}, s.fail(providers.Invalid, "read secret", name, "the answer has no payload", "")
}

// payload is a value as the service takes it: text where it is text, since that
// is what readers of secrets look at, bytes otherwise. clean ends the copy that
// can be ended.
func payload(v secret.Value) (text *string, binary []byte, clean func()) {
	v.Use(func(b []byte) {
		if utf8.Valid(b) {
			t := string(b)
			text = &t
		} else {
			binary = slices.Clone(b)
		}
	})
	return text, binary, func() { clear(binary) }
}
