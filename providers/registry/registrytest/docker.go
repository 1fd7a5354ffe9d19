package registrytest

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// WriteDockerConfig writes a Docker configuration into dir (for DOCKER_CONFIG)
// that holds one login, and gives the file's name. Only for the credentials of
// test registries.
func WriteDockerConfig(t testing.TB, dir, host, user, password string) string {
	t.Helper()
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	body, err := json.MarshalIndent(map[string]any{
		"auths": map[string]any{host: map[string]string{"auth": auth}},
	}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "config.json")
	writeFile(t, name, append(body, '\n'))
	return name
}
