package aws_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"

	"freightliner/providers"
	"freightliner/providers/secret"
	. "freightliner/providers/secret/aws"
	"freightliner/providers/secret/secrettest/awsfake"
)

const needle = "needle-\"hidden\"-payload"

// TestErrors breaks one thing at a time and looks at what a person is told.
func TestErrors(t *testing.T) {
	read := func(ctx context.Context, s *Store) (err error) {
		readErr := s.Read(ctx, []secret.Ref{{Name: "prod/db"}}, func(r secret.Reading) { err = r.Err; r.Value.Zero() })
		return errors.Join(readErr, err)
	}
	write := func(ctx context.Context, s *Store) error {
		info, err := s.Describe(ctx, "prod/db")
		if err != nil {
			return err
		}
		_, err = s.Write(ctx, secret.Write{Name: "prod/db", Value: text(needle), Token: tokenOf(), Expect: info.Version, Owner: "secret.db"})
		return err
	}
	create := func(m secret.Metadata) func(context.Context, *Store) error {
		return func(ctx context.Context, s *Store) error {
			_, err := s.Write(ctx, secret.Write{Name: "prod/new", Value: text(needle), Token: tokenOf(), Create: &m})
			return err
		}
	}
	describe := func(ctx context.Context, s *Store) error { _, err := s.Describe(ctx, "prod/db"); return err }
	fault := func(k awsfake.Kind, operation string) func(*awsfake.Fake) {
		return func(f *awsfake.Fake) {
			f.Inject(func(c awsfake.Call) awsfake.Fault {
				if c.Operation == operation {
					return awsfake.Fault{Kind: k}
				}
				return awsfake.Fault{}
			})
		}
	}
	const (
		policy = `{"Effect":"Allow","Action":"secretsmanager:%s","Resource":"%s"}`
		arn    = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-??????"
		who    = "arn:aws:sts::123456789012:assumed-role/deploy/ci"
	)
	for name, c := range map[string]struct {
		with  func(*awsfake.Fake)
		do    func(context.Context, *Store) error
		class providers.Class
		says  []string // in error and hint
	}{
		"no right to read":     {func(f *awsfake.Fake) { f.Deny("GetSecretValue", "prod/db") }, read, providers.Denied, []string{who, fmt.Sprintf(policy, "GetSecretValue", arn), "not taken for absence"}},
		"no right to put":      {func(f *awsfake.Fake) { f.Deny("PutSecretValue", "*") }, write, providers.Denied, []string{who, fmt.Sprintf(policy, "PutSecretValue", arn)}},
		"no right to describe": {func(f *awsfake.Fake) { f.Deny("DescribeSecret", "*") }, write, providers.Denied, []string{who, fmt.Sprintf(policy, "DescribeSecret", arn)}},
		"no right to stage":    {func(f *awsfake.Fake) { f.Deny("UpdateSecretVersionStage", "*") }, write, providers.Denied, []string{fmt.Sprintf(policy, "UpdateSecretVersionStage", arn)}},
		"no right to tag": {func(f *awsfake.Fake) { f.Deny("TagResource", "*") }, create(secret.Metadata{Owner: "secret.new"}), providers.Denied,
			[]string{`"Action":"secretsmanager:TagResource"`, "secret:prod/new-??????"}},
		"no right to replicate": {func(f *awsfake.Fake) { f.Deny("ReplicateSecretToRegions", "*") }, create(secret.Metadata{Replicas: []secret.Replica{{Region: "us-east-1"}}}), providers.Denied,
			[]string{`"Action":"secretsmanager:ReplicateSecretToRegions"`}},
		"no right to list": {func(f *awsfake.Fake) { f.Deny("ListSecrets", "*") }, func(ctx context.Context, s *Store) error {
			for _, err := range s.List(ctx, "") {
				return err
			}
			return nil
		}, providers.Denied, []string{fmt.Sprintf(policy, "ListSecrets", "*")}},
		"no right to delete": {func(f *awsfake.Fake) { f.Deny("DeleteSecret", "*") }, func(ctx context.Context, s *Store) error {
			info, _ := s.Describe(ctx, "prod/db")
			_, err := s.Delete(ctx, "prod/db", secret.Deletion{Expect: info.Version})
			return err
		}, providers.Denied, []string{fmt.Sprintf(policy, "DeleteSecret", arn)}},
		"key denied on read":    {func(f *awsfake.Fake) { f.DenyKey("") }, read, providers.Denied, []string{"kms:Decrypt", who, "not taken for absence"}},
		"key disabled on read":  {func(f *awsfake.Fake) { f.DisableKey("") }, read, providers.Denied, []string{"kms:Decrypt", "enabled"}},
		"key denied on write":   {func(f *awsfake.Fake) { f.DenyKey("") }, write, providers.Denied, []string{"kms:GenerateDataKey", "key policy"}},
		"key disabled on write": {func(f *awsfake.Fake) { f.DisableKey("") }, write, providers.Denied, []string{"kms:GenerateDataKey"}},
		"keys expired": {func(f *awsfake.Fake) {
			f.Revoke("ExpiredTokenException", "The security token included in the request is expired")
		}, describe, providers.Denied, []string{"expired", "profile ci", "aws sso login"}},
		"keys unknown": {func(f *awsfake.Fake) {
			f.Revoke("UnrecognizedClientException", "The security token included in the request is invalid.")
		}, describe, providers.Denied, []string{"access key", "profile ci"}},
		"clock wrong": {func(f *awsfake.Fake) {
			f.Revoke("InvalidSignatureException", "Signature not yet current: 20260101T000000Z is still later than 20250101T000000Z")
		}, describe, providers.Denied, []string{"clock"}},
		"endpoint of another region": {func(f *awsfake.Fake) { f.Region = "us-east-1" }, describe, providers.Denied, []string{"eu-west-1", "endpoint"}},
		"absent": {func(*awsfake.Fake) {}, func(ctx context.Context, s *Store) error { _, err := s.Describe(ctx, "prod/db2"); return err }, providers.NotFound,
			[]string{"eu-west-1", "region", "profile"}},
		"no value yet": {func(f *awsfake.Fake) { f.Bare("prod/empty") }, func(ctx context.Context, s *Store) (err error) {
			readErr := s.Read(ctx, []secret.Ref{{Name: "prod/empty"}}, func(r secret.Reading) { err = r.Err })
			return errors.Join(readErr, err)
		}, providers.Conflict, []string{"exists, but has no value"}},
		"waits for deletion": {func(*awsfake.Fake) {}, func(ctx context.Context, s *Store) error {
			info, _ := s.Describe(ctx, "prod/db")
			if _, err := s.Delete(ctx, "prod/db", secret.Deletion{Expect: info.Version, Window: 7 * 24 * time.Hour}); err != nil {
				return err
			}
			return read(ctx, s)
		}, providers.Conflict, []string{"2026-01-08", "restore"}},
		"owned by a service": {func(f *awsfake.Fake) { f.Own("prod/db", "rds") }, write, providers.Unsupported, []string{"rds", `manage = "metadata"`}},
		"a replica":          {func(f *awsfake.Fake) { f.Replicated("prod/db", "us-east-1") }, write, providers.Conflict, []string{"replica", "us-east-1"}},
		"version quota":      {func(f *awsfake.Fake) { f.VersionQuota = 1 }, write, providers.Invalid, []string{"24 hours", "10 minutes"}},
		"exists already": {func(f *awsfake.Fake) {
			f.Foreign("prod/new", "theirs")
			f.Retag("prod/new", "managed-by", "freightliner")
			f.Retag("prod/new", "freightliner-address", "secret.other")
		}, create(secret.Metadata{}), providers.Conflict, []string{"secret.other", "adopt"}},
		"replica fails": {func(f *awsfake.Fake) {
			f.FailReplicas("us-east-1", "Replication failed: Secret name prod/new already exists in region us-east-1.")
		}, create(secret.Metadata{Replicas: []secret.Replica{{Region: "us-east-1"}}}), providers.Conflict, []string{"already exists", "us-east-1", "never overwrites"}},
		"replica key": {func(f *awsfake.Fake) {
			f.FailReplicas("us-east-1", "Replication failed: Access denied to the KMS key.")
		}, create(secret.Metadata{Replicas: []secret.Replica{{Region: "us-east-1", KMSKey: "alias/x"}}}), providers.Denied, []string{"kms:GenerateDataKey", "us-east-1"}},
		"garbled":   {fault(awsfake.Garbled, "DescribeSecret"), describe, providers.Invalid, []string{"HTTP 200", "secretsmanager.eu-west-1.amazonaws.com"}},
		"proxied":   {fault(awsfake.Proxied, "DescribeSecret"), describe, providers.Invalid, []string{"HTTP 403", "proxy"}},
		"moved":     {fault(awsfake.Moved, "DescribeSecret"), describe, providers.Invalid, []string{"HTTP 307"}},
		"down":      {fault(awsfake.Unavailable, "DescribeSecret"), describe, providers.Transient, []string{"HTTP 503"}},
		"cut":       {fault(awsfake.Cut, "DescribeSecret"), describe, providers.Transient, []string{"no connection"}},
		"echo put":  {fault(awsfake.Echo, "PutSecretValue"), write, providers.Invalid, []string{"ValidationException"}},
		"echo make": {fault(awsfake.Echo, "CreateSecret"), create(secret.Metadata{}), providers.Invalid, []string{"ValidationException"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := awsfake.New("eu-west-1")
			f.Foreign("prod/db", needle)
			s := open(t, f, func(o *Options) { o.Profile = "ci" })
			c.with(f)
			err := c.do(t.Context(), s)
			if err == nil {
				t.Fatal("succeeded")
			}
			if got := providers.ClassOf(err); got != c.class {
				t.Errorf("class %v, want %v: %v", got, c.class, err)
			}
			said := err.Error() + " | " + providers.HintOf(err)
			for _, want := range c.says {
				if !strings.Contains(said, want) {
					t.Errorf("%q\nis not in: %s", want, said)
				}
			}
			for _, form := range []string{needle, fmt.Sprintf("%q", needle), "needle"} {
				if all := said + fmt.Sprintf("%+v %#v", err, err) + f.Visible(); strings.Contains(all, form) {
					t.Errorf("the payload shows: %s", all)
				}
			}
		})
	}
}

