package registrytest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"time"

	"freightliner/providers"
)

// awsAPI answers AWS's JSON protocol 1.1: one address, the operation in
// X-Amz-Target, times as seconds since 1970, errors as 400 with "__type"
// (docs.aws.amazon.com/AmazonECR/latest/APIReference/CommonErrors.html). Both
// container registries of AWS speak it.
type awsAPI struct {
	*site
	service    string // before the dot in X-Amz-Target
	operations map[string]func(*awsCall) (any, error)
}

// awsCall is one request.
type awsCall struct {
	*http.Request
	host string

	RepositoryName     string                     `json:"repositoryName"`
	RepositoryNames    []string                   `json:"repositoryNames"`
	NextToken          string                     `json:"nextToken"`
	MaxResults         int                        `json:"maxResults"`
	LayerDigests       []providers.Digest         `json:"layerDigests"`
	ImageIDs           []imageID                  `json:"imageIds"`
	Filter             struct{ TagStatus string } `json:"filter"`
	ImageTagMutability string                     `json:"imageTagMutability"`
	ExclusionFilters   []exclusion                `json:"imageTagMutabilityExclusionFilters"`

	raw map[string]json.RawMessage
}

type imageID struct {
	Digest string `json:"imageDigest,omitempty"`
	Tag    string `json:"imageTag,omitempty"`
}

type exclusion struct {
	Filter     string `json:"filter"`
	FilterType string `json:"filterType"`
}

// awsError is an exception by its name.
type awsError struct{ name, message string }

func (e awsError) Error() string { return e.name + ": " + e.message }

const awsAccount = "123456789012"

func (a awsAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	service, name, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	operation := a.operations[name]
	if r.Method != http.MethodPost || r.URL.Path != "/" || service != a.service || operation == nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"__type": "UnknownOperationException"})
		return
	}
	// A signature is only looked for; its own tests are the SDK's.
	if a.locked && !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=") {
		writeJSON(w, http.StatusBadRequest, map[string]string{"__type": "MissingAuthenticationTokenException", "message": "Missing Authentication Token"})
		return
	}
	call := &awsCall{Request: r, host: r.Host}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(body, call)
	}
	if err == nil {
		err = json.Unmarshal(body, &call.raw)
	}
	var answer any
	if err != nil {
		err = awsError{"SerializationException", "the body is no JSON of this operation"}
	} else {
		answer, err = operation(call)
	}
	if err != nil {
		refused := err.(awsError)
		writeJSON(w, http.StatusBadRequest, map[string]string{"__type": refused.name, "message": refused.message})
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func invalidParameter(format string, args ...any) error {
	return awsError{"InvalidParameterException", fmt.Sprintf(format, args...)}
}

func (a awsAPI) noRepository(name string) error {
	return awsError{"RepositoryNotFoundException", fmt.Sprintf("The repository with name '%s' does not exist in the registry with id '%s'", name, awsAccount)}
}

// awsPage cuts entries to maxResults, 100 when not given and 1,000 at most;
// the token for the rest is opaque and good for this listing only.
func awsPage[T any](call *awsCall, listing string, entries []T) ([]T, string, error) {
	n := call.MaxResults
	if n == 0 {
		n = 100
	}
	if n < 1 || n > 1000 {
		return nil, "", invalidParameter("Invalid parameter at 'maxResults' failed to satisfy constraint: 'Member must have value less than or equal to 1000'")
	}
	first := 0
	if call.NextToken != "" {
		token, err := base64.StdEncoding.DecodeString(call.NextToken)
		place, ok := strings.CutPrefix(string(token), listing+"\x00")
		at, failed := strconv.Atoi(place)
		if err != nil || !ok || failed != nil {
			return nil, "", invalidParameter("Invalid parameter at 'nextToken' failed to satisfy constraint: 'Invalid token'")
		}
		first = min(at, len(entries))
	}
	entries = entries[first:]
	if len(entries) <= n {
		return entries, "", nil
	}
	return entries[:n], base64.StdEncoding.EncodeToString([]byte(listing + "\x00" + strconv.Itoa(first+n))), nil
}

// awsList is an answer with one page; nextToken is there when there is more.
func awsList(field string, entries any, next string) map[string]any {
	answer := map[string]any{field: entries}
	if next != "" {
		answer["nextToken"] = next
	}
	return answer
}

func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// repositoryFields describe one repository. The caller holds mu.
func (a awsAPI) repositoryFields(host, name, full string) map[string]any {
	at := a.places[full]
	fields := map[string]any{
		"registryId": awsAccount, "repositoryName": name, "createdAt": epoch(at.created),
		"repositoryArn": "arn:aws:ecr:eu-west-1:" + awsAccount + ":repository/" + name,
		"repositoryUri": host + "/" + full,
	}
	mode, filters := at.guard.mutability()
	fields["imageTagMutability"] = mode
	if len(filters) > 0 {
		fields["imageTagMutabilityExclusionFilters"] = filters
	}
	for _, setting := range []string{"imageScanningConfiguration", "encryptionConfiguration"} {
		if given, ok := at.settings[setting]; ok {
			fields[setting] = given
		}
	}
	return fields
}

// describeRepositories lists what was created below a prefix, which is no part
// of the names; or the ones asked for.
func (a awsAPI) describeRepositories(call *awsCall, prefix string) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	names := call.RepositoryNames
	if len(names) == 0 {
		for full := range a.places {
			if name, ok := strings.CutPrefix(full, prefix); ok {
				names = append(names, name)
			}
		}
		slices.SortFunc(names, func(a, b string) int { return strings.Compare(shuffled(a), shuffled(b)) })
	}
	page, next, err := awsPage(call, "repositories", names)
	if err != nil {
		return nil, err
	}
	found := []any{}
	for _, name := range page {
		if a.places[prefix+name] == nil {
			return nil, a.noRepository(name)
		}
		found = append(found, a.repositoryFields(call.host, name, prefix+name))
	}
	return awsList("repositories", found, next), nil
}

