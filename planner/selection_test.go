package planner

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"freightliner/config"
)

func TestPickTags(t *testing.T) {
	all := []string{
		"1.0", "1.0.0", "1.19.2", "1.20.0", "1.20.0-rc.1", "1.21.3", "latest", "nightly", "v1.22.0", "v2",
		"sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sig",
		"sha512-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"sha256-short.sig",
	}
	for _, c := range []struct {
		name   string
		filter config.TagFilter
		want   []string
	}{
		{"everything but referrers", config.TagFilter{}, []string{"1.0", "1.0.0", "1.19.2", "1.20.0", "1.20.0-rc.1", "1.21.3", "latest", "nightly", "sha256-short.sig", "v1.22.0", "v2"}},
		{"include", config.TagFilter{Include: []string{"v*", "latest"}}, []string{"latest", "v1.22.0", "v2"}},
		{"exclude", config.TagFilter{Include: []string{"1.*"}, Exclude: []string{"*-rc*"}}, []string{"1.0", "1.0.0", "1.19.2", "1.20.0", "1.21.3"}},
		{"match", config.TagFilter{Match: `^\d+\.\d+$`}, []string{"1.0"}},
		{"semver leaves out what is no version", config.TagFilter{Semver: ">= 1.20.0"}, []string{"1.20.0", "1.21.3", "v1.22.0", "v2"}},
		{"newest by version, not by text", config.TagFilter{Newest: 3}, []string{"1.21.3", "v1.22.0", "v2"}},
		{"newest of what is left", config.TagFilter{Semver: "< 1.21", Newest: 2}, []string{"1.19.2", "1.20.0"}},
		{"equal versions do not depend on the listing", config.TagFilter{Include: []string{"1.0*"}, Newest: 1}, []string{"1.0.0"}},
		{"nothing", config.TagFilter{Include: []string{"x"}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			selector, err := newTagSelector(c.filter)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, selector.pick(all)); diff != "" {
				t.Errorf("tags (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSelectRepositories(t *testing.T) {
	for _, c := range []struct {
		filter config.RepositoryFilter
		rel    string
		want   bool
	}{
		{config.RepositoryFilter{}, "", true},
		{config.RepositoryFilter{}, "a/b", true},
		{config.RepositoryFilter{Include: []string{"*"}}, "a/b", false},
		{config.RepositoryFilter{Include: []string{"**"}}, "a/b", true},
		{config.RepositoryFilter{Include: []string{"team/**"}}, "team-b/x", false},
		{config.RepositoryFilter{Include: []string{"**"}, Exclude: []string{"**/sandbox-*"}}, "a/b/sandbox-1", false},
		{config.RepositoryFilter{Exclude: []string{"**/sandbox-*"}}, "sandbox-1", false},
	} {
		if got := selectsRepository(c.filter, c.rel); got != c.want {
			t.Errorf("%+v selects %q: %v, want %v", c.filter, c.rel, got, c.want)
		}
	}
}
