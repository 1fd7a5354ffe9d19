package planner

import (
	"context"
	"time"

	"freightliner/config"
	"freightliner/providers/registry"
	"freightliner/providers/secret"
	"freightliner/statefile"
)

// Input is what a plan is made from.
type Input struct {
	Config  *config.Config
	State   *statefile.State
	Client  *registry.Client
	Secrets *secret.Client // needed where the configuration or the state has secrets
	// FingerprintKeys are those of the stores that have one, by name.
	FingerprintKeys map[string]*secret.FingerprintKey
	Now             time.Time // for the age of generated values
	Destroy         bool      // plan against an empty configuration: delete all that is recorded
	Targets         []string  // globs over addresses; empty for all
	Exclude         []string  // globs over addresses

	MaxDeletes config.Limit   // overrides every block's ceiling when set
	Progress   func(Observed) // called now and then while observing; nil for none
}

// Observed is how far observing has come.
type Observed struct {
	Repositories, Tags, Manifests, Secrets int // looked at so far
	Failed                                 int // could not be observed
}

// New looks at the world once and compares it with the configuration and the
// state. Mistakes that only several blocks together show (two sources for one
// tag, a cycle of trees) come back as diagnostics, and then there is no plan.
// What one registry or repository refuses is a [Problem] in the plan; the rest
// is planned without it. The error is only ctx's.
func New(ctx context.Context, in Input) (*Plan, config.Diagnostics, error) {
	diags := crossCheck(in.Config)
	if len(diags) > 0 {
		return nil, diags, nil
	}
	world, err := observe(ctx, in)
	if err != nil {
		return nil, nil, err
	}
	if len(world.mistakes) > 0 {
		return nil, world.mistakes, nil
	}
	return compare(in, world), nil, nil
}
