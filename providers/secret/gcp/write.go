package gcp

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// change is one intended change on its way.
type change struct {
	secret.Write
	op     string
	expect int64 // 0: no version
	exists bool  // the secret is known to be there
	until  time.Time
}

// change checks what can be checked without asking anybody.
func (s *Store) change(op string, w secret.Write) (*change, error) {
	if err := s.named(op, w.Name); err != nil {
		return nil, err
	}
	invalid := func(format string, args ...any) error {
		return s.fail(providers.Invalid, op, w.Name, "", format, args...)
	}
	if !goodToken(w.Token) {
		return nil, invalid("a token has 32 to 64 letters, digits and -")
	}
	if w.Create != nil && w.Expect != "" {
		return nil, invalid("a secret that is made can not be expected to have a version")
	}
	if w.Create != nil {
		if err := s.checkMetadata(*w.Create); err != nil {
			return nil, invalid("%w", err)
		}
	}
	expect, err := s.expected(op, w.Name, w.Expect)
	return &change{Write: w, op: op, expect: expect}, err
}

// expected is the number of an expected version; 0 for none.
func (s *Store) expected(op, name, expect string) (int64, error) {
	if expect == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(expect, 10, 64)
	if err != nil || n <= 0 || strconv.FormatInt(n, 10) != expect {
		return 0, s.fail(providers.Conflict, op, name, "Plan again.", "the expected version %s is none of this store", providers.Printable(fmt.Sprintf("%q", expect), 80))
	}
	return n, nil
}

func goodToken(token string) bool {
	for _, r := range token {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-') {
			return false
		}
	}
	return 32 <= len(token) && len(token) <= 64
}

// Write claims and adds, as the picture of the package says. After a failure
// whose effect is not known it looks again until the add's time is over, which
// takes up to half a minute, and only then adds once more.
//
// A foreign version that comes between the look and the add is seen by the
// number: Write answers Conflict, and both versions stay, ours being the newest
// since the service has no other order.
func (s *Store) Write(ctx context.Context, w secret.Write) (secret.Version, error) {
	const op = "write"
	c, err := s.change(op, w)
	if err != nil {
		return secret.Version{}, err
	}
	empty := true
	w.Value.Use(func(b []byte) { empty = len(b) == 0 })
	if empty {
		return secret.Version{}, s.fail(providers.Invalid, op, w.Name, "", "the service keeps no empty payload")
	}
	if w.Value.Longer(payloadLimit) {
		return secret.Version{}, s.fail(providers.Invalid, op, w.Name, "", "the payload is over the limit of %d bytes", payloadLimit)
	}
	leave, err := s.locks.take(ctx, w.Name)
	if err != nil {
		return secret.Version{}, s.explain(ctx, op, w.Name, addVersion, err)
	}
	defer leave()
	p := s.patience()
	for {
		if v, made, err := s.claim(ctx, c, p); made || err != nil {
			return v, err
		}
		added, err := s.add(ctx, c)
		if err == nil {
			return s.finish(ctx, c, added)
		}
		if !again(ctx, err) {
			return secret.Version{}, s.explain(ctx, op, w.Name, addVersion, err)
		}
		if waited := p.wait(ctx, addVersion, err); waited != nil {
			return secret.Version{}, s.explain(ctx, op, w.Name, addVersion, waited)
		}
	}
}

// claim makes the secret, or its annotation, say that we are at work; c.until is
// set then. made is true when an earlier attempt has made the version.
func (s *Store) claim(ctx context.Context, c *change, p *patience) (v secret.Version, made bool, err error) {
	for {
		m := updateSecret
		if c.Create != nil && !c.exists {
			m = createSecret
			if err = s.create(ctx, c); err == nil {
				return v, false, nil
			}
			if status.Code(err) == codes.AlreadyExists {
				// Perhaps by ourselves, when an answer was lost: the claim tells.
				c.exists = true
				continue
			}
		} else if v, made, err = s.reclaim(ctx, c); made || err == nil {
			return v, made, err
		} else if providers.ClassOf(err) == providers.NotFound {
			if c.Create == nil {
				return v, false, s.fail(providers.Conflict, c.op, c.Name, "Plan again.", "there is no such secret")
			}
			c.exists = false // it was deleted just now
		} else if !moved(err) && !again(ctx, err) {
			return v, false, s.explain(ctx, c.op, c.Name, m, err)
		}
		if m == createSecret && !again(ctx, err) {
			return v, false, s.explain(ctx, c.op, c.Name, m, err)
		}
		if waited := p.wait(ctx, m, err); waited != nil {
			return v, false, s.explain(ctx, c.op, c.Name, m, waited)
		}
	}
}