// images are the manifests of a repository in an order of their own. The
// caller holds mu.
func (a awsAPI) images(name, full string) ([]*kept, *repository, error) {
	known := a.repositories[full]
	if known == nil || a.places[full] == nil {
		return nil, nil, a.noRepository(name)
	}
	return known.inOrder(), known, nil
}

func (a awsAPI) describeImages(call *awsCall, prefix string) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	name := call.RepositoryName
	images, known, err := a.images(name, prefix+name)
	if err != nil {
		return nil, err
	}
	if len(call.ImageIDs) > 0 {
		if images, err = wanted(call, known); err != nil {
			return nil, err
		}
	}
	if status := call.Filter.TagStatus; status == "TAGGED" || status == "UNTAGGED" {
		images = slices.DeleteFunc(images, func(m *kept) bool { return (len(known.named(m.digest)) > 0) != (status == "TAGGED") })
	}
	page, next, err := awsPage(call, "images "+name, images)
	if err != nil {
		return nil, err
	}
	details := []any{}
	for _, m := range page {
		details = append(details, imageDetail(name, known, m))
	}
	return awsList("imageDetails", details, next), nil
}

// wanted are the images a call names.
func wanted(call *awsCall, known *repository) ([]*kept, error) {
	var images []*kept
	for _, id := range call.ImageIDs {
		d := providers.Digest(id.Digest)
		if at := known.tags[id.Tag]; d == "" && at != nil {
			d = at.digest
		}
		m := known.manifests[d]
		if m == nil {
			return nil, awsError{"ImageNotFoundException", fmt.Sprintf("The image with imageId {imageDigest:'%s', imageTag:'%s'} does not exist within the repository", id.Digest, id.Tag)}
		}
		images = append(images, m)
	}
	return images, nil
}

func imageDetail(name string, known *repository, m *kept) map[string]any {
	detail := map[string]any{
		"registryId": awsAccount, "repositoryName": name, "imageDigest": m.digest, "imagePushedAt": epoch(m.pushed),
		"imageManifestMediaType": m.mediaType,
	}
	if len(m.children) == 0 { // an index has no size of its own there
		detail["imageSizeInBytes"] = known.size(m)
		detail["artifactMediaType"] = m.artifact
	}
	if tags := known.named(m.digest); len(tags) > 0 {
		detail["imageTags"] = tags
	}
	return detail
}

// ask runs a request through the back door.
func (s *site) ask(method, target string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, target, http.NoBody)
	return capture(s.open, request)
}
