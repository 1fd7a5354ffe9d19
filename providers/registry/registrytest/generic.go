package registrytest

import "net/http"

// Generic is a registry of the distribution project, version 3, and what is
// built on it. Unlike [Distribution] it is no process, so it starts at once
// and knows tokens, lag and limits.
var Generic = Personality{
	Kind: "generic",
	Traits: Traits{
		// A POST with the digest opens a session: registry/handlers/blobupload.go
		// looks at "mount" and "from" only.
		SinglePost: false,
		// The upload's state travels, signed, in the query of the Location;
		// an older one is "upload resumed at wrong offset"
		// (registry/handlers/blobupload.go, ResumeBlobUpload).
		StrictSession: true,
		// No referrers API: distribution/distribution#4828.
		Referrers: false,
		SHA512:    true,
	},
	NoReferrers: true,
	Upload:      UploadRules{State: true, Absolute: true},
	// A DELETE of a blob that is in use is allowed, and so is one by tag
	// (registry/handlers/manifests.go, DeleteManifest, since version 3).
	Manifest: ManifestRules{Missing: Refusal{Status: http.StatusBadRequest, Code: "MANIFEST_BLOB_UNKNOWN", Text: "blob unknown to registry"}},
}
