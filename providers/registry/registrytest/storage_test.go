package registrytest

import (
	"net/http"
	"testing"
	"time"
)

func TestStorage(t *testing.T) {
	storage := NewStorage(t)
	clock := &fixed{at2026}
	p := meet(t, ECR, WithLogin(), WithStorage(storage), clock.option())
	image := Image(1)
	Push(t, p.server.Host(), "app", "v1", image)
	blob := "app/blobs/" + string(image.Blobs[0].Digest())

	// The standard client would follow with its Authorization: the two servers
	// differ by port alone.
	p.remote.peer.client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	location := p.ask(http.MethodGet, blob, nil, nil, http.StatusTemporaryRedirect).header.Get("Location")
	p.ask(http.MethodHead, blob, nil, nil, http.StatusOK)
	nobody := &remote{host: storage.Host(), peer: peer{client: http.DefaultClient}, tokens: map[string]string{}}
	for _, step := range []struct {
		name, target string
		header       map[string]string
		later        time.Duration
		want         int
	}{
		{"signed", location, nil, 0, http.StatusOK},
		{"a range", location, map[string]string{"Range": "bytes=1-2"}, 0, http.StatusPartialContent},
		{"with a login beside the signature", location, map[string]string{"Authorization": "Basic eDp5"}, 0, http.StatusBadRequest},
		{"with another signature", location + "0", nil, 0, http.StatusForbidden},
		{"too late", location, nil, time.Hour, http.StatusForbidden},
	} {
		clock.now = at2026.Add(step.later)
		answer, err := nobody.do(http.MethodGet, step.target, step.header, nil)
		if err != nil || answer.status != step.want {
			t.Errorf("%s: status %d, error %v; want %d", step.name, answer.status, err, step.want)
		}
	}
	if n := storage.Recorder.Total(); n != 5 {
		t.Errorf("the storage recorded %d requests, want 5", n)
	}
}

func TestThrottled(t *testing.T) {
	p := meet(t, GAR)
	date := at2026.Format(http.TimeFormat)
	for _, after := range []string{"3", date, ""} {
		p.server.Faults.Clear()
		p.server.Faults.Add(Throttled("base", 1, after))
		answer := p.ask(http.MethodGet, "", nil, nil, http.StatusTooManyRequests, "TOOMANYREQUESTS")
		p.header(answer, "Retry-After", after)
	}
	p.ask(http.MethodGet, "", nil, nil, http.StatusOK)
}
