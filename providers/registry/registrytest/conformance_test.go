package registrytest

import (
	"strings"
	"testing"
)

func TestConformance(t *testing.T) {
	for name, start := range starts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			traits := EmbeddedTraits
			if strings.HasPrefix(name, "distribution") {
				traits = DistributionTraits
			}
			Conformance(t, start(t), traits)
		})
	}
	t.Run("embedded without referrers", func(t *testing.T) {
		t.Parallel()
		traits := EmbeddedTraits
		traits.Referrers = false
		Conformance(t, Start(t, WithoutReferrers()).Host(), traits)
	})
}
