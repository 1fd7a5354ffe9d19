package awsfake

// Call is a request as it arrives.
type Call struct {
	N         int    // the first one is 1
	Operation string // "PutSecretValue", "GetCallerIdentity"
	Secret    string // empty when it names none, or several
	Token     string // ClientRequestToken
}

// Fault is what goes wrong with a call. The zero Fault is nothing.
type Fault struct {
	Kind Kind
	// Until holds the call back until it is closed.
	Until <-chan struct{}
	// Later is for [Twice]: the second delivery comes after that many more calls.
	Later int
}

// Kind is a kind of fault.
type Kind int

const (
	None        Kind = iota
	Cut              // the connection breaks before anything happens
	Lost             // the effect happens, the connection breaks before the answer
	Timeout          // nothing happens, and nobody answers
	LostTimeout      // the effect happens, and nobody answers
	Twice            // the request is delivered two times; the second answer is given
	Unavailable      // HTTP 503 before anything happens
	Broken           // the effect happens, the answer is HTTP 500
	Throttle         // ThrottlingException
	Garbled          // the effect happens, the answer can not be decoded
	Proxied          // a proxy answers HTTP 403 with a page of its own, nothing happens
	Echo             // nothing happens, and the refusal quotes all that was sent
	Moved            // HTTP 307 to another host
)

// effect reports whether the request is carried out.
func (k Kind) effect() bool {
	switch k {
	case None, Lost, LostTimeout, Twice, Broken, Garbled:
		return true
	}
	return false
}

// timeout is the error of an answer that never comes.
type timeout struct{}

func (timeout) Error() string   { return "awsfake: no answer" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

// delayed is a request that will be delivered once more.
type delayed struct {
	after int // calls
	again func()
}
