package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// workingVersion is what a build from a working copy calls itself: on the way
// to this release. The Go tool would call it v0.0.0, older than any release.
const workingVersion = "0.1.0-dev"

// buildVersion is the version that the Go tool wrote into the binary.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" || strings.HasPrefix(info.Main.Version, "v0.0.0-") {
		return workingVersion
	}
	return strings.TrimPrefix(info.Main.Version, "v")
}

// buildSetting is one of the facts that the Go tool keeps about a build.
func buildSetting(key string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, setting := range info.Settings {
		if setting.Key == key {
			return setting.Value
		}
	}
	return ""
}

type versionJSON struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (p *program) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say which freightliner this is",
		Args:  atMost(0),
		RunE: func(*cobra.Command, []string) error {
			v := versionJSON{buildVersion(), buildSetting("vcs.revision"), buildSetting("vcs.modified") == "true", runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if asJSON {
				p.printJSON(v)
				return nil
			}
			fmt.Fprintf(p.stdout, "freightliner %s\non %s, built with %s\n", v.Version, v.Platform, v.Go)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}
