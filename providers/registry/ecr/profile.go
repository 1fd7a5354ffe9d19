package ecr

import (
	"freightliner/providers"
	"freightliner/providers/registry"
)

// Kind is ECR private. keys may be nil, which leaves it with what docker login
// has left.
func Kind(keys Keys) registry.Kind {
	k := registry.Kind{
		Name:    "ecr",
		Profile: profile,
		Serves:  func(host string) bool { _, ok := parse(host); return ok },
		Pairs:   pairs,
	}
	if keys != nil {
		c := cloud{keys}
		k.Credential, k.Repositories, k.Tags, k.Create, k.Immutable = c.credential, c.repositories, c.tags, c.create, c.immutable
	}
	return k
}

// docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html and
// docs.aws.amazon.com/AmazonECR/latest/APIReference/API_UploadLayerPart.html
var profile = registry.Profile{
	Page:      1000,
	LinkEnds:  true, // the Link carries an opaque token; "last" is not understood
	Uploads:   []registry.Upload{registry.UploadPut, registry.UploadChunks},
	MinChunk:  5 << 20,
	MaxChunks: 4200,
	Resume:    registry.ResumeLedger, // Range stays at the first chunk (aws/containers-roadmap #2831)
	Mount:     registry.MountCommitted,
	Tags:      registry.TagsSingly, // PutImage takes one imageTag (API_PutImage.html)
	Create:    registry.CreateRepository,
	Full:      []string{"LimitExceededException", "exceeded a service limit"}, // API_PutImage.html
	// CreateRepository is throttled well below other calls; the quota page has 10 a second.
	CreatesPerSecond: 5,
	Referrers:        registry.ReferrersAPI,
	Rates:            registry.Rates{Writes: 10, Opens: 100, Pushes: 500},
}

// place is what a registry's name says.
type place struct{ account, region, api string }

var (
	// docs.aws.amazon.com/general/latest/gr/ecr.html: the registry's endpoints.
	classic = providers.Pattern(`^([0-9]{12})\.dkr\.ecr(-fips)?\.([a-z]{2}(?:-[a-z]+)+-[0-9]{1,2})\.amazonaws\.com(\.cn)?(?::443)?$`)
	dual    = providers.Pattern(`^([0-9]{12})\.dkr-ecr(-fips)?\.([a-z]{2}(?:-[a-z]+)+-[0-9]{1,2})\.on\.aws(?::443)?$`)
)

// parse takes a host apart. Everything between the anchors is one label after
// the other, so a look-alike with more in front or behind does not match.
func parse(host string) (place, bool) {
	if m := classic().FindStringSubmatch(host); m != nil {
		api := "api.ecr." + m[3] + ".amazonaws.com" + m[4]
		if m[2] != "" {
			api = "ecr-fips." + m[3] + ".amazonaws.com" + m[4]
		}
		return place{m[1], m[3], api}, true
	}
	if m := dual().FindStringSubmatch(host); m != nil {
		return place{m[1], m[3], "ecr" + m[2] + "." + m[3] + ".api.aws"}, true
	}
	return place{}, false
}

func pairs(s registry.Settings) []string {
	if p, ok := parse(s.Host); ok {
		return []string{p.api}
	}
	return nil
}