type noKeys struct{ err error }

func (n noKeys) Retrieve(context.Context) (awssdk.Credentials, error) {
	return awssdk.Credentials{}, n.err
}

func TestNoKeys(t *testing.T) {
	f := awsfake.New("eu-west-1")
	for name, c := range map[string]struct {
		change func(*Options)
		class  providers.Class
		says   []string
	}{
		"none": {func(o *Options) {
			o.Keys = noKeys{errors.New("no EC2 IMDS role found")}
		}, providers.Denied, []string{"no EC2 IMDS role found", "default chain"}},
		"a process's output": {func(o *Options) {
			o.Keys = noKeys{errors.New("parse failed of process output: " + needle)}
		}, providers.Denied, []string{"credential_process failed"}},
		"role refused": {func(o *Options) {
			f.Deny("AssumeRole", "*")
			o.RoleARN = "arn:aws:iam::999999999999:role/writer"
		}, providers.Denied, []string{"sts:AssumeRole", "role/writer", "trust"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, f, c.change)
			_, err := s.Describe(t.Context(), "db")
			said := fmt.Sprint(err, " | ", providers.HintOf(err))
			if providers.ClassOf(err) != c.class {
				t.Errorf("class %v: %s", providers.ClassOf(err), said)
			}
			for _, want := range c.says {
				if !strings.Contains(said, want) {
					t.Errorf("%q is not in: %s", want, said)
				}
			}
			if strings.Contains(said, needle) {
				t.Error("it shows what a process printed")
			}
		})
	}
	f.Allow()
	s := open(t, f, func(o *Options) { o.RoleARN = "arn:aws:iam::999999999999:role/writer" })
	put(t, s, "db", "by the role", "")
	if f.Calls()["AssumeRole"] != 2 { // the refused one, and the one that worked
		t.Errorf("calls %v", f.Calls())
	}
}

