package gcp_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"freightliner/providers"
	"freightliner/providers/secret"
	"freightliner/providers/secret/gcp"
	"freightliner/providers/secret/secrettest/gcpfake"
)

// TestDeniedIsNeverAbsent takes each permission away, on a secret that is there
// and on one that is not: the answers are alike, as the service's are, and none
// of them is NotFound or leads to a write.
func TestDeniedIsNeverAbsent(t *testing.T) {
	for _, c := range []struct {
		permission, role string
		do               func(s *gcp.Store, name string) error
	}{
		{"secrets.get", "viewer", func(s *gcp.Store, name string) error { _, err := s.Describe(t.Context(), name); return err }},
		{"versions.access", "secretAccessor", func(s *gcp.Store, name string) error {
			_, _, err := reading(t, s, secret.Ref{Name: name})
			return err
		}},
		{"secrets.get", "viewer", func(s *gcp.Store, name string) error { _, err := s.History(t.Context(), name); return err }},
		{"versions.list", "viewer", func(s *gcp.Store, name string) error { _, err := s.History(t.Context(), name); return err }},
		{"secrets.get", "viewer", func(s *gcp.Store, name string) error {
			_, err := s.Write(t.Context(), secret.Write{Name: name, Value: text("needle-2"), Token: token(), Expect: "1"})
			return err
		}},
		{"secrets.update", "admin", func(s *gcp.Store, name string) error {
			_, err := s.Write(t.Context(), secret.Write{Name: name, Value: text("needle-2"), Token: token(), Expect: "1"})
			return err
		}},
		{"versions.add", "secretVersionAdder", func(s *gcp.Store, name string) error {
			_, err := s.Write(t.Context(), secret.Write{Name: name, Value: text("needle-2"), Token: token(), Expect: "1"})
			return err
		}},
		{"secrets.create", "admin", func(s *gcp.Store, _ string) error {
			_, err := s.Write(t.Context(), creation("new", "needle"))
			return err
		}},
		{"secrets.get", "viewer", func(s *gcp.Store, name string) error {
			_, _, err := s.Settle(t.Context(), secret.Write{Name: name, Token: token()})
			return err
		}},
		{"secrets.update", "admin", func(s *gcp.Store, name string) error {
			return s.Update(t.Context(), name, secret.Metadata{Owner: "secret.other"}, "")
		}},
		{"secrets.delete", "admin", func(s *gcp.Store, name string) error {
			_, err := s.Delete(t.Context(), name, secret.Deletion{Expect: "1", Force: true})
			return err
		}},
		{"versions.disable", "secretVersionManager", func(s *gcp.Store, name string) error {
			_, err := s.Delete(t.Context(), name, secret.Deletion{Expect: "1"})
			return err
		}},
		{"secrets.list", "viewer", func(s *gcp.Store, _ string) error {
			for _, err := range s.List(t.Context(), "") {
				return err
			}
			return nil
		}},
	} {
		server := served(t, gcpfake.Options{NoQuotas: true})
		s := opened(t, server, func(o *gcp.Options) {
			o.Account = func(context.Context) (string, error) { return "ci@acme.iam.gserviceaccount.com", nil }
		})
		mustWrite(t, s, creation("db", "needle-1"))
		server.Deny("secretmanager."+c.permission, "")
		wants(t, c.do(s, "db"), providers.Denied, "ci@acme.iam.gserviceaccount.com lack", "secretmanager."+c.permission, "projects/acme", "not taken as absent", "roles/secretmanager."+c.role)
		if strings.HasPrefix(c.permission, "secrets.get") || c.permission == "versions.access" {
			if err := c.do(s, "nobody"); c.permission == "secrets.get" {
				wants(t, err, providers.Denied)
			} else if providers.ClassOf(err) == providers.NotFound {
				t.Errorf("%s: a denied reading is absence: %v", c.permission, err)
			}
		}
		if got := made(server, "db"); !strings.HasPrefix(got, "1:enabled:needle-1") || strings.Contains(got, "needle-2") {
			t.Error(got)
		}
	}
}

