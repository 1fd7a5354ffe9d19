package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/config"
	"freightliner/providers/registry"
)

// TestSettingsOfARegistryBlock: everything that a registry block says reaches the
// client.
func TestSettingsOfARegistryBlock(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"ca.pem", "cert.pem", "key.pem"} {
		if err := os.WriteFile(filepath.Join(".", name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := (&session{}).settingsOf([]config.Registry{{
		Name: "prod", Host: "reg.example:5000", Path: "team", Kind: "ecr", PlainHTTP: true, CAFile: "ca.pem", ClientCert: "cert.pem", ClientKey: "key.pem",
		Concurrency: 3, RequestsPerSecond: 2.5, MaxBandwidth: 7, TokenHosts: []string{"t.example"}, UploadHosts: []string{"u.example"},
		CreateRepositories: true,
		Created:            config.RepositorySettings{ScanOnPush: true, ImmutableTags: true, KMSKey: "alias/k", Labels: map[string]string{"a": "b"}},
	}})
	want := []registry.Settings{{
		Host: "reg.example:5000", Path: "team", Kind: "ecr", PlainHTTP: true, RootCAs: []byte("ca.pem"), Certificate: []byte("cert.pem"), CertificateKey: []byte("key.pem"),
		Concurrency: 3, RequestsPerSecond: 2.5, MaxBandwidth: 7, TokenHosts: []string{"t.example"}, UploadHosts: []string{"u.example"},
		CreateRepositories: true,
		Created:            registry.RepositorySettings{ScanOnPush: true, ImmutableTags: true, KMSKey: "alias/k", Labels: map[string]string{"a": "b"}},
	}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
