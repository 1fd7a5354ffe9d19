package executor_test

import (
	"context"
	"strings"
	"testing"

	"freightliner/config"
	"freightliner/executor"
	"freightliner/providers"
	"freightliner/providers/registry"
	"freightliner/providers/registry/registrytest"
)

func (b *bench) verify(deep bool) *executor.VerifyReport {
	b.t.Helper()
	client := registry.New(registry.Options{ManifestCache: 1, Registries: []registry.Settings{{Host: b.destination.Host(), PlainHTTP: true}}})
	b.t.Cleanup(client.Close)
	report, err := executor.Verify(context.Background(), b.state(), client, executor.VerifyOptions{Deep: deep})
	if err != nil {
		b.t.Fatal(err)
	}
	return report
}

func TestVerify(t *testing.T) {
	b := newBench(t, registrytest.WithoutReferrers())
	registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 2, Tags: 2, Prefix: "acme", Indexes: true, LayerSize: 4096, Signed: true, SBOMs: true})
	b.images = []config.Image{{
		Address: "image.one", Source: b.tree.Source.Join("app-0000"), SourceTag: "v1.0.0",
		Destination: providers.Repository{Host: b.destination.Host(), Path: "single"}, DestinationTag: "1",
		Copy: b.tree.Copy, Lifecycle: b.tree.Lifecycle,
	}}
	b.apply(b.plan())
	for _, deep := range []bool{false, true} {
		b.destination.Recorder.Reset()
		report := b.verify(deep)
		if len(report.Mismatches) > 0 || report.Tags != 5 || report.Blobs == 0 {
			t.Fatalf("deep %v: %+v", deep, report)
		}
		if deep != (report.Bytes > 0) {
			t.Errorf("deep %v read %d bytes", deep, report.Bytes)
		}
		if writes := b.destination.Recorder.Writes(); len(writes) > 0 {
			t.Errorf("verify wrote: %v", writes)
		}
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(b *bench)
		deep  bool
		want  string
	}{
		{"a tag that is gone", func(b *bench) { registrytest.Delete(t, b.destination.Host(), "mirror/app-0000", "v1.0.0") }, false, "the tag is gone"},
		{"a tag that moved", func(b *bench) {
			registrytest.Push(t, b.destination.Host(), "mirror/app-0000", "v1.0.0", registrytest.Image(5))
		}, false, "the state says"},
		{"a blob that is gone", func(b *bench) {
			b.destination.Faults.Add(registrytest.Fault{Method: "HEAD", Kind: "blob", Status: 404})
		}, false, "does not have it"},
		{"a blob with a wrong byte", func(b *bench) {
			b.destination.Faults.Add(registrytest.Fault{Method: "GET", Kind: "blob", Times: -1, Flip: 1})
		}, true, "digest"},
		{"a manifest with a wrong byte", func(b *bench) {
			b.destination.Faults.Add(registrytest.Fault{Method: "GET", Kind: "manifest", Times: -1, Flip: 1})
		}, false, "digest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			registrytest.Fill(t, b.source.Host(), registrytest.Tree{Repositories: 1, Tags: 1, Prefix: "acme", LayerSize: 4096})
			b.apply(b.plan())
			c.spoil(b)
			report := b.verify(c.deep)
			if len(report.Mismatches) == 0 || !strings.Contains(report.Mismatches[0].Err.Error(), c.want) {
				t.Errorf("mismatches: %v", report.Mismatches)
			}
		})
	}
}