func TestOpen(t *testing.T) {
	f := awsfake.New("eu-west-1")
	for name, c := range map[string]struct {
		region, endpoint, place string
	}{
		"aws":             {"eu-west-1", "", "aws/eu-west-1"},
		"vpc":             {"eu-west-1", "https://vpce-1.secretsmanager.eu-west-1.vpce.amazonaws.com", "aws/eu-west-1/vpce-1.secretsmanager.eu-west-1.vpce.amazonaws.com"},
		"emulator":        {"us-east-1", "http://localhost:4566", "aws/us-east-1/localhost:4566"},
		"container":       {"us-east-1", "http://emulator:4566", "aws/us-east-1/emulator:4566"},
		"loopback":        {"us-east-1", "http://127.0.0.1:5000", "aws/us-east-1/127.0.0.1:5000"},
		"no region":       {"", "", ""},
		"odd region":      {"eu west 1", "", ""},
		"clear text":      {"eu-west-1", "http://secrets.example.com", ""},
		"clear elsewhere": {"eu-west-1", "http://10.0.0.1", ""},
		"no url":          {"eu-west-1", "localhost:4566", ""},
		"with a password": {"eu-west-1", "https://user:pw@host.example", ""},
	} {
		s, err := New(t.Context(), Options{Region: c.region, Endpoint: c.endpoint, Keys: f.Keys(), HTTP: f.Client(), Clock: f.Clock})
		switch {
		case c.place == "" && providers.ClassOf(err) != providers.Invalid:
			t.Errorf("%s: %v", name, err)
		case c.place != "" && (err != nil || s.Place() != c.place):
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error()+providers.HintOf(err), "pw") {
			t.Errorf("%s shows a password: %v", name, err)
		}
	}
	if _, err := New(t.Context(), Options{Region: "eu-west-1"}); err == nil {
		t.Error("opened without keys, client and clock")
	}
}

