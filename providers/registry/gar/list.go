package gar

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"freightliner/providers"
	"freightliner/providers/registry"
)

// longest is the most entries that an answer has.
const longest = 10_000

// page is tags/list with what Google adds to it.
type page struct {
	Children  []string            `json:"child"`
	Manifests map[string]manifest `json:"manifest"`
	Tags      []string            `json:"tags"`
}

type manifest struct {
	Tags     []string `json:"tag"`
	Size     string   `json:"imageSizeBytes"`
	Uploaded string   `json:"timeUploadedMs"`
}

// list reads tags/list of a path, which may be a repository, a folder of them, or
// both. As many entries as an answer can have may be fewer than there are.
func list(ctx context.Context, api *registry.API, op, path string) (page, error) {
	q := registry.Request{
		Op: op, On: providers.Repository{Host: api.Host(), Path: path}.String(), Endpoint: "tags",
		URL:    api.URL("/v2/"+path+"/tags/list", url.Values{"n": {strconv.Itoa(longest)}}),
		Scopes: []string{"repository:" + path + ":pull"},
	}
	var p page
	header, err := api.Ask(ctx, q, &p)
	if err != nil {
		return page{}, err
	}
	if max(len(p.Manifests), len(p.Children), len(p.Tags)) >= longest || header.Get("Link") != "" {
		return page{}, q.Fail(providers.Invalid, "Clean up old images there, or split the repository.",
			"the answer has as many entries as an answer can have (%d), so there may be more", longest)
	}
	return p, nil
}

// tags needs one answer for everything.
func tags(ctx context.Context, api *registry.API, path string) (found registry.TagList, err error) {
	p, err := list(ctx, api, "list tags of", path)
	if providers.ClassOf(err) == providers.NotFound && registry.Codes(err) != nil {
		return registry.TagList{Missing: true}, nil
	}
	if err != nil {
		return registry.TagList{}, err
	}
	for digest, m := range p.Manifests {
		size, _ := strconv.ParseInt(m.Size, 10, 64)
		var pushed time.Time
		if ms, err := strconv.ParseInt(m.Uploaded, 10, 64); err == nil && ms > 0 {
			pushed = time.UnixMilli(ms).UTC()
		}
		for _, tag := range m.Tags {
			found.Add(tag, registry.TagEntry{Digest: digest, Pushed: pushed, Size: size})
		}
	}
	found.Tags = append(found.Tags, p.Tags...) // of remote repositories, whose manifests are not told
	return found, nil
}

// repositories asks Artifact Registry's own interface, which takes access tokens,
// and walks where that is not to be had, as at gcr.io and with a key file.
func repositories(ctx context.Context, api *registry.API, prefix string) (names []string, err error) {
	if prefix == "" {
		return nil, registry.Request{Op: "list repositories of", On: api.Host()}.Fail(providers.Unsupported,
			"Name the project: "+api.Host()+"/PROJECT or "+api.Host()+"/PROJECT/REPOSITORY.", "the registry of all of Google has no list")
	}
	location, ok := strings.CutSuffix(strings.TrimSuffix(api.Host(), ":443"), "-docker.pkg.dev")
	if !ok {
		return walk(ctx, api, prefix)
	}
	names, begun, err := images(ctx, api, location, prefix)
	switch class := providers.ClassOf(err); {
	case !begun && (class == providers.Denied || class == providers.NotFound || class == providers.Unsupported):
		walked, failed := walk(ctx, api, prefix)
		if failed == nil {
			return walked, nil
		}
	}
	return names, err
}

