package aws

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"freightliner/providers"
)

// answer is what AWS said against a call, as far as it may be shown.
type answer struct {
	code   string
	status int
	text   string // shown; no text of AWS when the call carried a payload

	// What the text tells, found in it whether it may be shown or not.
	deletion, replica, owned, label bool
}

func (a *answer) Error() string {
	switch {
	case a.code == "":
		return a.text
	case a.text == "":
		return a.code
	}
	return a.code + ": " + a.text
}

// said reports whether err is AWS's answer with one of these codes.
func said(err error, codes ...string) bool {
	var a *answer
	if !errors.As(err, &a) {
		return false
	}
	for _, code := range codes {
		if a.code == code {
			return true
		}
	}
	return false
}

// is reports whether err is an answer of which f holds.
func is(err error, f func(*answer) bool) bool {
	var a *answer
	return errors.As(err, &a) && f(a)
}

func deletion(a *answer) bool { return a.deletion }

// judge gives what went wrong with a call its class, its words and the way out.
func (s *Store) judge(ctx context.Context, q question, err error) error {
	e := &providers.Error{Op: q.op, On: s.on(q.name)}
	var (
		keys    *keysError
		api     smithy.APIError
		broken  *smithy.DeserializationError
		reply   *smithyhttp.ResponseError
		tooMuch *http.MaxBytesError
	)
	a := &answer{}
	if errors.As(err, &reply) {
		a.status = reply.HTTPStatusCode() // 0: there was no answer
	}
	isAPI := errors.As(err, &api)
	switch {
	case ctx.Err() != nil:
		e.Class, e.Err = providers.Canceled, ctx.Err()
	case errors.As(err, &keys):
		s.noKeys(e, keys, api)
	case errors.As(err, &tooMuch):
		e.Class, a.text = providers.Invalid, fmt.Sprintf("the answer is larger than %d bytes", int64(largestAnswer))
	case isAPI && known(api.ErrorCode()):
		s.refused(ctx, e, a, q, api)
	case !isAPI && cutOff(err):
		s.unreachable(e, err)
	case isAPI || errors.As(err, &broken) || a.status != 0:
		s.strange(e, a)
	default:
		s.unreachable(e, err)
	}
	if e.Err == nil {
		e.Err = a
	}
	return e
}

// cutOff tells an answer whose connection broke under it, which is asked for
// again, from one that is complete and makes no sense.
func cutOff(err error) bool {
	var network *net.OpError
	return errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF)
}

// known tells an answer of AWS from one of a proxy.
func known(code string) bool { return code != "" && code != "UnknownError" }

// codes is what the codes of the service mean, where the code alone decides.
var codes = map[string]providers.Class{
	"ResourceNotFoundException":              providers.NotFound,
	"ResourceExistsException":                providers.Conflict,
	"InvalidRequestException":                providers.Conflict, // "for the current state of the resource"
	"InvalidParameterException":              providers.Invalid,
	"LimitExceededException":                 providers.Invalid,
	"PreconditionNotMetException":            providers.Conflict,
	"EncryptionFailure":                      providers.Denied,
	"DecryptionFailure":                      providers.Denied,
	"AccessDeniedException":                  providers.Denied,
	"AccessDenied":                           providers.Denied,
	"UnauthorizedOperation":                  providers.Denied,
	"OptInRequired":                          providers.Denied,
	"ThrottlingException":                    providers.Throttled,
	"Throttling":                             providers.Throttled,
	"TooManyRequestsException":               providers.Throttled,
	"RequestLimitExceeded":                   providers.Throttled,
	"ProvisionedThroughputExceededException": providers.Throttled,
	"InternalServiceError":                   providers.Transient,
	"InternalServiceErrorException":          providers.Transient,
	"InternalFailure":                        providers.Transient,
	"InternalServerError":                    providers.Transient,
	"ServiceUnavailable":                     providers.Transient,
	"ServiceUnavailableException":            providers.Transient,
	"RequestTimeout":                         providers.Transient,
	"RequestTimeoutException":                providers.Transient,
}

// badKeys are the codes by which AWS refuses the keys themselves.
var badKeys = map[string]string{
	"ExpiredToken":                        "the session has expired",
	"ExpiredTokenException":               "the session has expired",
	"RequestExpired":                      "the request was signed too long ago",
	"InvalidClientTokenId":                "AWS does not know this access key",
	"UnrecognizedClientException":         "AWS does not know this access key",
	"InvalidAccessKeyId":                  "AWS does not know this access key",
	"SignatureDoesNotMatch":               "the secret key is wrong",
	"InvalidSignatureException":           "the signature is wrong",
	"IncompleteSignature":                 "the signature is incomplete",
	"IncompleteSignatureException":        "the signature is incomplete",
	"MissingAuthenticationToken":          "the request was not signed",
	"MissingAuthenticationTokenException": "the request was not signed",
}

