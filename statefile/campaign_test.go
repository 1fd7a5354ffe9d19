package statefile_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "freightliner/statefile"
)

// The campaigns have a short form, which runs with all other tests, and a full
// one, which `make crash` runs. Every failure prints the seed of its case.
var (
	campaign     = flag.String("campaign", "short", "short or full")
	campaignSeed = flag.Uint64("campaign-seed", 1, "first seed of the random campaigns")
	campaignOnly = flag.Bool("campaign-only", false, "run the case of -campaign-seed alone")
)

// sized is how many cases a campaign has in the form that is asked for.
func sized(short, full int) int {
	switch {
	case *campaignOnly:
		return 1
	case *campaign == "full":
		return full
	}
	return short
}

// inParallel does the work of n cases on all cores, each core with something of
// its own made by fresh. It stops early when the test has failed.
func inParallel[T any](t *testing.T, n int, fresh func() T, do func(mine T, i int)) {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			mine := fresh()
			for !t.Failed() {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				do(mine, i)
			}
		})
	}
	wg.Wait()
}

// seeded does n cases, each with a seed that stands in its failures. A case
// that panics or fails the test says which it was.
func seeded(t *testing.T, n int, do func(seed uint64) error) {
	t.Helper()
	inParallel(t, n, func() struct{} { return struct{}{} }, func(_ struct{}, i int) {
		seed := *campaignSeed + uint64(i)
		if err := do(seed); err != nil {
			t.Errorf("seed %d: %v\nagain: go test ./statefile -run '^%s$' -campaign-only -campaign-seed=%d", seed, err, t.Name(), seed)
		}
	})
}

// told logs what a campaign did and how fast.
func told(t *testing.T, started time.Time, cases int64, format string, args ...any) {
	t.Helper()
	took := time.Since(started)
	t.Logf("%s: %d cases in %v (%.0f/s): %s", *campaign, cases, took.Round(time.Millisecond), float64(cases)/took.Seconds(), fmt.Sprintf(format, args...))
}

// mustBuild is a canonical state of these records.
func mustBuild(model map[string]Record) []byte {
	s, err := Build("00000000000000010000000000000002", maps.Values(model), nil)
	if err != nil {
		panic(err)
	}
	var b bytes.Buffer
	if err := s.WriteCanonical(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// kind reports an error that names a place and a kind of damage.
func kind(err error) bool {
	var damage *Damage
	return errors.As(err, &damage) && damage.Line > 0 && damage.What != ""
}
