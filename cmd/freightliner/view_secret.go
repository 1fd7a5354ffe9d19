package main

import (
	"strings"

	"freightliner/planner"
	"freightliner/statefile"
)

// How secrets are told. No view has a payload to show, nor a length: a change is
// which version is replaced, and why.

// secretSource says where a value comes from, by the way of the block.
var secretSource = map[string]string{
	"value": "a value of the configuration", "json": "a JSON object of the configuration",
	"generate": "generated", "copy": "copied",
}

// secretLabel is what an action does to a secret.
func secretLabel(a *planner.Action) string {
	c := a.Secret
	var parts []string
	switch {
	case c.Write && c.Merge:
		parts = append(parts, "keys of the value")
	case c.Write:
		parts = append(parts, "value")
	}
	if c.Update || a.Verb == planner.Create && c.Metadata != nil && c.Way == "" {
		parts = append(parts, "metadata")
	}
	if len(parts) == 0 {
		return "secret"
	}
	return list(parts)
}

// secretMovement is the version that is there now.
func secretMovement(c *planner.SecretChange) string {
	version := c.Expect
	if len(version) > 12 { // a UUID, a digest: its beginning tells it from others
		version = version[:12] + "…"
	}
	if version == "" {
		return ""
	}
	if c.Write {
		return clean(version) + " -> new"
	}
	return clean(version)
}

// jsonSecret is what the JSON view says of a change to a secret.
type jsonSecret struct {
	Store    string `json:"store,omitempty"`
	Place    string `json:"place"`
	Name     string `json:"name"`
	Source   string `json:"source,omitempty"`
	Value    bool   `json:"value"`
	Metadata bool   `json:"metadata"`
	Observed string `json:"observed_version,omitempty"`
	Prior    string `json:"prior_version,omitempty"`
}

func secretOf(c *planner.SecretChange) *jsonSecret {
	return &jsonSecret{c.Store, c.Place, c.Name, c.Way, c.Write, c.Update, c.Expect, c.Prior}
}

// kinds reports what a plan is about.
func kindsOf(p *planner.Plan) (images, secrets bool) {
	for i := range p.Blocks {
		if p.Blocks[i].Kind == statefile.KindSecret {
			secrets = true
		} else {
			images = true
		}
	}
	return images, secrets
}

// theWorld is what a plan was compared with.
func theWorld(p *planner.Plan) string {
	switch images, secrets := kindsOf(p); {
	case images && secrets:
		return "The registries and secret stores"
	case secrets:
		return "The secret stores"
	}
	return "The registries"
}

// meaning explains a verb's symbol in the words of what the plan is about.
func meaning(p *planner.Plan, verb planner.Verb) string {
	images, secrets := false, false
	for i := range p.Actions {
		if a := &p.Actions[i]; a.Verb == verb {
			images = images || a.Secret == nil && counted(a)
			secrets = secrets || a.Secret != nil
		}
	}
	var parts []string
	if images || !secrets {
		parts = append(parts, marks[verb].meaning)
	}
	if secrets {
		parts = append(parts, secretMeanings[verb])
	}
	return strings.Join(parts, "; ")
}

var secretMeanings = map[planner.Verb]string{
	planner.Delete: "delete a secret from its store",
	planner.Create: "make a secret that does not exist",
	planner.Update: "make a new version of a secret, or change its metadata",
	planner.Adopt:  "record a secret that is there already",
	planner.Forget: "forget: drop the record, leave the secret alone",
}

// unchangedThings counts what needs nothing: "6 tags and 2 secrets".
func unchangedThings(t planner.Totals) string {
	var parts []string
	if tags := t.Unchanged - t.Secrets; tags > 0 || t.Secrets == 0 {
		parts = append(parts, plural(tags, "tag"))
	}
	if t.Secrets > 0 {
		parts = append(parts, plural(t.Secrets, "secret"))
	}
	return list(parts)
}

func asTheyShouldBe(t planner.Totals) string {
	if t.Unchanged == 1 {
		return unchangedThings(t) + " is as it should be"
	}
	return unchangedThings(t) + " are as they should be"
}