// TestErrorsHelp are the service's refusals and what is said of them.
func TestErrorsHelp(t *testing.T) {
	describe := func(s *gcp.Store) error { _, err := s.Describe(t.Context(), "db"); return err }
	write := func(s *gcp.Store) error {
		_, err := s.Write(t.Context(), secret.Write{Name: "db", Value: text("needle-2"), Token: token(), Expect: "1"})
		return err
	}
	key := kms("global", "k")
	for _, c := range []struct {
		what  string
		spoil func(*gcpfake.Server)
		do    func(*gcp.Store) error
		class providers.Class
		words []string
	}{
		{"API off", func(f *gcpfake.Server) { f.SwitchOff() }, describe, providers.Denied, []string{"not enabled in project acme", "gcloud services enable"}},
		{"KMS key disabled", func(f *gcpfake.Server) {
			f.BreakKey(key, status.Error(codes.FailedPrecondition, "The KMS key "+key+" is not enabled."))
		}, write, providers.Conflict, []string{key, "cryptoKeyEncrypterDecrypter"}},
		{"KMS key denied", func(f *gcpfake.Server) {
			f.BreakKey(key, status.Error(codes.PermissionDenied, "Permission 'cloudkms.cryptoKeyVersions.useToEncrypt' denied on resource '"+key+"'."))
		}, write, providers.Denied, []string{key, "cryptoKeyEncrypterDecrypter"}},
		{"exists", nil, func(s *gcp.Store) error { _, err := s.Write(t.Context(), creation("db", "needle")); return err }, providers.Conflict, []string{"has a version already"}},
		{"no such secret", nil, func(s *gcp.Store) error {
			_, err := s.Write(t.Context(), secret.Write{Name: "nobody", Value: text("v"), Token: token()})
			return err
		}, providers.Conflict, []string{"no such secret"}},
		{"a proxy's answer", func(f *gcpfake.Server) {
			f.Script(func(gcpfake.Call) gcpfake.Fault {
				return gcpfake.Fault{Kind: gcpfake.Refuse, Code: codes.Unknown, Message: "unexpected HTTP status code: 502\x1b[31m"}
			})
		}, describe, providers.Transient, []string{"not of Secret Manager", "proxies"}},
		{"quota project", func(f *gcpfake.Server) {
			f.Script(func(gcpfake.Call) gcpfake.Fault {
				return gcpfake.Fault{Kind: gcpfake.Refuse, Code: codes.PermissionDenied, Message: "The secretmanager.googleapis.com API requires a quota project, which is not set by default."}
			})
		}, describe, providers.Denied, []string{"set-quota-project acme"}},
		{"not ours to know", func(f *gcpfake.Server) {
			f.Script(func(gcpfake.Call) gcpfake.Fault {
				return gcpfake.Fault{Kind: gcpfake.Refuse, Code: codes.Unimplemented, Message: "unknown method"}
			})
		}, describe, providers.Unsupported, []string{"unknown method"}},
	} {
		server := served(t, gcpfake.Options{NoQuotas: true})
		s := opened(t, server, func(o *gcp.Options) { o.KMSKey = key })
		mustWrite(t, s, creation("db", "needle-1"))
		if c.spoil != nil {
			c.spoil(server)
		}
		err := c.do(s)
		wants(t, err, c.class, c.words...)
		if strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%s: an escape sequence passes", c.what)
		}
	}
	// Another project's name is a refusal, as the service's is.
	server := served(t, gcpfake.Options{})
	s := opened(t, server, func(o *gcp.Options) { o.Project = "other" })
	wants(t, describe(s), providers.Denied, "projects/other")
	for _, err := range s.List(t.Context(), "") {
		wants(t, err, providers.Denied)
	}
}

