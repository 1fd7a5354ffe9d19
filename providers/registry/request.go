package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"freightliner/providers"
)

// call is one request to a registry.
type call struct {
	op, on   string // for messages: "read manifest", "ghcr.io/acme/api:1.2"
	method   string
	endpoint string // for counters: "manifest"
	url      *url.URL
	scopes   []string // rights it needs, as token scopes
	header   http.Header
	body     []byte              // sent anew on each try; nil for none
	stream   io.Reader           // sent once; such a call is never repeated here
	length   int64               // of stream
	ok       []int               // statuses that are an answer
	foreign  bool                // url is on another, allowed host: nothing of ours goes along
	bulk     bool                // blob data
	held     bool                // the caller holds a slot of the gate already
	redact   func(string) string // takes further secrets out of what is answered; nil for none
	// settle runs each time that nothing is left to wait for but the answer, and may
	// still change url; an error of it is that of the call. nil for nothing.
	settle func() error
}

const (
	maxTries     = 4
	maxRedirects = 5
	backoffFirst = 500 * time.Millisecond
	backoffMost  = 15 * time.Second
	// patience is the longest pause within a call. A registry that asks for more
	// gets its action postponed, and the caller is told until when.
	patience = time.Minute
)

// ErrDown is wrapped by every error of a host whose breaker is open: it could
// not be reached several times in a row and costs no further waiting. Its class
// is not retryable for that reason. A later call, after a pause, probes whether
// the host is back.
var ErrDown = errors.New("the registry could not be reached and counts as down until it answers again")

// ErrFull is wrapped by every error about a quota that is used up: nothing more
// can be written to the same repository until somebody makes room.
var ErrFull = errors.New("a quota of the registry is used up")

// exchange sends c, lets read take the answer, and tries both again while the
// class of the failure says that it may help.
func (r *remote) exchange(ctx context.Context, c *call, read func(*http.Response) error) error {
	return r.again(ctx, func() error {
		resp, err := r.open(ctx, c)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if err := read(resp); err != nil {
			return r.failure(ctx, c, err)
		}
		return nil
	})
}

// again repeats try by class: at most maxTries, with exponential backoff and
// full jitter, never before the moment the registry asked for, and within the
// registry's retry budget.
func (r *remote) again(ctx context.Context, try func() error) error {
	return persist(ctx, func() (*remote, bool, error) { return r, false, try() })
}

// persist is again for work between two registries: try says which of them
// failed, and whether it came further than before, which makes it the first
// failure of a new row.
func persist(ctx context.Context, try func() (blame *remote, further bool, err error)) error {
	for n := 1; ; n++ {
		r, further, err := try()
		var over *spent
		if errors.As(err, &over) {
			return over.error
		}
		if further {
			n = 1
		}
		if err == nil || n == maxTries || !providers.ClassOf(err).Retryable() {
			return err
		}
		wait := r.backoff(n, err)
		if wait > patience {
			return err
		}
		if !r.budget.spend() {
			r.client.log.Debug("no retry: a tenth of the requests were retries already", "registry", r.settings.Host, "error", err.Error())
			return err
		}
		r.client.log.Debug("trying again", "error", err.Error(), "in", wait)
		if err := r.client.clock.Wait(ctx, wait); err != nil {
			return err
		}
		r.counters.retry()
	}
}

// spent marks an error that was tried often enough, for a loop around the loop.
type spent struct{ error }

func (s *spent) Unwrap() error { return s.error }

// backoff is the pause after the n-th failed try.
func (r *remote) backoff(n int, err error) time.Duration {
	jitter := seconds(r.client.random() * min(backoffMost, backoffFirst<<(n-1)).Seconds())
	var e *providers.Error
	if errors.As(err, &e) && e.After > 0 {
		return e.After + jitter/4
	}
	return jitter
}

