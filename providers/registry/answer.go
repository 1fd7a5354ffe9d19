package registry

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"freightliner/providers"
)

// Caps on what is read from the wire. More is an error, never cut off quietly.
const (
	maxManifest = 4 << 20  // what distribution takes and the spec recommends
	maxToken    = 64 << 10 // token answers
	maxError    = 64 << 10 // bodies of refusals
	maxPage     = 8 << 20  // one page of a listing
)

// errMore is wrapped by every error about something larger than its cap.
var errMore = errors.New("more than the limit")

// readAll reads r to its end and refuses more than limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(&io.LimitedReader{R: r, N: limit + 1})
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w of %d bytes", errMore, limit)
	}
	return b, err
}

// acceptEncodings is what metadata requests offer to decode.
const acceptEncodings = "zstd, gzip"

// readBody reads a whole answer, undoing the transport encoding that we asked
// for; limit is on both sides of the decoding.
func readBody(resp *http.Response, limit int64) ([]byte, error) {
	switch encoding := strings.ToLower(resp.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		return readAll(resp.Body, limit)
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return readAll(z, limit)
	case "zstd":
		z, err := zstd.NewReader(resp.Body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderMaxMemory(16<<20))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		defer z.Close()
		return readAll(z, limit)
	default:
		return nil, fmt.Errorf("content encoding %s: not asked for", providers.Printable(encoding, 40))
	}
}

// refused is an answer that is not what was asked for.
type refused struct {
	status  int
	codes   []string // error codes of the distribution-spec, "MANIFEST_UNKNOWN"
	message string   // printable
}

func (a *refused) Error() string {
	text := fmt.Sprintf("HTTP %d", a.status)
	if name := http.StatusText(a.status); name != "" {
		text += " " + name
	}
	if a.message != "" {
		text += ": " + a.message
	}
	return text
}

// codesOf are the error codes a registry gave; nil when err is something else.
func codesOf(err error) []string {
	var a *refused
	if errors.As(err, &a) {
		return a.codes
	}
	return nil
}

func statusOf(err error) int {
	var a *refused
	if errors.As(err, &a) {
		return a.status
	}
	return 0
}

func hasCode(err error, codes ...string) bool {
	return slices.ContainsFunc(codesOf(err), func(c string) bool { return slices.Contains(codes, c) })
}

// readRefusal makes an error of an answer with an unwanted status. secrets are
// taken out of what the registry says, in case it echoes a header of ours.
func readRefusal(resp *http.Response, secrets func(string) string) *refused {
	a := &refused{status: resp.StatusCode}
	body, err := readBody(resp, maxError)
	if errors.Is(err, errMore) {
		a.message = fmt.Sprintf("(an error text of more than %d bytes)", maxError)
		return a
	}
	var document struct {
		Errors []struct {
			Code    string          `json:"code"`
			Message string          `json:"message"`
			Detail  json.RawMessage `json:"detail"`
		} `json:"errors"`
		Details string          `json:"details"` // how token servers say it
		Message json.RawMessage `json:"message"` // how the clouds' own interfaces say it
		Type    string          `json:"__type"`  // and AWS: "RepositoryNotFoundException"
		OAuth   string          `json:"error_description"`
	}
	if json.Unmarshal(body, &document) != nil {
		return a // HTML pages and the like explain nothing
	}
	var parts []string
	for i, e := range document.Errors {
		if i == 8 {
			break
		}
		code := strings.ToUpper(secrets(e.Code)) // before its case hides a secret
		a.codes = append(a.codes, code)
		parts = append(parts, strings.TrimSpace(code+" "+e.Message))
	}
	if _, code, ok := strings.Cut("#"+document.Type, "#"); ok && document.Type != "" {
		code = secrets(code[strings.LastIndex(code, "#")+1:])
		a.codes = append(a.codes, code)
		parts = append(parts, code)
	}
	var message string
	if json.Unmarshal(document.Message, &message) == nil && message != "" {
		parts = append(parts, message)
	}
	for _, text := range []string{document.Details, document.OAuth} {
		if text != "" {
			parts = append(parts, text)
		}
	}
	a.message = providers.Printable(secrets(strings.Join(parts, "; ")), 500)
	return a
}

// classOfStatus is the class of an unwanted status.
func classOfStatus(status int) providers.Class {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return providers.Denied
	case status == http.StatusNotFound || status == http.StatusGone:
		return providers.NotFound
	case status == http.StatusMethodNotAllowed || status == http.StatusNotImplemented:
		return providers.Unsupported
	case status == http.StatusConflict || status == http.StatusPreconditionFailed:
		return providers.Conflict
	case status == http.StatusTooManyRequests:
		return providers.Throttled
	case status == http.StatusRequestTimeout || status == http.StatusTooEarly || status >= 500 && status != http.StatusHTTPVersionNotSupported:
		return providers.Transient
	}
	return providers.Invalid
}

// retryAfter reads a Retry-After header: seconds or a date (RFC 9110, 10.2.3).
// 0 when there is none or it is in the past.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Duration(min(max(n, 0), 7*24*3600)) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), 7*24*time.Hour)
}

// spentQuota reports whether an answer says that nothing is left of a quota, as GitHub,
// GitLab and Docker's web interface say it.
func spentQuota(h http.Header) bool {
	for _, name := range []string{"X-Ratelimit-Remaining", "Ratelimit-Remaining"} {
		if left, _, ok := quotaPart(h.Get(name)); ok && left == 0 {
			return true
		}
	}
	return false
}

// renewedIn is when a spent quota is renewed: GitHub ("x-ratelimit-reset",
// docs.github.com, "Rate limits for the REST API"), GitLab ("RateLimit-Reset") and
// Docker's web interface ("X-Retry-After") give the second since 1970, the IETF's
// draft gives seconds from now. 0 when nothing is said.
func renewedIn(h http.Header, now time.Time) time.Duration {
	for _, name := range []string{"X-Retry-After", "X-Ratelimit-Reset", "Ratelimit-Reset"} {
		n, err := strconv.ParseInt(strings.TrimSpace(h.Get(name)), 10, 64)
		if err != nil || n <= 0 {
			continue
		}
		if n > 1e9 { // 2001: no pause is as long
			n -= now.Unix()
		}
		return time.Duration(min(max(n, 0), 7*24*3600)) * time.Second
	}
	return 0
}

// quotaOf reads "ratelimit-limit: 100;w=21600" and "ratelimit-remaining:
// 76;w=21600" (docs.docker.com/docker-hub/usage, "View pull rate"), with or
// without the window.
func quotaOf(h http.Header) (q Quota, ok bool) {
	remaining, window, ok := quotaPart(h.Get("Ratelimit-Remaining"))
	if !ok {
		return Quota{}, false
	}
	limit, longer, _ := quotaPart(h.Get("Ratelimit-Limit"))
	return Quota{Limit: limit, Remaining: remaining, Window: max(window, longer)}, true
}

func quotaPart(text string) (n int, window time.Duration, ok bool) {
	number, rest, _ := strings.Cut(text, ";")
	n, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil || n < 0 {
		return 0, 0, false
	}
	for part := range strings.SplitSeq(rest, ";") {
		if value, found := strings.CutPrefix(strings.TrimSpace(part), "w="); found {
			if s, err := strconv.ParseInt(value, 10, 32); err == nil && s > 0 {
				window = min(time.Duration(s)*time.Second, 7*24*time.Hour)
			}
		}
	}
	return n, window, true
}
