package kinds

import (
	"net/http"

	"freightliner/providers/registry"
	"freightliner/providers/registry/acr"
	"freightliner/providers/registry/artifactory"
	"freightliner/providers/registry/dockerhub"
	"freightliner/providers/registry/ecr"
	"freightliner/providers/registry/ecrpublic"
	"freightliner/providers/registry/gar"
	"freightliner/providers/registry/generic"
	"freightliner/providers/registry/ghcr"
	"freightliner/providers/registry/gitlab"
	"freightliner/providers/registry/harbor"
	"freightliner/providers/registry/quay"
)

// Outside is what kinds may know of the machine they run on. Whatever is nil is
// not there: the kinds then live on credential files alone.
type Outside struct {
	Env       func(name string) string          // the environment
	ReadFile  func(name string) ([]byte, error) // files that the environment names
	Transport http.RoundTripper                 // to the login of Azure
	Metadata  http.RoundTripper                 // to the metadata service of a machine in Azure
	AWS       ecr.Keys                          // the AWS SDK's chain
	Google    gar.Token                         // Application Default Credentials
}

// All are the kinds, by the names that a registry block may use.
func All(o Outside) []registry.Kind {
	return []registry.Kind{
		generic.Kind(),
		ecr.Kind(o.AWS),
		ecrpublic.Kind(o.AWS),
		gar.Kind(o.Google),
		acr.Kind(acr.Options{Env: o.Env, ReadFile: o.ReadFile, Transport: o.Transport, Metadata: o.Metadata}),
		ghcr.Kind(o.Env),
		dockerhub.Kind(),
		harbor.Kind(),
		quay.Kind(),
		gitlab.Kind(o.Env),
		artifactory.Kind(),
	}
}
