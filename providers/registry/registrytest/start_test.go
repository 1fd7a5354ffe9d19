package registrytest

import (
	"net/http"
	"testing"
	"time"
)

func TestRegistriesAnswer(t *testing.T) {
	hosts := map[string]string{
		"embedded":            Start(t).Host(),
		"embedded basic":      Start(t, WithBasicAuth()).Host(),
		"embedded tokens":     Start(t, WithTokens(time.Minute)).Host(),
		"embedded tls":        Start(t, WithTLS()).Host(),
		"distribution":        Distribution(t).Host(),
		"distribution basic":  Distribution(t, WithBasicAuth(), WithRecorder()).Host(),
		"distribution tokens": Distribution(t, WithTokens(time.Minute), WithRecorder()).Host(),
	}
	for name, host := range hosts {
		for _, path := range []string{"", "_catalog"} {
			answer, err := dial(host).do(http.MethodGet, path, nil, nil)
			if err != nil || answer.status != http.StatusOK {
				t.Errorf("%s: GET /v2/%s: status %d, error %v, body %s", name, path, answer.status, err, answer.body)
			}
		}
	}
}