// create is CreateSecret with the claim in it. The error is the call's own.
func (s *Store) create(ctx context.Context, c *change) error {
	sec := s.fresh(*c.Create)
	own(sec, c.Owner)
	// The secret's pace is asked for the add as well, so that nothing waits
	// between claim and add.
	if err := s.paces.ofSecret(ctx, c.Name, 2); err != nil {
		return err
	}
	sec.Annotations[annWrite] = s.claimNow(c).String()
	request := &pb.CreateSecretRequest{Parent: s.parent, SecretId: c.Name, Secret: sec}
	_, err := call(ctx, s, "parent", s.parent, callPatience, s.api.CreateSecret, request)
	if err == nil {
		s.forget(c.Name) // numbers begin at 1
	}
	return err
}

// claimNow is our claim as of now.
func (s *Store) claimNow(c *change) claim {
	// Whole seconds, rounded down: what is written must not promise more.
	c.until = s.options.Clock.Now().Add(addPatience).Truncate(time.Second)
	return claim{token: c.Token, expect: c.expect, until: c.until, run: s.run}
}

// reclaim puts our claim on a secret that exists, if nothing has been written
// since the expected version and nobody else can be at it. The error of the
// update is the call's own.
func (s *Store) reclaim(ctx context.Context, c *change) (v secret.Version, made bool, err error) {
	sec, err := s.get(ctx, c.op, c.Name)
	if err != nil {
		return v, false, err
	}
	if d := deletionOf(sec); !d.final.IsZero() {
		return v, false, s.fail(providers.Conflict, c.op, c.Name, "Restore it first, or delete it for ever.", "it waits for its deletion on %s", d.final.Format(time.DateOnly))
	}
	before := claimOf(sec)
	if before.token == c.Token && before.expect == c.expect {
		v, made, err = s.await(ctx, c, before, sec)
		if made || err != nil {
			return v, made, err
		}
	} else {
		if err := s.current(ctx, c.op, c.Name, c.expect); err != nil {
			return v, false, err
		}
		// Nothing is newer. A claim on the same expected version may still
		// be followed by its add.
		if before.token != "" && before.expect == c.expect && !before.over(s.options.Clock.Now()) {
			return v, false, s.fail(providers.Conflict, c.op, c.Name, "Wait for the other run, then plan again.", "another run is writing it just now")
		}
	}
	return v, false, s.mark(ctx, c, sec)
}

// mark writes our claim under the etag that sec was read with. The error is the
// call's own.
func (s *Store) mark(ctx context.Context, c *change, sec *pb.Secret) error {
	if err := s.paces.ofSecret(ctx, c.Name, 2); err != nil {
		return err
	}
	mine := proto.CloneOf(sec)
	if mine.Labels == nil {
		mine.Labels = map[string]string{}
	}
	if mine.Annotations == nil {
		mine.Annotations = map[string]string{}
	}
	own(mine, c.Owner)
	mine.Annotations[annWrite] = s.claimNow(c).String()
	_, err := s.update(ctx, mine, c.Name, changed(sec, mine))
	return err
}

// await finds out whether an earlier attempt under our claim made the version.
// When an add may still arrive it looks until it can not.
func (s *Store) await(ctx context.Context, c *change, before claim, sec *pb.Secret) (secret.Version, bool, error) {
	for attempt := 0; ; attempt++ {
		now := s.options.Clock.Now() // before the look: what is absent then was too late
		v, made, err := s.found(ctx, c, before, true, sec)
		if made || err != nil {
			return v, made, err
		}
		if before.over(now) || before.run == s.run && !s.flying(c.Token) {
			return v, false, nil
		}
		pause := min(s.backoff(attempt)/4, before.until.Add(landing+time.Second).Sub(now))
		if err := s.options.Clock.Wait(ctx, pause); err != nil {
			return v, false, s.explain(ctx, c.op, c.Name, accessVersion, err)
		}
	}
}

// found looks at what stands after the expected version. made is true when ours
// is there; it is Conflict when only others' are.
func (s *Store) found(ctx context.Context, c *change, before claim, mine bool, sec *pb.Secret) (secret.Version, bool, error) {
	seen, err := s.look(ctx, c.op, c.Name, c.expect)
	if err != nil {
		return secret.Version{}, false, err
	}
	defer blind(seen)
	if len(seen) == 0 {
		return secret.Version{}, false, nil
	}
	number, surplus, err := ours(seen, c.Value, before, mine)
	if err != nil {
		return secret.Version{}, false, s.fail(providers.Conflict, c.op, c.Name, "Compare the versions by hand, then plan again.", "%w", err)
	}
	if number == 0 {
		return secret.Version{}, false, s.foreign(c, seen[0].number)
	}
	if err := s.retire(ctx, c, surplus, number, sec); err != nil {
		return secret.Version{}, false, err
	}
	v := secret.Version{ID: strconv.FormatInt(number, 10), State: secret.Current, Labels: aliases(sec, number)}
	if number < seen[len(seen)-1].number {
		v.State = secret.Previous
	}
	return v, true, nil
}