// open sends c once, credentials and redirects included, and gives an answer
// whose status is wanted. Closing its body gives the slot back.
func (r *remote) open(ctx context.Context, c *call) (*http.Response, error) {
	probe, down := r.health.admit(r.client.clock.Now())
	if down != nil {
		// The same words for whatever was wanted, so that who tells people can say it once.
		return nil, &providers.Error{Class: providers.Unknown, Op: "reach", On: r.settings.Host, Err: fmt.Errorf("%w: %w", ErrDown, down),
			Hint: "Run again when " + r.settings.Host + " is back; what is done is not repeated."}
	}
	if probe {
		defer r.health.probed()
	}
	leave, err := r.enter(ctx, c)
	if err != nil {
		return nil, err
	}
	started := r.client.clock.Now()
	resp, err := r.authorized(ctx, c)
	if err != nil {
		leave()
		return nil, r.failure(ctx, c, err)
	}
	r.adapt(c, resp, started)
	resp.Body = &leaving{ReadCloser: resp.Body, leave: leave}
	if slices.Contains(c.ok, resp.StatusCode) {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, r.unwanted(c, resp)
}

// adapt fits what runs at once to what the answer says about load. The answers
// of other hosts, behind a redirect, say nothing about this one.
func (r *remote) adapt(c *call, resp *http.Response, started time.Time) {
	if !r.home(resp) {
		return
	}
	a := actionOf(c)
	switch {
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusServiceUnavailable:
		r.gate.congested(a, started)
	case resp.StatusCode < 500:
		r.gate.eased(a)
	}
	if q, ok := quotaOf(resp.Header); ok {
		r.counters.left(q)
		r.gate.atMost(reads, q.Remaining)
	}
}

// enter waits for the end of a pause the registry asked for, for the rates, and
// for a slot: in this order, so that who waits holds nothing.
func (r *remote) enter(ctx context.Context, c *call) (leave func(), err error) {
	a := actionOf(c)
	err = r.rest(ctx, c)
	if err == nil {
		err = r.published[a].take(ctx, 1)
	}
	if err == nil {
		err = r.rate.take(ctx, 1)
	}
	if err != nil || c.held {
		return func() {}, err
	}
	return r.gate.enter(ctx, pass{actions: []action{a}, slots: 1})
}

// rest waits for the end of a pause that the registry asked for. One that is
// longer than our patience postpones what is to be done.
func (r *remote) rest(ctx context.Context, c *call) error {
	wait := r.health.pausing(r.client.clock.Now())
	switch {
	case wait > patience:
		return &providers.Error{Class: providers.Throttled, Op: c.op, On: c.on, After: wait, Hint: r.postponed(wait),
			Err: fmt.Errorf("%s asked for a pause of %s", r.settings.Host, wait.Round(time.Second))}
	case wait > 0:
		return r.client.clock.Wait(ctx, wait)
	}
	return nil
}

// postponed says when an action can be done that is put off for wait.
func (r *remote) postponed(wait time.Duration) string {
	at := r.client.clock.Now().Add(wait).UTC()
	return fmt.Sprintf("%s takes it again at %s. Run again then; what is done is not repeated.", r.settings.Host, at.Format("2006-01-02 15:04:05 UTC"))
}

// leaving gives a slot back when an answer is closed, once.
type leaving struct {
	io.ReadCloser
	leave func()
}

func (l *leaving) Close() error {
	err := l.ReadCloser.Close()
	if l.leave != nil {
		l.leave()
		l.leave = nil
	}
	return err
}

// authorized sends c with the credential it needs. A 401 is answered once by
// learning the challenge or renewing the token; the second is final.
func (r *remote) authorized(ctx context.Context, c *call) (*http.Response, error) {
	if c.foreign {
		return r.send(ctx, c, "")
	}
	for refusals := 0; ; {
		p, err := r.auth.proof(ctx, c.scopes)
		if err != nil {
			return nil, err
		}
		if c.settle != nil {
			if err := c.settle(); err != nil {
				p.unused()
				return nil, err
			}
		}
		resp, err := r.send(ctx, c, p.header)
		if err != nil {
			p.unused()
			return nil, err
		}
		if resp.StatusCode != http.StatusUnauthorized || !r.home(resp) {
			p.accepted()
			return resp, nil
		}
		if err := r.auth.rejected(ctx, p, resp, refusals); err != nil {
			return nil, err
		}
		if p.header != "" {
			refusals++
		}
		if c.stream != nil {
			return nil, &providers.Error{Class: providers.Transient, Op: c.op, On: c.on, Err: errors.New("the token ended before the upload did")}
		}
	}
}

// home reports whether resp comes from the registry itself: a 401 of another
// host, behind a redirect, is no question that we would answer.
func (r *remote) home(resp *http.Response) bool {
	body := resp.Body
	if l, ok := body.(*leaving); ok {
		body = l.ReadCloser
	}
	return !body.(*received).foreign
}

// send makes the round trip and follows redirects by our own rules: GET and
// HEAD anywhere but down to http, and from the first other origin on without
// any credential, even when a later hop leads back; other methods only within
// the origin, with their body, and only when nothing of it is gone.
func (r *remote) send(ctx context.Context, c *call, authorization string) (*http.Response, error) {
	u, method, endpoint, foreign := c.url, c.method, c.endpoint, c.foreign
	for hop := 0; ; hop++ {
		if foreign {
			authorization = ""
		}
		resp, err := r.trip(ctx, c, method, endpoint, u, authorization, foreign)
		if err != nil || !isRedirect(resp.StatusCode) {
			return resp, err
		}
		next, err := absolute(u, resp.Header.Get("Location"))
		resp.Body.Close()
		if err != nil {
			return nil, invalid("redirect: %w", err)
		}
		away := origin(next) != r.origin
		switch reading := method == http.MethodGet || method == http.MethodHead; {
		case hop == maxRedirects:
			return nil, invalid("more than %d redirects, the last to %s", maxRedirects, providers.Printable(next.Host, 100))
		case !reading && (resp.StatusCode < 307 || away || foreign || c.stream != nil):
			return nil, invalid("a %s was redirected (HTTP %d) to %s, which is not followed", method, resp.StatusCode, providers.Printable(next.Host, 100))
		}
		foreign = foreign || away
		u, endpoint = next, "redirect"
	}
}

func isRedirect(status int) bool {
	switch status {
	case 301, 302, 303, 307, 308:
		return true
	}
	return false
}

// trip is one request on one connection.
func (r *remote) trip(ctx context.Context, c *call, method, endpoint string, u *url.URL, authorization string, foreign bool) (*http.Response, error) {
	transport := r.own
	if c.bulk {
		transport = r.bulk
	}
	if foreign {
		var err error
		if transport, err = r.foreign(); err != nil {
			return nil, err
		}
	}
	watched, cancel := context.WithCancelCause(ctx)
	w := newWatch(r.client, c.bulk, cancel)
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(watched, r.repeats(method, endpoint)), method, u.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, invalid("address: %w", err)
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", r.client.userAgent)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	r.attach(ctx, req, c, w)

	r.counters.request(method, endpoint)
	r.budget.requests.Add(1)
	started := r.client.clock.Now()
	w.waiting(req.Body == nil || req.Body == http.NoBody)
	resp, err := transport.RoundTrip(req)
	w.stop()
	if err != nil {
		if cause := context.Cause(watched); errors.Is(cause, errStalled) {
			err = cause
		}
		cancel(nil)
		if weight := weightOf(err, req.Body != nil && req.Body != http.NoBody); weight > 0 && !foreign && ctx.Err() == nil {
			r.health.failed(started, r.client.clock.Now(), weight, errors.New(providers.Printable(r.redacted(c, err.Error()), 600)))
		}
		return nil, err
	}
	if !foreign {
		r.health.works()
	}
	resp.Request = req
	resp.Body = &received{ReadCloser: resp.Body, ctx: ctx, watched: watched, remote: r, watch: w, cancel: cancel, foreign: foreign}
	return resp, nil
}

// repeats counts what net/http sends by itself once more: a request without a body
// whose connection, used before, ended before the answer began.
func (r *remote) repeats(method, endpoint string) *httptrace.ClientTrace {
	var sent atomic.Bool
	return &httptrace.ClientTrace{WroteHeaders: func() {
		if sent.Swap(true) {
			r.counters.request(method, endpoint)
			r.counters.retry()
		}
	}}
}

// attach gives req its body.
func (r *remote) attach(ctx context.Context, req *http.Request, c *call, w *watch) {
	switch {
	case c.stream != nil && c.length > 0:
		req.Body = &sent{Reader: c.stream, ctx: ctx, remote: r, watch: w}
		req.ContentLength = c.length
	case len(c.body) > 0:
		req.Body = &sent{Reader: bytes.NewReader(c.body), ctx: ctx, remote: r, watch: w}
		req.ContentLength = int64(len(c.body))
	case c.method == http.MethodPut || c.method == http.MethodPost:
		req.Body = http.NoBody // says Content-Length: 0
	}
}

// sent counts and paces what goes out.
type sent struct {
	io.Reader
	ctx    context.Context
	remote *remote
	watch  *watch
}

func (s *sent) Read(p []byte) (int, error) {
	s.watch.stop() // while the source is read, the destination is not to blame
	n, err := s.Reader.Read(p)
	if n > 0 {
		s.remote.counters.bytes(0, n)
		if paced := s.remote.bandwidth.take(s.ctx, n); paced != nil && err == nil {
			err = paced
		}
	}
	s.watch.waiting(err != nil)
	return n, err
}

func (s *sent) Close() error { return nil }

// received counts, paces and watches what comes in.
type received struct {
	io.ReadCloser
	ctx, watched context.Context
	remote       *remote
	watch        *watch
	cancel       context.CancelCauseFunc
	foreign      bool // the answer of another host
}

func (b *received) Read(p []byte) (int, error) {
	b.watch.waiting(false)
	n, err := b.ReadCloser.Read(p)
	b.watch.stop()
	if n > 0 {
		b.remote.counters.bytes(n, 0)
		if paced := b.remote.bandwidth.take(b.ctx, n); paced != nil && err == nil {
			err = paced
		}
	}
	if err != nil && err != io.EOF {
		if cause := context.Cause(b.watched); errors.Is(cause, errStalled) {
			err = cause
		}
	}
	return n, err
}

// Close may be called while a Read is blocked, and ends it.
func (b *received) Close() error {
	b.cancel(nil)
	b.watch.stop()
	return b.ReadCloser.Close()
}

var errStalled = errors.New("no progress")

// watch ends a request that makes no progress. There is no total timeout, since
// a large blob may take hours; it is the wire that is watched, so this runs on
// the machine's own time.
type watch struct {
	timer        *time.Timer
	idle, answer time.Duration
}

func newWatch(c *Client, bulk bool, cancel context.CancelCauseFunc) *watch {
	w := &watch{idle: c.idle, answer: c.answer}
	if bulk {
		w.answer = c.commit
	}
	w.timer = time.AfterFunc(time.Hour, func() { cancel(fmt.Errorf("%w for %s", errStalled, w.idle)) })
	w.timer.Stop()
	return w
}

// waiting starts the clock: for the headers of an answer when all is sent, for
// the next bytes otherwise.
func (w *watch) waiting(allSent bool) {
	if allSent {
		w.timer.Reset(w.answer)
		return
	}
	w.timer.Reset(w.idle)
}

func (w *watch) stop() { w.timer.Stop() }

// unwanted makes an error of an answer that is none, and notes a pause that it
// asks for.
func (r *remote) unwanted(c *call, resp *http.Response) error {
	now := r.client.clock.Now()
	e := &providers.Error{Class: classOfStatus(resp.StatusCode), Op: c.op, On: c.on}
	if resp.StatusCode == http.StatusForbidden && spentQuota(resp.Header) {
		e.Class = providers.Throttled // GitHub answers 403 or 429 alike
	}
	if e.Class.Retryable() {
		e.After = retryAfter(resp.Header, now)
		if r.home(resp) { // another host's pause is no reason to leave this one alone
			r.health.pause(now.Add(e.After))
		}
		if e.After == 0 && e.Class == providers.Throttled {
			e.After = renewedIn(resp.Header, now)
		}
		if q, ok := quotaOf(resp.Header); ok && e.After == 0 && e.Class == providers.Throttled && q.Remaining == 0 {
			// A spent quota that does not say when it is renewed: after its window at
			// the latest. Only what is metered waits; blobs and HEADs go on.
			e.After = q.Window
		}
	}
	if e.Class == providers.Throttled {
		r.counters.throttle()
	}
	if e.After > patience {
		e.Hint = r.postponed(e.After)
	}
	if !c.foreign && !r.home(resp) {
		return r.strayed(resp, e)
	}
	a := readRefusal(resp, func(text string) string { return r.redacted(c, text) })
	e.Err = a
	switch {
	case isRedirect(resp.StatusCode):
		e.Err = fmt.Errorf("HTTP %d where an answer was expected", resp.StatusCode)
	case r.full(a):
		e.Class, e.Err = providers.Denied, fmt.Errorf("%w: %w", ErrFull, a)
		e.Hint = "Make room at " + r.settings.Host + ", or have the quota raised. Run again then; what is done is not repeated."
	case e.Class == providers.Denied:
		e.Hint = r.auth.missing(c.scopes)
	case slices.Contains(a.codes, "TOOMANYREQUESTS") && e.Class == providers.Invalid:
		e.Class = providers.Throttled
	case slices.Contains(a.codes, "NAME_UNKNOWN") && !c.foreign && r.madeLately(c.url.Path, now):
		e.Class, e.After = providers.Transient, visibleAfter
	case e.Class == providers.Invalid && strings.Contains(c.on, "@sha512:"):
		e.Hint = "Many registries know SHA-256 digests alone; " + r.settings.Host + " may be one of them."
	}
	return e
}

// full reports whether a says that a quota is used up.
func (r *remote) full(a *refused) bool {
	said := func(words string) bool { return strings.Contains(a.message, words) }
	return a.status == http.StatusInsufficientStorage || a.status >= 400 && slices.ContainsFunc(r.profile.Full, said)
}

// strayed is a refusal of another host, to which the registry sent us. What it
// says is not shown, since it may repeat a signed address. The signature may be
// too old, or be refused for another reason that is the registry's to mend: the
// next try asks the registry for another address.
func (r *remote) strayed(resp *http.Response, e *providers.Error) error {
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		e.Class = providers.Transient
	}
	e.Err = fmt.Errorf("%s, where %s keeps it: %w", providers.Printable(resp.Request.URL.Host, 100), r.settings.Host, &refused{status: resp.StatusCode})
	return e
}

