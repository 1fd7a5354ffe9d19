package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"freightliner/config"
	"freightliner/providers/registry/gar"
	"freightliner/providers/registry/kinds"
)

// What a registry block may say, and what the client knows, are the same kinds;
// what the configuration takes for a cloud's host is one that the cloud's own
// credentials are offered to.
func TestKindsAgree(t *testing.T) {
	var names []string
	serves := map[string]func(string) bool{}
	for _, k := range kinds.All(kinds.Outside{}) {
		names = append(names, k.Name)
		serves[k.Name] = k.Serves
	}
	known := slices.Clone(config.Kinds)
	slices.Sort(known)
	slices.Sort(names)
	if !slices.Equal(known, names) {
		t.Errorf("config knows %q, the client %q", known, names)
	}
	for host, kind := range map[string]string{
		"123456789012.dkr.ecr.eu-west-1.amazonaws.com": "ecr", "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com": "ecr",
		"public.ecr.aws": "ecr-public", "europe-docker.pkg.dev": "gar", "gcr.io": "gar", "eu.gcr.io": "gar", "acme.azurecr.io": "acr",
		"ghcr.io": "ghcr", "docker.io": "dockerhub", "quay.io": "quay", "registry.gitlab.com": "gitlab", "acme.jfrog.io": "artifactory",
	} {
		cfg, diags := config.Load(os.DirFS(writeConfig(t, `registry "r" { host = "`+host+`" }`)), ".", config.Variables{}, config.Options{Version: "0.1.0"})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		if got := cfg.Registries[0].Kind; got != kind || !serves[kind](host) {
			t.Errorf("%s: config says %s, want %s, which serves it: %t", host, got, kind, serves[kind](host))
		}
	}
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The chain of the AWS SDK is asked when keys are wanted, and says where it
// looked when it has none.
func TestAWSChain(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "none")
	for _, name := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		t.Setenv(name, empty)
	}
	t.Setenv("AWS_PROFILE", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	if keys, err := awsKeys(hclog.NewNullLogger())(t.Context(), "eu-west-1"); err == nil {
		t.Errorf("keys of %s out of nothing", keys.Source)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
	chain := awsKeys(hclog.NewNullLogger())
	for range 2 {
		keys, err := chain(t.Context(), "eu-west-1")
		if err != nil || keys.AccessKeyID != "AKIDEXAMPLE" || keys.SecretAccessKey != "canary-secret" {
			t.Errorf("%v, %v; want the keys of the environment", keys.AccessKeyID, err)
		}
	}
}

// Application Default Credentials are found by the environment; those that do not
// work are told from none at all, without what the answer repeats.
func TestGoogleCredentials(t *testing.T) {
	refuse := false
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if err := r.ParseForm(); err != nil || r.Form.Get("refresh_token") != "canary-refresh" {
			t.Errorf("asked with %v, %v", r.Form, err)
		}
		w.Header().Set("Content-Type", "application/json")
		if refuse {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"error":"invalid_grant","error_description":"canary-refresh is no good"}`)
			return
		}
		io.WriteString(w, `{"access_token":"canary-access","expires_in":3599,"token_type":"Bearer"}`)
	}))
	defer server.Close()
	// Where the token comes from is Google's for this type of file, so the client's
	// transport leads it to the server.
	client := &http.Client{Transport: redirected{server.URL}}
	file := filepath.Join(t.TempDir(), "adc.json")
	content, err := json.Marshal(map[string]string{"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "canary-refresh"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	token := googleToken(client)
	for range 3 {
		value, expires, source, err := token(t.Context())
		if err != nil || value != "canary-access" || expires.IsZero() || source != "a file of type authorized_user" {
			t.Errorf("%q until %s from %q, %v", value, expires, source, err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times, want once", asked)
	}
	refuse = true
	_, _, _, err = googleToken(client)(t.Context())
	if err == nil || errors.Is(err, gar.ErrNone) || !strings.Contains(err.Error(), "invalid_grant") || strings.Contains(err.Error(), "canary") {
		t.Errorf("refused: %v", err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", filepath.Join(t.TempDir(), "missing.json"))
	if _, _, _, err = googleToken(client)(context.Background()); err == nil || errors.Is(err, gar.ErrNone) {
		t.Errorf("a file that is not there: %v, want an error that is not ErrNone", err)
	}
}

// redirected leads every request to one server.
type redirected struct{ to string }

func (r redirected) RoundTrip(req *http.Request) (*http.Response, error) {
	there, err := http.NewRequestWithContext(req.Context(), req.Method, r.to+req.URL.Path, req.Body)
	if err != nil {
		return nil, err
	}
	there.Header = req.Header
	return http.DefaultTransport.RoundTrip(there)
}