// errForeign is inside the conflict with versions that are not ours.
var errForeign = errors.New("not ours")

func (s *Store) foreign(c *change, number int64) error {
	return s.fail(providers.Conflict, c.op, c.Name, "Plan again: somebody else wrote it.", "version %d is newer than the expected %d, and %w", number, c.expect, errForeign)
}

// add is AddSecretVersion, once. The error is the call's own; unless [undone]
// says so, the add may still arrive.
func (s *Store) add(ctx context.Context, c *change) (version, error) {
	left := c.until.Sub(s.options.Clock.Now())
	if left <= 0 {
		// The claim is over before its add began: claim again.
		return version{}, status.Error(codes.Aborted, "the claim is over")
	}
	s.fly(c.Token, true)
	var answer *pb.SecretVersion
	var err error
	full := s.secretName(c.Name)
	c.Value.Use(func(b []byte) {
		sum := checksum(b)
		request := &pb.AddSecretVersionRequest{Parent: full, Payload: &pb.SecretPayload{Data: b, DataCrc32C: &sum}}
		answer, err = call(ctx, s, "parent", full, left, s.api.AddSecretVersion, request)
	})
	if err != nil {
		if undone(err) {
			s.fly(c.Token, false)
		}
		return version{}, withheld(err, c.Value)
	}
	s.fly(c.Token, false)
	number, err := numberOf(answer.GetName(), c.Name)
	if err != nil {
		return version{}, err
	}
	s.noted(c.Name, number)
	return version{number: number, created: answer.GetCreateTime().AsTime(), state: answer.GetState()}, nil
}

// fly remembers whether an add of this token may still arrive.
func (s *Store) fly(token string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.airborne[token] = true
	} else {
		delete(s.airborne, token)
	}
}

func (s *Store) flying(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.airborne[token]
}

// finish judges the number that an add was given.
func (s *Store) finish(ctx context.Context, c *change, added version) (secret.Version, error) {
	if added.number <= c.expect {
		return secret.Version{}, s.fail(providers.Conflict, c.op, c.Name, "Plan again.", "it was deleted and made anew while we wrote: ours is version %d of the new one", added.number)
	}
	if added.number == c.expect+1 {
		v := secret.Version{ID: strconv.FormatInt(added.number, 10), Created: added.created, State: secret.Current}
		// Was the add delivered twice? Not being able to tell is no failure of
		// the write: the next one, or a look after a crash, sees it too.
		twin, there, err := s.lookAt(ctx, c.op, c.Name, added.number+1)
		defer twin.value.Zero()
		if err != nil || !there {
			return v, nil
		}
		if !twin.value.Set() || !twin.value.Equal(c.Value) {
			v.State = secret.Previous // somebody wrote right after us
			return v, nil
		}
	}
	// Versions stand beside ours: deliveries of the same add, or others'.
	sec, err := s.get(ctx, c.op, c.Name)
	if err != nil {
		return secret.Version{}, err
	}
	seen, err := s.look(ctx, c.op, c.Name, c.expect)
	if err != nil {
		return secret.Version{}, err
	}
	defer blind(seen)
	number := added.number
	var surplus []int64
	for _, v := range seen {
		switch {
		case v.value.Set() && v.value.Equal(c.Value):
			number = max(number, v.number)
			surplus = append(surplus, v.number)
		case v.number < added.number:
			return secret.Version{}, s.fail(providers.Conflict, c.op, c.Name, "Plan again. Both versions are kept.", "somebody else wrote version %d while we wrote: ours is version %d and newer", v.number, added.number)
		}
	}
	if err := s.retire(ctx, c, surplus, number, sec); err != nil {
		return secret.Version{}, err
	}
	v := secret.Version{ID: strconv.FormatInt(number, 10), State: secret.Current, Labels: aliases(sec, number)}
	if len(seen) > 0 && seen[len(seen)-1].number > number {
		v.State = secret.Previous
	}
	return v, nil
}

// retire disables surplus deliveries of one add, except kept, and except what an
// alias points to.
func (s *Store) retire(ctx context.Context, c *change, surplus []int64, kept int64, sec *pb.Secret) error {
	for _, n := range surplus {
		if n == kept || len(aliases(sec, n)) > 0 {
			continue
		}
		v, err := s.version(ctx, c.Name, strconv.FormatInt(n, 10))
		if err != nil {
			return s.explain(ctx, c.op, c.Name, getVersion, err)
		}
		if err := s.turn(ctx, c.op, c.Name, v, pb.SecretVersion_DISABLED); err != nil {
			return err
		}
		s.options.Notice(fmt.Sprintf("%s: one write was delivered twice; version %d holds the same payload as %d and was disabled", s.on(c.Name), n, kept))
	}
	return nil
}
