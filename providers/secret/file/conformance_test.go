package file

import (
	"math/rand/v2"
	"os"
	"testing"

	cryptorand "crypto/rand"

	"freightliner/providers/disk"
	"freightliner/providers/secret"
	"freightliner/providers/secret/secrettest"
	"freightliner/statefile/statefiletest"
)

var badNames = []string{
	"/a", "a/", "a//b", "a/../b", "..", ".hidden", "a/.hidden", "-a", "a b", "a\nb", "a\\b", "a:b", "a*", "é", "a.", "a./b", "a\x00",
	"con", "NUL", "aux.txt", "a/com1", "a+b", "a!b", "a~1", string(make([]byte, 300)),
}

// TestConformance tells the story on a disk in memory, with crashes.
func TestConformance(t *testing.T) {
	secrettest.Conformance(t, func(t *testing.T) secrettest.World {
		d, c, p := statefiletest.New(), newClock(), newPerson(t)
		random := rand.New(rand.NewPCG(1, 2))
		return secrettest.World{
			Store: opened(d, c, p), Prefix: "story-", Slashes: true, Labels: true, Etags: true, Empty: true, BadNames: badNames,
			Advance: c.advance,
			Crash: func(n int, lost bool) func() secret.Store {
				if lost {
					n++ // that one happens, and is the last
				}
				d.Fail(&statefiletest.Fault{At: n, Err: os.ErrClosed, Always: true})
				return func() secret.Store {
					// What the disk did not have to keep, it may lose.
					d = d.Crash(random, 512)
					return opened(d, c, p)
				}
			},
		}
	})
}

// TestConformanceOnDisk tells it on a real file system, made by the first
// write with nothing set up.
func TestConformanceOnDisk(t *testing.T) {
	secrettest.Conformance(t, func(t *testing.T) secrettest.World {
		root := openRoot(t, t.TempDir())
		home := openRoot(t, t.TempDir())
		c := newClock()
		s := Open(Options{
			FS: disk.OS(root), Path: "some/where", Clock: c, Rand: cryptorand.Reader,
			Home: disk.OS(home), HomePath: ".config/freightliner/identity.txt", AutoInit: true, User: "ann",
		})
		return secrettest.World{Store: s, Prefix: "story-", Slashes: true, Labels: true, Etags: true, Empty: true, BadNames: badNames, Advance: c.advance}
	})
}

func openRoot(t testing.TB, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	check(t, "root", err)
	t.Cleanup(func() { root.Close() })
	return root
}
