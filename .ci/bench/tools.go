package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// arena is where one tool works: two registries, a folder of its own, and what
// it may know beforehand.
type arena struct {
	source, destination string // host:port, as the tool sees them
	corpus              *corpus
	dir                 string
	parallel            int
	program             string
}

// tool is a competitor. Each gets the invocation that its own documents offer
// for mirroring many repositories, with more concurrency than its defaults where
// it has a setting. All but freightliner are told the repositories, and oras and
// regctl the tags as well: these tools have no enumeration, and what it would
// cost is not charged to them.
type tool struct {
	name    string
	prepare func(a *arena) error // writes configuration; nil: none
	// commands are what runs, atOnce of them at a time.
	commands func(a *arena) []command
	atOnce   func(a *arena) int // nil: one
	optional bool               // takes part only when asked for by name
}

var tools = []tool{{
	// The whole of apply: reads the configuration, lists both sides, plans, copies,
	// journals every action and writes the state. Its defaults otherwise.
	name: "freightliner",
	prepare: func(a *arena) error {
		return os.WriteFile(filepath.Join(a.dir, "bench.hcl"), fmt.Appendf(nil, `registry "source" {
  host       = %q
  plain_http = true
}

registry "destination" {
  host       = %q
  plain_http = true
}

tree "bench" {
  source      = "${registry.source.host}/%s"
  destination = "${registry.destination.host}/%s"
}
`, a.source, a.destination, sourcePrefix, destinationPrefix), 0o600)
	},
	commands: func(a *arena) []command {
		return []command{{program: a.program, args: []string{"-chdir=" + a.dir, "apply", "-auto-approve"}, env: home(a)}}
	},
}, {
	// crane copies all tags of a repository in one process, with one client and
	// connection pool, and keeps in mind which blobs it has uploaded there. It has
	// no way to take several repositories, so several run side by side, each with
	// as many tags at once. Loopback addresses are plain HTTP to it.
	name: "crane",
	commands: func(a *arena) []command {
		return eachRepository(a, func(from, to string) []string {
			return []string{"copy", "--all-tags", "--jobs", fmt.Sprint(a.parallel), from, to}
		})
	},
	atOnce: func(a *arena) int { return a.parallel },
}, {
	// regsync takes all repositories in one process, which suits it best: one
	// client, all connections kept. Repository entries run in parallel, while one
	// registry entry would be walked one by one. "fastCheck" leaves out the look for
	// referrers of images that are there. Its default is 3 requests at once to a
	// registry; it gets 4 × parallel.
	name: "regsync",
	prepare: func(a *arena) error {
		var b strings.Builder
		b.WriteString("version: 1\ncreds:\n")
		for _, host := range []string{a.source, a.destination} {
			fmt.Fprintf(&b, "  - registry: %q\n    tls: disabled\n    reqConcurrent: %d\n", host, 4*a.parallel)
		}
		fmt.Fprintf(&b, "defaults:\n  parallel: %d\n  fastCheck: true\n  skipDockerConfig: true\nsync:\n", 2*a.parallel)
		for _, r := range a.corpus.Repositories {
			fmt.Fprintf(&b, "  - source: %q\n    target: %q\n    type: repository\n",
				a.source+"/"+sourcePrefix+"/"+r.Name, a.destination+"/"+destinationPrefix+"/"+r.Name)
		}
		return os.WriteFile(filepath.Join(a.dir, "regsync.yml"), []byte(b.String()), 0o600)
	},
	commands: func(a *arena) []command {
		return []command{{program: a.program, args: []string{"once", "-v", "warn", "-c", filepath.Join(a.dir, "regsync.yml")}, env: home(a)}}
	},
}, {
	// regctl, of the same authors, copies one tag a process; regsync is what they
	// offer for mirrors, so this one takes part only when asked for.
	name: "regctl",
	commands: func(a *arena) []command {
		return eachTag(a, func(from, to string) []string {
			return []string{"image", "copy", "--fast", "--host", "reg=" + a.source + ",tls=disabled", "--host", "reg=" + a.destination + ",tls=disabled", from, to}
		})
	},
	atOnce:   func(a *arena) int { return a.parallel },
	optional: true,
}, {
	// oras copies one tag a process, several at once, each with more concurrency
	// than its default of 3. Without -r: the corpus has no referrers, and looking
	// for them would only cost it requests.
	name: "oras",
	commands: func(a *arena) []command {
		return eachTag(a, func(from, to string) []string {
			return []string{"cp", "--no-tty", "--concurrency", fmt.Sprint(2 * a.parallel), "--from-plain-http", "--to-plain-http", from, to}
		})
	},
	atOnce: func(a *arena) int { return a.parallel },
}, {
	// skopeo sync copies all tags of a repository in one process; several run side
	// by side, as its users do with xargs -P. They share its cache of blob
	// locations, which is what lets it mount; the cache is new for every cold run.
	// --all, since otherwise it takes one platform of an index.
	name: "skopeo",
	commands: func(a *arena) []command {
		return eachRepository(a, func(from, to string) []string {
			return []string{"--insecure-policy", "sync", "--all", "--src", "docker", "--dest", "docker",
				"--src-tls-verify=false", "--dest-tls-verify=false", from, path.Dir(to)} // it adds the last part of from itself
		})
	},
	atOnce: func(a *arena) int { return a.parallel },
}}

func eachRepository(a *arena, args func(from, to string) []string) []command {
	var list []command
	for _, r := range a.corpus.Repositories {
		list = append(list, command{program: a.program, env: home(a),
			args: args(a.source+"/"+sourcePrefix+"/"+r.Name, a.destination+"/"+destinationPrefix+"/"+r.Name)})
	}
	return list
}

// eachTag goes through the first tags of all repositories, then the second ones:
// side by side are different repositories then, and a tag finds there what it
// shares with those before it. Repository by repository, processes would upload
// the same layers at the same time.
func eachTag(a *arena, args func(from, to string) []string) []command {
	var list []command
	for i, more := 0, true; more; i++ {
		more = false
		for _, r := range a.corpus.Repositories {
			if i >= len(r.Tags) {
				continue
			}
			more = true
			list = append(list, command{program: a.program, env: home(a),
				args: args(a.source+"/"+sourcePrefix+"/"+r.Name+":"+r.Tags[i].Name, a.destination+"/"+destinationPrefix+"/"+r.Name+":"+r.Tags[i].Name)})
		}
	}
	return list
}

// home keeps every tool's caches and configuration in its folder, away from
// those of this machine's user.
func home(a *arena) []string {
	return []string{
		"HOME=" + a.dir, "TMPDIR=" + a.dir, "DOCKER_CONFIG=" + a.dir, "REGISTRY_AUTH_FILE=" + filepath.Join(a.dir, "auth.json"),
		"XDG_RUNTIME_DIR=" + a.dir, "XDG_DATA_HOME=" + a.dir, "XDG_CONFIG_HOME=" + a.dir, "XDG_CACHE_HOME=" + a.dir,
		"_CONTAINERS_ROOTLESS_UID=1000", // else skopeo's cache of blob locations is that of the system
	}
}
