package registrytest

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"freightliner/providers"
)

// ECR is Amazon's private registry.
var ECR = Personality{
	Kind: "ecr",
	Traits: Traits{
		Referrers:  true, // aws.amazon.com/about-aws/whats-new/2024/06/amazon-ecr-oci-1-1
		SinglePost: false,
		// Parts "must be at least 5 MiB in size", the last one apart
		// (API reference, CompleteLayerUpload, LayerPartTooSmallException).
		MinChunk:    5 << 20,
		PatchStatus: http.StatusCreated, // apple/containerization#790
		StuckRange:  true,               // aws/containers-roadmap#2831: the chunks are stored all the same
		NoMount:     true,               // an account has to ask for it: Server.AllowMounts
		PageRefused: true,               // google/go-containerregistry#681
		OwnPaging:   true,               // deitch/docker_registry2#34: "last" is a token
		Unordered:   true,               // fluxcd/source-controller#845: no lexical order
		PlainNames:  true,
		// Images are deleted through BatchDeleteImage or by manifest
		// (aws/containers-roadmap#1229); layers go by themselves.
		NoBlobDelete: true,
	},
	SHA256Only: true,
	Names:      NameRules{Length: 256, Grammar: ecrNames, Refusal: Refusal{Status: http.StatusBadRequest, Code: "NAME_INVALID", Text: "Invalid parameter at 'repositoryName' failed to satisfy constraint"}},
	Create: CreateRules{
		Place:   func(repository string) string { return repository },
		Refusal: Refusal{Drop: true}, // mirroring.md 3.2: the connection is closed
		Limit:   10_000,              // docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
	},
	Upload: UploadRules{
		MinChunk: 5 << 20, MaxParts: 4200, // service quotas: layer parts
		PatchStatus: http.StatusCreated, StuckRange: true, Absolute: true,
	},
	// "Blob mounting" is off until the account switches it on, and finds only
	// what a committed manifest refers to (aws/containers-roadmap#2860).
	Mount: MountRules{Off: true, Committed: true},
	Manifest: ManifestRules{
		// moby/buildkit#3776 has the text; the same digest again is refused as
		// well: aws/containers-roadmap#2179, #2380.
		Immutable: Refusal{Status: http.StatusBadRequest, Code: "TAG_INVALID", Text: "The image tag '{tag}' already exists in the '{name}' repository and cannot be overwritten because the repository is immutable."},
		SameToo:   true,
	},
	Delete: DeleteRules{
		Blob:    unsupportedDelete,
		LastTag: true, // API reference, BatchDeleteImage: the image goes with its last tag
	},
	Listing: ListingRules{
		Page: 100, Max: 1000, // genuinetools/reg#206
		OverMax:  Refusal{Status: http.StatusBadRequest, Code: "UNSUPPORTED", Text: "Invalid parameter at 'maxResults' failed to satisfy constraint: 'Member must have value less than or equal to 1000'"},
		Unsorted: true, Token: true, Absolute: true,
	},
	// Basic, with a password of GetAuthorizationToken that lives twelve hours;
	// no bearer tokens (userguide/registry_auth.html).
	Login: LoginRules{Basic: true, User: "AWS", Password: true, Life: 12 * time.Hour},
	api:   ecrAPI,
}

// The names CreateRepository takes: single separators only.
var ecrNames = regexp.MustCompile(`^[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*$`)

var unsupportedDelete = Refusal{Status: http.StatusMethodNotAllowed, Code: "UNSUPPORTED", Text: "The operation is unsupported."}

