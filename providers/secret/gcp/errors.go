package gcp

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"freightliner/providers"
	"freightliner/providers/secret"
)

// explain turns a failed call into our error: op is what was tried on the
// secret name. Errors that are ours already pass.
func (s *Store) explain(ctx context.Context, op, name string, m method, err error) error {
	var ours *providers.Error
	if err == nil || errors.As(err, &ours) {
		return err
	}
	on := s.on(name)
	if ctx.Err() != nil {
		return &providers.Error{Class: providers.Canceled, Op: op, On: on, Err: ctx.Err()}
	}
	st, ok := status.FromError(err)
	if !ok {
		return &providers.Error{Class: providers.ClassOf(err), Op: op, On: on, Err: err}
	}
	e := &providers.Error{Op: op, On: on, After: retryAfter(err)}
	said := providers.Printable(st.Message(), 400)
	text := said
	switch st.Code() {
	case codes.NotFound:
		e.Class, text = providers.NotFound, "there is no such secret"
	case codes.AlreadyExists:
		e.Class, text = providers.Conflict, "it exists already"
		e.Hint = "Set adopt = true or import it, to take it over."
	case codes.PermissionDenied:
		e.Class = providers.Denied
		text, e.Hint = s.denied(st, m, name)
	case codes.Unauthenticated:
		e.Class, text = providers.Denied, "the service does not accept our credentials: "+said
		e.Hint = "Log in with `gcloud auth application-default login`, or check the service account's key or workload identity."
	case codes.FailedPrecondition:
		e.Class = providers.Conflict
		if about(said, "etag") {
			text, e.Hint = "it was changed since it was looked at", "Plan again: somebody else changed the secret's metadata."
		} else if about(said, "kms", "cryptokey", "encryption key") {
			e.Hint = "Check that the KMS key is enabled and that Secret Manager's service agent has roles/cloudkms.cryptoKeyEncrypterDecrypter on it."
		}
	case codes.DataLoss:
		e.Class = providers.Invalid
	case codes.InvalidArgument, codes.OutOfRange:
		e.Class = providers.Invalid
		if about(said, "location", "region") {
			e.Hint = "Check location: secrets of a region and global ones are kept apart, each with an endpoint of its own."
		}
	case codes.Unimplemented:
		e.Class = providers.Unsupported
	case codes.ResourceExhausted:
		e.Class = providers.Throttled
		text = "the service throttles: " + said
		e.Hint = fmt.Sprintf("The quota of %s calls is counted by the minute and project; run again in a minute, or ask Google for more.", quotaNames[m.group])
	case codes.Unavailable, codes.Internal, codes.Aborted, codes.DeadlineExceeded, codes.Canceled:
		e.Class, text = providers.Transient, fmt.Sprintf("%s: %s", st.Code(), said)
	case codes.Unknown:
		e.Class, text = providers.Transient, "an answer that is not of Secret Manager: "+said
		e.Hint = "Something between us and the service answered; check proxies and the endpoint."
	default:
		e.Class, text = providers.Unknown, fmt.Sprintf("%s: %s", st.Code(), said)
	}
	e.Err = errors.New(text)
	return e
}

var quotaNames = [...]string{accessGroup: "access", readGroup: "read", writeGroup: "write"}

// denied is never absence: Google says "denied (or it may not exist)" to
// whoever may not know.
func (s *Store) denied(st *status.Status, m method, name string) (text, hint string) {
	permission, resource := "secretmanager."+m.permission, s.parent
	if name != "" {
		resource = s.secretName(name)
	}
	for _, detail := range st.Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if !ok {
			continue
		}
		switch info.GetReason() {
		case "SERVICE_DISABLED":
			return "the API is not enabled in project " + s.options.Project,
				"Run `gcloud services enable secretmanager.googleapis.com --project " + s.options.Project + "` and wait a minute."
		case "IAM_PERMISSION_DENIED":
			if p := info.GetMetadata()["permission"]; p != "" {
				permission = providers.Printable(p, 100)
			}
			if r := info.GetMetadata()["resource"]; r != "" {
				resource = providers.Printable(strings.TrimPrefix(r, "//secretmanager.googleapis.com/"), 300)
			}
		}
	}
	said := st.Message()
	switch {
	case about(said, "has not been used in project", "it is disabled"):
		return "the API is not enabled in project " + s.options.Project,
			"Run `gcloud services enable secretmanager.googleapis.com --project " + s.options.Project + "` and wait a minute."
	case about(said, "kms", "cryptokey"):
		return "the KMS key can not be used: " + providers.Printable(said, 300),
			"Give Secret Manager's service agent roles/cloudkms.cryptoKeyEncrypterDecrypter on the key, and check the key's location."
	case about(said, "quota project"):
		return providers.Printable(said, 300), "Run `gcloud auth application-default set-quota-project " + s.options.Project + "`."
	}
	who := "we"
	if account, err := s.account(); err == nil && account != "" {
		who = account
	}
	return fmt.Sprintf("%s lack %s on %s (or it does not exist): it is left untouched and not taken as absent", who, permission, resource),
		fmt.Sprintf("Grant roles/secretmanager.%s on it: `gcloud projects add-iam-policy-binding %s --role roles/secretmanager.%s --member …`, or check the project.", m.role, s.options.Project, m.role)
}

func about(text string, words ...string) bool {
	text = strings.ToLower(text)
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// on is the address of a secret in errors.
func (s *Store) on(name string) string {
	if name == "" {
		return s.place
	}
	return s.place + "/" + providers.Printable(name, 255)
}

// fail makes an error of ours.
func (s *Store) fail(class providers.Class, op, name, hint, format string, args ...any) error {
	return &providers.Error{Class: class, Op: op, On: s.on(name), Err: fmt.Errorf(format, args...), Hint: hint}
}

// withheld takes the message out of an error about a call that carried a
// payload, if the service put the payload, or a piece of it, into it.
func withheld(err error, v secret.Value) error {
	st := status.Convert(err)
	said := st.Message()
	for _, detail := range st.Details() {
		said += " " + fmt.Sprint(detail)
	}
	leaks := false
	v.Use(func(b []byte) {
		for _, form := range []string{string(b), fmt.Sprintf("%q", b), hex.EncodeToString(b), base64.StdEncoding.EncodeToString(b), base64.URLEncoding.EncodeToString(b)} {
			leaks = leaks || shares(said, strings.Trim(form, `="`))
		}
	})
	if leaks {
		return status.Error(st.Code(), "(the service's message is withheld, since it shows the payload)")
	}
	return err
}

// shares reports whether said has eight bytes in a row from form, or all of a
// shorter one.
func shares(said, form string) bool {
	run := min(8, len(form))
	for i := 0; run > 0 && i+run <= len(said); i++ {
		if strings.Contains(form, said[i:i+run]) {
			return true
		}
	}
	return false
}
