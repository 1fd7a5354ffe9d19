package embedded

import (
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"

	"freightliner/providers"

	"github.com/google/go-cmp/cmp"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestEndpoint(t *testing.T) {
	for _, c := range []struct{ path, kind, repository, reference string }{
		{"/v2/", "base", "", ""},
		{"/v2/_catalog", "catalog", "", ""},
		{"/token", "token", "", ""},
		{"/v2/app/tags/list", "tags", "app", ""},
		{"/v2/a/b/c/manifests/v1", "manifest", "a/b/c", "v1"},
		{"/v2/app/blobs/" + someDigest, "blob", "app", someDigest},
		{"/v2/app/blobs/uploads/", "upload", "app", ""},
		{"/v2/app/blobs/uploads", "upload", "app", ""},
		{"/v2/app/blobs/uploads/0123", "upload", "app", "0123"},
		{"/v2/app/referrers/" + someDigest, "referrers", "app", someDigest},

		// A repository may be called like any part of the API.
		{"/v2/library/tags/list", "tags", "library", ""},
		{"/v2/tags/list/tags/list", "tags", "tags/list", ""},
		{"/v2/blobs/uploads/manifests/v1", "manifest", "blobs/uploads", "v1"},
		{"/v2/blobs/uploads/blobs/uploads/", "upload", "blobs/uploads", ""},
		{"/v2/manifests/manifests/manifests", "manifest", "manifests", "manifests"},
		{"/v2/x/manifests/list", "manifest", "x", "list"},
		{"/v2/x/manifests/uploads", "manifest", "x", "uploads"},
		{"/v2/referrers/blobs/" + someDigest, "blob", "referrers", someDigest},

		{"", "other", "", ""},
		{"/", "other", "", ""},
		{"/v2", "other", "", ""},
		{"/v1/app/tags/list", "other", "", ""},
		{"/v2/tags/list", "other", "", ""},
		{"/v2/app", "other", "", ""},
		{"/v2/app/manifests/", "other", "", ""},
		{"/v2/app/tags/others", "other", "", ""},
		{"/v2//manifests/v1", "other", "", ""},
	} {
		kind, repository, reference := Endpoint(c.path)
		got := [3]string{kind, repository, reference}
		if diff := cmp.Diff([3]string{c.kind, c.repository, c.reference}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.path, diff)
		}
	}
}

func TestTagFilesAreSafeAndReversible(t *testing.T) {
	seen := map[string]string{}
	for _, tag := range []string{"latest", "v1.", "V1.", "con", "CON", "nul.txt", "_", "v1", "V1", strings.Repeat("X", 128), strings.Repeat("x", 128), "sha256-" + strings.Repeat("0a", 32) + ".sig"} {
		file := tagFile(tag)
		back, ok := tagOf(file)
		if !ok || back != tag {
			t.Errorf("tag %q has file %q, which is tag %q (%v)", tag, file, back, ok)
		}
		if len(file) > 210 || strings.ToLower(file) != file || strings.HasSuffix(file, ".") {
			t.Errorf("tag %q has the file name %q (%d bytes)", tag, file, len(file))
		}
		if other, taken := seen[file]; taken {
			t.Errorf("tags %q and %q share the file %q", tag, other, file)
		}
		seen[file] = tag
	}
	for _, file := range []string{"", "=", "==", "=.a=", "%", "%zz~", "latest", "=v1"} {
		if tag, ok := tagOf(file); ok {
			t.Errorf("file %q is taken for tag %q", file, tag)
		}
	}
}

// Whatever path comes, the keys made from it stay inside their repository, and
// nothing that is asked makes the server fail.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{
		"/v2/", "/v2/_catalog", "/v2/app/tags/list", "/v2/a/b/manifests/v1", "/v2/a/blobs/" + someDigest,
		"/v2/a/blobs/uploads/", "/v2/a/blobs/uploads/..", "/v2/../../etc/manifests/passwd", "/v2/a/../b/tags/list",
		"/v2/a/manifests/..", "/v2/a//b/manifests/v1", "/v2/a/manifests/sha256:..", "/v2/_x/manifests/v1", "/v2/a/referrers/" + someDigest,
		"/v2/a\x00b/manifests/v1", "/v2/A/manifests/V1", "/token", "/v2/a/manifests/" + someDigest,
	} {
		f.Add(http.MethodGet, seed)
	}
	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete, http.MethodHead} {
		f.Add(method, "/v2/a/manifests/v1")
		f.Add(method, "/v2/a/blobs/uploads/")
		f.Add(method, "/v2/a/blobs/"+someDigest)
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		at := parseAddress(target)
		if at.name != "" && validName(at.name) {
			inside := repositoryKey(at.name) + "/_"
			keys := []string{tagsKey(at.name)}
			if tagGrammar().MatchString(at.ref) {
				keys = append(keys, tagKey(at.name, at.ref))
			}
			if d, err := providers.ParseDigest(at.ref); err == nil {
				keys = append(keys, blobKey(at.name, d), manifestKey(at.name, d), referrersKey(at.name, d), referrerKey(at.name, d, d))
			}
			for _, key := range keys {
				if !strings.HasPrefix(key, inside) || path.Clean(key) != key || strings.ContainsAny(key, "\\:\x00") {
					t.Fatalf("path %q gives key %q", target, key)
				}
			}
		}
		r := httptest.NewRequest(http.MethodGet, "/", strings.NewReader("{}"))
		r.Method, r.URL.Path = method, target
		w := httptest.NewRecorder()
		New(NewMemory(), Options{}).ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%s %q: status %d: %s", method, target, w.Code, w.Body)
		}
	})
}