// images gives the names of all images of the repositories that prefix covers
// (docs.cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories.dockerImages/list).
// begun says that a page was read, so that what failed later is a part.
func images(ctx context.Context, api *registry.API, location, prefix string) (names []string, begun bool, err error) {
	parts := strings.SplitN(prefix, "/", 3)
	project, tops := parts[0], parts[1:min(2, len(parts))]
	q := registry.Request{Op: "list repositories of", On: providers.Repository{Host: api.Host(), Path: prefix}.String(), Endpoint: "artifactregistry"}
	q.Authorize = authorize(api, &q, prefix)
	base := "/v1/projects/" + url.PathEscape(project) + "/locations/" + location + "/repositories"
	if len(tops) == 0 {
		err = pages(ctx, api, q, base, func(p answer) {
			begun = true
			for _, r := range p.Repositories {
				if r.Format == "DOCKER" {
					tops = append(tops, r.Name[strings.LastIndexByte(r.Name, '/')+1:])
				}
			}
		})
		if err != nil {
			return nil, begun, err
		}
	}
	for _, top := range tops {
		err = pages(ctx, api, q, base+"/"+url.PathEscape(top)+"/dockerImages", func(p answer) {
			begun = true
			for _, image := range p.Images {
				_, name, _ := strings.Cut(image.URI, "/")
				name, _, _ = strings.Cut(name, "@")
				names = append(names, name)
			}
		})
		if err != nil {
			return nil, begun, err
		}
	}
	return names, begun, nil
}

// authorize is the access token that the registry takes as a password.
func authorize(api *registry.API, q *registry.Request, path string) func(context.Context, *http.Request) error {
	return func(ctx context.Context, req *http.Request) error {
		c, err := api.Credential(ctx, path)
		if err != nil {
			return err
		}
		if c.Username != tokenUser || c.Password == nil {
			return q.Fail(providers.Denied, "Use Application Default Credentials, or name the repositories.", "Artifact Registry's interface wants an access token, and there is none")
		}
		req.Header.Set("Authorization", "Bearer "+c.Password())
		return nil
	}
}

// immutable asks for the setting of the top repository
// (docs.cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories).
func immutable(ctx context.Context, api *registry.API, path, tag string) (bool, error) {
	location, ok := strings.CutSuffix(strings.TrimSuffix(api.Host(), ":443"), "-docker.pkg.dev")
	parts := strings.SplitN(path, "/", 3)
	if !ok || len(parts) < 2 {
		return false, nil // gcr.io has no such setting
	}
	q := registry.Request{Op: "look up", On: api.Host() + "/" + path + ":" + tag, Endpoint: "artifactregistry",
		URL: api.At(apiHost, "/v1/projects/"+url.PathEscape(parts[0])+"/locations/"+location+"/repositories/"+url.PathEscape(parts[1]), nil)}
	q.Authorize = authorize(api, &q, path)
	var out struct {
		Docker struct {
			Immutable bool `json:"immutableTags"`
		} `json:"dockerConfig"`
	}
	_, err := api.Ask(ctx, q, &out)
	return out.Docker.Immutable, err
}

// answer is a page of either list.
type answer struct {
	Repositories []struct {
		Name   string `json:"name"`
		Format string `json:"format"`
	} `json:"repositories"`
	Images []struct {
		URI string `json:"uri"` // host/project/repository/image@digest
	} `json:"dockerImages"`
	Next string `json:"nextPageToken"`
}

func pages(ctx context.Context, api *registry.API, q registry.Request, path string, each func(answer)) error {
	query := url.Values{"pageSize": {"1000"}}
	for {
		q.URL = api.At(apiHost, path, query)
		var p answer
		if _, err := api.Ask(ctx, q, &p); err != nil {
			if providers.ClassOf(err) == providers.Denied && registry.Status(err) != 0 {
				err = registry.Hint(err, "The identity needs artifactregistry.dockerimages.list and artifactregistry.repositories.list, as in the role Artifact Registry Reader.")
			}
			return err
		}
		each(p)
		if p.Next == "" {
			return nil
		}
		query.Set("pageToken", p.Next)
	}
}

// walk goes down the tree below prefix: an answer for each folder and
// repository. A path that holds manifests is a repository.
func walk(ctx context.Context, api *registry.API, prefix string) (names []string, err error) {
	for todo := []string{prefix}; len(todo) > 0; todo = todo[1:] {
		at := todo[0]
		p, err := list(ctx, api, "list repositories of", at)
		if err != nil {
			return nil, err
		}
		if len(p.Manifests) > 0 || len(p.Tags) > 0 {
			names = append(names, at)
		}
		for _, child := range p.Children {
			todo = append(todo, at+"/"+strings.Trim(child, "/"))
		}
	}
	return names, nil
}
