package ecrpublic

import (
	"freightliner/providers/registry"
	"freightliner/providers/registry/ecr"
)

// Kind is ECR Public. keys may be nil, which leaves it with anonymous pulls and
// what docker login has left.
func Kind(keys ecr.Keys) registry.Kind {
	k := registry.Kind{
		Name: "ecr-public",
		Profile: registry.Profile{
			MinParts: 2, // ALIAS/NAME
			Page:     1000,
			LinkEnds: true,
			Catalog:  registry.CatalogNone,
			// docs.aws.amazon.com/AmazonECR/latest/public/public-service-quotas.html
			Uploads:          []registry.Upload{registry.UploadPut, registry.UploadChunks},
			MinChunk:         5 << 20,
			MaxChunks:        4200,
			Resume:           registry.ResumeLedger,
			Tags:             registry.TagsSingly, // PutImage takes one imageTag
			Create:           registry.CreateRepository,
			CreatesPerSecond: 2,
			Rates:            registry.Rates{Reads: 10, Writes: 10},
		},
		Serves: serves,
		Pairs:  pairs,
	}
	if keys != nil {
		c := &cloud{service: ecr.Service{Host: endpoint, Region: "us-east-1", Name: "ecr-public", Target: "SpencerFrontendService", Keys: keys}}
		k.Credential, k.Repositories, k.Tags, k.Create, k.Untag = c.credential, c.repositories, c.tags, c.create, c.untag
	}
	return k
}

// endpoint is the one there is for all regions
// (docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/Welcome.html).
const endpoint = "api.ecr-public.us-east-1.amazonaws.com"

func serves(host string) bool { return host == "public.ecr.aws" || host == "public.ecr.aws:443" }

func pairs(s registry.Settings) []string {
	if serves(s.Host) {
		return []string{endpoint}
	}
	return nil
}