func (s *Store) refused(ctx context.Context, e *providers.Error, a *answer, q question, api smithy.APIError) {
	text := api.ErrorMessage()
	low := strings.ToLower(text)
	a.code = providers.Printable(api.ErrorCode(), 80)
	a.deletion = strings.Contains(low, "deletion")
	a.replica = strings.Contains(low, "replica")
	a.owned = strings.Contains(low, "managed by") || strings.Contains(low, "owned by")
	a.label = strings.Contains(low, "staging label") || strings.Contains(low, "versionid")
	if !q.payload {
		// Validation messages quote what was sent; a call without a payload has
		// sent nothing that must be hidden.
		a.text = providers.Printable(text, 400)
	}
	if why, found := badKeys[a.code]; found {
		e.Class, a.text = providers.Denied, why
		e.Hint = s.keysHint()
		if strings.Contains(low, "not yet current") || a.code == "RequestExpired" || strings.Contains(low, "signature expired") {
			e.Hint = "Set this machine's clock: AWS accepts signatures within five minutes."
		}
		if strings.Contains(low, "valid region") || strings.Contains(low, "credential should be scoped") {
			e.Hint = "The endpoint serves another region than " + s.o.Region + "; make region and endpoint agree."
		}
		return
	}
	class, found := codes[a.code]
	if !found {
		class = providers.Invalid
		if a.status >= 500 {
			class = providers.Transient
		}
	}
	e.Class = class
	switch {
	case class == providers.Denied:
		s.denied(ctx, e, a, q, text)
	case a.code == "ResourceNotFoundException" && a.label:
		// The secret is there; what is missing is one of its versions.
		e.Class = providers.Conflict
		a.text = "the secret exists, but has no such version"
		if strings.Contains(text, "AWSCURRENT") || strings.Contains(low, "awscurrent") {
			a.text = "the secret exists, but has no value yet"
		}
	case class == providers.NotFound:
		e.Hint = "There is no secret of this name in " + s.o.Region + " in the account of these keys. If it is elsewhere, correct the region, profile or role_arn of the secret_store."
	case a.deletion:
		e.Hint = deletionHint
	case a.replica && class != providers.Throttled && class != providers.Transient:
		e.Class = providers.Conflict
		e.Hint = "In " + s.o.Region + " this secret is a copy, which only its primary region can change; or copies of it are in the way. Use the primary region in the secret_store."
	case a.owned:
		e.Class = providers.Unsupported
		e.Hint = ownedHint
	case a.code == "LimitExceededException":
		e.Hint = quotaHint(q.action)
	case class == providers.Throttled:
		e.Hint = "AWS refused calls of " + q.action + " in " + s.o.Region + " beyond the account's rate, after waiting " + patience.String() + ". What is done is kept: run it again when others use less."
	}
}

const (
	deletionHint = "The secret waits for its deletion. Take that back with restore, or wait until it is final; it is never forced without being asked for."
	ownedHint    = "The service that owns the secret writes its values. Use manage = \"metadata\", or leave it to that service."
)

func quotaHint(action string) string {
	if action == "CreateSecret" {
		return "The account has as many secrets in this region as its quota allows (500,000 by default); delete some or raise the quota."
	}
	return "The secret has as many versions or staging labels as AWS allows. Versions without a label are removed once they are older than 24 hours; write it at most every 10 minutes, and drop labels that nobody needs."
}

var (
	denialForm = providers.Pattern(`User: (arn:[A-Za-z0-9:/_+=.,@*-]{1,300}) is not authorized to perform: ((?:secretsmanager|kms|sts):[A-Za-z]{1,64})`)
	kmsKeyForm = providers.Pattern(`arn:[a-z-]{3,20}:kms:[a-z0-9-]{1,40}:[0-9]{12}:(?:key|alias)/[A-Za-z0-9/_-]{1,256}`)
)

// denied says who lacks which right on what, and the smallest policy that gives it.
func (s *Store) denied(ctx context.Context, e *providers.Error, a *answer, q question, text string) {
	who, action := "", "secretsmanager:"+q.action
	if q.action == "GetCallerIdentity" || q.action == "AssumeRole" {
		action = "sts:" + q.action
	}
	if m := denialForm().FindStringSubmatch(text); m != nil {
		who, action = m[1], m[2]
	} else if q.action != "GetCallerIdentity" {
		who, _ = s.Principal(ctx)
	}
	if who == "" {
		who = "the principal of these keys"
	}
	if strings.Contains(strings.ToLower(text), "kms") || a.code == "EncryptionFailure" || a.code == "DecryptionFailure" {
		key := kmsKeyForm().FindString(text)
		if key == "" {
			key = "the key of the secret"
		}
		need := "kms:Decrypt"
		if q.action != "GetSecretValue" && q.action != "BatchGetSecretValue" {
			need = "kms:GenerateDataKey and kms:Decrypt"
		}
		a.text = who + " can not use " + key + " in " + s.o.Region
		e.Hint = "Allow " + need + " on that key in its key policy and in IAM, and see that it is enabled. The default key aws/secretsmanager can not be used from another account." + unseenHint(q.action)
		return
	}
	resource := "*"
	if q.name != "" && q.action != "ListSecrets" && q.action != "BatchGetSecretValue" {
		resource = s.arn(who, q.name)
	}
	a.text = who + " is not allowed " + action + " on " + resource
	e.Hint = `Allow it with {"Effect":"Allow","Action":"` + action + `","Resource":"` + resource + `"}.` + unseenHint(q.action)
	if strings.Contains(text, "explicit deny") {
		e.Hint = "A policy denies it explicitly (identity, resource, boundary or organization): allowing it elsewhere does not help." + unseenHint(q.action)
	}
}

