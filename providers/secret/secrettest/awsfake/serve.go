package awsfake

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// errCut is a connection that broke.
var errCut = errors.New("awsfake: connection reset by peer")

// Client reaches the fake without a network.
func (f *Fake) Client() *http.Client { return &http.Client{Transport: direct{f}} }

type direct struct{ f *Fake }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	status, body, err := d.f.serve(r)
	if err != nil {
		return nil, err
	}
	header := http.Header{"Content-Type": {contentType(body)}}
	if status == http.StatusTemporaryRedirect {
		header.Set("Location", elsewhere)
	}
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}, nil
}

// elsewhere is where [Moved] leads.
const elsewhere = "https://elsewhere.example/"

// ServeHTTP serves the fake over a network; a lost answer is a cut connection.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, body, err := f.serve(r)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", contentType(body))
	if status == http.StatusTemporaryRedirect {
		w.Header().Set("Location", elsewhere)
	}
	w.WriteHeader(status)
	w.Write(body)
}

func contentType(body []byte) string {
	if bytes.HasPrefix(body, []byte("<")) {
		return "text/xml"
	}
	return "application/x-amz-json-1.1"
}

// refusal is an error of the service.
type refusal struct {
	code, message string
	status        int
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

func refuse(code, format string, a ...any) *refusal {
	status := http.StatusBadRequest
	if code == "InternalServiceError" {
		status = http.StatusInternalServerError
	}
	return &refusal{code, fmt.Sprintf(format, a...), status}
}

var signature = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([A-Z0-9]{16,32})/(\d{8})/([a-z0-9-]+)/(secretsmanager|sts)/aws4_request, SignedHeaders=([a-z0-9;-]+), Signature=[0-9a-f]{64}$`)

// signed looks whether a request is signed as AWS wants it. The signature
// itself is not computed again.
func (f *Fake) signed(r *http.Request, service string) *refusal {
	m := signature.FindStringSubmatch(r.Header.Get("Authorization"))
	switch {
	case r.Header.Get("Authorization") == "":
		return refuse("MissingAuthenticationTokenException", "Missing Authentication Token")
	case m == nil:
		return refuse("IncompleteSignatureException", "Authorization header is no Signature Version 4.")
	case m[3] != f.Region || m[4] != service:
		return refuse("InvalidSignatureException", "Credential should be scoped to a valid region, not '%s'.", m[3])
	case !strings.Contains(";"+m[5]+";", ";host;") || !strings.Contains(";"+m[5]+";", ";x-amz-date;"):
		return refuse("InvalidSignatureException", "'Host' and 'X-Amz-Date' must be signed headers.")
	}
	if at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date")); err != nil || at.Format("20060102") != m[2] {
		return refuse("IncompleteSignatureException", "Date must be in ISO-8601 'basic format'.")
	}
	if code, message, found := strings.Cut(f.revoked, "\n"); found {
		return refuse(code, "%s", message)
	}
	return nil
}

// serve answers one request: status and body, or an error for a connection that
// breaks.
func (f *Fake) serve(r *http.Request) (int, []byte, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(io.LimitReader(r.Body, 1<<20)); err != nil {
			return 0, nil, err
		}
		r.Body.Close()
	}
	run, call := f.prepare(r, body)

	f.mu.Lock()
	f.calls++
	call.N = f.calls
	f.counts[call.Operation]++
	script := f.inject
	f.mu.Unlock()
	var fault Fault
	if script != nil {
		fault = script(call)
	}
	if fault.Until != nil {
		select {
		case <-fault.Until:
		case <-r.Context().Done():
			return 0, nil, r.Context().Err()
		}
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	f.purge()
	f.deliverLate()
	var status int
	var answer []byte
	if fault.Kind.effect() {
		status, answer = run()
	}
	switch fault.Kind {
	case Cut, Lost:
		return 0, nil, errCut
	case Timeout, LostTimeout:
		return 0, nil, timeout{}
	case Twice:
		if fault.Later > 0 {
			f.late = append(f.late, delayed{after: fault.Later, again: func() { run() }})
		} else {
			status, answer = run()
		}
	case Unavailable:
		return http.StatusServiceUnavailable, []byte("<html>service unavailable</html>"), nil
	case Broken:
		return http.StatusInternalServerError, []byte(`{"__type":"InternalServiceError","Message":"An error occurred on the server side."}`), nil
	case Throttle:
		return http.StatusBadRequest, []byte(`{"__type":"ThrottlingException","message":"Rate exceeded"}`), nil
	case Garbled:
		return http.StatusOK, append([]byte(`{"ARN":`), answer[:len(answer)/2]...), nil
	case Proxied:
		return http.StatusForbidden, []byte("<html>blocked by policy</html>"), nil
	case Echo:
		b, _ := json.Marshal(map[string]string{"__type": "ValidationException", "Message": "1 validation error detected: Value '" + string(body) + "' is no good"})
		return http.StatusBadRequest, b, nil
	case Moved:
		return http.StatusTemporaryRedirect, nil, nil
	}
	return status, answer, nil
}

// deliverLate delivers requests that come a second time.
func (f *Fake) deliverLate() {
	rest := f.late[:0]
	for _, d := range f.late {
		if d.after--; d.after > 0 {
			rest = append(rest, d)
		} else {
			d.again()
		}
	}
	f.late = rest
}

// prepare reads a request; run carries it out, with f.mu held.
func (f *Fake) prepare(r *http.Request, body []byte) (run func() (int, []byte), call Call) {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		operation, isOurs := strings.CutPrefix(target, "secretsmanager.")
		call = Call{Operation: operation}
		var named struct{ SecretId, Name, ClientRequestToken string }
		_ = json.Unmarshal(body, &named) // what is malformed is refused when it runs
		call.Secret, call.Token = named.SecretId, named.ClientRequestToken
		if call.Secret == "" {
			call.Secret = named.Name
		}
		return func() (int, []byte) {
			out, err := f.json(r, body, operation, isOurs)
			if err != nil {
				b, _ := json.Marshal(map[string]string{"__type": err.code, "Message": err.message})
				return err.status, b
			}
			b, _ := json.Marshal(out)
			return http.StatusOK, b
		}, call
	}
	form, _ := url.ParseQuery(string(body))
	call = Call{Operation: form.Get("Action")}
	return func() (int, []byte) { return f.identity(r, form) }, call
}

// identity is the part of STS that is needed.
func (f *Fake) identity(r *http.Request, form url.Values) (int, []byte) {
	fail := func(err *refusal) (int, []byte) {
		b, _ := xml.Marshal(struct {
			XMLName xml.Name `xml:"ErrorResponse"`
			Code    string   `xml:"Error>Code"`
			Message string   `xml:"Error>Message"`
		}{Code: err.code, Message: err.message})
		return http.StatusForbidden, b
	}
	if err := f.signed(r, "sts"); err != nil {
		return fail(err)
	}
	switch form.Get("Action") {
	case "GetCallerIdentity":
		return http.StatusOK, fmt.Appendf(nil, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>%s</Arn><UserId>AROAFAKE:ci</UserId><Account>%s</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`, f.Principal(), f.Account)
	case "AssumeRole":
		role := form.Get("RoleArn")
		if f.denied["AssumeRole "+role] || f.denied["AssumeRole *"] {
			return fail(refuse("AccessDenied", "User: %s is not authorized to perform: sts:AssumeRole on resource: %s", f.Principal(), role))
		}
		return http.StatusOK, fmt.Appendf(nil, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>ASIAFAKEFAKEFAKEFAKE</AccessKeyId><SecretAccessKey>fake</SecretAccessKey><SessionToken>fake</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`)
	}
	return fail(refuse("InvalidAction", "no such action"))
}
