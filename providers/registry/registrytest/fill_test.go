package registrytest

import (
	"testing"
	"time"

	"freightliner/providers"
)

// starts are the registries every story here runs on.
var starts = map[string]func(t *testing.T) string{
	"embedded in memory":    func(t *testing.T) string { return Start(t).Host() },
	"embedded in directory": func(t *testing.T) string { return Start(t, WithDirectory(directory(t))).Host() },
	"embedded with tokens":  func(t *testing.T) string { return Start(t, WithTokens(time.Minute)).Host() },
	"embedded over TLS":     func(t *testing.T) string { return Start(t, WithTLS(), WithBasicAuth()).Host() },
	"distribution":          func(t *testing.T) string { return Distribution(t).Host() },
	"distribution with tokens behind a recorder": func(t *testing.T) string {
		return Distribution(t, WithTokens(time.Minute), WithRecorder()).Host()
	},
}

func TestFillInventoryVerify(t *testing.T) {
	tree := Tree{Prefix: "acme/platform", Repositories: 3, Tags: 2, Indexes: true, Signed: true, SBOMs: true, LayerSize: 300}
	for name, start := range starts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := start(t)
			filled := Fill(t, host, tree)
			Equal(t, Inventory(t, host), filled)

			report := VerifyTree(t, host)
			// Per tag: an index with two images and two attestations, a signature,
			// an SBOM; and a list of referrers where there is no referrers API.
			images := tree.Repositories * tree.Tags
			manifests := images * 7
			if fallback := filled.Tags() - filled.WithoutFallback().Tags(); fallback > 0 {
				manifests += images
				if fallback != images {
					t.Errorf("%d fallback tags for %d images", fallback, images)
				}
			} else if report.Referrers != images {
				t.Errorf("%d referrers found, %d images have one each", report.Referrers, images)
			}
			if report.Manifests != manifests {
				t.Errorf("%d manifests verified, want %d", report.Manifests, manifests)
			}
			if report.Repositories != tree.Repositories || report.Tags != filled.Tags() {
				t.Errorf("verified %+v, filled %d tags", report, filled.Tags())
			}
		})
	}
}

// A tree has the same digests wherever and whenever it is made.
func TestCorpusIsDeterministic(t *testing.T) {
	tree := Tree{Repositories: 2, Tags: 2, Indexes: true, Signed: true}
	Equal(t, Fill(t, Start(t).Host(), tree), Fill(t, Start(t).Host(), tree))

	other := tree
	other.Seed = 1
	if a, b := tree.image(0, 0), other.image(0, 0); a.Digest() == b.Digest() {
		t.Errorf("two seeds give one image: %s", a.Raw)
	}
	for what, pair := range map[string][2]providers.Digest{
		"layer":        {Layer(1, 64).Digest(), "sha256:d36cc754461f9b74b95ed8b1431870458b1320fecf4ddb9757758f04a40e7b42"},
		"image":        {Image(1).Digest(), "sha256:70f471f7b884ff92f06f77e07c687aad1a38e12b24ce210bc686ffc4fe3ac282"},
		"docker image": {DockerImage(1).Digest(), "sha256:6a71703133d253dd97f1c496a0b880e2e596bf89ed1afc9206b91e1e09931924"},
		"index":        {Index(1).Digest(), "sha256:31b68c085ad8c6293f50e6241d7c79bd1acddc5fa0e39194ad3ebc615e320ca1"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: digest %s, always was %s; goldens of other packages hold such digests", what, pair[0], pair[1])
		}
	}
}

func TestFillThousandRepositories(t *testing.T) {
	server := Start(t)
	filled := Fill(t, server.Host(), Tree{Repositories: 1000, Tags: 3})
	if len(filled) != 1000 || filled.Tags() != 3000 {
		t.Fatalf("%d repositories, %d tags", len(filled), filled.Tags())
	}
	if got := server.Recorder.Count("PUT manifest"); got != 3000 {
		t.Errorf("%d manifests written, want 3000", got)
	}
	Equal(t, Inventory(t, server.Host()), filled)
}

func TestPushKinds(t *testing.T) {
	for name, start := range starts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := start(t)
			for tag, a := range map[string]*Artifact{
				"oci": Image(1), "docker": DockerImage(2), "index": Index(3), "docker-list": DockerIndex(4), "nested": IndexOf(Index(5), Image(6)),
			} {
				Push(t, host, "kinds", tag, a)
				Tag(t, host, "kinds", tag+"-again", a)
				if got := Inventory(t, host)["kinds"][tag+"-again"]; got != a.Digest() {
					t.Errorf("%s: tag again points at %s, want %s", tag, got, a.Digest())
				}
			}
			PushReferrer(t, host, "kinds", SBOM(Image(1), 7))
			PushReferrer(t, host, "kinds", SBOM(Image(1), 8))
			Delete(t, host, "kinds", "oci")
			if _, there := Inventory(t, host)["kinds"]["oci"]; there {
				t.Error("the deleted tag is still there")
			}
			VerifyTree(t, host)
		})
	}
}
