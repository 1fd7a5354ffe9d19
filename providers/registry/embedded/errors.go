package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"freightliner/providers"
)

// failure is an error as the API tells it (distribution-spec, "Error Codes"):
// a status and one code. Message is for people.
type failure struct {
	status  int
	code    string
	message string
}

func (f *failure) Error() string { return f.code + ": " + f.message }

func failf(status int, code, format string, args ...any) error {
	return &failure{status, code, fmt.Sprintf(format, args...)}
}

func nameUnknown(name string) error {
	return failf(http.StatusNotFound, "NAME_UNKNOWN", "repository %s is not known here", name)
}

func manifestUnknown(name, ref string) error {
	return failf(http.StatusNotFound, "MANIFEST_UNKNOWN", "%s has no manifest %s", name, ref)
}

func blobUnknown(name string, d providers.Digest) error {
	return failf(http.StatusNotFound, "BLOB_UNKNOWN", "%s has no blob %s", name, d)
}

func uploadUnknown(name string) error {
	return failf(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "%s has no such upload; it may have expired", name)
}

func digestInvalid(err error) error {
	return failf(http.StatusBadRequest, "DIGEST_INVALID", "%v", err)
}

func unsupported(format string, args ...any) error {
	return failf(http.StatusMethodNotAllowed, "UNSUPPORTED", format, args...)
}

// answerError writes err as the API's error body. An error that is no
// [failure] is trouble of our own; its text stays with us, since it may name
// paths of this machine.
func answerError(w http.ResponseWriter, r *http.Request, err error) {
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{http.StatusInternalServerError, "UNKNOWN", "the registry could not do this"}
	}
	body := mustJSON(map[string]any{"errors": []map[string]string{{"code": f.code, "message": f.message}}})
	answer(w, r, f.status, "application/json", body)
}

// answer writes a whole body with its length; the body of a HEAD stays home.
func answer(w http.ResponseWriter, r *http.Request, status int, mediaType string, body []byte) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(body) // the reader may be gone; nothing is left to do for it
	}
}

func mustJSON(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // only values of our own types come here
	}
	return append(body, '\n')
}
