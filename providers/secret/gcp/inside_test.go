package gcp

import (
	"context"
	"math"
	"testing"
	"time"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"

	"freightliner/providers/secret/secrettest/gcpfake"
)

// TestPacesKeepBelowTheQuotas lets callers take as fast as they may, and counts
// what the service would see in any minute.
func TestPacesKeepBelowTheQuotas(t *testing.T) {
	for g, quota := range map[group]int{accessGroup: 90_000, readGroup: 600, writeGroup: 600} {
		clock := &gcpfake.Clock{}
		p := newPaces(clock, false)
		var calls []time.Time
		for clock.Now().Sub((&gcpfake.Clock{}).Now()) < 5*time.Minute {
			if err := p.take(context.Background(), g, "", bucket{}, 1); err != nil {
				t.Fatal(err)
			}
			calls = append(calls, clock.Now())
		}
		most := 0
		for i, j := 0, 0; j < len(calls); j++ {
			for calls[j].Sub(calls[i]) >= time.Minute {
				i++
			}
			most = max(most, j-i+1)
		}
		if limit := quota * 8 / 10; most > limit+1 || most < limit*9/10 {
			t.Errorf("group %d: %d calls in a minute of %d allowed", g, most, quota)
		}
	}
}

// TestThrottledHalves: a refusal halves the rate and takes away what was saved
// up; after a quiet minute the rate doubles again, up to what it was.
func TestThrottledHalves(t *testing.T) {
	clock := &gcpfake.Clock{}
	p := newPace(readRate)
	rateNow := func() float64 { p.reserve(clock.Now(), 0); return float64(p.limiter.Limit()) }
	clock.Advance(time.Hour)
	p.halve(clock.Now())
	p.halve(clock.Now()) // the same reason
	if got := rateNow(); math.Abs(got-readRate.perSecond/2) > 0.001 {
		t.Errorf("%v after one refusal, want half of %v", got, readRate.perSecond)
	}
	p.reserve(clock.Now(), 1)
	if wait := p.reserve(clock.Now(), 1); wait <= 0 {
		t.Error("what was saved up is still there")
	}
	for range 10 {
		clock.Advance(2 * time.Second)
		p.halve(clock.Now())
	}
	if got := rateNow(); math.Abs(got-readRate.perSecond/16) > 0.001 {
		t.Errorf("%v after many refusals", got)
	}
	for i := range 6 {
		clock.Advance(recovery)
		if got, want := rateNow(), min(readRate.perSecond, readRate.perSecond/16*math.Pow(2, float64(i+1))); math.Abs(got-want) > 0.001 {
			t.Errorf("%v after %d minutes, want %v", got, i+1, want)
		}
	}
}

// TestSmallPacesAreSwept: a run over many secrets does not remember them all.
func TestSmallPacesAreSwept(t *testing.T) {
	clock := &gcpfake.Clock{}
	p := newPaces(clock, false)
	for i := range 30_000 {
		p.of(time.Duration(i).String(), secretRate[0], clock.Now())
	}
	if len(p.small) > 10_001 {
		t.Errorf("%d are kept", len(p.small))
	}
}

// FuzzAnnotations reads what anybody may have written into our annotations.
func FuzzAnnotations(f *testing.F) {
	for _, text := range []string{"", "2026-12-27T08:00:00Z 1-3,7", "2026-12-27T08:00:00Z", "2026-12-27T08:00:00Z 9-1,-,x,1-9223372036854775807", "token 3 1790000000 0a1b2c3d", "token -1 x y", "a b c d e"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		sec := &pb.Secret{Annotations: map[string]string{annWrite: text, annDeletion: text}}
		if c := claimOf(sec); c.token != "" {
			again := claimOf(&pb.Secret{Annotations: map[string]string{annWrite: c.String()}})
			if again.token != c.token || again.expect != c.expect || !again.until.Equal(c.until) || again.run != c.run {
				t.Errorf("%q is %+v, and written again %+v", text, c, again)
			}
			c.over(time.Now())
			c.covers(time.Now())
		}
		d := deletionOf(sec)
		if d.final.IsZero() {
			return
		}
		again := deletionOf(&pb.Secret{Annotations: map[string]string{annDeletion: d.String()}})
		if !again.final.Equal(d.final.Truncate(time.Second)) || again.kept.String() != d.kept.String() {
			t.Errorf("%q is %v, and written again %v", text, d, again)
		}
		for _, n := range []int64{1, 2, 7, 1 << 40} {
			if again.kept.contains(n) != d.kept.contains(n) {
				t.Errorf("%q: %d", text, n)
			}
		}
	})
}

func TestSpans(t *testing.T) {
	var s spans
	for _, n := range []int64{1, 2, 3, 7, 9, 10} {
		s = s.with(n)
	}
	if s.String() != "1-3,7,9-10" {
		t.Error(s.String())
	}
	for n, want := range map[int64]bool{0: false, 1: true, 3: true, 4: false, 7: true, 8: false, 10: true, 11: false} {
		if spansOf(s.String()).contains(n) != want {
			t.Errorf("%d: %v", n, !want)
		}
	}
}
