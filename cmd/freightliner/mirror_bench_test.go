package main

import (
	"testing"

	"freightliner/providers/registry/registrytest"
)

// BenchmarkMirror copies a tree of tiny images between two real registries,
// plans it again, and reports per tag what that took. It measures the whole
// program, as users run it: state and journal on.
func BenchmarkMirror(b *testing.B) {
	for _, tree := range []struct {
		name               string
		repositories, tags int
	}{{"40x5", 40, 5}, {"1000x3", 1000, 3}} {
		b.Run(tree.name, func(b *testing.B) {
			source := registrytest.Distribution(b, registrytest.WithRecorder())
			registrytest.Fill(b, source.Host(), registrytest.Tree{Repositories: tree.repositories, Tags: tree.tags, Prefix: "acme"})
			tags := float64(tree.repositories * tree.tags)
			for b.Loop() {
				destination := registrytest.Distribution(b, registrytest.WithRecorder())
				m := newMirror(b, source.Host(), destination.Host())
				source.Recorder.Reset()
				for _, step := range []string{"cold", "again"} {
					cmd, out := m.command("apply", "-auto-approve")
					before := b.Elapsed()
					if err := cmd.Run(); err != nil {
						b.Fatalf("%v\n%s", err, out)
					}
					b.ReportMetric((b.Elapsed() - before).Seconds(), "s-"+step)
					b.ReportMetric(cmd.ProcessState.UserTime().Seconds()+cmd.ProcessState.SystemTime().Seconds(), "cpu-s-"+step)
					b.ReportMetric(float64(source.Recorder.Total())/tags, "source-requests/tag-"+step)
					b.ReportMetric(float64(destination.Recorder.Total())/tags, "destination-requests/tag-"+step)
					if peak := peakMemory(cmd.ProcessState); peak > 0 {
						b.ReportMetric(peak/1e6, "peak-MB-"+step)
					}
					b.Logf("%s: source %v, destination %v", step, source.Recorder.Counts(), destination.Recorder.Counts())
					source.Recorder.Reset()
					destination.Recorder.Reset()
				}
			}
		})
	}
}