// unseenHint says what a refused read is not.
func unseenHint(action string) string {
	switch action {
	case "GetSecretValue", "BatchGetSecretValue", "DescribeSecret", "ListSecrets", "ListSecretVersionIds":
		return " A refusal is not taken for absence: nothing is made in place of what can not be seen."
	}
	return ""
}

// arn is the pattern that a policy needs for a secret: AWS adds six characters.
func (s *Store) arn(principal, name string) string {
	account := "*"
	if part := strings.Split(principal, ":"); len(part) > 4 && part[4] != "" {
		account = part[4]
	}
	partition := "aws"
	switch {
	case strings.HasPrefix(s.o.Region, "cn-"):
		partition = "aws-cn"
	case strings.HasPrefix(s.o.Region, "us-gov-"):
		partition = "aws-us-gov"
	}
	return fmt.Sprintf("arn:%s:secretsmanager:%s:%s:secret:%s-??????", partition, s.o.Region, account, providers.Printable(name, 600))
}

func (s *Store) keysHint() string {
	from := "the default chain (environment, shared files, web identity, instance role)"
	if s.o.Profile != "" {
		from = "profile " + providers.Printable(s.o.Profile, 80)
	}
	if s.o.RoleARN != "" {
		from += ", then role " + providers.Printable(s.o.RoleARN, 200)
	}
	return "The keys come from " + from + ". Renew them (aws sso login, or the job's role), and try: aws sts get-caller-identity."
}

// noKeys says why nothing could be signed.
func (s *Store) noKeys(e *providers.Error, keys *keysError, api smithy.APIError) {
	e.Class, e.Hint = providers.Denied, s.keysHint()
	var network net.Error
	switch {
	case api != nil && codes[api.ErrorCode()].Retryable():
		e.Class, e.Err = codes[api.ErrorCode()], fmt.Errorf("no AWS keys: STS says %s", providers.Printable(api.ErrorCode(), 80))
	case api != nil:
		e.Err = fmt.Errorf("no AWS keys: %s: %s", providers.Printable(api.ErrorCode(), 80), providers.Printable(api.ErrorMessage(), 300))
		if s.o.RoleARN != "" {
			e.Hint = "The role must trust these keys (sts:AssumeRole in its trust policy), and they must be allowed sts:AssumeRole on it. " + e.Hint
		}
	case errors.As(keys.err, &network):
		e.Class, e.Err = providers.Transient, errors.New("no AWS keys: their source does not answer")
	case strings.Contains(keys.err.Error(), "process"):
		// Its text may hold what the process printed.
		e.Err = errors.New("no AWS keys: credential_process failed")
	default:
		e.Err = fmt.Errorf("no AWS keys: %s", providers.Printable(keys.err.Error(), 300))
	}
}

// strange is an answer that is none of Secrets Manager's: a proxy's, a broken one.
func (s *Store) strange(e *providers.Error, a *answer) {
	a.text = fmt.Sprintf("HTTP %d from %s, and the answer is none of Secrets Manager's", a.status, s.host())
	switch {
	case a.status == http.StatusTooManyRequests:
		e.Class = providers.Throttled
	case a.status >= 500:
		e.Class = providers.Transient
	default:
		e.Class = providers.Invalid
		e.Hint = "Something between here and AWS answers in its place, or the endpoint is not Secrets Manager: look at proxy and endpoint."
	}
}

func (s *Store) host() string {
	if _, host, found := strings.Cut(strings.TrimPrefix(s.place, "aws/"), "/"); found {
		return host
	}
	return "secretsmanager." + s.o.Region + ".amazonaws.com"
}

func (s *Store) unreachable(e *providers.Error, err error) {
	var (
		dns       *net.DNSError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
	)
	e.Class = providers.Transient
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		e.Err = fmt.Errorf("the name %s does not exist", s.host())
		e.Hint = "Is the region spelled right, and does this machine resolve names outside?"
	case errors.As(err, &authority), errors.As(err, &host):
		e.Class, e.Err = providers.Denied, fmt.Errorf("the certificate of %s is not trusted", s.host())
		e.Hint = "Nothing was sent. Look at the endpoint, and at a proxy that opens TLS."
	case errors.Is(err, context.DeadlineExceeded):
		e.Err = fmt.Errorf("%s did not answer in %v", s.host(), tryTimeout)
	default:
		// The SDK's own text names request ids and addresses, and nothing of a body.
		e.Err = fmt.Errorf("no connection to %s", s.host())
	}
}

// pending is the refusal to touch a secret that waits for its deletion.
func (s *Store) pending(op, name string, final time.Time) error {
	text := "the secret is scheduled for deletion"
	if !final.IsZero() {
		text += ", final on " + final.UTC().Format("2006-01-02 15:04 UTC")
	}
	return s.fail(providers.Conflict, op, name, text, deletionHint)
}
