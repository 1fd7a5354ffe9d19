package kinds

import (
	"strings"
	"testing"
)

// FuzzServes holds that whatever host is taken for a cloud's is below that cloud's
// own domain, with nothing in it that a URL could read otherwise.
func FuzzServes(f *testing.F) {
	for _, s := range sites {
		f.Add(s.host)
	}
	for _, host := range lookAlikes {
		f.Add(host)
	}
	domains := map[string][]string{
		"ecr": {".amazonaws.com", ".amazonaws.com.cn", ".on.aws"}, "ecr-public": {"public.ecr.aws"}, "gar": {"-docker.pkg.dev", "gcr.io"},
		"acr": {".azurecr.io", ".azurecr.us", ".azurecr.cn"}, "ghcr": {"ghcr.io"}, "dockerhub": {"docker.io"}, "quay": {"quay.io"},
		"gitlab": {"registry.gitlab.com"}, "artifactory": {".jfrog.io"},
	}
	all := All(Outside{})
	f.Fuzz(func(t *testing.T, host string) {
		for _, k := range all {
			if k.Serves == nil || !k.Serves(host) {
				continue
			}
			bare := strings.TrimSuffix(host, ":443")
			ends := false
			for _, domain := range domains[k.Name] {
				ends = ends || strings.HasSuffix(bare, domain)
			}
			if !ends || strings.Trim(bare, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
				t.Errorf("%s serves %q", k.Name, host)
			}
		}
	})
}
