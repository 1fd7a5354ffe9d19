package gcpfake

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Call is one call as a script sees it, before anything happens.
type Call struct {
	Method   string // "AddSecretVersion"
	Resource string // the name or parent in the request
	N        int    // how many calls there were, this one included
	Of       int    // how many of this method
}

// Fault is what happens to a call. The zero Fault is nothing.
type Fault struct {
	Kind Kind
	// Code and Message are the answer of Refuse, Lost and Late; by default
	// UNAVAILABLE, and DEADLINE_EXCEEDED for Late.
	Code    codes.Code
	Message string
	// Delay is after how long the effect of Late happens.
	Delay time.Duration
	// Gate holds the call back until it is closed; then the fault goes on.
	Gate <-chan struct{}
	// Arrived is closed by the call once it stands at the gate. May be nil.
	Arrived chan<- struct{}
	// Request and Answer may change what arrives and what goes back. May be nil.
	Request func(request any)
	Answer  func(answer any)
	// Cut breaks all connections in place of an answer.
	Cut bool
	// After is called when the effect has happened, or would have. May be nil.
	After func()
}

// Kind is a kind of fault.
type Kind int

const (
	None        Kind = iota
	Refuse           // no effect, and an error
	Lost             // the effect, and an error for an answer
	Late             // an error now, and the effect after Delay
	Twice            // executed twice, answered by the first
	TwiceSecond      // executed twice, answered by the second
)

// late is an effect that has not happened yet.
type late struct {
	at  time.Time
	run func()
}

// broken does a call under a fault.
func (s *Server) broken(ctx context.Context, f Fault, request any, handle func(context.Context, any) (any, error)) (any, error) {
	if f.Arrived != nil {
		close(f.Arrived)
	}
	if f.Gate != nil {
		<-f.Gate // whether the caller still waits or not: the request is here
	}
	if f.Request != nil {
		f.Request(request)
	}
	code := f.Code
	if code == codes.OK {
		code = codes.Unavailable
		if f.Kind == Late {
			code = codes.DeadlineExceeded
		}
	}
	message := f.Message
	if message == "" {
		message = "the connection was lost"
	}
	failure := status.Error(code, message)
	var answer any
	var err error
	switch f.Kind {
	case Refuse:
		answer, err = nil, failure
	case Lost:
		_, _ = handle(context.WithoutCancel(ctx), request)
		answer, err = nil, failure
	case Late:
		again := proto.Clone(request.(proto.Message))
		s.mu.Lock()
		s.late = append(s.late, late{at: s.clock.Now().Add(f.Delay), run: func() { _, _ = handle(context.Background(), again) }})
		s.mu.Unlock()
		answer, err = nil, failure
	case Twice:
		answer, err = handle(ctx, request)
		_, _ = handle(ctx, request)
	case TwiceSecond:
		_, _ = handle(ctx, request)
		answer, err = handle(ctx, request)
	default:
		answer, err = handle(ctx, request)
	}
	if f.After != nil {
		f.After()
	}
	if f.Answer != nil && err == nil {
		f.Answer(answer)
	}
	if f.Cut {
		s.cut()
	}
	return answer, err
}

// Land lets all effects that are still to come happen, in their order.
func (s *Server) Land() { s.due(s.clock.Now().Add(1000 * time.Hour)) }

// due lets the effects happen whose time has come.
func (s *Server) due(now time.Time) {
	for {
		s.mu.Lock()
		first := -1
		for i, l := range s.late {
			if !l.at.After(now) && (first < 0 || l.at.Before(s.late[first].at)) {
				first = i
			}
		}
		if first < 0 {
			s.mu.Unlock()
			return
		}
		l := s.late[first]
		s.late = append(s.late[:first], s.late[first+1:]...)
		s.mu.Unlock()
		l.run()
	}
}
