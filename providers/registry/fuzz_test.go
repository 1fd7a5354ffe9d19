package registry

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"freightliner/providers"
	"freightliner/providers/fuzz"
)

// FuzzReference: a repository's name and a tag or digest that pass the grammar
// are, in a URL, exactly what they are in text, and can not leave their place.
func FuzzReference(f *testing.F) {
	f.Add("library/nginx", "1.27")
	f.Add("a/b-c__d.e", digestA)
	f.Add("../v2", "..")
	f.Add("a%2fb", "sha256:..")
	r := &remote{scheme: "https", apiHost: "reg.example"}
	f.Add("a--b", "sha256-"+digestA[7:]+".sig")
	fuzz.Run(f, func(t *testing.T, path, ref string) {
		if subject, suffix, ok := ParseReferrerTag(ref); ok {
			back := strings.Replace(string(subject), ":", "-", 1)
			if suffix != "" {
				back += "." + suffix
			}
			if back != ref || CheckTag(ref) != nil {
				t.Fatalf("tag %q is of subject %s, suffix %q", ref, subject, suffix)
			}
		}
		if CheckRepository(path) != nil || checkReference(ref) != nil {
			return
		}
		text := r.url(path+"/manifests/"+ref, nil).String()
		if want := "https://reg.example/v2/" + path + "/manifests/" + ref; text != want {
			t.Fatalf("%q and %q give %s", path, ref, text)
		}
		u, err := url.Parse(text)
		if err != nil || u.JoinPath().String() != text || u.RawQuery != "" || u.Fragment != "" {
			t.Fatalf("%s is another URL once read: %v, %v", text, u, err)
		}
		if _, err := providers.ParseDigest(ref); (err == nil) != (CheckTag(ref) != nil) {
			t.Fatalf("%q is a tag and a digest, or neither", ref)
		}
	})
}

// FuzzRefusal: whatever a registry says with an error is one short line that a
// terminal shows, and has no credential that the registry echoed.
func FuzzRefusal(f *testing.F) {
	const credential = "0815-4711" // no letters: nobody can say it in another case
	f.Add([]byte(`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"1"}}]}`), byte(0))
	f.Add([]byte(`{"errors":[{"code":"0815-4711","message":"Bearer 0815-4711"}],"details":"0815-4711","error_description":"x"}`), byte(1))
	f.Add([]byte(`{"__type":"com.amazonaws#RepositoryNotFoundException","message":"no \u001b[31m"}`), byte(4))
	f.Add([]byte(`<html>`), byte(3))
	statuses := [...]int{400, 401, 403, 404, 429, 500, 503, 999}
	fuzz.Run(f, func(t *testing.T, body []byte, status byte) {
		resp := &http.Response{StatusCode: statuses[status%8], Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}
		a := readRefusal(resp, func(text string) string { return strings.ReplaceAll(text, credential, "…") })
		text := a.Error()
		if strings.Contains(text, credential) || strings.Contains(strings.Join(a.codes, " "), credential) {
			t.Fatalf("the credential is in %q", text)
		}
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) || utf8.RuneCountInString(text) > 600 {
			t.Fatalf("%d bytes for a terminal: %q", len(text), text)
		}
		if len(a.codes) > 9 {
			t.Fatalf("%d codes", len(a.codes))
		}
	})
}

// TestRefusalEchoesNoCode: a credential that comes back as an error's code is
// taken out before codes are put into upper case, where nobody would find it.
func TestRefusalEchoesNoCode(t *testing.T) {
	body := `{"errors":[{"code":"Hunter2-token","message":"Hunter2-token"}],"__type":"x#Hunter2-token"}`
	resp := &http.Response{StatusCode: 403, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
	a := readRefusal(resp, func(text string) string { return strings.ReplaceAll(text, "Hunter2-token", "(hidden)") })
	all := strings.ToLower(a.Error() + strings.Join(a.codes, " "))
	if strings.Contains(all, "hunter2") || !strings.Contains(all, "(hidden)") {
		t.Errorf("said: %s, codes %q", a, a.codes)
	}
}
