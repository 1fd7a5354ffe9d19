package registry

import (
	"sync"
	"sync/atomic"

	"freightliner/providers"
)

// knowledge is what this run has learned about which content is where. It is a
// hint that saves requests, nothing more: registries collect garbage, so a
// manifest that is refused for a missing blob makes us forget and look again.
type knowledge struct {
	mu        sync.Mutex
	blobs     map[blobKey]*places
	manifests map[providers.Repository]map[providers.Digest]bool
	count     int // of manifests
	unmounted map[mountKey]bool
	samples   map[providers.Repository]providers.Digest // a blob of each repository
	absent    map[manifestKey]bool                      // blobs that a look did not find, so that a plan's look serves its apply
	flights   map[flightKey]*flight
}

type blobKey struct {
	host   string
	digest providers.Digest
}

type manifestKey struct {
	repo   providers.Repository
	digest providers.Digest
}

// flightKey is a manifest with all below it, or a blob, on its way to a repository.
type flightKey struct {
	manifestKey
	blob bool
}

type mountKey struct{ host, from, to string }

// places are the repositories of one registry that hold a blob.
type places struct {
	repos  map[string]bool // the value says that a manifest there refers to it
	first  string          // the repository that had it first
	leader *flight         // who uploads it to this registry right now
}

// flight is work in progress that others wait for.
type flight struct {
	done  chan struct{}
	moved atomic.Int64 // grows while there is progress
	job   int64        // who does it; waiting goes only to elder jobs where it could close a circle
	leads []providers.Digest
}

// maxKnownManifests bounds what a plan over very many tags keeps here.
const maxKnownManifests = 1 << 18

func newKnowledge() *knowledge {
	return &knowledge{blobs: map[blobKey]*places{}, manifests: map[providers.Repository]map[providers.Digest]bool{}, unmounted: map[mountKey]bool{}, samples: map[providers.Repository]providers.Digest{}, absent: map[manifestKey]bool{}, flights: map[flightKey]*flight{}}
}

// place is the entry of a blob; the caller holds the lock.
func (k *knowledge) place(host string, d providers.Digest) *places {
	key := blobKey{host, d}
	p := k.blobs[key]
	if p == nil {
		p = &places{repos: map[string]bool{}}
		k.blobs[key] = p
	}
	return p
}

// hasBlob reports whether d is known to be in repo.
func (k *knowledge) hasBlob(repo providers.Repository, d providers.Digest) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.blobs[blobKey{repo.Host, d}]
	if p == nil {
		return false
	}
	_, ok := p.repos[repo.Path]
	return ok
}

func (k *knowledge) addBlob(repo providers.Repository, d providers.Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.absent, manifestKey{repo, d})
	p := k.place(repo.Host, d)
	if _, there := p.repos[repo.Path]; !there {
		p.repos[repo.Path] = false
	}
	if p.first == "" {
		p.first = repo.Path
	}
	if k.samples[repo] == "" {
		k.samples[repo] = d
	}
}

// sample is a blob that is known to be in repo; empty when none is.
func (k *knowledge) sample(repo providers.Repository) providers.Digest {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.samples[repo]
}

// missing notes that a look for d in repo did not find it. When somebody puts
// it there afterwards it is sent once more, which does no harm.
func (k *knowledge) missing(repo providers.Repository, d providers.Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.absent[manifestKey{repo, d}] = true
}

func (k *knowledge) isMissing(repo providers.Repository, d providers.Digest) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.absent[manifestKey{repo, d}]
}

func (k *knowledge) forgetBlob(repo providers.Repository, d providers.Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.absent, manifestKey{repo, d})
	if k.samples[repo] == d {
		delete(k.samples, repo)
	}
	if p := k.blobs[blobKey{repo.Host, d}]; p != nil {
		delete(p.repos, repo.Path)
	}
}

// committed notes that a manifest in repo refers to all of blobs.
func (k *knowledge) committed(repo providers.Repository, blobs []providers.Descriptor) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range blobs {
		if p := k.blobs[blobKey{repo.Host, b.Digest}]; p != nil {
			if _, ok := p.repos[repo.Path]; ok {
				p.repos[repo.Path] = true
			}
		}
	}
}

// mountSource is a repository on host from which d can be mounted into repo;
// empty when none is known. The choice is the same every time, so that the
// tokens for it are few.
func (k *knowledge) mountSource(repo providers.Repository, d providers.Digest, committedOnly bool) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.blobs[blobKey{repo.Host, d}]
	if p == nil {
		return ""
	}
	best := ""
	for path, committed := range p.repos {
		if path == repo.Path || committedOnly && !committed || k.unmounted[mountKey{repo.Host, path, repo.Path}] {
			continue
		}
		if path == p.first {
			return path
		}
		if best == "" || path < best {
			best = path
		}
	}
	return best
}

// refuseMount remembers that mounting between two repositories does not work.
func (k *knowledge) refuseMount(host, from, to string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.unmounted[mountKey{host, from, to}] = true
}

func (k *knowledge) mayMount(host, from, to string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.unmounted[mountKey{host, from, to}]
}

// complete reports whether the manifest d is in repo with everything below it.
func (k *knowledge) complete(repo providers.Repository, d providers.Digest) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.manifests[repo][d]
}

func (k *knowledge) addComplete(repo providers.Repository, d providers.Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.count >= maxKnownManifests || k.manifests[repo][d] {
		return
	}
	if k.manifests[repo] == nil {
		k.manifests[repo] = map[providers.Digest]bool{}
	}
	k.manifests[repo][d] = true
	k.count++
}

// forget drops what is known about the manifests of repo, after something was
// deleted there.
func (k *knowledge) forget(repo providers.Repository) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.count -= len(k.manifests[repo])
	delete(k.manifests, repo)
}

// forgetManifest drops one manifest.
func (k *knowledge) forgetManifest(repo providers.Repository, d providers.Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.manifests[repo][d] {
		delete(k.manifests[repo], d)
		k.count--
	}
}

// join takes part in the work named by key: lead is set when the caller is to
// do it and must call leave; otherwise f is somebody else's.
func (k *knowledge) join(key flightKey, job int64) (f *flight, lead bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f := k.flights[key]; f != nil {
		return f, false
	}
	f = &flight{done: make(chan struct{}), job: job}
	k.flights[key] = f
	return f, true
}

func (k *knowledge) leave(key flightKey, f *flight) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.flights[key] == f {
		delete(k.flights, key)
	}
	close(f.done)
}

// lead makes f the upload of d to host, unless there is one already, which is
// given instead.
func (k *knowledge) lead(host string, d providers.Digest, f *flight) *flight {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.place(host, d)
	if p.leader == nil {
		p.leader = f
		f.leads = append(f.leads, d)
	}
	return p.leader
}

func (k *knowledge) unlead(host string, d providers.Digest, f *flight) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := k.place(host, d); p.leader == f {
		p.leader = nil
	}
}

// unleadAll ends the leadership of f over everything at host.
func (k *knowledge) unleadAll(host string, f *flight) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range f.leads {
		if p := k.place(host, key); p.leader == f {
			p.leader = nil
		}
	}
	f.leads = nil
}
