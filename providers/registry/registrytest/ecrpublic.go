package registrytest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// PublicAlias is the first segment of the repositories that the interface of
// [ECRPublic] talks about; it leaves it out of their names.
const PublicAlias = "z9x8w7v6"

// ECRPublic is Amazon's public gallery, public.ecr.aws. It shares the engine
// and the upload manners of [ECR], and has bearer tokens and an interface of
// its own in one region (us-east-1).
var ECRPublic = Personality{
	Kind: "ecr-public",
	Traits: Traits{
		// What is not said otherwise is argued at ECR.
		MinChunk: 5 << 20, PatchStatus: http.StatusCreated, StuckRange: true,
		NoMount: true, // mounting is a setting of private registries
		// Tag lists came late and without order: aws/containers-roadmap#1262.
		PageRefused: true, OwnPaging: true, Unordered: true, PlainNames: true,
		Catalog:      http.StatusNotFound, // no account, so nothing to list; the interface has it
		NoBlobDelete: true,
		NoTagDelete:  http.StatusMethodNotAllowed, // images go through BatchDeleteImage
		NoDelete:     http.StatusMethodNotAllowed,
	},
	NoReferrers: true, // OCI 1.1 was announced for private registries
	SHA256Only:  true,
	Names:       NameRules{Min: 2, Length: 256, Grammar: ecrNames, Refusal: ECR.Names.Refusal},
	Create:      CreateRules{Place: ECR.Create.Place, Refusal: Refusal{Status: http.StatusNotFound, Code: "NAME_UNKNOWN", Text: "The repository does not exist in the registry"}, Limit: 10_000},
	Upload:      ECR.Upload,
	Mount:       MountRules{Never: true},
	Delete:      DeleteRules{Tag: unsupportedDelete, Digest: unsupportedDelete, Blob: unsupportedDelete, LastTag: true},
	Listing: ListingRules{
		Catalog: Refusal{Status: http.StatusNotFound, Code: "UNSUPPORTED", Text: "the catalog is not served"},
		Page:    100, Max: 1000, OverMax: ECR.Listing.OverMax, Unsorted: true, Token: true, Absolute: true,
	},
	// The password of ecr-public:GetAuthorizationToken is exchanged for bearer
	// tokens (userguide/public-registry-auth.html).
	Login: LoginRules{Path: "/token/", Service: "public.ecr.aws", User: "AWS", Password: true, Life: 12 * time.Hour},
	api:   ecrPublicAPI,
}

func ecrPublicAPI(s *site) http.Handler {
	const prefix = PublicAlias + "/"
	a := awsAPI{site: s, service: "SpencerFrontendService"}
	a.operations = map[string]func(*awsCall) (any, error){
		"DescribeRepositories": func(call *awsCall) (any, error) { return a.describeRepositories(call, prefix) },
		"DescribeImages":       func(call *awsCall) (any, error) { return a.describeImages(call, prefix) },
		"DescribeImageTags":    a.describeImageTags,
		"CreateRepository":     a.createPublic,
		"BatchDeleteImage":     func(call *awsCall) (any, error) { return a.deleteImages(call, prefix) },
		// One object here, a list at the private registry.
		"GetAuthorizationToken": func(call *awsCall) (any, error) {
			data := a.authorization(call)
			delete(data, "proxyEndpoint")
			return map[string]any{"authorizationData": data}, nil
		},
	}
	return a
}

// describeImageTags lists tags with what they point at
// (AmazonECRPublic/latest/APIReference/API_DescribeImageTags.html).
func (a awsAPI) describeImageTags(call *awsCall) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, known, err := a.images(call.RepositoryName, PublicAlias+"/"+call.RepositoryName)
	if err != nil {
		return nil, err
	}
	names := slices.SortedFunc(maps.Keys(known.tags), func(a, b string) int { return strings.Compare(shuffled(a), shuffled(b)) })
	page, next, err := awsPage(call, "tags "+call.RepositoryName, names)
	if err != nil {
		return nil, err
	}
	details := []any{}
	for _, tag := range page {
		detail := imageDetail(call.RepositoryName, known, known.manifests[known.tags[tag].digest])
		delete(detail, "registryId")
		delete(detail, "repositoryName")
		delete(detail, "imageTags")
		details = append(details, map[string]any{"imageTag": tag, "createdAt": epoch(known.tags[tag].moved), "imageDetail": detail})
	}
	return awsList("imageTagDetails", details, next), nil
}

func (a awsAPI) createPublic(call *awsCall) (any, error) {
	name := call.RepositoryName
	if len(name) < 2 || len(name) > 205 || !ecrNames.MatchString(name) {
		return nil, invalidParameter("Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression'")
	}
	full := PublicAlias + "/" + name
	switch _, why := a.create(full, call.raw); why {
	case "exists":
		return nil, awsError{"RepositoryAlreadyExistsException", fmt.Sprintf("The repository with name '%s' already exists in the registry with id '%s'", name, awsAccount)}
	case "limit":
		return nil, awsError{"LimitExceededException", fmt.Sprintf("The maximum number of repositories per registry is %d", a.Create.Limit)}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return map[string]any{"repository": a.repositoryFields(call.host, name, full), "catalogData": call.raw["catalogData"]}, nil
}
