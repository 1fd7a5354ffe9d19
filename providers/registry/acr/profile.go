package acr

import (
	"freightliner/providers"
	"freightliner/providers/registry"
)

// Kind is ACR. o may be zero, which leaves it with what docker login has left.
func Kind(o Options) registry.Kind {
	k := registry.Kind{
		Name: "acr",
		Profile: registry.Profile{
			Page:    100, // the default is 100, and more was cut quietly (regclient #404)
			Uploads: []registry.Upload{registry.UploadChunks, registry.UploadPut},
			// A single PUT over about 20 MB fails in several reports (harbor #21640, #23015).
			MaxPut:    20 << 20,
			MaxChunk:  16 << 20,
			Resume:    registry.ResumeNever, // Azure/azure-sdk-for-python #29738
			Referrers: registry.ReferrersAPI,
			// Basic tier: 1,000 reads and 100 writes a minute
			// (learn.microsoft.com/azure/container-registry/container-registry-skus). Higher
			// tiers have more, so the tiers' own 429 decide, not a ceiling of ours.
		},
		Serves: serves,
		Tags:   tags,
		Untag:  untag,

		Immutable: immutable,
	}
	if o.Env != nil && o.Transport != nil {
		k.Credential = o.credential
	}
	return k
}

// learn.microsoft.com/azure/container-registry/container-registry-get-started-portal:
// the name is letters and digits, and may have a hash behind a hyphen.
var hosts = providers.Pattern(`^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.azurecr\.(io|us|cn)(?::443)?$`)

func serves(host string) bool { return hosts().MatchString(host) }