// ecrAPI is api.ecr.<region>.amazonaws.com, here on the registry's own address.
func ecrAPI(s *site) http.Handler {
	a := awsAPI{site: s, service: "AmazonEC2ContainerRegistry_V20150921"}
	a.operations = map[string]func(*awsCall) (any, error){
		"DescribeRepositories":        func(call *awsCall) (any, error) { return a.describeRepositories(call, "") },
		"DescribeImages":              func(call *awsCall) (any, error) { return a.describeImages(call, "") },
		"ListImages":                  a.listImages,
		"CreateRepository":            a.createRepository,
		"PutImageTagMutability":       a.putMutability,
		"GetAuthorizationToken":       a.authorizationToken,
		"BatchCheckLayerAvailability": a.checkLayers,
		"BatchDeleteImage":            func(call *awsCall) (any, error) { return a.deleteImages(call, "") },
	}
	return a
}

// listImages gives one entry per tag, and one for an image without tags.
func (a awsAPI) listImages(call *awsCall) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	images, known, err := a.images(call.RepositoryName, call.RepositoryName)
	if err != nil {
		return nil, err
	}
	ids := []imageID{}
	for _, m := range images {
		tags := known.named(m.digest)
		if len(tags) == 0 && call.Filter.TagStatus != "TAGGED" {
			ids = append(ids, imageID{Digest: string(m.digest)})
		}
		for _, tag := range tags {
			if call.Filter.TagStatus != "UNTAGGED" {
				ids = append(ids, imageID{string(m.digest), tag})
			}
		}
	}
	page, next, err := awsPage(call, "ids "+call.RepositoryName, ids)
	if err != nil {
		return nil, err
	}
	return awsList("imageIds", page, next), nil
}

