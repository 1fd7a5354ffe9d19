package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// peers are pinned: the newest versions that the module proxy had when the
// numbers in docs/performance.md were measured.
var peers = map[string]string{
	"crane":   "github.com/google/go-containerregistry/cmd/crane@v0.22.1",
	"regsync": "github.com/regclient/regclient/cmd/regsync@v0.11.7",
	"regctl":  "github.com/regclient/regclient/cmd/regctl@v0.11.7",
	"oras":    "oras.land/oras/cmd/oras@v1.3.6",
}

// install gives the path of a peer's program, and builds it into dir if the
// pinned version is not there. An empty path means that this machine has no way
// to get it.
func install(ctx context.Context, dir, name string) (path, version string, err error) {
	if name == "skopeo" {
		return installSkopeo(ctx)
	}
	pin := peers[name]
	version = pin[strings.LastIndexByte(pin, '@')+1:]
	home := filepath.Join(dir, name+"-"+version) // its own folder, so that another pin is another program
	path = filepath.Join(home, name)
	if _, err := os.Stat(path); err == nil {
		return path, version, nil
	}
	progress("installing %s", pin)
	command := exec.CommandContext(ctx, "go", "install", pin)
	command.Env = append(os.Environ(), "GOBIN="+home, "CGO_ENABLED=0", "GOFLAGS=")
	if output, err := command.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("go install %s: %w\n%s", pin, err, output)
	}
	return path, version, nil
}

// installSkopeo takes Debian's skopeo, and installs it when it may.
func installSkopeo(ctx context.Context) (path, version string, err error) {
	path, err = exec.LookPath("skopeo")
	if err != nil && os.Geteuid() == 0 {
		if _, missing := exec.LookPath("apt-get"); missing == nil {
			progress("installing skopeo from Debian")
			output, err := exec.CommandContext(ctx, "apt-get", "install", "-y", "--no-install-recommends", "skopeo").CombinedOutput()
			if err != nil {
				progress("skopeo: apt-get: %v: %.300s", err, output)
			}
			path, _ = exec.LookPath("skopeo")
		}
	}
	if path == "" {
		progress("skopeo is left out: it is not installed, and only root on Debian can install it from here")
		return "", "", nil
	}
	output, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", "", fmt.Errorf("skopeo --version: %w", err)
	}
	return path, strings.TrimPrefix(strings.TrimSpace(string(output)), "skopeo version "), nil
}

// installRegistry gives the path of the distribution registry: of the folder in
// FREIGHTLINER_TEST_BIN, as the tests have it, or built from .ci/tools.
func installRegistry(ctx context.Context, dir string) (string, error) {
	if ready := os.Getenv("FREIGHTLINER_TEST_BIN"); ready != "" {
		path := filepath.Join(ready, "registry")
		_, err := os.Stat(path)
		return path, err
	}
	path, err := filepath.Abs(filepath.Join(dir, "registry"))
	if err != nil {
		return "", err
	}
	// Always: with nothing changed, go build takes no time.
	output, err := exec.CommandContext(ctx, "go", "build", "-C", ".ci/tools", "-o", path, "github.com/distribution/distribution/v3/cmd/registry").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build the registry: %w\n%s", err, output)
	}
	return path, nil
}
