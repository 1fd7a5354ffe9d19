package gcp

import (
	"context"
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

// window is how long a deletion can be taken back when nothing is said.
const window = 30 * 24 * time.Hour

// deletion is the annotation of a secret that waits for its deletion:
//
//	freightliner-deletion: <date, RFC 3339> <versions that were disabled before>
//
// The service can not take a deletion back, so a soft one disables all versions
// and leaves the secret. Nothing happens by itself at the date: a later Delete
// makes it final, after another look at what stands there. (An expire_time would
// delete by itself, and with it whatever somebody writes in the meantime.)
type deletion struct {
	final time.Time // zero: none
	kept  spans     // not ours to enable again
}

func deletionOf(sec *pb.Secret) deletion {
	date, kept, _ := strings.Cut(sec.GetAnnotations()[annDeletion], " ")
	final, err := time.Parse(time.RFC3339, date)
	if err != nil {
		return deletion{}
	}
	return deletion{final: final, kept: spansOf(kept)}
}

func (d deletion) String() string {
	return strings.TrimSpace(d.final.UTC().Format(time.RFC3339) + " " + d.kept.String())
}

// spans are numbers as "1-3,7". They are read from an annotation that anybody
// may have written, so they are never spelled out.
type spans [][2]int64

func (s spans) contains(n int64) bool {
	return slices.ContainsFunc(s, func(span [2]int64) bool { return span[0] <= n && n <= span[1] })
}

// with adds a number that is above all others.
func (s spans) with(n int64) spans {
	if last := len(s) - 1; last >= 0 && s[last][1] == n-1 {
		s[last][1] = n
		return s
	}
	return append(s, [2]int64{n, n})
}

func (s spans) String() string {
	var part []string
	for _, span := range s {
		text := strconv.FormatInt(span[0], 10)
		if span[1] > span[0] {
			text += "-" + strconv.FormatInt(span[1], 10)
		}
		part = append(part, text)
	}
	return strings.Join(part, ",")
}

// spansOf reads what String wrote; what it can not read is left out.
func spansOf(text string) (out spans) {
	for part := range strings.SplitSeq(text, ",") {
		first, last, found := strings.Cut(part, "-")
		if !found {
			last = first
		}
		a, err := strconv.ParseInt(first, 10, 64)
		b, errLast := strconv.ParseInt(last, 10, 64)
		if err == nil && errLast == nil && 0 < a && a <= b {
			out = append(out, [2]int64{a, b})
		}
	}
	return out
}

// Delete first makes sure that the version which the caller has seen is the
// newest. With Force, or when an earlier deletion's date is over, the secret is
// deleted for ever, under its etag; otherwise it is marked, and then all its
// versions are disabled. Deleting again what waits finishes what was left half
// done and keeps the date.
func (s *Store) Delete(ctx context.Context, name string, d secret.Deletion) (secret.Deleted, error) {
	const op = "delete"
	if err := s.named(op, name); err != nil {
		return secret.Deleted{}, err
	}
	expect, err := s.expected(op, name, d.Expect)
	if err != nil {
		return secret.Deleted{}, err
	}
	leave, err := s.locks.take(ctx, name)
	if err != nil {
		return secret.Deleted{}, s.explain(ctx, op, name, deleteSecret, err)
	}
	defer leave()
	sec, err := s.get(ctx, op, name)
	if err != nil {
		return secret.Deleted{}, err
	}
	if err := s.current(ctx, op, name, expect); err != nil {
		return secret.Deleted{}, err
	}
	before := claimOf(sec)
	if before.token != "" && before.expect == expect && !before.over(s.options.Clock.Now()) {
		return secret.Deleted{}, s.fail(providers.Conflict, op, name, "Wait for the other run, then plan again.", "another run is writing it just now")
	}
	waiting := deletionOf(sec)
	if d.Force || !waiting.final.IsZero() && !s.options.Clock.Now().Before(waiting.final) {
		return secret.Deleted{}, s.destroy(ctx, op, name, sec)
	}
	if waiting.final.IsZero() {
		if waiting, err = s.doom(ctx, op, name, sec, d.Window); err != nil {
			return secret.Deleted{}, err
		}
	}
	all, err := s.versions(ctx, op, name)
	if err != nil {
		return secret.Deleted{}, err
	}
	for _, v := range all {
		if err := s.turn(ctx, op, name, v, pb.SecretVersion_DISABLED); err != nil {
			return secret.Deleted{}, err
		}
	}
	return secret.Deleted{Final: waiting.final}, nil
}

// doom writes the annotation, before anything is disabled: a deletion that stops
// half way is seen, and can be finished or taken back.
func (s *Store) doom(ctx context.Context, op, name string, first *pb.Secret, span time.Duration) (deletion, error) {
	if span <= 0 {
		span = window
	}
	all, err := s.versions(ctx, op, name)
	if err != nil {
		return deletion{}, err
	}
	d := deletion{final: s.options.Clock.Now().Add(span).UTC().Truncate(time.Second)}
	for _, v := range slices.Backward(all) {
		if v.state == pb.SecretVersion_DISABLED {
			d.kept = d.kept.with(v.number)
		}
	}
	err = s.patch(ctx, op, name, func(sec *pb.Secret) ([]string, error) {
		if there := deletionOf(sec); !there.final.IsZero() {
			d = there // by us, when an answer was lost, or by somebody else
			return nil, nil
		}
		if etag(sec) != etag(first) || claimOf(sec) != claimOf(first) {
			return nil, s.fail(providers.Conflict, op, name, "Plan again.", "it was changed while it was to be deleted")
		}
		if sec.Annotations == nil {
			sec.Annotations = map[string]string{}
		}
		sec.Annotations[annDeletion] = d.String()
		return []string{"annotations"}, nil
	})
	return d, err
}

// destroy is DeleteSecret. It is told the etag that was read before the newest
// version was compared: when somebody claimed or changed the secret since, the
// service refuses. Only a foreign version that was added without a claim in
// these milliseconds would go with it.
func (s *Store) destroy(ctx context.Context, op, name string, sec *pb.Secret) error {
	p := s.patience()
	for {
		if err := s.paces.ofSecret(ctx, name, 1); err != nil {
			return s.explain(ctx, op, name, deleteSecret, err)
		}
		full := s.secretName(name)
		_, err := call(ctx, s, "name", full, callPatience, s.api.DeleteSecret, &pb.DeleteSecretRequest{Name: full, Etag: sec.GetEtag()})
		if err == nil || status.Code(err) == codes.NotFound { // it was there a moment ago
			s.forget(name)
			return nil
		}
		if !again(ctx, err) {
			return s.explain(ctx, op, name, deleteSecret, err)
		}
		if waited := p.wait(ctx, deleteSecret, err); waited != nil {
			return s.explain(ctx, op, name, deleteSecret, waited)
		}
	}
}

// turn makes a version enabled or disabled, under its etag: a call that was
// given up and arrives later finds another etag, and can not undo what was done
// since. A version that is destroyed or gone stays so.
func (s *Store) turn(ctx context.Context, op, name string, v version, to pb.SecretVersion_State) error {
	p := s.patience()
	full := s.versionName(name, strconv.FormatInt(v.number, 10))
	m := enableVersion
	if to == pb.SecretVersion_DISABLED {
		m = disableVersion
	}
	for {
		if v.state == to || v.state == pb.SecretVersion_DESTROYED {
			return nil
		}
		if err := s.paces.ofVersion(ctx, full); err != nil {
			return s.explain(ctx, op, name, m, err)
		}
		var err error
		if to == pb.SecretVersion_DISABLED {
			_, err = call(ctx, s, "name", full, callPatience, s.api.DisableSecretVersion, &pb.DisableSecretVersionRequest{Name: full, Etag: v.etag})
		} else {
			_, err = call(ctx, s, "name", full, callPatience, s.api.EnableSecretVersion, &pb.EnableSecretVersionRequest{Name: full, Etag: v.etag})
		}
		if err == nil || status.Code(err) == codes.NotFound {
			return nil
		}
		if status.Code(err) != codes.FailedPrecondition && !again(ctx, err) {
			return s.explain(ctx, op, name, m, err)
		}
		if waited := p.wait(ctx, m, err); waited != nil {
			return s.explain(ctx, op, name, m, waited)
		}
		number := v.number
		if v, err = s.version(ctx, name, strconv.FormatInt(number, 10)); status.Code(err) == codes.NotFound {
			return nil
		} else if err != nil {
			return s.explain(ctx, op, name, getVersion, err)
		}
	}
}

// Restore enables the versions that the deletion has disabled, and takes the
// mark away last: one that stops half way can be done again.
func (s *Store) Restore(ctx context.Context, name string) error {
	const op = "restore"
	if err := s.named(op, name); err != nil {
		return err
	}
	leave, err := s.locks.take(ctx, name)
	if err != nil {
		return s.explain(ctx, op, name, enableVersion, err)
	}
	defer leave()
	sec, err := s.get(ctx, op, name)
	if err != nil {
		return err
	}
	d := deletionOf(sec)
	if d.final.IsZero() {
		return nil
	}
	all, err := s.versions(ctx, op, name)
	if err != nil {
		return err
	}
	for _, v := range all {
		if d.kept.contains(v.number) {
			continue
		}
		if err := s.turn(ctx, op, name, v, pb.SecretVersion_ENABLED); err != nil {
			return err
		}
	}
	return s.patch(ctx, op, name, func(sec *pb.Secret) ([]string, error) {
		if _, there := sec.GetAnnotations()[annDeletion]; !there {
			return nil, nil
		}
		delete(sec.Annotations, annDeletion)
		return []string{"annotations"}, nil
	})
}
