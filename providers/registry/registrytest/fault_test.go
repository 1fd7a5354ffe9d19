package registrytest

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"freightliner/providers"

	"github.com/google/go-cmp/cmp"
)

// fronts are the two servers that have a recorder and faults.
func fronts(t *testing.T) map[string]struct {
	host     string
	recorder *Recorder
	faults   *Faults
} {
	t.Helper()
	embedded, process := Start(t), Distribution(t, WithRecorder())
	return map[string]struct {
		host     string
		recorder *Recorder
		faults   *Faults
	}{
		"embedded":     {embedded.Host(), embedded.Recorder, embedded.Faults},
		"distribution": {process.Host(), process.Recorder, process.Faults},
	}
}

func TestRecorder(t *testing.T) {
	for name, front := range fronts(t) {
		t.Run(name, func(t *testing.T) {
			a := Image(1)
			Push(t, front.host, "app", "v1", a)
			want := map[string]int{"HEAD blob": 2, "POST upload": 2, "PUT upload": 2, "PUT manifest": 1}
			if diff := cmp.Diff(want, front.recorder.Counts()); diff != "" {
				t.Errorf("requests of a push (-want +got):\n%s", diff)
			}
			sent := int64(len(a.Raw))
			for _, blob := range a.Blobs {
				sent += int64(len(blob.Data))
			}
			if in, _ := front.recorder.Bytes(); in != sent {
				t.Errorf("%d bytes came in, %d were sent", in, sent)
			}
			if got := len(front.recorder.Writes()); got != 5 {
				t.Errorf("%d writes, want 5: %v", got, front.recorder.Writes())
			}

			front.recorder.Reset()
			answer, err := dial(front.host).do(http.MethodGet, "app/manifests/v1?x=y", map[string]string{"Accept": OCIManifest, "X-Canary": "tweet"}, nil)
			if err != nil || answer.status != http.StatusOK {
				t.Fatalf("status %d, error %v", answer.status, err)
			}
			seen := front.recorder.All()
			if len(seen) != 1 || front.recorder.Total() != 1 {
				t.Fatalf("%d requests, want 1", len(seen))
			}
			got := seen[0]
			if got.Header.Get("X-Canary") != "tweet" || len(front.recorder.Mentions("tweet")) != 1 || len(front.recorder.Mentions("x=y")) != 1 || len(front.recorder.Mentions("other")) != 0 {
				t.Errorf("the header X-Canary is not found again: %v", got.Header)
			}
			got.Header = nil
			want2 := Request{Method: "GET", Path: "/v2/app/manifests/v1", Query: "x=y", Kind: "manifest", Repository: "app", Reference: "v1", Status: 200, Out: int64(len(a.Raw))}
			if diff := cmp.Diff(want2, got); diff != "" {
				t.Errorf("the request (-want +got):\n%s", diff)
			}
			if got.String() != "GET /v2/app/manifests/v1?x=y 200" {
				t.Errorf("the request prints as %q", got)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	for name, front := range fronts(t) {
		t.Run(name, func(t *testing.T) {
			a := Image(1)
			d := Push(t, front.host, "app", "v1", a)
			data := a.Blobs[1].Data
			blob := "app/blobs/" + string(providers.SHA256(data))
			r := dial(front.host)
			script := func(faults ...Fault) {
				front.faults.Clear()
				front.faults.Add(faults...)
			}
			get := func(target string) (reply, error) { return r.do(http.MethodGet, target, acceptAll, nil) }

			// The second and third of the matching requests are hit, others pass.
			script(Fault{Kind: "manifest", Nth: 2, Times: 2, Status: 429, Header: http.Header{"Retry-After": {"7"}}, Body: "slow down"})
			var statuses []int
			for range 4 {
				answer, err := get("app/manifests/v1")
				if err != nil {
					t.Fatal(err)
				}
				statuses = append(statuses, answer.status)
				if answer.status == 429 && (answer.header.Get("Retry-After") != "7" || string(answer.body) != "slow down") {
					t.Errorf("the 429 has Retry-After %q and body %q", answer.header.Get("Retry-After"), answer.body)
				}
				if other, err := get("app/tags/list"); err != nil || other.status != 200 {
					t.Errorf("a request of another kind: status %d, error %v", other.status, err)
				}
			}
			if diff := cmp.Diff([]int{200, 429, 429, 200}, statuses); diff != "" {
				t.Errorf("statuses (-want +got):\n%s", diff)
			}

			script(Fault{Method: "GET", Path: `/blobs/sha256:`, Times: -1, Flip: 3})
			answer, err := get(blob)
			want := bytes.Clone(data)
			want[2] ^= 0xff
			if err != nil || !bytes.Equal(answer.body, want) {
				t.Errorf("flipped: error %v, equal to what is stored %v", err, bytes.Equal(answer.body, data))
			}

			script(Fault{Kind: "blob", CutResponse: 100})
			if _, err := get(blob); err == nil || !strings.Contains(err.Error(), "EOF") {
				t.Errorf("a body cut short reads with error %v, want an unexpected EOF", err)
			}

			script(Fault{Kind: "manifest", Header: http.Header{"Docker-Content-Digest": nil, "X-More": {"yes"}}})
			answer, err = get("app/manifests/v1")
			if err != nil || answer.header.Get("Docker-Content-Digest") != "" || answer.header.Get("X-More") != "yes" || string(answer.body) != string(a.Raw) {
				t.Errorf("headers changed: error %v, header %v", err, answer.header)
			}

			script(Fault{Method: "PUT", Kind: "manifest", Drop: true})
			if _, err := r.putManifest("app", "dropped", a); err == nil {
				t.Error("a dropped request was answered")
			}
			script(Fault{Method: "PUT", Kind: "manifest", Drop: true, Late: true})
			if _, err := r.putManifest("app", "late", a); err == nil {
				t.Error("a request dropped late was answered")
			}
			script(Fault{Method: "PUT", Kind: "manifest", Status: 500, Late: true})
			if answer, err := r.do(http.MethodPut, "app/manifests/stored", map[string]string{"Content-Type": a.MediaType}, a.Raw); err != nil || answer.status != 500 {
				t.Errorf("status %d, error %v; want 500", answer.status, err)
			}
			front.faults.Clear()
			Equal(t, Inventory(t, front.host), Listing{"app": {"v1": d, "late": d, "stored": d}})

			// A chunk of which only a part arrived.
			begun, err := r.do(http.MethodPost, "app/blobs/uploads/", nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			script(Fault{Method: "PATCH", CutRequest: 10})
			if _, err := r.do(http.MethodPatch, r.location(begun), octets, data); err == nil {
				t.Error("a broken upload was answered")
			}
			if patched := front.recorder.Where(func(r Request) bool { return r.Method == "PATCH" }); len(patched) != 1 || patched[0].In != 10 {
				t.Errorf("the registry read %+v, want one PATCH with 10 bytes", patched)
			}
		})
	}
}

func TestGateHoldsOneRequest(t *testing.T) {
	server := Start(t)
	gate := NewGate(t)
	server.Faults.Add(Fault{Kind: "tags", Gate: gate})
	Push(t, server.Host(), "app", "v1", Image(1))
	done := make(chan error, 1)
	go func() {
		answer, err := dial(server.Host()).do(http.MethodGet, "app/tags/list", nil, nil)
		if err == nil && answer.status != http.StatusOK {
			err = unexpected(answer)
		}
		done <- err
	}()
	<-gate.Reached()
	// While one stands at the gate, the rest of the registry works.
	Push(t, server.Host(), "app", "v2", Image(2))
	select {
	case err := <-done:
		t.Fatalf("the request passed the closed gate: %v", err)
	default:
	}
	gate.Open()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestStopMakesUnreachable(t *testing.T) {
	server, process := Start(t), Distribution(t)
	server.Stop()
	process.Stop()
	for _, host := range []string{server.Host(), process.Host()} {
		if _, err := dial(host).do(http.MethodGet, "", nil, nil); err == nil {
			t.Errorf("%s still answers", host)
		}
	}
}

func TestCanariesAreSeen(t *testing.T) {
	server := Start(t, WithTokens(time.Minute))
	Fill(t, server.Host(), Tree{Repositories: 1, Tags: 1})
	if len(server.Recorder.Mentions(Canaries()[1])) == 0 {
		t.Error("the basic credentials were sent to the token endpoint, and the recorder does not know")
	}
	if server.Tokens.Issued() == 0 || server.Recorder.Count("GET token") != server.Tokens.Issued() {
		t.Errorf("%d tokens issued, %d token requests recorded", server.Tokens.Issued(), server.Recorder.Count("GET token"))
	}
}

func TestVerifyTreeFindsDamage(t *testing.T) {
	server := Start(t)
	a := Image(1)
	Push(t, server.Host(), "app", "v1", a)
	for name, fault := range map[string]Fault{
		"blob with other bytes":     {Kind: "blob", Flip: 1},
		"manifest with other bytes": {Method: "GET", Kind: "manifest", Flip: 1},
		"blob missing":              {Kind: "blob", Status: 404},
		"blob cut":                  {Kind: "blob", CutResponse: 1},
		"listing missing":           {Kind: "catalog", Status: 500},
		"digest missing":            {Method: "HEAD", Kind: "manifest", Header: http.Header{"Docker-Content-Digest": nil}},
	} {
		server.Faults.Clear()
		server.Faults.Add(fault)
		if _, err := dial(server.Host()).verify(); err == nil {
			t.Errorf("%s: not found", name)
		}
	}
	server.Faults.Clear()
	want := Report{Repositories: 1, Tags: 1, Manifests: 1, Blobs: 2, Bytes: int64(len(a.Raw) + len(a.Blobs[0].Data) + len(a.Blobs[1].Data))}
	if diff := cmp.Diff(want, VerifyTree(t, server.Host())); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestListingUnder(t *testing.T) {
	d := providers.SHA256(nil)
	l := Listing{"team/app": {"v1": d, FallbackTag(d): d, SignatureTag(d): d}, "team-b/app": {"v1": d}, "team/sub/app": {}}
	want := Listing{"app": {"v1": d, SignatureTag(d): d}, "sub/app": {}}
	Equal(t, l.Under("team").WithoutFallback(), want)
	if got := l.Tags(); got != 4 {
		t.Errorf("%d tags, want 4", got)
	}
}
