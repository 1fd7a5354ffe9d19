package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// cloud is what answers for a cloud's logins: by method and path.
type cloud struct {
	*httptest.Server
	asked []string
}

func newCloud(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, body string)) *cloud {
	t.Helper()
	c := &cloud{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.asked = append(c.asked, r.Method+" "+r.URL.Path)
		answer(w, r, string(body))
	}))
	t.Cleanup(c.Close)
	return c
}

// noAWS is an environment without anything of AWS.
func noAWS(t *testing.T) {
	t.Helper()
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_PROFILE": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "", "AWS_ROLE_ARN": "",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": "", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_MAX_ATTEMPTS": "1",
	} {
		t.Setenv(name, value)
	}
}

const awsAnswer = `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"AKIDEXAMPLE","SecretAccessKey":"canary-secret","Token":"canary-session","Expiration":"2099-01-01T00:00:00Z"}`

// Each step of the AWS chain, against a fake of what it asks: it finds the keys,
// and when it is refused the error says where, and shows nothing that was sent.
func TestAWSChainSteps(t *testing.T) {
	sts := `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>` +
		`<AccessKeyId>AKIDEXAMPLE</AccessKeyId><SecretAccessKey>canary-secret</SecretAccessKey><SessionToken>canary-session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>` +
		`</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`
	for _, tt := range []struct {
		name    string
		env     func(c *cloud, file func(name, text string) string) map[string]string
		answer  func(w http.ResponseWriter, r *http.Request, body string)
		asked   string // what must be among the questions; empty for none
		refused string // part of the error when the cloud refuses; empty where nobody is asked
	}{
		{"a profile", func(_ *cloud, file func(name, text string) string) map[string]string {
			return map[string]string{"AWS_PROFILE": "p", "AWS_SHARED_CREDENTIALS_FILE": file("credentials", "[p]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = canary-secret\naws_session_token = canary-session\n")}
		}, nil, "", ""},
		{"a process of a profile", func(_ *cloud, file func(name, text string) string) map[string]string {
			answer := strings.Replace(awsAnswer, "{", `{"Version":1,"SessionToken":"canary-session",`, 1)
			return map[string]string{"AWS_PROFILE": "p", "AWS_CONFIG_FILE": file("config", "[profile p]\ncredential_process = cat "+file("answer.json", answer)+"\n")}
		}, nil, "", ""},
		{"web identity, as in Kubernetes and CI jobs", func(c *cloud, file func(name, text string) string) map[string]string {
			return map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": file("token", "canary-web"), "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/mirror", "AWS_ENDPOINT_URL_STS": c.URL}
		}, func(w http.ResponseWriter, r *http.Request, body string) {
			if !strings.Contains(body, "Action=AssumeRoleWithWebIdentity") || !strings.Contains(body, "WebIdentityToken=canary-web") {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			io.WriteString(w, sts)
		}, "POST /", "AssumeRoleWithWebIdentity"},
		{"a container", func(c *cloud, _ func(name, text string) string) map[string]string {
			return map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": c.URL + "/creds", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "canary-authorization"}
		}, func(w http.ResponseWriter, r *http.Request, _ string) {
			if r.Header.Get("Authorization") != "canary-authorization" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			io.WriteString(w, awsAnswer)
		}, "GET /creds", "HTTP 403"},
		{"a machine", func(c *cloud, _ func(name, text string) string) map[string]string {
			return map[string]string{"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": c.URL}
		}, func(w http.ResponseWriter, r *http.Request, _ string) {
			switch r.URL.Path {
			case "/latest/api/token":
				w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
				io.WriteString(w, "canary-metadata")
			case "/latest/meta-data/iam/security-credentials/":
				io.WriteString(w, "mirror-role")
			default:
				io.WriteString(w, awsAnswer)
			}
		}, "GET /latest/meta-data/iam/security-credentials/mirror-role", "IMDS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noAWS(t)
			refuse := false
			c := newCloud(t, func(w http.ResponseWriter, r *http.Request, body string) {
				if refuse {
					w.WriteHeader(http.StatusForbidden)
					return
				}
				tt.answer(w, r, body)
			})
			dir := t.TempDir()
			env := tt.env(c, func(name, text string) string {
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			})
			for name, value := range env {
				t.Setenv(name, value)
			}
			var said bytes.Buffer
			chain := awsKeys(hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &said}))
			for range 2 {
				keys, err := chain(t.Context(), "eu-west-1")
				if err != nil || keys.AccessKeyID != "AKIDEXAMPLE" || keys.SecretAccessKey != "canary-secret" || keys.SessionToken != "canary-session" {
					t.Fatalf("%s, %v; asked %q", keys.AccessKeyID, err, c.asked)
				}
			}
			times := 0
			for _, question := range c.asked {
				if question == tt.asked {
					times++
				}
			}
			if want := len(tt.asked[:min(1, len(tt.asked))]); times != want {
				t.Errorf("asked %q, want %q once", c.asked, tt.asked)
			}
			if tt.refused == "" {
				return
			}
			refuse = true
			if keys, err := awsKeys(hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: &said}))(t.Context(), "eu-west-1"); err == nil || !strings.Contains(err.Error(), tt.refused) || strings.Contains(err.Error(), "canary") {
				t.Errorf("refused: keys %q, error %v; want %q and no secret", keys.AccessKeyID, err, tt.refused)
			}
			if strings.Contains(said.String(), "canary") {
				t.Errorf("the log shows a secret:\n%s", said.String())
			}
		})
	}
}

