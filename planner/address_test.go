package planner

import "testing"

func TestBlockOf(t *testing.T) {
	for address, want := range map[string]string{
		"tree.p":                        "tree.p",
		"tree.p/":                       "tree.p",
		"tree.p/a/b:1.2":                "tree.p",
		"tree.p-b/a":                    "tree.p-b",
		`tree.p["eu"]/a:1`:              `tree.p["eu"]`,
		`tree.p["a\"]/b"]/a:1`:          `tree.p["a\"]/b"]`,
		`tree.p["open`:                  "tree.p",
		"image.nginx@sha256:00":         "image.nginx",
		"image.nginx":                   "image.nginx",
		`image.nginx["x:y@z"]@sha256:0`: `image.nginx["x:y@z"]`,
	} {
		if got := BlockOf(address); got != want {
			t.Errorf("block of %s: %s, want %s", address, got, want)
		}
	}
}

func TestFilter(t *testing.T) {
	for _, c := range []struct {
		targets, exclude []string
		address          string
		want             bool
	}{
		{nil, nil, "tree.p/a:1", true},
		{[]string{"tree.p"}, nil, "tree.p/a:1", true},
		{[]string{"tree.p"}, nil, "tree.p-b/a:1", false},
		{[]string{"tree.p"}, nil, `tree.p["eu"]/a:1`, true},
		{[]string{`tree.p["eu"]`}, nil, `tree.p["us"]/a:1`, false},
		{[]string{"tree.p/team"}, nil, "tree.p/team/a:1", true},
		{[]string{"tree.p/team"}, nil, "tree.p/team-b/a:1", false},
		{[]string{"tree.*/a"}, nil, "tree.p/a:1", true},
		{[]string{"tree.p/*:v1*"}, nil, "tree.p/a:v1.2", true},
		{[]string{"tree.p/*:v1*"}, nil, "tree.p/a/b:v1.2", false},
		{[]string{"tree.p/**:v1*"}, nil, "tree.p/a/b:v1.2", true},
		{nil, []string{"tree.p/sandbox"}, "tree.p/sandbox:1", false},
		{[]string{"tree.p"}, []string{"**:latest"}, "tree.p/a:latest", false},
	} {
		if got := newFilter(c.targets, c.exclude).wants(c.address); got != c.want {
			t.Errorf("-target %v -exclude %v: %s takes part: %v, want %v", c.targets, c.exclude, c.address, got, c.want)
		}
	}
}