// suspect counts what err says about content from r that does not match its
// digest.
func (r *remote) suspect(err error) {
	if errors.Is(err, errMismatch) {
		r.counters.mismatch()
		r.client.log.Warn("wrong content, which was not used", "registry", r.settings.Host, "error", err.Error())
	}
}

// failure gives a failure its class, op and address, unless it has them.
func (r *remote) failure(ctx context.Context, c *call, err error) error {
	if ctx.Err() != nil {
		// The transport gives the cause of the end, which may be the failure of
		// another request of the same image: that is not what happened here.
		return &providers.Error{Class: providers.Canceled, Op: c.op, On: c.on, Err: ctx.Err()}
	}
	var e *providers.Error
	if errors.As(err, &e) {
		if e.Op == "" {
			named := *e
			named.Op, named.On = c.op, c.on
			return &named
		}
		return err
	}
	wrapped := &providers.Error{Class: providers.Transient, Op: c.op, On: c.on, Err: err}
	var (
		resolve  *net.DNSError
		declined *refusal
	)
	switch {
	case errors.As(err, &declined):
		wrapped.Class = providers.Invalid
	case errors.Is(err, errMore):
		wrapped.Class = providers.Invalid
	case isUntrusted(err):
		wrapped.Class = providers.Invalid
		wrapped.Hint = untrustedHint(err, r.settings.Host)
	case isTooOld(err):
		wrapped.Class = providers.Invalid
		wrapped.Hint = "TLS before version 1.2 is not safe and is not spoken. Update what serves " + r.settings.Host + "."
	case strings.Contains(err.Error(), "response headers exceeded"): // net/http has no type for it
		wrapped.Class = providers.Invalid
	case isCertificate(err):
		wrapped.Class = providers.Invalid
		wrapped.Hint = "If " + r.settings.Host + " really speaks plain HTTP, say plain_http = true in its registry block."
	case isUnwelcome(err):
		wrapped.Class = providers.Invalid
		wrapped.Hint = r.settings.Host + " may want a client certificate, or another one: client_cert and client_key in its registry block."
	case errors.As(err, &resolve) && resolve.IsNotFound:
		wrapped.Hint = "Check the spelling of the host, and the name server."
	}
	// net/http quotes what it does not understand: a broken header may be an echo.
	wrapped.Err = errors.New(providers.Printable(r.redacted(c, err.Error()), 600))
	return wrapped
}

