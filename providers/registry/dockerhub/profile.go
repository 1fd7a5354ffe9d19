package dockerhub

import (
	"strings"

	"freightliner/providers/registry"
)

// Kind is Docker Hub.
func Kind() registry.Kind {
	logins := &logins{}
	return registry.Kind{
		Name: "dockerhub",
		Profile: registry.Profile{
			MinParts: 2, // NAMESPACE/NAME; what people write as "nginx" is library/nginx
			MaxParts: 2,

			Page:      100,
			Catalog:   registry.CatalogNone,
			Uploads:   []registry.Upload{registry.UploadPut, registry.UploadChunks},
			Referrers: registry.ReferrersProbe, // docker/roadmap #724 is open, and some see it answered
			// Pulls are limited by account (docs.docker.com/docker-hub/usage/pulls); the
			// headers tell how many are left.
		},
		Serves: serves,
		APIHost: func(host string) string {
			if serves(host) {
				return "registry-1.docker.io"
			}
			return ""
		},
		TokenHosts:   func(host string) []string { return only(host, "auth.docker.io") },
		Pairs:        func(s registry.Settings) []string { return only(s.Host, webHost) },
		Repositories: logins.repositories,
		Tags:         logins.tags,
		Untag:        logins.untag,
	}
}

const webHost = "hub.docker.com"

func serves(host string) bool {
	switch strings.TrimSuffix(host, ":443") {
	case "docker.io", "index.docker.io", "registry-1.docker.io":
		return true
	}
	return false
}

func only(host, pair string) []string {
	if serves(host) {
		return []string{pair}
	}
	return nil
}
