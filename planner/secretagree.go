package planner

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"freightliner/config"
	"freightliner/providers/secret"
)

// SecretAgreement holds the secrets of a saved plan against the configuration
// that it is applied with. A plan file comes from a CI artifact: whoever can
// write one must not be able to send a value elsewhere, copy from elsewhere, or
// make a record say what the configuration does not. So of a write only the
// versions (which to replace, which to copy) are the plan's own.
//
// The function reports whether the block of action i may take over a secret that
// is not ours, and an error where plan and configuration differ.
func SecretAgreement(cfg *config.Config) func(p *Plan, i int) (adopt bool, err error) {
	blocks := map[string]*config.SecretBlock{}
	for i := range cfg.Secrets {
		blocks[cfg.Secrets[i].Address] = &cfg.Secrets[i]
	}
	return func(p *Plan, i int) (bool, error) {
		a := &p.Actions[i]
		s := blocks[a.Address]
		if a.Verb == Delete || a.Verb == Forget {
			if s != nil && !p.Destroy && (a.Verb == Delete || a.Secret.Name == s.Name) {
				return false, errors.New("the configuration has it")
			}
			if a.Verb == Delete && !p.Destroy && slices.ContainsFunc(cfg.Secrets, func(s config.SecretBlock) bool { return s.Store == a.Secret.Store && s.Name == a.Secret.Name }) {
				return false, errors.New("another block of the configuration has it")
			}
			return false, nil
		}
		if s == nil {
			return false, errors.New("the configuration has no such block")
		}
		return s.Adopt, agrees(s, &p.Blocks[a.Block], a.Secret)
	}
}

func agrees(s *config.SecretBlock, b *Block, c *SecretChange) error {
	source := ""
	if c.From != nil {
		source = c.From.Version
	}
	metadata := metadataOf(s)
	for _, one := range []struct {
		what string
		same bool
	}{
		{"its store", c.Store == s.Store},
		{"its name", c.Name == s.Name},
		{"where its value comes from", c.Way == wayOf(s) && c.Inputs == inputsOf(s, source) && sameRecipe(s.Generate, c.Recipe) && sameSource(s.Copy, c.From)},
		{"what it manages", c.Merge == (s.Manage == "keys") && c.Keys == keysOf(s)},
		{"its metadata", (c.Metadata == nil || c.Metadata.fingerprint() == metadata.fingerprint()) && b.Selection == metadata.fingerprint()},
		{"its lifecycle", c.Window == s.RecoveryDays && b.Protect == s.Lifecycle.PreventDestroy && b.OnRemove == onRemove(s.Lifecycle)},
	} {
		if !one.same {
			return fmt.Errorf("the configuration says something else of %s", one.what)
		}
	}
	return nil
}

func sameRecipe(want *config.Generate, have *secret.Recipe) bool {
	if want == nil || have == nil {
		return want == nil && have == nil
	}
	return *have == secret.Recipe{Length: want.Length, Charset: want.Charset}
}

func sameSource(want *config.CopySecret, have *SecretSource) bool {
	if want == nil || have == nil {
		return want == nil && have == nil
	}
	return have.Store == want.Store && have.Name == want.Name && (want.Version == "" || want.Version == have.Version)
}

// keysOf are the keys of the JSON object that the configuration gives, where
// single keys are managed.
func keysOf(s *config.SecretBlock) string {
	if s.Manage != "keys" || s.JSON == nil {
		return ""
	}
	value := secret.NewValue([]byte(s.JSON()))
	defer value.Zero()
	names, err := secret.JSONKeys(value)
	if err != nil {
		return ""
	}
	text, _ := json.Marshal(names) // a list of text
	return string(text)
}