// TestNoPayloadAnywhere takes payloads of many shapes through everything, over a
// service that repeats them in its messages, and searches all that was said and
// all that whoever may not read payloads can see.
func TestNoPayloadAnywhere(t *testing.T) {
	payloads := []string{"needle-plain", "needle\nof\nlines\n", "needle \"quoted\" 'and' `more` 100%s %d $HOME \\n", "\x00\xff\xfeneedle\x80", `{"user":"app","password":"needle"}`,
		"-----BEGIN PRIVATE KEY-----\nneedleneedleneedle\n-----END PRIVATE KEY-----\n", "n33dle", strings.Repeat("needle", 2000)}
	var said strings.Builder
	note := func(err error) {
		if err != nil {
			fmt.Fprintf(&said, "%v\n%s\n%+v %#v\n", err, providers.HintOf(err), err, err)
		}
	}
	echo := func(r any) string {
		q, ok := r.(*pb.AddSecretVersionRequest)
		if !ok {
			return ""
		}
		data := q.GetPayload().GetData()
		return fmt.Sprintf("got %s %q %x %s %d", data, data, data, base64.StdEncoding.EncodeToString(data), q.GetPayload().GetDataCrc32C())
	}
	var visible strings.Builder
	sums := map[string]bool{}
	for i, payload := range payloads {
		server := served(t, gcpfake.Options{NoQuotas: true})
		s := opened(t, server, func(o *gcp.Options) { o.Notice = func(text string) { said.WriteString(text) } })
		name := fmt.Sprintf("s-%d", i)
		v := mustWrite(t, s, creation(name, payload))
		for _, code := range []codes.Code{codes.InvalidArgument, codes.FailedPrecondition, codes.PermissionDenied, codes.Internal, codes.Unknown, codes.ResourceExhausted, codes.Code(99)} {
			server.Script(func(c gcpfake.Call) gcpfake.Fault {
				if c.Method != "AddSecretVersion" {
					return gcpfake.Fault{}
				}
				q := &pb.AddSecretVersionRequest{Payload: &pb.SecretPayload{Data: []byte(payload)}}
				return gcpfake.Fault{Kind: gcpfake.Refuse, Code: code, Message: echo(q)[:len(echo(q))-i*5%len(payload)]}
			})
			w := secret.Write{Name: name, Value: text(payload), Token: token(), Expect: v, Owner: "secret.test"}
			_, err := s.Write(t.Context(), w)
			if err == nil {
				t.Fatal("the write went through")
			}
			note(err)
			_, _, err = s.Settle(t.Context(), w)
			note(err)
		}
		on(server, "AddSecretVersion", 1, gcpfake.Fault{Kind: gcpfake.Twice})
		v = mustWrite(t, s, secret.Write{Name: name, Value: text(payload), Token: token(), Expect: v, Owner: "secret.test"})
		server.Script(nil)
		on(server, "AccessSecretVersion", 1, gcpfake.Fault{Answer: func(a any) { a.(*pb.AccessSecretVersionResponse).Payload.Data[0] ^= 1 }})
		_, _, err := reading(t, s, secret.Ref{Name: name})
		note(err)
		stranger(t, server).add(name, "theirs")
		_, err = s.Write(t.Context(), secret.Write{Name: name, Value: text(payload), Token: token(), Expect: v})
		note(err)
		_, err = s.Delete(t.Context(), name, secret.Deletion{Expect: v})
		note(err)
		_, err = s.Delete(t.Context(), name, secret.Deletion{Expect: fmt.Sprint(len(server.Made(name)))})
		note(err)
		_, _, err = reading(t, s, secret.Ref{Name: name})
		note(err)
		visible.WriteString(server.Visible())
		for _, sum := range []int64{gcpfake.Checksum([]byte(payload))} {
			sums[fmt.Sprint(sum)], sums[fmt.Sprintf("%08x", sum)] = true, true
		}
	}
	if said.Len() < 10_000 || visible.Len() < 5_000 {
		t.Fatalf("only %d and %d bytes to search", said.Len(), visible.Len())
	}
	for where, all := range map[string]string{"errors": said.String(), "metadata": visible.String()} {
		for _, p := range payloads {
			b := []byte(p)
			for _, form := range []string{p, fmt.Sprintf("%q", p), fmt.Sprint(b), hex.EncodeToString(b), base64.StdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b), url.QueryEscape(p)} {
				if form = form[:min(len(form), 60)]; strings.Contains(all, form) {
					i := strings.Index(all, form)
					t.Errorf("the %s show a payload: …%q", where, all[max(0, i-100):i])
				}
			}
			for _, line := range bytes.Split(b, []byte("\n")) {
				if len(line) > 5 && strings.Contains(all, string(line)) {
					t.Errorf("the %s show a line of a payload", where)
				}
			}
		}
		for sum := range sums {
			if strings.Contains(all, sum) {
				t.Errorf("the %s show a checksum", where)
			}
		}
	}
}