func (a awsAPI) createRepository(call *awsCall) (any, error) {
	name := call.RepositoryName
	if len(name) < 2 || len(name) > 256 || !ecrNames.MatchString(name) {
		return nil, invalidParameter("Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression'")
	}
	guard, err := mutability(call)
	if err != nil {
		return nil, err
	}
	made, why := a.create(name, call.raw)
	switch why {
	case "exists":
		return nil, awsError{"RepositoryAlreadyExistsException", fmt.Sprintf("The repository with name '%s' already exists in the registry with id '%s'", name, awsAccount)}
	case "limit":
		return nil, awsError{"LimitExceededException", fmt.Sprintf("The maximum number of repositories per registry is %d", a.Create.Limit)}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	made.guard = guard
	return map[string]any{"repository": a.repositoryFields(call.host, name, name)}, nil
}

// mutability reads the four modes (userguide/image-tag-mutability.html): both
// plain ones and both with up to five filters.
func mutability(call *awsCall) (Protection, error) {
	var filters []string
	for _, f := range call.ExclusionFilters {
		if f.FilterType != "WILDCARD" {
			return Protection{}, invalidParameter("filterType must be WILDCARD")
		}
		filters = append(filters, f.Filter)
	}
	excluding := strings.HasSuffix(call.ImageTagMutability, "_WITH_EXCLUSION")
	if excluding != (len(filters) > 0) || len(filters) > 5 {
		return Protection{}, invalidParameter("an exclusion mode takes one to five filters, another mode none")
	}
	switch call.ImageTagMutability {
	case "", "MUTABLE":
		return Protection{}, nil
	case "IMMUTABLE", "IMMUTABLE_WITH_EXCLUSION":
		return Protection{On: true, Except: filters}, nil
	case "MUTABLE_WITH_EXCLUSION":
		return Protection{On: true, Only: filters}, nil
	}
	return Protection{}, invalidParameter("imageTagMutability %s is not known", call.ImageTagMutability)
}

// mutability is the guard in the words of the interface.
func (p Protection) mutability() (mode string, filters []exclusion) {
	mode, patterns := "MUTABLE", []string(nil)
	switch {
	case p.On && len(p.Only) > 0:
		mode, patterns = "MUTABLE_WITH_EXCLUSION", p.Only
	case p.On && len(p.Except) > 0:
		mode, patterns = "IMMUTABLE_WITH_EXCLUSION", p.Except
	case p.On:
		mode = "IMMUTABLE"
	}
	for _, pattern := range patterns {
		filters = append(filters, exclusion{pattern, "WILDCARD"})
	}
	return mode, filters
}

func (a awsAPI) putMutability(call *awsCall) (any, error) {
	guard, err := mutability(call)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.places[call.RepositoryName]
	if at == nil {
		return nil, a.noRepository(call.RepositoryName)
	}
	at.guard = guard
	return map[string]any{"registryId": awsAccount, "repositoryName": call.RepositoryName, "imageTagMutability": call.ImageTagMutability}, nil
}

// authorizationToken hands out a password for the registry.
func (a awsAPI) authorizationToken(call *awsCall) (any, error) {
	return map[string]any{"authorizationData": []any{a.authorization(call)}}, nil
}

func (a awsAPI) authorization(call *awsCall) map[string]any {
	password, ends := a.give()
	return map[string]any{
		"authorizationToken": base64.StdEncoding.EncodeToString([]byte("AWS:" + password)),
		"expiresAt":          epoch(ends),
		"proxyEndpoint":      origin(call.Request),
	}
}

func (a awsAPI) checkLayers(call *awsCall) (any, error) {
	a.mu.Lock()
	known := a.repositories[call.RepositoryName]
	there := map[providers.Digest]bool{}
	for _, d := range call.LayerDigests {
		there[d] = known != nil && !known.blobs[d].IsZero()
	}
	a.mu.Unlock()
	if known == nil {
		return nil, a.noRepository(call.RepositoryName)
	}
	if len(call.LayerDigests) == 0 || len(call.LayerDigests) > 100 {
		return nil, invalidParameter("layerDigests takes 1 to 100 digests")
	}
	layers, failures := []any{}, []any{}
	for _, d := range call.LayerDigests {
		layer := map[string]any{"layerDigest": d, "layerAvailability": "UNAVAILABLE"}
		if _, err := providers.ParseDigest(string(d)); err != nil {
			failures = append(failures, map[string]any{"layerDigest": d, "failureCode": "InvalidLayerDigest", "failureReason": "the digest is malformed"})
			continue
		}
		if there[d] {
			layer["layerAvailability"] = "AVAILABLE"
			layer["layerSize"] = a.ask(http.MethodHead, "/v2/"+call.RepositoryName+"/blobs/"+string(d)).Result().ContentLength
		}
		layers = append(layers, layer)
	}
	return map[string]any{"layers": layers, "failures": failures}, nil
}

// deleteImages takes tags away, an image with its last tag, or images by digest.
func (a awsAPI) deleteImages(call *awsCall, prefix string) (any, error) {
	if len(call.ImageIDs) == 0 || len(call.ImageIDs) > 100 {
		return nil, invalidParameter("imageIds takes 1 to 100 images")
	}
	if !a.exists(prefix + call.RepositoryName) {
		return nil, a.noRepository(call.RepositoryName)
	}
	gone, failures := []imageID{}, []any{}
	for _, id := range call.ImageIDs {
		reference := id.Tag
		if id.Digest != "" {
			reference = id.Digest
		}
		if status := a.takeAway(prefix+call.RepositoryName, reference); status != http.StatusAccepted {
			failures = append(failures, map[string]any{"imageId": id, "failureCode": "ImageNotFound", "failureReason": "Requested image not found"})
			continue
		}
		gone = append(gone, id)
	}
	return map[string]any{"imageIds": gone, "failures": failures}, nil
}

// takeAway deletes by tag or digest; with LastTag, the image of a last tag too.
func (s *site) takeAway(name, reference string) int {
	s.mu.Lock()
	var last providers.Digest
	if known := s.repositories[name]; known != nil && known.tags[reference] != nil && s.Delete.LastTag {
		if d := known.tags[reference].digest; slices.Equal(known.named(d), []string{reference}) {
			last = d
		}
	}
	s.mu.Unlock()
	status := s.ask(http.MethodDelete, "/v2/"+name+"/manifests/"+reference).Code
	if status == http.StatusAccepted && last != "" {
		s.ask(http.MethodDelete, "/v2/"+name+"/manifests/"+string(last))
	}
	return status
}
