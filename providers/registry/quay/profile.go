package quay

import "freightliner/providers/registry"

// Kind is Quay.
func Kind() registry.Kind {
	return registry.Kind{
		Name: "quay",
		Profile: registry.Profile{
			Page:      100, // more was refused once
			Uploads:   []registry.Upload{registry.UploadPut, registry.UploadChunks},
			Resume:    registry.ResumeAsk,
			Full:      []string{"Quota has been exceeded on namespace"}, // quay/quay endpoints/v2/errors.py, a 403 DENIED
			Referrers: registry.ReferrersProbe,
		},
		Serves:       func(host string) bool { return host == "quay.io" || host == "quay.io:443" },
		Repositories: repositories,
		Tags:         tags,
	}
}