// redacted takes out of text what we sent along with c to prove who we are.
func (r *remote) redacted(c *call, text string) string {
	if c.redact != nil {
		text = c.redact(text)
	}
	return r.auth.redact(text)
}

// isUntrusted reports whether the other side's certificate was not accepted.
func isUntrusted(err error) bool {
	var unknown *tls.CertificateVerificationError
	return errors.As(err, &unknown)
}

// untrustedHint is the way out for a certificate that was not accepted.
func untrustedHint(err error, host string) string {
	var (
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &name):
		return "The certificate is not for this name: use the one that it has, or have it renewed. If another host answers in place of " + host + ", this is how it shows."
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "Have the certificate renewed, or set this machine's clock."
	}
	return "If the certificate is right, name its authority with ca_file in the registry block of " + host + "."
}

// isTooOld reports whether the two sides have no version of TLS in common.
func isTooOld(err error) bool {
	text := err.Error()
	return strings.Contains(text, "tls: ") && strings.Contains(text, "protocol version")
}

// isUnwelcome reports whether the other side did not accept our certificate, or
// that we have none (RFC 8446, 6.2: alerts 42 to 49 and 116 are about it).
func isUnwelcome(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate")
}

// isCertificate reports whether there is no TLS with the other side, for want
// of trust or because it does not speak it.
func isCertificate(err error) bool {
	var record tls.RecordHeaderError
	return isUntrusted(err) || errors.As(err, &record) || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// amend gives err with its outermost providers.Error changed. The original stays
// as it is, since errors of credentials are shared by all workers.
func amend(err error, change func(*providers.Error)) error {
	var e *providers.Error
	if !errors.As(err, &e) {
		return err
	}
	changed := *e
	change(&changed)
	return &changed
}

// invalid is an answer that breaks the protocol: trying again can not help.
func invalid(format string, args ...any) error {
	return &providers.Error{Class: providers.Invalid, Err: fmt.Errorf(format, args...)}
}