// TestLargeAnswer: an answer has a bound.
func TestLargeAnswer(t *testing.T) {
	f := awsfake.New("eu-west-1")
	s := open(t, f, func(o *Options) { o.HTTP = &http.Client{Transport: endless{}} })
	_, err := s.Describe(t.Context(), "db")
	if providers.ClassOf(err) != providers.Invalid {
		t.Fatalf("class %v: %v", providers.ClassOf(err), err)
	}
}

// TestRedirect: whatever redirects, the payload is sent once, to the endpoint.
func TestRedirect(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		f := awsfake.New("eu-west-1")
		f.Bare("db")
		w := &wanderer{f: f.Client(), status: status, sent: map[string]int{}}
		s := open(t, f, func(o *Options) { o.HTTP = &http.Client{Transport: w} })
		_, err := s.Write(t.Context(), secret.Write{Name: "db", Value: text(needle), Token: tokenOf()})
		if providers.ClassOf(err) != providers.Invalid || len(w.sent) != 1 || w.sent["secretsmanager.eu-west-1.amazonaws.com"] == 0 {
			t.Errorf("%d: sent to %v: %v", status, w.sent, err)
		}
	}
}

// wanderer sends puts elsewhere.
type wanderer struct {
	f      *http.Client
	status int
	sent   map[string]int // by host
}

func (w *wanderer) RoundTrip(r *http.Request) (*http.Response, error) {
	w.sent[r.URL.Host]++
	if r.Header.Get("X-Amz-Target") == "secretsmanager.DescribeSecret" {
		return w.f.Transport.RoundTrip(r)
	}
	return &http.Response{StatusCode: w.status, Request: r, Body: http.NoBody, Header: http.Header{"Location": {"https://elsewhere.example/"}}}, nil
}

type endless struct{}

func (endless) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: spaces{}, Request: r, Header: http.Header{}}, nil
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
func (spaces) Close() error { return nil }