// Each step of Google's chain, the same.
func TestGoogleChainSteps(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	dir := t.TempDir()
	subject := filepath.Join(dir, "subject")
	if err := os.WriteFile(subject, []byte("canary-subject"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		file map[string]any // credentials; nil for the metadata server
		path string         // what is asked
		has  string         // part of the question's body
		from string         // what it says of itself
	}{
		{"a service account", map[string]any{"type": "service_account", "client_email": "m@p.iam.gserviceaccount.com", "private_key_id": "k", "private_key": private, "token_uri": "https://oauth2.googleapis.com/token"},
			"POST /token", "assertion=", "a file of type service_account"},
		{"workload identity federation", map[string]any{"type": "external_account", "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
			"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": "https://sts.googleapis.com/v1/token", "credential_source": map[string]any{"file": subject}},
			"POST /v1/token", "subject_token=canary-subject", "a file of type external_account"},
		{"the metadata server", nil, "GET /computeMetadata/v1/instance/service-accounts/default/token", "", "the metadata server"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refuse := false
			c := newCloud(t, func(w http.ResponseWriter, r *http.Request, body string) {
				w.Header().Set("Metadata-Flavor", "Google")
				w.Header().Set("Content-Type", "application/json")
				switch {
				case refuse:
					w.WriteHeader(http.StatusForbidden)
					fmt.Fprintf(w, `{"error":"invalid_grant","error_description":"%s"}`, "canary-subject is no good")
				case !strings.Contains(body, tt.has):
					w.WriteHeader(http.StatusBadRequest)
				default:
					io.WriteString(w, `{"access_token":"canary-access","expires_in":3599,"token_type":"Bearer","issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}`)
				}
			})
			client := &http.Client{Transport: redirected{c.URL}}
			if tt.file == nil {
				t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
				t.Setenv("HOME", t.TempDir()) // no gcloud
				t.Setenv("CLOUDSDK_CONFIG", t.TempDir())
				t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(c.URL, "http://"))
			} else {
				content, err := json.Marshal(tt.file)
				if err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(t.TempDir(), "adc.json")
				if err := os.WriteFile(file, content, 0o600); err != nil {
					t.Fatal(err)
				}
				t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
			}
			token := googleToken(client)
			for range 2 {
				value, expires, source, err := token(t.Context())
				if err != nil || value != "canary-access" || expires.IsZero() || source != tt.from {
					t.Fatalf("%q until %s from %q, %v; asked %q", value, expires, source, err, c.asked)
				}
			}
			times := 0
			for _, question := range c.asked {
				if question == tt.path {
					times++
				}
			}
			if times != 1 {
				t.Errorf("asked %q, want %q once", c.asked, tt.path)
			}
			refuse = true
			if _, _, _, err := googleToken(client)(t.Context()); err == nil || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "canary") {
				t.Errorf("refused: %v, want the status and no secret", err)
			}
		})
	}
}
