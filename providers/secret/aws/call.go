package aws

import (
	"context"
	"time"

	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"freightliner/providers"
)

const (
	tryTimeout   = 30 * time.Second // of one try
	patience     = time.Minute      // of one call with all its tries
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 5 * time.Second
)

// question is a call in words.
type question struct {
	op, name string // "write secret", "prod/db"
	action   string // PutSecretValue
	payload  bool   // it carries one: nothing of the answer's text is shown
	tries    *int   // counts the tries, where somebody wants to know
}

// call puts a question until it is answered, refused for good, or the patience
// is over. That is right only because every call of this package may be repeated
// after an answer was lost: reads and metadata say the same again, values and new
// secrets carry their token, and moves of labels, deletions and replicas fail the
// second time in a way that their callers look into.
func call[In, Out any](ctx context.Context, s *Store, q question, in *In, ask func(context.Context, *In, ...func(*sm.Options)) (*Out, error)) (*Out, error) {
	budget := s.pace[q.action]
	end := s.o.Clock.Now().Add(patience)
	for pause := backoffFirst; ; pause = min(2*pause, backoffMost) {
		if err := s.wait(ctx, q, budget.take(s.o.Clock.Now())); err != nil {
			return nil, err
		}
		if q.tries != nil {
			*q.tries++
		}
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		out, err := ask(try, in)
		cancel()
		if err == nil {
			return out, nil
		}
		err = s.judge(ctx, q, err)
		class := providers.ClassOf(err)
		if class == providers.Throttled {
			budget.slower(s.o.Clock.Now())
		}
		pause := pause/2 + time.Duration(s.random()*float64(pause/2))
		if !class.Retryable() || s.o.Clock.Now().Add(pause).After(end) {
			return nil, err
		}
		if err := s.wait(ctx, q, pause); err != nil {
			return nil, err
		}
	}
}

func (s *Store) wait(ctx context.Context, q question, d time.Duration) error {
	err := ctx.Err()
	if err == nil && d > 0 {
		err = s.o.Clock.Wait(ctx, d)
	}
	if err != nil {
		return &providers.Error{Class: providers.Canceled, Op: q.op, On: s.on(q.name), Err: err}
	}
	return nil
}

// looks is how often something that lags is looked at before it is believed,
// with pauses that double: 3.1 s in all.
const looks = 6

// settled repeats look until it is done, pausing in between; an error ends it.
// It returns false when look was never done.
func (s *Store) settled(ctx context.Context, q question, look func() (done bool, err error)) (bool, error) {
	pause := 100 * time.Millisecond
	for n := 1; ; n++ {
		done, err := look()
		if done || err != nil || n == looks {
			return done, err
		}
		if err := s.wait(ctx, q, pause); err != nil {
			return false, err
		}
		pause *= 2
	}
}
