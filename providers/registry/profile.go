package registry

// profile is how one kind of registry differs from the specification, as data.
// Sources are in the comment of each entry; what is not listed is generic.
type profile struct {
	page int // entries to ask for in a listing; more is an error in places
	// linkEnds: the absence of a Link header ends a listing for sure, and asking
	// on with "last" is not possible.
	linkEnds bool
	// commitFirst: a blob can be mounted only after a manifest that refers to it
	// is there.
	commitFirst bool
}

var profiles = map[string]profile{
	"generic":     {page: 1000},                                    // distribution: more than 1000 is an error, not a clamp
	"ecr":         {page: 1000, linkEnds: true, commitFirst: true}, // pages by its own token; mounts only blobs of a committed manifest
	"ecr-public":  {page: 1000, linkEnds: true},
	"gar":         {page: 1000, linkEnds: true}, // one answer with everything
	"acr":         {page: 100},
	"dockerhub":   {page: 100},
	"quay":        {page: 100},
	"harbor":      {page: 100},
	"ghcr":        {page: 100},
	"gitlab":      {page: 100},
	"artifactory": {page: 100},
}

func profileOf(kind string) profile {
	if p, ok := profiles[kind]; ok {
		return p
	}
	return profiles["generic"]
}
