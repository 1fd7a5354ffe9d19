package gcp

import (
	"context"
	"errors"
	"math"
	"net/url"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"freightliner/providers"
)

// method is what we know of a call of the API.
type method struct {
	permission string // what it needs, below secretmanager.
	role       string // the smallest predefined role that has it, below roles/secretmanager.
	group      group
}

var (
	listSecrets    = method{"secrets.list", "viewer", readGroup}
	getSecret      = method{"secrets.get", "viewer", readGroup}
	createSecret   = method{"secrets.create", "admin", writeGroup}
	updateSecret   = method{"secrets.update", "admin", writeGroup}
	deleteSecret   = method{"secrets.delete", "admin", writeGroup}
	listVersions   = method{"versions.list", "viewer", readGroup}
	getVersion     = method{"versions.get", "viewer", readGroup}
	accessVersion  = method{"versions.access", "secretAccessor", accessGroup}
	addVersion     = method{"versions.add", "secretVersionAdder", writeGroup}
	disableVersion = method{"versions.disable", "secretVersionManager", writeGroup}
	enableVersion  = method{"versions.enable", "secretVersionManager", writeGroup}
)

// callPatience bounds one call that is not an add.
const callPatience = 60 * time.Second

// call is one attempt, without pacing. param and value name the resource for
// Google's routing, as the API's own clients do.
func call[Q, R any](ctx context.Context, s *Store, param, value string, limit time.Duration, f func(context.Context, Q, ...grpc.CallOption) (R, error), request Q) (R, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-goog-request-params", param+"="+url.QueryEscape(value))
	if s.options.QuotaProject != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "x-goog-user-project", s.options.QuotaProject)
	}
	return f(ctx, request)
}

// read makes a call that changes nothing, until it is answered, the context
// ends, or the patience does.
func read[Q, R any](ctx context.Context, s *Store, m method, param, value string, f func(context.Context, Q, ...grpc.CallOption) (R, error), request Q) (R, error) {
	p := s.patience()
	for {
		var none R
		if err := s.paces.take(ctx, m.group, "", bucket{}, 1); err != nil {
			return none, err
		}
		answer, err := call(ctx, s, param, value, callPatience, f, request)
		if err == nil {
			return answer, nil
		}
		if !again(ctx, err) {
			return none, err
		}
		if waited := p.wait(ctx, m, err); waited != nil {
			return none, waited
		}
	}
}

// again reports a failure after which the same call may succeed. What it did is
// not known then, unless it was throttled.
func again(ctx context.Context, err error) bool {
	var ours *providers.Error // judged already
	if ctx.Err() != nil || errors.As(err, &ours) {
		return false
	}
	switch status.Code(err) {
	case codes.ResourceExhausted, codes.Unavailable, codes.Internal, codes.Aborted, codes.Unknown, codes.DeadlineExceeded, codes.Canceled:
		return true
	}
	return false
}

// undone reports a failure that the service gave as its answer instead of doing
// what was asked. Anything else (a stream that broke, a gateway's word, our own
// deadline) leaves open whether it was done, or still will be.
func undone(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied, codes.Unauthenticated,
		codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented, codes.ResourceExhausted:
		return true
	}
	return false
}

// patience is how long one operation tries, and how long it pauses.
type patience struct {
	s       *Store
	until   time.Time
	attempt int
}

func (s *Store) patience() *patience {
	return &patience{s: s, until: s.options.Clock.Now().Add(s.options.Patience)}
}

// wait pauses after the failure err of a call; it gives err back when the
// patience is over, or the context's error when that ends.
func (p *patience) wait(ctx context.Context, m method, err error) error {
	if status.Code(err) == codes.ResourceExhausted {
		p.s.paces.throttled(m.group)
	}
	pause := p.s.backoff(p.attempt)
	p.attempt++
	pause = max(pause, retryAfter(err))
	if p.s.options.Clock.Now().Add(pause).After(p.until) {
		return err
	}
	return p.s.options.Clock.Wait(ctx, pause)
}

// backoff is between half of and all of 1 s, 2 s, 4 s … 32 s.
func (s *Store) backoff(attempt int) time.Duration {
	full := float64(time.Second) * math.Pow(2, float64(min(attempt, 5)))
	return time.Duration(full * (0.5 + 0.5*float64(s.options.Random()>>11)/(1<<53)))
}

// retryAfter is the pause that the service asks for.
func retryAfter(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return min(delay(info.GetRetryDelay()), time.Minute)
		}
	}
	return 0
}

func delay(d *durationpb.Duration) time.Duration {
	if d.CheckValid() != nil {
		return 0
	}
	return d.AsDuration()
}
